package node

import (
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/cocoon-network/cocoon"
	"github.com/cocoon-network/cocoon/attest"
	"github.com/cocoon-network/cocoon/attest/dcap"
	"github.com/cocoon-network/cocoon/internal/chain/registry"
	"github.com/cocoon-network/cocoon/internal/tee"
	"github.com/cocoon-network/cocoon/internal/tee/endorse"
	"github.com/cocoon-network/cocoon/internal/tee/ratls"
	"github.com/cocoon-network/cocoon/internal/tee/router"
	"github.com/cocoon-network/cocoon/internal/wire"
)

// Accepts reports whether peers of this kind are accepted.
func (m *Measured) Accepts(k attest.Kind) bool { return slices.Contains(m.Accept, string(k)) }

// policy is what evidence of proxies and workers is held against. Image
// hashes are held against the root contract by the roles.
func (m *Measured) policy() (*attest.Policy, error) {
	p := &attest.Policy{Images: attest.DeferredImages()}
	for _, a := range m.Accept {
		k := attest.Kind(a)
		switch k {
		case attest.TDX:
			p.Roots = append(p.Roots, attest.IntelRoot)
		case attest.Simulated:
			b, err := hex.DecodeString(m.SimulatedRoot)
			if err != nil || len(b) != len(attest.KeyID{}) {
				return nil, fmt.Errorf("configuration: measured.simulated_root must be the vendor's key id, %d hex digits, where simulated evidence is accepted", 2*len(attest.KeyID{}))
			}
			p.Roots = append(p.Roots, attest.KeyID(b))
		case attest.SEVSNP:
			p.Roots = append(p.Roots, attest.AMDRoots...)
			var err error
			if p.SNP, err = m.snpRules(); err != nil {
				return nil, err
			}
		case attest.Fake, attest.None:
		default:
			return nil, fmt.Errorf("configuration: measured.accept: %q is not a kind of evidence this program reads (tdx, sev-snp, simulated, fake, none)", a)
		}
		p.Kinds = append(p.Kinds, k)
	}
	if len(p.Kinds) == 0 {
		return nil, errors.New("configuration: measured.accept is empty: no peer could ever be accepted")
	}
	for _, s := range m.Statuses {
		if !slices.Contains(acceptable, dcap.Status(s)) {
			return nil, fmt.Errorf("configuration: measured.statuses: %q is not one of %q", s, acceptable)
		}
		p.Statuses = append(p.Statuses, dcap.Status(s))
	}
	for _, s := range m.Platforms {
		var id attest.PlatformID
		if err := id.UnmarshalText([]byte(s)); err != nil {
			return nil, fmt.Errorf("configuration: measured.platforms: %q: %w", s, err)
		}
		p.Platforms = append(p.Platforms, id)
	}
	var err error
	if p.GPU, err = m.gpuPolicy(); err != nil {
		return nil, err
	}
	return p, p.Validate()
}

// acceptable are the patch levels a configuration may name: a revoked platform
// is never accepted.
var acceptable = []dcap.Status{
	dcap.UpToDate, dcap.SWHardeningNeeded, dcap.ConfigurationNeeded, dcap.ConfigurationAndSWHardening,
	dcap.OutOfDate, dcap.OutOfDateConfigurationNeeded, dcap.RelaunchAdvised, dcap.RelaunchAdvisedConfiguration,
}

// snpRules are what is accepted of SEV-SNP guests: only images that are known
// to measure their kernel, on machines of a named patch level.
func (m *Measured) snpRules() (r attest.SNPRules, err error) {
	for _, s := range m.SEVImages {
		var h attest.ImageHash
		if err := h.UnmarshalText([]byte(s)); err != nil {
			return r, fmt.Errorf("configuration: measured.sev_images: %q: %w", s, err)
		}
		r.KernelMeasured = append(r.KernelMeasured, h)
	}
	if len(r.KernelMeasured) == 0 {
		return r, errors.New("configuration: measured.sev_images is empty: where sev-snp is accepted, name the images whose launch measurement covers kernel, initrd and command line")
	}
	parts := strings.Split(m.SEVMinTCB, ".")
	t := []*uint8{&r.MinTCB.FMC, &r.MinTCB.BootLoader, &r.MinTCB.TEE, &r.MinTCB.SNP, &r.MinTCB.Microcode}
	for i, part := range parts {
		v, err := strconv.ParseUint(part, 10, 8)
		if err != nil || len(parts) != len(t) {
			return r, fmt.Errorf("configuration: measured.sev_min_tcb %q is not the lowest patch level accepted: FMC, boot loader, TEE, SNP and microcode, such as 0.4.0.22.213", m.SEVMinTCB)
		}
		*t[i] = uint8(v)
	}
	return r, nil
}

// admit adjusts the check of image hashes to networks whose peers have none.
func (m *Measured) admit(check func(*registry.Snapshot, tee.Peer) error) func(*registry.Snapshot, tee.Peer) error {
	if !m.Accepts(attest.None) {
		return check
	}
	return func(s *registry.Snapshot, p tee.Peer) error {
		if p.Kind == attest.None || p.Kind == "" {
			return nil // the handshake accepted that it shows none
		}
		return check(s, p) // who shows evidence is held to it
	}
}

