package epoch

import (
	"sync"
	"sync/atomic"
	"testing"
)

// Two sides, one of which the writer spoils while no reader may see it: with
// -race the detector watches too.
func TestWriterWaitsForReaders(t *testing.T) {
	var d Domain
	var side [2][8]int
	var active, stop atomic.Uint32
	var readers sync.WaitGroup
	for range 4 {
		r := d.Join()
		readers.Go(func() {
			defer r.Leave()
			for stop.Load() == 0 {
				r.Enter()
				s := &side[active.Load()]
				for i := range s {
					if s[i] != s[0] {
						t.Error("a reader saw a side being changed")
					}
				}
				r.Exit()
			}
		})
	}
	for n := range 2000 {
		was := active.Load()
		for i := range side[was^1] {
			side[was^1][i] = n
		}
		active.Store(was ^ 1)
		d.Wait()
	}
	stop.Store(1)
	readers.Wait()
}

func TestWaitReturns(t *testing.T) {
	var d Domain
	d.Wait() // without readers
	r, q := d.Join(), d.Join()
	d.Wait() // with idle ones
	r.Enter()
	done := make(chan bool)
	go func() { d.Wait(); close(done) }()
	q.Enter()
	q.Exit()
	r.Exit()
	<-done
	r.Enter()
	r.Leave() // one that has left is not waited for
	d.Wait()
}
