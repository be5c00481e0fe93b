"""accuracy.py RESULTS - the test accuracy in the teacher's runs.csv equals what PyTorch finds
for the weights in model.h5 on Fashion-MNIST's test images."""
import glob
import gzip
import subprocess
import sys

import h5py
import numpy as np
import pandas as pd
import torch

root = sys.argv[1] + "/quickstart_teacher/1-1"
files = subprocess.run(["dpkg", "-L", "dataset-fashion-mnist"], capture_output=True,
                       text=True, check=True).stdout.split()


def idx(name, offset):
    path = next(f for f in files if name in f)
    return np.frombuffer(gzip.open(path).read(), np.uint8, offset=offset)


x = (idx("t10k-images", 16).reshape(-1, 784) / 255.0 - 0.5) / 0.5
labels = idx("t10k-labels", 8)
with h5py.File(glob.glob(root + "/runs/*/seed_0/model.h5")[0]) as f:
    p = {name: torch.tensor(f[name][0]).double() for name in f if name.startswith("fc")}
hidden = torch.tanh(torch.tensor(x) @ p["fc_layers.0.weight"].T + p["fc_layers.0.bias"])
logits = hidden @ p["fc.weight"].T + p["fc.bias"]
accuracy = (logits.argmax(1).numpy() == labels).mean()
loss = torch.nn.functional.cross_entropy(logits, torch.tensor(labels).long()).item()
row = pd.read_csv(root + "/runs.csv").iloc[-1]
assert abs(row.test_accuracy - accuracy) <= 1e-4, (row.test_accuracy, accuracy)
assert abs(row.test_loss - loss) <= 1e-5 * loss, (row.test_loss, loss)
