package access

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/big"
	"sync"

	"github.com/cocoon-network/cocoon/internal/money/coins"
	"github.com/xssnick/tonutils-go/address"
	"github.com/xssnick/tonutils-go/tlb"
	"github.com/xssnick/tonutils-go/ton"
	"github.com/xssnick/tonutils-go/tvm"
	"github.com/xssnick/tonutils-go/tvm/cell"
	"github.com/xssnick/tonutils-go/tvm/tuple"
	"github.com/xssnick/tonutils-go/tvm/vm"
)

// methodGas is the gas limit of a local get-method, that of liteservers.
const methodGas = 1_000_000

// Cell and Slice are arguments and results of get-methods: bags of cells.
type (
	Cell  []byte
	Slice []byte
)

var sharedTVM = sync.OnceValue(tvm.NewTVM)

// configCache keeps the proven configuration of the newest key block.
type configCache struct {
	mu    sync.Mutex
	base  uint32 // the key block it belongs to
	ready *tvm.PreparedBlockchainConfig
}

// blockchainConfig proves the configuration, once for each key block.
func (c *Client) blockchainConfig(ctx context.Context) (*tvm.PreparedBlockchainConfig, error) {
	c.mu.Lock()
	base, head := c.base.seqno, c.head
	c.mu.Unlock()
	c.config.mu.Lock()
	defer c.config.mu.Unlock()
	if c.config.ready != nil && c.config.base == base {
		return c.config.ready, nil
	}
	var ready *tvm.PreparedBlockchainConfig
	err := c.each(ctx, func(s *server) error {
		answer, err := typed[ton.ConfigAll](s.queryWait(ctx, head.id.seqno, c.cfg.Timeout/2, ton.GetConfigAll{BlockID: head.id.ext()}))
		if err != nil {
			return err
		}
		ready, err = guarded(func() (*tvm.PreparedBlockchainConfig, error) {
			root, err := checkConfig(head, &answer)
			if err != nil {
				return nil, err
			}
			ready, err := tvm.PrepareBlockchainConfig(root)
			if err != nil {
				return nil, noted(ErrForged, fmt.Sprintf("configuration: %v", err))
			}
			return ready, nil
		})
		return err
	})
	if err != nil {
		return nil, err
	}
	c.config.base, c.config.ready = base, ready
	return ready, nil
}

// code returns what runs at an account: its code, or the library that its
// code stands for. A library is named by its hash, so whoever gives it, it is
// that one; that it is public is not checked. Libraries that are called from
// within code are not fetched.
func (c *Client) code(ctx context.Context, boc []byte) (*cell.Cell, error) {
	code, err := cell.FromBOC(boc)
	if err != nil || code.GetType() != cell.LibraryCellType {
		return code, err
	}
	s, err := code.BeginParse()
	if err != nil {
		return nil, err
	}
	if _, err := s.LoadUInt(8); err != nil {
		return nil, err
	}
	hash, err := s.LoadSlice(256)
	if err != nil {
		return nil, err
	}
	var library *cell.Cell
	err = c.each(ctx, func(s *server) error {
		answer, err := ask[ton.LibraryResult](ctx, s, ton.GetLibraries{LibraryList: [][]byte{hash}})
		if err != nil {
			return err
		}
		library, err = guarded(func() (*cell.Cell, error) { return checkLibrary(hash, &answer) })
		return err
	})
	return library, err
}

// checkLibrary finds the library with a hash in a server's answer.
func checkLibrary(hash []byte, answer *ton.LibraryResult) (*cell.Cell, error) {
	for _, l := range answer.Result {
		root, err := cell.FromBOC(l.Data)
		if err != nil {
			return nil, noted(ErrForged, fmt.Sprintf("library %x…: %v", hash[:4], err))
		}
		if !bytes.Equal(root.Hash(), hash) || root.Level() != 0 {
			return nil, noted(ErrForged, fmt.Sprintf("library %x… is given for library %x…", root.Hash()[:4], hash[:4]))
		}
		return root, nil
	}
	return nil, noted(ErrRefused, fmt.Sprintf("it does not know library %x…", hash[:4]))
}

