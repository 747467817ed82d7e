package registry

import (
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cocoon-network/cocoon"
	"github.com/cocoon-network/cocoon/attest"
	"github.com/cocoon-network/cocoon/internal/money/coins"
	"github.com/cocoon-network/cocoon/internal/money/pricing"
)

const ownerText = "UQAuz15H1ZHrZ_psVrAra7HealMIVeFq0wguqlmFno1f3B-m"

var start = time.Unix(1750000000, 0)

func b64(b byte) string {
	h := [32]byte{31: b}
	return base64.StdEncoding.EncodeToString(h[:])
}

// minimal is the smallest file of spec network-protocol 10.4.
func minimal(extra string) string {
	return `{"proxy_hashes":["` + b64(1) + `"],"worker_hashes":["` + b64(2) + `"],"model_hashes":["` + b64(3) + `"],
		"registered_proxies":[{"seqno":1,"address":"127.0.0.1:11001 127.0.0.1:11002"}],"price_per_token":2,"worker_fee_per_token":1,
		"last_proxy_seqno":1,"version":3,"params_version":1,"proxy_sc_code":"","worker_sc_code":"","client_sc_code":"",
		"root_owner_address":"` + ownerText + `"` + extra + `}`
}

func TestFileOfDecember(t *testing.T) {
	root := cocoon.Address{Hash: [32]byte{9}}
	s, err := ParseFile([]byte(minimal(`,"model_types":["Qwen/Qwen3-8B@abc:def","plain"],"model_names":["ignored"],"proxy_hash":7`)), root, start)
	if err != nil {
		t.Fatal(err)
	}
	if s.Root != root || s.Owner.String() != ownerText || s.Version != 3 || s.LastProxySeqno != 1 || !s.Fake || !s.Time.Equal(start) || s.Seqno != 0 {
		t.Errorf("head is %+v", s)
	}
	if !s.HasProxyImage(attest.ImageHash{31: 1}) || !s.HasWorkerImage(attest.ImageHash{31: 2}) || s.HasProxyImage(attest.ImageHash{31: 2}) {
		t.Error("image hashes are wrong")
	}
	if !s.HasModel("Qwen/Qwen3-8B") || !s.HasModel("plain") || s.HasModel("Qwen/Qwen3-8B@abc:def") || s.ModelHashes[0] != [32]byte{31: 3} {
		t.Error("model hashes are wrong")
	}
	if len(s.Proxies) != 1 || s.Proxies[0] != (Proxy{Seqno: 1, ForWorkers: "127.0.0.1:11001", ForClients: "127.0.0.1:11002"}) {
		t.Errorf("proxies are %+v", s.Proxies)
	}
	p := s.Params
	if p.StructVersion != 1 || p.UniqueID != 13 || !p.IsTest || p.ParamsVersion != 1 || p.PricePerToken != 2 || p.WorkerFeePerToken != 1 ||
		p.ProxyDelayBeforeClose != 600 || p.ClientDelayBeforeClose != 300 || p.MinProxyStake != coins.PerCoin || p.MinClientStake != coins.PerCoin ||
		p.Multipliers != (pricing.Multipliers{Prompt: 10000, Cached: 10000, Completion: 10000, Reasoning: 10000}) {
		t.Errorf("params are %+v", p)
	}
	if len(p.ProxyCode) != len(emptyCode) || &p.ProxyCode[0] == &p.WorkerCode[0] {
		t.Error("empty codes are not cells of their own")
	}
}

func TestFileOfApril(t *testing.T) {
	s, err := ParseFile([]byte(minimal(`,"registered_public_keys":[{"public_key":"`+b64(7)+`","key_type":1,"expire_at":"2000000000"}],"key_manager_address":"[1.2.3.4:13001]"`)), cocoon.Address{}, start)
	if err != nil {
		t.Fatal(err)
	}
	if len(s.KeyManager.PublicKeys) != 1 || s.KeyManager.PublicKeys[0] != (PublicKey{Key: [32]byte{31: 7}, Type: 1, ExpireAt: 2000000000}) || s.KeyManager.Address != "1.2.3.4:13001" {
		t.Errorf("key manager is %+v", s.KeyManager)
	}
}

func TestFileErrorsNameTheKey(t *testing.T) {
	for _, c := range []struct{ from, to, key string }{
		{`"price_per_token":2`, `"price_per_token":-2`, "price_per_token"},
		{`"price_per_token":2`, `"price_per_token":2.5`, "price_per_token"},
		{`"version":3`, `"version":"x"`, "version"},
		{`"version":3`, `"version":2147483648`, "version"},
		{b64(2), "AAAA", "worker_hashes[0]"},
		{`"model_hashes":[`, `"model_hashes":[5,`, "model_hashes"},
		{`"worker_sc_code":""`, `"worker_sc_code":"xy"`, "worker_sc_code"},
		{ownerText, "nobody", "root_owner_address"},
		{`"root_owner_address"`, `"owner"`, "root_owner_address"},
		{`"registered_proxies":[`, `"registered_proxies":[1,`, "registered_proxies"},
		{`"version"`, `"key_manager_address":"localhost:1","version"`, "key_manager_address"},
		{`"version"`, `"registered_public_keys":[{"public_key":""}],"version"`, "registered_public_keys[0].public_key"},
		{`"version"`, `"registered_public_keys":[{"public_key":"` + b64(1) + `","key_type":256}],"version"`, "registered_public_keys[0].key_type"},
	} {
		in := strings.Replace(minimal(""), c.from, c.to, 1)
		var fe *FileError
		if _, err := ParseFile([]byte(in), cocoon.Address{}, start); !errors.As(err, &fe) || fe.Key != c.key {
			t.Errorf("%s: %v, want an error about %s", c.to, err, c.key)
		}
	}
	if _, err := ParseFile([]byte("[]"), cocoon.Address{}, start); err == nil {
		t.Error("an array was read")
	}
	if _, err := ParseFile(make([]byte, maxFile+1), cocoon.Address{}, start); err == nil {
		t.Error("an endless file was read")
	}
}

