package schema_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/cocoon-network/cocoon/internal/wire/schema"
	"github.com/cocoon-network/cocoon/internal/wire/tl"
)

var z = func() (z [32]byte) {
	for i := range z {
		z[i] = byte(i)
	}
	return z
}()

// fill is an int256 of 32 equal bytes.
func fill(b byte) [32]byte { return [32]byte(bytes.Repeat([]byte{b}, 32)) }

const owner = "UQAuz15H1ZHrZ_psVrAra7HealMIVeFq0wguqlmFno1f3B-m"

var (
	connect = &schema.ClientConnectToProxy{
		Params:           schema.ClientParams{Flags: 3, ClientOwnerAddress: owner, IsTest: true, MinProtoVersion: 1, MaxProtoVersion: 2},
		MinConfigVersion: 3,
	}
	request = &schema.HttpRequest{
		Method: "POST", URL: "/v1/chat/completions", HttpVersion: "HTTP/1.1",
		Headers: []schema.HttpHeader{{Name: "Host", Value: "x"}, {Name: "Content-Length", Value: "2"}},
		Payload: []byte("{}"),
	}
	runQueryEx = &schema.ClientRunQueryEx{
		ModelName: "m", Query: []byte("q"), MaxCoefficient: 4000, MaxTokens: 64, Timeout: 114,
		RequestID: fill(0x5a), MinConfigVersion: 42, Flags: 3, PublicKey: fill(9),
	}
	workerConnect = &schema.WorkerConnectToProxy{Params: schema.WorkerParams{
		Flags: 3, WorkerOwnerAddress: "W", Model: "m@c:v", Coefficient: 1000,
		ProxyCnt: 1, MaxActiveRequests: 60, MinProtoVersion: 3, MaxProtoVersion: 4,
	}}
	boc   = &schema.ProxySignedPayment{Data: []byte("BOC")}
	empty = &schema.ProxySignedPaymentEmpty{}
)

const (
	connectHex = "f4a05fff 03000000 30 555141757a313548315a48725a5f70735672417261374865616c4d495665467130776775716c6d466e6f316633422d6d 000000 b5757299 01000000 02000000 03000000"
	requestHex = "e52d4947 04504f5354000000 142f76312f636861742f636f6d706c6574696f6e73000000 08485454502f312e31000000 02000000 04486f7374000000 01780000 0e436f6e74656e742d4c656e67746800 01320000 027b7d00"
	zHex       = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"
)

