//go:build !tee

package devnet

import (
	"errors"
	"math/big"

	"github.com/xssnick/tonutils-go/address"
	"github.com/xssnick/tonutils-go/tl"
	"github.com/xssnick/tonutils-go/tlb"
	"github.com/xssnick/tonutils-go/ton"
	"github.com/xssnick/tonutils-go/tvm"
	"github.com/xssnick/tonutils-go/tvm/cell"
	"github.com/xssnick/tonutils-go/tvm/tuple"
	"github.com/xssnick/tonutils-go/tvm/vm"
)

const (
	getMethodGas    = 1_000_000
	notInitialized  = -256
	maxStackNodes   = 1 << 16 // of a stack, counted as the tree it is written as
	maxParamsCells  = 4096
	stackNodesError = "the stack is too large"
)

// runMethod runs a get-method on the state after a block.
func (n *network) runMethod(q ton.RunSmcMethod) (tl.Serializable, error) {
	p, err := n.proveAccount(q.ID, q.Account)
	if err != nil {
		return nil, err
	}
	res := ton.RunMethodResult{Mode: q.Mode & 7, ID: p.id, ShardBlock: p.shardID, ShardProof: p.shard, Proof: p.account}
	if p.state == nil {
		res.ExitCode = notInitialized
		res.Mode &= 1
		return res, nil
	}
	stack, err := parseStack(q.Params)
	if err != nil {
		return nil, err
	}
	run := func(withProof bool) (*tvm.ExecutionResult, error) {
		return n.execute(p, stack.Copy(), int64(q.MethodID), withProof)
	}
	out, err := run(false)
	if err != nil {
		return nil, err
	}
	res.ExitCode = int32(out.ExitCode)
	if out.ExitCode == notInitialized {
		res.Mode &= 3
	} else if q.Mode&4 != 0 {
		if res.Result, err = stackCell(out.Stack); err != nil {
			return nil, err
		}
	}
	if q.Mode&2 != 0 {
		// The proof walks the results without bound, so it is built only
		// after they were found small.
		if out, err = run(true); err != nil {
			return nil, err
		}
		res.StateProof = out.Proof
	}
	return res, nil
}

func (n *network) execute(p *accountProofs, stack *vm.Stack, method int64, withProof bool) (*tvm.ExecutionResult, error) {
	var acc tlb.AccountState
	if err := tlb.Parse(&acc, p.state); err != nil {
		return nil, err
	}
	if err := stack.PushSmallInt(method); err != nil {
		return nil, err
	}
	cfg := tvm.ExecutionConfig{Config: n.params, Libraries: n.libraries}
	if acc.StateInit == nil || acc.StateInit.Code == nil {
		return n.vm.ExecuteGetMethod(nil, nil, tuple.Tuple{}, vm.GasWithLimit(getMethodGas), stack,
			tvm.ExecutionConfig{Config: n.params, AccountRoot: p.state})
	}
	c7, err := n.methodC7(p.block, &acc)
	if err != nil {
		return nil, err
	}
	code, data := acc.StateInit.Code, acc.StateInit.Data
	if withProof {
		code, data, cfg.AccountRoot = nil, nil, p.state
	} else if lib := acc.StateInit.Lib; lib != nil && lib.AsCell() != nil {
		cfg.Libraries = append(cfg.Libraries[:len(cfg.Libraries):len(cfg.Libraries)], lib.AsCell())
	}
	return n.vm.ExecuteGetMethod(code, data, c7, vm.GasWithLimit(getMethodGas), stack, cfg)
}

// methodC7 is the register with the contract's surroundings, as of the block.
func (n *network) methodC7(b *block, acc *tlb.AccountState) (tuple.Tuple, error) {
	seed := n.randSeed()
	n.mu.RLock()
	ctx, err := n.blockContext(b.utime, b.ref.endLT, seed)
	prev := n.prevBlocks()
	n.mu.RUnlock()
	if err != nil {
		return tuple.Tuple{}, err
	}
	seedBytes, err := ctx.AccountRandSeed(acc.Address)
	if err != nil {
		return tuple.Tuple{}, err
	}
	var extra any
	if d := acc.ExtraCurrencies; d != nil && !d.IsEmpty() {
		extra = d.AsCell()
	}
	var due = new(big.Int)
	if acc.StorageInfo.DuePayment != nil {
		due = acc.StorageInfo.DuePayment.Nano()
	}
	zero := func() *big.Int { return new(big.Int) }
	none := cell.BeginCell().MustStoreUInt(0, 2).ToSlice()
	unpacked, _ := ctx.UnpackedConfig()
	return tuple.NewTupleValue(tuple.NewTupleValue(
		big.NewInt(0x076ef1ea), zero(), zero(), big.NewInt(int64(b.utime)),
		new(big.Int).SetUint64(b.ref.endLT), new(big.Int).SetUint64(b.ref.endLT),
		new(big.Int).SetBytes(seedBytes), tuple.NewTupleValue(acc.Balance.Nano(), extra),
		addressSlice(acc.Address), n.params.Root(),
		// since version 4
		acc.StateInit.Code, tuple.NewTupleValue(zero(), nil), zero(), prev,
		// since version 6
		unpacked, due, nil,
		// since version 11: the inbound message there is none of
		tuple.NewTupleValue(zero(), zero(), none, zero(), zero(), zero(), zero(), zero(), nil, nil),
	)), nil
}

