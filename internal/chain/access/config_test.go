package access

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/cocoon-network/cocoon"
)

// mainnetShape is a configuration of the published shape; its hashes are made
// up.
const mainnetShape = `{
 "@type": "config.global",
 "liteservers": [
  {"ip": 84478511, "port": 19949, "id": {"@type": "pub.ed25519", "key": "n4VDnSCUuSpjnCyUk9e3QOOd6o0ItSWYbTnW3Wnn8wk="}},
  {"ip": -1062731775, "port": 1, "id": {"@type": "pub.ed25519", "key": "n4VDnSCUuSpjnCyUk9e3QOOd6o0ItSWYbTnW3Wnn8wk="}}
 ],
 "validator": {
  "@type": "validator.config.global",
  "zero_state": {"workchain": -1, "shard": -9223372036854775808, "seqno": 0,
   "root_hash": "F6OpKZKqvqeFp6CQmFomXNMfMj2EnaUSOXN+Mh+wVWk=", "file_hash": "XplPz01CXAps5qeSWUtxcyBfdAo5zVb1N979KLSKD24="},
  "init_block": {"workchain": -1, "shard": -9223372036854775808, "seqno": 7,
   "root_hash": "YRkrcmZMvLBvjanwKCyL3w4oceGPtFfgx8ym1QKCK/4=", "file_hash": "s2+5BJ0DZLyp7O7iEY7kOtLFqMEN2Ck/N3Q/ZWy+j2s="}
 }
}`

func TestParseGlobalConfig(t *testing.T) {
	tr, servers, err := parseGlobalConfig([]byte(mainnetShape))
	if err != nil {
		t.Fatal(err)
	}
	if tr.init.seqno != 7 || hex.EncodeToString(tr.zero.root[:4]) != "17a3a929" {
		t.Errorf("trust %+v", tr)
	}
	if len(servers) != 2 || servers[0].Address != "5.9.10.47:19949" || servers[1].Address != "192.168.0.1:1" {
		t.Errorf("servers %+v", servers)
	}
}

func TestConfigRefused(t *testing.T) {
	swap := func(old, new string) string {
		t.Helper()
		if !strings.Contains(mainnetShape, old) {
			t.Fatalf("%q is not in the configuration", old)
		}
		return strings.Replace(mainnetShape, old, new, 1)
	}
	noServers := mainnetShape[:strings.Index(mainnetShape, `{"ip"`)] + mainnetShape[strings.Index(mainnetShape, ` ],`):]
	for _, tt := range []struct {
		name, config string
		want         error
		say          string
	}{
		{"empty", "", ErrConfig, "JSON"},
		{"no JSON", "liteservers = 3", ErrConfig, "invalid"},
		{"cut off", mainnetShape[:300], ErrConfig, "JSON"},
		{"an HTML page", "<html>", ErrConfig, "invalid"},
		{"nothing in it", "{}", ErrConfig, "zero_state"},
		{"no init block", swap(`"init_block"`, `"other_block"`), ErrNoInitBlock, "init_block"},
		{"init block is the zero state", swap(`"seqno": 7`, `"seqno": 0`), ErrNoInitBlock, "seqno 1"},
		{"init block of a shard", swap(`8, "seqno": 7`, `7, "seqno": 7`), ErrConfig, "shard"},
		{"zero state of workchain 0", swap(`"zero_state": {"workchain": -1`, `"zero_state": {"workchain": 0`), ErrConfig, "workchain"},
		{"short hash", swap(`F6OpKZ`, `F6Op`), ErrConfig, "hash"},
		{"no port", swap(`"port": 19949`, `"port": 0`), ErrConfig, "liteserver 0"},
		{"no address", swap(`"ip": 84478511`, `"ip": 5000000000`), ErrConfig, "liteserver 0"},
		{"bad key", swap(`"key": "n4VD`, `"key": "`), ErrConfig, "hash"},
		{"no servers", noServers, ErrConfig, "no liteserver"},
		{"too long", mainnetShape + strings.Repeat(" ", maxGlobalConfig), ErrConfig, "bytes"},
	} {
		_, err := Open(t.Context(), Config{GlobalConfig: []byte(tt.config)})
		if !errors.Is(err, tt.want) || !strings.Contains(fmt.Sprint(err), tt.say) {
			t.Errorf("%s: %v, want %v that says %q", tt.name, err, tt.want, tt.say)
		}
	}
}

