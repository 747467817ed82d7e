package node

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/cocoon-network/cocoon"
	"github.com/cocoon-network/cocoon/attest"
	"github.com/cocoon-network/cocoon/attest/dcap"
	"github.com/cocoon-network/cocoon/internal/audit"
	"github.com/cocoon-network/cocoon/internal/chain/access"
	"github.com/cocoon-network/cocoon/internal/chain/bindings"
	"github.com/cocoon-network/cocoon/internal/chain/registry"
	"github.com/cocoon-network/cocoon/internal/role"
	"github.com/cocoon-network/cocoon/internal/tee"
	"github.com/cocoon-network/cocoon/internal/tee/statement"
	"github.com/cocoon-network/cocoon/internal/wire"
	"github.com/cocoon-network/cocoon/receipt"
)

// ReceiptFile is a receipt to hand on, with all that judges it: whoever has the
// file needs no network. Nothing in it is believed because it stands there, and
// nothing stands in it twice.
type ReceiptFile struct {
	Format string        `json:"format"`
	Worker *SignedByNode `json:"worker,omitempty"` // absent where the worker gave no part
	Proxy  *SignedByNode `json:"proxy"`
	// Root is the network's root contract, raw. Absent, with Chain and
	// Inclusion, where no chain stands behind the network.
	Root  string           `json:"root,omitempty"`
	Chain *access.Evidence `json:"chain,omitempty"`
	// Anchored are the transactions of the anchor, whose state is in Chain, from the
	// newest back to the one that anchored the promised epoch, in pages. Absent
	// where they are too many: then the place is in the log of the anchor's state.
	Anchored [][]byte `json:"anchored,omitempty"`
	// Inclusion is the place of the proxy's part in the log as it was anchored.
	Inclusion *FileInclusion `json:"inclusion,omitempty"`
	// Digest is SHA-256 of the file without it: damage is told from fraud.
	Digest receipt.Hash `json:"digest"`
}

// SignedByNode is a signed part, the statement of the node that signed, with
// its evidence, and what the vendor said of the machine at that time.
type SignedByNode struct {
	Part       []byte               `json:"part"`
	Bundle     []byte               `json:"bundle"`
	Collateral *attest.Endorsements `json:"collateral,omitempty"`
}

// FileInclusion is a place in a log whose size the anchor says.
type FileInclusion struct {
	Index uint64         `json:"index"`
	Proof []receipt.Hash `json:"proof"`
}

const (
	receiptFormat = "cocoon/receipt-file/v1"
	// MaxReceiptFile bounds a file in bytes: links over years of blocks are large.
	MaxReceiptFile = 64 << 20
)

// encode writes the file in its only encoding.
func (f *ReceiptFile) encode() ([]byte, error) {
	bare := *f
	bare.Digest = receipt.Hash{}
	b, err := json.Marshal(&bare)
	if err != nil {
		return nil, err
	}
	bare.Digest = sha256.Sum256(b)
	b, err = json.MarshalIndent(&bare, "", " ")
	return append(b, '\n'), err
}

// exporter completes what a client kept.
type exporter struct {
	store *receiptStore
	chain *chain
	page  func(ctx context.Context, contractKey [32]byte, page string) ([]byte, error)
}

// errNotAnchored says that an export comes too early.
var errNotAnchored = errors.New("the receipt is not in an anchored log yet: try again when its epoch is on chain (`cocoon receipt show`)")

