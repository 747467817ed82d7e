package attest

import (
	"fmt"
	"slices"
	"time"

	"github.com/cocoon-network/cocoon/attest/sevsnp"
)

// appraiseSNP judges an SEV-SNP report. Its chain is not part of the evidence,
// so endorsements are needed whatever the root.
func appraiseSNP(c *card, ev Evidence, want ReportData, end *Endorsements, policy *Policy, now time.Time) (*Result, error) {
	r, err := sevsnp.Parse(ev.Quote)
	if err != nil {
		return nil, c.stop("format", err)
	}
	c.pass("format", fmt.Sprintf("SEV-SNP report, version %d", r.Version))
	signer, err := sevsnp.ParseSigner(ev.Certificate)
	if err != nil {
		return nil, c.stop("certificate chain", err)
	}
	if end == nil || end.AMD == nil {
		return nil, c.stop("collateral", ErrEndorsements)
	}
	chain, err := sevsnp.NewChain(signer, end.AMD)
	if err != nil {
		return nil, c.stop("collateral", err)
	}
	root := KeyID(chain.RootKeyID())
	if !policy.trusts(root) {
		return nil, c.stop("root key", fmt.Errorf("%w: %s", ErrRoot, root))
	}
	c.pass("root key", fmt.Sprintf("%s %s", KindOf(root), root))
	if err := chain.Verify(now); err != nil {
		return nil, c.stop("certificate chain", err)
	}
	c.pass("certificate chain", fmt.Sprintf("%s, nothing revoked, valid until %s", signer.Product, chain.Expires().UTC().Format(time.DateTime)))
	if err := signer.VerifyReport(r); err != nil {
		return nil, c.stop("report signature", err)
	}
	c.pass("report signature", "signed by the processor's certified key")

	res := &Result{
		Kind:         KindOf(root),
		Format:       FormatSEVSNP,
		ImageHash:    SEVImageHash(r.Measurement),
		Measurements: []Measurement{{"MEASUREMENT", slices.Clone(r.Measurement[:])}},
		ReportData:   r.ReportData,
		RootKeyID:    root,
		Expires:      chain.Expires(),
	}
	if r.ChipID != [64]byte{} {
		res.Platform = platformID(FormatSEVSNP, r.ChipID[:])
	}
	if policy.MaxAge > 0 && chain.Issued().Add(policy.MaxAge).Before(res.Expires) {
		res.Expires = chain.Issued().Add(policy.MaxAge)
	}
	judge(c, res, want, policy)
	judgeSNP(c, r, signer, res, &policy.SNP)
	judgeAge(c, chain.Issued(), policy, now)
	return res, nil
}

// judgeSNP checks what the image hash does not cover.
func judgeSNP(c *card, r *sevsnp.Report, signer *sevsnp.Signer, res *Result, rules *SNPRules) {
	c.check("kernel measured", slices.Contains(rules.KernelMeasured, res.ImageHash), fmt.Errorf("%w: %s", ErrKernel, res.ImageHash), "listed as an image that measures kernel, initrd and command line")
	policy := fmt.Sprintf("policy %#x", r.Policy)
	c.check("debug off", r.Policy&sevsnp.PolicyDebug == 0, ErrDebug, policy)
	c.check("not migratable", r.Policy&sevsnp.PolicyMigrate == 0, ErrMigratable, policy)
	required := rules.RequirePolicy | sevsnp.PolicyReserved
	c.check("launch policy", r.Policy&required == required && r.Policy&rules.ForbidPolicy == 0, fmt.Errorf("%w: %s", ErrGuestPolicy, policy), policy)
	c.check("privilege level", r.VMPL == 0, fmt.Errorf("%w: VMPL %d", ErrVMPL, r.VMPL), "VMPL 0")
	c.check("patch level", rules.MinTCB != (sevsnp.TCB{}) && signer.TCB.Reaches(rules.MinTCB), fmt.Errorf("%w: have %v; need %v", ErrMinimumTCB, signer.TCB, rules.MinTCB), signer.TCB.String())
}
