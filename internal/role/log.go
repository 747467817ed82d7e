package role

import (
	"context"
	"errors"
	"time"

	"github.com/cocoon-network/cocoon"
	"github.com/cocoon-network/cocoon/internal/wire/mux"
	"github.com/cocoon-network/cocoon/internal/wire/schema"
)

// ErrNoProxy says that no connected proxy is the one that is asked for.
var ErrNoProxy = errors.New("not connected to that proxy")

// AskLog asks a proxy for a page of its audit log and returns it as JSON. What
// it says is held against the chain by whoever asks. A nil connection fails with
// ErrNoProxy.
func AskLog(ctx context.Context, proxy *mux.Conn, limit time.Duration, page string) ([]byte, error) {
	if proxy == nil {
		return nil, ErrNoProxy
	}
	answer, err := Ask[*schema.CocoonLogPage](ctx, proxy, limit, &schema.CocoonGetLog{Page: page})
	if err != nil {
		return nil, err
	}
	return answer.Json, nil
}

// Watched is a connected proxy whose audit log can be asked for.
type Watched struct {
	ContractKey [32]byte
	// Proxy is its contract, Party is ours there.
	Proxy, Party cocoon.Address
	Endpoint     string
	// Sets are hashes of the sets of workers that a client was shown.
	Sets [][32]byte
	// Counter is what a worker was told to have earned, in tokens: durable, so
	// that receipts of it follow. Clients have the receipts themselves.
	Counter int64
}

// LogFault is what is wrong with a proxy's audit log.
type LogFault struct {
	ContractKey string `json:"contract_key"`
	Fault       string `json:"fault"`
}

// LogSeen is what a proxy's audit log proved to us last.
type LogSeen struct {
	ContractKey string `json:"contract_key"`
	Epoch       uint32 `json:"epoch"`
	Size        uint64 `json:"tree_size"`
	// Contract is ours, BalanceEpoch the epoch in whose anchored balances it has
	// Tokens; 0 = none was shown yet.
	Contract     cocoon.Address `json:"contract,omitzero"`
	BalanceEpoch uint32         `json:"balance_epoch,omitempty"`
	Tokens       uint64         `json:"balance_tokens,omitempty"`
}
