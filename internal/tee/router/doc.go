// Package router faces RA-TLS routers that run beside a role: it dials through
// one by SOCKS5 and accepts from one that forwards to us; Forwarder is such a
// router itself, on one port, and Server one with ports and policies in the
// words of the reference's. A router makes the attested connection and tells about the
// peer in a preamble, the first bytes of the plain local connection, in one of
// two layouts (spec attestation 1.9, changes-2026-04 3.1). There is no level 1
// behind a router.
//
// Owns: Preamble, the SOCKS5 exchange, Forwarder, Settings, Server.
// Imports: attest, tee, ratls, tl, pow (default difficulties).
// Trust: the router is part of us and its word on the peer counts; it is
// reached by loopback only. Its bytes are bounded and parsed as foreign all
// the same.
// Concurrency: Dialer, Listener and Forwarder are safe for concurrent use; a
// Server's Run is called once.
package router
