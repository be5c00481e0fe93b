#!/bin/bash
# run.sh BUILD [NAME...] - runs every test program below BUILD/tests and every tests/*.sh,
# prints what failed, and ends with "N passed, N failed" (and "N skipped" where some could not
# run here). MPI programs run at 1, 2, 3 and 4 ranks. Names given select programs by their file
# name without "test_". Shell tests print "ok NAME", "not ok NAME" or "skip NAME: reason".
set -u
build=$1
shift
cd "$(dirname "$0")/.." || exit 1
. tests/env.sh "$build"

passed=0 failed=0 skipped=0
log=$(mktemp) skips=$(mktemp)
trap 'rm -f "$log" "$skips"' EXIT

wanted() { # NAME
  [ ${#names[@]} -eq 0 ] && return 0
  local n
  for n in "${names[@]}"; do [ "$n" = "$1" ] && return 0; done
  return 1
}

# Runs a command and counts cmocka's "[       OK ]" and the shell tests' lines.
count() { # TITLE COMMAND...
  local title=$1 start=$SECONDS rc ok bad skip
  shift
  "$@" >"$log" 2>&1
  rc=$?
  # every rank of an MPI program prints its own lines: count each test once
  ok=$(grep -aE '^\[ +OK \]|^ok ' "$log" | sort -u | wc -l)
  bad=$(grep -aE '^\[ +FAILED +\] [A-Za-z_]|^not ok ' "$log" | sort -u | wc -l)
  [ $rc -ne 0 ] && [ "$bad" -eq 0 ] && bad=1
  grep -aE '^\[ +SKIPPED +\] [A-Za-z_]|^skip ' "$log" | sort -u >"$skips"
  skip=$(wc -l <"$skips")
  passed=$((passed + ok)) failed=$((failed + bad)) skipped=$((skipped + skip))
  printf '%-40s %4d passed %4d failed %5ds\n' "$title" "$ok" "$bad" $((SECONDS - start))
  cat "$skips"
  if [ "$bad" -gt 0 ]; then
    echo "---- $title: exit status $rc"
    cat "$log"
    echo "----"
  fi
}

names=("$@")
for source in tests/test_*.c; do
  name=$(basename "$source" .c)
  wanted "${name#test_}" && count "$name" timeout 900 "$build/tests/$name"
done
for source in tests/mpi/test_*.c; do
  name=$(basename "$source" .c)
  wanted "mpi_${name#test_}" || wanted "${name#test_}" || continue
  for ranks in 1 2 3 4; do
    count "mpi/$name, $ranks ranks" timeout 600 \
      mpirun --oversubscribe -n $ranks "$build/tests/mpi/$name"
  done
done
for script in tests/test_*.sh; do
  name=$(basename "$script" .sh)
  wanted "${name#test_}" && count "$name" timeout 1200 bash "$script" "$build"
done
verdict="$passed passed, $failed failed"
[ "$skipped" -eq 0 ] || verdict="$verdict, $skipped skipped"
echo "$verdict"
[ "$failed" -eq 0 ]
