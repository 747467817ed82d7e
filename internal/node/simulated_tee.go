//go:build tee

package node

import (
	"errors"

	"github.com/cocoon-network/cocoon/internal/tee/ratls"
)

func simulatedAttester(*Config) (ratls.Attester, error) {
	return nil, errors.New("configuration: measured.evidence: this build has no simulated platform")
}
