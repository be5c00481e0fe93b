#!/usr/bin/env python3
"""recovery.py [options] - how many teachers `cohort` recovers, by both clusterings.

Rules. Part (a): a teacher is a random network of a shape below, drawn from its seed; its
inputs are 4096 samples of N(0, 1); ten students of rho times its width are trained on its
answers. A neuron of relu or leaky_relu above the first hidden layer that is on, or off,
for all but 2 % of the inputs is linear there, or dead, so that no answer tells of it: such
a teacher is drawn again, from its seed plus 100, 200, ... Part (b): teachers that were
trained on Fashion-MNIST or MNIST are asked about 20000 of these images and as many random
inputs U(-0.5, 0.5). The same students are clustered by method = robust and by
method = reference. Teachers of seeds 1 to 10 served to choose the rule; report others.

A teacher counts as recovered where every hidden layer has exactly its width and no neuron
in excess (a recovered neuron that is nearest to no neuron of the teacher). Distances are
the largest and the mean over the neurons of all layers, after fine-tuning, with all
inputs; the parameter error is the root mean square after all symmetries are resolved, and
missing where a width is wrong. Seconds are the processor time of the run of `cohort`, on
one core, for the first method with the training of the students. A run that fails, or
that takes longer than the limit, is told as such and counts as not recovered. With the
same --out and options, what is done already is not done again.
"""
import argparse
import csv
import datetime
import hashlib
import itertools
import math
import os
import resource
import signal
import subprocess
import sys
import time

ACTIVATIONS = "relu leaky_relu softplus gelu silu tanh sigmoid g".split()
SHAPES = {  # inputs, hidden widths, outputs: one for each teacher
    1: ["10_4_1", "4_4_1", "8_5_2", "16_6_1", "6_8_3"],
    2: ["8_4_4_1", "4_4_4_1", "10_6_4_2", "6_5_5_1", "12_4_6_1"],
}
IMAGES = [  # data set, hidden widths, activation
    ("fashion_mnist", "4", "tanh"),
    ("mnist", "8", "sigmoid"),
    ("mnist", "8", "relu"),
    ("fashion_mnist", "8", "softplus"),
    ("mnist", "16", "tanh"),
    ("fashion_mnist", "6_6", "tanh"),
]
METHODS = ["robust", "reference"]
DISTANCES = "w_max w_mean a_max a_mean".split()
FIELDS = ("part layers activation rho seed teacher_seed data method status found true excess "
          "w_max w_mean a_max a_mean rmse loss_before loss_after student_loss seconds "
          "recovered config").split()
LINEAR = 0.02  # share of the inputs on the rarer side of a kink
FINISH = {(1, 2): 200, (1, 4): 60, (2, 2): 60, (2, 4): 12}  # iterations of students
SECONDS = {("a", 1): 40, ("a", 2): 100, ("b", 1): 240, ("b", 2): 240}  # limits

SYNTHETIC = """[experiment]
job = extract
name = {name}
results = {results}
quiet = true
[teacher]
model = dense_{shape}
seed = {teacher_seed}
[query]
datagen = random
samples = 4096
[model]
name = students_dense({students})_{wide}
activation = {activation}
init_bias = zero
[training]
lr = 1e-2
batch_size = 512
steps = 800ep
patience = 20
cooldown = 0
precision = float64
evaluate_every = 0ep
finish = lm
finish_steps = {finish_steps}
[extraction]
finetune_steps = 0ep
finetune_finish_steps = 150
"""
TEACHER = """[experiment]
job = train
name = {name}-teacher
results = {results}
quiet = true
seed = {seed}
[dataset]
name = {data}
[model]
name = dense_{shape}
activation = {activation}
[training]
optimizer = sgd
lr = 0.1
batch_size = 128
steps = 5ep
"""
IMAGE = """[experiment]
job = extract
name = {name}
results = {results}
quiet = true
[teacher]
config = {name}.teacher.ini
[query]
datagen = {data}+random
subsample = 20000
samples = 20000
distribution = uniform
range = 0.5
[model]
name = students_dense({students})_{wide}
activation = {activation}
init_bias = zero
[training]
lr = 3e-3
batch_size = 512
steps = 150ep
plateau = none
milestone_steps = 60ep,72ep,84ep,96ep,108ep,120ep,132ep
factor = 0.31622776601683794
evaluate_every = 0ep
[extraction]
finetune_steps = 0ep
finetune_finish_steps = 100
"""


