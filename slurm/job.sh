#!/bin/bash
# job.sh - what the templates *.sbatch end with, as `cohort job CONFIG.ini ...`: starts
# `cohort run CONFIG.ini ...` on all ranks of this SLURM job, passes signals on, and queues the
# job, or its own task of an array, again when there is more to do. Needs no change for a site:
#
# COHORT_LAUNCH        mpirun, srun, a command of your own such as "srun --mpi=pmi2", or auto:
#                      mpirun where there is one, else srun
# COHORT_MAX_REQUEUES  how often this job may start again (20)
#
# Exit status: that of cohort; 75, stopped early, is behind a requeue.
set -u

# ranks are the parallelism: one thread each
export OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1
# SLURM up to 22.05 lets ranks on several nodes start before all are ready, unless told so
export SLURM_PMIX_FENCE=${SLURM_PMIX_FENCE:-ring}

max_requeues=${COHORT_MAX_REQUEUES:-20}
restarts=${SLURM_RESTART_COUNT:-0}
# a task of an array is requeued by this name; its number alone might mean the whole array
job=${SLURM_JOB_ID:?is not set: start a template with sbatch}
[ -n "${SLURM_ARRAY_JOB_ID:-}" ] && job=${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID

say() {
  echo "$(date '+%F %T') job $job: $*"
}

# ---- the run --------------------------------------------------------------------------

srun_command() {
  if srun --mpi=list 2>&1 | grep -qw pmix; then
    echo srun --mpi=pmix
  else
    say "srun knows no pmix; if the ranks do not start, set COHORT_LAUNCH=mpirun" >&2
    echo srun
  fi
}

# Where SLURM sends TERM to all processes at once, mpirun would give the ranks two seconds only;
# if it does not hear of it, they have as long as SLURM waits.
find_launcher() {
  local wish=${COHORT_LAUNCH:-auto}
  [ "$wish" = auto ] && wish=$(command -v mpirun >/dev/null && echo mpirun || echo srun)
  [ "$wish" = srun ] && wish=$(srun_command)
  read -ra launch <<<"$wish"
  if ! command -v "${launch[0]}" >/dev/null; then
    say "there is no ${launch[0]} here: load the module that has it, or set COHORT_LAUNCH"
    exit 2
  fi
  if [ "${launch[0]}" = mpirun ] && env --block-signal=TERM true 2>/dev/null; then
    launch=(env --block-signal=TERM "${launch[@]}")
  fi
}

# USR1 comes ahead of the time limit, TERM with preemption and scancel. The ranks hear of it
# through the launcher, save a checkpoint and end with status 75.
pass_on() { # SIGNAL
  asked=yes
  say "got $1, asking the run to save a checkpoint and stop"
  [ -z "$launcher" ] || kill -USR1 "$launcher"
}

# A trapped signal ends `wait` early: then wait again.
run() {
  launcher='' asked=''
  trap 'pass_on USR1' USR1
  trap 'pass_on TERM' TERM
  "${launch[@]}" "$COHORT" run "$@" &
  launcher=$!
  [ -z "$asked" ] || kill -USR1 "$launcher"
  wait "$launcher"
  status=$?
  while kill -0 "$launcher" 2>/dev/null; do
    wait "$launcher"
    status=$?
  done
  trap '' USR1 TERM
}

# A launcher that is ended by TERM itself ends with another status whatever the ranks did (the
# next start may then go on from an earlier checkpoint); one that is asked before it listens dies:
# that counts as 75.
stopped_early() {
  [ -n "$asked" ] && [ "$status" -ne 0 ] && [ "$status" -ne 2 ] && status=75
  [ "$status" -eq 75 ]
}

# ---- what comes after it --------------------------------------------------------------

# "STATE RESTARTS" of this job, as SLURM has it; it may not answer for a while.
ask_slurm() {
  local try
  for try in 1 2 3 4 5 6; do
    [ "$try" -eq 1 ] || sleep 10
    timeout 30 scontrol -o show job "$job" 2>/dev/null |
      sed -n 's/.* JobState=\([A-Z_]*\) .* Restarts=\([0-9]*\) .*/\1 \2/p' | grep . && return
  done
}

# Not again where the job had its share; nor where SLURM is already ending it, for what was
# cancelled must not come back; nor where it started anew while this node was cut off.
requeue() { # WHY
  local state now
  if [ "$restarts" -ge "$max_requeues" ]; then
    say "$1, and $restarts restarts are all it may have (COHORT_MAX_REQUEUES)"
    return
  fi
  read -r state now <<<"$(ask_slurm)"
  if [ "$state" != RUNNING ]; then
    say "$1; not queued again, for SLURM says it is ${state:-gone}"
  elif [ "$now" -ne "$restarts" ]; then
    say "$1; not queued again, for it was started anew elsewhere"
  else
    say "$1, queued again ($((restarts + 1)) of at most $max_requeues times)"
    scontrol requeue "$job" || say "scontrol could not queue it again; submit it to go on"
  fi
}

# True if a node of this job does not answer. When one dies, mpirun ends within a second, and
# SLURM knows minutes later: ask the nodes, and if one is silent, wait until SLURM says so,
# lest the next start be given that node again. Most often SLURM then requeues the job itself.
a_node_is_lost() {
  local n=${SLURM_JOB_NUM_NODES:-1} wait_s
  [ "$n" -gt 1 ] || return
  timeout 60 srun --overlap --mpi=none --ntasks="$n" --ntasks-per-node=1 true 2>/dev/null &&
    return 1
  wait_s=$(scontrol show config | sed -n 's/^SlurmdTimeout *= *\([0-9]*\).*/\1/p')
  wait_s=$((SECONDS + ${wait_s:-300} + 60))
  say "status $status, and not all nodes answer: waiting for what SLURM says of them"
  trap - TERM
  until sinfo -h -N -n "$SLURM_JOB_NODELIST" -o %T | grep -q '[*]\|down\|fail'; do
    [ $SECONDS -lt $wait_s ] || return
    sleep 2
  done
  trap '' TERM
}

if [ $# -eq 0 ]; then
  say "usage: sbatch slurm/run.sbatch CONFIG.ini [section.key=value ...]"
  exit 2
fi
find_launcher
say "start $((restarts + 1)) on $SLURM_JOB_NODELIST, ranks on each: $SLURM_TASKS_PER_NODE"
say "${launch[*]} $COHORT run $*"
run "$@"
if stopped_early; then
  requeue "stopped early"
elif [ "$status" -ne 0 ] && [ "$status" -ne 2 ] && a_node_is_lost; then
  requeue "lost a node"
fi
say "end of this start with status $status"
exit "$status"
