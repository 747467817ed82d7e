package wallet

import (
	"encoding/hex"
	"encoding/json"
	"os"
	"testing"
	"time"

	"github.com/cocoon-network/cocoon"
	"github.com/cocoon-network/cocoon/internal/money/coins"
	"github.com/xssnick/tonutils-go/tvm/cell"
)

func readJSON(t *testing.T, path string, v any) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, v); err != nil {
		t.Fatal(err)
	}
}

func hexHash(h [32]byte) string { return hex.EncodeToString(h[:]) }

// The vectors of testdata/wallets.json were made with @ton/crypto and
// @ton/ton: mnemonics, keys, addresses and signed transfers of 1.25 coins with
// a body of 114 bytes, and of 1 nano, both to 0:abab…, seqno 7, until
// 1750003600, mode 3.
func TestWalletVectors(t *testing.T) {
	var vectors []struct {
		Mnemonic, Seed, Public string
		Wallets                []struct {
			Kind            Kind
			GlobalID        int32 `json:"global_id"`
			Raw, Bounceable string
			Body            string
		}
	}
	readJSON(t, "testdata/wallets.json", &vectors)
	to := cocoon.Address{}
	for i := range to.Hash {
		to.Hash[i] = 0xab
	}
	filler := make([]byte, 110)
	for i := range filler {
		filler[i] = 7
	}
	body := cell.BeginCell().MustStoreUInt(0x2565934c, 32).MustStoreSlice(filler, 880).EndCell().ToBOC()
	messages := []Message{
		{To: to, Amount: 1_250_000_000, Bounce: true, Body: body, Mode: 3},
		{To: to, Amount: 1, Mode: 3},
	}
	for _, v := range vectors {
		key, err := ParseMnemonic(v.Mnemonic)
		if err != nil {
			t.Fatal(err)
		}
		if seed := key.seed(); hexHash(seed) != v.Seed || hexHash(key.Public()) != v.Public {
			t.Errorf("derived public key %x, want %s", key.Public(), v.Public)
		}
		for _, w := range v.Wallets {
			c := Contract{Kind: w.Kind, PublicKey: key.Public(), GlobalID: w.GlobalID}
			addr, err := c.Address()
			if err != nil {
				t.Fatal(err)
			}
			if addr.Raw() != w.Raw || addr.Friendly(true, false) != w.Bounceable {
				t.Errorf("%s on %d: address %s, want %s", w.Kind, w.GlobalID, addr.Raw(), w.Raw)
			}
			ext, err := c.Build(key, messages, 7, time.Unix(1750003600, 0), false)
			if err != nil {
				t.Fatal(err)
			}
			if hexHash(ext.BodyHash) != w.Body {
				t.Errorf("%s on %d: body %x, want %s", w.Kind, w.GlobalID, ext.BodyHash, w.Body)
			}
		}
	}
}

// toyCode is a one-cell code of spec contracts 16.1.
func toyCode(n uint64) *cell.Cell { return cell.BeginCell().MustStoreUInt(0xC0DE0000|n, 32).EndCell() }

// TestNodeWalletVectors holds the node wallet against spec contracts 16.6.
func TestNodeWalletVectors(t *testing.T) {
	var v map[string][]string
	readJSON(t, "testdata/node.json", &v)
	key, err := ParseKey("0000000000000000000000000000000000000000000000000000000000000003")
	if err != nil {
		t.Fatal(err)
	}
	owner := cocoon.Address{}
	for i := range owner.Hash {
		owner.Hash[i] = 0x44
	}
	c := Contract{Kind: Node, PublicKey: key.Public(), Owner: owner, Code: toyCode(4).ToBOC()}

	boc := func(name string) *cell.Cell {
		t.Helper()
		b, err := hex.DecodeString(v[name][1])
		if err != nil {
			t.Fatal(err)
		}
		root, err := cell.FromBOC(b)
		if err != nil {
			t.Fatal(err)
		}
		return root
	}
	// What the messages carry is read from the vectors; how they are put
	// together is ours.
	first, second := boc("message1"), boc("message2")
	var messages []Message
	for _, m := range []struct {
		cell   *cell.Cell
		amount coins.Nano
		bounce bool
		mode   uint8
	}{{first, 1, true, 1}, {second, 800_000_000, false, 0}} {
		s := m.cell.MustBeginParse()
		s.MustLoadUInt(6)
		a := s.MustLoadAddr()
		msg := Message{To: cocoon.Address{Workchain: a.Workchain(), Hash: [32]byte(a.Data())}, Amount: m.amount, Bounce: m.bounce, Mode: m.mode}
		if ref := m.cell.MustPeekRef(0).ToBOC(); m.bounce {
			msg.Body = ref
		} else {
			msg.Init = ref
		}
		built, err := msg.cell()
		if err != nil {
			t.Fatal(err)
		}
		if built.HashKey() != m.cell.HashKey() {
			t.Errorf("message of %s: cell %x, want %x", m.amount, built.HashKey(), m.cell.HashKey())
		}
		messages = append(messages, msg)
	}
	ext, err := c.Build(key, messages, 7, time.Unix(1750003600, 0), false)
	if err != nil {
		t.Fatal(err)
	}
	if got := hexHash(ext.BodyHash); got != v["body"][0] {
		t.Errorf("body %s, want %s", got, v["body"][0])
	}
	root, err := cell.FromBOC(ext.BoC)
	if err != nil {
		t.Fatal(err)
	}
	if got := hexHash(root.HashKey()); got != v["external"][0] {
		t.Errorf("external message %s, want %s", got, v["external"][0])
	}
}

func TestSeqno(t *testing.T) {
	for _, kind := range []Kind{V5R1, V4R2} {
		c := Contract{Kind: kind, GlobalID: -4242}
		state, err := c.stateInit()
		if err != nil {
			t.Fatal(err)
		}
		if n, err := kind.seqno(state.MustPeekRef(1).ToBOC()); n != 0 || err != nil {
			t.Errorf("%s: seqno of a new wallet: %d, %v", kind, n, err)
		}
		if _, err := kind.seqno(cell.BeginCell().MustStoreUInt(1, 20).EndCell().ToBOC()); err == nil {
			t.Errorf("%s: seqno of 20 bits of data: no error", kind)
		}
	}
}

func TestBuildRefuses(t *testing.T) {
	key, other := NewKey(), NewKey()
	c := Contract{Kind: V4R2, PublicKey: key.Public()}
	to := cocoon.Address{Hash: [32]byte{1}}
	for name, build := range map[string]func() (External, error){
		"no message":    func() (External, error) { return c.Build(key, nil, 0, time.Now(), true) },
		"five messages": func() (External, error) { return c.Build(key, make([]Message, 5), 0, time.Now(), true) },
		"no target":     func() (External, error) { return c.Build(key, make([]Message, 1), 0, time.Now(), true) },
		"foreign key":   func() (External, error) { return c.Build(other, []Message{{To: to}}, 0, time.Now(), true) },
		"bad body": func() (External, error) {
			return c.Build(key, []Message{{To: to, Body: []byte{1}}}, 0, time.Now(), true)
		},
		"no owner": func() (External, error) {
			n := Contract{Kind: Node, PublicKey: key.Public(), Code: toyCode(4).ToBOC()}
			return n.Build(key, []Message{{To: to}}, 0, time.Now(), true)
		},
	} {
		if _, err := build(); err == nil {
			t.Errorf("%s: built", name)
		}
	}
}
