// Package tl is the TL encoding: little-endian words, length-prefixed byte
// strings padded to four bytes, counted vectors (spec network-protocol 3.1).
//
// Writers append to a slice and cannot fail. A Reader walks a slice, keeps its
// first error and returns zero values after it, so that a decoder is written
// straight down and asks once at the end.
//
// Owns: the encoding of every TL field type; no objects.
// Imports: nothing of this module.
// Trust: a Reader's input is foreign; nothing is allocated for a length or a
// count that the input cannot hold. Errors never quote the input.
// Concurrency: no shared state; a Reader belongs to one goroutine.
package tl

import (
	"encoding/binary"
	"math"
)

// Ids of the two Bool constructors.
const (
	boolTrue  = 0x997275b5
	boolFalse = 0xbc799737
)

// Lengths at which the prefix of a byte string grows.
const (
	shortLimit = 254
	longLimit  = 1 << 24
)

// AppendUint32 appends v: an id, or a flags field.
func AppendUint32(b []byte, v uint32) []byte { return binary.LittleEndian.AppendUint32(b, v) }

// AppendInt32 appends an int.
func AppendInt32(b []byte, v int32) []byte { return binary.LittleEndian.AppendUint32(b, uint32(v)) }

// AppendInt64 appends a long.
func AppendInt64(b []byte, v int64) []byte { return binary.LittleEndian.AppendUint64(b, uint64(v)) }

// AppendFloat64 appends a double.
func AppendFloat64(b []byte, v float64) []byte {
	return binary.LittleEndian.AppendUint64(b, math.Float64bits(v))
}

// AppendBool appends a boxed Bool.
func AppendBool(b []byte, v bool) []byte {
	if v {
		return AppendUint32(b, boolTrue)
	}
	return AppendUint32(b, boolFalse)
}

// AppendBytes appends a string or bytes field: shortest length prefix, data,
// zero padding.
func AppendBytes[T string | []byte](b []byte, v T) []byte {
	b = AppendBytesPrefix(b, len(v))
	b = append(b, v...)
	return AppendPadding(b, len(v))
}

// AppendBytesPrefix appends what stands before the n bytes of a byte string,
// for callers that append the data themselves.
func AppendBytesPrefix(b []byte, n int) []byte {
	switch {
	case n < shortLimit:
		return append(b, byte(n))
	case n < longLimit:
		return append(b, 0xfe, byte(n), byte(n>>8), byte(n>>16))
	default:
		return binary.LittleEndian.AppendUint64(b, uint64(n)<<8|0xff)
	}
}

// AppendPadding appends what stands after the n bytes of a byte string.
func AppendPadding(b []byte, n int) []byte {
	var zero [3]byte
	return append(b, zero[:BytesSize(n)-prefixSize(n)-n]...)
}

// BytesSize returns the size in bytes of the encoding of a byte string of
// length n.
func BytesSize(n int) int { return (prefixSize(n) + n + 3) &^ 3 }

func prefixSize(n int) int {
	switch {
	case n < shortLimit:
		return 1
	case n < longLimit:
		return 4
	default:
		return 8
	}
}
