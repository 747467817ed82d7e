//go:build !tee

package node

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"strings"

	"github.com/cocoon-network/cocoon/internal/api/team"
)

// openCallers opens the store of API keys where they are asked for.
func openCallers(ctx context.Context, c *Config) (*callerStore, error) {
	if !c.Runtime.RequireKeys {
		return &callerStore{close: func() {}}, nil
	}
	location, err := c.KeyStore()
	if err != nil {
		return nil, err
	}
	s, err := team.Open(ctx, location)
	if err != nil {
		return nil, fmt.Errorf("configuration: runtime.key_store: %w", err)
	}
	return &callerStore{team: s, answers: s, run: s.Run, close: func() { s.Close() }}, nil
}

// KeyStore is where a client's API keys are: a file or a PostgreSQL address.
func (c *Config) KeyStore() (string, error) {
	switch at := c.Runtime.KeyStore; {
	case at == "" && c.Runtime.Dir == "":
		return "", errors.New("configuration: runtime.key_store is missing, and there is no runtime.dir to keep the keys in: set one of them")
	case at == "":
		return filepath.Join(c.Runtime.Dir, "keys.db"), nil
	case strings.Contains(at, "://"):
		u, err := url.Parse(at)
		if err != nil {
			return "", errors.New("configuration: runtime.key_store is no address such as postgres://user@host/database")
		}
		if _, has := u.User.Password(); has || u.Query().Has("password") {
			return "", errors.New("configuration: runtime.key_store holds a password, which a configuration must not: put it into the variable PGPASSWORD or the file that PGPASSFILE names")
		}
		return at, nil
	default:
		return at, nil
	}
}
