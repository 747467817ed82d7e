// Package registry holds the parsed state of a root contract as an immutable
// snapshot. Roles read snapshots; they never reach the chain.
//
// Owns: Snapshot, Source.
// Imports: cocoon, attest (names only), coins, pricing (multipliers).
// Trust: a Source gives only state it has proven, or a file in the
// configuration.
// Concurrency: a Snapshot is never changed after it was published.
package registry

import (
	"crypto/sha256"
	"slices"
	"time"

	"github.com/cocoon-network/cocoon"
	"github.com/cocoon-network/cocoon/attest"
	"github.com/cocoon-network/cocoon/internal/money/coins"
	"github.com/cocoon-network/cocoon/internal/money/pricing"
)

// Proxy is one registered proxy endpoint (spec network-protocol 8.1). Both
// addresses are ip:port.
type Proxy struct {
	Seqno      uint32
	ForWorkers string
	ForClients string
}

// PublicKey is a registered request-encryption key (struct version 4 and up).
type PublicKey struct {
	Key      [32]byte
	Type     uint8
	ExpireAt uint32
}

// KeyManager is the root contract's key manager part (struct version 4 and
// up); the zero value stands for none.
type KeyManager struct {
	PublicKeys []PublicKey
	PublicKey  [32]byte
	ImageHash  attest.ImageHash
	Address    string // ip:port, "" = none
}

// Params are the economic parameters, which are part of every contract's
// address (spec contracts 3).
type Params struct {
	StructVersion          uint8
	ParamsVersion          uint32
	UniqueID               uint32
	IsTest                 bool
	PricePerToken          coins.Nano
	WorkerFeePerToken      coins.Nano
	Multipliers            pricing.Multipliers
	ProxyDelayBeforeClose  uint32 // seconds
	ClientDelayBeforeClose uint32 // seconds
	MinProxyStake          coins.Nano
	MinClientStake         coins.Nano
	// The contract codes as bags of cells; nil = absent.
	ProxyCode, WorkerCode, ClientCode []byte
}

// Snapshot is the state of a root contract at one moment.
type Snapshot struct {
	Root    cocoon.Address // the root contract
	Owner   cocoon.Address
	Version uint32

	ProxyImages    []attest.ImageHash
	WorkerImages   []attest.ImageHash
	ModelHashes    [][32]byte
	Proxies        []Proxy
	LastProxySeqno uint32

	Params     Params
	KeyManager KeyManager

	// VerifiedKeys are the lists of struct version 5, kept but unused (spec
	// changes-2026-04 11.3).
	VerifiedProxyKeys, VerifiedWorkerKeys, VerifiedKeyManagerKeys [][32]byte

	// Time is the time of the state: the block's, or the file's start time.
	Time time.Time
	// Seqno is the masterchain block the state was proven in; 0 for a file.
	Seqno uint32
	// Fake says that the state comes from a file and no chain stands behind it.
	Fake bool
}

// HasProxyImage reports whether h is a listed proxy image.
func (s *Snapshot) HasProxyImage(h attest.ImageHash) bool { return slices.Contains(s.ProxyImages, h) }

// HasWorkerImage reports whether h is a listed worker image.
func (s *Snapshot) HasWorkerImage(h attest.ImageHash) bool { return slices.Contains(s.WorkerImages, h) }

// HasModel reports whether the SHA-256 of the model's full name is listed.
func (s *Snapshot) HasModel(m cocoon.ModelName) bool {
	return slices.Contains(s.ModelHashes, sha256.Sum256([]byte(m)))
}

// Source yields snapshots.
type Source interface {
	// Current returns the newest snapshot, or an error that says why there is
	// none fit for use.
	Current() (*Snapshot, error)
	// Changed returns a channel that is closed when Current would return
	// another snapshot than at the time of the call.
	Changed() <-chan struct{}
}
