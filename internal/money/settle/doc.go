// Package settle moves the money of payment channels on chain: a proxy's
// charges, payouts, marks, earnings and closing of old contracts; a client's
// deposits, charges and refunds; a worker's payouts.
//
// Owns: Proxy, Client, Worker; the decision what to send and when.
// Imports: cocoon, coins, pricing, channel, ledger, registry, bindings; of
// access and wallet the values they exchange.
// Trust: what Chain returns was proven; messages are believed only from the
// contract address derived for the owner they name.
// Concurrency: each of the three runs one round at a time, from Run or from
// Settle. All methods are safe for concurrent use.
//
// A round observes proven state, decides and sends:
//
//	observe (IO) ─▶ Plan… (pure: state → actions) ─▶ Wallet.Send, at most 4 messages
//	    ▲                                                        │
//	    └──── until every message was seen at its receiver ◀─────┘
//
// Nothing is sent twice: the wallet keeps one external message outstanding
// and remembers it over a restart; a contract gets no further message while
// one from our wallet is on its way to it, which is read from the wallet's own
// transactions, so that a restart forgets nothing; and every action is decided
// anew from the state that the chain has then.
package settle
