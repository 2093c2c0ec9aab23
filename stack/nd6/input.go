package nd6

import (
	"log/slog"
	"net/netip"

	"ionet/stack/mib"
	"ionet/stack/netif"
	"ionet/stack/packet"
	"ionet/stack/route"
)

var (
	unspecified = netip.IPv6Unspecified()
	allNodes    = netip.MustParseAddr("ff02::1")
	allRouters  = netip.MustParseAddr("ff02::2")
)

// message is a message on its way through the checks.
type message struct {
	src, dst netip.Addr // scoped
	body     []byte     // from the type on
}

// kinds are the messages that are obeyed here, by type from ICMP6NeighborSol on.
var kinds = [...]struct {
	name string
	min  int // octets
	bad  mib.Counter
	// check is what else is to be right; it answers what is not.
	check func(m *message) string
	// obey does what the message says, and takes it over; unless it answers why
	// the message is refused.
	obey func(nd *ND, w *netif.Work, ifp *netif.Interface, p *packet.Buf, m *message) string
}{
	{"neighbour solicitation", packet.NeighborSolLen, cntBadNS, checkNS, (*ND).solicitation},
	{"neighbour advertisement", packet.NeighborAdvLen, cntBadNA, checkNA, (*ND).advertisement},
	{"redirect", packet.RedirectLen, cntBadRedir, checkRedirect, (*ND).redirected},
}

// checkNS is RFC 4861 §7.1.1.
func checkNS(m *message) string {
	n := packet.Neighbor(m.body)
	switch {
	case n.Target().IsMulticast():
		return "for a group"
	case m.src != unspecified:
		return ""
	case !isSolicitedNode(m.dst):
		return "without a source to no solicited-node group"
	case packet.FindNDOption(n.Options(), packet.NDOptSourceLink) != nil:
		return "a link address without a source"
	}
	return ""
}

// checkNA is RFC 4861 §7.1.2.
func checkNA(m *message) string {
	n := packet.Neighbor(m.body)
	switch {
	case n.Target().IsMulticast():
		return "for a group"
	case m.dst.IsMulticast() && n.Flags()&packet.NAFlagSolicited != 0:
		return "solicited by a group"
	}
	return ""
}

// checkRedirect is RFC 4861 §8.1, but for the first hop in use.
func checkRedirect(m *message) string {
	r := packet.Redirect(m.body)
	switch {
	case !m.src.IsLinkLocalUnicast():
		return "from no link-local address"
	case r.Destination().IsMulticast():
		return "for a group"
	case r.Destination() == unspecified || r.Destination().IsLoopback() || r.Destination().Is4In6():
		return "for no host"
	case r.Target() != r.Destination() && !r.Target().IsLinkLocalUnicast():
		return "to neither a link-local address nor the destination"
	}
	return ""
}

func isSolicitedNode(g netip.Addr) bool {
	g = plain(g)
	return g == packet.SolicitedNode(g)
}

func solicitedNode(ifp *netif.Interface, ip netip.Addr) netip.Addr {
	return packet.Scoped(packet.SolicitedNode(ip), ifp.Index)
}

// Input takes over a message of types 133 to 137 whose checksum, hop limit and
// code are right, and that came in one piece. The window begins at the ICMPv6
// header, L3 is marked.
func (nd *ND) Input(w *netif.Work, ifp *netif.Interface, p *packet.Buf) {
	h := packet.IPv6(p.L3())
	m := message{src: packet.Scoped(h.Src(), ifp.Index), dst: packet.Scoped(h.Dst(), ifp.Index), body: p.Bytes()}
	if m.body[0] < packet.ICMP6NeighborSol {
		if nd.router == nil {
			consume(w, p, cntRouterMsg)
			return
		}
		nd.router.Input(w, ifp, p)
		return
	}
	if p.Flags&packet.FlagLoop != 0 { // a program's here: no neighbour has sent it
		consume(w, p, cntNotTarget)
		return
	}
	if a := nd.in.Addr(ifp, m.src); a != nil && !a.Tentative && !a.Duplicated {
		nd.duplicate(w, ifp, m.src)
		w.Drop(p, cntConflict)
		return
	}
	k := &kinds[m.body[0]-packet.ICMP6NeighborSol]
	why := "malformed"
	if len(m.body) >= k.min && packet.CheckNDOptions(m.body[k.min:]) {
		if why = k.check(&m); why == "" {
			why = k.obey(nd, w, ifp, p, &m)
		}
	}
	if why == "" {
		return
	}
	if nd.env.MIB.On(nodeDebug) {
		nd.log(w, slog.LevelInfo, "nd6: message refused", "message", k.name, "because", why,
			"from", plain(m.src), "to", plain(m.dst), "interface", ifp.Name)
	}
	w.Drop(p, k.bad)
}

// consume ends a packet that has served its purpose, or was of none here:
// that is no drop.
func consume(w *netif.Work, p *packet.Buf, as mib.Counter) string {
	w.Count(as)
	p.Free()
	return ""
}

// duplicate logs that somebody else uses an address of ours. It stays in use
// (RFC 4862 §5.4: an address is asked for once).
func (nd *ND) duplicate(w *netif.Work, ifp *netif.Interface, ip netip.Addr) {
	nd.log(w, slog.LevelError, "nd6: duplicate address: another station uses an address of ours", "address", plain(ip), "interface", ifp.Name)
}

