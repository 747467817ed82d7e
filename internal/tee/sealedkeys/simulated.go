//go:build !tee

package sealedkeys

import (
	"bytes"
	"context"
	"crypto/ecdh"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/cocoon-network/cocoon/attest/dcap"
)

// Machine is a SIMULATED processor with its sealing enclave: it makes reports
// of guests and hands out keys to them, with the protocol and the checks of
// the real one and secrets that follow from a seed.
type Machine struct {
	sealKey   [16]byte
	reportKey []byte
	// quote signs an enclave's report data, as the machine's quoting enclave.
	quote func(data [64]byte) ([]byte, error)
	log   *slog.Logger
	next  func() (*ecdh.PrivateKey, error) // ephemeral keys
}

// NewMachine makes a machine out of a secret seed of at least 32 bytes. A nil
// log discards.
func NewMachine(seed []byte, quote func(data [64]byte) ([]byte, error), log *slog.Logger) (*Machine, error) {
	if len(seed) < 32 || quote == nil {
		return nil, fmt.Errorf("%w: a simulated machine needs a seed of 32 bytes and a quoting enclave", ErrConfig)
	}
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	secret := func(use string) []byte {
		h := hmac.New(sha256.New, seed)
		h.Write([]byte("cocoon/simulated/machine/v1\x00" + use))
		return h.Sum(nil)
	}
	return &Machine{
		sealKey:   [16]byte(secret("seal")),
		reportKey: secret("report"),
		quote:     quote,
		log:       log,
		next:      func() (*ecdh.PrivateKey, error) { return ecdh.P256().GenerateKey(rand.Reader) },
	}, nil
}

// Layout of a TD report (spec attestation 3.1): offsets in bytes.
const (
	reportTCBHash  = 32
	reportInfoHash = 80
	reportData     = 128
	reportMAC      = 224
	reportTCB      = 256
	reportTCBSize  = 239
	reportInfo     = 512
)

// Report is the machine's report on a guest that measures as td says.
func (m *Machine) Report(td *dcap.TDReport, data [64]byte) []byte {
	b := make([]byte, ReportSize)
	b[0] = 0x81
	copy(b[reportData:], data[:])
	copy(b[reportTCB+8:], td.TCBSVN[:])
	copy(b[reportTCB+24:], td.MRSEAM[:])
	info := binary.LittleEndian.AppendUint64(nil, td.Attributes)
	info = binary.LittleEndian.AppendUint64(info, td.XFAM)
	for _, r := range [][48]byte{td.MRTD, td.MRConfigID, td.MROwner, td.MROwnerConfig, td.RTMR[0], td.RTMR[1], td.RTMR[2], td.RTMR[3]} {
		info = append(info, r[:]...)
	}
	copy(b[reportInfo:], info)
	tcbHash, infoHash := sha512.Sum384(b[reportTCB:][:reportTCBSize]), sha512.Sum384(b[reportInfo:])
	copy(b[reportTCBHash:], tcbHash[:])
	copy(b[reportInfoHash:], infoHash[:])
	copy(b[reportMAC:], m.mac(b))
	return b
}

// mac authenticates a report on this machine.
func (m *Machine) mac(report []byte) []byte {
	h := hmac.New(sha256.New, m.reportKey)
	h.Write(report[:reportMAC])
	return h.Sum(nil)
}

// ErrReport is the cause of every report that the enclave refuses.
var ErrReport = errors.New("sealedkeys: the guest's report")

// Answer is what the enclave does (spec attestation 5.3).
func (m *Machine) Answer(q *Request) (*Response, error) {
	client, err := parsePoint(q.PublicKey)
	if err != nil {
		return nil, err
	}
	want := requestData(q.PublicKey)
	switch report := q.Report[:]; {
	case [4]byte(report) != [4]byte{0x81}:
		return nil, fmt.Errorf("%w is of another type", ErrReport)
	case !bytes.Equal(report[reportData:][:64], want[:]):
		return nil, fmt.Errorf("%w does not name the public key", ErrReport)
	case !hmac.Equal(report[reportMAC:][:32], m.mac(report)):
		return nil, fmt.Errorf("%w was not made on this machine", ErrReport)
	}
	own, err := m.next()
	if err != nil {
		return nil, err
	}
	key := persistentKey(m.sealKey, [48]byte(q.Report[reportInfoHash:]), [48]byte(q.Report[reportTCBHash:]), q.Name)
	sealed, err := crypt(own, client, key)
	if err != nil {
		return nil, err
	}
	public := pointBytes(own.PublicKey())
	r := &Response{Secret: [secretSize]byte(append(public[:], sealed[:]...))}
	if r.Quote, err = m.quote(responseData(q.PublicKey, r.Secret)); err != nil {
		return nil, err
	}
	return r, nil
}

// persistentKey is the same whenever the same guest asks on the same machine.
func persistentKey(sealKey [16]byte, info, tcb [48]byte, name string) (key [KeySize]byte) {
	nameHash := sha256.Sum256([]byte(name))
	h := sha256.New()
	for _, part := range [][]byte{sealKey[:], info[:], tcb[:], nameHash[:]} {
		h.Write(part)
	}
	return [KeySize]byte(h.Sum(nil))
}

// Bounds of the simulated sealing server.
const (
	serveTimeout = 10 * time.Second
	serveConns   = 64
)

// Serve answers guests on ln, one request a connection, until ctx ends, and
// closes ln. As the real server it closes without a word on any error.
func (m *Machine) Serve(ctx context.Context, ln net.Listener) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(ctx, func() { ln.Close() })()
	defer ln.Close()
	slots := make(chan struct{}, serveConns)
	for {
		nc, err := ln.Accept()
		if err != nil {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			return fmt.Errorf("sealedkeys: %w", err)
		}
		select {
		case slots <- struct{}{}:
		default:
			nc.Close()
			continue
		}
		wg.Go(func() {
			defer func() { <-slots }()
			defer nc.Close()
			defer context.AfterFunc(ctx, func() { nc.Close() })()
			nc.SetDeadline(time.Now().Add(serveTimeout))
			if err := m.serve(nc); err != nil {
				m.log.Info("no key handed out", "peer", nc.RemoteAddr().String(), "error", err)
			}
		})
	}
}

func (m *Machine) serve(nc net.Conn) error {
	b, err := readFrame(nc)
	if err != nil {
		return err
	}
	q, err := ParseRequest(b)
	if err != nil {
		return err
	}
	r, err := m.Answer(q)
	if err != nil {
		return err
	}
	return writeFrame(nc, r.Append(nil))
}
