package node

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/cocoon-network/cocoon/attest"
)

// LoadReference reads the configuration file of a C++ runner (spec
// network-protocol 10.3): JSON, numbers also as strings, unknown keys
// ignored. What that file does not say keeps its default and can be set by
// COCOON_* variables: the root file of a network without a chain, for
// instance, which is a flag there.
func LoadReference(role, path string, environ []string) (*Config, error) {
	b, err := readSmall(path)
	if err != nil {
		return nil, fmt.Errorf("reference configuration: %w", err)
	}
	var raw map[string]json.RawMessage
	if err := json.Unmarshal(b, &raw); err != nil {
		return nil, fmt.Errorf("reference configuration %s is not a JSON object: %w", path, err)
	}
	r := reference{raw: raw}
	c := Default(role)
	m, rt := &c.Measured, &c.Runtime
	m.IsTest = r.boolean("is_test")
	m.TestOnly = r.boolean("is_testnet")
	if m.TestOnly {
		m.GlobalID = -3
	}
	m.RootContract = r.text("root_contract_address")
	rt.Owner = r.text("owner_address")
	if p := r.port("http_port"); p != 0 {
		rt.Status = net.JoinHostPort("127.0.0.1", strconv.Itoa(p))
	}
	rt.Dir = filepath.Join(filepath.Dir(path), "state-"+role)
	switch role {
	case "proxy":
		m.noHashes(r.boolean("check_worker_hashes"))
		rt.ListenWorkers = r.loopback("workers_rpc_port")
		rt.ListenClients = r.loopback("client_rpc_port")
		if p := r.text("db_path"); p != "" {
			rt.Dir = p
		}
		if key := r.bytes32("machine_specific_private_key"); key != [32]byte{} {
			r.fail("machine_specific_private_key", errors.New("keys are not read from configuration files: write it to a file of mode 0600 and set COCOON_RUNTIME_KEY_FILE"), environ, "COCOON_RUNTIME_KEY_FILE")
		}
	case "worker":
		m.noHashes(r.boolean("check_proxy_hashes"))
		rt.Via = r.text("connect_to_proxy_via")
		rt.Proxies = r.integer("proxy_connections")
		m.Model = r.text("model_name")
		rt.Coefficient = int32(r.integer("coefficient"))
		if rt.MaxActive = r.integer("max_active_requests"); rt.MaxActive <= 0 {
			rt.MaxActive = 200
		}
		if e := r.text("forward_requests_to"); e != "" {
			m.Engine = "http://" + e
		}
	case "client":
		m.noHashes(r.boolean("check_proxy_hashes"))
		rt.Via = r.text("connect_to_proxy_via")
		rt.Proxies = r.integer("proxy_connections")
		rt.Listen, rt.Status = rt.Status, ""
		if r.text("secret_string") != "" {
			r.fail("secret_string", errors.New("secrets are not read from configuration files: write it to a file of mode 0600 and set COCOON_RUNTIME_SECRET_FILE"), environ, "COCOON_RUNTIME_SECRET_FILE")
		}
	}
	if r.err != nil {
		return nil, fmt.Errorf("reference configuration %s: %w", path, r.err)
	}
	if err := c.environment(environ); err != nil {
		return nil, err
	}
	if err := measured(&c); err != nil {
		return nil, err
	}
	if err := c.Runtime.validate(); err != nil {
		return nil, err
	}
	return &c, nil
}

// noHashes is the reference's test mode without hash checks: peers need no
// evidence. Outside test mode checks are always on.
func (m *Measured) noHashes(check bool) {
	if m.IsTest && !check {
		m.Evidence, m.Accept = string(attest.None), []string{string(attest.None)}
	}
}

// reference reads the fields of a C++ configuration.
type reference struct {
	raw map[string]json.RawMessage
	err error
}

func (r *reference) note(key string, err error) {
	if r.err == nil {
		r.err = fmt.Errorf("%s: %w", key, err)
	}
}

// fail notes an error unless the variable that replaces the key is set.
func (r *reference) fail(key string, err error, environ []string, variable string) {
	for _, kv := range environ {
		if strings.HasPrefix(kv, variable+"=") {
			return
		}
	}
	r.note(key, err)
}

func (r *reference) text(key string) string {
	var s string
	if v, ok := r.raw[key]; ok && string(v) != "null" && json.Unmarshal(v, &s) != nil {
		r.note(key, errors.New("must be a string"))
	}
	return s
}

func (r *reference) integer(key string) int {
	v, ok := r.raw[key]
	if !ok || string(v) == "null" {
		return 0
	}
	n, err := strconv.ParseInt(strings.Trim(string(v), `"`), 10, 64)
	if err != nil || n > math.MaxInt32 || n < math.MinInt32 {
		r.note(key, errors.New("must be an integer"))
		return 0
	}
	return int(n)
}

func (r *reference) port(key string) int {
	n := r.integer(key)
	if n < 0 || n > 65535 {
		r.note(key, fmt.Errorf("%d is not a port", n))
		return 0
	}
	return n
}

func (r *reference) loopback(key string) string {
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(r.port(key)))
}

func (r *reference) boolean(key string) bool {
	switch v := string(r.raw[key]); v {
	case "true":
		return true
	case "", "false", "null":
		return false
	default:
		return r.integer(key) != 0
	}
}

func (r *reference) bytes32(key string) (out [32]byte) {
	text := r.text(key)
	if text == "" {
		return out
	}
	b, err := base64.StdEncoding.DecodeString(text)
	if err != nil || len(b) != 32 {
		r.note(key, errors.New("must be base64 of 32 bytes"))
		return out
	}
	return [32]byte(b)
}