// vectors are those of spec network-protocol 2.5 and 3.4 and of
// changes-2026-04 2, and the objects of level 1.
var vectors = []struct {
	object schema.Object
	hex    string
}{
	{&schema.TcpConnect{ID: 0x0102030405060708}, "61427ca5 0807060504030201"},
	{&schema.TcpConnected{ID: 0x0102030405060708}, "d6416d63 0807060504030201"},
	{&schema.TcpPing{ID: 0x1122334455667788}, "7c62e9bb 8877665544332211"},
	{&schema.TcpQueryError{ID: 5, Code: 621, Message: "sha256 mismatch"}, "02f6d24c 0500000000000000 6d020000 0f736861323536206d69736d61746368"},
	{connect, connectHex},
	{&schema.TcpQuery{ID: 0x7f00000000000001, Data: unhex(connectHex)}, "0819f53a 010000000000007f 4c" + connectHex + "000000"},
	{&schema.ClientConnectedToProxy{
		Params:          schema.ProxyParams{Flags: 3, ProxyPublicKey: z, ProxyOwnerAddress: "OWN", ProxyScAddress: "SC", IsTest: true, ProtoVersion: 2},
		ClientScAddress: "CSC", Auth: &schema.ClientProxyConnectionAuthShort{SecretHash: z, Nonce: 5}, SignedPayment: empty,
	}, "d17a3195 03000000" + zHex + "034f574e 02534300 b5757299 02000000 03435343 afc5ffd6" + zHex + "0500000000000000 64ce47b3"},
	{&schema.ClientAuthorizeWithProxyShort{}, "2367276c 00000000"},
	{&schema.ClientAuthorizeWithProxyLong{}, "034347d3"},
	{&schema.ClientAuthorizationWithProxySuccess{SignedPayment: boc, TokensCommittedToDb: 10, MaxTokens: 20}, "34acd575 82819902 03424f43 0a00000000000000 1400000000000000"},
	{request, requestHex},
	{&schema.ClientRunQueryEx{
		ModelName: "m", Query: unhex(requestHex), MaxCoefficient: 4000, MaxTokens: 1000, Timeout: 114,
		RequestID: z, MinConfigVersion: 3, Flags: 1,
	}, "4bb74cf5 016d0000 58" + requestHex + "000000 a00f0000 e8030000 0000000000805c40" + zHex + "03000000 01000000 379779bc"},
	{&schema.ProxyRunQueryEx{Query: []byte("q"), SignedPayment: empty, Coefficient: 1000, Timeout: 108.3, RequestID: z, Flags: 1},
		"e2e705c8 01710000 64ce47b3 e803000000000000 3333333333135b40" + zHex + "01000000 379779bc"},
	{&schema.HttpResponse{
		HttpVersion: "HTTP/1.1", StatusCode: 200, Reason: "OK",
		Headers: []schema.HttpHeader{{Name: "Content-Type", Value: "application/json"}, {Name: "Transfer-Encoding", Value: "chunked"}},
	}, "2bc4d01c 08485454502f312e31000000 c8000000 024f4b00 02000000 0c436f6e74656e742d54797065000000 106170706c69636174696f6e2f6a736f6e000000 115472616e736665722d456e636f64696e670000 076368756e6b6564 00000000"},
	{&schema.ProxyQueryAnswerEx{RequestID: z, Answer: []byte("A")}, "e874e51c" + zHex + "01410000 00000000"},
	{&schema.ProxyQueryAnswerEx{RequestID: z, Answer: []byte("A"), Flags: 1, FinalInfo: &schema.ProxyQueryFinalInfo{
		Flags: 2, TokensUsed: schema.TokensUsed{PromptTokensUsed: 1, CachedTokensUsed: 2, CompletionTokensUsed: 3, ReasoningTokensUsed: 4, TotalTokensUsed: 10},
		WorkerStartTime: 1, WorkerEndTime: 2,
	}}, "e874e51c" + zHex + "01410000 01000000 02000000 0100000000000000 0200000000000000 0300000000000000 0400000000000000 0a00000000000000 000000000000f03f 0000000000000040"},
	{&schema.ClientQueryAnswerPartEx{RequestID: z, Flags: 1, FinalInfo: &schema.ClientQueryFinalInfo{
		Flags: 2, TokensUsed: schema.TokensUsed{PromptTokensUsed: 23, CachedTokensUsed: 5, CompletionTokensUsed: 180, ReasoningTokensUsed: 30, TotalTokensUsed: 238},
		ProxyStartTime: 1, ProxyEndTime: 2, WorkerStartTime: 3, WorkerEndTime: 4,
	}}, "ecfa7bc0" + zHex + "00000000 01000000 02000000 1700000000000000 0500000000000000 b400000000000000 1e00000000000000 ee00000000000000 000000000000f03f 0000000000000040 0000000000000840 0000000000001040"},
	{&schema.ClientQueryAnswerPartEx{RequestID: z, Flags: 1, FinalInfo: &schema.ClientQueryFinalInfo{
		TokensUsed: schema.TokensUsed{PromptTokensUsed: 23, CachedTokensUsed: 5, CompletionTokensUsed: 180, ReasoningTokensUsed: 30, TotalTokensUsed: 238},
	}}, "ecfa7bc0" + zHex + "00000000 01000000 00000000 1700000000000000 0500000000000000 b400000000000000 1e00000000000000 ee00000000000000"},
	{&schema.ClientQueryAnswerErrorEx{RequestID: z, ErrorCode: 602, Error: "err", Flags: 1, FinalInfo: &schema.ClientQueryFinalInfo{
		Flags: 3, WorkerDebug: "{}", ProxyDebug: "{}", ProxyStartTime: 1, ProxyEndTime: 2, WorkerStartTime: 3, WorkerEndTime: 4,
	}}, "a8622507" + zHex + "5a020000 03657272 01000000 03000000" + zeros40 + "027b7d00 027b7d00 000000000000f03f 0000000000000040 0000000000000840 0000000000001040"},
	{&schema.ClientQueryAnswerError{ErrorCode: 651, Error: "no", RequestID: z}, "9a56606d 8b020000 026e6f00" + zHex + zeros40},
	{&schema.ClientPaymentStatus{SignedPayment: &schema.ProxySignedPayment{Data: []byte{1, 2, 3, 4, 5}}, DbTokens: 7, MaxTokens: 9},
		"cc0e8aaa 82819902 0501020304050000 0700000000000000 0900000000000000"},
	{&schema.ClientWorkerTypesV2{Types: []schema.ClientWorkerTypeV2{{Name: "m", Workers: []schema.ClientWorkerInstanceV2{{Coefficient: 1000, ActiveRequests: 3, MaxActiveRequests: 60}}}}},
		"67dcf00c 01000000 016d0000 01000000 00000000 e8030000 03000000 3c000000"},
	{&schema.WorkerConnectToProxy{Params: schema.WorkerParams{
		Flags: 3, WorkerOwnerAddress: "UQ", Model: "M@c:h", Coefficient: 1000, IsTest: true, ProxyCnt: 1, MaxActiveRequests: 60, MinProtoVersion: 1, MaxProtoVersion: 2,
	}}, "5d4c48cc 03000000 02555100 054d40633a680000 e8030000 b5757299 01000000 3c000000 01000000 02000000"},
	{&schema.WorkerConnectedToProxy{
		Params:          schema.ProxyParams{Flags: 3, ProxyPublicKey: z, ProxyOwnerAddress: "OWN", ProxyScAddress: "SC", IsTest: true, ProtoVersion: 2},
		WorkerScAddress: "WSC",
	}, "ee82bc66 03000000" + zHex + "034f574e 02534300 b5757299 02000000 03575343"},
	{&schema.WorkerCompareBalanceWithProxy{TokensCommittedToBlockchain: 1, TokensCommittedToDb: 2, MaxTokens: 3}, "016538db 0100000000000000 0200000000000000 0300000000000000"},
	{&schema.WorkerCompareBalanceWithProxyResult{SignedPayment: boc, TokensCommittedToDb: 2, MaxTokens: 3}, "11c45490 82819902 03424f43 0200000000000000 0300000000000000 00000000"},
	{&schema.WorkerExtendedCompareBalanceWithProxy{TokensCommittedToDb: 2}, "1499ddf8 0200000000000000 00000000"},
	{&schema.WorkerProxyHandshakeComplete{IsDisabled: true}, "66b043f8 b5757299"},
	{&schema.WorkerProxyHandshakeCompleted{}, "86b8d93a"},
	{&schema.WorkerEnabledDisabled{Disabled: 1}, "3910b7b3 01000000"},
	{&schema.ProxyWorkerRequestPayment{RequestID: z, SignedPayment: boc, DbTokens: 7, MaxTokens: 9, RequestTokens: 2, RequestClientOwner: "CL"},
		"d5c03614" + zHex + "82819902 03424f43 0700000000000000 0900000000000000 0200000000000000 02434c00"},
	{&schema.ProxyClientRequestPayment{RequestID: z, SignedPayment: boc, DbTokens: 7, MaxTokens: 9, RequestTokens: 2},
		"27f1bcc6" + zHex + "82819902 03424f43 0700000000000000 0900000000000000 0200000000000000"},
	{&schema.KeyManagerPrivateKeys{Keys: []schema.KeyManagerPrivateKey{{ValidUntilUtime: 1700000000, PrivateKey: z}}}, "e56cd60e 01000000 00f15365" + zHex},
	{&schema.ProxyDbClientInfoV2{OwnerAddress: "O", ScAddress: "S", Balance: 1, Stake: 2, ScTokensUsed: 3, TokensUsed: 4, SecretHash: z, LastRequestAt: 5},
		"bfc97830 014f0000 01530000 00000000 0100000000000000 0200000000000000 0300000000000000 0400000000000000" + zHex + "05000000"},
	{&schema.ProxyDbWorkerInfo{OwnerAddress: "O", ScAddress: "S", ScTokens: 3, Tokens: 4, LastRequestAt: 5}, "8fb31725 014f0000 01530000 0300000000000000 0400000000000000 05000000"},

	{runQueryEx, "4bb74cf5 016d0000 01710000 a00f0000 40000000 0000000000805c40" + hex5a + "2a000000 03000000 379779bc" + hex09},
	{&schema.ClientRunQueryEx{
		ModelName: "m", Query: []byte("q"), MaxCoefficient: 4000, MaxTokens: 64, Timeout: 114, RequestID: fill(0x5a), MinConfigVersion: 42, Flags: 1,
	}, "4bb74cf5 016d0000 01710000 a00f0000 40000000 0000000000805c40" + hex5a + "2a000000 01000000 379779bc"},
	{&schema.ProxyRunQueryEx{Query: []byte("q"), SignedPayment: empty, Coefficient: 1000, Timeout: 108.3, RequestID: fill(0x5a), Flags: 3, PrivateKey: fill(8)},
		"e2e705c8 01710000 64ce47b3 e803000000000000 3333333333135b40" + hex5a + "03000000 379779bc" + hex08},
	{workerConnect, "5d4c48cc 03000000 01570000 056d40633a760000 e8030000 379779bc 01000000 3c000000 03000000 04000000"},
	{&schema.WorkerConnectToProxy{Params: schema.WorkerParams{
		Flags: 7, WorkerOwnerAddress: "W", Model: "m@c:v", Coefficient: 1000,
		ProxyCnt: 1, MaxActiveRequests: 60, MinProtoVersion: 3, MaxProtoVersion: 4, MachineDescriptionJson: `{"test":true}`,
	}}, "5d4c48cc 07000000 01570000 056d40633a760000 e8030000 379779bc 01000000 3c000000 03000000 04000000 0d7b2274657374223a747275657d0000"},
	{&schema.WorkerChangeModel{NewModel: "M@c:v"}, "ee2c6672 054d40633a760000"},
	{&schema.WorkerChangedModel{}, "66930234"},
	{&schema.KeyManagerGetProxyPrivateKeys{}, "bdd03541 00000000"},
	{&schema.KeyManagerGetWorkerPrivateKeys{}, "b1e9904b 00000000"},
	{&schema.KeyManagerPrivateKeys{Keys: []schema.KeyManagerPrivateKey{{ValidUntilUtime: 2000000000, PrivateKey: fill(7)}}}, "e56cd60e 01000000 00943577" + hex07},
	{&schema.KeyManagerDbKey{PrivateKey: fill(7), KeyType: 1, ValidSinceConfigVersion: 42, ValidSinceUtime: 1700000000, ValidUntilUtime: 1700086400},
		"0710c935" + hex07 + "01000000 2a000000 00f15365 80425565"},

	{&schema.CocoonCancel{RequestID: z}, "f5e3c002" + zHex},
	{&schema.CocoonWindow{RequestID: z, Bytes: 131072}, "3612f078" + zHex + "00000200"},
}

