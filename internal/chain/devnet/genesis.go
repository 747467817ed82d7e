//go:build !tee

package devnet

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"math/big"
	"sort"

	"github.com/xssnick/tonutils-go/address"
	"github.com/xssnick/tonutils-go/tlb"
	"github.com/xssnick/tonutils-go/ton/wallet"
	"github.com/xssnick/tonutils-go/tvm/cell"

	"github.com/cocoon-network/cocoon"
	"github.com/cocoon-network/cocoon/internal/money/coins"
)

// supply is what the faucet starts with: a billion worthless coins.
const supply = 1_000_000_000 * coins.PerCoin

// genesis is all a chain is a function of. It is stored, because another time
// or key would make another network, and clients of this one would refuse it.
type genesis struct {
	globalID  int32
	time      uint32
	lt        uint64
	seed      [32]byte
	accounts  *cell.Cell // ShardAccounts
	libraries *cell.Cell // root of the public libraries, or nil
}

// genesisFile is the stored form.
type genesisFile struct {
	Note     string `json:"note"`
	GlobalID int32  `json:"global_id"`
	Time     uint32 `json:"time"`
	LT       uint64 `json:"lt"`
	Seed     []byte `json:"seed"`
	State    []byte `json:"state"` // BoC: accounts and, if any, libraries
}

const simulatedNote = "SIMULATED: a development chain; its coins are worthless"

func newGenesis(cfg Config) (*genesis, error) {
	g := &genesis{globalID: cfg.GlobalID, time: uint32(cfg.Now().Unix())}
	rand.Read(g.seed[:])
	accounts, err := tlb.NewShardAccountsAugDict()
	if err != nil {
		return nil, err
	}
	init, err := walletInit(g.key("faucet").Public().(ed25519.PublicKey), g.globalID)
	if err != nil {
		return nil, err
	}
	if err := addAccount(accounts, faucetAddress(init), init, supply, g.time); err != nil {
		return nil, err
	}
	addrs := make([]cocoon.Address, 0, len(cfg.Balances))
	for a := range cfg.Balances {
		addrs = append(addrs, a)
	}
	sort.Slice(addrs, func(i, j int) bool { return string(addrs[i].Hash[:]) < string(addrs[j].Hash[:]) })
	for _, a := range addrs {
		if a.Workchain != basechain {
			return nil, fmt.Errorf("devnet: genesis balance of %s: only workchain 0 has accounts here", a)
		}
		if err := addAccount(accounts, a, nil, cfg.Balances[a], g.time); err != nil {
			return nil, err
		}
	}
	if g.accounts, err = accounts.ToCell(); err != nil {
		return nil, err
	}
	g.libraries, err = libraryDict(cfg.Libraries)
	return g, err
}

// key derives the ed25519 key for one use.
func (g *genesis) key(use string) ed25519.PrivateKey {
	h := sha256.New()
	h.Write([]byte("cocoon/devnet-" + use + "/v1\x00"))
	h.Write(g.seed[:])
	return ed25519.NewKeyFromSeed(h.Sum(nil))
}

func (g *genesis) marshal() ([]byte, error) {
	roots := []*cell.Cell{g.accounts}
	if g.libraries != nil {
		roots = append(roots, g.libraries)
	}
	boc, err := cell.ToBOCWithOptionsErr(roots, cell.BOCSerializeOptions{WithCRC32C: true})
	if err != nil {
		return nil, err
	}
	return json.MarshalIndent(genesisFile{simulatedNote, g.globalID, g.time, g.lt, g.seed[:], boc}, "", "  ")
}

func parseGenesis(b []byte) (*genesis, error) {
	var f genesisFile
	if err := json.Unmarshal(b, &f); err != nil {
		return nil, fmt.Errorf("devnet: genesis: %w", err)
	}
	roots, err := cell.FromBOCMultiRoot(f.State)
	if err != nil || len(roots) == 0 || len(roots) > 2 || len(f.Seed) != 32 {
		return nil, fmt.Errorf("devnet: genesis is damaged (seed of %d bytes, %d state roots, %v)", len(f.Seed), len(roots), err)
	}
	g := &genesis{globalID: f.GlobalID, time: f.Time, lt: f.LT, seed: [32]byte(f.Seed), accounts: roots[0]}
	if len(roots) == 2 {
		g.libraries = roots[1]
	}
	return g, nil
}

// zeroStates are the two states everything starts from, and their ids.
type zeroStates struct {
	shard, master       *cell.Cell
	shardRef, masterRef extRef
}

