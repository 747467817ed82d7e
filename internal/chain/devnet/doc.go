//go:build !tee

// Package devnet is a whole TON development chain in one process: a
// masterchain and one basechain shard, collated on the Go TVM, with real
// configuration prices, Merkle updates, validator signatures and block
// proofs, served over the liteserver protocol. Clients use it with the code
// they use on every other network; only the global configuration differs.
//
// Everything on it is SIMULATED: one process holds the only validator key and
// the coins are worthless. The package is never linked in a measured image.
//
// Owns: the chain's directory (genesis, block log, snapshot, global
// configuration) and its listening port.
// Imports: cocoon, coins; tonutils-go, whose types are in no exported
// signature.
// Trust: bytes from the port are foreign: sizes, counts and gas are bounded,
// and a panic while reading or running them ends one query, not the process.
// Concurrency: Chain is safe for concurrent use. network.build serialises
// everything that makes blocks; network.mu guards the published chain, Chain.mu
// says which network is current. Order: build, then either of the others. Cells
// are immutable, and blocks are once published.
package devnet