// RunLocal runs a get-method of a proven account in the local TVM, with the
// proven configuration and the time of the account's block. Arguments are
// *big.Int, int, int64, uint64, Cell, Slice and nil; results are *big.Int,
// Cell, Slice, []any (tuples) and nil, the bottom of the stack first. It fails
// with ErrNoCode or *ExitError.
func (c *Client) RunLocal(ctx context.Context, acc Account, method string, args ...any) ([]any, error) {
	if !acc.Deployed() {
		return nil, fmt.Errorf("get-method %s of %s: %w", method, acc.Address, ErrNoCode)
	}
	config, err := c.blockchainConfig(ctx)
	if err != nil {
		return nil, err
	}
	code, err := c.code(ctx, acc.Code)
	if err != nil {
		return nil, fmt.Errorf("get-method %s of %s: code: %w", method, acc.Address, err)
	}
	return guarded(func() ([]any, error) { return runMethod(config, c.newest().globalID, &acc, code, method, args) })
}

func runMethod(config *tvm.PreparedBlockchainConfig, globalID int32, acc *Account, code *cell.Cell, method string, args []any) ([]any, error) {
	var data *cell.Cell
	var err error
	if acc.Data != nil {
		if data, err = cell.FromBOC(acc.Data); err != nil {
			return nil, err
		}
	}
	stack := vm.NewStack()
	for _, a := range args {
		if err := push(stack, a); err != nil {
			return nil, fmt.Errorf("argument of %s: %w", method, err)
		}
	}
	if err := stack.PushInt(new(big.Int).SetUint64(tlb.MethodNameHash(method))); err != nil {
		return nil, err
	}
	own, err := cell.FromBOC(acc.Code)
	if err != nil {
		return nil, err
	}
	c7, err := methodContext(config, globalID, acc, own)
	if err != nil {
		return nil, err
	}
	res, err := sharedTVM().ExecuteGetMethod(code, data, c7, vm.GasWithLimit(methodGas), stack, tvm.ExecutionConfig{Config: config})
	if err != nil {
		return nil, fmt.Errorf("get-method %s: %w", method, err)
	}
	if res.ExitCode != 0 && res.ExitCode != 1 {
		return nil, &ExitError{Method: method, Code: res.ExitCode}
	}
	var out []any
	for res.Stack.Len() > 0 {
		v, err := res.Stack.PopAny()
		if err == nil {
			v, err = pulled(v)
		}
		if err != nil {
			return nil, fmt.Errorf("result of %s: %w", method, err)
		}
		out = append([]any{v}, out...)
	}
	return out, nil
}

// methodContext is the register c7 of a get-method.
func methodContext(config *tvm.PreparedBlockchainConfig, globalID int32, acc *Account, code *cell.Cell) (tuple.Tuple, error) {
	now := uint32(acc.Block.Time.Unix())
	block, err := config.NewBlockContext(tvm.BlockOptions{Now: now, GlobalID: globalID})
	if err != nil {
		return tuple.Tuple{}, err
	}
	me := cell.BeginCell().MustStoreAddr(address.NewAddress(0, byte(acc.Address.Workchain), acc.Address.Hash[:])).ToSlice()
	integer := func(n uint64) *big.Int { return new(big.Int).SetUint64(n) }
	values := []any{
		integer(0x076ef1ea), integer(0), integer(0), integer(uint64(now)),
		integer(acc.LastTxLT), integer(acc.LastTxLT), integer(0),
		tuple.NewTupleValue(integer(uint64(acc.Balance)), nil), me, config.Root(),
	}
	version := config.GlobalVersion()
	if version >= 4 {
		values = append(values, code, tuple.NewTupleValue(integer(0), nil), integer(0), nil)
	}
	if version >= 6 {
		var unpacked any
		if t, ok := block.UnpackedConfig(); ok {
			unpacked = t
		}
		values = append(values, unpacked, nil, nil)
	}
	if version >= 11 { // what an inbound message would be: none
		none := cell.BeginCell().MustStoreUInt(0, 2).ToSlice()
		values = append(values, tuple.NewTupleValue(integer(0), integer(0), none, integer(0), integer(0), integer(0), integer(0), integer(0), nil, nil))
	}
	return tuple.NewTupleValue(tuple.NewTupleValue(values...)), nil
}

