// Package client is the client role: it verifies proxies, logs in, sends
// requests and reads answers. The gateway stands on top of it.
//
// Owns: the client's protocol sessions, retries before the first byte.
// Imports: role, wire, tee, registry, bindings, pricing, channel, api
// (Backend); envelope and receipt for sealed requests.
// Trust: proxies are attested, yet their messages and what workers send
// through them are foreign.
// Concurrency: one goroutine a session; a request lives on its caller's
// goroutine.
package client

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/cocoon-network/cocoon"
	"github.com/cocoon-network/cocoon/internal/api"
	"github.com/cocoon-network/cocoon/internal/api/openai"
	"github.com/cocoon-network/cocoon/internal/chain/registry"
	"github.com/cocoon-network/cocoon/internal/envelope"
	"github.com/cocoon-network/cocoon/internal/money/channel"
	"github.com/cocoon-network/cocoon/internal/role"
	"github.com/cocoon-network/cocoon/internal/tee"
	"github.com/cocoon-network/cocoon/internal/wire/mux"
)

// Book remembers, per client contract, the best payment the proxy signed, the
// counters it named, and what our own requests can have cost. Put and PutLimit
// return once that is durable.
type Book interface {
	View(contract cocoon.Address) channel.View
	Put(ctx context.Context, contract cocoon.Address, v channel.View) error
	// Limit is the most that our requests can have cost at a contract, as
	// PutLimit stored it; an error if nothing was counted there.
	Limit(contract cocoon.Address) (int64, error)
	PutLimit(ctx context.Context, contract cocoon.Address, tokens int64) error
}

// Registrar registers this client at a proxy contract on chain: what a Long
// authorization asks for (spec network-protocol 4.2).
type Registrar interface {
	Register(ctx context.Context, proxy, contract cocoon.Address, nonce int64) error
}

// Config configures a Client. Fields without a remark are required.
type Config struct {
	// Owner is the client's wallet contract, owner of its client contracts.
	Owner cocoon.Address
	// Secret returns the secret that logs in with a client contract, at proxies
	// that know it; nil = the empty secret, which everybody knows.
	Secret func(contract cocoon.Address) string
	// Proxies is how many proxies to keep connections to; 0 = 1.
	Proxies int
	// IsTest must equal the network's; TestOnly sets the test-only flag in
	// the addresses sent to peers.
	IsTest, TestOnly bool

	Source    registry.Source
	Dialer    tee.Dialer
	Book      Book
	Registrar Registrar
	// Admit decides about a proxy's evidence; nil = role.AdmitProxy.
	Admit func(*registry.Snapshot, tee.Peer) error
	// Pin remembers who a proxy's endpoint is, and refuses another one, before
	// anything is logged in there; nil = nothing is remembered.
	Pin func(tee.Peer, role.ProxyIdentity) error
	// Suspensions remembers proxies that charged what no request explains; nil =
	// for as long as the process lives.
	Suspensions Suspensions
	// Patience is how long a counter may stay unexplained: the part that
	// explains it may be behind it on its way; 0 = 5 s.
	Patience time.Duration
	// Level0Login lets the client log in at proxies that proved neither their
	// contract key nor real hardware.
	Level0Login bool
	// MaxCoefficient is the highest worker price factor accepted when a call
	// names none, in thousandths; 0 = 4000.
	MaxCoefficient int32
	// Timeout bounds a call that names no limit; 0 = 120 s.
	Timeout time.Duration
	// Seal is the network profile's mode of sealing; callers may tighten it.
	Seal api.Seal
	// VerifyBundle judges the statement of a worker that a proxy handed on;
	// required unless Seal is off. AdmitWorker holds it against the registry; nil
	// = role.AdmitWorker.
	VerifyBundle func(ctx context.Context, bundle []byte) (*tee.Node, error)
	AdmitWorker  func(*registry.Snapshot, tee.Peer) error
	// Candidates is how many workers a request is sealed to, each of which could
	// read it: 1 to 8; 0 = 3.
	Candidates int
	// MinReputation is the lowest reputation a worker may have, 0 to 1.
	MinReputation float64
	// NoCacheSalt sends no cache salt: engines may then serve one caller from
	// what another's request left.
	NoCacheSalt bool
	// Receipts keeps what proves each request; nil = they are checked and
	// forgotten. WantReceipts demands that counters are explained by receipts.
	Receipts     ReceiptStore
	WantReceipts bool
	// Now is the time of sets: the newest proven block's, or the clock where
	// there is no chain; nil = the clock.
	Now func() time.Time
	// Logger may be nil.
	Logger *slog.Logger
}

