package statement

import (
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/cocoon-network/cocoon"
	"github.com/cocoon-network/cocoon/attest"
	"github.com/cocoon-network/cocoon/attest/nvgpu"
	"github.com/cocoon-network/cocoon/internal/tee"
	"github.com/cocoon-network/cocoon/internal/wire"
	"github.com/cocoon-network/cocoon/internal/wire/schema"
)

// Version is the version of statements and sessions.
const Version = 1

// The sizes nobody may exceed, in bytes.
const (
	MaxStatement   = 2 << 10
	MaxQuote       = 16 << 10
	maxCertificate = 8 << 10
	maxModel       = 1 << 10
	maxBuild       = 128
	maxSealKey     = 1216                                           // ML-KEM-768 and X25519
	maxBundle      = MaxStatement + MaxQuote + maxCertificate + 256 // without GPU evidence
	maxGPUBundle   = maxBundle + nvgpu.MaxSet
)

// Block is a masterchain block.
type Block struct {
	Seqno              uint32
	RootHash, FileHash [32]byte
	Time               time.Time // whole seconds
}

// IsZero reports whether b is absent.
func (b Block) IsZero() bool {
	return b.Seqno == 0 && b.RootHash == [32]byte{} && b.FileHash == [32]byte{} && b.Time.IsZero()
}

// Statement is what a node says of itself (docs/protocol.md, statement).
// Absent is zero.
type Statement struct {
	Role        cocoon.Role
	NetworkID   [32]byte
	NodeKey     [32]byte
	SealKey     []byte
	Model       cocoon.ModelName
	Contract    cocoon.Address
	ContractKey [32]byte
	Owner       cocoon.Address
	GPU         [32]byte
	Block       Block
	Counter     uint64
	Build       string
}

// Encode returns the only encoding of s.
func (s *Statement) Encode() []byte {
	var at uint32
	if !s.Block.Time.IsZero() {
		at = uint32(s.Block.Time.Unix())
	}
	return schema.Marshal(&schema.CocoonNodeStatement{
		Version: Version, Role: int32(s.Role), NetworkID: s.NetworkID, NodeKey: s.NodeKey, SealKey: s.SealKey,
		Model: string(s.Model), Contract: address(s.Contract), ContractKey: s.ContractKey, Owner: address(s.Owner), GpuDigest: s.GPU,
		Block:   schema.CocoonBlock{Seqno: int32(s.Block.Seqno), RootHash: s.Block.RootHash, FileHash: s.Block.FileHash, Time: int32(at)},
		Counter: int64(s.Counter), Build: s.Build,
	})
}

func address(a cocoon.Address) schema.CocoonAddress {
	return schema.CocoonAddress{Workchain: a.Workchain, Hash: a.Hash}
}

// Parse reads a statement: bounded, canonical, of our version.
func Parse(b []byte) (*Statement, error) {
	if len(b) > MaxStatement {
		return nil, fmt.Errorf("%w: a statement of %d bytes, at most %d", ErrSize, len(b), MaxStatement)
	}
	o, err := schema.DecodeCanonical(b)
	if err != nil {
		return nil, fmt.Errorf("%w: %v", ErrFormat, err)
	}
	w, ok := o.(*schema.CocoonNodeStatement)
	switch {
	case !ok:
		return nil, fmt.Errorf("%w: %s in place of a statement", ErrFormat, o.TLName())
	case w.Version != Version:
		return nil, fmt.Errorf("%w: a statement of version %d", ErrVersion, w.Version)
	case w.Role < int32(cocoon.RoleClient) || w.Role > int32(cocoon.RoleKeyManager):
		return nil, fmt.Errorf("%w: role %d", ErrFormat, w.Role)
	case len(w.Model) > maxModel || len(w.Build) > maxBuild || len(w.SealKey) > maxSealKey:
		return nil, fmt.Errorf("%w: model, build or seal key of a statement", ErrSize)
	case w.Counter < 0:
		return nil, fmt.Errorf("%w: a negative counter", ErrFormat)
	}
	s := &Statement{
		Role: cocoon.Role(w.Role), NetworkID: w.NetworkID, NodeKey: w.NodeKey, SealKey: slices.Clone(w.SealKey), Model: cocoon.ModelName(w.Model),
		Contract: cocoon.Address{Workchain: w.Contract.Workchain, Hash: w.Contract.Hash}, ContractKey: w.ContractKey,
		Owner: cocoon.Address{Workchain: w.Owner.Workchain, Hash: w.Owner.Hash}, GPU: w.GpuDigest,
		Block:   Block{Seqno: uint32(w.Block.Seqno), RootHash: w.Block.RootHash, FileHash: w.Block.FileHash},
		Counter: uint64(w.Counter), Build: w.Build,
	}
	if at := uint32(w.Block.Time); at > 0 {
		s.Block.Time = time.Unix(int64(at), 0)
	}
	return s, s.check()
}

