"""Trains the cases of test_torch.c with PyTorch: oracle_torch.py FOLDER.

FOLDER holds cases.txt (a line each: name, sizes joined by '_', activation, loss, optimiser,
learning rate, momentum, nesterov, weight decay, steps, batch), x.bin [steps, batch, in],
y.bin [steps, batch, out] (float64), labels.bin [steps, batch] (int32) and NAME.start.bin, the
parameters W0 b0 W1 b1 ... with W [in, out]. Writes NAME.float32.bin and NAME.float64.bin:
the parameters at the end, then the loss of every step, all as float64. trainer.txt, order.bin
[epochs, samples] (uint32) and trainer.start.bin [members, parameters] are one case more, for
coh_trainer: the losses are those of whole epochs [epochs, members]. Exit status 3: no torch.
"""
from bisect import bisect_right
import sys

import numpy as np

try:
    import torch
    import torch.nn.functional as F
except ImportError:
    sys.exit(3)

folder = sys.argv[1] + "/"
torch.set_num_threads(1)

activations = {
    "relu": F.relu,
    "leaky_relu": F.leaky_relu,
    "softplus": lambda x: F.softplus(x, threshold=500),  # never cut off to x
    "gelu": F.gelu,
    "silu": F.silu,
    "tanh": torch.tanh,
    "identity": lambda x: x,
    "sigmoid": torch.sigmoid,
    "g": lambda x: torch.sigmoid(4 * x) + F.softplus(x, threshold=500),
}


def read(name, shape, dtype=np.float64):
    return np.fromfile(folder + name, dtype=dtype).reshape(shape)


def split(flat, sizes, dtype):
    """Leaf tensors W0 b0 W1 b1 ... from a member's parameters."""
    leaves, at = [], 0
    for n_in, n_out in zip(sizes[:-1], sizes[1:]):
        for shape in ((n_in, n_out), (n_out,)):
            count = int(np.prod(shape))
            values = flat[at : at + count].reshape(shape).copy()
            leaves.append(torch.tensor(values, dtype=dtype, requires_grad=True))
            at += count
    return leaves


def forward(leaves, act, x):
    for i in range(0, len(leaves), 2):
        x = x @ leaves[i] + leaves[i + 1]
        if i + 2 < len(leaves):
            x = act(x)
    return x


def train(case, dtype):
    name, sizes, act, loss, optimiser, lr, mu, nesterov, wd, steps, batch = case
    sizes = [int(s) for s in sizes.split("_")]
    steps, batch, lr, mu, wd = int(steps), int(batch), float(lr), float(mu), float(wd)
    x = torch.tensor(read("x.bin", (steps, batch, sizes[0])), dtype=dtype)
    y = torch.tensor(read("y.bin", (steps, batch, sizes[-1])), dtype=dtype)
    labels = torch.tensor(read("labels.bin", (steps, batch), np.int32).astype(np.int64))
    leaves = split(read(name + ".start.bin", -1), sizes, dtype)
    if optimiser == "adam":
        opt = torch.optim.Adam(leaves, lr=lr, weight_decay=wd)
    else:
        opt = torch.optim.SGD(
            leaves, lr=lr, momentum=mu, weight_decay=wd, nesterov=nesterov == "1"
        )
    losses = []
    for t in range(steps):
        out = forward(leaves, activations[act], x[t])
        if loss == "mse":
            value = F.mse_loss(out, y[t])
        else:
            value = F.cross_entropy(out, labels[t])
        opt.zero_grad()
        value.backward()
        opt.step()
        losses.append(value.item())
    flat = [p.detach().numpy().astype(np.float64).ravel() for p in leaves]
    return np.concatenate(flat + [np.array(losses)])


for line in open(folder + "cases.txt"):
    case = line.split()
    for dtype in (torch.float32, torch.float64):
        name = case[0] + "." + str(dtype).split(".")[1] + ".bin"
        train(case, dtype).tofile(folder + name)


def train_member(case, start, order, dtype):
    """SGD over the epochs' orders, the last batch short: parameters, losses of whole epochs
    (means over their batches)."""
    sizes, lr, mu, wd, factor, warmup, milestones, steps, batch, n, _ = case
    sizes = [int(s) for s in sizes.split("_")]
    milestones = [int(m) for m in milestones.split(",")]
    factor, warmup, steps, batch, n = float(factor), int(warmup), int(steps), int(batch), int(n)
    x = torch.tensor(read("x.bin", (-1, sizes[0]))[:n], dtype=dtype)
    labels = torch.tensor(read("labels.bin", -1, np.int32)[:n].astype(np.int64))
    leaves = split(start, sizes, dtype)
    opt = torch.optim.SGD(leaves, lr=float(lr), momentum=float(mu), weight_decay=float(wd))
    schedule = torch.optim.lr_scheduler.LambdaLR(
        opt, lambda t: factor ** bisect_right(milestones, t) * min(1, t / warmup)
    )
    losses = []
    batches = [rows for epoch in order for rows in torch.split(torch.tensor(epoch), batch)]
    for t, rows in enumerate(batches[:steps]):
        value = F.cross_entropy(forward(leaves, torch.tanh, x[rows]), labels[rows])
        opt.zero_grad()
        value.backward()
        opt.step()
        schedule.step()
        losses.append(value.item())
    epoch = -(-n // batch)
    losses = np.array(losses)[: steps // epoch * epoch].reshape(-1, epoch).mean(1)
    flat = [p.detach().numpy().astype(np.float64).ravel() for p in leaves]
    return np.concatenate(flat), losses


case = open(folder + "trainer.txt").read().split()
order = read("order.bin", (-1, int(case[-2])), np.uint32).astype(np.int64)
for dtype in (torch.float32, torch.float64):
    starts = read("trainer.start.bin", (int(case[-1]), -1))
    members = [train_member(case, start, order, dtype) for start in starts]
    losses = np.array([member[1] for member in members]).T
    result = np.concatenate([member[0] for member in members] + [losses.ravel()])
    result.tofile(folder + "trainer." + str(dtype).split(".")[1] + ".bin")