// Client is one client.
type Client struct {
	cfg    Config
	log    *slog.Logger
	keeper *role.Keeper

	mu       sync.Mutex
	sessions map[*session]struct{} // ready ones
	changed  chan struct{}         // closed when sessions changes
	// What is owed where, by client contract; who is suspended, by contract key.
	reckonings map[cocoon.Address]*reckoning
	suspended  map[[32]byte]bool
	// By proxy contract, and by our own contract at it.
	setVersions map[cocoon.Address]setVersion
	shown       map[[32]byte][][32]byte // hashes of sets, by contract key
	books       map[cocoon.Address]*books
	models      map[string]bool // base names ever offered
	breakers    map[[32]byte]*breaker
	picked      uint64 // choices made

	start       time.Time // the monotonic clock's
	reputations *reputations
	gatewayKey  [32]byte // of cache salts; as long as the process
	drawing     [32]byte // makes the draw of workers ours, for this process

	stats role.Counters
}

// Defaults of the reference (spec network-protocol 5.1).
const (
	defaultMaxCoefficient = 4000
	defaultTimeout        = 120 * time.Second
	// Of our own protocol (docs/protocol.md, reconciliation).
	defaultPatience = 5 * time.Second
)

// New checks cfg and makes a Client.
func New(cfg Config) (*Client, error) {
	switch {
	case cfg.Owner.IsZero():
		return nil, errors.New("client: no owner address: set the client's wallet contract")
	case cfg.Source == nil || cfg.Dialer == nil || cfg.Book == nil || cfg.Registrar == nil:
		return nil, errors.New("client: registry, dialer, book and registrar are required")
	}
	switch {
	case !cfg.Seal.Valid():
		return nil, errors.New("client: no mode of sealing: set require, prefer or off")
	case cfg.Seal != api.SealOff && cfg.VerifyBundle == nil:
		return nil, errors.New("client: requests cannot be sealed to workers that nobody verifies")
	case cfg.Candidates < 0 || cfg.Candidates > envelope.MaxCandidates:
		return nil, fmt.Errorf("client: %d candidates: set 1 to %d", cfg.Candidates, envelope.MaxCandidates)
	case !(cfg.MinReputation >= 0 && cfg.MinReputation <= 1):
		return nil, errors.New("client: the minimum reputation is a number from 0 to 1")
	}
	if cfg.Candidates == 0 {
		cfg.Candidates = defaultCandidates
	}
	if cfg.AdmitWorker == nil {
		cfg.AdmitWorker = role.AdmitWorker
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	cfg.Proxies = max(cfg.Proxies, 1)
	if cfg.MaxCoefficient == 0 {
		cfg.MaxCoefficient = defaultMaxCoefficient
	}
	if cfg.Timeout == 0 {
		cfg.Timeout = defaultTimeout
	}
	if cfg.Secret == nil {
		cfg.Secret = func(cocoon.Address) string { return "" }
	}
	if cfg.Admit == nil {
		cfg.Admit = role.AdmitProxy
	}
	if cfg.Patience == 0 {
		cfg.Patience = defaultPatience
	}
	if cfg.Suspensions == nil {
		cfg.Suspensions = noSuspensions{}
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	c := &Client{
		cfg: cfg, log: cfg.Logger, sessions: map[*session]struct{}{}, changed: make(chan struct{}),
		reckonings: map[cocoon.Address]*reckoning{}, suspended: map[[32]byte]bool{},
		setVersions: map[cocoon.Address]setVersion{}, shown: map[[32]byte][][32]byte{}, books: map[cocoon.Address]*books{}, models: map[string]bool{}, breakers: map[[32]byte]*breaker{}, start: time.Now(), reputations: newReputations(),
	}
	if _, err := rand.Read(c.gatewayKey[:]); err != nil {
		return nil, err
	}
	if _, err := rand.Read(c.drawing[:]); err != nil {
		return nil, err
	}
	c.keeper = role.NewKeeper(role.KeeperConfig{
		Count:   cfg.Proxies,
		Source:  cfg.Source,
		Dialer:  cfg.Dialer,
		Address: func(p registry.Proxy) string { return p.ForClients },
		Admit:   cfg.Admit,
		Serve:   c.serve,
		Logger:  cfg.Logger,
	})
	return c, nil
}

// Run keeps the connections until ctx ends.
func (c *Client) Run(ctx context.Context) error {
	err := c.keeper.Run(ctx)
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, r := range c.reckonings {
		if err := r.close(context.WithoutCancel(ctx)); err != nil {
			c.log.Warn("the exact count of requests was not stored: the next start counts them with the most they can cost", "contract", r.contract, "err", err)
		}
	}
	return err
}

// Ready reports whether a proxy is at hand.
func (c *Client) Ready() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.sessions) > 0
}

func (c *Client) add(s *session) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.suspended[s.proxyKey] {
		close(s.retired)
		return
	}
	c.sessions[s] = struct{}{}
	close(c.changed)
	c.changed = make(chan struct{})
}

