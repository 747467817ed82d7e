package node

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/cocoon-network/cocoon/attest"
	"github.com/cocoon-network/cocoon/internal/chain/wallet"
	"github.com/cocoon-network/cocoon/internal/tee/endorse"
	"github.com/cocoon-network/cocoon/internal/tee/sealedkeys"
)

// keyring reads a role's key files. Its zero value reads plain ones, as on a
// laptop. With a sealed key, files are encrypted under it: one that is missing
// is made, with a key that never was outside this guest; a plain one is
// refused, since whoever wrote it knows what is in it.
type keyring struct{ sealed *sealedkeys.Key }

// The uses of sealed key files: a file of one does not open as another.
const (
	useContractKey = "contract-key"
	useWalletKey   = "wallet-key"
	useLogin       = "login-master"
)

// errPlainKey refuses a plain key file where sealed ones are demanded.
var errPlainKey = errors.New("it is not sealed, and measured.sealed_keys demands that: whoever wrote it knows the key. Name a file that does not exist yet, and one is made here")

// openKeys fetches the sealed key, where there is one, once at the start.
func openKeys(ctx context.Context, c *Config, log *slog.Logger) (keyring, error) {
	var k sealedkeys.Key
	var err error
	switch kind := attest.Kind(c.Measured.SealedKeys); kind {
	case "":
		return keyring{}, nil
	case attest.SEVSNP:
		k, err = sealedkeys.FetchSEV(ctx, sealedkeys.AppKey)
	case attest.TDX:
		k, err = fetchSealed(ctx, c, log)
	case attest.Simulated:
		k, err = simulatedSealedKey(ctx, c, log)
	default:
		return keyring{}, fmt.Errorf("configuration: measured.sealed_keys %q is not tdx, sev-snp, simulated or empty", string(kind))
	}
	if err != nil {
		return keyring{}, fmt.Errorf("measured.sealed_keys: %w", err)
	}
	log.Info("key files are sealed", "by", c.Measured.SealedKeys)
	return keyring{&k}, nil
}

// fetchSealed asks the sealing enclave on this TDX guest's host.
func fetchSealed(ctx context.Context, c *Config, log *slog.Logger) (sealedkeys.Key, error) {
	policy := &attest.EnclavePolicy{Roots: []attest.KeyID{attest.IntelRoot}}
	for _, s := range c.Measured.SealEnclaves {
		b, err := hex.DecodeString(s)
		if err != nil || len(b) != 32 {
			return sealedkeys.Key{}, fmt.Errorf("configuration: measured.seal_enclaves: %q is no MRENCLAVE of 64 hex digits", s)
		}
		policy.MREnclaves = append(policy.MREnclaves, [32]byte(b))
	}
	if len(policy.MREnclaves) == 0 {
		return sealedkeys.Key{}, errors.New("configuration: measured.seal_enclaves is empty: list the MRENCLAVE of each sealing enclave that is believed")
	}
	client, err := sealedkeys.New(sealedkeys.Config{
		Dial: sealedkeys.DialVSOCK(sealedkeys.HostCID, sealedkeys.Port), Report: sealedkeys.TDReport, Policy: policy,
		Endorser: endorse.New(endorse.Config{
			Roots: policy.Roots, Dir: filepath.Join(c.Runtime.Dir, "collateral"),
			PCS: c.Runtime.CollateralURL, Offline: c.Runtime.CollateralOffline, Log: log,
		}),
	})
	if err != nil {
		return sealedkeys.Key{}, err
	}
	return client.Fetch(ctx, sealedkeys.AppKey)
}

// walletKey reads a key that signs cells.
func (k keyring) walletKey(use, path string) (wallet.Key, error) {
	if k.sealed == nil {
		return wallet.ReadKeyFile(path)
	}
	b, err := k.open(use, path, func() []byte {
		seed := make([]byte, 32)
		rand.Read(seed) // never fails
		return []byte(hex.EncodeToString(seed))
	})
	if err != nil {
		return wallet.Key{}, err
	}
	defer clear(b)
	key, err := wallet.ParseSecret(string(b))
	if err != nil {
		return wallet.Key{}, fmt.Errorf("%s: %w", path, err)
	}
	return key, nil
}

// secret reads a file of random bytes.
func (k keyring) secret(use, path string) ([]byte, error) {
	if k.sealed == nil || path == "" {
		return readSecret(path)
	}
	return k.open(use, path, func() []byte {
		b := make([]byte, 32)
		rand.Read(b) // never fails
		return b
	})
}

// open reads a sealed file, or makes one of what fresh gives.
func (k keyring) open(use, path string, fresh func() []byte) ([]byte, error) {
	b, err := k.sealed.ReadFile(path, use)
	switch {
	case errors.Is(err, sealedkeys.ErrKeyFile):
		return nil, fmt.Errorf("%s: %w (%v)", path, errPlainKey, err)
	case !errors.Is(err, fs.ErrNotExist):
		return b, err
	}
	b = fresh()
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), k.sealed.WriteFile(path, use, b)); err != nil {
		return nil, err
	}
	return b, nil
}
