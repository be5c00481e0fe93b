#!/bin/bash
# run.sh BUILD [CORES [train|cluster|gemm|sweep ...]] - ours and the peers, side by side on the same
# cores; a table on standard output and bench/results/<processor>-<date>-<CORES>core.csv.
#
# Rules, in the manner of STREAM:
#  1. Every program gets the same CORES cores (all there are, if not said): ours as ranks of one
#     thread, the peers as threads of one process. All are pinned to them.
#  2. Programs of one comparison run one after the other in the same run, so that they meet the
#     same machine; the load average before and after each stands in the file. With CORES = 1
#     all are timed by the processor time they take, so that others on the machine count only
#     by what they take of caches and memory; with more, by the wall, which means nothing
#     where the load is above CORES.
#  3. Times are medians of many steps after a warm-up (trainings) or one whole pass of seconds
#     (clustering). No input is read from disk and no result is written while the clock runs.
#  4. A training step counts as 6 x parameters x samples operations, although the gradient of
#     the first layer's input is never computed (so shares may exceed 1); `true` counts the
#     operations of the products that are made. Shares are of the rate of one large product
#     measured beside each sample, in the same processes.
#  5. Bandwidth is that of a copy of 256 MiB, read and written bytes counted.
#  6. The peers are given the best that we can: both forms of PyTorch, OpenBLAS's kernels as
#     it chooses them and as OPENBLAS_CORETYPE=SkylakeX or Haswell.
set -euo pipefail
cd "$(dirname "$0")/.."
build=$1 cores=${2:-$(nproc)}
shift $(($# < 2 ? $# : 2))
parts=${*:-gemm train cluster sweep}
. tests/env.sh "$build"
cpu=$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -1 | tr -cs 'A-Za-z0-9\n' '-')
cpu=${cpu%-}-model$(sed -n 's/^model[^a-z]*: //p' /proc/cpuinfo | head -1)
out=bench/results/$cpu-$(date +%F)-${cores}core.csv
best=Haswell
grep -q avx512bw /proc/cpuinfo && best=SkylakeX
mkdir -p bench/results
pins=$(/usr/bin/python3 -c "import os, sys
print(*sorted(os.sched_getaffinity(0))[:int(sys.argv[1])], sep=',')" "$cores")
taskset -cp "$pins" $$ >/dev/null
echo "who,what,value,load_before,load_after,us_member,gflops,gemm_gflops,share,true_share" >"$out"

load() { cut -d' ' -f1 /proc/loadavg; }

record() { # WHO COMMAND...: its name,value lines go into the file
  local who=$1 before
  shift
  before=$(load)
  echo "-- $who" >&2
  "$@" | while IFS=, read -r what value rest; do
    echo "$who,$what,$value,$before,$(load)${rest:+,$rest}" >>"$out"
  done
}

ours() { mpirun --oversubscribe -n "$cores" "$@"; }
peer() { # KERNELS ARGUMENT...
  local core=$1
  shift
  env -u OPENBLAS_NUM_THREADS OMP_NUM_THREADS="$cores" ${core:+OPENBLAS_CORETYPE=$core} \
    /usr/bin/python3 bench/peers.py "$@"
}

gemm_lines() { # "what N: M x Q x K ... median best part %" as lines of the file
  "$build/bench/gemm" "$1" | sed 1d | awk -v t="$1" '{
    part = $(NF - 1); best = $(NF - 2); median = $(NF - 3); NF -= 4
    gsub(/,/, ""); gsub(/ +/, " "); print t " " $0 " GFLOP/s," median
    print t " " $0 " part of units," part / 100 }'
}

for part in $parts; do
  case $part in
  gemm)
    record cohort gemm_lines float32
    record cohort gemm_lines float64
    record memory /usr/bin/python3 bench/bandwidth.py ;;
  train)
    [ "$cores" = 1 ] || record cohort-1-core mpirun -n 1 "$build/bench/train" 7
    record cohort ours "$build/bench/train" 7
    record "torch as installed" peer "" train
    record "torch $best" peer $best train ;;
  cluster)
    [ "$cores" = 1 ] || record cohort-1-core mpirun -n 1 "$build/bench/cluster"
    record cohort ours "$build/bench/cluster"
    record peers peer $best cluster 20480 785 ;;
  sweep) # rules of its own, in the program
    /usr/bin/python3 bench/sweep.py --cores "$cores" --out "${out%.csv}-sweep.csv" ;;
  esac
done
/usr/bin/python3 bench/table.py "$out"
echo "written: $out"
