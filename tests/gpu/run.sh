#!/bin/bash
# run.sh BUILD - runs the programs that test the GPU, then again under compute-sanitizer where
# there is one (SANITIZE=0: not), and ends with "N passed, N failed".
set -u
build=$1
cd "$(dirname "$0")/../.." || exit 1
passed=0 failed=0
log=$(mktemp)
trap 'rm -f "$log"' EXIT

count() { # TITLE COMMAND...
  local title=$1 rc ok bad
  shift
  "$@" >"$log" 2>&1
  rc=$?
  ok=$(grep -c '^ok ' "$log") bad=$(grep -c '^not ok ' "$log")
  [ $rc -ne 0 ] && [ "$bad" -eq 0 ] && bad=1
  passed=$((passed + ok)) failed=$((failed + bad))
  printf '%-44s %4d passed %4d failed\n' "$title" "$ok" "$bad"
  [ "$bad" -eq 0 ] || cat "$log"
}

for program in kernels sparse training; do
  count "$program" timeout 900 "$build/tests/gpu/test_$program"
done
if [ "${SANITIZE:-1}" = 1 ] && command -v compute-sanitizer >/dev/null; then
  for tool in memcheck racecheck initcheck; do
    for program in kernels sparse training; do
      count "$program under $tool" timeout 1800 compute-sanitizer --tool $tool \
        --error-exitcode 9 "$build/tests/gpu/test_$program"
    done
  done
fi
echo "$passed passed, $failed failed"
[ $failed -eq 0 ]
