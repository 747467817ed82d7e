//go:build !tee

package simulated

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/sha512"
	"encoding/binary"
	"fmt"

	"github.com/cocoon-network/cocoon/attest"
	"github.com/cocoon-network/cocoon/attest/dcap"
)

// Registers are a guest's measurements, as the image hash covers them.
type Registers struct {
	MRTD, MRConfigID, MROwner, MROwnerConfig [48]byte
	RTMR                                     [4][48]byte
}

// Image makes up the registers of an image from its name. The same name gives
// the same registers under every vendor.
func Image(name string) Registers {
	reg := func(r string) [48]byte {
		return sha512.Sum384([]byte("cocoon/simulated/image/v1\x00" + r + "\x00" + name))
	}
	return Registers{MRTD: reg("MRTD"), RTMR: [4][48]byte{reg("RTMR0"), reg("RTMR1"), reg("RTMR2"), reg("RTMR3")}}
}

// Hash returns the image hash of the registers.
func (r Registers) Hash() attest.ImageHash {
	values := [][]byte{r.MRTD[:], r.MRConfigID[:], r.MROwner[:], r.MROwnerConfig[:], r.RTMR[0][:], r.RTMR[1][:], r.RTMR[2][:], r.RTMR[3][:]}
	var m []attest.Measurement
	for _, v := range values {
		m = append(m, attest.Measurement{Value: v})
	}
	return attest.TDXImageHash(m)
}

// GuestConfig describes a guest.
type GuestConfig struct {
	// Machine names the processor the guest runs on; "" is a machine too.
	Machine string
	// Registers are the guest's measurements.
	Registers Registers
	// Attributes are TD attributes beyond the usual ones, such as
	// dcap.TDDebug, to be refused for.
	Attributes uint64
	// QuoteVersion is 4 or 5; zero means 4. BodyType chooses the body of
	// version 5, dcap.BodyTD10 or dcap.BodyTD15; zero means dcap.BodyTD15.
	QuoteVersion uint16
	BodyType     uint16
}

// Guest is a simulated TDX guest that can ask for quotes.
type Guest struct {
	cfg    GuestConfig
	pck    *ecdsa.PrivateKey
	attKey *ecdsa.PrivateKey
	chain  []byte
}

// What every simulated platform runs. The verifier's reference values for it
// come with the vendor's endorsements.
var (
	teeTCB       = [16]byte{7, 1, 3}
	usualTD      = dcap.TDSeptVEDisable
	usualXFAM    = uint64(0x602e7)
	sgxTCB       = [16]byte{3, 3, 2, 2, 4, 1, 0, 5}
	pceSVN       = 13
	fmspc        = [6]byte{0x51, 0xac, 0x01, 0xed, 0, 0}
	qeMiscSelect = uint32(0)
	qeAttributes = [16]byte{0: 0x15, 8: 0xe7}
	qeProdID     = uint16(2)
	qeSVN        = uint16(6)
)

// NewGuest starts a guest on one of the vendor's machines.
func (v *Vendor) NewGuest(cfg GuestConfig) (*Guest, error) {
	switch {
	case cfg.QuoteVersion == 0:
		cfg.QuoteVersion = 4
	case cfg.QuoteVersion != 4 && cfg.QuoteVersion != 5:
		return nil, fmt.Errorf("simulated: no quotes of version %d", cfg.QuoteVersion)
	}
	switch {
	case cfg.QuoteVersion == 4:
		cfg.BodyType = dcap.BodyTD10
	case cfg.BodyType == 0:
		cfg.BodyType = dcap.BodyTD15
	case cfg.BodyType != dcap.BodyTD10 && cfg.BodyType != dcap.BodyTD15:
		return nil, fmt.Errorf("simulated: no TD body of type %d", cfg.BodyType)
	}
	p := processor{TCB: sgxTCB, PCESVN: pceSVN, FMSPC: fmspc}
	copy(p.PPID[:], v.secret("ppid/"+cfg.Machine, 16))
	copy(p.InstanceID[:], v.secret("instance/"+cfg.Machine, 16))
	ext, err := p.extension()
	if err != nil {
		return nil, err
	}
	leaf, err := v.issue("pck/"+cfg.Machine, dcap.PCKName, &v.pckCA, false, ext)
	if err != nil {
		return nil, err
	}
	return &Guest{
		cfg:    cfg,
		pck:    leaf.key,
		attKey: v.key("attestation/" + cfg.Machine),
		chain:  pemChain(leaf.cert, v.pckCA.cert, v.root.cert),
	}, nil
}

