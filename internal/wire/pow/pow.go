// Package pow is the proof of work that opens every connection: the acceptor
// sets a puzzle, the dialer answers it before TLS begins (spec
// network-protocol 2.2).
//
// Owns: the puzzle, its two messages and their exchange over a connection.
// Imports: nothing of this module.
// Trust: both messages are foreign; a puzzle costs the dialer at most what its
// maximum allows, and never more than Limit.
// Concurrency: no state; each call uses the connection alone until it returns.
package pow

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/bits"
	"net"
	"time"
)

const (
	// PuzzleSize and AnswerSize are the sizes of the two messages in bytes.
	PuzzleSize = 24
	AnswerSize = 12

	// DefaultDifficulty is what acceptors ask and DefaultMaxDifficulty what
	// dialers bear unless configured otherwise. More than 64 cannot be met.
	DefaultDifficulty    = 20
	DefaultMaxDifficulty = 28

	// Limit bounds the whole exchange on either side, whatever ctx allows. It
	// is the time after which a reference dialer gives up.
	Limit = 20 * time.Second

	puzzleID = 0x418e1291 // cocoon.powSimple
	answerID = 0x01827319 // cocoon.powSimpleResponse
)

// The ways an exchange fails. Errors of the connection and of ctx are passed
// on wrapped.
var (
	ErrPuzzle  = errors.New("pow: the peer's first bytes are no puzzle: it does not speak this protocol")
	ErrTooHard = errors.New("pow: puzzle above the accepted difficulty")
	ErrAnswer  = errors.New("pow: the peer's answer is malformed")
	ErrWrong   = errors.New("pow: the peer's answer does not solve the puzzle")
)

// Puzzle asks for a nonce such that SHA-256(Salt ‖ nonce), its first eight
// bytes read as a little-endian number, has Difficulty leading zero bits.
// Every nonce is good for a difficulty of 0 or less, none for more than 64.
type Puzzle struct {
	Difficulty int32
	Salt       [16]byte
}

// Append appends the puzzle's 24 bytes to b.
func (p Puzzle) Append(b []byte) []byte {
	b = binary.LittleEndian.AppendUint32(b, puzzleID)
	b = binary.LittleEndian.AppendUint32(b, uint32(p.Difficulty))
	return append(b, p.Salt[:]...)
}

// ParsePuzzle reads the 24 bytes of a puzzle. It fails with ErrPuzzle.
func ParsePuzzle(b []byte) (Puzzle, error) {
	if len(b) != PuzzleSize || binary.LittleEndian.Uint32(b) != puzzleID {
		return Puzzle{}, ErrPuzzle
	}
	p := Puzzle{Difficulty: int32(binary.LittleEndian.Uint32(b[4:]))}
	copy(p.Salt[:], b[8:])
	return p, nil
}

// AppendAnswer appends the 12 bytes that carry nonce to b.
func AppendAnswer(b []byte, nonce int64) []byte {
	b = binary.LittleEndian.AppendUint32(b, answerID)
	return binary.LittleEndian.AppendUint64(b, uint64(nonce))
}

// ParseAnswer reads the 12 bytes of an answer. It fails with ErrAnswer.
func ParseAnswer(b []byte) (nonce int64, err error) {
	if len(b) != AnswerSize || binary.LittleEndian.Uint32(b) != answerID {
		return 0, ErrAnswer
	}
	return int64(binary.LittleEndian.Uint64(b[4:])), nil
}

// Check reports whether nonce solves the puzzle.
func (p Puzzle) Check(nonce int64) bool {
	var in [24]byte
	copy(in[:], p.Salt[:])
	binary.LittleEndian.PutUint64(in[16:], uint64(nonce))
	return p.meets(&in)
}

func (p Puzzle) meets(in *[24]byte) bool {
	h := sha256.Sum256(in[:])
	return int32(bits.LeadingZeros64(binary.LittleEndian.Uint64(h[:]))) >= p.Difficulty
}

