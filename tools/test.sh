#!/usr/bin/env bash
# All checks and tests, of every module. Says at the end what was skipped.
set -uo pipefail
cd "$(dirname "$0")/.."
./tools/deps.sh || exit 1
./tools/check.sh || exit 1
out=$(mktemp)
trap 'rm -f "$out" "$out.part"' EXIT
status=0
run() { # module folder, arguments of go test
	local dir=$1 code
	shift
	echo "== $dir: go test $*"
	(cd "$dir" && go test "$@" -v ./... 2>&1) >"$out.part"
	code=$?
	[ "$code" = 0 ] || status=1
	grep -E '^(ok|FAIL|panic:)' "$out.part" ||
		{ status=1 && echo "nothing was tested in $dir:" && tail -n 20 "$out.part"; }
	cat "$out.part" >>"$out"
	return 0
}
run . -race -timeout 20m
# These run programs that they build: the test cache does not see those change.
for m in e2e tools/train bench attest/nvgpu/collect; do
	[ -f "$m/go.mod" ] && run "$m" -count=1 -timeout 20m
done
count() { grep -cE "^ *--- $1" "$out"; }
passed=$(count PASS) failed=$(count FAIL) skipped=$(count SKIP)
if [ "$skipped" -gt 0 ]; then
	echo "skipped:"
	grep -B3 -E '^ *--- SKIP' "$out" | grep -E 'SKIP|_test.go' | sed 's/^/  /'
fi
if [ "$status" != 0 ]; then
	echo "failures:"
	grep -B30 -A5 -E '^ *--- FAIL|^panic:|^FAIL|DATA RACE' "$out" | tail -n 400
	echo "what the failed tests say:"
	awk '/^=== RUN +[^\/]*$/ { n = 0 } /_test\.go:[0-9]+: / { said[n++] = substr($0, 1, 500) }
		/^--- FAIL/ { print; for (i = (n > 20 ? n - 20 : 0); i < n; i++) print said[i]; n = 0 }' "$out"
fi
echo "$passed passed, $failed failed, $skipped skipped"
exit "$status"
