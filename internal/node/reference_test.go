//go:build !tee

package node

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/cocoon-network/cocoon/internal/api"
	"github.com/cocoon-network/cocoon/internal/engine/enginetest"
)

// TestRefusedByReference: what a reference worker would refuse is sealed to one
// of ours, or refused by name before any worker hears of it.
func TestRefusedByReference(t *testing.T) {
	const tools = `"tools":[{"type":"function","function":{"name":"f"}}]`
	for _, c := range []struct {
		name, members string
		level0        bool
		status        int
		code, param   string
		header        [2]string
		asked         int64 // requests that reached the engine
	}{
		{name: "through a proxy of level 0", members: tools, level0: true, status: 400, code: "unsupported_parameter", param: "tools"},
		{name: "what they take", members: `"seed":1`, level0: true, status: 200, asked: 1},
		{name: "a schema, in words", members: `"response_format":{"type":"json_object"}`, level0: true, status: 502, code: "schema_mismatch", header: [2]string{"X-Cocoon-Structured", "prompted"}, asked: 2},
		{name: "sealed", members: tools, status: 200, header: [2]string{"X-Cocoon-Seal", "sealed"}, asked: 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			opts := []func(*testNet){func(n *testNet) { n.reference = true }}
			if c.level0 {
				opts = append(opts, func(n *testNet) { n.level0, n.mode = true, api.SealPrefer })
			} else {
				opts = append(opts, sealedAs(api.SealPrefer))
			}
			n := startNet(t, opts...)
			engine := &enginetest.StandIn{}
			n.startWorker(1, engine)
			n.waitWorkers(1)
			before := engine.Requests.Load()
			resp, err := http.Post(n.gateway.URL+"/v1/chat/completions", "application/json", strings.NewReader(`{"model":"`+n.model.Base()+`","max_tokens":5,"messages":[{"role":"user","content":"count for me"}],`+c.members+`}`))
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			b, _ := io.ReadAll(resp.Body)
			var e struct{ Error struct{ Code, Param string } }
			if err := json.Unmarshal(b, &e); err != nil || resp.StatusCode != c.status || e.Error.Code != c.code || e.Error.Param != c.param {
				t.Errorf("%d %s, want %d %s %s", resp.StatusCode, b, c.status, c.code, c.param)
			}
			if c.header[0] != "" && resp.Header.Get(c.header[0]) != c.header[1] {
				t.Errorf("%s: %q", c.header[0], resp.Header.Get(c.header[0]))
			}
			if got := engine.Requests.Load() - before; got != c.asked {
				t.Errorf("%d requests reached the engine, want %d", got, c.asked)
			}
		})
	}
}
