package inet6

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"syscall"

	"ionet/stack/mib"
	"ionet/stack/mroute"
	"ionet/stack/netif"
	"ionet/stack/packet"
	"ionet/stack/socket"
)

// Options at level IPPROTO_IPV6 of a routing daemon's raw socket of ICMPv6 (KAME's numbers).
const (
	MRT6Done   = 101
	MRT6AddMif = 102 // mif6ctl
	MRT6DelMif = 103 // u16
	MRT6AddMFC = 104 // mf6cctl
	MRT6DelMFC = 105 // mf6cctl, of which origin and group count
	MRT6PIM    = 107 // int
	MRT6Init   = 108 // int 1

	// mif6ctl: u16 number, u8 flags, u8 of padding, u16 index of the interface.
	mif6ctlLen = 6
	// mf6cctl: sockaddr_in6 origin, sockaddr_in6 group, u16 parent, 2 octets of padding, 256 bits, u32 by u32.
	mf6cctlLen = 2*sockaddrLen + 4 + 32
	// mrt6msg: u8 0 (where a message has its type), u8 type, u16 mif, 4 octets of padding, in6_addr source, in6_addr group.
	mrt6msgLen = 40
)

var (
	cntMRTLookups = mib.NewCounter("mroute6", "lookups", "# multicast forwarding cache lookup{s}")
	cntMRTMisses  = mib.NewCounter("mroute6", "misses", "# multicast forwarding cache miss{es}")
	cntMRTUpcalls = mib.NewCounter("mroute6", "upcalls", "# upcall{s} to mrouted")
	cntMRTQueue   = mib.NewCounter("mroute6", "upcall queue full", "# upcall queue overflow{s}")
	cntMRTSock    = mib.NewCounter("mroute6", "upcall socket full", "# upcall{s} dropped due to full socket buffer")
	cntMRTCleanup = mib.NewCounter("mroute6", "no answer to upcall", "# cache cleanup{s}")
	cntMRTNoRoute = mib.NewCounter("mroute6", "no route for origin", "# datagram{s} with no route for origin")
	cntMRTWrongIf = mib.NewCounter("mroute6", "wrong interface", "# datagram{s} arrived on wrong interface")
	cntMRTTooBig  = mib.NewCounter("mroute6", "too large", "# datagram{s} dropped for being too large")
	cntMRTNoMem   = mib.NewCounter("mroute6", "no memory", "# cop{y} not made for lack of memory")
)

// mrouter is Inet6 as mroute.Network.
type mrouter Inet6

func mrouteConfig(in *Inet6) mroute.Config {
	return mroute.Config{Network: (*mrouter)(in), Counters: mroute.Counters{Lookups: cntMRTLookups, Misses: cntMRTMisses,
		NoRoute: cntMRTNoRoute, Upcalls: cntMRTUpcalls, WrongIf: cntMRTWrongIf, Overflow: cntMRTQueue, SockFull: cntMRTSock,
		Cleanups: cntMRTCleanup, NoMemory: cntMRTNoMem}}
}

// Multicast is multicast forwarding.
func (in *Inet6) Multicast() *mroute.Router { return in.mroute }

