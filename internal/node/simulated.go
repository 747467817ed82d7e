//go:build !tee

package node

import (
	"fmt"

	"github.com/cocoon-network/cocoon/internal/tee/ratls"
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
