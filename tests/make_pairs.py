"""make_pairs.py FOLDER - good.npz: inputs and answers of a small tanh network; nan.npz: the
same with a NaN at row 17, column 3 of X."""
import sys

import numpy as np

rng = np.random.default_rng(0)
x = rng.normal(size=(200, 5))
y = np.tanh(x @ rng.normal(size=(5, 3))) @ rng.normal(size=(3, 2))
np.savez(sys.argv[1] + "/good.npz", X=x, Y=y)
x[17, 3] = np.nan
np.savez(sys.argv[1] + "/nan.npz", X=x, Y=y)
