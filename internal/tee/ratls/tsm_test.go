//go:build !tee

package ratls

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"reflect"
	"slices"
	"testing"

	"github.com/cocoon-network/cocoon/attest"
	"github.com/cocoon-network/cocoon/attest/sevsnp"
	"github.com/cocoon-network/cocoon/internal/tee/simulated"
)

// kernel stands in for configfs: it counts writes and makes real quotes.
type kernel struct {
	guest    Attester
	provider string
	meddle   bool // another program writes between our write and our read

	aux        []byte
	inblob     [64]byte
	generation int
	open       int
}

func (k *kernel) Mkdir() (string, error) { k.open++; return "request", nil }
func (k *kernel) Remove(string) error    { k.open--; return nil }

func (k *kernel) Write(name string, b []byte) error {
	if path.Base(name) != "inblob" || len(b) != 64 {
		return fs.ErrInvalid
	}
	k.generation++
	k.inblob = [64]byte(b)
	return nil
}

func (k *kernel) Read(name string) ([]byte, error) {
	switch path.Base(name) {
	case "provider":
		return []byte(k.provider + "\n"), nil
	case "generation":
		return fmt.Appendf(nil, "%d\n", k.generation), nil
	case "outblob":
		if k.meddle {
			k.Write("inblob", make([]byte, 64))
		}
		ev, err := k.guest.Attest(context.Background(), k.inblob)
		return ev.Quote, err
	case "auxblob":
		return k.aux, nil
	}
	return nil, fs.ErrNotExist
}

func TestTSM(t *testing.T) {
	v, err := simulated.New(bytes.Repeat([]byte{1}, 32))
	if err != nil {
		t.Fatal(err)
	}
	g, err := v.NewGuest(simulated.GuestConfig{Registers: simulated.Image("worker")})
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		provider string
		meddle   bool
		err      error
	}{
		"quote":            {"tdx_guest", false, nil},
		"another provider": {"arm_cca_guest", false, ErrTSMProvider},
		"meddling":         {"tdx_guest", true, ErrTSMBusy},
	} {
		t.Run(name, func(t *testing.T) {
			k := &kernel{guest: g, provider: c.provider, meddle: c.meddle, generation: 7}
			tsm := &TSM{fs: k}
			for i := range 2 {
				data := attest.KeyReportData([32]byte{byte(i)})
				ev, err := tsm.Attest(t.Context(), data)
				if !errors.Is(err, c.err) {
					t.Fatalf("got %v, want %v", err, c.err)
				}
				if k.open != 0 {
					t.Errorf("%d requests left behind", k.open)
				}
				if c.err != nil {
					continue
				}
				if _, err := attest.Verify(ev, data, nil, v.Policy(attest.DeferredImages()), testTime); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

// TestTSMSEV: the certificate comes in a table from the host.
func TestTSMSEV(t *testing.T) {
	v, err := simulated.New(bytes.Repeat([]byte{1}, 32))
	if err != nil {
		t.Fatal(err)
	}
	line, err := v.SNP(sevsnp.Milan)
	if err != nil {
		t.Fatal(err)
	}
	row := func(name [16]byte, offset, length int) []byte {
		b := binary.LittleEndian.AppendUint32(bytes.Clone(name[:]), uint32(offset))
		return binary.LittleEndian.AppendUint32(b, uint32(length))
	}
	end := make([]byte, 24)
	for _, vlek := range []bool{false, true} {
		g, err := line.NewGuest(simulated.SNPGuestConfig{VLEK: vlek})
		if err != nil {
			t.Fatal(err)
		}
		want, err := g.Attest(t.Context(), [64]byte{5})
		if err != nil {
			t.Fatal(err)
		}
		block, _ := pem.Decode(want.Certificate)
		name := guidVCEK
		if vlek {
			name = guidVLEK
		}
		for title, c := range map[string]struct {
			table []byte
			err   error
		}{
			"alone":        {slices.Concat(row(name, 48, len(block.Bytes)), end, block.Bytes), nil},
			"behind":       {slices.Concat(row([16]byte{1}, 72, 1), row(name, 72, len(block.Bytes)), end, block.Bytes), nil},
			"empty":        {nil, ErrNoSigner},
			"another only": {slices.Concat(row([16]byte{1}, 48, 1), end, []byte{0}), ErrNoSigner},
			"after end":    {slices.Concat(end, row(name, 48, len(block.Bytes)), block.Bytes), ErrNoSigner},
			"beyond":       {slices.Concat(row(name, 48, len(block.Bytes)+1), end, block.Bytes), ErrNoSigner},
			"far beyond":   {slices.Concat(row(name, 0xffffffff, 0xffffffff), end), ErrNoSigner},
			"cut off":      {row(name, 0, 4)[:23], ErrNoSigner},
		} {
			k := &kernel{guest: g, provider: "sev_guest", aux: c.table}
			ev, err := (&TSM{fs: k}).Attest(t.Context(), [64]byte{5})
			if !errors.Is(err, c.err) {
				t.Errorf("%s: got %v, want %v", title, err, c.err)
			}
			if err == nil && !reflect.DeepEqual(ev, want) {
				t.Errorf("%s: other evidence than the guest's", title)
			}
			// Asked elsewhere only if the host gives none.
			asked := false
			ask := func(_ context.Context, report []byte) ([]byte, error) {
				asked = bytes.Equal(report, want.Quote)
				return want.Certificate, nil
			}
			ev, err = (&TSM{fs: k, Signer: ask}).Attest(t.Context(), [64]byte{5})
			if err != nil || !reflect.DeepEqual(ev, want) || asked != (c.err != nil) {
				t.Errorf("%s: %v, asked %v", title, err, asked)
			}
		}
	}
}

func FuzzSignerIn(f *testing.F) {
	f.Add(append(guidVCEK[:], 24, 0, 0, 0, 4, 0, 0, 0, 1, 2, 3, 4))
	f.Fuzz(func(t *testing.T, table []byte) {
		text := signerIn(table)
		if text == nil {
			return
		}
		if block, rest := pem.Decode(text); block == nil || len(rest) != 0 || !bytes.Contains(table, block.Bytes) {
			t.Fatal("not a certificate of the table")
		}
	})
}

// TestTSMPaths runs against plain directories, where the kernel's files are
// missing.
func TestTSMPaths(t *testing.T) {
	root := t.TempDir()
	if _, err := NewTSM(path.Join(root, "absent")).Attest(t.Context(), [64]byte{}); !errors.Is(err, ErrNoTSM) {
		t.Errorf("no configfs: %v", err)
	}
	if _, err := NewTSM(root).Attest(t.Context(), [64]byte{}); !errors.Is(err, ErrNoTSM) {
		t.Errorf("no attributes: %v", err)
	}
	if left, _ := os.ReadDir(root); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
	dir, err := configfs(root).Mkdir()
	if err != nil {
		t.Fatal(err)
	}
	name := path.Join(dir, "inblob")
	if err := configfs(root).Write(name, []byte("x")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("an attribute the kernel does not have was made: %v", err)
	}
	if err := os.WriteFile(name, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := configfs(root).Write(name, []byte("abc")); err != nil {
		t.Fatal(err)
	}
	if b, err := configfs(root).Read(name); err != nil || string(b) != "abc" {
		t.Errorf("read %q, %v", b, err)
	}
}
