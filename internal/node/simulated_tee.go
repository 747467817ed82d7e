//go:build tee

package node

import (
	"context"
	"errors"
	"log/slog"

	"github.com/cocoon-network/cocoon/internal/tee/ratls"
	"github.com/cocoon-network/cocoon/internal/tee/sealedkeys"
	"github.com/cocoon-network/cocoon/internal/tee/statement"
)

var errNoSimulated = errors.New("configuration: this build has no simulated platform: measured.evidence and measured.accept must name real hardware")

func simulatedAttester(*Config) (ratls.Attester, error) { return nil, errNoSimulated }

func simulatedSealedKey(context.Context, *Config, *slog.Logger) (sealedkeys.Key, error) {
	return sealedkeys.Key{}, errNoSimulated
}

func simulatedGPUs(*Config) (statement.GPUs, error) { return nil, errNoSimulated }

func simulatedEndorser(*Config) (ratls.Endorser, error) { return nil, errNoSimulated }