func TestUnreadableProxiesAreSkipped(t *testing.T) {
	in := strings.Replace(minimal(""), `[{"seqno":1,`, `[{"seqno":5,"address":"example.org:1"},{"seqno":6,"address":"[1.2.3.4:5"},{"seqno":7,"address":"1.2.3.4:5"},{"seqno":1,`, 1)
	s, err := ParseFile([]byte(in), cocoon.Address{}, start)
	if err != nil {
		t.Fatal(err)
	}
	if len(s.Proxies) != 2 || s.Proxies[0] != (Proxy{7, "1.2.3.4:5", "1.2.3.4:5"}) || s.Proxies[0].Text() != "1.2.3.4:5" {
		t.Errorf("proxies are %+v", s.Proxies)
	}
}

func TestReadFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "root.json")
	if _, err := ReadFile(path, cocoon.Address{}, start); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing file: %v", err)
	}
	if err := os.WriteFile(path, []byte(minimal("")), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadFile(path, cocoon.Address{}, start); err != nil {
		t.Error(err)
	}
}

func TestParseProxy(t *testing.T) {
	for text, want := range map[string]string{
		"1.2.3.4:5":                 "1.2.3.4:5",
		"1.2.3.4:5 6.7.8.9:10":      "1.2.3.4:5 6.7.8.9:10",
		"[1.2.3.4:5] [6.7.8.9:10]":  "1.2.3.4:5 6.7.8.9:10",
		"1.2.3.4:5  6.7.8.9:10":     "",
		"1.2.3.4:5 6.7.8.9:10 x":    "",
		"1.2.3.4:0":                 "",
		"1.2.3.4":                   "",
		"[::1]:5":                   "",
		"":                          "",
		"1.2.3.4:65536":             "",
		"01.2.3.4:5":                "",
		"[1.2.3.4]:5":               "",
		"1.2.3.4:5 localhost:11002": "",
	} {
		p, err := ParseProxy(1, text)
		if got := ""; err == nil {
			got = p.Text()
			if got != want {
				t.Errorf("%q is read as %q, want %q", text, got, want)
			}
		} else if want != "" {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestStatic(t *testing.T) {
	s := &Snapshot{Version: 4}
	src := NewStatic(s)
	if got, err := src.Current(); got != s || err != nil {
		t.Errorf("Current = %v, %v", got, err)
	}
	select {
	case <-src.Changed():
		t.Error("a static source changed")
	default:
	}
}

func TestHolder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := NewHolder(HolderConfig{})
		if _, err := h.Current(); !errors.Is(err, ErrNoState) {
			t.Errorf("empty holder: %v", err)
		}
		changed := h.Changed()
		one := &Snapshot{Version: 1, Seqno: 10, Time: time.Now()}
		if err := h.Publish(one); err != nil {
			t.Fatal(err)
		}
		select {
		case <-changed:
		default:
			t.Error("Publish did not wake subscribers")
		}
		if got, err := h.Current(); got != one || err != nil {
			t.Errorf("Current = %v, %v", got, err)
		}
		changed = h.Changed()
		for _, old := range []*Snapshot{{Version: 0, Seqno: 11, Time: time.Now()}, {Version: 2, Seqno: 9, Time: time.Now()}} {
			if err := h.Publish(old); !errors.Is(err, ErrOlder) {
				t.Errorf("older snapshot: %v", err)
			}
		}
		time.Sleep(MaxAge)
		if _, err := h.Current(); err != nil {
			t.Errorf("at the limit: %v", err)
		}
		time.Sleep(time.Second)
		if _, err := h.Current(); !errors.Is(err, ErrStale) {
			t.Errorf("past the limit: %v", err)
		}
		h.Confirm(time.Now().Add(-time.Minute))
		if got, err := h.Current(); got != one || err != nil {
			t.Errorf("confirmed: %v, %v", got, err)
		}
		select {
		case <-changed:
			t.Error("nothing changed, yet subscribers were woken")
		default:
		}
	})
}

func FuzzParseFile(f *testing.F) {
	f.Add([]byte(minimal("")))
	f.Add([]byte(minimal(`,"registered_public_keys":[{"public_key":"` + b64(7) + `","key_type":1,"expire_at":2}],"key_manager_address":"1.2.3.4:5"`)))
	f.Add([]byte(`{"root_owner_address":"` + ownerText + `"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := ParseFile(b, cocoon.Address{}, start)
		if err != nil {
			return
		}
		for _, p := range s.Proxies {
			if q, err := ParseProxy(p.Seqno, p.Text()); err != nil || p != q {
				t.Fatalf("proxy %+v became %+v, %v", p, q, err)
			}
		}
	})
}

func TestEmptyCodeIsAnEmptyCell(t *testing.T) {
	// The representation of a cell without data is two zero bytes; its hash is
	// the code hash of spec network-protocol 7.2.
	if h := sha256.Sum256(emptyCode[11:]); h[0] != 0x96 || h[1] != 0xa2 || h[31] != 0xc7 {
		t.Errorf("hash %x", h)
	}
}
