package follow

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cocoon-network/cocoon"
	"github.com/cocoon-network/cocoon/internal/chain/access"
	"github.com/cocoon-network/cocoon/internal/chain/bindings"
	"github.com/cocoon-network/cocoon/internal/chain/registry"
)

var root = cocoon.Address{Hash: [32]byte{1}}

// script is a chain of given account states; the last one repeats, a nil one
// is an unreachable chain.
type script struct {
	states []*access.Account
	asked  int
}

func (s *script) Account(_ context.Context, addr cocoon.Address) (access.Account, error) {
	state := s.states[min(s.asked, len(s.states)-1)]
	s.asked++
	if state == nil {
		return access.Account{}, access.ErrNoServer
	}
	acc := *state
	acc.Address = addr
	acc.Block.Seqno = uint32(s.asked)
	acc.Block.Time = time.Now()
	return acc, nil
}

// state returns a root account of the given version.
func state(t *testing.T, version uint32) *access.Account {
	t.Helper()
	data, err := bindings.EncodeRoot(&registry.Snapshot{
		Owner: cocoon.Address{Hash: [32]byte{2}}, Version: version,
		Params: registry.Params{StructVersion: 3, PricePerToken: 20, WorkerFeePerToken: 19, ProxyCode: code, WorkerCode: code, ClientCode: code},
	})
	if err != nil {
		t.Fatal(err)
	}
	return &access.Account{Exists: true, Code: code, Data: data, LastTxLT: uint64(version), LastTxHash: [32]byte{byte(version)}}
}

// code is an empty cell.
var code = []byte{0xb5, 0xee, 0x9c, 0x72, 0x01, 0x01, 0x01, 0x01, 0x00, 0x02, 0x00, 0x00, 0x00}

func TestReadRefuses(t *testing.T) {
	noRoot := &access.Account{Exists: true, Code: code, Data: code}
	for name, tt := range map[string]struct {
		state *access.Account
		want  error
		say   string
	}{
		"unreachable":   {nil, access.ErrNoServer, "no liteserver"},
		"nothing there": {&access.Account{}, ErrNotRoot, "does not exist"},
		"only coins":    {&access.Account{Exists: true, Balance: 5}, ErrNotRoot, "no contract"},
		"frozen":        {&access.Account{Exists: true, Frozen: true}, ErrNotRoot, "frozen"},
		"a contract":    {noRoot, ErrNotRoot, "not of a root"},
	} {
		_, err := Read(t.Context(), &script{states: []*access.Account{tt.state}}, root)
		if !errors.Is(err, tt.want) || !strings.Contains(err.Error(), tt.say) {
			t.Errorf("%s: %v, want %v that says %q", name, err, tt.want, tt.say)
		}
	}
}

// TestFollow goes through the life of a root: found, unchanged, out of reach,
// changed, rolled back, unreadable, and at last too old.
func TestFollow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		holder := registry.NewHolder(registry.HolderConfig{})
		chain := &script{states: []*access.Account{state(t, 7), state(t, 7), nil, state(t, 8), state(t, 6), {}}}
		f, err := New(Config{Chain: chain, Root: root, Holder: holder})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		if _, err := holder.Current(); !errors.Is(err, registry.ErrNoState) {
			t.Errorf("before the first look: %v", err)
		}
		go func() { done <- f.Run(ctx) }()
		for i, want := range []uint32{7, 7, 7, 8, 8, 8} {
			synctest.Wait()
			s, err := holder.Current()
			if err != nil {
				t.Fatal(err)
			}
			if s.Version != want || s.Root != root {
				t.Errorf("look %d: version %d, want %d", i+1, s.Version, want)
			}
			time.Sleep(DefaultEvery)
		}
		time.Sleep(registry.MaxAge)
		if _, err := holder.Current(); !errors.Is(err, registry.ErrStale) {
			t.Errorf("after %s without a proof: %v", registry.MaxAge, err)
		}
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
}

func TestRunEndsOnNoRoot(t *testing.T) {
	f, err := New(Config{Chain: &script{states: []*access.Account{{}}}, Root: root, Holder: registry.NewHolder(registry.HolderConfig{})})
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Run(t.Context()); !errors.Is(err, ErrNotRoot) {
		t.Errorf("%v, want %v", err, ErrNotRoot)
	}
	if _, err := New(Config{}); err == nil {
		t.Error("a follower of nothing")
	}
}
