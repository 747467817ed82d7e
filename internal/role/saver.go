package role

import "sync"

// Saver writes values one after another on a goroutine of its own, always the
// newest: whoever reads a connection does not wait for the disk. Who acts on a
// value reads it from where it was written.
type Saver[T any] struct {
	Write func(T)

	mu   sync.Mutex
	next *T
	idle chan struct{} // closed when all is written; nil = nothing to write
}

// Save has v written soon, or what is saved after it.
func (s *Saver[T]) Save(v T) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.next = &v
	if s.idle == nil {
		s.idle = make(chan struct{})
		go s.run()
	}
}

func (s *Saver[T]) run() {
	for {
		s.mu.Lock()
		v := s.next
		s.next = nil
		if v == nil {
			close(s.idle)
			s.idle = nil
			s.mu.Unlock()
			return
		}
		s.mu.Unlock()
		s.Write(*v)
	}
}

// Wait returns when all that was saved is written.
func (s *Saver[T]) Wait() {
	s.mu.Lock()
	idle := s.idle
	s.mu.Unlock()
	if idle != nil {
		<-idle
	}
}
