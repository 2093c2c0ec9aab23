package ipnat

import (
	"net/netip"
	"slices"

	"ionet/ipl"
	"ionet/stack/netif"
	"ionet/stack/packet"
)

// Departed ends the sessions of an interface that has left the stack: one that comes by its
// name is another, and what was begun there is not known to be its neighbours'.
func (n *NAT) Departed(ifp *netif.Interface) {
	n.orphan(func(s *session) bool { return s.ifp == ifp })
	n.frags.flush(func(f *fragment) bool { return f.ifp == ifp })
}

// AddrRemoved ends the sessions that had an address because it was the interface's own
// ("0/32"), which it is no longer.
func (n *NAT) AddrRemoved(ifp *netif.Interface, a netip.Addr) {
	if packet.IsLinkScoped(a) {
		return
	}
	e := endOf(a, 0)
	n.orphan(func(s *session) bool {
		had := &s.out
		switch r := s.rule; {
		case s.ifp != ifp || s.v6 == a.Is4():
			return false
		case (r.Kind == ipl.Map || r.six()) && isOwn(r.To):
		case r.Kind == ipl.Rdr && r.Dst.Kind == ipl.NetAddr && r.Dst.Addr.IsUnspecified() && ones(r.Dst.Mask) == a.BitLen():
		case r.Kind == ipl.Rdr && slices.ContainsFunc(r.Targets, netip.Addr.IsUnspecified):
			had = &s.in
		default:
			return false
		}
		return had.hi == e.hi && had.lo == e.lo
	})
}

func (n *NAT) orphan(chosen func(*session) bool) {
	n.count.orphaned.Add(uint64(n.table.flush(chosen)))
}

// moved ends the session that an inside end has at another interface, by which the way to
// the remote one does not lead any more; the lock is held.
func (t *table) moved(p *pair) {
	h := p.hash(t.key)
	s, ok := t.byIn.Find(h, func(s *session) bool { return s.inside() == *p })
	if ok {
		t.endLocked(s, LogFlush)
		t.n.count.orphaned.Add(1)
	}
}

// isOwn reports whether what a rule maps to is the interface's own address.
func isOwn(to netip.Prefix) bool {
	return to.IsValid() && to.Addr().IsUnspecified() && to.Bits() == to.Addr().BitLen()
}
