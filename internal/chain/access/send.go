package access

import (
	"context"
	"errors"
	"fmt"

	"github.com/xssnick/tonutils-go/ton"
)

// Send hands an external message, a bag of cells, to several servers. Success
// means that one of them has taken it, which promises nothing: only a proven
// transaction shows that it was executed. ErrNotAccepted carries the reason
// when all refuse it.
func (c *Client) Send(ctx context.Context, boc []byte) error {
	batch := c.pick(asked, nil)
	if len(batch) == 0 {
		return noServer(nil)
	}
	type result struct{ reason, fault error }
	results := make(chan result, len(batch))
	for _, s := range batch {
		c.background.Go(func() {
			_, err := ask[ton.SendMessageStatus](context.WithoutCancel(ctx), s, ton.SendMessage{Body: boc})
			var r *refusal
			if errors.As(err, &r) { // the message's fault, as far as one can tell
				results <- result{reason: fmt.Errorf("liteserver %s says: %s", s.Address, r.text)}
				return
			}
			results <- result{fault: c.settle(s, err)}
		})
	}
	var reasons, faults []error
	for range batch {
		select {
		case r := <-results:
			switch {
			case r.reason != nil:
				reasons = append(reasons, r.reason)
			case r.fault != nil:
				faults = append(faults, r.fault)
			default:
				return nil
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if len(reasons) > 0 {
		return &joined{head: ErrNotAccepted, causes: reasons}
	}
	return noServer(faults)
}
