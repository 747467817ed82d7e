package statement

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/cocoon-network/cocoon"
	"github.com/cocoon-network/cocoon/attest"
	"github.com/cocoon-network/cocoon/attest/nvgpu"
)

// Attester is the platform this process runs on: it makes evidence that binds
// 64 bytes.
type Attester interface {
	Attest(ctx context.Context, reportData [64]byte) (attest.Evidence, error)
}

// GPUs ask a worker's GPUs for evidence that binds nonce.
type GPUs interface {
	Collect(ctx context.Context, nonce [32]byte) (nvgpu.Set, error)
}

// ContractKey is a proxy's contract key.
type ContractKey interface {
	// SignStatement signs LabelProxyStatement ‖ digest.
	SignStatement(digest [32]byte) [64]byte
}

// Facts are what a node says of itself besides what the Issuer knows.
type Facts struct {
	Model       cocoon.ModelName
	Contract    cocoon.Address
	ContractKey [32]byte
	Owner       cocoon.Address
}

// SealKeys makes the seal keys of a worker's statements: a new one for each.
type SealKeys interface {
	// NewKey makes a key. keep is told the digest of the statement that the key
	// stands in before anybody sees that statement.
	NewKey() (public []byte, keep func(statement [32]byte), err error)
	// Full asks for a new statement before its time.
	Full() bool
}

// Times of statements.
const (
	// renewAfter is the age at which a statement is replaced.
	renewAfter = 5 * time.Minute
	// lastAfter is the age at which one is not used even if no newer can be
	// made: peers would find its block too old.
	lastAfter = 9 * time.Minute
	// issueLimit bounds one try.
	issueLimit = 30 * time.Second
)

// IssuerConfig describes a node.
type IssuerConfig struct {
	// Role is ours. A client's statement has a node key and nothing else, and
	// needs none of what follows.
	Role cocoon.Role
	// Attester makes the quote; nil: none.
	Attester Attester
	// GPUs make a worker's GPU evidence; nil: it shows none.
	GPUs GPUs
	// NetworkID names the network, Chain gives its newest block. Both are zero
	// where no chain stands behind the network.
	NetworkID [32]byte
	Chain     Chain
	// Facts are asked for each connection: when they change, a new statement is
	// made.
	Facts func() (Facts, error)
	// ContractKey signs a proxy's statements. Predecessor and
	// SuccessorSignature name the contract key before it, if there was one.
	ContractKey        ContractKey
	Predecessor        [32]byte
	SuccessorSignature []byte
	// SealKeys makes a worker's seal keys; nil: nothing can be sealed to it.
	SealKeys SealKeys
	// Build names the program.
	Build string
	// Log gets failed renewals. nil discards.
	Log *slog.Logger
}

// Issued is one of our statements.
type Issued struct {
	Statement *Statement
	Digest    [32]byte
	Bundle    []byte
	made      time.Time
}

// Issuer makes our statements and holds the node key, which lives in memory
// only and as long as the Issuer.
type Issuer struct {
	cfg IssuerConfig
	key ed25519.PrivateKey
	pub [32]byte

	mu       sync.Mutex // held while a statement is made that somebody waits for
	current  *Issued
	counter  uint64
	renewing bool
}

