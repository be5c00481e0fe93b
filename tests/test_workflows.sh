#!/bin/bash
# test_workflows.sh BUILD - what a user does, from the README: every configuration shipped
# (shortened), clustering again without training again, further training, two hidden layers,
# every command, and the files opened with one line of Python.
set -u
cd "$(dirname "$0")/.." || exit 1
. tests/env.sh "$1"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cohort=$PWD/bin/cohort
failed=0

run() { # RANKS CONFIG [override...]: output in $work/log, status in $rc
  local ranks=$1 file=$2
  shift 2
  timeout 300 mpirun --oversubscribe -n "$ranks" "$cohort" run "$file" "$@" \
    >"$work/log" 2>&1
  rc=$?
}

check() { # NAME COMMAND...
  local name=$1
  shift
  if "$@" >>"$work/log" 2>&1; then
    echo "ok $name"
  else
    echo "not ok $name"
    cat "$work/log"
    failed=1
  fi
}

python() { /usr/bin/python3 "$@"; }
succeeded() { [ "$rc" = 0 ]; }
log_has() { grep -qE -- "$1" "$work/log"; }
log_lacks() { ! grep -qE -- "$1" "$work/log"; }

# ---- quickstart, shortened -------------------------------------------------------------------
short="teacher:dataset.subsample_fraction=0.1 teacher:training.steps=1ep query.samples=2000
  query.subsample=2000 training.steps=24ep extraction.finetune_steps=4ep
  training.milestone_steps=16ep,20ep extraction.beta=2"
# shellcheck disable=SC2086
run 2 configs/quickstart.ini experiment.results="$work/q" $short
check "quickstart.ini" succeeded
check "quickstart.ini tells why the finish ended" \
  log_has "^recovered  lbfgs .* ended: 1 (by gradient|without progress|at the step limit)  "
check "quickstart.ini prints the table" log_has "neurons found, the teacher has 4"
students=$(find "$work/q" -name students.h5)
before=$(stat -c %Y.%i "$students")

# ---- clustering again ------------------------------------------------------------------------------
# shellcheck disable=SC2086
run 2 configs/quickstart.ini experiment.results="$work/q" $short extraction.gamma=0.5
check "another gamma" succeeded
check "... trains no student again" log_lacks "^students"
check "... leaves students.h5 alone" [ "$(stat -c %Y.%i "$students")" = "$before" ]
check "... has a folder of its own" \
  [ "$(find "$work/q" -name 'extraction-*' | wc -l)" = 2 ]
check "... and a row of its own" [ "$(wc -l <"$work/q/quickstart/1-1/runs.csv")" = 3 ]
# shellcheck disable=SC2086
run 1 configs/quickstart.ini experiment.results="$work/q" $short extraction.gamma=0.5
check "the same again changes nothing" \
  [ "$(wc -l <"$work/q/quickstart/1-1/runs.csv")" = 3 ]

# ---- files in Python -----------------------------------------------------------------------------------
check "runs.csv, metrics.csv and models open in Python" python - "$work/q" <<'PY'
import glob, sys
import h5py
import pandas as pd

root = sys.argv[1]
runs = pd.read_csv(root + "/quickstart/1-1/runs.csv")
assert set(runs["extraction.gamma"]) == {0.75, 0.5}, runs
assert (runs.status == "done").all() and (runs.layer1_true_size == 4).all()
assert (runs.layer1_found_size > 0).all()
run = glob.glob(root + "/quickstart/1-1/runs/*/seed_0")[0]
metrics = pd.read_csv(run + "/metrics.csv")
last = metrics.pivot_table("value", "step", ["name", "member"]).iloc[-1]["train_loss"]
assert len(last) == 10 and last.min() > 0
with h5py.File(run + "/students.h5") as f:
    assert f["fc_layers.0.weight"].shape == (10, 8, 784), list(f)
    assert f["fc.bias"].shape == (10, 10)