// export returns the file of a receipt.
func (x *exporter) export(ctx context.Context, id string) ([]byte, error) {
	k, err := x.store.Find(id)
	if err != nil {
		return nil, err
	}
	f := &ReceiptFile{Format: receiptFormat}
	if f.Proxy, err = x.signed(k.Proxy, k.ProxyBundle, k.ProxyCollateral); err != nil {
		return nil, err
	}
	if len(k.Worker) > 0 {
		if f.Worker, err = x.signed(k.Worker, k.WorkerBundle, k.WorkerCollateral); err != nil {
			return nil, err
		}
	}
	if !x.chain.real() {
		return f.encode()
	}
	signed, p, err := readProxyPart(k.Proxy)
	if err != nil {
		return nil, err
	}
	_, st, err := bundleOf(k.ProxyBundle, cocoon.RoleProxy)
	if err != nil {
		return nil, err
	}
	anchor, err := audit.AnchorAddress(audit.LogConfig{NetworkID: x.chain.networkID(), ContractKey: st.ContractKey})
	if err != nil {
		return nil, err
	}
	blocks := []uint32{p.Block.Seqno, st.Block.Seqno}
	if f.Worker != nil {
		_, ws, err := bundleOf(k.WorkerBundle, cocoon.RoleWorker)
		if err != nil {
			return nil, err
		}
		blocks = append(blocks, ws.Block.Seqno)
		if s, err := receipt.ParseSigned(k.Worker); err == nil {
			if w, err := receipt.ParseWorker(s.Part); err == nil && !w.Block.IsZero() {
				blocks = append(blocks, w.Block.Seqno)
			}
		}
	}
	f.Root = x.chain.root.Raw()
	if f.Chain, err = x.chain.client.Evidence(ctx, blocks, x.chain.root, anchor); err != nil {
		return nil, err
	}
	proven, err := f.Chain.Verify(nil)
	if err != nil {
		return nil, err
	}
	acc := proven.Accounts[anchor]
	if !acc.Deployed() {
		return nil, errNotAnchored
	}
	stored, err := bindings.ParseAnchorStorage(acc.Data)
	if err != nil {
		return nil, err
	}
	if stored.Epoch < p.Epoch {
		return nil, fmt.Errorf("%w (epoch %d is on chain, epoch %d was promised)", errNotAnchored, stored.Epoch, p.Epoch)
	}
	size := stored.Size
	f.Anchored, err = x.chain.client.RecordHistory(ctx, acc, func(tx access.Transaction) bool {
		step, ok := anchorStep(tx, st.ContractKey)
		if ok && step.Epoch == p.Epoch {
			size = step.Size
		}
		return ok && step.Epoch == p.Epoch
	})
	if err != nil && !errors.Is(err, access.ErrTooMany) {
		return nil, err
	}
	leaf := receipt.LeafHash(receipt.LeafReceipt, signed.Digest())
	b, err := x.page(ctx, st.ContractKey, fmt.Sprintf("inclusion?leaf=%s&size=%d", leaf, size))
	if err != nil {
		return nil, fmt.Errorf("%w (epoch %d is on chain): %w", errNotAnchored, stored.Epoch, err)
	}
	var in audit.Inclusion
	if err := json.Unmarshal(b, &in); err != nil {
		return nil, err
	}
	f.Inclusion = &FileInclusion{in.Index, in.Proof}
	return f.encode()
}

// anchorStep is the step that an anchor took in a transaction, if it did.
func anchorStep(tx access.Transaction, key [32]byte) (bindings.AnchorStep, bool) {
	if !tx.Success || tx.In == nil {
		return bindings.AnchorStep{}, false
	}
	step, err := bindings.ParseAnchor(tx.In.Body, key)
	return step, err == nil // else the contract took no step for it
}

func (x *exporter) signed(part, bundle []byte, collateral receipt.Hash) (*SignedByNode, error) {
	s := &SignedByNode{Part: part, Bundle: bundle}
	if collateral == (receipt.Hash{}) {
		return s, nil
	}
	b, err := x.store.Collateral(collateral)
	if err != nil {
		return nil, err
	}
	return s, json.Unmarshal(b, &s.Collateral)
}

func readProxyPart(b []byte) (receipt.Signed, *receipt.ProxyPart, error) {
	signed, err := receipt.ParseSigned(b)
	if err != nil {
		return signed, nil, err
	}
	p, err := receipt.ParseProxy(signed.Part)
	return signed, p, err
}

// What receipts are held against.
const (
	againstFile   = "the file"
	againstAnchor = "the log's root"
	againstOwn    = "your configuration"
)

