package bindings

import (
	"encoding/binary"
	"fmt"

	"github.com/xssnick/tonutils-go/tvm/cell"

	"github.com/cocoon-network/cocoon"
	"github.com/cocoon-network/cocoon/attest"
	"github.com/cocoon-network/cocoon/internal/chain/registry"
)

// maxText is the longest endpoint text that fits its 7-bit length.
const maxText = 127

// EncodeRoot returns the data cell of a root contract in the state s as a bag
// of cells (spec contracts 4.1, changes-2026-04 11.2). The layout follows
// s.Params.StructVersion.
func EncodeRoot(s *registry.Snapshot) ([]byte, error) {
	lists := newWriter().dict(hashSet(s.ProxyImages)).dict(proxyDict(s.Proxies))
	lists.uint(uint64(s.LastProxySeqno), 32)
	lists.dict(hashSet(s.WorkerImages)).dict(hashSet(s.ModelHashes))
	params, err := paramsCell(s.Params, AllCodes)
	if err != nil {
		return nil, fmt.Errorf("root data: %w", err)
	}
	w := newWriter().addr(s.Owner).uint(uint64(s.Version), 32).child(lists).ref(params)
	if s.Params.StructVersion >= 4 {
		w.child(keyManagerCell(s.KeyManager))
	}
	if s.Params.StructVersion >= 5 {
		w.child(newWriter().dict(hashSet(s.VerifiedProxyKeys)).dict(hashSet(s.VerifiedWorkerKeys)).dict(hashSet(s.VerifiedKeyManagerKeys)))
	}
	b, err := w.serialize()
	if err != nil {
		return nil, fmt.Errorf("root data: %w", err)
	}
	return b, nil
}

func proxyDict(proxies []registry.Proxy) *dictWriter {
	d := newDict(4)
	for _, p := range proxies {
		d.set(binary.BigEndian.AppendUint32(nil, p.Seqno), newWriter().text(p.Text()))
	}
	return d
}

func keyManagerCell(k registry.KeyManager) *writer {
	keys := newDict(32)
	for _, p := range k.PublicKeys {
		keys.set(p.Key[:], newWriter().uint(uint64(p.Type), 8).uint(uint64(p.ExpireAt), 32))
	}
	return newWriter().dict(keys).hash(k.PublicKey).hash(k.ImageHash).text(k.Address)
}

// text writes an endpoint: type bit 0, seven bits of length, the bytes.
func (w *writer) text(s string) *writer {
	if len(s) > maxText {
		return w.try(fmt.Errorf("%q has %d bytes, at most %d fit", s, len(s), maxText))
	}
	return w.bool(false).uint(uint64(len(s)), 7).bytes([]byte(s))
}

// text reads an endpoint. ok is false for another type than plain text.
func (r *reader) text() (s string, ok bool) {
	if r.bool() {
		return "", false
	}
	return string(r.bytes(int(r.uint(7)))), true
}

// DecodeRoot reads the data cell of the root contract at root, struct version
// 0 to 5, strictly: nothing may be left over. Proxy entries that cannot be
// read are skipped. Time, Seqno and Fake stay for the caller to fill.
func DecodeRoot(root cocoon.Address, data []byte) (*registry.Snapshot, error) {
	c, err := parseBoC(data, maxStorageBytes, maxStorageCells)
	if err != nil {
		return nil, fmt.Errorf("root data: %w", err)
	}
	s, err := readRoot(root, c)
	if err != nil {
		return nil, fmt.Errorf("root data: %w", err)
	}
	return s, nil
}

func readRoot(root cocoon.Address, c *cell.Cell) (*registry.Snapshot, error) {
	r := newReader(c)
	s := &registry.Snapshot{Root: root, Owner: r.addr(), Version: r.u32()}
	lists, params := r.child(), r.child()
	s.Params = readParams(params)
	r.join(params) // first: an unknown version explains everything else

	s.ProxyImages = readHashSet[attest.ImageHash](lists)
	lists.dict(4, func(key []byte, value *reader) {
		if text, ok := value.text(); ok && value.err == nil {
			if p, err := registry.ParseProxy(binary.BigEndian.Uint32(key), text); err == nil {
				s.Proxies = append(s.Proxies, p)
			}
		}
		value.err = nil // an unreadable entry is nobody's proxy
	})
	s.LastProxySeqno = lists.u32()
	s.WorkerImages = readHashSet[attest.ImageHash](lists)
	s.ModelHashes = readHashSet[[32]byte](lists)
	lists.end()
	r.join(lists)

	if s.Params.StructVersion >= 4 {
		s.KeyManager = readKeyManager(r)
	}
	if s.Params.StructVersion >= 5 {
		keys := r.child()
		s.VerifiedProxyKeys = readHashSet[[32]byte](keys)
		s.VerifiedWorkerKeys = readHashSet[[32]byte](keys)
		s.VerifiedKeyManagerKeys = readHashSet[[32]byte](keys)
		keys.end()
		r.join(keys)
	}
	if err := r.end(); err != nil {
		return nil, err
	}
	return s, nil
}

func readKeyManager(r *reader) registry.KeyManager {
	var k registry.KeyManager
	c := r.child()
	c.dict(32, func(key []byte, value *reader) {
		k.PublicKeys = append(k.PublicKeys, registry.PublicKey{Key: [32]byte(key), Type: value.u8(), ExpireAt: value.u32()})
		value.end()
	})
	k.PublicKey = c.hash()
	k.ImageHash = c.hash()
	text, ok := c.text()
	c.end()
	if c.err == nil && !ok {
		c.failf("the key manager's address is not a plain text")
	}
	if c.err == nil && text != "" {
		address, err := registry.ParseEndpoint(text)
		if err != nil {
			c.failf("key manager: %v", err)
		}
		k.Address = address
	}
	r.join(c)
	return k
}
