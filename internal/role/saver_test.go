package role

import (
	"testing"
	"testing/synctest"
)

// What is saved during a write follows it, the newest alone; Wait sees the end.
func TestSaver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var wrote []int
		disk := make(chan struct{})
		s := Saver[int]{Write: func(v int) {
			<-disk
			wrote = append(wrote, v)
		}}
		s.Wait() // nothing to wait for
		s.Save(1)
		synctest.Wait() // the write of 1 is at the disk
		for v := 2; v <= 9; v++ {
			s.Save(v)
		}
		waited := make(chan struct{})
		go func() {
			s.Wait()
			close(waited)
		}()
		disk <- struct{}{}
		synctest.Wait()
		select {
		case <-waited:
			t.Fatal("Wait returned before the newest was written")
		default:
		}
		disk <- struct{}{}
		<-waited
		if len(wrote) != 2 || wrote[0] != 1 || wrote[1] != 9 {
			t.Errorf("wrote %v, want 1 and 9", wrote)
		}
		s.Save(10)
		disk <- struct{}{}
		s.Wait()
		if len(wrote) != 3 || wrote[2] != 10 {
			t.Errorf("wrote %v, want 10 at the end", wrote)
		}
	})
}
