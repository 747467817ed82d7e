// Package access reads a TON chain through liteservers that it does not trust.
//
// The one question it answers is: is this account state proven in block B of
// the chain whose zero state and init block were configured? Every masterchain
// block is reached from the init block by validators' signatures and shown to
// descend from the zero state; every account, transaction and configuration
// parameter is proven in such a block. Get-methods run in the local TVM on
// proven data; what a server says about a result is never asked for.
//
// Heads never go back, not even over a restart, and must be fresh. A server
// that lies, stalls, lags or is of another network is left out for a growing
// time, with the reason logged, while the others serve on.
//
// Owns: the connections to liteservers; the high-water mark and the checkpoint
// in Config.Dir.
// Imports: cocoon, coins, wire (the network's id); tonutils-go for TL, cells, proof checks and the TVM,
// whose types are in no exported signature.
// Trust: servers are hostile: answers are bounded in size and time, and a
// panic while reading one ends one query. The folder can make Open refuse,
// never accept: what is believed of it is authenticated.
// Concurrency: a Client is safe for concurrent use. Client.mu guards the
// proven head; a server's own mutex guards its connection and standing; the
// two are never held together.
package access
