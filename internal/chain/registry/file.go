package registry

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cocoon-network/cocoon"
	"github.com/cocoon-network/cocoon/attest"
	"github.com/cocoon-network/cocoon/internal/money/coins"
	"github.com/cocoon-network/cocoon/internal/money/pricing"
)

// maxFile bounds a root file; real ones have a few kilobytes.
const maxFile = 4 << 20

// emptyCode is a code cell without data as a bag of cells: what an empty code
// string in a root file stands for (spec network-protocol 7.2).
var emptyCode = []byte{0xb5, 0xee, 0x9c, 0x72, 0x01, 0x01, 0x01, 0x01, 0x00, 0x02, 0x00, 0x00, 0x00}

// FileError says which key of a root file is wrong.
type FileError struct {
	Key   string // "proxy_hashes[2]"
	Cause error
}

func (e *FileError) Error() string { return fmt.Sprintf("root file: %s: %v", e.Key, e.Cause) }

// ReadFile reads the root file of a test network without a chain, as
// ParseFile does.
func ReadFile(path string, root cocoon.Address, now time.Time) (*Snapshot, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("root file: %w", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, fmt.Errorf("root file: %w", err)
	}
	return ParseFile(b, root, now)
}

// ParseFile reads the JSON form of rootConfig.pseudo, both the December and
// the April generation (spec network-protocol 8.3, changes-2026-04 11.4). The
// file names no root contract, so root says whose state it pretends to be;
// now becomes the snapshot's time. Absent numbers are 0 and absent lists
// empty, unknown keys are ignored, unreadable proxy addresses are skipped.
func ParseFile(data []byte, root cocoon.Address, now time.Time) (*Snapshot, error) {
	if len(data) > maxFile {
		return nil, fmt.Errorf("root file: larger than %d bytes", maxFile)
	}
	f := fileReader{}
	if err := json.Unmarshal(data, &f.fields); err != nil {
		return nil, fmt.Errorf("root file: not a JSON object: %v", err)
	}
	s := &Snapshot{
		Root:           root,
		Version:        f.u32("version"),
		ProxyImages:    convert[attest.ImageHash](f.hashes("proxy_hashes")),
		WorkerImages:   convert[attest.ImageHash](f.hashes("worker_hashes")),
		ModelHashes:    f.hashes("model_hashes"),
		Proxies:        f.proxies(),
		LastProxySeqno: f.u32("last_proxy_seqno"),
		Params: Params{
			StructVersion:          1,
			ParamsVersion:          f.u32("params_version"),
			UniqueID:               13,
			IsTest:                 true,
			PricePerToken:          coins.Nano(f.u32("price_per_token")),
			WorkerFeePerToken:      coins.Nano(f.u32("worker_fee_per_token")),
			Multipliers:            pricing.Multipliers{Prompt: 10000, Cached: 10000, Completion: 10000, Reasoning: 10000},
			ProxyDelayBeforeClose:  600,
			ClientDelayBeforeClose: 300,
			MinProxyStake:          coins.PerCoin,
			MinClientStake:         coins.PerCoin,
			ProxyCode:              f.code("proxy_sc_code"),
			WorkerCode:             f.code("worker_sc_code"),
			ClientCode:             f.code("client_sc_code"),
		},
		KeyManager: KeyManager{PublicKeys: f.publicKeys(), Address: f.keyManagerAddress()},
		Time:       now,
		Fake:       true,
	}
	for _, name := range f.strings("model_types") {
		s.ModelHashes = append(s.ModelHashes, sha256.Sum256([]byte(cocoon.ModelName(name).Base())))
	}
	owner := f.string("root_owner_address")
	var err error
	if s.Owner, err = cocoon.ParseAddress(owner); err != nil {
		f.fail("root_owner_address", err)
	}
	if f.err != nil {
		return nil, f.err
	}
	return s, nil
}

// fileReader reads keys of the file; its first error sticks.
type fileReader struct {
	fields map[string]json.RawMessage
	err    error
}

func (f *fileReader) fail(key string, cause error) {
	if f.err == nil {
		f.err = &FileError{Key: key, Cause: cause}
	}
}

// read decodes the value of key into v and reports whether it was there.
func (f *fileReader) read(key string, v any) bool {
	b, ok := f.fields[key]
	if !ok {
		return false
	}
	if err := json.Unmarshal(b, v); err != nil {
		f.fail(key, err)
		return false
	}
	return true
}

// number is a TL int in JSON: a number or a string of digits.
type number uint32

// UnmarshalJSON implements json.Unmarshaler.
func (n *number) UnmarshalJSON(b []byte) error {
	text := string(b)
	if s, err := strconv.Unquote(text); err == nil {
		text = s
	}
	v, err := strconv.ParseInt(text, 10, 32)
	if err != nil || v < 0 {
		return fmt.Errorf("%s is not a whole number from 0 to 2147483647", b)
	}
	*n = number(v)
	return nil
}

func (f *fileReader) u32(key string) uint32 {
	var n number
	f.read(key, &n)
	return uint32(n)
}

func (f *fileReader) string(key string) string {
	var s string
	f.read(key, &s)
	return s
}

func (f *fileReader) strings(key string) []string {
	var s []string
	f.read(key, &s)
	return s
}

func (f *fileReader) hashes(key string) [][32]byte {
	var out [][32]byte
	for i, text := range f.strings(key) {
		out = append(out, f.hash(fmt.Sprintf("%s[%d]", key, i), text))
	}
	return out
}

func (f *fileReader) hash(key, text string) [32]byte {
	b, err := base64.StdEncoding.DecodeString(text)
	if err != nil || len(b) != 32 {
		f.fail(key, errors.New("not 32 bytes in base64"))
		return [32]byte{}
	}
	return [32]byte(b)
}

func (f *fileReader) code(key string) []byte {
	text := f.string(key)
	if text == "" {
		return slices.Clone(emptyCode)
	}
	b, err := hex.DecodeString(text)
	if err != nil {
		f.fail(key, errors.New("not a bag of cells in hex"))
	}
	return b
}

func (f *fileReader) proxies() []Proxy {
	const key = "registered_proxies"
	var list []struct {
		Seqno   number `json:"seqno"`
		Address string `json:"address"`
	}
	f.read(key, &list)
	var out []Proxy
	for _, e := range list {
		if p, err := ParseProxy(uint32(e.Seqno), e.Address); err == nil {
			out = append(out, p)
		}
	}
	return out
}

func (f *fileReader) publicKeys() []PublicKey {
	const key = "registered_public_keys"
	var list []struct {
		PublicKey string `json:"public_key"`
		Type      number `json:"key_type"`
		ExpireAt  number `json:"expire_at"`
	}
	f.read(key, &list)
	var out []PublicKey
	for i, e := range list {
		name := fmt.Sprintf("%s[%d].", key, i)
		if e.Type > 255 {
			f.fail(name+"key_type", fmt.Errorf("%d is above 255", e.Type))
		}
		out = append(out, PublicKey{Key: f.hash(name+"public_key", e.PublicKey), Type: uint8(e.Type), ExpireAt: uint32(e.ExpireAt)})
	}
	return out
}

func (f *fileReader) keyManagerAddress() string {
	const key = "key_manager_address"
	text := strings.TrimSpace(f.string(key))
	if text == "" {
		return ""
	}
	a, err := ParseEndpoint(text)
	if err != nil {
		f.fail(key, err)
	}
	return a
}

func convert[T ~[32]byte](in [][32]byte) []T {
	var out []T
	for _, h := range in {
		out = append(out, T(h))
	}
	return out
}
