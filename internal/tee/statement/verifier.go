package statement

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"runtime"
	"time"

	"github.com/cocoon-network/cocoon"
	"github.com/cocoon-network/cocoon/attest"
	"github.com/cocoon-network/cocoon/internal/tee"
	"github.com/cocoon-network/cocoon/internal/wire"
)

// Chain is our own view of the network's chain.
type Chain interface {
	// Newest returns the newest proven block and how long it has been the
	// newest, on the monotonic clock.
	Newest() (Block, time.Duration)
	// Lookup proves which block has number seqno, waiting for a newer head
	// until ctx ends. ErrForeign: there is none.
	Lookup(ctx context.Context, seqno uint32) (Block, error)
}

// Endorser finds the vendor's statements that belong to evidence.
type Endorser interface {
	Endorsements(ctx context.Context, ev attest.Evidence) (*attest.Endorsements, error)
}

// Limits of time.
const (
	// MaxAge is how much older than our own head a statement's block may be,
	// how much newer before we doubt ourselves, and how long our head may
	// stand still.
	MaxAge = 10 * time.Minute
	// UsableFor is how long a verified statement counts, on the monotonic
	// clock.
	UsableFor = 15 * time.Minute

	lookupLimit = 5 * time.Second
	failureLife = time.Minute
	maxVerdicts = 4096
)

// VerifierConfig says whom we accept.
type VerifierConfig struct {
	// Role is the one that is expected.
	Role cocoon.Role
	// Policy is held against the evidence of proxies and workers; Endorser,
	// which may be nil, finds what belongs to it. GlobalID is the network's:
	// attest.RefuseOnNetwork.
	Policy   *attest.Policy
	Endorser Endorser
	GlobalID int32
	// NetworkID and Chain are ours; both zero where no chain stands behind the
	// network, and then a statement must name neither.
	NetworkID [32]byte
	Chain     Chain
	// Contract derives a proxy's contract from its key, its owner and our own
	// root contract. Required for proxies.
	Contract func(key [32]byte, owner cocoon.Address) (cocoon.Address, error)
	// Now is the clock of certificates and collateral; nil: time.Now. Where our
	// chain is ahead of it, the chain counts.
	Now func() time.Time
}

// Verifier judges statements and remembers what it found.
type Verifier struct {
	cfg      VerifierConfig
	ticks    ticks
	quotes   *attest.Verifier
	turns    *tee.Turns
	verdicts *memory[*verdict]
	failures *memory[failure]
	counters *memory[uint64]
}

// verdict is a verified statement. It is not changed.
type verdict struct {
	node  *tee.Node
	until time.Duration // on the Verifier's ticks
}

type failure struct {
	err   error
	until time.Duration
}

