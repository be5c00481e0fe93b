#!/bin/bash
# test_plan.sh BUILD - `cohort plan`: what it says of a sweep, its list, wrong input, and how
# long it takes for 100,000 runs.
set -u
cd "$(dirname "$0")/.." || exit 1
. tests/env.sh "$1"
cohort=$PWD/bin/cohort
example=$PWD/configs/sweep_example.ini
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 1
failed=0

verdict() { # STATUS NAME
  if [ "$1" -eq 0 ]; then
    echo "ok plan: $2"
  else
    echo "not ok plan: $2"
    failed=1
  fi
}

# The last output has this text.
says() { # TEXT NAME
  grep -qF -- "$1" out
  verdict $? "$2"
}

plan() {
  "$cohort" plan "$@" >out 2>&1
}

# Ends with 2 and says why, on one line.
refuses() { # NAME TEXT ARGUMENTS...
  local name=$1 text=$2
  shift 2
  "$cohort" plan "$@" >out 2>err
  [ $? -eq 2 ] && [ ! -s out ] && [ "$(wc -l <err)" -eq 1 ] && grep -qF -- "$text" err
  verdict $? "refuses $name"
}

cat >s.ini <<'END'
[experiment]
job = train
name = s
[dataset]
name = mnist
[model]
name = dense_784_4_10
[training]
steps = 2ep
[sweep]
training.lr = 0.1, 0.2
model.activation = tanh, g
zip = training.lr, model.activation
experiment.seed = 0..4
training.batch_size = 64, 128
exclude = experiment.seed == 3
END

# ---- what it says ----
plan s.ini --sub-batches 3 training.steps=1ep
verdict $? "of a sweep"
says "16 runs of job = train; 4 of 20 were dropped" "counts runs"
says "model.activation     2 values: tanh, g (with training.lr)" "shows zipped axes"
says "experiment.seed      5 values: 0, 1, 2, 3, 4" "shows values"
says "3 sub-batches of 5 or 6 runs" "counts sub-batches"
says "measured on one core here, cpu" "tells the basis of its estimates"
says "results/s" "names the folder"
says "cohort submit s.ini --sub-batches 3 training.steps=1ep" "prints the submit line"
says "sbatch --array=1-3 slurm/sweep.sbatch s.ini training.steps=1ep" "prints the sbatch line"
[ ! -e results ]
verdict $? "writes nothing"
plan s.ini --sub-batches 20
says "4 of them are empty" "tells of empty sub-batches"
plan s.ini "experiment.name=it's me"
says "s.ini 'experiment.name=it'\\''s me'" "quotes for the shell"
plan s.ini model.name=dense_7_x
says "warning: 16 of them would fail; the first one: s.ini: run 0: " "warns of wrong networks"
plan s.ini "sweep.training.optimizer=sgd, adam" training.momentum=0.5
says "warning: 16 of them would fail; the first one: override: run 1 (" "warns of wrong runs"
plan s.ini dataset.name=file dataset.file=a.npz model.name=dense_3_2
says "not known" "does not open files of the user"
plan "$example"
verdict $? "of configs/sweep_example.ini"

# ---- the list ----
"$cohort" plan s.ini --sub-batches 3 --list >list.csv
verdict $? "lists"
[ "$(wc -l <list.csv)" -eq 17 ] && [ "$(head -1 list.csv)" = \
  "run,sub_batch,pack,training.lr,model.activation,experiment.seed,training.batch_size,run_id" ]
verdict $? "a header and a line a run"
[ "$(cut -d, -f1 list.csv | tail -n +2 | tr '\n' ' ')" = "$(seq 0 15 | tr '\n' ' ')" ] &&
  [ "$(cut -d, -f2 list.csv | tail -n +2 | sort | uniq -c | awk '{print $1}' | tr '\n' ' ')" = "5 5 6 " ] &&
  [ "$(cut -d, -f8 list.csv | sort -u | wc -l)" -eq 17 ]
verdict $? "runs in order, in their sub-batches, each with an identity of its own"
"$cohort" plan s.ini --list "sweep.model.name='a,b', c" sweep.zip= sweep.model.activation= |
  grep -q '^0,1-1,[^,]*,0.1,0,64,"a,b",[0-9a-f]*$'
