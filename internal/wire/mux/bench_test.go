package mux_test

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"math/big"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cocoon-network/cocoon/internal/wire/mux"
	"github.com/cocoon-network/cocoon/internal/wire/schema"
)

// overTLS wraps a TCP connection in TLS 1.3 with an Ed25519 certificate.
func overTLS(t testing.TB) (dialer, acceptor net.Conn) {
	t.Helper()
	pub, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, pub, key)
	if err != nil {
		t.Fatal(err)
	}
	cfg := &tls.Config{
		Certificates:       []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}},
		MinVersion:         tls.VersionTLS13,
		InsecureSkipVerify: true,
	}
	d, a := tcp(t)
	return tls.Client(d, cfg), tls.Server(a, cfg)
}

// BenchmarkMessages sends parts of an answer, of the size of one token's
// event, from one end to the other.
func BenchmarkMessages(b *testing.B) {
	part := &schema.ClientQueryAnswerPartEx{Answer: make([]byte, 155)}
	for _, transport := range []struct {
		name    string
		connect func(testing.TB) (net.Conn, net.Conn)
	}{{"pipe", transports["pipe"]}, {"tcp", tcp}, {"tls", overTLS}} {
		for _, senders := range []int{1, 64} {
			b.Run(fmt.Sprintf("%s/senders=%d", transport.name, senders), func(b *testing.B) {
				near, far := transport.connect(b)
				var got atomic.Int64
				total, all := int64(-1), make(chan struct{})
				d, _ := pair(b, near, far, nil, handler{message: func(_ *mux.Conn, data []byte) {
					if got.Add(1) == atomic.LoadInt64(&total) {
						close(all)
					}
				}})
				atomic.StoreInt64(&total, int64(b.N))
				b.ReportAllocs()
				b.SetBytes(155)
				b.ResetTimer()
				var wg sync.WaitGroup
				for s := range senders {
					wg.Go(func() {
						for i := s; i < b.N; i += senders {
							if err := d.SendObject(b.Context(), part); err != nil {
								b.Error(err)
								return
							}
						}
					})
				}
				wg.Wait()
				<-all
				b.StopTimer()
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "msg/s")
			})
		}
	}
}

// BenchmarkRoundTrip sends a small message and waits until it comes back.
func BenchmarkRoundTrip(b *testing.B) {
	for _, transport := range []struct {
		name    string
		connect func(testing.TB) (net.Conn, net.Conn)
	}{{"pipe", transports["pipe"]}, {"tcp", tcp}, {"tls", overTLS}} {
		b.Run(transport.name, func(b *testing.B) {
			near, far := transport.connect(b)
			back := make(chan struct{}, 1)
			d, _ := pair(b, near, far,
				handler{message: func(*mux.Conn, []byte) { back <- struct{}{} }},
				handler{message: func(c *mux.Conn, data []byte) { c.TrySend(data) }})
			msg := message(1)
			b.ReportAllocs()
			b.ResetTimer()
			for range b.N {
				if err := d.Send(b.Context(), msg); err != nil {
					b.Fatal(err)
				}
				<-back
			}
		})
	}
}
