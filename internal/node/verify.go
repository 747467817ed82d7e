package node

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/cocoon-network/cocoon"
	"github.com/cocoon-network/cocoon/attest"
	"github.com/cocoon-network/cocoon/internal/role"
	"github.com/cocoon-network/cocoon/internal/role/proxy"
	"github.com/cocoon-network/cocoon/internal/tee"
	"github.com/cocoon-network/cocoon/internal/tee/ratls"
	"github.com/cocoon-network/cocoon/internal/tee/statement"
	"github.com/cocoon-network/cocoon/internal/wire"
)

// VerifyConfig says what is to be verified.
type VerifyConfig struct {
	// Target is "proxy", "worker:ID", host:port, or a file with a certificate
	// (PEM or DER), a TDX quote or an SEV-SNP report.
	Target string
	// Policy is what the evidence must meet besides the network's own rules:
	// "network" (nothing more), "devnet" (simulated evidence counts) or "tdx".
	Policy string
	// Config is a client's configuration: how the network is reached and what
	// it accepts. Without a root contract only evidence can be judged.
	Config *Config
	// State is the network on this machine; nil if none runs.
	State *State
	Log   *slog.Logger
}

// Scorecard is what was verified, one factor a check.
type Scorecard struct {
	Target  string `json:"target"`
	Policy  string `json:"policy"`
	Verdict string `json:"verdict"` // the kind of evidence; "refused" if an enforced factor failed
	// Simulated says that no hardware stands behind the target, whatever else
	// was found.
	Simulated bool             `json:"simulated,omitempty"`
	Level     int              `json:"level"`
	Factors   []VerifiedFactor `json:"factors"`
	// Proofs are what a disagreement of an audit is shown by.
	Proofs map[string]any `json:"proofs,omitempty"`
}

// VerifiedFactor is one line of a Scorecard.
type VerifiedFactor struct {
	attest.Factor
	Against string `json:"against"`
	Fix     string `json:"fix,omitempty"`
}

// Failed returns the first enforced factor that failed; nil if none did.
func (s *Scorecard) Failed() *VerifiedFactor {
	i := slices.IndexFunc(s.Factors, func(f VerifiedFactor) bool { return f.Enforced && f.Result == attest.Fail })
	if i < 0 {
		return nil
	}
	return &s.Factors[i]
}

func (s *Scorecard) add(against string, factors ...attest.Factor) {
	for _, f := range factors {
		v := VerifiedFactor{Factor: f, Against: against}
		if f.Result == attest.Fail {
			v.Fix = fixFor(f)
		}
		s.Factors = append(s.Factors, v)
	}
}

func (s *Scorecard) pass(against, name, format string, args ...any) {
	s.add(against, attest.Factor{Name: name, Result: attest.Pass, Enforced: true, Detail: fmt.Sprintf(format, args...)})
}

func (s *Scorecard) fail(against, name string, err error) {
	s.add(against, attest.Factor{Name: name, Result: attest.Fail, Enforced: true, Detail: err.Error()})
}

func (s *Scorecard) skip(against, name, detail string) {
	s.add(against, attest.Factor{Name: name, Result: attest.Skip, Detail: detail})
}

// found notes the kind of the target's evidence.
func (s *Scorecard) found(k attest.Kind) {
	s.Verdict, s.Simulated = string(k), s.Simulated || k == attest.Simulated
}