// Solve returns the smallest non-negative nonce that solves the puzzle. It
// fails only when ctx ends first, with ctx's cause.
func (p Puzzle) Solve(ctx context.Context) (nonce int64, err error) {
	const batch = 1 << 14 // about a millisecond between looks at ctx
	var in [24]byte
	copy(in[:], p.Salt[:])
	for {
		if ctx.Err() != nil {
			return 0, fmt.Errorf("pow: no solution of difficulty %d in time: %w", p.Difficulty, context.Cause(ctx))
		}
		for range batch {
			binary.LittleEndian.PutUint64(in[16:], uint64(nonce))
			if p.meets(&in) {
				return nonce, nil
			}
			nonce++
		}
	}
}

// Challenge is the acceptor's side: it sends a puzzle with a fresh salt, reads
// exactly the answer's 12 bytes (what follows them belongs to TLS) and checks
// it. Deadlines of nc follow ctx and are cleared afterwards. A failed exchange
// leaves nc to be closed by the caller.
func Challenge(ctx context.Context, nc net.Conn, difficulty int) error {
	if difficulty < 0 || difficulty > 64 {
		return fmt.Errorf("pow: difficulty %d cannot be asked: it must be 0..64", difficulty)
	}
	p := Puzzle{Difficulty: int32(difficulty)}
	rand.Read(p.Salt[:]) // never fails
	return exchange(ctx, nc, func(context.Context) error {
		if _, err := nc.Write(p.Append(make([]byte, 0, PuzzleSize))); err != nil {
			return fmt.Errorf("pow: sending the puzzle: %w", err)
		}
		var b [AnswerSize]byte
		if _, err := io.ReadFull(nc, b[:]); err != nil {
			return fmt.Errorf("pow: waiting for the answer: %w", err)
		}
		nonce, err := ParseAnswer(b[:])
		if err != nil {
			return err
		}
		if !p.Check(nonce) {
			return ErrWrong
		}
		return nil
	})
}

// Answer is the dialer's side: it reads the puzzle, refuses one above
// maxDifficulty with ErrTooHard, and sends the first nonce that solves it.
// Deadlines of nc follow ctx and are cleared afterwards.
func Answer(ctx context.Context, nc net.Conn, maxDifficulty int) error {
	return exchange(ctx, nc, func(ctx context.Context) error {
		var b [PuzzleSize]byte
		if _, err := io.ReadFull(nc, b[:]); err != nil {
			return fmt.Errorf("pow: waiting for the puzzle: %w", err)
		}
		p, err := ParsePuzzle(b[:])
		if err != nil {
			return err
		}
		if int(p.Difficulty) > maxDifficulty || p.Difficulty > 64 {
			return fmt.Errorf("%w: asked %d, at most %d", ErrTooHard, p.Difficulty, maxDifficulty)
		}
		nonce, err := p.Solve(ctx)
		if err != nil {
			return err
		}
		if _, err := nc.Write(AppendAnswer(make([]byte, 0, AnswerSize), nonce)); err != nil {
			return fmt.Errorf("pow: sending the answer: %w", err)
		}
		return nil
	})
}

// exchange runs f with nc bound to ctx: when ctx ends, or Limit has passed,
// reads and writes fail at once.
func exchange(ctx context.Context, nc net.Conn, f func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, Limit)
	defer cancel()
	bound := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(bound)
		nc.SetDeadline(time.Unix(1, 0))
	})
	err := f(ctx)
	if !stop() {
		<-bound
	}
	if cause := context.Cause(ctx); err != nil && cause != nil && !errors.Is(err, cause) {
		err = fmt.Errorf("%w (%w)", err, cause)
	}
	if reset := nc.SetDeadline(time.Time{}); err == nil && reset != nil {
		err = fmt.Errorf("pow: clearing the deadline: %w", reset)
	}
	return err
}
