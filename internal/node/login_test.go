//go:build !tee

package node

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cocoon-network/cocoon"
	"github.com/cocoon-network/cocoon/attest"
	"github.com/cocoon-network/cocoon/internal/api"
	"github.com/cocoon-network/cocoon/internal/chain/bindings"
	"github.com/cocoon-network/cocoon/internal/chain/registry"
	"github.com/cocoon-network/cocoon/internal/role"
	"github.com/cocoon-network/cocoon/internal/role/client"
	"github.com/cocoon-network/cocoon/internal/tee"
	"github.com/cocoon-network/cocoon/internal/wire/mux"
	"github.com/cocoon-network/cocoon/internal/wire/schema"
)

// loginDesk is a proxy that takes logins, for a client under test: it names the
// contract key it is told to, whatever its evidence proved.
type loginDesk struct {
	t     *testing.T
	peer  tee.Peer
	names [32]byte
	owner cocoon.Address
	snap  func() *registry.Snapshot
	hash  func(contract cocoon.Address) [32]byte // on chain; zero = asks for a registration

	mu      sync.Mutex
	dials   int
	secrets []string
}

func (d *loginDesk) Dial(ctx context.Context, addr string) (*tee.Conn, error) {
	ours, theirs := net.Pipe()
	d.mu.Lock()
	d.dials++
	d.mu.Unlock()
	peer := d.peer
	peer.Addr = addr
	// It lives as long as its pipe.
	c := mux.New(theirs, mux.Config{Side: mux.Acceptor, Level: peer.Level, Handler: d})
	go c.Run(context.WithoutCancel(ctx))
	return &tee.Conn{Conn: ours, Peer: peer}, nil
}

func (d *loginDesk) Message(*mux.Conn, []byte) {}

func (d *loginDesk) Query(_ context.Context, _ *mux.Conn, data []byte) ([]byte, error) {
	o, err := schema.Decode(data)
	if err != nil {
		return nil, err
	}
	switch q := o.(type) {
	case *schema.ClientConnectToProxy:
		snap := d.snap()
		contract, err := bindings.ProxyAddress(snap, d.names, d.owner)
		if err != nil {
			return nil, err
		}
		mine, err := bindings.ClientAddress(snap, testClientOwner, contract, d.names)
		if err != nil {
			return nil, err
		}
		a := &schema.ClientConnectedToProxy{
			Params:          schema.ProxyParams{Flags: 3, ProxyPublicKey: d.names, ProxyOwnerAddress: d.owner.String(), ProxyScAddress: contract.String(), IsTest: true, ProtoVersion: q.Params.MaxProtoVersion},
			ClientScAddress: mine.String(), SignedPayment: &schema.ProxySignedPaymentEmpty{},
			Auth: &schema.ClientProxyConnectionAuthLong{Nonce: 5},
		}
		if h := d.hash(mine); h != [32]byte{} {
			a.Auth = &schema.ClientProxyConnectionAuthShort{SecretHash: h, Nonce: 5}
		}
		return schema.Marshal(a), nil
	case *schema.ClientAuthorizeWithProxyShort:
		d.mu.Lock()
		d.secrets = append(d.secrets, string(q.Data))
		d.mu.Unlock()
		return schema.Marshal(&schema.ClientAuthorizationWithProxySuccess{SignedPayment: &schema.ProxySignedPaymentEmpty{}}), nil
	}
	return nil, mux.ErrUnknownFunction
}

func (d *loginDesk) told() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return append([]string(nil), d.secrets...)
}

// countedRegistrar notes which registrations were asked for.
type countedRegistrar struct {
	mu sync.Mutex
	n  int
}

func (r *countedRegistrar) Register(context.Context, cocoon.Address, cocoon.Address, int64) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.n++
	return errors.New("registrations are only counted here")
}

func (r *countedRegistrar) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.n
}

// syncBuffer is a log that is read while it is written.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

