package access

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// markEvery bounds how often the mark is written.
const markEvery = 5 * time.Second

// markFile keeps the newest block ever proven of a chain, so that nobody can
// take us back over a restart by more than markEvery. Whoever can write the
// file can make us refuse a chain, but not accept one.
type markFile struct {
	path    string // "" = not kept
	id      blockID
	written time.Time
}

type markJSON struct {
	Seqno    uint32 `json:"seqno"`
	RootHash []byte `json:"root_hash"`
	FileHash []byte `json:"file_hash"`
}

// openMark reads the mark of the chain that begins with zero.
func openMark(dir string, zero zeroState) (*markFile, error) {
	if dir == "" {
		return &markFile{}, nil
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("folder of the high-water mark: %w", err)
	}
	m := &markFile{path: filepath.Join(dir, fmt.Sprintf("highwater-%x.json", zero.root[:8]))}
	b, err := os.ReadFile(m.path)
	if errors.Is(err, fs.ErrNotExist) {
		return m, nil
	}
	if err != nil {
		return nil, fmt.Errorf("high-water mark: %w", err)
	}
	var j markJSON
	if err := json.Unmarshal(b, &j); err != nil || len(j.RootHash) != 32 || len(j.FileHash) != 32 {
		return nil, fmt.Errorf("high-water mark %s is damaged; delete it to give up the protection against an older chain once", m.path)
	}
	m.id = blockID{seqno: j.Seqno, root: [32]byte(j.RootHash), file: [32]byte(j.FileHash)}
	return m, nil
}

// raise moves the mark up, writing it now and then.
func (m *markFile) raise(id blockID) error {
	if id.seqno <= m.id.seqno {
		return nil
	}
	m.id = id
	if m.path == "" || time.Since(m.written) < markEvery {
		return nil
	}
	return m.write()
}

// flush writes the mark at the end.
func (m *markFile) flush(id blockID) error {
	if m.path == "" || id.seqno == 0 {
		return nil
	}
	return m.write()
}

func (m *markFile) write() error {
	b, err := json.Marshal(markJSON{Seqno: m.id.seqno, RootHash: m.id.root[:], FileHash: m.id.file[:]})
	if err != nil {
		return err
	}
	tmp := m.path + ".new"
	if err := os.WriteFile(tmp, append(b, '\n'), 0o600); err != nil {
		return fmt.Errorf("high-water mark: %w", err)
	}
	if err := os.Rename(tmp, m.path); err != nil {
		return fmt.Errorf("high-water mark: %w", err)
	}
	m.written = time.Now()
	return nil
}
