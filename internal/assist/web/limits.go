package web

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/cocoon-network/cocoon/internal/api/openai"
	"github.com/cocoon-network/cocoon/internal/assist"
)

// RemoteUser tells users apart by their address; of IPv6, by its network.
func RemoteUser(r *http.Request) (string, error) {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		host = r.RemoteAddr
	}
	ip, err := netip.ParseAddr(host)
	if err != nil {
		return "", openai.Internal()
	}
	if ip = ip.Unmap().WithZone(""); ip.Is6() {
		if p, err := ip.Prefix(64); err == nil {
			return "ip " + p.String(), nil
		}
	}
	return "ip " + ip.String(), nil
}

// KeyUsers tells users apart by the API key they send, and refuses those
// without one of keys.
func KeyUsers(keys []string) func(*http.Request) (string, error) {
	hashes := make([][32]byte, len(keys))
	for i, k := range keys {
		hashes[i] = sha256.Sum256([]byte(k))
	}
	return func(r *http.Request) (string, error) {
		key, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		if ok {
			sent := sha256.Sum256([]byte(strings.TrimSpace(key)))
			for _, h := range hashes {
				if subtle.ConstantTimeCompare(h[:], sent[:]) == 1 {
					return "key " + hex.EncodeToString(h[:8]), nil
				}
			}
		}
		return "", openai.Errorf(openai.CodeInvalidKey, "This server wants an API key: send the header Authorization with 'Bearer ' and your key.")
	}
}

// limits are what each user may do: a token bucket of requests, a few at a
// time, and a budget a day.
type limits struct {
	rate  float64 // requests a second
	burst float64
	daily uint64 // nano; 0 = no limit
	total uint64 // of all users, nano; 0 = no limit

	mu    sync.Mutex
	day   int64  // days since 1970, UTC
	spent uint64 // nano, today, by all
	users map[string]*usage
}

type usage struct {
	tokens  float64
	at      time.Time // when tokens were counted
	running int
	spent   uint64 // nano, today
}

// maxUsers bounds the users remembered; beyond, those who are idle and spent
// nothing are forgotten.
const maxUsers = 100_000

func newLimits(cfg *Config) *limits {
	return &limits{rate: float64(cfg.PerMinute) / 60, burst: float64(cfg.Burst), daily: cfg.DailyNano, total: cfg.TotalNano, users: map[string]*usage{}}
}

// user returns a user's numbers as of now; l.mu is held.
func (l *limits) user(name string, now time.Time) *usage {
	if day := now.Unix() / 86400; day != l.day {
		l.day, l.spent = day, 0
		for k, u := range l.users {
			u.spent = 0
			if u.running == 0 && now.Sub(u.at).Seconds()*l.rate >= l.burst {
				delete(l.users, k)
			}
		}
	}
	u := l.users[name]
	if u == nil {
		if len(l.users) >= maxUsers {
			for k, u := range l.users {
				if u.running == 0 && u.spent == 0 && now.Sub(u.at).Seconds()*l.rate >= l.burst {
					delete(l.users, k)
				}
			}
		}
		u = &usage{tokens: l.burst, at: now}
		l.users[name] = u
	}
	u.tokens = min(l.burst, u.tokens+now.Sub(u.at).Seconds()*l.rate)
	u.at = now
	return u
}

// enter lets a request of a user begin; done ends it.
func (l *limits) enter(name string) (done func(), err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	u := l.user(name, now)
	switch {
	case u.running >= maxUserCalls:
		return nil, openai.RateLimited(time.Second, "You have %d requests running already.", u.running)
	case u.tokens < 1:
		return nil, openai.RateLimited(time.Duration((1-u.tokens)/l.rate*float64(time.Second)), "You may make %.0f requests a minute.", l.rate*60)
	}
	if err := l.budget(u, now); err != nil {
		return nil, err
	}
	u.tokens--
	u.running++
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		u.running--
	}, nil
}

func (l *limits) budget(u *usage, now time.Time) error {
	tomorrow := time.Unix((now.Unix()/86400+1)*86400, 0)
	if l.total > 0 && l.spent >= l.total {
		return openai.RateLimited(tomorrow.Sub(now), "What this server may spend today is spent; it begins anew at midnight UTC.")
	}
	if l.daily == 0 || u.spent < l.daily {
		return nil
	}
	return openai.RateLimited(tomorrow.Sub(now), "Your budget of %d nano for today is spent; it begins anew at midnight UTC.", l.daily)
}

// may reports whether a user may spend more.
func (l *limits) may(name string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	return l.budget(l.user(name, now), now)
}

func (l *limits) spend(name string, nano uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	u := l.user(name, time.Now())
	for _, sum := range []*uint64{&u.spent, &l.spent} {
		if *sum += nano; *sum < nano {
			*sum = ^uint64(0)
		}
	}
}

// left is what a user may spend today; 0 without a limit.
func (l *limits) left(name string) uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	u := l.user(name, time.Now())
	return l.daily - min(l.daily, u.spent)
}

// metered is a Model whose calls one user pays.
type metered struct {
	assist.Model
	limits *limits
	user   string
}

func (m *metered) Complete(ctx context.Context, c *assist.Call) (assist.Reply, error) {
	if err := m.limits.may(m.user); err != nil {
		return assist.Reply{}, err
	}
	r, err := m.Model.Complete(ctx, c)
	m.limits.spend(m.user, r.Proof.CostNano)
	return r, err
}

func (m *metered) Embed(ctx context.Context, texts []string) ([][]float32, assist.Proof, error) {
	if err := m.limits.may(m.user); err != nil {
		return nil, assist.Proof{}, err
	}
	v, p, err := m.Model.Embed(ctx, texts)
	m.limits.spend(m.user, p.CostNano)
	return v, p, err
}
