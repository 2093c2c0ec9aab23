package background

import (
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Backoff are the pauses before what has died is started again: they double from
// Min to Max, and begin anew after one that has lived for Reset.
type Backoff struct {
	Min, Max, Reset time.Duration

	next time.Duration
}

// Next is the pause after one that has lived for so long.
func (b *Backoff) Next(lived time.Duration) time.Duration {
	if lived >= b.Reset {
		b.next = 0
	}
	d := max(b.next, b.Min)
	b.next = min(2*d, b.Max)
	return d
}

// Pause waits. False: a signal has ended the wait that ends the process too;
// SIGHUP only ends the wait.
func Pause(d time.Duration, signals <-chan os.Signal) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case sig := <-signals:
		return sig == unix.SIGHUP
	}
}
