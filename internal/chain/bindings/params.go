package bindings

import (
	"fmt"

	"github.com/xssnick/tonutils-go/tvm/cell"

	"github.com/cocoon-network/cocoon/internal/chain/registry"
	"github.com/cocoon-network/cocoon/internal/money/coins"
)

// CodeMask says which contract codes a params cell holds (spec contracts 3).
// The same parameters stand in three forms on chain, and their hash is part
// of every contract's address.
type CodeMask uint8

// The masks that occur.
const (
	NoCodes    CodeMask = 0 // in clients and workers
	ChildCodes CodeMask = 6 // worker 2 and client 4: in the proxy, which cannot hold its own code
	AllCodes   CodeMask = 7 // and proxy 1: in root
)

// lastVersion is the newest struct version that is read.
const lastVersion = 5

// Defaults for what older struct versions do not hold (spec contracts 3).
const (
	defaultMultiplier = 10000
	defaultStake      = coins.PerCoin
)

// ErrStructVersion says that a root is newer than this software.
var ErrStructVersion = fmt.Errorf("unknown struct version: this software reads 0 to %d; update it", lastVersion)

// EncodeParams returns the params cell of p, with the codes of mask, as a bag
// of cells. The layout follows p.StructVersion; versions 4 and 5 have that of
// version 3 (spec changes-2026-04 11.1).
func EncodeParams(p registry.Params, mask CodeMask) ([]byte, error) {
	c, err := paramsCell(p, mask)
	if err != nil {
		return nil, err
	}
	return toBoC(c)
}

func paramsCell(p registry.Params, mask CodeMask) (*cell.Cell, error) {
	var codes [3]*cell.Cell
	for i, boc := range [][]byte{p.ProxyCode, p.WorkerCode, p.ClientCode} {
		if mask&(1<<i) == 0 || boc == nil {
			continue
		}
		c, err := parseBoC(boc, maxStorageBytes, maxStorageCells)
		if err != nil {
			return nil, fmt.Errorf("%s code: %w", [...]string{"proxy", "worker", "client"}[i], err)
		}
		codes[i] = c
	}
	return paramsWith(p, codes)
}

// paramsWith builds the params cell with the given codes (proxy, worker,
// client; nil = absent).
func paramsWith(p registry.Params, codes [3]*cell.Cell) (*cell.Cell, error) {
	v := p.StructVersion
	if v > lastVersion {
		return nil, fmt.Errorf("params of version %d: %w", v, ErrStructVersion)
	}
	w := newWriter()
	w.uint(uint64(v), 8).uint(uint64(p.ParamsVersion), 32).uint(uint64(p.UniqueID), 32).bool(p.IsTest)
	w.coins(p.PricePerToken).coins(p.WorkerFeePerToken)
	if v >= 3 {
		w.uint(uint64(p.Multipliers.Prompt), 32)
	}
	if v >= 2 {
		w.uint(uint64(p.Multipliers.Cached), 32)
	}
	if v >= 3 {
		w.uint(uint64(p.Multipliers.Completion), 32)
	}
	if v >= 2 {
		w.uint(uint64(p.Multipliers.Reasoning), 32)
	}
	w.uint(uint64(p.ProxyDelayBeforeClose), 32).uint(uint64(p.ClientDelayBeforeClose), 32)
	if v >= 1 {
		w.coins(p.MinProxyStake).coins(p.MinClientStake)
	}
	for _, code := range codes {
		w.maybe(code)
	}
	c, err := w.end()
	if err != nil {
		return nil, fmt.Errorf("params cell: %w", err)
	}
	return c, nil
}

// DecodeParams reads a params cell of struct version 0 to 5. What its version
// does not hold gets the defaults.
func DecodeParams(boc []byte) (registry.Params, error) {
	r := readBoC(boc, maxStorageBytes, maxStorageCells)
	p := readParams(r)
	if r.err != nil {
		return registry.Params{}, fmt.Errorf("params cell: %w", r.err)
	}
	return p, nil
}

// readParams reads a whole params cell.
func readParams(r *reader) registry.Params {
	v := r.u8()
	if r.err == nil && v > lastVersion {
		r.err = fmt.Errorf("params of version %d: %w", v, ErrStructVersion)
	}
	p := registry.Params{
		StructVersion:     v,
		ParamsVersion:     r.u32(),
		UniqueID:          r.u32(),
		IsTest:            r.bool(),
		PricePerToken:     r.coins(),
		WorkerFeePerToken: r.coins(),
		MinProxyStake:     defaultStake,
		MinClientStake:    defaultStake,
	}
	multiplier := func(since uint8) uint32 {
		if v < since {
			return defaultMultiplier
		}
		return r.u32()
	}
	p.Multipliers.Prompt = multiplier(3)
	p.Multipliers.Cached = multiplier(2)
	p.Multipliers.Completion = multiplier(3)
	p.Multipliers.Reasoning = multiplier(2)
	p.ProxyDelayBeforeClose = r.u32()
	p.ClientDelayBeforeClose = r.u32()
	if v >= 1 {
		p.MinProxyStake = r.coins()
		p.MinClientStake = r.coins()
	}
	p.ProxyCode = r.maybeBoC()
	p.WorkerCode = r.maybeBoC()
	p.ClientCode = r.maybeBoC()
	if r.end() != nil {
		return registry.Params{}
	}
	return p
}
