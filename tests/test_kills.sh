#!/bin/bash
# test_kills.sh BUILD [KILLS] - whole runs killed by SIGKILL at random times and started again:
# weights, metrics and rows equal those of an undisturbed run, bit for bit, and no temporary
# file stays. First runs that train students further, then runs that cluster them in another
# way, then runs from nothing. Times are drawn from the duration of the undisturbed run, or from
# the moment when a checkpoint is written; where the kills hit is counted, and enough of them
# must hit what matters.
set -u
cd "$(dirname "$0")/.." || exit 1
. tests/env.sh "$1"
target=${2:-6}
work=$(mktemp -d)
pid=
trap '[ -n "$pid" ] && end_session; rm -rf "$work"' EXIT
cohort=$PWD/bin/cohort
# saves take about half of the time of a run
common=(experiment.checkpoint_steps=9it)

# ---- one run ------------------------------------------------------------------------------

# start RESULTS [override...]: in a session of its own, its leader in $pid, output in $work/log
start() {
  local results=$1
  shift
  setsid mpirun --oversubscribe -n 2 "$cohort" run tests/configs/extract.ini \
    experiment.results="$results" teacher:experiment.results="$results" \
    "${common[@]}" "$@" >"$work/log" 2>&1 &
  pid=$!
}

# Waits for the run: its status.
finish() {
  wait "$pid"
  local rc=$?
  pid=
  return $rc
}

# Kills mpirun and all ranks at once, and waits until none is left.
end_session() {
  pkill -KILL -s "$pid"
  while ps -o stat= -s "$pid" | grep -qv '^Z'; do sleep 0.02; done
}

now() { # microseconds
  echo "${EPOCHREALTIME/[.,]/}"
}

pause() { # MICROSECONDS
  sleep "$(printf '%d.%06d' $(($1 / 1000000)) $(($1 % 1000000)))"
}

# ---- where kills hit ----------------------------------------------------------------------

strikes=0 kills=0 before=0 in_teacher=0 in_students=0 later=0 saving=0

fresh() { # REFERENCE NAME: a file of that name below $results is newer than the reference
  [ -n "$(find "$results" -name "$2" -newer "$1" -print -quit)" ]
}

count_kill() {
  kills=$((kills + 1))
  fresh "$work/started" '.*.tmp' && saving=$((saving + 1))
  if fresh "$work/begun" students.h5 || fresh "$work/begun" recovered.checkpoint.h5; then
    later=$((later + 1))
  elif [ -d "$results/extract" ] && fresh "$work/begun" checkpoint.h5; then
    in_students=$((in_students + 1))
  elif fresh "$work/begun" checkpoint.h5; then
    in_teacher=$((in_teacher + 1))
  else
    before=$((before + 1))
  fi
}

hits() {
  echo "before any checkpoint $before, in the teacher $in_teacher, in students $in_students," \
    "in later stages $later; while saving $saving"
}

well_spread() {
  [ $((3 * (kills - before))) -ge "$kills" ] && [ $((4 * saving)) -ge "$kills" ]
}

# ---- runs that are killed -----------------------------------------------------------------

# Waits until the run writes a file of that name below $results: 0. At the run's end: 1.
written() { # NAME
  while kill -0 "$pid" 2>/dev/null; do
    fresh "$work/started" "$1" && return 0
  done
  return 1
}

# Runs on in $results and kills it: one time in three somewhere in the duration of a whole run,
# one time somewhere behind the first checkpoint, one time in a save. False if the run ended
# before that.
strike() {
  local rc
  touch "$work/started"
  start "$results" "$@"
  case $((strikes++ % 3)) in
  0) written '*checkpoint.h5' && pause $((RANDOM * (duration / 4) / 32768)) ;;
  1) written '*checkpoint.h5' && written '.*.tmp' ;;
  2) pause $((RANDOM * duration / 32768)) ;;
  esac
  { # bash tells of processes that were killed
    end_session
    finish
    rc=$?
  } 2>/dev/null
  [ $rc -eq 0 ] && return 1
  if [ $rc -ne 137 ]; then
    bad "the run ends with status $rc after $kills kills" cat "$work/log"
    return 1
  fi
  count_kill
}

