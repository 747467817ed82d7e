package bindings

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/cocoon-network/cocoon"
	"github.com/cocoon-network/cocoon/attest"
	"github.com/cocoon-network/cocoon/internal/chain/registry"
	"github.com/cocoon-network/cocoon/internal/money/coins"
	"github.com/cocoon-network/cocoon/internal/money/pricing"
)

func image(s string) attest.ImageHash { return sha256.Sum256([]byte(s)) }

// vectorRoot is the root sample of spec contracts 16.2; lists are in the
// order of the dictionaries.
func vectorRoot() *registry.Snapshot {
	return &registry.Snapshot{
		Root: mainnetRoot, Owner: rootOwner, Version: 42,
		ProxyImages:  []attest.ImageHash{image("proxy-image-1")},
		WorkerImages: []attest.ImageHash{image("worker-image-1"), image("worker-image-2")},
		ModelHashes:  [][32]byte{sha256.Sum256([]byte("Qwen/Qwen3-32B"))},
		Proxies: []registry.Proxy{
			{Seqno: 1, ForWorkers: "10.1.2.3:11000", ForClients: "10.1.2.3:12000"},
			{Seqno: 3, ForWorkers: "192.0.2.7:443", ForClients: "192.0.2.7:443"},
		},
		LastProxySeqno: 3,
		Params:         vectorParams(),
	}
}

func TestRootVectors(t *testing.T) {
	want := vectorRoot()
	b, err := EncodeRoot(want)
	if err != nil {
		t.Fatal(err)
	}
	if h := hashOf(t, b); h != "33ae26b9b2476618329a26d2cfb77e20c5e8cf9cb7647bd749b85865b80871dd" {
		t.Errorf("sample hash %s", h)
	}
	got, err := DecodeRoot(mainnetRoot, vectorCell(t, "root sample data"))
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("sample is %+v, %v", got, err)
	}
	empty := &registry.Snapshot{Owner: rootOwner, Params: vectorParams()}
	if b, err = EncodeRoot(empty); err != nil || hashOf(t, b) != "0bc2007f802b5b1d7f342c25819a412095d828c6a0aa9498dbef764a5f24b14a" {
		t.Errorf("empty root %x, %v", b, err)
	}
	if got, err := DecodeRoot(cocoon.Address{}, b); err != nil || !reflect.DeepEqual(got, empty) {
		t.Errorf("empty root is %+v, %v", got, err)
	}
}

const aprilRoot = "b5ee9c72010210010001ef00044b8015555555555555555555555555555555555555555555555555555555555555554000000550010203040409c000" +
	"00007805060708035b05000000070000000d08a08980001388000009c40000271000003a980000012c0000009621dcd650023b9aca0078090a0b019d" +
	"a2222222222222222222222222222222222222222222222222222222222222222aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa" +
	"aaaaaaaa869897191719971a1d1899981818c00c0301f00d0e0f0043a002222222222222222222222222222222222222222222222222222222222222" +
	"22300042a0000000011b312e322e332e343a313130303120312e322e332e343a31313030320043a00444444444444444444444444444444444444444" +
	"444444444444444444444444500043a0066666666666666666666666666666666666666666666666666666666666666670000201000202000203004d" +
	"a01f6cfa1f9a671e41c1a92afb3d055b8203a5c6a27489147568c0a5dc37118b03002ee6b280100043a00ccccccccccccccccccccccccccccccccccc" +
	"ccccccccccccccccccccccccccccd00043a00eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeef00043a0111111111111" +
	"111111111111111111111111111111111111111111111111111110"

