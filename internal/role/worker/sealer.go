package worker

import (
	"errors"
	"time"

	"github.com/cocoon-network/cocoon/internal/envelope"
	"github.com/cocoon-network/cocoon/internal/wire"
	"github.com/cocoon-network/cocoon/receipt"
)

// Sealer holds the seal keys of a worker's statements, which it makes for them,
// and opens what was sealed to them. Keys live in memory only, so a restart
// forgets them, and clients make new sessions.
type Sealer struct {
	ring  *envelope.Keyring
	start time.Time // the monotonic clock's
}

// NewSealer makes the sealer of a worker of the given network.
func NewSealer(network [32]byte) *Sealer {
	return &Sealer{ring: envelope.NewKeyring(network), start: time.Now()}
}

func (s *Sealer) now() time.Duration { return time.Since(s.start) }

// NewKey implements statement.SealKeys.
func (s *Sealer) NewKey() (public []byte, keep func(statement [32]byte), err error) {
	k, err := envelope.NewSealKey()
	if err != nil {
		return nil, nil, err
	}
	return k.Public(), func(statement [32]byte) { s.ring.Add(s.now(), k, statement) }, nil
}

// Full implements statement.SealKeys.
func (s *Sealer) Full() bool { return s.ring.Full() }

// sealed is a request that came sealed, and its answer.
type sealed struct {
	*envelope.Opened
	credit  envelope.Credit
	consent chan struct{} // closed by the client's first credit
	timer   *time.Timer
	// ready is what can be made before the engine answers, made once.
	ready func() readied

	writer *envelope.Writer
	answer *receipt.Commitment
	head   []byte // not sent yet: it goes with the next frame
	// holding keeps what comes for the last frame: it travels with the worker's
	// part of the receipt, so that nobody takes an answer for whole without it.
	holding bool
	tail    []byte
}

// readied is the acceptance, signed, with the writer of the answer, and the
// commitment to the request. Nobody sees it before the engine took the request.
type readied struct {
	acceptance []byte
	writer     *envelope.Writer
	err        error
	request    [32]byte
}

// openError is what a proxy, and through it the client, hears of a sealed
// request that is not taken.
func openError(err error) *wire.Error {
	code := wire.CodeSealRefused
	for _, again := range []error{envelope.ErrUnknown, envelope.ErrOver, envelope.ErrUsedUp, envelope.ErrNotForUs, envelope.ErrSetup} {
		if errors.Is(err, again) {
			code = wire.CodeUnknownSession
		}
	}
	for _, busy := range []error{envelope.ErrTooMany, envelope.ErrFull} {
		if errors.Is(err, busy) {
			code = wire.CodeNotReady
		}
	}
	return wire.Errorf(code, "worker: %v", err)
}
