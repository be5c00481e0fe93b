"""same_h5.py A B - exit status 0 if two HDF5 files hold the same datasets, bit for bit (but
for the seconds that a training took)."""
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


a, b = datasets(sys.argv[1]), datasets(sys.argv[2])
different = sorted(set(a) ^ set(b))
different += [n for n in sorted(set(a) & set(b)) if as_bytes(a[n]) != as_bytes(b[n])]
if different or not a:
    sys.exit(f"{sys.argv[1]} and {sys.argv[2]} differ in: {', '.join(different) or 'nothing'}")