with h5py.File(glob.glob(run + "/extraction-*/recovered.h5")[0]) as f:
    assert f["fc_layers.0.weight"].shape[2] == 784
PY

# ---- train: accuracy against PyTorch's own evaluation, further training ------------------------------------
check "a model's accuracy is what PyTorch says it is" python tests/accuracy.py "$work/q"
run 2 tests/configs/teacher.ini experiment.results="$work/t" training.steps=2ep
check "train" succeeded
run 2 tests/configs/teacher.ini experiment.results="$work/t" training.steps=2ep \
  training.further_training=4ep
check "further training goes on" log_has "going on at step"
model=$(find "$work/t" -name model.h5)
run 2 tests/configs/teacher.ini experiment.results="$work/u" training.steps=4ep
check "... and equals one long training" \
  python tests/same_h5.py "$model" "$(find "$work/u" -name model.h5)"
run 1 tests/configs/teacher.ini experiment.results="$work/m" experiment.members=3 \
  training.precision=float64
check "several networks, float64" succeeded

# ---- rows and manifests of runs that end otherwise ---------------------------------------------------------
rows() { # RESULTS/NAME: status of every row
  python -c "import csv, sys
print(' '.join(r['status'] for r in csv.DictReader(open(sys.argv[1]))))" "$1/1-1/runs.csv"
}
manifest() { # FOLDER: its only manifest.json below runs
  find "$1" -name manifest.json
}
run 2 tests/configs/teacher.ini experiment.results="$work/x" training.lr=1e30 \
  model.activation=relu
check "diverged" [ "$rc" = 1 ]
check "... leaves a failed row" [ "$(rows "$work/x/teacher")" = failed ]

stopped() { # CONFIG: run it and stop it by USR1 once it trains
  "$cohort" run "$1" experiment.results="$work/s" training.steps="$2" \
    experiment.checkpoint_steps=1it >"$work/log" 2>&1 &
  local pid=$!
  for _ in $(seq 600); do
    [ -n "$(find "$work/s/$3" -name checkpoint.h5 2>/dev/null)" ] && break
    sleep 0.1
  done
  kill -USR1 $pid
  wait $pid
  rc=$?
}
stopped tests/configs/extract.ini 200ep extract
check "a stop by USR1" [ "$rc" = 75 ]
check "... leaves a stopped row" [ "$(rows "$work/s/extract")" = stopped ]
check "... and a stopped manifest" \
  grep -q '"status": "stopped"' "$(manifest "$work/s/extract")"
run 1 tests/configs/extract.ini experiment.results="$work/s" training.steps=200ep
check "... and the finished rerun one row that is done" \
  [ "$rc $(rows "$work/s/extract")" = "0 done" ]
check "... which names the teacher" \
  grep -qE "teacher.run=[0-9a-f]{32}; teacher.seed=0," "$work/s/extract/1-1/runs.csv"

before=$(cat "$(manifest "$work/s/extract")" "$(manifest "$work/s/teacher")")
run 2 tests/configs/extract.ini experiment.results="$work/s" training.steps=200ep
check "a finished run looked at again keeps its manifests" \
  [ "$(cat "$(manifest "$work/s/extract")" "$(manifest "$work/s/teacher")")" = "$before" ]
sleep 1 # the time of the end, in whole seconds
run 1 tests/configs/extract.ini experiment.results="$work/s" training.steps=200ep \
  extraction.beta=3
check "... another clustering does not" \
  [ "$(cat "$(manifest "$work/s/extract")" "$(manifest "$work/s/teacher")")" != "$before" ]
run 1 tests/configs/extract.ini experiment.results="$work/s" training.steps=200ep \
  extraction.finetune_lr=1e30
check "... a clustering that fails leaves a row of its own" \
  [ "$rc $(rows "$work/s/extract")" = "1 done done failed" ]
check "... and is told as such in the manifest" \
  python - "$(manifest "$work/s/extract")" <<'PY'
import json, sys

