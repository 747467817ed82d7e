package router

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/cocoon-network/cocoon"
	"github.com/cocoon-network/cocoon/attest"
	"github.com/cocoon-network/cocoon/internal/tee"
	"github.com/cocoon-network/cocoon/internal/tee/ratls"
)

// ServerConfig is all a router needs.
type ServerConfig struct {
	Settings
	// Identity presents our certificate. Required.
	Identity *ratls.Identity
	// Endorser finds endorsements; nil means that there are none, and so no
	// peer with hardware is accepted.
	Endorser ratls.Endorser
	// GlobalID is the network's global id, never zero: on public networks no
	// configuration lets peers in that must have real evidence.
	GlobalID int32
	// Layout is that of the preamble. Zero: the generation of the policies'
	// names; April if they tell nothing.
	Layout Layout
	// MaxConns bounds each port's connections. Zero: 4096.
	MaxConns int
	// NetListen and NetDial open plain sockets. nil: those of net.
	NetListen func(network, addr string) (net.Listener, error)
	NetDial   func(ctx context.Context, network, addr string) (net.Conn, error)
	// Ready, if there is one, is called once when all ports are open.
	Ready func()
	// Log gets failed connections. nil discards.
	Log *slog.Logger
}

// Server is a router with all its ports (spec attestation 4).
type Server struct {
	cfg   ServerConfig
	rules map[string]Rule
}

