package sim_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"syscall"

	"ionet/stack/netif"
	"ionet/stack/socket"
)

// urgents are the octets that a program sends with MSG_OOB, and how it takes
// those of its peer. Of what it sends they alone have the highest bit.
type urgents struct {
	places []int // in what is sent, in order
	sent   int   // how many of them
	// loose are those of which the peer need not have heard before the next one:
	// they may come in line.
	loose []bool
	taken int // the number, from 1, of the peer's last that came out of line
}

func (u urgents) String() string {
	return fmt.Sprintf("%d of %d at %v, loose %v, taken %d", u.sent, len(u.places), u.places, u.loose, u.taken)
}

func (u *urgents) draw(r *rand.Rand, out []byte) {
	if len(out) == 0 || r.IntN(3) > 0 {
		return
	}
	for range 1 + r.IntN(5) {
		u.places = append(u.places, r.IntN(len(out)))
	}
	slices.Sort(u.places)
	u.places = slices.Compact(u.places)
	u.loose = make([]bool, len(u.places))
	for k, at := range u.places {
		out[at] = 0x80 | byte(k)
	}
}

func (s *side) recv(m *socket.Msg) error {
	return s.node.Call(func(w *netif.Work) error { return s.so.Socket.Recv(w, m) })
}

// writeSome sends a chunk, or what of it ends with an urgent octet.
func (s *side) writeSome() (n int, err error) {
	m := socket.Msg{Data: s.out[s.sent:min(s.sent+s.chunk, len(s.out))]}
	u := &s.urg
	if u.sent < len(u.places) {
		if end := u.places[u.sent] + 1; end <= s.sent+len(m.Data) {
			m.Data, m.Flags = s.out[s.sent:end], socket.MsgOOB
		}
	}
	before := s.so.Unsent()
	err = s.node.Call(func(w *netif.Work) (err error) {
		n, err = s.so.Socket.Send(w, &m)
		return err
	})
	if m.Flags != 0 && err == nil && n == len(m.Data) {
		if u.sent > 0 && u.places[u.sent-1] >= s.sent-before {
			u.loose[u.sent-1] = true
		}
		u.sent++
	}
	return n, err
}

// readUrgent takes an urgent octet that has come out of line.
func (s *side) readUrgent() {
	if s.done || s.so == nil || s.so.Poll()&socket.Urgent == 0 {
		return
	}
	m := socket.Msg{Data: make([]byte, 2), Flags: socket.MsgOOB}
	err := s.recv(&m)
	switch p := s.peer; {
	case s.inline():
		if !errors.Is(err, syscall.EINVAL) {
			s.p.fail("an urgent octet out of line, although in line was asked for: %v", err)
		}
	case errors.Is(err, syscall.EWOULDBLOCK): // only the mark is here
	case err != nil:
		s.p.fail("there is an urgent octet, and it is not: %v", err)
	case len(m.Data) != 1 || m.Data[0] < 0x80 || int(m.Data[0]&0x7f) >= p.urg.sent:
		s.p.fail("%x is no urgent octet of %v", m.Data, p.urg)
	case int(m.Data[0]&0x7f) < s.urg.taken:
		s.p.fail("urgent octet %d comes after %d were seen", m.Data[0]&0x7f, s.urg.taken)
	default:
		s.urg.taken = int(m.Data[0]&0x7f) + 1
	}
}

func (s *side) inline() bool { return s.so != nil && s.so.Opt(socket.SOOOBInline) }

// passUrgent goes on behind urgent octets that have come out of line.
func (s *side) passUrgent() {
	for !s.inline() && slices.Contains(s.peer.urg.places, s.got) {
		s.got++
	}
}

// match compares b with what the peer has sent next, and answers where it begins
// and ends.
func (s *side) match(b []byte) (from, at int, ok bool) {
	from, at = -1, s.got
	p := s.peer
	for len(b) > 0 && at < p.sent {
		k, urgent := slices.BinarySearch(p.urg.places, at)
		end := p.sent
		if urgent {
			if !s.inline() && b[0] != p.out[at] {
				at++ // it came out of line
				continue
			}
			if !s.inline() && !p.urg.loose[k] {
				return from, at, false
			}
			end = at + 1
		} else if k < len(p.urg.places) {
			end = min(end, p.urg.places[k])
		}
		n := min(len(b), end-at)
		if !bytes.Equal(b[:n], p.out[at:at+n]) {
			return from, at, false
		}
		if from < 0 {
			from = at
		}
		at, b = at+n, b[n:]
	}
	return from, at, len(b) == 0
}

// crossing sees to it that a read of the octets from to at has stopped at the
// mark.
func (s *side) crossing(from, at int) {
	p := s.peer
	if p.urg.sent == 0 {
		return
	}
	mark := p.urg.places[p.urg.sent-1]
	if from < mark && at > mark {
		s.p.fail("a read from octet %d to %d has not stopped at the mark, %d", from, at, mark)
	}
}

// urgentMissed reports that the peer's last urgent octet should have come.
func (s *side) urgentMissed() bool {
	return !s.inline() && s.urg.taken < s.peer.urg.sent
}