// fileCheck is the verification of a receipt file.
type fileCheck struct {
	*Scorecard
	f      *ReceiptFile
	own    *Config // the verifier's; nil: it has none
	proven *access.Proven
	root   *registry.Snapshot
	signed receipt.Signed
	part   *receipt.ProxyPart
	node   *statement.Statement // the proxy's
}

// VerifyReceipt judges a receipt file without any network. c is the verifier's
// own client configuration: which chain it believes, which evidence it
// accepts. nil: the file says which chain it is of, every vendor's hardware
// counts, and the card says so.
func VerifyReceipt(b []byte, c *Config) (*Scorecard, error) {
	var f ReceiptFile
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&f); err != nil {
		return nil, fmt.Errorf("no exported receipt: %w", err)
	}
	if f.Format != receiptFormat || f.Proxy == nil {
		return nil, fmt.Errorf("no exported receipt of a form that this program reads (%q)", f.Format)
	}
	v := &fileCheck{Scorecard: &Scorecard{Policy: "offline", Verdict: "consistent", Level: wire.Level1, Factors: []VerifiedFactor{}}, f: &f, own: c}
	if c != nil && c.Measured.TonConfig == "" && c.Measured.RootFile == "" {
		v.own = nil
	}
	v.all()
	if again, err := f.encode(); err != nil || !bytes.Equal(again, b) {
		v.fail(againstFile, "file", errors.New("the file was changed after it was written: it is not, byte for byte, what its own digest and encoding give"))
	} else {
		v.pass(againstFile, "file", "unchanged since it was written, SHA-256 %s", f.Digest)
	}
	if v.Failed() != nil {
		v.Verdict = "refused"
	}
	return v.Scorecard, nil
}

// all makes the checks in an order in which each rests on those before it.
func (v *fileCheck) all() {
	if !v.proxyPart() || !v.chain() {
		return
	}
	v.nodes("proxy", cocoon.RoleProxy, v.f.Proxy, v.part.Statement, v.part.Block)
	v.price()
	v.workerPart()
	v.log()
}

func (v *fileCheck) proxyPart() bool {
	err := func() (err error) {
		if v.signed, v.part, err = readProxyPart(v.f.Proxy.Part); err != nil {
			return err
		}
		b, st, err := bundleOf(v.f.Proxy.Bundle, cocoon.RoleProxy)
		if err != nil {
			return err
		}
		v.node, v.Target = st, receipt.Hash(v.part.RequestID).String()
		if err := v.signed.Verify(st.NodeKey); err != nil {
			return err
		}
		digest := statement.Digest(b.Statement)
		if digest != v.part.Statement {
			return fmt.Errorf("%w: the part names statement %x…, the file holds %x…", statement.ErrDigest, v.part.Statement[:4], digest[:4])
		}
		if !ed25519.Verify(st.ContractKey[:], append([]byte(wire.LabelProxyStatement), digest[:]...), b.ContractSignature) {
			return statement.ErrContractKey
		}
		if b.Predecessor != [32]byte{} && !ed25519.Verify(b.Predecessor[:], append([]byte(wire.LabelSuccessor), st.ContractKey[:]...), b.SuccessorSignature) {
			return statement.ErrSuccessor
		}
		if st.Contract != v.part.Contract {
			return fmt.Errorf("%w: the part is of contract %s, the statement of %s", statement.ErrContract, v.part.Contract, st.Contract)
		}
		return nil
	}()
	if err != nil {
		v.fail(againstFile, "proxy's part", err)
		return false
	}
	p := v.part
	v.pass(againstFile, "proxy's part", "%d adjusted tokens at %d nano, counter %d to %d, signed by node key %x… of contract key %x…", p.Tokens(), p.Price.PerToken, p.Before, p.After, v.node.NodeKey[:4], v.node.ContractKey[:4])
	return true
}

