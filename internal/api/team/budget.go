package team

import (
	"context"
	"errors"
	"math"
	"time"

	"github.com/cocoon-network/cocoon/internal/api"
	"github.com/cocoon-network/cocoon/internal/api/openai"
	"github.com/cocoon-network/cocoon/internal/money/coins"
)

// known is a caller's key, which may have been disabled since it was found.
func (t *tx) known(ctx context.Context, id string) (*api.Key, error) {
	k, err := t.lock(ctx, id)
	if errors.Is(err, api.ErrNoKey) || err == nil && k.Disabled {
		return nil, openai.Errorf(openai.CodeInvalidKey, "This API key is disabled.")
	}
	return k, err
}

// Admit counts a call against the key's rate and its calls at one time. The rate
// lets calls begin in a burst of a minute's worth and then evenly.
func (s *Store) Admit(ctx context.Context, key, call string, until time.Time) error {
	now := time.Now()
	return s.change(ctx, func(t *tx) error {
		k, err := t.known(ctx, key)
		if err != nil {
			return err
		}
		if k.Concurrent > 0 {
			if _, err := t.Exec(ctx, "DELETE FROM cocoon_calls WHERE key_id = ? AND until <= ?", key, now.UnixMilli()); err != nil {
				return err
			}
			var n int64
			if err := t.Row(ctx, "SELECT COUNT(*) FROM cocoon_calls WHERE key_id = ?", key).Scan(&n); err != nil {
				return err
			}
			if n >= k.Concurrent {
				return openai.RateLimited(time.Second, "This API key has %d calls running, which is its limit.", n)
			}
			if _, err := t.Exec(ctx, "INSERT INTO cocoon_calls (id, key_id, until) VALUES (?,?,?)", call, key, until.UnixMilli()); err != nil {
				return err
			}
		}
		if k.PerMinute > 0 {
			var next int64
			if err := t.Row(ctx, "SELECT next_at FROM cocoon_keys WHERE id = ?", key).Scan(&next); err != nil {
				return err
			}
			minute, at := time.Minute.Microseconds(), now.UnixMicro()
			each := minute / k.PerMinute
			next = max(next, at) + each
			if wait := next - minute - at; wait > 0 {
				return openai.RateLimited(time.Duration(wait)*time.Microsecond, "This API key may begin %d calls a minute.", k.PerMinute)
			}
			if _, err := t.Exec(ctx, "UPDATE cocoon_keys SET next_at = ? WHERE id = ?", next, key); err != nil {
				return err
			}
		}
		return nil
	})
}

// Leave ends a call.
func (s *Store) Leave(ctx context.Context, call string) error {
	return s.change(ctx, func(t *tx) error {
		_, err := t.Exec(ctx, "DELETE FROM cocoon_calls WHERE id = ?", call)
		return err
	})
}

func day(t time.Time) string { return t.UTC().Format(time.DateOnly) }

// maxCost bounds what one row adds, so that sums stay in range.
const maxCost = 1 << 53

func bounded(n coins.Nano) int64 { return int64(min(n, maxCost)) }

// spent is what a day's calls did cost, and held what those can cost that are
// not settled. The key's row is held.
func (t *tx) spent(ctx context.Context, key, day string) (spent, held int64, err error) {
	if err := t.Row(ctx, "SELECT CAST(COALESCE(SUM(cost), 0) AS BIGINT) FROM cocoon_days WHERE key_id = ? AND day = ?", key, day).Scan(&spent); err != nil {
		return 0, 0, err
	}
	err = t.Row(ctx, "SELECT CAST(COALESCE(SUM(nano), 0) AS BIGINT) FROM cocoon_holds WHERE key_id = ? AND day = ?", key, day).Scan(&held)
	return spent, held, err
}

// Reserve takes what a call can cost at most from the budget of its day.
func (s *Store) Reserve(ctx context.Context, h api.Hold) error {
	return s.change(ctx, func(t *tx) error {
		k, err := t.known(ctx, h.Key)
		if err != nil {
			return err
		}
		today := day(h.At)
		if k.Budget != nil {
			spent, held, err := t.spent(ctx, h.Key, today)
			if err != nil {
				return err
			}
			left := int64(*k.Budget) - spent - held
			if left < 0 || h.Most > coins.Nano(left) {
				e := openai.Errorf(openai.CodeInsufficientQuota, "The budget of this API key has %d of %d nano left today (%d are held for calls that are not settled), and the call can cost %d. Lower 'max_tokens', or wait until midnight UTC.", max(left, 0), *k.Budget, held, h.Most)
				tomorrow := h.At.UTC().Truncate(24 * time.Hour).Add(24 * time.Hour)
				e.RetryAfter = max(tomorrow.Sub(h.At), time.Second)
				return e
			}
		}
		_, err = t.Exec(ctx, "INSERT INTO cocoon_holds (id, key_id, day, nano) VALUES (?,?,?,?)", h.ID, h.Key, today, bounded(h.Most))
		return err
	})
}