failed=0
bad() { # WHAT [COMMAND...]: COMMAND tells more
  echo "not ok $1"
  shift
  "$@"
  failed=1
}

files() { # RESULTS: everything that a finished run leaves
  (cd "$1" && find . -type f | sort)
}

# The rows of a runs.csv without what may differ: time and hosts.
rows() { # FILE
  /usr/bin/python3 -c 'import sys, pandas
print(pandas.read_csv(sys.argv[1], dtype=str).drop(columns=["time_s", "hosts"]).to_csv())' "$1"
}

# same_results A B: files, numbers, tables
same_results() {
  local file
  diff <(files "$1") <(files "$2") || return 1
  /usr/bin/python3 tests/same_h5.py "$1" "$2" || return 1
  for file in $(files "$1" | grep '\.csv$'); do
    case $file in
    */runs.csv) diff <(rows "$1/$file") <(rows "$2/$file") ;;
    *) cmp "$1/$file" "$2/$file" ;;
    esac || return 1
  done
}

begin_with() { # FROM: $results is a copy of that folder
  rm -rf "$results"
  cp -a "$1" "$results"
  touch "$work/begun"
}

# undisturbed NAME FROM [override...]: a run from a copy of FROM, kept as $work/NAME; its
# duration in microseconds in $duration
undisturbed() {
  local name=$1 from=$2 start_of_run
  shift 2
  results=$work/$name
  begin_with "$from"
  start_of_run=$(now)
  start "$results" "$@"
  finish || bad "undisturbed run: $name" cat "$work/log"
  duration=$(($(now) - start_of_run))
}

# torment NAME FROM ENOUGH [override...]: runs from copies of FROM are killed, over and over,
# until ENOUGH says so, and must end as $work/NAME did.
torment() {
  local name=$1 from=$2 enough=$3
  shift 3
  results=$work/killed kills_then=$kills before_then=$before
  until $enough || [ $failed -ne 0 ]; do
    begin_with "$from"
    while ! $enough && strike "$@"; do :; done
    start "$results" "$@"
    finish || bad "restart after $kills kills: $name" cat "$work/log"
    same_results "$work/$name" "$results" || bad "same results after $kills kills: $name"
  done
  [ $((kills - kills_then)) -gt $((before - before_then)) ] ||
    bad "no kill behind a new checkpoint: $name"
  [ $failed -eq 0 ] && echo "ok $((kills - kills_then)) kills left no trace: $name"
}

# A sixth of the kills, and one of them behind the first new checkpoint.
enough_of_these() {
  local here=$((kills - kills_then))
  [ $here -ge $(((target + 5) / 6)) ] && [ $here -gt $((before - before_then)) ] ||
    [ $here -ge $((target + 4)) ]
}

enough() {
  [ "$kills" -ge "$target" ] && well_spread || [ "$kills" -ge $((3 * target)) ]
}

further=(training.further_training=60ep)
clustered=(extraction.gamma=0.75 extraction.finetune_steps=20ep)
mkdir "$work/nothing"
undisturbed anew "$work/nothing"
whole=$duration
[ $failed -eq 0 ] || exit 1
undisturbed further "$work/anew" "${further[@]}"
torment further "$work/anew" enough_of_these "${further[@]}"
undisturbed clustered "$work/anew" "${clustered[@]}"
torment clustered "$work/anew" enough_of_these "${clustered[@]}"
duration=$whole
torment anew "$work/nothing" enough
echo "$kills kills: $(hits)"
if well_spread; then
  echo "ok kills hit checkpoints and saves"
else
  bad "of $kills kills too few hit checkpoints or saves"
fi
exit $failed
