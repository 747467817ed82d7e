package team_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/cocoon-network/cocoon/internal/api"
	"github.com/cocoon-network/cocoon/internal/api/openai"
	"github.com/cocoon-network/cocoon/internal/api/team"
	"github.com/cocoon-network/cocoon/internal/money/coins"
)

// server is a PostgreSQL server of this test's own.
var server struct {
	once      sync.Once
	url, skip string
	stop      func()
	databases int
	mu        sync.Mutex
}

func TestMain(m *testing.M) {
	code := m.Run()
	if server.stop != nil {
		server.stop()
	}
	os.Exit(code)
}

// startServer runs Debian's PostgreSQL on a socket in a folder of its own, as
// the user postgres where this is root, which the server refuses to run as.
func startServer() (skip string, err error) {
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if len(found) == 0 {
		if p, err := exec.LookPath("initdb"); err == nil {
			found = []string{p}
		}
	}
	if len(found) == 0 {
		return "no PostgreSQL server is installed (tools/deps.sh does, as root on Debian)", nil
	}
	bin := filepath.Dir(found[len(found)-1])
	dir, err := os.MkdirTemp("", "cocoon-pg")
	if err != nil {
		return "", err
	}
	attr := &syscall.SysProcAttr{}
	if os.Getuid() == 0 {
		u, err := user.Lookup("postgres")
		if err != nil {
			return "this is root, and there is no user postgres to run the server as", nil
		}
		uid, _ := strconv.Atoi(u.Uid)
		gid, _ := strconv.Atoi(u.Gid)
		if err := os.Chown(dir, uid, gid); err != nil {
			return "", err
		}
		attr.Credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	}
	command := func(name string, args ...string) *exec.Cmd {
		c := exec.Command(filepath.Join(bin, name), args...)
		c.SysProcAttr, c.Dir, c.Env = attr, dir, append(os.Environ(), "LC_ALL=C", "TZ=UTC")
		return c
	}
	data := filepath.Join(dir, "data")
	if out, err := command("initdb", "-D", data, "-U", "cocoon", "-A", "trust", "-E", "UTF8", "-N").CombinedOutput(); err != nil {
		return "", fmt.Errorf("initdb: %w: %s", err, out)
	}
	run := command("postgres", "-D", data, "-k", dir, "-c", "listen_addresses=", "-c", "max_connections=100", "-c", "fsync=off", "-c", "log_min_messages=fatal")
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		return "", err
	}
	run.Stdout, run.Stderr = log, log
	if err := run.Start(); err != nil {
		return "", err
	}
	server.stop = func() {
		_ = run.Process.Signal(syscall.SIGQUIT)
		_ = run.Wait()
		_ = log.Close()
		_ = os.RemoveAll(dir)
	}
	server.url = "postgres:///postgres?" + url.Values{"host": {dir}, "user": {"cocoon"}}.Encode()
	for begin := time.Now(); ; time.Sleep(50 * time.Millisecond) {
		out, err := command("createdb", "-h", dir, "-U", "cocoon", "first").CombinedOutput()
		if err == nil {
			return "", nil
		}
		if time.Since(begin) > 30*time.Second {
			return "", fmt.Errorf("the server does not start: %w: %s", err, out)
		}
	}
}

// place is an empty database that can be opened several times.
type place struct {
	location string
	// bytes returns all that is stored.
	bytes func(t *testing.T) string
}

func (p place) open(t testing.TB) *team.Store {
	t.Helper()
	s, err := team.Open(t.Context(), p.location)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// both runs a test on each kind of database.
func both(t *testing.T, f func(t *testing.T, p place)) {
	t.Run("sqlite", func(t *testing.T) {
		dir := t.TempDir()
		f(t, place{filepath.Join(dir, "keys", "keys.db"), func(t *testing.T) string { return allBytes(t, dir) }})
	})
	t.Run("postgres", func(t *testing.T) {
		server.once.Do(func() {
			var err error
			if server.skip, err = startServer(); err != nil {
				server.skip = "the PostgreSQL server does not run here: " + err.Error()
			}
		})
		if server.skip != "" {
			if os.Getenv("COCOON_REQUIRE") != "" {
				t.Fatal(server.skip)
			}
			t.Skip(server.skip)
		}
		server.mu.Lock()
		server.databases++
		name := fmt.Sprintf("test%d", server.databases)
		server.mu.Unlock()
		u, _ := url.Parse(server.url)
		host := u.Query().Get("host")
		bin := filepath.Dir(must(filepath.Glob("/usr/lib/postgresql/*/bin/createdb"))[0])
		if out, err := exec.Command(filepath.Join(bin, "createdb"), "-h", host, "-U", "cocoon", name).CombinedOutput(); err != nil {
			t.Fatalf("createdb: %v: %s", err, out)
		}
		u.Path = "/" + name
		f(t, place{u.String(), func(t *testing.T) string {
			// Values longer than a page are compressed on disk: the dump is not.
			out, err := exec.Command(filepath.Join(bin, "pg_dump"), "-h", host, "-U", "cocoon", name).Output()
			if err != nil {
				t.Fatal(err)
			}
			return string(out) + allBytes(t, filepath.Join(host, "data"))
		}})
	})
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func allBytes(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return nil // servers remove files as they like
		}
		c, err := os.ReadFile(path)
		if err == nil {
			b.Write(c)
		}
		return nil
	})
	if err != nil || b.Len() == 0 {
		t.Fatalf("%v, %d bytes in %s", err, b.Len(), dir)
	}
	return b.String()
}

