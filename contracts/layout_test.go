package contracts

import (
	"crypto/ed25519"
	"math/big"

	"github.com/xssnick/tonutils-go/tlb"
	"github.com/xssnick/tonutils-go/tvm/cell"
)

// Cells of spec contracts 3 to 9, built bit by bit, independent of the Tolk.

type params struct {
	structVersion, version, uniqueID uint64
	isTest                           bool
	price, fee                       int64
	mults                            [4]uint64 // prompt, cached, completion, reasoning
	proxyDelay, clientDelay          uint64
	minProxyStake, minClientStake    int64
	proxy, worker, client            *cell.Cell
}

func vectorParams() params {
	return params{
		structVersion: 3, version: 5, uniqueID: 17, price: 20, fee: 19,
		mults: [4]uint64{10000, 1000, 80000, 80000}, proxyDelay: 86400, clientDelay: 43200,
		minProxyStake: 10 * ton, minClientStake: 2500 * mTON,
		proxy: toyCode(1), worker: toyCode(2), client: toyCode(3),
	}
}

func toyCode(i uint64) *cell.Cell {
	return cell.BeginCell().MustStoreUInt(0xC0DE0000+i, 32).EndCell()
}

const (
	maskProxy  = 1
	maskWorker = 2
	maskClient = 4
)

func (p params) cell(mask int) *cell.Cell {
	b := cell.BeginCell().MustStoreUInt(p.structVersion, 8).MustStoreUInt(p.version, 32).MustStoreUInt(p.uniqueID, 32).
		MustStoreBoolBit(p.isTest).MustStoreBigCoins(big.NewInt(p.price)).MustStoreBigCoins(big.NewInt(p.fee))
	for _, m := range p.mults {
		b.MustStoreUInt(m, 32)
	}
	b.MustStoreUInt(p.proxyDelay, 32).MustStoreUInt(p.clientDelay, 32).
		MustStoreBigCoins(big.NewInt(p.minProxyStake)).MustStoreBigCoins(big.NewInt(p.minClientStake))
	for _, c := range []struct {
		bit  int
		code *cell.Cell
	}{{maskProxy, p.proxy}, {maskWorker, p.worker}, {maskClient, p.client}} {
		if mask&c.bit != 0 {
			b.MustStoreMaybeRef(c.code)
		} else {
			b.MustStoreMaybeRef(nil)
		}
	}
	return b.EndCell()
}

type proxyState struct {
	owner, root     addr
	key             ed25519.PublicKey
	state           uint64
	earnings, stake int64
	unlock          uint64
	params          params
}

func (p proxyState) cell() *cell.Cell {
	return cell.BeginCell().MustStoreAddr(p.owner.tu()).MustStoreSlice(p.key, 256).MustStoreAddr(p.root.tu()).
		MustStoreUInt(p.state, 2).MustStoreBigCoins(big.NewInt(p.earnings)).MustStoreBigCoins(big.NewInt(p.stake)).
		MustStoreUInt(p.unlock, 32).MustStoreRef(p.params.cell(maskWorker | maskClient)).EndCell()
}

type clientState struct {
	state          uint64
	balance, stake int64
	tokens, unlock uint64
	secret         [32]byte
	owner, proxy   addr
	key            ed25519.PublicKey
	params         params
}

func (c clientState) cell() *cell.Cell {
	terms := cell.BeginCell().MustStoreAddr(c.owner.tu()).MustStoreAddr(c.proxy.tu()).MustStoreSlice(c.key, 256).EndCell()
	return cell.BeginCell().MustStoreUInt(c.state, 2).MustStoreBigCoins(big.NewInt(c.balance)).MustStoreBigCoins(big.NewInt(c.stake)).
		MustStoreUInt(c.tokens, 64).MustStoreUInt(c.unlock, 32).MustStoreSlice(c.secret[:], 256).
		MustStoreRef(terms).MustStoreRef(c.params.cell(0)).EndCell()
}

