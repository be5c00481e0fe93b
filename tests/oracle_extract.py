#!/usr/bin/python3
"""Plain restatement of the clustering rule of Expand-and-Cluster, for test_oracle.

    oracle_extract.py DIR          clusters the layer in DIR and writes the result there
    oracle_extract.py DIR images   first makes the layer from Fashion-MNIST images
    oracle_extract.py DIR patches  first makes it from patches of such images

Martinelli, Simsek, Gerstner, Brea, ICML 2024; every step is the shortest NumPy or SciPy
way to say it. Files: options.txt (key=value), and raw arrays w [N, H, D], a [N, H, O],
loss [N], mask [D] as float64; results in the same form.
"""
import gzip
import os
import sys

try:
    import numpy as np
    from scipy.cluster.hierarchy import average, complete, fcluster
    from scipy.spatial.distance import cdist, pdist, squareform
except ImportError as missing:
    sys.exit(f"oracle_extract.py: {missing}; install the Debian packages python3-numpy "
             "and python3-scipy")

IMAGES = "/usr/share/datasets/fashion-mnist/t10k-images-idx3-ubyte.gz"
DIR = sys.argv[1]


def load(name, *shape):
    return np.fromfile(os.path.join(DIR, name)).reshape(shape)


def save(name, values):
    np.ascontiguousarray(values, dtype=np.float64).tofile(os.path.join(DIR, name))


def options():
    with open(os.path.join(DIR, "options.txt")) as lines:
        return dict(line.strip().split("=") for line in lines)


# ---- layers made from real images ----------------------------------------------------


def images(count):
    if not os.path.exists(IMAGES):
        sys.exit(f"oracle_extract.py: {IMAGES} is missing; install the Debian package "
                 "dataset-fashion-mnist")
    with gzip.open(IMAGES) as file:
        raw = np.frombuffer(file.read(16 + 784 * count), np.uint8, offset=16)
    return raw.reshape(count, 28, 28) / 255.0


def make_real(kind, opt):
    """Every student holds noisy copies of the same vectors, and a few strangers."""
    N, H, O = (int(opt[k]) for k in "NHO")
    rng = np.random.default_rng(int(opt["seed"]))
    pictures = images(400)
    if kind == "images":
        vectors = pictures.reshape(400, 784) - pictures.mean(axis=0).reshape(784)
    else:
        vectors = pictures[:, 10:17, 10:17].reshape(400, 49)
        vectors = vectors - vectors.mean(axis=1, keepdims=True)
        vectors = vectors[vectors.std(axis=1) > 0.05]
    D = vectors.shape[1] + 1
    vectors = np.hstack([vectors, rng.normal(size=(len(vectors), 1))])
    w = np.empty((N, H, D))
    for s in range(N):
        own = np.concatenate([rng.permutation(H - 2), rng.integers(H, len(vectors), 2)])
        w[s] = vectors[own] + float(opt["noise"]) * rng.normal(size=(H, D))
    if opt["symmetry"] != "none":
        w *= rng.choice([-1, 1], size=(N, H, 1))
    if opt["symmetry"] == "even_linear_positive_scaling":
        w *= rng.uniform(0.2, 3, size=(N, H, 1))
    save("w", w)
    save("a", rng.normal(size=(N, H, O)))
    save("loss", rng.uniform(size=N))
    save("mask", np.ones(D))
    with open(os.path.join(DIR, "options.txt"), "a") as file:
        file.write(f"D={D}\n")


# ---- section 4 -----------------------------------------------------------------------


def cosine(f):
    """A zero vector has no direction (SciPy: nan): distance 1."""
    return np.nan_to_num(pdist(f, "cosine"), nan=1.0)


def distances(f, opt):
    d = cosine(f) if opt["metric"] == "cosine" else pdist(f)
    if opt["canonical"] == "distance" and opt["symmetry"] != "none":
        d = np.minimum(d, squareform(cdist(f, -f, opt["metric"]), checks=False))
    return d


def canonical_signs(v, keep, opt):
    if opt["symmetry"] == "none" or opt["canonical"] == "distance":
        return np.ones(len(v))
    if opt["canonical"] == "first":
        decides = np.flatnonzero(keep)[0]
    else:
        decides = np.argmax(np.where(keep, np.abs(v).mean(axis=0), -1))
    return np.where(v[:, decides] < 0, -1.0, 1.0)