// identity makes this process's certificates.
func identity(c *Config, ch *chain, log *slog.Logger) (*ratls.Identity, error) {
	a, err := attester(c)
	if err != nil {
		return nil, err
	}
	return ratls.NewIdentity(ratls.IdentityConfig{Attester: a, Now: ch.clock, Log: log}), nil
}

// testOnlyTDX stands for the TDX module in tests, whose root key no build
// trusts unless the test puts it in Intel's place.
var testOnlyTDX ratls.Attester

// attester is the platform this process runs on; nil if it shows no evidence.
func attester(c *Config) (ratls.Attester, error) {
	switch k := attest.Kind(c.Measured.Evidence); k {
	case attest.None:
		return nil, nil
	case attest.Fake:
		return ratls.FakeAttester{}, nil
	case attest.TDX:
		if testOnlyTDX != nil {
			return testOnlyTDX, nil
		}
		return &ratls.TSM{}, nil
	case attest.SEVSNP:
		source := endorse.New(endorse.Config{Roots: attest.AMDRoots, Dir: filepath.Join(c.Runtime.Dir, "collateral"), Offline: c.Runtime.CollateralOffline})
		return &ratls.TSM{Signer: source.Signer}, nil
	case attest.Simulated:
		return simulatedAttester(c)
	default:
		return nil, fmt.Errorf("configuration: measured.evidence %q is not tdx, sev-snp, simulated, fake or none", k)
	}
}

// own refuses to run a role whose own evidence the network would refuse.
func (m *Measured) own(r cocoon.Role) error {
	return attest.RefuseOnNetwork(r, attest.Kind(m.Evidence), m.GlobalID)
}

// ratlsConfig is what dialers and listeners share. l1 opens the sessions of
// level 1.
func ratlsConfig(c *Config, l1 *level1, peer cocoon.Role, id *ratls.Identity, log *slog.Logger) (ratls.Config, error) {
	policy, err := c.Measured.policy()
	if err != nil {
		return ratls.Config{}, err
	}
	if peer == cocoon.RoleClient {
		// Clients prove themselves by their login, not by evidence.
		policy = attest.OpenPolicy()
	}
	end, err := endorser(c, policy, log)
	if err != nil {
		return ratls.Config{}, err
	}
	cfg := ratls.Config{
		Endorser: end,
		Identity: id, Policy: policy, PeerRole: peer, GlobalID: c.Measured.GlobalID,
		Difficulty: c.Runtime.PowDifficulty, Now: l1.chain.clock, Log: log,
	}
	sessions, err := l1.sessions(peer, cfg)
	if err != nil {
		return ratls.Config{}, err
	}
	cfg.Session = sessions.Handshake
	return cfg, nil
}

// endorser finds the vendors' statements that belong to a peer's evidence.
// Where they come from does not matter: they are signed and dated.
func endorser(c *Config, policy *attest.Policy, log *slog.Logger) (ratls.Endorser, error) {
	if policy.Accepts(attest.Simulated) && c.Runtime.SimulatedSeed != "" {
		return simulatedEndorser(c)
	}
	if !slices.ContainsFunc(policy.Kinds, attest.Kind.Real) {
		return nil, nil
	}
	return endorse.New(endorse.Config{
		Roots: policy.Roots, Dir: filepath.Join(c.Runtime.Dir, "collateral"),
		PCS: c.Runtime.CollateralURL, Offline: c.Runtime.CollateralOffline, Log: log,
	}), nil
}

// dialer makes connections to proxies: itself, or through a router.
func dialer(c *Config, l1 *level1, log *slog.Logger) (tee.Dialer, error) {
	if c.Runtime.Via != "" {
		if c.Measured.MinLevel > wire.Level0 {
			return nil, errors.New("configuration: runtime.via names a router, behind which there is no level 1, and measured.min_level demands it")
		}
		if len(c.Measured.Platforms) > 0 {
			return nil, errors.New("configuration: runtime.via names a router, which does not say on which machine a peer runs, and measured.platforms lists some")
		}
		return routerDialer(c, log)
	}
	id, err := identity(c, l1.chain, log)
	if err != nil {
		return nil, err
	}
	cfg, err := ratlsConfig(c, l1, cocoon.RoleProxy, id, log)
	if err != nil {
		return nil, err
	}
	return ratls.NewDialer(cfg)
}

// listener accepts connections of one role.
func listener(c *Config, l1 *level1, ln net.Listener, peer cocoon.Role, id *ratls.Identity, log *slog.Logger) (tee.Listener, error) {
	cfg, err := ratlsConfig(c, l1, peer, id, log)
	if err != nil {
		return nil, err
	}
	return ratls.Listen(ln, cfg)
}

// routerDialer lets a router beside this process make the connections.
func routerDialer(c *Config, log *slog.Logger) (tee.Dialer, error) {
	policy, err := c.Measured.policy()
	if err != nil {
		return nil, err
	}
	return router.NewDialer(router.Config{
		Router: c.Runtime.Via, Policy: policy, PeerRole: cocoon.RoleProxy, GlobalID: c.Measured.GlobalID, Log: log,
	})
}
