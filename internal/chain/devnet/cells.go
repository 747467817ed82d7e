//go:build !tee

package devnet

import (
	"crypto/sha256"
	"errors"
	"math/big"

	"github.com/xssnick/tonutils-go/tlb"
	"github.com/xssnick/tonutils-go/ton"
	"github.com/xssnick/tonutils-go/tvm/cell"
)

type hash = [32]byte

// wholeShard is the shard id of an unsplit workchain.
const wholeShard = -1 << 63

const (
	masterchain int32 = -1
	basechain   int32 = 0
)

// fileFlags is the serialisation every node uses for blocks and states: the
// file hash is SHA-256 over it (spec devnet 4).
var fileFlags = cell.BOCSerializeOptions{
	WithCRC32C: true, WithIndex: true, WithCacheBits: true, WithTopHash: true, WithIntHashes: true,
}

// extRef is an ExtBlkRef: a block as other cells name it.
type extRef struct {
	endLT uint64
	seqno uint32
	root  hash
	file  hash
}

func (r extRef) store(b *cell.Builder) *cell.Builder {
	return b.MustStoreUInt(r.endLT, 64).MustStoreUInt(uint64(r.seqno), 32).
		MustStoreSlice(r.root[:], 256).MustStoreSlice(r.file[:], 256)
}

func (r extRef) tlb() tlb.ExtBlkRef {
	return tlb.ExtBlkRef{EndLt: r.endLT, SeqNo: r.seqno, RootHash: r.root[:], FileHash: r.file[:]}
}

// grams stores a CurrencyCollection without extra currencies; none exist on
// this chain.
func grams(b *cell.Builder, v *big.Int) *cell.Builder {
	return b.MustStoreBigCoins(v).MustStoreBoolBit(false)
}

// loadGrams reads a CurrencyCollection's grams and skips the rest.
func loadGrams(s *cell.Slice) (*big.Int, error) {
	v, err := s.LoadBigCoins()
	if err != nil {
		return nil, err
	}
	_, err = s.LoadMaybeRef()
	return v, err
}

func key256(h hash) *cell.Cell {
	return cell.BeginCell().MustStoreSlice(h[:], 256).EndCell()
}

func fileHash(boc []byte) hash { return sha256.Sum256(boc) }

func cellHash(c *cell.Cell) hash { return c.HashKey() }

func blockIDExt(wc int32, seqno uint32, root, file hash) *ton.BlockIDExt {
	return &ton.BlockIDExt{Workchain: wc, Shard: wholeShard, SeqNo: seqno, RootHash: root[:], FileHash: file[:]}
}

// maybeRef stores a Maybe ^Cell.
func maybeRef(b *cell.Builder, c *cell.Cell) *cell.Builder {
	if c == nil {
		return b.MustStoreBoolBit(false)
	}
	return b.MustStoreBoolBit(true).MustStoreRef(c)
}

// keyMaxLT is the augmentation of the masterchain's list of old blocks: is
// there a key block below, and the greatest end LT.
type keyMaxLT struct{}

func (keyMaxLT) SkipExtra(s *cell.Slice) error {
	_, err := s.LoadSlice(65)
	return err
}

func (keyMaxLT) EmptyExtra() (*cell.Cell, error) {
	return cell.BeginCell().MustStoreBoolBit(false).MustStoreUInt(0, 64).EndCell(), nil
}

func (keyMaxLT) LeafExtra(value *cell.Slice) (*cell.Cell, error) {
	v := value.Copy() // KeyExtBlkRef begins with the key bit and the end LT
	key, err := v.LoadBoolBit()
	if err != nil {
		return nil, err
	}
	lt, err := v.LoadUInt(64)
	if err != nil {
		return nil, err
	}
	return cell.BeginCell().MustStoreBoolBit(key).MustStoreUInt(lt, 64).EndCell(), nil
}

func (keyMaxLT) CombineExtra(l, r *cell.Slice) (*cell.Cell, error) {
	var key bool
	var lt uint64
	for _, s := range []*cell.Slice{l, r} {
		k, err := s.LoadBoolBit()
		if err != nil {
			return nil, err
		}
		n, err := s.LoadUInt(64)
		if err != nil {
			return nil, err
		}
		key, lt = key || k, max(lt, n)
	}
	return cell.BeginCell().MustStoreBoolBit(key).MustStoreUInt(lt, 64).EndCell(), nil
}

// lookup finds a value in a dictionary over 256-bit keys; nil if there is none.
func lookup(d *cell.AugmentedDictionary, k hash) (*cell.Slice, error) {
	v, err := d.LoadValue(key256(k))
	if errors.Is(err, cell.ErrNoSuchKeyInDict) {
		return nil, nil
	}
	return v, err
}
