package attest

import (
	"crypto/sha256"
	"fmt"
	"time"

	"github.com/cocoon-network/cocoon/attest/dcap"
)

// appraiseTDX judges a TDX quote. Parsing and signatures must hold before
// anything in the quote means something; after that every factor is judged.
func appraiseTDX(c *card, ev Evidence, want ReportData, policy *Policy, now time.Time) (*Result, error) {
	q, err := dcap.Parse(ev.Quote)
	if err == nil && q.TD == nil {
		err = fmt.Errorf("%w: a quote of an SGX enclave, not of a TDX guest", dcap.ErrFormat)
	}
	if err != nil {
		return nil, c.stop("format", err)
	}
	c.pass("format", fmt.Sprintf("TDX quote, version %d, body type %d", q.Header.Version, q.BodyType))

	chain, err := dcap.ParseChain(q.Chain)
	if err != nil {
		return nil, c.stop("certificate chain", err)
	}
	root := KeyID(chain.RootKeyID())
	if !policy.trusts(root) {
		return nil, c.stop("root key", fmt.Errorf("%w: %s", ErrRoot, root))
	}
	c.pass("root key", fmt.Sprintf("%s %s", KindOf(root), root))
	if err := chain.Verify(now); err != nil {
		return nil, c.stop("certificate chain", err)
	}
	c.pass("certificate chain", fmt.Sprintf("valid until %s", chain.Expires().UTC().Format(time.DateOnly)))
	if err := q.VerifyQE(chain.Leaf); err != nil {
		return nil, c.stop("quoting enclave", err)
	}
	c.pass("quoting enclave", "signed by the processor's certified key")
	if err := q.VerifySignature(); err != nil {
		return nil, c.stop("quote signature", err)
	}
	c.pass("quote signature", "signed by the quoting enclave's key")

	res := &Result{
		Kind:         KindOf(root),
		Format:       FormatTDX,
		Measurements: tdMeasurements(q.TD),
		ReportData:   q.TD.ReportData,
		RootKeyID:    root,
		Expires:      chain.Expires(),
	}
	res.ImageHash = TDXImageHash(res.Measurements)
	judge(c, res, want, policy)
	judgeTD(c, q)
	return res, nil
}

// judgeTD checks what the image hash does not cover (spec attestation 3.6).
func judgeTD(c *card, q *dcap.Quote) {
	td := q.TD
	c.check("debug off", td.Attributes&dcap.TDDebug == 0, ErrDebug, fmt.Sprintf("attributes %016x", td.Attributes))
	c.check("not migratable", td.Attributes&dcap.TDMigratable == 0, ErrMigratable, fmt.Sprintf("attributes %016x", td.Attributes))
	c.check("TDX module", td.SEAMAttributes == 0 && td.MRSignerSEAM == [48]byte{}, ErrModule, "Intel's, production")
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
