// Package callout is the stack's timers: a hierarchical wheel with embedded
// nodes (Varghese & Lauck), driven from outside. Arming, moving and stopping
// a timer is O(1) and allocates nothing.
package callout

import (
	"math/bits"
	"sync"
)

// Tick is the wheel's resolution in nanoseconds: a timer fires at the first
// tick at or after its time, never before it.
const Tick = 1 << 20

const (
	slotBits = 6
	slots    = 1 << slotBits
	levels   = 7 // 64^7 ticks: 146 years
)

// Timer is one timer, embedded in what it belongs to. Fn is set once, before
// the timer is armed. It runs without the wheel's lock and may arm its own
// timer again. A Stop that comes while Fn is about to run does not wait, so
// Fn checks under its owner's lock whether it still applies.
type Timer[C any] struct {
	Fn         func(C)
	next, prev *Timer[C]
	when       int64 // in ticks
	level      int8
	armed      bool
}

// Wheel holds armed timers. C is what the expiry functions are handed.
type Wheel[C any] struct {
	mu      sync.Mutex
	now     int64 // in ticks: everything up to here has fired
	armed   int
	slot    [levels][slots]Timer[C] // list heads
	used    [levels]uint64
	earlier func(at int64)
}

// Init starts the wheel at now (nanoseconds). earlier, which may be nil, is
// told without a lock held when a timer is armed before every other one.
func (w *Wheel[C]) Init(now int64, earlier func(at int64)) {
	w.now, w.earlier = now/Tick, earlier
	for l := range w.slot {
		for s := range w.slot[l] {
			h := &w.slot[l][s]
			h.next, h.prev = h, h
		}
	}
}

// Reset arms t for the time at (nanoseconds), or moves it there.
func (w *Wheel[C]) Reset(t *Timer[C], at int64) {
	when := (at + Tick - 1) / Tick
	w.mu.Lock()
	if t.armed {
		w.unlink(t)
	}
	next, any := w.next()
	t.when = max(when, w.now+1)
	w.link(t)
	first := !any || t.when < next
	at = t.when * Tick
	w.mu.Unlock()
	if first && w.earlier != nil {
		w.earlier(at)
	}
}

// Stop disarms t and reports whether it was armed.
func (w *Wheel[C]) Stop(t *Timer[C]) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !t.armed {
		return false
	}
	w.unlink(t)
	return true
}

// Armed is the number of armed timers.
func (w *Wheel[C]) Armed() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.armed
}

// Next is the time by which Advance must be called again. It may be earlier
// than the next expiry (a far timer is looked at again on its way), never
// later. It reports false when nothing is armed.
func (w *Wheel[C]) Next() (at int64, ok bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	n, ok := w.next()
	return n * Tick, ok
}

// Advance brings the wheel to now (nanoseconds) and runs what is due, in order
// of time, in order of arming within a tick and a level.
func (w *Wheel[C]) Advance(now int64, c C) {
	target := now / Tick
	w.mu.Lock()
	for {
		n, ok := w.next()
		if !ok || n > target {
			w.now = max(w.now, target)
			w.mu.Unlock()
			return
		}
		w.now = n
		w.cascade()
		h := &w.slot[0][w.now&(slots-1)]
		for h.next != h && h.next.when <= w.now {
			t := h.next
			w.unlink(t)
			w.mu.Unlock()
			t.Fn(c)
			w.mu.Lock()
		}
	}
}

// next is the first tick at which a slot of any level comes due.
func (w *Wheel[C]) next() (int64, bool) {
	best, ok := int64(0), false
	for l := range w.used {
		if w.used[l] == 0 {
			continue
		}
		shift := uint(l * slotBits)
		cur := w.now >> shift
		// The slot of the current position holds what is due one turn later.
		rot := bits.RotateLeft64(w.used[l], -int((cur+1)&(slots-1)))
		at := (cur + 1 + int64(bits.TrailingZeros64(rot))) << shift
		if !ok || at < best {
			best, ok = at, true
		}
	}
	return best, ok
}

// cascade moves down what the higher levels hold for this tick.
func (w *Wheel[C]) cascade() {
	for l := levels - 1; l > 0; l-- {
		shift := uint(l * slotBits)
		if w.now&(1<<shift-1) != 0 {
			continue
		}
		h := &w.slot[l][(w.now>>shift)&(slots-1)]
		for h.next != h {
			t := h.next
			w.unlink(t)
			w.link(t)
		}
	}
}

func (w *Wheel[C]) link(t *Timer[C]) {
	delta := t.when - w.now
	l := 0
	for l < levels-1 && delta >= 1<<uint((l+1)*slotBits) {
		l++
	}
	s := (t.when >> uint(l*slotBits)) & (slots - 1)
	h := &w.slot[l][s]
	t.level, t.armed = int8(l), true
	t.prev, t.next = h.prev, h
	h.prev.next, h.prev = t, t
	w.used[l] |= 1 << uint(s)
	w.armed++
}

func (w *Wheel[C]) unlink(t *Timer[C]) {
	t.prev.next, t.next.prev = t.next, t.prev
	if t.next == t.prev && t.next.next == t.next { // only the head is left
		s := (t.when >> uint(int(t.level)*slotBits)) & (slots - 1)
		w.used[t.level] &^= 1 << uint(s)
	}
	t.next, t.prev, t.armed = nil, nil, false
	w.armed--
}