func loginSnapshot(t *testing.T) *registry.Snapshot {
	t.Helper()
	root := cocoon.Address{Hash: [32]byte{1}}
	snap, err := registry.ParseFile([]byte(fmt.Sprintf(`{"registered_proxies":[{"seqno":1,"address":"192.0.2.1:1 192.0.2.1:2"}],"model_types":[],"price_per_token":2,"worker_fee_per_token":1,"version":1,"params_version":1,"proxy_sc_code":"","worker_sc_code":"","client_sc_code":"","root_owner_address":%q}`, root)), root, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	snap.Fake = false // there is a deposit to lose
	return snap
}

// TestImpostorGetsNoSecret: neither the secret nor a registration goes to a
// peer that names a known proxy's key and did not prove it.
func TestImpostorGetsNoSecret(t *testing.T) {
	genuine, other, owner := [32]byte{1}, [32]byte{2}, cocoon.Address{Hash: [32]byte{3}}
	master := bytes.Repeat([]byte{9}, 32)
	secret := func(c cocoon.Address) string { return deriveSecret(master, [32]byte{7}, c) }
	known := func(c cocoon.Address) [32]byte { return sha256.Sum256([]byte(secret(c))) }
	unknown := func(cocoon.Address) [32]byte { return [32]byte{} }
	empty := func(cocoon.Address) [32]byte { return sha256.Sum256(nil) }
	snap := loginSnapshot(t)
	node := func(key [32]byte) *tee.Node {
		contract, err := bindings.ProxyAddress(snap, key, owner)
		if err != nil {
			t.Fatal(err)
		}
		return &tee.Node{ContractKey: key, Contract: contract, Owner: owner}
	}
	for _, tt := range []struct {
		name   string
		peer   tee.Peer
		names  [32]byte
		hash   func(cocoon.Address) [32]byte
		pinned bool // the genuine one was met before, at level 1
		want   error
		text   string
	}{
		{name: "genuine", peer: tee.Peer{Level: 1, Kind: attest.Simulated, Node: node(genuine)}, names: genuine, hash: known, pinned: true},
		{name: "names the known key, proved another", peer: tee.Peer{Level: 1, Kind: attest.Simulated, Node: node(other)}, names: genuine, hash: known, want: role.ErrIdentity},
		{name: "the same, where the pin knows the key", peer: tee.Peer{Level: 1, Kind: attest.Simulated, Node: node(other)}, names: genuine, hash: known, pinned: true, want: ErrPin},
		{name: "is genuine itself, but not who was here", peer: tee.Peer{Level: 1, Kind: attest.Simulated, Node: node(other)}, names: other, hash: known, pinned: true, want: ErrPin},
		{name: "level 0 where level 1 was", peer: tee.Peer{Kind: attest.Simulated}, names: genuine, hash: known, pinned: true, want: ErrDowngrade},
		{name: "level 0, nothing proved", peer: tee.Peer{Kind: attest.Simulated}, names: genuine, hash: known, want: client.ErrLogin},
		{name: "level 0, wants a registration", peer: tee.Peer{Kind: attest.Simulated}, names: genuine, hash: unknown, want: client.ErrLogin},
		{name: "another secret on chain", peer: tee.Peer{Level: 1, Kind: attest.Simulated, Node: node(genuine)}, names: genuine, hash: empty, text: "hash of another secret"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			log := &syncBuffer{}
			pinned, err := openPins(t.TempDir(), [32]byte{7})
			if err != nil {
				t.Fatal(err)
			}
			if tt.pinned {
				if err := pinned.confirm(tee.Peer{Level: 1, Addr: "192.0.2.1:2", Node: node(genuine)}, role.ProxyIdentity{Key: genuine, Owner: owner}); err != nil {
					t.Fatal(err)
				}
			}
			d := &loginDesk{t: t, peer: tt.peer, names: tt.names, owner: owner, snap: func() *registry.Snapshot { return snap }, hash: tt.hash}
			r := &countedRegistrar{}
			c, err := client.New(client.Config{
				Owner: testClientOwner, Secret: secret, IsTest: true, Source: registry.NewStatic(snap), Dialer: d, Book: memoryViews(t), Registrar: r,
				Admit: func(_ *registry.Snapshot, p tee.Peer) error { return pinned.admit(p) }, Pin: pinned.confirm, Seal: api.SealOff,
				Logger: slog.New(slog.NewTextHandler(log, nil)),
			})
			if err != nil {
				t.Fatal(err)
			}
			n := &testNet{t: t}
			n.run(c.Run)
			if tt.want == nil && tt.text == "" {
				n.eventually("login", c.Ready)
				if got := d.told(); len(got) == 0 || len(got[0]) != 64 {
					t.Errorf("the genuine proxy heard %d secrets", len(got))
				}
				return
			}
			text := tt.text
			if tt.want != nil {
				text = tt.want.Error()
			}
			n.eventually("refusal in the log", func() bool { return strings.Contains(log.String(), text) })
			n.eventually("another attempt", func() bool { d.mu.Lock(); defer d.mu.Unlock(); return d.dials > 2 })
			if got := d.told(); len(got) > 0 || r.count() > 0 || c.Ready() {
				t.Errorf("told %d secrets, asked for %d registrations", len(got), r.count())
			}
		})
	}
}

