#!/bin/bash
# test_badinput.sh BUILD - wrong input to whole runs under mpirun: one clear error, an exit
# status that is not 0, no hang, nothing written lost. Odd but right input runs.
set -u
cd "$(dirname "$0")/.." || exit 1
. tests/env.sh "$1"
work=$(mktemp -d)
trap 'umount "$work/small" "$work/frozen" 2>/dev/null; rm -rf "$work"' EXIT
cohort=$PWD/bin/cohort
config=$PWD/tests/configs/extract.ini
teacher=$PWD/tests/configs/teacher.ini
fmnist=$(dirname "$(dpkg -L dataset-fashion-mnist | grep train-images)")
failed=0

# run RANKS CONFIG [override...]: output in $work/log, exit status in $rc
run() {
  local ranks=$1 file=$2
  shift 2
  timeout 120 mpirun --oversubscribe -n "$ranks" "$cohort" run "$file" \
    experiment.quiet=true "$@" >"$work/log" 2>&1
  rc=$?
}

verdict() { # NAME PASSED
  if [ "$2" = yes ]; then
    echo "ok $1"
  else
    echo "not ok $1"
    cat "$work/log"
    failed=1
  fi
}

# refused NAME STATUS PATTERN... : the run just made ended with STATUS and printed one line
# "cohort: ..." that matches every PATTERN
refused() {
  local name=$1 want=$2 good=yes line
  shift 2
  [ "$rc" = "$want" ] || { good=no; echo "exit status $rc, expected $want"; }
  [ "$(grep -c '^cohort: ' "$work/log")" = 1 ] || { good=no; echo "not exactly one message"; }
  line=$(grep '^cohort: ' "$work/log")
  for pattern in "$@"; do
    grep -qE -- "$pattern" <<<"$line" || { good=no; echo "no \"$pattern\" in the message"; }
  done
  verdict "$name" $good
}

