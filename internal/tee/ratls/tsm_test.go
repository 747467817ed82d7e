package ratls

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"testing"

	"github.com/cocoon-network/cocoon/attest"
	"github.com/cocoon-network/cocoon/internal/tee/simulated"
)

// kernel stands in for configfs: it counts writes and makes real quotes.
type kernel struct {
	guest    Attester
	provider string
	meddle   bool // another program writes between our write and our read

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
