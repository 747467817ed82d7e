package client

import (
	"cmp"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cocoon-network/cocoon"
	"github.com/cocoon-network/cocoon/internal/api/openai"
	"github.com/cocoon-network/cocoon/internal/chain/registry"
	"github.com/cocoon-network/cocoon/internal/envelope"
	"github.com/cocoon-network/cocoon/internal/role"
	"github.com/cocoon-network/cocoon/internal/tee"
	"github.com/cocoon-network/cocoon/internal/wire"
	"github.com/cocoon-network/cocoon/internal/wire/schema"
)

// Why a proxy's offer of workers is refused. Each attack has its own.
var (
	ErrSetForged    = errors.New("the proxy's set of workers is not signed by its node key, or is another proxy's")
	ErrSetFormat    = errors.New("the proxy's set of workers cannot be read")
	ErrSetBack      = errors.New("the proxy's set of workers went back to an older version")
	ErrSetTwice     = errors.New("the proxy shows two sets of workers with one version")
	ErrSetStale     = errors.New("the proxy's set of workers is older than 2 minutes")
	ErrNoSet        = errors.New("the proxy offers no set of workers")
	ErrBundleHidden = errors.New("the proxy hides the statement of a worker that its set names")
	ErrBundleOther  = errors.New("the proxy gives another statement than its set names")
	ErrWorker       = errors.New("the worker is not one that requests can be sealed to")
	ErrReputation   = errors.New("the worker's reputation is below the minimum")
	ErrNoWorker     = errors.New("no worker passes verification")
)

// Limits of a proxy's offer.
const (
	maxSetAge     = 2 * time.Minute
	maxSetEntries = 4096
	setEvery      = 20 * time.Second
	setAgain      = 200 * time.Millisecond // before a set that lacks something is asked for again
	// workerLife is how long a verified worker counts without a newer statement:
	// its seal key lives longer.
	workerLife  = 10 * time.Minute
	refusalLife = time.Minute
	fetchLimit  = 15 * time.Second
	maxVersions = 256 // that are remembered with their hashes

	defaultCandidates = 3
)

// directory is what one proxy offers, and what we verified of it.
type directory struct {
	s *session

	fetching  sync.Mutex  // held while the proxy is asked
	preparing atomic.Bool // beside requests

	mu       sync.Mutex
	set      *schema.CocoonSet
	hash     [32]byte
	asked    time.Time
	refused  error // of the set asked for last
	versions map[int64][32]byte
	workers  map[[32]byte]*known
}

// known is a worker of a set: verified, or refused with the reason.
type known struct {
	entry    schema.CocoonSetEntry
	node     *tee.Node
	err      error
	until    time.Time          // monotonic
	admitted *registry.Snapshot // under which it was admitted
	session  *envelope.Session
	next     *envelope.Session // made ahead
	making   bool              // next is being made
}

func newDirectory(s *session) *directory {
	return &directory{s: s, versions: map[int64][32]byte{}, workers: map[[32]byte]*known{}}
}

// refresh asks for the set in force.
func (d *directory) refresh(ctx context.Context) error {
	d.fetching.Lock()
	defer d.fetching.Unlock()
	return d.fetch(ctx)
}

// prepare verifies, beside the requests, the new statements of machines that
// requests go to, and makes sessions with them, so that no request waits for
// either. Statements change every few minutes.
func (d *directory) prepare() {
	type machine struct {
		platform [32]byte
		model    string
	}
	used := map[machine]bool{}
	var fresh []schema.CocoonSetEntry
	d.mu.Lock()
	for _, k := range d.workers {
		if k.session != nil {
			used[machine{k.entry.Platform, k.entry.Model}] = true
		}
	}
	if d.set != nil {
		for _, e := range d.set.Entries {
			if d.workers[e.Statement] == nil && used[machine{e.Platform, e.Model}] && len(fresh) < maxPrepared {
				fresh = append(fresh, e)
			}
		}
	}
	d.mu.Unlock()
	if len(fresh) == 0 || !d.preparing.CompareAndSwap(false, true) {
		return
	}
	go func() {
		defer d.preparing.Store(false)
		ctx, stop := context.WithTimeout(d.s.ctx, fetchLimit)
		defer stop()
		for _, e := range fresh {
			if k, err := d.worker(ctx, e); err == nil { // else whoever needs it hears why
				d.makeNext(k)
			}
		}
	}()
}

// maxPrepared bounds the workers that are prepared at once.
const maxPrepared = 32

