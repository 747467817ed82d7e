package schema_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"os"
	"testing"

	"github.com/cocoon-network/cocoon/internal/wire"
	"github.com/cocoon-network/cocoon/internal/wire/schema"
)

// captures are the recordings in testdata: how many bytes of SOCKS5 come
// first and whether peer information follows.
var captures = []struct {
	file     string
	skip     int
	preamble bool
}{
	{"april/client-router-1.c2s.bin", 13, false},
	{"april/client-router-1.s2c.bin", 12, true},
	{"april/proxykm-router-1.c2s.bin", 13, false},
	{"april/proxykm-router-1.s2c.bin", 12, true},
	{"april/router-keymanager-1.c2s.bin", 0, true},
	{"april/router-keymanager-1.s2c.bin", 0, false},
	{"april/router-proxy-client-1.c2s.bin", 0, true},
	{"april/router-proxy-client-1.s2c.bin", 0, false},
	{"april/router-proxy-worker-1.c2s.bin", 0, true},
	{"april/router-proxy-worker-1.s2c.bin", 0, false},
	{"april/worker-router-1.c2s.bin", 13, false},
	{"april/worker-router-1.s2c.bin", 12, true},
	{"december/client-router-1.c2s.bin", 13, false},
	{"december/client-router-1.s2c.bin", 12, true},
	{"december/router-proxy-client-1.c2s.bin", 0, true},
	{"december/router-proxy-client-1.s2c.bin", 0, false},
	{"december/router-proxy-worker-1.c2s.bin", 0, true},
	{"december/router-proxy-worker-1.s2c.bin", 0, false},
	{"december/worker-router-1.c2s.bin", 13, false},
	{"december/worker-router-1.s2c.bin", 12, true},
}

// split returns the packets of one direction of a connection.
func split(b []byte, skip int, preamble bool) ([][]byte, error) {
	b = b[skip:]
	if preamble {
		b = b[4+binary.LittleEndian.Uint32(b):]
	}
	var frames [][]byte
	for len(b) > 0 {
		if len(b) < 8 {
			return nil, errors.New("half a packet header")
		}
		n, seqno := binary.LittleEndian.Uint32(b), binary.LittleEndian.Uint32(b[4:])
		if n < wire.MinPacket || int(n) > len(b)-8 {
			return nil, fmt.Errorf("packet %d has %d of %d bytes", len(frames), len(b)-8, n)
		}
		if int(seqno) != len(frames) {
			return nil, fmt.Errorf("packet %d has seqno %d", len(frames), seqno)
		}
		frames = append(frames, b[8:8+n])
		b = b[8+n:]
	}
	return frames, nil
}

// TestCaptures: all that running reference peers said parses, down to the HTTP
// inside, and encodes back to the same bytes.
func TestCaptures(t *testing.T) {
	seen := map[string]int{}
	for _, c := range captures {
		b, err := os.ReadFile("testdata/captures/" + c.file)
		if err != nil {
			t.Fatal(err)
		}
		frames, err := split(b, c.skip, c.preamble)
		if err != nil {
			t.Fatalf("%s: %v", c.file, err)
		}
		for i, frame := range frames {
			if err := check(frame, seen); err != nil {
				t.Errorf("%s, packet %d: %v", c.file, i, err)
			}
		}
	}
	// How often the recorder's own decoder saw each of them.
	want := map[string]int{
		"client.authorizationWithProxySuccess": 4, "client.authorizeWithProxyShort": 4, "client.connectToProxy": 4,
		"client.connectedToProxy": 4, "client.getWorkerTypesV2": 4, "client.workerTypesV2": 4, "client.paymentStatus": 18, "client.queryAnswerErrorEx": 12, "client.queryAnswerEx": 24,
		"client.queryAnswerPartEx": 64, "client.runQueryEx": 36, "client.updatePaymentStatus": 18, "http.request": 68,
		"http.response": 48, "keyManager.getProxyPrivateKeys": 14, "keyManager.privateKeys": 14, "proxy.clientRequestPayment": 32,
		"proxy.queryAnswerErrorEx": 8, "proxy.queryAnswerEx": 24, "proxy.queryAnswerPartEx": 64, "proxy.runQueryEx": 32,
		"proxy.workerRequestPayment": 32, "tcp.connect": 10, "tcp.connected": 10, "tcp.packet": 328, "tcp.ping": 30, "tcp.pong": 30,
		"tcp.query": 74, "tcp.queryAnswer": 74, "worker.compareBalanceWithProxy": 4, "worker.compareBalanceWithProxyResult": 4,
		"worker.connectToProxy": 4, "worker.connectedToProxy": 4, "worker.paymentStatus": 18, "worker.proxyHandshakeComplete": 4,
		"worker.proxyHandshakeCompleted": 4, "worker.updatePaymentStatus": 18,
	}
	if !maps.Equal(seen, want) {
		t.Errorf("seen %v, want %v", seen, want)
	}
}

// check decodes a boxed object and those inside its byte strings.
func check(b []byte, seen map[string]int) error {
	o, err := schema.DecodeCanonical(b)
	if err != nil {
		return err
	}
	if again := schema.Marshal(o); !bytes.Equal(again, b) {
		return fmt.Errorf("%s: %x encodes as %x", o.TLName(), b, again)
	}
	seen[o.TLName()]++
	switch o := o.(type) {
	case *schema.TcpPacket:
		return check(o.Data, seen)
	case *schema.TcpQuery:
		return check(o.Data, seen)
	case *schema.TcpQueryAnswer:
		return check(o.Data, seen)
	case *schema.ClientRunQueryEx:
		return check(o.Query, seen)
	case *schema.ProxyRunQueryEx:
		return check(o.Query, seen)
	case *schema.ClientQueryAnswerEx:
		return check(o.Answer, seen)
	case *schema.ProxyQueryAnswerEx:
		return check(o.Answer, seen)
	}
	return nil
}
