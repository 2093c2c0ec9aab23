package stacktables

import (
	"net"
	"net/netip"

	"golang.org/x/sys/unix"

	"ionet/protocol"
	"ionet/tool/onstack/netlink"
)

// sameFlags are the IFF_* that have one number in BSD and in Linux.
const sameFlags = protocol.IFFUp | protocol.IFFBroadcast | protocol.IFFDebug | protocol.IFFLoopback | protocol.IFFPointToPoint |
	protocol.IFFNoTrailers | protocol.IFFNoARP | protocol.IFFPromisc | protocol.IFFAllMulti

// linkOf is an interface. Linux's IFF_RUNNING says that it is up and has a
// carrier, BSD's that its driver has what it needs.
func linkOf(r *protocol.InterfaceRow) netlink.Interface {
	i := netlink.Interface{
		Index: r.Index, Name: r.Name, MTU: r.MTU, Flags: r.Flags & sameFlags, HW: hardware(r.Link),
		Stats: netlink.Stats{RxPackets: r.InPackets, TxPackets: r.OutPackets, RxBytes: r.InBytes, TxBytes: r.OutBytes,
			RxErrors: r.InErrors, TxErrors: r.OutErrors, RxDropped: r.InDrops, TxDropped: r.OutDrops,
			Multicast: r.InMcast, Collisions: r.Collisions},
	}
	if r.Flags&protocol.IFFMulticast != 0 {
		i.Flags |= unix.IFF_MULTICAST
	}
	i.OperState = netlink.OperDown
	if r.Flags&protocol.IFFUp != 0 && r.LinkUp {
		i.Flags |= unix.IFF_RUNNING | unix.IFF_LOWER_UP
		i.OperState = netlink.OperUp
	}
	switch r.Type {
	case protocol.IFTEthernet, protocol.IFTL2VLAN:
		i.Type = unix.ARPHRD_ETHER
		i.Broadcast = net.HardwareAddr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
	case protocol.IFTLoopback: // Linux gives it an address, of zeros, and never finds out how it is
		i.Type = unix.ARPHRD_LOOPBACK
		i.HW, i.Broadcast = make(net.HardwareAddr, 6), make(net.HardwareAddr, 6)
		i.OperState = netlink.OperUnknown
	case protocol.IFTPPP:
		i.Type = unix.ARPHRD_PPP
	case protocol.IFTGif:
		i.Type = unix.ARPHRD_TUNNEL
	default:
		i.Type = unix.ARPHRD_NONE
	}
	return i
}

// hardware is a link address; none when there is none.
func hardware(s string) net.HardwareAddr {
	hw, err := net.ParseMAC(s)
	if err != nil {
		return nil
	}
	return hw
}

// addrsOf are the addresses of all interfaces.
func addrsOf(rows []protocol.InterfaceRow) []netlink.Addr {
	var all []netlink.Addr
	for i := range rows {
		for j := range rows[i].Addresses {
			if a, ok := addrOf(&rows[i], &rows[i].Addresses[j]); ok {
				all = append(all, a)
			}
		}
	}
	return all
}

// addrOf is one address. The far end of lo0, which BSD notes there, is its own
// address; that of a link between two hosts is all that is reached by it.
func addrOf(r *protocol.InterfaceRow, row *protocol.AddressRow) (netlink.Addr, bool) {
	ip, err := netip.ParseAddr(row.Address)
	if err != nil {
		return netlink.Addr{}, false
	}
	ip = ip.WithZone("")
	a := netlink.Addr{Index: r.Index, Label: r.Name, Prefix: netip.PrefixFrom(ip, row.Bits), Flags: unix.IFA_F_PERMANENT,
		Broadcast: optional(row.Broadcast)}
	if peer := optional(row.Destination); peer.IsValid() && peer != ip {
		a.Peer = peer
		a.Prefix = netip.PrefixFrom(ip, ip.BitLen())
	}
	a.Life = lifetime(row)
	for bsd, linux := range addrFlags {
		if ip.Is6() && row.Flags&bsd != 0 {
			a.Flags |= linux
		}
	}
	if a.Life != nil { // what is permanent has no end
		a.Flags &^= unix.IFA_F_PERMANENT
	}
	switch {
	case row.Duplicated:
		a.Flags |= unix.IFA_F_DADFAILED | unix.IFA_F_TENTATIVE
	case row.Tentative:
		a.Flags |= unix.IFA_F_TENTATIVE
	}
	switch {
	case ip.IsLoopback():
		a.Scope = unix.RT_SCOPE_HOST
	case ip.IsLinkLocalUnicast():
		a.Scope = unix.RT_SCOPE_LINK
	}
	return a, true
}

// addrFlags are the flags of an address of IPv6 that mean the same to Linux.
var addrFlags = map[uint32]uint32{
	protocol.IN6IFFDeprecated: unix.IFA_F_DEPRECATED,
	protocol.IN6IFFNoDAD:      unix.IFA_F_NODAD,
	protocol.IN6IFFTemporary:  unix.IFA_F_TEMPORARY,
	protocol.IN6IFFStable:     unix.IFA_F_STABLE_PRIVACY,
	protocol.IN6IFFOptimistic: unix.IFA_F_OPTIMISTIC,
}

// lifetime is what is left of an address; nil when it has no end.
func lifetime(row *protocol.AddressRow) *netlink.Lifetime {
	if row.Family != "inet6" || row.Preferred < 0 && row.Valid < 0 {
		return nil
	}
	left := func(seconds int64) uint32 {
		if seconds < 0 {
			return 1<<32 - 1
		}
		return uint32(min(seconds, 1<<32-2))
	}
	return &netlink.Lifetime{Preferred: left(row.Preferred), Valid: left(row.Valid)}
}

// optional is an address that may be missing.
func optional(s string) netip.Addr {
	ip, err := netip.ParseAddr(s)
	if err != nil {
		return netip.Addr{}
	}
	return ip.WithZone("")
}
