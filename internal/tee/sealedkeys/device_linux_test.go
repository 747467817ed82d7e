package sealedkeys

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"strings"
	"testing"
)

// TestNoDevices: outside a guest, errors name what is missing.
func TestNoDevices(t *testing.T) {
	if _, err := os.Stat("/dev/tdx_guest"); errors.Is(err, fs.ErrNotExist) {
		if _, err := TDReport(t.Context(), [64]byte{}); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "/dev/tdx_guest") {
			t.Errorf("TDX: %v", err)
		}
	}
	if _, err := os.Stat("/dev/sev-guest"); errors.Is(err, fs.ErrNotExist) {
		if _, err := FetchSEV(t.Context(), AppKey); !errors.Is(err, ErrProcessor) || !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("SEV-SNP: %v", err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	const reservedCID, unusedPort = 0, 4294967294
	if nc, err := DialVSOCK(reservedCID, unusedPort)(ctx); err == nil || !strings.Contains(err.Error(), "VSOCK") {
		t.Errorf("VSOCK: %v, %v", nc, err)
	}
}
