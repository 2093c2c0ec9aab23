package inet6

import (
	"net/netip"
	"sync"
	"syscall"

	"ionet/stack/mib"
	"ionet/stack/netif"
	"ionet/stack/packet"
	"ionet/stack/socket"
)

var (
	nodeErrPPS = mib.Int("net.inet6.icmp6.errppslimit", 100, "ICMPv6 errors sent a second at most; negative: no limit.", mib.Range(-1, 1<<30))
	nodeHiwat  = mib.Int("net.inet6.icmp6.mtudisc_hiwat", 1280, "Path MTUs held at most that messages about transports' packets have told; negative: no limit.", mib.Range(-1, 1<<20))
	nodeLowat  = mib.Int("net.inet6.icmp6.mtudisc_lowat", 256, "The same for packets that only a raw socket can have sent.", mib.Range(-1, 1<<20))

	cntErrors    = mib.NewCounter("icmp6", "errors generated", "# call{s} to icmp_error")
	cntErrRefuse = mib.NewCounter("icmp6", "cannot answer", "# error{s} not generated because old message was icmp error or so")
	cntErrRate   = mib.NewCounter("icmp6", "rate limit", "# error{s} not generated because of rate limitation")
	cntICMPCode  = mib.NewCounter("icmp6", "bad code", "# message{s} with bad code fields")
	cntICMPShort = mib.NewCounter("icmp6", "too short", "# message{s} < minimum length")
	cntICMPSum   = mib.NewCounter("icmp6", "bad checksum", "# bad checksum{s}")
	cntICMPLen   = mib.NewCounter("icmp6", "bad length", "# message{s} with bad length")
	cntICMPFrag  = mib.NewCounter("icmp6", "fragmented nd", "# neighbour discovery message{s} in fragments (RFC 6980)")
	cntEchoIn    = mib.NewCounter("icmp6", "echo received", "# echo request{s} received")
	cntReplyIn   = mib.NewCounter("icmp6", "echo reply received", "# echo repl{y} received")
	cntUnreachIn = mib.NewCounter("icmp6", "unreachable received", "# destination unreachable message{s} received")
	cntBigIn     = mib.NewCounter("icmp6", "too big received", "# packet too big message{s} received")
	cntTimeIn    = mib.NewCounter("icmp6", "time exceeded received", "# time exceeded message{s} received")
	cntParamIn   = mib.NewCounter("icmp6", "parameter problem received", "# parameter problem message{s} received")
	cntNDIn      = mib.NewCounter("icmp6", "nd received", "# neighbour discovery message{s} received")
	cntReflect   = mib.NewCounter("icmp6", "responses", "# message response{s} generated")
	cntNoAnswer  = mib.NewCounter("icmp6", "not answered", "# message{s} that need no answer")
	cntForged    = mib.NewCounter("icmp6", "not about us", "# path MTU message{s} about packets that no socket here sent")
	cntPMTU      = mib.NewCounter("icmp6", "path MTU changes", "# path MTU change{s}")
	cntICMPOther = mib.NewCounter("icmp6", "unknown type", "# message{s} of types that nobody here knows")
)

// ndHopLimit proves that a message comes from the link (RFC 4861 §3.1).
const ndHopLimit = 255

type icmpState struct {
	mu     sync.Mutex
	second int64
	sent   int64
}

// allowError is errppslimit.
func (in *Inet6) allowError(now int64) bool {
	limit := in.env.MIB.Int(nodeErrPPS)
	if limit < 0 {
		return true
	}
	s := &in.icmp
	s.mu.Lock()
	defer s.mu.Unlock()
	if now-s.second >= second || now < s.second {
		s.second, s.sent = now, 0
	}
	if s.sent >= limit {
		return false
	}
	s.sent++
	return true
}

