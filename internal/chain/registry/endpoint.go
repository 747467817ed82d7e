package registry

import (
	"fmt"
	"net/netip"
	"strings"
)

// ParseProxy reads the text of a registered proxy: "ip:port" for both sides
// or "ip:port ip:port", workers first. IPv4 only; each may stand in square
// brackets (spec network-protocol 8.1).
func ParseProxy(seqno uint32, text string) (Proxy, error) {
	workers, clients, two := strings.Cut(text, " ")
	if !two {
		clients = workers
	}
	p := Proxy{Seqno: seqno}
	var err error
	if p.ForWorkers, err = ParseEndpoint(workers); err != nil {
		return Proxy{}, fmt.Errorf("proxy %d: %w", seqno, err)
	}
	if p.ForClients, err = ParseEndpoint(clients); err != nil {
		return Proxy{}, fmt.Errorf("proxy %d: %w", seqno, err)
	}
	return p, nil
}

// Text is the form ParseProxy reads.
func (p Proxy) Text() string {
	if p.ForWorkers == p.ForClients {
		return p.ForWorkers
	}
	return p.ForWorkers + " " + p.ForClients
}

// ParseEndpoint reads an IPv4 address and port, with or without square
// brackets around both, and returns it without.
func ParseEndpoint(text string) (string, error) {
	bare := text
	if inner, ok := strings.CutPrefix(text, "["); ok {
		bare, ok = strings.CutSuffix(inner, "]")
		if !ok {
			return "", fmt.Errorf("%q: the bracket is not closed", text)
		}
	}
	a, err := netip.ParseAddrPort(bare)
	if err != nil || !a.Addr().Is4() || a.Port() == 0 {
		return "", fmt.Errorf("%q is not an IPv4 address with a port", text)
	}
	return a.String(), nil
}
