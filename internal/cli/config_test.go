//go:build !tee

package cli

import (
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/BurntSushi/toml"

	"github.com/cocoon-network/cocoon/internal/node"
)

// TestPrintConfig: what --print-config prints is a configuration that says
// the same, every key of it can be set by a variable, and none is left out.
func TestPrintConfig(t *testing.T) {
	for _, role := range []string{"client", "proxy", "worker"} {
		t.Run(role, func(t *testing.T) {
			s := newShell(t)
			defaults := s.run(role, "--print-config")
			if defaults.code != exitOK || defaults.stderr != "" {
				t.Fatalf("%+v", defaults)
			}
			s.env = append(s.env, variables(t)...)
			changed := s.run(role, "--print-config")
			if changed.code != exitOK || changed.stderr != "" {
				t.Fatalf("%+v", changed)
			}
			before, after := strings.Split(defaults.stdout, "\n"), strings.Split(changed.stdout, "\n")
			if len(before) != len(after) {
				t.Fatalf("%d lines by default, %d when changed", len(before), len(after))
			}
			for i, line := range before {
				if strings.Contains(line, " = ") && !strings.HasPrefix(line, "role") && line == after[i] {
					t.Errorf("no variable changes %q", line)
				}
			}
			for _, text := range []string{defaults.stdout, changed.stdout} {
				again := newShell(t)
				path := again.file("role.toml", text, 0o600)
				if got := again.run(role, "--config", path, "--print-config"); got.code != exitOK || got.stdout != text {
					t.Errorf("printed again: %+v\nwant %s", got, text)
				}
			}
		})
	}
}

// variables sets every key to something other than its default.
func variables(t *testing.T) (env []string) {
	t.Helper()
	c := node.Default("proxy")
	for section, v := range map[string]reflect.Value{"MEASURED": reflect.ValueOf(c.Measured), "RUNTIME": reflect.ValueOf(c.Runtime)} {
		for i := range v.NumField() {
			value := ""
			switch f := v.Field(i); f.Kind() {
			case reflect.String:
				value = "changed \"" + v.Type().Field(i).Name + "\" # \\ é"
			case reflect.Bool:
				value = fmt.Sprint(!f.Bool())
			case reflect.Int, reflect.Int32:
				value = fmt.Sprint(f.Int() + 7)
			case reflect.Float64:
				value = fmt.Sprint(f.Float() + 0.25)
			case reflect.Slice:
				value = "one,two"
			default:
				t.Fatalf("%s: a kind of key this test does not know", v.Type().Field(i).Name)
			}
			env = append(env, "COCOON_"+section+"_"+strings.ToUpper(v.Type().Field(i).Tag.Get("toml"))+"="+value)
		}
	}
	return env
}

