//go:build !linux

package sealedkeys

import (
	"context"
	"errors"
	"net"
)

// ErrPlatform is the answer where no confidential guest can run.
var ErrPlatform = errors.New("sealedkeys: only Linux guests have sealed keys")

// TDReport fails on this operating system.
func TDReport(context.Context, [64]byte) ([]byte, error) { return nil, ErrPlatform }

func derivedKey(context.Context, [32]byte) (answer [DerivedKeySize]byte, err error) {
	return answer, ErrPlatform
}

// DialVSOCK fails on this operating system.
func DialVSOCK(cid, port uint32) func(ctx context.Context) (net.Conn, error) {
	return func(context.Context) (net.Conn, error) { return nil, ErrPlatform }
}
