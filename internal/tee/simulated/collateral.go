//go:build !tee

package simulated

import (
	"context"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"math/big"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/cocoon-network/cocoon/attest"
	"github.com/cocoon-network/cocoon/attest/dcap"
)

// Statements are what the vendor says about its platforms at a moment. The
// zero value, with At set, says that all is well.
type Statements struct {
	// At is when the statements are made; they are good for Lifetime.
	At time.Time
	// Platform, Module and QE are the statuses of what guests run. Empty: up
	// to date.
	Platform, Module, QE dcap.Status
	// Evaluation is the number of the evaluation. Zero: 17.
	Evaluation int
	// RevokedMachines, RevokePlatformCA and RevokeSigner are on the
	// revocation lists.
	RevokedMachines                []string
	RevokePlatformCA, RevokeSigner bool
	// CriticalList makes the lists speak of a part of the certificates only.
	CriticalList bool
	// Edit changes a statement before it is signed: name is "tcbInfo" or
	// "enclaveIdentity". nil changes nothing.
	Edit func(name string, doc map[string]any)
}

// Lifetime of statements and revocation lists.
const Lifetime = 30 * 24 * time.Hour

// Collateral makes the vendor's statements on TDX platforms.
func (v *Vendor) Collateral(s Statements) (*dcap.Collateral, error) {
	return v.collateral(s, "TDX", "TD_QE")
}

// EnclaveCollateral makes the vendor's statements on SGX platforms.
func (v *Vendor) EnclaveCollateral(s Statements) (*dcap.Collateral, error) {
	return v.collateral(s, "SGX", "QE")
}

func (v *Vendor) collateral(s Statements, tcbID, qeID string) (*dcap.Collateral, error) {
	c := &dcap.Collateral{}
	c.TCBInfoChain = pemChain(v.signer.cert, v.root.cert)
	c.QEIdentityChain = c.TCBInfoChain
	var err error
	if c.TCBInfo, err = v.sign("tcbInfo", s.tcbInfo(tcbID), s); err != nil {
		return nil, err
	}
	if c.QEIdentity, err = v.sign("enclaveIdentity", s.qeIdentity(qeID), s); err != nil {
		return nil, err
	}
	var serials []*big.Int
	for _, m := range s.RevokedMachines {
		serials = append(serials, v.serial("pck/"+m))
	}
	if c.PCKCRL, err = s.revocations(v.pckCA, serials); err != nil {
		return nil, err
	}
	serials = nil
	if s.RevokePlatformCA {
		serials = append(serials, v.pckCA.cert.SerialNumber)
	}
	if s.RevokeSigner {
		serials = append(serials, v.signer.cert.SerialNumber)
	}
	c.RootCRL, err = s.revocations(v.root, serials)
	return c, err
}

// Endorser makes fresh statements that all is well. It serves processes that
// share the vendor's seed; others fetch them from PCS and KDS.
type Endorser struct {
	Vendor *Vendor
	// Now is the clock. nil: time.Now.
	Now func() time.Time
}

// Endorsements makes statements on TDX evidence of this vendor.
func (e Endorser) Endorsements(_ context.Context, ev attest.Evidence) (*attest.Endorsements, error) {
	if ev.Format != attest.FormatTDX {
		return nil, fmt.Errorf("simulated: no statements on evidence of format %q", ev.Format)
	}
	now := e.Now
	if now == nil {
		now = time.Now
	}
	c, err := e.Vendor.Collateral(Statements{At: now().Add(-time.Hour)})
	if err != nil {
		return nil, err
	}
	return &attest.Endorsements{Intel: c}, nil
}

// dated adds what all statements have.
func (s Statements) dated(doc map[string]any) map[string]any {
	maps.Copy(doc, map[string]any{
		"issueDate":               s.At.UTC().Format(time.RFC3339),
		"nextUpdate":              s.At.Add(Lifetime).UTC().Format(time.RFC3339),
		"tcbEvaluationDataNumber": s.evaluation(),
	})
	return doc
}

