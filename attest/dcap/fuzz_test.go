//go:build !tee

package dcap_test

import (
	"bytes"
	"reflect"
	"testing"

	"github.com/cocoon-network/cocoon/attest/dcap"
	"github.com/cocoon-network/cocoon/internal/tee/simulated"
)

// FuzzParse reads, writes and reads again. Seeds are quotes of all versions.
func FuzzParse(f *testing.F) {
	v, err := simulated.New(make([]byte, simulated.SeedSize))
	if err != nil {
		f.Fatal(err)
	}
	for _, cfg := range []simulated.GuestConfig{{}, {QuoteVersion: 5}, {QuoteVersion: 5, BodyType: dcap.BodyTD10}} {
		g, err := v.NewGuest(cfg)
		if err != nil {
			f.Fatal(err)
		}
		q, err := g.Quote([64]byte{1})
		if err != nil {
			f.Fatal(err)
		}
		f.Add(q.Bytes())
		f.Add(append(q.Bytes(), 0, 0))
		q.Chain = []byte("short")
		f.Add(q.Bytes())
		q.TD, q.TD15, q.Enclave = nil, nil, &dcap.EnclaveReport{}
		q.Header.Version, q.Header.TEE, q.BodyType = 3, dcap.TEESGX, dcap.BodySGX
		f.Add(q.Bytes())
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		q, err := dcap.Parse(raw)
		if err != nil {
			return
		}
		b := q.Bytes()
		if !bytes.HasPrefix(raw, b) {
			t.Fatalf("re-encoded quote differs from its source")
		}
		again, err := dcap.Parse(b)
		if err != nil || !reflect.DeepEqual(q, again) {
			t.Fatalf("second reading differs: %v", err)
		}
		if chain, err := dcap.ParseChain(q.Chain); err == nil {
			chain.RootKeyID()
		}
		q.VerifySignature()
	})
}

func TestParseCutOff(t *testing.T) {
	v, err := simulated.New(make([]byte, simulated.SeedSize))
	if err != nil {
		t.Fatal(err)
	}
	for _, version := range []uint16{4, 5} {
		g, err := v.NewGuest(simulated.GuestConfig{QuoteVersion: version})
		if err != nil {
			t.Fatal(err)
		}
		q, err := g.Quote([64]byte{})
		if err != nil {
			t.Fatal(err)
		}
		raw := q.Bytes()
		for n := range raw {
			if _, err := dcap.Parse(raw[:n]); err == nil {
				t.Fatalf("version %d: the first %d of %d bytes are read as a quote", version, n, len(raw))
			}
		}
		if _, err := dcap.Parse(append(raw, 1)); err == nil {
			t.Error("garbage after the quote is accepted")
		}
		if _, err := dcap.Parse(append(raw, make([]byte, dcap.MaxQuote)...)); err == nil {
			t.Error("an oversized quote is read")
		}
	}
}
