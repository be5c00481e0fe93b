"""Prints what bench/gpu.sh wrote as Markdown: gpu_table.py RESULTS.csv."""
import csv
import sys

from table import ratio

PEERS = ["einsum", "bmm", "wide", "vmap", "graph", "compile", "process"]
PARTS = ["gemm", "gather", "bias_act", "act_grad", "bias_grad", "loss", "step"]


class Results:
    def __init__(self, path):
        with open(path) as f:
            self.rows = list(csv.DictReader(f))
        self.value = {}
        for r in self.rows:
            key = r["who"], r["task"], r["math"], int(r["N"]), int(r["width"]), r["measure"]
            self.value[key] = r["value"]

    def text(self, *key):
        return self.value.get(key)

    def number(self, *key):
        return float(self.value[key]) if key in self.value else None

    def cases(self, task):
        found = []
        for r in self.rows:
            case = r["math"], int(r["N"]), int(r["width"])
            if r["who"] == "cohort" and r["task"] == task and case not in found:
                found.append(case)
        return sorted(found, key=lambda c: (c[2], c[1], c[0]))

    def peer(self, form, task, math, N, width):
        """Milliseconds a step; one process a run: N times that of one student."""
        who = "torch " + form
        if form == "process":
            one = self.number(who, task, math, 1, width, "ms_step")
            return one * N if one else None
        return self.number(who, task, math, N, width, "ms_step")


def show(x, form=".3g"):
    return "-" if x is None else format(x, form)


def line(*cells):
    print("| " + " | ".join(str(c) for c in cells) + " |")


def head(*cells):
    line(*cells)
    line(*("---" for _ in cells))


def over(a, b):
    return a / b if a and b else None


def goals(r):
    """name, value, goal"""
    for math in "fp32", "tf32":
        ours = r.number("cohort", "train", math, 10, 32, "ms_step")
        case = "train", math, 10, 32
        compiled = [r.peer(f, *case) for f in ("graph", "compile")]
        best = min((t for t in compiled if t), default=None)
        what = f"10 students of width 32, {math}"
        yield f"{what}: einsum's time by ours", over(r.peer("einsum", *case), ours), 10
        yield f"{what}: time of the best of graph and compile by ours", over(best, ours), 3
    for math in "fp32", "tf32":
        share = r.number("cohort", "train", math, 100, 256, "share_of_gemm_rate")
        yield f"100 students of 784-256-10, {math}: share of the products' rate", share, 0.6
    tiny = r.number("cohort", "tiny", "fp32", 1000, 25, "ms_step")
    one = r.peer("process", "tiny", "fp32", 1000, 25)
    yield "1000 tiny networks: one process a run by ours", over(one, tiny), 100


def print_goals(r):
    print("\n## Goals\n")
    head("what", "found", "goal", "")
    for name, value, goal in goals(r):
        verdict = "not measured" if value is None else "met" if value >= goal else "missed"
        line(name, show(value), goal, verdict)


def print_limits(r):
    version = r.text("torch", "version", "-", 0, 0, "version")
    print(f"\nPyTorch {version or 'not found'}. Limits measured in this run:", end=" ")
    copy = r.number("cohort", "limit", "-", 0, 0, "copy_gb_s")
    print(f"copy {show(copy)} GB/s (read and written)", end="")
    for math in "fp32", "tf32", "bf16":
        peak = r.number("cohort", "limit", math, 0, 0, "peak_gflops")
        print(f"; large product in {math} {show(peak and peak / 1e3)} TFLOP/s", end="")
    print(".")


def print_trainings(r, task, title):
    print(f"\n## {title}\n")
    more = ["us/epoch/net"] if task == "tiny" else ["TFLOP/s", "share of products' rate"]
    head("width", "N", "math", "ms/step", "students x samples/s", *more, *PEERS)
    for math, N, width in r.cases(task):
        own = lambda measure: r.number("cohort", task, math, N, width, measure)
        ours = own("ms_step")
        if task == "tiny":
            extra = [show(own("us_epoch_member"))]
        else:
            rate = own("gflops")
            extra = [show(rate and rate / 1e3), show(own("share_of_gemm_rate"), ".2f")]
        peers = [ratio(r.peer(f, task, math, N, width), ours).strip() for f in PEERS]
        line(width, N, math, show(ours), show(own("students_x_samples_s")), *extra, *peers)


def print_parts(r):
    print("\n## A step by part: microseconds (share of bandwidth)\n")
    head("width", "N", "math", "step", "sum of parts", *PARTS)
    for math, N, width in r.cases("train"):
        own = lambda measure: r.number("cohort", "train", math, N, width, measure)
        cells = []
        for part in PARTS:
            ms, share = own(part + ".ms"), own(part + ".share_of_bandwidth")
            told = show(ms and ms * 1e3)
            cells.append(told + (f" ({share:.2f})" if share else ""))
        us = [own("ms_step"), own("parts_sum.ms")]
        line(width, N, math, *(show(x and x * 1e3) for x in us), *cells)


def print_products(r):
    names = ["first_forward", "first_weights", "last_forward", "last_inputs", "last_weights"]
    print("\n## Products: TFLOP/s of operations made\n")
    head("width", "N", "math", "all", *names)
    for math, N, width in r.cases("train"):
        own = lambda measure: r.number("cohort", "train", math, N, width, measure)
        rates = [own("gemm.true_gflops")] + [own(f"gemm.{n}.gflops") for n in names]
        line(width, N, math, *(show(x and x / 1e3) for x in rates))


def print_rest(r):
    rest = [x for x in r.rows if x["measure"].split()[0] in ("failed", "skipped")]
    if rest:
        print("\n## Failed or skipped\n")
    for x in rest:
        case = f"{x['task']} N = {x['N']}, width {x['width']}, {x['math']}"
        print(f"- {x['who']}, {case}: {x['measure']}: {x['value']}")


def main():
    r = Results(sys.argv[1])
    print("# Trainings on a GPU, beside PyTorch on the same GPU")
    print_limits(r)
    print(
        "\nRules and units stand in bench/gpu.c and bench/gpu_peer.py. Columns of peers: their "
        "time by ours, so 3 is three times as slow as cohort; process: one process a run, "
        "extrapolated from one."
    )
    print_goals(r)
    print_trainings(r, "train", "784-H-10, cross entropy, batch 512, Adam, float32")
    print_trainings(r, "tiny", "2-25-25-1, mean square error, full batch of 300, Adam, float32")
    print_parts(r)
    print_products(r)
    print_rest(r)


main()
