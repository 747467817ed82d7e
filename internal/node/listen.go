package node

import (
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
)

// Listeners hands out listening sockets: inherited ones by name, as systemd
// passes them (LISTEN_FDS, LISTEN_FDNAMES), else newly opened ones. `up` holds
// the sockets of its children this way, so that connections wait while a
// killed child is being restarted.
type Listeners struct {
	mu        sync.Mutex
	inherited map[string]*os.File
	given     map[string]net.Listener
}

// Give lets ln be what Listen returns for name.
func (l *Listeners) Give(name string, ln net.Listener) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.given == nil {
		l.given = map[string]net.Listener{}
	}
	l.given[name] = ln
}

// LeashVariable tells a child of `up` that its standard input ends with its
// parent.
const LeashVariable = "COCOON_LEASH"

// firstFD is where inherited descriptors begin.
const firstFD = 3

// InheritListeners reads the environment of a process that was handed
// sockets.
func InheritListeners(getenv func(string) string) (*Listeners, error) {
	l := &Listeners{inherited: map[string]*os.File{}}
	if getenv("LISTEN_FDS") == "" {
		return l, nil
	}
	if pid := getenv("LISTEN_PID"); pid != "" && pid != strconv.Itoa(os.Getpid()) {
		return l, nil
	}
	n, err := strconv.Atoi(getenv("LISTEN_FDS"))
	names := strings.Split(getenv("LISTEN_FDNAMES"), ":")
	if err != nil || n != len(names) || n > 16 {
		return nil, fmt.Errorf("environment: LISTEN_FDS=%q does not fit LISTEN_FDNAMES=%q", getenv("LISTEN_FDS"), getenv("LISTEN_FDNAMES"))
	}
	for i, name := range names {
		l.inherited[name] = os.NewFile(uintptr(firstFD+i), name)
	}
	return l, nil
}

// Inherited returns the socket of that name that was handed over, nil if there
// is none.
func (l *Listeners) Inherited(name string) (net.Listener, error) {
	l.mu.Lock()
	f := l.inherited[name]
	delete(l.inherited, name)
	given := l.given[name]
	l.mu.Unlock()
	if given != nil || f == nil {
		return given, nil
	}
	defer f.Close()
	ln, err := net.FileListener(f)
	if err != nil {
		return nil, fmt.Errorf("inherited socket %q: %w", name, err)
	}
	return ln, nil
}

// Listen returns the inherited socket of that name, or opens addr.
func (l *Listeners) Listen(name, addr string) (net.Listener, error) {
	if ln, err := l.Inherited(name); ln != nil || err != nil {
		return ln, err
	}
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("cannot listen on %s for %s: %w; stop what uses the port or configure another one", addr, name, err)
	}
	return ln, nil
}

// bounded is a listener that has at most so many connections open at one time:
// more wait in the system's queue, where they take none of our memory.
type bounded struct {
	net.Listener
	places chan struct{}
	ended  chan struct{}
	once   sync.Once
}

func newBounded(ln net.Listener, most int) *bounded {
	return &bounded{Listener: ln, places: make(chan struct{}, most), ended: make(chan struct{})}
}

// Accept implements net.Listener.
func (l *bounded) Accept() (net.Conn, error) {
	select {
	case l.places <- struct{}{}:
	case <-l.ended:
		return nil, net.ErrClosed
	}
	c, err := l.Listener.Accept()
	if err != nil {
		<-l.places
		return nil, err
	}
	return &boundedConn{Conn: c, leave: sync.OnceFunc(func() { <-l.places })}, nil
}

// Close implements net.Listener.
func (l *bounded) Close() error {
	l.once.Do(func() { close(l.ended) })
	return l.Listener.Close()
}

type boundedConn struct {
	net.Conn
	leave func()
}

// Close implements net.Conn.
func (c *boundedConn) Close() error {
	defer c.leave()
	return c.Conn.Close()
}
