//go:build !tee

package attest_test

import (
	"bytes"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/cocoon-network/cocoon"
	"github.com/cocoon-network/cocoon/attest"
	"github.com/cocoon-network/cocoon/attest/dcap"
	"github.com/cocoon-network/cocoon/internal/tee/simulated"
)

var (
	now  = time.Date(2026, 4, 1, 12, 0, 0, 0, time.UTC)
	data = attest.ReportData(bytes.Repeat([]byte{0xda}, 64))
)

func vendor(t testing.TB, seed byte) *simulated.Vendor {
	t.Helper()
	v, err := simulated.New(bytes.Repeat([]byte{seed}, simulated.SeedSize))
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func guest(t testing.TB, v *simulated.Vendor, cfg simulated.GuestConfig) *simulated.Guest {
	t.Helper()
	if cfg.Registers == (simulated.Registers{}) {
		cfg.Registers = simulated.Image("worker")
	}
	g, err := v.NewGuest(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func evidence(t testing.TB, g *simulated.Guest) attest.Evidence {
	t.Helper()
	ev, err := g.Attest(t.Context(), data)
	if err != nil {
		t.Fatal(err)
	}
	return ev
}

func TestVerifyAccepts(t *testing.T) {
	v := vendor(t, 1)
	for name, cfg := range map[string]simulated.GuestConfig{
		"v4":        {},
		"v5 TD 1.0": {QuoteVersion: 5, BodyType: dcap.BodyTD10},
		"v5 TD 1.5": {QuoteVersion: 5, BodyType: dcap.BodyTD15},
	} {
		t.Run(name, func(t *testing.T) {
			g := guest(t, v, cfg)
			ev := evidence(t, g)
			ev.Quote = append(ev.Quote, make([]byte, 70)...) // firmware's padding
			res, err := attest.Verify(ev, data, nil, v.Policy(attest.ListedImages(g.ImageHash())), now)
			if err != nil {
				t.Fatal(err)
			}
			if res.Kind != attest.Simulated || res.ImageHash != simulated.Image("worker").Hash() || res.RootKeyID != v.RootKeyID() || res.ReportData != data {
				t.Errorf("wrong result: %+v", res)
			}
			if !res.Expires.After(now) || len(res.Measurements) != 8 {
				t.Errorf("wrong result: %+v", res)
			}
			if len(res.Factors) < 9 || slices.ContainsFunc(res.Factors, func(f attest.Factor) bool { return f.Enforced != (f.Result == attest.Pass) }) {
				t.Errorf("factors of an accepted quote: %+v", res.Factors)
			}
		})
	}
}

// TestVendorIsOneForAllProcesses makes the same vendor twice, as two
// processes with one seed do.
func TestVendorIsOneForAllProcesses(t *testing.T) {
	a, b := vendor(t, 1), vendor(t, 1)
	if !bytes.Equal(a.Root().Raw, b.Root().Raw) || a.RootKeyID() != b.RootKeyID() {
		t.Error("one seed, two roots")
	}
	ev := evidence(t, guest(t, a, simulated.GuestConfig{}))
	if _, err := attest.Verify(ev, data, nil, b.Policy(attest.DeferredImages()), now); err != nil {
		t.Error(err)
	}
	if a.RootKeyID() == vendor(t, 2).RootKeyID() {
		t.Error("two seeds, one root")
	}
}

// TestPolicy holds what is accepted against what is presented.
func TestPolicy(t *testing.T) {
	v, other := vendor(t, 1), vendor(t, 2)
	g := guest(t, v, simulated.GuestConfig{})
	good := evidence(t, g)
	fake := attest.FakeEvidence(data)
	april := attest.Evidence{Format: attest.FormatTDX, Quote: slices.Concat(make([]byte, 384), data[:], make([]byte, 48))}
	fakeSEV := attest.Evidence{Format: attest.FormatSEVSNP, Quote: slices.Concat(make([]byte, 80), data[:], make([]byte, 1184-144))}
	all := attest.DeferredImages()

	for name, c := range map[string]struct {
		ev     attest.Evidence
		policy *attest.Policy
		kind   attest.Kind
		err    error
	}{
		"nil policy":                    {good, nil, "", attest.ErrRejectsAll},
		"zero policy":                   {good, &attest.Policy{}, "", attest.ErrRejectsAll},
		"zero policy, no evidence":      {attest.Evidence{}, &attest.Policy{}, "", attest.ErrRejectsAll},
		"no images":                     {good, v.Policy(attest.Images{}), "", attest.ErrImage},
		"another image":                 {good, v.Policy(attest.ListedImages(attest.ImageHash{1})), "", attest.ErrImage},
		"listed image":                  {good, v.Policy(attest.ListedImages(g.ImageHash())), attest.Simulated, nil},
		"another vendor":                {good, other.Policy(all), "", attest.ErrRoot},
		"simulated for hardware":        {good, attest.HardwarePolicy(all), "", attest.ErrRoot},
		"simulated root, hardware kind": {good, &attest.Policy{Kinds: []attest.Kind{attest.TDX}, Roots: []attest.KeyID{attest.IntelRoot, v.RootKeyID()}, Images: all}, "", attest.ErrKind},
		"kind without a root":           {good, &attest.Policy{Kinds: []attest.Kind{attest.TDX}, Roots: []attest.KeyID{v.RootKeyID()}, Images: all}, "", attest.ErrPolicy},
		"unknown kind":                  {good, &attest.Policy{Kinds: []attest.Kind{"sgx"}}, "", attest.ErrPolicy},
		"fake constant listed":          {good, v.Policy(attest.ListedImages(attest.FakeTDXImage)), "", attest.ErrPolicy},
		"zero hash listed":              {good, v.Policy(attest.ListedImages(attest.ImageHash{})), "", attest.ErrPolicy},
		"nothing presented":             {attest.Evidence{}, v.Policy(all), "", attest.ErrNoEvidence},
		"nothing presented, hardware":   {attest.Evidence{}, attest.HardwarePolicy(all), "", attest.ErrNoEvidence},
		"nothing presented or needed":   {attest.Evidence{}, &attest.Policy{Kinds: []attest.Kind{attest.None, attest.Fake}}, attest.None, nil},
		"open policy reads nothing":     {good, attest.OpenPolicy(), attest.None, nil},
		"open policy, garbage":          {attest.Evidence{Format: attest.FormatTDX, Quote: []byte("x")}, attest.OpenPolicy(), attest.None, nil},
		"none beside others, garbage":   {attest.Evidence{Format: attest.FormatTDX, Quote: []byte("x")}, &attest.Policy{Kinds: []attest.Kind{attest.None, attest.Fake}}, "", dcap.ErrFormat},
		"fake for none and fake":        {fake, &attest.Policy{Kinds: []attest.Kind{attest.None, attest.Fake}}, attest.Fake, nil},
		"fake, April form":              {april, &attest.Policy{Kinds: []attest.Kind{attest.Fake}}, attest.Fake, nil},
		"fake, SEV form":                {fakeSEV, &attest.Policy{Kinds: []attest.Kind{attest.Fake}}, attest.Fake, nil},
		"fake for simulated":            {fake, v.Policy(all), "", attest.ErrKind},
		"fake for hardware":             {april, attest.HardwarePolicy(all), "", attest.ErrKind},
		"simulated for fake":            {good, &attest.Policy{Kinds: []attest.Kind{attest.Fake}}, "", attest.ErrRoot},
		"age of nothing":                {good, demanding(v, func(p *attest.Policy) { p.MaxAge = time.Hour }), "", attest.ErrEndorsements},
		"number of nothing":             {good, demanding(v, func(p *attest.Policy) { p.MinEvaluation = 1 }), "", attest.ErrEndorsements},
		"unknown format":                {attest.Evidence{Format: 9}, v.Policy(all), "", attest.ErrFormat},
	} {
		t.Run(name, func(t *testing.T) {
			res, err := attest.Verify(c.ev, data, nil, c.policy, now)
			if !errors.Is(err, c.err) {
				t.Fatalf("got %v, want %v", err, c.err)
			}
			if c.err != nil {
				if res != nil {
					t.Error("a result beside an error")
				}
				f := attest.Factors(err)
				if len(f) == 0 || !slices.ContainsFunc(f, func(f attest.Factor) bool { return f.Result == attest.Fail && f.Enforced }) {
					t.Errorf("no failed factor explains the refusal: %+v", f)
				}
				return
			}
			if res.Kind != c.kind {
				t.Errorf("kind %q, want %q", res.Kind, c.kind)
			}
			switch res.Kind {
			case attest.None:
				if res.ImageHash != (attest.ImageHash{}) {
					t.Errorf("no evidence, yet image %s", res.ImageHash)
				}
			case attest.Fake:
				if res.ImageHash.Proven() || res.ImageHash == (attest.ImageHash{}) {
					t.Errorf("fake evidence with image %s", res.ImageHash)
				}
			}
		})
	}
}

// demanding is a simulated vendor's policy with more.
func demanding(v *simulated.Vendor, more func(*attest.Policy)) *attest.Policy {
	p := v.Policy(attest.DeferredImages())
	more(p)
	return p
}

// TestFakeBindsReportData: even fake evidence belongs to one key.
func TestFakeBindsReportData(t *testing.T) {
	p := &attest.Policy{Kinds: []attest.Kind{attest.Fake}}
	if _, err := attest.Verify(attest.FakeEvidence(data), attest.ReportData{1}, nil, p, now); !errors.Is(err, attest.ErrReportData) {
		t.Errorf("got %v", err)
	}
}

// TestEveryFactorIsJudged: what the policy refuses does not hide the rest.
func TestEveryFactorIsJudged(t *testing.T) {
	v := vendor(t, 1)
	g := guest(t, v, simulated.GuestConfig{Attributes: dcap.TDDebug | dcap.TDMigratable})
	_, err := attest.Verify(evidence(t, g), attest.ReportData{}, nil, v.Policy(attest.Images{}), now)
	failed := map[string]bool{}
	for _, f := range attest.Factors(err) {
		failed[f.Name] = f.Result == attest.Fail
	}
	for _, name := range []string{"report data", "image", "debug off", "not migratable"} {
		if !failed[name] {
			t.Errorf("factor %q is not shown as failed: %+v", name, attest.Factors(err))
		}
	}
	if failed["quote signature"] || failed["kind"] {
		t.Errorf("good factors shown as failed: %+v", attest.Factors(err))
	}
}

// TestKindOf: only the vendors' own keys make hardware.
func TestKindOf(t *testing.T) {
	if k := attest.KindOf(attest.IntelRoot); k != attest.TDX {
		t.Errorf("Intel's root makes %q", k)
	}
	for _, r := range attest.AMDRoots {
		if k := attest.KindOf(r); k != attest.SEVSNP {
			t.Errorf("AMD's root makes %q", k)
		}
	}
	for _, r := range []attest.KeyID{{}, {1}, vendor(t, 1).RootKeyID()} {
		if k := attest.KindOf(r); k != attest.Simulated {
			t.Errorf("root %s makes %q", r, k)
		}
	}
}

func TestRefuseOnNetwork(t *testing.T) {
	roles := []cocoon.Role{cocoon.RoleNone, cocoon.RoleClient, cocoon.RoleProxy, cocoon.RoleWorker, cocoon.RoleKeyManager}
	kinds := []attest.Kind{attest.TDX, attest.SEVSNP, attest.Simulated, attest.Fake, attest.None, "", "else"}
	for _, role := range roles {
		for _, kind := range kinds {
			for _, id := range []int32{-239, -3, 0, 1, 239, -777} {
				public := id == -239 || id == -3
				want := public && role != cocoon.RoleClient && kind != attest.TDX && kind != attest.SEVSNP
				err := attest.RefuseOnNetwork(role, kind, id)
				if errors.Is(err, attest.ErrNetwork) != want || (err != nil) != want {
					t.Errorf("%s with %q on %d: %v, want refusal %v", role, kind, id, err, want)
				}
			}
		}
	}
}

func BenchmarkVerifyTDX(b *testing.B) {
	v := vendor(b, 1)
	g := guest(b, v, simulated.GuestConfig{})
	q, err := g.Quote(data)
	if err != nil {
		b.Fatal(err)
	}
	ev := attest.Evidence{Format: attest.FormatTDX, Quote: q.Bytes()}
	p := v.Policy(attest.DeferredImages())
	for b.Loop() {
		if _, err := attest.Verify(ev, data, nil, p, now); err != nil {
			b.Fatal(err)
		}
	}
}
