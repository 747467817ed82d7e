package nodekey

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha512"
	"encoding/hex"
	"fmt"
	"sync"
	"testing"

	"filippo.io/edwards25519"
)

// tablesOf returns the tables of a key that decodes, nil otherwise.
func tablesOf(key []byte) *comb {
	if c, ok := made[string(key)]; ok {
		return c
	}
	clear(made)
	made[string(key)] = makeTables(key)
	return made[string(key)]
}

var made = map[string]*comb{} // the newest

func makeTables(key []byte) *comb {
	a, err := new(edwards25519.Point).SetBytes(key)
	if err != nil {
		return nil
	}
	return newComb(a.Negate(a), keyBits, keyPhases)
}

// agree holds the tables against crypto/ed25519.
func agree(t *testing.T, key, message, sig []byte) bool {
	t.Helper()
	want := ed25519.Verify(key, message, sig)
	c := tablesOf(key)
	if c == nil {
		if want {
			t.Fatalf("key %x verifies and does not decode", key)
		}
		return want
	}
	if got := c.verify([32]byte(key), message, sig); got != want {
		t.Fatalf("tables say %v, crypto/ed25519 says %v: key %x message %x signature %x", got, want, key, message, sig)
	}
	return want
}

func TestGoodAndBad(t *testing.T) {
	for i := range 10 {
		pub, private, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		message := make([]byte, i*i*7)
		rand.Read(message)
		sig := ed25519.Sign(private, message)
		if !agree(t, pub, message, sig) {
			t.Fatal("a good signature is refused")
		}
		for bit := i; bit < len(sig)*8; bit += 10 {
			bad := bytes.Clone(sig)
			bad[bit/8] ^= 1 << (bit % 8)
			if agree(t, pub, message, bad) {
				t.Fatalf("bit %d changed: still good", bit)
			}
		}
		if agree(t, pub, append(message, 0), sig) || agree(t, pub, message, sig[:63]) || agree(t, pub, message, append(bytes.Clone(sig), 0)) || agree(t, pub, message, nil) {
			t.Fatal("another message or length is good")
		}
	}
}

// order is L of the base point, little endian.
var order = unhex("edd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010")

func unhex(s string) []byte {
	b, err := hex.DecodeString(s)
	if err != nil {
		panic(err)
	}
	return b
}

// Points of small order, in all their encodings, canonical and not.
var small = [][]byte{
	unhex("0100000000000000000000000000000000000000000000000000000000000000"),
	unhex("0100000000000000000000000000000000000000000000000000000000000080"),
	unhex("ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"),
	unhex("ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff"),
	unhex("0000000000000000000000000000000000000000000000000000000000000000"),
	unhex("0000000000000000000000000000000000000000000000000000000000000080"),
	unhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"),
	unhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85"),
	unhex("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a"),
	unhex("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa"),
	unhex("edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"),
	unhex("edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff"),
	unhex("eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"),
	unhex("eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff"),
}

// Where implementations differ: keys and Rs of small order and in second
// encodings, with or without a part of small order, S at and above the order.
func TestEdges(t *testing.T) {
	good := 0
	seen := func(ok bool) {
		if ok {
			good++
		}
	}
	for _, a := range small {
		for _, r := range small {
			for i := range 4 {
				for _, s := range [][]byte{make([]byte, 32), order, unhex("ecd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010"), bytes.Repeat([]byte{0xff}, 32)} {
					seen(agree(t, a, fmt.Appendf(nil, "message %d", i), append(bytes.Clone(r), s...)))
				}
			}
		}
	}
	if good == 0 {
		t.Error("no signature of small order is good, which crypto/ed25519 takes: this tests nothing")
	}
	// A key with a part of small order, which signs knowing its discrete log:
	// S·B = R + k·A only if that part cancels.
	pub, private, _ := ed25519.GenerateKey(rand.Reader)
	seed := sha512.Sum512(private.Seed())
	x, err := new(edwards25519.Scalar).SetBytesWithClamping(seed[:32])
	if err != nil {
		t.Fatal(err)
	}
	good = 0
	for _, torsion := range small[:10] {
		p, err := new(edwards25519.Point).SetBytes(torsion)
		if err != nil {
			continue // x = 0 with a sign
		}
		a, _ := new(edwards25519.Point).SetBytes(pub)
		key := a.Add(a, p).Bytes()
		for i := range 16 {
			message := fmt.Appendf(nil, "mixed %d", i)
			var wide [64]byte
			rand.Read(wide[:])
			r, _ := new(edwards25519.Scalar).SetUniformBytes(wide[:])
			for _, big := range []*edwards25519.Point{edwards25519.NewIdentityPoint(), p} {
				R := new(edwards25519.Point).ScalarBaseMult(r)
				R.Add(R, big)
				h := sha512.Sum512(append(append(R.Bytes(), key...), message...))
				k, _ := new(edwards25519.Scalar).SetUniformBytes(h[:])
				s := new(edwards25519.Scalar).MultiplyAdd(k, x, r)
				sig := append(R.Bytes(), s.Bytes()...)
				seen(agree(t, key, message, sig))
				// The same S one order higher is another encoding.
				if above := addOrder(s.Bytes()); above != nil && agree(t, key, message, append(R.Bytes(), above...)) {
					t.Error("S above the order is taken")
				}
			}
		}
	}
	if good == 0 {
		t.Error("no mixed signature is good: this tests nothing")
	}
}

