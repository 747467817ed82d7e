//go:build !tee

package node

import (
	"bytes"
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cocoon-network/cocoon/attest"
	"github.com/cocoon-network/cocoon/internal/chain/wallet"
	"github.com/cocoon-network/cocoon/internal/tee/sealedkeys"
)

// sealing is a proxy's configuration with sealed keys on a SIMULATED machine.
func sealing(t *testing.T) *Config {
	t.Helper()
	dir := t.TempDir()
	c := Default("proxy")
	c.Measured.SealedKeys, c.Measured.SimulatedImage = "simulated", simProxyImage
	c.Runtime.Dir, c.Runtime.SimulatedMachine, c.Runtime.SimulatedSeed = dir, "one", filepath.Join(dir, "vendor.seed")
	if err := os.WriteFile(c.Runtime.SimulatedSeed, bytes.Repeat([]byte{7}, 32), 0o600); err != nil {
		t.Fatal(err)
	}
	return &c
}

// TestSealedKeys: keys are made inside, the same ones come back after a start,
// and the files open for this image on this machine only, and for their use.
func TestSealedKeys(t *testing.T) {
	c := sealing(t)
	// The enclave of the machine, over TCP as another process would offer it.
	m, _, err := simulatedMachine(c, quiet())
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); _ = m.Serve(ctx, ln) }()
	t.Cleanup(func() { stop(); <-done })
	c.Runtime.SealAddress = ln.Addr().String()

	open := func(t *testing.T, c *Config) keyring {
		t.Helper()
		k, err := openKeys(t.Context(), c, quiet())
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	contractKey, login := filepath.Join(c.Runtime.Dir, "keys", "proxy.key"), filepath.Join(c.Runtime.Dir, "keys", "login")
	first, err := open(t, c).walletKey(useContractKey, contractKey)
	if err != nil {
		t.Fatal(err)
	}
	master, err := open(t, c).secret(useLogin, login)
	if err != nil || len(master) != 32 {
		t.Fatalf("%d bytes, %v", len(master), err)
	}
	again, err := open(t, c).walletKey(useContractKey, contractKey)
	if err != nil || again.Public() != first.Public() {
		t.Errorf("another key after a start: %v", err)
	}
	if b, err := open(t, c).secret(useLogin, login); err != nil || !bytes.Equal(b, master) {
		t.Errorf("another login master after a start: %v", err)
	}
	for _, path := range []string{contractKey, login} {
		b, err := os.ReadFile(path)
		info, _ := os.Stat(path)
		if err != nil || bytes.Contains(b, master) || !bytes.HasPrefix(b, []byte("cocoon key file")) || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, mode %v", path, err, info.Mode())
		}
	}
	c.Runtime.SealAddress = ""
	if k, err := open(t, c).walletKey(useContractKey, contractKey); err != nil || k.Public() != first.Public() {
		t.Errorf("by the enclave in this process: %v", err)
	}
	other := *c
	for name, change := range map[string]func(){
		"another machine": func() { other.Runtime.SimulatedMachine = "two" },
		"another image":   func() { other.Measured.SimulatedImage = simWorkImage },
	} {
		other = *c
		change()
		if _, err := open(t, &other).walletKey(useContractKey, contractKey); !errors.Is(err, sealedkeys.ErrKeyFileOpen) {
			t.Errorf("%s: %v, want ErrKeyFileOpen", name, err)
		}
	}
	if _, err := open(t, c).walletKey(useWalletKey, contractKey); !errors.Is(err, sealedkeys.ErrKeyFileOpen) {
		t.Errorf("as a file of another use: %v, want ErrKeyFileOpen", err)
	}
	// A host's key that it knows is no sealed key.
	plain := filepath.Join(c.Runtime.Dir, "plain.key")
	if err := wallet.WriteKeyFile(plain, wallet.NewKey()); err != nil {
		t.Fatal(err)
	}
	if _, err := open(t, c).walletKey(useContractKey, plain); !errors.Is(err, errPlainKey) {
		t.Errorf("a plain file: %v, want errPlainKey", err)
	}
	// Nor does a build without sealing take a sealed file for a plain one.
	if _, err := (keyring{}).walletKey(useContractKey, contractKey); err == nil {
		t.Error("a sealed file opens without its key")
	}
}

// TestSealedProxyStarts: the role itself makes and keeps its contract key so.
func TestSealedProxyStarts(t *testing.T) {
	c := sealing(t)
	c.Measured.GlobalID, c.Measured.Evidence, c.Measured.Accept = -217, "simulated", []string{"simulated"}
	c.Runtime.Owner = "0:" + strings.Repeat("22", 32)
	c.Runtime.KeyFile = filepath.Join(c.Runtime.Dir, "proxy.key")
	// It goes on until it finds no network; by then the key is there.
	if err := Run(t.Context(), c, nil, quiet()); err == nil || !strings.Contains(err.Error(), "root_contract") {
		t.Fatal(err)
	}
	b, err := os.ReadFile(c.Runtime.KeyFile)
	if err != nil || !bytes.HasPrefix(b, []byte("cocoon key file")) {
		t.Errorf("%d bytes, %v", len(b), err)
	}
	if c.keys.sealed == nil {
		t.Error("no sealed key")
	}
}

// What cannot be met is said before anything starts.
func TestSealedKeysRefused(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*Config)
		text   string
	}{
		"no such platform":  {func(c *Config) { c.Measured.SealedKeys = "tpm" }, "is not tdx, sev-snp, simulated or empty"},
		"no enclave listed": {func(c *Config) { c.Measured.SealedKeys = "tdx" }, "seal_enclaves is empty"},
		"no enclave":        {func(c *Config) { c.Measured.SealedKeys, c.Measured.SealEnclaves = "tdx", []string{"00"} }, "no MRENCLAVE"},
		"nobody there":      {func(c *Config) { c.Runtime.SealAddress = "127.0.0.1:1" }, "sealing server"},
		"no processor":      {func(c *Config) { c.Measured.SealedKeys = string(attest.SEVSNP) }, "sealed_keys"},
	} {
		cfg := sealing(t)
		c.change(cfg)
		if _, err := openKeys(t.Context(), cfg, quiet()); err == nil || !strings.Contains(err.Error(), c.text) {
			t.Errorf("%s: %v, want %q", name, err, c.text)
		}
	}
}
