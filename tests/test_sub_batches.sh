#!/bin/bash
# test_sub_batches.sh BUILD - sweeps: a run's numbers are the same in any pack, on any number of
# ranks, in any sub-batch, interrupted or not; failed runs harm nobody; a sweep that changed, and
# a start that is overtaken, end with a message.
set -u
cd "$(dirname "$0")/.." || exit 1
. tests/env.sh "$1"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
config=tests/configs/sweep.ini
failed=0

verdict() { # NAME COMMAND...: COMMAND decides; every test ends here
  local name=$1
  shift
  if "$@" >"$work/verdict" 2>&1; then
    echo "ok $name"
  else
    echo "not ok $name"
    cat "$work/verdict" "$work/log"
    failed=1
  fi
}

sweep() { # RANKS RESULTS [option...]: output in $work/log
  local ranks=$1 results=$work/$2
  shift 2
  mpirun --oversubscribe -n "$ranks" bin/cohort run $config experiment.results="$results" \
    experiment.quiet=true "$@" >"$work/log" 2>&1
}

# The rows of tables, in order of the sweep, without what tells how they were run.
rows() { # FILE...
  /usr/bin/python3 - "$@" <<'P'
import sys, pandas
t = [pandas.read_csv(f, dtype=str) for f in sys.argv[1:]]
t = pandas.concat(u for u in t if len(u))
t = t.drop(columns=["time_s", "hosts", "folder", "member", "members"])
print(t.sort_values("run", key=lambda c: c.astype(int)).to_csv(index=False))
P
}

same() { # RESULTS: as those of $work/one
  diff <(rows "$work/one/sweep/1-1/runs.csv") <(rows "$work/$1"/sweep/*-*/runs.csv)
}

# ---- the same numbers however it is run -------------------------------------------------

verdict "a sweep runs" sweep 1 one
verdict "all of it is done" test "$(grep -c ,done, "$work/one/sweep/1-1/runs.csv")" = 12
for ranks in 2 3 4; do
  sweep $ranks "ranks$ranks"
  verdict "the same on $ranks ranks" same "ranks$ranks"
done
for n in 5 13; do
  for k in $(seq $n); do sweep 2 "split$n" --sub-batch "$k/$n" || break; done
  verdict "the same in $n sub-batches" same "split$n"
done

alone() { # RUN OVERRIDE...: a run of its own has the numbers of that row of the sweep
  local run=$1
  shift
  sed -n '/^\[sweep\]/q;p' $config >"$work/alone.ini"
  bin/cohort run "$work/alone.ini" experiment.results="$work/alone" experiment.quiet=true "$@" \
    >"$work/log" 2>&1 || return 1
  /usr/bin/python3 - "$run" "$work/alone/sweep/1-1/runs.csv" "$work/one/sweep/1-1/runs.csv" <<'P'
import sys, pandas
own, all = (pandas.read_csv(f, dtype=str) for f in sys.argv[2:])
row = all[all.run == sys.argv[1]].iloc[0]
own = own[own.hash == row.hash]
own = own[own["experiment.seed"] == row["experiment.seed"]].iloc[0]
for name in ["train_loss", "train_accuracy", "test_loss", "test_accuracy"]:
    assert own[name] == row[name], (name, own[name], row[name])
P
}
verdict "run 1 alone" alone 1 training.lr=1e-3 experiment.seed=1
verdict "run 11 alone" alone 11 training.lr=1e-2 experiment.seed=2 model.name=dense_784_7_10

weights() { # the members that pack.json gives to a run are its weights
  /usr/bin/python3 - "$work" <<'P'
import glob, json, sys, h5py, numpy as np
work = sys.argv[1]
seen = {}
for kind in ["one", "split5"]:
    for folder in glob.glob(f"{work}/{kind}/sweep/*/packs/*"):
        pack = json.load(open(folder + "/pack.json"))
        with h5py.File(folder + "/model.h5") as f:
            arrays = []
            f.visititems(lambda n, o: arrays.append(o[()]) if hasattr(o, "shape") and o.ndim > 1 else None)
        for run in pack["runs"]:
            members = slice(run["first"], run["first"] + run["members"])
            mine = [a[members] for a in arrays]
            if run["run_id"] in seen:
                assert all((a == b).all() for a, b in zip(mine, seen[run["run_id"]])), run
            seen[run["run_id"]] = mine
assert len(seen) == 12, len(seen)
P
}
if /usr/bin/python3 -c 'import h5py' 2>/dev/null; then
  verdict "weights of a run are the same in any pack" weights