def cut_tree(Z, smallest, opt):
    """Flat clusters, recomputed at every height; and the height."""
    heights = Z[:, 2]
    if opt["cut"] == "count":
        labels = fcluster(Z, int(opt["clusters"]), "maxclust")
        return labels, np.nan
    if opt["cut"] == "plateau":
        k = np.flatnonzero(np.diff(heights) > 0.1)[0]
        cut = heights[k] + 0.95 * (heights[k + 1] - heights[k])
    elif opt["cut"] == "angle":
        cut = 1 - np.cos(np.pi / float(opt["beta"]))
    else:
        large = [np.sum(np.bincount(fcluster(Z, h, "distance")) >= smallest)
                 for h in heights]
        k = int(np.argmax(large))
        while k + 1 < len(large) and large[k + 1] == large[k]:
            k += 1
        cut = heights[k]
    return fcluster(Z, cut, "distance"), cut


def by_first_appearance(labels):
    order = {}
    return np.array([order.setdefault(l, len(order)) for l in labels])


def medoid_signs(v, members, keep, opt):
    f = v[members][:, keep]
    d = np.minimum(cdist(f, f, opt["metric"]), cdist(f, -f, opt["metric"]))
    medoid = f[np.argmin(d.sum(axis=1))]
    return np.where(f @ medoid < 0, -1.0, 1.0)


def cluster(w, a, loss, keep, opt):
    N, H, D = w.shape
    v, out = w.reshape(N * H, D).copy(), a.reshape(N * H, -1).copy()
    student = np.repeat(np.arange(N), H)
    if opt["symmetry"] == "even_linear_positive_scaling":
        norm = np.linalg.norm(v, axis=1, keepdims=True)
        v, out = v / norm, out * norm
    sign = canonical_signs(v, keep, opt)
    f = (v * sign[:, None])[:, keep]
    Z = (average if opt["linkage"] == "average" else complete)(distances(f, opt))
    smallest = int(np.floor(float(opt["gamma"]) * N))
    labels, cut = cut_tree(Z, smallest, opt)
    labels = by_first_appearance(labels)

    best = np.argsort(loss, kind="stable")[:5]
    kept, students, new_w, new_a = [], [], [], []
    constant, linear = np.zeros((N, out.shape[1])), np.zeros((N, D, out.shape[1]))
    for c in range(labels.max() + 1):
        members = np.flatnonzero(labels == c)
        if len(members) < smallest:
            continue
        if opt["canonical"] == "distance" and opt["symmetry"] != "none":
            sign[members] = medoid_signs(v, members, keep, opt)
        f = (v * sign[:, None])[members][:, keep]
        limit = 1 - np.cos(np.pi / float(opt["beta"]))
        if np.median(cosine(f)) > limit * (1 + 1e-12):  # above, not by rounding
            continue
        good = [s for s in best if s in student[members]]
        if not good:
            continue
        kept.append(c)
        students.append(good[0])
        mine = members[student[members] == good[0]]
        new_w.append((v * sign[:, None])[mine].mean(axis=0))
        signed = out * (sign[:, None] if opt["symmetry"].startswith("odd") else 1)
        sums = [signed[members[student[members] == s]].sum(axis=0) for s in range(N)]
        new_a.append(sums[good[0]] if opt["last_hidden"] == "1" else sums)
        for i in members[sign[members] < 0]:
            constant[student[i]] += out[i]
            linear[student[i]] += float(opt["linear_part"]) * np.outer(v[i], out[i])

    new_a = np.array(new_a)
    if opt["last_hidden"] != "1":
        new_a = new_a.swapaxes(0, 1)
    save("heights", Z[:, 2])
    save("cut", [cut])
    save("label", labels)
    save("kept", kept)
    save("student", students)
    save("new_w", new_w)
    save("new_a", new_a)
    save("constant", constant)
    save("linear", linear)


def main():
    if len(sys.argv) > 2:
        make_real(sys.argv[2], options())
    opt = options()
    N, H, D, O = (int(opt[k]) for k in "NHDO")
    cluster(load("w", N, H, D), load("a", N, H, O), load("loss", N), load("mask", D) != 0,
            opt)


main()
