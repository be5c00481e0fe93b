"""The trainings of bench/gpu.c in PyTorch, on the same GPU.

    gpu_peer.py [--toy] [--device cuda|cpu] [--forms NAME,...] [--seconds S]

Float32, 784-H-10 students, activation g, cross entropy, batches of 512, Adam (fused where this
PyTorch has it); 2-25-25-1 by mean square error for `tiny`. The data lie in the GPU's memory, every
epoch draws a permutation there, a step gathers its rows by index. Products by fp32 and by tf32.
Forms:
  einsum   the form published with the method: one einsum a layer over all students
  bmm      one baddbmm a layer, eager
  wide     one wide product for the first layer, which all students share, baddbmm above
  vmap     torch.func: vmap of grad over a function of one student
  graph    wide and bmm, each with the whole step captured in a CUDA graph; the faster is told
  compile  torch.compile of the loss of wide and of bmm, with the whole step in a CUDA graph,
           or as it is where that fails; the faster is told
  process  one process a run: one student, plain torch.nn, eager; N students take N times as long,
           which is said and not measured. The start of a process does not count.
Times are by the host's clock around many steps, synchronised at both ends, the median of several;
compilation and capture are not counted. A form that cannot run is told as failed, with the reason;
what does not begin within S seconds is told as skipped. Output: who,task,math,N,width,measure,value
"""
import argparse
import gc
import signal
import statistics
import sys
import time

import torch
from torch.nn import functional as F

FORMS = ["einsum", "bmm", "wide", "vmap", "graph", "compile", "process"]
CASE_SECONDS = 45  # for one form of one case, compilation included


def g(x):
    return torch.sigmoid(4 * x) + F.softplus(x)


def first_line(error):
    text = str(error).strip().split("\n")[0] if str(error).strip() else ""
    return (type(error).__name__ + ": " + text).replace(",", ";")[:160]


class Task:
    """Data and the loss of one batch: outputs [N, B, O] or, with members_last, [B, O, N]."""

    def __init__(self, name, N, sizes, batch, samples, device):
        self.name, self.N, self.sizes, self.batch = name, N, sizes, batch
        self.samples, self.device = samples, device
        self.x = torch.rand(samples, sizes[0], device=device) * 2 - 1
        if name == "tiny":
            self.y = torch.rand(samples, sizes[-1], device=device)
        else:
            self.y = torch.arange(samples, device=device) * 31 % sizes[-1]

    def loss(self, out, y):
        """Sum over the students of their mean losses."""
        if self.name == "tiny":
            return ((out - y) ** 2).mean((1, 2)).sum()
        N, B, O = out.shape
        target = y.expand(N, B).reshape(N * B)
        return F.cross_entropy(out.reshape(N * B, O), target, reduction="sum") / B

    def loss_members_last(self, out, y):
        if self.name == "tiny":
            return ((out - y[:, :, None]) ** 2).mean((0, 1)).sum()
        B, O, N = out.shape
        target = y[:, None].expand(B, N)  # classes stand second, as cross_entropy wants them
        return F.cross_entropy(out, target, reduction="sum") / B


def weight(*shape, fan, device):
    return torch.nn.Parameter((torch.rand(*shape, device=device) * 2 - 1) / fan**0.5)


# ---- forms: parameters, and loss(x, y) of a batch --------------------------------------------


def einsum_form(t):
    weights = [weight(i, o, t.N, fan=i, device=t.device) for i, o in zip(t.sizes, t.sizes[1:])]
    biases = [torch.nn.Parameter(torch.zeros(o, t.N, device=t.device)) for o in t.sizes[1:]]

    def loss(x, y):
        a = torch.einsum("bi,ihn->bhn", x, weights[0]) + biases[0]
        for w, b in zip(weights[1:], biases[1:]):
            a = torch.einsum("bin,ihn->bhn", g(a), w) + b
        return t.loss_members_last(a, y)

    return weights + biases, loss


def member_first(t):
    weights = [weight(t.N, i, o, fan=i, device=t.device) for i, o in zip(t.sizes, t.sizes[1:])]
    biases = [torch.nn.Parameter(torch.zeros(t.N, 1, o, device=t.device)) for o in t.sizes[1:]]
    return weights, biases


def bmm_form(t):
    weights, biases = member_first(t)

    def loss(x, y):
        a = torch.baddbmm(biases[0], x.expand(t.N, *x.shape), weights[0])
        for w, b in zip(weights[1:], biases[1:]):
            a = torch.baddbmm(b, g(a), w)
        return t.loss(a, y)

    return weights + biases, loss


def wide_form(t):
    weights, biases = member_first(t)
    H = t.sizes[1]
    first = weight(t.sizes[0], t.N * H, fan=t.sizes[0], device=t.device)
    first_bias = torch.nn.Parameter(torch.zeros(t.N * H, device=t.device))

    def loss(x, y):
        a = torch.addmm(first_bias, x, first).view(-1, t.N, H).transpose(0, 1)
        for w, b in zip(weights[1:], biases[1:]):
            a = torch.baddbmm(b, g(a), w)
        return t.loss(a, y)

    return [first, first_bias] + weights[1:] + biases[1:], loss


