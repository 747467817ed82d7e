package main

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestFresh: the checked-in files are what the generator writes.
func TestFresh(t *testing.T) {
	files, err := generate("..")
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range files {
		got, err := os.ReadFile(filepath.Join("..", name))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%s is stale: run go generate ./internal/wire/schema", name)
		}
	}
	inTree, err := filepath.Glob("../*_gen.go")
	if err != nil {
		t.Fatal(err)
	}
	if len(inTree) != len(files) {
		t.Errorf("%d generated files in the tree, %d written", len(inTree), len(files))
	}
}

// explicitIDs are all declarations whose id is not the CRC32 of their text.
var explicitIDs = map[string]uint32{
	"vector":                  0x1cb5c415,
	"client.params":           0x40fdca64,
	"client.workerInstanceV2": 0x3ea93d00,
	"client.runQueryEx":       0xf54cb74b,
	"proxy.params":            0xd5c5609f,
	"proxy.runQueryEx":        0xc805e7e2,
	"worker.params":           0x869c73ed,
}

func TestIDs(t *testing.T) {
	written := map[string]uint32{}
	count := map[string]int{}
	for _, src := range sources {
		text, err := os.ReadFile(filepath.Join("..", src.file))
		if err != nil {
			t.Fatal(err)
		}
		decls, err := parse(src, string(text))
		if err != nil {
			t.Fatal(err)
		}
		count[src.file] = len(decls)
		for _, d := range decls {
			switch want := crc(d.text); {
			case d.explicit && d.id == want:
				t.Errorf("%s: id %08x need not be written out", d.name, d.id)
			case d.explicit:
				written[d.name] = d.id
			case d.id != want:
				t.Errorf("%s: id %08x, CRC32 %08x", d.name, d.id, want)
			}
		}
	}
	if !maps.Equal(written, explicitIDs) {
		t.Errorf("explicit ids %v, want %v", written, explicitIDs)
	}
	// December has 111 declarations. April has 110 of them, seven with another
	// id, and four more.
	want := map[string]int{"reference.tl": 114, "december.tl": 8, "level1.tl": 39}
	if !maps.Equal(count, want) {
		t.Errorf("declarations by file %v, want %v", count, want)
	}
}

// TestKnownIDs compares with ids taken from the spec, not computed here.
func TestKnownIDs(t *testing.T) {
	s, err := load("..")
	if err != nil {
		t.Fatal(err)
	}
	ids := map[string]uint32{}
	for _, d := range s.decls {
		ids[d.goName] = d.id
	}
	for name, want := range map[string]uint32{
		"TcpPing":                           0xbbe9627c,
		"TcpPacket":                         0x9c17baf8,
		"TokensUsed":                        0x70c5b15c,
		"ClientWorkerTypesV2":               0x0cf0dc67,
		"ProxyQueryAnswerErrorEx":           0x8f7fb0a7,
		"WorkerNewCoefficient":              0x6af092b0,
		"WorkerChangeModel":                 0x72662cee,
		"WorkerChangedModel":                0x34029366,
		"HttpHeader":                        0x8e9be511,
		"KeyManagerGetProxyPrivateKeys":     0x4135d0bd,
		"KeyManagerGetProxyPrivateKeysDec":  0x47a9c2de,
		"KeyManagerGetWorkerPrivateKeys":    0x4b90e9b1,
		"KeyManagerGetWorkerPrivateKeysDec": 0x2a26eff5,
		"KeyManagerDbKey":                   0x35c91007,
		"KeyManagerDbKeyDec":                0x4d0a1e17,
		"RootConfigPseudo":                  0xd0035db6,
		"RootConfigPseudoDec":               0x87a976cc,
		"RootConfigConfigV5":                0x5e84869b,
		"RootConfigConfigV7":                0xc51207cb,
		"RootConfigRegisteredPublicKey":     0x37312ecd,
		"ProxyRunnerConfig":                 0x9a8f2045,
		"ProxyRunnerConfigDec":              0x5bf5e272,
		"WorkerRunnerConfig":                0x41af605f,
		"WorkerRunnerConfigDec":             0x870db56d,
		"ClientRunnerConfig":                0xaf0bd51f,
		"KeyStorageRunnerConfig":            0xec650826,
		"KeyStorageRunnerConfigDec":         0xd7874e40,
	} {
		if ids[name] != want {
			t.Errorf("%s has id %08x, want %08x", name, ids[name], want)
		}
	}
	for _, gone := range []string{"ClientRunnerConfigDec", "RootConfigConfigV5Dec", "ClientRunQueryExDec"} {
		if ids[gone] != 0 {
			t.Errorf("%s exists, but nothing replaced it", gone)
		}
	}
}

func TestNames(t *testing.T) {
	for in, want := range map[string]string{
		"client.connectToProxy":  "ClientConnectToProxy",
		"tcp.query":              "TcpQuery",
		"tokensUsed":             "TokensUsed",
		"request_id":             "RequestID",
		"id":                     "ID",
		"url":                    "URL",
		"tokens_committed_to_db": "TokensCommittedToDb",
		"coefficient_bucket50":   "CoefficientBucket50",
	} {
		if got := exported(in); got != want {
			t.Errorf("%s becomes %s, want %s", in, got, want)
		}
	}
}

// TestRefused: a schema that the generator would get wrong is an error.
func TestRefused(t *testing.T) {
	for text, want := range map[string]string{
		"a.b x:int;":                                         "no result type",
		"a.b x:nothing = A.B;":                               "unknown type",
		"a.b x = A.B;":                                       "no type in",
		"a.b x:flags.0?int = A.B;":                           "no flags field before it",
		"a.b flags:# x:flags.31?int = A.B;":                  "cannot be used",
		"a.b flags:# x:flags.0?(vector int) = A.B;":          "unknown type",
		"a.b x:(vector A.B) = A.B;":                          "can contain itself",
		"a.b y:a.c = A.B; a.c x:A.B = A.C;":                  "can contain itself",
		"a.b = A.B; a.b = A.B;":                              "same id",
		"a.b = A.B; a.b x:int = A.B;":                        "declared twice",
		"a.b#01 = A.B; a.c#01 = A.B;":                        "same id",
		"a.b x:a.c = A.B; ---functions--- a.c x:int = A.C;":  "unknown type",
		"a.b flags:# x:flags.0?A.C = A.B; a.c x:int = A.C;":  "not supported",
		"a.b x:(vector a.c) y:(vector A.B = A.B; a.c = A.C;": "unknown type",
	} {
		dir := t.TempDir()
		for _, src := range sources {
			content := ""
			if src.file == "reference.tl" {
				content = text
			}
			if err := os.WriteFile(filepath.Join(dir, src.file), []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if err := run(dir); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}

// TestOrder: nothing in the output depends on the order of a map.
func TestOrder(t *testing.T) {
	first, err := generate("..")
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		again, err := generate("..")
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range slices.Sorted(maps.Keys(first)) {
			if !bytes.Equal(first[name], again[name]) {
				t.Fatal(fmt.Sprint(name, " differs from run to run"))
			}
		}
	}
}
