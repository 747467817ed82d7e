package node

import (
	"cmp"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/cocoon-network/cocoon"
	"github.com/cocoon-network/cocoon/attest"
	"github.com/cocoon-network/cocoon/internal/audit"
	"github.com/cocoon-network/cocoon/internal/chain/access"
	"github.com/cocoon-network/cocoon/internal/chain/bindings"
	"github.com/cocoon-network/cocoon/internal/role"
	"github.com/cocoon-network/cocoon/internal/role/client"
	"github.com/cocoon-network/cocoon/internal/tee/statement"
	"github.com/cocoon-network/cocoon/internal/wire"
	"github.com/cocoon-network/cocoon/internal/wire/schema"
	"github.com/cocoon-network/cocoon/receipt"
)

// head is what a proxy says of its log.
type head struct {
	NetworkID   receipt.Hash   `json:"network_id"`
	ContractKey receipt.Hash   `json:"contract_key"`
	Anchor      cocoon.Address `json:"anchor"`
	Log         audit.State    `json:"log"`
	Simulated   bool           `json:"simulated"`
}

// AuditTarget finds where a proxy's log is shown, and what to call it. name is
// that of a proxy of the network here in `cocoon status` ("proxy" or "": the
// first one), a status address, or, of a proxy that a client here is connected
// to, its address, contract or contract key: then that client asks it.
func AuditTarget(ctx context.Context, s *State, name string) (log, target string, err error) {
	if strings.Contains(name, "://") {
		return strings.TrimSuffix(name, "/") + auditPath, name, nil
	}
	var have []string
	if s != nil {
		for _, c := range s.Children {
			if c.Role != "proxy" || c.Status == "" {
				continue
			}
			if name == "" || name == "proxy" || name == c.Name {
				return c.Status + auditPath, c.Name, nil
			}
			have = append(have, c.Name)
		}
		for _, c := range s.Children {
			if c.Role != "client" || c.Status == "" {
				continue
			}
			var st client.Stats
			if err := getJSON(ctx, c.Status+"/jsonstats", &st); err != nil {
				return "", "", fmt.Errorf("%s does not say which proxies it is connected to: %w", c.Name, err)
			}
			for _, p := range st.Connections {
				if isProxy(p, name) {
					return c.Status + auditPath + p.ContractKey + "/", fmt.Sprintf("%s, through %s", p.Address, c.Name), nil
				}
				have = append(have, p.Address)
			}
		}
	}
	if host, port, err := net.SplitHostPort(name); err == nil && host != "" && port != "" {
		return "http://" + name + auditPath, name, nil // a status address without its scheme
	}
	if s == nil {
		return "", "", errors.New("name the proxy's status address, host:port, or a running network with --dir")
	}
	return "", "", fmt.Errorf("no proxy %q shows its log to this network; those that do: %s", name, strings.Join(have, ", "))
}

// isProxy reports whether a name is that of a connected proxy: its address, its
// contract in any form, or its contract key, of which 8 digits are enough.
func isProxy(p client.ConnectionStat, name string) bool {
	if a, err := cocoon.ParseAddress(name); err == nil {
		own, err := cocoon.ParseAddress(p.Contract)
		return err == nil && own == a
	}
	return name == p.Address || len(name) >= 8 && strings.HasPrefix(p.ContractKey, strings.ToLower(name))
}

// OwnLog is what a process of this machine saw of proxies' logs.
type OwnLog struct {
	Name   string
	Seen   []role.LogSeen
	Faults []role.LogFault
}

// OwnLogs asks the clients and workers of a network here.
func OwnLogs(ctx context.Context, s *State) []OwnLog {
	var out []OwnLog
	for _, c := range s.Children {
		if c.Role != "client" && c.Role != "worker" || c.Status == "" {
			continue
		}
		var st struct {
			Seen   []role.LogSeen  `json:"logs"`
			Faults []role.LogFault `json:"log_faults"`
		}
		if err := getJSON(ctx, c.Status+"/jsonstats", &st); err == nil {
			out = append(out, OwnLog{c.Name, st.Seen, st.Faults})
		}
	}
	return out
}

