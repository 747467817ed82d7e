package load

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"time"

	"github.com/cocoon-network/cocoon/bench/engine"
)

// Conn is one kept connection to a gateway. It does what an HTTP/1.1 client
// must and no more, since every cycle it takes is taken from the measurement.
type Conn struct {
	addr string
	nc   net.Conn
	r    *bufio.Reader
	out  []byte
	body []byte
}

// Answer is what became of one request.
type Answer struct {
	First, Total time.Duration // to the first byte of the body, to the end
	Gaps         []time.Duration
	Chunks       int // pieces that came
	Cancelled    bool
}

// What can be wrong with an answer.
var (
	ErrRefused   = errors.New("refused")   // a status other than 200
	ErrTruncated = errors.New("truncated") // it ended early
	ErrWrong     = errors.New("wrong")     // not what was ordered
	ErrDial      = errors.New("no connection")
)

// NewConn makes a connection that is dialed when it is first needed.
func NewConn(addr string) *Conn { return &Conn{addr: addr} }

// Close closes the connection.
func (c *Conn) Close() {
	if c.nc != nil {
		c.nc.Close()
		c.nc = nil
	}
}

// answerTime bounds one answer; what takes longer is truncated.
const answerTime = 60 * time.Second

// Do sends an order and reads the answer to its end, checking each piece. With
// leave > 0 the caller hangs up after that many pieces. An error leaves the
// connection closed.
func (c *Conn) Do(o engine.Order, leave int) (a Answer, err error) {
	defer func() {
		if err != nil || a.Cancelled {
			c.Close()
		}
	}()
	if c.nc == nil {
		if c.nc, err = net.DialTimeout("tcp", c.addr, 10*time.Second); err != nil {
			return a, fmt.Errorf("%w: %v", ErrDial, err)
		}
		c.r = bufio.NewReaderSize(c.nc, 4<<10)
	}
	body := o.Body()
	c.out = fmt.Appendf(c.out[:0], "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n", len(body))
	c.out = append(c.out, body...)
	start := time.Now()
	_ = c.nc.SetDeadline(start.Add(answerTime))
	if _, err := c.nc.Write(c.out); err != nil {
		return a, fmt.Errorf("%w: %v", ErrTruncated, err)
	}
	length, err := c.head()
	if err != nil {
		return a, err
	}
	if !o.Stream {
		err = c.whole(o, length, start, &a)
	} else {
		err = c.stream(o, length, start, leave, &a)
	}
	a.Total = time.Since(start)
	return a, err
}

const chunked = -1

// head reads status and headers and returns the body's length.
func (c *Conn) head() (length int, err error) {
	line, err := c.line()
	if err != nil {
		return 0, err
	}
	if len(line) < 12 || !bytes.HasPrefix(line, []byte("HTTP/1.1 ")) {
		return 0, fmt.Errorf("%w: not HTTP", ErrWrong)
	}
	ok := string(line[9:12]) == "200"
	status := string(line[9:12])
	length = -2
	for {
		if line, err = c.line(); err != nil {
			return 0, err
		}
		if len(line) == 0 {
			break
		}
		name, value, _ := bytes.Cut(line, []byte(":"))
		value = bytes.TrimSpace(value)
		switch {
		case bytes.EqualFold(name, []byte("Content-Length")):
			if length, err = strconv.Atoi(string(value)); err != nil || length < 0 || length > 1<<24 {
				return 0, fmt.Errorf("%w: length", ErrWrong)
			}
		case bytes.EqualFold(name, []byte("Transfer-Encoding")):
			length = chunked
		}
	}
	switch {
	case !ok:
		return 0, fmt.Errorf("%w: status %s", ErrRefused, status)
	case length == -2:
		return 0, fmt.Errorf("%w: no length", ErrWrong)
	}
	return length, nil
}

