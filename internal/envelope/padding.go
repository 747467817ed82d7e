package envelope

import (
	"encoding/binary"
	"fmt"
	"math/bits"
)

// Bucket rounds a length up, so that it says little: to 1,024 at least, and
// above that to the next quarter of a power of two, which adds at most a
// quarter.
func Bucket(n int) int {
	if n <= 1024 {
		return 1024
	}
	quarter := 1 << (bits.Len(uint(n-1)) - 3)
	return (n + quarter - 1) / quarter * quarter
}

// pad lengthens b, whose first four bytes are room for the length of the rest,
// to size(len(b)) bytes of zeros at its end.
func pad(b []byte, size func(int) int) []byte {
	n := len(b)
	binary.LittleEndian.PutUint32(b, uint32(n-4))
	total := size(n)
	for cap(b) < total {
		b = append(b[:cap(b)], 0)
	}
	clear(b[n:total])
	return b[:total]
}

// unpad is the inverse of pad. Padding that is not zero is refused: a value has
// one encoding.
func unpad(b []byte, size func(int) int) ([]byte, error) {
	if len(b) < 4 {
		return nil, fmt.Errorf("%w: padding", ErrFormat)
	}
	n := int64(binary.LittleEndian.Uint32(b)) + 4
	if n > int64(len(b)) || size(int(n)) != len(b) {
		return nil, fmt.Errorf("%w: padding", ErrFormat)
	}
	for _, x := range b[n:] {
		if x != 0 {
			return nil, fmt.Errorf("%w: padding", ErrFormat)
		}
	}
	return b[4:n], nil
}

// multiple rounds up to a multiple of bucket.
func multiple(bucket int) func(int) int {
	return func(n int) int { return (n + bucket - 1) / bucket * bucket }
}
