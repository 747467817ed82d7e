package attest

import (
	"fmt"
	"slices"
	"time"

	"github.com/cocoon-network/cocoon/attest/dcap"
)

// EnclavePolicy is the appraisal policy for SGX enclaves, which are never
// peers: the one that hands out sealed keys is (spec attestation 5). Its zero
// value refuses everything, and debug enclaves are refused under every policy.
type EnclavePolicy struct {
	// Roots, Statuses and MinEvaluation are as in Policy.
	Roots         []KeyID
	Statuses      []dcap.Status
	MinEvaluation int
	// MREnclaves are the enclaves accepted. Empty: none is.
	MREnclaves [][32]byte
	// MinISVSVN is the lowest security version accepted.
	MinISVSVN uint16
}

// VerifyEnclave appraises the quote of an SGX enclave, which must bind want.
// Every error is a *RefusedError.
func VerifyEnclave(quote []byte, want ReportData, end *Endorsements, policy *EnclavePolicy, now time.Time) (*Result, error) {
	c := &card{}
	return c.close(appraiseEnclave(c, quote, want, end, policy, now))
}

func appraiseEnclave(c *card, quote []byte, want ReportData, end *Endorsements, policy *EnclavePolicy, now time.Time) (*Result, error) {
	if policy == nil || len(policy.Roots) == 0 || len(policy.MREnclaves) == 0 {
		return nil, c.stop("policy", ErrRejectsAll)
	}
	q, err := dcap.Parse(quote)
	if err == nil && q.Enclave == nil {
		err = fmt.Errorf("%w: a quote of a TDX guest, not of an enclave", dcap.ErrFormat)
	}
	if err != nil {
		return nil, c.stop("format", err)
	}
	c.pass("format", fmt.Sprintf("SGX quote, version %d", q.Header.Version))
	chain, err := appraiseChain(c, q, policy.Roots, now)
	if err != nil {
		return nil, err
	}
	e := q.Enclave
	root := KeyID(chain.RootKeyID())
	res := &Result{
		Kind:         KindOf(root),
		Measurements: []Measurement{{"MRENCLAVE", slices.Clone(e.MREnclave[:])}},
		ReportData:   e.ReportData,
		RootKeyID:    root,
		Expires:      chain.Expires(),
	}
	c.check("report data", res.ReportData == want, ErrReportData, "binds what was asked for")
	c.check("debug off", e.Attributes[0]&dcap.EnclaveDebug == 0, ErrDebug, fmt.Sprintf("attributes %x", e.Attributes))
	c.check("enclave", slices.Contains(policy.MREnclaves, e.MREnclave) && e.ISVSVN >= policy.MinISVSVN, fmt.Errorf("%w: %x, version %d", ErrEnclave, e.MREnclave, e.ISVSVN), fmt.Sprintf("%x, version %d", e.MREnclave, e.ISVSVN))
	judgeIntel(c, q, chain, res, end, &Policy{Statuses: policy.Statuses, MinEvaluation: policy.MinEvaluation}, now)
	return res, nil
}
