#!/usr/bin/python3
"""finish.py - time to a given median loss: cohort's Adam alone and with each finish, and
PyTorch's Adam on the same data from the same start. Prints CSV.

    make build/bench/finish && bench/finish.py [--build build] [--seconds 60] [ACTIVATION...]

The rules stand in bench/finish.c, whose program makes data and start and prints the first
rows; the peer below follows them: batched matrix products over the students, one thread,
float64, torch.optim.Adam, the same schedule, a look at the whole set every 10 epochs.
Columns: activation, way, target, seconds until the median loss is there ("-": it never
was), last median loss.
"""
import argparse
import math
import os
import subprocess
import tempfile
import time

import numpy as np
import torch

N, D, H, BATCH = 10, 10, 8, 512
TARGETS = (1e-8, 1e-20)
ACTIVATION = {
    "relu": torch.relu,
    "leaky_relu": lambda z: torch.nn.functional.leaky_relu(z, 0.01),
    "softplus": torch.nn.functional.softplus,
    "gelu": torch.nn.functional.gelu,
    "silu": torch.nn.functional.silu,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "g": lambda z: torch.sigmoid(4 * z) + torch.nn.functional.softplus(z),
}


def load(folder):
    x = np.fromfile(os.path.join(folder, "x")).reshape(-1, D)
    y = np.fromfile(os.path.join(folder, "y")).reshape(-1, 1)
    start = np.fromfile(os.path.join(folder, "start")).reshape(N, -1)
    cuts = np.split(start, [D * H, D * H + H, D * H + 2 * H], axis=1)
    shapes = (N, D, H), (N, 1, H), (N, H, 1), (N, 1, 1)
    params = [torch.tensor(c.reshape(s), requires_grad=True) for c, s in zip(cuts, shapes)]
    return torch.tensor(x), torch.tensor(y), params


def losses(params, act, x, y):
    w0, b0, w1, b1 = params
    hidden = act(torch.baddbmm(b0, x.expand(N, -1, -1), w0))
    return (torch.baddbmm(b1, hidden, w1) - y).square().mean((1, 2))


def torch_adam(folder, name, seconds):
    x, y, params = load(folder)
    act = ACTIVATION[name]
    optimiser = torch.optim.Adam(params, lr=1e-2)
    plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimiser, factor=math.sqrt(0.1), patience=50, threshold=0)
    reached = {}
    began = time.process_time()
    epoch = 0
    median = math.nan
    while time.process_time() - began < seconds and len(reached) < len(TARGETS):
        total = 0.0
        for rows in torch.randperm(len(x)).split(BATCH):
            optimiser.zero_grad()
            loss = losses(params, act, x[rows], y[rows]).sum()
            loss.backward()
            optimiser.step()
            total += loss.item()
        plateau.step(total)
        epoch += 1
        if epoch % 10 == 0:
            with torch.no_grad():
                median = np.median(losses(params, act, x, y).numpy())
            for target in TARGETS:
                if median <= target:
                    reached.setdefault(target, time.process_time() - began)
    for target in TARGETS:
        took = f"{reached[target]:.3f}" if target in reached else "-"
        print(f"{name},torch adam,{target:g},{took},{median:.1e}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", default="build")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("activations", nargs="*", default=["gelu", "tanh", "g"])
    args = parser.parse_args()
    torch.set_num_threads(1)
    env = dict(os.environ, OPENBLAS_NUM_THREADS="1")
    print("activation,way,target,seconds,median_loss", flush=True)
    for name in args.activations:
        with tempfile.TemporaryDirectory() as folder:
            program = os.path.join(args.build, "bench", "finish")
            subprocess.run([program, name, str(args.seconds), folder], env=env, check=True)
            torch_adam(folder, name, args.seconds)


if __name__ == "__main__":
    main()