func (d *directory) fetch(ctx context.Context) error {
	d.mu.Lock()
	var version int64
	if d.set != nil {
		version = d.set.Version
	}
	d.mu.Unlock()
	answer, err := role.Ask[*schema.CocoonSignedSet](ctx, d.s.conn, fetchLimit, &schema.CocoonGetSet{Known: version})
	d.mu.Lock()
	defer d.mu.Unlock()
	d.asked = time.Now()
	if err != nil {
		return err
	}
	d.refused = d.take(answer)
	if d.refused != nil {
		d.s.c.log.Warn("a set of workers is refused", "proxy", d.s.peer.Addr, "err", d.refused)
	}
	return d.refused
}

// take checks a set and takes it over; the lock is held.
func (d *directory) take(answer *schema.CocoonSignedSet) error {
	if len(answer.Set) == 0 {
		if d.set == nil {
			return ErrNoSet
		}
		return d.s.c.fresh(d.set) // the one we have is said to be in force
	}
	o, err := schema.DecodeCanonical(answer.Set)
	if err != nil {
		return fmt.Errorf("%w: %v", ErrSetFormat, err)
	}
	set, ok := o.(*schema.CocoonSet)
	if !ok || len(set.Entries) > maxSetEntries {
		return ErrSetFormat
	}
	for i, e := range set.Entries[min(1, len(set.Entries)):] {
		if slices.Compare(set.Entries[i].Statement[:], e.Statement[:]) >= 0 {
			return fmt.Errorf("%w: a worker stands in it twice, or out of order", ErrSetFormat)
		}
	}
	hash := sha256.Sum256(answer.Set)
	contract := cocoon.Address(set.Contract)
	key := d.s.peer.Node.Key
	if contract != d.s.proxyContract || len(answer.Signature) != ed25519.SignatureSize ||
		!ed25519.Verify(key[:], role.SetMessage(contract, uint64(set.Version), set.Previous, hash), answer.Signature) {
		return ErrSetForged
	}
	if was, ok := d.versions[set.Version]; ok && was != hash {
		return fmt.Errorf("%w: version %d is %x… and %x…", ErrSetTwice, set.Version, was[:4], hash[:4])
	}
	if d.set != nil && set.Version < d.set.Version {
		return fmt.Errorf("%w: from %d to %d", ErrSetBack, d.set.Version, set.Version)
	}
	if err := d.s.c.fresh(set); err != nil {
		return err
	}
	if err := d.s.c.noteVersion(contract, set.Version, hash); err != nil {
		return err
	}
	if len(d.versions) >= maxVersions {
		clear(d.versions)
	}
	d.versions[set.Version] = hash
	d.s.c.noteShown(d.s.proxyKey, hash)
	d.s.c.noteModels(set)
	d.set, d.hash = set, hash
	// What is offered no more is forgotten.
	for digest, k := range d.workers {
		if !slices.ContainsFunc(set.Entries, func(e schema.CocoonSetEntry) bool { return e.Statement == digest }) && (k.err != nil || !time.Now().Before(k.until)) {
			delete(d.workers, digest)
		}
	}
	return nil
}

// fresh refuses a set whose time is over, or far ahead of ours.
func (c *Client) fresh(set *schema.CocoonSet) error {
	age := c.cfg.Now().Sub(time.Unix(int64(uint32(set.Time)), 0))
	if age > maxSetAge || age < -maxSetAge {
		return fmt.Errorf("%w: it is %s old by our own time", ErrSetStale, age.Round(time.Second))
	}
	return nil
}

// noteVersion remembers the newest set of a contract over connections.
func (c *Client) noteVersion(contract cocoon.Address, version int64, hash [32]byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	was, ok := c.setVersions[contract]
	switch {
	case ok && version < was.version:
		return fmt.Errorf("%w: from %d to %d", ErrSetBack, was.version, version)
	case ok && version == was.version && hash != was.hash:
		return fmt.Errorf("%w: version %d", ErrSetTwice, version)
	}
	c.setVersions[contract] = setVersion{version, hash}
	return nil
}

// noteShown remembers the sets that a proxy showed, over its connections: one
// that it ends at once is asked for in its log like any other.
func (c *Client) noteShown(key [32]byte, hash [32]byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := c.shown[key]
	if len(all) > 0 && all[len(all)-1] == hash {
		return
	}
	all = append(all, hash)
	c.shown[key] = slices.Clone(all[max(0, len(all)-maxVersions):])
}

// noteModels remembers which models were ever offered.
func (c *Client) noteModels(set *schema.CocoonSet) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, e := range set.Entries {
		if len(c.models) < maxSetEntries {
			c.models[cocoon.ModelName(e.Model).Base()] = true
		}
	}
}

