#!/bin/bash
# test_compress.sh BUILD - job = compress: the configurations in configs/, shortened, give the same
# rows and networks on one rank and on two, in sub-batches, stopped and gone on with; what they
# leave fits together; wrong configurations end with a message.
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

# Lengths of seconds; all six procedures.
short="compress.min_epochs=40 compress.max_epochs=160 compress.finetuning_max_epochs=60
  compress.smoothing_window=20 compress.prune_window=10 compress.layerwise_pruning_lr=2e-2"
drawn="$short sweep.compress.procedure=pmmp,rl1,drr,layerwise,fpp,none
  sweep.compress.alpha=0,0.02 sweep.experiment.seed=0..1 compress.delete_neurons=true"

compress() { # RANKS RESULTS [option...]: the teacher-student sweep; output in $work/log
  local ranks=$1 results=$work/$2
  shift 2
  mpirun --oversubscribe -n "$ranks" bin/cohort run configs/compress_teacher_student.ini $drawn \
    experiment.results="$results" experiment.quiet=true "$@" >"$work/log" 2>&1
}

rows() { # FILE...: in the order of the sweep, without what tells how they were run
  /usr/bin/python3 - "$@" <<'P'
import sys, pandas
t = [pandas.read_csv(f, dtype=str) for f in sys.argv[1:]]
t = pandas.concat(u for u in t if len(u))
t = t.drop(columns=["time_s", "hosts", "folder", "member", "members"])
print(t.sort_values("run", key=lambda c: c.astype(int)).to_csv(index=False))
P
}

ts=compress_teacher_student
same() { # RESULTS: as those of $work/one
  diff <(rows "$work/one/$ts/1-1/runs.csv") <(rows "$work/$1/$ts"/*-*/runs.csv)
}

# ---- teacher-student ---------------------------------------------------------------------

verdict "the sweep runs" compress 1 one
verdict "all of it is done" test "$(grep -c ,done, "$work/one/$ts/1-1/runs.csv")" = 24
compress 2 two
verdict "the same on two ranks" same two
compress 1 split --sub-batch 1/2 && compress 2 split --sub-batch 2/2
verdict "the same in sub-batches" same split

sound() { # what stands in the table and in the files of its packs
  /usr/bin/python3 - "$work/one/$ts/1-1" <<'P'
import sys, pathlib, numpy as np, pandas as pd, h5py
base = pathlib.Path(sys.argv[1])
t = pd.read_csv(base / "runs.csv")
assert (t.parameters == 751).all()
assert np.allclose(t.compression_rate, 751 / t.l0_norm)
none = t["compress.procedure"] == "none"
assert (t.l0_norm[none] == 751).all() and (t.l0_norm[~none] < 751).all()
assert t.gate_violations.notna().eq(t["compress.procedure"].isin(["pmmp", "fpp"])).all()
narrow = 0
for i, row in t.iterrows():
    pack = base / row.folder
    with h5py.File(pack / "model.h5") as m, h5py.File(pack / "masks.h5") as k:
        names = [n for n in m if n.startswith("fc")]
        masks = {n: k[n][row.member] for n in names}
        params = {n: m[n][row.member] for n in names}
    assert sum(v.sum() for v in masks.values()) == row.l0_norm
    for n in names:
        assert set(np.unique(masks[n])) <= {0, 1} and not params[n][masks[n] == 0].any()
    file = pack / "narrow" / f"{row.member}.h5"
    assert file.exists(), file
    with h5py.File(file) as f:
        width = f["sizes"][()]
        x = np.random.default_rng(0).uniform(-1, 1, (50, 2))
        def apply(p):
            a = x
            for l in range(2):
                a = np.tanh(a @ p[f"fc_layers.{l}.weight"].T + p[f"fc_layers.{l}.bias"])
            return a @ p["fc.weight"].T + p["fc.bias"]
        small = apply({n: f[n][0].astype(float) for n in names})
    assert np.allclose(small, apply({n: v.astype(float) for n, v in params.items()}), atol=1e-5)
    narrow += width[1] + width[2] < 50
assert narrow > 0
original = pd.concat(pd.read_csv(f) for f in base.glob("packs/*/original.csv"))
assert len(original) == 24 and len(original.columns) == 64
assert list(original.columns[:3]) == ["architecture", "optimization_procedure", "dataset"]
assert list(original.columns[12:15]) == ["α", "β", "ρ"]
assert original.columns[50] == "seed" and original.columns[-1] == "l0_norm"
assert sorted(original.l0_norm) == sorted(t.l0_norm)
assert (original.architecture_student == "[2, 25, 25, 1]").all()
assert (original.dev == "cpu_device").all() and (original.optimizer == "Adam").all()
curves = pd.read_csv(base / t.folder[0] / "metrics.csv")
assert {"train_loss", "val_loss", "test_loss", "l0_mask", "sigma"} <= set(curves.name)
P
}
compress 1 curves training.evaluate_every=20ep
verdict "curves change no number" same curves
mv "$work/curves" "$work/one.curves" && rm -r "$work/one" && mv "$work/one.curves" "$work/one"
verdict "table, networks, masks and narrow networks fit together" sound
verdict "status and merge" eval "bin/cohort status '$work/one/$ts' && bin/cohort merge '$work/one/$ts'"
verdict "plan" eval "bin/cohort plan configs/$ts.ini | grep -q '270 runs of job = compress'"

