#!/usr/bin/env python3
"""sweep.py [--cores N] [--out FILE.csv] - sweeps as packs, beside one process a run.

Rules. Every way gets the same cores at the same time: packs as that many ranks of `cohort`, the
others as that many processes side by side, one run each. Wall time of whole processes, start
and reading of data included, results written to the same folder. Ways that take long are
sampled: `sampled` runs spread over the sweep are run and the time is scaled to all of it.
`torch` is a plain PyTorch script of one run: data resident, one fused loop, no evaluation but at
the end (OPENBLAS_CORETYPE is set where OpenBLAS would not know the processor).

 mnist  256 runs: 4 rates x 64 seeds of 784-32-10 on 6,000 images of Fashion-MNIST, 10 epochs
 tiny   10,000 runs: 10 rates x 1,000 seeds of 2-25-25-1, 300 samples, full batches, 200 epochs
 empty  100,000 runs of no step
"""
import argparse
import concurrent.futures
import csv
import glob
import os
import shutil
import subprocess
import sys
import tempfile
import time

import numpy

INI = """[experiment]
job = train
name = {name}
quiet = true
[dataset]
{dataset}
[model]
name = {model}
activation = {act}
[training]
optimizer = adam
lr = 1e-3
batch_size = {batch}
steps = {steps}
evaluate_every = 0ep
[sweep]
training.lr = {lr}
experiment.seed = {seeds}
"""
CASES = {
    "mnist": dict(runs=256, sampled=(16, 8), model="dense_784_32_10", act="g", batch=128,
                  steps="10ep", lr="1e-4, 3e-4, 1e-3, 3e-3", seeds="seeds(0..63)",
                  dataset="name = fashion_mnist\nsubsample_fraction = 0.1"),
    "tiny": dict(runs=10000, sampled=(40, 8), model="dense_2_25_25_1", act="tanh", batch=300,
                 steps="200ep", lr="logspace(1e-4, 1e-2, 10)", seeds="seeds(0..999)",
                 dataset="name = file\nfile = tiny.npz"),
    "empty": dict(runs=100000, sampled=(0, 0), model="dense_2_1_1", act="tanh", batch=300,
                  steps="0ep", lr="logspace(1e-4, 1e-2, 100)", seeds="seeds(0..999)",
                  dataset="name = file\nfile = tiny.npz"),
}
TORCH = """
import sys, numpy, torch
kind, seed, lr = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
torch.set_num_threads(1); torch.manual_seed(seed)
if kind == "tiny":
    d = numpy.load("tiny.npz"); X, Y = (torch.tensor(d[k], dtype=torch.float32) for k in "XY")
    sizes, epochs, B, act = (2, 25, 25, 1), 200, 300, torch.tanh
    loss_of = torch.nn.functional.mse_loss
else:
    import gzip
    def read(name, skip):
        for f in ("/usr/share/datasets/fashion-mnist/" + name,):
            o = gzip.open(f + ".gz") if not __import__("os").path.exists(f) else open(f, "rb")
            return numpy.frombuffer(o.read(), numpy.uint8, offset=skip)
    X = read("train-images-idx3-ubyte", 16).reshape(-1, 784)[:6000]
    X = (torch.tensor(X, dtype=torch.float32) / 255 - 0.5) / 0.5
    Y = torch.tensor(read("train-labels-idx1-ubyte", 8)[:6000].astype("int64"))
    sizes, epochs, B = (784, 32, 10), 10, 128
    act = lambda x: torch.nn.functional.softplus(x) + torch.sigmoid(4 * x)
    loss_of = torch.nn.functional.cross_entropy
W = [torch.nn.Linear(a, b) for a, b in zip(sizes, sizes[1:])]
opt = torch.optim.Adam([p for w in W for p in w.parameters()], lr=lr)
for _ in range(epochs):
    for i in torch.randperm(len(X)).split(B):
        h = X[i]
        for w in W[:-1]: h = act(w(h))
        loss = loss_of(W[-1](h), Y[i])
        opt.zero_grad(); loss.backward(); opt.step()
"""


