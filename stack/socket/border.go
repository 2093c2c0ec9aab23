package socket

import (
	"net/netip"
	"syscall"

	"ionet/stack/mib"
	"ionet/stack/packet"
)

var nodeV6Only = mib.Int("net.inet6.ip6.v6only", 1, "1: new IPv6 sockets have nothing to do with IPv4 (IPV6_V6ONLY).", mib.Bool())

// NodeFlowLabel is whether transports label their flows (RFC 6437).
var NodeFlowLabel = mib.Int("net.inet6.ip6.auto_flowlabel", 1, "1: packets of a connection or socket carry a flow label (RFC 6437).", mib.Bool())

// V6Only reports IPV6_V6ONLY: an IPv6 socket that has nothing to do with IPv4.
func (so *Socket) V6Only() bool { return so.v6only.Load() }

// SetV6Only is the option. EINVAL: the socket has a port already (RFC 3493
// §5.3).
func (so *Socket) SetV6Only(on bool) error {
	if so.Local().Port != 0 {
		return syscall.EINVAL
	}
	so.v6only.Store(on)
	return nil
}

// Local is the address that the socket has, in the words of its calls.
func (so *Socket) Local() Addr { return so.leave(so.H.Local()) }

// Peer is the address that it is connected to; without IP: none.
func (so *Socket) Peer() Addr { return so.leave(so.H.Peer()) }

// enter makes what a call says the address of a control block. Errors:
// EAFNOSUPPORT, EINVAL (a mapped address, and the socket is of IPv6 only), ENXIO
// (no such interface).
func (so *Socket) enter(a Addr) (Addr, error) {
	switch {
	case !a.IP.IsValid():
	case a.IP.Is4() != (so.Family == AFInet):
		return a, syscall.EAFNOSUPPORT
	case a.IP.Is4In6() && so.V6Only():
		return a, syscall.EINVAL
	case packet.IsLinkScoped(a.IP):
		if a.Scope == 0 {
			a.Scope = so.BoundIf()
		} else if so.env.Ifs.ByIndex(a.Scope) == nil {
			return a, syscall.ENXIO
		}
	}
	return Enter(a), nil
}

// Enter is an address in the words of calls as control blocks have it.
func Enter(a Addr) Addr {
	if a.IP.Is6() {
		a.IP = packet.Scoped(a.IP.WithZone(""), a.Scope).Unmap()
	}
	a.Scope = 0
	return a
}

// enterTo is enter for where packets go: the unspecified address is this host
// (in6_pcbconnect; IPv4 sees to its own).
func (so *Socket) enterTo(a Addr) (Addr, error) {
	a, err := so.enter(a)
	if err != nil || a.IP != netip.IPv6Unspecified() {
		return a, err
	}
	if a.IP = netip.IPv6Loopback(); so.H.Local().IP.Is4() {
		a.IP = netip.AddrFrom4([4]byte{127, 0, 0, 1})
	}
	return a, nil
}

// leave is the address of a control block as a call says it.
func (so *Socket) leave(a Addr) Addr { return Leave(so.Family, a) }

// Leave is a control block's address as calls of a family's sockets say it.
func Leave(family int, a Addr) Addr {
	switch {
	case family == AFInet:
	case a.IP.Is4():
		a.IP = netip.AddrFrom16(a.IP.As16())
	case a.IP.IsValid():
		a.IP, a.Scope = packet.Unscoped(a.IP)
	}
	return a
}

// Place is for a destination of one link whose interface nobody has named: it is
// that of f, if that has one.
func (f *Flow) Place() {
	if f.IfIndex == 0 || !packet.IsLinkScoped(f.Dst) {
		return
	}
	if _, i := packet.Unscoped(f.Dst); i == 0 {
		f.Dst = packet.Scoped(f.Dst, f.IfIndex)
	}
}

// Labelled reports whether the transport is to choose a label for f's packets:
// they want one, or none, or it is as auto_flowlabel says.
func (f *Flow) Labelled(v *mib.Values) bool {
	return f.FlowLabel == 0 && (f.Label > 0 || f.Label == 0 && v.On(NodeFlowLabel))
}