fi

# ---- going on ---------------------------------------------------------------------------

verdict "a second start finds all done" sweep 2 one
verdict "and says so" grep -q . <(rows "$work/one/sweep/1-1/runs.csv")
verdict "two starts are told apart" test -e "$work/one/sweep/1-1/attempts/2.json"

interrupted() { # stopped in the middle by USR1, with 75, and run to the end by another start
  local rc results=$work/stopped
  mpirun --oversubscribe -n 2 bin/cohort run $config experiment.results="$results" \
    experiment.quiet=true training.steps=200ep training.evaluate_every=0ep >"$work/log" 2>&1 &
  local pid=$!
  until compgen -G "$results/sweep/1-1/work/*" >/dev/null; do
    kill -0 $pid 2>/dev/null || break
    sleep 0.05
  done
  sleep 0.5
  kill -USR1 $pid
  wait $pid
  rc=$?
  [ $rc -eq 75 ] || { echo "status $rc"; return 1; }
  sweep 3 stopped training.steps=200ep training.evaluate_every=0ep || return 1
  sweep 2 whole training.steps=200ep training.evaluate_every=0ep || return 1
  diff <(rows "$results/sweep/1-1/runs.csv") <(rows "$work/whole/sweep/1-1/runs.csv") &&
    [ -z "$(ls "$results/sweep/1-1/work")" ]
}
verdict "stopped, and run on by other ranks" interrupted

overtaken() { # a start that is overtaken ends, and leaves nothing of its own
  local rc results=$work/ghost
  bin/cohort run $config experiment.results="$results" experiment.quiet=true \
    training.steps=4000ep >"$work/log" 2>&1 &
  local pid=$!
  until [ -e "$results/sweep/1-1/attempts/1.json" ]; do sleep 0.05; done
  cp "$results/sweep/1-1/attempts/1.json" "$results/sweep/1-1/attempts/2.json"
  sed -i 's/"attempt": 1/"attempt": 2/' "$results/sweep/1-1/attempts/2.json"
  wait $pid
  rc=$?
  [ $rc -eq 1 ] && grep -q "taken over" "$work/log" &&
    ! compgen -G "$results/sweep/1-1/packs/*" >/dev/null
}
verdict "an overtaken start ends without a trace" overtaken

at_once() { # twelve sub-batches start at one time
  local k pids=()
  for k in $(seq 12); do
    bin/cohort run $config experiment.results="$work/at_once" experiment.quiet=true \
      --sub-batch "$k/12" >>"$work/log" 2>&1 &
    pids+=($!)
  done
  for k in "${pids[@]}"; do wait "$k" || return 1; done
  same at_once
}
verdict "all sub-batches at once" at_once

# ---- failures ----------------------------------------------------------------------------

diverging() {
  sweep 2 diverging sweep.training.lr=1e-3,1e30,1e-2 \
    sweep.model.name=dense_784_6_10,dense_784_7_10,dense_700_6_10
  [ $? -eq 1 ] && grep -q "15 of 27 runs failed" "$work/log"
}
verdict "bad and diverging runs are told" diverging
good_rows() {
  diff <(rows "$work/one/sweep/1-1/runs.csv" | grep -o ',done.*' | cut -d, -f1-9 | sort) \
    <(rows "$work/diverging/sweep/1-1/runs.csv" | grep -o ',done.*' | cut -d, -f1-9 | sort) &&
    [ "$(grep -c 'NaN or infinite' "$work/diverging/sweep/1-1/runs.csv")" = 6 ] &&
    [ "$(grep -c 'takes 700 inputs' "$work/diverging/sweep/1-1/runs.csv")" = 9 ]
}
verdict "and leave their neighbours alone" good_rows
stops() {
  sweep 1 stops sweep.training.lr=1e30,1e-3 experiment.on_failure=stop
  [ $? -eq 1 ] && [ "$(find "$work/stops/sweep/1-1/packs" -mindepth 1 -maxdepth 1 | wc -l)" = 1 ]
}
verdict "on_failure = stop ends after the pack" stops
again() {
  sweep 1 stops sweep.training.lr=1e30,1e-3 && return 1
  sweep 1 stops sweep.training.lr=1e30,1e-3 --retry && return 1
  [ "$(tail -n +2 "$work/stops/sweep/1-1/runs.csv" | wc -l)" = 12 ]
}
verdict "failed runs are tried again on demand" again

