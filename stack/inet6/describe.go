package inet6

import (
	"net/netip"
	"slices"
	"syscall"

	"ionet/stack/netif"
	"ionet/stack/packet"
	"ionet/stack/socket"
)

// recvMask is what a socket wants to be told of what it receives.
type recvMask uint16

const (
	recvPktInfo recvMask = 1 << iota
	recvHopLimit
	recvClass
	recvHopOpts
	recvDstOpts
	recvRoute
	recvPathMTU
	recvRouteDst
	recv2292PktInfo
	recv2292HopLimit
	recv2292HopOpts
	recv2292DstOpts
	recv2292Route
)

var recvBits = map[int]recvMask{
	IPv6RecvPktInfo:      recvPktInfo,
	IPv6RecvHopLimit:     recvHopLimit,
	IPv6RecvTClass:       recvClass,
	IPv6RecvHopOpts:      recvHopOpts,
	IPv6RecvDstOpts:      recvDstOpts,
	IPv6RecvRtHdr:        recvRoute,
	IPv6RecvPathMTU:      recvPathMTU,
	IPv6RecvRtHdrDstOpts: recvRouteDst,
	IPv62292PktInfo:      recv2292PktInfo,
	IPv62292HopLimit:     recv2292HopLimit,
	IPv62292HopOpts:      recv2292HopOpts,
	IPv62292DstOpts:      recv2292DstOpts,
	IPv62292RtHdr:        recv2292Route,
}

// recvPrivileged are those that KAME tells only the superuser.
const recvPrivileged = recvHopOpts | recvDstOpts | recvRouteDst | recv2292HopOpts | recv2292DstOpts