// fixFor says what to do about a failure.
func fixFor(f attest.Factor) string {
	for _, c := range []struct{ in, fix string }{
		{"GPU", "run the GPU, driver and VBIOS that measured.gpu_policy pins, with measured.gpu_helper set; or have the network pin this one"},
		{"root key", "use hardware of a vendor the policy trusts, or name the policy of the network this is (--policy network)"},
		{"format", "give evidence as its maker wrote it: a certificate (PEM or DER), a TDX quote or an SEV-SNP report; of a live peer: refuse it"},
		{"policy", "use hardware of the kind the policy demands, or name the policy of the network this is (--policy network)"},
		{"image", "run an image the root contract lists, or have its owner list this one"},
		{"model", "serve a model the root contract lists, or have its owner list this one"},
		{"endpoint", "take an address the root contract lists (`cocoon root show`)"},
		{"collateral", "let this machine reach the vendor's service, or set runtime.collateral_url"},
		{"patch level", "have the machine's owner install the vendor's updates"},
		{"pin", "ask the proxy's operator; the detail says how to accept the change"},
		{"session", "see the detail; until it is clear, treat the connection as intercepted"},
		{"connection", "check the address, that the peer runs, and that it accepts this network's peers"},
		{"chain", "let this machine reach a liteserver of the network; check the clock"},
		{"root contract", "check measured.root_contract against the network's operator"},
	} {
		if strings.Contains(f.Name, c.in) {
			return c.fix
		}
	}
	return "do not use this peer before the cause is removed"
}

// What factors are held against.
const (
	againstConfig   = "configuration"
	againstChain    = "TON, by proof"
	againstTLS      = "this connection"
	againstVendor   = "vendor's root key and statements"
	againstNode     = "node key, our chain, our root contract"
	againstRegistry = "root contract"
	againstPolicy   = "--policy"
)

// Verify judges a target. An error means that nothing could be judged at all;
// what was judged and failed stands on the card.
func Verify(ctx context.Context, cfg VerifyConfig) (*Scorecard, error) {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	s := &Scorecard{Target: cfg.Target, Policy: cfg.Policy, Verdict: string(attest.None), Factors: []VerifiedFactor{}}
	policy, err := cfg.Config.Measured.asked(cfg.Policy)
	if err != nil {
		return nil, err
	}
	id, isWorker := strings.CutPrefix(cfg.Target, "worker:")
	_, _, hostErr := net.SplitHostPort(cfg.Target)
	switch {
	case cfg.Target == "proxy" || isWorker:
		err = cfg.network(ctx, s, policy, id, isWorker)
	case isFile(cfg.Target):
		err = cfg.file(ctx, s, policy)
	case hostErr == nil && cfg.Config.Measured.RootContract != "":
		err = cfg.network(ctx, s, policy, "", false)
	case hostErr == nil:
		err = cfg.stranger(ctx, s, policy)
	default:
		err = fmt.Errorf("%q is neither proxy, worker:ID, an address such as 127.0.0.1:11002, nor a file", cfg.Target)
	}
	if err == nil && s.Failed() != nil {
		s.Verdict = "refused"
	}
	return s, err
}

func isFile(name string) bool {
	info, err := os.Stat(name)
	return err == nil && info.Mode().IsRegular()
}

// asked is the policy of a name.
func (m *Measured) asked(name string) (*attest.Policy, error) {
	switch name {
	case "network":
		return m.policy()
	case "tdx":
		return attest.HardwarePolicy(attest.DeferredImages()), nil
	case "devnet":
		root, err := hex.DecodeString(m.SimulatedRoot)
		if err != nil || len(root) != len(attest.KeyID{}) {
			return nil, errors.New("--policy devnet: the configuration names no simulated vendor: name the folder of a development network with --dir")
		}
		return attest.SimulatedPolicy(attest.KeyID(root), attest.DeferredImages()), nil
	}
	return nil, fmt.Errorf("--policy %q is not network, devnet or tdx", name)
}

