// Package team keeps API keys, their budgets and the answers of calls with an
// Idempotency-Key in an SQL database: SQLite in a file, or PostgreSQL by URL,
// which several gateways may share. The measured image has no SQL, so nothing
// that is built with -tags tee imports this package.
//
// Owns: the tables cocoon_*; Store.
// Imports: api (what it serves), coins, the two database drivers.
// Trust: the database is the operator's. It holds hashes of keys, and answers
// encrypted with keys that it does not have.
// Concurrency: safe for many goroutines, processes and machines: whatever
// decides about a key happens in a transaction that holds the key's row.
package team

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib" // PostgreSQL, "pgx"
	_ "modernc.org/sqlite"             // SQLite without cgo, "sqlite"
)

// Store is an open database. It is an api.Team and an api.Answers.
type Store struct {
	db       *sql.DB
	postgres bool
}

// Open opens the database that location names, postgres://… or a file, and
// brings its tables up to date. A file is made if it is not there, for its owner
// alone.
func Open(ctx context.Context, location string) (*Store, error) {
	s := &Store{}
	var err error
	if strings.HasPrefix(location, "postgres://") || strings.HasPrefix(location, "postgresql://") {
		s.postgres = true
		if s.db, err = sql.Open("pgx", location); err != nil {
			return nil, errors.New("key database: the PostgreSQL address cannot be read; write it as postgres://user@host/database") // err may repeat a password
		}
		s.db.SetMaxOpenConns(16)
		s.db.SetConnMaxIdleTime(5 * time.Minute)
	} else {
		if strings.Contains(location, "://") {
			return nil, errors.New("key database: only a file or postgres://… can be opened")
		}
		if err := makeFile(location); err != nil {
			return nil, fmt.Errorf("key database: %w", err)
		}
		// Each commit is on the disk before it is acted upon, and the one who
		// writes holds the lock from the beginning.
		q := url.Values{"_txlock": {"immediate"}, "_pragma": {"busy_timeout(10000)", "journal_mode(WAL)", "synchronous(FULL)", "secure_delete(ON)"}}
		abs, err := filepath.Abs(location)
		if err != nil {
			return nil, err
		}
		u := url.URL{Scheme: "file", Path: abs, RawQuery: q.Encode()}
		if s.db, err = sql.Open("sqlite", u.String()); err != nil {
			return nil, fmt.Errorf("key database: %w", err)
		}
		s.db.SetMaxOpenConns(1)
	}
	if err := s.migrate(ctx); err != nil {
		s.db.Close()
		return nil, fmt.Errorf("key database: %w", err)
	}
	return s, nil
}

func makeFile(path string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	return f.Close()
}

// Close closes the database.
func (s *Store) Close() error { return s.db.Close() }

// migrations bring an empty database to the newest version, each once and in
// order. What was released is never changed.
var migrations = []string{`
CREATE TABLE cocoon_keys (
	id TEXT PRIMARY KEY,
	hash {BYTES} NOT NULL UNIQUE,   -- SHA-256 of the key
	name TEXT NOT NULL UNIQUE,
	created BIGINT NOT NULL,        -- Unix time
	disabled BIGINT NOT NULL,
	budget BIGINT,                  -- nano per UTC day
	per_minute BIGINT NOT NULL,
	concurrent BIGINT NOT NULL,
	models TEXT NOT NULL,           -- JSON
	next_at BIGINT NOT NULL         -- of the rate, Unix microseconds
);
CREATE TABLE cocoon_days (
	key_id TEXT NOT NULL REFERENCES cocoon_keys(id),
	day TEXT NOT NULL,
	model TEXT NOT NULL,
	requests BIGINT NOT NULL,
	prompt BIGINT NOT NULL,
	cached BIGINT NOT NULL,
	completion BIGINT NOT NULL,
	reasoning BIGINT NOT NULL,
	total BIGINT NOT NULL,
	cost BIGINT NOT NULL,
	PRIMARY KEY (key_id, day, model)
);
CREATE TABLE cocoon_holds (
	id TEXT PRIMARY KEY,
	key_id TEXT NOT NULL REFERENCES cocoon_keys(id),
	day TEXT NOT NULL,
	nano BIGINT NOT NULL
);
CREATE INDEX cocoon_holds_by_day ON cocoon_holds (key_id, day);
CREATE TABLE cocoon_calls (
	id TEXT PRIMARY KEY,
	key_id TEXT NOT NULL REFERENCES cocoon_keys(id),
	until BIGINT NOT NULL           -- Unix milliseconds
);
CREATE INDEX cocoon_calls_by_key ON cocoon_calls (key_id);
CREATE TABLE cocoon_answers (
	id {BYTES} PRIMARY KEY,
	key_id TEXT NOT NULL,
	request {BYTES} NOT NULL,
	sealed {BYTES},                 -- NULL: the call runs
	size BIGINT NOT NULL,
	until BIGINT NOT NULL
);
CREATE INDEX cocoon_answers_by_key ON cocoon_answers (key_id);
CREATE INDEX cocoon_answers_by_time ON cocoon_answers (until);
`}

