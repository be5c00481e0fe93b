"""Writes the arrays that test_data reads: python3 make_arrays.py FOLDER.

Every number type and byte order holds a table of shape (3, 4). With k = 4 i + j, element
[i, j] is k - 6 where the type is signed, k where not, k % 2 for bool, (k - 6) / 4 for
floats.
"""
import sys
import zipfile

import h5py
import numpy as np

folder = sys.argv[1] + "/"
count = np.arange(12).reshape(3, 4)
TABLES = {"f": (count - 6) / 4, "i": count - 6, "u": count, "b": count % 2}
TYPES = ["f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "b1"]
cube = np.arange(24.0).reshape(2, 3, 4)


def tables():
    for t in TYPES:
        for order, mark in (("<", "l"), (">", "b")):
            yield t + mark, TABLES[t[0]].astype(order + t)


def save(name, array, version=None):
    with open(folder + name, "wb") as f:
        np.lib.format.write_array(f, np.asanyarray(array), version=version)


for name, array in tables():
    save(name + ".npy", array)
for v in (1, 2, 3):
    save(f"v{v}.npy", cube, (v, 0))
save("fortran.npy", np.asfortranarray(cube))
save("fortran32.npy", np.asfortranarray(cube[0].astype(">f4")))
save("one.npy", np.float64(2.5))
save("empty.npy", np.zeros((0, 3)))
save("five.npy", np.zeros((1, 1, 1, 1, 1)))
save("complex.npy", np.zeros(3, "c16"))
save("text.npy", np.array(["a", "b"]))
save("fields.npy", np.zeros(2, [("a", "f4"), ("b", "i4")]))
save("long.npy", np.zeros(2, np.longdouble))
save("halves.npy", np.array([0x0000, 0x8000, 0x0001, 0x03FF, 0x0400, 0x7BFF, 0x7C00,
                             0xFC00, 0x7E00, 0xBC00], "<u2").view("<f2"))
save("ends.npy", np.array([-2**63, 2**63 - 1], "<i8"))
save("top.npy", np.array([2**64 - 1], "<u8"))
save("large.npy", np.arange(20000.0).reshape(100, 200))

x, y = np.arange(6.0).reshape(3, 2), np.array([[1.0], [2.0], [3.0]])
np.savez(folder + "stored.npz", X=x, Y=y)
np.savez_compressed(folder + "deflated.npz", X=x, Y=y, big=np.arange(50000))
np.savez(folder + "only_x.npz", X=x)
np.savez(folder + "flags.npz", flags=count[0] > 1)
np.savez(folder + "long_y.npz", X=x, Y=np.zeros((4, 1)))
np.savez(folder + "vector_y.npz", X=x, Y=y[:, 0])
np.savez(folder + "nan_x.npz", X=np.array([[0, 1], [2, 3], [4, np.nan]]))
np.savez(folder + "inf_y.npz", X=x, Y=np.array([[0.0], [np.inf], [0]]))
np.savez(folder + "huge_x.npz", X=np.array([[0, 1e300]]))
np.savez(folder + "images.npz", X=np.ones((2, 3, 2, 2)))
np.savez(folder + "gray.npz", X=np.ones((2, 4, 3)))
np.savez(folder + "digits.npz", X=np.ones((2, 28, 28)))
np.savez(folder + "wide.npz", X=np.ones((2, 28 * 28 * 3)))
np.savez(folder + "turned.npz", X=np.ones((2, 1, 14, 56)))
np.savez(folder + "nothing.npz")

limit, zipfile.ZIP64_LIMIT = zipfile.ZIP64_LIMIT, 0
np.savez_compressed(folder + "zip64.npz", X=x, Y=y)
zipfile.ZIP64_LIMIT = limit
with zipfile.ZipFile(folder + "bzip2.npz", "w", zipfile.ZIP_BZIP2) as z:
    z.write(folder + "v1.npy", "X.npy")
with zipfile.ZipFile(folder + "comment.npz", "w") as z:
    z.write(folder + "v1.npy", "X.npy")
    z.comment = b"a comment that holds PK\x05\x06 and goes on for long enough"

with h5py.File(folder + "all.h5", "w") as f:
    for name, array in tables():
        f[name] = array
    f["group/inner"] = cube
    f["scalar"] = 2.5
    f["five"] = np.zeros((1, 1, 1, 1, 1))
    f["complex"] = np.zeros(3, "c16")
    f["text"] = "words"
    f["void"] = h5py.Empty("f8")
    f["empty"] = np.zeros((0, 3))
    f.create_dataset("packed", data=np.arange(5000.0).reshape(50, 100), chunks=(7, 9),
                     compression="gzip", shuffle=True, fletcher32=True)
with h5py.File(folder + "xy.h5", "w") as f:
    f["X"], f["Y"] = x, y
with h5py.File(folder + "flags.h5", "w") as f:
    f["flags"] = count[0] > 1
with h5py.File(folder + "none.h5", "w") as f:
    f.create_group("X")
