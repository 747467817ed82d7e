package measure

import (
	"bytes"
	"errors"
	"os"
	"testing"

	"github.com/cocoon-network/cocoon/attest/dcap"
)

func testdata(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestRealLog replays the log of a real machine and finds its quote's
// registers.
func TestRealLog(t *testing.T) {
	events, err := ParseEventLog(testdata(t, "cos-113-ccel.bin"))
	if err != nil {
		t.Fatal(err)
	}
	q, err := dcap.Parse(testdata(t, "cos-113-quote.bin"))
	if err != nil {
		t.Fatal(err)
	}
	rtmr := ReplayEvents(events)
	for i := range rtmr {
		if rtmr[i] != q.TD.RTMR[i] {
			t.Errorf("RTMR%d: replay %s, quote %x", i, rtmr[i], q.TD.RTMR[i])
		}
	}
	table, err := ParseCCELTable(testdata(t, "cos-113-ccel-table.bin"))
	if err != nil || table.Length != 0x40000 || table.Address != 0xbedbf000 {
		t.Errorf("table %+v, %v", table, err)
	}
	// What we believe OVMF measures besides the kernel is there, and the form
	// of its digests of variables is ours.
	want := map[Register]bool{
		separator: false,
		Digest("Calling EFI Application from Boot Option"): false,
		Digest("Exit Boot Services Invocation"):            false,
		Digest("Exit Boot Services Returned with Success"): false,
	}
	variables := 0
	for _, e := range events {
		if _, ok := want[e.Digest]; ok {
			want[e.Digest] = true
		}
		const driverConfig = 0x80000001
		if e.Type == driverConfig {
			variables++
			if Digest(e.Data) != e.Digest {
				t.Errorf("a variable's digest is not of its UEFI_VARIABLE_DATA: %s", e)
			}
			const nameLength = 16
			text := utf16z("SecureBoot")
			if name := e.Data[32 : 32+2*e.Data[nameLength]]; variables == 1 && !bytes.Equal(name, text[:len(text)-2]) {
				t.Errorf("the first variable is % x", name)
			}
		}
	}
	for d, ok := range want {
		if !ok {
			t.Errorf("no event with digest %s", d)
		}
	}
	if variables < 5 {
		t.Errorf("%d variables", variables)
	}
}

// TestReported: quote and log of one machine say the same.
func TestReported(t *testing.T) {
	quote, err := Reported(testdata(t, "cos-113-quote.bin"))
	if err != nil {
		t.Fatal(err)
	}
	log, err := Reported(testdata(t, "cos-113-ccel.bin"))
	if err != nil {
		t.Fatal(err)
	}
	var results []Outcome
	for _, c := range Compare(quote, log) {
		results = append(results, c.Result)
	}
	if want := [5]Outcome{Unknown, Match, Match, Match, Unknown}; [5]Outcome(results) != want {
		t.Errorf("%v", results)
	}
	if _, err := Reported([]byte("neither")); !errors.Is(err, ErrInput) {
		t.Error(err)
	}
	q, err := dcap.Parse(testdata(t, "cos-113-quote.bin"))
	if err != nil {
		t.Fatal(err)
	}
	q.TD.MROwner[0] = 1
	if _, err := Reported(q.Bytes()); !errors.Is(err, ErrInput) {
		t.Errorf("a guest with an owner: %v", err)
	}
}

func TestEventLogRefused(t *testing.T) {
	good := AppendEventLog(nil, []Event{{RTMR: 2, Type: 13, Digest: Digest("x"), Data: []byte("x")}})
	if events, err := ParseEventLog(good); err != nil || len(events) != 1 || events[0].Digest != Digest("x") || events[0].RTMR != 2 {
		t.Fatalf("%v, %v", events, err)
	}
	const event = 32 + 33 // after the first record
	for name, edit := range map[string]func(b []byte) []byte{
		"empty":            func(b []byte) []byte { return nil },
		"other first type": func(b []byte) []byte { b[4] = 4; return b },
		"other magic":      func(b []byte) []byte { b[32] = 'X'; return b },
		"no algorithm":     func(b []byte) []byte { b[56] = 0; return b },
		"other algorithm":  func(b []byte) []byte { b[60] = 0xb; return b },
		"short digests":    func(b []byte) []byte { b[62] = 32; return b },
		"register 5":       func(b []byte) []byte { b[event] = 5; return b },
		"register 0":       func(b []byte) []byte { b[event] = 0; return b },
		"no digest":        func(b []byte) []byte { b[event+8] = 0; return b },
		"two digests":      func(b []byte) []byte { b[event+8] = 2; return b },
		"unknown digest":   func(b []byte) []byte { b[event+12] = 4; return b },
		"large data":       func(b []byte) []byte { b[event+14+48+3] = 0x10; return b },
		"cut off":          func(b []byte) []byte { return b[:event+20] },
		"too long":         func(b []byte) []byte { return append(b, make([]byte, MaxEventLog)...) },
	} {
		if events, err := ParseEventLog(edit(bytes.Clone(good))); !errors.Is(err, ErrInput) {
			t.Errorf("%s: %v, %v", name, events, err)
		}
	}
	table := testdata(t, "cos-113-ccel-table.bin")
	for name, edit := range map[string]func(b []byte) []byte{
		"short":      func(b []byte) []byte { return b[:55] },
		"other":      func(b []byte) []byte { b[0] = 'X'; return b },
		"checksum":   func(b []byte) []byte { b[50]++; return b },
		"technology": func(b []byte) []byte { b[36], b[37] = 1, 1; return b },
	} {
		if _, err := ParseCCELTable(edit(bytes.Clone(table))); !errors.Is(err, ErrInput) {
			t.Errorf("table, %s: %v", name, err)
		}
	}
}

func FuzzEventLog(f *testing.F) {
	f.Add(testdata(f, "cos-113-ccel.bin"))
	f.Add(AppendEventLog(nil, []Event{{RTMR: 3, Type: 13, Digest: Digest("x"), Data: []byte("x")}}))
	f.Fuzz(func(t *testing.T, b []byte) {
		events, err := ParseEventLog(b)
		if err != nil {
			return
		}
		again, err := ParseEventLog(AppendEventLog(nil, events))
		if err != nil {
			t.Fatal(err)
		}
		if ReplayEvents(events) != ReplayEvents(again) || len(events) != len(again) {
			t.Error("decode, encode, decode changes the log")
		}
	})
}
