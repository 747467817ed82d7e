package settle

import (
	"fmt"
	"log/slog"

	"github.com/cocoon-network/cocoon"
	"github.com/cocoon-network/cocoon/internal/chain/bindings"
	"github.com/cocoon-network/cocoon/internal/money/coins"
)

// Kind is what an action does.
type Kind string

// The kinds, by who sends them.
const (
	Deploy           Kind = "deploy"            // all
	Mark             Kind = "mark"              // proxy: note the ledger's progress
	Charge           Kind = "charge"            // proxy and client
	GrantRefund      Kind = "grant refund"      // proxy
	PayWorker        Kind = "pay worker"        // proxy and worker
	LastPayout       Kind = "last payout"       // proxy
	WithdrawEarnings Kind = "withdraw earnings" // proxy
	CloseProxy       Kind = "close proxy"       // proxy
	CompleteClose    Kind = "complete close"    // proxy
	TopUp            Kind = "top up"            // client
	ChangeSecret     Kind = "change secret"     // client
	Register         Kind = "register"          // client
	RequestRefund    Kind = "request refund"    // client
	Withdraw         Kind = "withdraw"          // client: what is above the stake
	IncreaseStake    Kind = "increase stake"    // proxy and client
)

// signed returns the operation the proxy key signs for an action.
func (k Kind) signed() (bindings.PaymentKind, bool) {
	switch k {
	case Charge:
		return bindings.ClientCharge, true
	case GrantRefund:
		return bindings.ClientGrantRefund, true
	case PayWorker:
		return bindings.WorkerPayout, true
	case LastPayout:
		return bindings.WorkerLastPayout, true
	case CloseProxy:
		return bindings.ProxyClose, true
	case CompleteClose:
		return bindings.ProxyCloseComplete, true
	}
	return 0, false
}

// Action is one message to be sent.
type Action struct {
	Kind  Kind
	To    cocoon.Address
	Owner cocoon.Address // of the contract, where it is not our own
	// Value is what the message carries: gas, most of which comes back, and a
	// top-up's amount.
	Value coins.Nano
	// Tokens is the counter of a signed operation.
	Tokens int64
	// Amount is the money it moves or accounts for; 0 for the rest.
	Amount coins.Nano
	Nonce  uint64 // Register
	// Init says that the receiver is deployed by the message if need be.
	Init bool
}

// String is for people.
func (a Action) String() string {
	if a.Amount == 0 {
		return fmt.Sprintf("%s at %v", a.Kind, a.To)
	}
	return fmt.Sprintf("%s of %v at %v", a.Kind, a.Amount, a.To)
}

// LogValue implements slog.LogValuer.
func (a Action) LogValue() slog.Value {
	return slog.GroupValue(slog.String("kind", string(a.Kind)), slog.String("to", a.To.String()),
		slog.Int64("tokens", a.Tokens), slog.Uint64("nano", uint64(a.Amount)))
}

// What messages carry (spec contracts 15).
const (
	deployValue       = coins.PerCoin * 3 / 10
	deployClientValue = coins.PerCoin * 8 / 10
	clientValue       = coins.PerCoin * 7 / 10
	registerValue     = coins.PerCoin
	payoutValue       = coins.PerCoin * 7 / 10
	workerPayoutValue = coins.PerCoin / 2
	closingValue      = coins.PerCoin
	withdrawValue     = coins.PerCoin / 5 // and a proxy's stake
	markValue         = 1                 // nano: the contract does not run
)
