#!/usr/bin/env python3
"""compress.py time|teacher|images FOLDER... [--out FILE.csv] - tables of job = compress.

time [--cores N]      the 270 runs of configs/compress_teacher_student.ini as packs, beside the same
                      maths in PyTorch, one process a run
teacher FOLDER NONE   over procedure and alpha: parameters left, losses, and the share of seeds that
                      end with at most as many parameters as the teacher has (72) at a test loss no
                      higher than that of the network that is not pruned (NONE: procedure = none)
images FOLDER NONE    over procedure and alpha: accuracy, compression rate, description length

Rules of `time`. Wall time of whole processes on the same cores. `cohort` runs the whole sweep.
PyTorch runs a slice: a run of each procedure with 0 and with `EPOCHS` epochs, started as a process
of its own with one thread; the difference is the time of an epoch. That is multiplied by the
epochs that each of the 270 runs took in `cohort`, and the start of a process is added for each
run. The script does what an epoch needs and no more: full batch, the three penalties with Adam on
all their trees as torch.optim.Adam(foreach=True) has it, loss of the validation set, no test set,
no pruning, no logs. Written to bench/results unless --out says where.
"""
import argparse
import datetime
import os
import pathlib
import subprocess
import sys
import tempfile
import time

import pandas as pd

ROOT = pathlib.Path(__file__).resolve().parent.parent
CONFIG = ROOT / "configs/compress_teacher_student.ini"
EPOCHS = 2000
TEACHER = 72

TORCH = """
import sys, math, torch
procedure, alpha, epochs = sys.argv[1], float(sys.argv[2]), int(sys.argv[3])
torch.set_num_threads(1)
torch.manual_seed(0)
sizes, params = [2, 25, 25, 1], []
for i, o in zip(sizes, sizes[1:]):
    w, b = torch.empty(i, o), torch.empty(o)
    params += [torch.nn.init.uniform_(w, -5 / 3 * math.sqrt(3 / i), 5 / 3 * math.sqrt(3 / i)),
               torch.nn.init.uniform_(b, -1 / math.sqrt(i), 1 / math.sqrt(i))]
x, xv = torch.rand(300, 2) * 2 - 1, torch.rand(1000, 2) * 2 - 1
y, yv = torch.sin(3 * x[:, :1]) + x[:, 1:], torch.sin(3 * xv[:, :1]) + xv[:, 1:]
sigma = torch.full((1,), 0.1, requires_grad=True)
masks = [torch.ones_like(p) for p in params]
for p in params: p.requires_grad_()
groups = list(params) + [sigma]
gates = procedure == "pmmp" and alpha > 0
if gates:
    w = [p.detach().clone() for p in params]
    q = [torch.ones_like(p) for p in params]
    u = [torch.zeros_like(p) for p in params]
    groups += w + q + u
opt = torch.optim.Adam(groups, lr=5e-4, foreach=True)
def loss_of(x, y):
    a = x
    for l in range(3):
        a = a @ (params[2 * l] * masks[2 * l]) + params[2 * l + 1] * masks[2 * l + 1]
        if l < 2: a = torch.tanh(a)
    m = ((a - y) ** 2).mean()
    return m / (2 * sigma ** 2 * math.log(2)) + torch.log2(sigma ** 2) / 2
for epoch in range(epochs):
    opt.zero_grad(set_to_none=True)
    loss_of(x, y).backward()
    with torch.no_grad():
        for i, p in enumerate(params):
            if gates:
                r = p - w[i] * q[i]
                p.grad += 2 * u[i] * r
                w[i].grad = -2 * u[i] * r * q[i] + 2 * u[i] * w[i] * q[i] * (1 - q[i])
                q[i].grad = -2 * u[i] * r * w[i] + u[i] * w[i] ** 2 * (1 - 2 * q[i]) + alpha
                u[i].grad = -r ** 2 - w[i] ** 2 * q[i] * (1 - q[i])
            elif procedure == "rl1" and alpha > 0:
                p.grad += alpha * torch.sign(p)
            elif procedure == "drr" and alpha > 0:
                p.grad += alpha * 5 * torch.sign(p) * torch.exp(-5 * p.abs())
        opt.step()
        for i, p in enumerate(params):
            if gates: q[i].clamp_(0, 1)
            p *= masks[i]
        float(loss_of(xv, yv))
"""


def wall(command):
    env = dict(os.environ, OPENBLAS_NUM_THREADS="1", OMP_NUM_THREADS="1",
               OMPI_ALLOW_RUN_AS_ROOT="1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1")
    start = time.time()
    subprocess.run(command, check=True, env=env, stdout=subprocess.DEVNULL,
                   stderr=subprocess.DEVNULL)
    return time.time() - start


