//go:build tee

package node

import (
	"errors"
	"log/slog"

	"github.com/cocoon-network/cocoon"
	"github.com/cocoon-network/cocoon/internal/engine"
)

func demoEngine(*Config, *slog.Logger) (engine.Config, cocoon.ModelName, error) {
	return engine.Config{}, "", errors.New("measured.engine: this build has no demo engine")
}