// TestPriceChangeMakesNewSecrets: new parameters give a new contract and with it
// a new secret at the same proxy, whose pin stays as it was.
func TestPriceChangeMakesNewSecrets(t *testing.T) {
	key, owner := [32]byte{1}, cocoon.Address{Hash: [32]byte{3}}
	master := bytes.Repeat([]byte{9}, 32)
	secret := func(c cocoon.Address) string { return deriveSecret(master, [32]byte{7}, c) }
	snap := loginSnapshot(t)
	holder := registry.NewHolder(registry.HolderConfig{})
	if err := holder.Publish(snap); err != nil {
		t.Fatal(err)
	}
	now := func() *registry.Snapshot {
		s, err := holder.Current()
		if err != nil {
			t.Error(err)
		}
		return s
	}
	// The desk's statement follows the parameters, as a proxy's does.
	d := &loginDesk{t: t, peer: tee.Peer{Level: 1, Kind: attest.TDX}, names: key, owner: owner, snap: now, hash: func(c cocoon.Address) [32]byte { return sha256.Sum256([]byte(secret(c))) }}
	dir := t.TempDir()
	pinned, err := openPins(dir, [32]byte{7})
	if err != nil {
		t.Fatal(err)
	}
	c, err := client.New(client.Config{
		Owner: testClientOwner, Secret: secret, IsTest: true, Source: holder, Dialer: d, Book: memoryViews(t), Registrar: &countedRegistrar{},
		Admit: func(_ *registry.Snapshot, p tee.Peer) error { return pinned.admit(p) }, Pin: pinned.confirm, Seal: api.SealOff, Logger: quiet(),
	})
	if err != nil {
		t.Fatal(err)
	}
	n := &testNet{t: t}
	n.run(c.Run)
	n.eventually("first login", func() bool { return len(d.told()) == 1 && c.Ready() })
	before, err := os.ReadFile(filepath.Join(dir, "pins.json"))
	if err != nil {
		t.Fatal(err)
	}
	dearer := *snap
	dearer.Version, dearer.Params.ParamsVersion, dearer.Params.PricePerToken = 2, 2, 3
	if err := holder.Publish(&dearer); err != nil {
		t.Fatal(err)
	}
	n.eventually("login under the new price", func() bool { return len(d.told()) >= 2 && c.Ready() })
	got := d.told()
	if got[0] == got[1] {
		t.Error("the secret of the old contract was said for the new one")
	}
	after, err := os.ReadFile(filepath.Join(dir, "pins.json"))
	if err != nil || !bytes.Equal(before, after) {
		t.Errorf("the pin changed (%v): %s, before %s", err, after, before)
	}
}

// TestEmptySecretIsWarnedAbout: a proxy says so when a contract holds the hash
// of the secret that everybody knows.
func TestEmptySecretIsWarnedAbout(t *testing.T) {
	log := &syncBuffer{}
	n := startNet(t, func(n *testNet) { n.log = slog.New(slog.NewTextHandler(log, nil)) })
	connect := func() {
		t.Helper()
		c := n.rawConn(t, n.clientsLn, "", nil)
		if _, err := mux.Call[*schema.ClientConnectedToProxy](t.Context(), c, clientConnect(8)); err != nil {
			t.Fatal(err)
		}
	}
	connect()
	const warning = "a client uses the empty secret"
	if strings.Contains(log.String(), warning) {
		t.Error("warned where no chain is")
	}
	n.publish(t, func(s *registry.Snapshot) { s.Fake = false })
	n.eventually("warning", func() bool {
		connect()
		return strings.Contains(log.String(), warning)
	})
}