// network verifies a peer of a network whose chain we read ourselves.
func (cfg *VerifyConfig) network(ctx context.Context, s *Scorecard, policy *attest.Policy, worker string, isWorker bool) error {
	c := cfg.Config
	ch, err := openChain(ctx, c, cfg.Log)
	if err != nil {
		if c.Measured.RootContract == "" {
			return err
		}
		s.fail(againstChain, "chain", err)
		return nil
	}
	defer ch.close()
	snap, err := ch.Current()
	if err != nil {
		s.fail(againstChain, "root contract", err)
		return nil
	}
	if ch.real() {
		head := ch.client.LastHead()
		zero := ch.client.Network().ZeroStateRootHash
		s.pass(againstConfig, "zero state", "%x…, and the chain from the init block to the head descends from it", zero[:8])
		s.pass(againstChain, "chain head", "block %d of %s, links and validators' signatures verified", head.Seqno, head.Time.UTC().Format(time.DateTime))
		s.pass(againstChain, "root contract", "%s, version %d, account proven in block %d", snap.Root, snap.Version, snap.Seqno)
	} else {
		s.skip(againstConfig, "chain", "a file stands in for the chain and the root contract: "+c.Measured.RootFile)
	}
	if isWorker {
		return cfg.worker(ctx, s, policy, ch, worker)
	}
	addr := cfg.Target
	if addr == "proxy" {
		if len(snap.Proxies) == 0 {
			return errors.New("the root contract lists no proxy")
		}
		addr = snap.Proxies[0].ForClients
	}
	l1, err := newLevel1(c, ch, cocoon.RoleClient, nil, nil, cfg.Log)
	if err != nil {
		return err
	}
	bare := *c
	bare.Runtime.Via = "" // we look ourselves
	dial, err := dialer(&bare, l1, cfg.Log)
	if err != nil {
		return err
	}
	conn, err := dial.Dial(ctx, addr)
	if err != nil {
		s.refused(err)
		return nil
	}
	defer conn.Close()
	s.connected(conn)
	s.peer(role.Factors(snap, cocoon.RoleProxy, conn.Peer, conn.Peer.Node))
	if known, err := openPins(c.Runtime.Dir, ch.networkID()); err != nil {
		s.fail(againstConfig, "pin", err)
	} else if _, ok := known.all[known.network][conn.Peer.Addr]; !ok {
		s.skip(againstConfig, "pin", "this client has not been at this endpoint before")
	} else if err := known.admit(conn.Peer); err != nil {
		s.fail(againstConfig, "pin", err)
	} else {
		s.pass(againstConfig, "pin", "the contract key, owner and level known of this endpoint")
	}
	s.judge(policy, conn.Peer.Result)
	return nil
}

// connected notes what stands when a connection was made.
func (s *Scorecard) connected(conn *tee.Conn) {
	s.Level = conn.Peer.Level
	s.pass(againstTLS, "connection", "%s: proof of work, then TLS 1.3 without tickets or early data", conn.Peer.Addr)
	s.pass(againstTLS, "certificate", "Ed25519 key %x…, self-signed, valid now, for the name of its side; the peer proved to hold the key", conn.Peer.Key[:4])
	if conn.Peer.Level == wire.Level1 {
		s.pass(againstTLS, "level", "1, negotiated as %s", wire.ALPN)
	} else {
		s.skip(againstTLS, "level", "0: the reference protocol, without statement and session proof")
	}
}

// peer adds the factors of a peer, each beside what it is held against.
func (s *Scorecard) peer(factors []attest.Factor) {
	for _, f := range factors {
		against := againstNode
		switch {
		case strings.HasPrefix(f.Name, "certificate: ") || strings.HasPrefix(f.Name, "statement: "):
			against = againstVendor
		case strings.HasSuffix(f.Name, " listed"):
			against = againstRegistry
		}
		s.add(against, f)
	}
}

// refused notes why there is no connection.
func (s *Scorecard) refused(err error) {
	var e *attest.RefusedError
	if errors.As(err, &e) {
		s.add(againstVendor, role.Prefixed("evidence: ", e.Factors)...)
		return
	}
	name := "connection"
	for _, of := range []error{statement.ErrLevel, statement.ErrSize, statement.ErrFormat, statement.ErrVersion, statement.ErrReflected,
		statement.ErrOtherKey, statement.ErrDigest, statement.ErrNetworkID, statement.ErrRole, statement.ErrProof, statement.ErrNoBlock,
		statement.ErrForeign, statement.ErrOldBlock, statement.ErrBehind, statement.ErrHalted, statement.ErrReplayed, statement.ErrContractKey,
		statement.ErrContract, statement.ErrSuccessor, statement.ErrImages, statement.ErrRefused} {
		if errors.Is(err, of) {
			name = "session"
		}
	}
	s.fail(againstTLS, name, err)
}

