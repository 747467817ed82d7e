package node

import (
	"runtime"
	"runtime/debug"
	"testing"
	"time"
)

// TestSpareCollections: little that lives may grow further than Go's rule says,
// much may not, and the change follows the heap by itself.
func TestSpareCollections(t *testing.T) {
	percent := func() int {
		p := debug.SetGCPercent(100)
		debug.SetGCPercent(p)
		return p
	}
	old := percent()
	defer debug.SetGCPercent(old)
	tuneCollector(0)
	collect := func(ok func(int) bool) {
		t.Helper()
		for range 200 {
			runtime.GC()
			if ok(percent()) {
				return
			}
			time.Sleep(5 * time.Millisecond) // cleanups run on their own goroutine
		}
		t.Errorf("GC percent is %d", percent())
	}
	collect(func(p int) bool { return p > 150 })
	much := make([]byte, 4*smallHeap)
	collect(func(p int) bool { return p > 30 && p <= 50 })
	runtime.KeepAlive(much)
	collect(func(p int) bool { return p > 150 })
}