var (
	zeros40 = strings.Repeat("00", 40)
	hex5a   = strings.Repeat("5a", 32)
	hex09   = strings.Repeat("09", 32)
	hex08   = strings.Repeat("08", 32)
	hex07   = strings.Repeat("07", 32)
)

func unhex(s string) []byte {
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		panic(err)
	}
	return b
}

func TestVectors(t *testing.T) {
	for i, v := range vectors {
		want := unhex(v.hex)
		got := schema.Marshal(v.object)
		if !bytes.Equal(got, want) {
			t.Errorf("%d: %s encodes as\n%x, want\n%x", i, v.object.TLName(), got, want)
			continue
		}
		if schema.Size(v.object) != len(want) || schema.ID(want) != v.object.TLID() {
			t.Errorf("%d: %s: size %d, id %08x", i, v.object.TLName(), schema.Size(v.object), schema.ID(want))
		}
		o, err := schema.DecodeCanonical(want)
		if err != nil {
			t.Errorf("%d: %s: %v", i, v.object.TLName(), err)
			continue
		}
		if !reflect.DeepEqual(o, v.object) {
			t.Errorf("%d: %s decodes as %+v, want %+v", i, v.object.TLName(), o, v.object)
		}
	}
}

// TestCut: no prefix of a valid object is one, and neither is more than it.
func TestCut(t *testing.T) {
	for _, v := range vectors {
		b := unhex(v.hex)
		for n := range b {
			if _, err := schema.Decode(b[:n:n]); !errors.Is(err, tl.ErrTruncated) && !errors.Is(err, tl.ErrCount) {
				t.Errorf("%s cut at %d: %v", v.object.TLName(), n, err)
			}
		}
		if _, err := schema.Decode(append(b, 0, 0, 0, 0)); !errors.Is(err, tl.ErrTrailing) {
			t.Errorf("%s with four bytes more: %v", v.object.TLName(), err)
		}
	}
}

