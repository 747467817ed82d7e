package attest

import (
	"bytes"
)

// Sizes of fake evidence (spec attestation 1.3, changes-2026-04 14.3, 15.1):
// the report data alone, the April record of a router, and a report that is
// zero but for its report data.
const (
	fakeTDXDecember = 64
	fakeTDXApril    = 384 + 64 + 48
	sevReportSize   = 1184
	sevReportData   = 80
)

// isFake reports whether ev has the shape of fake evidence, which no genuine
// evidence has.
func (ev Evidence) isFake() bool {
	_, ok := ev.fakeReportData()
	return ok
}

// fakeReportData returns the report data of fake evidence.
func (ev Evidence) fakeReportData() (data ReportData, ok bool) {
	q := ev.Quote
	switch {
	case ev.Format == FormatTDX && len(q) == fakeTDXDecember:
		copy(data[:], q)
		return data, true
	case ev.Format == FormatTDX && len(q) == fakeTDXApril:
		copy(data[:], q[384:])
		return data, allZero(q[:384]) && allZero(q[448:])
	case ev.Format == FormatSEVSNP && len(q) == sevReportSize:
		copy(data[:], q[sevReportData:])
		return data, allZero(q[:sevReportData]) && allZero(q[sevReportData+64:])
	}
	return data, false
}

// FakeEvidence is evidence in the December fake form: the report data and
// nothing else. It proves nothing to anybody.
func FakeEvidence(data ReportData) Evidence {
	return Evidence{Format: FormatTDX, Quote: bytes.Clone(data[:])}
}

func appraiseFake(c *card, ev Evidence, want ReportData, policy *Policy) (*Result, error) {
	data, _ := ev.fakeReportData()
	res := &Result{Kind: Fake, Format: ev.Format, ImageHash: FakeTDXImage, ReportData: data}
	if ev.Format == FormatSEVSNP {
		res.ImageHash = FakeSEVImage
	}
	c.check("kind", policy.Accepts(Fake), ErrKind, "fake: proves nothing")
	c.check("report data", data == want, ErrReportData, "binds what was asked for")
	return res, nil
}

func allZero(b []byte) bool {
	for _, x := range b {
		if x != 0 {
			return false
		}
	}
	return true
}
