// Package wallet holds the keys that pay, builds what they sign and sends it
// so that nothing is ever paid twice.
//
// Three wallet contracts are spoken: V5R1 and V4R2 for people (owners), and
// the node wallet of spec contracts 8 for a node that acts for an owner.
//
// Owns: keys, mnemonics and key files; the outbox file of a wallet.
// Imports: cocoon, coins, contracts (codes), wire (labels); of access the values
// it gives; the chain through a five-method interface.
// Trust: what the Chain returns was proven; everything else is checked here.
// A private key leaves this package only into a key file (0600).
// Concurrency: a Wallet is safe for use by several goroutines, and its outbox
// by several processes; one external message is outstanding at a time.
package wallet
