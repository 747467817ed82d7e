//go:build tee

package node

import (
	"errors"
	"log/slog"

	"github.com/cocoon-network/cocoon"
	"github.com/cocoon-network/cocoon/internal/engine"
)

func demoEngine(*Config, *slog.Logger) (*engine.Client, cocoon.ModelName, error) {
	return nil, "", errors.New("configuration: measured.engine: this build has no demo engine")
}
