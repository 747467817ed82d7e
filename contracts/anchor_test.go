package contracts

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/binary"
	"math/big"
	"testing"

	"github.com/xssnick/tonutils-go/tvm/cell"
)

const opAnchor = 0xf5bcaf7e

type anchorState struct {
	network           [32]byte
	key               ed25519.PublicKey
	epoch, size       uint64
	log, clients, wrk [32]byte
}

func (a anchorState) roots() *cell.Cell {
	return cell.BeginCell().MustStoreSlice(a.log[:], 256).MustStoreSlice(a.clients[:], 256).MustStoreSlice(a.wrk[:], 256).EndCell()
}

func (a anchorState) cell() *cell.Cell {
	return cell.BeginCell().MustStoreSlice(a.network[:], 256).MustStoreSlice(a.key, 256).
		MustStoreUInt(a.epoch, 32).MustStoreUInt(a.size, 64).MustStoreRef(a.roots()).EndCell()
}

func anchorStep(query uint64, at addr, epoch, size uint64, previous [32]byte, roots *cell.Cell) *cell.Cell {
	return body(opAnchor, query).MustStoreAddr(at.tu()).MustStoreUInt(epoch, 32).MustStoreUInt(size, 64).
		MustStoreSlice(previous[:], 256).MustStoreRef(roots).EndCell()
}

func TestAnchor(t *testing.T) {
	if label := sha256.Sum256([]byte("cocoon/anchor/v1\x00")); binary.BigEndian.Uint32(label[:]) != opAnchor {
		t.Errorf("the op is not the label's: %x", label[:4])
	}
	s := newSandbox(t)
	s.person("excess", excessTo[0])
	h := func(name string) [32]byte { return sha256.Sum256([]byte(name)) }
	state := anchorState{network: h("network"), key: proxyKey.Public().(ed25519.PublicKey)}
	at := deployed(code(Anchor()), state.cell())
	allOK(t, "deploy", s.send(letter{from: excessTo, to: at, value: 100 * mTON, init: stateInit(code(Anchor()), state.cell()), noBounce: true}))

	step := func(key ed25519.PrivateKey, payload *cell.Cell, value int64) int64 {
		t.Helper()
		before := s.data(at)
		st := s.send(letter{from: excessTo, to: at, value: value, body: signed(key, payload, excessTo)})[0]
		if st.exit != 0 && !bytes.Equal(before.Hash(), s.data(at).Hash()) {
			t.Error("a refusal changed the data")
		}
		return st.exit
	}
	next := anchorState{network: state.network, key: state.key, epoch: 1, size: 10, log: h("l1"), clients: h("c1"), wrk: h("w1")}
	later := anchorState{network: state.network, key: state.key, epoch: 2, size: 10, log: h("l1"), clients: h("c2"), wrk: h("w2")}
	short := cell.BeginCell().MustStoreUInt(1, 256).EndCell()
	long := next.roots().ToBuilder().MustStoreUInt(0, 1).EndCell()
	var none [32]byte
	for _, c := range []struct {
		name    string
		exit    int64
		key     ed25519.PrivateKey
		payload *cell.Cell
		value   int64
		after   *anchorState
	}{
		{"thief", 1007, seedKey(9), anchorStep(1, at, 1, 10, none, next.roots()), 200 * mTON, nil},
		{"roots too short", 9, proxyKey, anchorStep(1, at, 1, 10, none, short), 200 * mTON, nil},
		{"roots too long", 9, proxyKey, anchorStep(1, at, 1, 10, none, long), 200 * mTON, nil},
		{"value", 1003, proxyKey, anchorStep(1, at, 1, 10, none, next.roots()), 99 * mTON, nil},
		{"another anchor", 1015, proxyKey, anchorStep(1, excessTo, 1, 10, none, next.roots()), 200 * mTON, nil},
		{"epoch skipped", 1050, proxyKey, anchorStep(1, at, 2, 10, none, next.roots()), 200 * mTON, nil},
		{"unknown predecessor", 1052, proxyKey, anchorStep(1, at, 1, 10, h("x"), next.roots()), 200 * mTON, nil},
		{"first", 0, proxyKey, anchorStep(1, at, 1, 10, none, next.roots()), 200 * mTON, &next},
		{"replay", 1050, proxyKey, anchorStep(1, at, 1, 10, none, next.roots()), 200 * mTON, nil},
		{"smaller tree", 1051, proxyKey, anchorStep(1, at, 2, 9, next.log, later.roots()), 200 * mTON, nil},
		{"fork", 1052, proxyKey, anchorStep(1, at, 2, 10, none, later.roots()), 200 * mTON, nil},
		{"second, same tree", 0, proxyKey, anchorStep(2, at, 2, 10, next.log, later.roots()), 200 * mTON, &later},
	} {
		if exit := step(c.key, c.payload, c.value); exit != c.exit {
			t.Errorf("%s: exit %d, want %d", c.name, exit, c.exit)
		}
		if c.after != nil && !bytes.Equal(s.data(at).Hash(), c.after.cell().Hash()) {
			t.Errorf("%s: data %s", c.name, s.data(at).Dump())
		}
	}
	if st := s.send(letter{from: excessTo, to: at, value: 200 * mTON, body: body(1, 1).EndCell()})[0]; st.exit != 1012 {
		t.Errorf("unknown op: exit %d", st.exit)
	}
	if st := s.send(letter{from: excessTo, to: at, value: 200 * mTON, body: body(opDoNotProcess, 1).EndCell()})[0]; !st.ok() {
		t.Errorf("do not process: %+v", st)
	}
	big32 := func(b [32]byte) *big.Int { return new(big.Int).SetBytes(b[:]) }
	got := s.get(at, "get_cocoon_anchor_data")
	want := []*big.Int{big32(later.network), new(big.Int).SetBytes(later.key), big.NewInt(2), big.NewInt(10), big32(later.log), big32(later.clients), big32(later.wrk)}
	if len(got) != len(want) {
		t.Fatalf("%d values", len(got))
	}
	for i := range want {
		if n, ok := got[i].(*big.Int); !ok || n.Cmp(want[i]) != 0 {
			t.Errorf("value %d is %v, want %v", i, got[i], want[i])
		}
	}
	s.requireBalanced()
}
