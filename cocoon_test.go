package cocoon

import (
	"strings"
	"testing"
)

// The address pairs stand in spec contracts 12 and network-protocol 7.2.
func TestAddressForms(t *testing.T) {
	a, err := ParseAddress("EQCns7bYSp0igFvS1wpb5wsZjCKCV19MD5AVzI4EyxsnU73k")
	if err != nil {
		t.Fatal(err)
	}
	if got, want := a.Raw(), "0:a7b3b6d84a9d22805bd2d70a5be70b198c2282575f4c0f9015cc8e04cb1b2753"; got != want {
		t.Errorf("raw form %s, want %s", got, want)
	}
	if got := a.Friendly(true, false); got != "EQCns7bYSp0igFvS1wpb5wsZjCKCV19MD5AVzI4EyxsnU73k" {
		t.Errorf("friendly form %s", got)
	}
	for _, s := range []string{a.String(), a.Raw(), a.Friendly(false, true), strings.NewReplacer("-", "+", "_", "/").Replace(a.String())} {
		if b, err := ParseAddress(s); err != nil || b != a {
			t.Errorf("ParseAddress(%q) = %v, %v", s, b, err)
		}
	}
}

func TestAddressRefused(t *testing.T) {
	for _, s := range []string{
		"", "0:12", "x:" + strings.Repeat("0", 64), "EQ", strings.Repeat("A", 48), strings.Repeat("?", 48),
		"EQCns7bYSp0igFvS1wpb5wsZjCKCV19MD5AVzI4EyxsnU73l", " EQCns7bYSp0igFvS1wpb5wsZjCKCV19MD5AVzI4EyxsnU73k",
	} {
		if a, err := ParseAddress(s); err == nil {
			t.Errorf("ParseAddress(%q) = %v, want an error", s, a)
		}
	}
}

func FuzzParseAddress(f *testing.F) {
	f.Add("EQCns7bYSp0igFvS1wpb5wsZjCKCV19MD5AVzI4EyxsnU73k")
	f.Fuzz(func(t *testing.T, s string) {
		a, err := ParseAddress(s)
		if err != nil {
			return
		}
		if b, err := ParseAddress(a.Raw()); err != nil || b != a {
			t.Fatalf("%q does not round trip: %v %v", s, b, err)
		}
	})
}

func TestModelBase(t *testing.T) {
	if got := ModelName("org/m@c:h").Base(); got != "org/m" {
		t.Errorf("Base = %q", got)
	}
	if got := ModelName("plain").Base(); got != "plain" {
		t.Errorf("Base = %q", got)
	}
}