def arguments():
    p = argparse.ArgumentParser(description=__doc__,
                                formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--cohort", default="bin/cohort")
    p.add_argument("--out", default="build/recovery", help="folder of runs and table")
    p.add_argument("--results", help="folder for the dated table, as CSV and Markdown")
    p.add_argument("--parts", default="a,b")
    p.add_argument("--seeds", default="21,22,23,24,25", help="of the teachers of part a")
    p.add_argument("--layers", default="1,2")
    p.add_argument("--rho", default="2,4")
    p.add_argument("--activations", default=",".join(ACTIVATIONS))
    p.add_argument("--methods", default=",".join(METHODS))
    p.add_argument("--students", type=int, default=10)
    p.add_argument("--minutes", type=float, default=math.inf,
                   help="after these no further run is started")
    p.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE",
                   help="override of the configuration")
    return p.parse_args()


# ---- teachers ---------------------------------------------------------------------------


def times(shape, rho):
    sizes = [int(s) for s in shape.split("_")]
    return "_".join(map(str, [sizes[0]] + [rho * s for s in sizes[1:-1]] + [sizes[-1]]))


def environment():
    return dict(os.environ, OPENBLAS_NUM_THREADS="1", OMPI_ALLOW_RUN_AS_ROOT="1",
                OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1")


def find(folder, name):
    found = [f for f, _, files in os.walk(folder) if name in files]
    return os.path.join(found[0], name) if found else None


def drawn(a, shape, seed):
    """The file of a drawn teacher, out of a run that trains nothing."""
    name = f"drawn-{shape}-{seed}"
    where = os.path.join(a.out, "results", name)
    there = find(where, "teacher.h5")
    if there:
        return there
    case = {"shape": shape, "teacher_seed": seed, "wide": shape, "activation": "relu",
            "students": 4, "finish_steps": 1, "name": name,
            "results": os.path.join(a.out, "results")}
    path = os.path.join(a.out, "ini", name + ".ini")
    with open(path, "w") as f:
        f.write(SYNTHETIC.format(**case))
    command = [a.cohort, "run", path, "training.steps=1it", "query.samples=64",
               "extraction.finetune_finish_steps=1"]
    subprocess.run(command, env=environment(), stdout=subprocess.DEVNULL,
                   stderr=subprocess.DEVNULL, check=False)
    return find(where, "teacher.h5") or sys.exit(f"{path}: no teacher was drawn")


def can_be_told(path, activation):
    """Whether every kink of the upper hidden layers lies among the inputs."""
    import h5py  # Debian: python3-h5py, python3-numpy
    import numpy as np
    slope = {"relu": 0.0, "leaky_relu": 0.01}[activation]
    with h5py.File(path) as f:
        hidden = sum(k.startswith("fc_layers") and k.endswith("weight") for k in f)
        x = np.random.default_rng(0).standard_normal(
            (4096, f["fc_layers.0.weight"].shape[2]))
        for layer in range(hidden):
            z = x @ f[f"fc_layers.{layer}.weight"][0].T + f[f"fc_layers.{layer}.bias"][0]
            on = (z > 0).mean(axis=0)
            if layer > 0 and np.minimum(on, 1 - on).min() < LINEAR:
                return False
            x = np.where(z > 0, z, slope * z)
    return True


def teacher_seed(a, shape, seed, activation):
    if activation not in ("relu", "leaky_relu") or shape.count("_") < 3:
        return seed
    for s in itertools.count(seed, 100):
        if can_be_told(drawn(a, shape, s), activation):
            return s


def synthetic(a):
    lists = (map(int, a.layers.split(",")), map(int, a.rho.split(",")),
             a.activations.split(","), map(int, a.seeds.split(",")))
    for layers, rho, act, seed in itertools.product(*lists):
        shape = SHAPES[layers][(seed - 1) % len(SHAPES[layers])]
        drawn_from = teacher_seed(a, shape, seed, act)
        yield {"part": "a", "layers": layers, "activation": act, "seed": seed, "rho": rho,
               "teacher_seed": drawn_from, "data": "random", "shape": shape,
               "wide": times(shape, rho), "finish_steps": FINISH[layers, rho],
               "name": f"{act}-{shape}-rho{rho}-seed{drawn_from}", "text": SYNTHETIC}


def images(a):
    for data, widths, act in IMAGES:
        shape = f"784_{widths}_10"
        yield {"part": "b", "layers": widths.count("_") + 1, "activation": act, "seed": 0,
               "rho": 2, "teacher_seed": 0, "data": data, "shape": shape,
               "wide": times(shape, 2), "name": f"{data}-{act}-{shape}", "text": IMAGE}


# ---- one run ----------------------------------------------------------------------------


def write_ini(a, case):
    """The configuration, and a name for all of it."""
    case = dict(case, results=os.path.join(os.path.abspath(a.out), "results"),
                students=a.students)
    folder = os.path.join(a.out, "ini")
    path = os.path.join(folder, case["name"] + ".ini")
    with open(path, "w") as f:
        f.write(case["text"].format(**case))
    if case["part"] == "b":
        with open(os.path.join(folder, case["name"] + ".teacher.ini"), "w") as f:
            f.write(TEACHER.format(**case))
    whole = case["text"].format(**dict(case, results="")) + "".join(a.set)
    return path, hashlib.sha256(whole.encode()).hexdigest()[:10]


def run(a, case, path, method):
    """Status and seconds of one run, and its row of runs.csv if it ended well."""
    limit = SECONDS[case["part"], case["layers"]]
    command = [a.cohort, "run", path, "extraction.method=" + method] + a.set
    log = f"{path}.{method}.log"
    with open(log, "w") as f:
        process = subprocess.Popen(
            command, env=environment(), stdout=f, stderr=subprocess.STDOUT,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_CPU, (limit, limit + 5)))
        _, code, used = os.wait4(process.pid, 0)
    seconds = used.ru_utime + used.ru_stime
    code = os.waitstatus_to_exitcode(code)
    if code in (-signal.SIGXCPU, -signal.SIGKILL):
        return f"over {limit} s", seconds, {}
    if code != 0:
        return f"failed ({code})", seconds, {}
    return "done", seconds, row_of(log)


