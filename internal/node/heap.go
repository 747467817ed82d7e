package node

import (
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"sync"
)

// smallHeap is what a role's heap may grow to before it is collected, if what
// lives in it and half as much again is less. Go's own rule would mark the two megabytes that
// live in a quiet role for every four that are made, a hundred times a second
// under load, and let the garbage of a role with many streams grow by the size
// of their stacks as well. Beyond this the caches of a processor miss more than
// the collector costs. goHeap is what Go lets a heap grow to in any case, at 100
// percent.
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
	at := []metrics.Sample{{Name: "/gc/heap/live:bytes"}, {Name: "/memory/classes/heap/stacks:bytes"}}
	metrics.Read(at)
	live, stacks := int64(at[0].Value.Uint64()), int64(at[1].Value.Uint64())
	// Go adds percent of both to what lives.
	percent := int(100 * max(live/2, smallHeap-live) / max(live+stacks, 1))
	percent = max(20, min(percent, 100*smallHeap/goHeap))
	// Setting it stops the program for a moment; near the old value is near enough.
	if d := percent - last; d*8 > last || -d*8 > last {
		debug.SetGCPercent(percent)
		last = percent
	}
	runtime.AddCleanup(new(*byte), tuneCollector, last)
}