// chain checks the proof of blocks and accounts, and reads the root contract.
func (v *fileCheck) chain() bool {
	if v.node.NetworkID == [32]byte{} {
		if v.f.Chain != nil || v.f.Root != "" || v.f.Inclusion != nil || len(v.f.Anchored) > 0 || v.part.Epoch != 0 {
			v.fail(againstChain, "chain", errors.New("the statement is of a network without a chain, and the file holds a proof of one"))
			return false
		}
		v.skip(againstChain, "chain", "no chain stands behind this network: nothing is anchored, and nothing dates the evidence")
		return true
	}
	err := func() error {
		if v.f.Chain == nil {
			return errors.New("the file holds no proof of the chain")
		}
		root, err := cocoon.ParseAddress(v.f.Root)
		if err != nil {
			return err
		}
		var config []byte
		if v.own != nil {
			m := &v.own.Measured
			if m.TonConfig == "" {
				return errors.New("your network has no chain, the receipt's has")
			}
			if config, err = readSmall(m.TonConfig); err != nil {
				return err
			}
			if own, err := cocoon.ParseAddress(m.RootContract); err != nil || own != root {
				return fmt.Errorf("it is of root contract %s, your network's is %s", root, m.RootContract)
			}
		}
		if v.proven, err = v.f.Chain.Verify(config); err != nil {
			return err
		}
		if id := v.proven.Network.ID(root); id != v.node.NetworkID {
			return fmt.Errorf("%w: the statement says %x…, this chain and root contract are %x…", statement.ErrNetworkID, v.node.NetworkID[:4], id[:4])
		}
		acc, ok := v.proven.Accounts[root]
		if !ok || !acc.Deployed() {
			return errors.New("the root contract's state is not in the file")
		}
		v.root, err = bindings.DecodeRoot(root, acc.Data)
		if err == nil {
			v.root.Seqno, v.root.Time = acc.Block.Seqno, acc.Block.Time
		}
		return err
	}()
	if err != nil {
		v.fail(againstChain, "chain", err)
		return false
	}
	zero := v.proven.Network.ZeroStateRootHash
	if v.own != nil {
		v.pass(againstOwn, "chain", "your zero state and init block lead to block %d of %s, by validators' signatures", v.proven.Head.Seqno, v.proven.Head.Time.UTC().Format(time.DateTime))
	} else {
		v.pass(againstFile, "chain", "block %d of %s follows, by validators' signatures, from init block %d and zero state %x: the file's own, compare them with your network's", v.proven.Head.Seqno, v.proven.Head.Time.UTC().Format(time.DateTime), v.f.Chain.Init.Seqno, zero)
	}
	v.pass(againstChain, "root contract", "%s, version %d, proven in block %d", v.root.Root, v.root.Version, v.root.Seqno)
	contract, err := bindings.ProxyAddress(v.root, v.node.ContractKey, v.node.Owner)
	switch {
	case err != nil:
		v.fail(againstRegistry, "proxy's contract", err)
	case contract != v.node.Contract:
		v.fail(againstRegistry, "proxy's contract", fmt.Errorf("%w: it says %s, key, owner and root contract give %s", statement.ErrContract, v.node.Contract, contract))
	default:
		v.pass(againstRegistry, "proxy's contract", "%s derives from contract key, owner and the root contract's data", contract)
	}
	return true
}

