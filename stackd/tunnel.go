package stackd

import (
	"net/netip"
	"strconv"

	"golang.org/x/sys/unix"

	"ionet/protocol"
	"ionet/stack/netif"
	"ionet/stack/packet"
)

// setTunnel serves SIOCSIFPHYADDR.
func (s *server) setTunnel(arg []byte) error {
	q, err := protocol.ParseAliasReq(arg)
	if err != nil {
		return err
	}
	eng := s.eng.Engine()
	ifp := eng.Env.Ifs.ByName(q.Name)
	if ifp == nil {
		return unix.ENXIO
	}
	if !q.Addr.IP.IsValid() || !q.Brd.IP.IsValid() {
		return errf(unix.EINVAL, "a tunnel leads from an address to an address")
	}
	return eng.SetTunnel(ifp, embedded(q.Addr.IP), embedded(q.Brd.IP))
}

// tunnelEnd serves SIOCGIFPSRCADDR and SIOCGIFPDSTADDR.
func (s *server) tunnelEnd(req uint32, ifp *netif.Interface) (protocol.Addr, error) {
	ip, dst := s.eng.Engine().Gif.Ends(ifp)
	if req == protocol.SIOCGIFPDSTADDR {
		ip = dst
	}
	if !ip.IsValid() {
		return protocol.Addr{}, unix.EADDRNOTAVAIL
	}
	return sockaddr(ip), nil
}

// embedded is an address of a message as the engine carries it: its scope is
// the interface.
func embedded(ip netip.Addr) netip.Addr {
	index, _ := strconv.ParseUint(ip.Zone(), 10, 16)
	return packet.Scoped(ip.WithZone(""), uint32(index))
}

// tunnelRow adds where a gif leads.
func (s *server) tunnelRow(r *protocol.InterfaceRow, ifp *netif.Interface) {
	src, dst := s.eng.Engine().Gif.Ends(ifp)
	if !src.IsValid() {
		return
	}
	r.TunnelSrc, r.TunnelDst = s.readable(src), s.readable(dst)
}
