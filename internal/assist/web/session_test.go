//go:build !tee

package web

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/cocoon-network/cocoon/internal/api/openai"
)

// word is a messenger's word for a user, "word of USER, launch L".
func word(data string, now time.Time) (Launch, error) {
	user, launch, ok := strings.Cut(strings.TrimPrefix(data, "word of "), ", launch ")
	if !ok {
		return Launch{}, errors.New("forged")
	}
	return Launch{User: "telegram " + user, ID: sha256.Sum256([]byte(launch)), Expires: now.Add(time.Hour)}, nil
}

// login asks for a session with the cookie of an earlier one, and returns the
// status, the error's code and the cookie that was set.
func login(t *testing.T, h http.Handler, host, data string, cookie *http.Cookie) (int, *http.Cookie) {
	t.Helper()
	r := httptest.NewRequest("POST", "http://"+host+prefix+"session", strings.NewReader(fmt.Sprintf(`{"init_data":%q}`, data)))
	r.Header.Set("Content-Type", "application/json")
	if cookie != nil {
		r.AddCookie(cookie)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	set := w.Result().Cookies()
	if len(set) == 0 {
		return w.Code, nil
	}
	return w.Code, set[0]
}

func TestSessions(t *testing.T) {
	log := &syncBuffer{}
	s := server(t, engine(), log, func(c *Config) {
		c.MiniApp, c.Hosts, c.PerMinute, c.Burst = word, []string{"assist.example"}, 1, 2
	})
	asks := func(host string, cookie *http.Cookie) int {
		r := httptest.NewRequest("POST", "http://"+host+prefix+"translate", strings.NewReader(`{"texts":[{"text":"Thank you!"}],"to":"id"}`))
		r.Header.Set("Content-Type", "application/json")
		if cookie != nil {
			r.AddCookie(cookie)
		}
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		if w.Code == 401 && !strings.Contains(w.Body.String(), openai.CodeSessionRequired) {
			t.Errorf("the refusal says %s", w.Body)
		}
		return w.Code
	}
	const host = "assist.example"
	if got := asks(host, nil); got != 401 {
		t.Errorf("without a session: %d", got)
	}
	if got := asks("127.0.0.1:10002", nil); got != 401 {
		t.Errorf("from this machine, where a proxy before the server is too: %d", got)
	}
	code, anna := login(t, s, host, "word of 1, launch a", nil)
	if code != 200 || anna == nil || anna.Name != "__Host-cocoon-assist" || !anna.Secure || !anna.HttpOnly || anna.SameSite != http.SameSiteStrictMode || anna.Path != "/" || anna.Domain != "" || len(anna.Value) != 43 {
		t.Fatalf("%d %+v", code, anna)
	}
	if got := asks(host, anna); got != 200 {
		t.Errorf("with a session: %d", got)
	}
	if got := asks(host, &http.Cookie{Name: anna.Name, Value: anna.Value + "x"}); got != 401 {
		t.Errorf("with a session nobody has: %d", got)
	}
	if code, c := login(t, s, host, "word of 1, launch a", anna); code != 200 || c != nil {
		t.Errorf("the page loaded again: %d %v", code, c)
	}
	if code, c := login(t, s, host, "word of 1, launch a", nil); code != 401 || c == nil || c.MaxAge >= 0 {
		t.Errorf("a launch used twice: %d %v", code, c)
	}
	if code, _ := login(t, s, host, "nonsense", nil); code != 401 {
		t.Errorf("a forged word: %d", code)
	}
	// Each has limits of his own: two at once here.
	_, ben := login(t, s, host, "word of 2, launch b", nil)
	if one, two, three := asks(host, anna), asks(host, anna), asks(host, ben); one != 200 || two != 429 || three != 200 {
		t.Errorf("limits: %d %d %d", one, two, three)
	}
	// Who opens the app on the same device ends the other's session.
	if code, c := login(t, s, host, "word of 3, launch c", ben); code != 200 || c == nil {
		t.Errorf("%d", code)
	}
	if got := asks(host, ben); got != 401 {
		t.Errorf("a session that another's took the place of: %d", got)
	}
	// So does a word that is not taken.
	if code, _ := login(t, s, host, "nonsense", anna); code != 401 || asks(host, anna) != 401 {
		t.Error("a session outlives a forged word in its place")
	}
	// Without https only on this machine.
	if code, c := login(t, s, "127.0.0.1:1", "word of 4, launch d", nil); code != 200 || c.Secure || c.Name != "cocoon-assist" || c.SameSite != http.SameSiteStrictMode {
		t.Errorf("%d %+v", code, c)
	}
	// One user has a few sessions.
	var cookies []*http.Cookie
	for i := range maxOwn + 1 {
		_, c := login(t, s, host, fmt.Sprintf("word of 5, launch e%d", i), nil)
		cookies = append(cookies, c)
	}
	if asks(host, cookies[0]) != 401 || asks(host, cookies[maxOwn]) == 401 {
		t.Error("the oldest session of a user does not end")
	}
	if s := log.String(); strings.Contains(s, anna.Value) || strings.Contains(s, "word of") || strings.Contains(s, "telegram 1") {
		t.Errorf("the log tells of users: %s", s)
	}
}

// Frames of other sites send a cookie only if it says so.
func TestSessionInFrames(t *testing.T) {
	s := server(t, engine(), &syncBuffer{}, func(c *Config) {
		c.MiniApp, c.Hosts, c.Frames = word, []string{"assist.example"}, []string{"https://web.telegram.org"}
	})
	_, c := login(t, s, "assist.example", "word of 1, launch a", nil)
	if c == nil || c.SameSite != http.SameSiteNoneMode || !c.Partitioned || !c.Secure {
		t.Errorf("%+v", c)
	}
}

func TestSessionsEnd(t *testing.T) {
	now := time.Unix(1_790_000_000, 0)
	s := newSessions(&Config{MiniApp: word})
	r := func(c *http.Cookie) *http.Request {
		r := httptest.NewRequest("POST", "http://localhost/", nil)
		if c != nil {
			r.AddCookie(c)
		}
		return r
	}
	w := httptest.NewRecorder()
	if _, err := s.begin(w, r(nil), "word of 1, launch a", now); err != nil {
		t.Fatal(err)
	}
	c := w.Result().Cookies()[0]
	for after, want := range map[time.Duration]string{0: "telegram 1", sessionTime - time.Second: "telegram 1", sessionTime: ""} {
		if got := s.user(r(c), now.Add(after)); got != want {
			t.Errorf("after %v: %q", after, got)
		}
	}
	for id, want := range map[string]string{s.open[sessionOf(r(c))].id: "telegram 1", "00": ""} {
		page := r(c)
		page.Header.Set(sessionHeader, id)
		if got := s.user(page, now); got != want {
			t.Errorf("a page that means the session %s: %q", id, got)
		}
	}
	if s.user(r(nil), now) != "" {
		t.Error("no cookie is somebody's")
	}
	s.pruneLocked(now.Add(sessionTime))
	if len(s.open)+len(s.byUser)+len(s.launches) != 0 {
		t.Errorf("%d sessions, %d users, %d launches are left", len(s.open), len(s.byUser), len(s.launches))
	}
}

// Without a messenger to vouch for users, what a page is told is not looked at.
func TestNoSessions(t *testing.T) {
	url, _ := serve(t, engine(), nil)
	if resp, body := request(t, "POST", url+prefix+"session", `{"init_data":"x"}`); resp.StatusCode != 200 || strings.TrimSpace(body) != `{"session":false}` || len(resp.Cookies()) > 0 {
		t.Errorf("%d %s", resp.StatusCode, body)
	}
	if resp, _ := request(t, "POST", url+prefix+"session", `{"init_data":"`+strings.Repeat("x", maxLaunchData)+`"}`); resp.StatusCode != 413 {
		t.Errorf("a large body: %d", resp.StatusCode)
	}
}

func TestTotalBudget(t *testing.T) {
	l := newLimits(&Config{PerMinute: 60, Burst: 3, TotalNano: 10})
	l.spend("a", 6)
	if err := l.may("b"); err != nil {
		t.Error(err)
	}
	l.spend("b", 4)
	if l.may("a") == nil || l.may("c") == nil {
		t.Error("more than all may spend")
	}
}