// NewServer checks the configuration wholly: a router that starts serves.
func NewServer(cfg ServerConfig) (*Server, error) {
	if cfg.NetListen == nil {
		cfg.NetListen = net.Listen
	}
	if cfg.NetDial == nil {
		cfg.NetDial = new(net.Dialer).DialContext
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if len(cfg.Roots) == 0 {
		cfg.Roots = []attest.KeyID{attest.IntelRoot}
	}
	s := &Server{cfg: cfg, rules: map[string]Rule{}}
	switch {
	case cfg.Identity == nil || cfg.GlobalID == 0:
		return nil, settingsError("no identity, or no global id: which network's rules hold?")
	case cfg.Difficulty < 0 || cfg.Difficulty > 64 || cfg.MaxDifficulty < 0 || cfg.MaxDifficulty > 64:
		return nil, settingsError("a difficulty of the proof of work is 0 to 64")
	case len(cfg.Ports) == 0:
		return nil, settingsError("no port to serve")
	}
	for _, k := range builtins {
		s.rules[string(k)] = Rule{Name: string(k), Kind: k}
	}
	for _, r := range cfg.Rules {
		if _, ok := s.rules[r.Name]; ok || r.Name == "" {
			return nil, settingsError("two policies are called %q (the built-in names are %v)", r.Name, builtins)
		}
		s.rules[r.Name] = r
		if _, err := s.policy(r); err != nil {
			return nil, err
		}
	}
	numbers := map[int]bool{}
	for i := range cfg.Ports {
		p := &cfg.Ports[i]
		if err := p.validate(); err != nil {
			return nil, err
		}
		if numbers[p.Number] {
			return nil, settingsError("two ports are %d", p.Number)
		}
		numbers[p.Number] = true
		if err := s.checkPort(p); err != nil {
			return nil, err
		}
	}
	layout, err := s.layout()
	if err != nil {
		return nil, err
	}
	s.cfg.Layout = layout
	return s, nil
}

// checkPort refuses a port that could let in nobody.
func (s *Server) checkPort(p *Port) error {
	r, ok := s.rules[p.Rule]
	if !ok {
		return settingsError("port %d: no policy is called %q", p.Number, p.Rule)
	}
	policy, err := s.policy(r)
	if err != nil {
		return err
	}
	var refusal error
	for _, k := range policy.Kinds {
		if refusal = attest.RefuseOnNetwork(p.peer(r), k, s.cfg.GlobalID); refusal == nil {
			return nil
		}
	}
	return settingsError("port %d: policy %q can let nobody in: %v (on a test network, give its global id)", p.Number, r.Name, refusal)
}

// peer is the role at the other end. What we dial is a proxy or key manager;
// who dials a port that asks for no evidence is a client.
func (p *Port) peer(r Rule) cocoon.Role {
	switch {
	case p.Kind != Reverse:
		return cocoon.RoleProxy
	case r.Kind == Any:
		return cocoon.RoleClient
	}
	return cocoon.RoleWorker
}

// layout settles on one form of the preamble: a router serves roles of one
// generation.
func (s *Server) layout() (Layout, error) {
	if l := s.cfg.Layout; l != 0 {
		if l != December && l != April {
			return 0, settingsError("unknown layout %d of the preamble", l)
		}
		return l, nil
	}
	var layout Layout
	for _, p := range s.cfg.Ports {
		l := s.rules[p.Rule].Kind.generation()
		if layout != 0 && l != 0 && l != layout {
			return 0, settingsError("policies of both generations are used (tdx, fake_tdx and tee, fake_tee): say which layout of the peer information the roles read")
		}
		if l != 0 {
			layout = l
		}
	}
	if layout == 0 {
		layout = April
	}
	return layout, nil
}

// policy is what a rule asks of the verifier. Lists that it has no place for
// are checked afterwards, by admit.
func (s *Server) policy(r Rule) (*attest.Policy, error) {
	refuse := func(format string, args ...any) (*attest.Policy, error) {
		return nil, settingsError("policy %q: "+format, append([]any{r.Name}, args...)...)
	}
	constrained := len(r.MRTDs)+len(r.RTMRs)+len(r.Images)+len(r.Roots)+len(r.SEVMeasurements) > 0
	var p *attest.Policy
	switch r.Kind {
	case Any, FakeTDX, FakeTEE:
		if constrained {
			return refuse("type %s proves nothing, so that no list can hold", r.Kind)
		}
		p = attest.OpenPolicy()
		if r.Kind != Any {
			p = &attest.Policy{Kinds: []attest.Kind{attest.Fake}}
		}
	case TDX, TEE:
		for _, root := range slices.Concat(s.cfg.Roots, r.Roots) {
			if attest.KindOf(root) != attest.TDX {
				return refuse("%s is not Intel's root key; what ends in it is simulated (type simulated)", root)
			}
		}
		p = attest.HardwarePolicy(attest.DeferredImages())
		if sev := len(r.SEVMeasurements) > 0; sev && r.Kind == TEE {
			p.Kinds = append(p.Kinds, attest.SEVSNP)
			p.Roots = append(p.Roots, attest.AMDRoots...)
			p.SNP.MinTCB = r.SEVMinTCB
			for _, m := range r.SEVMeasurements {
				p.SNP.KernelMeasured = append(p.SNP.KernelMeasured, attest.SEVImageHash(m))
			}
		} else if sev {
			return refuse("type tdx knows no SEV-SNP")
		}
	case Simulated:
		if len(r.Roots) == 0 {
			return refuse("type simulated needs allowed_collateral_root_hashes: whose simulation is trusted?")
		}
		p = &attest.Policy{Kinds: []attest.Kind{attest.Simulated}, Roots: r.Roots, Images: attest.DeferredImages()}
	default:
		return refuse("type %q is not any, tdx, tee, fake_tdx, fake_tee or simulated", string(r.Kind))
	}
	if err := p.Validate(); err != nil {
		return refuse("%v", err)
	}
	return p, nil
}

// ErrListed is the cause of a peer that no list of the policy holds.
var ErrListed = errors.New("router: the policy does not list the peer's")

// admit holds a verified peer against the rule's lists.
func (r *Rule) admit(peer tee.Peer) error {
	res := peer.Result
	if res == nil || len(res.Measurements) == 0 {
		return nil // nothing was measured; such rules have no lists
	}
	if res.Format == attest.FormatSEVSNP {
		if !slices.Contains(r.SEVMeasurements, [48]byte(res.Measurements[0].Value)) {
			return fmt.Errorf("%w measurement %x", ErrListed, res.Measurements[0].Value)
		}
		return nil
	}
	var registers [8][48]byte
	for i := range min(len(registers), len(res.Measurements)) {
		copy(registers[i][:], res.Measurements[i].Value)
	}
	switch {
	case len(r.MRTDs) > 0 && !slices.Contains(r.MRTDs, registers[0]):
		return fmt.Errorf("%w MRTD %x", ErrListed, registers[0])
	case len(r.RTMRs) > 0 && !slices.Contains(r.RTMRs, [4][48]byte(registers[4:])):
		return fmt.Errorf("%w RTMRs %x", ErrListed, registers[4:])
	case len(r.Images) > 0 && !slices.Contains(r.Images, peer.ImageHash):
		return fmt.Errorf("%w image %s", ErrListed, peer.ImageHash)
	case len(r.Roots) > 0 && !slices.Contains(r.Roots, res.RootKeyID):
		return fmt.Errorf("%w root key %s", ErrListed, res.RootKeyID)
	}
	return nil
}

// Run listens on all ports and serves them until ctx ends.
func (s *Server) Run(ctx context.Context) error {
	// Without a certificate every handshake would fail, silently for peers.
	if _, err := s.cfg.Identity.Certificate(ctx); err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	defer wg.Wait()
	for _, p := range s.cfg.Ports {
		run, err := s.open(&p)
		if err != nil {
			cancel(err)
			return err
		}
		wg.Go(func() {
			if err := run(ctx); ctx.Err() == nil {
				cancel(fmt.Errorf("port %d: %w", p.Number, err))
			}
		})
	}
	if s.cfg.Ready != nil {
		s.cfg.Ready()
	}
	<-ctx.Done()
	return context.Cause(ctx)
}

// open listens on one port; what it returns serves it, and closes it.
func (s *Server) open(p *Port) (run func(context.Context) error, err error) {
	log := s.cfg.Log.With("port", p.Number, "policy", p.Rule)
	f := &Forwarder{MaxConns: s.cfg.MaxConns, NetDial: s.cfg.NetDial, Log: log}
	if p.Info {
		f.Layout = s.cfg.Layout
	}
	if p.Kind != SOCKS5 {
		f.Destination = net.JoinHostPort(p.Host, strconv.Itoa(p.Target))
	}
	rule := s.rules[p.Rule]
	secure, err := s.secure(p, rule, log)
	if err != nil {
		return nil, err
	}
	// Plain connections stay on this machine: whoever reaches them is
	// believed. Authenticated ones come from everywhere.
	host := "127.0.0.1"
	if p.Kind == Reverse {
		host = "0.0.0.0"
	}
	if p.Kind != Reverse {
		if f.Dialer, err = dialRule(rule, secure); err != nil {
			return nil, err
		}
		if p.RuleFromUser {
			if f.Named, err = s.named(p, log); err != nil {
				return nil, err
			}
		}
	}
	ln, err := s.cfg.NetListen("tcp", net.JoinHostPort(host, strconv.Itoa(p.Number)))
	if err != nil {
		return nil, settingsError("port %d: %v", p.Number, err)
	}
	log.Info("listening", "kind", string(p.Kind), "addr", ln.Addr().String(), "destination", f.Destination)
	if p.Kind != Reverse {
		return func(ctx context.Context) error { return f.Local(ctx, ln) }, nil
	}
	f.Check = rule.admit
	outer, err := ratls.Listen(ln, secure)
	if err != nil {
		ln.Close()
		return nil, err
	}
	return func(ctx context.Context) error { return f.Reverse(ctx, outer) }, nil
}

// secure is how a port's authenticated side is made.
func (s *Server) secure(p *Port, r Rule, log *slog.Logger) (ratls.Config, error) {
	policy, err := s.policy(r)
	if err != nil {
		return ratls.Config{}, err
	}
	work := func(difficulty int) int { // zero means no work here
		if difficulty == 0 {
			return -1
		}
		return difficulty
	}
	end := s.cfg.Endorser
	if !slices.ContainsFunc(policy.Kinds, attest.Kind.Real) {
		end = nil // no vendor makes statements on what is not hardware
	}
	return ratls.Config{
		Identity: s.cfg.Identity, Policy: policy, Endorser: end,
		PeerRole: p.peer(r), GlobalID: s.cfg.GlobalID,
		Difficulty: work(s.cfg.Difficulty), MaxDifficulty: work(s.cfg.MaxDifficulty),
		Level0: true, NetDial: s.cfg.NetDial, Log: log,
	}, nil
}

// named makes a dialer for each rule that callers of a port can name. A rule
// that could let in nobody here is none of them.
func (s *Server) named(p *Port, log *slog.Logger) (map[string]tee.Dialer, error) {
	all := map[string]tee.Dialer{}
	for name, r := range s.rules {
		as := *p
		as.Rule = name
		if s.checkPort(&as) != nil {
			continue
		}
		secure, err := s.secure(&as, r, log)
		if err != nil {
			return nil, err
		}
		if all[name], err = dialRule(r, secure); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// ruleDialer holds peers it has reached against a rule's lists.
type ruleDialer struct {
	*ratls.Dialer
	rule Rule
}

func dialRule(r Rule, secure ratls.Config) (tee.Dialer, error) {
	d, err := ratls.NewDialer(secure)
	if err != nil {
		return nil, settingsError("policy %q: %v", r.Name, err)
	}
	return &ruleDialer{d, r}, nil
}

// Dial connects to host:port.
func (d *ruleDialer) Dial(ctx context.Context, addr string) (*tee.Conn, error) {
	c, err := d.Dialer.Dial(ctx, addr)
	if err != nil {
		return nil, err
	}
	if err := d.rule.admit(c.Peer); err != nil {
		c.Close()
		return nil, fmt.Errorf("%s: %w", addr, err)
	}
	return c, nil
}

// String lists the ports for people.
func (s *Server) String() string {
	var b strings.Builder
	if s.cfg.Simulated() {
		b.WriteString("SIMULATED: peers may be without any hardware\n")
	}
	for _, p := range s.cfg.Ports {
		fmt.Fprintf(&b, "%s %d policy %s", p.Kind, p.Number, p.Rule)
		if p.Host != "" {
			fmt.Fprintf(&b, " to %s", net.JoinHostPort(p.Host, strconv.Itoa(p.Target)))
		}
		if p.Info {
			fmt.Fprintf(&b, " with peer information (%s)", s.cfg.Layout)
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// String names a layout as flags do.
func (l Layout) String() string {
	switch l {
	case December:
		return "december"
	case April:
		return "april"
	}
	return "none"
}
