#!/bin/bash
# test_fake_cuda.sh BUILD - builds the fake CUDA (tests/fake_cuda) with its own test program and
# runs that: kernels, streams, graphs, failures and NCCL on the CPU. Needs no CUDA.
set -u
cd "$(dirname "$0")/.." || exit 1
unset MAKEFLAGS MAKELEVEL MFLAGS
build=$1/fake
if ! make FAKE_CUDA=1 BUILD="$build" -s "$build/tests/fake_cuda/test_fake"; then
  echo "not ok fake CUDA: it builds"
  exit 1
fi
echo "ok fake CUDA: it builds"
cuda=${CUDA_HOME:-/usr/local/cuda}
if [ -e "$cuda/include/cublas_v2.h" ] && [ -e "$cuda/include/nccl.h" ]; then
  if python3 tests/fake_cuda/signatures.py "$cuda"; then
    echo "ok fake CUDA: its headers agree with the real ones"
  else
    echo "not ok fake CUDA: its headers agree with the real ones"
    exit 1
  fi
fi
exec timeout 120 "$build/tests/fake_cuda/test_fake"
