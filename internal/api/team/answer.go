package team

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/cocoon-network/cocoon/internal/api"
)

// Claim makes a call the one that runs, or returns what is there already.
func (s *Store) Claim(ctx context.Context, c api.Claim) (kept *api.Kept, err error) {
	err = s.change(ctx, func(t *tx) error {
		// One call with the same idempotency key at a time, on all gateways.
		if _, err := t.known(ctx, c.Key); err != nil {
			return err
		}
		if _, err := t.Exec(ctx, "DELETE FROM cocoon_answers WHERE until <= ? AND key_id = ?", c.Now.UnixMilli(), c.Key); err != nil {
			return err
		}
		var request, sealed []byte
		err := t.Row(ctx, "SELECT request, sealed FROM cocoon_answers WHERE id = ?", c.ID[:]).Scan(&request, &sealed)
		if err == nil {
			kept = &api.Kept{Sealed: sealed}
			if copy(kept.Request[:], request) != 32 || len(request) != 32 {
				return errors.New("a kept answer cannot be read")
			}
			return nil
		}
		if !errors.Is(err, sql.ErrNoRows) {
			return err
		}
		var n, size int64
		if err := t.Row(ctx, "SELECT COUNT(*), CAST(COALESCE(SUM(size), 0) AS BIGINT) FROM cocoon_answers WHERE key_id = ?", c.Key).Scan(&n, &size); err != nil {
			return err
		}
		if n >= api.MaxAnswers || size >= api.MaxAnswerBytes {
			return api.TooManyAnswers()
		}
		_, err = t.Exec(ctx, "INSERT INTO cocoon_answers (id, key_id, request, sealed, size, until) VALUES (?,?,?,NULL,0,?)", c.ID[:], c.Key, c.Request[:], c.Until.UnixMilli())
		return err
	})
	return kept, err
}

// Keep puts the answer to a claimed call in place.
func (s *Store) Keep(ctx context.Context, id [32]byte, sealed []byte, until time.Time) error {
	return s.change(ctx, func(t *tx) error {
		n, err := t.Exec(ctx, "UPDATE cocoon_answers SET sealed = ?, size = ?, until = ? WHERE id = ? AND sealed IS NULL", sealed, len(sealed), until.UnixMilli(), id[:])
		if err == nil && n == 0 {
			err = errors.New("the call is not claimed any more")
		}
		return err
	})
}

// Drop forgets a call that was claimed and has no answer.
func (s *Store) Drop(ctx context.Context, id [32]byte) error {
	return s.change(ctx, func(t *tx) error {
		_, err := t.Exec(ctx, "DELETE FROM cocoon_answers WHERE id = ? AND sealed IS NULL", id[:])
		return err
	})
}
