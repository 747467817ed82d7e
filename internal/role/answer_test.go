package role

import (
	"encoding/json"
	"math"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/cocoon-network/cocoon"
	"github.com/cocoon-network/cocoon/internal/money/pricing"
	"github.com/cocoon-network/cocoon/internal/wire"
	"github.com/cocoon-network/cocoon/internal/wire/schema"
)

var testID = cocoon.RequestID{1, 2, 3}

// parts are all kinds of answer parts.
func parts() map[string]Part {
	final := &Final{
		Tokens:      pricing.Tokens{Prompt: 1, Cached: 2, Completion: 3, Reasoning: 4, Total: 10},
		WorkerStart: 1.5, WorkerEnd: 2.5, ProxyStart: 3.5, ProxyEnd: 4.5,
	}
	debug := *final
	debug.WorkerDebug, debug.ProxyDebug = `{"type":"worker_stats"}`, `{"type":"proxy_stats"}`
	head := EncodeResponse(200, nil, nil)
	refusal := &wire.Error{Code: wire.CodeNotReady, Text: "no workers"}
	return map[string]Part{
		"head":           {ID: testID, Head: head},
		"whole":          {ID: testID, Head: head, Final: final},
		"part":           {ID: testID, Body: []byte("x")},
		"last":           {ID: testID, Body: []byte("x"), Final: final},
		"last, empty":    {ID: testID, Final: final},
		"last, debug":    {ID: testID, Final: &debug},
		"error":          {ID: testID, Err: refusal, Final: final},
		"error, no info": {ID: testID, Err: refusal},
	}
}

// carried is what of a part survives a hop at a version.
func carried(p Part, version int32, toClient bool) Part {
	if !p.Last() {
		return p
	}
	f := Final{}
	if p.Final != nil {
		f = *p.Final
	}
	if version < 2 {
		f.WorkerStart, f.WorkerEnd, f.ProxyStart, f.ProxyEnd = 0, 0, 0, 0
	}
	if version == 0 {
		f.WorkerDebug, f.ProxyDebug = "", ""
	}
	if !toClient {
		f.ProxyDebug, f.ProxyStart, f.ProxyEnd = "", 0, 0
	}
	p.Final = &f
	return p
}

func same(t *testing.T, got, want Part) {
	t.Helper()
	// An empty body has several spellings.
	if len(got.Body) == 0 {
		got.Body = nil
	}
	if len(want.Body) == 0 {
		want.Body = nil
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v final %+v\nwant %+v final %+v", got, got.Final, want, want.Final)
	}
}

// TestAnswerForms sends every kind of part over both hops at every version,
// through the bytes.
func TestAnswerForms(t *testing.T) {
	for version := range int32(5) {
		for name, p := range parts() {
			t.Run(name, func(t *testing.T) {
				wire := func(o schema.Object) schema.Object {
					t.Helper()
					b := schema.Marshal(o)
					back, err := schema.Decode(b)
					if err != nil {
						t.Fatalf("version %d: %s: %v", version, o.TLName(), err)
					}
					if old := !strings.HasSuffix(o.TLName(), "Ex"); old != (version == 0) {
						t.Errorf("version %d answers with %s", version, o.TLName())
					}
					return back
				}
				if got, ok := FromWorker(wire(ToProxy(version, &p))); !ok {
					t.Errorf("version %d: not read by the proxy", version)
				} else {
					same(t, got, carried(p, version, false))
				}
				for _, begun := range []bool{false, true} {
					if got, ok := FromProxy(wire(ToClient(version, &p, begun))); !ok {
						t.Errorf("version %d: not read by the client", version)
					} else {
						same(t, got, carried(p, version, true))
					}
				}
			})
		}
	}
}

// TestFinalInfoFlags: every last part has final_info, whose flags are those of
// its version (spec network-protocol 4.1); some proxies do not survive less.
func TestFinalInfoFlags(t *testing.T) {
	for name, p := range parts() {
		for version, times := range map[int32]uint32{1: 0, 2: 2, 3: 2, 4: 2} {
			want := times
			if p.Final != nil && p.Final.WorkerDebug != "" {
				want |= 1
			}
			var flags uint32
			var info *schema.ProxyQueryFinalInfo
			switch m := ToProxy(version, &p).(type) {
			case *schema.ProxyQueryAnswerEx:
				flags, info = m.Flags, m.FinalInfo
			case *schema.ProxyQueryAnswerPartEx:
				flags, info = m.Flags, m.FinalInfo
			case *schema.ProxyQueryAnswerErrorEx:
				flags, info = m.Flags, m.FinalInfo
			default:
				t.Fatalf("%s: %T", name, m)
			}
			if last := p.Last(); (flags == 1) != last || (info != nil) != last {
				t.Errorf("%s: flags %d, final info %v, last %v", name, flags, info, last)
			}
			if info != nil && info.Flags != want {
				t.Errorf("%s, version %d: final info flags %d, want %d", name, version, info.Flags, want)
			}
		}
	}
	// A refusal (spec changes-2026-04 6).
	e := ToClient(2, &Part{ID: testID, Err: wire.Errorf(wire.CodeError, "no"), Final: &Final{}}, false).(*schema.ClientQueryAnswerErrorEx)
	if e.Flags != 1 || e.FinalInfo == nil || e.FinalInfo.Flags != 2 {
		t.Errorf("refusal %+v, final info %+v", e, e.FinalInfo)
	}
}

