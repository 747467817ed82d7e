//go:build !tee

package node

import (
	"bytes"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"github.com/cocoon-network/cocoon/internal/chain/registry"
	"github.com/cocoon-network/cocoon/internal/engine/enginetest"
)

// logged collects a log.
type logged struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logged) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func (l *logged) has(text string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Contains(l.b.String(), text)
}

// TestConnectionsFollowTheRegistry: what the root contract no longer lists is
// left while the connection lives, on each of the three ways, with the reason;
// and taken again once it is listed.
func TestConnectionsFollowTheRegistry(t *testing.T) {
	var log logged
	n := startNet(t, func(n *testNet) { n.log = slog.New(slog.NewTextHandler(&log, nil)) })
	n.startWorker(1, &enginetest.StandIn{})
	n.waitWorkers(1)
	serves := func() bool {
		st := n.proxy.Stats()
		return len(st.Clients) == 1 && len(st.Workers) == 1 && st.Workers[0].Enabled
	}
	n.eventually("a whole network", serves)
	good := *n.snap
	for _, c := range []struct {
		name   string
		change func(*registry.Snapshot)
		gone   func() bool
		text   string
	}{
		{"the proxy's image, to its client and its worker", func(s *registry.Snapshot) { s.ProxyImages = nil }, func() bool {
			st := n.proxy.Stats()
			return len(st.Clients) == 0 && len(st.Workers) == 0
		}, "which the root contract does not list"},
		{"the proxy itself", func(s *registry.Snapshot) { s.Proxies = nil }, func() bool {
			st := n.proxy.Stats()
			return len(st.Clients) == 0 && len(st.Workers) == 0
		}, "the proxy left the root contract"},
		{"the worker's image, to the proxy", func(s *registry.Snapshot) { s.WorkerImages = nil }, func() bool {
			st := n.proxy.Stats()
			return len(st.Clients) == 1 && (len(st.Workers) == 0 || !st.Workers[0].Enabled)
		}, "invalid worker image hash"},
		{"the model, to proxy and worker", func(s *registry.Snapshot) { s.ModelHashes = nil }, func() bool {
			st := n.proxy.Stats()
			return len(st.Clients) == 1 && (len(st.Workers) == 0 || !st.Workers[0].Enabled)
		}, "the root contract does not list the model"},
	} {
		log.mu.Lock()
		log.b.Reset()
		log.mu.Unlock()
		n.publish(t, c.change)
		n.eventually("end after removal of "+c.name, c.gone)
		n.eventually("reason after removal of "+c.name, func() bool { return log.has(c.text) })
		n.publish(t, func(s *registry.Snapshot) {
			s.ProxyImages, s.Proxies, s.WorkerImages, s.ModelHashes = good.ProxyImages, good.Proxies, good.WorkerImages, good.ModelHashes
		})
		n.eventually("return after "+c.name, serves)
		if r := n.ask(t.Context(), false, 5, 0); !r.done {
			t.Errorf("after %s: %+v", c.name, r)
		}
	}
}
