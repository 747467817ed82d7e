package client

import (
	"bytes"
	"slices"
	"testing"

	"github.com/cocoon-network/cocoon"
	"github.com/cocoon-network/cocoon/internal/api"
)

func drawer() *directory {
	c := &Client{reputations: newReputations()}
	c.drawing[0] = 7
	return &directory{s: &session{c: c}}
}

func platformsOf(n int) (ps [][32]byte) {
	for i := range n {
		ps = append(ps, [32]byte{byte(i + 1)})
	}
	return ps
}

// first draws many times and counts who came first.
func first(d *directory, cheapest map[[32]byte]int32, n int) map[byte]int {
	count := map[byte]int{}
	for range 4000 {
		ps := platformsOf(n)
		d.order(ps, cheapest, nil)
		count[ps[0][0]]++
	}
	return count
}

func TestOrderWeighs(t *testing.T) {
	d := drawer()
	even := first(d, nil, 2)
	if even[1] < 1700 || even[1] > 2300 {
		t.Errorf("two equal platforms came first %v times", even)
	}
	cheap := first(d, map[[32]byte]int32{{1}: 1000, {2}: 3000}, 2)
	if cheap[1] < 2700 || cheap[1] > 3300 {
		t.Errorf("a third of the price came first %v times of 4000, want about 3000", cheap)
	}
	d.s.c.reputations.records[workerName{owner: cocoon.Address{}, platform: [32]byte{1}}] = &Record{Score: 0.4}
	if bad := first(d, nil, 2); bad[1] != 0 {
		t.Errorf("a platform of bad experience came first %d times", bad[1])
	}
	d.s.c.reputations.records[workerName{platform: [32]byte{1}}] = &Record{Score: 1, FirstMs: 3 * usualFirst}
	if slow := first(d, nil, 2); slow[1] < 500 || slow[1] > 1100 {
		t.Errorf("a slow platform came first %v times of 4000, want about 800", slow)
	}
}

// A conversation finds its workers again; others, and other clients, draw anew.
func TestOrderOfAConversation(t *testing.T) {
	body := func(more string) *api.Call {
		return &api.Call{Path: "/v1/chat/completions", Body: []byte(`{"model":"m","messages":[{"role":"system","content":"s"},{"role":"user","content":"hello"}` + more + `]}`)}
	}
	begun, on := conversation(body("")), conversation(body(`,{"role":"assistant","content":"x"},{"role":"user","content":"more"}`))
	if begun == nil || !bytes.Equal(begun, on) {
		t.Fatal("a conversation that goes on has another name")
	}
	other := body("")
	other.Caller[0] = 1
	if bytes.Equal(begun, conversation(other)) {
		t.Error("two callers share a name")
	}
	d, stranger := drawer(), drawer()
	stranger.s.c.drawing[0] = 8
	a, b, c := platformsOf(12), platformsOf(12), platformsOf(12)
	d.order(a, nil, begun)
	d.order(b, nil, on)
	stranger.order(c, nil, begun)
	if !slices.Equal(a, b) {
		t.Error("a conversation draws another order when it goes on")
	}
	if slices.Equal(a, c) {
		t.Error("two clients draw the same order")
	}
	for _, call := range []*api.Call{{Path: "/v1/embeddings", Body: []byte(`{}`)}, {Path: "/v1/chat/completions", Body: []byte(`{"messages":7}`)}, {Path: "/v1/chat/completions", Body: []byte(`no`)}} {
		if conversation(call) != nil {
			t.Errorf("%s is a conversation", call.Body)
		}
	}
}