// own adds what parties here found in their own leaves, which the proxy shows to
// nobody else.
func (a *auditor) own(all []OwnLog) {
	key := a.key.String()
	for _, o := range all {
		if i := slices.IndexFunc(o.Faults, func(f role.LogFault) bool { return f.ContractKey == key }); i >= 0 {
			a.fail(againstAnchor, "own balance", fmt.Errorf("%s found: %s", o.Name, o.Faults[i].Fault))
			continue
		}
		for _, s := range o.Seen {
			if s.ContractKey == key && s.BalanceEpoch > 0 {
				a.pass(againstAnchor, "own balance", "%s proved its leaf: %d tokens in epoch %d", o.Name, s.Tokens, s.BalanceEpoch)
			}
		}
	}
}

// DefaultMost bounds an audit that names no other bound.
const DefaultMost = 100_000

// AuditConfig says what is audited, and how far.
type AuditConfig struct {
	Config *Config // of a client of the network
	Log    string  // where the log's pages are, from AuditTarget
	Target string  // what to call it; "" = Log
	// Most bounds what is read of anything that grows: transactions of an
	// account, epochs, leaves; 0 = DefaultMost. Older transactions and epochs, and
	// logs with more leaves, are then not checked, and the card says so.
	Most int
	// Progress hears what is being read, and how much of it was; may be nil.
	Progress func(what string, done, of int)
	// Own are the balances that processes of this machine had proven to them.
	Own    []OwnLog
	Logger *slog.Logger
}

// auditor reads one log and holds it against the chain. It keeps what the check
// at hand read last, for the proof of a disagreement.
type auditor struct {
	*Scorecard
	get      func(page string, into any) error
	most     int
	progress func(what string, done, of int)
	stored   bindings.AnchorStorage // on chain
	key      receipt.Hash           // contract key
	network  receipt.Hash

	pages []shownPage // of the check at hand
	bytes int
}

// shownPage is what the proxy showed.
type shownPage struct {
	Page string          `json:"page"`
	JSON json.RawMessage `json:"json"`
}

// What is kept of a check: the pages read last.
const (
	keptPages     = 32
	keptPageBytes = 8 << 20
)

func (a *auditor) keep(page string, raw json.RawMessage) {
	a.pages, a.bytes = append(a.pages, shownPage{page, raw}), a.bytes+len(raw)
	for len(a.pages) > 1 && (len(a.pages) > keptPages || a.bytes > keptPageBytes) {
		a.bytes -= len(a.pages[0].JSON)
		a.pages = a.pages[1:]
	}
}

// check runs one check. What it read last is kept if it fails.
func (a *auditor) check(do func()) {
	a.pages, a.bytes = nil, 0
	from := len(a.Factors)
	do()
	for _, f := range a.Factors[from:] {
		if f.Enforced && f.Result == attest.Fail {
			a.prove("pages of "+f.Name, a.pages)
		}
	}
}

// prove keeps what a disagreement is shown by.
func (a *auditor) prove(name string, what any) {
	if a.Proofs == nil {
		a.Proofs = map[string]any{}
	}
	a.Proofs[name] = what
}

