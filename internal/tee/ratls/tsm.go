package ratls

import (
	"context"
	"encoding/binary"
	"encoding/pem"
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
	ErrNoSigner    = errors.New("the host hands over no VCEK or VLEK certificate with the report (give QEMU its file of certificates)")
	ErrTSMBusy     = errors.New("another program kept changing the attestation request")
)

// TSM asks the Linux kernel for evidence, by its configfs interface: TDX
// quotes, or SEV-SNP reports with the certificate that the host hands over
// beside them. The zero value uses TSMPath.
type TSM struct {
	// Signer finds the certificate of an SEV-SNP report's signer, as PEM,
	// where the host hands over none. nil: that is an error.
	Signer func(ctx context.Context, report []byte) ([]byte, error)

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

// Attest returns evidence that binds data.
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
	ev := attest.Evidence{Format: attest.FormatTDX}
	switch p := strings.TrimSpace(string(provider)); p {
	case "tdx_guest":
	case "sev_guest":
		ev.Format = attest.FormatSEVSNP
	default:
		return attest.Evidence{}, fmt.Errorf("%w: %q", ErrTSMProvider, p)
	}
	if err := t.request(dir, data, &ev); err != nil {
		return attest.Evidence{}, err
	}
	if ev.Format == attest.FormatSEVSNP && ev.Certificate == nil {
		if t.Signer == nil {
			return attest.Evidence{}, ErrNoSigner
		}
		if ev.Certificate, err = t.Signer(ctx, ev.Quote); err != nil {
			return attest.Evidence{}, fmt.Errorf("%w: %w", ErrNoSigner, err)
		}
	}
	return ev, nil
}

// request writes the report data and reads the evidence. The generation counts
// writes: if it is not one more than before, somebody else wrote in between.
func (t *TSM) request(dir string, data [64]byte, ev *attest.Evidence) error {
	before, err := t.generation(dir)
	if err != nil {
		return err
	}
	if err := t.fs.Write(path.Join(dir, "inblob"), data[:]); err != nil {
		return fmt.Errorf("asking the kernel for evidence: %w", err)
	}
	if ev.Quote, err = t.fs.Read(path.Join(dir, "outblob")); err != nil {
		return fmt.Errorf("reading evidence from the kernel (does the host run a quoting service?): %w", err)
	}
	if ev.Format == attest.FormatSEVSNP {
		table, err := t.fs.Read(path.Join(dir, "auxblob"))
		if err != nil {
			return fmt.Errorf("reading the host's certificates: %w", err)
		}
		ev.Certificate = signerIn(table)
	}
	after, err := t.generation(dir)
	if err != nil {
		return err
	}
	if after != before+1 {
		return fmt.Errorf("%w: generation %d, then %d", ErrTSMBusy, before, after)
	}
	return nil
}

// The names of VCEK and VLEK in the host's table of certificates, as GUIDs in
// their mixed byte order.
var (
	guidVCEK = [16]byte{0x8d, 0x75, 0xda, 0x63, 0x64, 0xe6, 0x64, 0x45, 0xad, 0xc5, 0xf4, 0xb9, 0x3b, 0xe8, 0xac, 0xcd}
	guidVLEK = [16]byte{0xc2, 0x4b, 0x07, 0xa8, 0x5a, 0xa2, 0x3e, 0x48, 0xaa, 0xe6, 0x39, 0xc0, 0x45, 0xa0, 0xb8, 0xa1}
)

// signerIn finds the certificate of the report's signer in the host's table
// and returns it as PEM, nil if there is none. Rows are name (16), offset and
// length (4 each); one of zeros ends them.
func signerIn(table []byte) []byte {
	const row = 24
	for at := 0; at+row <= len(table); at += row {
		name := [16]byte(table[at:])
		if name == [16]byte{} {
			break
		}
		if name != guidVCEK && name != guidVLEK {
			continue
		}
		offset := uint64(binary.LittleEndian.Uint32(table[at+16:]))
		length := uint64(binary.LittleEndian.Uint32(table[at+20:]))
		if offset+length > uint64(len(table)) || length == 0 {
			break
		}
		return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: table[offset : offset+length]})
	}
	return nil
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
