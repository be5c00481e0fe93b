#!/bin/bash
# test_status.sh BUILD - `cohort status` and `cohort merge` as a user meets them: what they say
# of a sweep in any state, that the lines they print run what is left, and that the merged table
# is the same however the sweep was run.
set -u
cd "$(dirname "$0")/.." || exit 1
. tests/env.sh "$1"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cohort=$PWD/bin/cohort
failed=0

verdict() { # NAME COMMAND...: COMMAND decides; every test ends here
  local name=$1
  shift
  if "$@" >"$work/verdict" 2>&1; then
    echo "ok $name"
  else
    echo "not ok $name"
    cat "$work/verdict" "$work/out"
    failed=1
  fi
}

# ends STATUS COMMAND...: runs cohort in $work, output in $work/out
ends() {
  local want=$1 got
  shift
  (cd "$work" && "$cohort" "$@") >"$work/out" 2>&1
  got=$?
  [ "$got" -eq "$want" ] || echo "exit status $got, not $want"
  [ "$got" -eq "$want" ]
}

says() { grep -qF -- "$1" "$work/out" || { echo "'$1' is not in:" && false; }; }
lacks() { ! grep -qF -- "$1" "$work/out"; }

sub() { # K/N [option...]: runs a sub-batch
  local part=$1
  shift
  (cd "$work" && "$cohort" run s.ini --sub-batch "$part" experiment.quiet=true "$@") \
    >"$work/log" 2>&1
}

cat >"$work/s.ini" <<'I'
[experiment]
job = train
name = try
[dataset]
name = mnist
subsample_fraction = 0.004
[model]
name = dense_784_4_10
activation = identity
[training]
steps = 1ep
batch_size = 50
[sweep]
training.lr = 1e-2, 1e30
model.name = dense_784_4_10, dense_784_3_10
experiment.seed = 0..2
I
# runs 0-5 are good, 6-11 have a learning rate that gives no numbers

# ---- a sweep on its way ------------------------------------------------------------------

verdict "nothing is there yet" ends 0 status s.ini
verdict "all is missing" says "missing       12  0..11"
verdict "the line that runs all" says "mpirun -n 2 cohort run s.ini"
verdict "nothing to merge" ends 2 merge results/try

sub 2/4
verdict "one sub-batch is done" ends 0 status results/try/
verdict "its runs are done" says "done           3  3..5"
verdict "the others are missing" says "missing        9  0..2, 6..11"
verdict "the array that runs them" says "COHORT_SUB_BATCHES=4 sbatch --array=1,3-4 "
verdict "the loop that runs them" \
  says "for k in 1 3 4; do mpirun -n 2 cohort run results/try/sweep.ini --sub-batch \$k/4; done"
verdict "merge of a part" ends 3 merge results/try
verdict "merge tells what is missing" says "missing        9  0..2, 6..11"
verdict "merge prints the array, too" says "--array=1,3-4 "

sub 3/4
verdict "a sub-batch with failures" ends 0 status s.ini
verdict "its runs have failed" says "failed         3  6..8"
verdict "why they failed" grep -qE '^ +6  training.lr=1e\+?30 model.name=dense_784_4_10 experiment.seed=0: .*NaN' "$work/out"
verdict "failed runs want --retry" says "s.ini --retry"

# a start that was killed between publishing a pack and writing the table
mv "$work/results/try/2-4/runs.csv" "$work/table"
verdict "submit looks at packs, not at tables" ends 0 submit s.ini --sub-batches 4 --resume --dry-run
verdict "done sub-batches are not submitted again" says "--array=1,3,4 "
verdict "failed runs are tried again" says "s.ini --retry"
mv "$work/table" "$work/results/try/2-4/runs.csv"

# ---- who works ---------------------------------------------------------------------------

mkdir -p "$work/results/try/4-4/attempts"
attempt() { # SECONDS: an attempt of 4/4 whose heart beat that long ago
  cat >"$work/results/try/4-4/attempts/2.json" <<'J'
{"format": 1, "attempt": 2, "token": "t", "host": "n17", "pid": 1, "slurm_job": "88_4",
 "started": "2026-01-01T00:00:00Z", "ended": null, "status": "running", "runs": 3, "sweep": "x"}
J
  touch -d "-$1 seconds" "$work/results/try/4-4/attempts/2.json"
}
attempt 20
verdict "one is running" ends 0 status s.ini
verdict "its runs are running" says "running        3  9..11"
verdict "who runs it" grep -qE '4-4 +0/3 done, running, last heartbeat 2. s ago, on n17, job 88_4, attempt 2' "$work/out"
verdict "it is not started again" says "--array=1,3 "
verdict "merge leaves it alone" ends 3 merge results/try
verdict "merge tells of it" says "running        3  9..11"
attempt 1000
verdict "one is stale" ends 0 status s.ini
verdict "its runs are stale" says "stale          3  9..11"
verdict "since when" says "4-4       0/3 done, stale, last heartbeat 17 min ago"
verdict "it is started again" says "--array=1,3-4 "
verdict "the list" ends 0 status s.ini --list
list() {
  /usr/bin/python3 - "$work/out" <<'P'
import sys, pandas
t = pandas.read_csv(sys.argv[1])
assert list(t.run) == list(range(12))
assert list(t.status) == 3 * ["missing"] + 3 * ["done"] + 3 * ["failed"] + 3 * ["stale"]
assert t.error.notna().sum() == 3 and t.host[9] == "n17" and t.heartbeat_s[9] > 900
P
}
verdict "the list opens in pandas" list

