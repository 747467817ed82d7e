package bindings

import (
	"math/bits"

	"github.com/xssnick/tonutils-go/tvm/cell"
)

// maxDictEntries bounds what one dictionary yields. Cells of a tree may be
// shared, so a few hundred of them can describe more entries than fit into
// memory.
const maxDictEntries = 1 << 14

// dict reads a Maybe ^dictionary with keys of keyBytes bytes and calls visit
// for each entry in ascending order of keys. visit reads the value; what is
// left of it is ignored unless visit checks.
func (r *reader) dict(keyBytes int, visit func(key []byte, value *reader)) {
	root := r.maybe()
	if root == nil || r.err != nil {
		return
	}
	left := maxDictEntries
	key := make([]byte, keyBytes)
	part := walk(root, key, 0, &left, visit)
	r.join(part)
}

// walk visits the subtree n whose keys start with the first at bits of key.
func walk(n *cell.Cell, key []byte, at int, left *int, visit func([]byte, *reader)) *reader {
	r := newReader(n)
	rest := len(key)*8 - at
	for range r.label(key, at, rest) {
		at++
		rest--
	}
	if r.err != nil {
		return r
	}
	if rest == 0 {
		if *left--; *left < 0 {
			r.failf("a dictionary of more than %d entries", maxDictEntries)
			return r
		}
		visit(append([]byte(nil), key...), r)
		return r
	}
	for bit := range 2 {
		setBit(key, at, bit == 1)
		branch := r.ref()
		if r.err != nil {
			return r
		}
		r.join(walk(branch, key, at+1, left, visit))
	}
	r.end()
	return r
}

// label reads an edge label (HmLabel of the TON block schema) of at most most
// bits into key from bit at on and returns its length.
func (r *reader) label(key []byte, at, most int) int {
	size := uint(bits.Len(uint(most)))
	n := 0
	switch {
	case !r.bool(): // short: unary length
		for r.bool() && r.err == nil {
			n++
		}
	case !r.bool(): // long: length in binary
		n = int(r.uint(size))
	default: // one bit repeated
		same := r.bool()
		n = int(r.uint(size))
		if n > most {
			r.failf("a dictionary label of %d bits where %d are left", n, most)
			return 0
		}
		for i := range n {
			setBit(key, at+i, same)
		}
		return n
	}
	if r.err == nil && n > most {
		r.failf("a dictionary label of %d bits where %d are left", n, most)
	}
	if r.err != nil {
		return 0
	}
	for i := range n {
		setBit(key, at+i, r.bool())
	}
	return n
}

func setBit(key []byte, i int, v bool) {
	mask := byte(0x80) >> (i % 8)
	if v {
		key[i/8] |= mask
	} else {
		key[i/8] &^= mask
	}
}

// dictWriter builds a dictionary; its first error sticks.
type dictWriter struct {
	d   *cell.Dictionary
	err error
}

func newDict(keyBytes int) *dictWriter { return &dictWriter{d: cell.NewDict(uint(keyBytes) * 8)} }

func (d *dictWriter) set(key []byte, value *writer) {
	k, err := newWriter().bytes(key).end()
	if err == nil {
		var v *cell.Cell
		if v, err = value.end(); err == nil {
			err = d.d.Set(k, v)
		}
	}
	if d.err == nil {
		d.err = err
	}
}

// dict appends d as a Maybe ^dictionary.
func (w *writer) dict(d *dictWriter) *writer {
	return w.try(d.err).maybe(d.d.AsCell())
}

// hashSet is a dictionary of hashes without values.
func hashSet[T ~[32]byte](hashes []T) *dictWriter {
	d := newDict(32)
	for _, h := range hashes {
		d.set(h[:], newWriter())
	}
	return d
}

// readHashSet reads the keys of a dictionary and ignores the values.
func readHashSet[T ~[32]byte](r *reader) []T {
	var out []T
	r.dict(32, func(key []byte, _ *reader) { out = append(out, T(key)) })
	return out
}
