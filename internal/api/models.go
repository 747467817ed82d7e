package api

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/cocoon-network/cocoon/internal/api/openai"
)

// localTimeout bounds what is answered without a call.
const localTimeout = 10 * time.Second

// modelObject is a model as GET /v1/models shows it: the OpenAI fields, the
// reference network's workers (spec network-protocol 5.9) and the price.
type modelObject struct {
	ID      string         `json:"id"`
	Object  string         `json:"object"`
	Created int64          `json:"created"`
	OwnedBy string         `json:"owned_by"`
	Price   uint64         `json:"price_per_token_nano"`
	Workers []workerObject `json:"workers"`
}

type workerObject struct {
	Coefficient int32 `json:"coefficient"`
	Running     int32 `json:"running_requests"`
	MaxRunning  int32 `json:"max_running_requests"`
}

func (m Model) object() modelObject {
	o := modelObject{ID: m.ID, Object: "model", OwnedBy: "cocoon", Price: uint64(m.PricePerToken), Workers: []workerObject{}}
	for _, w := range m.Workers {
		o.Workers = append(o.Workers, workerObject{w.Coefficient, w.ActiveRequests, w.MaxActiveRequests})
	}
	return o
}

func (g *Gateway) models(ctx context.Context) ([]Model, error) {
	ctx, cancel := context.WithTimeout(ctx, localTimeout)
	defer cancel()
	models, err := g.cfg.Backend.Models(ctx)
	if err != nil {
		return nil, openai.From(err)
	}
	models = slices.Clone(models)
	slices.SortFunc(models, func(a, b Model) int { return strings.Compare(a.ID, b.ID) })
	return models, nil
}

func (g *Gateway) serveModels(x *exchange) error {
	models, err := g.models(x.r.Context())
	if err != nil {
		return err
	}
	list := struct {
		Object string        `json:"object"`
		Data   []modelObject `json:"data"`
	}{"list", []modelObject{}}
	for _, m := range models {
		if !x.key.May(m.ID) {
			continue
		}
		list.Data = append(list.Data, m.object())
	}
	return x.writeJSON(list)
}

func (g *Gateway) serveModel(x *exchange) error {
	models, err := g.models(x.r.Context())
	if err != nil {
		return err
	}
	id := strings.TrimPrefix(x.r.URL.Path, modelPrefix)
	for _, m := range models {
		if m.ID == id && x.key.May(id) {
			return x.writeJSON(m.object())
		}
	}
	return openai.ModelNotFound(id)
}

func (g *Gateway) serveHealth(x *exchange) error {
	return x.writeJSON(map[string]string{"status": "ok"})
}

func (g *Gateway) serveReady(x *exchange) error {
	ctx, cancel := context.WithTimeout(x.r.Context(), localTimeout)
	defer cancel()
	ready := g.cfg.Ready
	if ready == nil {
		ready = g.someModel
	}
	if err := ready(ctx); err != nil {
		if e := openai.From(err); e.Code != openai.CodeInternal {
			return e
		}
		return openai.Unavailable("The gateway is not ready; 'cocoon doctor' says why.")
	}
	return x.writeJSON(map[string]string{"status": "ready"})
}

func (g *Gateway) someModel(ctx context.Context) error {
	models, err := g.models(ctx)
	if err == nil && len(models) == 0 {
		err = openai.Unavailable("No worker is connected to the proxy.")
	}
	return err
}
