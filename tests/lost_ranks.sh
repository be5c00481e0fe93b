#!/bin/bash
# lost_ranks.sh BUILD - ranks on GPUs (of the test double, see test_gpu.sh) that stop answering
# or die in the middle of a training: the others do not wait for ever, no process stays, and what
# was saved goes on to the end of an undisturbed run, bit for bit.
set -u
cd "$(dirname "$0")/.." || exit 1
. tests/env.sh "$1"
unset MAKEFLAGS MAKELEVEL MFLAGS CUDA_VISIBLE_DEVICES
cohort=$1/fake/bin/cohort
work=$(mktemp -d)
mpirun=
trap '[ -z "$mpirun" ] || kill -KILL "$mpirun" "${ranks[@]}" 2>/dev/null; rm -rf "$work"' EXIT
failed=0 timeout=3

verdict() { # NAME COMMAND...: COMMAND decides; every test ends here
  local name=$1
  shift
  if "$@" >"$work/verdict" 2>&1; then
    echo "ok lost ranks: $name"
  else
    echo "not ok lost ranks: $name"
    cat "$work/verdict" "$work/log"
    failed=1
  fi
}

: >"$work/log"
verdict "all builds on the double" make -s -j2 FAKE_CUDA=1 PLAIN="$1" BUILD="$1/fake" all
[ $failed = 0 ] || exit 1
/usr/bin/python3 tests/make_samples.py "$work/samples.npz"
export FAKE_CUDA_DEVICES=2

# Ranks meet at the end of an epoch of 50 steps, and save every 400: a rank that is struck
# somewhat behind a save is at work on its own or in a sum.
start() { # RESULTS RANKS REPLICAS [override...]: in the background, in $mpirun
  mpirun -n "$2" "$cohort" run tests/configs/gpu.ini dataset.file="$work/samples.npz" \
    experiment.results="$work/$1" ranks.replicas="$3" \
    model.name=dense_70_8_3 training.batch_size=2 training.steps=20ep \
    training.evaluate_every=10ep experiment.checkpoint_steps=400it "${@:4}" >"$work/log" 2>&1 &
  mpirun=$!
}

finish() { # its status
  local rc
  wait "$mpirun"
  rc=$?
  mpirun=
  return $rc
}

completes() { # as start
  start "$@"
  finish
}

saved() {
  [ -n "$(find "$work/$1" -name checkpoint.h5 2>/dev/null)" ]
}

is_alive() { # PID
  local state
  state=$(ps -o stat= -p "$1") && [[ "$state" != Z* ]]
}

# Strikes one rank behind its first save; $rc is mpirun's status, $after the seconds it took.
strike() { # RESULTS RANKS REPLICAS SIGNAL RANK
  local begin
  start "$1" "$2" "$3" ranks.timeout=$timeout
  until saved "$1" || ! is_alive "$mpirun"; do sleep 0.02; done
  sleep 0.3
  read -ra ranks <<<"$(pgrep -P "$mpirun" -x cohort | sort -n | tr '\n' ' ')"
  begin=$SECONDS
  kill -"$4" "${ranks[$5]}" || return 1
  finish
  rc=$?
  after=$((SECONDS - begin))
}

# Its own time between two meetings is far below a second.
ends_in_time() { # STATUS, then as strike
  local status=$1
  shift
  strike "$@" && echo "status $rc after $after s" && [ $rc = "$status" ] &&
    [ $after -le $((timeout + 12)) ]
}

none_is_left() {
  local pid
  for pid in "${ranks[@]}"; do
    for _ in $(seq 100); do
      is_alive "$pid" || continue 2
      sleep 0.05
    done
    return 1
  done
}

told() { # TEXT
  grep -q "^cohort: rank [0-9]*: $1.* run it again to go on from the last checkpoint" "$work/log"
}

goes_on() { # RESULTS RANKS REPLICAS
  completes "$@" && grep -q "going on at step [1-9]" "$work/log"
}

same() { # RESULTS RESULTS: the models, bit for bit
  local model
  model=$(find "$work/$1" -name model.h5) && [ -n "$model" ] &&
    /usr/bin/python3 tests/same_h5.py "$model" "$work/$2/${model#"$work/$1/"}"
}

try() { # NAME RANKS REPLICAS SIGNAL RANK STATUS MESSAGE
  local results=$2-$3-$4-$5
  verdict "$1: the job ends in time, with status $6" \
    ends_in_time "$6" "$results" "$2" "$3" "$4" "$5"
  [ -z "$7" ] || verdict "$1: it is told why" told "$7"
  verdict "$1: no process is left" none_is_left
  verdict "$1: it goes on" goes_on "$results" "$2" "$3"
  verdict "$1: ... to the bit as an undisturbed one" same "whole$3" "$results"
}

verdict "undisturbed" completes whole1 2 1
verdict "undisturbed, with replicas" completes whole2 2 2
silent="a rank .*is lost"
late="a rank .*is lost"
try "a replica is stopped" 2 2 STOP 1 75 "$silent"
try "a replica is killed" 2 2 KILL 0 137 ""
try "one of four is stopped" 4 2 STOP 2 75 "a rank"
try "a rank with other students is stopped" 2 1 STOP 0 75 "$late"
try "a rank with other students is killed" 2 1 KILL 1 137 ""
exit $failed