func TestConditional(t *testing.T) {
	// A bit that is not set keeps a field off the wire, whatever it holds.
	b := schema.Marshal(&schema.ProxyQueryAnswerEx{RequestID: z, FinalInfo: &schema.ProxyQueryFinalInfo{WorkerStartTime: 1}})
	if o, err := schema.DecodeAs[*schema.ProxyQueryAnswerEx](b); err != nil || o.FinalInfo != nil {
		t.Errorf("%+v, %v", o, err)
	}
	// A set bit without an object writes a zero object.
	b = schema.Marshal(&schema.ProxyQueryAnswerEx{Flags: 1})
	if o, err := schema.DecodeAs[*schema.ProxyQueryAnswerEx](b); err != nil || o.FinalInfo == nil || *o.FinalInfo != (schema.ProxyQueryFinalInfo{}) {
		t.Errorf("%+v, %v", o, err)
	}
	// Unknown bits pass, add nothing and are kept.
	b = schema.Marshal(&schema.ClientWorkerInstanceV2{Flags: 1 << 30, Coefficient: 5})
	if o, err := schema.DecodeAs[*schema.ClientWorkerInstanceV2](b); err != nil || o.Flags != 1<<30 || o.Coefficient != 5 {
		t.Errorf("%+v, %v", o, err)
	}
	// Bit 31 does not.
	b[7] |= 0x80
	if _, err := schema.Decode(b); !errors.Is(err, tl.ErrFlags) {
		t.Errorf("bit 31: %v", err)
	}
	// Decoding into a used object leaves nothing of what it held.
	used := *runQueryEx
	r := tl.NewReader(schema.Marshal(&schema.ClientRunQueryEx{})[4:])
	used.DecodeTL(r)
	if err := r.Finish(); err != nil || !reflect.DeepEqual(used, schema.ClientRunQueryEx{}) {
		t.Errorf("%+v, %v", used, err)
	}
}

