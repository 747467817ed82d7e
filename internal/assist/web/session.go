package web

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/cocoon-network/cocoon/internal/api/guard"
	"github.com/cocoon-network/cocoon/internal/api/openai"
)

// Launch is what a messenger vouches for when it opens the app.
type Launch struct {
	// User is the name under which this server knows the person, "telegram 77".
	User string
	// ID is the same for every copy of one launch's data, Expires until when a
	// copy would be taken.
	ID      [sha256.Size]byte
	Expires time.Time
}

const (
	sessionTime   = 12 * time.Hour
	maxSessions   = 100_000
	maxOwn        = 8 // sessions of one user; one more ends the oldest
	maxLaunches   = 200_000
	maxLaunchData = 16 << 10 // bytes of a request for a session
)

// sessions are those whom a messenger vouched for, in memory: a restart ends
// all. A launch begins one session; its data, shown once more, is taken from the
// holder of that session alone, so that who reads along cannot use it.
type sessions struct {
	verify func(data string, now time.Time) (Launch, error)
	framed bool

	mu       sync.Mutex
	open     map[[sha256.Size]byte]*session // by the hash of the cookie's value
	byUser   map[string][][sha256.Size]byte // oldest first
	launches map[[sha256.Size]byte]time.Time
}

type session struct {
	id      string // not secret: by it a page says which session it means
	user    string
	data    [sha256.Size]byte // hash of the data it began with
	expires time.Time
}

func newSessions(cfg *Config) *sessions {
	if cfg.MiniApp == nil {
		return nil
	}
	return &sessions{verify: cfg.MiniApp, framed: len(cfg.Frames) > 0, open: map[[sha256.Size]byte]*session{}, byUser: map[string][][sha256.Size]byte{}, launches: map[[sha256.Size]byte]time.Time{}}
}

// sessionHeader names the session that a page means: its cookie may be another's
// since, who opened the app in a second window.
const sessionHeader = "X-Cocoon-Session"

// user is whose session a request belongs to; "" = there is none.
func (s *sessions) user(r *http.Request, now time.Time) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if v := s.open[sessionOf(r)]; v != nil && now.Before(v.expires) && (r.Header.Get(sessionHeader) == "" || r.Header.Get(sessionHeader) == v.id) {
		return v.user
	}
	return ""
}

