package telegram

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
)

const (
	maxState   = 64 << 20
	maxRecords = 200_000 // chats and users together
)

// State is what the bot keeps on disk: which chats agreed, and settings. It
// holds no message, name or time. A change is on disk before it counts.
type State struct {
	path string
	mu   sync.Mutex
	v    stateFile
}

type stateFile struct {
	Version int `json:"version"`
	// Consent by chat; a private chat has its user's id. Absent = off.
	Consent map[int64]bool     `json:"consent"`
	Users   map[int64]Settings `json:"users"`
}

// Settings are a user's own.
type Settings struct {
	Language string `json:"language,omitempty"` // of the bot's words; empty = Telegram's
	To       string `json:"to,omitempty"`       // what texts are translated into; empty = Language
	Business bool   `json:"business,omitempty"` // suggest replies in the connected account's chats
}

// OpenState reads the state file, or begins a new one.
func OpenState(path string) (*State, error) {
	s := &State{path: path, v: stateFile{Version: 1}}
	f, err := os.Open(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, fmt.Errorf("the bot's settings cannot be read: %w", err)
	default:
		defer f.Close()
		if err := json.NewDecoder(io.LimitReader(f, maxState)).Decode(&s.v); err != nil || s.v.Version != 1 {
			return nil, fmt.Errorf("%s is damaged or of another version: move it away, and every chat has to agree again", path)
		}
	}
	if s.v.Consent == nil {
		s.v.Consent = map[int64]bool{}
	}
	if s.v.Users == nil {
		s.v.Users = map[int64]Settings{}
	}
	return s, nil
}

// consent reports what a chat decided; known = it decided at all.
func (s *State) consent(chat int64) (on, known bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	on, known = s.v.Consent[chat]
	return on, known
}

func (s *State) user(id int64) Settings {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.v.Users[id]
}

func (s *State) setConsent(chat int64, on bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	old, known := s.v.Consent[chat]
	if known && old == on {
		return nil
	}
	s.v.Consent[chat] = on
	err := s.writeLocked()
	if err != nil {
		// A refusal counts although it could not be kept, an agreement does not.
		if on {
			if s.v.Consent[chat] = old; !known {
				delete(s.v.Consent, chat)
			}
		}
	}
	return err
}

func (s *State) setUser(id int64, change func(*Settings)) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	old, known := s.v.Users[id]
	v := old
	if change(&v); v == old {
		return nil
	}
	s.v.Users[id] = v
	err := s.writeLocked()
	if err != nil {
		if s.v.Users[id] = old; !known {
			delete(s.v.Users, id)
		}
	}
	return err
}

// move carries a group's consent to the supergroup that it became.
func (s *State) move(from, to int64) error {
	on, known := s.consent(from)
	if !known {
		return nil
	}
	return s.setConsent(to, on)
}

func (s *State) writeLocked() error {
	if len(s.v.Consent)+len(s.v.Users) > maxRecords {
		return errors.New("the bot's settings are full")
	}
	b, err := json.Marshal(&s.v)
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(s.path), ".telegram-*") // 0600
	if err != nil {
		return fmt.Errorf("the bot's settings cannot be written: %w", err)
	}
	defer os.Remove(f.Name()) // gone after the rename
	_, err = f.Write(b)
	if err == nil {
		err = f.Sync()
	}
	if e := f.Close(); err == nil {
		err = e
	}
	if err == nil {
		err = os.Rename(f.Name(), s.path)
	}
	if err == nil {
		var d *os.File
		if d, err = os.Open(filepath.Dir(s.path)); err == nil {
			err = d.Sync()
			d.Close()
		}
	}
	if err != nil {
		return fmt.Errorf("the bot's settings cannot be written: %w", err)
	}
	return nil
}
