package cli

import (
	"bufio"
	"context"
	"io"
	"os"
)

// lineReader reads lines and can be given up while it waits for one.
type lineReader struct {
	lines chan string
	err   error // valid when lines is closed
}

func newLineReader(r io.Reader, limit int) *lineReader {
	l := &lineReader{lines: make(chan string)}
	go func() {
		defer close(l.lines)
		s := bufio.NewScanner(r)
		s.Buffer(nil, limit)
		for s.Scan() {
			l.lines <- s.Text()
		}
		l.err = s.Err()
	}()
	return l
}

// next returns the next line, io.EOF at the end of input.
func (l *lineReader) next(ctx context.Context) (string, error) {
	select {
	case line, ok := <-l.lines:
		if ok {
			return line, nil
		}
		if l.err != nil {
			return "", l.err
		}
		return "", io.EOF
	case <-ctx.Done():
		return "", ctx.Err()
	}
}

// asWriter lets terminal look at standard input.
func asWriter(r io.Reader) io.Writer {
	if f, ok := r.(*os.File); ok {
		return f
	}
	return io.Discard
}