// group takes a packet to a group to its members here and on the way to those behind us (ip6_input).
func (in *Inet6) group(w *netif.Work, ifp *netif.Interface, p *packet.Buf, h packet.IPv6, src, dst netip.Addr) {
	ours := in.groups.joined(p.RcvIf, dst)
	if in.mroute.Active() && p.Flags&packet.FlagLoop == 0 {
		ours = ours || packet.HasRouterAlert(h) // the routing daemon hears about all groups
		if in.mroute.From(p.RcvIf) && leavesLink(h, src, dst) {
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
	in.local(w, ifp, p, h)
}

// sentToGroup is told of a packet of ours that leaves by ifp: it is forwarded as if it had come from there
// (ip6_output).
func (in *Inet6) sentToGroup(w *netif.Work, p *packet.Buf, ifp *netif.Interface) {
	if !in.mroute.Active() || !in.mroute.From(ifp.Index) {
		return
	}
	h := packet.IPv6(p.L3())
	if src, dst := h.Addrs(ifp.Index); leavesLink(h, src, dst) {
		in.forwardCopy(w, p, ifp.Index)
	}
}

func (in *Inet6) forwardCopy(w *netif.Work, p *packet.Buf, index uint32) {
	c := p.Clone()
	if c == nil {
		w.Count(cntMRTNoMem)
		return
	}
	c.RcvIf, c.Time = index, w.Now
	w.Turn(in.mforwardTurn, c)
}

// leavesLink reports whether a packet to a group may be forwarded at all: neither group nor source are of one
// interface or link (RFC 4291 §2.7, §2.5.6), and it is from somebody. All links are of one site here.
func leavesLink(h packet.IPv6, src, dst netip.Addr) bool {
	return h.HopLimit() > 1 && scopeOf(dst) > scopeLink && src != unspecified && src != loopback && !src.IsLinkLocalUnicast()
}

// Read is mroute.Network.
func (m *mrouter) Read(p *packet.Buf) (src, dst netip.Addr, hops uint8) {
	h := packet.IPv6(p.Bytes())
	return h.Src(), h.Dst(), h.HopLimit()
}

// SendGroup is mroute.Network (phyint_send): members here on that link hear it too. The sender of what is too
// large is told, as of every packet (RFC 4443 §3.2).
func (m *mrouter) SendGroup(w *netif.Work, p *packet.Buf, ifp *netif.Interface) {
	in := (*Inet6)(m)
	h := packet.IPv6(p.Bytes())
	p.MarkL3(0)
	p.MarkL4(packet.IPv6Len)
	if p.GSO != packet.GSONone {
		_, at, _, _ := transport(h)
		p.MarkL4(at)
	}
	p.Flags = packet.FlagMulticast | p.Flags&packet.FlagInjected
	if mtu := in.linkMTU(ifp); !p.Fits(mtu) {
		in.sendError(w, p, packet.ICMP6TooBig, 0, uint32(mtu))
		w.Drop(p, cntMRTTooBig)
		return
	}
	h.SetHopLimit(h.HopLimit() - 1)
	dst := h.Dst()
	w.Count(cntForward)
	if in.groups.joined(ifp.Index, dst) {
		in.loopCopy(w, p, ifp)
	}
	if f := in.hook.Load(); f != nil {
		if p = f.Out(w, ifp, p); p == nil {
			return
		}
	}
	_ = ifp.Output(w, ifp, p, dst) // a group needs no neighbour
}

// Told is mroute.User: an mrt6msg behind the packet's header, which says where it came from.
func (o *Options) Told(w *netif.Work, u mroute.Upcall, p *packet.Buf) bool {
	m := o.in.env.Pool.Get(packet.IPv6Len + mrt6msgLen)
	if m == nil {
		return false
	}
	b := m.Append(packet.IPv6Len + mrt6msgLen)
	packet.PutIPv6(b, 0, 0, mrt6msgLen, packet.ProtoICMPv6, packet.IPv6(p.Bytes()).HopLimit(), u.Src, u.Dst)
	msg := append(b[packet.IPv6Len:packet.IPv6Len], 0, u.Kind)
	msg = append(binary.LittleEndian.AppendUint16(msg, uint16(u.Vif)), 0, 0, 0, 0)
	msg = append(msg, u.Src.AsSlice()...)
	_ = append(msg, u.Dst.AsSlice()...)
	m.MarkL3(0)
	m.TrimFront(packet.IPv6Len)
	m.MarkL4(0)
	m.RcvIf, m.Time, m.Csum = p.RcvIf, w.Now, packet.CsumVerified
	if !o.so.Deliver(w, m) {
		m.Free()
		return false
	}
	return true
}

func isMRT(name int) bool { return name >= MRT6Done && name <= MRT6Init }

// setMRT is the routing daemon's half of Set (ip6_mrouter_set). Errors: EOPNOTSUPP (not a raw socket of ICMPv6), EADDRINUSE
// (there is a daemon), ENOPROTOOPT (the socket is not the daemon's), EINVAL, ENXIO, EADDRNOTAVAIL, ENOBUFS.
func (o *Options) setMRT(w *netif.Work, name int, v []byte) error {
	r := o.in.mroute
	if name == MRT6Init {
		switch n, err := socket.Int32(v); {
		case err != nil:
			return err
		case o.so.Type != socket.Raw || o.so.Proto != packet.ProtoICMPv6:
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
	case name == MRT6Done:
		r.Stop(w, o)
		return nil
	case name == MRT6AddMif && len(v) == mif6ctlLen:
		ifp := o.in.env.Ifs.ByIndex(uint32(le.Uint16(v[4:])))
		if ifp == nil {
			return syscall.ENXIO
		}
		mif := mroute.Vif{If: ifp, Threshold: 1}
		if v[2]&1 != 0 { // MIFF_REGISTER
			mif.Flags = mroute.FlagRegister
		}
		return r.AddVif(int(le.Uint16(v)), mif)
	case name == MRT6DelMif && len(v) == 2:
		return r.DelVif(int(le.Uint16(v)))
	case (name == MRT6AddMFC || name == MRT6DelMFC) && len(v) == mf6cctlLen:
		src, _, err := readSockaddr(v)
		if err != nil {
			return err
		}
		dst, _, err := readSockaddr(v[sockaddrLen:])
		if err != nil {
			return err
		}
		if name == MRT6DelMFC {
			return r.DelEntry(src, dst)
		}
		way := mroute.Way{Parent: int(le.Uint16(v[2*sockaddrLen:]))}
		set := v[2*sockaddrLen+4:]
		for i := range 8 * len(set) {
			switch on := le.Uint32(set[i/32*4:])>>(i%32)&1 != 0; {
			case on && i >= mroute.MaxVifs:
				return fmt.Errorf("mif %d: there are 0 to %d: %w", i, mroute.MaxVifs-1, syscall.EINVAL)
			case on:
				way.TTLs[i] = 1
			}
		}
		return r.AddEntry(w, src, dst, way)
	case name == MRT6PIM:
		n, err := socket.Int32(v)
		if err == nil {
			r.SetAssert(n != 0)
		}
		return err
	}
	return syscall.EINVAL
}

// getMRT is ip6_mrouter_get.
func (o *Options) getMRT(name int) ([]byte, error) {
	if r := o.in.mroute; name == MRT6PIM && r.Is(o) {
		return flag(r.Assert()), nil
	}
	return nil, syscall.ENOPROTOOPT
}
