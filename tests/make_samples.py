"""make_samples.py FILE.npz - 120 samples of 70 numbers in three classes, 20 of them for tests."""
import sys

import numpy as np

rng = np.random.default_rng(1)
x = rng.normal(size=(120, 70))
labels = (x[:, 0] > 0).astype(int) + (x[:, 1] > 0.3)
np.savez(sys.argv[1], X=x[:100], labels=labels[:100], X_test=x[100:], labels_test=labels[100:])
