package openai

import (
	"bytes"
	"errors"
	"io"
)

// ErrTooLong is returned for an event or value above the reader's limit.
var ErrTooLong = errors.New("event or value is too long")

// Event is one server-sent event. Its slices are valid until the next call of
// Next.
type Event struct {
	// Raw is exactly what was read, the blank line that ends it included. All
	// Raws together are the stream.
	Raw []byte
	// Data is what the data lines carry, joined by line feeds; nil if there is
	// none (a comment, for instance).
	Data []byte
	// Name is the event's type, "" for the usual kind.
	Name string
	// Complete is false for a last event without its blank line.
	Complete bool
}

// IsDone reports whether the event is the end mark of the OpenAI API.
func (e Event) IsDone() bool { return string(bytes.TrimSpace(e.Data)) == "[DONE]" }

// EventReader splits a stream of server-sent events. Lines may end in \n, \r\n
// or \r, pieces may arrive in any division, the last blank line may be missing.
type EventReader struct {
	in   window
	data []byte // joined data of the current event
}

// NewEventReader reads events of at most maxEvent bytes from r.
func NewEventReader(r io.Reader, maxEvent int) *EventReader {
	return &EventReader{in: window{r: r, max: maxEvent}}
}

// Next returns the next event. The error is io.EOF at the end, ErrTooLong, or
// r's own; then an unfinished event is lost.
func (er *EventReader) Next() (Event, error) {
	er.in.drop()
	ev := Event{}
	er.data = er.data[:0]
	var (
		line  int // where the current line begins
		at    int // how far the line end was looked for
		lines int // data lines so far
		empty = true
	)
	for {
		end, next := er.lineEnd(at)
		if end < 0 {
			at = next
			switch err := er.in.fill(); {
			case err == nil:
				continue
			case !errors.Is(err, io.EOF):
				return Event{}, err
			}
			b := er.in.bytes()
			if end = len(b); end > line && b[end-1] == '\r' {
				end--
				ev.Complete = end == line
			}
			if end > line {
				lines = er.field(&ev, line, end, lines)
			} else if empty {
				return Event{}, io.EOF
			}
			ev.Raw = er.in.take(len(b))
			return er.finish(ev, lines), nil
		}
		if end == line && !empty {
			ev.Complete = true
			ev.Raw = er.in.take(next)
			return er.finish(ev, lines), nil
		}
		// A blank line before any other belongs to the event that follows.
		if end > line {
			empty = false
			lines = er.field(&ev, line, end, lines)
		}
		line, at = next, next
	}
}

// lineEnd looks from at for the end of a line and returns it and where the next
// one begins, or -1 and from where to look when more has come.
func (er *EventReader) lineEnd(at int) (end, next int) {
	b := er.in.bytes()
	end = len(b)
	if i := bytes.IndexByte(b[at:], '\n'); i >= 0 {
		end = at + i
	}
	if i := bytes.IndexByte(b[at:end], '\r'); i >= 0 {
		end = at + i
	}
	if end == len(b) {
		return -1, len(b)
	}
	switch {
	case b[end] == '\n':
		return end, end + 1
	case end+1 == len(b):
		return -1, end // \r\n may be cut in two
	case b[end+1] == '\n':
		return end, end + 2
	}
	return end, end + 1
}

// field takes in the line [start,end) and returns the number of data lines.
func (er *EventReader) field(ev *Event, start, end, lines int) int {
	line := er.in.bytes()[start:end]
	line = bytes.TrimPrefix(line, []byte("\xef\xbb\xbf"))
	name, value, _ := bytes.Cut(line, []byte(":"))
	value = bytes.TrimPrefix(value, []byte(" "))
	switch string(name) {
	case "data":
		if lines > 0 {
			er.data = append(er.data, '\n')
		}
		er.data = append(er.data, value...)
		lines++
	case "event":
		ev.Name = string(value)
	}
	return lines
}

func (er *EventReader) finish(ev Event, lines int) Event {
	if lines > 0 {
		ev.Data = er.data[:len(er.data):len(er.data)]
	}
	return ev
}

// ValueReader splits a body into JSON values, with or without white space
// between them: one JSON answer, or one value a line. It looks at each byte
// once, however the pieces arrive.
type ValueReader struct {
	in window
}

