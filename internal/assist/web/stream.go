package web

import (
	"encoding/json"
	"sync"
	"time"

	"github.com/cocoon-network/cocoon/internal/api/openai"
)

// stream is an answer as server-sent events: "draft" with what was added to a
// draft, then "result" with the whole result, or "error".
type stream struct {
	x      *exchange
	cancel func()
	stop   chan struct{}
	ended  sync.WaitGroup

	mu    sync.Mutex
	begun bool
	wrote time.Time
}

// openStream prepares a stream; its head is sent with the first event, so that
// requests refused at once have their true status. cancel stops the task of a
// caller who left.
func openStream(x *exchange, cancel func()) *stream {
	s := &stream{x: x, cancel: cancel, stop: make(chan struct{}), wrote: time.Now()}
	s.ended.Go(s.keepAlive)
	return s
}

// keepAlive writes comments while nothing else is to be said: what stands
// between may close a silent connection.
func (s *stream) keepAlive() {
	t := time.NewTicker(keepAlive / 3)
	defer t.Stop()
	for {
		select {
		case <-s.stop:
			return
		case <-t.C:
			s.mu.Lock()
			if time.Since(s.wrote) >= keepAlive {
				s.write([]byte(": working\n\n"))
			}
			s.mu.Unlock()
		}
	}
}

func (s *stream) close() {
	close(s.stop)
	s.ended.Wait()
}

// write sends b; s.mu is held.
func (s *stream) write(b []byte) {
	if !s.begun {
		s.begun = true
		h := s.x.w.Header()
		h.Set("Content-Type", "text/event-stream")
		h.Set("Cache-Control", "no-store")
		h.Set("X-Accel-Buffering", "no")
	}
	s.wrote = time.Now()
	_ = s.x.rc().SetWriteDeadline(s.wrote.Add(writeTimeout))
	if _, err := s.x.w.Write(b); err != nil || s.x.rc().Flush() != nil {
		s.cancel()
	}
}

func (s *stream) event(name string, data []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.write([]byte("event: " + name + "\ndata: " + string(data) + "\n\n"))
}

func (s *stream) draft(delta string) {
	b, err := json.Marshal(map[string]string{"text": delta})
	if err == nil {
		s.event("draft", b)
	}
}

// finish sends the end. An error before the first event is the whole answer.
func (s *stream) finish(v any, err error) error {
	var b []byte
	if err == nil {
		b, err = json.Marshal(v)
	}
	if err == nil {
		s.event("result", b)
		return nil
	}
	fail := openai.From(err)
	s.mu.Lock()
	begun := s.begun
	s.mu.Unlock()
	if !begun {
		return fail
	}
	if b, err = fail.MarshalJSON(); err == nil {
		s.event("error", b)
	}
	return fail
}
