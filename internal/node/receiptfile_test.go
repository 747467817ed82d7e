package node

import (
	"bytes"
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/cocoon-network/cocoon/attest"
	"github.com/cocoon-network/cocoon/internal/audit"
	"github.com/cocoon-network/cocoon/internal/tee/statement"
	"github.com/cocoon-network/cocoon/receipt"
)

// exported is a receipt that `cocoon receipt export` wrote on a development
// network that is long gone: it must be good for ever. If the anchor's code or
// a format changes, export one anew.
func exported(t testing.TB) []byte {
	b, err := os.ReadFile("testdata/receipt.json")
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestReceiptFileWithoutTransactions: a receipt whose anchor had too many
// transactions since, as exports once were, is judged by the anchor's state.
func TestReceiptFileWithoutTransactions(t *testing.T) {
	t.Parallel()
	b, err := os.ReadFile("testdata/receipt-state.json")
	if err != nil {
		t.Fatal(err)
	}
	card, err := VerifyReceipt(b, nil)
	if err != nil || card.Failed() != nil {
		t.Fatalf("%v, %+v", err, card.Failed())
	}
	if i := slices.IndexFunc(card.Factors, func(f VerifiedFactor) bool { return f.Name == "anchor" }); strings.Contains(card.Factors[i].Detail, "transaction") {
		t.Errorf("%+v", card.Factors[i])
	}
}

// opened is the file as a value, to be changed.
func opened(t *testing.T) *ReceiptFile {
	t.Helper()
	var f ReceiptFile
	if err := json.Unmarshal(exported(t), &f); err != nil {
		t.Fatal(err)
	}
	return &f
}

// TestReceiptFile judges a file of another day and place.
func TestReceiptFile(t *testing.T) {
	t.Parallel()
	card, err := VerifyReceipt(exported(t), nil)
	if err != nil || card.Failed() != nil {
		t.Fatalf("%v, %+v", err, card.Failed())
	}
	// No field says so: the quotes do.
	if card.Verdict != string(attest.Simulated) || bytes.Contains(exported(t), []byte("imulated")) {
		t.Errorf("verdict %s", card.Verdict)
	}
	for _, name := range []string{"proxy's part", "chain", "root contract", "proxy's contract", "proxy's statement", "proxy's evidence", "proxy's image", "price", "worker's part", "worker's statement", "worker's evidence", "worker's image", "model", "anchor", "log", "promise", "file"} {
		if !slices.ContainsFunc(card.Factors, func(f VerifiedFactor) bool { return f.Name == name && f.Result == attest.Pass }) {
			t.Errorf("%s was not checked", name)
		}
	}
}

// TestReceiptFileForged changes one byte in each part of the file, as somebody
// would who then makes the file's digest anew: each is found for what it is.
func TestReceiptFileForged(t *testing.T) {
	t.Parallel()
	at := func(get func(*ReceiptFile) []byte) func(*ReceiptFile) [][]byte {
		return func(f *ReceiptFile) [][]byte { return [][]byte{get(f)} }
	}
	// inside returns the part of a bundle that is the given member.
	inside := func(bundle []byte, member func(*statement.Bundle) []byte) []byte {
		b, err := statement.ParseBundle(bundle)
		if err != nil {
			return nil
		}
		i := bytes.Index(bundle, member(b))
		return bundle[i : i+len(member(b))]
	}
	stated := func(b *statement.Bundle) []byte { return b.Statement }
	// The certificate chain in a quote ends in padding that nothing covers.
	quoted := func(b *statement.Bundle) []byte { return b.Evidence.Quote[:600] }
	for name, part := range map[string]struct {
		of   func(*ReceiptFile) [][]byte
		want []string
	}{
		"proxy's part":        {at(func(f *ReceiptFile) []byte { return f.Proxy.Part }), []string{"proxy's part"}},
		"proxy's statement":   {at(func(f *ReceiptFile) []byte { return inside(f.Proxy.Bundle, stated) }), []string{"proxy's part"}},
		"proxy's quote":       {at(func(f *ReceiptFile) []byte { return inside(f.Proxy.Bundle, quoted) }), []string{"proxy's evidence"}},
		"proxy's collateral":  {at(func(f *ReceiptFile) []byte { return f.Proxy.Collateral.Intel.TCBInfo }), []string{"proxy's evidence"}},
		"proxy's identity":    {at(func(f *ReceiptFile) []byte { return f.Proxy.Collateral.Intel.QEIdentity }), []string{"proxy's evidence"}},
		"revocations":         {at(func(f *ReceiptFile) []byte { return f.Proxy.Collateral.Intel.PCKCRL }), []string{"proxy's evidence"}},
		"root revocations":    {at(func(f *ReceiptFile) []byte { return f.Proxy.Collateral.Intel.RootCRL }), []string{"proxy's evidence"}},
		"worker's part":       {at(func(f *ReceiptFile) []byte { return f.Worker.Part }), []string{"worker's part"}},
		"worker's statement":  {at(func(f *ReceiptFile) []byte { return inside(f.Worker.Bundle, stated) }), []string{"worker's part"}},
		"worker's quote":      {at(func(f *ReceiptFile) []byte { return inside(f.Worker.Bundle, quoted) }), []string{"worker's evidence"}},
		"worker's collateral": {at(func(f *ReceiptFile) []byte { return f.Worker.Collateral.Intel.TCBInfo }), []string{"worker's evidence"}},
		"zero state":          {at(func(f *ReceiptFile) []byte { return f.Chain.Zero.RootHash }), []string{"chain"}},
		"init block":          {at(func(f *ReceiptFile) []byte { return f.Chain.Init.RootHash }), []string{"chain"}},
		"newest block":        {at(func(f *ReceiptFile) []byte { return f.Chain.Head.FileHash }), []string{"chain"}},
		"links forward":       {func(f *ReceiptFile) [][]byte { return f.Chain.Forward }, []string{"chain", "file"}},
		"links to the origin": {func(f *ReceiptFile) [][]byte { return f.Chain.Origin }, []string{"chain", "file"}},
		"links to a block":    {func(f *ReceiptFile) [][]byte { return f.Chain.Blocks[0].Links }, []string{"chain", "file"}},
		"a block":             {at(func(f *ReceiptFile) []byte { return f.Chain.Blocks[0].Block.RootHash }), []string{"chain"}},
		"root contract":       {at(func(f *ReceiptFile) []byte { return f.Chain.Accounts[0].Answer }), []string{"chain", "file"}},
		"anchor":              {at(func(f *ReceiptFile) []byte { return f.Chain.Accounts[1].Answer }), []string{"chain", "file"}},
		"transactions":        {func(f *ReceiptFile) [][]byte { return f.Anchored }, []string{"anchor", "file"}},
		"inclusion": {func(f *ReceiptFile) (out [][]byte) {
			for i := range f.Inclusion.Proof {
				out = append(out, f.Inclusion.Proof[i][:])
			}
			return out
		}, []string{"log"}},
	} {
		n := 0
		for i, b := range part.of(opened(t)) {
			for j := 0; j < len(b); j += max(1, len(b)/4) {
				f := opened(t)
				part.of(f)[i][j] ^= 1
				// Proofs hold fields that say nothing (a server's request number): there
				// it is enough that a change without a new digest is found.
				again, err := f.encode()
				if err != nil {
					t.Fatal(err)
				}
				if slices.Contains(part.want, "file") {
					again = bytes.Replace(again, []byte(f.digest(t, again)), []byte(opened(t).Digest.String()), 1)
				}
				card, err := VerifyReceipt(again, nil)
				if err != nil {
					t.Fatalf("%s, byte %d: %v", name, j, err)
				}
				if failed := card.Failed(); failed == nil || !slices.Contains(part.want, failed.Name) {
					t.Errorf("%s, byte %d: %+v", name, j, failed)
				}
				n++
			}
		}
		if n == 0 {
			t.Errorf("%s: there is nothing", name)
		}
	}
}

// digest is the one that an encoded file names.
func (f *ReceiptFile) digest(t *testing.T, b []byte) string {
	t.Helper()
	var g ReceiptFile
	if err := json.Unmarshal(b, &g); err != nil {
		t.Fatal(err)
	}
	return g.Digest.String()
}

// TestReceiptFileFlips changes the file's text, whatever stands there.
func TestReceiptFileFlips(t *testing.T) {
	t.Parallel()
	good := exported(t)
	for n := range 150 {
		i := n * len(good) / 150
		b := bytes.Clone(good)
		b[i] ^= []byte{1, 0x20}[n%2]
		if card, err := VerifyReceipt(b, nil); err == nil && card.Failed() == nil {
			t.Errorf("byte %d, %q in place of %q: nobody noticed", i, b[i], good[i])
		}
	}
	for name, b := range map[string][]byte{"cut": good[:len(good)-9], "more": append(bytes.Clone(good), ' '), "compact": func() []byte {
		var out bytes.Buffer
		_ = json.Compact(&out, good)
		return out.Bytes()
	}()} {
		if card, err := VerifyReceipt(b, nil); err == nil && card.Failed() == nil {
			t.Errorf("%s: nobody noticed", name)
		}
	}
}

// TestReceiptFileLacks takes away what must be there.
func TestReceiptFileLacks(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		take func(*ReceiptFile)
		want string
		says string
	}{
		"worker":               {func(f *ReceiptFile) { f.Worker = nil }, "worker's part", "holds none"},
		"chain":                {func(f *ReceiptFile) { f.Chain = nil }, "chain", "no proof"},
		"root":                 {func(f *ReceiptFile) { f.Root = "" }, "chain", ""},
		"other root":           {func(f *ReceiptFile) { f.Root = f.Chain.Accounts[1].Account }, "chain", "another network"},
		"root's state":         {func(f *ReceiptFile) { f.Chain.Accounts = f.Chain.Accounts[1:] }, "chain", "root contract"},
		"anchor's state":       {func(f *ReceiptFile) { f.Chain.Accounts = f.Chain.Accounts[:1] }, "anchor", "not in the file"},
		"inclusion":            {func(f *ReceiptFile) { f.Inclusion = nil }, "anchor", "not in the file"},
		"transactions":         {func(f *ReceiptFile) { f.Anchored = nil }, "log", ""},
		"other transactions":   {func(f *ReceiptFile) { f.Anchored = [][]byte{{}} }, "anchor", ""},
		"too many of them":     {func(f *ReceiptFile) { f.Anchored = make([][]byte, 1000) }, "anchor", "more than"},
		"index":                {func(f *ReceiptFile) { f.Inclusion.Index++ }, "log", ""},
		"blocks":               {func(f *ReceiptFile) { f.Chain.Blocks = nil }, "proxy's statement", "not shown"},
		"evidence":             {func(f *ReceiptFile) { f.Proxy.Bundle = bare(t, f.Proxy.Bundle) }, "proxy's evidence", ""},
		"the named statement":  {func(f *ReceiptFile) { f.Proxy.Bundle = f.Worker.Bundle }, "proxy's part", ""},
		"the worker's, really": {func(f *ReceiptFile) { f.Worker.Part = f.Proxy.Part }, "worker's part", ""},
	} {
		f := opened(t)
		c.take(f)
		b, err := f.encode()
		if err != nil {
			t.Fatal(err)
		}
		card, err := VerifyReceipt(b, nil)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if failed := card.Failed(); failed == nil || failed.Name != c.want || !strings.Contains(failed.Detail, c.says) || card.Verdict != "refused" {
			t.Errorf("without %s: %+v", name, failed)
		}
	}
}