// judge holds accepted evidence against the policy that was asked for.
func (s *Scorecard) judge(policy *attest.Policy, res *attest.Result) {
	if res == nil {
		s.fail(againstPolicy, "policy "+s.Policy, attest.ErrNoEvidence)
		return
	}
	s.found(res.Kind)
	if err := policy.AdmitResult(res); err != nil {
		s.fail(againstPolicy, "policy "+s.Policy, err)
		return
	}
	s.pass(againstPolicy, "policy "+s.Policy, "%s evidence is accepted", res.Kind)
}

// worker verifies a worker's bundle, which a proxy on this machine hands out.
func (cfg *VerifyConfig) worker(ctx context.Context, s *Scorecard, policy *attest.Policy, ch *chain, id string) error {
	b, err := cfg.bundle(ctx, id)
	if err != nil {
		return err
	}
	base, err := verifierBase(cfg.Config, cocoon.RoleWorker, cfg.Log)
	if err != nil {
		return err
	}
	v, err := statement.NewVerifier(ch.verifies(cocoon.RoleWorker, base))
	if err != nil {
		return err
	}
	s.Level = wire.Level1
	s.skip(againstTLS, "session proof", "workers take no connections: the proxy verified that the node key is at the other end of its own")
	n, err := v.VerifyBundle(ctx, b.Bundle)
	if err != nil {
		s.refused(err)
		return nil
	}
	snap, err := ch.Current()
	if err != nil {
		return err
	}
	p := tee.Peer{Kind: n.Result.Kind, ImageHash: n.Result.ImageHash, Addr: b.Address}
	s.peer(slices.Concat(n.Factors, role.Prefixed("statement: ", n.Result.Factors), role.RegistryFactors(snap, cocoon.RoleWorker, p, n)))
	s.judge(policy, n.Result)
	return nil
}

// bundle finds a worker by its name in `up`, its address at the proxy, or the
// beginning of its node key.
func (cfg *VerifyConfig) bundle(ctx context.Context, id string) (*proxy.WorkerBundle, error) {
	if cfg.State == nil {
		return nil, fmt.Errorf("%w: worker:ID asks the proxy on this machine", ErrNotRunning)
	}
	var owner struct {
		Address string `json:"owner_address"`
	}
	for _, c := range cfg.State.Children {
		if c.Role == "worker" && c.Name == id {
			if err := getJSON(ctx, c.Status+"/jsonstats", &owner); err != nil {
				return nil, err
			}
		}
	}
	var have []string
	for _, c := range cfg.State.Children {
		if c.Role != "proxy" {
			continue
		}
		var all []proxy.WorkerBundle
		if err := getJSON(ctx, c.Status+bundlesPath, &all); err != nil {
			return nil, err
		}
		for i, b := range all {
			if owner.Address != "" && b.Owner == owner.Address || b.Address == id || len(id) >= 8 && strings.HasPrefix(b.NodeKey, id) {
				return &all[i], nil
			}
			have = append(have, b.Address)
		}
	}
	return nil, fmt.Errorf("no worker %q is connected; connected are %q (or name one as in `cocoon status`: worker:worker-1)", id, have)
}

var errNotFound = errors.New("not found")

func getJSON(ctx context.Context, url string, into any) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusOK:
	case http.StatusNotFound:
		return fmt.Errorf("%s: %w", url, errNotFound)
	default:
		why, _ := io.ReadAll(io.LimitReader(resp.Body, 256))
		return fmt.Errorf("%s answers %s: %s", url, resp.Status, strings.TrimSpace(string(why)))
	}
	return json.NewDecoder(io.LimitReader(resp.Body, 16<<20)).Decode(into)
}

// verifierBase is what evidence of a role is judged by.
func verifierBase(c *Config, peer cocoon.Role, log *slog.Logger) (ratls.Config, error) {
	policy, err := c.Measured.policy()
	if err != nil {
		return ratls.Config{}, err
	}
	end, err := endorser(c, policy, log)
	return ratls.Config{Policy: policy, Endorser: end, PeerRole: peer, GlobalID: c.Measured.GlobalID}, err
}