// TestNoServerReachable wants one clear error that names each server.
func TestNoServerReachable(t *testing.T) {
	refused := errors.New("connection refused by the test")
	_, err := Open(t.Context(), Config{
		GlobalConfig: []byte(mainnetShape),
		Dial:         func(context.Context, string, string) (net.Conn, error) { return nil, refused },
	})
	var server *ServerError
	if !errors.Is(err, ErrNoServer) || !errors.Is(err, ErrUnreachable) || !errors.As(err, &server) {
		t.Fatalf("error %v", err)
	}
	for _, want := range []string{"5.9.10.47:19949", "192.168.0.1:1", "refused by the test"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the error does not say %q: %v", want, err)
		}
	}
}

// TestStall wants a server that accepts and says nothing to cost the timeout
// and no more.
func TestStall(t *testing.T) {
	_, err := Open(t.Context(), Config{
		GlobalConfig: []byte(mainnetShape),
		Timeout:      20 * time.Millisecond,
		Dial: func(context.Context, string, string) (net.Conn, error) {
			ours, theirs := net.Pipe()
			go func() { // read all, answer nothing
				b := make([]byte, 1024)
				for {
					if _, err := theirs.Read(b); err != nil {
						return
					}
				}
			}()
			return ours, nil
		},
	})
	if !errors.Is(err, ErrNoServer) || !errors.Is(err, ErrStalled) {
		t.Errorf("error %v", err)
	}
}

func TestNetworkID(t *testing.T) {
	n := NetworkInfo{GlobalID: -239}
	for i := range n.ZeroStateRootHash {
		n.ZeroStateRootHash[i], n.ZeroStateFileHash[i] = 1, 2
	}
	root := cocoon.Address{Workchain: -1}
	for i := range root.Hash {
		root.Hash[i] = 3
	}
	// printf 'cocoon/network/v1\0' and the fields, through sha256sum.
	const want = "7254f316817b9808d921fa8040d6f622ddccf4704d42a39bf54ed8e97dd1aafc"
	if got := fmt.Sprintf("%x", n.ID(root)); got != want {
		t.Errorf("network id %s, want %s", got, want)
	}
	other := n
	other.GlobalID = -3
	if other.ID(root) == n.ID(root) {
		t.Error("the global id does not count")
	}
}

func TestBackoff(t *testing.T) {
	for n, want := range map[int]time.Duration{0: time.Second, 1: 2 * time.Second, 5: 32 * time.Second, 6: time.Minute, 17: time.Minute, 1 << 30: time.Minute} {
		if got := backoff(faultBase, faultMax, n); got != want {
			t.Errorf("backoff %d: %s, want %s", n, got, want)
		}
	}
}

func FuzzParseGlobalConfig(f *testing.F) {
	f.Add([]byte(mainnetShape))
	f.Fuzz(func(t *testing.T, b []byte) {
		tr, _, err := parseGlobalConfig(b)
		if err == nil && tr.init.seqno == 0 {
			t.Error("accepted without init block")
		}
	})
}

// FuzzParseAnswer wants any bytes of a server to end in an answer or an error.
func FuzzParseAnswer(f *testing.F) {
	f.Add([]byte{0xbb, 0xa9, 0xe1, 0x48, 0, 0, 0, 0, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		answer, err := parseAnswer(b)
		if err == nil && answer == nil {
			t.Error("neither answer nor error")
		}
	})
}