// shown is the state_data cell of a client request.
func (c clientState) shown() *cell.Cell {
	return cell.BeginCell().MustStoreUInt(c.state, 2).MustStoreBigCoins(big.NewInt(c.balance)).MustStoreBigCoins(big.NewInt(c.stake)).
		MustStoreUInt(c.tokens, 64).MustStoreSlice(c.secret[:], 256).EndCell()
}

type workerState struct {
	owner, proxy  addr
	key           ed25519.PublicKey
	state, tokens uint64
	params        params
}

func (w workerState) cell() *cell.Cell {
	return cell.BeginCell().MustStoreAddr(w.owner.tu()).MustStoreAddr(w.proxy.tu()).MustStoreSlice(w.key, 256).
		MustStoreUInt(w.state, 2).MustStoreUInt(w.tokens, 64).MustStoreRef(w.params.cell(0)).EndCell()
}

type walletState struct {
	seqno, subwallet, status uint64
	key                      ed25519.PublicKey
	owner                    addr
}

func (w walletState) cell() *cell.Cell {
	return cell.BeginCell().MustStoreUInt(w.seqno, 32).MustStoreUInt(w.subwallet, 32).MustStoreSlice(w.key, 256).
		MustStoreUInt(w.status, 32).MustStoreAddr(w.owner.tu()).EndCell()
}

type rootState struct {
	owner                                  addr
	version                                uint64
	proxyHashes, workerHashes, modelHashes [][32]byte
	endpoints                              map[uint32]string
	lastSeqno                              uint64
	params                                 params
}

func (r rootState) cell() *cell.Cell {
	set := func(hashes [][32]byte) *cell.Dictionary {
		d := cell.NewDict(256)
		for _, h := range hashes {
			must(d.Set(cell.BeginCell().MustStoreSlice(h[:], 256).EndCell(), cell.BeginCell().EndCell()))
		}
		return d
	}
	registered := cell.NewDict(32)
	for seqno, text := range r.endpoints {
		must(registered.SetIntKey(big.NewInt(int64(seqno)), endpointBits(text).EndCell()))
	}
	lists := cell.BeginCell().MustStoreDict(set(r.proxyHashes)).MustStoreDict(registered).MustStoreUInt(r.lastSeqno, 32).
		MustStoreDict(set(r.workerHashes)).MustStoreDict(set(r.modelHashes)).EndCell()
	return cell.BeginCell().MustStoreAddr(r.owner.tu()).MustStoreUInt(r.version, 32).
		MustStoreRef(lists).MustStoreRef(r.params.cell(maskProxy | maskWorker | maskClient)).EndCell()
}

func endpointBits(text string) *cell.Builder {
	return cell.BeginCell().MustStoreUInt(0, 1).MustStoreUInt(uint64(len(text)), 7).MustStoreSlice([]byte(text), uint(8*len(text)))
}

func stateInit(code, data *cell.Cell) *tlb.StateInit { return &tlb.StateInit{Code: code, Data: data} }

func deployed(code, data *cell.Cell) addr {
	return addr(must1(tlb.ToCell(stateInit(code, data))).Hash())
}

// body starts a message: op and query id.
func body(op uint64, query uint64) *cell.Builder {
	return cell.BeginCell().MustStoreUInt(op, 32).MustStoreUInt(query, 64)
}

func coins(b *cell.Builder, n int64) *cell.Builder { return b.MustStoreBigCoins(big.NewInt(n)) }

func toAddr(b *cell.Builder, a addr) *cell.Cell { return b.MustStoreAddr(a.tu()).EndCell() }

