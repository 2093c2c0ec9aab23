package inet

import (
	"encoding/binary"
	"net/netip"
	"syscall"

	"ionet/stack/mib"
	"ionet/stack/mroute"
	"ionet/stack/netif"
	"ionet/stack/packet"
	"ionet/stack/socket"
)

// Options at level IPPROTO_IP of a routing daemon's raw socket of IGMP (NetBSD's numbers).
const (
	MRTInit    = 100 // int 1
	MRTDone    = 101
	MRTAddVif  = 102 // vifctl
	MRTDelVif  = 103 // u16
	MRTAddMFC  = 104 // mfcctl
	MRTDelMFC  = 105 // mfcctl, of which origin and group count
	MRTVersion = 106 // read: int
	MRTAssert  = 107 // int

	mrtVersion = 0x0305 // of the interface

	// vifctl: u16 number, u8 flags, u8 threshold, u32 rate limit, in_addr local, in_addr remote.
	vifctlLen = 16
	// mfcctl: in_addr origin, in_addr group, u16 parent, u8 ttls[32], 2 octets of padding.
	mfcctlLen = 44
	// igmpmsg: 8 octets of the packet's, u8 type, u8 0 (where a packet has its protocol), u8 vif, u8 0,
	// in_addr source, in_addr group.
	igmpmsgLen = 20
)

var (
	cntMRTLookups = mib.NewCounter("mroute", "lookups", "# multicast forwarding cache lookup{s}")
	cntMRTMisses  = mib.NewCounter("mroute", "misses", "# multicast forwarding cache miss{es}")
	cntMRTNoRoute = mib.NewCounter("mroute", "no route for origin", "# datagram{s} with no route for origin")
	cntMRTUpcalls = mib.NewCounter("mroute", "upcalls", "# upcall{s} made to mrouted")
	cntMRTWrongIf = mib.NewCounter("mroute", "wrong interface", "# datagram{s} arrived on wrong interface")
	cntMRTQueue   = mib.NewCounter("mroute", "upcall queue full", "# datagram{s} dropped due to upcall Q overflow")
	cntMRTSock    = mib.NewCounter("mroute", "upcall socket full", "# datagram{s} dropped due to upcall socket overflow")
	cntMRTCleanup = mib.NewCounter("mroute", "no answer to upcall", "# datagram{s} cleaned up by the cache")
	cntMRTTooBig  = mib.NewCounter("mroute", "too large", "# datagram{s} too large for a virtual interface")
	cntMRTNoMem   = mib.NewCounter("mroute", "no memory", "# cop{y} not made for lack of memory")
)

// mrouter is Inet as mroute.Network.
type mrouter Inet

func mrouteConfig(in *Inet) mroute.Config {
	return mroute.Config{Network: (*mrouter)(in), Counters: mroute.Counters{Lookups: cntMRTLookups, Misses: cntMRTMisses,
		NoRoute: cntMRTNoRoute, Upcalls: cntMRTUpcalls, WrongIf: cntMRTWrongIf, Overflow: cntMRTQueue, SockFull: cntMRTSock,
		Cleanups: cntMRTCleanup, NoMemory: cntMRTNoMem}}
}

// Multicast is multicast forwarding.
func (in *Inet) Multicast() *mroute.Router { return in.mroute }

// group takes a packet to a group to its members here and on the way to those behind us (ip_input).
func (in *Inet) group(w *netif.Work, ifp *netif.Interface, p *packet.Buf, h packet.IPv4, dst netip.Addr) {
	ours := dst == allHosts || in.groups.Joined(ifp.Index, dst)
	if in.mroute.Active() && p.Flags&packet.FlagLoop == 0 {
		ours = ours || h.Proto() == packet.ProtoIGMP // the routing daemon hears about all groups
		if in.mroute.From(ifp.Index) && leavesLink(h) {
			if !ours {
				w.Turn(in.mforwardTurn, p)
				return
			}
			in.forwardCopy(w, p, p.RcvIf)
		}
	}
	if !ours {
		w.Drop(p, cntNoGroup)
		return
	}
	p.Flags |= packet.FlagMulticast
	in.local(w, p, h)
}

// sentToGroup is told of a packet of ours that leaves by ifp: it is forwarded as if it had come
// from there (ip_output).
func (in *Inet) sentToGroup(w *netif.Work, p *packet.Buf, ifp *netif.Interface) {
	if in.mroute.Active() && in.mroute.From(ifp.Index) && leavesLink(p.L3()) {
		in.forwardCopy(w, p, ifp.Index)
	}
}

func (in *Inet) forwardCopy(w *netif.Work, p *packet.Buf, index uint32) {
	c := p.Clone()
	if c == nil {
		w.Count(cntMRTNoMem)
		return
	}
	c.RcvIf, c.Time = index, w.Now
	w.Turn(in.mforwardTurn, c)
}

// leavesLink reports whether a packet to a group may be forwarded at all: not to 224.0.0/24 (RFC 5771 §4),
// nor from nobody or an address of its link (RFC 1812 §5.3.7, RFC 3927 §7), nor along a source route.
func leavesLink(h packet.IPv4) bool {
	src, dst := h.Src(), h.Dst()
	return h.TTL() > 1 && !dst.IsLinkLocalMulticast() && src != unspecified && !src.IsLinkLocalUnicast() &&
		(h.HeaderLen() == packet.IPv4Len || !sourceRouted(h.Options()))
}

