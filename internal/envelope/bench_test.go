package envelope

import "testing"

// What sealing costs a request, without signatures beside the acceptance's.
func BenchmarkRequest(b *testing.B) {
	a := newMachine(b, 1)
	s := a.session(b, 0)
	body := make([]byte, 1500)
	end := [32]byte{1}
	for b.Loop() {
		s.uses = 0
		c, msg, err := Seal(header(), body, testSalt, []*Session{s})
		if err != nil {
			b.Fatal(err)
		}
		o, err := a.lane.Open(0, msg)
		if err != nil {
			b.Fatal(err)
		}
		clear(a.ring.keys[0].requests)
		for _, x := range a.ring.keys[0].sessions {
			x.uses = 0
		}
		acc, w, err := o.Accept(a.sign)
		if err != nil {
			b.Fatal(err)
		}
		r, err := c.Accept(acc)
		if err != nil {
			b.Fatal(err)
		}
		box, err := w.Seal(Frame{Head: body[:100], Body: body[:400], End: &end}, nil)
		if err != nil {
			b.Fatal(err)
		}
		if _, _, err := r.Open(box); err != nil {
			b.Fatal(err)
		}
	}
}

// What one token of a stream costs both ends.
func BenchmarkFrame(b *testing.B) {
	a := newMachine(b, 1)
	c, msg := seal(b, a.session(b, 0))
	o, err := a.lane.Open(0, msg)
	if err != nil {
		b.Fatal(err)
	}
	acc, w, err := o.Accept(a.sign)
	if err != nil {
		b.Fatal(err)
	}
	r, err := c.Accept(acc)
	if err != nil {
		b.Fatal(err)
	}
	body := make([]byte, 200)
	for b.Loop() {
		box, err := w.Seal(Frame{Body: body}, nil)
		if err != nil {
			b.Fatal(err)
		}
		if _, _, err := r.Open(box); err != nil {
			b.Fatal(err)
		}
	}
}

// What a session costs, once for 256 requests.
func BenchmarkSetup(b *testing.B) {
	a := newMachine(b, 1)
	for b.Loop() {
		s := a.session(b, 0)
		if _, err := exportKEK(s.enc, a.ring.keys[0].private, s.Worker.Statement); err != nil {
			b.Fatal(err)
		}
	}
}