// TestHostileCounters: counts below zero are none, and an error text is cut.
func TestHostileCounters(t *testing.T) {
	p, _ := FromWorker(&schema.ProxyQueryAnswerErrorEx{RequestID: testID, Error: strings.Repeat("x", 1<<16), Flags: 1, FinalInfo: &schema.ProxyQueryFinalInfo{
		TokensUsed: schema.TokensUsed{PromptTokensUsed: -1, CachedTokensUsed: math.MinInt64, CompletionTokensUsed: -5, ReasoningTokensUsed: -6, TotalTokensUsed: -7},
	}})
	if p.Final.Tokens != (pricing.Tokens{}) {
		t.Errorf("%+v", p.Final.Tokens)
	}
	if len(p.Err.Text) > maxErrorText {
		t.Errorf("kept %d bytes of an error", len(p.Err.Text))
	}
	if _, ok := FromWorker(&schema.ProxyQueryAnswerErrorEx{RequestID: testID}); !ok {
		t.Error("an error without final info is not read")
	}
	if _, ok := FromWorker(&schema.ClientQueryAnswerEx{}); ok {
		t.Error("a worker speaks as a proxy")
	}
	if _, ok := FromProxy(&schema.ProxyQueryAnswerEx{}); ok {
		t.Error("a proxy speaks as a worker")
	}
}

func TestResponse(t *testing.T) {
	b := EncodeResponse(201, map[string][]string{"Content-Type": {"text/plain"}, "Content-Length": {"7"}, "CONNECTION": {"close"}}, []byte("hello"))
	status, header, body, err := DecodeResponse(b)
	if err != nil || status != 201 || string(body) != "hello" || len(header) != 1 || header.Get("Content-Type") != "text/plain" {
		t.Errorf("%d %v %q %v", status, header, body, err)
	}
	response := func(change func(*schema.HttpResponse)) []byte {
		r := &schema.HttpResponse{HttpVersion: "HTTP/1.1", StatusCode: 200}
		change(r)
		return schema.Marshal(r)
	}
	for name, b := range map[string][]byte{
		"nothing":        nil,
		"a request":      EncodeRequest("/", "text/plain", nil),
		"status 99":      response(func(r *schema.HttpResponse) { r.StatusCode = 99 }),
		"status 101":     response(func(r *schema.HttpResponse) { r.StatusCode = 101 }),
		"status 1000":    response(func(r *schema.HttpResponse) { r.StatusCode = 1000 }),
		"version":        response(func(r *schema.HttpResponse) { r.HttpVersion = "HTTP/9" }),
		"trailing bytes": append(response(func(*schema.HttpResponse) {}), 0, 0, 0, 0),
	} {
		if _, _, _, err := DecodeResponse(b); err == nil {
			t.Errorf("%s passes for an http.response", name)
		}
	}
	// Who passes a head on refuses what its reader would.
	r := rand.New(rand.NewPCG(1, 2))
	for range 20000 {
		x := slices.Clone(b)
		for range 1 + r.IntN(2) {
			x[r.IntN(len(x))] = byte(r.Uint32())
		}
		x = x[:len(x)-r.IntN(2)*4*r.IntN(4)]
		_, _, _, err := DecodeResponse(x)
		if got := CheckResponse(x); (got == nil) != (err == nil) {
			t.Fatalf("%x: checked as %v, read as %v", x, got, err)
		}
	}
}

// TestErrorAnswer: the one form of failure that every C++ client survives.
func TestErrorAnswer(t *testing.T) {
	for code, want := range map[wire.Code]int{
		wire.CodeTimeout: 504, wire.CodeNotReady: 502, wire.CodeProtocolViolation: 400, wire.CodeError: 500, wire.CodeNone: 500,
	} {
		o, err := schema.Decode(ErrorAnswer(&wire.Error{Code: code, Text: `say "no"`}))
		if err != nil {
			t.Fatal(err)
		}
		r := o.(*schema.HttpResponse)
		var v struct {
			Error struct {
				Message string
				Code    int
			}
		}
		if err := json.Unmarshal(r.Payload, &v); err != nil || v.Error.Message != `say "no"` || v.Error.Code != int(code) {
			t.Errorf("%s: %v", r.Payload, err)
		}
		if int(r.StatusCode) != want || r.HttpVersion != "HTTP/1.1" {
			t.Errorf("code %d: status %d, want %d", code, r.StatusCode, want)
		}
	}
}