func budget(n coins.Nano) *coins.Nano { return &n }

func codeOf(err error) string {
	var e *openai.Error
	if errors.As(err, &e) {
		return e.Code
	}
	if err != nil {
		return err.Error()
	}
	return ""
}

func create(t testing.TB, s *team.Store, name string, l team.Limits) (string, *api.Key) {
	t.Helper()
	secret, k, err := s.Create(t.Context(), name, l)
	if err != nil {
		t.Fatal(err)
	}
	return secret, k
}

func TestKeys(t *testing.T) {
	both(t, func(t *testing.T, p place) {
		s := p.open(t)
		secret, k := create(t, s, "alice", team.Limits{Budget: budget(5_000_000_000), PerMinute: 3, Concurrent: 2, Models: []string{"a/b"}})
		if !strings.HasPrefix(secret, team.Prefix) || len(secret) != 46 || *k.Budget != 5_000_000_000 || k.PerMinute != 3 || k.Concurrent != 2 || !k.May("a/b") || k.May("c") || k.Disabled {
			t.Fatalf("%d bytes of key, %+v", len(secret), k)
		}
		other, free := create(t, s, "bob", team.Limits{})
		if other == secret || free.Budget != nil || !free.May("anything") {
			t.Fatalf("%+v", free)
		}
		again := p.open(t) // the tables are there already
		got, err := again.Key(t.Context(), sha256.Sum256([]byte(secret)))
		if err != nil || got.ID != k.ID || got.Name != "alice" || !slices.Equal(got.Models, k.Models) {
			t.Fatalf("%+v %v", got, err)
		}
		if _, err := s.Key(t.Context(), sha256.Sum256([]byte(secret+"x"))); !errors.Is(err, api.ErrNoKey) {
			t.Error(err)
		}
		got, err = s.Set(t.Context(), "alice", func(l *team.Limits, disabled *bool) error {
			l.Budget, l.Models, *disabled = nil, nil, true
			return nil
		})
		if err != nil || !got.Disabled || got.Budget != nil || !got.May("c") || got.PerMinute != 3 {
			t.Fatalf("%+v %v", got, err)
		}
		if got, err = again.Key(t.Context(), sha256.Sum256([]byte(secret))); err != nil || !got.Disabled {
			t.Fatalf("%+v %v", got, err)
		}
		for what, err := range map[string]error{
			"admit":   s.Admit(t.Context(), k.ID, "c", time.Now().Add(time.Minute)),
			"reserve": s.Reserve(t.Context(), api.Hold{ID: "h", Key: k.ID, Most: 1, At: time.Now()}),
		} {
			if codeOf(err) != openai.CodeInvalidKey {
				t.Errorf("%s of a disabled key: %v", what, err)
			}
		}
		keys, err := s.Keys(t.Context())
		if err != nil || len(keys) != 2 || keys[0].Name != "alice" {
			t.Fatalf("%v %v", keys, err)
		}
		for name, l := range map[string]team.Limits{
			"alice": {}, "": {}, " ": {}, strings.Repeat("x", 129): {}, "new\nline": {}, "key_like_an_id": {},
			"rate": {PerMinute: -1}, "calls": {Concurrent: 1 << 40}, "models": {Models: []string{""}}, "pinned": {Models: []string{"a@b:c"}}, "all coins": {Budget: budget(1 << 63)},
		} {
			if _, _, err := s.Create(t.Context(), name, l); err == nil {
				t.Errorf("a key %q with %+v is made", name, l)
			}
		}
		if _, err := s.Set(t.Context(), "nobody", func(*team.Limits, *bool) error { return nil }); !errors.Is(err, api.ErrNoKey) {
			t.Error(err)
		}
	})
}

