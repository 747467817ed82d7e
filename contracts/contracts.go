// Package contracts holds the on-chain contracts of a Cocoon network: their
// Tolk sources and the code compiled from them by tools/tolk.
//
// They keep layouts, opcodes, signed payloads, getters and exit codes of spec
// contracts; docs/contracts.md lists where they differ on purpose. The code
// needs a chain of global version 12 or newer (full bodies in bounces).
//
// Owns: the sources and their compiled form.
// Imports: nothing of this module.
// Trust: none needed; a test compiles the sources again and compares.
// Concurrency: everything here is immutable.
package contracts

import (
	"bytes"
	"embed"
	"encoding/hex"
	"fmt"
	"strings"
)

// Sources are the Tolk files, at the top of the tree.
//
//go:embed *.tolk
var Sources embed.FS

//go:embed code/root.boc
var root []byte

//go:embed code/proxy.boc
var proxy []byte

//go:embed code/client.boc
var client []byte

//go:embed code/worker.boc
var worker []byte

//go:embed code/wallet.boc
var wallet []byte

//go:embed code/anchor.boc
var anchor []byte

//go:embed code/hashes.txt
var hashes string

// Root returns the code of the register of a network (spec contracts 4): one
// bag of cells, like the others the caller's own copy.
func Root() []byte { return bytes.Clone(root) }

// Proxy returns the code of the pool of one proxy (spec contracts 5).
func Proxy() []byte { return bytes.Clone(proxy) }

// Client returns the code of a client's account at one proxy (spec contracts 6).
func Client() []byte { return bytes.Clone(client) }

// Worker returns the code of a worker's counter at one proxy (spec contracts 7).
func Worker() []byte { return bytes.Clone(worker) }

// Wallet returns the code of a node's wallet (spec contracts 8).
func Wallet() []byte { return bytes.Clone(wallet) }

// Anchor returns the code of the anchor of a proxy key's audit log
// (docs/contracts.md, anchor). Other implementations have none.
func Anchor() []byte { return bytes.Clone(anchor) }

// Hashes returns the representation hash of each code cell, by contract name:
// root, proxy, client, worker, wallet, anchor.
func Hashes() map[string][32]byte {
	out := map[string][32]byte{}
	for line := range strings.Lines(hashes) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		name, digits, _ := strings.Cut(strings.TrimSpace(line), " ")
		b, err := hex.DecodeString(digits)
		if err != nil || len(b) != 32 {
			// The file is ours and embedded; a test reads it.
			panic(fmt.Sprintf("contracts: code/hashes.txt: cannot read %q", line))
		}
		out[name] = [32]byte(b)
	}
	return out
}
