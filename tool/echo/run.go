package echo

import (
	"bufio"
	"context"
	"os"
	"syscall"
	"time"
)

// KeepReplies bounds what --json remembers.
const KeepReplies = 65536

// Pace is when requests leave, and how long replies are waited for.
type Pace struct {
	Count    int           // replies after which the run ends; 0: none
	Preload  int           // requests that leave at once
	Interval time.Duration // between two requests
	Wait     time.Duration // for the reply to the last one; 0: ten intervals, or twice the slowest reply
	Once     bool          // end after one reply
	Flood    bool          // send when a reply has come, or after Interval
}

// Run is one run, of messages P.
type Run[P any] struct {
	Pace
	Stats
	Out     *bufio.Writer
	Dotted  bool // a flood draws its dots
	Signals <-chan os.Signal

	Recv    func() (P, error)                     // waits; fails when the socket is closed
	Send    func(seq uint16, since time.Duration) // since the beginning of the run
	Take    func(*P)                              // looks at what came
	Interim func()                                // SIGQUIT: the numbers so far
	Close   func()                                // ends Recv
	start   time.Time
	sentAt  []time.Time // by sequence number modulo its length
	seen    []bool
	last    int // sequence number of the last request
	limit   int // requests to send
	next    time.Time
	dots    int

	caughtUp bool
}

// Begin makes room for what is remembered of requests.
func (r *Run[P]) Begin() {
	r.sentAt, r.seen = make([]time.Time, 1<<16), make([]bool, 1<<16)
	if r.limit = r.Count; r.limit == 0 {
		r.limit = 1<<31 - 1
	}
	r.start = time.Now()
}

// Do sends and receives until all is there that can be waited for, and answers
// why receiving failed. [Run.Begin] comes before it.
func (r *Run[P]) Do(ctx context.Context) error {
	in := make(chan P, 256)
	stop := make(chan struct{})
	failed := make(chan error, 1)
	go func() {
		for {
			p, err := r.Recv()
			if err != nil {
				failed <- err
				return
			}
			select {
			case in <- p:
			case <-stop:
				return
			}
		}
	}()
	for range r.Preload {
		r.send()
	}
	err := r.loop(ctx, in, failed)
	close(stop)
	r.Close()
	return err
}

func (r *Run[P]) loop(ctx context.Context, in <-chan P, failed <-chan error) error {
	interrupted := false
	timer := time.NewTimer(0)
	defer timer.Stop()
	for r.Received < r.limit && !(r.Once && r.Received > 0) {
		now := time.Now()
		var wait time.Duration
		if r.Sent < r.limit {
			if wait = r.next.Sub(now); wait <= 100*time.Microsecond || r.caughtUp && r.Flood {
				r.send()
				wait = time.Until(r.next)
			}
			wait = max(wait, 0)
		} else {
			// The last reply may take twice as long as the slowest, or ten
			// intervals; or what Wait says.
			limit := max(time.Duration(2*r.Most*float64(time.Second)), 10*r.Interval)
			if r.Wait > 0 {
				limit = r.Wait
			}
			if wait = limit - now.Sub(r.LastTx); wait <= 0 {
				return nil
			}
		}
		timer.Reset(wait)
		select {
		case p := <-in:
			r.Take(&p)
			for more := true; more; { // what came with it
				select {
				case p := <-in:
					r.Take(&p)
				default:
					more = false
				}
			}
			r.Out.Flush()
		case <-timer.C:
		case err := <-failed:
			return err
		case <-ctx.Done():
			return nil
		case sig := <-r.Signals:
			switch {
			case sig == syscall.SIGQUIT:
				r.Newline()
				r.Interim()
				r.Out.Flush()
			case sig != syscall.SIGINT || interrupted || r.caughtUp || r.Received == 0:
				return nil
			default: // let what is on its way come in
				interrupted = true
				r.limit = r.Sent
			}
		}
	}
	return nil
}

// send sends one request.
func (r *Run[P]) send() {
	now := time.Now()
	seq := uint16(r.Sent)
	r.Mark(seq, now)
	r.Send(seq, now.Sub(r.start))
	r.Sent++
	r.LastTx = now
	if r.Sent == 1 {
		r.FirstTx, r.next = now, now
	}
	// At the same moment of every interval; at most 100 ms behind send
	// extras, beyond that skip.
	if r.next.Sub(now) <= r.Interval {
		for {
			r.next = r.next.Add(r.Interval)
			if r.next.Sub(now) >= -100*time.Millisecond {
				break
			}
		}
	}
	if r.Flood && r.Dotted {
		r.Out.WriteByte('.')
		r.dots++
		r.Out.Flush()
	}
}

// Mark books that request seq leaves now.
func (r *Run[P]) Mark(seq uint16, now time.Time) {
	r.last = int(seq)
	r.sentAt[seq], r.seen[seq], r.caughtUp = now, false, false
}

// Newline ends a line of flood's dots.
func (r *Run[P]) Newline() {
	if r.dots > 0 {
		r.Out.WriteByte('\n')
		r.dots = 0
	}
}

// Undot takes a dot back for a reply.
func (r *Run[P]) Undot() {
	if r.dots > 0 {
		r.Out.WriteByte('\b')
		r.dots--
	}
}

// Reply books a reply to request seq that came at a moment, with its time if
// timed. known is false where no such request has left.
func (r *Run[P]) Reply(seq uint16, at time.Time, timed bool) (rtt time.Duration, dup, known bool) {
	sent := r.sentAt[seq]
	if sent.IsZero() {
		return 0, false, false
	}
	if int(seq) == r.last {
		r.caughtUp = true
	}
	r.LastRx = at
	if r.FirstRx.IsZero() {
		r.FirstRx = at
	}
	dup = r.seen[seq]
	r.seen[seq] = true
	if dup {
		r.Dups++
	} else {
		r.Received++
	}
	rtt = max(at.Sub(sent), 0)
	if timed {
		r.Add(rtt)
	}
	return rtt, dup, true
}
