package main

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"math"

	"github.com/cocoon-network/cocoon/bench/topo"
)

// svg draws every ratio on a logarithmic line around 1, which is three nginx:
// a bar from 1 to the median, a thin line over the range, a tick at the goal.
// To the right is more of the quantity.
func (r *report) svg() []byte {
	const left, width, row, top = 330.0, 520.0, 18.0, 64.0
	const span = 3.0 // powers of two to each side
	x := func(ratio float64) float64 {
		l := math.Max(-span, math.Min(span, math.Log2(math.Max(ratio, 1e-9))))
		return left + width*(l+span)/(2*span)
	}
	colour := map[topo.Kind]string{topo.Haproxy3: "#8a8f98", topo.Ours0: "#5b8def", topo.Ours1: "#1f4fbf", topo.Sealed: "#7a3fbf", topo.Receipts: "#b04fbf"}
	var b bytes.Buffer
	text := func(x, y float64, size int, anchor, s string) {
		fmt.Fprintf(&b, `<text x="%.0f" y="%.0f" font-size="%d" text-anchor="%s">`, x, y, size, anchor)
		_ = xml.EscapeText(&b, []byte(s)) // a Buffer takes everything
		b.WriteString("</text>\n")
	}
	height := top + row*float64(len(r.Ratios)) + 40
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 960 %.0f" font-family="sans-serif" fill="#222"><rect width="960" height="%.0f" fill="#fff"/>`+"\n", height, height)
	text(16, 24, 16, "start", "Ratio to three nginx with mutual TLS 1.3, same run")
	note := fmt.Sprintf("%s, %d cores, %s; load average %s", r.Machine.CPU, r.Machine.Cores, r.Time.Format("2006-01-02"), r.Machine.Load)
	if len(r.Noise) > 0 {
		note = "NOISY MACHINE, NO VERDICT. " + note
	}
	text(16, 42, 11, "start", note)
	for _, v := range []float64{0.125, 0.25, 0.5, 1, 2, 4, 8} {
		fmt.Fprintf(&b, `<line x1="%.1f" x2="%.1f" y1="%.0f" y2="%.0f" stroke="#ddd"/>`+"\n", x(v), x(v), top-6, height-28)
		text(x(v), height-12, 10, "middle", fmt.Sprintf("%g", v))
	}
	for i, q := range r.Ratios {
		y := top + row*float64(i)
		text(left-8, y+11, 10, "end", fmt.Sprintf("%s %s · %s", q.Goal, q.Text, q.Topology))
		from, to := x(1), x(q.Median)
		fmt.Fprintf(&b, `<rect x="%.1f" y="%.1f" width="%.1f" height="9" fill="%s"/>`+"\n", math.Min(from, to), y+3, math.Max(math.Abs(to-from), 1), colour[q.Topology])
		fmt.Fprintf(&b, `<line x1="%.1f" x2="%.1f" y1="%.1f" y2="%.1f" stroke="#222" stroke-width="1"/>`+"\n", x(q.Low), x(q.High), y+7.5, y+7.5)
		fmt.Fprintf(&b, `<line x1="%.1f" x2="%.1f" y1="%.1f" y2="%.1f" stroke="#d33" stroke-width="2"/>`+"\n", x(q.Bar), x(q.Bar), y+1, y+14)
		text(left+width+12, y+11, 10, "start", fmt.Sprintf("%.2f", q.Median))
	}
	text(left+width+12, top-8, 9, "start", "median")
	b.WriteString("</svg>\n")
	return b.Bytes()
}
