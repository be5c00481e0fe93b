#!/bin/bash
# test_sweep_kills.sh BUILD [KILLS] - a sweep in two sub-batches, and the merge of them, killed by
# SIGKILL over and over and started again, until all is done: the merged table is that of an
# undisturbed run, byte for byte but for time, hosts and place; no row is lost or doubled, no
# temporary file stays. Where the kills hit is counted.
set -u
cd "$(dirname "$0")/.." || exit 1
. tests/env.sh "$1"
target=${2:-8}
work=$(mktemp -d)
pid=
trap '[ -n "$pid" ] && end_session; rm -rf "$work"' EXIT
cohort=$PWD/bin/cohort
# several packs, and checkpoints all the time
options=(training.steps=30ep training.evaluate_every=0ep experiment.checkpoint_steps=5it
  sweep.model.name="dense_784_4_10, dense_784_5_10, dense_784_6_10" experiment.quiet=true)

failed=0
bad() { # WHAT [COMMAND...]: COMMAND tells more
  echo "not ok $1"
  shift
  "$@"
  failed=1
}

# ---- what is run: in a session of its own, its leader in $pid ------------------------------

start_sub_batch() { # K RESULTS
  setsid mpirun --oversubscribe -n 2 "$cohort" run tests/configs/sweep.ini --sub-batch "$1/2" \
    experiment.results="$2" "${options[@]}" >"$work/log" 2>&1 &
  pid=$!
}

start_merge() { # RESULTS
  setsid "$cohort" merge "$1/sweep" >"$work/log" 2>&1 &
  pid=$!
}

finish() {
  wait "$pid"
  local rc=$?
  pid=
  return $rc
}

end_session() {
  pkill -KILL -s "$pid"
  while ps -o stat= -s "$pid" | grep -qv '^Z'; do sleep 0.02; done
}

# ---- kills ---------------------------------------------------------------------------------

kills=0 in_work=0 saving=0 merging=0

written() { # NAME: waits until a file of that name appears; false at the run's end
  while kill -0 "$pid" 2>/dev/null; do
    [ -n "$(find "$work/killed" -name "$1" -newer "$work/started" -print -quit \
      2>/dev/null)" ] && return 0
  done
  return 1
}

pause() { # MILLISECONDS at most
  sleep "$(printf '0.%03d' $((RANDOM % $1)))"
}

# Kills what was started; false if it ended before.
kill_it() {
  local rc
  { # bash tells of processes that were killed
    end_session
    finish
    rc=$?
  } 2>/dev/null
  [ $rc -eq 137 ] || return 1
  kills=$((kills + 1))
  compgen -G "$work/killed/sweep/*/work/*" >/dev/null && in_work=$((in_work + 1))
  [ -z "$(find "$work/killed" -name '.*.tmp' -print -quit)" ] || saving=$((saving + 1))
}

# One start of sub-batch K that is killed while it begins, works, saves, or publishes.
strike() { # K
  touch "$work/started"
  start_sub_batch "$1" "$work/killed"
  case $((kills % 4)) in
  0) written 'checkpoint.h5' && pause 300 ;;
  1) written 'checkpoint.h5' && written '.*.tmp' ;;
  2) pause 999 ;;
  3) written 'pack.json' && pause 20 ;;
  esac
  kill_it
}

strike_merge() {
  touch "$work/started"
  start_merge "$work/killed"
  pause 30
  kill_it && merging=$((merging + 1))
}

# ---- the table -----------------------------------------------------------------------------

table() { # RESULTS: the merged table without what tells how it was run
  /usr/bin/python3 - "$1/sweep/runs.csv" <<'P'
import sys, pandas
t = pandas.read_csv(sys.argv[1], dtype=str)
print(t.drop(columns=["time_s", "hosts", "sub_batch", "folder"]).to_csv(index=False))
P
}

# ---- an undisturbed run, and tormented ones ---------------------------------------------------

"$cohort" run tests/configs/sweep.ini experiment.results="$work/whole" "${options[@]}" \
  >"$work/log" 2>&1 && "$cohort" merge "$work/whole/sweep" >>"$work/log" 2>&1 ||
  bad "undisturbed run" cat "$work/log"

until [ "$kills" -ge "$target" ] || [ $failed -ne 0 ]; do
  rm -rf "$work/killed"
  for k in 1 2; do
    for _ in 1 2 3 4 5; do
      [ "$kills" -lt "$target" ] && { strike $k || break; }
      [ $((RANDOM % 3)) -eq 0 ] && [ -d "$work/killed/sweep" ] && strike_merge
    done
    start_sub_batch $k "$work/killed"
    finish || bad "sub-batch $k after $kills kills" cat "$work/log"
  done
  strike_merge
  # a merge clears away what others left a day ago: another one might be at work
  find "$work/killed/sweep" -maxdepth 1 -name '.runs.*.tmp' -exec touch -d '2 days ago' {} +
  "$cohort" merge "$work/killed/sweep" >"$work/log" 2>&1 ||
    bad "merge after $kills kills" cat "$work/log"
  diff <(table "$work/whole") <(table "$work/killed") || bad "same table after $kills kills"
  left=$(find "$work/killed" -name '.*.tmp' -o -path '*/work/*')
  [ -z "$left" ] || bad "nothing stays behind after $kills kills" echo "$left"
done
[ $failed -eq 0 ] && echo "ok $kills kills left no trace"
echo "$kills kills: $in_work with a pack in work, $saving while saving, $merging of the merge"
[ $in_work -gt 0 ] && [ $saving -gt 0 ] && echo "ok kills hit packs and saves" ||
  bad "of $kills kills none hit a pack, or none a save"
exit $failed