changed() {
  sweep 1 one training.batch_size=60
  [ $? -eq 2 ] && grep -q 'now training.batch_size = 60' "$work/log" || return 1
  sweep 1 one training.batch_size=60 --force &&
    [ "$(grep -c ',60,' "$work/one/sweep/1-1/runs.csv")" -ge 12 ]
}
verdict "another sweep of that name is refused, or forced" changed

refused() { # MESSAGE ARG...
  local message=$1
  shift
  bin/cohort run "$@" experiment.results="$work/refused" >"$work/log" 2>&1
  [ $? -eq 2 ] && grep -q -- "$message" "$work/log"
}
verdict "sub-batch 4/3" refused "1 <= k <= n" $config --sub-batch 4/3
verdict "sub-batch of no sweep" refused "neither a \[sweep\] nor students" tests/configs/teacher.ini --sub-batch 1/3
verdict "unknown option" refused "--sub-batch k/n, --force, --retry" $config --forse
SLURM_ARRAY_TASK_ID=7 SLURM_ARRAY_TASK_MIN=3 SLURM_ARRAY_TASK_MAX=7 SLURM_ARRAY_TASK_COUNT=2 \
  verdict "an array with gaps" refused "COHORT_SUB_BATCHES" $config
COHORT_SUB_BATCHES=three SLURM_ARRAY_TASK_ID=1 \
  verdict "a strange number of sub-batches" refused "COHORT_SUB_BATCHES=three" $config

array() { # a task of an array is its sub-batch, without a word on the command line
  SLURM_ARRAY_TASK_ID=5 SLURM_ARRAY_TASK_MIN=1 SLURM_ARRAY_TASK_MAX=9 SLURM_ARRAY_TASK_STEP=2 \
    SLURM_ARRAY_TASK_COUNT=5 sweep 1 array || return 1
  COHORT_SUB_BATCHES=20 COHORT_SUB_BATCH_OFFSET=10 SLURM_ARRAY_TASK_ID=7 sweep 1 array || return 1
  [ -e "$work/array/sweep/3-5/runs.csv" ] && [ -e "$work/array/sweep/17-20/attempts/1.json" ]
}
verdict "tasks of arrays are sub-batches" array

# ---- extraction --------------------------------------------------------------------------

clusterings() { # students are trained once for all clusterings of them
  cat tests/configs/extract.ini - >"$work/extract.ini" <<'I'
[sweep]
experiment.seed = 0, 1
extraction.gamma = 0.5, 0.75
I
  cp tests/configs/teacher.ini "$work"
  config=$work/extract.ini
  sweep 2 extract teacher:experiment.results="$work/extract" || return 1
  [ "$(find "$work/extract/extract" -name students.h5 | wc -l)" = 2 ] &&
    [ "$(find "$work/extract/extract" -name recovered.h5 | wc -l)" = 4 ] &&
    [ "$(grep -c ,done, "$work/extract/extract/1-1/runs.csv")" = 4 ]
}
verdict "a sweep over clusterings trains once" clusterings

numbers() { # RESULTS: what the extraction's row says, without how it was run
  /usr/bin/python3 - "$work/$1/extract/1-1/runs.csv" <<'P'
import sys, pandas
t = pandas.read_csv(sys.argv[1], dtype=str)
print(t.drop(columns=["time_s", "hosts", "folder"]).to_csv(index=False))
P
}
joined() { # students trained in sub-batches are those of one run, bit for bit
  config=tests/configs/extract.ini
  local k
  sweep 2 students teacher:experiment.results="$work/extract" || return 1
  for k in 1 3; do
    sweep $k joined teacher:experiment.results="$work/extract" --sub-batch $k/3 || return 1
  done
  sweep 1 joined teacher:experiment.results="$work/extract"
  [ $? -eq 2 ] && grep -q "in 3 sub-batches, of which 2 is not done" "$work/log" || return 1
  sweep 2 joined teacher:experiment.results="$work/extract" --sub-batch 2/3 || return 1
  sweep 2 joined teacher:experiment.results="$work/extract" || return 1
  diff <(numbers students) <(numbers joined)
}
verdict "students of three sub-batches are joined and clustered" joined
verdict "students of more sub-batches than students" \
  refused "fewer students than sub-batches" tests/configs/extract.ini --sub-batch 5/5
verdict "students of a shared plateau" refused "say member or none" tests/configs/extract.ini \
  --sub-batch 1/2 training.plateau=shared
exit $failed
