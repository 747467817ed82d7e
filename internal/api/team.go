package api

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"math"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/cocoon-network/cocoon/internal/api/openai"
	"github.com/cocoon-network/cocoon/internal/money/coins"
)

// Team knows the callers of a gateway by their API keys and keeps their budgets.
// Several gateways may share one. Its errors are *openai.Error where a caller is
// refused; any other error means that it cannot be asked now, and refuses too.
type Team interface {
	// Key returns the key with this hash, disabled or not, or ErrNoKey.
	Key(ctx context.Context, hash [32]byte) (*Key, error)
	// Admit counts a call against the key's rate and its calls at one time;
	// Leave ends it. A call that never leaves counts until the time given.
	Admit(ctx context.Context, key, call string, until time.Time) error
	Leave(ctx context.Context, call string) error
	// Reserve takes what a call can cost at most from today's budget; Settle
	// puts what it did cost in its place. A reservation that is never settled
	// stays counted that day.
	Reserve(ctx context.Context, h Hold) error
	Settle(ctx context.Context, h Hold, cost Final) error
	// Usage returns what a key used on the days from and to and between.
	Usage(ctx context.Context, key string, from, to time.Time) (*Usage, error)
}

// ErrNoKey says that no key has this hash.
var ErrNoKey = errors.New("there is no such API key")

// Key is an API key as far as it is remembered: never the key itself.
type Key struct {
	ID       string `json:"id"`
	Name     string `json:"name"`
	Created  int64  `json:"created"` // Unix time
	Disabled bool   `json:"disabled"`
	// Budget is nano per UTC day; nil = no limit.
	Budget *coins.Nano `json:"budget_nano"`
	// PerMinute bounds the calls begun in a minute, Concurrent those at one
	// time; 0 = no limit.
	PerMinute  int64 `json:"per_minute"`
	Concurrent int64 `json:"concurrent"`
	// Models are those that may be asked for; empty = all.
	Models []string `json:"models"`
}

// May reports whether the key may ask for a model.
func (k *Key) May(model string) bool {
	return k == nil || len(k.Models) == 0 || slices.Contains(k.Models, model)
}

// Hold is one reservation. Its id is random, its day the UTC day it began on.
type Hold struct {
	ID, Key, Model string
	Most           coins.Nano
	At             time.Time
}

// Usage is what a key used.
type Usage struct {
	Key  *Key       `json:"key"`
	Days []DayUsage `json:"data"`
	// Of today: what was charged, and what is held for calls that run or ended
	// without anyone learning what they cost.
	SpentNano    coins.Nano `json:"spent_today_nano"`
	ReservedNano coins.Nano `json:"reserved_today_nano"`
}

// DayUsage is the use of one model on one UTC day. Tokens are adjusted, as they
// are charged.
type DayUsage struct {
	Day              string     `json:"day"`
	Model            string     `json:"model"`
	Requests         int64      `json:"requests"`
	PromptTokens     int64      `json:"prompt_tokens"`
	CachedTokens     int64      `json:"cached_tokens"`
	CompletionTokens int64      `json:"completion_tokens"`
	ReasoningTokens  int64      `json:"reasoning_tokens"`
	TotalTokens      int64      `json:"total_tokens"`
	CostNano         coins.Nano `json:"cost_nano"`
}

// apiKey reads the caller's key; the Anthropic clients send it under another
// name.
func apiKey(h http.Header) string {
	if scheme, key, ok := strings.Cut(h.Get("Authorization"), " "); ok && strings.EqualFold(scheme, "Bearer") {
		return strings.TrimSpace(key)
	}
	return h.Get("X-Api-Key")
}

// needsKey reports whether a path is for those with a key: all of the API, not
// what tells operators how the process is.
func needsKey(path string) bool { return strings.HasPrefix(path, "/v1/") }

// teamTimeout bounds one question to the Team.
const teamTimeout = 10 * time.Second

// authenticate finds the caller's key.
func (g *Gateway) authenticate(x *exchange) error {
	if g.cfg.Team == nil || !needsKey(x.r.URL.Path) {
		return nil
	}
	secret := apiKey(x.r.Header)
	if secret == "" {
		return openai.Errorf(openai.CodeInvalidKey, "You didn't provide an API key. Send one as 'Authorization: Bearer KEY'; whoever runs this gateway makes them with 'cocoon key create'.")
	}
	ctx, stop := context.WithTimeout(x.r.Context(), teamTimeout)
	defer stop()
	key, err := g.cfg.Team.Key(ctx, sha256.Sum256([]byte(secret)))
	switch {
	case errors.Is(err, ErrNoKey):
		return openai.Errorf(openai.CodeInvalidKey, "Incorrect API key provided: this gateway has no such key.")
	case err != nil:
		return g.teamFailed("key", err)
	case key.Disabled:
		return openai.Errorf(openai.CodeInvalidKey, "This API key is disabled.")
	}
	x.key = key
	return nil
}