func (c *Client) remove(s *session) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.sessions, s)
}

// session returns the best ready session that was not tried, and whether there
// is a second one: first those whose breaker lets calls through and that have
// workers of the model, among them the least busy, then the one that was not
// picked for longest. It waits for one for waitForProxy, and no longer than
// deadline or ctx.
func (c *Client) session(ctx context.Context, deadline time.Time, model string, tried map[*session]bool) (best *session, more bool, err error) {
	for waits := false; ; {
		c.mu.Lock()
		now := time.Now()
		all := len(c.sessions) > 0
		var bestRank int
		for s := range c.sessions {
			if tried[s] {
				continue
			}
			all = false
			rank := 0
			if !c.breakerOf(s).passes(now) {
				rank = 2
			} else if model != "" && !s.offers(model) {
				rank = 1
			}
			more = more || best != nil
			if best == nil || rank < bestRank || rank == bestRank && (s.running() < best.running() || s.running() == best.running() && s.picked < best.picked) {
				best, bestRank = s, rank
			}
		}
		if best != nil && model != "" {
			c.picked++
			best.picked = c.picked
			c.breakerOf(best).begin()
		}
		changed := c.changed
		c.mu.Unlock()
		if best != nil {
			return best, more, nil
		}
		if all {
			return nil, false, errAllTried
		}
		if !waits { // most need not, and a timer costs
			if c.allSuspended() {
				return nil, false, openai.Unavailable("Every proxy that the root contract lists is suspended: what it charged, or what its log says, is not explained. `cocoon status` says why, and how to lift that.")
			}
			waits = true
			var stop context.CancelFunc
			ctx, stop = context.WithDeadline(ctx, earlier(deadline, time.Now().Add(waitForProxy)))
			defer stop()
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, false, openai.Unavailable("No proxy is connected: none could be reached, or none passed verification. `cocoon status` says why.")
		}
	}
}

// allSuspended reports whether no listed proxy can come back: waiting helps
// nobody then.
func (c *Client) allSuspended() bool {
	snap, err := c.cfg.Source.Current()
	if err != nil || len(snap.Proxies) == 0 {
		return false
	}
	gone := map[string]bool{}
	for _, s := range c.cfg.Suspensions.List() {
		gone[s.Endpoint] = true
	}
	for _, p := range snap.Proxies {
		if !gone[p.ForClients] {
			return false
		}
	}
	return true
}

var errAllTried = openai.Unavailable("Every proxy that is connected was tried.")

// waitForProxy bounds how long a call waits for a connection.
const waitForProxy = 10 * time.Second

// maxAttempts bounds the proxies tried before the first byte: a proxy that
// comes back counts again.
const maxAttempts = 8

// hurry is how long a call waits at a proxy for its workers while another proxy
// was not asked yet.
const hurry = 300 * time.Millisecond

