#!/usr/bin/env python3
"""recovery.py [options] - how many teachers `cohort` recovers, by both clusterings.

Rules. A teacher is a random network of the shape below, drawn from its seed; its inputs are
8192 samples of N(0, 1); ten students of rho times its width are trained on its answers. The
same students are clustered by method = robust and by method = reference. A teacher counts
as recovered where every hidden layer has exactly its width and no neuron in excess (a
recovered neuron that is nearest to no neuron of the teacher). Distances are the largest
and the mean over the neurons of all layers, after fine-tuning; the parameter error is the
root mean square after all symmetries are resolved, and missing where a width is wrong.
Seconds are those of the whole run of `cohort`, for the first method with the training of
the students. Medians over teachers are printed; the CSV has a row for each run.
"""
import argparse
import csv
import glob
import itertools
import math
import os
import subprocess
import sys

ACTIVATIONS = "relu leaky_relu softplus gelu silu tanh sigmoid g".split()
SHAPES = {  # inputs, hidden widths, outputs: one for each teacher
    1: ["10_4_1", "4_4_1", "8_5_2", "16_6_1", "6_8_3"],
    2: ["8_4_4_1", "4_4_4_1", "10_6_4_2", "6_5_5_1", "12_4_6_1"],
}
METHODS = ["robust", "reference"]
FIELDS = ("layers activation rho seed method found true excess w_max w_mean a_max a_mean "
          "rmse loss_before loss_after student_loss seconds recovered").split()

INI = """[experiment]
job = extract
name = {name}
results = {results}
quiet = true
[teacher]
model = dense_{shape}
seed = {seed}
[query]
datagen = random
samples = 8192
[model]
name = students_dense(10)_{students}
activation = {activation}
init_bias = zero
[training]
lr = 1e-2
batch_size = 512
steps = 400ep
patience = 20
cooldown = 0
precision = float64
[extraction]
finetune_steps = 100ep
finetune_lr = 1e-3
"""


def student_shape(shape, rho):
    sizes = [int(s) for s in shape.split("_")]
    return "_".join(str(s) for s in
                    [sizes[0]] + [rho * s for s in sizes[1:-1]] + [sizes[-1]])


def arguments():
    p = argparse.ArgumentParser(description=__doc__,
                                formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--cohort", default="bin/cohort")
    p.add_argument("--out", default="build/recovery", help="folder of runs and table")
    p.add_argument("--seeds", default="1,2,3,4,5", help="of the teachers")
    p.add_argument("--layers", default="1,2")
    p.add_argument("--rho", default="2,4")
    p.add_argument("--activations", default=",".join(ACTIVATIONS))
    p.add_argument("--methods", default=",".join(METHODS))
    p.add_argument("--jobs", type=int, default=os.cpu_count(), help="runs at a time")
    p.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE",
                   help="override of the configuration")
    return p.parse_args()


def cases(a):
    for layers, act, seed, rho in itertools.product(
            map(int, a.layers.split(",")), a.activations.split(","),
            map(int, a.seeds.split(",")), map(int, a.rho.split(","))):
        shapes = SHAPES[layers]
        shape = shapes[(seed - 1) % len(shapes)]
        yield {"layers": layers, "activation": act, "seed": seed, "rho": rho,
               "shape": shape, "students": student_shape(shape, rho),
               "name": f"{act}-{shape}-rho{rho}-seed{seed}"}


