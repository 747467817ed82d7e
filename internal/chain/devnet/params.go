//go:build !tee

package devnet

import (
	"crypto/ed25519"
	"encoding/hex"
	"fmt"
	"hash/crc32"
	"math/big"

	"github.com/xssnick/tonutils-go/tl"
	"github.com/xssnick/tonutils-go/ton"
	"github.com/xssnick/tonutils-go/tvm/cell"
)

// mainnetParams are configuration parameters as TON mainnet has them, each
// the bits of its one cell: contracts see the gas, storage and forwarding
// prices and the limits they will meet there.
var mainnetParams = []struct {
	id   int64
	bits uint
	hex  string
}{
	{0, 256, "5555555555555555555555555555555555555555555555555555555555555555"},
	{1, 256, "3333333333333333333333333333333333333333333333333333333333333333"},
	{2, 256, "0000000000000000000000000000000000000000000000000000000000000000"},
	{4, 256, "e56754f83426f69b09267bd876ac97c44821345b7e266bd956a7bfbfb98df35c"},
	{8, 104, "c40000000d00000000000001ee"},                                                      // global version 13 and capabilities
	{13, 76, "1a43b9aca00101201f40"},                                                            // complaint prices
	{15, 128, "00010000000080000000200000008000"},                                               // election times
	{16, 48, "01900064004b"},                                                                    // validator counts
	{17, 220, "70110d9316ec00072386f26fc100008010a741a46278000000300000"},                       // stakes
	{18, 305, "d06600000000000000000000000080000000000000fa00000000000001f4000000000003d09000"}, // storage prices
	{20, 592, "d1000000000000006400000000000f4240de000000002710000000000000000f424000000000042c1d80000000000000271000000000002625a00000000005f5e100000000003b9aca00"}, // gas, masterchain
	{21, 592, "d100000000000000640000000000009c40de000000000190000000000000000f424000000000000f4240000000000000271000000000009896800000000005f5e100000000003b9aca00"}, // gas, basechain
	{22, 320, "5dc3000200000008000000100000c300030d40000f4240002625a0c3000003e80000138800002710"},                                                                     // block limits, masterchain
	{23, 320, "5dc3000400000010000000200000c3001e84800098968001312d00c3000003e80000138800002710"},                                                                     // block limits, basechain
	{24, 264, "ea000000000098968000000000271000000000000f424000000001800055555555"},                                                                                   // forwarding, masterchain
	{25, 264, "ea0000000000061a800000000001900000000000009c4000000001800055555555"},                                                                                   // forwarding, basechain
	{29, 296, "d90103000007d000003e800000000300000008000000040020000000200000000500002710"},                                                                           // consensus
}

// Parameters of the chain itself, which cannot be mainnet's.
const (
	paramWorkchains  = 12
	paramBlockFees   = 14
	paramGlobalID    = 19
	paramCatchain    = 28
	paramFundamental = 31
	paramValidators  = 34
)

// What parameter 8 says; block headers repeat it.
const (
	globalVersion = 13
	capabilities  = 0x1ee
)

const forever = 1 << 30

// configDict builds the configuration: mainnet's prices and limits, one
// validator for good, no block creation fees (so that nothing is minted), one
// workchain that starts at the given zero state.
func configDict(globalID int32, utime uint32, validator ed25519.PublicKey, zeroRoot, zeroFile hash) (*cell.Cell, error) {
	d := cell.NewDict(32)
	set := func(id int64, c *cell.Cell) error {
		return d.SetIntKey(big.NewInt(id), cell.BeginCell().MustStoreRef(c).EndCell())
	}
	for _, p := range mainnetParams {
		b, err := hex.DecodeString(p.hex)
		if err != nil {
			return nil, fmt.Errorf("parameter %d: %w", p.id, err)
		}
		if err := set(p.id, cell.BeginCell().MustStoreSlice(b, p.bits).EndCell()); err != nil {
			return nil, err
		}
	}

	workchain := cell.BeginCell().
		MustStoreUInt(0xa6, 8).MustStoreUInt(uint64(utime), 32).
		MustStoreUInt(0, 8).MustStoreUInt(0, 8).MustStoreUInt(0, 8).       // monitor and split depths
		MustStoreUInt(0b111, 3).                                           // basic, active, accepts messages
		MustStoreUInt(0, 13).                                              // flags
		MustStoreSlice(zeroRoot[:], 256).MustStoreSlice(zeroFile[:], 256). // zero state
		MustStoreUInt(0, 32).                                              // version
		MustStoreUInt(1, 4).MustStoreInt(-1, 32).MustStoreUInt(0, 64)      // wfmt_basic: vm_version, vm_mode
	workchains := cell.NewDict(32)
	if err := workchains.SetIntKey(big.NewInt(int64(basechain)), workchain.EndCell()); err != nil {
		return nil, err
	}
	validators := cell.NewDict(16)
	if err := validators.SetIntKey(big.NewInt(0), cell.BeginCell().
		MustStoreUInt(0x73, 8).MustStoreUInt(0x8e81278a, 32).MustStoreSlice(validator, 256).
		MustStoreUInt(validatorWeight, 64).MustStoreSlice(adnlAddress(validator), 256).EndCell()); err != nil {
		return nil, err
	}
	fundamental := cell.NewDict(256)
	for _, b := range []byte{0x55, 0x33, 0x00} { // config, elector, minter
		var h hash
		for i := range h {
			h[i] = b
		}
		if err := fundamental.Set(key256(h), cell.BeginCell().EndCell()); err != nil {
			return nil, err
		}
	}

	for _, p := range []struct {
		id int64
		c  *cell.Builder
	}{
		{paramWorkchains, cell.BeginCell().MustStoreDict(workchains)},
		{paramBlockFees, cell.BeginCell().MustStoreUInt(0x6b, 8).MustStoreUInt(0, 4).MustStoreUInt(0, 4)},
		{paramGlobalID, cell.BeginCell().MustStoreInt(int64(globalID), 32)},
		{paramCatchain, cell.BeginCell().MustStoreUInt(0xc2, 8).MustStoreUInt(0, 8).
			MustStoreUInt(forever, 32).MustStoreUInt(forever, 32).MustStoreUInt(forever, 32).MustStoreUInt(1, 32)},
		{paramFundamental, cell.BeginCell().MustStoreDict(fundamental)},
		{paramValidators, cell.BeginCell().MustStoreUInt(0x12, 8).
			MustStoreUInt(uint64(utime), 32).MustStoreUInt(uint64(utime)+forever, 32).
			MustStoreUInt(1, 16).MustStoreUInt(1, 16).MustStoreUInt(validatorWeight, 64).MustStoreDict(validators)},
	} {
		if err := set(p.id, p.c.EndCell()); err != nil {
			return nil, err
		}
	}
	return d.AsCell(), nil
}

const validatorWeight = 17

// adnlAddress is the validator's network address in the configuration. No
// node listens there, but clients parse only entries that have one.
func adnlAddress(pub ed25519.PublicKey) []byte {
	h := fileHash(append([]byte("cocoon/devnet-adnl/v1\x00"), pub...))
	return h[:]
}

// validatorSetHash is the short hash of the validator list that every block
// header carries. The catchain seqno never changes: it is 0.
func validatorSetHash(pub ed25519.PublicKey) (uint32, error) {
	b, err := tl.Serialize(ton.ValidatorSetHashable{Validators: []ton.ValidatorItemHashable{{
		Key: pub, Weight: validatorWeight, Addr: adnlAddress(pub),
	}}}, true)
	if err != nil {
		return 0, err
	}
	return crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)), nil
}
