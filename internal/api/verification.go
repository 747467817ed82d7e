package api

import "github.com/cocoon-network/cocoon/internal/api/openai"

// serveVerification tells what was verified of the peers that serve calls, as
// it stands now.
func (g *Gateway) serveVerification(x *exchange) error {
	if g.cfg.Verification == nil {
		return openai.NotFound(x.r.URL.Path)
	}
	return x.writeJSON(g.cfg.Verification())
}