// TestReferenceConfig reads the files with which the reference's runners work
// together (spec network-protocol 10.3 and 10.4).
func TestReferenceConfig(t *testing.T) {
	addr := "0:" + strings.Repeat("11", 32)
	zero := strings.Repeat("A", 43) + "="
	key := strings.Repeat("B", 42) + "A="
	common := fmt.Sprintf(`"is_test":1,"owner_address":%q,"root_contract_address":%q,"image_hash":%q,"node_wallet_key":%q,"ton_config_filename":"x","unknown_key":[1,{}],`, addr, addr, zero, zero)
	files := map[string]string{
		"proxy":  `{` + common + `"http_port":"8081","workers_rpc_port":11101,"client_rpc_port":"11102","machine_specific_private_key":null,"db_path":"/var/db"}`,
		"worker": `{` + common + `"http_port":8082,"proxy_connections":1,"model_name":"Qwen/Qwen3-8B@abc123def456:0","connect_to_proxy_via":"127.0.0.1:8116","forward_requests_to":"127.0.0.1:8000","coefficient":"1000","max_active_requests":0}`,
		"client": `{` + common + `"http_port":8083,"proxy_connections":"2","connect_to_proxy_via":"","check_proxy_hashes":false}`,
	}
	type conf struct {
		Role              string
		Measured, Runtime map[string]any
	}
	for role, want := range map[string]map[string]any{
		"proxy":  {"runtime.status": "127.0.0.1:8081", "runtime.listen_workers": "127.0.0.1:11101", "runtime.listen_clients": "127.0.0.1:11102", "runtime.dir": "/var/db"},
		"worker": {"runtime.status": "127.0.0.1:8082", "runtime.proxies": int64(1), "measured.model": "Qwen/Qwen3-8B@abc123def456:0", "runtime.via": "127.0.0.1:8116", "measured.engine": "http://127.0.0.1:8000", "runtime.coefficient": int64(1000), "runtime.max_active_requests": int64(200)},
		"client": {"runtime.listen": "127.0.0.1:8083", "runtime.status": "", "runtime.proxies": int64(2), "runtime.via": ""},
	} {
		t.Run(role, func(t *testing.T) {
			s := newShell(t)
			path := s.file("ref.json", files[role], 0o600)
			got := s.run(role, "--reference-config", path, "--print-config")
			if got.code != exitOK || got.stderr != "" {
				t.Fatalf("%+v", got)
			}
			var c conf
			if _, err := toml.Decode(got.stdout, &c); err != nil {
				t.Fatal(err)
			}
			want["measured.is_test"], want["measured.root_contract"], want["runtime.owner"] = true, addr, addr
			// Without hash checks in test mode nobody needs evidence.
			want["measured.evidence"] = "none"
			for key, value := range want {
				section, name, _ := strings.Cut(key, ".")
				have := c.Runtime[name]
				if section == "measured" {
					have = c.Measured[name]
				}
				if have != value {
					t.Errorf("%s is %v, want %v", key, have, value)
				}
			}
			if c.Role != role {
				t.Errorf("role %q", c.Role)
			}
			// What was read is a configuration of ours like any other.
			ours := s.file("ours.toml", got.stdout, 0o600)
			if again := s.run(role, "--config", ours, "--print-config"); again.stdout != got.stdout {
				t.Errorf("%+v", again)
			}
			// Outside test mode the checks are on, whatever the file says.
			real := s.file("real.json", strings.Replace(files[role], `"is_test":1`, `"is_test":false`, 1), 0o600)
			c = conf{}
			if _, err := toml.Decode(s.run(role, "--reference-config", real, "--print-config").stdout, &c); err != nil || c.Measured["evidence"] != map[string]string{"client": "none"}[role] && c.Measured["evidence"] != "tdx" || fmt.Sprint(c.Measured["accept"]) != "[tdx]" || c.Measured["global_id"] != int64(-239) {
				t.Errorf("outside test mode: %v, %v", err, c.Measured)
			}
		})
	}
	for _, c := range []struct {
		name, role, text string
		say              []string
	}{
		{"no JSON", "client", `is_test = 1`, []string{"not a JSON object"}},
		{"no object", "client", `[1]`, []string{"not a JSON object"}},
		{"cut off", "client", `{"is_test":1`, []string{"not a JSON object"}},
		{"text that is a number", "client", `{"owner_address":5}`, []string{"owner_address", "string"}},
		{"number that is text", "worker", `{"coefficient":"much"}`, []string{"coefficient", "integer"}},
		{"number that is too large", "worker", `{"max_active_requests":99999999999}`, []string{"max_active_requests", "integer"}},
		{"truth that is none", "proxy", `{"is_test":"perhaps"}`, []string{"is_test", "integer"}},
		{"port that is none", "proxy", `{"workers_rpc_port":70000}`, []string{"workers_rpc_port", "70000", "port"}},
		{"key in the file", "proxy", `{"machine_specific_private_key":"` + key + `"}`, []string{"machine_specific_private_key", "0600", "COCOON_RUNTIME_KEY_FILE"}},
		{"key that is none", "proxy", `{"machine_specific_private_key":"abc"}`, []string{"machine_specific_private_key", "base64"}},
		{"secret in the file", "client", `{"secret_string":"sesame-of-mine"}`, []string{"secret_string", "0600", "COCOON_RUNTIME_SECRET_FILE"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newShell(t)
			path := s.file("ref.json", c.text, 0o600)
			got := s.run(c.role, "--reference-config", path)
			s.fails(got, exitFailed, append(c.say, "ref.json")...)
			if strings.Contains(got.stderr, "sesame-of-mine") || strings.Contains(got.stderr, key) {
				t.Errorf("the secret is in the error: %q", got.stderr)
			}
		})
	}
	t.Run("key beside the file", func(t *testing.T) {
		s := newShell(t)
		path := s.file("ref.json", `{"machine_specific_private_key":"`+key+`"}`, 0o600)
		s.env = append(s.env, "COCOON_RUNTIME_KEY_FILE=/k")
		got := s.run("proxy", "--reference-config", path, "--print-config")
		if got.code != exitOK || !strings.Contains(got.stdout, `key_file = "/k"`) || strings.Contains(got.stdout, key) {
			t.Errorf("%+v", got)
		}
	})
}
