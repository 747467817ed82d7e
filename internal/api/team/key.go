package team

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"database/sql"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/cocoon-network/cocoon/internal/api"
	"github.com/cocoon-network/cocoon/internal/money/coins"
)

// Prefix begins every API key, so that people and scanners know one.
const Prefix = "ck-"

// Limits are what a key may do. Zero values mean no limit.
type Limits struct {
	// Budget is nano per UTC day; nil = no limit, 0 = nothing.
	Budget     *coins.Nano
	PerMinute  int64
	Concurrent int64
	Models     []string
}

const (
	idPrefix  = "key_"
	maxName   = 128
	maxModels = 256
	maxRate   = 1_000_000
)

func (l *Limits) validate() error {
	switch {
	case l.Budget != nil && *l.Budget > math.MaxInt64/2:
		return errors.New("the budget is larger than all coins")
	case l.PerMinute < 0 || l.PerMinute > maxRate:
		return fmt.Errorf("the rate must be 0 to %d calls a minute; 0 = no limit", maxRate)
	case l.Concurrent < 0 || l.Concurrent > maxRate:
		return fmt.Errorf("the calls at one time must be 0 to %d; 0 = no limit", maxRate)
	case len(l.Models) > maxModels:
		return fmt.Errorf("at most %d models can be named", maxModels)
	}
	for _, m := range l.Models {
		if m == "" || len(m) > 256 || strings.Contains(m, "@") {
			return errors.New("models are named by their base name, such as Qwen/Qwen3-8B")
		}
	}
	return nil
}

// Create makes a key and returns it: the only time that anyone sees it.
func (s *Store) Create(ctx context.Context, name string, l Limits) (secret string, k *api.Key, err error) {
	if strings.TrimSpace(name) == "" || len(name) > maxName || strings.ContainsFunc(name, func(c rune) bool { return c < ' ' || c == 0x7f }) {
		return "", nil, fmt.Errorf("a key needs a name of 1 to %d characters", maxName)
	}
	if strings.HasPrefix(name, idPrefix) {
		return "", nil, fmt.Errorf("a key's name must not begin with %q, as ids do", idPrefix)
	}
	if err := l.validate(); err != nil {
		return "", nil, err
	}
	var b [32]byte
	if _, err := rand.Read(b[:]); err != nil {
		return "", nil, err
	}
	secret = Prefix + base64.RawURLEncoding.EncodeToString(b[:])
	hash := sha256.Sum256([]byte(secret))
	models, err := json.Marshal(append([]string{}, l.Models...))
	if err != nil {
		return "", nil, err
	}
	id := idPrefix + strings.ToLower(rand.Text()[:16])
	err = s.change(ctx, func(t *tx) error {
		var n int
		if err := t.Row(ctx, "SELECT COUNT(*) FROM cocoon_keys WHERE name = ?", name).Scan(&n); err != nil {
			return err
		}
		if n > 0 {
			return fmt.Errorf("there is a key with the name %q already", name)
		}
		_, err := t.Exec(ctx, "INSERT INTO cocoon_keys (id, hash, name, created, disabled, budget, per_minute, concurrent, models, next_at) VALUES (?,?,?,?,0,?,?,?,?,0)",
			id, hash[:], name, time.Now().Unix(), nullable(l.Budget), l.PerMinute, l.Concurrent, string(models))
		if err != nil {
			return err
		}
		k, err = readKey(t.Row(ctx, selectKeys+" WHERE id = ?", id).Scan)
		return err
	})
	if err != nil {
		return "", nil, err
	}
	return secret, k, nil
}

func nullable(n *coins.Nano) any {
	if n == nil {
		return nil
	}
	return int64(*n)
}

const selectKeys = "SELECT id, name, created, disabled, budget, per_minute, concurrent, models FROM cocoon_keys"

func readKey(scan func(...any) error) (*api.Key, error) {
	var k api.Key
	var disabled int64
	var budget sql.NullInt64
	var models string
	if err := scan(&k.ID, &k.Name, &k.Created, &disabled, &budget, &k.PerMinute, &k.Concurrent, &models); err != nil {
		if errors.Is(err, sql.ErrNoRows) {
			return nil, api.ErrNoKey
		}
		return nil, err
	}
	k.Disabled = disabled != 0
	if budget.Valid {
		n := coins.Nano(max(budget.Int64, 0))
		k.Budget = &n
	}
	// What cannot be read must not mean "all models".
	if err := json.Unmarshal([]byte(models), &k.Models); err != nil {
		return nil, fmt.Errorf("the models of key %s cannot be read: %w", k.ID, err)
	}
	return &k, nil
}

// Key returns the key with this hash.
func (s *Store) Key(ctx context.Context, hash [32]byte) (k *api.Key, err error) {
	q := tx{postgres: s.postgres}
	return readKey(s.db.QueryRowContext(ctx, q.query(selectKeys+" WHERE hash = ?"), hash[:]).Scan)
}

// Keys lists all keys, by name.
func (s *Store) Keys(ctx context.Context) ([]*api.Key, error) {
	rows, err := s.db.QueryContext(ctx, selectKeys+" ORDER BY name")
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	keys := []*api.Key{}
	for rows.Next() {
		k, err := readKey(rows.Scan)
		if err != nil {
			return nil, err
		}
		keys = append(keys, k)
	}
	return keys, rows.Err()
}

// Set changes a key, named by name or id: f gets its limits and whether it is
// disabled.
func (s *Store) Set(ctx context.Context, name string, f func(l *Limits, disabled *bool) error) (k *api.Key, err error) {
	err = s.change(ctx, func(t *tx) error {
		if k, err = readKey(t.Row(ctx, selectKeys+" WHERE name = ? OR id = ?"+t.locked(), name, name).Scan); err != nil {
			if errors.Is(err, api.ErrNoKey) {
				return fmt.Errorf("%w: %q is neither a name nor an id; `cocoon key list` shows all", err, name)
			}
			return err
		}
		l := Limits{Budget: k.Budget, PerMinute: k.PerMinute, Concurrent: k.Concurrent, Models: k.Models}
		if err := f(&l, &k.Disabled); err != nil {
			return err
		}
		if err := l.validate(); err != nil {
			return err
		}
		models, err := json.Marshal(append([]string{}, l.Models...))
		if err != nil {
			return err
		}
		disabled := 0
		if k.Disabled {
			disabled = 1
		}
		if _, err = t.Exec(ctx, "UPDATE cocoon_keys SET disabled = ?, budget = ?, per_minute = ?, concurrent = ?, models = ? WHERE id = ?",
			disabled, nullable(l.Budget), l.PerMinute, l.Concurrent, string(models), k.ID); err != nil {
			return err
		}
		k, err = readKey(t.Row(ctx, selectKeys+" WHERE id = ?", k.ID).Scan)
		return err
	})
	return k, err
}

// locked holds the rows that are read until the transaction ends. SQLite's
// transactions hold the whole database.
func (t *tx) locked() string {
	if t.postgres {
		return " FOR UPDATE"
	}
	return ""
}

// lock reads a key's row and holds it.
func (t *tx) lock(ctx context.Context, id string) (*api.Key, error) {
	return readKey(t.Row(ctx, selectKeys+" WHERE id = ?"+t.locked(), id).Scan)
}
