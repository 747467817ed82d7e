package attest

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/cocoon-network/cocoon/attest/dcap"
	"github.com/cocoon-network/cocoon/attest/sevsnp"
)

// Result is what appraisal found. It exists only for accepted evidence.
type Result struct {
	Kind   Kind
	Format Format
	// ImageHash is zero for None and FakeTDXImage or FakeSEVImage for Fake.
	ImageHash ImageHash
	// Measurements are the fields the image hash covers, in its order; nil
	// without evidence.
	Measurements []Measurement
	ReportData   ReportData
	// RootKeyID is the vendor's root key; zero for None and Fake.
	RootKeyID KeyID
	// Platform names the machine; zero where nothing certified names it.
	Platform PlatformID
	// Status is the platform's patch level and Advisories what the vendor says
	// about it; empty where no such statement was at hand.
	Status     dcap.Status
	Advisories []string
	// Expires is when the result must not be used any more: something it
	// rests on runs out. Zero for None and Fake.
	Expires time.Time
	// Factors are the checks made, in order.
	Factors []Factor
}

// Measurement is one named register of a guest.
type Measurement struct {
	Name  string
	Value []byte
}

// Outcome of a factor.
type Outcome string

// The outcomes.
const (
	Pass Outcome = "pass"
	Fail Outcome = "fail"
	Skip Outcome = "not checked"
)

// Factor is one line of the scorecard.
type Factor struct {
	Name     string  `json:"name"`
	Result   Outcome `json:"result"`
	Enforced bool    `json:"enforced"`
	Detail   string  `json:"detail"`
}

// RefusedError is every error of Verify: the first enforced factor that
// failed, and all factors that could still be judged.
type RefusedError struct {
	Err     error
	Factors []Factor
}

func (e *RefusedError) Error() string { return "evidence refused: " + e.Err.Error() }

// Unwrap returns the reason.
func (e *RefusedError) Unwrap() error { return e.Err }

// Endorsements are vendors' signed statements about their platforms. They may
// come from anywhere: only signatures and dates make them count. nil holds
// none.
type Endorsements struct {
	Intel *dcap.Collateral
	AMD   *sevsnp.Collateral
}

// Verify appraises ev, which must bind want, under policy at the given time.
// Every error is a *RefusedError.
func Verify(ev Evidence, want ReportData, end *Endorsements, policy *Policy, now time.Time) (*Result, error) {
	c := &card{}
	return c.close(appraise(c, ev, want, end, policy, now))
}

// appraise fills the card. It returns an error only where nothing further can
// be judged; what the policy refuses stands on the card.
func appraise(c *card, ev Evidence, want ReportData, end *Endorsements, policy *Policy, now time.Time) (*Result, error) {
	if policy == nil || len(policy.Kinds) == 0 {
		return nil, c.stop("policy", ErrRejectsAll)
	}
	if err := policy.Validate(); err != nil {
		return nil, c.stop("policy", err)
	}
	if policy.Open() {
		c.skip("evidence", "the policy reads none")
		return &Result{Kind: None}, nil
	}
	switch {
	case ev.Format == FormatNone:
		if !policy.Accepts(None) {
			return nil, c.stop("evidence", ErrNoEvidence)
		}
		c.pass("evidence", "none presented, none needed")
		return &Result{Kind: None}, nil
	case ev.isFake():
		return appraiseFake(c, ev, want, policy)
	case ev.Format == FormatTDX:
		return appraiseTDX(c, ev, want, end, policy, now)
	case ev.Format == FormatSEVSNP:
		return appraiseSNP(c, ev, want, end, policy, now)
	}
	return nil, c.stop("evidence", fmt.Errorf("%w: format %d", ErrFormat, ev.Format))
}

// judge makes the checks that are the same for every kind of hardware.
func judge(c *card, res *Result, want ReportData, policy *Policy) {
	c.check("kind", policy.Accepts(res.Kind), fmt.Errorf("%w: %q", ErrKind, string(res.Kind)), string(res.Kind))
	c.check("report data", res.ReportData == want, ErrReportData, "binds what was asked for")
	c.check("platform", len(policy.Platforms) == 0 || slices.Contains(policy.Platforms, res.Platform), fmt.Errorf("%w: %s", ErrPlatform, res.Platform), res.Platform.String())
	c.check("image", policy.Images.Holds(res.ImageHash), fmt.Errorf("%w: %s", ErrImage, res.ImageHash), res.ImageHash.String())
}

// card collects factors; err is the first enforced failure.
type card struct {
	factors []Factor
	err     error
}

func (c *card) pass(name, detail string) {
	c.factors = append(c.factors, Factor{Name: name, Result: Pass, Enforced: true, Detail: detail})
}

func (c *card) skip(name, detail string) {
	c.factors = append(c.factors, Factor{Name: name, Result: Skip, Detail: detail})
}

// stop notes a failure after which nothing can be judged and returns it.
func (c *card) stop(name string, err error) error {
	c.factors = append(c.factors, Factor{Name: name, Result: Fail, Enforced: true, Detail: err.Error()})
	if c.err == nil {
		c.err = err
	}
	return c.err
}

// check notes an enforced factor: ok with detail, or err.
func (c *card) check(name string, ok bool, err error, detail string) {
	if ok {
		c.pass(name, detail)
	} else {
		c.stop(name, err)
	}
}

// close ends an appraisal: a result only if nothing enforced failed.
func (c *card) close(res *Result, err error) (*Result, error) {
	if err == nil {
		err = c.err
	}
	if err != nil {
		return nil, &RefusedError{Err: err, Factors: c.factors}
	}
	res.Factors = c.factors
	return res, nil
}

// Factors returns the scorecard of an error of Verify, nil for other errors.
func Factors(err error) []Factor {
	var r *RefusedError
	if errors.As(err, &r) {
		return r.Factors
	}
	return nil
}