// TestNilPayment: no payment at hand is the empty one, without a special case
// at the caller.
func TestNilPayment(t *testing.T) {
	a := schema.Marshal(&schema.ClientPaymentStatus{})
	b := schema.Marshal(&schema.ClientPaymentStatus{SignedPayment: empty})
	if !bytes.Equal(a, b) {
		t.Errorf("nil encodes as %x, the empty payment as %x", a, b)
	}
}

func TestExpectedType(t *testing.T) {
	success := schema.Marshal(&schema.ClientAuthorizationWithProxySuccess{SignedPayment: boc})
	failed := schema.Marshal(&schema.ClientAuthorizationWithProxyFailed{ErrorCode: 602, Error: "no"})
	for _, b := range [][]byte{success, failed} {
		if _, err := schema.DecodeAs[schema.ClientAuthorizationWithProxyType](b); err != nil {
			t.Error(err)
		}
	}
	if _, err := schema.DecodeAs[*schema.ClientAuthorizationWithProxySuccess](failed); !errors.Is(err, tl.ErrConstructor) {
		t.Errorf("the other constructor: %v", err)
	}
	if _, err := schema.DecodeAs[schema.ProxySignedPaymentType](failed); !errors.Is(err, tl.ErrConstructor) {
		t.Errorf("another type: %v", err)
	}
	// Inside an object too.
	b := schema.Marshal(&schema.ClientPaymentStatus{SignedPayment: empty})
	copy(b[4:], failed)
	var e *tl.Error
	if _, err := schema.Decode(b); !errors.Is(err, tl.ErrConstructor) || !errors.As(err, &e) || e.Offset != 4 {
		t.Errorf("a payment of another type: %v", err)
	}
	if _, err := schema.Decode([]byte("ABCD")); !errors.Is(err, tl.ErrConstructor) || strings.Contains(err.Error(), "41424344") || strings.Contains(err.Error(), "44434241") {
		t.Errorf("unknown id: %v", err)
	}
	if schema.ID([]byte{1, 2}) != 0 {
		t.Error("two bytes have an id")
	}
}

