#!/bin/bash
# test_kills.sh BUILD [KILLS] - whole runs killed by SIGKILL at random times, half of them with
# a checkpoint after every step (so nearly always while saving), then restarted: final weights
# and metrics equal those of an undisturbed run, bit for bit, and no temporary file stays.
set -u
cd "$(dirname "$0")/.." || exit 1
. tests/env.sh "$1"
kills=${2:-6}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cohort=$PWD/bin/cohort

run() { # RESULTS [override...]
  local results=$1
  shift
  mpirun --oversubscribe -n 2 "$cohort" run tests/configs/extract.ini \
    experiment.results="$results" teacher:experiment.results="$results" "$@"
}

files() { # RESULTS: everything that a finished run leaves
  (cd "$1" && find . -type f | sort)
}

if ! run "$work/whole" >"$work/log" 2>&1; then
  cat "$work/log"
  echo "not ok undisturbed run"
  exit 1
fi

done_kills=0 rounds=0 failed=0
while [ "$done_kills" -lt "$kills" ]; do
  results=$work/killed$rounds
  rounds=$((rounds + 1))
  # one run is killed several times before it may finish
  for _ in 1 2 3 4 5; do
    [ "$done_kills" -lt "$kills" ] || break
    steps=9it
    [ $((done_kills % 2)) -eq 0 ] && steps=1it
    run "$results" experiment.checkpoint_steps=$steps >"$work/log" 2>&1 &
    pid=$!
    sleep "$(printf '0.%03d' $((200 + RANDOM % 800)))"
    if kill -0 $pid 2>/dev/null; then
      pkill -KILL -f "experiment.results=$results" && done_kills=$((done_kills + 1))
    fi
    wait $pid 2>/dev/null
    # ranks of a killed mpirun may live a moment longer
    while pgrep -f "experiment.results=$results" >/dev/null; do sleep 0.05; done
  done
  if ! run "$results" >"$work/log" 2>&1; then
    cat "$work/log"
    echo "not ok restart after kills"
    failed=1
    break
  fi
  if [ "$(files "$work/whole")" != "$(files "$results")" ]; then
    diff <(files "$work/whole") <(files "$results")
    echo "not ok same files after $done_kills kills"
    failed=1
  fi
  for file in $(files "$work/whole" | grep -E '\.h5$'); do
    if ! /usr/bin/python3 tests/same_h5.py "$work/whole/$file" "$results/$file"; then
      echo "not ok $file after $done_kills kills"
      failed=1
    fi
  done
  for file in $(files "$work/whole" | grep -E 'metrics\.csv$|neurons\.csv$|clusters\.csv$'); do
    if ! cmp "$work/whole/$file" "$results/$file"; then
      echo "not ok $file after $done_kills kills"
      failed=1
    fi
  done
  rm -rf "$results"
done
[ $failed -eq 0 ] && echo "ok $done_kills kills in $rounds runs left no trace"
exit $failed