// sendError answers pkt (L3 marked; it is only looked at) with an ICMPv6 error,
// unless RFC 4443 §2.4 (e) forbids. rest is the second word of the message.
func (in *Inet6) sendError(w *netif.Work, pkt *packet.Buf, typ, code uint8, rest uint32) {
	in.sendErrorAs(w, pkt, typ, code, rest, netip.Addr{})
}

// sendErrorAs is sendError from an address that need not be ours; not valid: ours.
func (in *Inet6) sendErrorAs(w *netif.Work, pkt *packet.Buf, typ, code uint8, rest uint32, from netip.Addr) {
	w.Count(cntErrors)
	h, ok := packet.CheckIPv6(pkt.L3())
	if !ok {
		return
	}
	src, dst := h.Addrs(pkt.RcvIf)
	toMany := dst.IsMulticast() || pkt.Flags&(packet.FlagBroadcast|packet.FlagMulticast) != 0
	proto, at, first, whole := transport(h)
	switch {
	case src == unspecified, src.IsMulticast(), in.isAnycast(src),
		toMany && typ != packet.ICMP6TooBig && (typ != packet.ICMP6ParamProblem || code != packet.ICMP6ParamOption),
		proto == packet.ProtoICMPv6 && first && whole && at < len(h) && (packet.ICMP6IsError(h[at]) || h[at] == packet.ICMP6Redirect):
		w.Count(cntErrRefuse)
		return
	}
	if !in.allowError(w.Now) {
		w.Count(cntErrRate)
		return
	}
	quote := h[:min(len(h), packet.MinMTU6-packet.IPv6Len-packet.ICMP6Len)]
	f := socket.Flow{Dst: src, Proto: packet.ProtoICMPv6, Src: from}
	if a := in.Local(dst); a != nil && a.Flags&netif.AddrAnycast == 0 && !a.Tentative {
		f.Src = dst
	}
	e := in.env.Pool.Get(packet.ICMP6Len + len(quote))
	if e == nil {
		w.Count(cntOutNoMem)
		return
	}
	m := packet.ICMP6(e.Append(packet.ICMP6Len + len(quote)))
	m.SetType(typ, code)
	m.SetRest(rest)
	copy(m.Payload(), quote)
	w.Count(cntReflect)
	w.Turn(func(w *netif.Work, e *packet.Buf) {
		_ = in.sendICMP(w, e, &f) // an error about an error goes nowhere
	}, e)
}

func (in *Inet6) isAnycast(ip netip.Addr) bool {
	a := in.Local(ip)
	return a != nil && a.Flags&netif.AddrAnycast != 0
}

// sendICMP sums up a message, window at its type, and sends it.
func (in *Inet6) sendICMP(w *netif.Work, e *packet.Buf, f *socket.Flow) error {
	if !f.Src.IsValid() {
		src, err := in.Source(f)
		if err != nil {
			w.Drop(e, cntNoRoute)
			return err
		}
		f.Src = src
	}
	packet.ICMP6(e.Bytes()).SetChecksum(f.Src, f.Dst)
	e.Csum, e.GSO = packet.CsumVerified, packet.GSONone
	return in.Output(w, e, f)
}

// checkICMP verifies a message's checksum; the window begins at its type. One of
// neighbour discovery that came in a fragment, of its own or with others, is nobody's,
// not even a daemon's (RFC 6980 §5).
func (in *Inet6) checkICMP(w *netif.Work, p *packet.Buf, fragmented bool) bool {
	m, ok := packet.CheckICMP6(p.Bytes())
	if !ok {
		w.Drop(p, cntICMPShort)
		return false
	}
	if p.Csum == packet.CsumNone {
		h := packet.IPv6(p.L3())
		if !m.ChecksumOK(h.Src(), h.Dst()) {
			w.Drop(p, cntICMPSum)
			return false
		}
		p.Csum = packet.CsumVerified
	}
	if fragmented && m.Type() >= packet.ICMP6RouterSol && m.Type() <= packet.ICMP6Redirect {
		w.Drop(p, cntICMPFrag)
		return false
	}
	return true
}

