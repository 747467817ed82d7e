package nvgpu

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
)

func twoGPUs(t testing.TB) (Set, *Policy, [32]byte) {
	f, g := newFactory(t), newFactory(t)
	x := good()
	p := f.policy()
	p.Roots = append(p.Roots, g.root)
	return Set{{Report: f.report(t, x), Chain: f.chain()}, {Report: g.report(t, x), Chain: g.chain()}}, p, x.nonce
}

func TestSet(t *testing.T) {
	s, policy, nonce := twoGPUs(t)
	now := start.AddDate(1, 0, 0)
	b := s.Encode()
	back, err := ParseSet(b)
	if err != nil || !bytes.Equal(back.Encode(), b) {
		t.Fatalf("%v", err)
	}
	all, err := VerifySet(back, nonce, policy, now)
	if err != nil || len(all) != 2 || all[0].Key == all[1].Key {
		t.Fatalf("%d results, %v", len(all), err)
	}
	if Digest(b) == Digest(s[:1].Encode()) || Digest(nil) != [32]byte{} {
		t.Error("two sets share a digest, or none has one")
	}
	if Nonce([]byte{1}) == Nonce([]byte{2}) {
		t.Error("two guests share a nonce")
	}
	pinned, err := Pin(s, nonce, now)
	if err != nil {
		t.Fatal(err)
	}
	text, err := pinned.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if pinned, err = ParsePolicy(text); err != nil || len(pinned.Roots) != 2 || len(pinned.References) != 1 {
		t.Fatalf("%s: %v", text, err)
	}
	if _, err := VerifySet(s, nonce, pinned, now); err != nil {
		t.Errorf("what was pinned is refused: %v", err)
	}
	if _, err := VerifySet(nil, nonce, policy, now); !errors.Is(err, ErrNone) {
		t.Errorf("no GPU: %v", err)
	}
	if _, err := VerifySet(Set{s[0], s[0]}, nonce, policy, now); !errors.Is(err, ErrTwice) {
		t.Errorf("one GPU twice: %v", err)
	}
	if _, err := VerifySet(s, [32]byte{}, policy, now); !errors.Is(err, ErrNonce) || !strings.Contains(err.Error(), "GPU 1 of 2") {
		t.Errorf("another nonce: %v", err)
	}
	for name, bad := range map[string][]byte{
		"cut": b[:len(b)-1], "longer": append(bytes.Clone(b), 0), "no GPU": {0}, "too many": {MaxGPUs + 1},
		"length beyond the end": {1, 0xff, 0xff, 0xff, 0xff}, "too large": make([]byte, MaxSet+1),
	} {
		if _, err := ParseSet(bad); !errors.Is(err, ErrSet) {
			t.Errorf("%s: %v, want ErrSet", name, err)
		}
	}
}

func TestParsePolicy(t *testing.T) {
	root, value := strings.Repeat("ab", 48), strings.Repeat("cd", 48)
	text := fmt.Sprintf(`{"roots":[%q],"references":[{"driver":"580.95.05","vbios":"96.00.5E.00.01","values":{"1":[%q],"7":[%[2]q]},"ignored":[36]}]}`, root, value)
	p, err := ParsePolicy([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	if r := p.References[0]; p.Roots[0].String() != root || len(r.Values) != 2 || r.Values[7][0][0] != 0xcd || r.Ignored[0] != 36 || r.DriverVersion != "580.95.05" {
		t.Errorf("%+v", p)
	}
	for name, bad := range map[string]string{
		"nothing": ``, "more": text + "{}", "unknown key": `{"root":[]}`,
		"short root":        strings.Replace(text, root, "abcd", 1),
		"short value":       strings.Replace(text, value, "cd", 1),
		"no value":          strings.Replace(text, `"1":["`+value+`"]`, `"1":[]`, 1),
		"no values":         strings.Replace(text, `"1":["`+value+`"],"7":["`+value+`"]`, ``, 1),
		"measurement 300":   strings.Replace(text, `"7"`, `"300"`, 1),
		"no driver":         strings.Replace(text, "580.95.05", "", 1),
		"ignored too large": strings.Replace(text, "36", "256", 1),
		"too large":         text + strings.Repeat(" ", maxPolicy),
	} {
		if _, err := ParsePolicy([]byte(bad)); !errors.Is(err, ErrPolicyText) {
			t.Errorf("%s: %v, want ErrPolicyText", name, err)
		}
	}
	if _, err := ParsePolicy([]byte(`{}`)); !errors.Is(err, ErrPolicy) {
		t.Errorf("empty: %v", err)
	}
}

func FuzzParseSet(f *testing.F) {
	s, _, _ := twoGPUs(f)
	f.Add(s.Encode())
	f.Add([]byte{1, 0, 0, 0, 0, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := ParseSet(b)
		if err != nil {
			if !errors.Is(err, ErrSet) {
				t.Fatalf("unnamed error %v", err)
			}
			return
		}
		if !bytes.Equal(s.Encode(), b) {
			t.Fatal("read something else than was written")
		}
	})
}

func FuzzParsePolicy(f *testing.F) {
	f.Add([]byte(`{"roots":["00"],"references":[{"driver":"1","vbios":"2","values":{"1":["00"]},"ignored":[3]}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := ParsePolicy(b)
		if err == nil && (len(p.Roots) == 0 || len(p.References) == 0) {
			t.Fatal("a policy of nothing")
		}
		if err != nil && !errors.Is(err, ErrPolicyText) && !errors.Is(err, ErrPolicy) {
			t.Fatalf("unnamed error %v", err)
		}
	})
}
