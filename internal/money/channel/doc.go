// Package channel is the arithmetic of payment channels: what a client may
// still spend at a proxy, what a worker has earned there, and what either has
// heard and holds signed from the proxy.
//
// Owns: Counters, ClientBook, WorkerBook, View, Tally; the rules which counter may
// move when.
// Imports: coins.
// Trust: amounts from peers and from the chain are checked here; signatures
// are not, payments come in verified.
// Concurrency: pure values. Each event is a method that returns the next
// state and leaves its receiver as it was; on an error the returned state is
// the old one. No IO, no clock.
//
// A client's tokens, on the proxy's side:
//
//	          Reserve              Settle                Durable             Commit
//	available ───────▶ reserved ─────────▶ Counters.Used ───────▶ .Durable ───────▶ .Committed
//	    ▲                  │ Release           (in memory)          (ledger)      (marked on chain,
//	    └──────────────────┴─ the rest                                             may be signed)
package channel