// migrationLock is the advisory lock of PostgreSQL under which one gateway at a
// time changes tables.
const migrationLock = 0x636f636f6f6e // "cocoon"

func (s *Store) migrate(ctx context.Context) error {
	return s.change(ctx, func(tx *tx) error {
		if s.postgres {
			if _, err := tx.Exec(ctx, "SELECT pg_advisory_xact_lock("+strconv.FormatInt(migrationLock, 10)+")"); err != nil {
				return err
			}
		}
		if _, err := tx.Exec(ctx, "CREATE TABLE IF NOT EXISTS cocoon_schema (version BIGINT NOT NULL)"); err != nil {
			return err
		}
		var version int
		if err := tx.Row(ctx, "SELECT COALESCE(MAX(version), 0) FROM cocoon_schema").Scan(&version); err != nil {
			return err
		}
		if version > len(migrations) {
			return fmt.Errorf("the tables are of version %d, this program knows versions up to %d: use a newer one", version, len(migrations))
		}
		for ; version < len(migrations); version++ {
			kind := "BLOB"
			if s.postgres {
				kind = "BYTEA"
			}
			for _, statement := range strings.Split(strings.ReplaceAll(migrations[version], "{BYTES}", kind), ";\n") {
				if strings.TrimSpace(statement) == "" {
					continue
				}
				if _, err := tx.Exec(ctx, statement); err != nil {
					return fmt.Errorf("version %d of the tables: %w", version+1, err)
				}
			}
			if _, err := tx.Exec(ctx, "INSERT INTO cocoon_schema (version) VALUES (?)", version+1); err != nil {
				return err
			}
		}
		return nil
	})
}

// tx is a transaction in which ? stands for arguments in both dialects.
type tx struct {
	*sql.Tx
	postgres bool
}

func (t *tx) query(q string) string {
	if !t.postgres {
		return q
	}
	var b strings.Builder
	n := 0
	for _, c := range q {
		if c == '?' {
			n++
			b.WriteString("$" + strconv.Itoa(n))
			continue
		}
		b.WriteRune(c)
	}
	return b.String()
}

func (t *tx) Exec(ctx context.Context, q string, args ...any) (int64, error) {
	r, err := t.ExecContext(ctx, t.query(q), args...)
	if err != nil {
		return 0, err
	}
	return r.RowsAffected()
}

func (t *tx) Row(ctx context.Context, q string, args ...any) *sql.Row {
	return t.QueryRowContext(ctx, t.query(q), args...)
}

// change runs f in a transaction; an error undoes it.
func (s *Store) change(ctx context.Context, f func(*tx) error) error {
	t, err := s.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer t.Rollback()
	if err := f(&tx{t, s.postgres}); err != nil {
		return err
	}
	return t.Commit()
}
