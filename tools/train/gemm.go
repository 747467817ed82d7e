package main

const (
	mBlock = 256 // rows of A packed together: 256 KB, for the second-level cache
	kBlock = 256 // steps packed together: a panel of B is 16 KB, for the first
)

// packing is the scratch memory of one goroutine.
type packing struct {
	a [mBlock * kBlock]float32 // [row/4][k][4]
	b [kBlock * 16]float32     // [k][16]
}

// gemm adds A·B to C: C[i,j] += Σ_k A[i,k]·B[k,j]. C and B are row-major with
// leading dimensions ldc and ldb; A is addressed by its two strides, so that a
// transposed A costs nothing. n must be a multiple of 16.
//
// Every C[i,j] is one chain of fused multiply-adds in the order of k, so
// results depend neither on the blocking nor on the vector width.
func (p *packing) gemm(c []float32, ldc int, a []float32, ai, ak int, b []float32, ldb, m, n, k int) {
	for k0 := 0; k0 < k; k0 += kBlock {
		kk := min(kBlock, k-k0)
		for i0 := 0; i0 < m; i0 += mBlock {
			rows := min(mBlock, m-i0)
			p.packA(a[i0*ai+k0*ak:], ai, ak, rows, kk)
			for j := 0; j < n; j += 16 {
				for t := range kk {
					copy(p.b[t*16:t*16+16], b[(k0+t)*ldb+j:(k0+t)*ldb+j+16])
				}
				i := 0
				for ; i+4 <= rows; i += 4 {
					tile4(c[(i0+i)*ldc+j:], ldc, p.a[i*kk:(i+4)*kk], p.b[:16*kk])
				}
				for r := range rows - i {
					tile1(c[(i0+i+r)*ldc+j:], p.a[i*kk:(i+4)*kk], r, p.b[:16*kk])
				}
			}
		}
	}
}

func (p *packing) packA(a []float32, ai, ak, rows, kk int) {
	for i := 0; i < rows; i += 4 {
		dst := p.a[i*kk : (i+4)*kk]
		if i+4 > rows {
			clear(dst)
			for r := range rows - i {
				for t := range kk {
					dst[4*t+r] = a[(i+r)*ai+t*ak]
				}
			}
			return
		}
		x := i * ai
		for t := range kk {
			d := dst[4*t : 4*t+4 : 4*t+4]
			d[0], d[1], d[2], d[3] = a[x], a[x+ai], a[x+2*ai], a[x+3*ai]
			x += ak
		}
	}
}

// transpose writes the rows×cols matrix src to dst as cols×rows.
func transpose(dst, src []float32, rows, cols int) {
	for i := range rows {
		for j, v := range src[i*cols : (i+1)*cols] {
			dst[j*rows+i] = v
		}
	}
}
