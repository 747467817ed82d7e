// Package nodekey verifies what node keys sign: ed25519.Verify for keys that
// sign again and again.
//
// A worker signs an acceptance and a part of a receipt for each request, and
// proxy and client verify them: a third of what a short sealed request costs.
// Whoever verifies many signatures of one key can save the doublings of its
// point by tables of multiples, which are made once a key has signed a few
// times, and the decoding of the point itself. What is accepted is exactly what
// crypto/ed25519 accepts, which the tests hold against each other.
//
// Owns: the tables, 66 KB a key for at most 512 keys, and 220 KB for the base
// point.
// Imports: filippo.io/edwards25519, the arithmetic of the standard library's
// own ed25519 made public by its author.
// Trust: key, message and signature are foreign. All of them are public, so
// time may depend on them; nothing here signs.
// Concurrency: safe; the tables are shared.
package nodekey

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha512"
	"encoding/binary"
	"sync"

	"filippo.io/edwards25519"
)

const (
	// tablesAfter is how many good signatures of a key earn it tables, which
	// cost as much as one or two.
	tablesAfter = 4
	// maxKeys bounds the keys that are remembered. Where there are more, one
	// that slept for idleAfter verifications makes room.
	maxKeys   = 512
	idleAfter = 1 << 16
)

// Verify reports whether key signed message, as ed25519.Verify does.
func Verify(key [32]byte, message, sig []byte) bool {
	if t := known.tables(key); t != nil {
		return t.verify(key, message, sig)
	}
	if !ed25519.Verify(key[:], message, sig) {
		return false
	}
	known.count(key)
	return true
}

// known are the keys that signed something.
var known = keys{m: map[[32]byte]*entry{}}

type keys struct {
	mu  sync.Mutex
	now uint64 // verifications so far
	m   map[[32]byte]*entry
}

type entry struct {
	good int
	last uint64 // when it was used last
	t    *comb  // nil: none yet
}

func (k *keys) tables(key [32]byte) *comb {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.now++
	e := k.m[key]
	if e == nil {
		return nil
	}
	e.last = k.now
	return e.t
}

// count notes a good signature of a key without tables. Bad ones count for
// nothing, so that nobody fills the memory with keys that never signed.
func (k *keys) count(key [32]byte) {
	k.mu.Lock()
	e := k.m[key]
	if e == nil {
		if len(k.m) >= maxKeys && !k.roomLocked() {
			k.mu.Unlock()
			return
		}
		e = &entry{last: k.now}
		k.m[key] = e
	}
	e.good++
	due := e.good == tablesAfter
	k.mu.Unlock()
	if !due {
		return
	}
	a, err := new(edwards25519.Point).SetBytes(key[:])
	if err != nil {
		return // it verified, so it decodes
	}
	t := newComb(a.Negate(a), keyBits, keyPhases)
	k.mu.Lock()
	e.t = t
	k.mu.Unlock()
}

// roomLocked forgets a key that has slept.
func (k *keys) roomLocked() bool {
	for key, e := range k.m {
		if k.now-e.last > idleAfter {
			delete(k.m, key)
			return true
		}
	}
	return false
}

// Shapes of the tables: of a key, small enough for many keys; of the base
// point, without any doubling.
const (
	keyBits, keyPhases   = 5, 2
	baseBits, basePhases = 6, 1
)

var base = sync.OnceValue(func() *comb { return newComb(edwards25519.NewGeneratorPoint(), baseBits, basePhases) })

// comb is the multiples of a point P that a scalar's signed digits ask for, so
// that s·P is additions and few doublings: with digits dᵢ of b bits,
//
//	s·P = Σᵢ dᵢ·2^(b·i)·P,  table[i/phases][j] = (j+1)·2^(b·phases·(i/phases))·P
//
// where the i that leave the same rest by phases are summed together, and the
// sums doubled b times from one rest to the next.
type comb struct {
	bits, phases int
	points       []edwards25519.Point // 2^(bits-1) of each table
}

func newComb(p *edwards25519.Point, bits, phases int) *comb {
	half := 1 << (bits - 1)
	n := (digitsOf(bits) + phases - 1) / phases
	c := &comb{bits: bits, phases: phases, points: make([]edwards25519.Point, n*half)}
	step := new(edwards25519.Point).Set(p)
	for i := range n {
		row := c.points[i*half : (i+1)*half]
		row[0].Set(step)
		for j := 1; j < half; j++ {
			row[j].Add(&row[j-1], step)
		}
		for range bits * phases {
			step.Double(step)
		}
	}
	return c
}

// add adds to sum what the digits of one rest ask for.
func (c *comb) add(sum *edwards25519.Point, digits []int8, phase int) {
	half := 1 << (c.bits - 1)
	for i, row := phase, c.points; i < len(digits); i, row = i+c.phases, row[half:] {
		switch d := digits[i]; {
		case d > 0:
			sum.Add(sum, &row[d-1])
		case d < 0:
			sum.Subtract(sum, &row[-d-1])
		}
	}
}

// verify is RFC 8032 5.1.7 without cofactor, as crypto/ed25519 does it: S below
// the order, and the encoding of S·B − k·A equal to R's. c is of −A.
func (c *comb) verify(key [32]byte, message, sig []byte) bool {
	if len(sig) != ed25519.SignatureSize {
		return false
	}
	s, err := new(edwards25519.Scalar).SetCanonicalBytes(sig[32:])
	if err != nil {
		return false
	}
	h := sha512.New()
	h.Write(sig[:32])
	h.Write(key[:])
	h.Write(message)
	var digest [sha512.Size]byte
	k, err := new(edwards25519.Scalar).SetUniformBytes(h.Sum(digest[:0]))
	if err != nil {
		return false // only for another length
	}
	var kd, sd [maxDigits]int8
	kDigits, sDigits := signedDigits(&kd, k.Bytes(), keyBits), signedDigits(&sd, s.Bytes(), baseBits)
	sum := edwards25519.NewIdentityPoint()
	for phase := c.phases - 1; phase >= 0; phase-- {
		c.add(sum, kDigits, phase)
		for i := 0; phase > 0 && i < c.bits; i++ {
			sum.Double(sum)
		}
	}
	base().add(sum, sDigits, 0)
	return bytes.Equal(sum.Bytes(), sig[:32])
}

// A scalar is below 2^253. The last digit has room for a carry.
func digitsOf(bits int) int { return 253/bits + 1 }

const maxDigits = 253/keyBits + 1

// signedDigits writes a scalar of 32 bytes, little endian and below 2^253, as
// digits from −2^(bits−1) to 2^(bits−1), the lowest first.
func signedDigits(out *[maxDigits]int8, scalar []byte, bits int) []int8 {
	var words [5]uint64 // one more, so that digits may reach beyond the end
	for i := range 4 {
		words[i] = binary.LittleEndian.Uint64(scalar[8*i:])
	}
	digits := out[:digitsOf(bits)]
	carry := 0
	for i := range digits {
		at := i * bits
		d := int((words[at/64]>>(at%64)|words[at/64+1]<<1<<(63-at%64))&(1<<bits-1)) + carry
		carry = 0
		if d > 1<<(bits-1) {
			d -= 1 << bits
			carry = 1
		}
		digits[i] = int8(d)
	}
	return digits
}
