package bindings

import (
	"fmt"
	"math/big"

	"github.com/cocoon-network/cocoon"
	"github.com/cocoon-network/cocoon/internal/chain/registry"
	"github.com/cocoon-network/cocoon/internal/money/coins"
)

// Method is the name of a get-method (spec contracts 2.8).
type Method string

// The get-methods of root, proxy, worker, client and wallet.
const (
	MethodRootData        Method = "get_cocoon_data"
	MethodRootParams      Method = "get_cur_params"
	MethodLastProxySeqno  Method = "last_proxy_seqno"
	MethodProxyHashValid  Method = "proxy_hash_is_valid"
	MethodWorkerHashValid Method = "worker_hash_is_valid"
	MethodModelHashValid  Method = "model_hash_is_valid"
	MethodProxyData       Method = "get_cocoon_proxy_data"
	MethodWorkerData      Method = "get_cocoon_worker_data"
	MethodClientData      Method = "get_cocoon_client_data"
	MethodWalletSeqno     Method = "seqno"
	MethodWalletKey       Method = "get_public_key"
	MethodWalletOwner     Method = "get_owner_address"
)

// ID returns the number the virtual machine knows the method by: CRC-16 of
// the name with bit 16 set.
func (m Method) ID() uint32 {
	var crc uint16
	for _, c := range []byte(m) {
		crc ^= uint16(c) << 8
		for range 8 {
			carry := crc&0x8000 != 0
			crc <<= 1
			if carry {
				crc ^= 0x1021
			}
		}
	}
	return uint32(crc) | 0x10000
}

// StackValue is one value a get-method returned: an integer, or a slice as
// the bag of cells of a cell that holds just it.
type StackValue struct {
	Int   *big.Int
	Slice []byte
}

// stack reads results in order, the deepest first; its first error sticks.
type stack struct {
	values []StackValue
	err    error
}

func newStack(m Method, values []StackValue, n int) *stack {
	s := &stack{values: values}
	if len(values) != n {
		s.fail("%s returned %d values, %d are known", m, len(values), n)
	}
	return s
}

func (s *stack) fail(format string, args ...any) {
	if s.err == nil {
		s.err = malformed(format, args...)
	}
}

func (s *stack) next() StackValue {
	if s.err != nil || len(s.values) == 0 {
		return StackValue{}
	}
	v := s.values[0]
	s.values = s.values[1:]
	return v
}

// int reads an unsigned integer of up to bits bits.
func (s *stack) int(bits int) *big.Int {
	v := s.next().Int
	if s.err != nil || v == nil || v.Sign() < 0 || v.BitLen() > bits {
		s.fail("a result that is not an unsigned integer of %d bits", bits)
		return new(big.Int)
	}
	return v
}

func (s *stack) u8() uint8         { return uint8(s.int(8).Uint64()) }
func (s *stack) u32() uint32       { return uint32(s.int(32).Uint64()) }
func (s *stack) u64() uint64       { return s.int(64).Uint64() }
func (s *stack) coins() coins.Nano { return coins.Nano(s.u64()) }
func (s *stack) bool() bool        { return s.int(1).Sign() != 0 }

func (s *stack) hash() (h [32]byte) {
	s.int(256).FillBytes(h[:])
	return h
}

func (s *stack) addr() cocoon.Address {
	b := s.next().Slice
	if s.err != nil {
		return cocoon.Address{}
	}
	r := readBoC(b, maxMessageBytes, maxMessageCells)
	a := r.addr()
	if err := r.end(); err != nil {
		s.fail("a result that is not an address: %v", err)
	}
	return a
}

// RootInfo is the result of get_cocoon_data.
type RootInfo struct {
	Version, LastProxySeqno, ParamsVersion, UniqueID uint32
	IsTest                                           bool
	Price, Fee, MinProxyStake, MinClientStake        coins.Nano
	Owner                                            cocoon.Address
}

// DecodeRootInfo reads the result of get_cocoon_data.
func DecodeRootInfo(values []StackValue) (RootInfo, error) {
	s := newStack(MethodRootData, values, 10)
	i := RootInfo{
		Version: s.u32(), LastProxySeqno: s.u32(), ParamsVersion: s.u32(), UniqueID: s.u32(), IsTest: s.bool(),
		Price: s.coins(), Fee: s.coins(), MinProxyStake: s.coins(), MinClientStake: s.coins(), Owner: s.addr(),
	}
	return i, s.err
}