// Audit follows a proxy's log and holds it against the chain: every anchored
// head, the growth from each epoch to the next, promises, the totals of clients
// and workers, what was settled, every leaf, and the sets of workers with their
// signatures. It reads in pages, and keeps none of what it has checked.
func Audit(ctx context.Context, cfg AuditConfig) (*Scorecard, error) {
	s := &Scorecard{Target: cmp.Or(cfg.Target, cfg.Log), Policy: "audit", Verdict: "agrees", Level: wire.Level1, Factors: []VerifiedFactor{}}
	ch, err := openChain(ctx, cfg.Config, cfg.Logger)
	if err != nil {
		return nil, err
	}
	defer ch.close()
	if !ch.real() {
		return nil, errNoChain
	}
	if cfg.Config.Measured.Accepts(attest.Simulated) {
		s.Simulated = true
		s.skip(againstConfig, "hardware", "SIMULATED network")
	}
	a := &auditor{Scorecard: s, most: cmp.Or(cfg.Most, DefaultMost), progress: cfg.Progress, network: ch.networkID()}
	if a.progress == nil {
		a.progress = func(string, int, int) {}
	}
	a.get = func(page string, into any) error {
		var raw json.RawMessage
		if err := getJSON(ctx, cfg.Log+page, &raw); err != nil {
			return err
		}
		a.keep(page, raw)
		return json.Unmarshal(raw, into)
	}
	// What a log prepared is in it before it is on chain: read in this order, the
	// log can only be ahead.
	var h head
	if err := a.get("head", &h); err != nil {
		return nil, err
	}
	a.key = h.ContractKey
	address, err := audit.AnchorAddress(audit.LogConfig{NetworkID: ch.networkID(), ContractKey: h.ContractKey})
	if err != nil {
		return nil, err
	}
	acc, err := ch.client.Account(ctx, address)
	if err != nil {
		return nil, err
	}
	if acc.Deployed() {
		if a.stored, err = bindings.ParseAnchorStorage(acc.Data); err != nil {
			return nil, err
		}
	}
	a.check(func() {
		if h.NetworkID != ch.networkID() || h.Anchor != address {
			a.fail(againstChain, "anchor", errors.New("the log is of another network, or names another anchor than its key's"))
			return
		}
		if err = a.get("head", &h); err == nil && h.ContractKey != a.key {
			a.fail(againstChain, "anchor", errors.New("the log changed its contract key while it was read"))
		}
	})
	if err != nil {
		return nil, err
	}
	if s.Failed() == nil {
		a.all(ctx, ch, acc, h.Log)
		a.own(cfg.Own)
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if s.Failed() != nil {
		s.Verdict = "disagrees"
		// Whoever reads this need believe neither us nor the proxy.
		e, err := ch.client.Evidence(ctx, nil, address)
		if err != nil {
			cfg.Logger.Warn("the proof of the anchor could not be kept", "err", err)
		} else {
			a.prove("chain", e)
		}
	}
	return s, nil
}

// all makes the checks. acc is the anchor, now is the log's head, read after it.
func (a *auditor) all(ctx context.Context, ch *chain, acc access.Account, now audit.State) {
	// Totals first: the log keeps those of its newest two epochs.
	var totals audit.Totals
	a.check(func() { totals = a.totals() })
	var epochs []audit.Epoch
	a.check(func() {
		epochs = a.epochs(now.Epoch.Number)
		if a.Failed() == nil {
			a.anchor(epochs, now.Epoch.Number, acc.Block.Seqno)
		}
	})
	if a.Failed() != nil {
		return
	}
	var came map[uint32]time.Time
	if acc.Deployed() {
		a.check(func() { came = a.history(ch.client.History(ctx, acc, 0), epochs) })
	}
	a.check(func() { a.promises(epochs, came, acc.Block.Time) })
	a.check(func() { a.growth(epochs, now) })
	for i, c := range totals.Clients {
		a.check(func() {
			settled, err := a.settledAt(ctx, ch.client, c.Contract)
			a.settled(c.Contract, settled, err, c.Sum.Sum, totals.Workers[i].Sum.Sum)
		})
	}
	var sets []uint64
	whole := false
	a.check(func() { sets, whole = a.sets() })
	if whole {
		a.check(func() { a.leaves(sets) })
	} else if a.Failed() == nil {
		a.skip(againstAnchor, "leaves", "not all sets of workers were read (--most)")
	}
}

// epochs returns the shown epochs up to the newest, at most the newest ones of
// the bound, numbered one after another.
func (a *auditor) epochs(newest uint32) []audit.Epoch {
	first := uint32(1)
	if int(newest) > a.most {
		first = newest - uint32(a.most) + 1
	}
	out := []audit.Epoch{}
	for next := first; next <= newest; {
		var page []audit.Epoch
		err := a.get(fmt.Sprintf("epochs?first=%d", next), &page)
		if err == nil && len(page) == 0 {
			err = fmt.Errorf("epoch %d is not shown, though the log names epoch %d as its newest", next, newest)
		}
		if err != nil {
			a.fail(againstChain, "anchor", err)
			return nil
		}
		for _, e := range page {
			if next > newest {
				break // prepared since
			}
			if e.Number != next {
				a.fail(againstChain, "anchor", fmt.Errorf("epoch %d is shown where epoch %d belongs", e.Number, next))
				return nil
			}
			out, next = append(out, e), next+1
		}
		a.progress("epochs", len(out), int(newest-first)+1)
	}
	return out
}

// epochOf returns a shown epoch, nil if it is not among them.
func epochOf(epochs []audit.Epoch, number uint32) *audit.Epoch {
	if len(epochs) == 0 || number < epochs[0].Number || number-epochs[0].Number >= uint32(len(epochs)) {
		return nil
	}
	return &epochs[number-epochs[0].Number]
}

// history holds every epoch that was ever anchored, signed by the contract key
// and proven by the chain of the account's transactions, against what the proxy
// shows; newest first, up to the bound. It returns when each came.
func (a *auditor) history(all iter.Seq2[access.Transaction, error], epochs []audit.Epoch) map[uint32]time.Time {
	came := map[uint32]time.Time{}
	next, read := a.stored.Epoch, 0
	partly := func(why string) map[uint32]time.Time {
		if next < a.stored.Epoch {
			a.pass(againstChain, "anchors", "the newest %d, by the proven transactions of the anchor", a.stored.Epoch-next)
		}
		a.skip(againstChain, "older anchors", fmt.Sprintf("epochs 1 to %d: %s", next, why))
		return came
	}
	for tx, err := range all {
		if err != nil {
			return partly(err.Error())
		}
		if read == a.most {
			return partly(fmt.Sprintf("more than %d transactions lie behind them (--most)", a.most))
		}
		if read++; read%100 == 0 {
			a.progress("transactions of the anchor", read, 0)
		}
		step, ok := anchorStep(tx, a.key)
		if !ok {
			continue
		}
		if step.Epoch != next || next == 0 {
			a.fail(againstChain, "anchors", fmt.Errorf("epoch %d was anchored where epoch %d belongs", step.Epoch, next))
			return came
		}
		e := epochOf(epochs, step.Epoch)
		if e == nil {
			return partly(fmt.Sprintf("more than the %d epochs that were read (--most)", len(epochs)))
		}
		if e.Size != step.Size || e.Previous != step.PreviousLog || (bindings.AnchorRoots{Log: e.Log, Clients: e.Clients, Workers: e.Workers}) != step.Roots {
			a.fail(againstChain, "anchors", fmt.Errorf("forked log: epoch %d was anchored with %d leaves and root %x…, the proxy shows %d and %x…", step.Epoch, step.Size, step.Roots.Log[:4], e.Size, e.Log[:4]))
			return came
		}
		came[step.Epoch] = tx.Time
		next--
	}
	if next != 0 {
		a.fail(againstChain, "anchors", fmt.Errorf("the contract is at epoch %d, and no transaction anchored epoch %d", a.stored.Epoch, next))
		return came
	}
	a.pass(againstChain, "anchors", "all %d since the first, by the proven transactions of the anchor", a.stored.Epoch)
	return came
}

// settled is what a proxy contract's clients were charged and its workers paid
// on chain, in tokens: up to now, and so long ago that receipts must be anchored.
type settled struct{ charged, paid, oldCharged, oldPaid uint64 }

// errMore says that an account has more transactions than were to be read.
var errMore = errors.New("its older transactions were not read (--most)")

// settledAt adds up what a proxy contract was told by its client and worker
// contracts, which it takes requests of alone, in its proven transactions,
// newest first. With errMore, parties that settled nothing for long are missing:
// the sums are at least what is returned.
func (a *auditor) settledAt(ctx context.Context, c *access.Client, contract cocoon.Address) (settled, error) {
	acc, err := c.Account(ctx, contract)
	if err != nil {
		return settled{}, err
	}
	return a.settledBy(c.History(ctx, acc, 0), acc.Block.Time.Add(-receipt.MaxPromise))
}

func (a *auditor) settledBy(all iter.Seq2[access.Transaction, error], old time.Time) (out settled, err error) {
	type counter struct{ now, old uint64 }
	clients, workers := map[cocoon.Address]counter{}, map[cocoon.Address]counter{}
	read := 0
	for tx, failure := range all {
		if failure != nil {
			err = failure
			break
		}
		if read == a.most {
			err = errMore
			break
		}
		if read++; read%100 == 0 {
			a.progress("transactions of the proxy contract", read, 0)
		}
		if !tx.Success || tx.In == nil || tx.In.External {
			continue
		}
		_, m, err := bindings.DecodeMessage(tx.In.Body)
		if err != nil {
			continue
		}
		side, tokens := clients, uint64(0)
		switch r := m.(type) {
		case *bindings.ClientRequest:
			tokens = r.Tokens
		case *bindings.WorkerRequest:
			side, tokens = workers, r.Tokens
		default:
			continue
		}
		c := side[tx.In.Source]
		if c.now = max(c.now, tokens); tx.Time.Before(old) {
			c.old = max(c.old, tokens)
		}
		side[tx.In.Source] = c
	}
	for _, c := range clients {
		out.charged, out.oldCharged = out.charged+c.now, out.oldCharged+c.old
	}
	for _, c := range workers {
		out.paid, out.oldPaid = out.paid+c.now, out.oldPaid+c.old
	}
	return out, err
}

// settled holds what was settled on chain against the anchored totals. What is
// above them disagrees even if not all was read.
func (a *auditor) settled(contract cocoon.Address, sum settled, err error, clients, workers uint64) {
	switch {
	case sum.oldCharged > clients:
		a.fail(againstChain, "settled", fmt.Errorf("proxy contract %s: %d tokens were charged on chain more than %v ago, its anchored receipts come to %d", contract, sum.oldCharged, receipt.MaxPromise, clients))
	case sum.oldPaid > workers:
		a.fail(againstChain, "settled", fmt.Errorf("proxy contract %s: %d tokens were paid out on chain more than %v ago, its anchored receipts come to %d", contract, sum.oldPaid, receipt.MaxPromise, workers))
	case err != nil:
		a.skip(againstChain, "settled", fmt.Sprintf("proxy contract %s: %v; at least %d tokens charged and %d paid out on chain, of %d and %d", contract, err, sum.charged, sum.paid, clients, workers))
	case sum.charged > clients || sum.paid > workers:
		a.skip(againstChain, "settled", fmt.Sprintf("proxy contract %s: %d tokens charged and %d paid out on chain, of %d and %d: receipts of the last %v may not be anchored yet, look again then", contract, sum.charged, sum.paid, clients, workers, receipt.MaxPromise))
	default:
		a.pass(againstChain, "settled", "proxy contract %s: %d tokens charged and %d paid out on chain, of %d and %d", contract, sum.charged, sum.paid, clients, workers)
	}
}

// anchor holds the shown epochs against the contract's state.
func (a *auditor) anchor(epochs []audit.Epoch, newest uint32, seqno uint32) {
	stored := a.stored
	if stored.Epoch == 0 {
		a.skip(againstChain, "anchor", "nothing is anchored yet")
		return
	}
	e := epochOf(epochs, stored.Epoch)
	if e == nil {
		a.fail(againstChain, "anchor", fmt.Errorf("epoch %d is on chain, the proxy shows %d", stored.Epoch, newest))
		return
	}
	if e.Size != stored.Size || (bindings.AnchorRoots{Log: e.Log, Clients: e.Clients, Workers: e.Workers}) != stored.Roots {
		a.fail(againstChain, "anchor", fmt.Errorf("forked log: epoch %d on chain has %d leaves and root %x…, the proxy shows %d and %x…", stored.Epoch, stored.Size, stored.Roots.Log[:4], e.Size, e.Log[:4]))
		return
	}
	a.pass(againstChain, "anchor", "epoch %d, %d leaves, root %x…, account proven in block %d", stored.Epoch, stored.Size, stored.Roots.Log[:4], seqno)
}

// promises finds epochs that are late, and says which came late.
func (a *auditor) promises(epochs []audit.Epoch, came map[uint32]time.Time, now time.Time) {
	late, last := 0, uint32(0)
	for _, e := range epochs {
		if e.Number > a.stored.Epoch && now.Unix() > e.Until {
			a.fail(againstChain, "promise", fmt.Errorf("epoch %d was promised until block time %s and is not on chain at %s", e.Number, dateTime(e.Until), dateTime(now.Unix())))
			return
		}
		if at, ok := came[e.Number]; ok && at.Unix() > e.Until {
			late, last = late+1, e.Number
		}
	}
	if late > 0 {
		a.skip(againstChain, "kept promises", fmt.Sprintf("%d epochs came after their time, epoch %d last", late, last))
	}
	a.pass(againstChain, "promise", "no epoch is late")
}

func dateTime(unix int64) string { return time.Unix(unix, 0).UTC().Format(time.DateTime) }

// growth asks for the proof that each epoch continues the one before it, and the
// log of now the newest one.
func (a *auditor) growth(epochs []audit.Epoch, now audit.State) {
	if len(epochs) > 0 && epochs[0].Number > 1 {
		a.skip(againstAnchor, "older growth", fmt.Sprintf("epochs 1 to %d were not read (--most)", epochs[0].Number))
	}
	last := audit.Epoch{Log: receipt.EmptyRoot()}
	for i := range len(epochs) + 1 {
		e := audit.Epoch{Size: now.Size, Log: now.Root}
		if i < len(epochs) {
			if e = epochs[i]; i == 0 && e.Number > 1 {
				last = e
				continue
			}
		}
		var proof []receipt.Hash
		err := a.get(fmt.Sprintf("consistency?first=%d&second=%d", last.Size, e.Size), &proof)
		if err == nil {
			err = receipt.VerifyConsistency(last.Size, e.Size, last.Log, e.Log, proof)
		}
		if err == nil && i > 0 && i < len(epochs) && e.Previous != last.Log {
			err = receipt.ErrConsistency
		}
		if err != nil {
			a.fail(againstAnchor, "growth", fmt.Errorf("from %d to %d leaves: %w", last.Size, e.Size, err))
			return
		}
		last = e
		a.progress("growth", i, len(epochs))
	}
	a.pass(againstAnchor, "growth", "%d epochs and the log of now, each the continuation of the one before", len(epochs))
}

// totals returns the anchored totals if they are those of the anchor and, for
// each proxy contract, the same on both sides.
func (a *auditor) totals() (t audit.Totals) {
	if a.stored.Epoch == 0 {
		return audit.Totals{}
	}
	if err := a.get(fmt.Sprintf("totals?epoch=%d", a.stored.Epoch), &t); err != nil {
		a.fail(againstChain, "totals", fmt.Errorf("the proxy does not show those of epoch %d: %w", a.stored.Epoch, err))
		return audit.Totals{}
	}
	clients, err := receipt.BalancesRoot(t.Clients)
	workers, err2 := receipt.BalancesRoot(t.Workers)
	if err := errors.Join(err, err2); err != nil || clients != a.stored.Roots.Clients || workers != a.stored.Roots.Workers {
		a.fail(againstChain, "totals", receipt.ErrBalance)
		return audit.Totals{}
	}
	if len(t.Clients) != len(t.Workers) {
		a.fail(againstChain, "totals", errors.New("clients and workers are not of the same proxy contracts"))
		return audit.Totals{}
	}
	for i, c := range t.Clients {
		if w := t.Workers[i]; w.Contract != c.Contract || w.Sum.Sum != c.Sum.Sum {
			a.fail(againstChain, "totals", fmt.Errorf("proxy contract %s: clients were charged %d tokens, workers credited %d", c.Contract, c.Sum.Sum, w.Sum.Sum))
			return audit.Totals{}
		}
	}
	for _, c := range t.Clients {
		a.pass(againstChain, "totals", "proxy contract %s: clients and workers both at %d tokens", c.Contract, c.Sum.Sum)
	}
	return t
}

// setSigners are the node keys that the proxy's contract key vouched for, each
// with the contract its statement names.
type setSigners struct {
	all  []setSigner
	last int // the one that signed the set before: most are of one process
}

type setSigner struct {
	key      [32]byte
	contract cocoon.Address
}

// signers reads the statements by which the log's contract key vouches for node
// keys. Their evidence is for those who talk to the proxy to judge.
func (a *auditor) signers() (*setSigners, error) {
	out := &setSigners{}
	for {
		var page [][]byte
		if err := a.get(fmt.Sprintf("nodes?first=%d", len(out.all)), &page); err != nil {
			return nil, err
		}
		if len(page) == 0 {
			return out, nil
		}
		for i, raw := range page {
			b, st, err := bundleOf(raw, cocoon.RoleProxy)
			if err == nil {
				digest := statement.Digest(b.Statement)
				switch {
				case st.NetworkID != a.network:
					err = statement.ErrNetworkID
				case st.ContractKey != a.key || !ed25519.Verify(a.key[:], append([]byte(wire.LabelProxyStatement), digest[:]...), b.ContractSignature):
					err = statement.ErrContractKey
				}
			}
			if err != nil {
				return nil, fmt.Errorf("statement %d of those who signed sets: %w", len(out.all)+i, err)
			}
			if len(out.all) == a.most {
				return nil, fmt.Errorf("more than %d statements of those who signed sets (--most)", a.most)
			}
			out.all = append(out.all, setSigner{st.NodeKey, st.Contract})
		}
		a.progress("statements", len(out.all), 0)
	}
}

// signed reports whether one of them, of the set's contract, signed it.
func (k *setSigners) signed(set *schema.CocoonSet, hash [32]byte, signature []byte) bool {
	contract := cocoon.Address(set.Contract)
	message := role.SetMessage(contract, uint64(set.Version), set.Previous, hash)
	for i := range k.all {
		at := (k.last + i) % len(k.all)
		if s := k.all[at]; s.contract == contract && ed25519.Verify(s.key[:], message, signature) {
			k.last = at
			return true
		}
	}
	return false
}

// sets checks every set of workers in the order of the log: signed by a node key
// of the proxy; each version of a contract above the one before, so that none is
// there twice; each naming the one before it; and in the anchored log. It returns
// the leaves they are, and whether that is all of them.
func (a *auditor) sets() (indexes []uint64, whole bool) {
	signers, err := a.signers()
	if err != nil {
		a.fail(againstAnchor, "sets", err)
		return nil, false
	}
	versions := map[cocoon.Address]audit.LoggedSet{} // newest of each contract
	var previous [32]byte
	proven, first := 0, uint64(0)
	// refuse keeps the sets that show what is wrong.
	refuse := func(err error, shown ...audit.LoggedSet) ([]uint64, bool) {
		a.fail(againstAnchor, "sets", err)
		a.prove("signed sets", shown)
		return nil, false
	}
	for {
		var page []audit.LoggedSet
		if err := a.get(fmt.Sprintf("sets?first=%d", first), &page); err != nil {
			a.fail(againstAnchor, "sets", err)
			return nil, false
		}
		if len(page) == 0 {
			break
		}
		for _, l := range page {
			if len(indexes) == a.most {
				a.pass(againstAnchor, "sets", "the first %d sets of workers: signed by the proxy's node keys, versions ascending, each naming the one before; %d proven in the anchored log", len(indexes), proven)
				a.skip(againstAnchor, "later sets", fmt.Sprintf("from leaf %d on (--most)", l.Index))
				return indexes, false
			}
			outer, set, hash, err := readSet(l.Signed)
			switch {
			case err != nil:
				return refuse(fmt.Errorf("leaf %d: %w", l.Index, err), l)
			case l.Index < first:
				return refuse(fmt.Errorf("leaf %d is shown where leaf %d or a later one belongs", l.Index, first), l)
			}
			contract := cocoon.Address(set.Contract)
			if was, ok := versions[contract]; ok {
				_, other, otherHash, _ := readSet(was.Signed)
				switch {
				case other.Version == set.Version && otherHash != hash:
					return refuse(fmt.Errorf("two sets of version %d: %x… and %x…", set.Version, otherHash[:4], hash[:4]), was, l)
				case other.Version >= set.Version:
					return refuse(fmt.Errorf("version %d stands behind version %d", set.Version, other.Version), was, l)
				}
			}
			if set.Previous != previous {
				return refuse(fmt.Errorf("the set of version %d names %x… as the set before it; in the log that is %x…: a set was left out", set.Version, set.Previous[:4], previous[:4]), l)
			}
			if !signers.signed(set, hash, outer.Signature) {
				return refuse(fmt.Errorf("the set of version %d (leaf %d) is signed by no node key that a statement in the log names (logs begun before statements were kept in them have none)", set.Version, l.Index), l)
			}
			if l.Index < a.stored.Size {
				var in audit.Inclusion
				leaf := receipt.LeafHash(receipt.LeafSet, hash)
				err := a.get(fmt.Sprintf("inclusion?leaf=%s&size=%d", leaf, a.stored.Size), &in)
				if err == nil {
					err = receipt.VerifyInclusion(leaf, l.Index, a.stored.Size, in.Proof, a.stored.Roots.Log)
				}
				if err != nil {
					return refuse(fmt.Errorf("the set of version %d is not in the anchored log: %w", set.Version, err), l)
				}
				proven++
			}
			versions[contract], previous, first = l, hash, l.Index+1
			indexes = append(indexes, l.Index)
		}
		a.progress("sets", len(indexes), 0)
	}
	a.pass(againstAnchor, "sets", "%d sets of workers: signed by the proxy's node keys, versions ascending, each naming the one before; %d proven in the anchored log", len(indexes), proven)
	return indexes, true
}

// readSet reads a signed set that somebody else logged.
func readSet(signed []byte) (outer *schema.CocoonSignedSet, set *schema.CocoonSet, hash [32]byte, err error) {
	o, err := schema.DecodeCanonical(signed)
	if err != nil {
		return nil, nil, hash, err
	}
	outer, ok := o.(*schema.CocoonSignedSet)
	if !ok || len(outer.Signature) != ed25519.SignatureSize {
		return nil, nil, hash, errors.New("it is no signed set of workers")
	}
	if o, err = schema.DecodeCanonical(outer.Set); err != nil {
		return nil, nil, hash, err
	}
	if set, ok = o.(*schema.CocoonSet); !ok {
		return nil, nil, hash, errors.New("it is no set of workers")
	}
	return outer, set, sha256.Sum256(outer.Set), nil
}

// leaves makes the anchored root anew from all leaves, so that none of them is
// kept back: the sets among them must be those that were shown.
func (a *auditor) leaves(sets []uint64) {
	if a.stored.Size > uint64(a.most) {
		a.skip(againstAnchor, "leaves", fmt.Sprintf("the anchored log has %d, more than %d (--most): a set that is not shown would not be found", a.stored.Size, a.most))
		return
	}
	var root receipt.LogRoot
	n := 0
	for root.Size() < a.stored.Size {
		var page []audit.LoggedLeaf
		err := a.get(fmt.Sprintf("leaves?first=%d", root.Size()), &page)
		if err == nil && len(page) == 0 {
			err = fmt.Errorf("leaf %d is not shown", root.Size())
		}
		if err != nil {
			a.fail(againstAnchor, "leaves", err)
			return
		}
		for _, leaf := range page[:min(uint64(len(page)), a.stored.Size-root.Size())] {
			if shown := n < len(sets) && sets[n] == root.Size(); shown != (leaf.Kind == receipt.LeafSet) {
				a.fail(againstAnchor, "leaves", fmt.Errorf("leaf %d is a set of workers, or the sets shown say so, and not both: a set is kept back", root.Size()))
				return
			} else if shown {
				n++
			}
			root.Add(receipt.LeafHash(leaf.Kind, leaf.Digest))
		}
		a.progress("leaves", int(root.Size()), int(a.stored.Size))
	}
	if got := root.Root(); got != a.stored.Roots.Log {
		a.fail(againstAnchor, "leaves", fmt.Errorf("the %d leaves shown give root %x…, anchored is %x…", root.Size(), got[:4], a.stored.Roots.Log[:4]))
		return
	}
	a.pass(againstAnchor, "leaves", "all %d give the anchored root; %d are sets of workers, the others receipts", root.Size(), n)
}
