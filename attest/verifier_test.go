//go:build !tee

package attest_test

import (
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/cocoon-network/cocoon/attest"
	"github.com/cocoon-network/cocoon/attest/dcap"
	"github.com/cocoon-network/cocoon/internal/tee/simulated"
)

// TestVerifierRemembers: the same Result comes back while it holds, and only
// then.
func TestVerifierRemembers(t *testing.T) {
	v := vendor(t, 1)
	ev := evidence(t, guest(t, v, simulated.GuestConfig{}))
	statements := func(s simulated.Statements) *attest.Endorsements {
		c, err := v.Collateral(s)
		if err != nil {
			t.Fatal(err)
		}
		return &attest.Endorsements{Intel: c}
	}
	good := statements(simulated.Statements{At: now.Add(-time.Hour)})
	short := statements(simulated.Statements{At: now.Add(-simulated.Lifetime + 10*time.Minute)})
	revoked := statements(simulated.Statements{At: now, RevokedMachines: []string{""}})
	verifier := attest.NewVerifier(v.Policy(attest.DeferredImages()))

	ask := func(end *attest.Endorsements, want attest.ReportData, at time.Time, wantErr error) *attest.Result {
		t.Helper()
		res, err := verifier.Verify(ev, want, end, at)
		if !errors.Is(err, wantErr) {
			t.Errorf("got %v, want %v", err, wantErr)
		}
		return res
	}
	first := ask(good, data, now, nil)
	if ask(good, data, now.Add(59*time.Minute), nil) != first {
		t.Error("judged again within the hour")
	}
	if ask(good, data, now.Add(time.Hour), nil) == first {
		t.Error("an hour old verdict was used")
	}
	ask(good, attest.ReportData{1}, now, attest.ErrReportData)
	ask(revoked, data, now, dcap.ErrRevoked) // other statements, another verdict
	ask(good, data, now.Add(-2*time.Hour), dcap.ErrCRLDate)

	first = ask(short, data, now, nil)
	if ask(short, data, now.Add(9*time.Minute), nil) != first {
		t.Error("judged again")
	}
	ask(short, data, now.Add(10*time.Minute+time.Second), dcap.ErrCRLDate)

	// Policies do not share verdicts.
	if _, err := attest.NewVerifier(attest.HardwarePolicy(attest.DeferredImages())).Verify(ev, data, good, now); !errors.Is(err, attest.ErrRoot) {
		t.Errorf("another policy: %v", err)
	}
	if _, err := attest.NewVerifier(nil).Verify(ev, data, good, now); !errors.Is(err, attest.ErrRejectsAll) {
		t.Errorf("no policy: %v", err)
	}
	if res, err := attest.NewVerifier(attest.OpenPolicy()).Verify(ev, data, good, now); err != nil || res.Kind != attest.None {
		t.Errorf("open policy: %+v, %v", res, err)
	}
}

// TestVerifierIsBounded asks about more evidence than it remembers, from
// several goroutines.
func TestVerifierIsBounded(t *testing.T) {
	verifier := attest.NewVerifier(&attest.Policy{Kinds: []attest.Kind{attest.Fake}})
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for i := range 3000 {
				want := attest.ReportData{byte(g), byte(i), byte(i >> 8)}
				res, err := verifier.Verify(attest.FakeEvidence(want), want, nil, now)
				if err != nil || res.ReportData != want {
					t.Errorf("%v, %v", res, err)
					return
				}
			}
		})
	}
	wg.Wait()
	if n := verifier.Remembered(); n != 4096 {
		t.Errorf("%d verdicts remembered, want 4096", n)
	}
}

func BenchmarkVerifier(b *testing.B) {
	v := vendor(b, 1)
	q, err := guest(b, v, simulated.GuestConfig{}).Quote(data)
	if err != nil {
		b.Fatal(err)
	}
	c, err := v.Collateral(simulated.Statements{At: now})
	if err != nil {
		b.Fatal(err)
	}
	ev, end := attest.Evidence{Format: attest.FormatTDX, Quote: q.Bytes()}, &attest.Endorsements{Intel: c}
	policy := v.Policy(attest.DeferredImages())
	b.Run("judged", func(b *testing.B) {
		for b.Loop() {
			if _, err := attest.Verify(ev, data, end, policy, now); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("remembered", func(b *testing.B) {
		verifier := attest.NewVerifier(policy)
		for b.Loop() {
			if _, err := verifier.Verify(ev, data, end, now); err != nil {
				b.Fatal(err)
			}
		}
	})
}
