// Package role holds what the three roles share: protocol versions, the
// answer forms in one normal form, HTTP inside TL, the keeping of connections
// to proxies. The roles themselves are the packages below it; they never
// import one another.
//
// Owns: Part, Final, Queue, Keeper.
// Imports: wire, tee, attest, registry, bindings, pricing, channel.
// Trust: whatever a peer sent is foreign; a bad message ends its request or
// its connection, never the process.
package role
