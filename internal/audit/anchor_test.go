package audit

import (
	"context"
	"crypto/ed25519"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/cocoon-network/cocoon"
	"github.com/cocoon-network/cocoon/internal/chain/access"
	"github.com/cocoon-network/cocoon/internal/chain/bindings"
	"github.com/cocoon-network/cocoon/internal/chain/wallet"
	"github.com/cocoon-network/cocoon/receipt"
)

// anchorChain is an anchor contract with its rules, and a wallet whose messages
// arrive, are lost, or arrive when the sender is dead.
type anchorChain struct {
	key [32]byte

	mu     sync.Mutex
	stored bindings.AnchorStorage
	sent   int
	taken  int
	lose   bool
	after  func() // once a message was sent
}

func (c *anchorChain) Account(context.Context, cocoon.Address) (access.Account, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stored.Epoch == 0 {
		return access.Account{}, nil
	}
	data, err := c.stored.Encode()
	return access.Account{Exists: true, Code: []byte{1}, Data: data, Block: access.Block{Seqno: uint32(c.taken)}}, err
}

func (c *anchorChain) Address() cocoon.Address { return addr(99) }

func (c *anchorChain) Send(_ context.Context, messages []wallet.Message) (wallet.Sent, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sent++
	s, err := bindings.ParseAnchor(messages[0].Body, c.key)
	if err != nil {
		return wallet.Sent{}, err
	}
	if !c.lose && s.Epoch == c.stored.Epoch+1 && s.PreviousLog == c.stored.Roots.Log && s.Size >= c.stored.Size {
		c.stored, c.taken = bindings.AnchorStorage{ProxyKey: c.key, Epoch: s.Epoch, Size: s.Size, Roots: s.Roots}, c.taken+1
	}
	if c.after != nil {
		c.after()
	}
	return wallet.Sent{}, nil
}

// anchorUntil runs the anchoring of a log until it has done its work or died.
func anchorUntil(t *testing.T, l *Log, c *anchorChain, key ed25519.PrivateKey, crash bool) error {
	t.Helper()
	ctx, stop := context.WithTimeout(t.Context(), 10*time.Second)
	defer stop()
	c.mu.Lock()
	c.after = nil
	if crash {
		c.after = stop // the process dies before it looks at the chain again
	}
	c.mu.Unlock()
	go func() {
		for ctx.Err() == nil && l.State().Epoch.Anchored == 0 {
			time.Sleep(time.Millisecond)
		}
		if !crash {
			stop()
		}
	}()
	return RunAnchor(ctx, AnchorConfig{
		Log: l, Chain: c, Wallet: c, Signer: bindings.KeySigner(key), Every: time.Millisecond,
		Block: func() receipt.Block { return receipt.Block{Seqno: 1, Time: time.Unix(1_800_000_000, 0)} },
	})
}

// TestAnchorDeath kills the process at each write of the anchoring, and between
// sending and seeing, with messages that arrive or do not. After a restart log
// and chain agree, and no epoch was anchored twice or passed over.
func TestAnchorDeath(t *testing.T) {
	key := ed25519.NewKeyFromSeed(make([]byte, 32))
	for _, lose := range []bool{false, true} {
		for _, sent := range []bool{false, true} {
			for dieAt := 0; dieAt < 7; dieAt++ {
				l, f, _ := filled(t, 5)
				c := &anchorChain{key: [32]byte(key.Public().(ed25519.PublicKey)), lose: lose}
				if dieAt > 0 {
					f.dieAt = f.ops + dieAt
				}
				_ = anchorUntil(t, l, c, key, sent || lose)
				c.mu.Lock()
				c.lose = false
				c.mu.Unlock()
				for _, alive := range f.survivors() {
					// Each survivor is a world of its own.
					world := &anchorChain{key: c.key, stored: c.stored, sent: c.sent, taken: c.taken}
					again, err := open(t, alive)
					must(t, err)
					if err := anchorUntil(t, again, world, key, false); err != nil {
						t.Fatalf("lost %t, sent %t, died at %d: %v", lose, sent, dieAt, err)
					}
					st := again.State()
					if st.Epoch.Anchored == 0 || st.Epoch.Number != world.stored.Epoch || st.Epoch.Log != world.stored.Roots.Log || int(world.stored.Epoch) != world.taken || st.Size != st.Epoch.Size {
						t.Errorf("lost %t, sent %t, died at %d: log %+v, chain %+v after %d", lose, sent, dieAt, st.Epoch, world.stored, world.taken)
					}
				}
			}
		}
	}
}

// TestAnchorAhead: a log that is older than the chain stops, rather than to
// anchor another history.
func TestAnchorAhead(t *testing.T) {
	key := ed25519.NewKeyFromSeed(make([]byte, 32))
	l, f, _ := filled(t, 5)
	old := &memFile{data: append([]byte(nil), f.data...), synced: len(f.data)}
	c := &anchorChain{key: [32]byte(key.Public().(ed25519.PublicKey))}
	if err := anchorUntil(t, l, c, key, false); err != nil || c.stored.Epoch != 1 {
		t.Fatalf("%v, epoch %d", err, c.stored.Epoch)
	}
	again, err := open(t, old)
	must(t, err)
	if err := anchorUntil(t, again, c, key, false); !errors.Is(err, ErrAhead) || c.sent != 1 {
		t.Errorf("%v after %d messages", err, c.sent)
	}
}