// Do implements api.Backend: one call, tried at another connection if the
// first breaks before anything of the answer came.
func (c *Client) Do(ctx context.Context, call *api.Call) (*api.Answer, error) {
	timeout := call.Timeout
	if timeout <= 0 {
		timeout = c.cfg.Timeout
	}
	begin := time.Now()
	deadline := begin.Add(timeout)
	maxCoefficient := call.MaxCoefficient
	if maxCoefficient <= 0 {
		maxCoefficient = c.cfg.MaxCoefficient
	}
	c.stats.Begin()
	mode := c.cfg.Seal.Tighter(call.Seal)
	if call.OfWorkers() {
		mode = api.SealRequire
	}
	query := role.EncodeRequest(call.Path, call.ContentType, call.Body)
	tried := map[*session]bool{}
	var hurried []*session // tried with less patience
	var failure error
	for range maxAttempts {
		s, more, err := c.session(ctx, deadline, call.Model, tried)
		if err == errAllTried && len(hurried) > 0 {
			for _, s := range hurried {
				delete(tried, s)
			}
			hurried = nil
			if s, _, err = c.session(ctx, deadline, call.Model, tried); err == nil {
				more = false
			}
		}
		if err != nil {
			if failure == nil {
				failure = err
			}
			break
		}
		patience := waitForWorker
		if more {
			patience = hurry
			hurried = append(hurried, s)
		}
		a, retry, err := s.doAtPrice(ctx, mode, call, query, maxCoefficient, deadline, patience)
		c.judged(ctx, s, err)
		if err == nil {
			return a, nil
		}
		failure = err
		busy := openai.From(err).Code == openai.CodeUnavailable && time.Since(begin) > waitForWorker
		if !retry || busy || ctx.Err() != nil {
			break
		}
		tried[s] = true
		// The code alone: a peer's text can quote what a caller wrote.
		c.log.Warn("trying again", "proxy", s.peer.Addr, "code", openai.From(err).Code)
	}
	outcome := role.Failed
	if ctx.Err() != nil {
		failure, outcome = openai.From(ctx.Err()), role.Cancelled
	}
	c.stats.End(noTokens, outcome)
	if call.Reference != nil && outcome == role.Failed && openai.From(failure).Code == openai.CodeNotSealed {
		failure = call.Reference // nobody but reference workers is there
	}
	return nil, failure
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// Models implements api.Backend: what the live workers behind all connected
// proxies serve.
func (c *Client) Models(ctx context.Context) ([]api.Model, error) {
	_, _, err := c.session(ctx, time.Now().Add(waitForProxy), "", nil)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	sessions := make([]*session, 0, len(c.sessions))
	for s := range c.sessions {
		sessions = append(sessions, s)
	}
	c.mu.Unlock()
	byName := map[string]*api.Model{}
	var names []string
	var failure error
	answered := false
	for _, s := range sessions {
		models, err := s.models(ctx)
		if err != nil {
			failure = err
			continue
		}
		answered = true
		for _, m := range models {
			if byName[m.ID] == nil {
				byName[m.ID] = &api.Model{ID: m.ID, PricePerToken: m.PricePerToken}
				names = append(names, m.ID)
			}
			byName[m.ID].Workers = append(byName[m.ID].Workers, m.Workers...)
		}
	}
	if !answered {
		c.log.Warn("no proxy lists its models", "err", failure)
		return nil, openai.Upstream("No proxy answered with its list of models.")
	}
	out := make([]api.Model, 0, len(names))
	for _, n := range names {
		out = append(out, *byName[n])
	}
	return out, nil
}

// Stats is the client's state for status pages.
type Stats struct {
	Owner       string           `json:"owner_address"`
	Connections []ConnectionStat `json:"proxy_connections"`
	// Suspended are proxies that charged what no request of ours explains.
	Suspended []Suspension `json:"suspended_proxies"`
	// Breakers are the proxies at which calls failed last.
	Breakers []BreakerStat `json:"breakers"`
	// LogFaults are what is wrong with proxies' audit logs now.
	LogFaults []role.LogFault `json:"log_faults,omitempty"`
	// Logs are what those logs proved last.
	Logs []role.LogSeen `json:"logs,omitempty"`
	role.CounterStats
}

// ConnectionStat is one ready proxy connection.
type ConnectionStat struct {
	Address     string `json:"address"`
	Ready       bool   `json:"is_ready"` // always: others are not listed
	ContractKey string `json:"contract_key"`
	Contract    string `json:"proxy_sc_address"`
	Client      string `json:"sc_address"`
	Level       int    `json:"level"`
	Verdict     string `json:"verdict"`
	ImageHash   string `json:"image_hash"`
	Running     int64  `json:"running_queries"`
	// TokensUsed is the highest counter the proxy named; Nano its price.
	TokensUsed int64  `json:"tokens_used_proxy_max"`
	PaidNano   uint64 `json:"paid_nano"`
	// ExplainedTokens is the most that our own requests can have cost there;
	// what TokensUsed exceeds it by suspends the proxy in a moment.
	ExplainedTokens int64 `json:"tokens_explained_max"`
}

// Stats returns the state now.
func (c *Client) Stats() Stats {
	suspended := append([]Suspension{}, c.cfg.Suspensions.List()...)
	c.mu.Lock()
	defer c.mu.Unlock()
	st := Stats{Owner: c.cfg.Owner.Friendly(false, c.cfg.TestOnly), CounterStats: c.stats.Stats(), Connections: []ConnectionStat{}, Suspended: suspended, Breakers: c.breakersLocked(time.Now())}
	for s := range c.sessions {
		st.Connections = append(st.Connections, s.stat())
	}
	return st
}

// Running is how many calls run now.
func (s *Stats) Running() (n int64) {
	for _, c := range s.Connections {
		n += c.Running
	}
	return n
}

// Log asks the proxy of a contract key for a page of its audit log (role.AskLog).
func (c *Client) Log(ctx context.Context, contractKey [32]byte, page string) ([]byte, error) {
	c.mu.Lock()
	var proxy *mux.Conn
	for x := range c.sessions {
		if x.proxyKey == contractKey && x.books != nil {
			proxy = x.conn
		}
	}
	c.mu.Unlock()
	return role.AskLog(ctx, proxy, paymentTimeout, page)
}

// Watched are the proxies of all connections with receipts.
func (c *Client) Watched() []role.Watched {
	c.mu.Lock()
	defer c.mu.Unlock()
	var out []role.Watched
	for s := range c.sessions {
		if s.books == nil {
			continue
		}
		w := role.Watched{ContractKey: s.proxyKey, Proxy: s.proxyContract, Party: s.contract, Endpoint: s.peer.Addr}
		w.Sets = slices.Clone(c.shown[s.proxyKey])
		out = append(out, w)
	}
	return out
}
