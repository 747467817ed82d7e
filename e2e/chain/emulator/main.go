//go:build emulator && cgo

// Command emulator runs transactions in the reference emulator, written in
// C++, which comes as a library with tongo. It is a process of its own, so
// that the tests need neither cgo nor the library to be built.
//
// It reads one JSON object per line and writes one for each. The first line
// in sets what is the same for all: config and libs. BoCs are in base64.
package main

// #cgo LDFLAGS: -lemulator
// #include <stdbool.h>
// #include <stdint.h>
// #include <stdlib.h>
// void *transaction_emulator_create(const char *config, int verbosity);
// bool transaction_emulator_set_unixtime(void *e, uint32_t t);
// bool transaction_emulator_set_lt(void *e, uint64_t lt);
// bool transaction_emulator_set_rand_seed(void *e, const char *hex);
// bool transaction_emulator_set_libs(void *e, const char *libs);
// const char *transaction_emulator_emulate_transaction(void *e, const char *account, const char *message);
// bool emulator_set_verbosity_level(int level);
import "C"

import (
	"encoding/json"
	"fmt"
	"os"
	"unsafe"
)

type query struct {
	Config, Libs           string // in the first line
	Account, Message, Seed string
	Time                   uint32
	LT                     uint64
}

func main() {
	in, out := json.NewDecoder(os.Stdin), json.NewEncoder(os.Stdout)
	var emulator unsafe.Pointer
	for {
		var q query
		if in.Decode(&q) != nil {
			return
		}
		if emulator == nil {
			C.emulator_set_verbosity_level(0)
			if emulator = C.transaction_emulator_create(C.CString(q.Config), 0); emulator == nil {
				fail("the emulator refuses the configuration")
			}
			if q.Libs != "" && !bool(C.transaction_emulator_set_libs(emulator, C.CString(q.Libs))) {
				fail("the emulator refuses the libraries")
			}
			out.Encode("ready")
			continue
		}
		seed, account, message := C.CString(q.Seed), C.CString(q.Account), C.CString(q.Message)
		ok := bool(C.transaction_emulator_set_unixtime(emulator, C.uint32_t(q.Time))) &&
			bool(C.transaction_emulator_set_lt(emulator, C.uint64_t(q.LT))) &&
			bool(C.transaction_emulator_set_rand_seed(emulator, seed))
		if !ok {
			fail("the emulator refuses time or seed")
		}
		answer := C.transaction_emulator_emulate_transaction(emulator, account, message)
		fmt.Println(C.GoString(answer))
		for _, p := range []*C.char{seed, account, message, answer} {
			C.free(unsafe.Pointer(p))
		}
	}
}

func fail(why string) {
	fmt.Fprintln(os.Stderr, why)
	os.Exit(1)
}
