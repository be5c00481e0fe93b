#!/bin/sh
# install-deps.sh [run|test|bench] - installs the Debian packages that cohort needs and that
# are not there yet. Says what it does; needs no root where nothing is missing.
set -eu

run="gcc make pkg-config openmpi-bin libopenmpi-dev libscalapack-openmpi-dev
  libhdf5-openmpi-dev libopenblas-dev libiniparser-dev librandom123-dev libb2-dev
  libjansson-dev zlib1g-dev gnuplot-nox dataset-fashion-mnist"
test="$run g++ libcmocka-dev python3 python3-numpy python3-scipy python3-h5py python3-pandas
  python3-torch curl slurmctld slurmd slurm-client slurm-wlm-basic-plugins munge libpmix2
  iproute2 procps util-linux"
bench="$run python3 python3-numpy python3-scipy python3-torch python3-fastcluster
  util-linux"

case ${1:-run} in
run) want=$run ;;
bench) want=$bench ;;
test) want=$test; command -v npm >/dev/null 2>&1 || want="$want npm" ;;
*) echo "usage: $0 [run|test|bench]" >&2; exit 2 ;;
esac

missing=
for package in $want; do
  state=$(dpkg-query -W -f '${Status}' "$package" 2>/dev/null || true)
  [ "$state" = "install ok installed" ] || missing="$missing $package"
done
[ -n "$missing" ] || exit 0

echo "installing Debian packages:$missing"
if [ "$(id -u)" = 0 ]; then
  as_root=
elif command -v sudo >/dev/null 2>&1; then
  as_root=sudo
else
  echo "$0: no root and no sudo here; ask an administrator to run" >&2
  echo "  apt-get install --no-install-recommends$missing" >&2
  exit 1
fi
log=$(mktemp)
trap 'rm -f "$log"' EXIT
install() {
  # shellcheck disable=SC2086
  $as_root env DEBIAN_FRONTEND=noninteractive \
    apt-get install -y --no-install-recommends $missing >"$log" 2>&1
}
if ! install; then
  echo "updating the package lists first"
  $as_root apt-get update >"$log" 2>&1 || { cat "$log" >&2; exit 1; }
  install || { cat "$log" >&2; exit 1; }
fi
