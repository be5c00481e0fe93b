#!/bin/bash
# gpu.sh [--toy] BUILD OUT - ours (BUILD/bench/gpu) and PyTorch (gpu_peer.py) on the same GPU, one
# after the other, into OUT/gpu-<date>-<GPU>.csv and .md; prints the latter. Below eight minutes:
# each part begins nothing new after its time. A part that fails is said so and leaves the others.
# PYTHON: that has PyTorch. PEER_DEVICE=cpu: PyTorch on the processor, to try this out.
set -uo pipefail
toy=
[ "${1:-}" = --toy ] && toy=--toy && shift
[ $# = 2 ] || {
  echo "usage: bench/gpu.sh [--toy] BUILD OUT" >&2
  exit 2
}
cd "$(dirname "$0")/.." || exit 1
ours=$1/bench/gpu to=$2
python=${PYTHON:-python3}
"$python" -c 'import torch' 2>/dev/null || python=/usr/bin/python3
name=$("$ours" --name) || exit 1
out=$to/gpu-$(date +%F)-$(tr -cs 'A-Za-z0-9\n' '-' <<<"$name")
mkdir -p "$to" || exit 1
echo "who,task,math,N,width,measure,value" >"$out.csv" || exit 1

part() { # SECONDS TITLE COMMAND...
  local seconds=$1 title=$2 start=$SECONDS rc
  shift 2
  echo "-- $title" >&2
  timeout -k 10 "$seconds" "$@" >>"$out.csv"
  rc=$?
  [ $rc -eq 0 ] || echo "gpu.sh: $title ended with status $rc" >&2
  echo "-- $title took $((SECONDS - start)) s" >&2
  return $rc
}

peer() { # SECONDS FORMS
  part $(($1 + 45)) "PyTorch: $2" "$python" bench/gpu_peer.py $toy \
    --device "${PEER_DEVICE:-cuda}" --forms "$2" --seconds "$1"
}

part 150 cohort "$ours" $toy --seconds 100
rc=$?
if version=$("$python" -c 'import torch; print(torch.__version__)' 2>/dev/null); then
  echo "torch,version,-,0,0,version,$version" >>"$out.csv"
  peer 90 process,einsum,bmm,wide,vmap,graph
  peer 130 compile
else
  echo "gpu.sh: no PyTorch found by $python: ours alone" >&2
fi
"$python" bench/gpu_table.py "$out.csv" >"$out.md" || rc=1
cat "$out.md"
echo "written: $out.csv $out.md"
exit $rc