func (s Statements) evaluation() int {
	if s.Evaluation == 0 {
		return 17
	}
	return s.Evaluation
}

func orUpToDate(s dcap.Status) dcap.Status {
	if s == "" {
		return dcap.UpToDate
	}
	return s
}

// tcbInfo lists two levels: what guests run, and anything older.
func (s Statements) tcbInfo(id string) map[string]any {
	level := func(sgx, tdx [16]byte, pce int, status dcap.Status) map[string]any {
		tcb := map[string]any{"sgxtcbcomponents": components(sgx), "pcesvn": pce}
		if id == "TDX" {
			tcb["tdxtcbcomponents"] = components(tdx)
		}
		l := map[string]any{"tcb": tcb, "tcbDate": s.At.UTC().Format(time.RFC3339), "tcbStatus": status}
		if status != dcap.UpToDate {
			l["advisoryIDs"] = []string{"SIMULATED-SA-00001"}
		}
		return l
	}
	doc := s.dated(map[string]any{
		"id":        id,
		"version":   3,
		"fmspc":     strings.ToUpper(hex.EncodeToString(fmspc[:])), // as PCS answers
		"pceId":     "0000",
		"tcbType":   0,
		"tcbLevels": []any{level(sgxTCB, teeTCB, pceSVN, orUpToDate(s.Platform)), level([16]byte{}, [16]byte{}, 0, dcap.OutOfDate)},
	})
	if id == "TDX" {
		module := func() map[string]any {
			return map[string]any{
				"mrsigner":       strings.Repeat("00", 48),
				"attributes":     strings.Repeat("00", 8),
				"attributesMask": strings.Repeat("FF", 8),
			}
		}
		doc["tdxModule"] = module()
		versioned := module()
		versioned["id"] = fmt.Sprintf("TDX_%02X", teeTCB[1])
		versioned["tcbLevels"] = isvLevels(int(teeTCB[0]), orUpToDate(s.Module))
		doc["tdxModuleIdentities"] = []any{versioned}
	}
	return doc
}

func (s Statements) qeIdentity(id string) map[string]any {
	return s.dated(map[string]any{
		"id":             id,
		"version":        2,
		"miscselect":     "00000000",
		"miscselectMask": "FFFFFFFF",
		"attributes":     "11000000000000000000000000000000", // under the mask
		"attributesMask": "FBFFFFFFFFFFFFFF0000000000000000",
		"mrsigner":       hex.EncodeToString(qeSigner[:]),
		"isvprodid":      qeProdID,
		"tcbLevels":      isvLevels(int(qeSVN), orUpToDate(s.QE)),
	})
}

func components(svn [16]byte) (list []map[string]any) {
	for _, n := range svn {
		list = append(list, map[string]any{"svn": n})
	}
	return list
}

func isvLevels(svn int, status dcap.Status) []map[string]any {
	return []map[string]any{
		{"tcb": map[string]any{"isvsvn": svn}, "tcbStatus": status},
		{"tcb": map[string]any{"isvsvn": 1}, "tcbStatus": dcap.OutOfDate},
	}
}

// sign makes the body of an answer: the signature covers the bytes of doc.
func (v *Vendor) sign(name string, doc map[string]any, s Statements) ([]byte, error) {
	if s.Edit != nil {
		s.Edit(name, doc)
	}
	body, err := json.Marshal(doc)
	if err != nil {
		return nil, fmt.Errorf("simulated: %s: %w", name, err)
	}
	sig, err := signRaw(v.signer.key, body)
	if err != nil {
		return nil, err
	}
	return fmt.Appendf(nil, `{"%s":%s,"signature":"%x"}`, name, body, sig), nil
}

