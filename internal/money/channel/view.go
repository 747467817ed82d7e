package channel

import (
	"errors"
	"fmt"
)

// ErrCounterBack says that a proxy names a lower counter than before. A
// worker closes the connection; a client keeps what it holds and goes on
// (spec network-protocol 4.2, 4.3).
var ErrCounterBack = errors.New("proxy's counter went back")

// SignedPayment is a payment whose signature, operation and contract were
// checked.
type SignedPayment struct {
	Tokens int64  // the cumulative counter it pays
	Data   []byte // as received; not changed, not shared with anything that does
}

// Report is what a proxy says of one channel in one message.
type Report struct {
	// Payment is the signed payment, nil where the message holds none.
	Payment *SignedPayment
	// HasCounters says whether the message names the two counters.
	HasCounters   bool
	Durable, Used int64
}

// View is what a client or a worker knows of its channel at one proxy
// contract: the best payment it holds and the highest counters it heard. The
// zero value is a new channel.
type View struct {
	best  SignedPayment
	heard Counters
}

// Restore returns the view that was stored earlier.
func Restore(best SignedPayment, heard Counters) (View, error) {
	if err := heard.Check(); err != nil {
		return View{}, err
	}
	if best.Tokens < 0 || best.Tokens > heard.Committed {
		return View{}, fmt.Errorf("%w: a payment of %d tokens, %d committed", ErrCounters, best.Tokens, heard.Committed)
	}
	return View{best, heard}, nil
}

// Best returns the payment with the highest counter; zero if there is none.
func (v View) Best() SignedPayment { return v.best }

// Heard returns the highest counters the proxy named. Committed is that of
// the best payment.
func (v View) Heard() Counters { return v.heard }

// Hear takes in what the proxy says. Whatever is higher than before is kept,
// even if the rest is refused: a valid payment is worth money. It fails with
// ErrCounterBack or, for a report that contradicts itself, ErrCounters.
func (v View) Hear(r Report) (View, error) {
	var err error
	named := v.heard
	if r.Payment != nil {
		named.Committed = r.Payment.Tokens
	}
	if r.HasCounters {
		named.Durable, named.Used = r.Durable, r.Used
	} else {
		// A payment alone implies that the later stages are at least as high.
		named.Durable = max(named.Durable, named.Committed)
		named.Used = max(named.Used, named.Durable)
	}
	if err = named.Check(); err == nil {
		switch {
		case named.Committed < v.heard.Committed:
			err = fmt.Errorf("%w: signed payment of %d tokens, held is one of %d", ErrCounterBack, named.Committed, v.heard.Committed)
		case named.Durable < v.heard.Durable:
			err = fmt.Errorf("%w: %d tokens in its database, before %d", ErrCounterBack, named.Durable, v.heard.Durable)
		case named.Used < v.heard.Used:
			err = fmt.Errorf("%w: %d tokens, before %d", ErrCounterBack, named.Used, v.heard.Used)
		}
		v.heard = v.heard.max(named)
	}
	if r.Payment != nil && r.Payment.Tokens >= 0 && (r.Payment.Tokens > v.best.Tokens || v.best.Data == nil) {
		v.best = *r.Payment
		v.heard = v.heard.max(Counters{r.Payment.Tokens, r.Payment.Tokens, r.Payment.Tokens})
	}
	return v, err
}
