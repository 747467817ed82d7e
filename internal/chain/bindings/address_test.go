package bindings

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"reflect"
	"testing"

	"github.com/xssnick/tonutils-go/tvm/cell"

	"github.com/cocoon-network/cocoon"
	"github.com/cocoon-network/cocoon/internal/chain/registry"
	"github.com/cocoon-network/cocoon/internal/money/coins"
	"github.com/cocoon-network/cocoon/internal/money/pricing"
)

func TestParamsCells(t *testing.T) {
	for _, c := range []struct {
		mask CodeMask
		hash string
	}{
		{AllCodes, "3306a243146485cc1bc24456b21b674b7e99eb4a5235034f2b7b8775560a4b41"},
		{ChildCodes, "cd402a8fca1b3f70821911f103da8e9857462ddf40cf41c8fdbaf4c04fed08e3"},
		{NoCodes, "fc122b98e76a1a9ef6e5bb43207cc9f946131e4cc9f44cf0b77e963b97757cf6"},
	} {
		name := fmt.Sprintf("params mask %d", c.mask)
		got, err := EncodeParams(vectorParams(), c.mask)
		if err != nil {
			t.Fatal(err)
		}
		if h := hashOf(t, got); h != c.hash {
			t.Errorf("%s: hash %s, want %s", name, h, c.hash)
		}
		if want := vectorCell(t, name); !bytes.Equal(got, want) {
			t.Errorf("%s: %x, want %x", name, got, want)
		}
		want := vectorParams()
		if c.mask != AllCodes {
			want.ProxyCode = nil
		}
		if c.mask == NoCodes {
			want.WorkerCode, want.ClientCode = nil, nil
		}
		if back, err := DecodeParams(got); err != nil || !reflect.DeepEqual(back, want) {
			t.Errorf("%s: decoded %+v, %v", name, back, err)
		}
	}
}

// TestNewStructVersions are the vectors of spec changes-2026-04 11.1.
func TestNewStructVersions(t *testing.T) {
	for version, hash := range map[uint8][2]string{
		3: {"238c2c0d", "96c336"}, 4: {"392acafd", "3148d3"}, 5: {"d93655ee", "b0b6d1"},
	} {
		p := registry.Params{
			StructVersion: version, ParamsVersion: 7, UniqueID: 13, PricePerToken: 20, WorkerFeePerToken: 19,
			Multipliers:           pricing.Multipliers{Prompt: 10000, Cached: 5000, Completion: 20000, Reasoning: 30000},
			ProxyDelayBeforeClose: 600, ClientDelayBeforeClose: 300, MinProxyStake: coins.PerCoin, MinClientStake: 2 * coins.PerCoin,
		}
		got, err := EncodeParams(p, NoCodes)
		if err != nil {
			t.Fatal(err)
		}
		want := fmt.Sprintf("b5ee9c7201010101003000005b%02x000000070000000d08a08980001388000009c40000271000003a980000012c0000009621dcd650023b9aca0008", version)
		if h := hex.EncodeToString(got); h != want {
			t.Errorf("version %d: %s, want %s", version, h, want)
		}
		if h := hashOf(t, got); h[:8] != hash[0] || h[58:] != hash[1] {
			t.Errorf("version %d: hash %s", version, h)
		}
	}
}

func TestOldStructVersions(t *testing.T) {
	for version := range uint8(lastVersion + 1) {
		p := vectorParams()
		p.StructVersion = version
		b, err := EncodeParams(p, AllCodes)
		if err != nil {
			t.Fatal(err)
		}
		want := p
		if version < 3 {
			want.Multipliers.Prompt, want.Multipliers.Completion = 10000, 10000
		}
		if version < 2 {
			want.Multipliers.Cached, want.Multipliers.Reasoning = 10000, 10000
		}
		if version < 1 {
			want.MinProxyStake, want.MinClientStake = coins.PerCoin, coins.PerCoin
		}
		if got, err := DecodeParams(b); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("version %d: %+v, %v", version, got, err)
		}
	}
	p := vectorParams()
	p.StructVersion = 6
	if _, err := EncodeParams(p, NoCodes); !errors.Is(err, ErrStructVersion) {
		t.Errorf("encoding version 6: %v", err)
	}
	b := vectorCell(t, "params mask 0")
	b[bytes.Index(b, []byte{0x03, 0, 0, 0, 5})] = 6
	if _, err := DecodeParams(b); !errors.Is(err, ErrStructVersion) {
		t.Errorf("decoding version 6: %v", err)
	}
}

