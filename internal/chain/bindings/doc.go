// Package bindings turns Go values into the cells of the Cocoon
// contracts and back: parameters, addresses, signed payments, storages,
// messages, get-method results. Its byte formats are spec contracts 3–9 and,
// for the anchor, docs/contracts.md.
//
// Owns: every cell layout; no other package builds or parses one.
// Imports: cocoon, attest (names), coins, pricing (multipliers), registry, wire.
// Trust: every decoder takes foreign bytes, bounded in size and strict about
// what it does not know. Signatures are checked where a public key is
// an argument: payments, steps of an anchor, wallet requests.
// Concurrency: pure functions of their arguments, safe anywhere.
//
// Cells cross this package's border as bags of cells (BoC); the cell library
// stays inside.
package bindings
