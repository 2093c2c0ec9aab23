package ipsec

// window is an SA's memory of the numbers that have come (RFC 4303 §3.4.3), as RFC 6479 has it: a ring of
// words, of which moving on clears whole ones.
type window struct {
	size uint64 // in numbers; 0: nothing is refused
	top  uint64 // the highest that has come
	ring []uint64
}

// MaxReplay is the widest window.
const MaxReplay = 1 << 16

func newWindow(size int) window {
	if size <= 0 {
		return window{}
	}
	words := 1
	for words*64 < size+64 {
		words *= 2
	}
	return window{size: uint64(size), ring: make([]uint64, words)}
}

// widen gives what the low half of a number is of, for extended ones (RFC 4304 appendix A2.1).
func (r *window) widen(lo uint32) uint64 {
	th, tl := r.top>>32, uint32(r.top)
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

// fresh reports whether number n may still come.
func (r *window) fresh(n uint64) bool {
	switch {
	case n == 0:
		return false
	case r.size == 0 || n > r.top:
		return true
	case r.top-n >= r.size:
		return false
	}
	return r.ring[n/64%uint64(len(r.ring))]>>(n%64)&1 == 0
}

// take notes that n has come; false: it had, or is too old by now.
func (r *window) take(n uint64) bool {
	if !r.fresh(n) {
		return false
	}
	if r.size == 0 {
		r.top = max(r.top, n)
		return true
	}
	words := uint64(len(r.ring))
	if n > r.top {
		for k := range min(n/64-r.top/64, words) {
			r.ring[(r.top/64+1+k)%words] = 0
		}
		r.top = n
	}
	r.ring[n/64%words] |= 1 << (n % 64)
	return true
}
