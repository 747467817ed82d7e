package proxy

import (
	"github.com/cocoon-network/cocoon/internal/role"
)

// Stats is the proxy's state for status pages.
type Stats struct {
	Contract string `json:"proxy_sc_address"`
	Owner    string `json:"owner_address"`
	Version  uint32 `json:"root_version"`
	Price    uint64 `json:"price_per_token"`
	Fee      uint64 `json:"worker_fee_per_token"`
	// In tokens: what all clients were charged so far, the part of it that is
	// signed for, and the part that was paid to workers on chain.
	Charged   int64        `json:"charged_tokens"`
	Committed int64        `json:"committed_tokens"`
	Paid      int64        `json:"paid_tokens"`
	Clients   []ClientStat `json:"clients"`
	Workers   []WorkerStat `json:"worker_connections"`
	role.CounterStats
}

// ClientStat is one client connection.
type ClientStat struct {
	Address   string `json:"address"`
	Owner     string `json:"owner_address"`
	Contract  string `json:"sc_address"`
	Level     int    `json:"level"`
	Used      int64  `json:"used_tokens"`
	Committed int64  `json:"committed_tokens"`
	Running   int    `json:"running_queries"`
}

// WorkerStat is one worker connection.
type WorkerStat struct {
	Address     string `json:"address"`
	Owner       string `json:"owner_address"`
	Contract    string `json:"sc_address"`
	Model       string `json:"model"`
	Coefficient int32  `json:"coefficient"`
	Running     int32  `json:"running_queries"`
	Limit       int32  `json:"max_active_requests"`
	Enabled     bool   `json:"enabled"`
	Level       int    `json:"level"`
	Verdict     string `json:"verdict"`
	ImageHash   string `json:"worker_hash"`
	Earned      int64  `json:"earned_tokens"`
	Committed   int64  `json:"committed_tokens"`
	Reputation  Record `json:"reputation"`
}

// Stats returns the state now.
func (p *Proxy) Stats() Stats {
	st := Stats{Owner: p.text(p.cfg.Owner), Clients: []ClientStat{}, Workers: []WorkerStat{}, CounterStats: p.stats.Stats()}
	if i, err := p.current(); err == nil {
		st.Contract, st.Version = p.text(i.contract), i.snap.Version
		st.Price, st.Fee = uint64(i.snap.Params.PricePerToken), uint64(i.snap.Params.WorkerFeePerToken)
	}
	totals, paid := p.cfg.Ledger.Totals()
	st.Charged, st.Committed, st.Paid = totals.Used, totals.Committed, paid
	p.mu.Lock()
	clients := make([]*clientSession, 0, len(p.clients))
	for s := range p.clients {
		clients = append(clients, s)
	}
	p.mu.Unlock()
	for _, s := range clients {
		s.mu.Lock()
		running := len(s.requests)
		s.mu.Unlock()
		c := p.cfg.Ledger.Client(s.owner)
		st.Clients = append(st.Clients, ClientStat{
			Address: s.conn.Peer.Addr, Owner: p.text(s.owner), Contract: p.text(s.contract), Level: s.conn.Peer.Level,
			Used: c.Used, Committed: c.Committed, Running: running,
		})
	}
	p.pool.mu.Lock()
	defer p.pool.mu.Unlock()
	for w := range p.pool.workers {
		c := p.cfg.Ledger.Worker(w.owner)
		st.Workers = append(st.Workers, WorkerStat{
			Address: w.conn.Peer.Addr, Owner: p.text(w.owner), Contract: p.text(w.contract), Model: string(w.model),
			Coefficient: w.coefficient, Running: w.running, Limit: w.limit, Enabled: w.enabled && !w.refused,
			Level: w.conn.Peer.Level, Verdict: string(w.conn.Peer.Kind), ImageHash: w.conn.Peer.ImageHash.String(),
			Earned: c.Used, Committed: c.Committed, Reputation: w.record,
		})
	}
	return st
}