func (s Statements) revocations(issuer authority, serials []*big.Int) ([]byte, error) {
	t := &x509.RevocationList{Number: big.NewInt(s.At.Unix()), ThisUpdate: s.At, NextUpdate: s.At.Add(Lifetime), SignatureAlgorithm: x509.ECDSAWithSHA256}
	for _, n := range serials {
		t.RevokedCertificateEntries = append(t.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: n, RevocationTime: s.At})
	}
	if s.CriticalList { // an issuing distribution point for attribute certificates only
		t.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 28}, Critical: true, Value: []byte{0x30, 3, 0x85, 1, 0xff}}}
	}
	der, err := x509.CreateRevocationList(nil, t, issuer.cert, deterministic{issuer.key})
	if err != nil {
		return nil, fmt.Errorf("simulated: revocation list: %w", err)
	}
	return der, nil
}

// PCS serves the vendor's statements as Intel's service does (version 4):
// statements is asked anew for each request.
func (v *Vendor) PCS(statements func() Statements) http.Handler {
	mux := http.NewServeMux()
	serve := func(pattern, chainHeader string, get func(r *http.Request) (body, chain []byte, err error)) {
		mux.HandleFunc("GET "+pattern, func(w http.ResponseWriter, r *http.Request) {
			body, chain, err := get(r)
			switch {
			case err != nil:
				http.Error(w, err.Error(), http.StatusInternalServerError)
			case body == nil:
				http.NotFound(w, r)
			default:
				if chainHeader != "" {
					w.Header().Set(chainHeader, escape(chain))
				}
				w.Write(body)
			}
		})
	}
	ours := hex.EncodeToString(fmspc[:])
	for family, make := range map[string]func(Statements) (*dcap.Collateral, error){"tdx": v.Collateral, "sgx": v.EnclaveCollateral} {
		serve("/"+family+"/certification/v4/tcb", "TCB-Info-Issuer-Chain", func(r *http.Request) ([]byte, []byte, error) {
			if !strings.EqualFold(r.FormValue("fmspc"), ours) {
				return nil, nil, nil
			}
			c, err := make(statements())
			if err != nil {
				return nil, nil, err
			}
			return c.TCBInfo, c.TCBInfoChain, nil
		})
		serve("/"+family+"/certification/v4/qe/identity", "SGX-Enclave-Identity-Issuer-Chain", func(*http.Request) ([]byte, []byte, error) {
			c, err := make(statements())
			if err != nil {
				return nil, nil, err
			}
			return c.QEIdentity, c.QEIdentityChain, nil
		})
	}
	serve("/sgx/certification/v4/pckcrl", "SGX-PCK-CRL-Issuer-Chain", func(r *http.Request) ([]byte, []byte, error) {
		if r.FormValue("ca") != "platform" || r.FormValue("encoding") != "der" {
			return nil, nil, nil
		}
		c, err := v.Collateral(statements())
		if err != nil {
			return nil, nil, err
		}
		return c.PCKCRL, pemChain(v.pckCA.cert, v.root.cert), nil
	})
	// A PCCS gives the root's list in hex.
	serve("/sgx/certification/v4/rootcacrl", "", func(*http.Request) ([]byte, []byte, error) {
		c, err := v.Collateral(statements())
		if err != nil {
			return nil, nil, err
		}
		return []byte(hex.EncodeToString(c.RootCRL)), nil, nil
	})
	serve("/IntelSGXRootCA.der", "", func(*http.Request) ([]byte, []byte, error) {
		c, err := v.Collateral(statements())
		if err != nil {
			return nil, nil, err
		}
		return c.RootCRL, nil, nil
	})
	return mux
}

// escape writes PEM text as Intel's service does in headers: percent signs
// for all but letters and digits, spaces included.
func escape(text []byte) string {
	return strings.ReplaceAll(url.QueryEscape(string(text)), "+", "%20")
}

// serial is the serial number of the certificate made for use.
func (v *Vendor) serial(use string) *big.Int {
	return new(big.Int).SetBytes(slices.Concat([]byte{1}, v.secret("serial/"+use, 18)))
}
