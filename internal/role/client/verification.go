package client

import (
	"encoding/hex"

	"github.com/cocoon-network/cocoon"
	"github.com/cocoon-network/cocoon/attest"
	"github.com/cocoon-network/cocoon/internal/role"
)

// Verification is what this client verified of the proxies it is connected to,
// as it stands now.
type Verification struct {
	// Verdict is the kind of evidence all connections have, "mixed" if they
	// differ, "none" without a connection.
	Verdict string              `json:"verdict"`
	Proxies []ProxyVerification `json:"proxies"`
}

// ProxyVerification is one connection.
type ProxyVerification struct {
	Address     string          `json:"address"`
	Contract    string          `json:"contract"`
	ContractKey string          `json:"contract_key"`
	Level       int             `json:"level"`
	Verdict     string          `json:"verdict"`
	ImageHash   string          `json:"image_hash"`
	Usable      bool            `json:"usable"`
	Factors     []attest.Factor `json:"factors"`
}

// Verification returns the state now.
func (c *Client) Verification() Verification {
	c.mu.Lock()
	sessions := make([]*session, 0, len(c.sessions))
	for s := range c.sessions {
		sessions = append(sessions, s)
	}
	c.mu.Unlock()
	v := Verification{Proxies: []ProxyVerification{}}
	for _, s := range sessions {
		p := s.verification()
		switch v.Verdict {
		case "", p.Verdict:
			v.Verdict = p.Verdict
		default:
			v.Verdict = "mixed"
		}
		v.Proxies = append(v.Proxies, p)
	}
	if v.Verdict == "" {
		v.Verdict = string(attest.None)
	}
	return v
}

func (s *session) verification() ProxyVerification {
	n := s.peer.Node
	if s.nc.Session != nil {
		n = s.nc.Session.Node() // the newest
	}
	snap := s.snap
	if now, err := s.c.cfg.Source.Current(); err == nil {
		snap = now
	}
	p := ProxyVerification{
		Address: s.peer.Addr, Contract: s.proxyContract.Friendly(false, s.c.cfg.TestOnly), Level: s.peer.Level,
		ContractKey: hex.EncodeToString(s.proxyKey[:]), Verdict: string(s.peer.Kind), ImageHash: s.peer.ImageHash.String(),
		Usable: role.Usable(s.nc) == nil, Factors: role.Factors(snap, cocoon.RoleProxy, s.peer, n),
	}
	f := attest.Factor{Name: "contract identity", Result: attest.Pass, Enforced: true, Detail: p.Contract + " derives from the key, the owner and our own root contract"}
	if n == nil {
		f.Detail += "; at level 0 nothing proves that the peer holds the key"
	}
	p.Factors = append(p.Factors, f)
	return p
}
