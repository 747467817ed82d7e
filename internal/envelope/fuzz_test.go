package envelope

import (
	"bytes"
	"testing"
)

// FuzzOpen: nothing a proxy sends makes a worker fail, and what opens is what
// was sealed.
func FuzzOpen(f *testing.F) {
	a := newMachine(f, 1)
	s := a.session(f, 0)
	for range 3 {
		_, msg := seal(f, s)
		f.Add(msg)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if m, err := ParseMessage(b); err == nil {
			if !bytes.Equal(m.Encode(), b) {
				t.Error("not canonical")
			}
			if e, err := ParseEnvelope(m.Envelope); err == nil && (len(e.Wraps) == 0 || e.Header.Timeout <= 0) {
				t.Errorf("taken: %+v", e.Header)
			}
		}
		if o, err := a.lane.Open(0, b); err == nil && !bytes.Equal(o.Request, testRequest) {
			t.Error("opened what was not sealed")
		}
	})
}

// FuzzFrame: nothing a proxy makes of a frame opens.
func FuzzFrame(f *testing.F) {
	a := newMachine(f, 1)
	s := a.session(f, 0)
	c, msg := seal(f, s)
	o, err := a.lane.Open(0, msg)
	if err != nil {
		f.Fatal(err)
	}
	acc, w, err := o.Accept(a.sign)
	if err != nil {
		f.Fatal(err)
	}
	box, err := w.Seal(Frame{Head: []byte("head"), Body: []byte("body")}, nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(acc)
	f.Add(box)
	f.Fuzz(func(t *testing.T, b []byte) {
		c.accepted = false
		r, err := c.Accept(acc)
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := r.Open(bytes.Clone(b)); err == nil && !bytes.Equal(b, box) {
			t.Error("opened what was not sealed")
		}
		_, _ = ParseFrame(b)
		_, _ = ParseAcceptance(b)
		c.accepted = false
		if _, err := c.Accept(b); err == nil && !bytes.Equal(b, acc) {
			t.Error("accepted what was not signed")
		}
	})
}