const (
	opExcess       = 0x2565934c
	opPaid         = 0xc59a7cd3
	opDoNotProcess = 0x9a1247c0

	opTopUp            = 0xf172e6c2
	opSecretTopUp      = 0x8473b408
	opRegister         = 0xc45f9f3b
	opChangeSecret     = 0xa9357034
	opClientStake      = 0x6a1f6a60
	opWithdraw         = 0xda068e78
	opRequestRefund    = 0xfafa6cc1
	opCharge           = 0xbb63ff93
	opGrantRefund      = 0xefd711e1
	opClientRequest    = 0x65448ff4
	payloadTopUp       = 0x5cfc6b87
	payloadRegister    = 0xa35cb580
	payloadGranted     = 0xc68ebc7b
	payloadForced      = 0xf4c354c9
	opPayout           = 0xa040ad28
	opLastPayout       = 0xf5f26a36
	opWorkerRegister   = 0x26ed7f65
	opWorkerRequest    = 0x4d725d2c
	payloadPayout      = 0x08e7d036
	opPayOutEarnings   = 0x7610e6eb
	opProxyStake       = 0x9713f187
	opOwnerClose       = 0xb51d5a01
	opClose            = 0x636a4391
	opCloseComplete    = 0xe511abc7
	opAddWorkerHash    = 0xe34b1c60
	opDeleteWorkerHash = 0x8d94a79a
	opAddModelHash     = 0xc146134d
	opDeleteModelHash  = 0x92b11c18
	opAddProxyHash     = 0x71860e80
	opDeleteProxyHash  = 0x3c41d0b2
	opRegisterProxy    = 0x927c7cb5
	opUnregisterProxy  = 0x6d49eaf2
	opUpdateProxy      = 0x9c7924ba
	opChangeFees       = 0xc52ed8d4
	opChangeParams     = 0x022fa189
	opReplaceCodes     = 0xa2370f61
	opReplaceCode      = 0x11aefd51
	opReset            = 0x563c1d96
	opReplaceAll       = 0x4f7c5789
	opChangeOwner      = 0xc4a1ae54
	opWalletSend       = 0x9c69f376
)

func text(command byte) *cell.Cell {
	return cell.BeginCell().MustStoreUInt(0, 32).MustStoreUInt(uint64(command), 8).EndCell()
}

// tokensPayload is what a charge, grant refund or payout signs.
func tokensPayload(op, query, tokens uint64, contract addr) *cell.Cell {
	return toAddr(body(op, query).MustStoreUInt(tokens, 64), contract)
}

// closePayload is what both closes of a proxy sign.
func closePayload(op, query uint64, contract addr) *cell.Cell {
	return toAddr(body(op, query), contract)
}

// signed wraps a payload that starts with op and query id.
func signed(key ed25519.PrivateKey, payload *cell.Cell, excess addr) *cell.Cell {
	s := payload.MustBeginParse()
	op, query := s.MustLoadUInt(32), s.MustLoadUInt(64)
	return body(op, query).MustStoreAddr(excess.tu()).
		MustStoreSlice(ed25519.Sign(key, payload.Hash()), 512).MustStoreRef(payload).EndCell()
}

func clientRequest(query uint64, c clientState, payload *cell.Cell) *cell.Cell {
	return body(opClientRequest, query).MustStoreAddr(c.owner.tu()).MustStoreRef(c.shown()).MustStoreMaybeRef(payload).EndCell()
}

func workerRequest(query uint64, w workerState, payload *cell.Cell) *cell.Cell {
	return body(opWorkerRequest, query).MustStoreAddr(w.owner.tu()).MustStoreUInt(w.state, 2).
		MustStoreUInt(w.tokens, 64).MustStoreMaybeRef(payload).EndCell()
}

func clientPayment(op uint64, amount int64, excess addr) *cell.Cell {
	return toAddr(coins(cell.BeginCell().MustStoreUInt(op, 32), amount), excess)
}

func workerPayment(workerPart, proxyPart int64, excess addr) *cell.Cell {
	return toAddr(coins(coins(cell.BeginCell().MustStoreUInt(payloadPayout, 32), workerPart), proxyPart), excess)
}