# ---- data files -----------------------------------------------------------------------------
data=$work/data
fresh_data() {
  rm -rf "$data" && mkdir "$data" && cp "$fmnist"/*ubyte.gz "$data"/
}

fresh_data
head -c 100000 "$fmnist/train-images-idx3-ubyte.gz" >"$data/train-images-idx3-ubyte.gz"
run 2 "$teacher" dataset.root="$data" experiment.results="$work/r"
refused "truncated .gz" 1 "train-images-idx3-ubyte.gz"

fresh_data
printf '\377\377\377\377' |
  dd of="$data/train-images-idx3-ubyte.gz" bs=1 seek=5000000 conv=notrunc 2>/dev/null
run 2 "$teacher" dataset.root="$data" experiment.results="$work/r"
refused "corrupted .gz" 1 "train-images-idx3-ubyte.gz"

fresh_data
gunzip "$data/train-labels-idx1-ubyte.gz"
printf '\0\0\352\141' |
  dd of="$data/train-labels-idx1-ubyte" bs=1 seek=4 conv=notrunc 2>/dev/null
run 2 "$teacher" dataset.root="$data" experiment.results="$work/r"
refused "IDX header that lies" 1 "train-labels-idx1-ubyte"

run 2 "$teacher" dataset.root="$work/nowhere" experiment.results="$work/r"
refused "data folder that is not there" 1 "nowhere"

# ---- the query file ---------------------------------------------------------------------------
/usr/bin/python3 tests/make_pairs.py "$work"
cat >"$work/pairs.ini" <<'END'
[experiment]
job = extract
name = pairs
[query]
datagen = file
file = good.npz
[model]
name = students_dense(4)_5_6_2
activation = tanh
[training]
steps = 20ep
batch_size = 50
plateau = none
[extraction]
gamma = 0.5
beta = 2
finetune_steps = 2ep
END
run 2 "$work/pairs.ini" experiment.results="$work/p"
verdict "pairs from a file, no teacher" "$([ $rc = 0 ] && echo yes)"
run 2 "$work/pairs.ini" query.file=nan.npz experiment.results="$work/p"
refused "NaN in the data" 1 "nan.npz" "17" "3"

# ---- data that changed ---------------------------------------------------------------------------
fresh_data
run 1 "$teacher" dataset.root="$data" experiment.results="$work/changed"
gunzip "$data/t10k-labels-idx1-ubyte.gz"
run 2 "$teacher" dataset.root="$data" experiment.results="$work/changed" \
  training.further_training=2ep
verdict "the same data, unpacked, are the same" "$([ "$rc" = 0 ] && echo yes)"
printf '\001' | dd of="$data/t10k-labels-idx1-ubyte" bs=1 seek=100 conv=notrunc 2>/dev/null
printf '\002' | dd of="$data/t10k-labels-idx1-ubyte" bs=1 seek=101 conv=notrunc 2>/dev/null
run 2 "$teacher" dataset.root="$data" experiment.results="$work/changed" \
  training.further_training=3ep
refused "data that changed since the run began" 1 "fashion_mnist/t10k-labels-idx1-ubyte" \
  "manifest.json" "experiment.name"

# ---- configuration ------------------------------------------------------------------------------
run 2 "$config" training.batchsize=1 experiment.results="$work/r"
refused "unknown key" 2 "batchsize" "did you mean" "batch_size"
run 2 "$config" extraction.gamma=0.25 experiment.results="$work/r"
refused "gamma*N < 2" 2 "gamma" "4 students"
run 2 "$work/missing.ini"
refused "no such file" 1 "missing.ini"

cat >"$work/huge.ini" <<'INI'
[experiment]
job = extract
[teacher]
model = dense_5_3_3_1
[query]
datagen = random
samples = 50
[model]
name = students_dense(16777216)_5_16777216_16777216_1
INI
run 2 "$work/huge.ini" experiment.results="$work/r"
refused "sizes beyond what a number holds" 1 "16777216 networks of 281475110928385" "memory"

# ---- a teacher that does not fit ------------------------------------------------------------------
model=$(find "$work/p" -name recovered.h5 | head -n 1)
run 2 "$config" teacher.config= teacher.weights="$model" experiment.results="$work/r"
refused "teacher of another input size" 2 "784" "5"

# ---- results ------------------------------------------------------------------------------------------
run 2 "$config" experiment.results="$work/a"
verdict "a run to compare with" "$([ $rc = 0 ] && echo yes)"

# more ranks than students: the same numbers
run 6 "$config" experiment.results="$work/b"
same=no
if [ $rc = 0 ]; then
  model=$(cd "$work/a" && find extract -name recovered.h5) && same=yes
  /usr/bin/python3 tests/same_h5.py "$work/a/$model" "$work/b/$model" >>"$work/log" 2>&1 ||
    same=no
fi
verdict "more ranks than students" $same
run 5 "$config" experiment.results="$work/c" ranks.replicas=2
verdict "a rank to spare" "$([ $rc = 0 ] && echo yes)"
run 2 "$config" experiment.results="$work/c" ranks.replicas=3
refused "more replicas than ranks" 2 "replicas"

# a checkpoint of another configuration
good=$(find "$work/a/extract" -name checkpoint.h5 | head -n 1)
run 2 "$config" experiment.results="$work/d" training.lr=1e-3
other=$(find "$work/d/extract" -name checkpoint.h5 | head -n 1)
cp "$good" "$other"
run 2 "$config" experiment.results="$work/d" training.lr=1e-3
refused "checkpoint of another configuration" 1 "checkpoint.h5" "another configuration"
verdict "... which stays as it was" "$(cmp -s "$other" "$good" && echo yes)"

# a damaged checkpoint
truncate -s 20000 "$other"
run 2 "$config" experiment.results="$work/d" training.lr=1e-3
refused "truncated checkpoint" 1 "checkpoint.h5"

# unwritable folders, a full disk
touch "$work/file"
run 2 "$config" experiment.results="$work/file/results"
refused "results below a file" 1 "$work/file"
mkdir "$work/frozen" "$work/small"
if mount -t tmpfs -o ro tmpfs "$work/frozen" 2>/dev/null; then
  run 2 "$config" experiment.results="$work/frozen"
  refused "unwritable results" 1 "frozen" "[Rr]ead-only"
  umount "$work/frozen"
else
  echo "skip unwritable results: mount is not allowed here"
fi
if mount -t tmpfs -o size=200k tmpfs "$work/small" 2>/dev/null; then
  run 2 "$config" experiment.results="$work/small"
  refused "full disk" 1 "small"
  verdict "... leaves no temporary file" \
    "$([ -z "$(find "$work/small" -name '*.tmp')" ] && echo yes)"
  umount "$work/small"
else
  echo "skip full disk: mount is not allowed here"
fi
exit $failed
