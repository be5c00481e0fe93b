#!/bin/bash
# test_gpu.sh BUILD - cohort on GPUs, without a GPU: on the test double of CUDA, cuBLAS and NCCL
# (tests/fake_cuda), which runs the kernels on the CPU. The programs of tests/gpu in several orders
# of threads and blocks; then whole runs: the numbers are those of the CPU to rounding, on any
# number of ranks, however sums travel, stopped or not; and what is refused, with what message.
# Ranks that are lost: lost_ranks.sh; jobs on a cluster: test_gpu_jobs.sh.
set -u
cd "$(dirname "$0")/.." || exit 1
. tests/env.sh "$1"
unset MAKEFLAGS MAKELEVEL MFLAGS CUDA_VISIBLE_DEVICES
fake=$1/fake
cohort=$fake/bin/cohort
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failed=0

verdict() { # NAME COMMAND...: COMMAND decides; every test ends here
  local name=$1
  shift
  if "$@" >"$work/verdict" 2>&1; then
    echo "ok GPU: $name"
  else
    echo "not ok GPU: $name"
    cat "$work/verdict" "$work/log"
    failed=1
  fi
}

: >"$work/log"
verdict "all builds on the double" \
  make -s -j2 FAKE_CUDA=1 PLAIN="$1" BUILD="$fake" all gpu-tests
[ $failed = 0 ] || exit 1

# Only the files that differ: all else is compiled by everybody.
compiles_without_cuda() {
  make -s CUDA=0 FAKE_CUDA=0 BUILD="$1/without" \
    "$1"/without/src/device/{device,cuda,gpus}.o "$1/without/src/comm/nccl.o"
}
verdict "the back end is left out of a build without CUDA" compiles_without_cuda "$1"

# ---- the programs, while the whole runs go on ---------------------------------------------------

program() { # NAME ORDER: its lines in $work/NAME.ORDER
  local status
  if [ "$2" = forward ]; then
    timeout 300 "$fake/tests/gpu/test_$1"
  else
    FAKE_CUDA_ORDER=$2 timeout 300 "$fake/tests/gpu/test_$1"
  fi >"$work/$1.$2" 2>&1
  status=$?
  [ $status = 0 ] || grep -q '^not ok' "$work/$1.$2" ||
    echo "not ok it ends with status $status" >>"$work/$1.$2"
}
(
  program training forward
  program training reverse
  for order in forward reverse shuffle; do program kernels $order; done
  program sparse shuffle
) &
programs=$!

# ---- whole runs ---------------------------------------------------------------------------------

/usr/bin/python3 tests/make_samples.py "$work/samples.npz"

run() { # DEVICES RANKS RESULTS CONFIG [override...]: output in $work/log, status in $rc
  local devices=$1 ranks=$2 results=$work/$3 file=tests/configs/$4.ini start=()
  shift 4
  [ "$file" != tests/configs/gpu.ini ] || set -- dataset.file="$work/samples.npz" "$@"
  [ "$ranks" = 1 ] || start=(mpirun -n "$ranks")
  FAKE_CUDA_DEVICES=$devices timeout 120 "${start[@]}" "$cohort" run "$file" \
    experiment.results="$results" "$@" >"$work/log" 2>&1
  rc=$?
}

said() { # TIMES TEXT
  [ "$(grep -c -- "$2" "$work/log")" = "$1" ]
}

near() { # RESULTS RESULTS TOLERANCE
  /usr/bin/python3 tests/near.py "$work/$1" "$work/$2" "$3"
}

same() { # RESULTS RESULTS: the models, bit for bit
  local model
  model=$(find "$work/$1" -name model.h5) && [ -n "$model" ] &&
    /usr/bin/python3 tests/same_h5.py "$model" "$work/$2/${model#"$work/$1/"}"
}

runs() { # DEVICES RANKS RESULTS CONFIG [override...]
  run "$@"
  [ $rc = 0 ]
}

# The arithmetic is done where the first line says.
runs_on_gpu() { # HOW, then as runs
  local how=$1
  shift
  runs "$@" && said 1 "^device: cuda:0 (Fake GPU); sums over replicas: $how"
}

