package attest

import (
	"errors"
	"fmt"
	"time"

	"github.com/cocoon-network/cocoon/attest/nvgpu"
)

// The reasons for refusing GPU evidence besides nvgpu's own.
var (
	ErrNoGPU     = errors.New("the policy demands GPU evidence, and the statement names none")
	ErrGPUDigest = errors.New("the GPU evidence is not what the statement names")
)

// VerifyGPUs appraises the evidence of a node's GPUs: set as nvgpu.Set encodes
// it, which must have the digest that the node's statement names and answer
// nonce. What is accepted is policy.GPU; where that is nil, evidence is only
// held against the digest. It returns when a device's certificate runs out;
// zero where none was judged. Every error is a *RefusedError.
//
// Nothing here says whether a GPU stands in the guest that shows it: the
// guest's image does, which asks its own (docs/threat-model.md).
func VerifyGPUs(set []byte, digest, nonce [32]byte, policy *Policy, now time.Time) (factors []Factor, expires time.Time, err error) {
	c := &card{}
	demanded := policy != nil && policy.GPU != nil
	switch {
	case len(set) == 0 && digest == [32]byte{} && !demanded:
		c.skip("GPU evidence", "none shown, none demanded")
		return c.factors, expires, nil
	case len(set) == 0 && digest == [32]byte{}:
		err = c.stop("GPU evidence", ErrNoGPU)
	case nvgpu.Digest(set) != digest:
		err = c.stop("GPU evidence", ErrGPUDigest)
	case !demanded:
		c.skip("GPU evidence", fmt.Sprintf("%d bytes with the digest of the statement, not judged: the policy pins no GPU", len(set)))
		return c.factors, expires, nil
	}
	if err != nil {
		return nil, expires, &RefusedError{Err: err, Factors: c.factors}
	}
	c.pass("GPU evidence", fmt.Sprintf("%d bytes with the digest of the statement", len(set)))
	evidence, err := nvgpu.ParseSet(set)
	var all []*nvgpu.Result
	if err == nil {
		all, err = nvgpu.VerifySet(evidence, nonce, policy.GPU, now)
	}
	if err != nil {
		return nil, expires, &RefusedError{Err: c.stop("GPU", err), Factors: c.factors}
	}
	for i, res := range all {
		name := fmt.Sprintf("GPU %d ", i+1)
		c.pass(name+"certificates", fmt.Sprintf("%s, chain to the pinned root %x…", res.Device, res.Root[:4]))
		c.pass(name+"signature", fmt.Sprintf("device key %x… signed the report", res.Key[:4]))
		c.pass(name+"nonce", "answers this statement")
		c.pass(name+"measurements", fmt.Sprintf("driver %s, VBIOS %s: %d values pinned, %d ignored", res.Report.DriverVersion, res.Report.VBIOSVersion, len(res.Reference.Values), len(res.Reference.Ignored)))
		if expires.IsZero() || res.Expires.Before(expires) {
			expires = res.Expires
		}
	}
	return c.factors, expires, nil
}
