package pow

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"testing/synctest"
	"time"
)

// vectors are those of spec network-protocol 2.2: salt 00..0f.
var vectors = []struct {
	difficulty int32
	puzzle     string
	nonce      int64
	answer     string
}{
	{8, "91128e4108000000000102030405060708090a0b0c0d0e0f", 480, "19738201e001000000000000"},
	{16, "91128e4110000000000102030405060708090a0b0c0d0e0f", 84956, "19738201dc4b010000000000"},
	{20, "91128e4114000000000102030405060708090a0b0c0d0e0f", 303607, "19738201f7a1040000000000"},
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestVectors(t *testing.T) {
	for _, v := range vectors {
		p, err := ParsePuzzle(unhex(t, v.puzzle))
		if err != nil {
			t.Fatal(err)
		}
		if p.Difficulty != v.difficulty {
			t.Errorf("difficulty %d, want %d", p.Difficulty, v.difficulty)
		}
		if got := hex.EncodeToString(p.Append(nil)); got != v.puzzle {
			t.Errorf("puzzle encodes as %s, want %s", got, v.puzzle)
		}
		nonce, err := p.Solve(t.Context())
		if err != nil || nonce != v.nonce {
			t.Errorf("difficulty %d: solved with %d, %v; want %d", v.difficulty, nonce, err, v.nonce)
		}
		if !p.Check(v.nonce) || p.Check(v.nonce-1) {
			t.Errorf("difficulty %d: Check accepts the wrong nonces", v.difficulty)
		}
		if got := hex.EncodeToString(AppendAnswer(nil, v.nonce)); got != v.answer {
			t.Errorf("answer encodes as %s, want %s", got, v.answer)
		}
		if nonce, err := ParseAnswer(unhex(t, v.answer)); err != nil || nonce != v.nonce {
			t.Errorf("answer parses as %d, %v", nonce, err)
		}
	}
}

func TestCheckBounds(t *testing.T) {
	for difficulty, want := range map[int32]bool{-1 << 31: true, -1: true, 0: true, 64: false, 65: false, 1<<31 - 1: false} {
		if got := (Puzzle{Difficulty: difficulty}).Check(7); got != want {
			t.Errorf("difficulty %d: Check = %v, want %v", difficulty, got, want)
		}
	}
}

func TestMalformed(t *testing.T) {
	good := unhex(t, vectors[0].puzzle)
	for _, b := range [][]byte{nil, good[:23], append(bytes.Clone(good), 0), append([]byte{0}, good[1:]...)} {
		if _, err := ParsePuzzle(b); !errors.Is(err, ErrPuzzle) {
			t.Errorf("ParsePuzzle(%x) = %v, want ErrPuzzle", b, err)
		}
	}
	good = unhex(t, vectors[0].answer)
	for _, b := range [][]byte{nil, good[:11], append(bytes.Clone(good), 0), append([]byte{0}, good[1:]...)} {
		if _, err := ParseAnswer(b); !errors.Is(err, ErrAnswer) {
			t.Errorf("ParseAnswer(%x) = %v, want ErrAnswer", b, err)
		}
	}
}

// pipe returns both ends of a loopback TCP connection: unlike net.Pipe it has
// buffers, as the real thing does.
func pipe(t *testing.T) (dialer, acceptor net.Conn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	dialer, err = net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	acceptor, err = ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dialer.Close(); acceptor.Close() })
	return dialer, acceptor
}

func TestExchange(t *testing.T) {
	for _, difficulty := range []int{0, 1, 12} {
		dialer, acceptor := pipe(t)
		answered := make(chan error, 1)
		go func() {
			err := Answer(t.Context(), dialer, DefaultMaxDifficulty)
			// What follows at once must reach the reader after Challenge.
			dialer.Write([]byte("hello"))
			answered <- err
		}()
		if err := Challenge(t.Context(), acceptor, difficulty); err != nil {
			t.Fatalf("difficulty %d: %v", difficulty, err)
		}
		if err := <-answered; err != nil {
			t.Fatalf("difficulty %d: answer: %v", difficulty, err)
		}
		b := make([]byte, 5)
		if _, err := io.ReadFull(acceptor, b); err != nil || string(b) != "hello" {
			t.Errorf("after the exchange: %q, %v", b, err)
		}
	}
}

// TestExactlyTwelveBytes: the acceptor takes exactly 12 bytes even when more came in one segment.
func TestExactlyTwelveBytes(t *testing.T) {
	dialer, acceptor := pipe(t)
	go dialer.Write(append(AppendAnswer(nil, 0), "\x16\x03\x01"...))
	if err := Challenge(t.Context(), acceptor, 0); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 3)
	if _, err := io.ReadFull(acceptor, b); err != nil || string(b) != "\x16\x03\x01" {
		t.Errorf("rest of the stream: %q, %v", b, err)
	}
}

func TestChallengeRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		answer []byte
		close  bool
		want   error
	}{
		"wrong nonce": {AppendAnswer(nil, 1), false, ErrWrong},
		"wrong id":    {make([]byte, AnswerSize), false, ErrAnswer},
		"cut":         {make([]byte, AnswerSize-1), true, io.ErrUnexpectedEOF},
		"silent end":  {nil, true, io.EOF},
	} {
		t.Run(name, func(t *testing.T) {
			dialer, acceptor := pipe(t)
			go func() {
				dialer.Write(c.answer)
				if c.close {
					dialer.(*net.TCPConn).CloseWrite()
				}
			}()
			if err := Challenge(t.Context(), acceptor, 64); !errors.Is(err, c.want) {
				t.Errorf("Challenge = %v, want %v", err, c.want)
			}
		})
	}
	if err := Challenge(t.Context(), nil, 65); err == nil {
		t.Error("a difficulty of 65 was asked")
	}
}

func TestAnswerRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		puzzle []byte
		max    int
		want   error
	}{
		"too hard":   {Puzzle{Difficulty: 29}.Append(nil), 28, ErrTooHard},
		"impossible": {Puzzle{Difficulty: 65}.Append(nil), 100, ErrTooHard},
		"no puzzle":  {bytes.Repeat([]byte("x"), PuzzleSize), 28, ErrPuzzle},
	} {
		t.Run(name, func(t *testing.T) {
			dialer, acceptor := pipe(t)
			go acceptor.Write(c.puzzle)
			if err := Answer(t.Context(), dialer, c.max); !errors.Is(err, c.want) {
				t.Errorf("Answer = %v, want %v", err, c.want)
			}
		})
	}
}

// TestNegative: a difficulty below zero is met by nonce 0.
func TestNegative(t *testing.T) {
	dialer, acceptor := pipe(t)
	go acceptor.Write(Puzzle{Difficulty: -5}.Append(nil))
	if err := Answer(t.Context(), dialer, 28); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, AnswerSize)
	if _, err := io.ReadFull(acceptor, b); err != nil {
		t.Fatal(err)
	}
	if nonce, err := ParseAnswer(b); err != nil || nonce != 0 {
		t.Errorf("nonce %d, %v", nonce, err)
	}
}

// TestSilentPeer: neither side waits for ever, and a used connection is left
// without a deadline.
func TestSilentPeer(t *testing.T) {
	for name, side := range map[string]func(context.Context, net.Conn) error{
		"acceptor": func(ctx context.Context, nc net.Conn) error { return Challenge(ctx, nc, 8) },
		"dialer":   func(ctx context.Context, nc net.Conn) error { return Answer(ctx, nc, 8) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ours, theirs := net.Pipe()
				defer theirs.Close()
				defer ours.Close()
				if name == "acceptor" {
					go io.CopyN(io.Discard, theirs, PuzzleSize)
				}
				start := time.Now()
				err := side(context.Background(), ours)
				if !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, os.ErrDeadlineExceeded) {
					t.Errorf("without a deadline: %v", err)
				}
				if d := time.Since(start); d != Limit {
					t.Errorf("gave up after %v, want %v", d, Limit)
				}
				go theirs.Write([]byte{1})
				if _, err := ours.Read(make([]byte, 1)); err != nil {
					t.Errorf("the deadline was not cleared: %v", err)
				}
			})
		})
	}
}

func TestCancel(t *testing.T) {
	cause := errors.New("enough")
	t.Run("waiting", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithCancelCause(context.Background())
			ours, theirs := net.Pipe()
			defer theirs.Close()
			go func() { time.Sleep(time.Second); cancel(cause) }()
			if err := Answer(ctx, ours, 8); !errors.Is(err, cause) {
				t.Errorf("Answer = %v, want the cause", err)
			}
		})
	})
	t.Run("searching", func(t *testing.T) {
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(10*time.Millisecond, func() { cancel(cause) })
		if _, err := (Puzzle{Difficulty: 64}).Solve(ctx); !errors.Is(err, cause) {
			t.Errorf("Solve = %v, want the cause", err)
		}
	})
}

func FuzzPuzzle(f *testing.F) {
	for _, v := range vectors {
		f.Add(unhex(f, v.puzzle))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := ParsePuzzle(b)
		if err != nil {
			return
		}
		if got := p.Append(nil); !bytes.Equal(got, b) {
			t.Errorf("%x re-encodes as %x", b, got)
		}
		if p.Difficulty <= 0 && !p.Check(0) {
			t.Errorf("difficulty %d refuses a nonce", p.Difficulty)
		}
	})
}

func FuzzAnswer(f *testing.F) {
	for _, v := range vectors {
		f.Add(unhex(f, v.answer))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		nonce, err := ParseAnswer(b)
		if err != nil {
			return
		}
		if got := AppendAnswer(nil, nonce); !bytes.Equal(got, b) {
			t.Errorf("%x re-encodes as %x", b, got)
		}
	})
}

func BenchmarkSolve20(b *testing.B) {
	p, err := ParsePuzzle(unhex(b, vectors[2].puzzle))
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := p.Solve(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(vectors[2].nonce+1), "ns/nonce")
}
