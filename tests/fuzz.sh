#!/usr/bin/env bash
# Runs every fuzz test of the given modules for the given time each. Usage: fuzz.sh TIME MODULE...
set -euo pipefail
time=$1; shift
for m in "$@"; do
  while IFS=: read -r file name; do
    dir=$(dirname "$file")
    echo "== $m/$dir $name"
    (cd "$m" && "${GO:-go}" test -run '^$' -fuzz "^$name\$" -fuzztime "$time" -fuzzminimizetime 100x "./$dir")
  done < <(cd "$m" && grep -rnoE --include='*_test.go' '^func (Fuzz[A-Za-z0-9_]+)' . | sed -E 's/^\.\///; s/:[0-9]+:func /:/' |
    { if [ "$m" = . ]; then grep -v '^kiosk/cpurender/'; else cat; fi; })
done
