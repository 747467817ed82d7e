//go:build !tee

package node

import (
	"errors"
	"log/slog"

	"github.com/cocoon-network/cocoon"
	"github.com/cocoon-network/cocoon/internal/engine"
	"github.com/cocoon-network/cocoon/internal/engine/demo"
)

// Global ids of the public networks.
const (
	mainnet = -239
	testnet = -3
)

// demoEngine starts the embedded demo model inside this process.
func demoEngine(c *Config, log *slog.Logger) (engine.Config, cocoon.ModelName, error) {
	if c.Measured.GlobalID == mainnet || c.Measured.GlobalID == testnet {
		return engine.Config{}, "", errors.New("measured.engine: the demo model is no use to a public network: set the URL of a real engine")
	}
	srv, err := demo.New(demo.Config{Logger: log})
	if err != nil {
		return engine.Config{}, "", err
	}
	model := cocoon.ModelName(demo.FullName())
	if c.Measured.Model == demo.EmbedFullName() {
		model = cocoon.ModelName(demo.EmbedFullName())
	}
	return engine.Config{BaseURL: "http://demo", Transport: srv.Transport(), Dialect: engine.Demo, Logger: log}, model, nil
}
