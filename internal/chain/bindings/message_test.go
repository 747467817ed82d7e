package bindings

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"reflect"
	"testing"

	"crypto/ed25519"

	"github.com/cocoon-network/cocoon"
	"github.com/cocoon-network/cocoon/internal/money/coins"
)

const ton = coins.PerCoin

func session(b byte) [32]byte { return fill(b).Hash }

func clientRequest(p *ClientPayload) *ClientRequest {
	return &ClientRequest{clientOwner, Closing, 2500000000, 2500000000, 100000000, secretHash, p}
}

// vectorMessages are the bodies of spec contracts 16.5 by name.
var vectorMessages = map[string]Message{
	"excesses":                          Excess{},
	"payout":                            Payout{},
	"save_state seqno=3 hash=09..09":    &SaveState{3, session(9)},
	"client top_up 5":                   &Funding{OpTopUp, 5 * ton, excessTo},
	"client secret+topup":               &SecretAndTopUp{5 * ton, secretHash, excessTo},
	"client register nonce":             &RegisterClient{0xdeadbeefcafebabe, excessTo},
	"client change_secret":              &ChangeSecret{secretHash, excessTo},
	"client increase_stake 3":           &Funding{OpIncreaseClientStake, 3 * ton, excessTo},
	"client withdraw":                   &Request{OpWithdraw, excessTo},
	"client request_refund":             &Request{OpRequestRefund, excessTo},
	"worker register":                   &Request{OpRegisterWorker, excessTo},
	"proxy payout_request":              &Request{OpWithdrawEarnings, excessTo},
	"proxy increase_stake 5":            &Funding{OpIncreaseProxyStake, 5 * ton, excessTo},
	"proxy owner_close":                 &Request{OpOwnerClose, excessTo},
	"text c":                            &Text{'c'},
	"text w":                            &Text{'w'},
	"root add_worker_type":              &ListHash{OpAddWorkerImage, image("worker-image-1")},
	"root register_proxy":               &RegisterProxy{"10.1.2.3:11000 10.1.2.3:12000"},
	"root update_proxy #1":              &UpdateProxy{1, "192.0.2.7:443"},
	"root unregister_proxy #1":          &UnregisterProxy{1},
	"root change_fees 30/28":            &ChangeFees{30, 28},
	"root change_params":                &ChangeParams{30, 28, 100, 50, ton, 2 * ton},
	"root change_owner":                 &ChangeOwner{fill(0x22)},
	"root reset":                        ResetRoot{},
	"client->proxy request no payload":  clientRequest(nil),
	"client->proxy refund_granted 17.5": clientRequest(&ClientPayload{Kind: PayloadRefundGranted, Amount: 17500000000, ExcessTo: excessTo}),
	"client->proxy register nonce":      clientRequest(&ClientPayload{Kind: PayloadRegister, Nonce: 0xdeadbeefcafebabe}),
	"worker->proxy payout 1.9/0.1":      &WorkerRequest{workerOwner, Open, 100000000, &WorkerPayment{1900000000, 100000000, excessTo}},
	"worker->proxy notify":              &WorkerRequest{workerOwner, Open, 100000000, nil},
}

func TestMessageVectors(t *testing.T) {
	seen := 0
	for _, v := range readVectors(t, "bodies.txt", " | ") {
		name, hash, body := v[0], v[1], unhex(v[2])
		want, ok := vectorMessages[name]
		if !ok {
			if name[:10] != "state_data" { // a part of the request without payload
				t.Errorf("no message for %q", name)
			}
			continue
		}
		seen++
		id := uint64(queryID)
		if want.op() == OpText {
			id = 0
		}
		gotID, got, err := DecodeMessage(body)
		if err != nil || gotID != id || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %x %+v, %v; want %+v", name, gotID, got, err, want)
		}
		again, err := EncodeMessage(queryID, want)
		if err != nil || hashOf(t, again) != hash {
			t.Errorf("%s: encoded %x, %v", name, again, err)
		}
	}
	if seen != len(vectorMessages) {
		t.Errorf("%d of %d messages were checked", seen, len(vectorMessages))
	}
}

