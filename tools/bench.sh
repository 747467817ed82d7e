#!/usr/bin/env bash
# Benchmarks: those of the packages that carry the request path, then the whole
# chain beside nginx and haproxy, ratios side by side. `full` is the measurement
# of docs/performance.md, for a machine that does nothing else; without it a
# short form that allows no verdict. Nothing here fails on a slow machine.
set -euo pipefail
cd "$(dirname "$0")/.."
full=${1:-}
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
	need=()
	command -v nginx >/dev/null || need+=(nginx-light)
	command -v haproxy >/dev/null || need+=(haproxy)
	if [ ${#need[@]} -gt 0 ]; then
		echo "installing ${need[*]}"
		apt-get update -qq >/dev/null || true
		DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${need[@]}" >/dev/null || echo "could not install ${need[*]}"
	fi
fi
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
CGO_ENABLED=0 go build -trimpath -o "$tmp/cocoon" ./cmd/cocoon
(cd bench && CGO_ENABLED=0 go build -trimpath -o "$tmp/bench" .)

packages=(./internal/wire/... ./internal/envelope ./internal/api/... ./internal/tee/ratls ./internal/tee/statement ./internal/role/proxy ./internal/money/ledger ./internal/chain/bindings ./attest/...)
if [ "$full" = full ]; then
	go test -run '^$' -bench . -benchmem ./... 2>&1 | "$tmp/bench" micro || echo "a package benchmark failed: see above"
	mkdir -p bench/results
	"$tmp/bench" run -cocoon "$tmp/cocoon" -json bench/results/latest.json -svg docs/performance.svg
	"$tmp/bench" cancel -cocoon "$tmp/cocoon"
	"$tmp/bench" soak -cocoon "$tmp/cocoon"
else
	go test -run '^$' -bench . -benchtime 50ms -benchmem "${packages[@]}" 2>&1 | "$tmp/bench" micro || echo "a package benchmark failed: see above"
	"$tmp/bench" run -cocoon "$tmp/cocoon" -rounds 1 -window 700ms -streams 128 -memory 250
	"$tmp/bench" cancel -cocoon "$tmp/cocoon" -requests 200
	"$tmp/bench" soak -cocoon "$tmp/cocoon" -requests 5000
fi
