//go:build !tee

package statement

import (
	"bytes"
	"crypto/ed25519"
	"encoding/hex"
	"encoding/json"
	"flag"
	"os"
	"testing"

	"github.com/cocoon-network/cocoon/internal/tee"
	"github.com/cocoon-network/cocoon/internal/wire"
	"github.com/cocoon-network/cocoon/internal/wire/schema"
)

var update = flag.Bool("update", false, "write testdata/vectors.json anew")

// exportedSession is an acceptor's session of a connection whose exporter
// gives 32 bytes 0x44.
func exportedSession(m *Sessions) *session {
	return &session{m: m, conn: &tee.Conn{Exporter: func(string, int) ([]byte, error) { return bytes.Repeat([]byte{0x44}, 32), nil }}}
}

func openQuery(hello []byte) []byte { return schema.Marshal(&schema.CocoonOpen{Hello: hello}) }

func proveQuery(bundle []byte) []byte {
	return schema.Marshal(&schema.CocoonProve{Bundle: bundle, Proof: make([]byte, 64)})
}

// TestVectors holds the encodings and signatures of docs/protocol.md.
func TestVectors(t *testing.T) {
	s, b := sample()
	digest := Digest(s.Encode())
	report := ReportData(digest)
	hello := func(nonce byte, key [32]byte) []byte {
		return schema.Marshal(&schema.CocoonHello{MinVersion: 1, MaxVersion: 1, Nonce: [32]byte(bytes.Repeat([]byte{nonce}, 32)), Spki: SPKI(key), Statement: digest})
	}
	dialer, acceptor := hello(0x55, [32]byte{1}), hello(0x66, [32]byte{2})
	exported := bytes.Repeat([]byte{0x44}, 32)
	node := newContractKey(7).key
	got := map[string]string{
		"statement":           hex.EncodeToString(s.Encode()),
		"digest":              hex.EncodeToString(digest[:]),
		"report data":         hex.EncodeToString(report[:]),
		"bundle":              hex.EncodeToString(b.Encode()),
		"dialer's hello":      hex.EncodeToString(dialer),
		"acceptor's hello":    hex.EncodeToString(acceptor),
		"exporter":            hex.EncodeToString(exported),
		"dialer's message":    hex.EncodeToString(ProofMessage(0, exported, dialer, acceptor)),
		"dialer's proof":      hex.EncodeToString(ed25519.Sign(node, ProofMessage(0, exported, dialer, acceptor))),
		"acceptor's proof":    hex.EncodeToString(ed25519.Sign(node, ProofMessage(1, exported, dialer, acceptor))),
		"node key's seed":     hex.EncodeToString(node.Seed()),
		"contract key's seed": hex.EncodeToString(newContractKey(3).key.Seed()),
		"predecessor's seed":  hex.EncodeToString(newContractKey(2).key.Seed()),
	}
	const path = "testdata/vectors.json"
	if *update {
		text, err := json.MarshalIndent(got, "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, append(text, '\n'), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var want map[string]string
	if err := json.Unmarshal(text, &want); err != nil {
		t.Fatal(err)
	}
	if len(want) != len(got) {
		t.Errorf("%d vectors, want %d", len(want), len(got))
	}
	for name, v := range got {
		if want[name] != v {
			t.Errorf("%s: %s, want %s", name, v, want[name])
		}
	}
	if parsed, err := Parse(s.Encode()); err != nil || !bytes.Equal(parsed.Encode(), s.Encode()) {
		t.Errorf("the statement does not come back: %v", err)
	}
	if parsed, err := ParseBundle(b.Encode()); err != nil || !bytes.Equal(parsed.Encode(), b.Encode()) {
		t.Errorf("the bundle does not come back: %v", err)
	}
	// What a contract key signs is longer than a cell's hash.
	for _, label := range []string{wire.LabelProxyStatement, wire.LabelSuccessor, wire.LabelSession} {
		if len(signed(label, digest[:])) <= 32 || label[len(label)-1] != 0 {
			t.Errorf("label %q", label)
		}
	}
}