// TestMoreMessages are the layouts without a vector.
func TestMoreMessages(t *testing.T) {
	for _, m := range []Message{
		&ChangeCodes{toyCode(1), toyCode(2), toyCode(3)}, &ChangeRootCode{toyCode(0)}, &ReplaceRoot{toyCode(8), toyCode(9)},
		&OwnerSend{64, toyCode(5)}, clientRequest(&ClientPayload{Kind: PayloadTopUp, Amount: 1, ExcessTo: excessTo}),
		clientRequest(&ClientPayload{Kind: PayloadRefundForced, Amount: 1, ExcessTo: excessTo}),
	} {
		b, err := EncodeMessage(7, m)
		if err != nil {
			t.Fatal(err)
		}
		if id, got, err := DecodeMessage(b); err != nil || id != 7 || !reflect.DeepEqual(got, m) {
			t.Errorf("%+v became %+v, %v", m, got, err)
		}
	}
}

func TestMessageRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		w    *writer
		want error
	}{
		"unknown operation":        {newWriter().uint(0x9f1e69dc, 32).uint(1, 64), ErrUnknownOperation},
		"empty":                    {newWriter(), ErrMalformed},
		"no query id":              {newWriter().uint(uint64(OpExcess), 32), ErrMalformed},
		"trailing bits":            {newWriter().uint(uint64(OpExcess), 32).uint(1, 64).bool(true), ErrMalformed},
		"another note":             {newWriter().uint(uint64(OpDoNotProcess), 32).uint(1, 64).uint(1, 32).uint(1, 32).hash([32]byte{}), ErrMalformed},
		"unknown client demand":    {newWriter().uint(uint64(OpClientRequest), 32).uint(1, 64).addr(clientOwner).child(newWriter().uint(0, 2).coins(0).coins(0).uint(0, 64).hash([32]byte{})).bool(true).child(newWriter().uint(5, 32)), ErrMalformed},
		"unknown worker demand":    {newWriter().uint(uint64(OpWorkerRequest), 32).uint(1, 64).addr(workerOwner).uint(0, 2).uint(0, 64).bool(true).child(newWriter().uint(5, 32).coins(0).coins(0).addr(excessTo)), ErrMalformed},
		"endpoint of another type": {newWriter().uint(uint64(OpRegisterProxy), 32).uint(1, 64).bool(true).uint(0, 7), ErrMalformed},
		"amount of nine bytes":     {newWriter().uint(uint64(OpTopUp), 32).uint(1, 64).uint(9, 4).bytes(make([]byte, 9)).addr(excessTo), ErrMalformed},
	} {
		b, err := c.w.serialize()
		if err != nil {
			t.Fatal(err)
		}
		if _, m, err := DecodeMessage(b); !errors.Is(err, c.want) {
			t.Errorf("%s: %+v, %v", name, m, err)
		}
	}
	if _, err := EncodeMessage(1, &Request{Op: OpTopUp}); !errors.Is(err, ErrUnknownOperation) {
		t.Errorf("a request with the operation of a funding: %v", err)
	}
	if _, err := EncodeMessage(1, clientRequest(&ClientPayload{Kind: 1})); !errors.Is(err, ErrMalformed) {
		t.Errorf("an unknown demand was written: %v", err)
	}
}

// transition is a line of spec contracts 16.7. Execution is not repeated
// here; every cell in it is taken apart and built again.
type transition struct {
	Name       string
	DataBefore string `json:"data_before"`
	Body       string
	DataAfter  string `json:"data_after"`
	Out        []struct{ Body string }
}

func TestTransitionCells(t *testing.T) {
	f, err := os.Open("testdata/transitions.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	dec := json.NewDecoder(f)
	lines := 0
	for dec.More() {
		var tr transition
		if err := dec.Decode(&tr); err != nil {
			t.Fatal(err)
		}
		lines++
		for _, data := range []string{tr.DataBefore, tr.DataAfter} {
			if data != "same" {
				sameStorage(t, tr.Name, unhex(data))
			}
		}
		for i, body := range append([]struct{ Body string }{{tr.Body}}, tr.Out...) {
			b := unhex(body.Body)
			id, m, err := DecodeMessage(b)
			if err != nil {
				t.Errorf("%s, message %d: %v", tr.Name, i, err)
				continue
			}
			if again, err := EncodeMessage(id, m); err != nil || hashOf(t, again) != hashOf(t, b) {
				t.Errorf("%s, message %d: %+v became %x, %v", tr.Name, i, m, again, err)
			}
		}
	}
	if lines != 24 {
		t.Errorf("%d transitions", lines)
	}
}

// sameStorage decodes data as what the name says and encodes it again.
func sameStorage(t *testing.T, name string, data []byte) {
	t.Helper()
	var s interface{ Encode() ([]byte, error) }
	var err error
	switch name[:4] {
	case "clie":
		s, err = DecodeClient(data)
	case "work":
		s, err = DecodeWorker(data)
	case "prox":
		s, err = DecodeProxy(data)
	case "root":
		root, err := DecodeRoot(mainnetRoot, data)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			return
		}
		if again, err := EncodeRoot(root); err != nil || hashOf(t, again) != hashOf(t, data) {
			t.Errorf("%s: root became %x, %v", name, again, err)
		}
		return
	default:
		t.Fatalf("whose data is %s?", name)
	}
	if err != nil {
		t.Errorf("%s: %v", name, err)
		return
	}
	if again, err := s.Encode(); err != nil || hashOf(t, again) != hashOf(t, data) {
		t.Errorf("%s: %+v became %x, %v", name, s, again, err)
	}
}

