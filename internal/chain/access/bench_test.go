//go:build !tee

package access

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/cocoon-network/cocoon/internal/chain/devnet"
)

func benchChain(b *testing.B) (*devnet.Chain, *Client) {
	b.Helper()
	chain, err := devnet.Open(devnet.Config{Dir: b.TempDir(), Idle: time.Hour})
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- chain.Run(ctx) }()
	c, err := Open(b.Context(), Config{GlobalConfig: chain.GlobalConfig(), MaxAge: time.Hour})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		c.Close()
		cancel()
		<-done
	})
	return chain, c
}

// BenchmarkNext makes blocks and reports the time from when one is durable to
// its proof at a follower.
func BenchmarkNext(b *testing.B) {
	chain, c := benchChain(b)
	head := c.LastHead()
	var took []time.Duration
	for b.Loop() {
		got := make(chan Block, 1)
		go func() {
			next, err := c.Next(b.Context(), head.Seqno)
			if err != nil {
				b.Error(err)
			}
			got <- next
		}()
		time.Sleep(time.Millisecond) // the follower waits at the server by now
		if err := chain.Mine(); err != nil {
			b.Fatal(err)
		}
		begin := time.Now()
		head = <-got
		took = append(took, time.Since(begin))
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, "p50-ms")
}

// BenchmarkAccount is a fresh head and an account proven in it.
func BenchmarkAccount(b *testing.B) {
	chain, c := benchChain(b)
	for b.Loop() {
		if _, err := c.Account(b.Context(), chain.FaucetAddress()); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkAccountAt is an account proven in a known block.
func BenchmarkAccountAt(b *testing.B) {
	chain, c := benchChain(b)
	head := c.LastHead()
	for b.Loop() {
		if _, err := c.AccountAt(b.Context(), head, chain.FaucetAddress()); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkRunLocal is a get-method in the local machine.
func BenchmarkRunLocal(b *testing.B) {
	chain, c := benchChain(b)
	acc, err := c.Account(b.Context(), chain.FaucetAddress())
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := c.RunLocal(b.Context(), acc, "seqno"); err != nil {
			b.Fatal(err)
		}
	}
}
