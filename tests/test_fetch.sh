#!/bin/bash
# test_fetch.sh - scripts/fetch.sh from folders, archives and file URLs, whole and
# damaged. Nothing here uses the network. Needs Debian's dataset-fashion-mnist.
# shellcheck disable=SC2317 # the functions are called through check
set -u
cd "$(dirname "$0")/.." || exit 1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
package=/usr/share/datasets/fashion-mnist
export COHORT_DATA=$work/data
said=$work/said
status=0

check() { # TITLE CONDITION...
  local title=$1
  shift
  if "$@"; then
    echo "ok $title"
  else
    echo "not ok $title"
    cat "$said"
    status=1
  fi
}
fetch() { scripts/fetch.sh "$@" >"$said" 2>&1; }
whole() { [ "$(find "$COHORT_DATA/$1" -type f | wc -l)" -eq "$2" ] && clean; }
clean() { [ -z "$(find "$COHORT_DATA" -name '.*' 2>/dev/null)" ]; }
nothing() { [ -z "$(ls -A "$COHORT_DATA" 2>/dev/null)" ]; }
got() { rm -rf "$COHORT_DATA"; fetch "$@" && whole "$1" "${files:-4}"; }
refuses() { # TEXT ARGUMENTS...
  local text=$1
  shift
  rm -rf "$COHORT_DATA"
  ! fetch "$@" && grep -q -- "$text" "$said" && nothing
}

mkdir "$work/plain" "$work/short"
for f in "$package"/*.gz; do
  gzip -dc "$f" >"$work/plain/$(basename "$f" .gz)"
done
tar -C "$work" -czf "$work/set.tgz" plain
tar -C "$package" -cf "$work/set.tar" .
(cd "$work" && python3 -m zipfile -c set.zip plain)
cp "$work"/plain/t10k* "$work/short"

check "from the Debian package" got fashion_mnist
check "a set that is there is left alone" fetch fashion_mnist /no/such
check "says that it is there" grep -q "there already" "$said"
check "from a folder of .gz files" got fashion_mnist "$package"
check "from a folder of plain files" got fashion_mnist "$work/plain"
check "from a packed tar archive" got fashion_mnist "$work/set.tgz"
check "from a tar archive of .gz files" got fashion_mnist "$work/set.tar"
check "from a zip archive" got fashion_mnist "$work/set.zip"
check "from the URL of a file" got fashion_mnist "file://$work/set.tgz"
check "from the URL of a folder" got fashion_mnist "file://$work/plain/"

check "another set's files are refused" refuses "expected sha256" mnist "$package"
check "a missing file is named" refuses "train-images" fashion_mnist "$work/short"
check "a missing source" refuses "no such file" fashion_mnist "$work/nowhere"
check "a missing URL" refuses "cannot get" fashion_mnist "file://$work/nowhere.tgz"
check "an unknown name" refuses "usage" minst
check "cifar10 without a source" refuses "needs a source" cifar10
check "an unknown archive of cifar10" refuses "expected md5" cifar10 "$work/set.tgz"
check "a file that is no archive" refuses "neither a tar" fashion_mnist Makefile
head -c 9000000 "$work/set.tgz" >"$work/cut.tgz"
check "a truncated archive" refuses "" fashion_mnist "$work/cut.tgz"

printf x | dd of="$work/plain/t10k-labels-idx1-ubyte" bs=1 seek=99 conv=notrunc 2>"$said"
check "a changed byte" refuses "t10k-labels.*expected sha256" fashion_mnist "$work/plain"
cp -r "$work/plain" "$COHORT_DATA/fashion_mnist"
stays() {
  ! fetch fashion_mnist && grep -q "move it away" "$said" && whole fashion_mnist 4
}
check "a damaged set is not overwritten" stays

mkdir "$work/cifar"
for i in 1 2 3 4 5; do truncate -s 30730000 "$work/cifar/data_batch_$i.bin"; done
truncate -s 30730000 "$work/cifar/test_batch.bin"
files=6
check "cifar10 from a folder, by size" got cifar10 "$work/cifar"
check "says that only sizes were checked" grep -q "only the sizes" "$said"
truncate -s 30729999 "$work/cifar/data_batch_3.bin"
check "cifar10 of a wrong size" refuses "data_batch_3.bin: expected 30730000" \
  cifar10 "$work/cifar"
exit $status
