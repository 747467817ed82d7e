//go:build !tee

package cli

import (
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestKeyCommands makes, shows, changes and disables keys where no gateway runs.
func TestKeyCommands(t *testing.T) {
	s := newShell(t)
	config := s.file("client.toml", "role = \"client\"\n[runtime]\nrequire_keys = true\ndir = \""+filepath.Join(s.dir, "state")+"\"\n", 0o600)
	made := s.run("key", "create", "--config", config, "--name", "alice", "--budget", "0.5", "--per-minute", "60", "--models", "a,b/c", "--json")
	var k struct {
		Secret, ID string
		Budget     uint64 `json:"budget_nano"`
		PerMinute  int    `json:"per_minute"`
		Models     []string
	}
	if err := json.Unmarshal([]byte(made.stdout), &k); err != nil || !strings.HasPrefix(k.Secret, "ck-") || k.Budget != 500_000_000 || k.PerMinute != 60 || len(k.Models) != 2 {
		t.Fatalf("%v %+v", err, made)
	}
	if info, err := os.Stat(filepath.Join(s.dir, "state", "keys.db")); err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("%v %v", info, err)
	}
	plain := s.run("key", "create", "--config", config, "--name", "bob")
	if plain.code != exitOK || !strings.HasPrefix(plain.stdout, "ck-") || strings.Count(plain.stdout, "\n") != 1 || strings.Contains(plain.stderr, strings.TrimSpace(plain.stdout)) {
		t.Fatalf("%+v", plain)
	}
	for _, c := range []struct{ args, say string }{
		{"key list", "0.5 GRAM"},
		{"key set alice --budget 2", "budget a day 2 GRAM, calls a minute 60"},
		{"key set alice --budget none --models=", "budget a day no limit, calls a minute 60, at one time -, models all"},
		{"key disable " + k.ID, "alice (" + k.ID + ") is disabled"},
		{"key list --json", `"disabled": true`},
		{"key enable alice", "is active"},
		{"usage", "spent 0 GRAM"},
		{"usage --key bob --json", `"data": []`},
	} {
		got := s.run(append(strings.Fields(c.args), "--config", config)...)
		if got.code != exitOK || !strings.Contains(got.stdout, c.say) || strings.Contains(got.stdout, k.Secret) {
			t.Errorf("%s: %+v", c.args, got)
		}
	}
	for _, c := range []struct {
		args string
		code int
		say  string
	}{
		{"key create --name alice", exitFailed, "already"},
		{"key create", exitUsage, "name"},
		{"key create --name x --budget lots", exitUsage, "lots"},
		{"key create --name x --per-minute -1", exitFailed, "rate"},
		{"key set nobody --budget 1", exitFailed, "key list"},
		{"key disable", exitUsage, "name one key"},
		{"key nonsense", exitUsage, "nonsense"},
		{"usage --key nobody", exitFailed, "nobody"},
		{"usage --from yesterday", exitUsage, "yesterday"},
	} {
		s.fails(s.run(append(strings.Fields(c.args), "--config", config)...), c.code, c.say)
	}
	for _, want := range []string{"bot", "bot", "bot-2"} { // a key is made once; a lost one is not found again
		a := &app{env: Env{Stderr: io.Discard}, dir: filepath.Join(s.dir, "state")}
		if want == "bot-2" {
			if err := os.WriteFile(filepath.Join(a.dir, "keys", "bot.key"), []byte("ck-lost\n"), 0o600); err != nil {
				t.Fatal(err)
			}
		} else if err := os.WriteFile(filepath.Join(a.dir, "client.toml"), []byte("role = \"client\"\n[runtime]\nrequire_keys = true\ndir = \""+a.dir+"\"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		key, err := a.ownKey(t.Context(), "bot")
		if err != nil || !strings.HasPrefix(key, "ck-") {
			t.Fatalf("%q %v", key, err)
		}
		info, err := os.Stat(filepath.Join(a.dir, "keys", "bot.key"))
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%v %v", info, err)
		}
		if got := s.run("key", "list", "--config", config, "--json"); strings.Count(got.stdout, `"name": "bot`) != strings.Count(want, "-")+1 || !strings.Contains(got.stdout, `"`+want+`"`) {
			t.Errorf("%s: %s", want, got.stdout)
		}
	}
	if got := s.run("key", "disable", "bot-2", "--config", config); got.code != exitOK {
		t.Fatalf("%+v", got)
	}
	if _, err := (&app{env: Env{Stderr: io.Discard}, dir: filepath.Join(s.dir, "state")}).ownKey(t.Context(), "bot"); err == nil || !strings.Contains(err.Error(), "cocoon key enable bot-2") {
		t.Errorf("a disabled key: %v", err)
	}
	if key, err := (&app{env: Env{Stderr: io.Discard}, dir: t.TempDir()}).ownKey(t.Context(), "bot"); key != "" || err != nil {
		t.Errorf("no network: %q %v", key, err)
	}
	secret := s.file("secret.toml", "role = \"client\"\n[runtime]\nrequire_keys = true\nkey_store = \"postgres://u:canary@h/d\"\n", 0o600)
	got := s.run("key", "list", "--config", secret)
	s.fails(got, exitFailed, "PGPASSWORD")
	if strings.Contains(got.stderr, "canary") {
		t.Errorf("the password is repeated: %s", got.stderr)
	}
	s.fails(s.run("key", "list", "--dir", filepath.Join(s.dir, "nothing")), exitFailed, "--config")
}