def row_of(log):
    """The row of runs.csv of the very folder that the log names."""
    with open(log) as f:
        folder = [line[7:].strip() for line in f if line.startswith("files: ")][-1]
    top = folder.split("/runs/")[0]
    with open(os.path.join(top, "runs.csv")) as f:
        rows = [r for r in csv.DictReader(f) if folder == os.path.join(top, r["folder"])]
    return rows[-1]


def number(row, key):
    try:
        return float(row[key])
    except (KeyError, TypeError, ValueError):
        return math.nan


def measure(case, method, config, status, seconds, row):
    layers = range(1, case["layers"] + 1)

    def over(name, combine):
        values = [number(row, f"layer{l}_{name}") for l in layers]
        return combine(values) if not any(map(math.isnan, values)) else math.nan

    def mean(v):
        return sum(v) / len(v)

    sizes = [number(row, f"layer{l}_found_size") for l in layers]
    true = [int(s) for s in case["shape"].split("_")[1:-1]]
    out = {k: case[k] for k in FIELDS if k in case}
    out.update({"method": method, "status": status, "seconds": round(seconds, 2),
                "config": config, "true": "-".join(map(str, true)),
                "found": "-".join("%g" % s for s in sizes) if row else "none",
                "excess": over("excess", sum), "rmse": number(row, "parameter_rmse"),
                "loss_before": number(row, "loss_rebuilt"),
                "loss_after": number(row, "loss_finetuned"),
                "student_loss": number(row, "student_loss_best"),
                "recovered": int(sizes == true and over("excess", sum) == 0)})
    for d in DISTANCES:
        out[d] = over(d, max if d.endswith("max") else mean)
    return out


