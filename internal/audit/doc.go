// Package audit keeps what a proxy can be held to: the log of its receipts, the
// balances of its clients and workers, and the heads of both that it anchors
// on chain (docs/protocol.md, log; docs/receipts.md).
//
// Owns: Log, the append-only file with the tree over it; Service, which turns
// the ledger's notes into signed parts and leaves, and leaves into epochs; the
// answers with proofs; Follow, which checks another's log; Store, a client's
// receipts.
// Imports: cocoon, receipt, ledger, bindings, wire; contracts (the anchor's
// code); of access and wallet the values they exchange.
// Trust: the proxy's side is fed by our own ledger. Files may have been
// damaged: they are refused, never guessed at. Follow believes nothing it is
// told without a proof.
// Concurrency: all types are safe for concurrent use.
//
// The ledger is the outbox of the log: a charge is written there together with
// a note of what its receipt must say. The service takes notes in order, makes
// the parts, appends them in one group to the log, and only then tells the
// ledger that the notes were taken. The log remembers the number of the newest
// note of each proxy contract, so that a note met twice is logged once.
package audit
