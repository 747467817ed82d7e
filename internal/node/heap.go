package node

import (
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"sync"
)

// smallHeap is what a role's heap may grow to before it is collected. By Go's
// own rule the two megabytes that live in a role would be marked for every four
// that are made, a hundred times a second under load; by this one a role with
// little takes some megabytes more, and a role with much takes nothing more.
// Beyond this the caches of a processor miss more than the collector costs.
// goHeap is what Go lets a heap grow to in any case, at 100 percent.
const (
	smallHeap = 10 << 20
	goHeap    = 4 << 20
)

// spareCollections keeps the collector from work that frees little. Whoever
// sets GOGC or GOMEMLIMIT decides himself.
var spareCollections = sync.OnceFunc(func() {
	if os.Getenv("GOGC") == "" && os.Getenv("GOMEMLIMIT") == "" {
		tuneCollector(0)
	}
})

// tuneCollector sets how far the heap may grow, now and after each collection.
func tuneCollector(last int) {
	live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(live)
	percent := 100
	if n := int64(live[0].Value.Uint64()); n < smallHeap/2 {
		percent = int(min(100*(smallHeap-n)/max(n, 1), 100*smallHeap/goHeap))
	}
	// Setting it stops the program for a moment; near the old value is near enough.
	if d := percent - last; d*8 > last || -d*8 > last {
		debug.SetGCPercent(percent)
		last = percent
	}
	runtime.AddCleanup(new(*byte), tuneCollector, last)
}
