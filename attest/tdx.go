package attest

import (
	"cmp"
	"crypto/sha256"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/cocoon-network/cocoon/attest/dcap"
)

// appraiseTDX judges a TDX quote. Parsing and signatures must hold before
// anything in the quote means something; after that every factor is judged.
func appraiseTDX(c *card, ev Evidence, want ReportData, end *Endorsements, policy *Policy, now time.Time) (*Result, error) {
	q, err := dcap.Parse(ev.Quote)
	if err == nil && q.TD == nil {
		err = fmt.Errorf("%w: a quote of an SGX enclave, not of a TDX guest", dcap.ErrFormat)
	}
	if err != nil {
		return nil, c.stop("format", err)
	}
	c.pass("format", fmt.Sprintf("TDX quote, version %d, body type %d", q.Header.Version, q.BodyType))

	chain, err := appraiseChain(c, q, policy.Roots, now)
	if err != nil {
		return nil, err
	}
	processor, err := dcap.ParseProcessor(chain.Leaf)
	if err != nil {
		return nil, c.stop("certificate chain", err)
	}
	machine := processor.PlatformID()
	root := KeyID(chain.RootKeyID())
	res := &Result{
		Kind:         KindOf(root),
		Format:       FormatTDX,
		Measurements: tdMeasurements(q.TD),
		ReportData:   q.TD.ReportData,
		RootKeyID:    root,
		Platform:     platformID(FormatTDX, machine[:]),
		Expires:      chain.Expires(),
	}
	res.ImageHash = TDXImageHash(res.Measurements)
	judge(c, res, want, policy)
	judgeIntel(c, q, chain, res, end, policy, now)
	judgeTD(c, q, &policy.TDX)
	return res, nil
}

// appraiseChain checks a quote's certificates and signatures, from a trusted
// root down to the quote's body.
func appraiseChain(c *card, q *dcap.Quote, roots []KeyID, now time.Time) (*dcap.Chain, error) {
	chain, err := dcap.ParseChain(q.Chain)
	if err != nil {
		return nil, c.stop("certificate chain", err)
	}
	if root := KeyID(chain.RootKeyID()); root == (KeyID{}) || !slices.Contains(roots, root) {
		return nil, c.stop("root key", fmt.Errorf("%w: %s", ErrRoot, root))
	} else {
		c.pass("root key", fmt.Sprintf("%s %s", KindOf(root), root))
	}
	if err := chain.Verify(now); err != nil {
		return nil, c.stop("certificate chain", err)
	}
	c.pass("certificate chain", "valid until "+chain.Expires().UTC().Format(time.DateOnly))
	if err := q.VerifyQE(chain.Leaf); err != nil {
		return nil, c.stop("quoting enclave", err)
	}
	c.pass("quoting enclave", "signed by the processor's certified key")
	if err := q.VerifySignature(); err != nil {
		return nil, c.stop("quote signature", err)
	}
	c.pass("quote signature", "signed by the quoting enclave's key")
	return chain, nil
}

// judgeIntel holds the platform against the vendor's statements.
func judgeIntel(c *card, q *dcap.Quote, chain *dcap.Chain, res *Result, end *Endorsements, policy *Policy, now time.Time) {
	if end == nil || end.Intel == nil {
		if res.Kind.Real() || policy.MinEvaluation > 0 || policy.MaxAge > 0 {
			c.stop("collateral", ErrEndorsements)
		} else {
			c.skip("collateral", "none at hand; a simulated platform has no patch level")
		}
		return
	}
	a, err := q.Appraise(chain, end.Intel, now)
	if err != nil {
		c.stop("collateral", err)
		return
	}
	c.pass("collateral", "signed under the same root, nothing revoked, valid until "+a.Expires.UTC().Format(time.DateTime))
	res.Status, res.Advisories = a.Status, a.Advisories
	parts := fmt.Sprintf("%s (platform %s, module %s, quoting enclave %s) %v", a.Status, a.Platform, cmp.Or(a.Module, "not judged apart"), a.QE, a.Advisories)
	c.check("patch level", policy.patched(a.Status), fmt.Errorf("%w: %s", ErrStatus, parts), parts)
	c.check("evaluation number", a.EvaluationNumber >= policy.MinEvaluation, fmt.Errorf("%w: number %d, at least %d", ErrEvaluation, a.EvaluationNumber, policy.MinEvaluation), strconv.Itoa(a.EvaluationNumber))
	judgeAge(c, a.Issued, policy, now)
	res.Expires = a.Expires
	if policy.MaxAge > 0 && a.Issued.Add(policy.MaxAge).Before(res.Expires) {
		res.Expires = a.Issued.Add(policy.MaxAge)
	}
}