def process_form(t):
    layers = []
    for i, o in zip(t.sizes, t.sizes[1:]):
        layers.append(torch.nn.Linear(i, o, device=t.device))
    params = [p for layer in layers for p in layer.parameters()]

    def loss(x, y):
        for k, layer in enumerate(layers):
            x = layer(x if k == 0 else g(x))
        return F.mse_loss(x, y) if t.name == "tiny" else F.cross_entropy(x, y)

    return params, loss


# ---- steps -----------------------------------------------------------------------------------


def make_adam(params, capturable=False):
    """The fastest Adam that this PyTorch has for this device."""
    cuda = params[0].is_cuda
    wishes = [{"fused": True}, {"foreach": True}, {}] if cuda else [{"foreach": True}, {}]
    for wish in wishes:
        if capturable:
            wish = dict(wish, capturable=True)
        try:
            return torch.optim.Adam(params, lr=1e-4, **wish)
        except (TypeError, RuntimeError, ValueError):
            continue
    raise RuntimeError("no Adam can be captured")


def eager_step(t, params, loss):
    adam = make_adam(params)

    def step(index):
        adam.zero_grad(set_to_none=True)
        loss(t.x[index], t.y[index]).backward()
        adam.step()

    return step


def vmap_step(t):
    if not hasattr(torch, "func"):
        raise NotImplementedError("this PyTorch has no torch.func")
    from torch.func import grad, vmap

    weights, biases = member_first(t)
    biases = [torch.nn.Parameter(b.detach()[:, 0]) for b in biases]
    params = weights + biases
    adam = make_adam(params)
    L = len(weights)

    def loss_of_one(p, x, y):
        for k in range(L):
            x = (x if k == 0 else g(x)) @ p[k] + p[L + k]
        return F.mse_loss(x, y) if t.name == "tiny" else F.cross_entropy(x, y)

    gradients = vmap(grad(loss_of_one), in_dims=(0, None, None))

    def step(index):
        found = gradients(tuple(p.detach() for p in params), t.x[index], t.y[index])
        for p, d in zip(params, found):
            p.grad = d
        adam.step()

    return step


def captured_step(t, params, loss):
    """The whole step as one CUDA graph that reads its rows' numbers from a fixed place."""
    adam = make_adam(params, capturable=True)
    index = torch.arange(t.batch, device=t.device)

    def whole():
        adam.zero_grad(set_to_none=True)
        loss(t.x[index], t.y[index]).backward()
        adam.step()

    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            whole()
    torch.cuda.current_stream().wait_stream(side)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    adam.zero_grad(set_to_none=True)
    with torch.cuda.graph(graph):
        whole()

    def step(rows):
        index.copy_(rows)
        graph.replay()

    return step


def compiled(loss):
    if not hasattr(torch, "compile"):
        raise NotImplementedError("this PyTorch has no torch.compile")
    torch._dynamo.reset()
    return torch.compile(loss, dynamic=False)


def eager_of(form):
    return lambda t: eager_step(t, *form(t))


def graph_of(form):
    def make(t):
        if t.device != "cuda":
            raise NotImplementedError("CUDA graphs need a GPU")
        return captured_step(t, *form(t))

    return make


def compiled_of(form):
    def make(t):
        params, loss = form(t)
        return eager_step(t, params, compiled(loss))

    return make


def compiled_graph_of(form):
    def make(t):
        if t.device != "cuda":
            raise NotImplementedError("CUDA graphs need a GPU")
        params, loss = form(t)
        return captured_step(t, params, compiled(loss))

    return make


# form: its variants, of which the fastest is told; "X" stands in where "X graph" fails
VARIANTS = {
    "einsum": {"einsum": eager_of(einsum_form)},
    "bmm": {"bmm": eager_of(bmm_form)},
    "wide": {"wide": eager_of(wide_form)},
    "vmap": {"vmap": vmap_step},
    "graph": {"wide": graph_of(wide_form), "bmm": graph_of(bmm_form)},
    "compile": {
        "wide graph": compiled_graph_of(wide_form),
        "wide": compiled_of(wide_form),
        "bmm graph": compiled_graph_of(bmm_form),
        "bmm": compiled_of(bmm_form),
    },
    "process": {"process": eager_of(process_form)},
}


# ---- the clock -------------------------------------------------------------------------------


def synchronize(device):
    if device == "cuda":
        torch.cuda.synchronize()


def epoch(t, step, steps):
    """`steps` steps, with an order of the data drawn for each pass through it."""
    each = t.samples // t.batch
    for k in range(steps):
        if k % each == 0:
            order = torch.randperm(t.samples, device=t.device)
        at = k % each * t.batch
        step(order[at : at + t.batch])


