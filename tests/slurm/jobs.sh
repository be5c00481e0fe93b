# jobs.sh - for tests on a cluster of vcluster.sh: verdicts, and what SLURM says of jobs.
# Sourced. The caller sets `work`, a folder in which JOB.log is the log of a job.
patience=120
failed=0

can_have_a_cluster() {
  [ "$(id -u)" = 0 ] && unshare --mount --net --pid --fork true 2>/dev/null
}

verdict() { # NAME COMMAND...: COMMAND decides; every test ends here
  local name=$1
  shift
  if "$@"; then
    echo "ok $name"
  else
    echo "not ok $name"
    squeue -r
    sinfo -N
    tail -n 40 "$work"/*.log
    tail -n 20 "$VCLUSTER_LOGS/slurmctld.log"
    failed=1
  fi
}

field() { # JOB NAME: as `scontrol show job` prints it
  scontrol -o show job "$1" | tr ' ' '\n' | sed -n "s/^$2=//p"
}

wait_until() { # COMMAND...: false if it does not come true in time
  local deadline=$((SECONDS + patience))
  until "$@"; do
    [ $SECONDS -lt $deadline ] || return 1
    sleep 0.1
  done 2>/dev/null
}

has() { # JOB NAME VALUE
  [ "$(field "$1" "$2")" = "$3" ]
}

is_over() { # JOB
  case $(field "$1" JobState) in
  PENDING | CONFIGURING | RUNNING | COMPLETING) false ;;
  esac
}

ended() { # JOB STATE STATUS:SIGNAL
  wait_until is_over "$1" && has "$1" JobState "$2" && has "$1" ExitCode "$3"
}

logged() { # JOB TIMES TEXT
  [ "$(grep -c -- "$3" "$work/$1.log")" = "$2" ]
}

# scancel may send the signal and still try again five seconds later.
stop_early() { # JOB
  timeout 4 scancel --signal=USR1 --batch "$1" || [ $? = 124 ]
}

# SLURM lets a job that was queued again wait for two minutes. A node refuses to start it in the
# very second in which it ended there.
start_again() { # JOB
  wait_until has "$1" JobState PENDING && scontrol update JobId="$1" StartTime=now+2
}

# The same for all jobs, all the time, in the background.
start_all_again() {
  local id reason start
  while sleep 0.5; do
    squeue -h -r -t PENDING -o '%i %r %S' | while read -r id reason start; do
      [ "$reason" = BeginTime ] && [ "$start" != N/A ] &&
        [ $(($(date -d "$start" +%s) - $(date +%s))) -gt 5 ] &&
        scontrol update JobId="$id" StartTime=now+2
    done
  done >/dev/null 2>&1 &
}
