#!/usr/bin/env python3
"""signatures.py CUDA_HOME: do the functions and values that the fake headers declare agree with
those of the real headers? Compiles the ones against the others; prints how many it compared."""
import os
import re
import subprocess
import sys

here = os.path.dirname(os.path.abspath(__file__))
kinds = r"(?:cudaError_t|cublasStatus_t|ncclResult_t|const char \*)"
prototypes, values = [], []
for header in ("cuda_runtime_api.h", "cublas_v2.h", "nccl.h"):
    with open(os.path.join(here, "include", header)) as file:
        text = re.sub(r"/\*.*?\*/", "", file.read(), flags=re.S)
    text = re.sub(r"FAKE_DEFAULT\([^)]*\)", "", text)
    text = "\n".join(line for line in text.split("\n") if not line.startswith("#"))
    prototypes += re.findall(r"^%s\s*\w+\([^;]*\);" % kinds, text, re.M)
    values += re.findall(r"\b((?:cuda|CU|nccl)\w+)\s*=\s*(-?\d+)", text)
source = "#include <cuda_runtime_api.h>\n#include <cublas_v2.h>\n#include <nccl.h>\n"
source += "\n".join(prototypes)
source += "".join('\n_Static_assert((int)%s == %s, "%s");' % (n, v, n) for n, v in values) + "\n"
done = subprocess.run(["gcc", "-std=c17", "-fsyntax-only", "-xc", "-I" + sys.argv[1] + "/include",
                       "-"], input=source, text=True)
if done.returncode == 0 and len(prototypes) > 50 and len(values) > 80:
    print("%d functions and %d values agree" % (len(prototypes), len(values)))
else:
    sys.exit(1)