verdict $? "quotes cells with commas"
"$cohort" plan s.ini --list >/dev/full 2>err
[ $? -eq 1 ] && grep -q "cannot write" err
verdict $? "a full disk is told"

# ---- what is planned is what is run ----
short=(training.steps=1ep dataset.subsample_fraction=0.01 "sweep.experiment.seed=0..1")
"$cohort" run "$example" "${short[@]}" >out 2>&1
verdict $? "configs/sweep_example.ini runs"
"$cohort" plan "$example" --list "${short[@]}" >list.csv
column() { # NAME FILE
  awk -F, -v name="$1" 'NR == 1 { for (i = 1; i <= NF; i++) if ($i == name) at = i; next }
    { print $at }' "$2"
}
table=results/sweep_example/1-1/runs.csv
[ -s $table ] && [ "$(column run_id list.csv)" = "$(column run_id $table)" ] &&
  [ "$(column run list.csv)" = "$(column run $table)" ] &&
  [ "$(column run_id $table | wc -l)" -eq 16 ] &&
  [ -d "results/sweep_example/1-1/packs/$(column pack list.csv | head -1)" ]
verdict $? "and leaves the runs and the pack that the plan lists"

# ---- wrong input ----
refuses "no file" "usage: cohort plan"
refuses "an unknown option" 'no option "--lits"' s.ini --lits
refuses "no number of sub-batches" "whole number from 1" s.ini --sub-batches
refuses "zero sub-batches" '"0": expected a whole number' s.ini --sub-batches 0
refuses "sub-batches that are no number" '"3x"' s.ini --sub-batches=3x
refuses "a wrong value of an axis" 'training.lr = "x": expected a number' s.ini sweep.training.lr=x
refuses "parameters of no teacher" "no teacher.config" s.ini teacher:training.lr=1
refuses "an override of an axis" "is an axis of the sweep" s.ini training.lr=1
refuses "a file without sweep" "has no [sweep] section" s.ini sweep.zip= sweep.exclude= \
  sweep.training.lr= sweep.model.activation= sweep.experiment.seed= sweep.training.batch_size=
refuses "a sweep of which no run is valid" "milestones need" s.ini \
  training.plateau=shared training.milestone_steps=1ep
refuses "a condition that leaves none" "leaves none of 20 runs" s.ini "sweep.exclude=experiment.seed < 9"

cat >choice.ini <<'I'
[experiment]
job = train
[dataset]
name = fashion_mnist
[model]
name = dense_784_4_10
[training]
finish_steps = 30
[sweep]
training.finish = none, lbfgs
I
plan choice.ini
[ $? -eq 0 ] && grep -q "2 runs" out
verdict $? "a run need not read what only others' choice reads"
refuses "what no run reads" "is read only if training.finish is not none" choice.ini \
  sweep.training.finish= sweep.experiment.seed=1,2

plan nowhere.ini
[ $? -eq 1 ] && grep -q "nowhere.ini" out
verdict $? "a file that is not there is told"

# ---- size: generous limits, for a busy machine; a tenth of the time is usual ----
for list in "" --list; do
  start=$(date +%s%N)
  # shellcheck disable=SC2086
  (ulimit -v 1000000; "$cohort" plan s.ini $list sweep.experiment.seed=0..24999 sweep.exclude= \
    >out 2>err)
  status=$? took=$((($(date +%s%N) - start) / 1000000))
  [ $status -eq 0 ] && [ $took -lt 5000 ]
  verdict $? "100,000 runs in seconds ${list}"
done
[ "$(wc -l <out)" -eq 100001 ]
verdict $? "100,000 runs, all listed"
python3 - "$cohort" <<'END'
import resource, subprocess, sys
subprocess.run([sys.argv[1], "plan", "s.ini", "sweep.experiment.seed=0..24999", "sweep.exclude="],
               stdout=subprocess.DEVNULL, check=True)
kilobytes = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
sys.exit(kilobytes > 64000)
END
verdict $? "100,000 runs within 64 MB"
exit $failed
