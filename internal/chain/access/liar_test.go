//go:build !tee

package access

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/json"
	"fmt"
	"net"
	"reflect"
	"sync"
	"testing"
	"time"

	"github.com/cocoon-network/cocoon/internal/chain/devnet"
	"github.com/xssnick/tonutils-go/liteclient"
	"github.com/xssnick/tonutils-go/tl"
)

// startChain runs a development chain that makes a block every 50 ms.
func startChain(t *testing.T, change func(*devnet.Config)) *devnet.Chain {
	t.Helper()
	cfg := devnet.Config{Dir: t.TempDir(), Idle: 50 * time.Millisecond}
	if change != nil {
		change(&cfg)
	}
	chain, err := devnet.Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- chain.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return chain
}

// honest returns the chain's own liteserver.
func honest(t *testing.T, chain *devnet.Chain) Server {
	t.Helper()
	_, servers, err := parseGlobalConfig(chain.GlobalConfig())
	if err != nil {
		t.Fatal(err)
	}
	return servers[0]
}

// twist changes the answer to a query; nil = no answer at all.
type twist func(query, answer tl.Serializable) tl.Serializable

// liar is a liteserver that passes queries on to a genuine one and changes
// what comes back.
type liar struct {
	Server
	mu    sync.Mutex
	twist twist
	asked map[string]int // queries by type
}

// startLiar runs a liar in front of the chain's server.
func startLiar(t *testing.T, chain *devnet.Chain, tw twist) *liar {
	t.Helper()
	public, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	out := &liar{Server: Server{PublicKey: [32]byte(public)}, twist: tw, asked: map[string]int{}}

	_, genuine, err := parseGlobalConfig(chain.GlobalConfig())
	if err != nil {
		t.Fatal(err)
	}
	cfg := &Config{GlobalConfig: chain.GlobalConfig()}
	if _, _, err := cfg.prepare(); err != nil {
		t.Fatal(err)
	}
	upstream := &server{Server: genuine[0], cfg: cfg}
	s := liteclient.NewServer([]ed25519.PrivateKey{key})
	s.SetQueryHandler(func(ctx context.Context, client *liteclient.ServerClient, id []byte, query tl.Serializable) {
		go func() {
			raw, asked, err := rawQuery(query)
			if err != nil {
				t.Error(err)
				return
			}
			out.mu.Lock()
			out.asked[reflect.TypeOf(asked).Name()]++
			tw := out.twist
			out.mu.Unlock()
			c, _, err := upstream.connection(ctx)
			if err != nil {
				return
			}
			b, err := c.query(ctx, raw)
			if err != nil {
				return
			}
			var answer tl.Serializable
			if _, err := tl.Parse(&answer, b, true); err != nil {
				t.Error(err)
				return
			}
			if tw != nil {
				answer = tw(asked, answer)
			}
			if answer != nil {
				client.Answer(id, answer)
			}
		}()
	})
	var conns sync.Map
	s.SetConnectionHook(func(c *liteclient.ServerClient) error { conns.Store(c, nil); return nil })
	t.Cleanup(func() {
		s.Close()
		upstream.close()
		conns.Range(func(c, _ any) bool { c.(*liteclient.ServerClient).Close(); return true })
	})
	for out.Address == "" {
		out.Address = listen(t, s, out.PublicKey)
	}
	return out
}

// listen lets the server listen on a free port and returns the address; empty
// if another process took the port meanwhile, as the server binds it itself.
// Who answers there is known by the key.
func listen(t *testing.T, s *liteclient.Server, key [32]byte) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	at := Server{Address: l.Addr().String(), PublicKey: key}
	l.Close()
	failed := make(chan error, 1)
	go func() { failed <- s.Listen(at.Address) }()
	cfg := &Config{Dial: new(net.Dialer).DialContext, MaxAnswer: 1 << 10}
	for {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		c, err := dial(ctx, cfg, at)
		cancel()
		if err == nil {
			c.close(ErrUnreachable)
			return at.Address
		}
		select {
		case <-failed:
			return ""
		case <-time.After(2 * time.Millisecond): // it does not say when it is ready
		}
	}
}

func (l *liar) set(tw twist) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.twist = tw
}

func (l *liar) count(query string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.asked[query]
}

// rawQuery serializes a parsed query again and returns what it asks for, a
// prefix apart.
func rawQuery(query tl.Serializable) ([]byte, tl.Serializable, error) {
	parts, ok := query.([]tl.Serializable)
	if !ok {
		parts = []tl.Serializable{query}
	}
	var raw []byte
	for _, p := range parts {
		b, err := tl.Serialize(p, true)
		if err != nil {
			return nil, nil, fmt.Errorf("%T: %w", p, err)
		}
		raw = append(raw, b...)
	}
	return raw, parts[len(parts)-1], nil
}

// edited returns a global configuration with one change.
func edited(t *testing.T, config []byte, change func(map[string]any)) []byte {
	t.Helper()
	var g map[string]any
	dec := json.NewDecoder(bytes.NewReader(config))
	dec.UseNumber() // shards do not fit a float
	if err := dec.Decode(&g); err != nil {
		t.Fatal(err)
	}
	change(g)
	b, err := json.Marshal(g)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
