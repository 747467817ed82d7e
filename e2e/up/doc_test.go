// Package up_test runs the real program as a person does: `cocoon up` with all
// its processes, killed, flooded, stopped and resumed.
//
// It needs Linux and the Go tool. COCOON_BIN names a program that was built
// already; COCOON_REQUIRE turns skips into failures.
package up_test
