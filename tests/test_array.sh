#!/bin/bash
# test_array.sh BUILD [long] - a sweep as job arrays on clusters of this machine: tasks that are
# requeued, cancelled, stopped early, that lose their node or go on as ghosts on a node that was
# cut off; more sub-batches than an array may have. What was lost is submitted again, and the
# merged table is that of one undisturbed run, byte for byte but for the columns that tell where
# and how fast. `long`: real time limits, preemption, and the same under srun.
set -u
cd "$(dirname "$0")/.." || exit 1
. tests/env.sh "$1"
. tests/slurm/jobs.sh
config=tests/configs/array.ini
part=${2:-}

# These clusters miss a node within seconds.
quick=(-s SlurmdTimeout=8 -s MessageTimeout=5 -s TCPTimeout=1)

if [ -z "${VCLUSTER_LOGS:-}" ]; then
  if ! can_have_a_cluster; then
    echo "skip job arrays on a cluster: no root, or no namespaces, here"
    exit 0
  fi
  REFERENCE=$(mktemp -d)
  export REFERENCE
  trap 'rm -rf "$REFERENCE"' EXIT
  mpirun -n 1 bin/cohort run $config experiment.results="$REFERENCE" &>"$REFERENCE/log" &&
    bin/cohort merge "$REFERENCE/array" &>>"$REFERENCE/log" || cat "$REFERENCE/log"
  cluster() { timeout -s KILL 400 tests/slurm/vcluster.sh "$@"; }
  if [ "$part" = long ]; then
    cluster -n 2 -c 2 "${quick[@]}" -s PreemptType=preempt/partition_prio \
      -s PreemptMode=REQUEUE -s "PartitionName=low Nodes=ALL PriorityTier=1" \
      -s "PartitionName=fragile Nodes=ALL PriorityTier=1 PreemptMode=CANCEL" \
      -s "PartitionName=high Nodes=ALL PriorityTier=10 PreemptMode=OFF" "$0" "$1" limits
  else
    cluster -n 5 -c 1 "${quick[@]}" "$0" "$1" disturbed || failed=1
    cluster -n 2 -c 4 -s MaxArraySize=6 "$0" "$1" split || failed=1
    exit $failed
  fi
  exit
fi
work=$(mktemp -d)
results=$work/results

# ---- results ------------------------------------------------------------------------------

# A merged table without its last columns: time_s, hosts, sub_batch, folder.
numbers() { # FOLDER
  rev "$1/array/runs.csv" | cut -d, -f5- | rev
}

is_the_reference() { # FOLDER
  cmp <(numbers "$1") <(numbers "$REFERENCE")
}

# All rows of runs that are done are those of the reference.
is_part_of_the_reference() { # FOLDER
  local rows
  bin/cohort merge "$1/array" &>>"$work/merge.log"
  rows=$(numbers "$1" | grep ',done,')
  [ -n "$rows" ] && ! grep -vxFf <(numbers "$REFERENCE") <<<"$rows"
}

merges() { # STATUS
  bin/cohort merge "$results/array" &>>"$work/merge.log"
  [ $? = "$1" ]
}

# ---- jobs ---------------------------------------------------------------------------------

submit() { # [sbatch option...] -- [override...]: its number in $job
  local options=()
  while [ "$1" != -- ]; do
    options+=("$1")
    shift
  done
  shift
  job=$(sbatch --parsable --ntasks-per-node=1 -o "$work/%A_%a.log" "${options[@]}" \
    slurm/sweep.sbatch $config experiment.results="$results" "$@")
}

at_work() { # SUB_BATCH: its training is under way
  compgen -G "$results/array/$1-20/work/*/checkpoint.h5" >/dev/null
}

node_of() { # JOB
  squeue -h -j "$1" -o %N
}

restarted() { # JOB
  [ "$(field "$1" Restarts)" -ge 1 ]
}

all_over() { # JOB
  [ -z "$(squeue -h -j "$1")" ]
}

# ---- an array of 20, disturbed ------------------------------------------------------------

requeue_one() {
  wait_until at_work 1 && scontrol requeue "${job}_1"
}

cancel_one() {
  wait_until at_work 2 && scancel "${job}_2"
}

stop_one() {
  wait_until at_work 3 || return 1
  stop_early "${job}_3" & # may take its time
}

kill_a_node() {
  wait_until at_work 6 && dead=$(node_of "${job}_6") && $VCLUSTER_NODE kill "$dead"
}

# The ghost sleeps until its task has started anew elsewhere.
cut_a_node_off() {
  wait_until at_work 7 && ghost=$(node_of "${job}_7") && $VCLUSTER_NODE freeze "$ghost" &&
    $VCLUSTER_NODE cut "$ghost"
}

