package assist

import (
	"strings"
	"unicode"
)

// Change is one step of a diff. Op is "equal", "delete" or "insert"; the texts
// of "equal" and "delete" make the old draft, those of "equal" and "insert"
// the new one.
type Change struct {
	Op   string `json:"op"`
	Text string `json:"text"`
}

// Diff compares two drafts word by word.
func Diff(old, new string) []Change {
	a, b := words(old), words(new)
	// What is equal at both ends needs no table.
	var head, tail int
	for head < len(a) && head < len(b) && a[head] == b[head] {
		head++
	}
	for tail < len(a)-head && tail < len(b)-head && a[len(a)-1-tail] == b[len(b)-1-tail] {
		tail++
	}
	var d diff
	d.put("equal", a[:head]...)
	d.middle(a[head:len(a)-tail], b[head:len(b)-tail])
	d.put("equal", a[len(a)-tail:]...)
	return d.changes
}

// maxTable bounds the table of a comparison; longer middles are one
// replacement.
const maxTable = 4 << 20

type diff struct{ changes []Change }

func (d *diff) put(op string, texts ...string) {
	for _, s := range texts {
		if n := len(d.changes); n > 0 && d.changes[n-1].Op == op {
			d.changes[n-1].Text += s
			continue
		}
		d.changes = append(d.changes, Change{op, s})
	}
}

// middle takes the longest common subsequence of words.
func (d *diff) middle(a, b []string) {
	if (len(a)+1)*(len(b)+1) > maxTable {
		d.put("delete", a...)
		d.put("insert", b...)
		return
	}
	w := len(b) + 1
	t := make([]int32, (len(a)+1)*w)
	for i := len(a) - 1; i >= 0; i-- {
		for j := len(b) - 1; j >= 0; j-- {
			if a[i] == b[j] {
				t[i*w+j] = t[(i+1)*w+j+1] + 1
			} else {
				t[i*w+j] = max(t[(i+1)*w+j], t[i*w+j+1])
			}
		}
	}
	i, j := 0, 0
	for i < len(a) || j < len(b) {
		switch {
		case i < len(a) && j < len(b) && a[i] == b[j]:
			d.put("equal", a[i])
			i, j = i+1, j+1
		case j == len(b) || i < len(a) && t[(i+1)*w+j] >= t[i*w+j+1]:
			d.put("delete", a[i])
			i++
		default:
			d.put("insert", b[j])
			j++
		}
	}
}

// words cuts s into words, spaces and single signs.
func words(s string) (out []string) {
	class := func(r rune) int {
		switch {
		case unicode.IsLetter(r) || unicode.IsNumber(r) || unicode.IsMark(r) || r == '\'' || r == '’':
			return 1
		case unicode.IsSpace(r):
			return 2
		}
		return 0
	}
	for len(s) > 0 {
		end, first := len(s), -1
		for i, r := range s {
			c := class(r)
			if first == -1 {
				first = c
				continue
			}
			if c != first || c == 0 {
				end = i
				break
			}
		}
		out = append(out, s[:end])
		s = s[end:]
	}
	return out
}

// distance is the number of characters to insert, delete or replace between a
// and b; beyond a thousand characters it says as many as there are.
func distance(a, b string) int {
	x, y := []rune(strings.ToLower(a)), []rune(strings.ToLower(b))
	if len(x) > 1000 || len(y) > 1000 {
		return max(len(x), len(y))
	}
	row := make([]int, len(y)+1)
	for j := range row {
		row[j] = j
	}
	for i := range x {
		last := row[0]
		row[0] = i + 1
		for j := range y {
			cost := 1
			if x[i] == y[j] {
				cost = 0
			}
			last, row[j+1] = row[j+1], min(row[j+1]+1, row[j]+1, last+cost)
		}
	}
	return row[len(y)]
}
