package inet6

import (
	"net/netip"

	"ionet/stack/packet"
	"ionet/stack/socket"
)

// putExt writes them in the order of RFC 8200 §4.1 in front of what is of
// protocol next, into b of x.Len() octets, and answers which comes first. dst is
// the final destination, which a source route takes in as its last address
// (RFC 3542 §7.1: the user's does not name it).
func putExt(b []byte, x *socket.Ext6, next uint8, dst netip.Addr) (first uint8) {
	first = next
	said := &first
	put := func(proto uint8, h []byte) []byte {
		if len(h) == 0 {
			return nil
		}
		*said = proto
		at := b[:copy(b, h)]
		at[0], said = next, &at[0]
		b = b[len(at):]
		return at
	}
	put(packet.ProtoHopByHop, x.HopByHop)
	if len(x.Routing) > 0 {
		put(packet.ProtoDstOpts, x.RouteDst)
		if r := packet.Ext(put(packet.ProtoRouting, x.Routing)); r.SegmentsLeft() > 0 {
			copy(r[routeAddrs:], r[routeAddrs+16:])
			copy(r[len(r)-16:], unscoped(dst).AsSlice())
		}
	}
	put(packet.ProtoDstOpts, x.Dst)
	return first
}

// routeAddrs is where the addresses of a Routing header of type 0 begin
// (RFC 2460 §4.4).
const routeAddrs = 8

// checkRouting reports whether a user's Routing header is one to send: of type
// 0, all of it still to be gone, which is for those who look for faults
// (RFC 5095).
func checkRouting(h packet.Ext) bool {
	n := len(h) - routeAddrs
	if h.RoutingType() != 0 || n == 0 || n%16 != 0 || int(h.SegmentsLeft()) != n/16 {
		return false
	}
	for at := routeAddrs; at < len(h); at += 16 {
		if netip.AddrFrom16([16]byte(h[at : at+16])).IsMulticast() {
			return false
		}
	}
	return true
}

// towards is the address whose route a flow's packets take: the neighbour or
// the first router of their sender's choice, or their destination.
func towards(f *socket.Flow) netip.Addr {
	if f.NextHop.IsValid() && !f.Dst.IsMulticast() {
		return f.NextHop
	}
	return firstHop(f)
}

// firstHop is the destination that a flow's packets leave with: with a source
// route the first address in it.
func firstHop(f *socket.Flow) netip.Addr {
	if f.Ext == nil || len(f.Ext.Routing) == 0 {
		return f.Dst
	}
	ip := netip.AddrFrom16([16]byte(f.Ext.Routing[routeAddrs : routeAddrs+16]))
	if f.IfIndex != 0 {
		ip = packet.Scoped(ip, f.IfIndex)
	}
	return ip
}