def read_rows(path):
    """What earlier runs left, as numbers."""
    if not os.path.exists(path):
        return []
    text = {"part", "activation", "data", "method", "status", "found", "true", "config"}
    whole = {"layers", "rho", "seed", "teacher_seed", "recovered"}
    with open(path) as f:
        return [{k: v if k in text else int(v) if k in whole else float(v)
                 for k, v in r.items()} for r in csv.DictReader(f)]


def key_of(row):
    return tuple(row[k] for k in ("part", "layers", "rho", "activation", "seed", "data",
                                  "true", "method", "config"))


def say(row):
    print(f"{row['data']} {row['activation']} {row['true']} rho {row['rho']} seed "
          f"{row['seed']} {row['method']}: {row['status']}, {row['found']}, excess "
          f"{row['excess']:g}, w {row['w_max']:.0e}, rmse {row['rmse']:.0e}, loss "
          f"{row['loss_after']:.0e}, {row['seconds']:.0f} s", file=sys.stderr, flush=True)


def run_all(a, cases, path):
    """The rows of all cases, in their order; those that are done are not run again."""
    old = {key_of(r): r for r in read_rows(path)}
    end = time.time() + 60 * a.minutes
    rows = []
    with open(path, "w", newline="", buffering=1) as f:
        writer = csv.DictWriter(f, FIELDS)
        writer.writeheader()
        writer.writerows(old.values())
        for case in cases:
            ini, config = write_ini(a, case)
            for method in a.methods.split(","):
                row = measure(case, method, config, "not run", 0, {})
                row = old.get(key_of(row), row)
                if row["status"] != "done" and time.time() < end:
                    row = measure(case, method, config, *run(a, case, ini, method))
                    writer.writerow(row)
                    say(row)
                rows.append(row)
    return rows


# ---- tables -----------------------------------------------------------------------------


def known(values):
    return [v for v in values if not math.isnan(v)]


