package api

import (
	"net/http"
	"strings"

	"github.com/cocoon-network/cocoon/attest"
	"github.com/cocoon-network/cocoon/internal/api/openai"
)

// Seal says whether requests are sealed to workers, so that proxies cannot read
// them (docs/privacy.md).
type Seal string

// The modes. Prefer gives nothing against a proxy that does not want to: it
// hides its workers, and gets the request to read.
const (
	SealRequire Seal = "require"
	SealPrefer  Seal = "prefer"
	SealOff     Seal = "off"
)

// rank orders modes; a mode nobody knows is the strictest.
func (s Seal) rank() int {
	switch s {
	case SealOff:
		return 0
	case SealPrefer:
		return 1
	}
	return 2
}

// Valid reports whether s is a mode.
func (s Seal) Valid() bool { return s == SealRequire || s == SealPrefer || s == SealOff }

// Tighter returns the stricter of two modes; "" is none.
func (s Seal) Tighter(o Seal) Seal {
	if s == "" || o != "" && o.rank() > s.rank() {
		return o
	}
	return s
}

// headerSeal is the header with which a caller tightens the mode of the
// network's profile, and in which the answer says which one held.
const headerSeal = "X-Cocoon-Seal"

// Sealing says how an answer's request travelled.
type Sealing struct {
	// Mode held for the call; Sealed says whether it was sealed, and Reason why
	// not.
	Mode   Seal
	Sealed bool
	Reason string
	// Of the worker that answered a sealed request, verified by the client.
	Verdict   attest.Kind
	ImageHash attest.ImageHash
	// RequestID names the receipt.
	RequestID string
}

// sealing reads the caller's choice.
func (rq *request) sealing(g *Gateway, header http.Header) *openai.Error {
	values := header.Values(headerSeal)
	if len(values) == 0 {
		return nil
	}
	mode := Seal(strings.ToLower(strings.TrimSpace(values[0])))
	switch {
	case len(values) > 1 || !mode.Valid():
		return openai.InvalidRequest(headerSeal, "The header '%s' must be require, prefer or off.", headerSeal)
	case g.cfg.Seal.Tighter(mode) != mode:
		return openai.InvalidRequest(headerSeal, "This network's profile says %s; the header '%s' may only tighten it.", g.cfg.Seal, headerSeal)
	}
	rq.Seal = mode
	return nil
}

// write says in the answer's head how the request travelled.
func (s Sealing) write(h http.Header) {
	if s.Mode == "" {
		return
	}
	h.Set("X-Cocoon-Seal-Mode", string(s.Mode))
	if !s.Sealed {
		h.Set(headerSeal, "off")
		if s.Reason != "" {
			words := strings.Fields(s.Reason)
			for i, w := range words {
				words[i] = printable(w)
			}
			h.Set("X-Cocoon-Seal-Reason", strings.Join(words, " "))
		}
	} else {
		h.Set(headerSeal, "sealed")
		h.Set("X-Cocoon-Worker-Verdict", printable(string(s.Verdict)))
		if s.Verdict != attest.None {
			h.Set("X-Cocoon-Worker-Image", s.ImageHash.String())
		}
	}
	if s.RequestID != "" {
		h.Set("X-Cocoon-Receipt", s.RequestID)
	}
}
