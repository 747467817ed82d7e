package client

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"math"
	"math/rand/v2"
	"slices"

	"github.com/cocoon-network/cocoon/internal/api"
	"github.com/cocoon-network/cocoon/internal/api/openai"
)

// usualFirst is the time to a first frame, in milliseconds, that halves a
// platform's weight.
const usualFirst = 1000

// order draws the order in which platforms are asked for a worker: weighted by
// experience, price and speed, with those of bad experience last. A
// conversation that goes on draws the same order again, so that it finds its
// prefix in a cache; to anybody without the client's secret each draw is
// chance, so nobody can steer a caller to a machine.
func (d *directory) order(platforms [][32]byte, cheapest map[[32]byte]int32, conversation []byte) {
	type place struct {
		bad  bool
		rank float64
	}
	places := make(map[[32]byte]place, len(platforms))
	worst := d.s.c.reputations.worst(platforms)
	for _, p := range platforms {
		weight, x := 1000/float64(max(cheapest[p], 1)), worst[p]
		if x != nil {
			weight *= x.Score * usualFirst / (usualFirst + x.FirstMs)
		}
		// Weighted rendezvous hashing: the least -ln(u)/weight wins.
		places[p] = place{x != nil && x.Score < badScore, -math.Log(d.s.c.chance(conversation, p)) / max(weight, 1e-9)}
	}
	slices.SortFunc(platforms, func(a, b [32]byte) int {
		x, y := places[a], places[b]
		if x.bad != y.bad {
			if x.bad {
				return 1
			}
			return -1
		}
		return cmp.Compare(x.rank, y.rank)
	})
}

// chance is a number in (0, 1): for a conversation always the same at a
// platform, else random.
func (c *Client) chance(conversation []byte, platform [32]byte) float64 {
	if conversation == nil {
		return 1 - rand.Float64()
	}
	h := sha256.New()
	h.Write(c.drawing[:])
	h.Write(platform[:])
	h.Write(conversation)
	return (float64(binary.BigEndian.Uint64(h.Sum(nil))>>11) + 1) / (1<<53 + 1)
}

// conversation names what a chat began with, which its later turns repeat:
// the instruction and the first message after it. nil = nothing to tell by.
func conversation(call *api.Call) []byte {
	if call.Path != "/v1/chat/completions" {
		return nil
	}
	o, err := openai.ParseObject(call.Body)
	if err != nil {
		return nil
	}
	raw, _ := o.Get("messages")
	d := json.NewDecoder(bytes.NewReader(raw))
	if t, err := d.Token(); err != nil || t != json.Delim('[') {
		return nil
	}
	h := sha256.New()
	h.Write(call.Caller[:])
	for d.More() {
		var m struct {
			Role    string          `json:"role"`
			Content json.RawMessage `json:"content"`
		}
		if d.Decode(&m) != nil {
			return nil
		}
		h.Write([]byte(m.Role))
		h.Write(m.Content)
		if m.Role == "user" {
			break
		}
	}
	return h.Sum(nil)
}