// addOrder returns s + L, nil if it has more than 32 bytes.
func addOrder(s []byte) []byte {
	out := make([]byte, 32)
	carry := 0
	for i := range out {
		carry += int(s[i]) + int(order[i])
		out[i] = byte(carry)
		carry >>= 8
	}
	if carry > 0 {
		return nil
	}
	return out
}

// Each scalar is what its digits add up to.
func TestDigits(t *testing.T) {
	scalars := []*edwards25519.Scalar{edwards25519.NewScalar()}
	for _, b := range [][]byte{unhex("ecd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010"), append([]byte{1}, make([]byte, 31)...), append(bytes.Repeat([]byte{0xff}, 31), 0x0f)} {
		s, err := new(edwards25519.Scalar).SetCanonicalBytes(b)
		if err != nil {
			t.Fatal(err)
		}
		scalars = append(scalars, s)
	}
	for range 200 {
		var wide [64]byte
		rand.Read(wide[:])
		s, _ := new(edwards25519.Scalar).SetUniformBytes(wide[:])
		scalars = append(scalars, s)
	}
	for _, bits := range []int{keyBits, baseBits} {
		two := small32(uint(1) << bits)
		for _, s := range scalars {
			var buf [maxDigits]int8
			sum := edwards25519.NewScalar()
			digits := signedDigits(&buf, s.Bytes(), bits)
			for i := len(digits) - 1; i >= 0; i-- {
				d := int(digits[i])
				if d > 1<<(bits-1) || d < -(1<<(bits-1)) {
					t.Fatalf("digit %d", d)
				}
				v := small32(uint(max(d, -d)))
				if d < 0 {
					v.Negate(v)
				}
				sum.MultiplyAdd(sum, two, v)
			}
			if sum.Equal(s) != 1 {
				t.Fatalf("%x in digits of %d bits is %x", s.Bytes(), bits, sum.Bytes())
			}
		}
	}
}

func small32(n uint) *edwards25519.Scalar {
	b := make([]byte, 32)
	b[0], b[1] = byte(n), byte(n>>8)
	s, err := new(edwards25519.Scalar).SetCanonicalBytes(b)
	if err != nil {
		panic(err)
	}
	return s
}

// A key earns its tables by good signatures only, and says the same before and
// after, however many ask at once.
func TestTablesAreEarned(t *testing.T) {
	k := keys{m: map[[32]byte]*entry{}}
	for i := range tablesAfter {
		key := [32]byte{9}
		if k.tables(key) != nil {
			t.Fatal("tables too early")
		}
		if k.count(key); k.m[key].good != i+1 {
			t.Fatal("not counted")
		}
	}
	pub, private, _ := ed25519.GenerateKey(rand.Reader)
	key := [32]byte(pub)
	message := []byte("message")
	sig := ed25519.Sign(private, message)
	bad := ed25519.Sign(private, []byte("another"))
	if Verify(key, message, bad) || known.m[key] != nil {
		t.Fatal("a bad signature counts")
	}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 2 * tablesAfter {
				if !Verify(key, message, sig) || Verify(key, message, bad) {
					t.Error("wrong")
				}
			}
		})
	}
	wg.Wait()
	if known.tables(key) == nil {
		t.Error("no tables after many signatures")
	}
}

// Memory is bounded, and a key that is not used makes room.
func TestRoom(t *testing.T) {
	k := keys{m: map[[32]byte]*entry{}}
	name := func(i int) [32]byte { return [32]byte{byte(i), byte(i >> 8), 1} }
	for i := range maxKeys + 10 {
		k.tables(name(i))
		k.count(name(i))
	}
	if len(k.m) != maxKeys || k.m[name(maxKeys)] != nil {
		t.Fatalf("%d keys", len(k.m))
	}
	k.now += idleAfter + maxKeys
	k.tables(name(0)) // it is awake
	k.count(name(maxKeys))
	if len(k.m) != maxKeys || k.m[name(maxKeys)] == nil || k.m[name(0)] == nil {
		t.Error("no room was made, or of the wrong one")
	}
}

func FuzzVerify(f *testing.F) {
	pub, private, _ := ed25519.GenerateKey(rand.Reader)
	f.Add([]byte(pub), []byte("message"), ed25519.Sign(private, []byte("message")))
	for _, s := range small {
		f.Add(s, []byte("message"), append(bytes.Clone(s), make([]byte, 32)...))
	}
	f.Fuzz(func(t *testing.T, key, message, sig []byte) {
		if len(key) == 32 {
			agree(t, key, message, sig)
		}
	})
}

func BenchmarkVerify(b *testing.B) {
	pub, private, _ := ed25519.GenerateKey(rand.Reader)
	message := make([]byte, 200)
	sig := ed25519.Sign(private, message)
	b.Run("standard", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			ed25519.Verify(pub, message, sig)
		}
	})
	b.Run("tables", func(b *testing.B) {
		c := tablesOf(pub)
		b.ReportAllocs()
		for b.Loop() {
			if !c.verify([32]byte(pub), message, sig) {
				b.Fatal("bad")
			}
		}
	})
	b.Run("make", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			makeTables(pub)
		}
	})
}
