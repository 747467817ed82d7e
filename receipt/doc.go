// Package receipt is what a request leaves behind that anybody can check: a
// worker's signed part (what was served), a proxy's signed part (what was
// charged), salted commitments to the request and the answer, and the proofs
// that a part stands in the proxy's log and a sum in its balances
// (docs/protocol.md, receipts; docs/receipts.md says what it all proves).
//
// Owns: WorkerPart, ProxyPart, Commitment, Salts; verification of log and
// balance proofs.
// Imports: cocoon, wire, schema (the parts are objects of level 1), pricing.
// Trust: every part and proof is foreign: bounded, canonical, checked before it
// is believed.
// Concurrency: pure functions; a Commitment belongs to one goroutine.
package receipt
