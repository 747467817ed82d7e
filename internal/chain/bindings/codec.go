package bindings

import (
	"github.com/cocoon-network/cocoon"
	"github.com/cocoon-network/cocoon/internal/chain/registry"
	"github.com/cocoon-network/cocoon/internal/money/coins"
)

// codec reads or writes the fields of a layout in order, so that each layout
// is written down once for both directions.
type codec interface {
	u8(*uint8)
	u32(*uint32)
	u64(*uint64)
	state(*State)
	hash(*[32]byte)
	coins(*coins.Nano)
	addr(*cocoon.Address)
	text(*string)      // endpoint: type bit 0, length, bytes
	cell(*[]byte)      // a reference, as a bag of cells
	child(func(codec)) // a reference with a layout of its own
	params(*registry.Params, CodeMask)
	// optional is a Maybe ^child; present says whether it is, or was, there.
	optional(present *bool, f func(codec))
	// invalid records that the fields contradict one another.
	invalid(format string, args ...any)
}

// encoder is the codec that writes.
type encoder struct{ w *writer }

func (e encoder) u8(v *uint8)                        { e.w.uint(uint64(*v), 8) }
func (e encoder) u32(v *uint32)                      { e.w.uint(uint64(*v), 32) }
func (e encoder) u64(v *uint64)                      { e.w.uint(*v, 64) }
func (e encoder) state(v *State)                     { e.w.uint(uint64(*v), 2) }
func (e encoder) hash(v *[32]byte)                   { e.w.hash(*v) }
func (e encoder) coins(v *coins.Nano)                { e.w.coins(*v) }
func (e encoder) addr(v *cocoon.Address)             { e.w.addr(*v) }
func (e encoder) text(v *string)                     { e.w.text(*v) }
func (e encoder) cell(v *[]byte)                     { e.w.boc(*v) }
func (e encoder) invalid(format string, args ...any) { e.w.try(malformed(format, args...)) }

func (e encoder) child(f func(codec)) {
	inner := newWriter()
	f(encoder{inner})
	e.w.child(inner)
}

func (e encoder) params(p *registry.Params, mask CodeMask) {
	c, err := paramsCell(*p, mask)
	e.w.try(err).ref(c)
}

func (e encoder) optional(present *bool, f func(codec)) {
	e.w.bool(*present)
	if *present {
		e.child(f)
	}
}

// decoder is the codec that reads.
type decoder struct{ r *reader }

func (d decoder) u8(v *uint8)                        { *v = d.r.u8() }
func (d decoder) u32(v *uint32)                      { *v = d.r.u32() }
func (d decoder) u64(v *uint64)                      { *v = d.r.u64() }
func (d decoder) state(v *State)                     { *v = State(d.r.uint(2)) }
func (d decoder) hash(v *[32]byte)                   { *v = d.r.hash() }
func (d decoder) coins(v *coins.Nano)                { *v = d.r.coins() }
func (d decoder) addr(v *cocoon.Address)             { *v = d.r.addr() }
func (d decoder) cell(v *[]byte)                     { *v = d.r.boc() }
func (d decoder) invalid(format string, args ...any) { d.r.failf(format, args...) }

func (d decoder) text(v *string) {
	s, ok := d.r.text()
	if !ok {
		d.r.failf("an endpoint that is not plain text")
	}
	*v = s
}

func (d decoder) child(f func(codec)) {
	inner := d.r.child()
	f(decoder{inner})
	inner.end()
	d.r.join(inner)
}

func (d decoder) params(p *registry.Params, _ CodeMask) {
	inner := d.r.child()
	*p = readParams(inner)
	d.r.join(inner)
}

func (d decoder) optional(present *bool, f func(codec)) {
	if *present = d.r.bool(); *present {
		d.child(f)
	}
}