// begin makes a session from a launch's data and sets its cookie.
func (s *sessions) begin(w http.ResponseWriter, r *http.Request, data string, now time.Time) (*session, error) {
	old, seen := sessionOf(r), sha256.Sum256([]byte(data))
	s.mu.Lock()
	if v := s.open[old]; v != nil && v.data == seen && now.Before(v.expires) {
		s.mu.Unlock()
		return v, nil // the page was loaded again
	}
	// Whoever had the session before, it is somebody else who opens the app now.
	s.endLocked(old)
	s.mu.Unlock()
	refuse := func(why string) (*session, error) {
		http.SetCookie(w, s.cookie(r, "", -1))
		return nil, openai.Errorf(openai.CodeSessionRequired, "%s", why)
	}
	l, err := s.verify(data, now)
	if err != nil || l.User == "" {
		return refuse(fmt.Sprintf("Telegram's word for you was not taken: %v.", err))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, used := s.launches[l.ID]; used {
		return refuse("This launch of the app was used before, and no cookie shows that it was here: open the app again from the bot, and let it keep its cookie.")
	}
	if len(s.launches) >= maxLaunches || len(s.open) >= maxSessions {
		s.pruneLocked(now)
	}
	if len(s.launches) >= maxLaunches || len(s.open) >= maxSessions {
		return nil, openai.Unavailable("This server has too many sessions; try again later.")
	}
	if own := s.byUser[l.User]; len(own) >= maxOwn {
		s.endLocked(own[0])
	}
	secret := make([]byte, 32)
	_, _ = rand.Read(secret) // never fails
	token := base64.RawURLEncoding.EncodeToString(secret)
	id := sha256.Sum256([]byte(token))
	v := &session{id: hex.EncodeToString(id[:8]), user: l.User, data: seen, expires: now.Add(sessionTime)}
	s.open[id] = v
	s.byUser[l.User] = append(s.byUser[l.User], id)
	s.launches[l.ID] = l.Expires
	http.SetCookie(w, s.cookie(r, token, int(sessionTime/time.Second)))
	return v, nil
}

func (s *sessions) endLocked(id [sha256.Size]byte) {
	v := s.open[id]
	if v == nil {
		return
	}
	delete(s.open, id)
	own := slices.DeleteFunc(s.byUser[v.user], func(o [sha256.Size]byte) bool { return o == id })
	if s.byUser[v.user] = own; len(own) == 0 {
		delete(s.byUser, v.user)
	}
}

func (s *sessions) pruneLocked(now time.Time) {
	for id, v := range s.open {
		if !now.Before(v.expires) {
			s.endLocked(id)
		}
	}
	for id, end := range s.launches {
		if now.After(end) {
			delete(s.launches, id)
		}
	}
}

// The cookie's name with https cannot be set by a neighbouring host (RFC 6265bis,
// "__Host-"); on a loopback address, where there is no https, it is a plain one.
const (
	secureCookie = "__Host-cocoon-assist"
	plainCookie  = "cocoon-assist"
)

// cookie is the session's: no script reads it, no other site's page sends it,
// but for frames that the configuration allows.
func (s *sessions) cookie(r *http.Request, value string, age int) *http.Cookie {
	c := &http.Cookie{Name: plainCookie, Value: value, Path: "/", MaxAge: age, HttpOnly: true, SameSite: http.SameSiteStrictMode}
	if secure(r) {
		c.Name, c.Secure = secureCookie, true
		if s.framed {
			c.SameSite, c.Partitioned = http.SameSiteNoneMode, true
		}
	}
	return c
}

// sessionOf is the hash of a request's cookie, of which there must be one.
func sessionOf(r *http.Request) (id [sha256.Size]byte) {
	name := plainCookie
	if secure(r) {
		name = secureCookie
	}
	if list := r.CookiesNamed(name); len(list) == 1 && list[0].Value != "" {
		return sha256.Sum256([]byte(list[0].Value))
	}
	return id // nothing's hash
}

// secure reports whether the browser reached us by https: by a name that is not
// this machine's own it must, since others are on the way.
func secure(r *http.Request) bool {
	name := r.Host
	if h, _, err := net.SplitHostPort(name); err == nil {
		name = h
	}
	name = strings.TrimSuffix(strings.ToLower(strings.Trim(name, "[]")), ".")
	ip, err := netip.ParseAddr(name)
	return r.TLS != nil || name != "localhost" && (err != nil || !ip.IsLoopback())
}

// SessionRequest is what a messenger told the page of who opened it.
type SessionRequest struct {
	InitData string `json:"init_data"`
}

// SessionResult says whether there is a session now: where nobody vouches for
// users, there is none and none is needed.
type SessionResult struct {
	Session bool `json:"session"`
	// ID is what the page sends as X-Cocoon-Session; not a secret.
	ID      string `json:"id,omitempty"`
	Expires int64  `json:"expires,omitempty"` // Unix seconds
}

func (s *Server) serveSession(x *exchange) error {
	if err := guard.RequireJSON(x.r); err != nil {
		return err
	}
	rq := new(SessionRequest)
	if err := readJSON(x, rq, maxLaunchData); err != nil {
		return err
	}
	if s.sessions == nil {
		return writeJSON(x, SessionResult{})
	}
	v, err := s.sessions.begin(x.w, x.r, rq.InitData, time.Now())
	if err != nil {
		return err
	}
	return writeJSON(x, SessionResult{true, v.id, v.expires.Unix()})
}

// user says who asks: whoever has a session, else as the configuration has it.
func (s *Server) user(r *http.Request) (string, error) {
	if s.sessions != nil {
		if u := s.sessions.user(r, time.Now()); u != "" {
			return u, nil
		}
		if s.cfg.User == nil {
			return "", openai.Errorf(openai.CodeSessionRequired, "This app opens from within Telegram: there is no session, or it ended. Open it again from its bot.")
		}
	}
	return s.cfg.User(r)
}