type setVersion struct {
	version int64
	hash    [32]byte
}

// choose returns verified workers for a request, at most n: the platform is
// drawn first, then the worker on it. begun names the conversation. It waits up to patience for workers of a
// model that the proxy knows, as an unsealed request would.
func (d *directory) choose(ctx context.Context, patience time.Duration, model string, maxCoefficient int32, begun func() []byte, demand func(*known) error, n int) ([]*known, error) {
	until := time.Now().Add(patience)
	for tries := 0; ; tries++ {
		d.mu.Lock()
		stale := d.set == nil || time.Since(d.asked) > setEvery || d.s.c.fresh(d.set) != nil
		d.mu.Unlock()
		var failure error
		if stale {
			failure = d.refresh(ctx)
		}
		var got []*known
		var err error
		if failure == nil || d.usable() {
			got, failure = d.draw(ctx, model, maxCoefficient, begun, demand, n)
			if len(got) > 0 {
				return got, nil
			}
			if errors.Is(failure, errNoEntry) {
				if err = d.unknown(ctx, model); err != nil {
					return nil, err
				}
			}
		}
		// A refused worker or set is worth one more look: the proxy may have
		// got better ones just now.
		hopeless := !errors.Is(failure, errNoEntry) && !errors.Is(failure, ErrNoSet)
		if hopeless && tries > 0 || !time.Now().Before(until) || ctx.Err() != nil {
			return nil, failure
		}
		select {
		case <-time.After(setAgain):
		case <-ctx.Done():
			return nil, failure
		}
		if err := d.refresh(ctx); err != nil && ctx.Err() != nil {
			return nil, failure
		}
	}
}

// waitForWorker is how long a call waits for a worker that may come back.
const waitForWorker = 10 * time.Second

// errNoEntry: the set names no worker of the model.
var errNoEntry = errors.New("the proxy's set names no worker of this model")

// unknown returns the caller's error if the proxy has never known a worker of
// the model, nil if it is worth waiting for.
func (d *directory) unknown(ctx context.Context, model string) error {
	c := d.s.c
	c.mu.Lock()
	seen := c.models[model]
	c.mu.Unlock()
	if seen {
		return nil
	}
	models, err := d.s.models(ctx)
	if err != nil {
		return err
	}
	for _, m := range models {
		if m.ID == model {
			return nil
		}
	}
	return openai.ModelNotFound(model)
}

// usable reports whether the set we have may still be used.
func (d *directory) usable() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.set != nil && d.refused == nil && d.s.c.fresh(d.set) == nil
}

func (d *directory) draw(ctx context.Context, model string, maxCoefficient int32, begun func() []byte, demand func(*known) error, n int) ([]*known, error) {
	d.mu.Lock()
	byPlatform := map[[32]byte][]schema.CocoonSetEntry{}
	cheapest := map[[32]byte]int32{}
	var platforms [][32]byte
	var lowest int32
	if d.set != nil {
		for _, e := range d.set.Entries {
			if cocoon.ModelName(e.Model).Base() != model {
				continue
			}
			if e.Coefficient > maxCoefficient {
				if lowest == 0 || e.Coefficient < lowest {
					lowest = e.Coefficient
				}
				continue
			}
			if byPlatform[e.Platform] == nil {
				platforms = append(platforms, e.Platform)
			}
			byPlatform[e.Platform] = append(byPlatform[e.Platform], e)
			if c, ok := cheapest[e.Platform]; !ok || e.Coefficient < c {
				cheapest[e.Platform] = e.Coefficient
			}
		}
	}
	d.mu.Unlock()
	var got []*known
	failure := fmt.Errorf("%w: %w", ErrNoWorker, errNoEntry)
	if lowest > 0 && len(platforms) == 0 {
		failure = openai.InvalidRequest("max_coefficient", "Only dearer workers are there: the cheapest has the coefficient %d.", lowest)
	}
	if len(platforms) > 1 {
		var conversation []byte
		if len(platforms) > n { // else all of them are candidates anyway
			conversation = begun()
		}
		d.order(platforms, cheapest, conversation)
	}
	for len(got) < n && len(platforms) > 0 {
		// Round by round: each platform at most once in a round.
		for _, p := range slices.Clone(platforms) {
			if len(got) >= n {
				break
			}
			for len(byPlatform[p]) > 0 {
				i := rand.IntN(len(byPlatform[p]))
				e := byPlatform[p][i]
				byPlatform[p] = slices.Delete(byPlatform[p], i, i+1)
				k, err := d.worker(ctx, e)
				if err == nil {
					err = demand(k)
				}
				if err != nil {
					failure = fmt.Errorf("%w: %w", ErrNoWorker, err)
					continue
				}
				if slices.ContainsFunc(got, func(o *known) bool { return o.node.Key == k.node.Key }) {
					continue // one worker, two statements
				}
				got = append(got, k)
				break
			}
		}
		platforms = slices.DeleteFunc(platforms, func(p [32]byte) bool { return len(byPlatform[p]) == 0 })
	}
	return got, failure
}

