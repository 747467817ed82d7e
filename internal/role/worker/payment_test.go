package worker

import (
	"crypto/ed25519"
	"errors"
	"testing"
	"testing/synctest"

	"github.com/cocoon-network/cocoon"
	"github.com/cocoon-network/cocoon/internal/chain/bindings"
	"github.com/cocoon-network/cocoon/internal/money/channel"
	"github.com/cocoon-network/cocoon/internal/wire/schema"
)

// TestPaymentsDoNotWaitForTheDisk: the reader takes payment after payment while
// the disk is busy; the book then has the best, and nothing it has not.
func TestPaymentsDoNotWaitForTheDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		key := ed25519.NewKeyFromSeed(make([]byte, 32))
		contract := cocoon.Address{Hash: [32]byte{1}}
		sign := func(tokens uint64) schema.ProxySignedPaymentType {
			b, err := bindings.SignPayment(bindings.KeySigner(key), bindings.WorkerPayout, contract, tokens, tokens, cocoon.Address{})
			if err != nil {
				t.Fatal(err)
			}
			return &schema.ProxySignedPayment{Data: b}
		}
		s := &session{proxyKey: [32]byte(key.Public().(ed25519.PublicKey)), contract: contract}
		disk, book := make(chan struct{}), channel.View{}
		s.saver.Write = func(v channel.View) {
			<-disk
			book = v
		}
		for n := range int64(20) {
			if err := s.learn(sign(uint64(n)), n+1, n+2, nil); err != nil {
				t.Fatal(err)
			}
		}
		if s.view.Best().Tokens != 19 || book.Best().Tokens != 0 {
			t.Errorf("heard %d, written %d before the disk had it", s.view.Best().Tokens, book.Best().Tokens)
		}
		close(disk)
		s.saver.Wait()
		if book.Best().Tokens != 19 || len(book.Best().Data) == 0 {
			t.Errorf("the book has a payment of %d tokens, want 19", book.Best().Tokens)
		}

		// A worker is strict: what was promised must not shrink. An answer that
		// messages overtook has not.
		before := s.view
		if err := s.learn(sign(30), 40, 40, nil); err != nil {
			t.Fatal(err)
		}
		if err := s.learn(sign(25), 35, 35, &before); err != nil {
			t.Errorf("an answer that was overtaken: %v", err)
		}
		if err := s.learn(sign(25), 35, 35, nil); !errors.Is(err, channel.ErrCounterBack) {
			t.Errorf("a counter that went back: %v", err)
		}
		s.saver.Wait()
	})
}
