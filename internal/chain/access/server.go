package access

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/xssnick/tonutils-go/tl"
	"github.com/xssnick/tonutils-go/ton"
)

// How long a server is left out after its first failure, and at most. Each
// further failure doubles the time; an honest answer ends the count of
// transport failures, but not that of lies.
const (
	faultBase, faultMax = time.Second, time.Minute
	lagBase, lagMax     = 5 * time.Second, 5 * time.Minute
	lieBase, lieMax     = time.Minute, 6 * time.Hour
)

// unknownLatency places a server that has not answered yet.
const unknownLatency = 300 * time.Millisecond

// waitSlack is what a query may take beyond the wait it asks for.
const waitSlack = 3 * time.Second

// server is one liteserver and how far it is to be relied upon.
type server struct {
	Server
	cfg *Config

	mu      sync.Mutex
	conn    *conn
	closed  bool
	dialing chan struct{} // closed when the dial under way has ended
	faults  int           // in a row
	lies    int           // ever
	out     time.Time     // left out until then; monotonic
	liar    bool          // left out for a lie: not even a last resort
	latency time.Duration // smoothed; 0 = not known
}

// isLie tells faults of the wire from answers no honest server gives.
func isLie(err error) bool {
	return errors.Is(err, ErrForged) || errors.Is(err, ErrFork) || errors.Is(err, ErrWrongNetwork) ||
		errors.Is(err, ErrMalformed) || errors.Is(err, ErrTooLarge)
}

// fail counts err against the server and leaves it out for a while.
func (s *server) fail(err error) {
	s.mu.Lock()
	var pause time.Duration
	s.liar = isLie(err)
	switch {
	case s.liar:
		pause = backoff(lieBase, lieMax, s.lies)
		s.lies++
	case errors.Is(err, ErrLagging) || errors.Is(err, ErrOldHead):
		pause = backoff(lagBase, lagMax, s.faults)
		s.faults++
	default:
		pause = backoff(faultBase, faultMax, s.faults)
		s.faults++
	}
	s.out = time.Now().Add(pause)
	s.mu.Unlock()
	s.cfg.Logger.Warn("liteserver left out", "server", s.Address, "reason", err, "for", pause)
}

func backoff(base, limit time.Duration, n int) time.Duration {
	if n > 16 {
		return limit
	}
	return min(base<<n, limit)
}

// good ends a row of faults.
func (s *server) good() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = 0
}

// standing says whether the server may be asked now, whether it may be asked
// when nobody else is left, and how fast it is.
func (s *server) standing() (usable, lastResort bool, latency time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	usable = !time.Now().Before(s.out)
	latency = s.latency
	if latency == 0 {
		latency = unknownLatency
	}
	return usable, usable || !s.liar, latency
}

// connection returns the open connection or opens one; callers at the same
// time share the dial. fresh says that it was opened just now.
func (s *server) connection(ctx context.Context) (_ *conn, fresh bool, _ error) {
	for {
		s.mu.Lock()
		if s.closed {
			s.mu.Unlock()
			return nil, false, noted(ErrUnreachable, "the client is closed")
		}
		if c := s.conn; c != nil {
			select {
			case <-c.done:
				s.conn = nil
			default:
				s.mu.Unlock()
				return c, false, nil
			}
		}
		wait := s.dialing
		if wait == nil {
			s.dialing = make(chan struct{})
			s.mu.Unlock()
			c, err := dial(ctx, s.cfg, s.Server)
			s.mu.Lock()
			defer s.mu.Unlock()
			close(s.dialing)
			s.dialing = nil
			if err == nil && s.closed {
				err = noted(ErrUnreachable, "the client is closed")
				c.close(err)
			}
			s.conn = c
			return c, true, err
		}
		s.mu.Unlock()
		select {
		case <-wait:
		case <-ctx.Done():
			return nil, false, ctx.Err()
		}
	}
}

func (s *server) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	if s.conn != nil {
		s.conn.close(noted(ErrUnreachable, "the client is closed"))
		s.conn = nil
	}
}