// stranger verifies a peer of a network that is not configured here: its
// evidence alone.
func (cfg *VerifyConfig) stranger(ctx context.Context, s *Scorecard, policy *attest.Policy) error {
	base, err := cfg.alone(policy)
	if err != nil {
		return err
	}
	base.Identity, base.Level0 = ratls.NewIdentity(ratls.IdentityConfig{}), true
	dial, err := ratls.NewDialer(base)
	if err != nil {
		return err
	}
	conn, err := dial.Dial(ctx, cfg.Target)
	if err != nil {
		s.refused(err)
		return nil
	}
	defer conn.Close()
	s.connected(conn)
	s.peer(role.Prefixed("certificate: ", conn.Peer.Result.Factors))
	s.skip(againstRegistry, "image listed", "no network is configured: nobody says whether this is a good image (--config, --dir)")
	s.judge(policy, conn.Peer.Result)
	return nil
}

// alone is how evidence is judged by a policy without a network.
func (cfg *VerifyConfig) alone(policy *attest.Policy) (ratls.Config, error) {
	end, err := endorser(cfg.Config, policy, cfg.Log)
	return ratls.Config{Policy: policy, Endorser: end, GlobalID: cfg.Config.Measured.GlobalID, MaxDifficulty: 0, Log: cfg.Log}, err
}

// snpReport is the size of an SEV-SNP report.
const snpReport = 1184

// file verifies evidence that was kept: a certificate binds its key, a bare
// quote or report nothing we know of.
func (cfg *VerifyConfig) file(ctx context.Context, s *Scorecard, policy *attest.Policy) error {
	b, err := readSmall(cfg.Target)
	if err != nil {
		return err
	}
	// Quotes hold PEM too, further on: only a file that begins with it is one.
	if bytes.HasPrefix(bytes.TrimSpace(b), []byte("-----BEGIN")) {
		block, _ := pem.Decode(b)
		if block == nil {
			return fmt.Errorf("%s begins like PEM and is damaged", cfg.Target)
		}
		b = block.Bytes
	}
	base, err := cfg.alone(policy)
	if err != nil {
		return err
	}
	now := time.Now()
	ev := attest.Evidence{Format: attest.FormatTDX, Quote: b}
	var want attest.ReportData
	bare := true
	switch {
	case len(b) > 1 && b[0] == 0x30 && b[1]&0x80 != 0: // a DER sequence of some length
		bare = false
		var key [32]byte
		if key, ev, err = ratls.CertificateEvidence(b, now); err != nil {
			s.fail("its own signature, the clock", "certificate", err)
			if ev.Format == attest.FormatNone {
				return nil
			}
		} else {
			s.pass("its own signature, the clock", "certificate", "Ed25519 key %x…, self-signed, valid now", key[:4])
		}
		want = attest.KeyReportData(key)
	case len(b) == snpReport:
		ev.Format = attest.FormatSEVSNP
	}
	var end *attest.Endorsements
	var missing error
	if base.Endorser != nil {
		end, missing = base.Endorser.Endorsements(ctx, ev)
	}
	res, err := attest.Verify(ev, want, end, policy, now)
	factors := attest.Factors(err)
	if res != nil {
		factors = res.Factors
	}
	for i, f := range factors {
		if bare && f.Name == "report data" {
			// Nobody says what a bare quote was made for.
			factors[i] = attest.Factor{Name: f.Name, Result: attest.Skip, Detail: "a file alone is bound to no connection: this proves what ran, not that it is the peer you talk to"}
		}
		if f.Name == "kind" && f.Result == attest.Pass {
			s.found(attest.Kind(f.Detail))
		}
	}
	s.add(againstVendor, factors...)
	switch {
	case missing != nil && s.Failed() == nil: // as with a live peer, what is wanted must be there
		s.fail(againstVendor, "collateral", missing)
	case missing != nil:
		s.skip(againstVendor, "endorsements", missing.Error())
	}
	s.skip(againstRegistry, "image listed", "a file alone belongs to no network")
	return nil
}
