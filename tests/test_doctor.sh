#!/bin/bash
# test_doctor.sh BUILD - `cohort doctor` alone and under mpirun, with good and bad findings;
# and that no environment makes OpenBLAS run kernels from before AVX2 where there are better.
set -u
cd "$(dirname "$0")/.." || exit 1
. tests/env.sh "$1"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cohort=$PWD/bin/cohort
mkdir "$work/results" "$work/bin"
failed=0

doctor() { # [ARGUMENT of env ...] -- [RANKS]: output in $work/log, status in $rc
  local vars=()
  while [ "$1" != -- ]; do vars+=("$1"); shift; done
  shift
  local start=(timeout 120)
  [ $# -gt 0 ] && start+=(mpirun --oversubscribe -n "$1")
  env "${vars[@]}" "${start[@]}" "$cohort" doctor "${folder:-$work/results}" >"$work/log" 2>&1
  rc=$?
}

check() { # NAME COMMAND...
  local name=$1
  shift
  if "$@"; then
    echo "ok $name"
  else
    echo "not ok $name"
    cat "$work/log"
    failed=1
  fi
}

has() { grep -qE -- "$1" "$work/log"; }
ended() { [ "$rc" = "$1" ]; }
once() { [ "$(grep -cE -- "$1" "$work/log")" = 1 ]; }

doctor A=1 --
check "alone: nothing bad" ended 0
check "... one rank, started alone" has "^ok +mpi .*1 rank, started alone"
check "... rates of both precisions" has "kernels .*float32 [0-9]+ GFLOP/s.*float64 [0-9]+"
check "... the folder" has "files +$work/results: .*locks work"
check "... what sweeps ask of it" has "^ok +sharing +exclusive creation works"
check "... leaves nothing" [ -z "$(ls -A "$work/results")" ]

doctor A=1 -- 2
check "two ranks: nothing bad" ended 0
check "... one report of both" once "mpi .*2 ranks, started by mpirun"
check "... cores and ranks of the node" has "cores +[0-9]+ for 2 ranks of 1 thread"

# ---- the BLAS --------------------------------------------------------------------------------
best=Haswell
grep -q avx512bw /proc/cpuinfo && best=SkylakeX
if grep -q avx2 /proc/cpuinfo && ! grep -q "not OpenBLAS" "$work/log"; then
  doctor OPENBLAS_CORETYPE=Prescott --
  check "slow kernels asked for: not had" has "^ok +blas +OpenBLAS for $best"
  doctor -u OPENBLAS_NUM_THREADS OPENBLAS_CORETYPE=Nehalem -- 2
  check "... nor under mpirun" has "^ok +blas +OpenBLAS for $best, 1 thread:"
  check "... where ranks still find each other" has "2 ranks, started by mpirun"
  doctor OPENBLAS_CORETYPE=Haswell --
  check "fit kernels asked for: had" has "OpenBLAS for Haswell"
  doctor OPENBLAS_CORETYPE=Prescott COHORT_BLAS_TRIED=9 --
  check "no other kernels: bad, with what to do" has "^bad +blas .*DYNAMIC_ARCH"
  doctor OPENBLAS_NUM_THREADS=2 --
  check "threads asked for: had" has "OpenBLAS for .*, 2 threads"
  doctor OPENBLAS_NUM_THREADS=2 -- 4
  [ "$(nproc)" -lt 8 ] && check "too many threads: warned" has "^warn cores .*OPENBLAS_NUM_TH"
fi
OPENBLAS_CORETYPE=Prescott "$cohort" show tests/configs/teacher.ini \
  experiment.results="$work/a folder" >"$work/log" 2>&1
check "arguments survive" has "a folder"

# ---- bad findings ------------------------------------------------------------------------------
doctor COHORT_ISA=generic --
check "kernels below the processor: warned" has "^warn kernels +cpu .generic.*COHORT_ISA"
doctor SLURM_GPUS_ON_NODE=2 CUDA_VISIBLE_DEVICES= --
check "GPUs given and not found: bad" has "^bad +gpu .*SLURM gave"
folder=/proc doctor A=1 -- 2
check "no folder to write to: bad" has "^bad +files +/proc: .*experiment.results"
check "... and exit status 1" ended 1
mkdir -p "$work/data/mnist"
for file in t10k-images-idx3-ubyte t10k-labels-idx1-ubyte; do
  echo nonsense >"$work/data/mnist/$file"
done
doctor COHORT_DATA="$work/data" --
check "broken data: bad" has "^bad +data .*mnist"
doctor HOME="$work" COHORT_DATA="$work/none" --
check "absent data: how to get it" has "^warn data +cifar10 .*cohort fetch cifar10"

# ---- SLURM -------------------------------------------------------------------------------------
cat >"$work/bin/scontrol" <<'END'
#!/bin/sh
echo "MaxArraySize            = 1001"
echo "PreemptMode = CANCEL"
echo "JobRequeue              = 0"
END
printf '#!/bin/sh\necho "MPI plugin types are..."; echo "%s"\n' "pmi2 none" >"$work/bin/srun"
cp "$work/bin/scontrol" "$work/bin/sinfo"
chmod +x "$work/bin"/*
doctor PATH="$work/bin:$PATH" --
check "SLURM: array size" has "^ok +arrays +MaxArraySize 1001: .*1000"
check "... preemption and requeueing" has "^warn slurm +PreemptMode CANCEL, JobRequeue 0 .*--resume"
check "... mpirun starts ranks" has "^ok +start +mpirun"
check "... srun does not" has "^ok +pmi +srun --mpi=list has no pmix"
printf '#!/bin/sh\necho mca:plm:rsh:version\n' >"$work/bin/ompi_info"
chmod +x "$work/bin/ompi_info"
doctor PATH="$work/bin:$PATH" --
check "nothing starts ranks: bad, with what to do" has "^bad +start .*--with-slurm.*mpi_pmix"
printf '#!/bin/sh\nexit 1\n' >"$work/bin/scontrol"
doctor PATH="$work/bin:$PATH" --
check "SLURM that does not answer: warned" has "^warn slurm .*no cluster"
exit $failed
