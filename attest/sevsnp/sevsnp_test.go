//go:build !tee

package sevsnp_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"testing"

	"github.com/cocoon-network/cocoon/attest/sevsnp"
	"github.com/cocoon-network/cocoon/internal/tee/simulated"
)

// TestLayout holds the offsets of spec changes-2026-04 15.3.
func TestLayout(t *testing.T) {
	raw := make([]byte, sevsnp.ReportSize)
	for i := range raw {
		raw[i] = byte(i * 7)
	}
	le := binary.LittleEndian
	le.PutUint32(raw[0:], 3)
	le.PutUint32(raw[52:], 1)
	r, err := sevsnp.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	for name, ok := range map[string]bool{
		"policy":       r.Policy == le.Uint64(raw[8:]),
		"vmpl":         r.VMPL == le.Uint32(raw[48:]),
		"report data":  bytes.Equal(r.ReportData[:], raw[80:144]),
		"measurement":  bytes.Equal(r.Measurement[:], raw[144:192]),
		"host data":    bytes.Equal(r.HostData[:], raw[192:224]),
		"reported tcb": r.ReportedTCB == le.Uint64(raw[384:]),
		"chip id":      bytes.Equal(r.ChipID[:], raw[416:480]),
		"R":            bytes.Equal(r.R[:], raw[672:744]),
		"S":            bytes.Equal(r.S[:], raw[744:816]),
		"signed":       bytes.Equal(r.Signed(), raw[:672]),
		"whole":        bytes.Equal(r.Bytes(), raw),
	} {
		if !ok {
			t.Errorf("%s is read from the wrong place", name)
		}
	}
}

func TestTCB(t *testing.T) {
	for _, p := range []sevsnp.Product{sevsnp.Milan, sevsnp.Genoa, sevsnp.Siena, sevsnp.Turin} {
		want := sevsnp.TCB{BootLoader: 1, TEE: 2, SNP: 3, Microcode: 4}
		if p == sevsnp.Turin {
			want.FMC = 5
		}
		if got := sevsnp.DecodeTCB(want.Encode(p), p); got != want {
			t.Errorf("%s: %v, want %v", p, got, want)
		}
	}
	if got := sevsnp.DecodeTCB(0x4405000000000002, sevsnp.Milan); got != (sevsnp.TCB{BootLoader: 2, SNP: 5, Microcode: 0x44}) {
		t.Errorf("Milan: %v", got)
	}
	low := sevsnp.TCB{FMC: 1, BootLoader: 1, TEE: 1, SNP: 1, Microcode: 1}
	if !low.Reaches(low) {
		t.Error("a level does not reach itself")
	}
	for i, high := range []sevsnp.TCB{{2, 1, 1, 1, 1}, {1, 2, 1, 1, 1}, {1, 1, 2, 1, 1}, {1, 1, 1, 2, 1}, {1, 1, 1, 1, 2}} {
		if low.Reaches(high) {
			t.Errorf("part %d is not compared", i)
		}
	}
}

func TestParseProduct(t *testing.T) {
	for name, want := range map[string]sevsnp.Product{"Milan-B0": sevsnp.Milan, "Genoa": sevsnp.Genoa, "Siena-A1-x": sevsnp.Siena, "Turin-C1": sevsnp.Turin} {
		if p, err := sevsnp.ParseProduct(name); err != nil || p != want {
			t.Errorf("%s: %s, %v", name, p, err)
		}
	}
	for _, name := range []string{"", "-B0", "milan", "Rome-B0", "MilanB0"} {
		if p, err := sevsnp.ParseProduct(name); !errors.Is(err, sevsnp.ErrProduct) {
			t.Errorf("%q: %s, %v", name, p, err)
		}
	}
}

func TestReportProduct(t *testing.T) {
	for _, c := range []struct {
		version       uint32
		family, model byte
		want          sevsnp.Product
	}{
		{3, 0x19, 0x01, sevsnp.Milan}, {3, 0x19, 0x11, sevsnp.Genoa}, {5, 0x19, 0xa0, sevsnp.Siena},
		{3, 0x1a, 0x02, sevsnp.Turin}, {4, 0x1a, 0x11, sevsnp.Turin},
		{2, 0x19, 0x01, ""}, {3, 0x19, 0x50, ""}, {3, 0x17, 0x01, ""}, {3, 0x1a, 0x20, ""},
	} {
		r := sevsnp.Report{Version: c.version, CPUID: [24]byte{c.family, c.model}}
		if p, err := r.Product(); p != c.want || (err == nil) != (c.want != "") || err != nil && !errors.Is(err, sevsnp.ErrProduct) {
			t.Errorf("%+v: %q, %v", c, p, err)
		}
	}
}

// TestTurin: another place for the patch level and a shorter hardware id.
func TestTurin(t *testing.T) {
	v, err := simulated.New(bytes.Repeat([]byte{1}, 32))
	if err != nil {
		t.Fatal(err)
	}
	line, err := v.SNP(sevsnp.Turin)
	if err != nil {
		t.Fatal(err)
	}
	g, err := line.NewGuest(simulated.SNPGuestConfig{})
	if err != nil {
		t.Fatal(err)
	}
	r, err := g.Report([64]byte{})
	if err != nil {
		t.Fatal(err)
	}
	s, err := sevsnp.ParseSigner(g.Evidence(r).Certificate)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.VerifyReport(r); err != nil || len(s.HWID) != 8 || s.TCB != simulated.SNPTCB {
		t.Errorf("%v, %d bytes, %v", err, len(s.HWID), s.TCB)
	}
}

func FuzzParse(f *testing.F) {
	raw := make([]byte, sevsnp.ReportSize)
	raw[0], raw[52] = 2, 1
	f.Add(raw)
	f.Add(raw[:100])
	f.Fuzz(func(t *testing.T, raw []byte) {
		r, err := sevsnp.Parse(raw)
		if err != nil {
			return
		}
		if !bytes.Equal(r.Bytes(), raw) {
			t.Fatal("written again it differs")
		}
		r.SigningKey()
	})
}

func FuzzParseSigner(f *testing.F) {
	f.Add([]byte("-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		s, err := sevsnp.ParseSigner(text)
		if err != nil {
			return
		}
		if err := s.VerifyReport(&sevsnp.Report{}); err == nil {
			t.Fatal("an empty report is signed")
		}
		sevsnp.NewChain(s, &sevsnp.Collateral{Chain: text})
	})
}