// check demands the fields a role has, and that it has no others, so that a
// field never means something the verifier did not look at.
func (s *Statement) check() error {
	proxy, worker := s.Role == cocoon.RoleProxy, s.Role == cocoon.RoleWorker
	bare := s.NetworkID == [32]byte{} && s.Block.IsZero() && s.Owner.IsZero() && s.GPU == [32]byte{} && s.Counter == 0 && s.Build == ""
	for _, rule := range []struct {
		ok   bool
		what string
	}{
		{s.NodeKey != [32]byte{}, "it has no node key"},
		{s.Role == cocoon.RoleClient == bare, "a client's has role and node key only, any other has more"},
		{proxy == (s.ContractKey != [32]byte{}) && proxy == !s.Contract.IsZero(), "contract and contract key are a proxy's, and a proxy has both"},
		{worker == (s.Model != ""), "the model is a worker's, and a worker has one"},
		{(proxy || worker) == !s.Owner.IsZero(), "the owner is a proxy's or worker's, and these have one"},
		{worker || len(s.SealKey) == 0 && s.GPU == [32]byte{}, "seal key and GPU evidence are a worker's"},
		{s.Role == cocoon.RoleClient || s.Counter > 0, "the counter is missing"},
	} {
		if !rule.ok {
			return fmt.Errorf("%w: a statement of a %s: %s", ErrFormat, s.Role, rule.what)
		}
	}
	return nil
}

// Digest is SHA-256 of an encoded statement: its name.
func Digest(statement []byte) [32]byte { return sha256.Sum256(statement) }

// ReportData is what the quote over a statement binds.
func ReportData(digest [32]byte) attest.ReportData {
	return sha512.Sum512(append([]byte(wire.LabelStatement), digest[:]...))
}

// GPUNonce is what the GPUs of s's node must have been asked with: it commits
// to node key, network, block and counter, and so to this one statement.
func (s *Statement) GPUNonce() [32]byte {
	return nvgpu.Nonce(slices.Concat(s.NodeKey[:], s.NetworkID[:], s.Block.RootHash[:], binary.LittleEndian.AppendUint64(nil, s.Counter)))
}

// Bundle is a statement with what makes it believed.
type Bundle struct {
	Statement []byte
	Evidence  attest.Evidence
	// ContractSignature is a proxy's, by its contract key, over the digest.
	ContractSignature []byte
	// Predecessor is the contract key that named this one its successor by
	// SuccessorSignature; both absent otherwise.
	Predecessor        [32]byte
	SuccessorSignature []byte
	// GPU is the evidence of the node's GPUs, as nvgpu.Set encodes it.
	GPU []byte
}

// Encode returns the only encoding of b.
func (b *Bundle) Encode() []byte {
	if len(b.GPU) > 0 {
		return schema.Marshal(&schema.CocoonBundleGpu{
			Statement: b.Statement, Format: int32(b.Evidence.Format), Quote: b.Evidence.Quote, Certificate: b.Evidence.Certificate,
			ContractSignature: b.ContractSignature, Predecessor: b.Predecessor, SuccessorSignature: b.SuccessorSignature, Gpu: b.GPU,
		})
	}
	return schema.Marshal(&schema.CocoonBundle{
		Statement: b.Statement, Format: int32(b.Evidence.Format), Quote: b.Evidence.Quote, Certificate: b.Evidence.Certificate,
		ContractSignature: b.ContractSignature, Predecessor: b.Predecessor, SuccessorSignature: b.SuccessorSignature,
	})
}