both_start_again() {
  wait_until restarted "${job}_6" && $VCLUSTER_NODE up "$dead" &&
    wait_until test -e "$results/array/6-20/attempts/2.json" &&
    wait_until test -e "$results/array/7-20/attempts/2.json"
}

heal_it() {
  $VCLUSTER_NODE thaw "$ghost" && wait_until logged "${job}_7" 1 "taken over" &&
    $VCLUSTER_NODE heal "$ghost"
}

comes_to_its_end() {
  wait_until all_over "$job" && has "${job}_2" JobState CANCELLED &&
    has "${job}_1" Restarts 1 && has "${job}_3" Restarts 1 &&
    [ "$(scontrol -o show job "$job" | grep -c JobState=COMPLETED)" = 19 ]
}

# Tasks 1, 3, 6 and 7, and none that were not disturbed.
only_these_started_again() {
  [ "$(grep -l 'start 2 on' "$work/${job}"_*.log | sed 's/.*_//' | sort -n | tr '\n' ' ')" = \
    "1.log 3.log 6.log 7.log " ]
}

resumes() {
  local commands
  commands=$(bin/cohort submit $config --sub-batches 20 --resume --dry-run \
    experiment.results="$results") && [[ "$commands" == *" --array=2 "* ]] &&
    job=$(bin/cohort submit $config --sub-batches 20 --resume \
      experiment.results="$results" slurm.ntasks_per_node=1) &&
    ended "${job}_2" COMPLETED 0:0
}

disturbed() {
  start_all_again
  submit --array=1-20%4 --
  verdict "array of 20, four at a time: a task is requeued" requeue_one
  verdict "... one is cancelled" cancel_one
  verdict "... one is stopped early" stop_one
  verdict "... one loses its node" kill_a_node
  verdict "... one is on a node that is cut off" cut_a_node_off
  verdict "... both start again on others" both_start_again
  verdict "... the ghost wakes up and ends itself; its node comes back" heal_it
  verdict "... all but the cancelled one complete" comes_to_its_end
  verdict "... only those that were disturbed started again" only_these_started_again
  verdict "... a merge tells that runs are missing" merges 3
  verdict "... submit --resume submits that one" resumes
  verdict "... then the merge is complete" merges 0
  verdict "... and the table that of an undisturbed run" is_the_reference "$results"
  verdict "a task of two nodes comes back when it loses one" loses_its_second_node
  verdict "... with the same numbers" is_part_of_the_reference "$results"
}

# ---- a task on two nodes ------------------------------------------------------------------

# mpirun ends at once, srun hangs until SLURM knows.
loses_its_second_node() { # [LAUNCHER]
  local node
  results=$work/pair
  export COHORT_LAUNCH=${1:-mpirun}
  COHORT_SUB_BATCHES=20 submit --array=8 --nodes=2 --
  wait_until at_work 8 && node=$(node_of "${job}_8") && node=n${node: -2:1} &&
    $VCLUSTER_NODE kill "$node" && wait_until restarted "${job}_8" &&
    $VCLUSTER_NODE up "$node" && ended "${job}_8" COMPLETED 0:0
}

# ---- more sub-batches than an array may have ----------------------------------------------

# The login node's `cohort submit`; what it prints in $printed, in words, status in $status.
give() { # [ARGUMENT...]
  printed=$(bin/cohort submit $config --sub-batches 20 experiment.results="$results" \
    slurm.ntasks_per_node=1 slurm.array_limit=6 "$@" 2>"$work/submit.log")
  status=$?
}

shows_commands() {
  give --dry-run --merge
  [ $status = 0 ] && [ "$(wc -l <<<"$printed")" = 5 ] && [ ! -e "$results" ] &&
    [ "$(grep -c -- '--array=1-5%[12] .*SUB_BATCHES=20,COHORT_SUB_BATCH_OFFSET=' \
      <<<"$printed")" = 4 ]
}

submits_four_arrays() {
  give --merge
  jobs=$printed
  [ $status = 0 ] && [[ "$jobs" =~ ^[0-9]+$'\n'[0-9]+$'\n'[0-9]+$'\n'[0-9]+$ ]]
}

# submit.json: what the last submission did, by a Python expression on it
noted() { # EXPRESSION
  /usr/bin/python3 -c 'import json, sys
s = json.load(open(sys.argv[1]))["submissions"][-1]
sys.exit(not eval(sys.argv[2]))' "$results/array/submit.json" "$1"
}

is_noted() {
  noted '[j["id"] for j in s["jobs"]] == """'"$jobs"'""".split()' &&
    noted '[j["offset"] for j in s["jobs"]] == [0, 5, 10, 15] and s["sub_batches"] == 20'
}

