#!/bin/bash
# test_gpu_jobs.sh BUILD - the template slurm/gpu.sbatch on a cluster of two nodes with two GPUs
# each (of the test double, see test_gpu.sh): every rank takes a GPU of its own, however SLURM
# deals them out, and the weights are those of a plain mpirun; a job of which a rank stops
# answering is queued again and goes on.
set -u
cd "$(dirname "$0")/.." || exit 1
. tests/env.sh "$1"
. tests/slurm/jobs.sh
unset MAKEFLAGS MAKELEVEL MFLAGS CUDA_VISIBLE_DEVICES
if [ -z "${VCLUSTER_LOGS:-}" ]; then
  if ! can_have_a_cluster; then
    echo "skip GPU jobs on a cluster of two nodes: no root, or no namespaces, here"
    exit 0
  fi
  make -s -j2 FAKE_CUDA=1 PLAIN="$1" BUILD="$1/fake" all || exit 1
  exec timeout -s KILL 300 tests/slurm/vcluster.sh -g 2 "$0" "$@"
fi
work=$(mktemp -d)
config=tests/configs/gpu.ini
small=(model.name=dense_70_8_3 training.steps=40ep dataset.file="$work/samples.npz")
longer=(training.steps=400ep training.evaluate_every=200ep experiment.checkpoint_steps=600it)

# As installed: the program finds its templates beside it.
mkdir -p "$work/site/bin"
cp "$1/fake/bin/cohort" "$work/site/bin"
cp -r slurm "$work/site"
export COHORT=$work/site/bin/cohort FAKE_CUDA_DEVICES=2 FAKE_CUDA_SHARED=$work
/usr/bin/python3 tests/make_samples.py "$work/samples.npz"

submit() { # RESULTS [sbatch option...] -- [override...]: its number in $job
  local results=$1 options=()
  shift
  while [ "$1" != -- ]; do
    options+=("$1")
    shift
  done
  shift
  job=$(sbatch --parsable -o "$work/%j.log" --cpus-per-task=1 "${options[@]}" \
    slurm/gpu.sbatch "$config" experiment.results="$work/$results" "${small[@]}" "$@")
}

plain() { # RESULTS RANKS [override...]
  mpirun -n "$2" "$COHORT" run "$config" experiment.results="$work/$1" "${small[@]}" "${@:3}" \
    >"$work/$1.log" 2>&1 || cat "$work/$1.log"
}

same() { # RESULTS RESULTS: the models, bit for bit
  local model
  model=$(find "$work/$1" -name model.h5) && [ -n "$model" ] &&
    /usr/bin/python3 tests/same_h5.py "$model" "$work/$2/${model#"$work/$1/"}"
}

completes() {
  ended "$job" COMPLETED 0:0
}

# NCCL takes no two ranks on one GPU.
each_has_a_gpu() { # RANKS TEXT
  logged "$job" 1 "ranks on each: $1" && logged "$job" 1 "^device: cuda:0 .*by NCCL"
}

# ---- one rank a GPU -----------------------------------------------------------------------------

plain two 2 ranks.replicas=2
plain four 4 ranks.replicas=4
plain longer 2 ranks.replicas=2 "${longer[@]}"

submit alone --
verdict "a GPU job as the template has it, on one GPU, completes" completes
verdict "... on the GPU" logged "$job" 1 "^device: cuda:0"

submit node --gpus-per-node=2 --ntasks-per-node=2 -- ranks.replicas=2
verdict "a job on two GPUs of a node completes" completes
verdict "... with a GPU a rank" each_has_a_gpu 2
verdict "... with the weights of a plain run" same two node

submit nodes --nodes=2 --gpus-per-node=2 --ntasks-per-node=2 -- ranks.replicas=4
verdict "a job on two nodes with two GPUs each completes" completes
verdict "... with a GPU a rank" each_has_a_gpu "2(x2)"
verdict "... with the weights of a plain run" same four nodes

COHORT_LAUNCH=srun submit bound --nodes=2 --gpus-per-node=2 --ntasks-per-node=2 \
  --gpus-per-task=1 -- ranks.replicas=4
verdict "a job whose ranks see one GPU each, by srun, completes" completes
verdict "... with a GPU a rank" each_has_a_gpu "2(x2)"
verdict "... with the weights of a plain run" same four bound

# ---- cohort submit ------------------------------------------------------------------------------

job=$("$COHORT" submit "$config" experiment.results="$work/submitted" "${small[@]}" \
  ranks.replicas=2 slurm.gpus_per_node=2 slurm.cpus_per_task=1 2>"$work/submit.log")
ln -s "submitted/gpu/logs/$job.log" "$work/$job.log"
verdict "cohort submit: a job on two GPUs completes" completes
verdict "... with a GPU a rank" each_has_a_gpu 2
verdict "... with the weights of a plain run" same two submitted

# ---- a rank that stops answering ----------------------------------------------------------------

saved() {
  [ -n "$(find "$work/frozen" -name checkpoint.h5)" ]
}
is_queued_again() {
  wait_until saved && sleep 0.3 && $VCLUSTER_NODE freeze n2 && # behind the save, far from the next
    wait_until logged "$job" 1 "is lost: .*run it again to go on" &&
    wait_until logged "$job" 1 "queued again" && start_again "$job" && completes
}
submit frozen --nodes=2 -- ranks.replicas=2 ranks.timeout=3 "${longer[@]}"
verdict "a job whose second node freezes is queued again and completes" is_queued_again
verdict "... once, from where it was saved" logged "$job" 1 "going on at step"
verdict "... with status 75 before" logged "$job" 1 "end of this start with status 75"
verdict "... with the weights of a plain run" same longer frozen
exit $failed