// errSettled says that a reservation is settled, or was never made.
var errSettled = errors.New("there is no such reservation")

// Settle puts what a call did cost in place of what was reserved, on the day it
// was reserved.
func (s *Store) Settle(ctx context.Context, h api.Hold, f api.Final) error {
	return s.change(ctx, func(t *tx) error {
		if _, err := t.lock(ctx, h.Key); err != nil {
			return err
		}
		n, err := t.Exec(ctx, "DELETE FROM cocoon_holds WHERE id = ? AND key_id = ?", h.ID, h.Key)
		if err != nil {
			return err
		}
		if n == 0 {
			return errSettled
		}
		if f.TotalTokens == 0 && f.CostNano == 0 {
			return nil // it was not served
		}
		count := func(n int64) int64 { return min(max(n, 0), maxCost) }
		_, err = t.Exec(ctx, `INSERT INTO cocoon_days (key_id, day, model, requests, prompt, cached, completion, reasoning, total, cost) VALUES (?,?,?,1,?,?,?,?,?,?)
			ON CONFLICT (key_id, day, model) DO UPDATE SET requests = cocoon_days.requests + 1, prompt = cocoon_days.prompt + excluded.prompt, cached = cocoon_days.cached + excluded.cached,
			completion = cocoon_days.completion + excluded.completion, reasoning = cocoon_days.reasoning + excluded.reasoning, total = cocoon_days.total + excluded.total, cost = cocoon_days.cost + excluded.cost`,
			h.Key, day(h.At), h.Model, count(f.PromptTokens), count(f.CachedTokens), count(f.CompletionTokens), count(f.ReasoningTokens), count(f.TotalTokens), bounded(f.CostNano))
		return err
	})
}

// Usage returns what a key used on the days from and to and between.
func (s *Store) Usage(ctx context.Context, key string, from, to time.Time) (*api.Usage, error) {
	u := &api.Usage{Days: []api.DayUsage{}}
	err := s.change(ctx, func(t *tx) (err error) {
		if u.Key, err = t.lock(ctx, key); err != nil {
			return err
		}
		spent, held, err := t.spent(ctx, key, day(time.Now()))
		if err != nil {
			return err
		}
		u.SpentNano, u.ReservedNano = nano(spent), nano(held)
		rows, err := t.QueryContext(ctx, t.query("SELECT day, model, requests, prompt, cached, completion, reasoning, total, cost FROM cocoon_days WHERE key_id = ? AND day >= ? AND day <= ? ORDER BY day DESC, model LIMIT 10000"), key, day(from), day(to))
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var d api.DayUsage
			var cost int64
			if err := rows.Scan(&d.Day, &d.Model, &d.Requests, &d.PromptTokens, &d.CachedTokens, &d.CompletionTokens, &d.ReasoningTokens, &d.TotalTokens, &cost); err != nil {
				return err
			}
			d.CostNano = nano(cost)
			u.Days = append(u.Days, d)
		}
		return rows.Err()
	})
	return u, err
}

func nano(n int64) coins.Nano { return coins.Nano(min(max(n, 0), math.MaxInt64)) }

// Clean forgets what is over: reservations of past days, calls and answers whose
// time is over.
func (s *Store) Clean(ctx context.Context, now time.Time) error {
	return s.change(ctx, func(t *tx) error {
		// A day more, for calls that settle after midnight.
		if _, err := t.Exec(ctx, "DELETE FROM cocoon_holds WHERE day < ?", day(now.AddDate(0, 0, -1))); err != nil {
			return err
		}
		if _, err := t.Exec(ctx, "DELETE FROM cocoon_calls WHERE until <= ?", now.UnixMilli()); err != nil {
			return err
		}
		_, err := t.Exec(ctx, "DELETE FROM cocoon_answers WHERE until <= ?", now.UnixMilli())
		return err
	})
}

// Run cleans every minute until ctx ends.
func (s *Store) Run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(time.Minute):
		}
		// What fails now is tried again; what is over is not believed meanwhile.
		_ = s.Clean(ctx, time.Now())
	}
}