// RootParams is the result of get_cur_params. The method does not tell the
// prompt and completion multipliers.
type RootParams struct {
	ParamsVersion, UniqueID           uint32
	IsTest                            bool
	Price, Fee                        coins.Nano
	CachedMult, ReasoningMult         uint32
	ProxyDelay, ClientDelay           uint32
	MinProxyStake, MinClientStake     coins.Nano
	ProxyCode, WorkerCode, ClientCode [32]byte // cell hashes; zero = absent
}

// DecodeRootParams reads the result of get_cur_params.
func DecodeRootParams(values []StackValue) (RootParams, error) {
	s := newStack(MethodRootParams, values, 14)
	p := RootParams{
		ParamsVersion: s.u32(), UniqueID: s.u32(), IsTest: s.bool(), Price: s.coins(), Fee: s.coins(),
		CachedMult: s.u32(), ReasoningMult: s.u32(), ProxyDelay: s.u32(), ClientDelay: s.u32(),
		MinProxyStake: s.coins(), MinClientStake: s.coins(),
		ProxyCode: s.hash(), WorkerCode: s.hash(), ClientCode: s.hash(),
	}
	return p, s.err
}

// DecodeProxyInfo reads the result of get_cocoon_proxy_data. Of the params it
// has price, fee, minimum stakes and version.
func DecodeProxyInfo(values []StackValue) (ProxyStorage, error) {
	s := newStack(MethodProxyData, values, 12)
	p := ProxyStorage{
		Owner: s.addr(), Key: s.hash(), Root: s.addr(), State: State(s.u8()),
		Earnings: s.coins(), Stake: s.coins(), UnlockAt: s.u32(),
	}
	p.Params = registry.Params{
		PricePerToken: s.coins(), WorkerFeePerToken: s.coins(), MinProxyStake: s.coins(), MinClientStake: s.coins(), ParamsVersion: s.u32(),
	}
	return p, s.err
}

// DecodeWorkerInfo reads the result of get_cocoon_worker_data; it has no
// params.
func DecodeWorkerInfo(values []StackValue) (WorkerStorage, error) {
	s := newStack(MethodWorkerData, values, 5)
	w := WorkerStorage{Owner: s.addr(), Proxy: s.addr(), ProxyKey: s.hash(), State: State(s.u8()), Tokens: s.u64()}
	return w, s.err
}

// DecodeClientInfo reads the result of get_cocoon_client_data; it has no
// params.
func DecodeClientInfo(values []StackValue) (ClientStorage, error) {
	s := newStack(MethodClientData, values, 9)
	c := ClientStorage{
		Owner: s.addr(), Proxy: s.addr(), ProxyKey: s.hash(), State: State(s.u8()), Balance: s.coins(),
		Stake: s.coins(), Tokens: s.u64(), UnlockAt: s.u32(), SecretHash: s.hash(),
	}
	return c, s.err
}

// DecodeInt reads the result of a method that returns one unsigned integer of
// up to 256 bits: last_proxy_seqno, seqno, get_public_key.
func DecodeInt(m Method, values []StackValue) (*big.Int, error) {
	s := newStack(m, values, 1)
	v := s.int(256)
	if s.err != nil {
		return nil, fmt.Errorf("%s: %w", m, s.err)
	}
	return v, nil
}

// DecodeBool reads the result of a *_is_valid method: -1 is true.
func DecodeBool(m Method, values []StackValue) (bool, error) {
	s := newStack(m, values, 1)
	v := s.next().Int
	if s.err == nil && (v == nil || !v.IsInt64() || v.Int64() != 0 && v.Int64() != -1) {
		s.fail("%s returned neither -1 nor 0", m)
	}
	return s.err == nil && v.Sign() != 0, s.err
}

// DecodeAddress reads the result of get_owner_address.
func DecodeAddress(m Method, values []StackValue) (cocoon.Address, error) {
	s := newStack(m, values, 1)
	a := s.addr()
	return a, s.err
}
