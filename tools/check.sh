#!/usr/bin/env bash
# What CI holds beside the tests: format, vet, both builds, two equal builds.
set -euo pipefail
cd "$(dirname "$0")/.."
u=$(git ls-files '*.go' | xargs gofmt -l)
[ -z "$u" ] || { echo "not gofmt'ed: $u"; exit 1; }
go vet ./...
go vet -tags tee ./...
for m in e2e bench tools/train attest/nvgpu/collect; do
	(cd "$m" && go vet ./...)
done
go mod verify >/dev/null
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
for i in 1 2; do CGO_ENABLED=0 go build -trimpath -o "$tmp/cocoon$i" ./cmd/cocoon; done
cmp "$tmp/cocoon1" "$tmp/cocoon2"
CGO_ENABLED=0 go build -trimpath -tags tee -o "$tmp/tee" ./cmd/cocoon
for p in internal/tee/simulated internal/chain/devnet internal/engine/demo internal/api/team database/sql modernc.org/sqlite; do
	if CGO_ENABLED=0 go list -deps -tags tee ./cmd/cocoon | grep -q "$p\$"; then
		echo "the measured build contains $p"
		exit 1
	fi
done
