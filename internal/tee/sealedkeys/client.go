package sealedkeys

import (
	"context"
	"crypto/ecdh"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/cocoon-network/cocoon/attest"
)

// Endorser finds the vendor's statements that belong to evidence.
type Endorser interface {
	Endorsements(ctx context.Context, ev attest.Evidence) (*attest.Endorsements, error)
}

// Config says where the enclave is and which one is believed.
type Config struct {
	// Dial reaches the sealing server. Required; DialVSOCK(HostCID, Port)
	// inside a guest.
	Dial func(ctx context.Context) (net.Conn, error)
	// Report asks this guest's processor for a report of 1024 bytes that binds
	// data. Required; TDReport inside a guest.
	Report func(ctx context.Context, data [64]byte) ([]byte, error)
	// Policy is held against the enclave's quote. nil refuses every enclave.
	Policy *attest.EnclavePolicy
	// Endorser finds endorsements; nil means that there are none.
	Endorser Endorser
	// Timeout bounds one key's fetching. Zero: 30 s.
	Timeout time.Duration
	// Now is the clock. nil: time.Now.
	Now func() time.Time
}

// ErrConfig is the cause of every refused Config.
var ErrConfig = errors.New("sealedkeys: configuration")

// ErrRefused is all that is known when the server closes without an answer.
var ErrRefused = errors.New("sealedkeys: the sealing server closed without an answer (does it run on this very machine, with SGX?)")

// Client fetches keys.
type Client struct{ cfg Config }

// New makes a Client.
func New(cfg Config) (*Client, error) {
	if cfg.Dial == nil || cfg.Report == nil {
		return nil, fmt.Errorf("%w: no way to the enclave, or to this guest's report", ErrConfig)
	}
	if cfg.Timeout <= 0 {
		cfg.Timeout = 30 * time.Second
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Client{cfg}, nil
}

// Fetch returns the key of the given name. It is the same for the same image,
// machine and enclave, and another one whenever one of them changes.
func (c *Client) Fetch(ctx context.Context, name string) (Key, error) {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Timeout)
	defer cancel()
	own, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		return Key{}, fmt.Errorf("sealedkeys: %w", err)
	}
	return c.fetch(ctx, name, own)
}

func (c *Client) fetch(ctx context.Context, name string, own *ecdh.PrivateKey) (Key, error) {
	q := &Request{PublicKey: pointBytes(own.PublicKey()), Name: name}
	if err := checkName(name); err != nil {
		return Key{}, err
	}
	report, err := c.cfg.Report(ctx, requestData(q.PublicKey))
	if err != nil {
		return Key{}, fmt.Errorf("sealedkeys: this guest's report: %w", err)
	}
	if len(report) != ReportSize {
		return Key{}, fmt.Errorf("%w: a report of %d bytes", ErrConfig, len(report))
	}
	q.Report = [ReportSize]byte(report)
	r, err := c.ask(ctx, q)
	if err != nil {
		return Key{}, err
	}
	if err := c.appraise(ctx, q, r); err != nil {
		return Key{}, fmt.Errorf("sealedkeys: the enclave: %w", err)
	}
	peer, err := parsePoint([publicKeySize]byte(r.Secret[:publicKeySize]))
	if err != nil {
		return Key{}, err
	}
	raw, err := crypt(own, peer, [KeySize]byte(r.Secret[publicKeySize:]))
	if err != nil {
		return Key{}, err
	}
	return newKey(raw), nil
}

// ask makes the one exchange of a connection.
func (c *Client) ask(ctx context.Context, q *Request) (*Response, error) {
	nc, err := c.cfg.Dial(ctx)
	if err != nil {
		return nil, fmt.Errorf("sealedkeys: the sealing server: %w", err)
	}
	defer nc.Close()
	defer context.AfterFunc(ctx, func() { nc.SetDeadline(time.Unix(1, 0)) })()
	if err := writeFrame(nc, q.Append(nil)); err != nil {
		return nil, c.broken(ctx, err)
	}
	b, err := readFrame(nc)
	if err != nil {
		return nil, c.broken(ctx, err)
	}
	return ParseResponse(b)
}

// broken says why an exchange ended early.
func (c *Client) broken(ctx context.Context, err error) error {
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("sealedkeys: the sealing server: %w", context.Cause(ctx))
	case errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.ErrClosedPipe):
		return fmt.Errorf("%w: %v", ErrRefused, err)
	}
	return fmt.Errorf("sealedkeys: the sealing server: %w", err)
}

// appraise judges the enclave that answered.
func (c *Client) appraise(ctx context.Context, q *Request, r *Response) error {
	var end *attest.Endorsements
	var missing error
	if c.cfg.Endorser != nil {
		// The endorser reads from the quote itself that it is an enclave's.
		end, missing = c.cfg.Endorser.Endorsements(ctx, attest.Evidence{Format: attest.FormatTDX, Quote: r.Quote})
	}
	_, err := attest.VerifyEnclave(r.Quote, responseData(q.PublicKey, r.Secret), end, c.cfg.Policy, c.cfg.Now())
	if err != nil && missing != nil {
		return fmt.Errorf("%w (%w)", err, missing)
	}
	if err != nil {
		return err
	}
	return missing
}
