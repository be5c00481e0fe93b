#!/usr/bin/python3
"""Minimum of a small network's mean square error by SciPy, for test_finish.

    oracle_finish.py DIR ACTIVATION H

Files of DIR, raw float64: x [n, 4], y [n, 2], start [P] in cohort's order (W0 [in, H], b0,
W1 [H, out], b1). Writes `minimum`: loss at the end of BFGS from `start`.
"""
import os
import sys

try:
    import numpy as np
    from scipy.optimize import minimize
except ImportError as missing:
    sys.exit(f"oracle_finish.py: {missing}; install the Debian packages python3-numpy "
             "and python3-scipy")

DIR, ACT, H = sys.argv[1], sys.argv[2], int(sys.argv[3])
x = np.fromfile(os.path.join(DIR, "x")).reshape(-1, 4)
y = np.fromfile(os.path.join(DIR, "y")).reshape(-1, 2)
start = np.fromfile(os.path.join(DIR, "start"))


def act(z):
    if ACT == "tanh":
        a = np.tanh(z)
        return a, 1 - a * a
    a = 1 / (1 + np.exp(-z))
    return a, a * (1 - a)


def loss(p):
    w0, p = p[:4 * H].reshape(4, H), p[4 * H:]
    b0, p = p[:H], p[H:]
    w1, b1 = p[:2 * H].reshape(H, 2), p[2 * H:]
    a, slope = act(x @ w0 + b0)
    e = a @ w1 + b1 - y
    d = 2 * e / e.size
    back = d @ w1.T * slope
    return np.mean(e * e), np.concatenate(
        [(x.T @ back).ravel(), back.sum(0), (a.T @ d).ravel(), d.sum(0)])


found = minimize(loss, start, jac=True, method="BFGS", options={"gtol": 1e-11, "maxiter": 5000})
np.array([found.fun]).tofile(os.path.join(DIR, "minimum"))
