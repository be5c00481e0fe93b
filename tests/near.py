"""near.py RESULTS RESULTS TOLERANCE - exit status 0 if two folders of results hold the same runs
with the same numbers but for rounding: the measures of every runs.csv, and every dataset of
every model (.h5) but checkpoints. Numbers may differ by TOLERANCE times the larger one, or the
largest one of a dataset, plus 1e-9."""
import csv
import pathlib
import sys

import h5py
import numpy as np

first, second, tolerance = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), float(sys.argv[3])
told = {"time_s", "hosts", "folder"}


def number(text):
    try:
        return float(text)
    except ValueError:
        return None


def compare(where, a, b):
    a, b = np.asarray(a, float), np.asarray(b, float)
    if a.shape != b.shape:
        sys.exit(f"{where}: shapes {a.shape} and {b.shape}")
    if a.size == 0:
        return
    bound = tolerance * max(np.abs(a).max(), np.abs(b).max()) + 1e-9
    if not np.abs(a - b).max() <= bound:
        sys.exit(f"{where}: differs by {np.abs(a - b).max():.3g}, at most {bound:.3g}")


def compare_tables(a, b):
    rows = [list(csv.DictReader(open(f))) for f in (a, b)]
    if len(rows[0]) != len(rows[1]):
        sys.exit(f"{a}: {len(rows[0])} and {len(rows[1])} rows")
    for x, y in zip(*rows):
        for name in sorted((set(x) | set(y)) - told):
            p, q = x.get(name, ""), y.get(name, "")
            if number(p) is not None and number(q) is not None:
                compare(f"{a}, {name}", number(p), number(q))
            elif p != q:
                sys.exit(f"{a}, {name}: {p} and {q}")
    return len(rows[0])


def compare_models(a, b):
    names = []
    with h5py.File(a) as f, h5py.File(b) as g:
        f.visititems(lambda n, d: names.append(n) if isinstance(d, h5py.Dataset) else None)
        for name in names:
            if name != "seconds" and f[name].dtype.kind == "f":
                compare(f"{a}, {name}", f[name][()], g[name][()])


rows = sum(compare_tables(f, second / f.relative_to(first)) for f in first.rglob("runs.csv"))
models = [f for f in first.rglob("*.h5") if "checkpoint" not in f.name and "tries" not in f.parts]
for f in models:
    compare_models(f, second / f.relative_to(first))
if rows == 0 or not models:
    sys.exit(f"{first}: {rows} rows, {len(models)} models")