// worker returns a verified worker of the set, fetching and verifying its
// bundle once.
func (d *directory) worker(ctx context.Context, e schema.CocoonSetEntry) (*known, error) {
	if k, err := d.remembered(e); k != nil || err != nil {
		return k, err
	}
	d.fetching.Lock()
	defer d.fetching.Unlock()
	if k, err := d.remembered(e); k != nil || err != nil {
		return k, err
	}
	node, err := d.verify(ctx, e)
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	k := &known{entry: e, node: node, err: err, until: time.Now().Add(workerLife)}
	if err == nil {
		k.err = d.admit(k)
	}
	if k.err != nil {
		k.until = time.Now().Add(refusalLife)
		d.s.c.log.Warn("a worker is refused", "proxy", d.s.peer.Addr, "statement", fmt.Sprintf("%x", e.Statement[:8]), "err", k.err)
	}
	d.mu.Lock()
	d.workers[e.Statement] = k
	d.mu.Unlock()
	return k, k.err
}

// remembered returns what we know of a worker, nil if it has to be verified.
func (d *directory) remembered(e schema.CocoonSetEntry) (*known, error) {
	d.mu.Lock()
	k := d.workers[e.Statement]
	d.mu.Unlock()
	if k == nil || !time.Now().Before(k.until) {
		return nil, nil
	}
	if k.err != nil {
		return nil, k.err
	}
	if err := d.admit(k); err != nil {
		return nil, err
	}
	return k, nil
}

func (d *directory) verify(ctx context.Context, e schema.CocoonSetEntry) (*tee.Node, error) {
	answer, err := role.Ask[*schema.CocoonBundled](ctx, d.s.conn, fetchLimit, &schema.CocoonGetBundle{Statement: e.Statement})
	if err != nil {
		var werr *wire.Error
		if errors.As(err, &werr) {
			return nil, fmt.Errorf("%w: %v", ErrBundleHidden, err)
		}
		return nil, err
	}
	node, err := d.s.c.cfg.VerifyBundle(ctx, answer.Bundle)
	if err != nil {
		return nil, err
	}
	if node.Digest != e.Statement {
		return nil, fmt.Errorf("%w: %x… for %x…", ErrBundleOther, node.Digest[:4], e.Statement[:4])
	}
	if string(node.Model) != e.Model || node.Result == nil || [32]byte(node.Result.Platform) != e.Platform {
		return nil, fmt.Errorf("%w: another model or platform", ErrBundleOther)
	}
	if len(node.SealKey) == 0 {
		return nil, fmt.Errorf("%w: its statement has no seal key", ErrWorker)
	}
	return node, nil
}

// admit holds a verified worker against the registry as it is now.
func (d *directory) admit(k *known) error {
	snap, err := d.s.c.cfg.Source.Current()
	if err != nil {
		return err
	}
	d.mu.Lock()
	same := k.admitted == snap
	d.mu.Unlock()
	if same {
		return nil
	}
	res := k.node.Result
	peer := tee.Peer{Kind: res.Kind, ImageHash: res.ImageHash, Level: wire.Level1, Result: res, Node: k.node, Addr: "(through " + d.s.peer.Addr + ")"}
	if err := d.s.c.cfg.AdmitWorker(snap, peer); err != nil {
		return fmt.Errorf("%w: %w", ErrWorker, err)
	}
	if !snap.HasModel(k.node.Model) {
		return fmt.Errorf("%w: the root contract does not list its model %s", ErrWorker, k.node.Model)
	}
	d.mu.Lock()
	k.admitted = snap
	d.mu.Unlock()
	return nil
}

// sealSession returns a session with a worker that has room for one request.
func (d *directory) sealSession(k *known) (*envelope.Session, error) {
	now := time.Since(d.s.c.start)
	d.mu.Lock()
	defer d.mu.Unlock()
	if k.session == nil || !k.session.Take(now) {
		s := k.next
		k.next = nil
		if s == nil || !s.Take(now) {
			var err error
			if s, err = newSession(k, now); err != nil {
				return nil, err
			}
			s.Take(now)
		}
		k.session = s
	}
	if k.next == nil && !k.making && k.session.Low(now) {
		k.making = true
		go d.makeNext(k)
	}
	return k.session, nil
}

