package ratls

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"strconv"
	"strings"
	"sync"

	"github.com/cocoon-network/cocoon/attest"
)

// TSMPath is where Linux offers attestation reports to confidential guests.
const TSMPath = "/sys/kernel/config/tsm/report"

// The ways the kernel fails to give a quote.
var (
	ErrNoTSM       = errors.New("this machine offers no attestation reports (is it a confidential guest, is configfs mounted, is the guest's driver loaded?)")
	ErrTSMProvider = errors.New("this machine's attestation reports are of a kind that has no place here")
	ErrTSMBusy     = errors.New("another program kept changing the attestation request")
)

// TSM asks the Linux kernel for TDX quotes, by its configfs interface. The
// zero value uses TSMPath.
type TSM struct {
	fs tsmFS      // nil: configfs at TSMPath
	mu sync.Mutex // the kernel makes one quote at a time
}

// tsmFS is what is needed of configfs, so that tests can stand in for the
// kernel. Mkdir makes a new request with its attribute files.
type tsmFS interface {
	Mkdir() (dir string, err error)
	Write(name string, b []byte) error
	Read(name string) ([]byte, error)
	Remove(dir string) error
}

// NewTSM uses the interface at the given path; "" means TSMPath.
func NewTSM(root string) *TSM {
	if root == "" {
		root = TSMPath
	}
	return &TSM{fs: configfs(root)}
}

// Attest returns a TDX quote that binds data.
func (t *TSM) Attest(ctx context.Context, data [64]byte) (attest.Evidence, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return attest.Evidence{}, err
	}
	if t.fs == nil {
		t.fs = configfs(TSMPath)
	}
	dir, err := t.fs.Mkdir()
	if err != nil {
		return attest.Evidence{}, fmt.Errorf("%w: %v", ErrNoTSM, err)
	}
	defer t.fs.Remove(dir)
	provider, err := t.fs.Read(path.Join(dir, "provider"))
	if err != nil {
		return attest.Evidence{}, fmt.Errorf("%w: %v", ErrNoTSM, err)
	}
	if p := strings.TrimSpace(string(provider)); p != "tdx_guest" {
		return attest.Evidence{}, fmt.Errorf("%w: %q", ErrTSMProvider, p)
	}
	quote, err := t.request(dir, data)
	if err != nil {
		return attest.Evidence{}, err
	}
	return attest.Evidence{Format: attest.FormatTDX, Quote: quote}, nil
}

// request writes the report data and reads the quote. The generation counts
// writes: if it is not one more than before, somebody else wrote in between.
func (t *TSM) request(dir string, data [64]byte) ([]byte, error) {
	before, err := t.generation(dir)
	if err != nil {
		return nil, err
	}
	if err := t.fs.Write(path.Join(dir, "inblob"), data[:]); err != nil {
		return nil, fmt.Errorf("asking the kernel for a quote: %w", err)
	}
	quote, err := t.fs.Read(path.Join(dir, "outblob"))
	if err != nil {
		return nil, fmt.Errorf("reading a quote from the kernel (does the host run a quoting service?): %w", err)
	}
	after, err := t.generation(dir)
	if err != nil {
		return nil, err
	}
	if after != before+1 {
		return nil, fmt.Errorf("%w: generation %d, then %d", ErrTSMBusy, before, after)
	}
	return quote, nil
}

func (t *TSM) generation(dir string) (uint64, error) {
	b, err := t.fs.Read(path.Join(dir, "generation"))
	if err != nil {
		return 0, fmt.Errorf("%w: %v", ErrNoTSM, err)
	}
	n, err := strconv.ParseUint(strings.TrimSpace(string(b)), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%w: generation %q", ErrNoTSM, b)
	}
	return n, nil
}

// configfs is the kernel's file system below its path.
type configfs string

func (c configfs) Mkdir() (string, error) { return os.MkdirTemp(string(c), "cocoon-") }

func (c configfs) Write(name string, b []byte) error {
	f, err := os.OpenFile(name, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.Write(b) // one write is one request
	return errors.Join(err, f.Close())
}

func (c configfs) Read(name string) ([]byte, error) { return os.ReadFile(name) }

func (c configfs) Remove(dir string) error { return os.Remove(dir) }