mkdir "$work/bin"
printf '#!/bin/sh\necho 91 1; echo 91 2; echo 55 3\n' >"$work/bin/squeue"
chmod +x "$work/bin/squeue"
cat >"$work/results/try/submit.json" <<'J'
{"format": 1, "submissions": [{"sub_batches": 4, "jobs": [{"id": "91", "offset": 0}]}]}
J
PATH=$work/bin:$PATH verdict "SLURM has one" ends 0 status s.ini
PATH=$work/bin:$PATH verdict "which is queued" says "queued         3  0..2"
PATH=$work/bin:$PATH verdict "and not submitted again" says "--array=3-4 "
rm -r "$work/results/try/submit.json" "$work/results/try/4-4"

# ---- the rest is run as the lines say ----------------------------------------------------

(cd "$work" && "$cohort" status results/try) >"$work/out"
lines=$(sed -n 's/^  \(for k in.*\)/\1/p' "$work/out")
(cd "$work" && PATH=$(dirname "$cohort"):$PATH && eval "$lines") >"$work/log" 2>&1
verdict "the loop ran what was left" ends 0 status s.ini
verdict "good runs are done" says "done           6  0..5"
verdict "bad ones have failed again" says "failed         6  6..11"
verdict "merge with failed runs" ends 3 merge results/try
verdict "which it tells" says "failed         6  6..11"