refuses() { # TEXT ARGUMENT...
  local text=$1
  shift
  give "$@"
  [ $status = 2 ] && [ -z "$printed" ] && grep -q -- "$text" "$work/submit.log"
}

leaves_the_queue_alone() {
  give --resume
  [ $status = 0 ] && [ -z "$printed" ] && grep -q "left alone.*1-20" "$work/submit.log"
}

merges_itself() {
  ended "$(/usr/bin/python3 -c 'import json, sys
print(json.load(open(sys.argv[1]))["submissions"][-1]["merge"]["id"])' \
    "$results/array/submit.json")" COMPLETED 0:0
}

has_nothing_left() {
  give --resume
  [ $status = 0 ] && [ -z "$printed" ] && grep -q "nothing is left" "$work/submit.log"
}

# Sub-batches 3, 4 and 17 are lost; a failed job of them is not in the queue.
submits_what_was_lost() {
  rm -rf "$results"/array/{3,4,17}-20
  give --resume
  jobs=$printed
  [ $status = 0 ] && noted '[j["array"] for j in s["jobs"]] == ["1,2", "1"]' &&
    noted '[j["offset"] for j in s["jobs"]] == [2, 16]' && for job in $jobs; do
    wait_until all_over "$job" || return 1
  done && merges 0
}

split() {
  verdict "20 sub-batches where arrays have 5 tasks: --dry-run shows 4 arrays" shows_commands
  verdict "... submit prints their numbers" submits_four_arrays
  verdict "... and keeps them in submit.json" is_noted
  verdict "... what is in the queue is not submitted twice" refuses "queue already"
  verdict "... nor to resume" leaves_the_queue_alone
  verdict "... the merge runs behind them" merges_itself
  verdict "... the table is that of an undisturbed run" is_the_reference "$results"
  verdict "... nothing is left to resume" has_nothing_left
  verdict "... what is lost is" submits_what_was_lost
  verdict "... the table is the same" is_the_reference "$results"
  verdict "another sweep in its place is refused" refuses "another sweep" training.momentum=0.5
}

# ---- long: limits and preemption ----------------------------------------------------------

# SLURM looks at time limits every 30 seconds; two runs that take more than a minute.
hits_its_time_limit() {
  local long=(training.steps=16000ep experiment.checkpoint_steps=6000it)
  results=$work/limit
  COHORT_SUB_BATCHES=20 submit --array=5 --time=1 --signal=B:USR1@20 -- "${long[@]}"
  ended "${job}_5" COMPLETED 0:0 && restarted "${job}_5" &&
    grep -q "got USR1" "$work/${job}_5.log" && bin/cohort run $config --sub-batch 5/20 \
    experiment.results="$work/unlimited" "${long[@]}" &>"$work/unlimited.log"
}

same_numbers() { # FOLDER FOLDER
  local folder
  for folder in "$@"; do bin/cohort merge "$folder/array" &>>"$work/merge.log"; done
  cmp <(numbers "$1") <(numbers "$2")
}

# A job of higher priority needs all nodes.
is_preempted() { # PARTITION
  results=$work/$1
  COHORT_SUB_BATCHES=20 submit --array=9 --partition="$1" --
  wait_until at_work 9 && sbatch --partition=high --nodes=2 --exclusive -o /dev/null \
    --wrap "sleep 1" >"$work/$1.high"
}

comes_back_by_itself() {
  is_preempted low && ended "${job}_9" COMPLETED 0:0 && restarted "${job}_9"
}

comes_back_when_resumed() {
  is_preempted fragile && wait_until is_over "${job}_9" &&
    has "${job}_9" JobState PREEMPTED &&
    job=$(bin/cohort submit $config --sub-batches 20 --resume experiment.results="$results" \
      slurm.ntasks_per_node=1 slurm.array_limit=3 2>"$work/submit.log") &&
    wait_until all_over "$job" && merges 0
}

limits() {
  start_all_again
  patience=300
  verdict "a task hits its time limit and goes on" hits_its_time_limit
  verdict "... with the numbers of one without limit" same_numbers "$work/limit" "$work/unlimited"
  verdict "a preempted task comes back" comes_back_by_itself
  verdict "... with the same numbers" is_part_of_the_reference "$results"
  verdict "one that preemption cancels is resumed with all that is left" comes_back_when_resumed
  verdict "... the table is that of an undisturbed run" is_the_reference "$results"
  verdict "a task under srun comes back when it loses a node" loses_its_second_node srun
  verdict "... with the same numbers" is_part_of_the_reference "$results"
}

$part
exit $failed
