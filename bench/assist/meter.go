package main

import (
	"context"
	"strings"
	"sync"
	"time"

	"github.com/cocoon-network/cocoon/internal/api/jsonschema"
	"github.com/cocoon-network/cocoon/internal/assist"
)

// meter is a Model that measures the one behind it.
type meter struct {
	assist.Model

	mu         sync.Mutex
	calls      int
	first, all []float64 // milliseconds
	in, out    int64     // tokens
	nano       uint64
	asked      map[string]*asked // by instruction and data: a repair has the same
}

// asked is one question that has a schema, and whether the answers fitted.
type asked struct{ first, last bool }

func newMeter(m assist.Model) *meter { return &meter{Model: m, asked: map[string]*asked{}} }

// Complete implements assist.Model.
func (m *meter) Complete(ctx context.Context, c *assist.Call) (assist.Reply, error) {
	timed := *c
	start := time.Now()
	var first time.Duration
	timed.OnText = func(s string) {
		if first == 0 {
			first = time.Since(start)
		}
		if c.OnText != nil {
			c.OnText(s)
		}
	}
	r, err := m.Model.Complete(ctx, &timed)
	total := time.Since(start)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.calls++
	m.count(r.Proof)
	if err != nil {
		return r, err
	}
	m.all = append(m.all, float64(total)/1e6)
	if first > 0 {
		m.first = append(m.first, float64(first)/1e6)
	}
	if c.Schema != nil {
		fits := !r.Cut && valid(c, r.Text)
		if a := m.asked[c.Prompt+"\x00"+c.User]; a != nil {
			a.last = fits
		} else {
			m.asked[c.Prompt+"\x00"+c.User] = &asked{fits, fits}
		}
	}
	return r, nil
}

// Embed implements assist.Model.
func (m *meter) Embed(ctx context.Context, texts []string) ([][]float32, assist.Proof, error) {
	start := time.Now()
	v, p, err := m.Model.Embed(ctx, texts)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.calls++
	m.count(p)
	if err == nil {
		m.all = append(m.all, float64(time.Since(start))/1e6)
	}
	return v, p, err
}

func (m *meter) count(p assist.Proof) {
	m.in += p.Usage.PromptTokens
	m.out += p.Usage.CompletionTokens
	m.nano += p.CostNano
}

func valid(c *assist.Call, text string) bool {
	s, err := jsonschema.Parse(c.Schema)
	return err == nil && s.Validate([]byte(strings.TrimSpace(text))) == nil
}

// schema counts questions with a schema and those whose first and last answer
// fitted.
func (m *meter) schema() (n, first, last int) {
	for _, a := range m.asked {
		n++
		if a.first {
			first++
		}
		if a.last {
			last++
		}
	}
	return
}
