package envelope

import (
	"bytes"
	"crypto/ed25519"
	"crypto/hpke"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"flag"
	"os"
	"testing"
	"time"

	"github.com/cocoon-network/cocoon/internal/wire"
	"github.com/cocoon-network/cocoon/internal/wire/schema"
)

var update = flag.Bool("update", false, "write testdata/vectors.json anew")

// TestVectors holds the bytes of docs/protocol.md: from the inputs (keys, the
// session's set-up, random values) everything else follows.
func TestVectors(t *testing.T) {
	const path = "testdata/vectors.json"
	v := map[string]string{}
	if text, err := os.ReadFile(path); err == nil {
		if err := json.Unmarshal(text, &v); err != nil {
			t.Fatal(err)
		}
	} else if !*update {
		t.Fatal(err)
	}
	get := func(name string) []byte {
		b, err := hex.DecodeString(v[name])
		if err != nil || len(b) == 0 {
			t.Fatalf("input %q: %v", name, err)
		}
		return b
	}
	kem, kdf, aead := suite()
	statement := [32]byte(bytes.Repeat([]byte{0x11}, 32))
	if *update { // encapsulation is random, so the set-up is an input
		k, err := NewSealKey()
		if err != nil {
			t.Fatal(err)
		}
		private, err := k.private.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		enc, _, err := hpke.NewSender(k.private.PublicKey(), kdf, aead, sealInfo(statement))
		if err != nil {
			t.Fatal(err)
		}
		v = map[string]string{
			"input: seal key, private": hex.EncodeToString(private), "input: set-up (enc)": hex.EncodeToString(enc),
			"input: statement digest": hex.EncodeToString(statement[:]), "input: node key's seed": hex.EncodeToString(bytes.Repeat([]byte{7}, 32)),
			"input: content key": hex.EncodeToString(bytes.Repeat([]byte{0x22}, 32)), "input: worker nonce": hex.EncodeToString(bytes.Repeat([]byte{0x33}, 32)),
			"input: request": hex.EncodeToString([]byte("the boxed http.request")), "input: cache salt": hex.EncodeToString(bytes.Repeat([]byte{0x44}, 32)),
		}
	}
	private, err := kem.NewPrivateKey(get("input: seal key, private"))
	if err != nil {
		t.Fatal(err)
	}
	node := ed25519.NewKeyFromSeed(get("input: node key's seed"))
	worker := Worker{Statement: statement, NodeKey: [32]byte(node.Public().(ed25519.PublicKey)), SealKey: private.PublicKey().Bytes()}
	enc := get("input: set-up (enc)")
	kek, err := exportKEK(enc, private, statement)
	if err != nil {
		t.Fatal(err)
	}
	s := &Session{Worker: worker, ID: sha256.Sum256(enc), enc: enc, kek: kek}
	h := Header{
		NetworkID: [32]byte(bytes.Repeat([]byte{0x55}, 32)), RequestID: [32]byte(bytes.Repeat([]byte{0x66}, 32)), Model: "cocoon-demo-1",
		MaxCoefficient: 4000, PromptTokens: 1024, OutputTokens: 100, Timeout: 120 * time.Second, AnswerBucket: 512,
	}
	c, msg, err := sealWith(bytes.NewReader(get("input: content key")), h, get("input: request"), get("input: cache salt"), []*Session{s})
	if err != nil {
		t.Fatal(err)
	}
	m, err := ParseMessage(msg)
	if err != nil {
		t.Fatal(err)
	}
	e, err := ParseEnvelope(m.Envelope)
	if err != nil {
		t.Fatal(err)
	}
	ring := NewKeyring(h.NetworkID)
	ring.Add(0, &SealKey{private, worker.SealKey}, statement)
	o, err := ring.NewLane(0).openWith(bytes.NewReader(get("input: worker nonce")), 0, msg)
	if err != nil {
		t.Fatal(err)
	}
	acc, w, err := o.Accept(func(b []byte) []byte { return ed25519.Sign(node, b) })
	if err != nil {
		t.Fatal(err)
	}
	r, err := c.Accept(acc)
	if err != nil {
		t.Fatal(err)
	}
	headerHash, aad := e.headerHash(), e.aad()
	got := map[string][]byte{
		"seal key, public": worker.SealKey, "session id": s.ID[:], "session key (KEK)": kek, "header": h.Encode(), "header hash": headerHash[:],
		"commitment": e.commitment[:], "wrapped key": e.Wraps[0].key, "content's additional data": aad[:], "plaintext, unpadded": c.Request,
		"ciphertext's SHA-256": sum(e.ciphertext), "envelope hash": e.Hash[:], "message's SHA-256": sum(msg),
		"acceptance, signed": AcceptMessage(h.RequestID, s.ID, e.Hash, statement, o.Nonce), "acceptance": acc, "response key": o.Secret[:],
	}
	end := [32]byte(bytes.Repeat([]byte{0x77}, 32))
	for name, f := range map[string]Frame{"frame 0": {Head: []byte("head"), Body: []byte("body")}} {
		if got[name], err = w.Seal(f, nil); err != nil {
			t.Fatal(err)
		}
	}
	if got["frame 1, the last"], err = w.Seal(Frame{Error: wire.Errorf(wire.CodeFailure, "text"), End: &end}, []byte("receipt")); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"frame 0", "frame 1, the last"} {
		if _, _, err := r.Open(bytes.Clone(got[name])); err != nil {
			t.Fatal(err)
		}
	}
	for name, id := range map[string]schema.Object{
		"id of cocoon.sealed": &schema.CocoonSealed{}, "id of cocoon.envelope": &schema.CocoonEnvelope{}, "id of cocoon.sealHeader": &schema.CocoonSealHeader{},
	} {
		x := id.TLID()
		got[name] = []byte{byte(x), byte(x >> 8), byte(x >> 16), byte(x >> 24)}
	}
	if *update {
		for name, b := range got {
			v[name] = hex.EncodeToString(b)
		}
		text, err := json.MarshalIndent(v, "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, append(text, '\n'), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for name, b := range got {
		if v[name] != hex.EncodeToString(b) {
			t.Errorf("%s: %x, want %s", name, b, v[name])
		}
	}
	if len(v) != len(got)+8 {
		t.Errorf("%d vectors, want %d", len(v), len(got)+8)
	}
}

func sum(b []byte) []byte {
	s := sha256.Sum256(b)
	return s[:]
}
