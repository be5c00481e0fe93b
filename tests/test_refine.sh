#!/bin/bash
# test_refine.sh BUILD - what follows the fine-tuning: networks that are tried on the way to
# the recovered one are the same on one rank and on three, with a stop in between and
# without; what is done already is not done again.
set -u
cd "$(dirname "$0")/.." || exit 1
. tests/env.sh "$1"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cohort=$PWD/bin/cohort
failed=0

run() { # FOLDER RANKS [override...]
  local results=$1 ranks=$2
  shift 2
  timeout 300 mpirun --oversubscribe -n "$ranks" "$cohort" run tests/configs/refine.ini \
    experiment.results="$work/$results" "$@" >"$work/log" 2>&1
  rc=$?
}

check() { # NAME COMMAND...
  local name=$1
  shift
  if "$@" >>"$work/log" 2>&1; then
    echo "ok $name"
  else
    echo "not ok $name"
    cat "$work/log"
    failed=1
  fi
}

succeeded() { [ "$rc" = 0 ]; }
log_has() { grep -qE -- "$1" "$work/log"; }
file() { find "$work/$1" -name "$2" | head -1; }
same() { # A B FILE: the same datasets
  /usr/bin/python3 tests/same_h5.py "$(file "$1" "$3")" "$(file "$2" "$3")"
}

run one 1
check "a recovery that has to try" succeeded
check "... finds the widths" log_has "^recovered network 5-3-3-1, teacher 5-3-3-1"
check "... from one student alone" log_has "^the recovered network stems from one student"
check "... and says what it took" log_has "^whole_.*: loss .*, taken"
check "what was tried lies in a folder of its own" test -n "$(file one tries)"
checkpoints() { stat -c '%i %n' "$(file one tries)"/finish.*.checkpoint.h5; }
before=$(checkpoints)

run one 1
check "again" succeeded
check "... makes no step" [ "$(checkpoints)" = "$before" ]

run three 3
check "on three ranks" succeeded
check "... the same network" same one three recovered.h5

rm -rf "$(dirname "$(file three recovered.h5)")"
"$cohort" run tests/configs/refine.ini experiment.results="$work/three" \
  >"$work/log" 2>&1 &
for _ in $(seq 600); do
  [ -n "$(file three 'whole_1_recovered.h5')" ] && break
  sleep 0.1
done
kill -KILL $!
wait $! 2>/dev/null
run three 1
check "after a kill" succeeded
check "... the same network" same one three recovered.h5

exit $failed