// line reads a line without its end. It is valid until the next read.
func (c *Conn) line() ([]byte, error) {
	line, err := c.r.ReadSlice('\n')
	if err != nil {
		return nil, fmt.Errorf("%w: %v", ErrTruncated, err)
	}
	return bytes.TrimRight(line, "\r\n"), nil
}

// more appends the next piece of the body to c.body; io.EOF after the last.
func (c *Conn) more(length *int) error {
	n := *length
	if n == chunked {
		line, err := c.line()
		if err != nil {
			return err
		}
		size, err := strconv.ParseUint(string(line), 16, 24)
		if err != nil {
			return fmt.Errorf("%w: chunk size", ErrWrong)
		}
		n = int(size)
	} else {
		*length = 0
	}
	have := len(c.body)
	c.body = append(c.body, make([]byte, n)...)
	if _, err := io.ReadFull(c.r, c.body[have:]); err != nil {
		return fmt.Errorf("%w: %v", ErrTruncated, err)
	}
	if *length == chunked {
		if line, err := c.line(); err != nil || len(line) > 0 {
			return fmt.Errorf("%w: chunk end", ErrTruncated)
		}
	}
	if n == 0 {
		return io.EOF
	}
	return nil
}

func (c *Conn) whole(o engine.Order, length int, start time.Time, a *Answer) error {
	c.body = c.body[:0]
	for {
		err := c.more(&length)
		if a.First == 0 {
			a.First = time.Since(start)
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
	}
	want := make([]byte, 0, 64+o.Size*o.Chunks)
	want = append(want, `"content":"`...)
	for i := range o.Chunks {
		want = o.AppendContent(want, i)
	}
	want = append(want, '"')
	if !bytes.Contains(c.body, want) || !bytes.Contains(c.body, []byte(`"usage":`)) || !bytes.HasSuffix(bytes.TrimSpace(c.body), []byte("}")) {
		return fmt.Errorf("%w: body", ErrWrong)
	}
	a.Chunks = o.Chunks
	return nil
}

func (c *Conn) stream(o engine.Order, length int, start time.Time, leave int, a *Answer) error {
	c.body = c.body[:0]
	used, done, usage := 0, false, false
	var last time.Time
	want := make([]byte, 0, 64+o.Size)
	for {
		err := c.more(&length)
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
		now := time.Now()
		for {
			end := bytes.Index(c.body[used:], []byte("\n\n"))
			if end < 0 {
				break
			}
			event := bytes.TrimSpace(c.body[used : used+end])
			used += end + 2
			switch {
			case len(event) == 0 || event[0] == ':':
			case done:
				return fmt.Errorf("%w: something follows the end", ErrWrong)
			case bytes.Equal(event, []byte("data: [DONE]")):
				done = true
			case bytes.Contains(event, []byte(`"content":"<`)):
				want = o.AppendContent(append(want[:0], `"content":"`...), a.Chunks)
				if !bytes.Contains(event, append(want, '"')) {
					return fmt.Errorf("%w: piece %d", ErrWrong, a.Chunks)
				}
				if a.Chunks == 0 {
					a.First = now.Sub(start)
				} else {
					a.Gaps = append(a.Gaps, now.Sub(last))
				}
				last = now
				a.Chunks++
				if leave > 0 && a.Chunks == leave {
					a.Cancelled = true
					return nil
				}
			case bytes.Contains(event, []byte(`"error"`)):
				return fmt.Errorf("%w: %s", ErrTruncated, event[:min(len(event), 300)])
			case bytes.Contains(event, []byte(`"usage":{`)):
				usage = true
			}
		}
		if used == len(c.body) {
			c.body, used = c.body[:0], 0
		}
	}
	switch {
	case a.Chunks != o.Chunks || !done:
		return fmt.Errorf("%w: %d of %d pieces, end %v", ErrTruncated, a.Chunks, o.Chunks, done)
	case !usage:
		return fmt.Errorf("%w: no usage", ErrWrong)
	}
	return nil
}
