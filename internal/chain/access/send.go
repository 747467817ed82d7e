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
	results := make(chan error, len(batch))
	for _, s := range batch {
		c.background.Go(func() {
			_, err := ask[ton.SendMessageStatus](context.WithoutCancel(ctx), s, ton.SendMessage{Body: boc})
			var r *refusal
			if errors.As(err, &r) { // the message's fault, as far as one can tell
				results <- fmt.Errorf("%w: %s says: %s", ErrNotAccepted, s.Address, r.text)
				return
			}
			results <- c.settle(s, err)
		})
	}
	var failures []error
	for range batch {
		select {
		case err := <-results:
			if err == nil {
				return nil
			}
			failures = append(failures, err)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return errors.Join(failures...)
}