// ParseBundle reads a bundle: bounded and canonical. It keeps nothing of b.
func ParseBundle(b []byte) (*Bundle, error) {
	if len(b) > maxGPUBundle {
		return nil, fmt.Errorf("%w: a bundle of %d bytes, at most %d", ErrSize, len(b), maxGPUBundle)
	}
	o, err := schema.DecodeCanonical(slices.Clone(b))
	if err != nil {
		return nil, fmt.Errorf("%w: %v", ErrFormat, err)
	}
	w, ok := o.(*schema.CocoonBundle)
	var gpu []byte
	if g, with := o.(*schema.CocoonBundleGpu); with {
		ok, gpu = true, g.Gpu
		w = &schema.CocoonBundle{
			Statement: g.Statement, Format: g.Format, Quote: g.Quote, Certificate: g.Certificate,
			ContractSignature: g.ContractSignature, Predecessor: g.Predecessor, SuccessorSignature: g.SuccessorSignature,
		}
		if len(gpu) == 0 {
			return nil, fmt.Errorf("%w: GPU evidence of no bytes", ErrFormat)
		}
	}
	switch {
	case !ok:
		return nil, fmt.Errorf("%w: %s in place of a bundle", ErrFormat, o.TLName())
	case len(gpu) > nvgpu.MaxSet:
		return nil, fmt.Errorf("%w: GPU evidence of %d bytes, at most %d", ErrSize, len(gpu), nvgpu.MaxSet)
	case len(w.Quote) > MaxQuote:
		return nil, fmt.Errorf("%w: a quote of %d bytes, at most %d", ErrSize, len(w.Quote), MaxQuote)
	case len(w.Certificate) > maxCertificate:
		return nil, fmt.Errorf("%w: a certificate of %d bytes, at most %d", ErrSize, len(w.Certificate), maxCertificate)
	case len(w.Statement) > MaxStatement:
		return nil, fmt.Errorf("%w: a statement of %d bytes, at most %d", ErrSize, len(w.Statement), MaxStatement)
	case w.Format < 0 || w.Format > math.MaxUint8:
		return nil, fmt.Errorf("%w: evidence of format %d", ErrFormat, w.Format)
	case w.Format == int32(attest.FormatNone) && len(w.Quote)+len(w.Certificate) > 0:
		return nil, fmt.Errorf("%w: a quote without a format", ErrFormat)
	}
	for _, sig := range [][]byte{w.ContractSignature, w.SuccessorSignature} {
		if len(sig) != 0 && len(sig) != ed25519.SignatureSize {
			return nil, fmt.Errorf("%w: a signature of %d bytes", ErrFormat, len(sig))
		}
	}
	if (w.Predecessor == [32]byte{}) != (len(w.SuccessorSignature) == 0) {
		return nil, fmt.Errorf("%w: predecessor and its signature belong together", ErrFormat)
	}
	out := &Bundle{GPU: gpu, Statement: w.Statement, ContractSignature: w.ContractSignature, Predecessor: w.Predecessor, SuccessorSignature: w.SuccessorSignature}
	if w.Format != int32(attest.FormatNone) {
		out.Evidence = attest.Evidence{Format: attest.Format(w.Format), Quote: w.Quote, Certificate: w.Certificate}
	}
	return out, nil
}

// signed is a labelled message.
func signed(label string, parts ...[]byte) []byte {
	return slices.Concat(append([][]byte{[]byte(label)}, parts...)...)
}

// verify checks an Ed25519 signature.
func verify(key [32]byte, message, sig []byte) bool {
	return len(sig) == ed25519.SignatureSize && ed25519.Verify(key[:], message, sig)
}

// Why a peer is refused. Each attack has its own.
var (
	ErrLevel       = errors.New("the peer speaks level 0 only, and level 1 is required here (an old peer, or somebody between who hides the protocol name)")
	ErrSize        = errors.New("the peer sends more than allowed")
	ErrFormat      = errors.New("the peer sends what cannot be read")
	ErrVersion     = errors.New("the peer speaks no version of level 1 that we speak: update the older of the two")
	ErrReflected   = errors.New("the peer sends our own hello back")
	ErrOtherKey    = errors.New("the peer's hello is for another TLS key than this connection's: somebody stands between")
	ErrDigest      = errors.New("the peer sends another statement than it announced")
	ErrNetworkID   = errors.New("the peer is of another network")
	ErrRole        = errors.New("the peer has another role than this port expects")
	ErrProof       = errors.New("the peer's node key did not sign this connection: a relayed, replayed or reflected proof")
	ErrNoBlock     = errors.New("the statement names no block, and this network has a chain")
	ErrForeign     = errors.New("the statement's block is not in our chain")
	ErrOldBlock    = errors.New("the statement's block is too old")
	ErrBehind      = errors.New("the statement's block is far newer than our newest proven head: we are behind (are our liteservers right?)")
	ErrHalted      = errors.New("our own chain has had no new block for too long: nobody's freshness can be judged")
	ErrReplayed    = errors.New("the statement is older than one seen of the same node")
	ErrContractKey = errors.New("the contract key did not sign the statement")
	ErrContract    = errors.New("the statement's contract does not derive from its key, its owner and our root contract")
	ErrSuccessor   = errors.New("the contract key's predecessor did not sign it")
	ErrImages      = errors.New("certificate and statement carry evidence of different images")
	ErrChanged     = errors.New("the peer became another one during the connection")
	ErrExpired     = errors.New("the session was not renewed in time: no new requests")
	ErrBusy        = tee.ErrBusy
	ErrRefused     = errors.New("the peer refuses the session")
)