def environment():
    env = dict(os.environ, OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")
    if "avx512bw" in open("/proc/cpuinfo").read():
        env.setdefault("OPENBLAS_CORETYPE", "SkylakeX")
    return env


def timed(commands, cores, env, cwd):
    """Seconds for all commands, `cores` at a time."""
    def one(c):
        subprocess.run(c, check=True, env=env, cwd=cwd, stdout=subprocess.DEVNULL,
                       stderr=subprocess.PIPE)
    start = time.perf_counter()
    with concurrent.futures.ThreadPoolExecutor(cores) as pool:
        list(pool.map(one, commands))
    return time.perf_counter() - start


def singles(cohort, ini, count, total, results):
    step = total // count
    return [[cohort, "run", ini, "--sub-batch", f"{1 + i * step}/{total}",
             f"experiment.results={results}"] for i in range(count)]


def torches(case, script, count):
    rates = [1e-4, 3e-4, 1e-3, 3e-3]
    return [["/usr/bin/python3", script, case, str(i), str(rates[i % 4])] for i in range(count)]


def left_behind(folder):
    files = [f for f in glob.glob(folder + "/**/*", recursive=True) if os.path.isfile(f)]
    return len(files), sum(os.path.getsize(f) for f in files)


def bench(name, case, cores, cohort, work):
    env, rows = environment(), []
    ini = os.path.join(work, name + ".ini")
    open(ini, "w").write(INI.format(name=name, **case))
    packs = ["mpirun", "--oversubscribe", "-n", str(cores), cohort, "run", ini,
             f"experiment.results={work}/packs"]
    total = timed([packs], 1, env, work)
    files, size = left_behind(f"{work}/packs/{name}")
    rows.append((name, "packs", case["runs"], case["runs"], total, files, size))
    ours, torch = case["sampled"]
    if ours:
        seconds = timed(singles(cohort, ini, ours, case["runs"], work + "/one"), cores, env, work)
        rows.append((name, "one process a run", case["runs"], ours,
                     seconds * case["runs"] / ours, "", ""))
        script = os.path.join(work, "one.py")
        open(script, "w").write(TORCH)
        timed(torches(name, script, 1), 1, env, work)  # files into the page cache
        seconds = timed(torches(name, script, torch), cores, env, work)
        rows.append((name, "one PyTorch process a run", case["runs"], torch,
                     seconds * case["runs"] / torch, "", ""))
    return rows


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("--cores", type=int, default=os.cpu_count())
    p.add_argument("--out")
    p.add_argument("--cases", nargs="*", default=list(CASES))
    a = p.parse_args()
    cohort = os.path.abspath("bin/cohort")
    work = tempfile.mkdtemp()
    r = numpy.random.default_rng(0)
    X = r.standard_normal((300, 2))
    numpy.savez(work + "/tiny.npz", X=X, Y=numpy.tanh(X @ r.standard_normal((2, 5))) @
                r.standard_normal((5, 1)))
    rows = []
    load = os.getloadavg()[0]
    for name in a.cases:
        rows += bench(name, CASES[name], a.cores, cohort, work)
    shutil.rmtree(work)
    head = ["sweep", "way", "runs", "sampled", "seconds", "files", "bytes", "runs_per_second",
            "ratio_to_packs", "cores", "load_before"]
    base = {r[0]: r[4] for r in rows if r[1] == "packs"}
    rows = [list(r[:4]) + [f"{r[4]:.2f}"] + list(r[5:]) + [f"{r[2] / r[4]:.2f}",
            f"{r[4] / base[r[0]]:.1f}", a.cores, f"{load:.2f}"] for r in rows]
    for f in [sys.stdout] + ([open(a.out, "w")] if a.out else []):
        csv.writer(f, lineterminator="\n").writerows([head] + rows)


main()
