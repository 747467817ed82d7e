#!/usr/bin/env bash
set -euo pipefail
cd "$(dirname "$0")/.."
# Runs every fuzz target of the module for the time given (default 20s).
time=${1:-20s}
go list ./... | while read -r pkg; do
	for target in $(go test -list '^Fuzz' "$pkg" 2>/dev/null | grep '^Fuzz' || true); do
		echo "== $pkg $target"
		go test -run '^$' -fuzz "^$target\$" -fuzztime "$time" -fuzzminimizetime 5s "$pkg"
	done
done
