#!/bin/bash
# test_slurm.sh BUILD - the template slurm/run.sbatch on a cluster of two nodes: results equal
# those of a plain mpirun; a run that is stopped early is queued again, goes on and ends with
# the weights of an undisturbed one; errors end the job; nothing else is queued again.
set -u
cd "$(dirname "$0")/.." || exit 1
. tests/env.sh "$1"
. tests/slurm/jobs.sh
if [ -z "${VCLUSTER_LOGS:-}" ]; then
  if ! can_have_a_cluster; then
    echo "skip jobs on a cluster of two nodes: no root, or no namespaces, here"
    exit 0
  fi
  exec timeout -s KILL 300 tests/slurm/vcluster.sh "$0" "$@"
fi

config=tests/configs/extract.ini
longer=(training.steps=1000ep experiment.checkpoint_steps=500it)
work=$(mktemp -d)

submit() { # [sbatch option...] -- ARGUMENT...: its number in $job, its log in $work/$job.log
  local options=()
  while [ "$1" != -- ]; do
    options+=("$1")
    shift
  done
  shift
  job=$(sbatch --parsable -o "$work/%A.log" "${options[@]}" slurm/run.sbatch "$@")
}

# ---- whole runs ---------------------------------------

run_of() { # RESULTS [override...]: arguments of a run with results there
  results=$work/$1
  shift
  arguments=("$config" experiment.results="$results" teacher:experiment.results="$results" "$@")
}

plain() { # RESULTS [override...]
  run_of "$@"
  mpirun -n 2 bin/cohort run "${arguments[@]}" >"$work/$1.log" 2>&1 || cat "$work/$1.log"
}

submit_run() { # RESULTS [override...]
  run_of "$@"
  submit --nodes=2 --ntasks-per-node=2 -- "${arguments[@]}"
}

same_weights() { # RESULTS RESULTS
  local file
  for file in students.h5 recovered.h5; do
    /usr/bin/python3 tests/same_h5.py "$(find "$work/$1" -name $file)" \
      "$(find "$work/$2" -name $file)" || return 1
  done
}

students_are_under_way() { # RESULTS
  [ -n "$(find "$work/$1/extract" -name checkpoint.h5)" ]
}

completes() {
  plain plain
  submit_run batch
  ended "$job" COMPLETED 0:0 && logged "$job" 1 "on n\[1-2\], ranks on each: 2(x2)"
}
verdict "a batch job completes on two nodes" completes
verdict "... with the weights of a plain run" same_weights plain batch

comes_back() {
  submit_run stopped "${longer[@]}"
  wait_until students_are_under_way stopped && stop_early "$job" && start_again "$job" &&
    ended "$job" COMPLETED 0:0
}
goes_on() {
  has "$job" Restarts 1 && logged "$job" 1 "queued again" &&
    logged "$job" 1 "end of this start with status 75" && logged "$job" 1 "going on at step"
}
plain undisturbed "${longer[@]}"
verdict "a job that is stopped early starts again and completes" comes_back
verdict "... once, from where it stopped" goes_on
verdict "... with the weights of an undisturbed run" same_weights undisturbed stopped

# mpirun, which gets TERM like all others, ends with 1
comes_back_from_term() {
  submit_run termed "${longer[@]}"
  wait_until students_are_under_way termed && scancel --signal=TERM --full "$job" &&
    start_again "$job" && ended "$job" COMPLETED 0:0 && has "$job" Restarts 1 &&
    logged "$job" 1 "end of this start with status 75"
}
verdict "a job all of whose processes get TERM does so too" comes_back_from_term
verdict "... with the weights of an undisturbed run" same_weights undisturbed termed

wrong_input() {
  submit_run wrong training.lerning_rate=1
  ended "$job" FAILED 2:0 && logged "$job" 1 "^cohort: .*lerning_rate" &&
    logged "$job" 0 "queued again"
}
verdict "wrong input ends the job with status 2 and its message" wrong_input

# ---- what is queued again, and what not ---------------------------------------
# An mpirun that only waits to be stopped; it outlives what SLURM sends to all processes.
mkdir "$work/bin"
cat >"$work/bin/mpirun" <<'END'
#!/bin/bash
trap 'exit 75' USR1
trap '' TERM
touch "$WORK/running.$SLURM_JOB_ID"
while :; do sleep 0.05; done
END
chmod +x "$work/bin/mpirun"
export WORK=$work PATH=$work/bin:$PATH

is_running() { # JOB
  [ -e "$work/running.$(field "$1" JobId)" ]
}

stays_cancelled() {
  submit -- any.ini
  wait_until is_running "$job" && scancel "$job" &&
    wait_until logged "$job" 1 "end of this start with status 75" &&
    wait_until is_over "$job" && has "$job" JobState CANCELLED && has "$job" Restarts 0
}
verdict "a cancelled job stays cancelled" stays_cancelled

has_its_share() {
  COHORT_MAX_REQUEUES=0 submit -- any.ini
  wait_until is_running "$job" && stop_early "$job" && ended "$job" FAILED 75:0 &&
    logged "$job" 1 COHORT_MAX_REQUEUES
}
verdict "COHORT_MAX_REQUEUES restarts and no more" has_its_share

# the last task of an array to start has the array's own number
other_tasks_stay() {
  submit --array=1-2 -- any.ini
  wait_until is_running "${job}_1" && wait_until is_running "${job}_2" &&
    stop_early "${job}_2" && wait_until has "${job}_2" Restarts 1 &&
    has "${job}_1" JobState RUNNING && has "${job}_1" Restarts 0
}
verdict "a task of an array is queued again alone" other_tasks_stay
exit $failed
