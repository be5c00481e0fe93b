"""Prints what bench/run.sh wrote: table.py RESULTS.csv."""
import csv
import sys


def ratio(a, b):
    return f"{a / b:6.1f}" if a and b else "     -"


def main():
    with open(sys.argv[1]) as f:
        rows = [r for r in csv.reader(f)][1:]
    value = {(r[0], r[1]): float(r[2]) for r in rows}
    extra = {(r[0], r[1]): [float(v) for v in r[5:]] for r in rows if len(r) > 5}
    peers = sorted({w for w, _ in value if w.startswith("torch")})

    cases = [w for who, w in value if who == "cohort" and ("cohort", w) in extra]
    if cases:
        print(f"{'training step':14}{'us':>10}{'us/net':>9}{'share':>7}{'true':>6}{'1 to all':>9}", end="")
        for p in peers:
            print(f"{p + ', einsum':>28}{'wide':>7}", end="")
        print("   (times as slow as cohort)")
    for c in cases:
        ours = value["cohort", c]
        us, _, _, share, true = extra["cohort", c]
        print(f"{c:14}{ours:10.0f}{us:9.1f}{share:7.2f}{true:6.2f}", end="")
        print(f"{ratio(value.get(('cohort-1-core', c)), ours):>9}", end="")
        for p in peers:
            for form, width in ("einsum", 28), ("wide", 7):
                print(f"{ratio(value.get((p, form + ' ' + c)), ours):>{width}}", end="")
        print()
    for (who, what), v in value.items():
        if ("seconds" in what or "GB" in what) and (who, what) not in extra:
            print(f"{who:20}{what:32}{v:10.3g}")


if __name__ == "__main__":
    main()
