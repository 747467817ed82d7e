//go:build !tee

package node

import (
	"net"
	"strings"
	"testing"
)

// Addresses that others listen at are told in one line, whatever else failed.
func TestOpenings(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	addr := taken.Addr().String()
	var all openings
	c := &child{}
	defer c.closeSockets()
	all.note(c.open("a", "127.0.0.1:0"))
	if err := all.err(); err != nil || c.addr("a") == "" {
		t.Fatalf("%v, at %q", err, c.addr("a"))
	}
	all.note(c.open("b", addr), c.open("c", addr))
	text := all.err().Error()
	if strings.Count(text, addr) != 2 || strings.Count(text, "in use") != 1 || strings.Contains(text, "\n") {
		t.Errorf("%q", text)
	}
	all.note(c.open("d", "not an address"))
	if text := all.err().Error(); !strings.Contains(text, "not an address") || !strings.Contains(text, "in use") {
		t.Errorf("%q", text)
	}
}
