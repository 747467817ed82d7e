//go:build !tee

package simulated

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha512"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"encoding/pem"
	"fmt"
	"math/big"

	"github.com/cocoon-network/cocoon/attest/nvgpu"
)

// The builds that simulated GPUs run.
const (
	GPUDriver = "0.0.SIMULATED"
	GPUVBIOS  = "00.00.00.00.01"
)

// gpuMeasurements is how many values a simulated GPU shows.
const gpuMeasurements = 8

// GPUs are the simulated GPUs of one machine: they answer as real ones do,
// under a root of this vendor.
type GPUs struct {
	// Change, if set, changes a report before it is signed: a GPU that runs
	// something else.
	Change func(report []byte)

	vendor  *Vendor
	machine string
	count   int
}

// NewGPUs makes the GPUs of a machine.
func (v *Vendor) NewGPUs(machine string, count int) *GPUs {
	return &GPUs{vendor: v, machine: machine, count: count}
}

// GPUPolicy pins this vendor's root and the builds that its GPUs run.
func (v *Vendor) GPUPolicy() (*nvgpu.Policy, error) {
	root, err := v.gpuRoot()
	if err != nil {
		return nil, err
	}
	id, err := nvgpu.RootKeyID(root.cert)
	if err != nil {
		return nil, err
	}
	ref := nvgpu.Reference{DriverVersion: GPUDriver, VBIOSVersion: GPUVBIOS, Values: map[uint8][][48]byte{}}
	for i := range uint8(gpuMeasurements) {
		ref.Values[i+1] = [][48]byte{gpuValue(i + 1)}
	}
	return &nvgpu.Policy{Roots: []nvgpu.KeyID{id}, References: []nvgpu.Reference{ref}}, nil
}

func gpuValue(index uint8) [48]byte {
	return sha512.Sum384([]byte{'S', 'I', 'M', index})
}

// Collect asks each GPU for evidence that binds nonce.
func (g *GPUs) Collect(_ context.Context, nonce [32]byte) (nvgpu.Set, error) {
	root, err := g.vendor.gpuRoot()
	if err != nil {
		return nil, err
	}
	var set nvgpu.Set
	for i := range g.count {
		device, err := g.vendor.gpuCertificate(fmt.Sprintf("gpu/%s/%d", g.machine, i), "SIMULATED GPU", &root)
		if err != nil {
			return nil, err
		}
		report, err := g.report(device.key, nonce)
		if err != nil {
			return nil, err
		}
		var chain []byte
		for _, c := range []*x509.Certificate{device.cert, root.cert} {
			chain = append(chain, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})...)
		}
		set = append(set, nvgpu.Evidence{Report: report, Chain: chain})
	}
	return set, nil
}

// report is an SPDM 1.1 measurements exchange (spec attestation 8).
func (g *GPUs) report(key *ecdsa.PrivateKey, nonce [32]byte) ([]byte, error) {
	b := append([]byte{0x11, 0xe0, 1, 0xff}, nonce[:]...)
	b = append(b, 0, 0x11, 0x60, 0, 0, gpuMeasurements)
	var record []byte
	for i := range uint8(gpuMeasurements) {
		v := gpuValue(i + 1)
		record = append(record, i+1, 1, byte(3+len(v)), 0, 1, byte(len(v)), 0)
		record = append(record, v[:]...)
	}
	b = append(b, byte(len(record)), byte(len(record)>>8), 0)
	b = append(b, record...)
	b = append(b, bytes.Repeat([]byte{0x5a}, 32)...) // the device's nonce
	var opaque []byte
	field := func(kind uint16, v []byte) {
		opaque = binary.LittleEndian.AppendUint16(opaque, kind)
		opaque = binary.LittleEndian.AppendUint16(opaque, uint16(len(v)))
		opaque = append(opaque, v...)
	}
	field(3, []byte(GPUDriver+"\x00"))
	field(6, []byte{0, 0, 0, 0, 1})
	b = binary.LittleEndian.AppendUint16(b, uint16(len(opaque)))
	b = append(b, opaque...)
	if g.Change != nil {
		g.Change(b)
	}
	digest := sha512.Sum384(b)
	r, s, err := ecdsa.Sign(rand.Reader, key, digest[:])
	if err != nil {
		return nil, err
	}
	var sig [96]byte
	r.FillBytes(sig[:48])
	s.FillBytes(sig[48:])
	return append(b, sig[:]...), nil
}

func (v *Vendor) gpuRoot() (authority, error) {
	return v.gpuCertificate("gpu root", "SIMULATED GPU root", nil)
}

// gpuCertificate issues the P-384 certificate of a key derived for use.
func (v *Vendor) gpuCertificate(use, name string, issuer *authority) (authority, error) {
	var a authority
	for i := 0; a.key == nil; i++ {
		if k, err := ecdsa.ParseRawPrivateKey(elliptic.P384(), v.secret(fmt.Sprintf("key/%s/%d", use, i), 48)); err == nil {
			a.key = k
		}
	}
	tmpl := &x509.Certificate{
		SerialNumber: new(big.Int).SetBytes(v.secret("serial/"+use, 8)), Subject: pkix.Name{CommonName: name, Organization: []string{Organization}},
		NotBefore: notBefore, NotAfter: notAfter, BasicConstraintsValid: true, IsCA: issuer == nil, SignatureAlgorithm: x509.ECDSAWithSHA384,
	}
	by := authority{a.key, tmpl}
	if issuer != nil {
		by = *issuer
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, by.cert, &a.key.PublicKey, by.key)
	if err != nil {
		return authority{}, fmt.Errorf("simulated: %s: %w", name, err)
	}
	a.cert, err = x509.ParseCertificate(der)
	return a, err
}