func TestInitialStorages(t *testing.T) {
	params := vectorParams()
	params.ProxyCode = nil
	bare := params
	bare.WorkerCode, bare.ClientCode = nil, nil
	for name, c := range map[string]struct{ got, want any }{
		"proxy data":  {decoded(DecodeProxy(vectorCell(t, "proxy data"))), &ProxyStorage{Owner: proxyOwner, Key: proxyKey, Root: mainnetRoot, Params: params}},
		"client data": {decoded(DecodeClient(vectorCell(t, "client data"))), &ClientStorage{Stake: 2500000000, Owner: clientOwner, Proxy: toyProxy, ProxyKey: proxyKey, Params: bare}},
		"worker data": {decoded(DecodeWorker(vectorCell(t, "worker data"))), &WorkerStorage{Owner: workerOwner, Proxy: toyProxy, ProxyKey: proxyKey, Params: bare}},
		"wallet data": {decoded(DecodeWallet(vectorCell(t, "wallet data"))), &WalletStorage{Key: walletKey, Owner: clientOwner}},
	} {
		if !reflect.DeepEqual(c.got, c.want) {
			t.Errorf("%s: %+v, want %+v", name, c.got, c.want)
		}
	}
	if _, err := DecodeProxy(vectorCell(t, "wallet data")); !errors.Is(err, ErrMalformed) {
		t.Errorf("wallet data read as a proxy's: %v", err)
	}
	s := &ClientStorage{State: 3, Stake: 1}
	s.Params = bare
	b, err := s.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if got, err := DecodeClient(b); err != nil || got.State.String() != "state 3" {
		t.Errorf("%+v, %v", got, err)
	}
	if !(&WalletStorage{Status: 3}).Blocked() || Open.String()+Closing.String()+Closed.String() != "openclosingclosed" {
		t.Error("states are wrong")
	}
}

func decoded[T any](v T, err error) any {
	if err != nil {
		return err
	}
	return v
}

