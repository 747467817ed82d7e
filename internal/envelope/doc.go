// Package envelope is a sealed request and its answer (docs/protocol.md, sealed
// requests): what a client sends through a proxy to a worker it verified, so
// that the proxy can choose the worker, bound the cost and cancel, and can
// read neither the request nor the answer.
//
// A client makes a Session with a worker's seal key once and seals many
// requests under it: Seal gives the bytes to send and a Call, which checks the
// acceptance and opens the answer. A proxy reads the clear Header with Parse. A
// worker keeps its seal keys in a Keyring, which opens each request once.
//
// Owns: Header, Envelope, Session, Call, Keyring, Opened, Reader, Writer,
// Credit, the padding.
// Imports: the vocabulary, wire, schema; crypto/hpke.
// Trust: everything another party sent is foreign: bounded, canonical,
// authenticated before it is used. The proxy in between is no friend.
// Concurrency: pure but for randomness: no IO, no clock; who calls says what
// time it is on its monotonic clock. Keyring, Lane and Session are safe for
// concurrent use; a Call, Reader or Writer belongs to one goroutine.
package envelope