// TestToyAddresses are the addresses of spec contracts 16.2.
func TestToyAddresses(t *testing.T) {
	s := vectorSnapshot()
	check := func(name string, got cocoon.Address, err error, want string) {
		t.Helper()
		if err != nil || got != raw(want) {
			t.Errorf("%s: %s, %v; want %s", name, got.Raw(), err, want)
		}
	}
	proxy, err := ProxyAddress(s, proxyKey, proxyOwner)
	check("proxy", proxy, err, toyProxy.Raw())
	worker, err := WorkerAddress(s, workerOwner, proxy, proxyKey)
	check("worker", worker, err, toyWorker.Raw())
	client, err := ClientAddress(s, clientOwner, proxy, proxyKey)
	check("client", client, err, toyClient.Raw())
	if got, want := client.Friendly(true, false), "EQAYk8g2RCQOdcXQlxYG1WtKyysegBV4nqbwylyUkpI7fqfX"; got != want {
		t.Errorf("client is %s, want %s", got, want)
	}
	// The wallet's vector uses a toy code, so only its data is comparable.
	data, err := walletData(walletKey, clientOwner).serialize()
	if err != nil || hashOf(t, data) != "8919a65aeaf8d97e9179e6ecf290ee8fbfe2b15cf9b67844daebf72770280dcb" {
		t.Errorf("wallet data %x, %v", data, err)
	}
	wallet, err := WalletAddress(walletKey, clientOwner)
	check("wallet", wallet, err, "0:144146098f8bac053631718e65349a92c795d76fbd73b5b70e200dbc0f05649c")
}

// TestPublishedAddresses are those of spec network-protocol 7.2, with the
// three codes empty.
func TestPublishedAddresses(t *testing.T) {
	empty, err := newWriter().serialize()
	if err != nil {
		t.Fatal(err)
	}
	s := &registry.Snapshot{
		Root: raw("EQBT4hy4vMEZ9uxSCuhw_gBKh9_AwmHXLe7Wo0O4Vh-4kRjJ"),
		Params: registry.Params{
			StructVersion: 1, ParamsVersion: 1, UniqueID: 13, IsTest: true, PricePerToken: 2, WorkerFeePerToken: 1,
			ProxyDelayBeforeClose: 600, ClientDelayBeforeClose: 300, MinProxyStake: coins.PerCoin, MinClientStake: coins.PerCoin,
			ProxyCode: empty, WorkerCode: empty, ClientCode: empty,
		},
	}
	if b, err := EncodeParams(s.Params, NoCodes); err != nil || hashOf(t, b) != "59b8161e92d89302035d2d082eabf144dcadd01b8e710f8a9c6004da44a0e7a1" {
		t.Errorf("params: %x, %v", b, err)
	}
	if b, err := EncodeParams(s.Params, ChildCodes); err != nil || hashOf(t, b) != "b65fa11f1b40f1ff6b0b4e72b30b24dfc3841b573ab11562c906c889920f99bb" {
		t.Errorf("params(6): %x, %v", b, err)
	}
	owner := raw("UQAuz15H1ZHrZ_psVrAra7HealMIVeFq0wguqlmFno1f3B-m")
	key := [32]byte(unhex("559087582b7e5ea2b2b986c258e0067b806a59b154e955decf00429610eab095"))
	wallet, err := WalletAddress([32]byte(unhex("db4f96e50b5c679fea16504ffc1548c0b32fdc7225e6401f9fc5d721b0f99710")), owner)
	want(t, wallet, err, "UQCdj43bBDyeJlfe6FVSpWLfsDMp4YHbmz5lca5-tNz-fx20")
	proxyWallet, err := WalletAddress(key, owner)
	want(t, proxyWallet, err, "UQAXGlaBPBoSyvlI0cEGKvS8Ak5e9JFcmKmcBmYsKhNTIdbG")
	proxy, err := ProxyAddress(s, key, owner)
	want(t, proxy, err, "UQCxJzkElxSE9yCchkkzjQ88ty_UarZOj0ssC9BphZer_lFO")
	client, err := ClientAddress(s, wallet, proxy, key)
	want(t, client, err, "UQCwXwYe-KUBqEcviBBVOV77CeiDVrcetWBxip3nsSRv6Hfp")
	worker, err := WorkerAddress(s, owner, proxy, key)
	want(t, worker, err, "UQCsCs2pKcRHEAtsvfAKAZVXAbV37zuF0iiC_QlRIVO46UqM")
}

func want(t *testing.T, got cocoon.Address, err error, want string) {
	t.Helper()
	if err != nil || got.String() != want {
		t.Errorf("got %v, %v; want %s", got, err, want)
	}
}

