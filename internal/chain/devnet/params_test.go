//go:build !tee

package devnet

import (
	"testing"

	"github.com/xssnick/tonutils-go/tlb"
	"github.com/xssnick/tonutils-go/tvm"
)

// TestParameters reads the configuration as the machine does, and holds the
// prices against mainnet's as people know them.
func TestParameters(t *testing.T) {
	c, err := Open(Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	root := c.current().master.config
	p, err := tvm.PrepareBlockchainConfig(root)
	if err != nil {
		t.Fatal(err)
	}
	if p.GlobalVersion() != globalVersion || p.Capabilities() != capabilities {
		t.Errorf("version %d, capabilities %x", p.GlobalVersion(), p.Capabilities())
	}
	cfg := tlb.BlockchainConfig{Root: root}
	gas, err := cfg.GetGasPrices(false)
	if err != nil {
		t.Fatal(err)
	}
	if gas.GasPrice != 400<<16 || gas.GasLimit != 1_000_000 || gas.FlatGasLimit != 100 || gas.FlatGasPrice != 40_000 {
		t.Errorf("gas prices %+v", gas)
	}
	fwd, err := cfg.GetMsgForwardPrices(false)
	if err != nil {
		t.Fatal(err)
	}
	if fwd.LumpPrice != 400_000 || fwd.BitPrice != 400<<16 || fwd.CellPrice != 40_000<<16 {
		t.Errorf("forwarding prices %+v", fwd)
	}
	for name, read := range map[string]func() error{
		"validators":    func() error { _, err := cfg.GetCurrentValidators(); return err },
		"catchain":      func() error { _, err := cfg.GetCatchainConfig(); return err },
		"consensus":     func() error { _, err := cfg.GetConsensusConfig(); return err },
		"fundamental":   func() error { _, err := cfg.GetFundamentalSmartContractAddresses(); return err },
		"block fees":    func() error { _, err := cfg.GetBlockCreateFees(); return err },
		"storage":       func() error { _, err := cfg.GetStoragePrices(c.current().gen.time); return err },
		"block limits":  func() error { _, err := cfg.GetBlockLimits(false); return err },
		"stakes":        func() error { _, err := cfg.GetValidatorStakeLimits(); return err },
		"elections":     func() error { _, err := cfg.GetValidatorElectionTimings(); return err },
		"counts":        func() error { _, err := cfg.GetValidatorCountLimits(); return err },
		"complaints":    func() error { _, err := cfg.GetComplaintPricing(); return err },
		"dns root":      func() error { _, err := cfg.GetDNSRootAddress(); return err },
		"config":        func() error { _, err := cfg.GetConfigAddress(); return err },
		"masterchain's": func() error { _, err := cfg.GetGasPrices(true); return err },
	} {
		if err := read(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	d, err := cfg.GetWorkchainDescr(basechain)
	if err != nil {
		t.Fatal(err)
	}
	if !d.AcceptMessages() || !d.ValidAddressLength(256) {
		t.Errorf("workchain 0: %+v", d)
	}
}