func push(stack *vm.Stack, v any) error {
	switch v := v.(type) {
	case nil:
		return stack.PushAny(nil)
	case *big.Int:
		return stack.PushInt(v)
	case int:
		return stack.PushInt(big.NewInt(int64(v)))
	case int64:
		return stack.PushInt(big.NewInt(v))
	case uint64:
		return stack.PushInt(new(big.Int).SetUint64(v))
	case Cell:
		c, err := cell.FromBOC(v)
		if err != nil {
			return err
		}
		return stack.PushCell(c)
	case Slice:
		c, err := cell.FromBOC(v)
		if err != nil {
			return err
		}
		s, err := c.BeginParse()
		if err != nil {
			return err
		}
		return stack.PushSlice(s)
	}
	return fmt.Errorf("type %T is not known to the stack", v)
}

func pulled(v any) (any, error) {
	switch v := v.(type) {
	case nil:
		return nil, nil
	case *big.Int:
		return v, nil
	case *cell.Cell:
		return Cell(v.ToBOC()), nil
	case *cell.Builder:
		return Cell(v.EndCell().ToBOC()), nil
	case *cell.Slice:
		c, err := v.ToCell()
		if err != nil {
			return nil, err
		}
		return Slice(c.ToBOC()), nil
	case tuple.Tuple:
		out := make([]any, v.Len())
		for i := range out {
			e, err := v.RawIndex(i)
			if err != nil {
				return nil, err
			}
			if out[i], err = pulled(e); err != nil {
				return nil, err
			}
		}
		return out, nil
	}
	return nil, fmt.Errorf("type %T has no meaning outside the machine", v)
}

// Emulation is what an external message would do to an account.
type Emulation struct {
	Accepted bool
	// Success, ExitCode and ActionCode are those of the transaction, as in
	// Transaction; ExitCode is also set when the message is not accepted.
	Success    bool
	ExitCode   int64
	ActionCode int32
	// Cost is what leaves the account beyond the values of Out: gas, storage
	// and forwarding.
	Cost coins.Nano
	Out  []Message
}

// Emulate runs an external message, a bag of cells, against a proven account
// state in the local TVM. Nothing is sent.
func (c *Client) Emulate(ctx context.Context, acc Account, boc []byte) (Emulation, error) {
	config, err := c.blockchainConfig(ctx)
	if err != nil {
		return Emulation{}, err
	}
	return guarded(func() (Emulation, error) { return emulate(config, &acc, boc) })
}

func emulate(config *tvm.PreparedBlockchainConfig, acc *Account, boc []byte) (Emulation, error) {
	root, err := cell.FromBOC(boc)
	if err != nil {
		return Emulation{}, fmt.Errorf("external message: %w", err)
	}
	message, err := tvm.PrepareMessage(root)
	if err != nil {
		return Emulation{}, fmt.Errorf("external message: %w", err)
	}
	state := acc.state
	if state == nil { // account_none
		state = cell.BeginCell().MustStoreUInt(0, 1).EndCell()
	}
	shard := &tlb.ShardAccount{Account: state, LastTransHash: acc.LastTxHash[:], LastTransLT: acc.LastTxLT}
	prepared, err := tvm.PrepareAccount(shard, address.NewAddress(0, byte(acc.Address.Workchain), acc.Address.Hash[:]))
	if err != nil {
		return Emulation{}, err
	}
	block, err := config.NewBlockContext(tvm.BlockOptions{Now: uint32(acc.Block.Time.Unix()), RandSeed: make([]byte, 32)})
	if err != nil {
		return Emulation{}, err
	}
	res, err := sharedTVM().EmulateTransaction(block, prepared, message, tvm.TransactionOptions{})
	if err != nil {
		return Emulation{}, fmt.Errorf("emulating the message: %w", err)
	}
	out := Emulation{Accepted: res.TransactionCell != nil, ExitCode: res.ExitCode}
	if !out.Accepted {
		return out, nil
	}
	tx, err := readTransaction(res.TransactionCell)
	if err != nil {
		return Emulation{}, err
	}
	out.Success, out.ActionCode, out.Out = tx.Success, tx.ActionCode, tx.Out
	var after tlb.AccountState
	if err := tlb.Parse(&after, res.NextAccount.ShardAccount().Account); err != nil {
		return Emulation{}, err
	}
	left := new(big.Int).SetUint64(uint64(acc.Balance))
	if after.IsValid {
		left.Sub(left, after.Balance.Nano())
	}
	for _, m := range out.Out {
		left.Sub(left, new(big.Int).SetUint64(uint64(m.Value)))
	}
	if !left.IsUint64() {
		return Emulation{}, errors.New("emulating the message: the account would gain by it")
	}
	out.Cost = nano(left)
	return out, nil
}