// TestMainnetAddresses uses the published codes, of which hash and depth are
// known (spec contracts 12 and 16.2): all that a parent's hash needs.
func TestMainnetAddresses(t *testing.T) {
	known := func(hash string, depth uint16) *cell.Cell {
		c, err := cell.CreateWithLazyRefsUnsafe(0, nil, unhex(hash), []uint16{depth}, nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	proxyCode := known("00b2c57d43c1dbc3e12cfa240494a168c78feca90a9b99ebe796b139ed713890", 9)
	workerCode := known("1aaa0512c489a0382b163f7d706e2b4182f1a38fcc46208be5fa22d7faed5aa7", 6)
	clientCode := known("974d24538e6003b1a393f8708525b81324cf8a78aee88b4585d51b6f64555147", 10)
	address := func(code *cell.Cell, codes [3]*cell.Cell, data *writer) cocoon.Address {
		params, err := paramsWith(vectorParams(), codes)
		if err != nil {
			t.Fatal(err)
		}
		d, err := data.ref(params).end()
		if err != nil {
			t.Fatal(err)
		}
		return stateInitAddress(code.HashKey(), code.Depth(), d)
	}
	none := [3]*cell.Cell{}
	children := [3]*cell.Cell{nil, workerCode, clientCode}
	proxy := address(proxyCode, children, proxyData(mainnetRoot, proxyKey, proxyOwner))
	if got, want := proxy.Friendly(true, false), "EQCP1o2ko3ZOOr-CuBtP36nmOaWrYz9mBHP3wfzAaKv1mkK_"; got != want {
		t.Errorf("proxy %s, want %s", got, want)
	}
	worker := address(workerCode, none, workerData(workerOwner, proxy, proxyKey))
	if got, want := worker.Friendly(true, false), "EQCEjMWZ8Mky-L__Zwnmi1g2Ff35U2noZKA2KZDp9Vob20Rf"; got != want {
		t.Errorf("worker %s, want %s", got, want)
	}
	client := address(clientCode, none, clientData(vectorParams(), clientOwner, proxy, proxyKey))
	if got, want := client.Friendly(true, false), "EQASXH-CsfJax6biB0jfvwSSPDytbagpaDRb51awbShxZFRG"; got != want {
		t.Errorf("client %s, want %s", got, want)
	}
	b, err := SignPayment(proxySigner, ClientCharge, client, 100000000, queryID, excessTo)
	if err != nil {
		t.Fatal(err)
	}
	p, err := ParsePayment(b)
	if err != nil || hex.EncodeToString(p.Signature[:]) != "07d32ee07459ea2951b3c4588187c16520d5154edf3ad6ab973640b0b21e9920d550174c073338b20e73ed7a70b74b6d9056a8aa6a67568b3e2fbb4513932e02" {
		t.Errorf("charge of the client: %x, %v", p.Signature, err)
	}
}

// TestStateInits holds each StateInit against the address it deploys.
func TestStateInits(t *testing.T) {
	s := vectorSnapshot()
	for _, c := range []struct {
		want cocoon.Address
		init func() ([]byte, error)
	}{
		{toyProxy, func() ([]byte, error) { return ProxyInit(s, proxyKey, proxyOwner) }},
		{toyClient, func() ([]byte, error) { return ClientInit(s, clientOwner, toyProxy, proxyKey) }},
		{toyWorker, func() ([]byte, error) { return WorkerInit(s, workerOwner, toyProxy, proxyKey) }},
	} {
		b, err := c.init()
		if err != nil || hashOf(t, b) != hex.EncodeToString(c.want.Hash[:]) {
			t.Errorf("StateInit of %v: %x, %v", c.want, b, err)
		}
	}
	if _, err := ProxyInit(&registry.Snapshot{}, proxyKey, proxyOwner); !errors.Is(err, ErrNoCode) {
		t.Errorf("no code: %v", err)
	}
}

func TestHash(t *testing.T) {
	if h, err := Hash(toyCode(1)); err != nil || hex.EncodeToString(h[:]) != "07cd3bd12514323c736210f0215c6d8bbcfc169ad284444ad9652e082d4e259a" {
		t.Errorf("hash %x, %v", h, err)
	}
	if _, err := Hash([]byte("junk")); !errors.Is(err, ErrMalformed) {
		t.Errorf("junk: %v", err)
	}
}

func TestAddressErrors(t *testing.T) {
	s := vectorSnapshot()
	s.Params.ProxyCode = nil
	if _, err := ProxyAddress(s, proxyKey, proxyOwner); !errors.Is(err, ErrNoCode) {
		t.Errorf("no code: %v", err)
	}
	s = vectorSnapshot()
	s.Params.WorkerCode = []byte("junk")
	if _, err := WorkerAddress(s, workerOwner, toyProxy, proxyKey); !errors.Is(err, ErrMalformed) {
		t.Errorf("junk code: %v", err)
	}
	if _, err := ClientAddress(vectorSnapshot(), cocoon.Address{Workchain: 1000}, toyProxy, proxyKey); err == nil {
		t.Error("workchain 1000 was accepted")
	}
}
