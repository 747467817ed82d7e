package envelope

import (
	"errors"
	"sync"
	"time"
)

// ConsentWithin is how long a client has to give credit after an acceptance.
const ConsentWithin = 10 * time.Second

// ErrNoConsent ends requests whose client gave no credit in time.
var ErrNoConsent = errors.New("sealed request: accepted, and the client gave no credit: nothing is charged")

// Credit is the consent to one request (docs/protocol.md, consent): the
// acceptance travels on none, everything after it waits for the client's first
// credit, and only with it anything can be charged or nothing be tried again.
// The zero value has seen nothing.
type Credit struct {
	mu    sync.Mutex
	state creditState
}

type creditState int

const (
	creditNone     creditState = iota // no acceptance went on: another worker may be tried
	creditAwaited                     // the acceptance went on
	creditGiven                       // the client consented
	creditRefused                     // it never will: ended before
	creditFinished                    // ended after
)

// Accepted notes that the acceptance went on. A second one is refused: false.
func (c *Credit) Accepted() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.state != creditNone {
		return false
	}
	c.state = creditAwaited
	return true
}

// Give notes credit. It reports whether it was the first: the consent. Credit
// without an acceptance, or after the end, is none.
func (c *Credit) Give() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.state != creditAwaited {
		return false
	}
	c.state = creditGiven
	return true
}

// End closes the state, and reports whether there was consent.
func (c *Credit) End() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch c.state {
	case creditGiven, creditFinished:
		c.state = creditFinished
		return true
	}
	c.state = creditRefused
	return false
}

// MayRetry reports whether another worker may be tried.
func (c *Credit) MayRetry() bool { return c.is(creditNone) }

// Given reports whether the client consented: what is made is owed.
func (c *Credit) Given() bool { return c.is(creditGiven) || c.is(creditFinished) }

func (c *Credit) is(s creditState) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.state == s
}
