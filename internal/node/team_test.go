//go:build !tee

package node

import (
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/cocoon-network/cocoon/internal/api"
	"github.com/cocoon-network/cocoon/internal/api/team"
	"github.com/cocoon-network/cocoon/internal/engine/enginetest"
	"github.com/cocoon-network/cocoon/internal/money/coins"
)

// TestBudgetIsWhatTheProxyCharged sends calls of all endings through client,
// proxy and worker: the key's account is the proxy's, to the nano, nothing stays
// held, and a budget that is used up lets nothing more through.
func TestBudgetIsWhatTheProxyCharged(t *testing.T) {
	t.Parallel()
	for _, mode := range []api.Seal{api.SealRequire, api.SealOff} {
		t.Run(string(mode), func(t *testing.T) {
			n := startNet(t, sealedAs(mode))
			n.startWorker(1, &enginetest.StandIn{})
			n.waitWorkers(1)
			s, err := team.Open(t.Context(), filepath.Join(t.TempDir(), "keys.db"))
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			secret, k, err := s.Create(t.Context(), "alice", team.Limits{})
			if err != nil {
				t.Fatal(err)
			}
			gw, err := api.New(api.Config{Backend: n.client, Seal: mode, Logger: n.log, Team: s, Answers: s})
			if err != nil {
				t.Fatal(err)
			}
			defer gw.Settled()
			n.gateway = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				r.Header.Set("Authorization", "Bearer "+secret)
				gw.ServeHTTP(w, r)
			}))
			defer n.gateway.Close()
			usage := func() *api.Usage {
				t.Helper()
				u, err := s.Usage(t.Context(), k.ID, time.Now(), time.Now())
				if err != nil {
					t.Fatal(err)
				}
				return u
			}
			var wg sync.WaitGroup
			for i := range 12 {
				wg.Go(func() {
					leave := 0
					if i%3 == 2 {
						leave = 2 // in the middle of a stream
					}
					if r := n.ask(t.Context(), i%3 > 0, 50, leave); r.status != 200 || leave == 0 && !r.done {
						t.Errorf("%+v", r)
					}
				})
			}
			wg.Wait()
			const price = 20
			n.eventually("the key's account is the proxy's", func() bool {
				u := usage()
				return u.ReservedNano == 0 && u.SpentNano > 0 && u.SpentNano == coins.Nano(n.used()*price)
			})
			spent := usage().SpentNano
			if _, err := s.Set(t.Context(), "alice", func(l *team.Limits, _ *bool) error { l.Budget = &spent; return nil }); err != nil {
				t.Fatal(err)
			}
			if r := n.ask(t.Context(), false, 50, 0); r.status != 429 {
				t.Errorf("beyond the budget: %+v", r)
			}
			if u := usage(); u.SpentNano != spent || u.ReservedNano != 0 || n.used()*price != int64(spent) {
				t.Errorf("%+v, the proxy charged %d", u, n.used()*price)
			}
		})
	}
}