def median(values):
    v = sorted(known(values))
    return (v[(len(v) - 1) // 2] + v[len(v) // 2]) / 2 if v else math.nan


def real(v):
    return "-" if math.isnan(v) else f"{v:.0e}".replace("e-0", "e-")


def full_table(rows):
    """A line for each activation, depth, rho and method of part (a)."""
    lines = ["| hidden layers | activation | rho | method | recovered | width exact | excess | "
             "cosine distance of input weights, worst (mean) | of output weights | "
             "parameter RMSE, worst | loss before | after | seconds |",
             "|" + "---|" * 13]
    key = lambda r: (r["layers"], r["rho"], ACTIVATIONS.index(r["activation"]),
                     METHODS.index(r["method"]))
    for k, group in itertools.groupby(sorted(rows, key=key), key):
        g = list(group)
        good = [r for r in g if r["recovered"]]
        worst = lambda f: real(max(known([r[f] for r in good]), default=math.nan))
        mean = lambda f: real(median([r[f] for r in good]))
        lines.append(
            f"| {k[0]} | {g[0]['activation']} | {k[1]} | {g[0]['method']} | "
            f"{len(good)} of {len(g)} | {sum(r['found'] == r['true'] for r in g)} | "
            f"{sum(known([r['excess'] for r in g])):g} | {worst('w_max')} "
            f"({mean('w_mean')}) | {worst('a_max')} ({mean('a_mean')}) | {worst('rmse')} | "
            f"{real(median([r['loss_before'] for r in g]))} | "
            f"{real(median([r['loss_after'] for r in g]))} | "
            f"{median([r['seconds'] for r in g]):.1f} |")
    return lines


def compact_table(rows):
    """A line for each activation: recovered, worst error and the reference's count."""
    kinds = sorted({(r["layers"], r["rho"]) for r in rows})
    names = [f"{l} layer{'s' * (l > 1)}, rho {rho}" for l, rho in kinds]
    lines = ["| activation | " + " | ".join(names) + " |", "|" + "---|" * (len(kinds) + 1)]
    for act in ACTIVATIONS + ["all"]:
        cells = []
        for kind in kinds:
            of = {m: [r for r in rows if (r["layers"], r["rho"]) == kind and
                      act in (r["activation"], "all") and r["method"] == m]
                  for m in METHODS}
            good = [r for r in of["robust"] if r["recovered"]]
            worst = max(known([r["rmse"] for r in good]), default=math.nan)
            cells.append(f"{len(good)}/{len(of['robust'])}, {real(worst)} "
                         f"({sum(r['recovered'] for r in of['reference'])})")
        if any(r["activation"] == act for r in rows) or act == "all":
            lines.append(f"| {act} | " + " | ".join(cells) + " |")
    return lines


def image_table(rows):
    lines = ["| inputs | teacher | method | width found | excess | cosine distance of input "
             "weights, worst (mean) | of output weights | parameter RMSE | loss before | "
             "after | seconds |", "|" + "---|" * 11]
    for r in rows:
        lines.append(
            f"| {r['data']} | 784-{r['true']}-10 {r['activation']} | {r['method']} | "
            f"{r['found'] if r['status'] == 'done' else r['status']} | {r['excess']:g} | "
            f"{real(r['w_max'])} ({real(r['w_mean'])}) | {real(r['a_max'])} "
            f"({real(r['a_mean'])}) | {real(r['rmse'])} | {real(r['loss_before'])} | "
            f"{real(r['loss_after'])} | {r['seconds']:.0f} |")
    return lines


def totals(rows):
    lines = []
    for method in METHODS:
        g = [r for r in rows if r["method"] == method]
        if not g:
            continue
        good = [r for r in g if r["recovered"]]
        small = sum(r["rmse"] < 1e-6 for r in good)
        failed = sum(r["status"] != "done" for r in g)
        lines.append(f"{method}: {len(good)} of {len(g)} teachers recovered, {small} of them "
                     f"with a parameter RMSE below 1e-6; {failed} runs failed or took too long")
    return lines


def report(rows):
    left = sum(r["status"] == "not run" for r in rows)
    rows = [r for r in rows if r["status"] != "not run"]
    a = [r for r in rows if r["part"] == "a"]
    b = [r for r in rows if r["part"] == "b"]
    text = []
    if a:
        text += ["Recovered teachers of all, worst parameter RMSE of these (recovered by the "
                 "reference):", ""] + compact_table(a) + [""] + totals(a)
        text += ["", "Worst and median over the recovered teachers; losses and seconds are "
                 "medians over all:", ""] + full_table(a) + [""]
    if b:
        text += image_table(b) + [""]
    if left:
        text += [f"{left} runs were left out.", ""]
    return "\n".join(text)


def main():
    a = arguments()
    a.out = os.path.abspath(a.out)
    os.makedirs(os.path.join(a.out, "ini"), exist_ok=True)
    path = os.path.join(a.out, "recovery.csv")
    parts = a.parts.split(",")
    cases = itertools.chain(synthetic(a) if "a" in parts else [],
                            images(a) if "b" in parts else [])
    rows = run_all(a, cases, path)
    text = report(rows)
    print(text)
    if a.results:
        stem = os.path.join(a.results, f"recovery-{datetime.date.today()}")
        os.makedirs(a.results, exist_ok=True)
        with open(stem + ".csv", "w", newline="") as f:
            writer = csv.DictWriter(f, FIELDS)
            writer.writeheader()
            writer.writerows(rows)
        with open(stem + ".md", "w") as f:
            f.write(text)
        print(stem + ".csv", stem + ".md")
    return int(any(r["status"] != "done" for r in rows if r["method"] == "robust"))


sys.exit(main())
