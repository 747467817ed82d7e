package ratls

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha1"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"log/slog"
	"math/big"
	"sync"
	"time"

	"github.com/cocoon-network/cocoon/attest"
)

// Attester is the platform this process runs on: it makes evidence that binds
// 64 bytes.
type Attester interface {
	Attest(ctx context.Context, reportData [64]byte) (attest.Evidence, error)
}

// FakeAttester makes evidence that proves nothing, for facing test peers.
type FakeAttester struct{}

// Attest returns the report data itself.
func (FakeAttester) Attest(_ context.Context, data [64]byte) (attest.Evidence, error) {
	return attest.FakeEvidence(data), nil
}

// IdentityConfig describes our certificates.
type IdentityConfig struct {
	// Attester makes the evidence. nil: certificates carry none.
	Attester Attester
	// Lifetime is how long a certificate is valid. Zero: 24 hours.
	Lifetime time.Duration
	// Renew is the age at which another one, with a new key, takes its place.
	// Zero: 1 hour.
	Renew time.Duration
	// Now is the time certificates start at: the chain's in production, since
	// a host can set the clock. nil: time.Now.
	Now func() time.Time
	// Log gets failed renewals. nil discards.
	Log *slog.Logger
}

const (
	defaultLifetime = 24 * time.Hour
	defaultRenew    = time.Hour

	// slack dates certificates back, because peers judge dates by their own
	// clocks without any leeway.
	slack = time.Minute
	// renewPause is the time between two tries while the old certificate still
	// serves.
	renewPause = time.Minute
	// renewLimit bounds one try.
	renewLimit = time.Minute
)

// Identity holds our certificate and renews it when it is asked for one.
type Identity struct {
	cfg  IdentityConfig
	next func(ctx context.Context, now time.Time) (*tls.Certificate, error)

	mu       sync.Mutex
	current  *tls.Certificate
	made     time.Time
	tried    time.Time
	failure  error         // of the last try
	renewing chan struct{} // closed when the try under way ends; nil if none is
}

// NewIdentity makes an Identity. The first certificate is made when it is
// first needed.
func NewIdentity(cfg IdentityConfig) *Identity {
	if cfg.Lifetime <= 0 {
		cfg.Lifetime = defaultLifetime
	}
	if cfg.Renew <= 0 {
		cfg.Renew = defaultRenew
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	id := &Identity{cfg: cfg}
	id.next = id.issue
	return id
}

// Certificate returns the current certificate. When it is time for a new one,
// that is made beside the handshakes, which use the old one meanwhile and as
// long as renewing fails; only without a valid one does Certificate wait.
func (id *Identity) Certificate(ctx context.Context) (*tls.Certificate, error) {
	current, usable, wait := id.look(ctx)
	if usable {
		return current, nil
	}
	select {
	case <-wait:
	case <-ctx.Done():
		return nil, fmt.Errorf("ratls: waiting for our own certificate: %w", context.Cause(ctx))
	}
	id.mu.Lock()
	defer id.mu.Unlock()
	if id.failure != nil {
		return nil, fmt.Errorf("ratls: our own certificate: %w", id.failure)
	}
	return id.current, nil
}

// look returns the current certificate, whether it can be used, and, if not,
// what to wait for. It starts a renewal if one is due.
func (id *Identity) look(ctx context.Context) (current *tls.Certificate, usable bool, wait <-chan struct{}) {
	id.mu.Lock()
	defer id.mu.Unlock()
	now := id.cfg.Now()
	usable = id.current != nil && now.Before(id.current.Leaf.NotAfter) && !now.Before(id.current.Leaf.NotBefore)
	due := !usable || now.Sub(id.made) >= id.cfg.Renew && now.Sub(id.tried) >= renewPause
	if due && id.renewing == nil {
		id.tried = now
		done := make(chan struct{})
		id.renewing = done
		// The result serves everybody, so it does not end with one caller.
		go id.renew(context.WithoutCancel(ctx), now, done)
	}
	return id.current, usable, id.renewing
}

func (id *Identity) renew(ctx context.Context, now time.Time, done chan struct{}) {
	ctx, cancel := context.WithTimeout(ctx, renewLimit)
	defer cancel()
	cert, err := id.next(ctx, now)
	id.mu.Lock()
	defer id.mu.Unlock()
	if err == nil {
		id.current, id.made = cert, now
	} else if id.current != nil { // else those who wait for the first one hear of it
		id.cfg.Log.Warn("certificate not renewed", "error", err)
	}
	id.failure, id.renewing = err, nil
	close(done)
}

func (id *Identity) issue(ctx context.Context, now time.Time) (*tls.Certificate, error) {
	pub, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		return nil, err
	}
	var ev attest.Evidence
	if id.cfg.Attester != nil {
		data := attest.KeyReportData([32]byte(pub))
		if ev, err = id.cfg.Attester.Attest(ctx, data); err != nil {
			return nil, fmt.Errorf("evidence: %w", err)
		}
	}
	der, err := buildCertificate(key, ev, now.Add(-slack), now.Add(id.cfg.Lifetime))
	if err != nil {
		return nil, err
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}, nil
}

