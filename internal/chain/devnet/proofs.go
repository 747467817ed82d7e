//go:build !tee

package devnet

import (
	"fmt"
	"math/big"

	"github.com/xssnick/tonutils-go/tlb"
	"github.com/xssnick/tonutils-go/tvm/cell"
)

// prove builds a Merkle proof of root that shows exactly the cells visit
// reads through the cell it gets.
func prove(root *cell.Cell, visit func(*cell.Cell) error) (*cell.Cell, error) {
	pb := cell.NewMerkleProofBuilder(root)
	if err := visit(pb.Root()); err != nil {
		return nil, fmt.Errorf("proof: %w", err)
	}
	return pb.CreateProof()
}

// child reads c and returns its i-th reference, unread.
func child(c *cell.Cell, i int) (*cell.Cell, error) {
	s, err := c.BeginParse()
	if err != nil {
		return nil, err
	}
	for range i {
		if _, err := s.LoadRefCell(); err != nil {
			return nil, err
		}
	}
	return s.LoadRefCell()
}

// path follows references from c and reads the cell at their end.
func path(c *cell.Cell, refs ...int) (*cell.Cell, error) {
	var err error
	for _, i := range refs {
		if c, err = child(c, i); err != nil {
			return nil, err
		}
	}
	_, err = c.BeginParse()
	return c, err
}

// touchAll reads c and everything below it. It is used on small trees only.
func touchAll(c *cell.Cell) error {
	s, err := c.BeginParse()
	if err != nil {
		return err
	}
	for s.RefsNum() > 0 {
		r, err := s.LoadRefCell()
		if err != nil {
			return err
		}
		if err := touchAll(r); err != nil {
			return err
		}
	}
	return nil
}

// touchHeader reads a block's header and the hash of its new state: what ties
// a state to a block.
func touchHeader(root *cell.Cell) error {
	info, err := child(root, 0)
	if err != nil {
		return err
	}
	if err := touchAll(info); err != nil {
		return err
	}
	_, err = path(root, 2)
	return err
}

func headerProof(root *cell.Cell) (*cell.Cell, error) { return prove(root, touchHeader) }

// accountProof shows the way to an account in a state, or to where it would
// be. The account itself stays pruned.
func accountProof(state *cell.Cell, account hash) (*cell.Cell, error) {
	return prove(state, func(c *cell.Cell) error {
		accounts, err := child(c, 1)
		if err != nil {
			return err
		}
		s, err := accounts.BeginParse()
		if err != nil {
			return err
		}
		var d tlb.ShardAccountsAugDict
		if err := d.LoadFromCellAsProof(s); err != nil {
			return err
		}
		_, err = lookup(d.AugmentedDictionary, account)
		return err
	})
}

// References of McStateExtra: the dictionary of shards (present from the
// first block on), the configuration, the rest.
const (
	extraShards = iota
	extraConfig
	extraInfo
)

// masterPart returns a reference of the state's McStateExtra.
func masterPart(state *cell.Cell, part int) (*cell.Cell, error) {
	extra, err := child(state, 3)
	if err != nil {
		return nil, err
	}
	return child(extra, part)
}

// shardProof shows the shard entry in a masterchain state.
func shardProof(state *cell.Cell) (*cell.Cell, error) {
	return prove(state, func(c *cell.Cell) error {
		shards, err := masterPart(c, extraShards)
		if err != nil {
			return err
		}
		if err := touchAll(shards); err != nil {
			return err
		}
		_, err = path(c, 3, extraConfig) // readers parse its root
		return err
	})
}

// configProof shows configuration parameters in a masterchain state: the
// given ones that exist, or all.
func configProof(state *cell.Cell, ids []int32) (*cell.Cell, error) {
	return prove(state, func(c *cell.Cell) error {
		config, err := masterPart(c, extraConfig)
		if err != nil {
			return err
		}
		return touchParams(config, ids)
	})
}

func touchParams(config *cell.Cell, ids []int32) error {
	if ids == nil {
		return touchAll(config)
	}
	d := config.AsDict(32)
	for _, id := range ids {
		v, err := d.LoadValueByIntKey(big.NewInt(int64(id)))
		if err != nil {
			continue // absence is shown too
		}
		p, err := v.LoadRefCell()
		if err != nil {
			return err
		}
		if err := touchAll(p); err != nil {
			return err
		}
	}
	return nil
}

// shardsOfBlock shows the shard entry in a masterchain block.
func shardsOfBlock(root *cell.Cell) (*cell.Cell, error) {
	return prove(root, func(c *cell.Cell) error {
		if err := touchHeader(c); err != nil {
			return err
		}
		shards, err := path(c, 3, 3, 0)
		if err != nil {
			return err
		}
		return touchAll(shards)
	})
}

// validatorProof shows, in the key block, the header and the parameters that
// say who signs: 28 and 34, and that there are no 35 and 36.
func validatorProof(root *cell.Cell) (*cell.Cell, error) {
	return prove(root, func(c *cell.Cell) error {
		if err := touchHeader(c); err != nil {
			return err
		}
		config, err := path(c, 3, 3, 2)
		if err != nil {
			return err
		}
		return touchParams(config, []int32{paramCatchain, paramValidators, 35, 36})
	})
}

// transactionProof shows the way to transactions of a block; they themselves
// stay pruned.
func transactionProof(root *cell.Cell, ids []txID) (*cell.Cell, error) {
	return prove(root, func(c *cell.Cell) error {
		if err := touchHeader(c); err != nil {
			return err
		}
		blocks, err := path(c, 3, 2)
		if err != nil {
			return err
		}
		s, err := blocks.BeginParse()
		if err != nil {
			return err
		}
		var d tlb.ShardAccountBlocksAugDict
		if err := d.LoadFromCellAsProof(s); err != nil {
			return err
		}
		for _, id := range ids {
			v, err := lookup(d.AugmentedDictionary, id.account)
			if err != nil || v == nil {
				return fmt.Errorf("account %x: %w", id.account, err)
			}
			var ab tlb.AccountBlock
			if err := tlb.LoadFromCellAsProof(&ab, v); err != nil {
				return err
			}
			if _, err := ab.Transactions.LoadValueByIntKey(new(big.Int).SetUint64(id.lt)); err != nil {
				return err
			}
		}
		return nil
	})
}

// oldBlockProof shows an earlier masterchain block in a masterchain state.
func oldBlockProof(state *cell.Cell, seqno uint32) (*cell.Cell, error) {
	return prove(state, func(c *cell.Cell) error {
		if _, err := path(c, 3, extraConfig); err != nil {
			return err
		}
		info, err := masterPart(c, extraInfo)
		if err != nil {
			return err
		}
		d, err := oldBlocks(info, true)
		if err != nil {
			return err
		}
		_, err = d.LoadValueByIntKey(new(big.Int).SetUint64(uint64(seqno)))
		return err
	})
}

// oldBlocks reads the dictionary of earlier blocks in McStateExtra's info.
func oldBlocks(info *cell.Cell, asProof bool) (*cell.AugmentedDictionary, error) {
	s, err := info.BeginParse()
	if err != nil {
		return nil, err
	}
	if _, err := s.LoadSlice(16 + 32 + 32 + 1); err != nil { // flags, validator info
		return nil, err
	}
	return s.LoadAugDict(32, keyMaxLT{}, asProof)
}