// bare is a bundle without its evidence.
func bare(t *testing.T, bundle []byte) []byte {
	t.Helper()
	b, err := statement.ParseBundle(bundle)
	if err != nil {
		t.Fatal(err)
	}
	b.Evidence = attest.Evidence{}
	return b.Encode()
}

// FuzzReceiptFile holds what reads strangers' files.
func FuzzReceiptFile(f *testing.F) {
	f.Add([]byte(`{"format":"cocoon/receipt-file/v1","proxy":{"part":"","bundle":""},"digest":"` + receipt.Hash{}.String() + `"}`))
	f.Add(exported(f))
	good := exported(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		if card, err := VerifyReceipt(b, nil); err == nil && card.Failed() == nil && !bytes.Equal(b, good) {
			t.Error("a file that nobody signed passes")
		}
	})
}

// TestShowReceipt: what a client kept is about the request it is kept under.
func TestShowReceipt(t *testing.T) {
	f := opened(t)
	k := audit.Kept{Proxy: f.Proxy.Part, ProxyBundle: f.Proxy.Bundle, Worker: f.Worker.Part, WorkerBundle: f.Worker.Bundle}
	_, p, err := readProxyPart(k.Proxy)
	if err != nil {
		t.Fatal(err)
	}
	k.RequestID = receipt.Hash(p.RequestID)
	if failed := ShowReceipt(k).Failed(); failed != nil {
		t.Errorf("%+v", failed)
	}
	k.RequestID[0]++
	if failed := ShowReceipt(k).Failed(); failed == nil || failed.Name != "request" {
		t.Errorf("another request's: %+v", failed)
	}
}