// Read is mroute.Network.
func (m *mrouter) Read(p *packet.Buf) (src, dst netip.Addr, hops uint8) {
	h := packet.IPv4(p.Bytes())
	return h.Src(), h.Dst(), h.TTL()
}

// SendGroup is mroute.Network (phyint_send): members here on that link hear it too. About packets to
// groups nobody is told (RFC 1122 §3.2.2).
func (m *mrouter) SendGroup(w *netif.Work, p *packet.Buf, ifp *netif.Interface) {
	in := (*Inet)(m)
	h := packet.IPv4(p.Bytes())
	h.DecTTL()
	p.MarkL3(0)
	p.MarkL4(h.HeaderLen())
	p.Flags = packet.FlagMulticast | p.Flags&packet.FlagInjected
	dst := h.Dst()
	w.Count(cntForward)
	if in.groups.Joined(ifp.Index, dst) {
		in.loopCopy(w, p, ifp)
	}
	if f := in.hook.Load(); f != nil {
		if p = f.Out(w, ifp, p); p == nil {
			return
		}
		h = packet.IPv4(p.Bytes())
		p.MarkL4(h.HeaderLen())
	}
	mtu := ifp.MTU()
	switch {
	case p.Fits(mtu):
		_ = ifp.Output(w, ifp, p, dst) // a group needs no neighbour
	case h.DF():
		w.Drop(p, cntMRTTooBig)
	default:
		_ = in.fragment(w, p, ifp, dst, mtu)
	}
}

// Told is mroute.User: an igmpmsg, whose beginning is the packet's.
func (o *Options) Told(w *netif.Work, u mroute.Upcall, p *packet.Buf) bool {
	m := o.in.env.Pool.Get(igmpmsgLen)
	if m == nil {
		return false
	}
	b := m.Append(igmpmsgLen)
	copy(b, p.Bytes())
	b[8], b[9], b[10], b[11] = u.Kind, 0, uint8(u.Vif), 0
	m.MarkL3(0)
	m.MarkL4(0)
	m.RcvIf, m.Time, m.Csum = p.RcvIf, w.Now, packet.CsumVerified
	if !o.so.Deliver(w, m) {
		m.Free()
		return false
	}
	return true
}

// setMRT is the routing daemon's half of Set (ip_mrouter_set). Errors: EOPNOTSUPP (not a raw socket of IGMP), EADDRINUSE
// (there is a daemon), ENOPROTOOPT (the socket is not the daemon's), EINVAL, EADDRNOTAVAIL, ENOBUFS.
func (o *Options) setMRT(w *netif.Work, name int, v []byte) error {
	r := o.in.mroute
	if name == MRTInit {
		switch n, err := socket.Int32(v); {
		case err != nil:
			return err
		case o.so.Type != socket.Raw || o.so.Proto != packet.ProtoIGMP || o.so.Family != socket.AFInet:
			return syscall.EOPNOTSUPP
		case n != 1:
			return syscall.ENOPROTOOPT
		}
		if err := r.Start(o); err != nil {
			return err
		}
		o.mu.Lock()
		closed := o.closed
		o.mu.Unlock()
		if closed { // a Close that came between has stopped too early
			r.Stop(w, o)
		}
		return nil
	}
	if !r.Is(o) {
		return syscall.ENOPROTOOPT
	}
	le := binary.LittleEndian
	switch {
	case name == MRTDone:
		r.Stop(w, o)
		return nil
	case name == MRTAddVif && len(v) == vifctlLen:
		vif := mroute.Vif{Flags: v[2], Threshold: v[3], RateLimit: le.Uint32(v[4:]),
			Local: netip.AddrFrom4([4]byte(v[8:12])), Remote: netip.AddrFrom4([4]byte(v[12:16]))}
		a := o.in.Local(vif.Local)
		if a == nil {
			return syscall.EADDRNOTAVAIL
		}
		vif.If = a.If
		return r.AddVif(int(le.Uint16(v)), vif)
	case name == MRTDelVif && len(v) == 2:
		return r.DelVif(int(le.Uint16(v)))
	case name == MRTAddMFC && len(v) == mfcctlLen:
		way := mroute.Way{Parent: int(le.Uint16(v[8:]))}
		copy(way.TTLs[:], v[10:])
		return r.AddEntry(w, netip.AddrFrom4([4]byte(v[:4])), netip.AddrFrom4([4]byte(v[4:8])), way)
	case name == MRTDelMFC && len(v) == mfcctlLen:
		return r.DelEntry(netip.AddrFrom4([4]byte(v[:4])), netip.AddrFrom4([4]byte(v[4:8])))
	case name == MRTAssert:
		n, err := socket.Int32(v)
		if err == nil {
			r.SetAssert(n != 0)
		}
		return err
	case name == MRTVersion:
		return syscall.ENOPROTOOPT
	}
	return syscall.EINVAL
}

// getMRT is ip_mrouter_get.
func (o *Options) getMRT(name int) ([]byte, error) {
	r := o.in.mroute
	switch {
	case name == MRTVersion && o.so.Type == socket.Raw:
		return socket.Value32(mrtVersion), nil
	case name == MRTAssert && r.Is(o) && r.Assert():
		return socket.Value32(1), nil
	case name == MRTAssert && r.Is(o):
		return socket.Value32(0), nil
	}
	return nil, syscall.ENOPROTOOPT
}
