//go:build !tee

package node

import (
	"context"
	"encoding/json"
	"sync"
	"testing"
	"time"

	"github.com/cocoon-network/cocoon"
	"github.com/cocoon-network/cocoon/internal/api"
	"github.com/cocoon-network/cocoon/internal/engine/enginetest"
	"github.com/cocoon-network/cocoon/internal/role/client"
	"github.com/cocoon-network/cocoon/internal/role/proxy"
	"github.com/cocoon-network/cocoon/receipt"
)

// noteReceipts makes the proxy's parts out of the ledger's notes, in their
// order: one chain for each client contract.
type noteReceipts struct {
	n    *testNet
	bend func(*receipt.ProxyPart) // what a false proxy does to a part

	mu    sync.Mutex
	lost  bool // nobody gets a part
	taken uint64
	last  map[cocoon.Address][32]byte
	parts map[cocoon.RequestID][]byte
	sets  [][]byte
}

func (r *noteReceipts) Note(c proxy.ChargeNote) (string, error) {
	b, err := json.Marshal(c)
	return string(b), err
}

func (r *noteReceipts) LastSet() (uint64, [32]byte) { return 0, [32]byte{} }

func (r *noteReceipts) LogSet(_ context.Context, signed []byte) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sets = append(r.sets, signed)
	return nil
}

func (r *noteReceipts) Part(ctx context.Context, id cocoon.RequestID) ([]byte, error) {
	for {
		if b, err := r.part(id); b != nil || err != nil {
			return b, err
		}
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

func (r *noteReceipts) part(id cocoon.RequestID) ([]byte, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.lost {
		return nil, nil
	}
	for _, noted := range r.n.book.l.Notes(r.taken, 1000) {
		var c proxy.ChargeNote
		if err := json.Unmarshal([]byte(noted.Note), &c); err != nil {
			return nil, err
		}
		contract, err := r.n.proxy.Contract()
		if err != nil {
			return nil, err
		}
		p := receipt.ProxyPart{
			RequestID: c.RequestID, Statement: [32]byte{1}, Contract: contract, Client: c.Client,
			Before: noted.ClientAfter - noted.Tokens, After: noted.ClientAfter, Price: c.Price, SetVersion: c.SetVersion, Previous: r.last[c.Client],
		}
		if s, err := receipt.ParseSigned(c.WorkerPart); err == nil {
			p.WorkerPart = s.Digest()
		}
		if r.bend != nil {
			r.bend(&p)
		}
		s, err := p.Sign(r.n.sealed.issuer.Sign)
		if err != nil {
			return nil, err
		}
		r.last[c.Client], r.parts[c.RequestID], r.taken = s.Digest(), s.Encode(), noted.Number
	}
	return r.parts[id], nil
}

// receiptShelf keeps a client's receipts.
type receiptShelf struct {
	mu   sync.Mutex
	kept []client.Receipt
}

func (s *receiptShelf) Keep(_ context.Context, r client.Receipt) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.kept = append(s.kept, r)
	return nil
}

func (s *receiptShelf) Last(cocoon.Address) []byte { return nil }

func (s *receiptShelf) all() []client.Receipt {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]client.Receipt(nil), s.kept...)
}

func withReceipts(mode api.Seal) (func(*testNet), *noteReceipts, *receiptShelf) {
	r := &noteReceipts{last: map[cocoon.Address][32]byte{}, parts: map[cocoon.RequestID][]byte{}}
	shelf := &receiptShelf{}
	return func(n *testNet) {
		r.n = n
		n.sealed = &sealedNet{mode: mode, receipts: r, store: shelf}
	}, r, shelf
}