// teamFailed is what a caller hears of what the Team says: its refusals, and of
// anything else only that it cannot be asked.
func (g *Gateway) teamFailed(what string, err error) error {
	var e *openai.Error
	if errors.As(err, &e) {
		return e
	}
	if errors.Is(err, context.Canceled) {
		return openai.Cancelled()
	}
	g.log.Error("the store of API keys does not answer", "asked", what, "err", err)
	return openai.Unavailable("The gateway's store of API keys does not answer.")
}

// admit lets a call of a key begin.
func (g *Gateway) admit(x *exchange, rq *request) (leave func(), err error) {
	if x.key == nil {
		return func() {}, nil
	}
	if !x.key.May(rq.Model) {
		e := openai.Errorf(openai.CodeModelNotAllowed, "This API key may not use the model '%s'.", clipName(rq.Model))
		e.Param = "model"
		return nil, e
	}
	ctx, stop := context.WithTimeout(x.r.Context(), teamTimeout)
	defer stop()
	// A store that admits and fails to say so counts the call until its end.
	if err := g.cfg.Team.Admit(ctx, x.key.ID, x.id, time.Now().Add(rq.Timeout+lateness)); err != nil {
		return nil, g.teamFailed("rate", err)
	}
	return func() {
		ctx, stop := context.WithTimeout(context.WithoutCancel(x.r.Context()), teamTimeout)
		defer stop()
		if err := g.cfg.Team.Leave(ctx, x.id); err != nil {
			g.log.Warn("a call that ended still counts as running until its time is over", "request", x.id, "err", err)
		}
	}, nil
}

// lateness is how much longer than its time a call may take to be put away.
const lateness = time.Minute

// meter is asked before anything is sent that can cost, and told what it did.
// The network may tell after the answer ended, or never: then what was reserved
// counts.
type meter struct {
	g   *Gateway
	key *Key
	rq  *request

	mu      sync.Mutex
	open    int // reservations whose cost is not known
	cost    coins.Nano
	writing sync.WaitGroup
}

// hold is Call.Hold.
func (m *meter) hold(ctx context.Context, most coins.Nano) (settle func(Final), err error) {
	h := Hold{ID: rand.Text(), Model: m.rq.Model, Most: most, At: time.Now()}
	if m.key != nil {
		h.Key = m.key.ID
		ctx, stop := context.WithTimeout(ctx, teamTimeout)
		defer stop()
		if err := m.g.cfg.Team.Reserve(ctx, h); err != nil {
			return nil, m.g.teamFailed("budget", err)
		}
	}
	m.mu.Lock()
	m.open++
	m.mu.Unlock()
	var once sync.Once
	return func(f Final) {
		once.Do(func() {
			m.mu.Lock()
			defer m.mu.Unlock()
			m.open--
			m.cost += min(f.CostNano, math.MaxUint64-m.cost)
			if m.key == nil {
				return
			}
			// Whoever tells must not wait for a disk. A write that fails leaves
			// the reservation counted, which is the safe side.
			m.writing.Add(1)
			m.g.settling.Add(1)
			go func() {
				defer m.g.settling.Done()
				defer m.writing.Done()
				ctx, stop := context.WithTimeout(context.Background(), teamTimeout)
				defer stop()
				if err := m.g.cfg.Team.Settle(ctx, h, f); err != nil {
					m.g.log.Error("what a call cost was not written: its reservation stays counted today", "err", err)
				}
			}()
		})
	}, nil
}

// settled waits until what was told is written.
func (m *meter) settled() { m.writing.Wait() }

// charged reports whether anything was or can still be charged.
func (m *meter) charged() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.open > 0 || m.cost > 0
}

// Settled waits until all that was told of the cost of calls is written.
func (g *Gateway) Settled() { g.settling.Wait() }

// serveUsage tells a caller what its own key used.
func (g *Gateway) serveUsage(x *exchange) error {
	if x.key == nil {
		return openai.NotFound(x.r.URL.Path)
	}
	to := time.Now().UTC()
	from := to.AddDate(0, 0, -30)
	for name, day := range map[string]*time.Time{"from": &from, "to": &to} {
		text := x.r.URL.Query().Get(name)
		if text == "" {
			continue
		}
		t, err := time.Parse(time.DateOnly, text)
		if err != nil {
			return openai.InvalidRequest(name, "'%s' must be a UTC day such as 2026-01-31.", name)
		}
		*day = t
	}
	ctx, stop := context.WithTimeout(x.r.Context(), teamTimeout)
	defer stop()
	u, err := g.cfg.Team.Usage(ctx, x.key.ID, from, to)
	if err != nil {
		return g.teamFailed("usage", err)
	}
	return x.writeJSON(struct {
		Object string `json:"object"`
		*Usage
	}{"list", u})
}
