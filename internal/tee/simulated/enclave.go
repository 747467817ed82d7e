//go:build !tee

package simulated

import (
	"bytes"

	"github.com/cocoon-network/cocoon/attest/dcap"
)

// EnclaveQuote returns a signed SGX quote of version 3 about an enclave on
// this guest's machine, such as the one that hands out sealed keys.
func (g *Guest) EnclaveQuote(enclave dcap.EnclaveReport) (*dcap.Quote, error) {
	q, err := g.Quote(enclave.ReportData)
	if err != nil {
		return nil, err
	}
	q.Header.Version, q.Header.TEE, q.BodyType = 3, dcap.TEESGX, dcap.BodySGX
	q.TD, q.TD15, q.Enclave = nil, nil, &enclave
	return q, g.Sign(q)
}

// SealingEnclave is the report of an enclave that hands out sealed keys and
// binds data.
func SealingEnclave(data [64]byte) dcap.EnclaveReport {
	return dcap.EnclaveReport{
		CPUSVN:     sgxTCB,
		Attributes: [16]byte{0: 0x05, 8: 0xe7},
		MREnclave:  [32]byte(bytes.Repeat([]byte{0x5c}, 32)),
		MRSigner:   [32]byte(bytes.Repeat([]byte{0x5d}, 32)),
		ISVProdID:  1,
		ISVSVN:     1,
		ReportData: data,
	}
}
