package api

import (
	"strings"

	"github.com/cocoon-network/cocoon/internal/api/openai"
)

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

// serveReceipt shows a receipt that the client keeps: what was signed, and the
// salts that open its commitments. As with all of the surface, only who may
// spend the owner's money may ask (see guard).
func (g *Gateway) serveReceipt(x *exchange) error {
	if g.cfg.Receipt == nil {
		return openai.NotFound(x.r.URL.Path)
	}
	r, err := g.cfg.Receipt(strings.TrimPrefix(x.r.URL.Path, receiptPrefix))
	if err != nil {
		return openai.NotFound(x.r.URL.Path)
	}
	return x.writeJSON(r)
}
