//go:build !tee

package dcap_test

import (
	"bytes"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/cocoon-network/cocoon/attest/dcap"
	"github.com/cocoon-network/cocoon/internal/tee/simulated"
)

var now = time.Date(2026, 4, 1, 12, 0, 0, 0, time.UTC)

// platform is a verified quote with its vendor.
func platform(t testing.TB) (*simulated.Vendor, *dcap.Quote, *dcap.Chain) {
	t.Helper()
	v, err := simulated.New(make([]byte, simulated.SeedSize))
	if err != nil {
		t.Fatal(err)
	}
	g, err := v.NewGuest(simulated.GuestConfig{})
	if err != nil {
		t.Fatal(err)
	}
	q, err := g.Quote([64]byte{1})
	if err != nil {
		t.Fatal(err)
	}
	chain, err := dcap.ParseChain(q.Chain)
	if err != nil {
		t.Fatal(err)
	}
	return v, q, chain
}

// TestMergedStatus: the worst of platform, module and quoting enclave.
func TestMergedStatus(t *testing.T) {
	v, q, chain := platform(t)
	for _, c := range []struct{ platform, module, qe, want dcap.Status }{
		{dcap.UpToDate, dcap.UpToDate, dcap.UpToDate, dcap.UpToDate},
		{dcap.UpToDate, dcap.OutOfDate, dcap.UpToDate, dcap.OutOfDate},
		{dcap.UpToDate, dcap.UpToDate, dcap.OutOfDate, dcap.OutOfDate},
		{dcap.SWHardeningNeeded, dcap.UpToDate, dcap.UpToDate, dcap.SWHardeningNeeded},
		{dcap.SWHardeningNeeded, dcap.OutOfDate, dcap.UpToDate, dcap.OutOfDate},
		{dcap.ConfigurationNeeded, dcap.UpToDate, dcap.UpToDate, dcap.ConfigurationNeeded},
		{dcap.ConfigurationNeeded, dcap.UpToDate, dcap.OutOfDate, dcap.OutOfDateConfigurationNeeded},
		{dcap.ConfigurationAndSWHardening, dcap.OutOfDate, dcap.UpToDate, dcap.OutOfDateConfigurationNeeded},
		{dcap.OutOfDateConfigurationNeeded, dcap.OutOfDate, dcap.OutOfDate, dcap.OutOfDateConfigurationNeeded},
		{dcap.OutOfDate, dcap.UpToDate, dcap.UpToDate, dcap.OutOfDate},
		{dcap.Revoked, dcap.OutOfDate, dcap.UpToDate, dcap.Revoked},
		{dcap.UpToDate, dcap.Revoked, dcap.UpToDate, dcap.Revoked},
		{dcap.ConfigurationNeeded, dcap.OutOfDate, dcap.Revoked, dcap.Revoked},
	} {
		collateral, err := v.Collateral(simulated.Statements{At: now, Platform: c.platform, Module: c.module, QE: c.qe, Evaluation: 21})
		if err != nil {
			t.Fatal(err)
		}
		a, err := q.Appraise(chain, collateral, now)
		if err != nil {
			t.Fatal(err)
		}
		if a.Status != c.want || a.Platform != c.platform || a.Module != c.module || a.QE != c.qe || a.EvaluationNumber != 21 {
			t.Errorf("%s, %s, %s: %+v, want %s", c.platform, c.module, c.qe, a, c.want)
		}
		if bad := c.platform != dcap.UpToDate; bad != (len(a.Advisories) > 0) {
			t.Errorf("%s: advisories %v", c.platform, a.Advisories)
		}
	}
}

func TestProcessor(t *testing.T) {
	_, _, chain := platform(t)
	p, err := dcap.ParseProcessor(chain.Leaf)
	if err != nil {
		t.Fatal(err)
	}
	if p.PCESVN != 13 || p.TCB != [16]byte{3, 3, 2, 2, 4, 1, 0, 5} || p.FMSPC == [6]byte{} || p.PlatformID() != p.InstanceID || p.InstanceID == p.PPID {
		t.Errorf("%+v", p)
	}
	p.InstanceID = [16]byte{}
	if p.PlatformID() != p.PPID {
		t.Error("without an instance id the PPID does not name the platform")
	}
	if _, err := dcap.ParseProcessor(chain.Root); !errors.Is(err, dcap.ErrPCK) {
		t.Errorf("root: %v", err)
	}
}

func FuzzProcessor(f *testing.F) {
	_, _, chain := platform(f)
	oid := asn1.ObjectIdentifier{1, 2, 840, 113741, 1, 13, 1}
	for _, x := range chain.Leaf.Extensions {
		if x.Id.Equal(oid) {
			f.Add(x.Value)
		}
	}
	f.Add([]byte{0x30, 0})
	f.Fuzz(func(t *testing.T, der []byte) {
		p, err := dcap.ParseProcessor(&x509.Certificate{Extensions: []pkix.Extension{{Id: oid, Value: der}}})
		if (p == nil) == (err == nil) || err != nil && !errors.Is(err, dcap.ErrPCK) {
			t.Fatalf("%v, %v", p, err)
		}
	})
}

// FuzzCollateral: whatever is changed in collateral, it is refused, or what
// the vendor signed is unchanged.
func FuzzCollateral(f *testing.F) {
	v, q, chain := platform(f)
	good, err := v.Collateral(simulated.Statements{At: now})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good.TCBInfo, good.QEIdentity, good.PCKCRL, good.RootCRL)
	f.Add(good.QEIdentity, good.TCBInfo, good.RootCRL, good.PCKCRL)
	f.Add([]byte("{}"), []byte(`{"enclaveIdentity":null,"signature":"00"}`), []byte{0x30, 0}, []byte{})
	inner := func(t *testing.T, answer []byte, name string) json.RawMessage {
		var m map[string]json.RawMessage
		if err := json.Unmarshal(answer, &m); err != nil {
			t.Fatal(err)
		}
		return m[name]
	}
	f.Fuzz(func(t *testing.T, tcb, qe, pckCRL, rootCRL []byte) {
		c := *good
		c.TCBInfo, c.QEIdentity, c.PCKCRL, c.RootCRL = tcb, qe, pckCRL, rootCRL
		if _, err := q.Appraise(chain, &c, now); err != nil {
			return
		}
		if !bytes.Equal(inner(t, tcb, "tcbInfo"), inner(t, good.TCBInfo, "tcbInfo")) ||
			!bytes.Equal(inner(t, qe, "enclaveIdentity"), inner(t, good.QEIdentity, "enclaveIdentity")) ||
			!bytes.Equal(pckCRL, good.PCKCRL) || !bytes.Equal(rootCRL, good.RootCRL) {
			t.Fatal("changed collateral was accepted")
		}
	})
}