// TestReceiptsFollow: every charged request, sealed or not, leaves a receipt:
// one chain of steps that explains the whole counter, with both parts signed.
func TestReceiptsFollow(t *testing.T) {
	t.Parallel()
	for _, mode := range []api.Seal{api.SealRequire, api.SealOff} {
		t.Run(string(mode), func(t *testing.T) {
			opt, r, shelf := withReceipts(mode)
			n := startNet(t, opt)
			n.startWorker(1, &enginetest.StandIn{})
			n.startWorker(2, &enginetest.StandIn{})
			n.waitWorkers(2)
			const total = 40
			var wg sync.WaitGroup
			for i := range total {
				wg.Go(func() {
					if a := n.ask(t.Context(), i%2 == 0, 5+i%9, 0); a.err != "" || !a.done {
						t.Errorf("%+v", a)
					}
				})
			}
			wg.Wait()
			n.eventually("receipts", func() bool { return len(shelf.all()) == total })
			byBefore, ids := map[int64]*receipt.ProxyPart{}, map[cocoon.RequestID]bool{}
			digests := map[int64][32]byte{}
			for _, k := range shelf.all() {
				s, err := receipt.ParseSigned(k.Proxy)
				if err != nil {
					t.Fatal(err)
				}
				p, err := receipt.ParseProxy(s.Part)
				if err != nil {
					t.Fatal(err)
				}
				byBefore[p.Before], digests[p.Before], ids[p.RequestID] = p, s.Digest(), true
				if k.Sealed != (mode == api.SealRequire) || p.Marked() == k.Sealed || k.Sealed && (p.SetVersion == 0 || len(k.WorkerBundle) == 0) {
					t.Errorf("receipt %+v", p)
				}
				if !k.Sealed {
					continue
				}
				w, err := receipt.ParseSigned(k.Worker)
				if err != nil {
					t.Fatal(err)
				}
				part, err := receipt.ParseWorker(w.Part)
				if err != nil {
					t.Fatal(err)
				}
				if err := receipt.CheckPair(part, w.Digest(), p); err != nil {
					t.Error(err)
				}
			}
			if len(ids) != total {
				t.Errorf("%d names for %d requests", len(ids), total)
			}
			var last *receipt.ProxyPart
			var digest [32]byte
			for at := int64(0); at < n.used(); {
				p := byBefore[at]
				if p == nil {
					t.Fatalf("no receipt explains the counter from %d on", at)
				}
				if err := receipt.CheckStep(last, digest, p); err != nil {
					t.Fatal(err)
				}
				last, digest, at = p, digests[at], p.After
			}
			r.mu.Lock()
			defer r.mu.Unlock()
			if mode == api.SealRequire && len(r.sets) == 0 {
				t.Error("no set was logged")
			}
		})
	}
}

// TestLostReceipt: a receipt that a broken connection lost is asked for again by
// the next one, by the request's id.
func TestLostReceipt(t *testing.T) {
	t.Parallel()
	opt, r, shelf := withReceipts(api.SealRequire)
	n := startNet(t, opt)
	n.startWorker(1, &enginetest.StandIn{})
	n.waitWorkers(1)
	r.mu.Lock()
	r.lost = true
	r.mu.Unlock()
	if a := n.ask(t.Context(), true, 5, 0); a.err != "" {
		t.Fatal(a.err)
	}
	n.eventually("charge", func() bool { return n.used() > 0 })
	r.mu.Lock()
	r.lost = false
	r.mu.Unlock()
	if _, err := r.part(cocoon.RequestID{}); err != nil { // signed by the proxy as it is now
		t.Fatal(err)
	}
	r.mu.Lock()
	r.lost = true
	r.mu.Unlock()
	if len(shelf.all()) != 0 {
		t.Fatal("the receipt was not lost: the test tests nothing")
	}
	n.stopProxy()
	r.mu.Lock()
	r.lost = false
	r.mu.Unlock()
	n.sealed.issuer = nil // the proxy comes back with another node key
	n.startProxy()
	n.eventually("the receipt", func() bool { return len(shelf.all()) == 1 })
	if len(shelf.all()[0].Worker) == 0 {
		t.Error("it has no worker's part")
	}
}

// TestFalseReceipts: a part of a proxy that does not fit is not kept.
func TestFalseReceipts(t *testing.T) {
	t.Parallel()
	for name, bend := range map[string]func(*receipt.ProxyPart){
		"charges more":       func(p *receipt.ProxyPart) { p.After++ },
		"another price":      func(p *receipt.ProxyPart) { p.Price.PerToken++ },
		"no worker's part":   func(p *receipt.ProxyPart) { p.WorkerPart = [32]byte{} },
		"another worker's":   func(p *receipt.ProxyPart) { p.WorkerPart[0]++ },
		"another client's":   func(p *receipt.ProxyPart) { p.Client.Hash[0]++ },
		"another proxy's":    func(p *receipt.ProxyPart) { p.Contract.Hash[0]++ },
		"another request's":  func(p *receipt.ProxyPart) { p.RequestID[0]++ },
		"another multiplier": func(p *receipt.ProxyPart) { p.Price.Completion *= 2 },
	} {
		t.Run(name, func(t *testing.T) {
			opt, r, shelf := withReceipts(api.SealRequire)
			n := startNet(t, opt)
			n.startWorker(1, &enginetest.StandIn{})
			n.waitWorkers(1)
			r.bend = bend
			if a := n.ask(t.Context(), false, 5, 0); a.err != "" {
				t.Fatal(a.err)
			}
			n.eventually("the part", func() bool {
				r.mu.Lock()
				defer r.mu.Unlock()
				return len(r.parts) == 1
			})
			time.Sleep(50 * time.Millisecond)
			if len(shelf.all()) != 0 {
				t.Error("it is kept")
			}
		})
	}
}
