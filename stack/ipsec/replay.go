package ipsec

import "sync/atomic"

// window is an SA's memory of the numbers that have come (RFC 4303 §3.4.3), as RFC 6479 has it: a ring of
// words, of which moving on clears whole ones. Only take writes, one at a time; who asks meanwhile may be told of a moment
// ago, and take decides.
type window struct {
	size uint64        // in numbers; 0: nothing is refused
	top  atomic.Uint64 // the highest that has come
	ring []atomic.Uint64
	few  [2]atomic.Uint64 // the ring of a narrow one
}

// MaxReplay is the widest window.
const MaxReplay = 1 << 16

func (r *window) init(size int) {
	if size <= 0 {
		return
	}
	words := 2
	for words*64 < size+64 {
		words *= 2
	}
	if r.size, r.ring = uint64(size), r.few[:]; words > len(r.few) {
		r.ring = make([]atomic.Uint64, words)
	}
}

// widen gives what the low half of a number is of, for extended ones (RFC 4304 appendix A2.1).
func (r *window) widen(lo uint32) uint64 {
	top := r.top.Load()
	th, tl := top>>32, uint32(top)
	size := uint32(min(max(r.size, 1), 1<<31))
	switch {
	case tl >= size-1: // the window lies within one half
		if lo >= tl-(size-1) {
			return th<<32 | uint64(lo)
		}
		return (th+1)<<32 | uint64(lo)
	case lo >= tl-(size-1) && th > 0: // it reaches back into the one before
		return (th-1)<<32 | uint64(lo)
	}
	return th<<32 | uint64(lo)
}

// word is where number n has its bit.
func (r *window) word(n uint64) *atomic.Uint64 { return &r.ring[n/64&uint64(len(r.ring)-1)] }

// fresh reports whether number n may still come.
func (r *window) fresh(n uint64) bool {
	top := r.top.Load()
	switch {
	case n == 0:
		return false
	case r.size == 0 || n > top:
		return true
	case top-n >= r.size:
		return false
	}
	return r.word(n).Load()>>(n%64)&1 == 0
}

// take notes that n has come; false: it had, or is too old by now. One at a time.
func (r *window) take(n uint64) bool {
	if !r.fresh(n) {
		return false
	}
	top := r.top.Load()
	if r.size == 0 {
		r.top.Store(max(top, n))
		return true
	}
	if n > top {
		for k := range min(n/64-top/64, uint64(len(r.ring))) {
			r.word(top + 64*(1+k)).Store(0)
		}
		r.top.Store(n)
	}
	at := r.word(n)
	at.Store(at.Load() | 1<<(n%64))
	return true
}
