package ipnat

import (
	"math/bits"

	"ionet/ipl"
	"ionet/stack/packet"
	"ionet/stack/pfil"
)

// add128 and sub128 are arithmetic on addresses.
func add128(hi, lo, n uint64) (uint64, uint64) {
	l, c := bits.Add64(lo, n, 0)
	return hi + c, l
}

// maskOf is the mask of a prefix of n bits, of an address as [packet.Words] has it.
func maskOf(n int, v6 bool) (hi, lo uint64) {
	if !v6 {
		return ^uint64(0), ^uint64(0) << (32 - n)
	}
	if n <= 64 {
		return ^uint64(0) << (64 - n), 0
	}
	return ^uint64(0), ^uint64(0) << (128 - n)
}

// hostBits keep e's host part in a network.
func hostBits(e end, n int, v6 bool, to end) end {
	mh, ml := maskOf(n, v6)
	return end{to.hi&mh | e.hi&^mh, to.lo&ml | e.lo&^ml, e.port}
}

// maxAddrs bounds the addresses of a range, and of a larger network those used, and
// maxTries what is tried of them for one session.
const (
	maxAddrs = 1 << 24
	maxTries = 16
)

// addrs are the outer addresses of a map rule: the first, and how many.
func (r *rule) addrs(i *pfil.Info) (first end, n uint64, ok bool) {
	to := r.To
	if isOwn(to) && !r.ToEnd.IsValid() {
		a, ok := own(i.If, to.Addr().Is6())
		return endOf(a, 0), 1, ok
	}
	if r.ToEnd.IsValid() {
		first, last := endOf(to.Addr(), 0), endOf(r.ToEnd, 0)
		lo, b := bits.Sub64(last.lo, first.lo, 0)
		if last.hi-first.hi-b != 0 || lo >= maxAddrs {
			lo = maxAddrs - 1
		}
		return first, lo + 1, true
	}
	host := to.Addr().BitLen() - to.Bits()
	return endOf(to.Masked().Addr(), 0), 1 << min(host, 24), true
}

// outer chooses the outer end of a session that begins with what goes out, and puts it
// into the table, whose lock is held.
func (n *NAT) outer(r *rule, i *pfil.Info, s *session) bool {
	s.out = s.in
	switch {
	case r.Kind == ipl.Bimap:
		s.out = hostBits(s.in, r.To.Bits(), i.V6, endOf(r.To.Addr(), 0))
		return n.table.add(s)
	case r.Kind == ipl.MapBlock:
		return n.table.again(s, i.If) || n.block(r, i, s)
	case r.To.Bits() == 0 && !r.ToEnd.IsValid(): // "-> 0/0": the address stays
		return n.atAddr(r, i, s)
	case r.src.IsValid() && !r.ToEnd.IsValid() && r.src.Bits() == r.To.Bits() && r.To.Bits() != r.To.Addr().BitLen() && r.PortMap == nil:
		s.out = hostBits(s.in, r.To.Bits(), i.V6, endOf(r.To.Addr(), 0))
		return n.table.add(s)
	}
	first, count, ok := r.addrs(i)
	if !ok {
		return false
	}
	if n.table.again(s, i.If) {
		return true
	}
	// A host keeps its outer address where it can (RFC 4787 REQ-2).
	e := s.in
	e.port = 0
	at := mix(n.table.key, &e) % count
	if r.Sequential {
		at = uint64(r.turn.Load()) % count
	}
	for try := range min(count, maxTries) {
		s.out.hi, s.out.lo = add128(first.hi, first.lo, (at+try)%count)
		s.out.port = s.in.port
		if n.atAddr(r, i, s) {
			return true
		}
	}
	n.count.exhausted.Add(1)
	return false
}

