package access

import (
	"errors"
	"fmt"
)

// What a server can be guilty of. Each reaches the caller inside a
// ServerError.
var (
	ErrUnreachable  = errors.New("cannot be reached")
	ErrStalled      = errors.New("does not answer in time")
	ErrTooLarge     = errors.New("answers more than allowed")
	ErrMalformed    = errors.New("answers what cannot be read")
	ErrRefused      = errors.New("refuses the query")
	ErrForged       = errors.New("gives a proof that does not hold")
	ErrOldHead      = errors.New("offers an older head than was already proven")
	ErrFork         = errors.New("offers another block than the proven one of this number")
	ErrLagging      = errors.New("stays behind the other servers")
	ErrWrongNetwork = errors.New("is of another network")
)

// What the client as a whole can fail with.
var (
	ErrConfig       = errors.New("global configuration is not usable")
	ErrNoInitBlock  = errors.New("global configuration has no init block")
	ErrNoServer     = errors.New("no liteserver serves")
	ErrStale        = errors.New("newest proven block is too old")
	ErrRollback     = errors.New("chain does not contain the block that was newest before")
	ErrUnknownBlock = errors.New("no such block in this chain yet")
	ErrTooMany      = errors.New("too many transactions")
	ErrNotAccepted  = errors.New("message was not accepted")
	ErrNoCode       = errors.New("account has no code")
	ErrOffline      = errors.New("no access to a chain")
)

// ServerError says which server failed and how; Err wraps one of the server
// sentinels.
type ServerError struct {
	Server string // ip:port
	Err    error
}

func (e *ServerError) Error() string { return fmt.Sprintf("liteserver %s %v", e.Server, e.Err) }

func (e *ServerError) Unwrap() error { return e.Err }

// ExitError is the failure of a get-method in the local TVM.
type ExitError struct {
	Method string
	Code   int64
}

func (e *ExitError) Error() string {
	return fmt.Sprintf("get-method %s ends with exit code %d", e.Method, e.Code)
}

// joined is a sentinel with what led to it, on one line.
type joined struct {
	head   error
	causes []error
}

func (j *joined) Error() string {
	s := j.head.Error()
	between := ": "
	for _, c := range j.causes {
		s += between + c.Error()
		between = "; "
	}
	return s
}

func (j *joined) Unwrap() []error { return append([]error{j.head}, j.causes...) }

// noted adds detail to a sentinel. The cause is text only: what happens inside
// a server's answer is no part of our contract.
func noted(sentinel error, detail any) error {
	return fmt.Errorf("%w: %v", sentinel, detail)
}

// guard turns a panic while reading foreign bytes into an error of the server.
func guard(err *error) {
	if r := recover(); r != nil {
		*err = noted(ErrMalformed, fmt.Sprintf("reading it panics: %v", r))
	}
}
