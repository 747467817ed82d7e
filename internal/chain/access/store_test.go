package access

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// TestCheckpoint believes a checkpoint only with its key and for its chain.
func TestCheckpoint(t *testing.T) {
	id := func(n byte, seqno uint32) blockID {
		return blockID{seqno: seqno, root: [32]byte{n}, file: [32]byte{n, n}}
	}
	dir := t.TempDir()
	key, err := LocalKey(dir)
	if err != nil {
		t.Fatal(err)
	}
	again, err := LocalKey(dir)
	if err != nil || !bytes.Equal(key, again) || len(key) != 32 {
		t.Fatalf("key %x, then %x, %v", key, again, err)
	}
	tr := trust{zero: zeroState{root: [32]byte{1}, file: [32]byte{2}}, init: id(3, 10)}
	var log bytes.Buffer
	cfg := &Config{Dir: dir, CheckpointKey: key, Logger: slog.New(slog.NewTextHandler(&log, nil))}
	reopen := func(cfg *Config, tr trust) *store {
		t.Helper()
		s, err := openStore(cfg, tr)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}

	s := reopen(cfg, tr)
	if s.mark.seqno != 0 || s.checkpoint.seqno != 0 {
		t.Errorf("a new store holds %+v", s)
	}
	if err := s.raise(id(5, 40), id(4, 20)); err != nil {
		t.Fatal(err)
	}
	if err := s.raise(id(6, 30), id(3, 10)); err != nil { // lower: nothing moves
		t.Fatal(err)
	}
	if err := s.flush(); err != nil {
		t.Fatal(err)
	}
	if s = reopen(cfg, tr); s.mark != id(5, 40) || s.checkpoint != id(4, 20) {
		t.Errorf("came back as mark %s, checkpoint %s", s.mark, s.checkpoint)
	}
	without := *cfg
	without.CheckpointKey = nil
	if s := reopen(&without, tr); s.checkpoint.seqno != 0 || s.mark != id(5, 40) {
		t.Errorf("without key: mark %s, checkpoint %s", s.mark, s.checkpoint)
	}
	if log.String() != "" {
		t.Errorf("said without reason: %s", log.String())
	}

	other := *cfg
	other.CheckpointKey = bytes.Repeat([]byte{7}, 32)
	moved := tr
	moved.init = id(3, 11)
	path := s.checkpointPath
	genuine, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for name, try := range map[string]func() *store{
		"another key":        func() *store { return reopen(&other, tr) },
		"another init block": func() *store { return reopen(cfg, moved) },
		"another number": func() *store {
			if err := os.WriteFile(path, bytes.Replace(genuine, []byte(`"seqno":20`), []byte(`"seqno":21`), 1), 0o600); err != nil {
				t.Fatal(err)
			}
			return reopen(cfg, tr)
		},
		"no JSON": func() *store {
			if err := os.WriteFile(path, []byte("}"), 0o600); err != nil {
				t.Fatal(err)
			}
			return reopen(cfg, tr)
		},
	} {
		log.Reset()
		if s := try(); s.checkpoint.seqno != 0 {
			t.Errorf("%s: the checkpoint is believed", name)
		}
		if !strings.Contains(log.String(), "checkpoint not used") {
			t.Errorf("%s: nothing is said", name)
		}
		if err := os.WriteFile(path, genuine, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// TestSharedFolder lets several writers share a folder: what is read is always
// one of the blocks written, whole.
func TestSharedFolder(t *testing.T) {
	path := filepath.Join(t.TempDir(), "mark.json")
	var writers sync.WaitGroup
	for w := range byte(4) {
		writers.Go(func() {
			for n := range uint32(50) {
				if err := writeBlock(path, blockID{seqno: n + 1, root: [32]byte{w}}, nil); err != nil {
					t.Error(err)
				}
			}
		})
	}
	done := make(chan struct{})
	go func() { writers.Wait(); close(done) }()
	for running := true; running; {
		select {
		case <-done:
			running = false
		default:
		}
		j, err := readBlock(path)
		if err != nil {
			t.Fatal(err)
		}
		if j == nil { // none written yet
			continue
		}
		if _, ok := j.id(); !ok {
			t.Fatal("a torn block was read")
		}
	}
	if left, err := filepath.Glob(path + ".*"); err != nil || len(left) != 0 {
		t.Errorf("files left: %v, %v", left, err)
	}
}