rows() { /usr/bin/python3 -c "
import sys, csv
for r in csv.reader(open(sys.argv[1])): print(r[:-4])" "$1"; }
same() { diff <(rows "$work/results/try/runs.csv") <(rows "$1"); }
(cd "$work" && mpirun -n 1 "$cohort" run s.ini experiment.results=one experiment.quiet=true) \
  >"$work/log" 2>&1
verdict "merge of an undivided sweep" ends 3 merge one/try
verdict "the same table but for the last four columns" same "$work/one/try/runs.csv"
verdict "those four" grep -qE '^run,run_id,.*,time_s,hosts,sub_batch,folder$' "$work/one/try/runs.csv"

# ---- elsewhere ---------------------------------------------------------------------------

verdict "two places need a third" ends 2 merge results/try one/try
verdict "two places into a third" ends 3 merge results/try one/try -o both
verdict "results that agree" says "results were there more than once, and the same"
verdict "the table of both" same "$work/both/runs.csv"
verdict "what was merged is merged" ends 3 merge both -o again
verdict "and stays the same" cmp "$work/both/runs.csv" "$work/again/runs.csv"
verdict "models are copied" ends 3 merge both -o copies --copy
models() {
  /usr/bin/python3 - "$work" <<'P'
import sys, h5py, numpy
a, b = (h5py.File(f"{sys.argv[1]}/{d}/runs.h5")["runs"] for d in ("both", "copies"))
assert list(a) == list(b) == [f"{i:02}" for i in range(6)]
for run in a:
    first, n = a[run].attrs["first"], a[run].attrs["members"]
    w = a[run]["model/fc_layers.0.weight"][first:first + n]
    assert n == 1 and numpy.array_equal(w, b[run]["model/fc_layers.0.weight"][:])
P
}
verdict "runs.h5 has the models" models
verdict "a folder with other sub-batches is refused" ends 2 merge one/try -o results/try
verdict "a sub-batch needs a place" ends 2 merge results/try/2-4
verdict "a sub-batch alone" ends 3 merge results/try/2-4 -o part
sed 's/0\.\.2/0..3/' "$work/s.ini" >"$work/t.ini"
verdict "a longer sweep" ends 0 status t.ini
verdict "is not that of the folder" says "is of another sweep"
verdict "runs that both have count" says "done           6  0..2, 4..6"
verdict "another sweep in OUT is refused" bash -c "
  cd '$work' && '$cohort' run t.ini --sub-batch 1/8 experiment.name=long >log 2>&1 &&
  ! '$cohort' merge results/long -o both >out 2>&1 && grep -q 'of another sweep' out"
verdict "different sweeps need to be told which" ends 2 merge results/long results/try -o mixed

# ---- damage ------------------------------------------------------------------------------

pack=$(echo "$work"/results/try/2-4/packs/*)
truncate -s -9 "$pack/runs.csv"
verdict "a damaged pack" ends 0 status results/try
verdict "is told" says "$(basename "$pack")/runs.csv: truncated or changed"
verdict "its runs are missing" says "missing        3  3..5"
verdict "merge with a damaged pack" ends 3 merge results/try
verdict "merge tells it, too" says "runs.csv: truncated"
sub 2/4
verdict "its runs are run again" ends 3 merge results/try
verdict "with the same numbers" same "$work/one/try/runs.csv"

truncate -s -9 "$pack/runs.csv"
sub 2/4
verdict "damaged again, they are run again" ends 3 merge results/try
verdict "and both are kept aside" test -d "$pack.damaged" -a -d "$pack.2.damaged"

# another result of run 4, as a pack that is whole
forge() {
  /usr/bin/python3 - "$work/one/try/1-1/packs" <<'P'
import csv, glob, hashlib, json, os, sys
def hashed(b): return hashlib.blake2b(b, digest_size=16).hexdigest()
for folder in glob.glob(sys.argv[1] + "/*"):
    path = folder + "/runs.csv"
    rows = list(csv.reader(open(path)))
    for r in rows[1:]:
        if r[0] == "4": r[rows[0].index("train_loss")] = "7.5"
    with open(path, "w", newline="") as f: csv.writer(f, lineterminator="\n").writerows(rows)
    pack = json.load(open(folder + "/pack.json"))
    pack["table"] = hashed(open(path, "rb").read())
    del pack["checksum"]
    text = json.dumps(pack, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    pack["checksum"] = hashed(text.encode())
    json.dump(pack, open(folder + "/pack.json", "w"))
P
}
verdict "a forged result" forge
verdict "results that differ" ends 4 merge results/try one/try -o differ
verdict "are told" says "run 4 has two results: train_loss is '"
verdict "both" says "and '7.5' in 1-1/packs/"
verdict "as a conflict" says "conflict       1  4"
verdict "both stand in the table" test "$(grep -c '^4,.*,conflict,' "$work/differ/runs.csv")" = 2

verdict "wrong options" ends 2 merge --no-such
verdict "an option without its value" ends 2 merge results/try -o
verdict "is told" says "-o without a folder"

# paths with blanks: the lines that are printed can be given to a shell
mkdir "$work/a b" && cp "$work/s.ini" "$work/a b/it's.ini"
verdict "a sub-batch below a blank" ends 0 run "a b/it's.ini" --sub-batch 1/16 \
  experiment.results="my results" experiment.quiet=true
verdict "its folder" ends 0 status "my results/try"
verdict "is quoted" says "run 'my results/try/sweep.ini' --sub-batch"
verdict "its file" ends 0 status "a b/it's.ini" experiment.results="my results"
verdict "is quoted too" says "run 'a b/it'\\''s.ini' --sub-batch"

# single runs and sweeps do not share a folder, whose table each would write
single() { ends "$1" run s.ini "sweep.training.lr=" "sweep.model.name=" "sweep.experiment.seed=" \
    experiment.quiet=true "${@:2}"; }
table=$(md5sum "$work/results/try/runs.csv")
verdict "a single run where a sweep is" single 2
verdict "is refused" says 'experiment.name = "try": results/try is the folder of a sweep'
verdict "and leaves the table" test "$(md5sum "$work/results/try/runs.csv")" = "$table"
verdict "a single run elsewhere" single 0 experiment.name=alone
table=$(md5sum "$work/results/alone/1-1/runs.csv")
verdict "a sweep where single runs are" ends 2 run s.ini experiment.name=alone
verdict "is refused too" says 'results/alone/1-1/runs holds runs that are no sweep'
verdict "and leaves their table" test "$(md5sum "$work/results/alone/1-1/runs.csv")" = "$table"

verdict "another sweep of that name" ends 2 run s.ini training.steps=2ep
verdict "is told by section and key" says "now training.steps = 2ep"
verdict "help of a command" ends 0 help plan
verdict "is its usage" says "usage: cohort plan CONFIG.ini"
verdict "wrong options of status" ends 2 status s.ini --no-such
verdict "no sweep" ends 2 status "$PWD/tests/configs/teacher.ini"
verdict "help" ends 0 merge --help

exit $failed