// atAddr finds a port at the outer address that is chosen.
func (n *NAT) atAddr(r *rule, i *pfil.Info, s *session) bool {
	m := r.PortMap
	if i.Echo() {
		m = r.ICMPIDs
	} else if m != nil && !protoIs(m.Proto, i.Proto) {
		m = nil
	}
	if m == nil {
		if (!i.Echo() || !n.table.others(s) && !n.local(s)) && n.table.add(s) {
			return true
		}
		if r.Proxy != nil || r.six() && !i.Echo() { // clients choose their ports without knowing of each other
			lo, hi := r.tcpPorts()
			return n.inRange(r, s, lo, hi)
		}
		if !i.Echo() {
			return false
		}
		return n.inRange(r, s, 0, 65535) // identifiers of two hosts meet: nobody sees which it is
	}
	lo, hi := m.Lo, m.Hi
	if m.Auto {
		if lo, hi = 1024, 65535; i.Echo() {
			lo = 0
		}
	}
	return n.inRange(r, s, uint32(lo), uint32(hi))
}

// inRange takes a port from lo to hi: its own if that is free, else one that nobody can
// foresee (RFC 6056), of the same parity if there is one (RFC 4787 REQ-4).
func (n *NAT) inRange(r *rule, s *session, lo, hi uint32) bool {
	if p := uint32(s.in.port); p >= lo && p <= hi && !r.Sequential {
		s.out.port = s.in.port
		if !n.table.others(s) && !n.local(s) && n.table.add(s) {
			return true
		}
	}
	size := hi - lo + 1
	at := n.env.Rand32() % size
	if r.Sequential {
		at = r.turn.Add(1) - 1
	}
	for pass := range 2 {
		for k := range size {
			p := lo + (at+k)%size
			if !r.Sequential {
				if same := (p^uint32(s.in.port))&1 == 0; same != (pass == 0) {
					continue
				}
			} else if pass == 1 {
				break
			}
			s.out.port = uint16(p)
			if o := s.outside(); n.table.taken(&o, false) || n.table.others(s) || n.local(s) {
				continue
			}
			return n.table.add(s)
		}
	}
	return false
}

// block gives a host of map-block its address and its ports: both follow from the
// inside address alone (RFC 7422).
func (n *NAT) block(r *rule, i *pfil.Info, s *session) bool {
	_, ml := maskOf(r.src.Bits(), i.V6)
	host := s.in.lo &^ ml
	first, count, ok := r.addrs(i)
	if !ok {
		return false
	}
	const low, all = 1024, 65536 - 1024
	size := uint64(r.BlockPorts)
	if size == 0 { // auto: as many as make every host of the network fit
		inside := uint64(1) << min(r.src.Addr().BitLen()-r.src.Bits(), 40)
		hosts := (inside + count - 1) / count
		size = max(all/hosts, 1)
	}
	size = min(size, all)
	per := all / size
	if host/count >= per {
		n.count.exhausted.Add(1)
		return false // more hosts than there are blocks
	}
	s.out.hi, s.out.lo = add128(first.hi, first.lo, host%count)
	if i.Proto != packet.ProtoTCP && i.Proto != packet.ProtoUDP && !i.Echo() {
		return n.table.add(s)
	}
	lo := low + host/count*size
	if n.inRange(r, s, uint32(lo), uint32(lo+size-1)) {
		return true
	}
	n.count.exhausted.Add(1)
	return false
}

// inner chooses the inside end of a session that begins with what comes in, and puts it
// into the table, whose lock is held.
func (n *NAT) inner(r *rule, i *pfil.Info, s *session) bool {
	s.in = s.out
	if r.Kind == ipl.Bimap {
		s.in = hostBits(s.out, r.src.Bits(), i.V6, endOf(r.src.Addr(), 0))
		return n.table.add(s)
	}
	at := 0
	if k := len(r.Targets); k > 1 {
		if r.Sticky {
			e := s.rem
			e.port = 0
			at = int(mix(n.table.key, &e) % uint64(k))
		} else {
			at = int((r.turn.Add(1) - 1) % uint32(k))
		}
	}
	a := r.Targets[at]
	if a.IsUnspecified() {
		var ok bool
		if a, ok = own(i.If, i.V6); !ok {
			return false
		}
	}
	e := endOf(a, s.out.port)
	if r.TPorts[0] != 0 && (i.Proto == packet.ProtoTCP || i.Proto == packet.ProtoUDP) {
		e.port = r.TPorts[0]
		if r.TPorts[1] > r.TPorts[0] || r.Ports[1] > r.Ports[0] {
			e.port += s.out.port - r.Ports[0]
		}
	}
	s.in = e
	return n.table.add(s)
}
