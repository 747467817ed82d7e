// Package wire holds what all parts of the network protocol share: limits,
// protocol versions, levels and the error that may cross a connection. The
// parts stand below it: tl (codec), schema (objects), pow (proof of work),
// mux (framing, queries, windows).
//
// Owns: Error, limits, versions.
// Imports: nothing of this module.
// Trust: everything a peer sent is foreign; each decoder is bounded.
package wire

import (
	"errors"
	"fmt"
)

// Limits of the transport (spec network-protocol 2.5).
const (
	MinPacket = 4
	MaxPacket = 1 << 24
)

// ALPN is offered by our peers; the reference neither sends nor reads one.
// A connection on which both sides chose it speaks level 1 (docs/protocol.md).
const ALPN = "cocoon/1"

// Levels of a connection.
const (
	Level0 = 0 // the reference protocol alone
	Level1 = 1 // plus the objects of level1.tl
)

// Code is an error number of the reference protocol (spec network-protocol 4.6).
type Code int32

// The codes. CodeNone is sent where the reference gives no number.
const (
	CodeNone              Code = 0
	CodeFailure           Code = 601
	CodeError             Code = 602
	CodeWarning           Code = 603
	CodeProtocolViolation Code = 621
	CodeNotReady          Code = 651
	CodeTimeout           Code = 652
	CodeCancelled         Code = 653

	// Of sealed requests, between peers of level 1 alone. A worker that does
	// not know the session is asked again with a new set-up; one that refuses an
	// envelope refuses that envelope for good.
	CodeUnknownSession Code = 671
	CodeSealRefused    Code = 672
	CodeNoConsent      Code = 673
	CodeNoCandidate    Code = 674 // none of the workers it is sealed to is connected
)

// Error is the only error that crosses a connection. Text must not contain
// prompts, answers or keys.
type Error struct {
	Code Code
	Text string
}

// Errorf makes an Error.
func Errorf(code Code, format string, args ...any) *Error {
	return &Error{Code: code, Text: fmt.Sprintf(format, args...)}
}

func (e *Error) Error() string { return fmt.Sprintf("%s (code %d)", e.Text, e.Code) }

// Public returns what a peer may hear of err: err itself if it is an *Error,
// "internal error" otherwise.
func Public(err error) *Error {
	var e *Error
	if errors.As(err, &e) {
		return e
	}
	return &Error{Code: CodeFailure, Text: "internal error"}
}