// TestAprilRoot is the struct version 5 vector of spec changes-2026-04 11.2.
func TestAprilRoot(t *testing.T) {
	data := unhex(aprilRoot)
	const hash = "4ef1e0afd5582a3db4cf6f6eb25223f16e5416f0198584e4368dcb65c7f88366"
	if h := hashOf(t, data); h != hash {
		t.Fatalf("vector hash %s", h)
	}
	s, err := DecodeRoot(mainnetRoot, data)
	if err != nil {
		t.Fatal(err)
	}
	code := func(b uint64) []byte {
		c, err := newWriter().uint(b, 8).serialize()
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	want := &registry.Snapshot{
		Root: mainnetRoot, Owner: fill(0xaa), Version: 42,
		ProxyImages: []attest.ImageHash{fill(0x11).Hash}, WorkerImages: []attest.ImageHash{fill(0x22).Hash}, ModelHashes: [][32]byte{fill(0x33).Hash},
		Proxies:        []registry.Proxy{{Seqno: 1, ForWorkers: "1.2.3.4:11001", ForClients: "1.2.3.4:11002"}},
		LastProxySeqno: s.LastProxySeqno,
		Params: registry.Params{
			StructVersion: 5, ParamsVersion: 7, UniqueID: 13, PricePerToken: 20, WorkerFeePerToken: 19,
			Multipliers:           pricing.Multipliers{Prompt: 10000, Cached: 5000, Completion: 20000, Reasoning: 30000},
			ProxyDelayBeforeClose: 600, ClientDelayBeforeClose: 300, MinProxyStake: coins.PerCoin, MinClientStake: 2 * coins.PerCoin,
			ProxyCode: code(1), WorkerCode: code(2), ClientCode: code(3),
		},
		KeyManager: registry.KeyManager{
			PublicKeys: s.KeyManager.PublicKeys, PublicKey: fill(0x44).Hash, ImageHash: fill(0x55).Hash, Address: "1.2.3.4:13001",
		},
		VerifiedProxyKeys: [][32]byte{fill(0x66).Hash}, VerifiedWorkerKeys: [][32]byte{fill(0x77).Hash}, VerifiedKeyManagerKeys: [][32]byte{fill(0x88).Hash},
	}
	if !reflect.DeepEqual(s, want) {
		t.Errorf("got %+v\nwant %+v", s, want)
	}
	if k := s.KeyManager.PublicKeys; len(k) != 1 || k[0].Type != 1 || k[0].ExpireAt != 2000000000 {
		t.Errorf("public keys %+v", k)
	}
	again, err := EncodeRoot(s)
	if err != nil || hashOf(t, again) != hash {
		t.Errorf("encoded again: %x, %v", again, err)
	}
}

func TestRootRefuses(t *testing.T) {
	s := vectorRoot()
	params, err := paramsCell(s.Params, AllCodes)
	if err != nil {
		t.Fatal(err)
	}
	p5 := s.Params
	p5.StructVersion = 5
	params5, err := paramsCell(p5, AllCodes)
	if err != nil {
		t.Fatal(err)
	}
	noDicts := func() *writer { return newWriter().uint(0, 2).uint(0, 32).uint(0, 2) }
	manager := func(text string) *writer {
		return newWriter().uint(0, 1).hash([32]byte{}).hash([32]byte{}).text(text)
	}
	head := func() *writer { return newWriter().addr(rootOwner).uint(1, 32) }
	for name, w := range map[string]*writer{
		"extra reference":       head().child(noDicts()).ref(params).child(newWriter()),
		"extra bits":            head().child(noDicts()).ref(params).bool(true),
		"extra bits in lists":   head().child(noDicts().bool(true)).ref(params),
		"no params":             head().child(noDicts()),
		"no key manager":        head().child(noDicts()).ref(params5),
		"no verified keys":      head().child(noDicts()).ref(params5).child(manager("")),
		"key manager's address": head().child(noDicts()).ref(params5).child(manager("localhost:1")).child(newWriter().uint(0, 3)),
		"broken dictionary":     head().child(newWriter().maybe(params).uint(0, 1).uint(0, 32).uint(0, 2)).ref(params),
	} {
		b, err := w.serialize()
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if s, err := DecodeRoot(mainnetRoot, b); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %+v, %v", name, s, err)
		}
	}
	s.Proxies = []registry.Proxy{{ForWorkers: strings.Repeat("1", 128)}}
	if _, err := EncodeRoot(s); err == nil {
		t.Error("an endpoint of 128 bytes was written")
	}
}

func TestUnreadableProxyEntriesAreSkipped(t *testing.T) {
	params, err := paramsCell(vectorParams(), AllCodes)
	if err != nil {
		t.Fatal(err)
	}
	d := newDict(4)
	d.set([]byte{0, 0, 0, 1}, newWriter().text("not an address"))
	d.set([]byte{0, 0, 0, 2}, newWriter().bool(true).uint(9, 7)) // another type
	d.set([]byte{0, 0, 0, 3}, newWriter())                       // empty
	d.set([]byte{0, 0, 0, 4}, newWriter().text("[1.2.3.4:5]"))
	d.set([]byte{0, 0, 0, 5}, newWriter().bool(false).uint(90, 7)) // cut
	lists := newWriter().uint(0, 1).dict(d).uint(5, 32).uint(0, 2)
	b, err := newWriter().addr(rootOwner).uint(1, 32).child(lists).ref(params).serialize()
	if err != nil {
		t.Fatal(err)
	}
	s, err := DecodeRoot(mainnetRoot, b)
	if err != nil || len(s.Proxies) != 1 || s.Proxies[0].Seqno != 4 || s.Proxies[0].ForClients != "1.2.3.4:5" {
		t.Errorf("%+v, %v", s, err)
	}
}

// TestSharedDictionaryIsBounded reads a dictionary of 2^256 keys that shares
// all its cells.
func TestSharedDictionaryIsBounded(t *testing.T) {
	node, err := newWriter().uint(0, 2).end() // an empty label, no value
	if err != nil {
		t.Fatal(err)
	}
	for range 256 {
		if node, err = newWriter().uint(0, 2).ref(node).ref(node).end(); err != nil {
			t.Fatal(err)
		}
	}
	c, err := newWriter().maybe(node).end()
	if err != nil {
		t.Fatal(err)
	}
	r := newReader(c)
	if got := readHashSet[[32]byte](r); !errors.Is(r.err, ErrMalformed) || len(got) > maxDictEntries {
		t.Errorf("%d entries, %v", len(got), r.err)
	}
}

func FuzzDecodeRoot(f *testing.F) {
	f.Add(unhex(aprilRoot))
	f.Add(vectorCell(f, "root sample data"))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := DecodeRoot(mainnetRoot, b)
		if err != nil {
			return
		}
		again, err := EncodeRoot(s)
		if err != nil {
			t.Fatal(err)
		}
		if s2, err := DecodeRoot(mainnetRoot, again); err != nil || !reflect.DeepEqual(s, s2) {
			t.Fatalf("%+v became %+v, %v (%s)", s, s2, err, hex.EncodeToString(again))
		}
	})
}
