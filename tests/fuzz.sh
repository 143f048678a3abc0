#!/usr/bin/env bash
# Runs every fuzz test of the given modules for the given time each; ends with status 1 when one has found something.
# Usage: fuzz.sh TIME MODULE...
set -euo pipefail
time=$1; shift
log=$(mktemp) && trap 'rm -f "$log"' EXIT
failed=0
for m in "$@"; do
  while IFS=: read -r file name; do
    dir=$(dirname "$file")
    echo "== $m/$dir $name"
    if ! (cd "$m" && "${GO:-go}" test -run '^$' -fuzz "^$name\$" -fuzztime "$time" -fuzzminimizetime 100x "./$dir" 2>&1 | tee "$log"); then
      # Go's fuzzer also fails when its time runs out while it hands work over; then there is no input that failed.
      if grep -q '^    context deadline exceeded$' "$log" && ! grep -q 'Failing input' "$log"; then
        echo "   the time ran out in the middle of an exchange; nothing was found"
      else
        failed=1
      fi
    fi
  done < <(cd "$m" && grep -rnoE --include='*_test.go' '^func (Fuzz[A-Za-z0-9_]+)' . | sed -E 's/^\.\///; s/:[0-9]+:func /:/' |
    { if [ "$m" = . ]; then grep -v '^kiosk/cpurender/'; else cat; fi; })
done
exit $failed
