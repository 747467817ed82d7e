package modelhash

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"runtime"
	"slices"
	"sync"
)

// BlockSize is the size of data and hash blocks in bytes.
const BlockSize = 4096

// salt is hashed before each block (spec attestation 7.2).
var salt = [17]byte{0x00, 0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x08, 0x09, 0x10, 0x1a, 0x1b, 0x1c, 0x1d, 0x1e, 0x1f}

// Tree is a dm-verity hash tree (format 1, SHA-256) over what is written to
// it. It keeps one block of each level, so its size grows with the logarithm
// of the data. Large writes are hashed on all processors. The zero value is
// ready.
type Tree struct {
	h       hash.Hash
	out     Root
	data    []byte // the data block that is not full yet
	blocks  int64
	digests []level
	sums    []Root // of the blocks of one Write
}

// level is one level of hash blocks, the leaves' digests first.
type level struct {
	block [BlockSize]byte
	n     int   // bytes of block in use
	total int64 // digests that came by
}

// Write implements io.Writer; it never fails.
func (t *Tree) Write(p []byte) (int, error) {
	if t.h == nil {
		t.h = sha256.New()
		t.data = make([]byte, 0, BlockSize)
	}
	n := len(p)
	for len(p) > 0 {
		if len(t.data) == 0 && len(p) >= spread*BlockSize {
			k := len(p) / BlockSize * BlockSize
			t.leaves(p[:k])
			p = p[k:]
			continue
		}
		if len(t.data) == 0 && len(p) >= BlockSize {
			t.leaf(p[:BlockSize])
			p = p[BlockSize:]
			continue
		}
		k := min(BlockSize-len(t.data), len(p))
		t.data = append(t.data, p[:k]...)
		p = p[k:]
		if len(t.data) == BlockSize {
			t.leaf(t.data)
			t.data = t.data[:0]
		}
	}
	return n, nil
}

func (t *Tree) leaf(block []byte) {
	t.blocks++
	t.add(0, t.sum(block))
}

// spread is from how many blocks on they are hashed on all processors.
const spread = 64

// leaves does what leaf does for many blocks, which do not depend on each other.
func (t *Tree) leaves(p []byte) {
	n := len(p) / BlockSize
	t.sums = slices.Grow(t.sums[:0], n)[:n]
	share := max((n+runtime.GOMAXPROCS(0)-1)/runtime.GOMAXPROCS(0), spread/4)
	var wg sync.WaitGroup
	for from := 0; from < n; from += share {
		wg.Go(func() {
			part := Tree{h: sha256.New()}
			for i := from; i < min(from+share, n); i++ {
				t.sums[i] = part.sum(p[i*BlockSize : (i+1)*BlockSize])
			}
		})
	}
	wg.Wait()
	t.blocks += int64(n)
	for _, r := range t.sums {
		t.add(0, r)
	}
}

func (t *Tree) sum(block []byte) Root {
	t.h.Reset()
	t.h.Write(salt[:])
	t.h.Write(block)
	t.h.Sum(t.out[:0])
	return t.out
}

// add puts a digest into a level, and the digest of a full block into the next.
func (t *Tree) add(i int, r Root) {
	for ; ; i++ {
		if i == len(t.digests) {
			t.digests = append(t.digests, level{})
		}
		l := &t.digests[i]
		l.n += copy(l.block[l.n:], r[:])
		l.total++
		if l.n < BlockSize {
			return
		}
		r, l.n = t.sum(l.block[:]), 0
	}
}

// Root closes the tree: the last block of each level is filled with zeros, and
// the only digest of the highest level is the root. Nothing may be written
// afterwards.
func (t *Tree) Root() (Root, error) {
	if t.blocks == 0 && len(t.data) == 0 {
		return Root{}, errors.New("hash tree: there is no data")
	}
	if len(t.data) > 0 {
		return Root{}, fmt.Errorf("hash tree: the data ends %d bytes into a block of %d", len(t.data), BlockSize)
	}
	for i := 0; ; i++ {
		l := &t.digests[i]
		if l.total == 1 {
			return Root(l.block[:sha256.Size]), nil
		}
		if l.n > 0 {
			clear(l.block[l.n:])
			r := t.sum(l.block[:])
			l.n = 0
			t.add(i+1, r)
		}
	}
}
