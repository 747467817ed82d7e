//go:build unix

package ledger

import (
	"syscall"
	"testing"
)

// reportCPU adds what an operation costs in processor time, of all threads: next
// to a disk, the time that passes says little about the work.
func reportCPU(b *testing.B) (done func()) {
	used := func() int64 {
		var u syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
			b.Fatal(err)
		}
		return u.Utime.Nano() + u.Stime.Nano()
	}
	before := used()
	return func() { b.ReportMetric(float64(used()-before)/float64(b.N), "cpu-ns/op") }
}