runs 1 1 cpu gpu device.kind=cpu
verdict "a training" runs_on_gpu none 1 1 one gpu
verdict "... has the CPU's numbers" near cpu one 1e-4
verdict "students over ranks" runs_on_gpu none 2 2 students gpu
verdict "... to the bit as on one rank" same one students
verdict "replicas by NCCL" runs_on_gpu "by NCCL" 2 2 nccl gpu ranks.replicas=2
verdict "... has the CPU's numbers" near cpu nccl 1e-4
verdict "four ranks, two replicas by NCCL" runs_on_gpu "by NCCL" 4 4 nccl4 gpu ranks.replicas=2
verdict "... to the bit as on two ranks" same nccl nccl4

# One has room for all members at once, the other for one at a time: they take the same groups,
# else their sums would not match.
unlike=("$cohort" run tests/configs/gpu.ini dataset.file="$work/samples.npz"
  experiment.results="$work/unlike" ranks.replicas=2)
runs_unlike() {
  FAKE_CUDA_DEVICES=2 timeout 120 mpirun -n 1 env FAKE_CUDA_MEMORY=72000000 "${unlike[@]}" : \
    -n 1 "${unlike[@]}" >"$work/log" 2>&1 && said 1 "sums over replicas: by NCCL"
}
verdict "replicas on GPUs of unlike memory" runs_unlike
verdict "... to the bit as on like ones" same nccl unlike

verdict "replicas through the host, as asked" \
  runs_on_gpu "through the host, as asked" 2 4 host gpu ranks.replicas=2 ranks.collectives=mpi
verdict "... has the CPU's numbers" near cpu host 1e-4
verdict "replicas that share a GPU" \
  runs_on_gpu "through the host: not every rank has a GPU" 1 2 share gpu ranks.replicas=2
verdict "... to the bit as two GPUs through the host" same host share

sweep=(experiment.members=1 training.steps=10ep sweep.model.name=dense_70_66_3,dense_70_5_3
  sweep.training.lr=1e-3,1e-2 sweep.experiment.seed=0..1)
runs 1 1 sweep_cpu gpu device.kind=cpu "${sweep[@]}"
verdict "a sweep" runs 2 2 sweep gpu "${sweep[@]}"
verdict "... has the CPU's numbers" near sweep_cpu sweep 1e-4

runs 1 1 extract_cpu gpu_extract device.kind=cpu
verdict "an extraction" runs_on_gpu none 1 1 extract gpu_extract
verdict "... has the CPU's numbers" near extract_cpu extract 1e-6
verdict "an extraction by replicas" \
  runs_on_gpu "by NCCL" 2 4 extract4 gpu_extract ranks.replicas=2
verdict "... has the CPU's numbers" near extract_cpu extract4 1e-6

# ---- stopped and gone on with -------------------------------------------------------------------

longer=(model.name=dense_70_8_3 training.steps=60ep experiment.checkpoint_steps=20it)

stops() { # RESULTS RANKS [override...]
  local results=$1 ranks=$2 pid
  shift 2
  FAKE_CUDA_DEVICES=2 timeout 120 mpirun -n "$ranks" "$cohort" run tests/configs/gpu.ini \
    dataset.file="$work/samples.npz" experiment.results="$work/$results" "${longer[@]}" "$@" \
    >"$work/log" 2>&1 &
  pid=$!
  for _ in $(seq 1200); do
    [ -z "$(find "$work/$results" -name checkpoint.h5 2>/dev/null)" ] || break
    sleep 0.05
  done
  pkill -USR1 -P $pid
  wait $pid
  rc=$?
  [ $rc = 75 ]
}

goes_on() { # as runs_on_gpu
  runs_on_gpu "$@" && said 1 "going on at step"
}

for how in "none 1" "by.NCCL 2" "through 2 ranks.collectives=mpi"; do
  read -r told replicas overrides <<<"$how"
  # shellcheck disable=SC2206
  overrides=("${longer[@]}" ranks.replicas="$replicas" $overrides)
  name="sums $told:"
  runs 2 2 "whole$told" gpu "${overrides[@]}"
  verdict "$name a run stops" stops "parts$told" 2 "${overrides[@]}"
  verdict "$name ... goes on" goes_on "$told" 2 2 "parts$told" gpu "${overrides[@]}"
  verdict "$name ... to the bit as one that did not stop" same "whole$told" "parts$told"
done

# ---- which device, and what is refused ----------------------------------------------------------