// NewValueReader reads values of at most maxValue bytes from r.
func NewValueReader(r io.Reader, maxValue int) *ValueReader {
	return &ValueReader{in: window{r: r, max: maxValue}}
}

// Next returns the next value without the white space around it, valid until
// the next call. The error is io.EOF at the end, io.ErrUnexpectedEOF inside a
// value, ErrSyntax, ErrTooDeep, ErrTooLong, or r's own.
func (vr *ValueReader) Next() ([]byte, error) {
	vr.in.drop()
	for {
		b := vr.in.bytes()
		if n := skipSpace(b, 0); n > 0 {
			vr.in.take(n)
			vr.in.drop()
			continue
		}
		if len(b) > 0 {
			break
		}
		if err := vr.in.fill(); err != nil {
			return nil, err
		}
	}
	s := split{}
	at := 0
	for {
		b := vr.in.bytes()
		for ; at < len(b); at++ {
			if done, with := s.step(b[at]); done {
				if with {
					at++
				}
				return vr.value(at)
			}
		}
		switch err := vr.in.fill(); {
		case err == nil:
		case !errors.Is(err, io.EOF):
			return nil, err
		case s.scalar:
			return vr.value(at)
		default:
			return nil, io.ErrUnexpectedEOF
		}
	}
}

func (vr *ValueReader) value(n int) ([]byte, error) {
	v := vr.in.take(n)
	if err := Valid(v); err != nil {
		return nil, err
	}
	return v, nil
}

// split finds where a value ends, byte by byte, without judging it.
type split struct {
	depth            int
	inString, escape bool
	scalar           bool // a number or word, which ends before what follows
	begun            bool
}

// step takes one byte and reports whether the value ends here, and whether the
// byte is its last one or already the next value's.
func (s *split) step(c byte) (done, with bool) {
	switch {
	case s.escape:
		s.escape = false
	case s.inString:
		switch c {
		case '\\':
			s.escape = true
		case '"':
			s.inString = false
			return s.depth == 0, true
		}
	case c == '"':
		if s.scalar {
			return true, false
		}
		s.inString = true
	case c == '{' || c == '[':
		if s.scalar {
			return true, false
		}
		s.depth++
	case c == '}' || c == ']':
		if s.scalar {
			return true, false
		}
		s.depth--
		return s.depth <= 0, true
	case s.depth == 0:
		if s.begun && (c == ' ' || c == '\n' || c == '\r' || c == '\t') {
			return true, false
		}
		s.scalar = true
	}
	s.begun = true
	return false, false
}

// window is a growing view of a reader's next bytes.
type window struct {
	r          io.Reader
	max        int
	buf        []byte
	start, end int  // unread bytes
	taken      int  // bytes handed out, dropped by the next drop
	full       bool // the last read filled all the room there was
	err        error
}

func (w *window) bytes() []byte { return w.buf[w.start:w.end] }

// take hands out the first n bytes; they stay valid until fill.
func (w *window) take(n int) []byte {
	w.taken = n
	return w.buf[w.start : w.start+n : w.start+n]
}

func (w *window) drop() {
	w.start += w.taken
	w.taken = 0
	if w.start == w.end {
		w.start, w.end = 0, 0
	}
}

// fill reads more bytes behind those there are. It fails with ErrTooLong if
// there are max already.
func (w *window) fill() error {
	if w.err != nil {
		return w.err
	}
	if w.end-w.start >= w.max {
		return ErrTooLong
	}
	if w.start > 0 && len(w.buf)-w.end < 512 {
		copy(w.buf, w.buf[w.start:w.end])
		w.start, w.end = 0, w.end-w.start
	}
	// A reader that fills what it is given has more; one of paced events can do
	// with little.
	if len(w.buf)-w.end < 512 || w.full && len(w.buf) < 16<<10 {
		grown := make([]byte, max(1024, 2*len(w.buf)))
		copy(grown, w.buf[:w.end])
		w.buf = grown
	}
	room := w.buf[w.end:]
	if left := w.max - (w.end - w.start); len(room) > left {
		room = room[:left]
	}
	for range 100 {
		n, err := w.r.Read(room)
		if n < 0 || n > len(room) {
			n, err = 0, errors.New("reader returned an impossible count")
		}
		w.end += n
		w.full = n == len(room)
		w.err = err
		if n > 0 {
			return nil
		}
		if err != nil {
			return err
		}
	}
	w.err = io.ErrNoProgress
	return w.err
}