func (g *genesis) zeroStates() (*zeroStates, error) {
	accounts := &tlb.ShardAccountsAugDict{}
	s, err := g.accounts.BeginParse()
	if err != nil {
		return nil, err
	}
	if err := accounts.LoadFromCell(s); err != nil {
		return nil, fmt.Errorf("devnet: genesis accounts: %w", err)
	}
	total, err := accountsBalance(accounts)
	if err != nil {
		return nil, err
	}
	queue, err := tlb.NewOutMsgQueueAugDict()
	if err != nil {
		return nil, err
	}
	info, err := queueInfo(queue, processed{}, 0)
	if err != nil {
		return nil, err
	}
	z := &zeroStates{}
	f := stateFields{
		globalID: g.globalID, workchain: basechain, utime: g.time, lt: g.lt, minRef: 1<<32 - 1,
		queue: info, accounts: g.accounts, balance: total, fees: new(big.Int),
	}
	z.shard = f.cell()
	z.shardRef = stateRef(z.shard, g.lt)

	validator := g.key("validator").Public().(ed25519.PublicKey)
	config, err := configDict(g.globalID, g.time, validator, z.shardRef.root, z.shardRef.file)
	if err != nil {
		return nil, fmt.Errorf("devnet: configuration: %w", err)
	}
	setHash, err := validatorSetHash(validator)
	if err != nil {
		return nil, err
	}
	prev, err := cell.NewAugDict(32, keyMaxLT{})
	if err != nil {
		return nil, err
	}
	empty, err := tlb.NewShardAccountsAugDict()
	if err != nil {
		return nil, err
	}
	f.workchain, f.balance, f.libraries = masterchain, new(big.Int), g.libraries
	if f.accounts, err = empty.ToCell(); err != nil {
		return nil, err
	}
	if f.extra, err = masterExtra(nil, config, setHash, prev, true, nil, total); err != nil {
		return nil, err
	}
	z.master = f.cell()
	z.masterRef = stateRef(z.master, g.lt)
	return z, nil
}

func stateRef(root *cell.Cell, lt uint64) extRef {
	return extRef{endLT: lt, root: cellHash(root), file: hash(cell.ComputeFileHash(root))}
}

// addAccount puts a funded account into the genesis state: active with init,
// otherwise without code.
func addAccount(d *tlb.ShardAccountsAugDict, a cocoon.Address, init *tlb.StateInit, amount coins.Nano, now uint32) error {
	st := tlb.AccountState{
		IsValid: true,
		Address: address.NewAddress(0, byte(a.Workchain), a.Hash[:]),
		AccountStorage: tlb.AccountStorage{
			Status: tlb.AccountStatusUninit, Balance: tlb.FromNanoTON(new(big.Int).SetUint64(uint64(amount))),
		},
	}
	if init != nil {
		st.Status, st.StateInit = tlb.AccountStatusActive, init
	}
	storage, err := st.AccountStorage.ToCell()
	if err != nil {
		return err
	}
	cells, bits := treeSize(storage, map[cell.Hash]bool{})
	st.StorageInfo = tlb.StorageInfo{
		StorageUsed:  tlb.StorageUsed{CellsUsed: big.NewInt(cells), BitsUsed: big.NewInt(bits)},
		StorageExtra: tlb.StorageExtraNone{}, LastPaid: now,
	}
	root, err := st.ToCell()
	if err != nil {
		return err
	}
	return d.Set(key256(a.Hash), cell.BeginCell().MustStoreRef(root).
		MustStoreSlice(make([]byte, 32), 256).MustStoreUInt(0, 64).EndCell())
}

// treeSize counts the distinct cells below c, c included, and their bits.
func treeSize(c *cell.Cell, seen map[cell.Hash]bool) (cells, bits int64) {
	if h := c.HashKey(); seen[h] {
		return 0, 0
	} else {
		seen[h] = true
	}
	cells, bits = 1, int64(c.BitsSize())
	for i := range int(c.RefsNum()) {
		n, b := treeSize(c.MustPeekRef(i), seen)
		cells, bits = cells+n, bits+b
	}
	return cells, bits
}

// libraryDict builds the masterchain's public libraries from BoCs.
func libraryDict(bocs [][]byte) (*cell.Cell, error) {
	if len(bocs) == 0 {
		return nil, nil
	}
	d := cell.NewDict(256)
	publishers := cell.NewDict(256)
	if err := publishers.Set(key256(hash{}), cell.BeginCell().EndCell()); err != nil {
		return nil, err
	}
	for i, b := range bocs {
		lib, err := cell.FromBOC(b)
		if err != nil {
			return nil, fmt.Errorf("devnet: library %d: %w", i, err)
		}
		v := cell.BeginCell().MustStoreUInt(0, 2).MustStoreRef(lib).MustStoreBuilder(publishers.AsCell().ToBuilder())
		if err := d.Set(key256(cellHash(lib)), v.EndCell()); err != nil {
			return nil, err
		}
	}
	return d.AsCell(), nil
}

// walletInit is the initial state of a V5R1 wallet, the faucet's kind.
func walletInit(pub ed25519.PublicKey, globalID int32) (*tlb.StateInit, error) {
	return wallet.GetStateInit(pub, wallet.ConfigV5R1Final{NetworkGlobalID: globalID}, 0)
}

func faucetAddress(init *tlb.StateInit) cocoon.Address {
	return cocoon.Address{Workchain: basechain, Hash: hash(init.CalcAddress(0).Data())}
}