// linkAddress is what a link-address option says; nil: there is none, or the link
// has no addresses (RFC 4213 §3.8). ok is
// false when it can be no station's address, or is our own.
func linkAddress(ifp *netif.Interface, opts []byte, typ uint8) (mac *netif.MAC, ok bool) {
	o := packet.FindNDOption(opts, typ)
	if o == nil || !linked(ifp) {
		return nil, true
	}
	if len(o) != 8 {
		return nil, false
	}
	a := netif.MAC(o.Data())
	return &a, station(ifp, a)
}

// station reports whether mac can be another station's on the link of ifp.
func station(ifp *netif.Interface, mac netif.MAC) bool {
	return !mac.IsMulticast() && mac != netif.MAC{} && mac != ifp.MAC()
}

// neighbour reports whether ip is on the link of ifp: link-local, or in a
// network there. What is not, is not learnt: a station could have a foreign
// address's packets sent to itself (CVE-2008-2476).
func (nd *ND) neighbour(ifp *netif.Interface, ip netip.Addr) bool {
	if ip.IsLinkLocalUnicast() {
		return true
	}
	hop, _ := nd.routes.Lookup(ip)
	return hop != nil && hop.If == ifp && hop.Flags&(route.FlagGateway|route.FlagReject|route.FlagBlackhole) == 0
}

// solicitation is RFC 4861 §7.2.3, and RFC 4862 §5.4.3 for an address that is
// being asked for.
func (nd *ND) solicitation(w *netif.Work, ifp *netif.Interface, p *packet.Buf, m *message) string {
	n := packet.Neighbor(m.body)
	target := packet.Scoped(n.Target(), ifp.Index)
	mac, ok := linkAddress(ifp, n.Options(), packet.NDOptSourceLink)
	if !ok {
		return "with a link address that is no station's"
	}
	dad := m.src == unspecified
	if !dad && !nd.neighbour(ifp, m.src) {
		return "from no neighbour"
	}
	as := answer{ifp: ifp, target: target, to: m.src, mac: ifp.MAC(), flags: packet.NAFlagOverride}
	a := nd.in.Addr(ifp, target)
	switch {
	case a == nil: // a published entry is answered for, with its own address (§7.2.8)
		e := nd.find(ifp, target)
		if e == nil {
			return consume(w, p, cntNotTarget)
		}
		v := e.v.Load()
		if v.flags&Published == 0 || mac != nil && v.mac == *mac {
			return consume(w, p, cntNotTarget)
		}
		as.mac, as.flags, as.proxy = v.mac, 0, true
	case a.Duplicated:
		return consume(w, p, cntNotTarget)
	case a.Tentative && dad:
		nd.contested(w, ifp, target, packet.FindNDOption(n.Options(), packet.NDOptNonce))
		return consume(w, p, cntDone)
	case a.Tentative && a.Flags&netif.AddrOptimistic == 0: // somebody asks for its other owner
		return consume(w, p, cntNotTarget)
	case a.Tentative: // RFC 4429 §3.3: whoever has it is not to be overridden
		as.flags = 0
	case a.Flags&netif.AddrAnycast != 0: // §7.2.7
		as.flags, as.anycast = 0, true
	}
	switch {
	case dad: // §7.2.4
		as.to = packet.Scoped(allNodes, ifp.Index)
	default:
		as.flags |= packet.NAFlagSolicited
		if mac != nil {
			nd.heard(w, ifp, m.src, mac, unsaid)
			as.via = mac
		}
	}
	if as.anycast {
		nd.answerLater(w, as)
	} else {
		nd.answer(w, as)
	}
	return consume(w, p, cntDone)
}

// advertisement is RFC 4861 §7.2.5, and RFC 4862 §5.4.4 for an address that is
// being asked for.
func (nd *ND) advertisement(w *netif.Work, ifp *netif.Interface, p *packet.Buf, m *message) string {
	n := packet.Neighbor(m.body)
	target := packet.Scoped(n.Target(), ifp.Index)
	mac, ok := linkAddress(ifp, n.Options(), packet.NDOptTargetLink)
	if !ok {
		return "with a link address that is no station's"
	}
	if a := nd.in.Addr(ifp, target); a != nil {
		switch {
		case a.Tentative:
			nd.contested(w, ifp, target, nil)
		case a.Flags&netif.AddrAnycast == 0 && !a.Duplicated:
			nd.duplicate(w, ifp, target)
			w.Drop(p, cntConflict)
			return ""
		}
		return consume(w, p, cntDone)
	}
	e := nd.find(ifp, target)
	if e == nil { // what nobody has asked for makes no entry, but on a router that wants it
		if mac == nil || !nd.in.Forwarding() || !nd.env.MIB.On(nodeUnknown) || !nd.neighbour(ifp, target) {
			return consume(w, p, cntNotTarget)
		}
		who := host
		if n.Flags()&packet.NAFlagRouter != 0 {
			who = router
		}
		nd.heard(w, ifp, target, mac, who)
		return consume(w, p, cntDone)
	}
	nd.advertised(w, e, n.Flags(), mac)
	return consume(w, p, cntDone)
}
