// Module bench measures what the way to an engine costs, ours beside others',
// in one run on one machine. See docs/performance.md.
module github.com/cocoon-network/cocoon/bench

go 1.26.0

require (
	github.com/cocoon-network/cocoon v0.0.0
	golang.org/x/sync v0.24.0
)

require (
	filippo.io/edwards25519 v1.2.0 // indirect
	github.com/BurntSushi/toml v1.6.0 // indirect
	github.com/bwesterb/go-ristretto v1.2.3 // indirect
	github.com/cloudflare/circl v1.6.4 // indirect
	github.com/pierrec/lz4/v4 v4.1.27 // indirect
	github.com/xssnick/tonutils-go v1.18.0 // indirect
	golang.org/x/crypto v0.53.0 // indirect
	golang.org/x/sys v0.49.0 // indirect
)

replace github.com/cocoon-network/cocoon => ../