// queryWait is query for what the server holds once its masterchain has
// reached seqno, for which it is given the time wait.
func (s *server) queryWait(ctx context.Context, seqno uint32, wait time.Duration, query tl.Serializable) (tl.Serializable, error) {
	b, err := tl.Serialize(query, true)
	if err != nil {
		return nil, err
	}
	prefix := binary.LittleEndian.AppendUint32(nil, tlWait)
	prefix = binary.LittleEndian.AppendUint32(prefix, seqno)
	prefix = binary.LittleEndian.AppendUint32(prefix, uint32(wait/time.Millisecond))
	return s.send(ctx, append(prefix, b...), wait+min(waitSlack, s.cfg.Timeout))
}

var tlWait = tl.CRC("liteServer.waitMasterchainSeqno seqno:int timeout_ms:int = Object")

// query asks one thing. The error is the caller's (ctx) or one of the server
// sentinels.
func (s *server) query(ctx context.Context, query tl.Serializable) (tl.Serializable, error) {
	b, err := tl.Serialize(query, true)
	if err != nil {
		return nil, err
	}
	return s.send(ctx, b, s.cfg.Timeout)
}

func (s *server) send(ctx context.Context, query []byte, timeout time.Duration) (_ tl.Serializable, err error) {
	parent := ctx
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	begin := time.Now()
	c, fresh, err := s.connection(ctx)
	var raw []byte
	if err == nil {
		raw, err = c.query(ctx, query)
	}
	if errors.Is(err, ErrUnreachable) && !fresh {
		// The server may have closed a connection that was long open.
		if c, _, err = s.connection(ctx); err == nil {
			raw, err = c.query(ctx, query)
		}
	}
	if err != nil {
		if parent.Err() != nil {
			return nil, parent.Err()
		}
		if errors.Is(err, context.DeadlineExceeded) {
			err = noted(ErrStalled, fmt.Sprintf("nothing within %s", timeout))
			if c != nil {
				c.close(err)
			}
		}
		return nil, err
	}
	answer, err := parseAnswer(raw)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	if took := time.Since(begin); s.latency == 0 {
		s.latency = took
	} else {
		s.latency = (3*s.latency + took) / 4
	}
	s.mu.Unlock()
	return answer, nil
}

// parseAnswer reads a TL answer. A liteServer.error is returned as
// *refusal.
func parseAnswer(raw []byte) (answer tl.Serializable, err error) {
	defer guard(&err)
	rest, err := tl.Parse(&answer, raw, true)
	if err != nil {
		return nil, noted(ErrMalformed, err)
	}
	if len(rest) != 0 {
		return nil, noted(ErrMalformed, fmt.Sprintf("%d bytes left over", len(rest)))
	}
	if e, ok := answer.(ton.LSError); ok {
		return nil, &refusal{code: e.Code, text: printable(e.Text)}
	}
	return answer, nil
}

// refusal is a liteServer.error.
type refusal struct {
	code int32
	text string
}

func (r *refusal) Error() string { return fmt.Sprintf("%v: code %d: %s", ErrRefused, r.code, r.text) }

func (r *refusal) Unwrap() error { return ErrRefused }

// notReady tells the codes of a server that does not have the block (yet).
func notReady(err error) bool {
	var r *refusal
	return errors.As(err, &r) && (r.code == 651 || r.code == 652 || r.code == -400)
}

// printable bounds a foreign text for logs and errors.
func printable(s string) string {
	const limit = 200
	if len(s) > limit {
		s = s[:limit] + "…"
	}
	b := []rune(s)
	for i, r := range b {
		if r < ' ' || r == 0x7f || r == 0xfffd {
			b[i] = '?'
		}
	}
	return string(b)
}

// ask is query with the answer's type checked.
func ask[T any](ctx context.Context, s *server, query tl.Serializable) (T, error) {
	answer, err := s.query(ctx, query)
	return typed[T](answer, err)
}

func typed[T any](answer tl.Serializable, err error) (T, error) {
	var zero T
	if err != nil {
		return zero, err
	}
	t, ok := answer.(T)
	if !ok {
		return zero, noted(ErrMalformed, fmt.Sprintf("%T in answer to a query for %T", answer, zero))
	}
	return t, nil
}
