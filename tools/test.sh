#!/usr/bin/env bash
# All checks and tests, of every module. Says at the end what was skipped.
set -euo pipefail
cd "$(dirname "$0")/.."
./tools/deps.sh
./tools/check.sh
out=$(mktemp)
trap 'rm -f "$out"' EXIT
status=0
run() { # module folder, arguments
	echo "== $1: go test ${*:2}"
	(cd "$1" && go test "${@:2}" -v ./... 2>&1) | tee -a "$out" | grep -E '^(ok|FAIL|---? FAIL|panic:|\?)|_test.go:[0-9]+:.*(want|got|error)' | grep -v 'no test files' || true
	[ "${PIPESTATUS[0]}" = 0 ] || status=1
}
run . -race -timeout 20m
for m in e2e tools/train bench; do
	[ -f "$m/go.mod" ] && run "$m" -timeout 20m
done
grep -q '^FAIL' "$out" && status=1
passed=$(grep -cE '^ *--- PASS' "$out" || true)
failed=$(grep -cE '^ *--- FAIL' "$out" || true)
skipped=$(grep -cE '^ *--- SKIP' "$out" || true)
if [ "$skipped" -gt 0 ]; then
	echo "skipped:"
	grep -A1 -E '^ *--- SKIP' "$out" | sed 's/^/  /'
fi
[ "$status" = 0 ] || { echo "failures:"; grep -B2 -A40 -E '^ *--- FAIL|^panic:|^FAIL' "$out" | head -200; }
echo "$passed passed, $failed failed, $skipped skipped"
exit "$status"