// TestWalletVectors are those of spec contracts 16.6.
func TestWalletVectors(t *testing.T) {
	hash, boc := map[string]string{}, map[string][]byte{}
	for _, v := range readVectors(t, "wallet.txt", " | ") {
		hash[v[0]] = v[1]
		if len(v) > 2 {
			boc[v[0]] = unhex(v[2])
		}
	}
	note, err := EncodeMessage(queryID, &SaveState{3, session(9)})
	if err != nil {
		t.Fatal(err)
	}
	first := OutMessage{To: toyProxy, Value: 1, Bounce: true, Body: note}
	one, err := first.Encode()
	if err != nil || hashOf(t, one) != hash["message 1 cell"] {
		t.Fatalf("message 1: %x, %v", one, err)
	}
	init, address, err := StateInit(toyCode(3), vectorCell(t, "client data"))
	if err != nil || address != toyClient || !bytes.Equal(init, vectorCell(t, "client StateInit")) {
		t.Fatalf("StateInit %x of %v, %v", init, address, err)
	}
	second := OutMessage{To: toyClient, Value: 800000000, StateInit: init}
	two, err := second.Encode()
	if err != nil || hashOf(t, two) != hash["message 2 cell"] {
		t.Fatalf("message 2: %x, %v", two, err)
	}
	q := WalletRequest{ValidUntil: 1750003600, Seqno: 7, Messages: []WalletMessage{{1, one}, {0, two}}}
	content, err := q.content()
	if err != nil || hex.EncodeToString(content.Hash()) != hash["signed hash"] {
		t.Fatalf("content %v, %v", content, err)
	}
	signer := KeySigner(ed25519.NewKeyFromSeed(append(make([]byte, 31), 3)))
	body, err := q.Sign(signer)
	if err != nil || hashOf(t, body) != hash["external body"] {
		t.Fatalf("body %x, %v", body, err)
	}
	toyWallet := raw("0:c5339e90761445a1c0a985f791e86c0aa9504a172247a9988ffd1dd374e60ae8")
	if ext, err := ExternalMessage(toyWallet, nil, body); err != nil || hashOf(t, ext) != hash["external message to the toy wallet address (no init, body in ref)"] {
		t.Errorf("external message %x, %v", ext, err)
	}
	if send, err := EncodeMessage(queryID, &OwnerSend{64, one}); err != nil || hashOf(t, send) != hash["owner: send message (mode 64, message 1)"] {
		t.Errorf("owner's message %x, %v", send, err)
	}
	back, err := ParseWalletRequest(boc["external body"], walletKey)
	if err != nil || back.ValidUntil != q.ValidUntil || back.Seqno != 7 || len(back.Messages) != 2 || back.Messages[0].Mode != 1 || !bytes.Equal(back.Messages[1].Message, two) {
		t.Errorf("parsed %+v, %v", back, err)
	}
	if _, err := ParseWalletRequest(body, proxyKey); !errors.Is(err, ErrWalletSignature) {
		t.Errorf("another key: %v", err)
	}
	q.Messages = make([]WalletMessage, 5)
	if _, err := q.Sign(signer); err == nil {
		t.Error("five messages were signed")
	}
	if _, err := (&OutMessage{To: cocoon.Address{Workchain: 500}}).Encode(); err == nil {
		t.Error("workchain 500 was written")
	}
}

func FuzzDecodeMessage(f *testing.F) {
	for _, v := range readVectors(f, "bodies.txt", " | ") {
		f.Add(unhex(v[2]))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		id, m, err := DecodeMessage(b)
		if err != nil {
			return
		}
		again, err := EncodeMessage(id, m)
		if err != nil {
			t.Fatalf("%+v: %v", m, err)
		}
		if id2, m2, err := DecodeMessage(again); err != nil || id != id2 || !reflect.DeepEqual(m, m2) {
			t.Fatalf("%+v became %+v, %v", m, m2, err)
		}
	})
}

func FuzzDecodeStorages(f *testing.F) {
	for _, name := range []string{"proxy data", "worker data", "client data", "wallet data"} {
		f.Add(vectorCell(f, name))
	}
	same := func(t *testing.T, s interface{ Encode() ([]byte, error) }, err error, decode func([]byte) (any, error)) {
		if err != nil {
			return
		}
		b, err := s.Encode()
		if err != nil {
			t.Fatalf("%+v: %v", s, err)
		}
		if again, err := decode(b); err != nil || !reflect.DeepEqual(again, any(s)) {
			t.Fatalf("%+v became %+v, %v", s, again, err)
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		w, err := DecodeWallet(b)
		same(t, w, err, func(b []byte) (any, error) { return DecodeWallet(b) })
		// Params are written with the codes the contract holds by its layout.
		if s, err := DecodeWorker(b); err == nil && s.Params.ProxyCode == nil && s.Params.WorkerCode == nil && s.Params.ClientCode == nil {
			same(t, s, err, func(b []byte) (any, error) { return DecodeWorker(b) })
		}
		if s, err := DecodeClient(b); err == nil && s.Params.ProxyCode == nil && s.Params.WorkerCode == nil && s.Params.ClientCode == nil {
			same(t, s, err, func(b []byte) (any, error) { return DecodeClient(b) })
		}
		if s, err := DecodeProxy(b); err == nil && s.Params.ProxyCode == nil {
			same(t, s, err, func(b []byte) (any, error) { return DecodeProxy(b) })
		}
	})
}

func FuzzParseWalletRequest(f *testing.F) {
	f.Add(unhex(readVectors(f, "wallet.txt", " | ")[4][2]))
	f.Fuzz(func(t *testing.T, b []byte) {
		if q, err := ParseWalletRequest(b, walletKey); err == nil && (q.Seqno != 7 || len(q.Messages) != 2) {
			t.Fatalf("the key never signed %+v", q)
		}
	})
}
