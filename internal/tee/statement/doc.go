// Package statement is level 1's proof of who a node is: one signed object, the
// NodeStatement, with one quote over it; a session proof that ties it to each
// TLS connection; and its renewal while the connection lives (docs/protocol.md,
// statement and session).
//
// Owns: Statement, Bundle, Issuer, Verifier, Sessions; the node key.
// Imports: attest, nvgpu (the set's form), tee, wire, schema.
// Trust: everything a peer sends is foreign. It is bounded, and judged in an
// order in which what is cheap comes first: sizes, network, role, node key's
// signature, block, evidence.
// Concurrency: Issuer, Verifier and Sessions are safe for concurrent use.
package statement