func judgeAge(c *card, issued time.Time, policy *Policy, now time.Time) {
	age := now.Sub(issued).Round(time.Second)
	c.check("collateral age", policy.MaxAge <= 0 || age <= policy.MaxAge, fmt.Errorf("%w: %s old, at most %s", ErrEvaluation, age, policy.MaxAge), age.String())
}

// judgeTD checks what the image hash does not cover (spec attestation 3.6).
func judgeTD(c *card, q *dcap.Quote, rules *TDXRules) {
	td := q.TD
	attributes := fmt.Sprintf("attributes %016x", td.Attributes)
	c.check("debug off", td.Attributes&dcap.TDDebug == 0, ErrDebug, attributes)
	c.check("not migratable", td.Attributes&dcap.TDMigratable == 0, ErrMigratable, attributes)
	allowed := dcap.TDSeptVEDisable | tdPKS | rules.Attributes | dcap.TDDebug | dcap.TDMigratable // the last two were judged
	c.check("attributes", td.Attributes&^allowed == 0 && td.Attributes&dcap.TDSeptVEDisable != 0, fmt.Errorf("%w: %s", ErrAttributes, attributes), attributes)
	features := cmp.Or(rules.XFAM, DefaultXFAM)
	c.check("processor features", td.XFAM&^features == 0, fmt.Errorf("%w: %#x, accepted are %#x", ErrXFAM, td.XFAM, features), fmt.Sprintf("%#x", td.XFAM))
	c.check("TDX module", td.SEAMAttributes == 0 && td.MRSignerSEAM == [48]byte{}, ErrModule, "the vendor's, production")
	c.check("TDX module version", len(rules.Modules) == 0 || slices.Contains(rules.Modules, td.MRSEAM), fmt.Errorf("%w: %x", ErrMRSEAM, td.MRSEAM), fmt.Sprintf("%x", td.MRSEAM))
	if q.TD15 != nil {
		service := q.TD15.MRServiceTD
		c.check("service TD", service == [48]byte{} || slices.Contains(rules.ServiceTDs, service), fmt.Errorf("%w: %x", ErrServiceTD, service), fmt.Sprintf("%x", service))
	}
}

// tdMeasurements lists the registers of an image hash in its order.
func tdMeasurements(td *dcap.TDReport) []Measurement {
	return []Measurement{
		{"MRTD", td.MRTD[:]},
		{"MRCONFIGID", td.MRConfigID[:]},
		{"MROWNER", td.MROwner[:]},
		{"MROWNERCONFIG", td.MROwnerConfig[:]},
		{"RTMR0", td.RTMR[0][:]},
		{"RTMR1", td.RTMR[1][:]},
		{"RTMR2", td.RTMR[2][:]},
		{"RTMR3", td.RTMR[3][:]},
	}
}

// TDXImageHash is SHA-256 over MRTD, MRCONFIGID, MROWNER, MROWNERCONFIG and
// RTMR0..3, 48 bytes each, and 64 zero bytes in the place of the report data
// (spec attestation 2.1).
func TDXImageHash(registers []Measurement) ImageHash {
	h := sha256.New()
	for _, m := range registers {
		h.Write(m.Value)
	}
	h.Write(make([]byte, 64))
	return ImageHash(h.Sum(nil))
}

// SEVImageHash is SHA-256 over the launch measurement and 64 zero bytes in the
// place of the report data (spec changes-2026-04 15.2).
func SEVImageHash(measurement [48]byte) ImageHash {
	return sha256.Sum256(append(measurement[:], make([]byte, 64)...))
}