func certKey(c *tls.Certificate) [32]byte {
	return [32]byte(c.Leaf.PublicKey.(ed25519.PublicKey)) // issue makes no other
}

// buildCertificate makes the certificate of spec attestation 1.1, version 3.
func buildCertificate(key ed25519.PrivateKey, ev attest.Evidence, notBefore, notAfter time.Time) ([]byte, error) {
	pub := key.Public().(ed25519.PublicKey)
	name, err := subject()
	if err != nil {
		return nil, err
	}
	exts, err := extensions(pub, ev)
	if err != nil {
		return nil, err
	}
	serial := make([]byte, 16)
	rand.Read(serial)
	serial[0] = serial[0]&0x7f | 0x40 // positive, and 16 bytes long
	t := &x509.Certificate{
		SerialNumber:    new(big.Int).SetBytes(serial),
		RawSubject:      name,
		NotBefore:       notBefore,
		NotAfter:        notAfter,
		ExtraExtensions: exts,
	}
	der, err := x509.CreateCertificate(nil, t, t, pub, key)
	if err != nil {
		return nil, fmt.Errorf("certificate: %w", err)
	}
	return der, nil
}

// subject is the name upstream writes; peers compare it with the issuer only.
func subject() ([]byte, error) {
	const (
		printable = 19
		utf8      = 12
	)
	var rdns pkix.RDNSequence
	for _, a := range []struct {
		oid   asn1.ObjectIdentifier
		tag   int
		value string
	}{
		{asn1.ObjectIdentifier{2, 5, 4, 6}, printable, "AE"},
		{asn1.ObjectIdentifier{2, 5, 4, 8}, utf8, "DUBAI"},
		{asn1.ObjectIdentifier{2, 5, 4, 10}, utf8, "TDLib Development"},
		{asn1.ObjectIdentifier{2, 5, 4, 11}, utf8, "Security"},
		{asn1.ObjectIdentifier{2, 5, 4, 3}, utf8, "localhost"},
	} {
		rdns = append(rdns, pkix.RelativeDistinguishedNameSET{{Type: a.oid, Value: asn1.RawValue{Tag: a.tag, Bytes: []byte(a.value)}}})
	}
	return asn1.Marshal(rdns)
}

// extensions lists the certificate's extensions in upstream's order. The name
// 127.0.0.1 is a DNS name and no address, because upstream dialers check it as
// one (spec attestation 0.3).
func extensions(pub ed25519.PublicKey, ev attest.Evidence) ([]pkix.Extension, error) {
	var exts []pkix.Extension
	private := func(arc int, critical bool, value []byte) {
		exts = append(exts, pkix.Extension{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 12345, arc}, Critical: critical, Value: value})
	}
	switch ev.Format {
	case attest.FormatTDX:
		private(1, true, ev.Quote)
		private(2, true, pub)
	case attest.FormatSEVSNP:
		data := attest.KeyReportData([32]byte(pub))
		private(100, true, data[:])
		private(101, true, ev.Quote)
		private(102, true, ev.Certificate)
	case attest.FormatNone:
	default:
		return nil, fmt.Errorf("evidence of format %d has no place in a certificate", ev.Format)
	}
	type raw = asn1.RawValue
	usages, err := asn1.Marshal([]asn1.ObjectIdentifier{{1, 3, 6, 1, 5, 5, 7, 3, 1}, {1, 3, 6, 1, 5, 5, 7, 3, 2}})
	if err != nil {
		return nil, err
	}
	ski := sha1.Sum(pub)
	keyID, err := asn1.Marshal(ski[:])
	if err != nil {
		return nil, err
	}
	names, err := asn1.Marshal([]raw{
		{Class: asn1.ClassContextSpecific, Tag: 2, Bytes: []byte("localhost")},
		{Class: asn1.ClassContextSpecific, Tag: 2, Bytes: []byte(certName)},
		{Class: asn1.ClassContextSpecific, Tag: 7, Bytes: append(make([]byte, 15), 1)}, // ::1
	})
	if err != nil {
		return nil, err
	}
	ce := func(n int) asn1.ObjectIdentifier { return asn1.ObjectIdentifier{2, 5, 29, n} }
	return append(exts,
		pkix.Extension{Id: ce(19), Critical: true, Value: []byte{0x30, 0x00}},
		pkix.Extension{Id: ce(15), Critical: true, Value: []byte{0x03, 0x02, 0x07, 0x80}},
		pkix.Extension{Id: ce(37), Critical: true, Value: usages},
		pkix.Extension{Id: ce(14), Value: keyID},
		pkix.Extension{Id: ce(17), Value: names},
	), nil
}