# ---- a stop -------------------------------------------------------------------------------

cat >"$work/single.ini" <<'I'
[experiment]
job = compress
[dataset]
name = teacher_student
[model]
name = dense_2_25_25_1
activation = tanh
[compress]
procedure = pmmp
alpha = 0.05
min_epochs = 20000
max_epochs = 20000
finetuning_min_epochs = 3000
finetuning_max_epochs = 3000
smoothing_window = 100
I
run_single() { # RESULTS [option...]
  local results=$work/$1
  shift
  bin/cohort run "$work/single.ini" experiment.results="$results" "$@" >"$work/log" 2>&1
}
stopped() { # stops once on the way, goes on
  local pid rc
  bin/cohort run "$work/single.ini" experiment.results="$work/stop" >"$work/log" 2>&1 &
  pid=$!
  for _ in $(seq 100); do
    sleep 0.1
    [ -e "$work"/stop/experiment/1-1/runs/*/seed_0/manifest.json ] && break
  done
  sleep 0.4
  kill -USR1 $pid
  wait $pid
  rc=$?
  [ $rc = 75 ] || [ $rc = 0 ] || return 1
  run_single stop
}
verdict "a single run" run_single whole
verdict "a stop and going on" stopped
network() { # RESULTS
  echo "$work/$1"/experiment/1-1/runs/*/seed_0/model.h5
}
verdict "the same network after a stop" \
  /usr/bin/python3 tests/same_h5.py "$(network whole)" "$(network stop)"

# ---- LeNet-300-100 ------------------------------------------------------------------------

lenet() { # RANKS RESULTS: shortened, on Fashion-MNIST, of which Debian has a package
  mpirun --oversubscribe -n "$1" bin/cohort run configs/compress_lenet_300_100.ini \
    experiment.results="$work/$2" experiment.quiet=true dataset.name=fashion_mnist \
    training.batch_size=100 compress.train_set_size=600 compress.val_set_size=200 \
    compress.min_epochs=6 compress.max_epochs=6 compress.finetuning_min_epochs=2 \
    compress.finetuning_max_epochs=3 compress.prune_window=2 compress.smoothing_window=6 \
    sweep.compress.alpha=1e-3 >"$work/log" 2>&1
}
len=compress_lenet_300_100
lenet_sound() {
  diff <(rows "$work/lenet1/$len/1-1/runs.csv") <(rows "$work/lenet2/$len/1-1/runs.csv") &&
    /usr/bin/python3 - "$work/lenet1/$len/1-1/runs.csv" <<'P'
import sys, pandas as pd
t = pd.read_csv(sys.argv[1])
assert len(t) == 3 and (t.status == "done").all() and (t.parameters == 266610).all()
assert (t.final_accuracy_testset > 0.4).all(), t.final_accuracy_testset
assert (t.l0_norm < 266610).all() and (t.description_length > 0).all()
P
}
verdict "LeNet-300-100" lenet 1 lenet1
lenet 2 lenet2
verdict "LeNet-300-100 is the same on two ranks, and learns" lenet_sound

# ---- wrong configurations -------------------------------------------------------------------

refused() { # EXPECTED OVERRIDE...: status 2 and this in the message
  local expected=$1 rc
  shift
  bin/cohort run "$work/single.ini" experiment.results="$work/wrong" "$@" >"$work/log" 2>&1
  rc=$?
  [ $rc = 2 ] && grep -qF -- "$expected" "$work/log"
}
for model in lenet_5 lenet_5_caffe vgg16; do
  verdict "$model needs convolution" refused "needs convolution" model.name=$model
done
verdict "max_epochs below min_epochs" refused "expected at least compress.min_epochs" \
  compress.max_epochs=10
verdict "beta without drr" refused "is read only if compress.procedure = drr" compress.beta=3
verdict "a Gaussian loss of classes" refused "needs real targets" dataset.name=fashion_mnist \
  model.name=mnist_lenet_300_100 compress.gauss_loss=true
verdict "a penalty with a negative strength" refused "expected a number of at least 0" \
  compress.alpha=-1
verdict "several networks in a run" refused "is one network" \
  "model.name=students_dense(3)_2_25_25_1"
verdict "replicas" refused "deals whole networks to ranks" ranks.replicas=2
verdict "masks that are not kept" refused "expected true" \
  compress.multiply_mask_after_each_batch=false
verdict "normalised drr with a Gaussian loss" refused "only without a Gaussian loss" \
  compress.procedure=drr compress.norm=true
verdict "a split larger than the set" refused "has 60000 samples" dataset.name=fashion_mnist \
  model.name=mnist_lenet_300_100 compress.train_set_size=60000
verdict "a teacher of unknown family" refused "compress.architecture_teacher" \
  compress.architecture_teacher=2_5_8_1
sed '/^\[compress\]/,$d; s/job = compress/job = train/' "$work/single.ini" >"$work/train.ini"
not_for_train() {
  ! bin/cohort run "$work/train.ini" >"$work/log" 2>&1 && grep -q "only job = compress" "$work/log"
}
verdict "job = train draws no teacher" not_for_train
exit $failed
