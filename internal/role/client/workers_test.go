package client

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/cocoon-network/cocoon/internal/envelope"
	"github.com/cocoon-network/cocoon/internal/tee"
)

// The session after the one in use is there before it is needed, and no session
// serves more than it may.
func TestSessionAhead(t *testing.T) {
	key, err := envelope.NewSealKey()
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		d := newDirectory(&session{c: &Client{start: time.Now()}})
		k := &known{node: &tee.Node{SealKey: key.Public()}}
		uses := map[*envelope.Session]int{}
		for n := range 3 * envelope.SessionRequests {
			ahead := k.next
			if n%envelope.SessionRequests == 0 && n > 0 && ahead == nil {
				t.Fatalf("request %d has to wait for a session", n)
			}
			s, err := d.sealSession(k)
			if err != nil {
				t.Fatal(err)
			}
			if n%envelope.SessionRequests == 0 && n > 0 && s != ahead {
				t.Fatalf("request %d has another session than the one made ahead", n)
			}
			if uses[s]++; uses[s] > envelope.SessionRequests {
				t.Fatal("a session serves too many")
			}
			synctest.Wait()
		}
		if len(uses) != 3 {
			t.Errorf("%d sessions", len(uses))
		}
		// One that waited too long is not used.
		time.Sleep(envelope.SessionLife)
		old := k.next
		if s, err := d.sealSession(k); err != nil || s == old || uses[s] > 0 {
			t.Errorf("a session from before, %v", err)
		}
	})
}
