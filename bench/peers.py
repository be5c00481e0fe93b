"""Peers of `make bench`: peers.py train CASES.csv | cluster N D. One process, one thread count
(OMP_NUM_THREADS); the environment chooses OpenBLAS's kernels. Prints name,value lines.

train: float32, 784-H-10 students (and 2-25-25-1), activation g, mean square error, Adam, data
resident and index gather as ours. `einsum` is the form published with the method (one
einsum a layer over all students); `wide` the fastest we know how to write: one wide GEMM
for the first layer, which all students share, baddbmm above, one flat parameter tensor a
layer, Adam as foreach operations where this PyTorch has them.
cluster: SciPy's pdist and average linkage, and fastcluster's, of the same kind of data.
One thread is timed by its processor time (clustering always is), several by the wall.
"""
import statistics
import sys
import time

import numpy as np


def g(x):
    import torch

    return torch.sigmoid(4 * x) + torch.nn.functional.softplus(x)


def einsum_form(N, sizes):
    import torch

    weights = [
        torch.nn.Parameter(torch.randn(i, o, N) / i**0.5) for i, o in zip(sizes, sizes[1:])
    ]
    biases = [torch.nn.Parameter(torch.zeros(o, N)) for o in sizes[1:]]

    def forward(x):
        a = torch.einsum("bi,ihn->bhn", x, weights[0]) + biases[0]
        for w, b in zip(weights[1:], biases[1:]):
            a = torch.einsum("bin,ihn->bhn", g(a), w) + b
        return a

    def loss(x, y):
        return ((forward(x) - y[:, :, None]) ** 2).mean((0, 1)).sum()

    return weights + biases, loss


def wide_form(N, sizes):
    import torch

    first = torch.nn.Parameter(torch.randn(sizes[0], N * sizes[1]) / sizes[0] ** 0.5)
    first_bias = torch.nn.Parameter(torch.zeros(N * sizes[1]))
    weights = [
        torch.nn.Parameter(torch.randn(N, i, o) / i**0.5)
        for i, o in zip(sizes[1:], sizes[2:])
    ]
    biases = [torch.nn.Parameter(torch.zeros(N, 1, o)) for o in sizes[2:]]

    def loss(x, y):
        a = torch.addmm(first_bias, x, first)
        a = g(a).view(len(x), N, sizes[1]).transpose(0, 1)
        for k, (w, b) in enumerate(zip(weights, biases)):
            a = torch.baddbmm(b, a if k == 0 else g(a), w)
        return ((a - y) ** 2).mean((1, 2)).sum()

    return [first, first_bias] + weights + biases, loss


def time_steps(form, N, B, sizes):
    import torch

    params, loss = form(N, sizes)
    try:
        optimizer = torch.optim.Adam(params, lr=1e-3, foreach=True)
    except TypeError:
        optimizer = torch.optim.Adam(params, lr=1e-3)
    x, y = torch.randn(4096, sizes[0]), torch.randn(4096, sizes[-1])
    order = torch.randperm(4096)[:B]

    def step():
        optimizer.zero_grad(set_to_none=True)
        loss(x[order], y[order]).backward()
        optimizer.step()

    for _ in range(2):
        step()
    now = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    times = []
    start = time.perf_counter()
    while len(times) < 5 or (time.perf_counter() - start < 1.5 and len(times) < 200):
        t = now()
        step()
        times.append(now() - t)
    return statistics.median(times)


def train():
    import torch

    for name, N, B, sizes in (
        ("10x32", 10, 512, (784, 32, 10)),
        ("10x16", 10, 512, (784, 16, 10)),
        ("50x16", 50, 512, (784, 16, 10)),
        ("20x64", 20, 512, (784, 64, 10)),
        ("20x256", 20, 512, (784, 256, 10)),
        ("1000 tiny", 1000, 300, (2, 25, 25, 1)),
    ):
        for form in einsum_form, wide_form:
            us = time_steps(form, N, B, sizes) * 1e6
            print(f"{form.__name__[:-5]} {name},{us:.1f}", flush=True)
    print(f"torch threads,{torch.get_num_threads()}")


def cluster(n, D):
    from scipy.cluster.hierarchy import linkage
    from scipy.spatial.distance import pdist

    import fastcluster

    rng = np.random.default_rng(1)
    centres = rng.random((n // 80, D))
    x = centres[np.arange(n) % (n // 80)] + 0.1 * rng.random((n, D))
    t = time.process_time()
    d = pdist(x)
    print(f"scipy pdist seconds,{time.process_time() - t:.4g}", flush=True)
    t = time.process_time()
    linkage(d, "average")
    print(f"scipy linkage seconds,{time.process_time() - t:.4g}", flush=True)
    t = time.process_time()
    fastcluster.linkage(d, "average", preserve_input=False)
    print(f"fastcluster linkage seconds,{time.process_time() - t:.4g}", flush=True)


if sys.argv[1] == "train":
    train()
else:
    cluster(int(sys.argv[2]), int(sys.argv[3]))