func TestOpenRefuses(t *testing.T) {
	for _, location := range []string{"mysql://x/y", "postgres://127.0.0.1:1/none?connect_timeout=1&password=canary-secret", "postgres://%zz", "/dev/null/keys.db"} {
		s, err := team.Open(t.Context(), location)
		if err == nil {
			s.Close()
			t.Errorf("%s opens", location)
		} else if strings.Contains(err.Error(), "canary-secret") {
			t.Errorf("the error repeats a password: %v", err)
		}
	}
}

func TestRates(t *testing.T) {
	both(t, func(t *testing.T, p place) {
		s, other := p.open(t), p.open(t)
		_, k := create(t, s, "k", team.Limits{Concurrent: 2, PerMinute: 5})
		at := time.Now().Add(time.Minute)
		for i, s := range []*team.Store{s, other} {
			if err := s.Admit(t.Context(), k.ID, fmt.Sprint("call", i), at); err != nil {
				t.Fatal(err)
			}
		}
		var e *openai.Error
		if err := s.Admit(t.Context(), k.ID, "third", at); !errors.As(err, &e) || e.Code != openai.CodeRateLimited || e.RetryAfter <= 0 {
			t.Fatalf("a third call: %v", err)
		}
		if err := other.Leave(t.Context(), "call0"); err != nil {
			t.Fatal(err)
		}
		for i := range 3 { // whose gateway died: not counted once their time is over
			if err := other.Admit(t.Context(), k.ID, fmt.Sprint("dead", i), time.Now().Add(-time.Second)); err != nil {
				t.Fatal(i, err)
			}
		}
		err := s.Admit(t.Context(), k.ID, "sixth", at)
		if !errors.As(err, &e) || e.Code != openai.CodeRateLimited || e.RetryAfter <= 0 || e.RetryAfter > time.Minute {
			t.Fatalf("a sixth call in a minute: %v", err)
		}
	})
}

// TestBudgetHolds lets many calls at two gateways race for a budget that covers
// some of them. What is spent never exceeds it, whatever ends how.
func TestBudgetHolds(t *testing.T) {
	both(t, func(t *testing.T, p place) {
		a, b := p.open(t), p.open(t)
		const most, cost, limit = 100, 40, 1000
		_, k := create(t, a, "k", team.Limits{Budget: budget(limit)})
		var wg sync.WaitGroup
		var mu sync.Mutex
		served, crashed, refused := 0, 0, 0
		for i := range 48 {
			wg.Add(1)
			go func() {
				defer wg.Done()
				s := []*team.Store{a, b}[i%2]
				h := api.Hold{ID: fmt.Sprint("hold", i), Key: k.ID, Model: "m", Most: most, At: time.Now()}
				err := s.Reserve(t.Context(), h)
				mu.Lock()
				defer mu.Unlock()
				switch {
				case err != nil && codeOf(err) != openai.CodeInsufficientQuota:
					t.Error(err)
				case err != nil:
					refused++
				case i%12 == 5:
					crashed++ // nobody settles it
				default:
					served++
					mu.Unlock()
					if err := s.Settle(t.Context(), h, api.Final{PromptTokens: 1, CompletionTokens: 1, TotalTokens: 2, CostNano: cost}); err != nil {
						t.Error(err)
					}
					mu.Lock()
				}
			}()
		}
		wg.Wait()
		u, err := b.Usage(t.Context(), k.ID, time.Now(), time.Now())
		if err != nil {
			t.Fatal(err)
		}
		if u.SpentNano != coins.Nano(served*cost) || u.ReservedNano != coins.Nano(crashed*most) || u.SpentNano+u.ReservedNano > limit || refused == 0 || served < 10 {
			t.Errorf("%d served, %d crashed, %d refused: %+v", served, crashed, refused, u)
		}
		if len(u.Days) != 1 || u.Days[0].Requests != int64(served) || u.Days[0].CostNano != u.SpentNano || u.Days[0].TotalTokens != int64(2*served) || u.Days[0].Model != "m" {
			t.Errorf("%+v", u.Days)
		}
		// What is left is given out to the last nano, and not one more.
		left := limit - u.SpentNano - u.ReservedNano
		h := api.Hold{ID: "last", Key: k.ID, Model: "m", Most: left + 1, At: time.Now()}
		var e *openai.Error
		if err := a.Reserve(t.Context(), h); !errors.As(err, &e) || e.Code != openai.CodeInsufficientQuota || e.Status != 429 || e.RetryAfter <= 0 || e.RetryAfter > 24*time.Hour {
			t.Errorf("%v", err)
		}
		h.Most = left
		if err := a.Reserve(t.Context(), h); err != nil {
			t.Error(err)
		}
		// A reservation is settled once, here or there.
		if err := a.Settle(t.Context(), h, api.Final{}); err != nil {
			t.Error(err)
		}
		if err := b.Settle(t.Context(), h, api.Final{CostNano: 1}); err == nil {
			t.Error("a reservation is settled twice")
		}
		// Tomorrow is another budget.
		h = api.Hold{ID: "tomorrow", Key: k.ID, Most: limit, At: time.Now().AddDate(0, 0, 1)}
		if err := a.Reserve(t.Context(), h); err != nil {
			t.Error(err)
		}
		if err := a.Clean(t.Context(), time.Now().AddDate(0, 0, 3)); err != nil {
			t.Fatal(err)
		}
		if u, err := a.Usage(t.Context(), k.ID, time.Now(), time.Now()); err != nil || u.ReservedNano != 0 || u.SpentNano != coins.Nano(served*cost) {
			t.Errorf("%+v %v", u, err)
		}
	})
}

