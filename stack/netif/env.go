// Package netif is the interface: queues, addresses, flags, counters,
// offloads; and the work list ([Work]) that a call into the stack carries.
package netif

import (
	"log/slog"
	"sync"

	"ionet/stack/callout"
	"ionet/stack/epoch"
	"ionet/stack/mib"
	"ionet/stack/packet"
)

// NodeHostname is the node's name; "": it has none.
var NodeHostname = mib.String("kern.hostname", "", "The stack's name for this host.")

// Env is what the rooms of one stack share. Clock and randomness are handed
// in from outside (law 1).
type Env struct {
	Pool   *packet.Pool
	MIB    *mib.Values
	Wheel  callout.Wheel[*Work]
	Epoch  epoch.Domain
	Ifs    Table
	Log    *slog.Logger
	Rand32 func() uint32 // unpredictable; safe for concurrent use
	// Now is the stack's clock for calls that come without a Work (an ioctl
	// reading an age), and for a flusher, whose Work may have begun before
	// another one that has sent meanwhile; the packet path uses Work.Now.
	Now func() int64

	mu   sync.Mutex
	idle []*Work
}

// Begin answers a Work for one call into the stack at time now (nanoseconds,
// monotonic). The caller ends it with [Work.End]. Between the two the caller
// neither blocks nor begins another.
func (e *Env) Begin(now int64) *Work {
	e.mu.Lock()
	var w *Work
	if n := len(e.idle); n > 0 {
		w, e.idle = e.idle[n-1], e.idle[:n-1]
	}
	e.mu.Unlock()
	if w == nil {
		w = e.NewWork()
	}
	w.Start(now)
	return w
}

// NewWork makes a Work of its own for a caller that keeps one, such as a
// driver's loop; that caller uses [Work.Start] and [Work.Finish].
func (e *Env) NewWork() *Work {
	return &Work{Env: e, reader: e.Epoch.Join(), delta: make([]uint32, len(mib.Counters()))}
}
