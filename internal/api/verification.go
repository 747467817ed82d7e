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

// serveWorkers tells what was verified of the workers that requests can be
// sealed to.
func (g *Gateway) serveWorkers(x *exchange) error {
	if g.cfg.Workers == nil {
		return openai.NotFound(x.r.URL.Path)
	}
	return x.writeJSON(g.cfg.Workers())
}
