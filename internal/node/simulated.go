//go:build !tee

package node

import (
	"fmt"

	"github.com/cocoon-network/cocoon/internal/tee/ratls"
	"github.com/cocoon-network/cocoon/internal/tee/simulated"
)

// simulatedAttester makes this process a guest of the simulated vendor.
func simulatedAttester(c *Config) (ratls.Attester, error) {
	seed, err := readSecret(c.Runtime.SimulatedSeed)
	if err != nil {
		return nil, fmt.Errorf("configuration: runtime.simulated_seed: %w", err)
	}
	v, err := simulated.New(seed)
	if err != nil {
		return nil, err
	}
	return v.NewGuest(simulated.GuestConfig{Machine: c.Runtime.SimulatedMachine, Registers: simulated.Image(c.Measured.SimulatedImage)})
}