// receive is one of the options that ask for ancillary data. EPERM.
func (o *Options) receive(bit recvMask, v []byte) error {
	n, err := socket.Int32(v)
	if err != nil {
		return err
	}
	if bit&recvPrivileged != 0 && !o.so.Cred.Super {
		return syscall.EPERM
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	m := o.wants() &^ bit
	if n != 0 {
		m |= bit
	}
	o.recv.Store(uint32(m))
	return nil
}

// wants is what is told with each packet.
func (o *Options) wants() recvMask { return recvMask(o.recv.Load()) }

// Describe is socket.NetOptions. Of a packet of IPv4 it is told what that has,
// its destination mapped (RFC 3542 §13).
func (o *Options) Describe(pkt *packet.Buf, m *socket.Msg) {
	want := o.wants()
	if want == 0 {
		return
	}
	tell := func(bit recvMask, name int, data func() []byte) {
		if want&bit != 0 {
			m.Control = append(m.Control, socket.Cmsg{Level: LevelIPv6, Type: name, Data: data()})
		}
	}
	var dst netip.Addr
	var hops, class uint8
	if h, ok := packet.CheckIPv6(pkt.L3()); ok {
		if mtu, ok := noticed(pkt, h); ok {
			m.Control = append(m.Control, socket.Cmsg{Level: LevelIPv6, Type: IPv6PathMTU,
				Data: appendMTUInfo(packet.Scoped(h.Src(), pkt.RcvIf), packet.UDP(pkt.L4()).SrcPort(), mtu)})
			return
		}
		dst, hops, class = h.Dst(), h.HopLimit(), h.Class()
		defer describeChain(h, want, m)
	} else if h, ok := packet.CheckIPv4(pkt.L3()); ok {
		dst, hops, class = netip.AddrFrom16(h.Dst().As16()), h.TTL(), h.TOS()
	} else {
		return
	}
	info := func() []byte { return appendPktInfo(nil, dst, pkt.RcvIf) }
	limit := func() []byte { return socket.Value32(int(hops)) }
	tell(recvPktInfo, IPv6PktInfo, info)
	tell(recv2292PktInfo, IPv62292PktInfo, info)
	tell(recvHopLimit, IPv6HopLimit, limit)
	tell(recv2292HopLimit, IPv62292HopLimit, limit)
	tell(recvClass, IPv6TClass, func() []byte { return socket.Value32(int(class)) })
}

// describeChain adds the extension headers that are wanted, each whole, in the
// order in which they came.
func describeChain(h packet.IPv6, want recvMask, m *socket.Msg) {
	routed := false // past a Routing header
	for next, rest := h.Next(), h.Payload(); ; {
		var names []int
		add := func(bit recvMask, name int) {
			if want&bit != 0 {
				names = append(names, name)
			}
		}
		switch next {
		case packet.ProtoHopByHop:
			add(recvHopOpts, IPv6HopOpts)
			add(recv2292HopOpts, IPv62292HopOpts)
		case packet.ProtoDstOpts:
			add(recvDstOpts, IPv6DstOpts)
			add(recv2292DstOpts, IPv62292DstOpts)
			if !routed {
				if e, ok := packet.CheckExt(rest); ok && e.Next() == packet.ProtoRouting {
					add(recvRouteDst, IPv6RtHdrDstOpts)
				}
			}
		case packet.ProtoRouting:
			routed = true
			add(recvRoute, IPv6RtHdr)
			add(recv2292Route, IPv62292RtHdr)
		case packet.ProtoFragment:
			f, ok := packet.CheckFragment(rest)
			if !ok {
				return
			}
			next, rest = f.Next(), rest[packet.FragmentLen:]
			continue
		default:
			return
		}
		e, ok := packet.CheckExt(rest)
		if !ok {
			return
		}
		for _, name := range names {
			m.Control = append(m.Control, socket.Cmsg{Level: LevelIPv6, Type: name, Data: slices.Clone(e)})
		}
		next, rest = e.Next(), rest[len(e):]
	}
}

// appendPktInfo appends an in6_pktinfo.
func appendPktInfo(b []byte, ip netip.Addr, index uint32) []byte {
	a := unscoped(ip).As16()
	return append(append(b, a[:]...), socket.Value32(int(index))...)
}

// appendMTUInfo is an ip6_mtuinfo: sockaddr_in6, u32 MTU (RFC 3542 §11.2).
func appendMTUInfo(ip netip.Addr, port uint16, mtu uint32) []byte {
	return append(appendSockaddr(nil, ip, port), socket.Value32(int(mtu))...)
}

// pathMTU is IPV6_PATHMTU of a connected socket. ENOTCONN.
func (o *Options) pathMTU() ([]byte, error) {
	peer := o.so.H.Peer()
	if !peer.IP.Is6() {
		return nil, syscall.ENOTCONN
	}
	f := socket.Flow{Dst: peer.IP}
	o.Fill(&f)
	if err := o.in.resolve(&f); err != nil {
		return nil, err
	}
	mtu := f.Route.MTU
	if f.MinMTU {
		mtu = min(mtu, packet.MinMTU6)
	}
	return appendMTUInfo(peer.IP, peer.Port, uint32(mtu)), nil
}

// TooBig is socket.NetOptions. The notice waits among the datagrams, as one
// without data: a Too Big message as the destination might have sent it itself,
// with the port of its socket behind.
func (o *Options) TooBig(w *netif.Work, dst socket.Addr, mtu int) {
	if o.wants()&recvPathMTU == 0 || !dst.IP.Is6() {
		return
	}
	ip, index := packet.Unscoped(dst.IP)
	const size = packet.IPv6Len + packet.ICMP6Len + packet.UDPLen
	p := o.in.env.Pool.Get(size)
	if p == nil {
		w.Count(cntOutNoMem)
		return
	}
	b := p.Append(size)
	packet.PutIPv6(b, 0, 0, size-packet.IPv6Len, packet.ProtoICMPv6, 0, ip, unspecified)
	m := packet.ICMP6(b[packet.IPv6Len:])
	m.SetType(packet.ICMP6TooBig, 0)
	m.SetRest(uint32(mtu))
	packet.PutUDP(b[packet.IPv6Len+packet.ICMP6Len:], dst.Port, 0, packet.UDPLen, 0)
	p.MarkL3(0)
	p.MarkL4(packet.IPv6Len + packet.ICMP6Len)
	p.TrimFront(size)
	p.Time, p.RcvIf = w.Now, index
	if !o.so.Deliver(w, p) {
		p.Free() // a full socket has other cares
	}
}

// noticed is the MTU of a notice that TooBig has left.
func noticed(pkt *packet.Buf, h packet.IPv6) (mtu uint32, ok bool) {
	if pkt.Len() != 0 || h.Dst() != unspecified || h.Next() != packet.ProtoICMPv6 {
		return 0, false // no packet is for the unspecified address
	}
	return packet.ICMP6(h.Payload()).Rest(), true
}