// nodes judges the statement of a signer, which the part must name, and the
// quote over it at the time of the part's block.
func (v *fileCheck) nodes(who string, r cocoon.Role, s *SignedByNode, named [32]byte, partBlock receipt.Block) {
	b, st, err := bundleOf(s.Bundle, r)
	if err != nil {
		v.fail(againstFile, who+"'s statement", err)
		return
	}
	if v.proven == nil {
		v.skip(againstVendor, who+"'s evidence", "no block says when this was: it cannot be judged by what held then")
		return
	}
	err = v.proven.At(st.Block.Seqno, st.Block.RootHash, st.Block.FileHash, st.Block.Time)
	if err == nil && !partBlock.IsZero() {
		err = v.proven.At(partBlock.Seqno, partBlock.RootHash, partBlock.FileHash, partBlock.Time)
	}
	switch {
	case st.NetworkID != v.node.NetworkID:
		err = statement.ErrNetworkID
	case err == nil && v.part.Block.Time.Sub(st.Block.Time).Abs() > time.Hour:
		err = fmt.Errorf("%w: %v lie between it and the receipt", statement.ErrOldBlock, v.part.Block.Time.Sub(st.Block.Time))
	}
	if err != nil {
		v.fail(againstChain, who+"'s statement", err)
		return
	}
	v.pass(againstChain, who+"'s statement", "its block %d of %s is in the chain", st.Block.Seqno, st.Block.Time.UTC().Format(time.DateTime))
	policy, err := v.policy(b.Evidence)
	if err != nil {
		v.fail(againstPolicy, who+"'s evidence", err)
		return
	}
	at := v.part.Block.Time
	res, err := attest.Verify(b.Evidence, statement.ReportData(named), s.Collateral, policy, at)
	if errors.Is(err, dcap.ErrCollateralDate) || errors.Is(err, dcap.ErrCRLDate) {
		// Vendors date statements when they are asked: they may be renewed between
		// the block and the moment when the receipt came.
		at = at.Add(receipt.MaxPromise)
		res, err = attest.Verify(b.Evidence, statement.ReportData(named), s.Collateral, policy, at)
	}
	if err == nil {
		err = attest.RefuseOnNetwork(r, res.Kind, v.proven.Network.GlobalID)
	}
	if err == nil && r == cocoon.RoleWorker {
		_, _, err = attest.VerifyGPUs(b.GPU, st.GPU, st.GPUNonce(), policy, at)
	}
	if err != nil {
		v.fail(againstVendor, who+"'s evidence", err)
		return
	}
	detail := fmt.Sprintf("%s, image %s, patch level %s, as the vendor's statements of that time have it (%s)", res.Kind, res.ImageHash, res.Status, at.UTC().Format(time.DateTime))
	if !res.Kind.Real() {
		// What the quote's root key is decides this, no field of the file.
		v.found(res.Kind)
		detail = "SIMULATED: no hardware stands behind this node key. " + detail
	} else if v.Verdict == "consistent" {
		v.found(res.Kind)
	}
	v.pass(againstVendor, who+"'s evidence", "%s", detail)
	admit := role.AdmitProxy
	if r == cocoon.RoleWorker {
		admit = role.AdmitWorker
	}
	if v.own != nil {
		admit = v.own.Measured.admit(admit)
	}
	if err := admit(v.root, tee.Peer{Kind: res.Kind, ImageHash: res.ImageHash}); err != nil {
		v.fail(againstRegistry, who+"'s image", err)
	} else {
		v.pass(againstRegistry, who+"'s image", "listed in block %d", v.root.Seqno)
	}
	if r != cocoon.RoleWorker {
		return
	}
	if !v.root.HasModel(st.Model) {
		v.fail(againstRegistry, "model", fmt.Errorf("%s is not listed in block %d", st.Model, v.root.Seqno))
	} else {
		v.pass(againstRegistry, "model", "%s, listed in block %d", st.Model, v.root.Seqno)
	}
}

// policy is the verifier's own; without one, every vendor's hardware counts in
// any state that the vendor does not revoke, and so does simulated evidence,
// which then decides the verdict.
func (v *fileCheck) policy(ev attest.Evidence) (*attest.Policy, error) {
	if v.own != nil {
		return v.own.Measured.policy()
	}
	if ev.Format != attest.FormatTDX {
		return nil, errors.New("only a network's configuration says which evidence of this form counts: name yours with --config")
	}
	p := &attest.Policy{Kinds: []attest.Kind{attest.TDX}, Roots: []attest.KeyID{attest.IntelRoot}, Images: attest.DeferredImages(), Statuses: acceptable}
	q, err := dcap.Parse(ev.Quote)
	if err != nil {
		return nil, err
	}
	chain, err := dcap.ParseChain(q.Chain)
	if err != nil {
		return nil, err
	}
	if root := attest.KeyID(chain.RootKeyID()); attest.KindOf(root) == attest.Simulated {
		p.Kinds, p.Roots = append(p.Kinds, attest.Simulated), append(p.Roots, root)
	}
	return p, nil
}

