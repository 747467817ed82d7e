package topo

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/cocoon-network/cocoon/bench/engine"
	"github.com/cocoon-network/cocoon/bench/load"
)

// TestTopologies carries whole and streamed answers through every chain: what
// is measured is what was meant to be.
func TestTopologies(t *testing.T) {
	dir := t.TempDir()
	build := func(out, from, pkg string) string {
		path := filepath.Join(dir, out)
		cmd := exec.Command("go", "build", "-o", path, pkg)
		cmd.Dir = from
		if b, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, b)
		}
		return path
	}
	srv := httptest.NewServer(http.Handler(&engine.Handler{}))
	defer srv.Close()
	e := Env{Dir: dir, Cocoon: build("cocoon", "../..", "./cmd/cocoon"), Self: build("bench", "..", "."), Engine: srv.Listener.Addr().String(), Hops: []int{0}}
	for _, kind := range []Kind{Direct, Nginx3, Haproxy3, Ours0, Ours1, Sealed, Receipts} {
		t.Run(string(kind), func(t *testing.T) {
			top, err := StartTopology(t.Context(), kind, e)
			if errors.Is(err, ErrMissing) {
				t.Skip(err)
			}
			if err != nil {
				t.Fatal(err)
			}
			defer top.Stop()
			for _, stream := range []bool{false, true} {
				r := load.Run(context.Background(), load.Plan{Addrs: top.Addrs, Conns: 4, Count: 40, Time: time.Minute, Order: engine.Order{Stream: stream, Chunks: 5, Size: 30}}, nil, nil)
				if r.Requests != 40 || len(r.Errors) > 0 {
					t.Errorf("stream=%v: %d requests, %v %v", stream, r.Requests, r.Errors, r.Samples)
				}
			}
			if kind == Direct {
				return
			}
			pss, err := top.PSS()
			if err != nil || len(pss) != 3 {
				t.Errorf("memory of %d hops, %v", len(pss), err)
			}
			if cpu, err := top.CPU(); err != nil || cpu <= 0 {
				t.Errorf("the hops ran %v, %v", cpu, err)
			}
		})
	}
}