func newSession(k *known, now time.Duration) (*envelope.Session, error) {
	return envelope.NewSession(envelope.Worker{Statement: k.node.Digest, NodeKey: k.node.Key, SealKey: k.node.SealKey}, now)
}

// makeNext makes the session after the one in use ahead: it costs as much as
// all else of a request.
func (d *directory) makeNext(k *known) {
	s, err := newSession(k, time.Since(d.s.c.start))
	d.mu.Lock()
	defer d.mu.Unlock()
	k.making = false
	if err == nil { // else whoever needs one hears why
		k.next = s
	}
}

// forget drops sessions that a worker does not know any more.
func (d *directory) forget(sessions []*envelope.Session) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, k := range d.workers {
		if slices.Contains(sessions, k.session) {
			k.session = nil
		}
	}
}

// WorkerStat is a worker of a proxy's set, for people.
type WorkerStat struct {
	Proxy       string  `json:"proxy"`
	Statement   string  `json:"statement"`
	Model       string  `json:"model"`
	Coefficient int32   `json:"coefficient"`
	Platform    string  `json:"platform"`
	Owner       string  `json:"owner_address,omitempty"`
	Verdict     string  `json:"verdict"` // a kind of evidence, "refused" or "not verified yet"
	ImageHash   string  `json:"image_hash,omitempty"`
	Reason      string  `json:"reason,omitempty"`
	Reputation  *Record `json:"reputation,omitempty"`
}

// Workers says what was verified of the workers that requests can be sealed to.
type Workers struct {
	Mode    string       `json:"seal"`
	Workers []WorkerStat `json:"workers"`
	// Refused are proxies whose set was refused, with the reason.
	Refused []SetRefusal `json:"refused_sets"`
	// Suspended are proxies whose workers are not used any more, with the reason.
	Suspended []Suspension `json:"suspended_proxies,omitempty"`
}

// SetRefusal is a proxy's set that was refused.
type SetRefusal struct {
	Proxy  string `json:"proxy"`
	Reason string `json:"reason"`
}

// Workers returns the state now. With look, every worker of every set is
// verified first.
func (c *Client) Workers(ctx context.Context, look bool) Workers {
	c.mu.Lock()
	sessions := make([]*session, 0, len(c.sessions))
	for s := range c.sessions {
		sessions = append(sessions, s)
	}
	c.mu.Unlock()
	out := Workers{Mode: string(c.cfg.Seal), Workers: []WorkerStat{}, Refused: []SetRefusal{}, Suspended: c.cfg.Suspensions.List()}
	for _, s := range sessions {
		d := s.directory
		if d == nil {
			out.Refused = append(out.Refused, SetRefusal{s.peer.Addr, "the proxy speaks level 0 only: nothing can be sealed through it"})
			continue
		}
		if look {
			if err := d.refresh(ctx); err != nil {
				out.Refused = append(out.Refused, SetRefusal{s.peer.Addr, err.Error()})
				continue
			}
		}
		d.mu.Lock()
		var entries []schema.CocoonSetEntry
		if d.set != nil {
			entries = slices.Clone(d.set.Entries)
		}
		if d.refused != nil && !look {
			out.Refused = append(out.Refused, SetRefusal{s.peer.Addr, d.refused.Error()})
		}
		d.mu.Unlock()
		for _, e := range entries {
			w := WorkerStat{Proxy: s.peer.Addr, Statement: fmt.Sprintf("%x", e.Statement), Model: e.Model, Coefficient: e.Coefficient, Platform: fmt.Sprintf("%x", e.Platform), Verdict: "not verified yet"}
			var k *known
			var err error
			if look {
				k, err = d.worker(ctx, e)
			} else {
				k, err = d.remembered(e)
			}
			switch {
			case err != nil:
				w.Verdict, w.Reason = "refused", err.Error()
			case k != nil:
				w.Verdict, w.ImageHash, w.Owner = string(k.node.Result.Kind), k.node.Result.ImageHash.String(), k.node.Owner.Friendly(false, c.cfg.TestOnly)
				r := c.reputations.record(k.node)
				w.Reputation = &r
			}
			out.Workers = append(out.Workers, w)
		}
	}
	slices.SortFunc(out.Workers, func(a, b WorkerStat) int {
		return cmp.Or(cmp.Compare(a.Proxy, b.Proxy), cmp.Compare(a.Model, b.Model), cmp.Compare(a.Statement, b.Statement))
	})
	return out
}