// NewIssuer makes an Issuer with a fresh node key.
func NewIssuer(cfg IssuerConfig) (*Issuer, error) {
	switch {
	case cfg.Role == cocoon.RoleNone:
		return nil, errors.New("statement: a node without a role")
	case cfg.Role != cocoon.RoleWorker && cfg.GPUs != nil:
		return nil, errors.New("statement: GPU evidence is a worker's")
	case cfg.Role != cocoon.RoleClient && cfg.Facts == nil:
		return nil, fmt.Errorf("statement: a %s without facts about itself", cfg.Role)
	case (cfg.Role == cocoon.RoleProxy) != (cfg.ContractKey != nil):
		return nil, errors.New("statement: a contract key is a proxy's, and a proxy has one")
	case cfg.SealKeys != nil && cfg.Role != cocoon.RoleWorker:
		return nil, errors.New("statement: seal keys are a worker's")
	case (cfg.Chain == nil) != (cfg.NetworkID == [32]byte{}) && cfg.Role != cocoon.RoleClient:
		return nil, errors.New("statement: a chain and the network's id belong together")
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	pub, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	return &Issuer{cfg: cfg, key: key, pub: [32]byte(pub)}, nil
}

// Key returns the node key's public half.
func (i *Issuer) Key() [32]byte { return i.pub }

// sign signs a labelled message, which is never 32 bytes long.
func (i *Issuer) sign(message []byte) []byte { return ed25519.Sign(i.key, message) }

// Sign signs a message with the node key for those who own its label: what is
// 32 bytes or shorter, and so could be a cell's hash, is refused by panic.
func (i *Issuer) Sign(message []byte) []byte {
	if len(message) <= 32 {
		panic("statement: a message without a label")
	}
	return i.sign(message)
}

// Current returns the statement to present now. One that is due is replaced
// beside the connections that still use it; only without a usable one, or
// after the facts changed, does Current wait.
func (i *Issuer) Current(ctx context.Context) (*Issued, error) {
	var facts Facts
	if i.cfg.Facts != nil {
		var err error
		if facts, err = i.cfg.Facts(); err != nil {
			return nil, fmt.Errorf("statement: our own facts: %w", err)
		}
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	if c := i.current; c != nil && c.facts() == facts {
		age := time.Since(c.made)
		full := i.cfg.SealKeys != nil && i.cfg.SealKeys.Full()
		if i.cfg.Role == cocoon.RoleClient || age < renewAfter && !full {
			return c, nil
		}
		if age < lastAfter {
			if !i.renewing {
				i.renewing = true
				// The result serves everybody, so it does not end with one caller.
				go i.renew(context.WithoutCancel(ctx), facts)
			}
			return c, nil
		}
	}
	i.counter++
	made, err := i.issue(ctx, facts, i.counter)
	if err != nil {
		return nil, err
	}
	i.current = made
	return made, nil
}

// renew replaces the statement beside its use.
func (i *Issuer) renew(ctx context.Context, facts Facts) {
	ctx, cancel := context.WithTimeout(ctx, issueLimit)
	defer cancel()
	i.mu.Lock()
	i.counter++
	counter := i.counter
	i.mu.Unlock()
	made, err := i.issue(ctx, facts, counter)
	i.mu.Lock()
	defer i.mu.Unlock()
	i.renewing = false
	switch {
	case err != nil:
		i.cfg.Log.Warn("statement not renewed", "error", err)
	case i.current == nil || i.current.Statement.Counter < counter:
		i.current = made
	}
}

// issue makes a statement.
func (i *Issuer) issue(ctx context.Context, facts Facts, counter uint64) (*Issued, error) {
	s := &Statement{Role: i.cfg.Role, NodeKey: i.pub}
	if i.cfg.Role != cocoon.RoleClient {
		s.NetworkID, s.Counter, s.Build = i.cfg.NetworkID, counter, i.cfg.Build
		s.Model, s.Contract, s.ContractKey, s.Owner = facts.Model, facts.Contract, facts.ContractKey, facts.Owner
		if i.cfg.Chain != nil {
			s.Block, _ = i.cfg.Chain.Newest()
			if s.Block.IsZero() {
				return nil, errors.New("statement: no block of the chain is proven yet")
			}
		}
	}
	keep := func([32]byte) {}
	if i.cfg.SealKeys != nil {
		var err error
		if s.SealKey, keep, err = i.cfg.SealKeys.NewKey(); err != nil {
			return nil, fmt.Errorf("statement: seal key: %w", err)
		}
	}
	var bundle Bundle
	if i.cfg.GPUs != nil {
		set, err := i.cfg.GPUs.Collect(ctx, s.GPUNonce())
		if err != nil {
			return nil, fmt.Errorf("statement: GPU evidence: %w", err)
		}
		bundle.GPU = set.Encode()
		s.GPU = nvgpu.Digest(bundle.GPU)
	}
	b := s.Encode()
	if _, err := Parse(b); err != nil { // what we refuse of others we do not say
		return nil, fmt.Errorf("statement: our own: %w", err)
	}
	out := &Issued{Statement: s, Digest: Digest(b), made: time.Now()}
	bundle.Statement = b
	if i.cfg.Role != cocoon.RoleClient && i.cfg.Attester != nil {
		var err error
		if bundle.Evidence, err = i.cfg.Attester.Attest(ctx, ReportData(out.Digest)); err != nil {
			return nil, fmt.Errorf("statement: evidence: %w", err)
		}
	}
	if i.cfg.ContractKey != nil {
		sig := i.cfg.ContractKey.SignStatement(out.Digest)
		bundle.ContractSignature = sig[:]
		bundle.Predecessor, bundle.SuccessorSignature = i.cfg.Predecessor, i.cfg.SuccessorSignature
	}
	out.Bundle = bundle.Encode()
	if _, err := ParseBundle(out.Bundle); err != nil {
		return nil, fmt.Errorf("statement: our own: %w", err)
	}
	keep(out.Digest)
	return out, nil
}

func (i *Issued) facts() Facts {
	s := i.Statement
	return Facts{Model: s.Model, Contract: s.Contract, ContractKey: s.ContractKey, Owner: s.Owner}
}