def start(a, case):
    """One process for a case: its methods one after the other."""
    folder = os.path.join(a.out, "ini")
    path = os.path.join(folder, case["name"] + ".ini")
    with open(path, "w") as f:
        f.write(INI.format(results=os.path.join(a.out, "results"), **case))
    script = []
    for method in a.methods.split(","):
        command = [a.cohort, "run", path, "extraction.method=" + method] + a.set
        script.append("s=$(date +%s.%N); " + " ".join(f"'{c}'" for c in command) +
                      f" >'{path}.{method}.log' 2>&1; " +
                      f"echo {method} $s $(date +%s.%N)")
    env = dict(os.environ, OPENBLAS_NUM_THREADS="1", OMPI_ALLOW_RUN_AS_ROOT="1",
               OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1")
    return subprocess.Popen(["bash", "-c", "\n".join(script)], env=env, text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)


def number(row, key):
    try:
        return float(row[key])
    except (KeyError, TypeError, ValueError):
        return math.nan


def measure(a, case, method, seconds):
    """The row of runs.csv that this run wrote; all missing where it failed."""
    found = glob.glob(os.path.join(a.out, "results", case["name"], "*", "runs.csv"))
    rows = []
    for path in found:
        with open(path) as f:
            rows += [r for r in csv.DictReader(f)
                     if r.get("extraction.method", "robust") == method]
    row = rows[-1] if rows else {}
    layers = range(1, case["layers"] + 1)

    def over(name, combine):
        values = [number(row, f"layer{l}_{name}") for l in layers]
        return combine(values) if not any(map(math.isnan, values)) else math.nan

    def mean(v):
        return sum(v) / len(v)

    sizes = [number(row, f"layer{l}_found_size") for l in layers]
    true = [int(s) for s in case["shape"].split("_")[1:-1]]
    out = {"method": method, "seconds": seconds, "true": "-".join(map(str, true)),
           "found": "-".join("%g" % s for s in sizes) if row else "none",
           "excess": over("excess", sum), "w_max": over("w_max", max),
           "w_mean": over("w_mean", mean), "a_max": over("a_max", max),
           "a_mean": over("a_mean", mean), "rmse": number(row, "parameter_rmse"),
           "loss_before": number(row, "loss_rebuilt"),
           "loss_after": number(row, "loss_finetuned"),
           "student_loss": number(row, "student_loss_best")}
    out["recovered"] = int(sizes == true and out["excess"] == 0)
    out.update({k: case[k] for k in ("layers", "activation", "seed", "rho")})
    return out


def run_all(a, writer):
    todo, running, rows = list(cases(a)), [], []
    todo.reverse()
    while todo or running:
        while todo and len(running) < a.jobs:
            case = todo.pop()
            running.append((case, start(a, case)))
        case, process = running.pop(0)
        text = process.communicate()[0]
        for line in text.splitlines():
            method, begin, end = line.split()
            row = measure(a, case, method, float(end) - float(begin))
            rows.append(row)
            writer.writerow({k: row[k] for k in FIELDS})
            print(f"{case['name']} {method}: {row['found']} of {row['true']}, excess "
                  f"{row['excess']:g}, w {row['w_max']:.0e}, rmse {row['rmse']:.0e}, "
                  f"{row['seconds']:.0f} s", file=sys.stderr, flush=True)
    return rows


def median(values):
    v = sorted(x for x in values if not math.isnan(x))
    return (v[(len(v) - 1) // 2] + v[len(v) // 2]) / 2 if v else math.nan


def print_table(rows):
    print(f"{'':33s}{'recovered':>10s}{'width':>8s}{'excess':>7s}{'w max':>9s}{'w mean':>9s}"
          f"{'a max':>9s}{'a mean':>9s}{'rmse':>9s}{'before':>9s}{'after':>9s}{'s':>6s}")
    key = lambda r: (r["layers"], ACTIVATIONS.index(r["activation"]), r["rho"],
                     METHODS.index(r["method"]))
    for k, group in itertools.groupby(sorted(rows, key=key), key):
        g = list(group)
        exact = sum(r["found"] == r["true"] for r in g)
        excess = [r["excess"] for r in g if not math.isnan(r["excess"])]
        values = [median([r[f] for r in g]) for f in
                  ("w_max", "w_mean", "a_max", "a_mean", "rmse", "loss_before",
                   "loss_after")]
        print(f"{k[0]} hidden {g[0]['activation']:10s} rho {k[2]} {g[0]['method']:9s}"
              f"{sum(r['recovered'] for r in g):4d} of{len(g):3d}{exact:5d}/{len(g):<2d}"
              f"{sum(excess):7.0f}" + "".join(f"{v:9.1e}" for v in values) +
              f"{median([r['seconds'] for r in g]):6.1f}")
    for layers, method in itertools.product(sorted({r["layers"] for r in rows}), METHODS):
        g = [r for r in rows if r["layers"] == layers and r["method"] == method]
        if g:
            exact = sum(not r["rmse"] >= 1e-6 and r["recovered"] for r in g)
            print(f"{layers} hidden, {method}: {sum(r['recovered'] for r in g)} of {len(g)} "
                  f"recovered, {exact} of them with rmse below 1e-6")


def main():
    a = arguments()
    os.makedirs(os.path.join(a.out, "ini"), exist_ok=True)
    path = os.path.join(a.out, "recovery.csv")
    with open(path, "w", newline="", buffering=1) as f:
        writer = csv.DictWriter(f, FIELDS)
        writer.writeheader()
        rows = run_all(a, writer)
    print_table(rows)
    print(path)


main()
