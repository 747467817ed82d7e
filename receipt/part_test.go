package receipt

import (
	"bytes"
	"crypto/ed25519"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"os"
	"testing"
	"time"

	"github.com/cocoon-network/cocoon"
)

var update = flag.Bool("update", false, "write testdata/vectors.json anew")

func fill(b byte) [32]byte { return [32]byte(bytes.Repeat([]byte{b}, 32)) }

func nodeKey(b byte) ed25519.PrivateKey {
	seed := fill(b)
	return ed25519.NewKeyFromSeed(seed[:])
}

func signer(k ed25519.PrivateKey) func([]byte) []byte {
	return func(m []byte) []byte { return ed25519.Sign(k, m) }
}

func public(k ed25519.PrivateKey) [32]byte { return [32]byte(k.Public().(ed25519.PublicKey)) }

var (
	request = []byte(`{"model":"m","messages":[{"role":"user","content":"hello"}]}`)
	answer  = []byte("data: {}\n\n")
)

// sampleWorker and sampleProxy are the parts of the vectors.
func sampleWorker() *WorkerPart {
	id := cocoon.RequestID(fill(0x11))
	salts := NewSalts(fill(0x12), id)
	a := CommitAnswer(salts.Answer)
	a.Write(answer)
	return &WorkerPart{
		RequestID: id, Request: CommitRequest(salts.Request, request), Answer: a.Sum(), Statement: fill(0x13), Model: "m@1:2",
		Usage: Usage{Prompt: 100, Cached: 40, Completion: 30, Reasoning: 10}, Tokens: 60 + 4 + 160 + 80,
		Envelope: fill(0x14), Session: fill(0x15), Nonce: fill(0x16), End: EndComplete,
		Block: Block{Seqno: 1000, RootHash: fill(0x22), FileHash: fill(0x33), Time: time.Unix(1_800_000_000, 0)},
	}
}

func sampleProxy() *ProxyPart {
	w := sampleWorker()
	return &ProxyPart{
		RequestID: w.RequestID, WorkerPart: Digest(w.Encode()), Statement: fill(0x41),
		Contract: cocoon.Address{Hash: fill(0x42)}, Client: cocoon.Address{Hash: fill(0x43)}, Before: 5000, After: 5000 + w.Tokens,
		Price:      Price{PerToken: 20, Coefficient: 1000, Prompt: 10000, Cached: 1000, Completion: 80000, Reasoning: 80000},
		SetVersion: 7, Previous: fill(0x44), Block: w.Block, Epoch: 12, Time: w.Block.Time.Add(time.Hour),
	}
}

