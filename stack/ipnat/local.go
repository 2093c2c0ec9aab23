package ipnat

import "net/netip"

// local reports whether a socket of this stack has the outer end that a session would
// have. One of its own is it welcome to.
func (n *NAT) local(s *session) bool {
	return n.inUse != nil && s.out != s.in && n.inUse(s.proto, s.out.addrPort(s.v6), netip.AddrPort{})
}

// connected reports whether what comes in is for a socket of this stack that has these two
// ends: a connection that was there before the rule is left alone.
func (n *NAT) connected(p *pair) bool {
	return n.inUse != nil && n.inUse(p.proto, p.our.addrPort(p.v6), p.rem.addrPort(p.v6))
}

// Uses reports whether a session has that outer end, as [Config].InUse has ends. It takes no lock.
func (n *NAT) Uses(proto uint8, outer netip.AddrPort) bool {
	if n.table.len() == 0 {
		return false
	}
	e := endOf(outer.Addr(), outer.Port())
	return n.table.outer(&e, proto, outer.Addr().Is6()) != nil
}
