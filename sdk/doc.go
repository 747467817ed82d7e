// Package sdk lets a Go program use Cocoon: an http.RoundTripper under any
// OpenAI library, and a small typed client.
//
// Each answer is held to a policy before the program sees a byte of it: what
// the worker proved to be, and that the request was sealed to it. What is not
// said is refused. The zero policy accepts real hardware only, and sealed
// requests only; a network on a laptop is SIMULATED, and a program that talks to
// it has to say that it accepts that.
//
// Owns: the policy of a program, the in-memory way to a client role.
// Imports: node (to run the role in this process), audit and receipt.
// Trust: a gateway is trusted as part of the program: it runs beside it, on the
// same machine, or inside this process.
// Concurrency: a Client is safe for concurrent use.
package sdk
