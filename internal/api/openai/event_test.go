package openai

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

type plainEvent struct {
	raw, data, name string
	complete        bool
}

func readEvents(t *testing.T, r io.Reader, limit int) (out []plainEvent, err error) {
	t.Helper()
	er := NewEventReader(r, limit)
	for {
		ev, err := er.Next()
		if err != nil {
			if errors.Is(err, io.EOF) {
				err = nil
			}
			return out, err
		}
		out = append(out, plainEvent{string(ev.Raw), string(ev.Data), ev.Name, ev.Complete})
	}
}

func TestEventReader(t *testing.T) {
	for _, c := range []struct {
		in   string
		want []plainEvent
	}{
		{"", nil},
		{"\n\n", nil},
		{"data: {}\n\n", []plainEvent{{"data: {}\n\n", "{}", "", true}}},
		{"data:{}\r\n\r\ndata: [DONE]\r\n\r\n", []plainEvent{{"data:{}\r\n\r\n", "{}", "", true}, {"data: [DONE]\r\n\r\n", "[DONE]", "", true}}},
		{"data: a\rdata: b\r\r", []plainEvent{{"data: a\rdata: b\r\r", "a\nb", "", true}}},
		{": hi\n\n\n\nevent: x\ndata:  a\nid: 7\ndata\n\n", []plainEvent{{": hi\n\n", "", "", true}, {"\n\nevent: x\ndata:  a\nid: 7\ndata\n\n", " a\n", "x", true}}},
		{"data: a", []plainEvent{{"data: a", "a", "", false}}},
		{"data: a\r", []plainEvent{{"data: a\r", "a", "", false}}},
		{"data: a\n", []plainEvent{{"data: a\n", "a", "", false}}},
		{"data: a\n\r\n", []plainEvent{{"data: a\n\r\n", "a", "", true}}},
		{"\ufeffdata: a\n\n", []plainEvent{{"\ufeffdata: a\n\n", "a", "", true}}},
		{"datax: a\nx\n\n", []plainEvent{{"datax: a\nx\n\n", "", "", true}}},
	} {
		for name, r := range map[string]io.Reader{
			"whole": strings.NewReader(c.in),
			"bytes": iotest.OneByteReader(strings.NewReader(c.in)),
			"eof":   iotest.DataErrReader(strings.NewReader(c.in)),
			"half":  iotest.HalfReader(strings.NewReader(c.in)),
		} {
			got, err := readEvents(t, r, 1000)
			if err != nil || len(got) != len(c.want) {
				t.Errorf("%q (%s): %+v, %v", c.in, name, got, err)
				continue
			}
			for i := range got {
				if got[i] != c.want[i] {
					t.Errorf("%q (%s): event %d is %+v, want %+v", c.in, name, i, got[i], c.want[i])
				}
			}
		}
	}
}

func TestEventReaderErrors(t *testing.T) {
	if _, err := readEvents(t, strings.NewReader("data: "+strings.Repeat("a", 100)+"\n\n"), 100); !errors.Is(err, ErrTooLong) {
		t.Errorf("long event: %v", err)
	}
	if _, err := readEvents(t, strings.NewReader(strings.Repeat("\n", 1000)), 100); !errors.Is(err, ErrTooLong) {
		t.Errorf("blank lines without end: %v", err)
	}
	boom := errors.New("boom")
	got, err := readEvents(t, io.MultiReader(strings.NewReader("data: a\n\ndata: b\n"), iotest.ErrReader(boom)), 100)
	if !errors.Is(err, boom) || len(got) != 1 {
		t.Errorf("broken stream: %+v, %v", got, err)
	}
}

// TestEventAtOnce holds that an event is returned with its blank line, without
// waiting for what follows.
func TestEventAtOnce(t *testing.T) {
	pr, pw := io.Pipe()
	defer pr.Close()
	go func() { _, _ = pw.Write([]byte("data: a\n\n")) }() // and then nothing more
	ev, err := NewEventReader(pr, 100).Next()
	if err != nil || string(ev.Data) != "a" {
		t.Fatalf("%q, %v", ev.Data, err)
	}
}

func FuzzEventReader(f *testing.F) {
	f.Add([]byte("data: {}\n\n: c\r\n\r\ndata: a\rdata: b\r\revent: e\ndata: [DONE]"), uint8(3))
	f.Fuzz(func(t *testing.T, b []byte, step uint8) {
		whole, err := readEvents(t, bytes.NewReader(b), len(b)+1)
		if err != nil {
			t.Fatal(err)
		}
		pieces, err := readEvents(t, &stepReader{b, int(step) + 1}, len(b)+1)
		if err != nil || len(whole) != len(pieces) {
			t.Fatalf("%+v and %+v, %v", whole, pieces, err)
		}
		var raw string
		for i := range whole {
			if whole[i] != pieces[i] {
				t.Fatalf("event %d: %+v and %+v", i, whole[i], pieces[i])
			}
			raw += whole[i].raw
		}
		// Only blank lines may be left over.
		if rest, ok := strings.CutPrefix(string(b), raw); !ok || strings.Trim(rest, "\r\n") != "" {
			t.Fatalf("%q lost %q", b, rest)
		}
	})
}