// icmpInput takes over a message whose checksum is right.
func (in *Inet6) icmpInput(w *netif.Work, ifp *netif.Interface, p *packet.Buf) {
	m := packet.ICMP6(p.Bytes())
	switch t := m.Type(); t {
	case packet.ICMP6Echo, packet.ICMP6EchoReply, packet.ICMP6Unreach, packet.ICMP6TooBig, packet.ICMP6TimeExceeded, packet.ICMP6ParamProblem:
		if len(m) < packet.ICMP6Len {
			w.Drop(p, cntICMPShort)
			return
		}
	case packet.ICMP6MLDQuery, packet.ICMP6MLDReport, packet.ICMP6MLDDone, packet.ICMP6MLDv2Report:
		in.groups.input(w, in.received(ifp, p), p)
		return
	case packet.ICMP6RouterSol, packet.ICMP6RouterAdv, packet.ICMP6NeighborSol, packet.ICMP6NeighborAdv, packet.ICMP6Redirect:
		w.Count(cntNDIn)
		switch {
		case packet.IPv6(p.L3()).HopLimit() != ndHopLimit || in.nd == nil:
			w.Drop(p, cntNoAnswer)
		case m.Code() != 0:
			w.Drop(p, cntICMPCode)
		default:
			in.nd.Input(w, in.received(ifp, p), p)
		}
		return
	case packet.ICMP6NIQuery:
		in.nodeInfo(w, in.received(ifp, p), p)
		return
	default:
		w.Drop(p, cntICMPOther)
		return
	}
	switch m.Type() {
	case packet.ICMP6Echo:
		w.Count(cntEchoIn)
		in.echoReply(w, p)
		return
	case packet.ICMP6EchoReply:
		w.Count(cntReplyIn)
		if in.echo != nil {
			in.echo.Input(w, p)
			return
		}
	default:
		in.errorInput(w, m, p.RcvIf)
	}
	p.Free()
}

// received is the interface that p came in by, which a packet of ours to our own link-local
// address carries past lo0.
func (in *Inet6) received(ifp *netif.Interface, p *packet.Buf) *netif.Interface {
	if ifp.Index != p.RcvIf {
		if r := in.env.Ifs.ByIndex(p.RcvIf); r != nil {
			return r
		}
	}
	return ifp
}

// echoReply turns a request into its answer. One to a group is answered from
// an address of ours (RFC 4443 §4.2).
func (in *Inet6) echoReply(w *netif.Work, p *packet.Buf) {
	h := packet.IPv6(p.L3())
	m := packet.ICMP6(p.Bytes())
	f := socket.Flow{Dst: packet.Scoped(h.Src(), p.RcvIf), Proto: packet.ProtoICMPv6, TOS: h.Class()}
	if f.Dst == unspecified || f.Dst.IsMulticast() {
		w.Drop(p, cntNoAnswer)
		return
	}
	if dst := packet.Scoped(h.Dst(), p.RcvIf); !dst.IsMulticast() && !in.isAnycast(dst) {
		f.Src = dst
	}
	m.SetType(packet.ICMP6EchoReply, 0)
	p.Flags = 0
	w.Count(cntReflect)
	if err := in.sendICMP(w, p, &f); err != nil {
		w.Count(cntNoRoute)
	}
}