def compare(cores, out):
    with tempfile.TemporaryDirectory() as work:
        run = [str(ROOT / "bin/cohort"), "run", str(CONFIG), f"experiment.results={work}"]
        if cores > 1:
            run = ["mpirun", "--oversubscribe", "-n", str(cores)] + run
        ours = wall(run)
        name = "compress_teacher_student"
        t = pd.read_csv(f"{work}/{name}/1-1/runs.csv")
        script = pathlib.Path(work) / "torch_run.py"
        script.write_text(TORCH)
        epoch, begin = {}, {}
        for procedure in ("pmmp", "rl1", "drr"):
            start = ["/usr/bin/python3", str(script), procedure, "0.05"]
            begin[procedure] = min(wall(start + ["0"]) for _ in range(2))
            epoch[procedure] = (wall(start + [str(EPOCHS)]) - begin[procedure]) / EPOCHS
    epochs = t.epochs + t.finetuning_epochs
    procedure = t["compress.procedure"]
    theirs = (procedure.map(begin) + procedure.map(epoch) * epochs).sum() / cores
    rows = [dict(way="cohort, packs", cores=cores, runs=len(t), epochs=int(epochs.sum()),
                 seconds=ours, ms_an_epoch=1e3 * ours * cores / epochs.sum()),
            dict(way="torch, a process a run, extrapolated", cores=cores, runs=len(t),
                 epochs=int(epochs.sum()), seconds=theirs,
                 ms_an_epoch=1e3 * theirs * cores / epochs.sum())]
    for p in epoch:
        rows.append(dict(way=f"torch, {p}, measured over {EPOCHS} epochs", cores=1, runs=1,
                         epochs=EPOCHS, seconds=epoch[p] * EPOCHS + begin[p],
                         ms_an_epoch=1e3 * epoch[p]))
    table = pd.DataFrame(rows).round(4)
    table["times"] = (table.ms_an_epoch / table.ms_an_epoch[0]).round(1)
    write(table, out, "time")


def read(folder):
    files = sorted(pathlib.Path(folder).glob("*-*/runs.csv"))
    return pd.concat(pd.read_csv(f) for f in files)


def axes(t):
    keys = ["compress.procedure", "compress.alpha", "compress.initial_u_value",
            "compress.layerwise_pruning_alpha"]
    return keys[:2] + [k for k in keys[2:] if t[k].nunique() > 1]


def teacher(folder, none, out):
    t, base = read(folder), read(none).set_index("experiment.seed").final_loss_testset
    t["dense"] = t["experiment.seed"].map(base)
    t["small"] = t.l0_norm <= TEACHER
    t["recovered"] = t.small & (t.final_loss_testset <= t.dense)
    g = t.groupby(axes(t))
    table = pd.DataFrame(dict(
        seeds=g.l0_norm.count(), l0_median=g.l0_norm.median(), l0_least=g.l0_norm.min(),
        test_bits=g.final_loss_testset.median(), test_bits_dense=g.dense.median(),
        at_most_72=g.small.mean(), and_no_worse=g.recovered.mean(),
        description_bits=g.description_length.median(), epochs=g.epochs.median()))
    write(table.reset_index().round(4), out, "teacher")


def images(folder, none, out):
    t, base = read(folder), read(none)
    t = pd.concat([base, t])
    columns = axes(t) + ["final_accuracy_testset", "l0_norm", "compression_rate",
                         "accuracy_before_testset", "l0_pruned", "final_loss_testset",
                         "description_length", "neurons_deleted", "epochs", "finetuning_epochs"]
    table = t.sort_values(axes(t))[columns]
    table.insert(2, "points_below_dense",
                 100 * (base.final_accuracy_testset.mean() - table.final_accuracy_testset))
    write(table.round(5), out, "images")


def write(table, out, kind):
    out = out or ROOT / "bench/results" / f"compress-{kind}-{datetime.date.today()}.csv"
    table.to_csv(out, index=False)
    print(table.to_string(index=False))
    print(f"written to {out}", file=sys.stderr)


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=["time", "teacher", "images"])
    parser.add_argument("folder", nargs="*")
    parser.add_argument("--cores", type=int, default=1)
    parser.add_argument("--out")
    a = parser.parse_args()
    if a.kind == "time":
        compare(a.cores, a.out)
    elif len(a.folder) != 2:
        parser.error("expected the folder of a sweep, and that of procedure = none")
    else:
        (teacher if a.kind == "teacher" else images)(*a.folder, a.out)


main()
