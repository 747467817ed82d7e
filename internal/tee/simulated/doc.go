//go:build !tee

// Package simulated is a hardware vendor of ours: a root of trust, a PCK
// authority, quoting enclaves and guests, all in software. Its quotes have the
// genuine layout and are judged by the same verifier as real ones; only the
// root key differs, and from it follows that everything made here is of kind
// "simulated" and nothing else.
//
// All keys follow from a seed, so processes that share a seed file share a
// vendor. Whoever holds the seed can forge any guest: the network is then as
// trustworthy as that file, and every screen of it says SIMULATED.
//
// Owns: Vendor, Guest, Registers.
// Imports: attest; dcap, sevsnp and nvgpu (layouts).
// Trust: none is earned; not part of measured images (build tag tee).
// Concurrency: a Vendor and a Guest are immutable and safe for concurrent use.
package simulated
