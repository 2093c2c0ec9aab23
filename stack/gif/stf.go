package gif

import (
	"fmt"
	"net/netip"
	"syscall"

	"ionet/stack/mib"
	"ionet/stack/netif"
	"ionet/stack/packet"
)

var nodeRFC1918 = mib.Int("net.link.stf.permit_rfc1918", 0, "1: 6to4 with private IPv4 addresses, which RFC 3056 forbids; for laboratories.", mib.Bool())

var prefix6to4 = netip.MustParsePrefix("2002::/16")

// is6to4 reports an address that has an IPv4 address inside (RFC 3056 §2), which
// v4Of answers.
func is6to4(ip netip.Addr) bool { return prefix6to4.Contains(ip) }

func v4Of(ip netip.Addr) netip.Addr {
	b := ip.As16()
	return netip.AddrFrom4([4]byte(b[2:6]))
}

// CheckAddr says whether an stf may have an address: one of 6to4, with an IPv4
// address inside that is not private. EINVAL, EAFNOSUPPORT. It knows nothing against
// other interfaces' addresses.
func (g *Gif) CheckAddr(ifp *netif.Interface, ip netip.Addr) error {
	switch {
	case ifp.Type != netif.TypeSTF:
		return nil
	case ip.Is4():
		return fmt.Errorf("%s carries IPv6 alone: %w", ifp.Name, syscall.EAFNOSUPPORT)
	case !is6to4(ip) || g.bad4(v4Of(ip)):
		return fmt.Errorf("%v is no 6to4 address, which is 2002: and a public IPv4 address: %w", ip, syscall.EINVAL)
	}
	return nil
}

// bad4 reports addresses that cannot be a 6to4 router's: of no host, of this
// host, of one link, private (RFC 3056 §2, §9, RFC 3964 §5.3.1).
func (g *Gif) bad4(ip netip.Addr) bool {
	b := ip.As4()
	return b[0] == 0 || b[0] == 127 || b[0] >= 224 || ip.IsLinkLocalUnicast() ||
		ip.IsPrivate() && !g.env.MIB.On(nodeRFC1918) || g.nets[0].IsBroadcast(ip)
}

// bad6 reports inner addresses that nothing from beyond a link has (RFC 3964
// §5.3.2), or that have a bad one of IPv4 inside.
func (g *Gif) bad6(ip netip.Addr) bool {
	return ip.IsUnspecified() || foreign6(ip) || ip.IsLinkLocalUnicast() || siteLocal.Contains(ip) || is6to4(ip) && g.bad4(v4Of(ip))
}

var siteLocal = netip.MustParsePrefix("fec0::/10")

// output6to4 is the stf's Interface.Output. The far end is inside the
// destination, which may know a shorter way, or inside the next hop, a relay
// (RFC 3056 §5.3). Groups have none.
func (t *tunnel) output6to4(w *netif.Work, ifp *netif.Interface, pkt *packet.Buf, nexthop netip.Addr) error {
	g, b := t.g, pkt.Bytes()
	if !ifp.Up() || b[0]>>4 != 6 {
		t.refuse(w, pkt, cntNoTunnel)
		return syscall.ENETDOWN
	}
	if err := t.nest(w, pkt); err != nil {
		return err
	}
	src, dst := addresses(b)
	var far netip.Addr
	switch {
	case is6to4(dst):
		far = v4Of(dst)
	case is6to4(nexthop):
		far = v4Of(nexthop)
	}
	switch { // RFC 3964 §5.1
	case !far.IsValid():
		t.refuse(w, pkt, cntNoWay)
		return syscall.ENETUNREACH
	case g.bad6(src) || g.bad6(dst) || g.bad4(far) || g.nets[0].Local(far) != nil, is6to4(src) && g.nets[0].Local(v4Of(src)) == nil:
		t.refuse(w, pkt, cntBadOuter)
		return syscall.EADDRNOTAVAIL
	}
	if pkt = t.roomy(w, pkt, 4); pkt == nil {
		return syscall.ENOBUFS
	}
	a := far.As4()
	copy(pkt.Prepend(4), a[:]) // for encap6to4, which is a turn
	w.Turn(t.encapTurn, pkt)
	return nil
}

// encap6to4 sends a packet behind the address of its far end.
func (t *tunnel) encap6to4(w *netif.Work, pkt *packet.Buf) {
	far := netip.AddrFrom4([4]byte(pkt.Bytes()))
	pkt.TrimFront(4)
	src := t.source()
	if !src.IsValid() {
		t.refuse(w, pkt, cntNotOurs)
		return
	}
	t.through(w, pkt, ends{src, far})
}

// source is the address of this host inside an address of the stf.
func (t *tunnel) source() netip.Addr {
	for _, a := range t.ifp.Addrs() {
		if is6to4(a.Addr) {
			if v4 := v4Of(a.Addr); t.g.nets[0].Local(v4) != nil {
				return v4
			}
		}
	}
	return netip.Addr{}
}

// takes reports whether packets from src to dst are 6to4's: dst is inside an
// address of the stf, and src in the part of all 6to4 routers that the address's
// prefix length leaves: 2002::/16 is all (stf_encapcheck).
func (t *tunnel) takes(src, dst netip.Addr) bool {
	for _, a := range t.ifp.Addrs() {
		if !is6to4(a.Addr) || v4Of(a.Addr) != dst || t.g.nets[0].Local(dst) == nil {
			continue
		}
		bits := min(max(a.Bits-16, 0), 32)
		if netip.PrefixFrom(dst, bits).Masked().Contains(src) {
			return true
		}
	}
	return false
}

// check6to4 is RFC 3964 §5.2: the outer addresses can be 6to4 routers', the
// inner ones those of hosts, and where they are 6to4 addresses they are the
// outer ones'. One of them is: this host is no relay between others.
func (t *tunnel) check6to4(h packet.IPv6, src, dst netip.Addr) (why mib.Counter, ok bool) {
	src6, dst6 := h.Src(), h.Dst()
	switch {
	case t.g.bad4(src), t.g.bad4(dst):
		return cntBadOuter, false
	case t.g.bad6(src6), t.g.bad6(dst6):
		return cntBadAddr, false
	case is6to4(src6) && v4Of(src6) != src, is6to4(dst6) && v4Of(dst6) != dst, !is6to4(src6) && !is6to4(dst6):
		return cntSpoofed, false
	}
	return 0, true
}
