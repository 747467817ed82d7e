//go:build !tee

package statement

import (
	"bytes"
	"context"
	"errors"
	"testing"

	"github.com/cocoon-network/cocoon"
	"github.com/cocoon-network/cocoon/attest"
	"github.com/cocoon-network/cocoon/attest/nvgpu"
	"github.com/cocoon-network/cocoon/internal/tee/simulated"
)

// collect is GPUs by a function.
type collect func(ctx context.Context, nonce [32]byte) (nvgpu.Set, error)

func (f collect) Collect(ctx context.Context, nonce [32]byte) (nvgpu.Set, error) {
	return f(ctx, nonce)
}

// A worker's GPU evidence travels with its statement, and a policy that
// demands it refuses all that is not this statement's, each by its own name.
func TestGPUs(t *testing.T) {
	w := newWorld(t)
	other, err := simulated.New(bytes.Repeat([]byte{8}, 32))
	if err != nil {
		t.Fatal(err)
	}
	pinned, err := w.vendor.GPUPolicy()
	if err != nil {
		t.Fatal(err)
	}
	two := w.vendor.NewGPUs("machine", 2)
	changed := w.vendor.NewGPUs("machine", 1)
	changed.Change = func(b []byte) { b[42+6+8] ^= 1 } // in the first value
	stale, err := two.Collect(t.Context(), [32]byte{1})
	if err != nil {
		t.Fatal(err)
	}
	demand := func(p *attest.Policy) { p.GPU = pinned }
	for _, c := range []struct {
		name   string
		gpus   GPUs
		policy func(*attest.Policy)
		edit   func(*Bundle)
		want   error
	}{
		{name: "demanded and shown", gpus: two, policy: demand},
		{name: "shown, not demanded", gpus: two},
		{name: "neither"},
		{name: "demanded, not shown", policy: demand, want: attest.ErrNoGPU},
		{name: "demanded, none there", gpus: w.vendor.NewGPUs("machine", 0), policy: demand, want: attest.ErrNoGPU},
		{name: "another maker", gpus: other.NewGPUs("machine", 1), policy: demand, want: nvgpu.ErrRoot},
		{name: "another firmware", gpus: changed, policy: demand, want: nvgpu.ErrMeasurement},
		{name: "another statement's", gpus: collect(func(context.Context, [32]byte) (nvgpu.Set, error) { return stale, nil }), policy: demand, want: nvgpu.ErrNonce},
		{name: "one of them twice", gpus: collect(func(ctx context.Context, n [32]byte) (nvgpu.Set, error) {
			s, err := two.Collect(ctx, n)
			return nvgpu.Set{s[0], s[0]}, err
		}), policy: demand, want: nvgpu.ErrTwice},
		{name: "replaced on the way", gpus: two, policy: demand, edit: func(b *Bundle) { b.GPU = stale.Encode() }, want: attest.ErrGPUDigest},
		{name: "taken away", gpus: two, policy: demand, edit: func(b *Bundle) { b.GPU = nil }, want: attest.ErrGPUDigest},
		{name: "taken away, not demanded", gpus: two, edit: func(b *Bundle) { b.GPU = nil }, want: attest.ErrGPUDigest},
		{name: "added", edit: func(b *Bundle) { b.GPU = stale.Encode() }, want: attest.ErrGPUDigest},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg := w.workerIssuer()
			cfg.GPUs = c.gpus
			issuer, err := NewIssuer(cfg)
			if err != nil {
				t.Fatal(err)
			}
			issued, err := issuer.Current(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			b, err := ParseBundle(issued.Bundle)
			if err != nil {
				t.Fatal(err)
			}
			if c.edit != nil {
				c.edit(b)
			}
			verifying := w.verifier(cocoon.RoleWorker)
			if c.policy != nil {
				c.policy(verifying.Policy)
			}
			v, err := NewVerifier(verifying)
			if err != nil {
				t.Fatal(err)
			}
			node, err := v.VerifyBundle(t.Context(), b.Encode())
			if !errors.Is(err, c.want) || c.want == nil && err != nil {
				t.Fatalf("%v, want %v", err, c.want)
			}
			if c.name == "demanded and shown" {
				found := 0
				for _, f := range node.Factors {
					if f.Name == "GPU 2 measurements" && f.Result == attest.Pass && f.Enforced {
						found++
					}
				}
				if found != 1 || node.Result.Expires.IsZero() {
					t.Errorf("factors %+v", node.Factors)
				}
			}
		})
	}
}

// A session carries GPU evidence of more than a bundle's other parts may have.
func TestGPUsInASession(t *testing.T) {
	w := newWorld(t)
	pinned, err := w.vendor.GPUPolicy()
	if err != nil {
		t.Fatal(err)
	}
	issuer, verifier := w.workerIssuer(), w.verifier(cocoon.RoleWorker)
	issuer.GPUs, verifier.Policy.GPU = w.vendor.NewGPUs("machine", nvgpu.MaxGPUs), pinned
	p, accepted := w.listen(w.tls(w.guest(proxyImage), w.sessions(w.proxyIssuer(), verifier).Handshake))
	if _, err := w.dial(p, w.tls(w.guest(workImage), w.sessions(issuer, w.verifier(cocoon.RoleProxy)).Handshake)); err != nil {
		t.Fatal(err)
	}
	worker := <-accepted
	defer worker.Close()
	if n := len(worker.Peer.Node.Bundle); n < maxBundle-MaxQuote {
		t.Errorf("a bundle of %d bytes shows nothing here", n)
	}
}

// Only workers have GPUs.
func TestGPUsOfAProxy(t *testing.T) {
	w := newWorld(t)
	cfg := w.proxyIssuer()
	cfg.GPUs = w.vendor.NewGPUs("machine", 1)
	if _, err := NewIssuer(cfg); err == nil {
		t.Error("a proxy with GPUs")
	}
}