func TestNotCanonical(t *testing.T) {
	b := unhex("2367276c 0173ffff") // padding that is not zero
	if _, err := schema.Decode(b); err != nil {
		t.Errorf("Decode = %v, want the reference's leniency", err)
	}
	if _, err := schema.DecodeCanonical(b); !errors.Is(err, schema.ErrNotCanonical) {
		t.Errorf("DecodeCanonical = %v, want ErrNotCanonical", err)
	}
}

// TestCountBound: a count that the input cannot hold allocates nothing.
func TestCountBound(t *testing.T) {
	b := make([]byte, 1<<20)
	copy(b, unhex("67dcf00c ffffff0f"))
	allocated := testing.AllocsPerRun(10, func() {
		if _, err := schema.Decode(b); !errors.Is(err, tl.ErrCount) {
			t.Errorf("Decode = %v, want ErrCount", err)
		}
	})
	if allocated > 10 {
		t.Errorf("%v allocations for refused input", allocated)
	}
}

func TestAppendAllocates(t *testing.T) {
	part := &schema.ClientQueryAnswerPartEx{RequestID: z, Answer: make([]byte, 200), Flags: 1, FinalInfo: &schema.ClientQueryFinalInfo{Flags: 2}}
	buf := make([]byte, 0, 1024)
	if n := testing.AllocsPerRun(100, func() { buf = schema.Append(buf[:0], part) }); n != 0 {
		t.Errorf("Append allocates %v times", n)
	}
	if n := testing.AllocsPerRun(100, func() { schema.Marshal(part) }); n != 1 {
		t.Errorf("Marshal allocates %v times", n)
	}
}

func FuzzDecode(f *testing.F) {
	for _, v := range vectors {
		f.Add(unhex(v.hex))
	}
	for _, c := range captures {
		b, err := os.ReadFile("testdata/captures/" + c.file)
		if err != nil {
			f.Fatal(err)
		}
		frames, err := split(b, c.skip, c.preamble)
		if err != nil {
			f.Fatal(err)
		}
		for _, frame := range frames[:min(len(frames), 8)] {
			f.Add(frame)
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		o, err := schema.Decode(b)
		_, strict := schema.DecodeCanonical(b)
		if err != nil {
			if strict == nil {
				t.Fatalf("only canonical: %v", err)
			}
			return
		}
		again := schema.Marshal(o)
		// Reading strictly is the same as encoding again and comparing.
		if same := bytes.Equal(again, b); same != (strict == nil) || !same && !errors.Is(strict, schema.ErrNotCanonical) {
			t.Fatalf("%s: encodes to itself: %v, read strictly: %v", o.TLName(), same, strict)
		}
		if len(again) != schema.Size(o) {
			t.Fatalf("%s: %d bytes, SizeTL says %d", o.TLName(), len(again), schema.Size(o))
		}
		o2, err := schema.DecodeCanonical(again)
		if err != nil {
			t.Fatalf("own encoding of %s: %v", o.TLName(), err)
		}
		if final := schema.Marshal(o2); !bytes.Equal(again, final) {
			t.Fatalf("%s: %x, then %x", o.TLName(), again, final)
		}
	})
}

func BenchmarkAppendPart(b *testing.B) {
	part := &schema.ClientQueryAnswerPartEx{RequestID: z, Answer: make([]byte, 200)}
	buf := make([]byte, 0, 1024)
	b.ReportAllocs()
	for b.Loop() {
		buf = schema.Append(buf[:0], part)
	}
}

func BenchmarkDecodePart(b *testing.B) {
	in := schema.Marshal(&schema.ClientQueryAnswerPartEx{RequestID: z, Answer: make([]byte, 200)})
	b.ReportAllocs()
	for b.Loop() {
		if _, err := schema.Decode(in); err != nil {
			b.Fatal(err)
		}
	}
}
