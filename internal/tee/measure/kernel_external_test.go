//go:build external

package measure

import (
	"bytes"
	"crypto/sha256"
	"os"
	"testing"
)

// TestSignedImage takes the path of a signed EFI program: its signature names
// its digest.
func TestSignedImage(t *testing.T) {
	name := os.Getenv("COCOON_SIGNED_EFI")
	if name == "" {
		t.Skip("COCOON_SIGNED_EFI names no signed EFI program")
	}
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	h := sha256.New()
	if err := authenticode(h, b); err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(b, h.Sum(nil)) {
		t.Errorf("the signature does not name %x", h.Sum(nil))
	}
}
