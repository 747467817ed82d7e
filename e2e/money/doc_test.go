// Package money_test holds the books of a running network against its chain:
// what clients paid is what proxies kept, workers earned and contracts still
// have to settle, to the nano, whatever is killed and whatever prices change.
//
// It needs Linux and the Go tool. COCOON_BIN names a program that was built
// already, such as one with -race; COCOON_REQUIRE turns skips into failures.
package money_test