m = json.load(open(sys.argv[1]))
states = [s["status"] for name, s in m["stages"].items() if name.startswith("extraction-")]
assert m["status"] == m["stages"]["students"]["status"] == "done", m
assert sorted(states) == ["done", "done", "failed"], m
PY
printf 'hash,experiment.seed\n1,2,3\n' >"$work/s/extract/1-1/runs.csv"
run 1 tests/configs/extract.ini experiment.results="$work/s" training.lr=0.5
check "a damaged runs.csv is told before the training" \
  [ "$rc $(find "$work/s/extract" -name students.h5 | wc -l)" = "1 1" ]
check "... and that it is to be mended or moved" log_has "mend it or move it away: .*runs.csv:2"

# ---- a checkpoint of another width ------------------------------------------------------------
# as another version of the rule would leave it
narrower() { # FOLDER: of its last layer's neurons one less, under its own identity
  python - "$1" <<'PY'
import sys, zlib
import h5py
import numpy as np

for name in "recovered.checkpoint.h5", "finish.recovered.checkpoint.h5":
    with h5py.File(f"{sys.argv[1]}/{name}", "r+") as f:
        for key in list(f):
            rows = f[key][()]
            if not isinstance(rows, np.ndarray) or rows.ndim != 2 or rows.shape[1] < 785:
                continue
            assert list(f[key].attrs) == ["crc32"], list(f[key].attrs)
            rows = rows[:, :-10 * (rows.shape[1] // 785)].copy()
            del f[key]
            f[key] = rows
            f[key].attrs["crc32"] = np.array([zlib.crc32(r.tobytes()) for r in rows], "u4")
PY
}
run 2 tests/configs/extract.ini experiment.results="$work/n"
folder=$(find "$work/n" -name 'extraction-*')
cp -r "$folder" "$work/wide"
check "a checkpoint of another width, made" narrower "$folder"
for ranks in 1 2; do
  run $ranks tests/configs/extract.ini experiment.results="$work/n"
  check "... starts the stage anew" succeeded
  [ $ranks = 1 ] && check "... with a warning" \
    log_has "^warning: recovered: starting anew, for .*holds 1 networks of"
  [ $ranks = 2 ] && check "... once" log_lacks "^warning: recovered: starting anew"
done
check "... and ends as it did" python tests/same_h5.py "$work/wide/recovered.h5" \
  "$folder/recovered.h5"

# ---- fine-tuning that makes it worse ----------------------------------------------------------
worse=(extraction.beta=4 extraction.finetune_lr=0.5 extraction.finetune_finish=none
  extraction.finetune_finish_steps=1000)
kept() { # the rebuilt network in recovered.h5 of the folder that is not in $before
  local folder
  folder=$(comm -13 <(echo "$before") <(find "$work/w" -name 'extraction-*' | sort))
  python tests/same_h5.py "$folder/rebuilt.h5" "$folder/recovered.h5"
}
run 2 tests/configs/extract.ini experiment.results="$work/w" extraction.beta=4
before=$(find "$work/w" -name 'extraction-*' | sort)
run 2 tests/configs/extract.ini experiment.results="$work/w" "${worse[@]}"
check "fine-tuning that raises the loss" succeeded
check "... is told" log_has "^fine-tuning raised the loss, so the rebuilt network is kept"
check "... and undone" kept
run 1 tests/configs/extract.ini experiment.results="$work/w" "${worse[@]}"
check "... and again when looked at again" kept
check "... with both losses in the row" python - "$work/w/extract/1-1/runs.csv" <<'PY'
import sys
import pandas as pd

row = pd.read_csv(sys.argv[1]).iloc[-1]
assert row.loss_rebuilt == row.loss_recovered < row.loss_finetuned, row
PY

# ---- deeper students, every symmetry class ---------------------------------------------------------------
cat >"$work/deep.ini" <<'INI'
[experiment]
job = extract
name = deep
[teacher]
model = dense_5_3_3_2
seed = 2
[query]
datagen = random
samples = 1024
[model]
name = students_dense(4)_5_5_5_2
activation = tanh
init_bias = zero
[training]
lr = 1e-2
batch_size = 256
steps = 60ep
[extraction]
gamma = 0.5
beta = 2
finetune_steps = 10ep
INI
for act in tanh sigmoid gelu relu g; do
  run 3 "$work/deep.ini" experiment.results="$work/d" model.activation=$act
  check "two hidden layers, $act" succeeded
done
check "... retrains the layers above" log_has "^above_layer_1"
run 2 "$work/deep.ini" experiment.results="$work/d" model.activation=tanh \
  extraction.method=reference extraction.mask=auto extraction.linkage=complete \
  extraction.canonical=distance
check "auto mask, complete linkage, symmetric distances" succeeded

# ---- students of growing width -------------------------------------------------------------------
cat >"$work/grow.ini" <<'INI'
[experiment]
job = extract
name = grow
[teacher]
model = dense_5_3_1
seed = 2
[query]
datagen = random
samples = 600
[model]
name = students_dense(5)_5_2_1
activation = tanh
[training]
lr = 1e-2
batch_size = 100
steps = 60ep
plateau = none
finish = lm
finish_steps = 60
[extraction]
gamma = 0.4
beta = 2
finetune_steps = 10ep
expand = auto
expand_max = 4
INI
run 2 "$work/grow.ini" experiment.results="$work/g"
check "students of growing width" succeeded
check "... are wide enough at last" log_lacks "not consistently minimal"
check "... each width in a run of its own, with a row" python - "$work/g/grow/1-1" <<'PY'
import glob, sys
import pandas as pd

runs = pd.read_csv(sys.argv[1] + "/runs.csv")
tried = runs[runs["clustering"].isna()]
widths = [int(n.split("_")[3]) for n in tried["model.name"]]
assert widths[:2] == [2, 3] and widths == sorted(widths), widths
assert len(runs) == len(tried) + 1 == len(glob.glob(sys.argv[1] + "/runs/*")) + 1
assert tried.students_minimal.iloc[-1] >= 4 and (runs.status == "done").all()
end = pd.read_csv(glob.glob(sys.argv[1] + "/runs/*_5_2_1-*/seed_0/metrics.csv")[0])
assert set(end[end.name == "finish_end"].value) <= {1, 2, 3}
PY
run 1 "$work/grow.ini" experiment.results="$work/g"
check "... none of them is trained again" log_lacks "^students  "

check "... and the run.ini of each can be run" "$cohort" show \
  "$(find "$work/g" -path '*_5_2_1-*/seed_0/run.ini')"

# ---- the other commands --------------------------------------------------------------------------------------
"$cohort" help >"$work/log" 2>&1
check "cohort help" log_has "extraction +clustering"
for section in experiment dataset query model training teacher extraction ranks device; do
  check "cohort help $section" "$cohort" help $section
done
"$cohort" show configs/quickstart.ini >"$work/log" 2>&1
check "cohort show" log_has "run hash [0-9a-f]{32}"
"$cohort" show configs/quickstart.ini training.lr=1 2>/dev/null >"$work/log.2"
check "... with another lr has another hash" \
  [ "$(head -n 1 "$work/log")" != "$(head -n 1 "$work/log.2")" ]
check "cohort version" "$cohort" version
"$cohort" frobnicate >"$work/log" 2>&1
check "unknown command" [ $? = 2 ]
"$cohort" run >"$work/log" 2>&1
check "run without a file" [ $? = 2 ]

# ---- make install ------------------------------------------------------------------------------------------------
make -s install DESTDIR="$work/root" PREFIX=/opt BUILD="$1" >"$work/log" 2>&1
check "make install" [ -x "$work/root/opt/bin/cohort" ]
check "the installed program runs" "$work/root/opt/bin/cohort" \
  show "$work/root/opt/share/cohort/configs/quickstart.ini"
exit $failed