// ImageHash returns the hash of the guest's image.
func (g *Guest) ImageHash() attest.ImageHash { return g.cfg.Registers.Hash() }

// Attest returns a quote that binds data.
func (g *Guest) Attest(ctx context.Context, data [64]byte) (attest.Evidence, error) {
	if err := ctx.Err(); err != nil {
		return attest.Evidence{}, err
	}
	q, err := g.Quote(data)
	if err != nil {
		return attest.Evidence{}, err
	}
	return attest.Evidence{Format: attest.FormatTDX, Quote: q.Bytes()}, nil
}

// Quote returns a signed quote that binds data.
func (g *Guest) Quote(data [64]byte) (*dcap.Quote, error) {
	r := &g.cfg.Registers
	q := &dcap.Quote{
		Header: dcap.Header{
			Version:  g.cfg.QuoteVersion,
			KeyType:  2,
			TEE:      dcap.TEETDX,
			QEVendor: [16]byte{0x93, 0x9a, 0x72, 0x33, 0xf7, 0x9c, 0x4c, 0xa9, 0x94, 0x0a, 0x0d, 0xb3, 0x95, 0x7f, 0x06, 0x07},
		},
		BodyType: g.cfg.BodyType,
		TD: &dcap.TDReport{
			TCBSVN:        teeTCB,
			MRSEAM:        sha512.Sum384([]byte("cocoon/simulated/module/v1")),
			Attributes:    usualTD | g.cfg.Attributes,
			XFAM:          usualXFAM,
			MRTD:          r.MRTD,
			MRConfigID:    r.MRConfigID,
			MROwner:       r.MROwner,
			MROwnerConfig: r.MROwnerConfig,
			RTMR:          r.RTMR,
			ReportData:    data,
		},
		QEReport: dcap.EnclaveReport{
			CPUSVN:     sgxTCB,
			MiscSelect: qeMiscSelect,
			Attributes: qeAttributes,
			MREnclave:  [32]byte(bytes.Repeat([]byte{0x51}, 32)),
			MRSigner:   qeSigner,
			ISVProdID:  qeProdID,
			ISVSVN:     qeSVN,
		},
		QEAuth: binary.BigEndian.AppendUint64(nil, 0x0001020304050607),
		Chain:  g.chain,
	}
	if q.BodyType == dcap.BodyTD15 {
		q.TD15 = &dcap.TDReport15{TCBSVN2: teeTCB}
	}
	return q, g.Sign(q)
}

// qeSigner is who signs this vendor's quoting enclaves.
var qeSigner = [32]byte(bytes.Repeat([]byte{0x5e}, 32))

// Sign signs what q says now with this guest's keys, from the processor's
// certificate down.
func (g *Guest) Sign(q *dcap.Quote) (err error) {
	point, err := g.attKey.PublicKey.Bytes()
	if err != nil {
		return fmt.Errorf("simulated: attestation key: %w", err)
	}
	copy(q.AttestationKey[:], point[1:])
	q.QEReport.ReportData = dcap.QEBinding(q.AttestationKey, q.QEAuth)
	if q.QEReportSignature, err = signRaw(g.pck, q.QEReport.Bytes()); err != nil {
		return err
	}
	q.Signature, err = signRaw(g.attKey, q.Signed())
	return err
}
