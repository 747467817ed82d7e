package bindings

import (
	"bufio"
	"crypto/ed25519"
	"encoding/hex"
	"os"
	"strings"
	"testing"

	"github.com/cocoon-network/cocoon"
	"github.com/cocoon-network/cocoon/internal/chain/registry"
	"github.com/cocoon-network/cocoon/internal/money/coins"
	"github.com/cocoon-network/cocoon/internal/money/pricing"
)

// The inputs of spec contracts 16.1.
var (
	rootOwner   = fill(0x11)
	proxyOwner  = fill(0x22)
	workerOwner = fill(0x33)
	clientOwner = fill(0x44)
	excessTo    = fill(0x55)

	proxySigner = KeySigner(ed25519.NewKeyFromSeed(append(make([]byte, 31), 1)))
	proxyKey    = [32]byte(unhex("4cb5abf6ad79fbf5abbccafcc269d85cd2651ed4b885b5869f241aedf0a5ba29"))
	walletKey   = [32]byte(unhex("f381626e41e7027ea431bfe3009e94bdd25a746beec468948d6c3c7c5dc9a54b"))
	secretHash  = [32]byte(unhex("2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b"))
	mainnetRoot = raw("0:a7b3b6d84a9d22805bd2d70a5be70b198c2282575f4c0f9015cc8e04cb1b2753")

	toyProxy  = raw("0:01f03a9050f6137e9a69343d29c228483ca83aad6cdd4ded10d8a3429611ffeb")
	toyWorker = raw("0:9182bef00a10cacd076d02b9291c81885287b9a2aa42be62163c6eb793b41196")
	toyClient = raw("0:1893c83644240e75c5d0971606d56b4acb2b1e8015789ea6f0ca5c9492923b7e")
)

const queryID = 0x1122334455667788

// vectorParams are the parameters of spec contracts 16.1 with the toy codes.
func vectorParams() registry.Params {
	return registry.Params{
		StructVersion: 3, ParamsVersion: 5, UniqueID: 17,
		PricePerToken: 20, WorkerFeePerToken: 19,
		Multipliers:           pricing.Multipliers{Prompt: 10000, Cached: 1000, Completion: 80000, Reasoning: 80000},
		ProxyDelayBeforeClose: 86400, ClientDelayBeforeClose: 43200,
		MinProxyStake: 10 * coins.PerCoin, MinClientStake: 2500000000,
		ProxyCode: toyCode(1), WorkerCode: toyCode(2), ClientCode: toyCode(3),
	}
}

func vectorSnapshot() *registry.Snapshot {
	return &registry.Snapshot{Root: mainnetRoot, Params: vectorParams()}
}

func toyCode(n uint64) []byte {
	b, err := newWriter().uint(0xc0de0000+n, 32).serialize()
	if err != nil {
		panic(err)
	}
	return b
}

func fill(b byte) cocoon.Address {
	var a cocoon.Address
	for i := range a.Hash {
		a.Hash[i] = b
	}
	return a
}

func raw(s string) cocoon.Address {
	a, err := cocoon.ParseAddress(s)
	if err != nil {
		panic(err)
	}
	return a
}

func unhex(s string) []byte {
	b, err := hex.DecodeString(s)
	if err != nil {
		panic(err)
	}
	return b
}

// hashOf returns the hash of the root cell of a bag of cells in hex.
func hashOf(t testing.TB, boc []byte) string {
	t.Helper()
	c, err := parseBoC(boc, maxStorageBytes, maxStorageCells)
	if err != nil {
		t.Fatal(err)
	}
	return hex.EncodeToString(c.Hash())
}

// readVectors returns the fields of each line of a vector file.
func readVectors(t testing.TB, file, sep string) [][]string {
	t.Helper()
	f, err := os.Open("testdata/" + file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var out [][]string
	in := bufio.NewScanner(f)
	in.Buffer(nil, 1<<20)
	for in.Scan() {
		if line := in.Text(); !strings.HasPrefix(line, "#") {
			out = append(out, strings.Split(line, sep))
		}
	}
	if in.Err() != nil || len(out) == 0 {
		t.Fatalf("%s: %d vectors, %v", file, len(out), in.Err())
	}
	return out
}

// vectorCell returns a named bag of cells of spec contracts 16.2.
func vectorCell(t testing.TB, name string) []byte {
	t.Helper()
	for _, v := range readVectors(t, "cells.txt", " | ") {
		if v[0] == name {
			return unhex(v[1])
		}
	}
	t.Fatalf("no vector %q", name)
	return nil
}