refused() { # STATUS TEXT, then as run: one message, nothing trained
  local status=$1 text=$2
  shift 2
  run "$@"
  [ $rc = "$status" ] && said 1 "^cohort: " && said 1 "^cohort: .*$text" && said 0 "^training"
}

verdict "no GPU: auto takes the processor, and says so once" runs 0 2 auto gpu
verdict "... in one line" said 1 "device:"
verdict "... which tells why" said 1 "^device: cpu (.*no GPU here"
verdict "... to the bit as by device.kind = cpu" same cpu auto
verdict "no GPU: device.kind = cuda is refused" \
  refused 2 "device.kind = cuda: no GPU here" 0 2 none gpu device.kind=cuda
verdict "a device of the CPU has no tf32" \
  refused 2 "device.math = tf32 is a GPU's" 1 1 none gpu device.kind=cpu device.math=tf32
verdict "... neither has auto without a GPU" \
  refused 2 "device.math = tf32 is a GPU's" 0 1 none gpu device.math=tf32
verdict "tf32 on a GPU" runs 1 1 one gpu device.math=tf32
verdict "... is said" said 1 "^device: cuda:0 (Fake GPU, tf32)"
verdict "... and has a folder of its own" \
  [ "$(find "$work/one/gpu/1-1/runs" -name model.h5 | wc -l)" = 2 ]
verdict "NCCL for two ranks on one GPU is refused" \
  refused 2 "ranks.collectives = nccl: not every rank has a GPU of its own" \
  1 2 none gpu ranks.replicas=2 ranks.collectives=nccl

# One that trained already keeps its files.
too_little() { # BYTES TEXT RESULTS [override...]
  local bytes=$1 text=$2 results=$3
  shift 3
  FAKE_CUDA_MEMORY=$bytes refused 1 "$text" 1 1 "$results" gpu "$@"
}
models() {
  find "$work/one" -name model.h5 -exec md5sum {} + | sort
}
before=$(models)
verdict "too little memory for networks is told in numbers" too_little 60000000 \
  "3000 networks of 4887 parameters: 0.055 GiB wanted, 0.0.. of 0.056 GiB free on cuda:0" \
  one experiment.members=3000
verdict "too little memory for anything is told in numbers" too_little 20000000 \
  "GPU 0: 0.031 GiB wanted, 0.019 of 0.019 GiB free" one training.lr=1e-4
verdict "too little memory for more training is told" too_little 20000000 "out of memory" \
  one training.further_training=40ep
verdict "... and no model is lost" [ "$(models)" = "$before" ]
verdict "... which memory enough goes on with" goes_on none 1 1 one gpu \
  training.further_training=40ep

# ---- job = compress -------------------------------------------------------------------------------

compressed() { # KIND
  timeout 300 "$cohort" run configs/compress_teacher_student.ini device.kind="$1" \
    experiment.name="$1" experiment.results="$work/compress" experiment.quiet=true \
    compress.min_epochs=30 compress.max_epochs=40 compress.finetuning_max_epochs=40 \
    compress.smoothing_window=10 compress.prune_window=10 sweep.experiment.seed=0 \
    sweep.compress.procedure=pmmp,rl1,drr,fpp sweep.compress.alpha=0.02 >"$work/log" 2>&1
}
compresses_alike() {
  compressed cuda && compressed cpu && /usr/bin/python3 - "$work/compress" <<'P'
import sys, pandas
gpu, cpu = (pandas.read_csv(f"{sys.argv[1]}/{k}/1-1/runs.csv") for k in ("cuda", "cpu"))
for name, tolerance in ("final_loss_testset", 1e-4), ("threshold", 1e-4), ("l0_norm", 5):
    assert len(cpu) == 4 and (gpu[name] - cpu[name]).abs().max() < tolerance, (gpu, cpu)
pack = f"{sys.argv[1]}/cuda/1-1/{gpu.folder[0]}"
assert (pandas.read_csv(f"{pack}/original.csv").dev == "gpu_device").all()
P
}
verdict "networks are compressed as on the CPU, to rounding" compresses_alike

# ---- verdicts of the programs -------------------------------------------------------------------

wait $programs
for log in "$work"/{training,kernels,sparse}.*; do
  order=${log##*.}
  sed -n "s/^\(ok\|not ok\) /\1 GPU, $order: /p" "$log"
  if grep -q '^not ok' "$log"; then
    failed=1
    cat "$log"
  fi
done
exit $failed