func TestClaims(t *testing.T) {
	both(t, func(t *testing.T, p place) {
		stores := []*team.Store{p.open(t), p.open(t)}
		_, k := create(t, stores[0], "k", team.Limits{})
		now := time.Now()
		c := api.Claim{ID: [32]byte{1}, Request: [32]byte{2}, Key: k.ID, Now: now, Until: now.Add(time.Minute)}
		var wg sync.WaitGroup
		var mu sync.Mutex
		first := 0
		for i := range 16 {
			wg.Add(1)
			go func() {
				defer wg.Done()
				kept, err := stores[i%2].Claim(context.WithoutCancel(t.Context()), c)
				mu.Lock()
				defer mu.Unlock()
				if err != nil {
					t.Error(err)
				} else if kept == nil {
					first++
				} else if kept.Sealed != nil || kept.Request != c.Request {
					t.Errorf("%+v", kept)
				}
			}()
		}
		wg.Wait()
		if first != 1 {
			t.Fatalf("%d calls run", first)
		}
		if err := stores[0].Keep(t.Context(), c.ID, []byte("sealed"), now.Add(10*time.Minute)); err != nil {
			t.Fatal(err)
		}
		if err := stores[1].Keep(t.Context(), c.ID, []byte("other"), now.Add(10*time.Minute)); err == nil {
			t.Error("an answer is replaced")
		}
		if err := stores[1].Drop(t.Context(), c.ID); err != nil {
			t.Fatal(err)
		}
		if kept, err := stores[1].Claim(t.Context(), c); err != nil || kept == nil || string(kept.Sealed) != "sealed" {
			t.Fatalf("%+v %v", kept, err)
		}
		c.Now = now.Add(10*time.Minute + time.Second)
		c.Until = c.Now.Add(time.Minute)
		if kept, err := stores[1].Claim(t.Context(), c); err != nil || kept != nil {
			t.Fatalf("after ten minutes: %+v %v", kept, err)
		}
		if err := stores[0].Drop(t.Context(), c.ID); err != nil {
			t.Fatal(err)
		}
		// What is kept for a key is bounded.
		full := api.Claim{ID: [32]byte{3}, Key: k.ID, Now: now, Until: now.Add(time.Minute)}
		if _, err := stores[0].Claim(t.Context(), full); err != nil {
			t.Fatal(err)
		}
		if err := stores[0].Keep(t.Context(), full.ID, make([]byte, api.MaxAnswerBytes), now.Add(time.Minute)); err != nil {
			t.Fatal(err)
		}
		full.ID[1]++
		if _, err := stores[1].Claim(t.Context(), full); codeOf(err) != openai.CodeRateLimited {
			t.Errorf("beyond what is kept for a key: %v", err)
		}
	})
}

// BenchmarkCall is what one call of a key with a budget and rates costs in the
// store: found, admitted, reserved, settled, left.
func BenchmarkCall(b *testing.B) {
	s, err := team.Open(b.Context(), filepath.Join(b.TempDir(), "keys.db"))
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	secret, k := create(b, s, "k", team.Limits{Budget: budget(1 << 60), Concurrent: 100, PerMinute: 1_000_000})
	hash := sha256.Sum256([]byte(secret))
	for i := 0; b.Loop(); i++ {
		id := strconv.Itoa(i)
		h := api.Hold{ID: id, Key: k.ID, Model: "m", Most: 100, At: time.Now()}
		_, err := s.Key(b.Context(), hash)
		for _, e := range []error{err, s.Admit(b.Context(), k.ID, id, time.Now().Add(time.Minute)), s.Reserve(b.Context(), h), s.Settle(b.Context(), h, api.Final{TotalTokens: 1, CostNano: 10}), s.Leave(b.Context(), id)} {
			if e != nil {
				b.Fatal(e)
			}
		}
	}
}
