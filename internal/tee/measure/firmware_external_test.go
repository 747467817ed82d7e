//go:build external

package measure

import (
	"crypto/sha256"
	"encoding/hex"
	"os"
	"testing"
)

// TestDebianFirmware takes the path of Debian's OVMF.fd of version
// 2025.02-8+deb13u1, for which another program gave the value.
func TestDebianFirmware(t *testing.T) {
	name := os.Getenv("COCOON_OVMF")
	if name == "" {
		t.Skip("COCOON_OVMF names no firmware (4 MB, not kept here)")
	}
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if sum := sha256.Sum256(b); hex.EncodeToString(sum[:4]) != "14954040" {
		t.Fatalf("this is another firmware: %x", sum)
	}
	f, err := ParseFirmware(b)
	if err != nil {
		t.Fatal(err)
	}
	if got := f.MRTD(SinglePass).String(); got != "bdc6fb145880f06f30c8b346b8dce2a99d9351b56892df22f80fcf6574caa9f9c31df8e8576d53b4d0cd1c3f28910e11" {
		t.Errorf("single pass: %s", got)
	}
	if got := f.MRTD(TwoPass).String(); got[:16] != "456f07902150d008" {
		t.Errorf("two passes: %s", got)
	}
	config, err := f.configVolume()
	if err != nil {
		t.Fatal(err)
	}
	// As published for the same build in the tools of another network.
	if got := Digest(config).String(); got != "344bc51c980ba621aaa00da3ed7436f7d6e549197dfe699515dfa2c6583d95e6412af21c097d473155875ffd561d6790" {
		t.Errorf("variable store: %s", got)
	}
}