def seconds_a_step(t, step, toy):
    epoch(t, step, 3)
    synchronize(t.device)

    def timed(steps):
        start = time.perf_counter()
        epoch(t, step, steps)
        synchronize(t.device)
        return (time.perf_counter() - start) / steps

    once = timed(2)
    steps = max(2, min(2000, int((0.02 if toy else 0.1) / once)))
    return statistics.median(timed(steps) for _ in range(2 if toy else 4))


class OutOfTime(Exception):
    pass


def ring(_signal, _frame):
    raise OutOfTime(f"takes longer than {CASE_SECONDS} s")


def clean(device):
    gc.collect()
    if device == "cuda":
        torch.cuda.empty_cache()


def tell(who, t, math, measure, value):
    width = t.sizes[1]
    shown = value if isinstance(value, str) else f"{value:.6g}"
    print(f"{who},{t.name},{math},{t.N},{width},{measure},{shown}", flush=True)


def one_variant(t, make, toy):
    """Seconds a step; a bell rings where it takes too long."""
    signal.alarm(CASE_SECONDS)
    try:
        return seconds_a_step(t, make(t), toy)
    finally:
        signal.alarm(0)


def measure(t, form, math, toy):
    who = "torch " + form
    times, reasons = {}, []
    for name, make in VARIANTS[form].items():
        if f"{name} graph" in times:  # the same with fewer launches
            continue
        try:
            times[name] = one_variant(t, make, toy)
        except Exception as error:  # a form that this PyTorch cannot run is news, not the end
            reasons.append((name, first_line(error)))
        clean(t.device)
    for name, reason in reasons:
        tell(who, t, math, "failed" if len(VARIANTS[form]) == 1 else f"failed {name}", reason)
    if not times:
        return
    best = min(times, key=times.get)
    for name, seconds in times.items():
        if len(times) > 1:
            tell(who, t, math, f"ms_step {name}", seconds * 1e3)
    tell(who, t, math, "ms_step", times[best] * 1e3)
    tell(who, t, math, "students_x_samples_s", t.N * t.batch / times[best])
    if t.name == "tiny":
        tell(who, t, math, "us_epoch_member", times[best] * 1e6 / t.N)


def use_math(math):
    torch.set_float32_matmul_precision("high" if math == "tf32" else "highest")


def cases(toy):
    """task, math, N, width, forms: what the goals are of first."""
    every = [f for f in FORMS if f != "process"]
    if toy:
        for name, N, width in ("train", 2, 32), ("tiny", 3, 25):
            yield name, "fp32", N, width, every
            yield name, "fp32", 1, width, ["process"]
        return
    for math in "fp32", "tf32":
        yield "train", math, 1, 32, ["process"]
        yield "train", math, 10, 32, every
    yield "tiny", "fp32", 1, 25, ["process"]
    yield "tiny", "fp32", 1000, 25, ["einsum", "bmm", "graph", "compile"]
    for N, width in (100, 256), (1000, 32), (100, 32), (10, 256), (1000, 256), (1, 32):
        for math in "fp32", "tf32":
            yield "train", math, N, width, every
    yield "tiny", "fp32", 10000, 25, ["bmm", "graph", "compile"]
    for N in 10, 100, 1, 1000:
        for math in "fp32", "tf32":
            yield "train", math, N, 1024, every
    for math in "fp32", "tf32":
        yield "train", math, 1, 256, every


def make_task(name, N, width, toy, device):
    if name == "tiny":
        return Task(name, N, (2, width, width, 1), *((40, 40) if toy else (300, 300)), device)
    batch = 16 if toy else 512
    steps = 3 if toy else 120 if N * width <= 10000 else 20
    return Task(name, N, (70 if toy else 784, width, 10), batch, steps * batch, device)


def main():
    ask = argparse.ArgumentParser()
    ask.add_argument("--toy", action="store_true")
    ask.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    ask.add_argument("--forms", default=",".join(FORMS))
    ask.add_argument("--seconds", type=float, default=150)
    args = ask.parse_args()
    if args.device == "cuda" and not torch.cuda.is_available():
        sys.exit("gpu_peer.py: this PyTorch finds no GPU; --device cpu runs without")
    wanted = args.forms.split(",")
    unknown = [f for f in wanted if f not in FORMS]
    if unknown:
        sys.exit(f"gpu_peer.py: form {unknown[0]} is none of {', '.join(FORMS)}")
    signal.signal(signal.SIGALRM, ring)
    start = time.monotonic()
    for name, math, N, width, forms in cases(args.toy):
        use_math(math)
        for form in forms:
            if form not in wanted:
                continue
            t = make_task(name, N, width, args.toy, args.device)
            if time.monotonic() - start > args.seconds:
                tell("torch " + form, t, math, "skipped", "out of time")
            else:
                measure(t, form, math, args.toy)
            del t
            clean(args.device)


main()
