package attest_test

import (
	"errors"
	"testing"

	"github.com/cocoon-network/cocoon/attest"
	"github.com/cocoon-network/cocoon/attest/dcap"
)

// TestAdmit judges records of somebody else's appraisal.
func TestAdmit(t *testing.T) {
	image, zero := attest.ImageHash{7}, attest.KeyID{}
	hardware := attest.HardwarePolicy(attest.ListedImages(image))
	both := &attest.Policy{Kinds: []attest.Kind{attest.None, attest.Fake}}
	snp := &attest.Policy{
		Kinds: []attest.Kind{attest.SEVSNP}, Roots: attest.AMDRoots, Images: attest.DeferredImages(),
		SNP: attest.SNPRules{KernelMeasured: []attest.ImageHash{image}},
	}
	listing := attest.HardwarePolicy(attest.ListedImages(image))
	listing.Platforms = []attest.PlatformID{{1}}
	for name, c := range map[string]struct {
		policy *attest.Policy
		kind   attest.Kind
		image  attest.ImageHash
		root   attest.KeyID
		err    error
	}{
		"nil":                 {nil, attest.TDX, image, attest.IntelRoot, attest.ErrRejectsAll},
		"zero":                {&attest.Policy{}, attest.TDX, image, attest.IntelRoot, attest.ErrRejectsAll},
		"open":                {attest.OpenPolicy(), attest.TDX, image, attest.IntelRoot, nil},
		"listed":              {hardware, attest.TDX, image, attest.IntelRoot, nil},
		"other image":         {hardware, attest.TDX, attest.ImageHash{8}, attest.IntelRoot, attest.ErrImage},
		"other root":          {hardware, attest.TDX, image, attest.KeyID{1}, attest.ErrRoot},
		"other kind":          {hardware, attest.Simulated, image, attest.KeyID{1}, attest.ErrKind},
		"none":                {hardware, attest.None, attest.ImageHash{}, zero, attest.ErrNoEvidence},
		"fake":                {hardware, attest.Fake, attest.FakeTDXImage, zero, attest.ErrKind},
		"none welcome":        {both, attest.None, attest.ImageHash{}, zero, nil},
		"fake welcome":        {both, attest.Fake, attest.FakeTDXImage, zero, nil},
		"no root named":       {snp, attest.SEVSNP, image, zero, nil},
		"kernel not measured": {snp, attest.SEVSNP, attest.ImageHash{8}, zero, attest.ErrKernel},
		"fake constant":       {snp, attest.SEVSNP, attest.FakeSEVImage, zero, attest.ErrImage},
		"zero as proven":      {snp, attest.SEVSNP, attest.ImageHash{}, zero, attest.ErrImage},
		"machine unnamed":     {listing, attest.TDX, image, attest.IntelRoot, attest.ErrPlatform},
	} {
		if err := c.policy.Admit(c.kind, c.image, c.root); !errors.Is(err, c.err) {
			t.Errorf("%s: got %v, want %v", name, err, c.err)
		}
	}
}

// TestAdmitResult judges what another policy has let pass.
func TestAdmitResult(t *testing.T) {
	image := attest.ImageHash{7}
	policy := func(more func(*attest.Policy)) *attest.Policy {
		p := attest.HardwarePolicy(attest.ListedImages(image))
		more(p)
		return p
	}
	plain := policy(func(*attest.Policy) {})
	result := func(more func(*attest.Result)) *attest.Result {
		r := &attest.Result{Kind: attest.TDX, ImageHash: image, RootKeyID: attest.IntelRoot, Status: dcap.UpToDate, Platform: attest.PlatformID{1}}
		more(r)
		return r
	}
	good := result(func(*attest.Result) {})
	for name, c := range map[string]struct {
		policy *attest.Policy
		res    *attest.Result
		err    error
	}{
		"nil policy":          {nil, good, attest.ErrRejectsAll},
		"zero policy":         {&attest.Policy{}, good, attest.ErrRejectsAll},
		"good":                {plain, good, nil},
		"open":                {attest.OpenPolicy(), good, nil},
		"other kind":          {plain, result(func(r *attest.Result) { r.Kind = attest.Simulated }), attest.ErrKind},
		"other image":         {plain, result(func(r *attest.Result) { r.ImageHash[0]++ }), attest.ErrImage},
		"out of date":         {plain, result(func(r *attest.Result) { r.Status = dcap.OutOfDate }), attest.ErrStatus},
		"out of date, listed": {policy(func(p *attest.Policy) { p.Statuses = []dcap.Status{dcap.OutOfDate} }), result(func(r *attest.Result) { r.Status = dcap.OutOfDate }), nil},
		"revoked, listed":     {policy(func(p *attest.Policy) { p.Statuses = []dcap.Status{dcap.Revoked} }), result(func(r *attest.Result) { r.Status = dcap.Revoked }), attest.ErrStatus},
		"machine listed":      {policy(func(p *attest.Policy) { p.Platforms = []attest.PlatformID{{1}} }), good, nil},
		"other machine":       {policy(func(p *attest.Policy) { p.Platforms = []attest.PlatformID{{2}} }), good, attest.ErrPlatform},
		"nothing shown":       {&attest.Policy{Kinds: []attest.Kind{attest.None}}, &attest.Result{Kind: attest.None}, nil},
	} {
		if err := c.policy.AdmitResult(c.res); !errors.Is(err, c.err) {
			t.Errorf("%s: got %v, want %v", name, err, c.err)
		}
	}
}

// TestSEVImageHash holds the vectors of spec changes-2026-04 14.2 and 15.2.
func TestSEVImageHash(t *testing.T) {
	var m [48]byte
	if got := attest.SEVImageHash(m); got != attest.FakeSEVImage {
		t.Errorf("of zeros: %s", got)
	}
	for i := range m {
		m[i] = byte(i)
	}
	if got := attest.SEVImageHash(m).String(); got != "1dd9a650e70069ddbce302ea9097f696e7bba6127938463ac528746e436e020f" {
		t.Errorf("got %s", got)
	}
}
