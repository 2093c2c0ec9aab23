package ipsec

import (
	"math"

	"ionet/stack/netif"
)

const second = int64(1e9)

// arm sets the timer to the next moment at which a lifetime in seconds ends.
func (s *SA) arm(now int64) {
	if at := s.deadline(); at != math.MaxInt64 {
		s.timer.Fn = s.due
		s.x.env.Wheel.Reset(&s.timer, max(at, now+1))
	}
}

func (s *SA) lifetimes() (soft, hard Lifetime) {
	l := s.life.Load()
	return l.soft, l.hard
}

// lifetimes are an SA's, immutable.
type lifetimes struct{ soft, hard Lifetime }

// ends is when a lifetime is over; MaxInt64: never, or not yet known.
func (s *SA) ends(l Lifetime) int64 {
	at := int64(math.MaxInt64)
	if l.Add != 0 {
		at = s.Made + l.Add*second
	}
	if first := s.first.Load(); l.Use != 0 && first != 0 {
		at = min(at, first+l.Use*second)
	}
	return at
}

func (s *SA) deadline() int64 {
	if s.State() == Larval {
		return s.Made + s.x.env.MIB.Int(nodeLarval)*second
	}
	soft, hard := s.lifetimes()
	at := s.ends(hard)
	if !s.soft.Load() {
		at = min(at, s.ends(soft))
	}
	return at
}

// due is the timer's.
func (s *SA) due(w *netif.Work) {
	soft, hard := s.lifetimes()
	switch {
	case s.State() == Dead:
		return
	case s.State() == Larval || w.Now >= s.ends(hard):
		s.expire(w)
		return
	case w.Now >= s.ends(soft):
		s.getsOld()
	}
	s.arm(w.Now)
}

// getsOld tells once that the SA should have a successor.
func (s *SA) getsOld() {
	if s.soft.CompareAndSwap(false, true) {
		s.state.CompareAndSwap(uint32(Mature), uint32(Dying))
		s.x.tell(Event{Kind: SAExpired, SA: s})
	}
}

// expire ends the SA.
func (s *SA) expire(w *netif.Work) {
	if st := s.state.Swap(uint32(Dead)); st == uint32(Dead) {
		return
	}
	s.x.remove(s)
	w.Post(func(*netif.Work) { s.x.bury() })
	s.x.tell(Event{Kind: SAExpired, Hard: true, SA: s})
}

// used counts a packet of octets, and reports whether the SA could still carry it.
func (s *SA) used(w *netif.Work, octets int) bool {
	return s.spent(w, s.packets.Add(1), s.bytes.Add(uint64(octets)))
}

// spent is used for a packet that is counted: the n-th, with b octets in all.
func (s *SA) spent(w *netif.Work, n, b uint64) bool {
	if w.Now-s.last.Load() >= second { // for who lists it: a line of memory is not written for each packet
		s.last.Store(w.Now)
	}
	if s.first.Load() == 0 && s.first.CompareAndSwap(0, max(w.Now, 1)) {
		s.arm(w.Now)
	}
	l := s.life.Load()
	if over(l.hard, n, b) {
		s.expire(w)
		return false
	}
	if over(l.soft, n, b) {
		s.getsOld()
	}
	return true
}

func over(l Lifetime, packets, bytes uint64) bool {
	return l.Packets != 0 && packets > uint64(l.Packets) || l.Bytes != 0 && bytes > l.Bytes
}