// NewVerifier makes a Verifier.
func NewVerifier(cfg VerifierConfig) (*Verifier, error) {
	switch {
	case cfg.Role == cocoon.RoleNone:
		return nil, errors.New("statement: a verifier that expects no role")
	case cfg.Role == cocoon.RoleProxy && cfg.Contract == nil:
		return nil, errors.New("statement: a verifier of proxies that cannot derive their contracts")
	case (cfg.Chain == nil) != (cfg.NetworkID == [32]byte{}):
		return nil, errors.New("statement: a chain and the network's id belong together")
	case cfg.GlobalID == 0:
		return nil, errors.New("statement: no global id: which network's rules hold?")
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Role == cocoon.RoleClient {
		cfg.Policy = attest.OpenPolicy()
	}
	return &Verifier{
		cfg: cfg, ticks: newTicks(), quotes: attest.NewVerifier(cfg.Policy), turns: tee.NewTurns(runtime.GOMAXPROCS(0)),
		verdicts: newMemory[*verdict](maxVerdicts), failures: newMemory[failure](maxVerdicts), counters: newMemory[uint64](maxVerdicts),
	}, nil
}

// now is the time of certificates and collateral: a host can set a clock back,
// and not our chain.
func (v *Verifier) now() time.Time {
	now := v.cfg.Now()
	if v.cfg.Chain != nil {
		if b, _ := v.cfg.Chain.Newest(); b.Time.After(now) {
			return b.Time
		}
	}
	return now
}

// known returns a verdict that still counts.
func (v *Verifier) known(digest [32]byte) *verdict {
	d, ok := v.verdicts.get(digest)
	if !ok || v.ticks.now() >= d.until {
		return nil
	}
	return d
}

// until is when a verdict made now ends: after its time, or when what it rests
// on runs out.
func (v *Verifier) until(res *attest.Result) time.Duration {
	life := UsableFor
	if !res.Expires.IsZero() {
		life = min(life, res.Expires.Sub(v.now()))
	}
	return v.ticks.now() + life
}

// appearance is what is known of a peer when its statement is to be judged.
type appearance struct {
	peer   tee.Peer
	digest [32]byte // announced in the hello
	bundle []byte   // empty if the verdict is known
	signed []byte   // what the node key must have signed
	proof  []byte
}

// verify judges a peer's statement and its proof for this connection.
func (v *Verifier) verify(ctx context.Context, a appearance) (*verdict, error) {
	if len(a.bundle) == 0 {
		d := v.known(a.digest)
		if d == nil {
			return nil, fmt.Errorf("%w: it gives none, and none is known", ErrDigest)
		}
		if !verify(d.node.Key, a.signed, a.proof) {
			return nil, ErrProof
		}
		return d, v.sameImage(a.peer, d.node.Result)
	}
	b, err := ParseBundle(a.bundle)
	if err != nil {
		return nil, err
	}
	if Digest(b.Statement) != a.digest {
		return nil, ErrDigest
	}
	s, err := Parse(b.Statement)
	if err != nil {
		return nil, err
	}
	c := &card{}
	c.pass("statement", "canonical, %d bytes; bundle %d bytes", len(b.Statement), len(a.bundle))
	if err := v.belongs(c, s); err != nil {
		return nil, err
	}
	if !verify(s.NodeKey, a.signed, a.proof) {
		return nil, ErrProof
	}
	c.pass("session proof", "node key %x… signed both hellos and this TLS connection's exporter", s.NodeKey[:4])
	return v.appraise(ctx, c, a.peer, b, s, a.bundle)
}

// VerifyBundle judges a bundle that somebody handed on, without a connection
// to the node: everything but that the node is there now.
func (v *Verifier) VerifyBundle(ctx context.Context, bundle []byte) (*tee.Node, error) {
	b, err := ParseBundle(bundle)
	if err != nil {
		return nil, err
	}
	s, err := Parse(b.Statement)
	if err != nil {
		return nil, err
	}
	c := &card{}
	c.pass("statement", "canonical, %d bytes; bundle %d bytes", len(b.Statement), len(bundle))
	if err := v.belongs(c, s); err != nil {
		return nil, err
	}
	d, err := v.appraise(ctx, c, tee.Peer{}, b, s, bundle)
	if err != nil {
		return nil, err
	}
	return d.node, nil
}

// belongs checks what needs no signature: network and role.
func (v *Verifier) belongs(c *card, s *Statement) error {
	if s.Role != cocoon.RoleClient {
		if s.NetworkID != v.cfg.NetworkID {
			return fmt.Errorf("%w: its network id is %x…, ours %x…", ErrNetworkID, s.NetworkID[:8], v.cfg.NetworkID[:8])
		}
		c.pass("network id", "%x", s.NetworkID)
	}
	if s.Role != v.cfg.Role {
		return fmt.Errorf("%w: it is a %s, a %s is expected", ErrRole, s.Role, v.cfg.Role)
	}
	c.pass("role", "%s", s.Role)
	return nil
}

// appraise checks block, contract and evidence, one at a time for a peer's
// address. Waiting for blocks and for the vendor's statements takes no core,
// so that peers who make us wait hold up nobody but themselves. peer is zero
// where no connection is: those who hand bundles on count theirs.
func (v *Verifier) appraise(ctx context.Context, c *card, peer tee.Peer, b *Bundle, s *Statement, raw []byte) (*verdict, error) {
	name := sha256.Sum256(raw)
	if f, ok := v.failures.get(name); ok && v.ticks.now() < f.until {
		return nil, f.err
	}
	if peer.Addr != "" {
		done, err := v.turns.Alone(ctx, peer.Addr)
		if err != nil {
			return nil, err
		}
		defer done()
	}
	digest := Digest(b.Statement)
	if d := v.known(digest); d != nil { // judged while we waited
		return d, v.sameImage(peer, d.node.Result)
	}
	node, err := v.judge(ctx, c, peer, b, s)
	if err != nil {
		if final(err) {
			v.failures.put(name, failure{err, v.ticks.now() + failureLife})
		}
		return nil, err
	}
	node.Digest, node.Bundle = digest, raw
	d := &verdict{node: node, until: v.until(node.Result)}
	v.verdicts.put(digest, d)
	return d, nil
}

// final reports whether trying again soon can change nothing: what rests on
// the newest blocks, the newest registry or on fetched collateral can.
func final(err error) bool {
	for _, passing := range []error{ErrForeign, ErrBehind, ErrHalted, ErrBusy, ErrImages, ErrContract, attest.ErrEndorsements, context.Canceled, context.DeadlineExceeded} {
		if errors.Is(err, passing) {
			return false
		}
	}
	return true
}

func (v *Verifier) judge(ctx context.Context, c *card, peer tee.Peer, b *Bundle, s *Statement) (*tee.Node, error) {
	node := &tee.Node{
		Role: s.Role, Key: s.NodeKey, NetworkID: s.NetworkID, Model: s.Model, SealKey: s.SealKey,
		Contract: s.Contract, ContractKey: s.ContractKey, Owner: s.Owner,
	}
	if s.Role == cocoon.RoleClient {
		if b.Evidence.Format != attest.FormatNone || len(b.GPU) > 0 || len(b.ContractSignature) > 0 || b.Predecessor != [32]byte{} {
			return nil, fmt.Errorf("%w: a client's statement comes with evidence", ErrFormat)
		}
		node.Result, node.Factors = &attest.Result{Kind: attest.None}, c.factors
		return node, nil
	}
	if highest, ok := v.counters.get(s.NodeKey); ok && s.Counter+1 < highest {
		return nil, fmt.Errorf("%w: number %d, %d was seen", ErrReplayed, s.Counter, highest)
	}
	if err := v.fresh(ctx, c, s); err != nil {
		return nil, err
	}
	if err := v.contract(c, b, s); err != nil {
		return nil, err
	}
	node.Predecessor = b.Predecessor
	res, err := v.evidence(ctx, b)
	if err != nil {
		return nil, err
	}
	c.pass("statement evidence", "%s, bound to the statement's digest", res.Kind)
	if res, err = v.gpus(ctx, c, b, s, res); err != nil {
		return nil, err
	}
	if err := v.sameImage(peer, res); err != nil {
		return nil, err
	}
	if peer.Kind != "" {
		c.pass("same image", "certificate and statement: %s", res.ImageHash)
	}
	if highest, _ := v.counters.get(s.NodeKey); s.Counter > highest {
		v.counters.put(s.NodeKey, s.Counter)
	}
	c.pass("counter", "%d", s.Counter)
	node.Result, node.Factors = res, c.factors
	return node, nil
}

// fresh finds the statement's block in our own chain.
func (v *Verifier) fresh(ctx context.Context, c *card, s *Statement) error {
	if v.cfg.Chain == nil {
		if !s.Block.IsZero() {
			return fmt.Errorf("%w: it names block %d, and no chain stands behind this network", ErrForeign, s.Block.Seqno)
		}
		c.skip("block", "no chain stands behind this network, so nothing dates a statement but its session")
		return nil
	}
	if s.Block.IsZero() {
		return ErrNoBlock
	}
	head, still := v.cfg.Chain.Newest()
	if still > MaxAge {
		return fmt.Errorf("%w: block %d has been the newest for %s, at most %s", ErrHalted, head.Seqno, still.Round(time.Second), MaxAge)
	}
	if age := head.Time.Sub(s.Block.Time); age > MaxAge {
		return fmt.Errorf("%w: it says %s before our head, at most %s", ErrOldBlock, age, MaxAge)
	}
	lookup, cancel := context.WithTimeout(ctx, lookupLimit)
	found, err := v.cfg.Chain.Lookup(lookup, s.Block.Seqno)
	cancel()
	if head, _ = v.cfg.Chain.Newest(); err != nil {
		if ahead := s.Block.Time.Sub(head.Time); ahead > MaxAge {
			return fmt.Errorf("%w: by %s", ErrBehind, ahead)
		}
		return fmt.Errorf("%w: block %d: %v", ErrForeign, s.Block.Seqno, err)
	}
	if found.Seqno != s.Block.Seqno || found.RootHash != s.Block.RootHash || found.FileHash != s.Block.FileHash || !found.Time.Equal(s.Block.Time) {
		return fmt.Errorf("%w: number %d is another block there", ErrForeign, s.Block.Seqno)
	}
	c.pass("block", "%d, proven in our own chain", s.Block.Seqno)
	age := head.Time.Sub(found.Time)
	if age > MaxAge {
		return fmt.Errorf("%w: %s before our head, at most %s", ErrOldBlock, age, MaxAge)
	}
	c.pass("block age", "%s before our own head, at most %s", age, MaxAge)
	return nil
}

// contract checks a proxy's claim to its contract.
func (v *Verifier) contract(c *card, b *Bundle, s *Statement) error {
	if s.Role != cocoon.RoleProxy {
		if len(b.ContractSignature) > 0 || b.Predecessor != [32]byte{} {
			return fmt.Errorf("%w: a %s with a contract key's signature", ErrFormat, s.Role)
		}
		return nil
	}
	digest := Digest(b.Statement)
	if !verify(s.ContractKey, signed(wire.LabelProxyStatement, digest[:]), b.ContractSignature) {
		return ErrContractKey
	}
	c.pass("contract key", "%x signed the statement", s.ContractKey)
	want, err := v.cfg.Contract(s.ContractKey, s.Owner)
	if err != nil {
		return fmt.Errorf("%w: %v", ErrContract, err)
	}
	if want != s.Contract {
		return fmt.Errorf("%w: it says %s, they give %s", ErrContract, s.Contract, want)
	}
	c.pass("contract", "%s derives from key, owner and our own root contract", s.Contract)
	if b.Predecessor == [32]byte{} {
		return nil
	}
	if !verify(b.Predecessor, signed(wire.LabelSuccessor, s.ContractKey[:]), b.SuccessorSignature) {
		return ErrSuccessor
	}
	c.pass("predecessor", "%x signed this contract key", b.Predecessor)
	return nil
}

// evidence judges the quote over the statement.
func (v *Verifier) evidence(ctx context.Context, b *Bundle) (*attest.Result, error) {
	var end *attest.Endorsements
	var missing error
	if v.cfg.Endorser != nil && v.quotes.WantsEndorsements(b.Evidence) {
		end, missing = v.cfg.Endorser.Endorsements(ctx, b.Evidence)
	}
	done, err := v.turns.Core(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	res, err := v.quotes.Verify(b.Evidence, ReportData(Digest(b.Statement)), end, v.now())
	switch {
	case missing != nil && err != nil:
		return nil, fmt.Errorf("%w (%w: %w)", err, attest.ErrEndorsements, missing)
	case missing != nil:
		return nil, fmt.Errorf("%w: %w", attest.ErrEndorsements, missing)
	case err != nil:
		return nil, err
	}
	return res, attest.RefuseOnNetwork(v.cfg.Role, res.Kind, v.cfg.GlobalID)
}

// gpus judges a worker's GPU evidence, and ends the result with it.
func (v *Verifier) gpus(ctx context.Context, c *card, b *Bundle, s *Statement, res *attest.Result) (*attest.Result, error) {
	if s.Role != cocoon.RoleWorker {
		if len(b.GPU) > 0 {
			return nil, fmt.Errorf("%w: a %s with GPU evidence", ErrFormat, s.Role)
		}
		return res, nil
	}
	done, err := v.turns.Core(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	factors, expires, err := attest.VerifyGPUs(b.GPU, s.GPU, s.GPUNonce(), v.cfg.Policy, v.now())
	if err != nil {
		return nil, err
	}
	c.factors = append(c.factors, factors...)
	if expires.IsZero() || !res.Expires.IsZero() && res.Expires.Before(expires) {
		return res, nil
	}
	ends := *res // remembered ones are shared
	ends.Expires = expires
	return &ends, nil
}

// sameImage holds the evidence of the certificate against the statement's.
func (v *Verifier) sameImage(peer tee.Peer, res *attest.Result) error {
	if v.cfg.Role == cocoon.RoleClient || peer.Kind == "" {
		return nil
	}
	if peer.Kind != res.Kind || peer.ImageHash != res.ImageHash {
		return fmt.Errorf("%w: %s (%s) and %s (%s)", ErrImages, peer.ImageHash, peer.Kind, res.ImageHash, res.Kind)
	}
	return nil
}

// card collects what was checked, in order.
type card struct{ factors []attest.Factor }

func (c *card) pass(name, format string, args ...any) {
	c.factors = append(c.factors, attest.Factor{Name: name, Result: attest.Pass, Enforced: true, Detail: fmt.Sprintf(format, args...)})
}

func (c *card) skip(name, detail string) {
	c.factors = append(c.factors, attest.Factor{Name: name, Result: attest.Skip, Detail: detail})
}