func TestVectors(t *testing.T) {
	w, p := sampleWorker(), sampleProxy()
	salts := NewSalts(fill(0x12), w.RequestID)
	sw, err := w.Sign(signer(nodeKey(7)))
	if err != nil {
		t.Fatal(err)
	}
	sp, err := p.Sign(signer(nodeKey(8)))
	if err != nil {
		t.Fatal(err)
	}
	hexa := func(b []byte) string { return hex.EncodeToString(b) }
	name := func(d [32]byte) string { return hexa(d[:]) }
	got := map[string]string{
		"secret": hexa(bytes.Repeat([]byte{0x12}, 32)), "request": string(request), "answer": string(answer),
		"request salt": name(salts.Request), "answer salt": name(salts.Answer),
		"request commitment": name(w.Request), "answer commitment": name(w.Answer),
		"worker's part": hexa(sw.Part), "worker's digest": name(sw.Digest()), "worker's message": hexa(Message(sw.Part)),
		"worker's signed part": hexa(sw.Encode()), "worker's node key seed": name(fill(7)),
		"proxy's part": hexa(sp.Part), "proxy's digest": name(sp.Digest()), "proxy's signed part": hexa(sp.Encode()), "proxy's node key seed": name(fill(8)),
	}
	const path = "testdata/vectors.json"
	if *update {
		b, err := json.MarshalIndent(got, "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(os.MkdirAll("testdata", 0o755), os.WriteFile(path, append(b, '\n'), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var want map[string]string
	if err := json.Unmarshal(b, &want); err != nil {
		t.Fatal(err)
	}
	if len(want) != len(got) {
		t.Errorf("%d vectors, want %d", len(want), len(got))
	}
	for name, v := range got {
		if want[name] != v {
			t.Errorf("%s: %s, want %s", name, v, want[name])
		}
	}
	if err := CheckPair(w, sw.Digest(), p); err != nil {
		t.Error(err)
	}
}

// A part comes back as it was, under the key that signed it and no other.
func TestRoundTrip(t *testing.T) {
	for _, w := range []func() (Signed, error){
		func() (Signed, error) { return sampleWorker().Sign(signer(nodeKey(7))) },
		func() (Signed, error) { return sampleProxy().Sign(signer(nodeKey(7))) },
	} {
		s, err := w()
		if err != nil {
			t.Fatal(err)
		}
		back, err := ParseSigned(s.Encode())
		if err != nil {
			t.Fatal(err)
		}
		if err := back.Verify(public(nodeKey(7))); err != nil {
			t.Error(err)
		}
		if err := back.Verify(public(nodeKey(8))); !errors.Is(err, ErrSignature) {
			t.Errorf("another key: %v", err)
		}
		for i := range back.Part {
			back.Part[i] ^= 1
			if err := back.Verify(public(nodeKey(7))); !errors.Is(err, ErrSignature) {
				t.Fatalf("byte %d changed: %v", i, err)
			}
			back.Part[i] ^= 1
		}
	}
}

// Each half of a receipt can be shown alone: other bytes, another salt and the
// other use give another commitment.
func TestCommitments(t *testing.T) {
	w := sampleWorker()
	salts := NewSalts(fill(0x12), w.RequestID)
	if salts.Request == salts.Answer || salts == NewSalts(fill(0x13), w.RequestID) || salts == NewSalts(fill(0x12), cocoon.RequestID{1}) {
		t.Error("salts repeat")
	}
	whole := CommitAnswer(salts.Answer)
	for _, b := range answer {
		whole.Write([]byte{b})
	}
	if whole.Sum() != w.Answer {
		t.Error("the cut of the answer counts")
	}
	if CommitRequest(salts.Request, answer) == w.Request || CommitRequest(salts.Answer, request) == w.Request {
		t.Error("another request has the same commitment")
	}
	if a := CommitAnswer(salts.Request); a.Sum() == CommitRequest(salts.Request, nil) {
		t.Error("request and answer are one use")
	}
}

func TestRefusals(t *testing.T) {
	for name, c := range map[string]struct {
		worker func(*WorkerPart)
		proxy  func(*ProxyPart)
		want   error
	}{
		"no id":              {worker: func(w *WorkerPart) { w.RequestID = cocoon.RequestID{} }, want: ErrFormat},
		"no commitment":      {worker: func(w *WorkerPart) { w.Answer = [32]byte{} }, want: ErrFormat},
		"no statement":       {worker: func(w *WorkerPart) { w.Statement = [32]byte{} }, want: ErrFormat},
		"no model":           {worker: func(w *WorkerPart) { w.Model = "" }, want: ErrFormat},
		"long model":         {worker: func(w *WorkerPart) { w.Model = cocoon.ModelName(make([]byte, 1025)) }, want: ErrSize},
		"negative count":     {worker: func(w *WorkerPart) { w.Usage.Prompt = -1 }, want: ErrFormat},
		"cached over prompt": {worker: func(w *WorkerPart) { w.Usage.Cached = 101 }, want: ErrFormat},
		"half an envelope":   {worker: func(w *WorkerPart) { w.Nonce = [32]byte{} }, want: ErrFormat},
		"no end":             {worker: func(w *WorkerPart) { w.End = 0 }, want: ErrFormat},
		"end 5":              {worker: func(w *WorkerPart) { w.End = 5 }, want: ErrFormat},
		"counter back":       {proxy: func(p *ProxyPart) { p.After = p.Before - 1 }, want: ErrFormat},
		"no client":          {proxy: func(p *ProxyPart) { p.Client = cocoon.Address{} }, want: ErrFormat},
		"no promise":         {proxy: func(p *ProxyPart) { p.Epoch = 0 }, want: ErrPromise},
		"promise too far":    {proxy: func(p *ProxyPart) { p.Time = p.Time.Add(time.Second) }, want: ErrPromise},
		"promise in the past": {proxy: func(p *ProxyPart) {
			p.Time = p.Block.Time
		}, want: ErrPromise},
		"promise without a chain": {proxy: func(p *ProxyPart) { p.Block = Block{} }, want: ErrPromise},
		"dear price":              {proxy: func(p *ProxyPart) { p.Price.PerToken = 1 << 63 }, want: ErrFormat},
	} {
		var err, parsed error
		if c.worker != nil {
			w := sampleWorker()
			c.worker(w)
			_, err = w.Sign(signer(nodeKey(7)))
			_, parsed = ParseWorker(w.Encode())
		} else {
			p := sampleProxy()
			c.proxy(p)
			_, err = p.Sign(signer(nodeKey(7)))
			_, parsed = ParseProxy(p.Encode())
		}
		if !errors.Is(err, c.want) || !errors.Is(parsed, c.want) {
			t.Errorf("%s: signing %v, reading %v, want %v", name, err, parsed, c.want)
		}
	}
	if _, err := ParseSigned(make([]byte, MaxPart+1)); !errors.Is(err, ErrSize) {
		t.Error(err)
	}
	if _, err := ParseWorker(sampleProxy().Encode()); !errors.Is(err, ErrFormat) {
		t.Errorf("a proxy's part as a worker's: %v", err)
	}
	bare := sampleWorker()
	bare.Envelope, bare.Session, bare.Nonce = [32]byte{}, [32]byte{}, [32]byte{}
	if _, err := ParseWorker(bare.Encode()); err != nil {
		t.Errorf("an unsealed request: %v", err)
	}
	still := sampleProxy()
	still.Block, still.Epoch, still.Time = Block{}, 0, time.Time{}
	if _, err := ParseProxy(still.Encode()); err != nil {
		t.Errorf("without a chain: %v", err)
	}
}

func TestPairsAndSteps(t *testing.T) {
	w, p := sampleWorker(), sampleProxy()
	d := Digest(w.Encode())
	dear := *p
	dear.After++
	other := *p
	other.WorkerPart = fill(1)
	greedy := *w
	greedy.Tokens++
	for name, c := range map[string]struct {
		w    *WorkerPart
		d    [32]byte
		p    *ProxyPart
		want error
	}{
		"good":             {w, d, p, nil},
		"charged too much": {w, d, &dear, ErrPrice},
		"another part":     {w, d, &other, ErrParts},
		"greedy worker":    {&greedy, d, p, ErrPrice},
	} {
		if err := CheckPair(c.w, c.d, c.p); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
	next := *p
	next.Previous, next.Before, next.After = Digest(p.Encode()), p.After, p.After+9
	jump, fork, foreign := next, next, next
	jump.Before++
	fork.Previous = fill(9)
	foreign.Client.Hash[0]++
	for name, c := range map[string]struct {
		prev, next *ProxyPart
		want       error
	}{
		"good": {p, &next, nil}, "jump": {p, &jump, ErrJump}, "fork": {p, &fork, ErrStep}, "foreign": {p, &foreign, ErrStep}, "first": {nil, &next, ErrStep},
	} {
		if err := CheckStep(c.prev, Digest(p.Encode()), c.next); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
}

func FuzzParts(f *testing.F) {
	sw, _ := sampleWorker().Sign(signer(nodeKey(7)))
	sp, _ := sampleProxy().Sign(signer(nodeKey(7)))
	for _, s := range []Signed{sw, sp} {
		f.Add(s.Part)
		f.Add(s.Encode())
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if s, err := ParseSigned(b); err == nil && !bytes.Equal(s.Encode(), b) {
			t.Errorf("%x becomes %x", b, s.Encode())
		}
		if w, err := ParseWorker(b); err == nil && !bytes.Equal(w.Encode(), b) {
			t.Errorf("%x becomes %x", b, w.Encode())
		}
		if p, err := ParseProxy(b); err == nil && !bytes.Equal(p.Encode(), b) {
			t.Errorf("%x becomes %x", b, p.Encode())
		}
	})
}

// FuzzProofs holds proofs that strangers give: none panics, and none shows what
// is not so.
func FuzzProofs(f *testing.F) {
	owner := cocoon.Address{Hash: fill(3)}
	pool := cocoon.Address{Hash: fill(4)}
	sums := []Sum{BalanceLeaf(fill(1), owner, 7), BalanceLeaf(fill(2), cocoon.Address{Hash: fill(5)}, 9)}
	path, err := SumPath(sums, 0)
	if err != nil {
		f.Fatal(err)
	}
	total, err := SumTree(sums)
	if err != nil {
		f.Fatal(err)
	}
	good := BalanceProof{Proxy: pool, Contract: owner, Salt: fill(1), Total: 7, Path: path, All: []ContractTotal{{pool, total}}}
	root, err := BalancesRoot(good.All)
	if err != nil || good.Verify(root) != nil {
		f.Fatal(err)
	}
	b, err := json.Marshal(good)
	if err != nil {
		f.Fatal(err)
	}
	var log LogRoot
	for i := range byte(5) {
		log.Add(LeafHash(LeafSet, fill(i)))
	}
	f.Add(b, uint64(0), uint64(5))
	f.Fuzz(func(t *testing.T, b []byte, first, second uint64) {
		var p BalanceProof
		if json.Unmarshal(b, &p) == nil && p.Verify(root) == nil && (p.Contract != owner || p.Total != 7 || p.Proxy != pool) {
			t.Errorf("another balance is proven: %+v", p)
		}
		var proof []Hash
		for rest := b; len(rest) >= 32 && len(proof) < 70; rest = rest[32:] {
			proof = append(proof, Hash(rest[:32]))
		}
		if VerifyInclusion(fill(9), first, second, proof, log.Root()) == nil {
			t.Error("a leaf that is not there is proven")
		}
		if VerifyConsistency(first, second, fill(9), log.Root(), proof) == nil && (first != 0 || fill(9) != EmptyRoot()) {
			t.Error("another history is proven")
		}
	})
}
