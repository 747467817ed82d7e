//go:build !(goexperiment.simd && amd64)

package main

const vectorised = false

// tile4 adds a 4×16 tile of C: a is packed [k][4], b [k][16].
func tile4(c []float32, ldc int, a, b []float32) {
	for r := range 4 {
		tile1(c[r*ldc:], a, r, b)
	}
}

// tile1 adds row r of a packed panel: a 1×16 tile of C, four columns at a time
// so that the sums stay in registers.
func tile1(c, a []float32, r int, b []float32) {
	for j := 0; j < 16; j += 4 {
		o := c[j : j+4 : j+4]
		s0, s1, s2, s3 := o[0], o[1], o[2], o[3]
		q := j
		for i := r; i < len(a); i += 4 {
			x, v := a[i], b[q:q+4:q+4]
			s0 += x * v[0]
			s1 += x * v[1]
			s2 += x * v[2]
			s3 += x * v[3]
			q += 16
		}
		o[0], o[1], o[2], o[3] = s0, s1, s2, s3
	}
}

// expShift replaces x[i] by e^((x[i]-shift)*scale).
func expShift(x []float32, shift, scale float32) {
	for i, v := range x {
		x[i] = exp32((v - shift) * scale)
	}
}
