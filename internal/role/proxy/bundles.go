package proxy

import "encoding/hex"

// WorkerBundle is a connected worker's newest statement with its evidence:
// public, and good for anybody to verify.
type WorkerBundle struct {
	Address string `json:"address"`
	Owner   string `json:"owner_address"`
	NodeKey string `json:"node_key"`
	Bundle  []byte `json:"bundle"`
}

// Bundles returns those of all workers of level 1.
func (p *Proxy) Bundles() []WorkerBundle {
	out := []WorkerBundle{}
	p.pool.mu.Lock()
	defer p.pool.mu.Unlock()
	for w := range p.pool.workers {
		if w.conn.Session == nil {
			continue
		}
		n := w.conn.Session.Node()
		out = append(out, WorkerBundle{Address: w.conn.Peer.Addr, Owner: p.text(w.owner), NodeKey: hex.EncodeToString(n.Key[:]), Bundle: n.Bundle})
	}
	return out
}
