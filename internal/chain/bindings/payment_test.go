package bindings

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"strconv"
	"testing"

	"github.com/xssnick/tonutils-go/tvm/cell"

	"github.com/cocoon-network/cocoon"
)

var vectorKinds = map[string]struct {
	kind     PaymentKind
	contract cocoon.Address
}{
	"charge":               {ClientCharge, toyClient},
	"grant_refund":         {ClientGrantRefund, toyClient},
	"payout":               {WorkerPayout, toyWorker},
	"last_payout":          {WorkerLastPayout, toyWorker},
	"proxy_close":          {ProxyClose, toyProxy},
	"proxy_close_complete": {ProxyCloseComplete, toyProxy},
}

// TestPaymentVectors are the signed payloads of spec contracts 16.4.
func TestPaymentVectors(t *testing.T) {
	for _, v := range readVectors(t, "payments.txt", " ") {
		name, tokensText, hash, signature, bodyHash, body := v[0], v[1], v[2], v[3], v[5], v[6]
		k := vectorKinds[name]
		tokens, err := strconv.ParseUint(tokensText, 10, 64)
		if err != nil && tokensText != "-" {
			t.Fatal(err)
		}
		got, err := SignPayment(proxySigner, k.kind, k.contract, tokens, queryID, excessTo)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if hex.EncodeToString(got) != body || hashOf(t, got) != bodyHash {
			t.Errorf("%s: body %x, want %s", name, got, body)
		}
		p, err := ParsePayment(unhex(body))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		want := Payment{Kind: k.kind, QueryID: queryID, Tokens: tokens, Contract: k.contract, ExcessTo: excessTo, Signature: [64]byte(unhex(signature))}
		if p != want {
			t.Errorf("%s: parsed %+v, want %+v", name, p, want)
		}
		if inner, err := p.inner(); err != nil || hex.EncodeToString(inner.Hash()) != hash {
			t.Errorf("%s: payload %v, %v", name, inner, err)
		}
		if err := p.Verify(k.kind, k.contract, proxyKey); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestPublishedPayments are those of spec network-protocol 7.3.
func TestPublishedPayments(t *testing.T) {
	seed, err := base64.StdEncoding.DecodeString("ml+7xELuOQtfp9q9mSWtHiSWx5aSBV6p3xCfwPmHOwY=")
	if err != nil {
		t.Fatal(err)
	}
	signer := KeySigner(ed25519.NewKeyFromSeed(seed))
	worker, client := raw("UQDLYGhRHNqXquKXJazsjMBUUhXtmZ_Nom43-_sztpg80bUO"), raw("UQCACjNFLY4ArI-ZdQsAazEAW41KvHyVIAWsFh9pbqcA1f12")
	wallet := raw("UQAXGlaBPBoSyvlI0cEGKvS8Ak5e9JFcmKmcBmYsKhNTIdbG")
	got, err := SignPayment(signer, WorkerPayout, worker, 1234, 0x0102030405060708, wallet)
	if err != nil {
		t.Fatal(err)
	}
	want := unhex("b5ee9c720101020100a90001dba040ad2801020304050607088002e34ad0278342595f291a3820c55e978049cbde922b93153380ccc585426a642f85a3c9b53865e7079b8e84a60436f4" +
		"9e535003a5eeed4689d14be0d9a6b145709dfe95acbec5d6862679efb60fe2a81a8b7598188513651f993bca42cf1d60f001006ba040ad28010203040506070800000000000004d280" +
		"196c0d0a239b52f55c52e4b59d91980a8a42bdb333f9b44dc6ff7f6676d3079a30")
	if !bytes.Equal(got, want) {
		t.Errorf("payout %x, want %x", got, want)
	}
	got, err = SignPayment(signer, ClientCharge, client, 1234, 0x0102030405060708, wallet)
	if err != nil {
		t.Fatal(err)
	}
	p, err := ParsePayment(got)
	if err != nil || hex.EncodeToString(p.Signature[:]) != "994d719403c4d9519ffee372411d08e70318f014a5c59c2659460f900e77403703077d6c7c47c9fb1bdcf735e45208dccba498ba357628dc7489e4c1b01a3e08" {
		t.Errorf("charge signature %x, %v", p.Signature, err)
	}
}

func TestVerifyRefuses(t *testing.T) {
	b, err := SignPayment(proxySigner, ClientCharge, toyClient, 7, 1, excessTo)
	if err != nil {
		t.Fatal(err)
	}
	p, err := ParsePayment(b)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Verify(ClientGrantRefund, toyClient, proxyKey); !errors.Is(err, ErrPaymentKind) {
		t.Errorf("other kind: %v", err)
	}
	if err := p.Verify(ClientCharge, toyWorker, proxyKey); !errors.Is(err, ErrPaymentContract) {
		t.Errorf("other contract: %v", err)
	}
	if err := p.Verify(ClientCharge, toyClient, walletKey); !errors.Is(err, ErrPaymentSignature) {
		t.Errorf("other key: %v", err)
	}
	forged := p
	forged.Tokens++
	if err := forged.Verify(ClientCharge, toyClient, proxyKey); !errors.Is(err, ErrPaymentSignature) {
		t.Errorf("other counter: %v", err)
	}
}

func TestPaymentKindNames(t *testing.T) {
	seen := map[string]bool{}
	for _, k := range []PaymentKind{ClientCharge, ClientGrantRefund, WorkerPayout, WorkerLastPayout, ProxyClose, ProxyCloseComplete, 7} {
		if name := k.String(); name == "" || seen[name] {
			t.Errorf("%08x is called %q", uint32(k), name)
		}
		seen[k.String()] = true
	}
	if PaymentKind(7).String() != "operation 00000007" {
		t.Error("an unknown operation has a name")
	}
}

func TestRewrap(t *testing.T) {
	b, err := SignPayment(proxySigner, WorkerPayout, toyWorker, 7, 1, excessTo)
	if err != nil {
		t.Fatal(err)
	}
	p, err := ParsePayment(b)
	if err != nil {
		t.Fatal(err)
	}
	wrapped, err := p.Rewrap(workerOwner)
	if err != nil {
		t.Fatal(err)
	}
	q, err := ParsePayment(wrapped)
	if err != nil || q.ExcessTo != workerOwner {
		t.Fatalf("%+v, %v", q, err)
	}
	if err := q.Verify(WorkerPayout, toyWorker, proxyKey); err != nil {
		t.Error(err)
	}
}

func TestSignRefuses(t *testing.T) {
	if _, err := SignPayment(proxySigner, PaymentKind(1), toyClient, 1, 1, excessTo); err == nil {
		t.Error("an unknown operation was signed")
	}
	if _, err := SignPayment(proxySigner, ProxyClose, toyProxy, 1, 1, excessTo); err == nil {
		t.Error("a close with tokens was signed")
	}
	if _, err := SignPayment(KeySigner(nil), ClientCharge, toyClient, 1, 1, excessTo); err == nil {
		t.Error("an empty key signed")
	}
}

func TestParsePaymentRefuses(t *testing.T) {
	inner := func(op, id, tokens uint64) *writer {
		return newWriter().uint(op, 32).uint(id, 64).uint(tokens, 64).addr(toyClient)
	}
	outer := func(op, id uint64) *writer {
		return newWriter().uint(op, 32).uint(id, 64).addr(excessTo).bytes(make([]byte, 64))
	}
	const charge, closing = uint64(ClientCharge), uint64(ProxyClose)
	for name, w := range map[string]*writer{
		"unknown operation":     outer(1, 2).child(inner(1, 2, 3)),
		"operations differ":     outer(charge, 2).child(inner(uint64(ClientGrantRefund), 2, 3)),
		"query ids differ":      outer(charge, 2).child(inner(charge, 3, 3)),
		"no inner cell":         outer(charge, 2),
		"bits left outside":     outer(charge, 2).child(inner(charge, 2, 3)).bool(false),
		"bits left inside":      outer(charge, 2).child(inner(charge, 2, 3).bool(false)),
		"reference inside":      outer(charge, 2).child(inner(charge, 2, 3).child(newWriter())),
		"tokens in a close":     outer(closing, 2).child(inner(closing, 2, 3)),
		"address without value": newWriter().uint(charge, 32).uint(2, 64).uint(0, 2).bytes(make([]byte, 64)).child(inner(charge, 2, 3)),
		"second reference":      outer(charge, 2).child(inner(charge, 2, 3)).child(inner(charge, 2, 3)),
	} {
		b, err := w.serialize()
		if err != nil {
			t.Fatal(err)
		}
		if p, err := ParsePayment(b); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %+v, %v", name, p, err)
		}
	}
	pruned, err := outer(charge, 2).end()
	if err != nil {
		t.Fatal(err)
	}
	branch, err := cell.CreatePrunedBranch(pruned, 1, 0)
	if err != nil {
		t.Fatal(err)
	}
	b, err := outer(charge, 2).ref(branch).serialize()
	if err != nil {
		t.Fatal(err)
	}
	if p, err := ParsePayment(b); !errors.Is(err, ErrMalformed) {
		t.Errorf("pruned inner cell: %+v, %v", p, err)
	}
	if _, err := ParsePayment(make([]byte, maxPaymentBytes+1)); !errors.Is(err, ErrMalformed) {
		t.Errorf("oversized: %v", err)
	}
}

// TestPaymentForms reads the payment in every form of a bag of cells.
func TestPaymentForms(t *testing.T) {
	b, err := SignPayment(proxySigner, ClientCharge, toyClient, 7, 1, excessTo)
	if err != nil {
		t.Fatal(err)
	}
	c, err := parseBoC(b, maxPaymentBytes, maxPaymentCells)
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range []cell.BOCSerializeOptions{
		{WithCRC32C: true}, {WithIndex: true}, {WithIndex: true, WithCRC32C: true, WithCacheBits: true, WithTopHash: true, WithIntHashes: true},
	} {
		form, err := c.ToBOCWithOptionsErr(o)
		if err != nil {
			t.Fatal(err)
		}
		p, err := ParsePayment(form)
		if err != nil {
			t.Fatalf("%+v: %v", o, err)
		}
		if err := p.Verify(ClientCharge, toyClient, proxyKey); err != nil {
			t.Errorf("%+v: %v", o, err)
		}
	}
}

func FuzzParsePayment(f *testing.F) {
	for _, v := range readVectors(f, "payments.txt", " ") {
		f.Add(unhex(v[6]))
		f.Add(unhex(v[4]))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := ParsePayment(b)
		if err != nil {
			return
		}
		again, err := p.Encode()
		if err != nil {
			t.Fatal(err)
		}
		q, err := ParsePayment(again)
		if err != nil || p != q {
			t.Fatalf("%+v became %+v, %v", p, q, err)
		}
	})
}

func BenchmarkSignPayment(b *testing.B) {
	for b.Loop() {
		if _, err := SignPayment(proxySigner, ClientCharge, toyClient, 7, 1, excessTo); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkParseAndVerifyPayment(b *testing.B) {
	data, err := SignPayment(proxySigner, ClientCharge, toyClient, 7, 1, excessTo)
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		p, err := ParsePayment(data)
		if err != nil {
			b.Fatal(err)
		}
		if err := p.Verify(ClientCharge, toyClient, proxyKey); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkEd25519(b *testing.B) {
	hash := make([]byte, 32)
	for b.Loop() {
		ed25519.Sign(ed25519.PrivateKey(proxySigner), hash)
	}
}