func (v *fileCheck) price() {
	if v.root == nil {
		return
	}
	if now := uint64(v.root.Params.PricePerToken); v.part.Price.PerToken != now {
		v.skip(againstRegistry, "price", fmt.Sprintf("charged at %d nano a token; in block %d the root contract says %d", v.part.Price.PerToken, v.root.Seqno, now))
	} else {
		v.pass(againstRegistry, "price", "%d nano a token, as the root contract says", now)
	}
}

func (v *fileCheck) workerPart() {
	p := v.part
	if p.Marked() {
		if v.f.Worker != nil {
			v.fail(againstFile, "worker's part", receipt.ErrParts)
			return
		}
		v.skip(againstFile, "worker's part", "the worker gave none: what was served is the proxy's word")
		return
	}
	var w *receipt.WorkerPart
	err := func() error {
		if v.f.Worker == nil {
			return fmt.Errorf("%w: the proxy's part names one, the file holds none", receipt.ErrParts)
		}
		signed, err := receipt.ParseSigned(v.f.Worker.Part)
		if err != nil {
			return err
		}
		if w, err = receipt.ParseWorker(signed.Part); err != nil {
			return err
		}
		b, st, err := bundleOf(v.f.Worker.Bundle, cocoon.RoleWorker)
		if err != nil {
			return err
		}
		if statement.Digest(b.Statement) != w.Statement {
			return statement.ErrDigest
		}
		if err := signed.Verify(st.NodeKey); err != nil {
			return err
		}
		if w.Model != st.Model {
			return fmt.Errorf("%w: the part is of model %s, the statement of %s", statement.ErrFormat, w.Model, st.Model)
		}
		if err := receipt.CheckPair(w, signed.Digest(), p); err != nil {
			return err
		}
		v.pass(againstFile, "worker's part", "%s, %s: %d prompt and %d output tokens, signed by node key %x…", w.Model, w.End, w.Usage.Prompt, w.Usage.Completion, st.NodeKey[:4])
		return nil
	}()
	if err != nil {
		v.fail(againstFile, "worker's part", err)
		return
	}
	v.nodes("worker", cocoon.RoleWorker, v.f.Worker, w.Statement, w.Block)
}

// log holds the receipt's place against the anchor's proven state.
func (v *fileCheck) log() {
	if v.proven == nil {
		return
	}
	stored, err := func() (s bindings.AnchorStorage, err error) {
		at, err := audit.AnchorAddress(audit.LogConfig{NetworkID: v.node.NetworkID, ContractKey: v.node.ContractKey})
		if err != nil {
			return s, err
		}
		acc := v.proven.Accounts[at]
		if !acc.Deployed() || v.f.Inclusion == nil {
			return s, fmt.Errorf("the state of anchor %s, or the place in its log, is not in the file", at)
		}
		if s, err = bindings.ParseAnchorStorage(acc.Data); err != nil {
			return s, err
		}
		if s.NetworkID != v.node.NetworkID || s.ProxyKey != v.node.ContractKey {
			return s, errors.New("the anchor is another key's")
		}
		if s.Epoch < v.part.Epoch {
			return s, fmt.Errorf("epoch %d was promised, epoch %d is on chain", v.part.Epoch, s.Epoch)
		}
		return s, nil
	}()
	if err != nil {
		v.fail(againstChain, "anchor", err)
		return
	}
	at, size, root := v.proven.Head.Time, stored.Size, stored.Roots.Log
	if len(v.f.Anchored) > 0 {
		step, when, err := v.anchored()
		if err != nil {
			v.fail(againstChain, "anchor", err)
			return
		}
		at, size, root = when, step.Size, step.Roots.Log
		v.pass(againstChain, "anchor", "epoch %d with %d leaves, root %x…, by the anchor's transaction of %s, proven in block %d", step.Epoch, size, root[:4], at.UTC().Format(time.DateTime), v.proven.Head.Seqno)
	} else {
		v.pass(againstChain, "anchor", "epoch %d with %d leaves, root %x…, proven in block %d", stored.Epoch, size, root[:4], v.proven.Head.Seqno)
	}
	in := v.f.Inclusion
	if err := receipt.VerifyInclusion(receipt.LeafHash(receipt.LeafReceipt, v.signed.Digest()), in.Index, size, in.Proof, root); err != nil {
		v.fail(againstAnchor, "log", err)
		return
	}
	v.pass(againstAnchor, "log", "leaf %d of %d", in.Index, size)
	until := v.part.Time.UTC().Format(time.DateTime)
	switch {
	case !at.After(v.part.Time):
		v.pass(againstChain, "promise", "epoch %d was on chain before %s, as promised", v.part.Epoch, until)
	case len(v.f.Anchored) > 0:
		// The proxy's fault; the receipt is none the worse for it.
		v.add(againstChain, attest.Factor{Name: "promise", Result: attest.Fail, Detail: fmt.Sprintf("epoch %d was promised until %s and came at %s", v.part.Epoch, until, at.UTC().Format(time.DateTime))})
	default:
		v.skip(againstChain, "promise", fmt.Sprintf("epoch %d was promised until %s; this proof is of a later block, so it shows only that it came", v.part.Epoch, until))
	}
}

