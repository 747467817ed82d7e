package wallet

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/cocoon-network/cocoon"
)

// record is the one external message that may be outstanding. It is on disk
// before the message is sent and leaves it only when the message is proven to
// be executed or can be executed no more.
type record struct {
	Address    cocoon.Address `json:"address"`
	Seqno      uint32         `json:"seqno"`
	ValidUntil int64          `json:"valid_until"` // Unix seconds
	BodyHash   []byte         `json:"body_hash"`
	// SinceLT is the wallet's newest transaction when the message was built.
	SinceLT uint64 `json:"since_lt"`
	// Messages is how many it is to send: in a mode that ignores errors some
	// can be left out without a sign of failure.
	Messages int    `json:"messages"`
	BoC      []byte `json:"boc"`
}

// outbox is the file of a wallet's record.
type outbox struct {
	path string
	lock string
}

func newOutbox(dir string, addr cocoon.Address) outbox {
	name := fmt.Sprintf("outbox-%d-%x", addr.Workchain, addr.Hash[:8])
	return outbox{path: filepath.Join(dir, name+".json"), lock: filepath.Join(dir, name+".lock")}
}

// load returns the record, or fs.ErrNotExist when nothing is outstanding.
func (o outbox) load(addr cocoon.Address) (*record, error) {
	b, err := os.ReadFile(o.path)
	if err != nil {
		return nil, err
	}
	var r record
	if err := json.Unmarshal(b, &r); err != nil {
		return nil, fmt.Errorf("outbox %s is damaged: %w", o.path, err)
	}
	if r.Address != addr || len(r.BodyHash) != 32 || len(r.BoC) == 0 {
		return nil, fmt.Errorf("outbox %s does not hold a message of wallet %s", o.path, addr)
	}
	return &r, nil
}

// store makes the record durable.
func (o outbox) store(r *record) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("outbox: %w", err)
		}
	}()
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	tmp := o.path + ".new"
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(append(b, '\n'))
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(tmp, o.path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(o.path))
}

// clear forgets the record, durably.
func (o outbox) clear() error {
	if err := os.Remove(o.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("outbox: %w", err)
	}
	if err := syncDir(filepath.Dir(o.path)); err != nil {
		return fmt.Errorf("outbox: %w", err)
	}
	return nil
}

func (r *record) validUntil() time.Time { return time.Unix(r.ValidUntil, 0) }