type stepReader struct {
	b []byte
	n int
}

func (s *stepReader) Read(p []byte) (int, error) {
	if len(s.b) == 0 {
		return 0, io.EOF
	}
	n := copy(p, s.b[:min(s.n, len(s.b))])
	s.b = s.b[n:]
	return n, nil
}

func readValues(r io.Reader, limit int) (out []string, err error) {
	vr := NewValueReader(r, limit)
	for {
		v, err := vr.Next()
		if err != nil {
			if errors.Is(err, io.EOF) {
				err = nil
			}
			return out, err
		}
		out = append(out, string(v))
	}
}

func TestValueReader(t *testing.T) {
	for _, c := range []struct {
		in   string
		want []string
		err  error
	}{
		{"", nil, nil},
		{" \n", nil, nil},
		{` {"a":[1,"}\""]} `, []string{`{"a":[1,"}\""]}`}, nil},
		{"{}\n{}\n", []string{"{}", "{}"}, nil},
		{`{}[]"x"1 2 null{}`, []string{"{}", "[]", `"x"`, "1", "2", "null", "{}"}, nil},
		{`12`, []string{"12"}, nil},
		{`{"a":1`, nil, io.ErrUnexpectedEOF},
		{`"a`, nil, io.ErrUnexpectedEOF},
		{`{"a":}`, nil, ErrSyntax},
		{`data: {}`, nil, ErrSyntax},
		{`{} }`, []string{"{}"}, ErrSyntax},
		{`{"a":"` + strings.Repeat("x", 200) + `"}`, nil, ErrTooLong},
		{strings.Repeat(" ", 500) + "1", []string{"1"}, nil},
	} {
		for name, r := range map[string]io.Reader{
			"whole": strings.NewReader(c.in),
			"bytes": iotest.OneByteReader(strings.NewReader(c.in)),
			"eof":   iotest.DataErrReader(strings.NewReader(c.in)),
		} {
			got, err := readValues(r, 100)
			if !errors.Is(err, c.err) || strings.Join(got, "|") != strings.Join(c.want, "|") {
				t.Errorf("%q (%s): %q, %v; want %q, %v", c.in, name, got, err, c.want, c.err)
			}
		}
	}
}

// TestValueAtOnce holds that an object is returned with its last byte.
func TestValueAtOnce(t *testing.T) {
	pr, pw := io.Pipe()
	defer pr.Close()
	go func() { _, _ = pw.Write([]byte(`{"a":1}`)) }()
	if v, err := NewValueReader(pr, 100).Next(); err != nil || string(v) != `{"a":1}` {
		t.Fatalf("%q, %v", v, err)
	}
}

func FuzzValueReader(f *testing.F) {
	f.Add([]byte("{\"a\":[1,\"}\"]}\n[1] 2 \"x\" true"), uint8(2))
	f.Fuzz(func(t *testing.T, b []byte, step uint8) {
		whole, err := readValues(bytes.NewReader(b), len(b)+1)
		pieces, err2 := readValues(&stepReader{b, int(step) + 1}, len(b)+1)
		if !errors.Is(err2, err) || strings.Join(whole, "\n") != strings.Join(pieces, "\n") {
			t.Fatalf("%q, %v and %q, %v", whole, err, pieces, err2)
		}
		for _, v := range whole {
			if Valid([]byte(v)) != nil {
				t.Fatalf("%q is no value", v)
			}
		}
	})
}

func BenchmarkEventReader(b *testing.B) {
	event := `data: {"id":"chatcmpl-0123456789","object":"chat.completion.chunk","created":1700000000,"model":"m","choices":[{"index":0,"delta":{"content":" token"},"logprobs":null,"finish_reason":null}]}` + "\n\n"
	stream := &repeat{s: event}
	er := NewEventReader(stream, 1<<20)
	b.ReportAllocs()
	b.SetBytes(int64(len(event)))
	for b.Loop() {
		if _, err := er.Next(); err != nil {
			b.Fatal(err)
		}
	}
}

// repeat is s without end, one at a read.
type repeat struct{ s string }

func (r *repeat) Read(p []byte) (int, error) { return copy(p, r.s), nil }