// anchored returns the step that anchored the promised epoch, and when.
func (v *fileCheck) anchored() (bindings.AnchorStep, time.Time, error) {
	addr, err := audit.AnchorAddress(audit.LogConfig{NetworkID: v.node.NetworkID, ContractKey: v.node.ContractKey})
	if err != nil {
		return bindings.AnchorStep{}, time.Time{}, err
	}
	all, err := access.CheckHistory(v.proven.Accounts[addr], v.f.Anchored)
	if err != nil {
		return bindings.AnchorStep{}, time.Time{}, err
	}
	for _, tx := range all {
		if step, ok := anchorStep(tx, v.node.ContractKey); ok && step.Epoch == v.part.Epoch {
			return step, tx.Time, nil
		}
	}
	return bindings.AnchorStep{}, time.Time{}, fmt.Errorf("epoch %d was promised, and none of the anchor's transactions in the file anchored it", v.part.Epoch)
}

func bundleOf(b []byte, r cocoon.Role) (*statement.Bundle, *statement.Statement, error) {
	bundle, err := statement.ParseBundle(b)
	if err != nil {
		return nil, nil, err
	}
	st, err := statement.Parse(bundle.Statement)
	if err == nil && st.Role != r {
		err = statement.ErrRole
	}
	return bundle, st, err
}

// ShowReceipt says what a kept receipt's own signatures show.
func ShowReceipt(k audit.Kept) *Scorecard {
	v := &fileCheck{
		Scorecard: &Scorecard{Policy: "offline", Verdict: "consistent", Level: wire.Level1, Factors: []VerifiedFactor{}},
		f:         &ReceiptFile{Proxy: &SignedByNode{Part: k.Proxy, Bundle: k.ProxyBundle}},
	}
	if len(k.Worker) > 0 {
		v.f.Worker = &SignedByNode{Part: k.Worker, Bundle: k.WorkerBundle}
	}
	if v.proxyPart() {
		if k.RequestID != receipt.Hash(v.part.RequestID) {
			v.fail(againstFile, "request", errors.New("the proxy's part is about another request"))
		}
		v.workerPart()
		if v.part.Epoch > 0 {
			v.skip(againstChain, "log", fmt.Sprintf("promised in epoch %d, until %s; `cocoon receipt export` proves it", v.part.Epoch, v.part.Time.UTC().Format(time.DateTime)))
		}
	}
	if k.Simulated {
		v.found(attest.Simulated)
	}
	if v.Failed() != nil {
		v.Verdict = "refused"
	}
	v.Factors = slices.DeleteFunc(v.Factors, func(f VerifiedFactor) bool { return f.Name == "worker's evidence" })
	return v.Scorecard
}
