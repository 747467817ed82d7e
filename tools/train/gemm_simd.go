//go:build goexperiment.simd && amd64

package main

import (
	"simd/archsimd"
	"unsafe"
)

const vectorised = true

type vec = [8]float32

func lanes(p unsafe.Pointer) archsimd.Float32x8 { return archsimd.LoadFloat32x8((*vec)(p)) }

// tile4 adds a 4×16 tile of C: a is packed [k][4], b [k][16]. The bounds are
// checked once, here; the loop then walks by pointer, which keeps everything
// in registers.
func tile4(c []float32, ldc int, a, b []float32) {
	_, _ = c[3*ldc+15], b[4*len(a)-1]
	c0 := unsafe.Pointer(&c[0])
	c1 := unsafe.Add(c0, 4*ldc)
	c2 := unsafe.Add(c1, 4*ldc)
	c3 := unsafe.Add(c2, 4*ldc)
	s00, s01 := lanes(c0), lanes(unsafe.Add(c0, 32))
	s10, s11 := lanes(c1), lanes(unsafe.Add(c1, 32))
	s20, s21 := lanes(c2), lanes(unsafe.Add(c2, 32))
	s30, s31 := lanes(c3), lanes(unsafe.Add(c3, 32))
	pa, pb := unsafe.Pointer(&a[0]), unsafe.Pointer(&b[0])
	for i := len(a) / 4; ; {
		b0, b1 := lanes(pb), lanes(unsafe.Add(pb, 32))
		x := archsimd.BroadcastFloat32x8(*(*float32)(pa))
		s00, s01 = x.MulAdd(b0, s00), x.MulAdd(b1, s01)
		x = archsimd.BroadcastFloat32x8(*(*float32)(unsafe.Add(pa, 4)))
		s10, s11 = x.MulAdd(b0, s10), x.MulAdd(b1, s11)
		x = archsimd.BroadcastFloat32x8(*(*float32)(unsafe.Add(pa, 8)))
		s20, s21 = x.MulAdd(b0, s20), x.MulAdd(b1, s21)
		x = archsimd.BroadcastFloat32x8(*(*float32)(unsafe.Add(pa, 12)))
		s30, s31 = x.MulAdd(b0, s30), x.MulAdd(b1, s31)
		if i--; i == 0 {
			break
		}
		pa, pb = unsafe.Add(pa, 16), unsafe.Add(pb, 64)
	}
	s00.Store((*vec)(c0))
	s01.Store((*vec)(unsafe.Add(c0, 32)))
	s10.Store((*vec)(c1))
	s11.Store((*vec)(unsafe.Add(c1, 32)))
	s20.Store((*vec)(c2))
	s21.Store((*vec)(unsafe.Add(c2, 32)))
	s30.Store((*vec)(c3))
	s31.Store((*vec)(unsafe.Add(c3, 32)))
}

// tile1 adds row r of a packed panel: a 1×16 tile of C.
func tile1(c, a []float32, r int, b []float32) {
	c = c[:16]
	s0, s1 := archsimd.LoadFloat32x8((*vec)(c)), archsimd.LoadFloat32x8((*vec)(c[8:]))
	for i := r; i < len(a); i += 4 {
		row := b[4*(i-r) : 4*(i-r)+16]
		x := archsimd.BroadcastFloat32x8(a[i])
		s0 = x.MulAdd(archsimd.LoadFloat32x8((*vec)(row)), s0)
		s1 = x.MulAdd(archsimd.LoadFloat32x8((*vec)(row[8:])), s1)
	}
	s0.Store((*vec)(c))
	s1.Store((*vec)(c[8:]))
}

// expShift replaces x[i] by e^((x[i]-shift)*scale).
func expShift(x []float32, shift, scale float32) {
	i := 0
	sh, sc := archsimd.BroadcastFloat32x8(shift), archsimd.BroadcastFloat32x8(scale)
	lo, hi := archsimd.BroadcastFloat32x8(-87), archsimd.BroadcastFloat32x8(88)
	l2e, ln2 := archsimd.BroadcastFloat32x8(1.44269504), archsimd.BroadcastFloat32x8(-0.69314718)
	p5, p4 := archsimd.BroadcastFloat32x8(0.0013888889), archsimd.BroadcastFloat32x8(0.008333331)
	p3, p2 := archsimd.BroadcastFloat32x8(0.041666664), archsimd.BroadcastFloat32x8(0.16666667)
	p1, one := archsimd.BroadcastFloat32x8(0.5), archsimd.BroadcastFloat32x8(1)
	bias := archsimd.BroadcastInt32x8(127)
	for ; i+8 <= len(x); i += 8 {
		p := (*vec)(x[i : i+8])
		v := archsimd.LoadFloat32x8(p).Sub(sh).Mul(sc).Max(lo).Min(hi)
		k := v.Mul(l2e).RoundToEven()
		r := k.MulAdd(ln2, v)
		e := r.MulAdd(p5, p4)
		e = e.MulAdd(r, p3)
		e = e.MulAdd(r, p2)
		e = e.MulAdd(r, p1)
		e = e.MulAdd(r, one)
		e = e.MulAdd(r, one)
		k.ConvertToInt32().Add(bias).ShiftAllLeft(23).AsFloat32x8().Mul(e).Store(p)
	}
	for ; i < len(x); i++ {
		x[i] = exp32((x[i] - shift) * scale)
	}
}
