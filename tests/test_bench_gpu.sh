#!/bin/bash
# test_bench_gpu.sh BUILD - `make bench-gpu` at toy sizes on the fake CUDA, PyTorch on the processor:
# every measure is there, the table has its goals, and what a PyTorch lacks is told.
set -u
cd "$(dirname "$0")/.." || exit 1
unset MAKEFLAGS MAKELEVEL MFLAGS
build=$1/fake out=$1/fake/bench-gpu bad=0
rm -rf "$out"
mkdir -p "$build"
if ! PYTHON=/usr/bin/python3 PEER_DEVICE=cpu timeout 300 make -s FAKE_CUDA=1 BUILD="$build" TOY=1 \
  OUT="$out" bench-gpu >"$build/bench-gpu.log" 2>&1; then
  tail -20 "$build/bench-gpu.log"
  echo "not ok bench-gpu: it runs"
  exit 1
fi
echo "ok bench-gpu: it runs"

has() { # WHAT PATTERN FILE
  if grep -qE "$2" $3; then
    echo "ok bench-gpu: $1"
  else
    echo "not ok bench-gpu: $1 ($2 not in $3)"
    bad=1
  fi
}

number='[0-9.e+-]+$'
for part in gemm gather bias_act act_grad bias_grad loss step parts_sum; do
  for math in fp32 tf32 bf16; do
    has "$part in $math" "^cohort,train,$math,2,32,$part.ms,$number" "$out/*.csv"
  done
done
has "steps" "^cohort,train,fp32,3,20,ms_step,$number" "$out/*.csv"
has "share of products" "^cohort,train,tf32,2,32,share_of_gemm_rate,$number" "$out/*.csv"
has "tiny networks" "^cohort,tiny,fp32,5,25,us_epoch_member,$number" "$out/*.csv"
for form in einsum bmm wide; do
  has "PyTorch: $form" "^torch $form,train,fp32,2,32,ms_step,$number" "$out/*.csv"
done
has "one process a run" "^torch process,tiny,fp32,1,25,us_epoch_member,$number" "$out/*.csv"
has "captured steps need a GPU" "^torch graph,train,.*failed wide,.*need a GPU" "$out/*.csv"
has "goals" "^\| 1000 tiny networks: .*\| 100 \| not measured" "$out/*.md"
has "trainings" "^\| 32 \| 2 \| fp32 \| [0-9]" "$out/*.md"
if awk -F, 'NF != 7 || seen[$1, $2, $3, $4, $5, $6]++ { exit 1 }' "$out"/*.csv; then
  echo "ok bench-gpu: seven columns, every measure once"
else
  echo "not ok bench-gpu: seven columns, every measure once"
  bad=1
fi
exit $bad
