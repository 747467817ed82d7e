package engine

import (
	"errors"
	"math/rand/v2"
	"net"
	"strconv"
	"sync"
)

// Ports for programs that are told where to listen: below those that systems
// take by themselves for outgoing connections (from 32768 on Linux), as nobody
// holds one until its program listens.
const firstPort, endPort = 16_384, 32_768

var given = struct {
	sync.Mutex
	ports map[int]bool
}{ports: map[int]bool{}}

// FreePort is a port of loopback that nobody listens on, and that this process
// was not given before.
func FreePort() (int, error) {
	given.Lock()
	defer given.Unlock()
	var last error
	for range 1000 {
		port := firstPort + rand.IntN(endPort-firstPort)
		if given.ports[port] {
			last = errors.New("all ports were given before")
			continue
		}
		ln, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err != nil {
			last = err
			continue
		}
		given.ports[port] = true
		return port, ln.Close()
	}
	return 0, last
}
