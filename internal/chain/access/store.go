package access

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// storeEvery bounds how often the files are written.
const storeEvery = 5 * time.Second

// checkpointLabel separates the checkpoint's authentication from other uses of
// its key.
const checkpointLabel = "cocoon/checkpoint/v1\x00"

// store keeps two blocks of a chain over a restart.
//
// The mark is the newest block ever proven, so that nobody can take us back by
// more than storeEvery. Whoever can write its file can make us refuse a chain,
// but not accept one; so it needs no protection.
//
// The checkpoint is the newest proven key block. It is believed, which saves
// proving the way from the init block again (a minute for years of mainnet),
// and is therefore authenticated with Config.CheckpointKey; without a key there
// is none.
type store struct {
	markPath, checkpointPath string // "" = not kept
	key                      []byte
	trust                    trust

	mark       blockID
	checkpoint blockID
	written    time.Time
}

type blockJSON struct {
	Seqno    uint32 `json:"seqno"`
	RootHash []byte `json:"root_hash"`
	FileHash []byte `json:"file_hash"`
	MAC      []byte `json:"mac,omitempty"` // of a checkpoint
}

func (j *blockJSON) id() (blockID, bool) {
	if len(j.RootHash) != 32 || len(j.FileHash) != 32 {
		return blockID{}, false
	}
	return blockID{seqno: j.Seqno, root: [32]byte(j.RootHash), file: [32]byte(j.FileHash)}, true
}

// openStore reads what is kept of the chain that t names.
func openStore(cfg *Config, t trust) (*store, error) {
	s := &store{trust: t, key: cfg.CheckpointKey}
	if cfg.Dir == "" {
		return s, nil
	}
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("folder of the high-water mark: %w", err)
	}
	s.markPath = filepath.Join(cfg.Dir, fmt.Sprintf("highwater-%x.json", t.zero.root[:8]))
	j, err := readBlock(s.markPath)
	if err != nil {
		return nil, fmt.Errorf("high-water mark: %w", err)
	}
	if j != nil {
		var ok bool
		if s.mark, ok = j.id(); !ok {
			return nil, fmt.Errorf("high-water mark %s is damaged; delete it to give up the protection against an older chain once", s.markPath)
		}
	}
	if len(s.key) == 0 {
		return s, nil
	}
	s.checkpointPath = filepath.Join(cfg.Dir, fmt.Sprintf("checkpoint-%x.json", t.zero.root[:8]))
	j, err = readBlock(s.checkpointPath)
	if err != nil {
		return nil, fmt.Errorf("checkpoint: %w", err)
	}
	if j != nil {
		id, ok := j.id()
		if ok && id.seqno > t.init.seqno && hmac.Equal(j.MAC, s.mac(id)) {
			s.checkpoint = id
		} else {
			// Another init block, another key, or not ours: it is no use.
			cfg.Logger.Warn("checkpoint not used, starting from the init block", "file", s.checkpointPath)
		}
	}
	return s, nil
}

// readBlock returns nil for a file that is not there, and an empty block for
// one that cannot be understood.
func readBlock(path string) (*blockJSON, error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var j blockJSON
	if err := json.Unmarshal(b, &j); err != nil {
		return &blockJSON{}, nil
	}
	return &j, nil
}

// mac ties a checkpoint to the zero state and the init block it was proven
// from.
func (s *store) mac(id blockID) []byte {
	m := hmac.New(sha256.New, s.key)
	m.Write([]byte(checkpointLabel))
	m.Write(s.trust.zero.root[:])
	m.Write(s.trust.zero.file[:])
	for _, b := range []blockID{s.trust.init, id} {
		m.Write(binary.BigEndian.AppendUint32(nil, b.seqno))
		m.Write(b.root[:])
		m.Write(b.file[:])
	}
	return m.Sum(nil)
}

// raise takes note of a new head and a new key block and writes them now and
// then.
func (s *store) raise(head, key blockID) error {
	if head.seqno > s.mark.seqno {
		s.mark = head
	}
	if key.seqno > max(s.checkpoint.seqno, s.trust.init.seqno) {
		s.checkpoint = key
	}
	if time.Since(s.written) < storeEvery {
		return nil
	}
	return s.flush()
}

// flush writes both.
func (s *store) flush() error {
	s.written = time.Now()
	if s.markPath != "" && s.mark.seqno > 0 {
		if err := writeBlock(s.markPath, s.mark, nil); err != nil {
			return fmt.Errorf("high-water mark: %w", err)
		}
	}
	if s.checkpointPath != "" && s.checkpoint.seqno > 0 {
		if err := writeBlock(s.checkpointPath, s.checkpoint, s.mac(s.checkpoint)); err != nil {
			return fmt.Errorf("checkpoint: %w", err)
		}
	}
	return nil
}

func writeBlock(path string, id blockID, mac []byte) error {
	b, err := json.Marshal(blockJSON{Seqno: id.seqno, RootHash: id.root[:], FileHash: id.file[:], MAC: mac})
	if err != nil {
		return err
	}
	// A name of its own, as other processes may write, too.
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	_, err = f.Write(append(b, '\n'))
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}

// LocalKey returns the CheckpointKey kept in dir, making one at first. It is
// for machines whose folder is trusted as much as the configuration is; in a
// measured image the host can read it, and a sealed key takes its place.
func LocalKey(dir string) ([]byte, error) {
	path := filepath.Join(dir, "checkpoint.key")
	key, err := os.ReadFile(path)
	if err == nil && len(key) == sha256.Size {
		return key, nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("checkpoint key: %w", err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("checkpoint key: %w", err)
	}
	key = make([]byte, sha256.Size)
	rand.Read(key) // never fails
	if err := os.WriteFile(path, key, 0o600); err != nil {
		return nil, fmt.Errorf("checkpoint key: %w", err)
	}
	return key, nil
}
