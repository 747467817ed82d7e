package role

import (
	"fmt"

	"github.com/cocoon-network/cocoon"
	"github.com/cocoon-network/cocoon/attest"
	"github.com/cocoon-network/cocoon/internal/chain/registry"
	"github.com/cocoon-network/cocoon/internal/tee"
)

// Factors lists what was checked of a peer of a live connection, in order: the
// evidence of its certificate, its statement (n; nil at level 0), the
// statement's evidence, and the registry as it is now.
func Factors(s *registry.Snapshot, expected cocoon.Role, p tee.Peer, n *tee.Node) []attest.Factor {
	var out []attest.Factor
	if p.Result != nil {
		out = append(out, Prefixed("certificate: ", p.Result.Factors)...)
	}
	if n == nil {
		out = append(out, attest.Factor{Name: "statement", Result: attest.Skip, Detail: "level 0: the peer makes none, so nothing dates its evidence or proves its contract key"})
	} else {
		out = append(out, n.Factors...)
		if n.Result != nil {
			out = append(out, Prefixed("statement: ", n.Result.Factors)...)
		}
	}
	return append(out, RegistryFactors(s, expected, p, n)...)
}

// Prefixed returns copies of factors under longer names.
func Prefixed(prefix string, factors []attest.Factor) []attest.Factor {
	out := make([]attest.Factor, len(factors))
	for i, f := range factors {
		f.Name = prefix + f.Name
		out[i] = f
	}
	return out
}

// RegistryFactors holds a peer against the root contract.
func RegistryFactors(s *registry.Snapshot, expected cocoon.Role, p tee.Peer, n *tee.Node) []attest.Factor {
	from := fmt.Sprintf("root contract %s, version %d, block %d", s.Root, s.Version, s.Seqno)
	if s.Fake {
		from = "a file that stands in for the root contract"
	}
	factor := func(name string, ok bool, detail string) attest.Factor {
		f := attest.Factor{Name: name, Result: attest.Pass, Enforced: true, Detail: detail + " is listed by " + from}
		if !ok {
			f.Result, f.Detail = attest.Fail, detail+" is not listed by "+from
		}
		return f
	}
	admit := AdmitProxy
	if expected == cocoon.RoleWorker {
		admit = AdmitWorker
	}
	out := []attest.Factor{factor("image listed", admit(s, p) == nil, p.ImageHash.String())}
	if expected == cocoon.RoleWorker && n != nil {
		out = append(out, factor("model listed", s.HasModel(n.Model), string(n.Model)))
	}
	if expected == cocoon.RoleProxy {
		listed := false
		for _, e := range s.Proxies {
			listed = listed || e.ForClients == p.Addr || e.ForWorkers == p.Addr
		}
		out = append(out, factor("endpoint listed", listed, p.Addr))
	}
	return out
}
