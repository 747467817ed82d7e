//go:build !tee

package cli

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/spf13/cobra"

	"github.com/cocoon-network/cocoon/internal/engine/demo"
	"github.com/cocoon-network/cocoon/internal/tee/simulated"
)

// vendorInfo is what configurations say of a simulated vendor.
type vendorInfo struct {
	Vendor string            `json:"vendor"` // key id, hex
	Images map[string]string `json:"images"` // hash by name, hex
	Model  string            `json:"demo_model"`
}

func (a *app) devnetVendorCommand() *cobra.Command {
	var seed string
	cmd := a.jsonFlag(&cobra.Command{
		Use:   "vendor",
		Short: "Make the simulated hardware vendor of a private network, or show it",
		Long: `A network without TEE hardware simulates it: every machine signs its own evidence
with a key of a vendor that does not exist. The vendor is the file --seed, which is
made if it is not there; whoever has it can claim anything, so it protects nothing.

Printed is what configurations and the root contract say of it: the vendor
(measured.simulated_root), the hashes of its images (measured.simulated_image), and
the full name of the demo engine's model.`,
		Example: "  cocoon devnet vendor --seed platform.seed",
		Args:    noArgs,
		RunE: func(*cobra.Command, []string) error {
			b, err := os.ReadFile(seed)
			if errors.Is(err, fs.ErrNotExist) {
				b = make([]byte, simulated.SeedSize)
				if _, err := rand.Read(b); err != nil {
					return err
				}
				err = os.WriteFile(seed, b, 0o600)
			}
			if err != nil {
				return err
			}
			v, err := simulated.New(b)
			if err != nil {
				return fmt.Errorf("%s: %w", seed, err)
			}
			names := []string{"cocoon-proxy", "cocoon-worker"}
			info := vendorInfo{Vendor: v.RootKeyID().String(), Images: map[string]string{}, Model: demo.FullName()}
			for _, name := range names {
				info.Images[name] = simulated.Image(name).Hash().String()
			}
			if a.json {
				return a.printJSON(info)
			}
			a.progress("SIMULATED: no hardware protects a network of this vendor")
			fmt.Fprintf(a.env.Stdout, "vendor         %s\n", info.Vendor)
			for _, name := range names {
				fmt.Fprintf(a.env.Stdout, "%-13s  %s\n", name, info.Images[name])
			}
			fmt.Fprintf(a.env.Stdout, "model          %s\n", info.Model)
			return nil
		},
	})
	cmd.Flags().StringVar(&seed, "seed", "", "file with the vendor's secret")
	if err := cmd.MarkFlagRequired("seed"); err != nil {
		panic(err) // the flag stands above
	}
	return cmd
}
