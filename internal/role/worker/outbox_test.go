package worker

import (
	"errors"
	"io"
	"strings"
	"testing"
)

// pieces is an engine's body that comes in the given pieces.
type pieces struct {
	left []string
	wait func() // before each piece
}

func (p *pieces) Read(b []byte) (int, error) {
	p.wait()
	if len(p.left) == 0 {
		return 0, io.EOF
	}
	n := copy(b, p.left[0])
	p.left = p.left[1:]
	return n, nil
}

// TestOutbox: nothing waits for the engine, nothing is lost, a burst goes out
// in few parts, and a failure to send ends the reading.
func TestOutbox(t *testing.T) {
	var sent []string
	o := &outbox{send: func(b []byte) error { sent = append(sent, string(b)); return nil }}
	o.engine = &pieces{left: []string{"a", "b"}, wait: func() {
		if len(o.b) > 0 {
			t.Errorf("%q waits while the engine is asked for more", o.b)
		}
	}}
	buf := make([]byte, 16)
	for {
		n, err := o.Read(buf)
		if err == io.EOF {
			break
		}
		for range 3 {
			if err := o.add(buf[:n]); err != nil {
				t.Fatal(err)
			}
		}
	}
	if got := strings.Join(sent, "|"); got != "aaa|bbb" {
		t.Errorf("sent %q", got)
	}
	sent = nil
	for range 3 {
		if err := o.add(make([]byte, maxOutbox/2)); err != nil {
			t.Fatal(err)
		}
	}
	if len(sent) != 1 || len(sent[0]) != maxOutbox {
		t.Errorf("%d parts were sent of a long burst", len(sent))
	}
	broken := errors.New("broken")
	o.send = func([]byte) error { return broken }
	if _, err := o.Read(buf); err != broken {
		t.Errorf("reading went on: %v", err)
	}
	o.send = func([]byte) error { t.Error("sent after a failure"); return nil }
	if err := o.add(make([]byte, maxOutbox)); err != broken {
		t.Errorf("sending went on: %v", err)
	}
}
