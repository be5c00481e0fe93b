#!/bin/bash
# test_pairs.sh BUILD - dataset.name = file: trainings on the user's own arrays, with targets and
# with labels, from .npz and HDF5; what they measure is what NumPy computes from model.h5; files
# that do not fit are refused with file, array and row.
set -u
cd "$(dirname "$0")/.." || exit 1
. tests/env.sh "$1"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
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

/usr/bin/python3 - "$work" <<'P' || exit 1
import sys, numpy as np, h5py
w = sys.argv[1]
r = np.random.default_rng(0)
X, T = r.standard_normal((300, 2)), r.standard_normal((40, 2))
f = lambda x: np.tanh(x @ [[1.0, 2.0], [0.5, -1.0]])
good = dict(X=X, Y=f(X), X_test=T, Y_test=f(T))
np.savez(w + "/targets.npz", **good)
with h5py.File(w + "/targets.h5", "w") as h:
    for k, v in good.items(): h[k] = v
np.savez(w + "/labels.npz", X=X, labels=(X[:, 0] > 0).astype("i4") + (X[:, 1] > 0))
bad = X.copy(); bad[7, 1] = np.nan
np.savez(w + "/nan.npz", X=bad, Y=f(X))
np.savez(w + "/rows.npz", X=X, Y=f(X)[:-1])
np.savez(w + "/class.npz", X=X, labels=np.where(np.arange(300) == 5, 0.5, 1))
np.savez(w + "/test.npz", X=X, Y=f(X), X_test=T[:, :1], Y_test=f(T))
np.savez(w + "/nothing.npz", X=X)
P
cat >"$work/own.ini" <<'I'
[experiment]
job = train
name = own
quiet = true
[dataset]
name = file
file = targets.npz
[model]
name = dense_2_5_2
activation = tanh
[training]
optimizer = adam
lr = 1e-2
batch_size = 64
steps = 5ep
precision = float64
I
run() { # RESULTS OVERRIDE...
  local results=$work/$1
  shift
  bin/cohort run "$work/own.ini" experiment.results="$results" "$@" >"$work/log" 2>&1
}
table() { # RESULTS
  cat "$work/$1/own/1-1/runs.csv"
}

# ---- what is measured ---------------------------------------------------------------------

verdict "targets from .npz" run npz
verdict "the same from HDF5" run h5 dataset.file=targets.h5
same_numbers() {
  diff <(table npz | grep -o 'done,.*' | cut -d, -f2-3) <(table h5 | grep -o 'done,.*' | cut -d, -f2-3)
}
verdict "with the same numbers" same_numbers
measured() {
  /usr/bin/python3 - "$work" <<'P'
import sys, glob, h5py, numpy as np, pandas
w = sys.argv[1]
row = pandas.read_csv(w + "/npz/own/1-1/runs.csv").iloc[0]
data = np.load(w + "/targets.npz")
arrays = {}
with h5py.File(glob.glob(w + "/npz/own/1-1/runs/*/seed_0/model.h5")[0]) as f:
    f.visititems(lambda n, o: arrays.update({n: o[()]}) if hasattr(o, "shape") else None)
def loss(x, y):
    h = np.tanh(x @ arrays["fc_layers.0.weight"][0].T + arrays["fc_layers.0.bias"][0])
    d = h @ arrays["fc.weight"][0].T + arrays["fc.bias"][0] - y
    return (d ** 2).mean()
for name, x, y in [("train_loss", data["X"], data["Y"]), ("test_loss", data["X_test"], data["Y_test"])]:
    assert abs(row[name] / loss(x, y) - 1) < 1e-12, (name, row[name], loss(x, y))
P
}
verdict "losses are those of NumPy" measured
verdict "labels, without a test set" run labels dataset.file=labels.npz model.name=dense_2_5_3
no_test() {
  table labels | head -1 | grep -q train_accuracy && ! table labels | head -1 | grep -q test_
}
verdict "measure accuracy on what there is" no_test
other_content() { # another content is another run
  cp "$work/labels.npz" "$work/copy.npz"
  run copies dataset.file=copy.npz model.name=dense_2_5_3 || return 1
  run copies dataset.file=labels.npz model.name=dense_2_5_3 || return 1
  [ "$(table copies | wc -l)" = 2 ] || return 1
  cp "$work/targets.npz" "$work/copy.npz"
  run copies dataset.file=copy.npz && [ "$(table copies | wc -l)" = 3 ]
}
verdict "content names the run, not the file's name" other_content

# ---- what is refused ------------------------------------------------------------------------

refused() { # MESSAGE OVERRIDE...
  local message=$1
  shift
  run refused "$@" && return 1
  grep -q -- "$message" "$work/log" && [ ! -e "$work/refused/own/1-1/runs.csv" ]
}
verdict "NaN" refused "nan.npz: X: expected a finite number at row 7, column 1" dataset.file=nan.npz
verdict "too few rows" refused "rows.npz: Y: expected 300 rows of numbers, found 299" \
  dataset.file=rows.npz
verdict "half a class" refused "class.npz: labels: expected a class counted from 0 at row 5" \
  dataset.file=class.npz
verdict "a test set of other width" refused "test.npz: X_test must have as many columns" \
  dataset.file=test.npz
verdict "no answers" refused "nothing.npz" dataset.file=nothing.npz
verdict "too many outputs" refused "it has 3 outputs, but the data have 2 targets" \
  model.name=dense_2_5_3
verdict "no file" refused "none.npz" dataset.file=none.npz
verdict "no file named" refused "expected a file, since dataset.name = file" dataset.file=
verdict "a file with another set" refused "is read only with dataset.name = file" \
  dataset.name=mnist
exit $failed
