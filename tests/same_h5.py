"""same_h5.py A B - exit status 0 if two HDF5 files hold the same datasets, bit for bit (but
for the seconds that a training took); for two folders, if all .h5 files below A do so with
those of the same names below B."""
import pathlib
import sys

import h5py


def datasets(path):
    found = {}
    with h5py.File(path, "r") as f:
        f.visititems(
            lambda name, item: found.update({name: item[()]})
            if isinstance(item, h5py.Dataset) and name != "seconds"
            else None
        )
    return found


def as_bytes(value):
    return value.tobytes() if hasattr(value, "tobytes") else value


def compare(path_a, path_b):
    a, b = datasets(path_a), datasets(path_b)
    different = sorted(set(a) ^ set(b))
    different += [n for n in sorted(set(a) & set(b)) if as_bytes(a[n]) != as_bytes(b[n])]
    if different or not a:
        sys.exit(f"{path_a} and {path_b} differ in: {', '.join(different) or 'nothing'}")


first, second = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
if first.is_dir():
    files = sorted(first.rglob("*.h5"))
    if not files:
        sys.exit(f"no .h5 file below {first}")
    for file in files:
        compare(file, second / file.relative_to(first))
else:
    compare(first, second)