// errorInput hands an error to the protocol it is about. Only packets that can
// have been ours count (RFC 5927 §4.1).
func (in *Inet6) errorInput(w *netif.Work, m packet.ICMP6, rcvif uint32) {
	inner, ok := packet.CheckIPv6(m.Payload())
	if !ok {
		w.Count(cntICMPLen)
		return
	}
	proto, at, first, whole := transport(inner)
	if !whole || !first || len(inner) < at+8 {
		w.Count(cntICMPLen)
		return
	}
	src, dst := packet.Scoped(inner.Src(), rcvif), packet.Scoped(inner.Dst(), rcvif)
	if in.Local(src) == nil {
		w.Count(cntForged)
		return
	}
	body := inner[at:]
	var c socket.Control
	switch m.Type() {
	case packet.ICMP6TimeExceeded:
		w.Count(cntTimeIn)
		c.Err = syscall.EHOSTUNREACH
	case packet.ICMP6ParamProblem:
		w.Count(cntParamIn)
		c.Err = syscall.EPROTO
		if m.Code() == packet.ICMP6ParamNext {
			c = socket.Control{Err: syscall.ECONNREFUSED, Hard: true}
		}
	case packet.ICMP6TooBig:
		w.Count(cntBigIn)
		limit := in.believes(src, dst, proto, body)
		if limit == nil {
			w.Count(cntForged)
			return
		}
		c = socket.Control{Err: syscall.EMSGSIZE, MTU: in.newPMTU(w, dst, int(m.Rest()), limit)}
		if c.MTU == 0 {
			return
		}
	default:
		w.Count(cntUnreachIn)
		switch m.Code() {
		case packet.ICMP6UnreachNoRoute:
			c.Err = syscall.ENETUNREACH
		case packet.ICMP6UnreachAdmin, packet.ICMP6UnreachPolicy, packet.ICMP6UnreachReject:
			c.Err = syscall.EACCES
		case packet.ICMP6UnreachScope, packet.ICMP6UnreachAddr:
			c.Err = syscall.EHOSTUNREACH
		case packet.ICMP6UnreachPort:
			c = socket.Control{Err: syscall.ECONNREFUSED, Hard: true}
		default:
			w.Count(cntICMPCode)
			return
		}
	}
	if proto == packet.ProtoICMPv6 {
		if in.echo != nil {
			in.echo.ControlInput(w, c, src, dst, body)
		}
	} else if u := in.upper[proto]; u != nil {
		u.ControlInput(w, c, src, dst, body)
	}
	if in.raw != nil {
		in.raw.ControlInput(w, c, src, dst, body)
	}
}

// believes is the bound on path MTUs for the packet that an error quotes; nil:
// no socket of ours can have sent it.
func (in *Inet6) believes(src, dst netip.Addr, proto uint8, body []byte) *mib.Node {
	u := in.upper[proto]
	if proto == packet.ProtoICMPv6 {
		u = in.echo
	}
	switch {
	case u != nil && u.Knows(src, dst, body):
		return nodeHiwat
	case in.raw != nil && in.raw.Knows(dst, proto):
		return nodeLowat
	}
	return nil
}

// newPMTU notes a smaller path MTU and answers it; 0 when it is not believed.
// Nothing below what every link carries is (RFC 8201 §4, RFC 8021).
func (in *Inet6) newPMTU(w *netif.Work, dst netip.Addr, mtu int, limit *mib.Node) int {
	if mtu < packet.MinMTU6 {
		return 0
	}
	f := socket.Flow{Dst: dst}
	if in.resolve(&f) != nil || f.Route.Local || mtu >= in.linkMTU(f.Route.If) {
		return 0
	}
	if old, ok := in.cache.MTU(dst, w.Now); ok && old <= mtu {
		return old
	}
	if n := in.env.MIB.Int(limit); n >= 0 && int64(in.cache.Len6(w.Now)) >= n {
		return 0
	}
	in.cache.SetMTU(dst, mtu, w.Now, w.Now+in.env.MIB.Int(nodeMTUDisc)*second)
	in.gen.Add(1)
	w.Count(cntPMTU)
	in.watchPMTU(w)
	return mtu
}

// watchPMTU sees to it that cached routes are looked up again when a learnt
// path MTU is believed no longer.
func (in *Inet6) watchPMTU(w *netif.Work) {
	if at, ok := in.cache.NextExpiry(w.Now); ok {
		in.env.Wheel.Reset(&in.pmtu, at)
	}
}

func (in *Inet6) pmtuExpired(w *netif.Work) {
	in.gen.Add(1)
	in.watchPMTU(w)
}
