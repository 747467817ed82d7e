//go:build !tee

package node

import (
	"context"
	"crypto/hkdf"
	"crypto/sha256"
	"fmt"
	"log/slog"
	"net"
	"time"

	"github.com/cocoon-network/cocoon/attest"
	"github.com/cocoon-network/cocoon/internal/tee/ratls"
	"github.com/cocoon-network/cocoon/internal/tee/sealedkeys"
	"github.com/cocoon-network/cocoon/internal/tee/simulated"
	"github.com/cocoon-network/cocoon/internal/tee/statement"
)

// vendor is the simulated vendor that this machine's processes share.
func vendor(c *Config) (*simulated.Vendor, error) {
	seed, err := readSecret(c.Runtime.SimulatedSeed)
	if err != nil {
		return nil, fmt.Errorf("configuration: runtime.simulated_seed: %w", err)
	}
	return simulated.New(seed)
}

// simulatedAttester makes this process a guest of the simulated vendor.
func simulatedAttester(c *Config) (ratls.Attester, error) {
	v, err := vendor(c)
	if err != nil {
		return nil, err
	}
	return v.NewGuest(simulated.GuestConfig{Machine: c.Runtime.SimulatedMachine, Registers: simulated.Image(c.Measured.SimulatedImage)})
}

// simulatedMachine is the SIMULATED machine this process runs on, with its
// sealing enclave, and the report of this process's guest.
func simulatedMachine(c *Config, log *slog.Logger) (*sealedkeys.Machine, func(context.Context, [64]byte) ([]byte, error), error) {
	seed, err := readSecret(c.Runtime.SimulatedSeed)
	if err != nil {
		return nil, nil, fmt.Errorf("configuration: runtime.simulated_seed: %w", err)
	}
	v, err := simulated.New(seed)
	if err != nil {
		return nil, nil, err
	}
	g, err := v.NewGuest(simulated.GuestConfig{Machine: c.Runtime.SimulatedMachine, Registers: simulated.Image(c.Measured.SimulatedImage)})
	if err != nil {
		return nil, nil, err
	}
	own, err := hkdf.Key(sha256.New, seed, nil, "cocoon/simulated/sealing/v1\x00"+c.Runtime.SimulatedMachine, 32)
	if err != nil {
		return nil, nil, err
	}
	m, err := sealedkeys.NewMachine(own, func(data [64]byte) ([]byte, error) {
		q, err := g.EnclaveQuote(simulated.SealingEnclave(data))
		if err != nil {
			return nil, err
		}
		return q.Bytes(), nil
	}, log)
	if err != nil {
		return nil, nil, err
	}
	q, err := g.Quote([64]byte{})
	if err != nil {
		return nil, nil, err
	}
	return m, func(_ context.Context, data [64]byte) ([]byte, error) { return m.Report(q.TD, data), nil }, nil
}

// simulatedSealedKey fetches the key from the simulated machine's enclave, with
// the protocol and checks of the real one, over TCP.
func simulatedSealedKey(ctx context.Context, c *Config, log *slog.Logger) (sealedkeys.Key, error) {
	m, report, err := simulatedMachine(c, log)
	if err != nil {
		return sealedkeys.Key{}, err
	}
	v, err := vendor(c)
	if err != nil {
		return sealedkeys.Key{}, err
	}
	addr := c.Runtime.SealAddress
	if addr == "" {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return sealedkeys.Key{}, err
		}
		addr = ln.Addr().String()
		serving, stop := context.WithCancel(ctx)
		done := make(chan struct{})
		go func() { defer close(done); _ = m.Serve(serving, ln) }()
		defer func() { stop(); <-done }()
	}
	client, err := sealedkeys.New(sealedkeys.Config{
		Dial:     func(ctx context.Context) (net.Conn, error) { return new(net.Dialer).DialContext(ctx, "tcp", addr) },
		Report:   report,
		Policy:   &attest.EnclavePolicy{Roots: []attest.KeyID{v.RootKeyID()}, MREnclaves: [][32]byte{simulated.SealingEnclave([64]byte{}).MREnclave}},
		Endorser: enclaveEndorser{v},
	})
	if err != nil {
		return sealedkeys.Key{}, err
	}
	return client.Fetch(ctx, sealedkeys.AppKey)
}

// enclaveEndorser makes the simulated vendor's statements on SGX platforms.
type enclaveEndorser struct{ v *simulated.Vendor }

func (e enclaveEndorser) Endorsements(context.Context, attest.Evidence) (*attest.Endorsements, error) {
	c, err := e.v.EnclaveCollateral(simulated.Statements{At: time.Now().Add(-time.Hour)})
	return &attest.Endorsements{Intel: c}, err
}

// simulatedGPUs gives this process's machine a simulated GPU.
func simulatedGPUs(c *Config) (statement.GPUs, error) {
	v, err := vendor(c)
	if err != nil {
		return nil, err
	}
	return v.NewGPUs(c.Runtime.SimulatedMachine, 1), nil
}

// simulatedEndorser makes the simulated vendor's statements.
func simulatedEndorser(c *Config) (ratls.Endorser, error) {
	v, err := vendor(c)
	if err != nil {
		return nil, err
	}
	return simulated.Endorser{Vendor: v}, nil
}