func addressSlice(a *address.Address) *cell.Slice {
	return cell.BeginCell().MustStoreAddr(a).ToSlice()
}

// parseStack reads the parameters of a get-method.
func parseStack(boc []byte) (*vm.Stack, error) {
	stack := vm.NewStack()
	if len(boc) == 0 {
		return stack, nil
	}
	root, err := cell.FromBOCWithOptions(boc, cell.BOCParseOptions{MaxCells: maxParamsCells})
	if err != nil {
		return nil, err
	}
	if nodes(root, map[cell.Hash]int{}) > maxStackNodes {
		return nil, errors.New(stackNodesError)
	}
	var params tlb.Stack
	if err := tlb.Parse(&params, root); err != nil {
		return nil, err
	}
	for params.Depth() > 0 { // the bottom comes first
		v, err := params.Pop()
		if err != nil {
			return nil, err
		}
		if err := stack.PushHostValue(toMachine(v)); err != nil {
			return nil, err
		}
	}
	return stack, nil
}

// nodes counts the cells below c as often as paths lead to them, which is
// what reading them as a tree costs; it stops counting above maxStackNodes.
func nodes(c *cell.Cell, memo map[cell.Hash]int) int {
	h := c.HashKey()
	if n, ok := memo[h]; ok {
		return n
	}
	n := 1
	for i := range int(c.RefsNum()) {
		r, err := c.PeekRef(i)
		if err != nil {
			return maxStackNodes + 1
		}
		n = min(n+nodes(r, memo), maxStackNodes+1)
	}
	memo[h] = n
	return n
}

func toMachine(v any) any {
	switch v := v.(type) {
	case []any:
		out := make([]any, len(v))
		for i, e := range v {
			out[i] = toMachine(e)
		}
		return tuple.NewTupleOwned(out)
	case tlb.StackNaN:
		return vm.NaN{}
	}
	return v
}

// stackCell writes a result stack.
func stackCell(s *vm.Stack) (*cell.Cell, error) {
	list, err := tlb.NewStackFromVM(s)
	if err != nil {
		return nil, err
	}
	budget := maxStackNodes
	values := make([]any, 0, list.Depth())
	for list.Depth() > 0 {
		v, err := list.Pop()
		if err != nil {
			return nil, err
		}
		if v, err = fromMachine(v, &budget); err != nil {
			return nil, err
		}
		values = append(values, v)
	}
	var out tlb.Stack
	for i := len(values) - 1; i >= 0; i-- {
		out.Push(values[i])
	}
	return out.ToCell()
}

// fromMachine makes a value of the machine serialisable. Tuples and cells can
// share parts, and a few of them stand for more than memory holds: budget
// bounds what is written.
func fromMachine(v any, budget *int) (any, error) {
	if *budget--; *budget < 0 {
		return nil, errors.New(stackNodesError)
	}
	count := func(c *cell.Cell) error {
		if c != nil {
			if *budget -= nodes(c, map[cell.Hash]int{}); *budget < 0 {
				return errors.New(stackNodesError)
			}
		}
		return nil
	}
	switch v := v.(type) {
	case tuple.Tuple:
		out := make([]any, v.Len())
		for i := range out {
			e, err := v.RawIndex(i)
			if err != nil {
				return nil, err
			}
			if out[i], err = fromMachine(e, budget); err != nil {
				return nil, err
			}
		}
		return out, nil
	case *cell.Cell:
		return v, count(v)
	case *cell.Slice:
		return v, count(v.BaseCell())
	case *cell.Builder:
		return v, count(v.EndCell())
	case nil, *big.Int, vm.NaN:
		return v, nil
	}
	return nil, nil // continuations have no written form
}
