package inet

import (
	"encoding/binary"
	"net/netip"
	"sync"
	"syscall"

	"ionet/stack/mib"
	"ionet/stack/netif"
	"ionet/stack/packet"
	"ionet/stack/route"
	"ionet/stack/socket"
)

var (
	nodeMaskRepl   = mib.Int("net.inet.icmp.maskrepl", 0, "1: answer address mask requests.", mib.Bool())
	nodeReturn     = mib.Int("net.inet.icmp.returndatabytes", 8, "Octets of a packet's data that an ICMP error quotes.", mib.Range(8, 512))
	nodeErrPPS     = mib.Int("net.inet.icmp.errppslimit", 100, "ICMP errors sent a second at most; negative: no limit.", mib.Range(-1, 1<<30))
	nodeBmcastEcho = mib.Int("net.inet.icmp.bmcastecho", 0, "1: answer echo requests to broadcast and group addresses (RFC 1122 leaves it open; off, so that nobody is used as an amplifier).", mib.Bool())
	nodeRedirAcc   = mib.Int("net.inet.icmp.rediraccept", 1, "1: believe ICMP redirects from the gateway in use.", mib.Bool())

	cntErrors      = mib.NewCounter("icmp", "errors generated", "# call{s} to icmp_error")
	cntErrOldICMP  = mib.NewCounter("icmp", "about icmp", "# error{s} not generated because old message was icmp")
	cntErrOther    = mib.NewCounter("icmp", "about group or fragment", "# error{s} not generated because the packet was a fragment, or not for one host")
	cntErrRate     = mib.NewCounter("icmp", "rate limit", "# error{s} not generated because of rate limitation")
	cntICMPBadCode = mib.NewCounter("icmp", "bad ICMP code", "# message{s} with bad code fields")
	cntICMPShort   = mib.NewCounter("icmp", "ICMP too short", "# message{s} < minimum length")
	cntICMPSum     = mib.NewCounter("icmp", "bad ICMP checksum", "# bad checksum{s}")
	cntICMPLen     = mib.NewCounter("icmp", "bad ICMP length", "# message{s} with bad length")
	cntEchoIn      = mib.NewCounter("icmp", "echo received", "# echo request{s} received")
	cntReplyIn     = mib.NewCounter("icmp", "echo reply received", "# echo repl{y} received")
	cntUnreachIn   = mib.NewCounter("icmp", "unreachable received", "# destination unreachable message{s} received")
	cntQuenchIn    = mib.NewCounter("icmp", "source quench", "# source quench message{s} received and ignored")
	cntRedirectIn  = mib.NewCounter("icmp", "redirect received", "# redirect{s} received")
	cntTimeIn      = mib.NewCounter("icmp", "time exceeded received", "# time exceeded message{s} received")
	cntReflect     = mib.NewCounter("icmp", "responses", "# message response{s} generated")
	cntNotAnswered = mib.NewCounter("icmp", "not answered", "# message{s} that need no answer")
	cntForged      = mib.NewCounter("icmp", "not about us", "# path MTU message{s} about packets that no socket here sent")
	cntPMTU        = mib.NewCounter("icmp", "path MTU changes", "# path MTU change{s}")
	cntBadRedirect = mib.NewCounter("icmp", "bad redirect", "# redirect{s} not believed")
)

const gatewayFlag = route.FlagGateway

// maxTTL is what BSD sends its ICMP answers with (MAXTTL).
const maxTTL = 255

// minPMTU is the smallest path MTU that is believed; a forged message cannot
// push a sender below it.
const minPMTU = 552

type icmpState struct {
	mu     sync.Mutex
	second int64
	sent   int64
}

// icmp is Inet as the protocol with number 1.
type icmp Inet

// icmpTime is milliseconds since midnight UT, or, as we know no midnight here,
// of the stack's clock with the high bit that says so (RFC 792).
func (in *Inet) icmpTime(now int64) uint32 { return uint32(now/1e6) | 1<<31 }

// allowError is errppslimit.
func (in *Inet) allowError(now int64) bool {
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

// sendError answers pkt (L3 marked; it is only looked at) with an ICMP error,
// unless RFC 1122 §3.2.2 or RFC 1812 §4.3.2.7 forbids. rest is the second word
// of the message.
func (in *Inet) sendError(w *netif.Work, pkt *packet.Buf, typ, code uint8, rest uint32) {
	in.sendErrorAs(w, pkt, typ, code, rest, netip.Addr{})
}

// sendErrorAs is sendError from an address that need not be ours; not valid: ours.
func (in *Inet) sendErrorAs(w *netif.Work, pkt *packet.Buf, typ, code uint8, rest uint32, from netip.Addr) {
	w.Count(cntErrors)
	h, ok := packet.CheckIPv4(pkt.L3())
	if !ok {
		return
	}
	src, dst := h.Src(), h.Dst()
	if h.FragOff() != 0 || pkt.Flags&(packet.FlagBroadcast|packet.FlagMulticast) != 0 ||
		dst.IsMulticast() || in.IsBroadcast(dst) ||
		src == unspecified || src.IsMulticast() || in.IsBroadcast(src) || src.As4()[0] >= 240 {
		w.Count(cntErrOther)
		return
	}
	hlen := h.HeaderLen()
	if h.Proto() == packet.ProtoICMP && typ != packet.ICMPRedirect {
		if len(h) > hlen && packet.ICMPIsError(h[hlen]) {
			w.Count(cntErrOldICMP)
			return
		}
	}
	if !in.allowError(w.Now) {
		w.Count(cntErrRate)
		return
	}
	quote := h[:min(len(h), hlen+int(in.env.MIB.Int(nodeReturn)))]
	e := in.env.Pool.Get(packet.IPv4MaxLen + packet.ICMPLen + len(quote))
	if e == nil {
		w.Count(cntOutNoMem)
		return
	}
	m := packet.ICMP(e.Append(packet.ICMPLen + len(quote)))
	m.SetType(typ, code)
	m.SetRest(rest)
	copy(m.Payload(), quote)
	m.SetChecksum()
	e.Csum = packet.CsumVerified
	f := socket.Flow{Dst: src, Proto: packet.ProtoICMP, TTL: maxTTL, TOS: 0xc0} // RFC 1812 §4.3.2.5
	if in.Local(dst) != nil {
		f.Src = dst
	} else if from.IsValid() {
		f.Src = from
	} else if ifp := in.env.Ifs.ByIndex(pkt.RcvIf); ifp != nil {
		if a := in.firstAddr(ifp); a != unspecified { // RFC 1812 §4.3.2.4
			f.Src = a
		}
	}
	w.Count(cntReflect)
	w.Turn(func(w *netif.Work, e *packet.Buf) {
		_ = in.Output(w, e, &f) // an error about an error goes nowhere
	}, e)
}

// Input is Upper.
func (ic *icmp) Input(w *netif.Work, p *packet.Buf) {
	in := (*Inet)(ic)
	m, ok := packet.CheckICMP(p.Bytes())
	if !ok {
		w.Drop(p, cntICMPShort)
		return
	}
	if p.Csum == packet.CsumNone && !m.ChecksumOK() {
		w.Drop(p, cntICMPSum)
		return
	}
	switch m.Type() {
	case packet.ICMPEcho:
		w.Count(cntEchoIn)
		if p.Flags&(packet.FlagBroadcast|packet.FlagMulticast) != 0 && !in.env.MIB.On(nodeBmcastEcho) {
			w.Drop(p, cntNotAnswered)
			return
		}
		in.reflect(w, p, packet.ICMPEchoReply)
		return
	case packet.ICMPTimestamp:
		if len(m) < 20 {
			w.Drop(p, cntICMPLen)
			return
		}
		if p.Flags&(packet.FlagBroadcast|packet.FlagMulticast) != 0 {
			w.Drop(p, cntNotAnswered)
			return
		}
		t := in.icmpTime(w.Now)
		binary.BigEndian.PutUint32(m[12:], t)
		binary.BigEndian.PutUint32(m[16:], t)
		in.reflect(w, p, packet.ICMPTimestampReply)
		return
	case packet.ICMPMaskRequest:
		if in.maskReply(w, p, m) {
			return
		}
	case packet.ICMPEchoReply:
		w.Count(cntReplyIn)
		if in.echo != nil {
			in.echo.Input(w, p)
			return
		}
	case packet.ICMPSourceQuench: // RFC 6633: ignored
		w.Count(cntQuenchIn)
	case packet.ICMPUnreach, packet.ICMPTimeExceeded, packet.ICMPParamProblem:
		in.errorInput(w, m)
	case packet.ICMPRedirect:
		w.Count(cntRedirectIn)
		in.redirectInput(w, p, m)
	}
	p.Free()
}

// reflect turns a request into its answer: type changed, addresses exchanged,
// recorded options kept. The packet's window begins at the ICMP header.
func (in *Inet) reflect(w *netif.Work, p *packet.Buf, typ uint8) {
	h := packet.IPv4(p.L3())
	m := packet.ICMP(p.Bytes())
	f := socket.Flow{Dst: h.Src(), Proto: packet.ProtoICMP, TTL: maxTTL, TOS: h.TOS()}
	if in.Local(h.Dst()) != nil {
		f.Src = h.Dst()
	}
	oneHost := func(a netip.Addr) bool { return !a.IsMulticast() && a != unspecified && !in.IsBroadcast(a) }
	ok := oneHost(f.Dst)
	if h.HeaderLen() > packet.IPv4Len {
		var first netip.Addr
		f.Options, first = replyOptions(h.Options(), h.Src())
		if first.IsValid() {
			f.Dst = first
			ok = ok && oneHost(first)
		}
	}
	if !ok {
		w.Drop(p, cntNotAnswered)
		return
	}
	if typ == packet.ICMPEchoReply { // only one word changed
		old := binary.BigEndian.Uint16(m)
		m.SetType(typ, 0)
		sum := packet.UpdateChecksum(binary.BigEndian.Uint16(m[2:]), old, uint16(typ)<<8)
		binary.BigEndian.PutUint16(m[2:], sum)
	} else {
		m.SetType(typ, 0)
		m.SetChecksum()
	}
	p.Csum, p.GSO, p.Flags = packet.CsumVerified, packet.GSONone, 0
	w.Count(cntReflect)
	if err := in.Output(w, p, &f); err != nil {
		w.Count(cntNoRoute)
	}
}

func (in *Inet) maskReply(w *netif.Work, p *packet.Buf, m packet.ICMP) bool {
	if !in.env.MIB.On(nodeMaskRepl) || len(m) < 12 {
		return false
	}
	ifp := in.env.Ifs.ByIndex(p.RcvIf)
	if ifp == nil {
		return false
	}
	for _, a := range ifp.Addrs() {
		if a.Addr.Is4() {
			binary.BigEndian.PutUint32(m[8:], ^uint32(0)<<(32-a.Bits))
			in.reflect(w, p, packet.ICMPMaskReply)
			return true
		}
	}
	return false
}

// errorInput hands an error to the protocol it is about. Only packets that can
// have been ours count (RFC 5927 §4.1).
func (in *Inet) errorInput(w *netif.Work, m packet.ICMP) {
	inner, ok := packet.CheckIPv4(m.Payload())
	if !ok || len(inner) < inner.HeaderLen()+8 {
		w.Count(cntICMPLen)
		return
	}
	src, dst := inner.Src(), inner.Dst()
	if in.Local(src) == nil {
		w.Count(cntICMPBadCode)
		return
	}
	var c socket.Control
	switch m.Type() {
	case packet.ICMPTimeExceeded:
		w.Count(cntTimeIn)
		c.Err = syscall.EHOSTUNREACH
	case packet.ICMPParamProblem:
		c = socket.Control{Err: syscall.ENOPROTOOPT, Hard: true}
	default:
		w.Count(cntUnreachIn)
		switch m.Code() {
		case packet.ICMPUnreachProtocol, packet.ICMPUnreachPort:
			c = socket.Control{Err: syscall.ECONNREFUSED, Hard: true}
		case packet.ICMPUnreachNeedFrag:
			if !in.knows(inner) {
				w.Count(cntForged)
				return
			}
			c = socket.Control{Err: syscall.EMSGSIZE, MTU: in.newPMTU(w, m, inner)}
			if c.MTU == 0 {
				return
			}
		case packet.ICMPUnreachNet, 6, packet.ICMPUnreachNetProhib, 11:
			c.Err = syscall.ENETUNREACH
		default:
			if m.Code() > 15 {
				w.Count(cntICMPBadCode)
				return
			}
			c.Err = syscall.EHOSTUNREACH
		}
	}
	if u := in.upper[inner.Proto()]; u != nil {
		u.ControlInput(w, c, src, dst, inner.Payload())
	}
	if in.raw != nil {
		in.raw.ControlInput(w, c, src, dst, inner.Payload())
	}
}

// knows reports whether a socket of ours can have sent the packet that an
// error quotes.
func (in *Inet) knows(inner packet.IPv4) bool {
	u := in.upper[inner.Proto()]
	return u != nil && u.Knows(inner.Src(), inner.Dst(), inner.Payload()) ||
		in.raw != nil && in.raw.Knows(inner.Dst(), inner.Proto())
}

// newPMTU notes a smaller path MTU and answers it; 0 when it is not believed.
// Routers before RFC 1191 say 0: then the next plateau below the packet's
// length (RFC 1191 §7.1).
func (in *Inet) newPMTU(w *netif.Work, m packet.ICMP, inner packet.IPv4) int {
	if !in.env.MIB.On(nodeMTUDisc) {
		return 0
	}
	mtu := m.MTU()
	if mtu == 0 {
		mtu = minPMTU
		for _, p := range [...]int{32000, 17914, 8166, 4352, 2002, 1492, 1006} {
			if p < inner.TotalLen() {
				mtu = p
				break
			}
		}
	}
	mtu = max(mtu, minPMTU)
	dst := inner.Dst()
	hop, _ := in.routes.Lookup(dst)
	if hop == nil || hop.If == nil || mtu >= hop.If.MTU() {
		return 0
	}
	if old, ok := in.cache.MTU(dst, w.Now); ok && old <= mtu {
		return old
	}
	in.cache.SetMTU(dst, mtu, w.Now, w.Now+in.env.MIB.Int(nodeMTUDiscTime)*second)
	in.gen.Add(1)
	w.Count(cntPMTU)
	in.watchPMTU(w)
	return mtu
}

// watchPMTU sees to it that cached routes are looked up again when a learnt
// path MTU is believed no longer.
func (in *Inet) watchPMTU(w *netif.Work) {
	if at, ok := in.cache.NextExpiry(w.Now); ok {
		in.env.Wheel.Reset(&in.pmtu, at)
	}
}

func (in *Inet) pmtuExpired(w *netif.Work) {
	in.gen.Add(1)
	in.watchPMTU(w)
}

// redirectInput believes a redirect that comes from the gateway in use and
// names a neighbour (RFC 1122 §3.2.2.2). The route changes after the burst.
func (in *Inet) redirectInput(w *netif.Work, p *packet.Buf, m packet.ICMP) {
	inner, ok := packet.CheckIPv4(m.Payload())
	if !ok || m.Code() > 3 || !in.env.MIB.On(nodeRedirAcc) || in.env.MIB.On(nodeForwarding) {
		w.Count(cntBadRedirect)
		return
	}
	from := packet.IPv4(p.L3()).Src()
	gw, dst := netip.AddrFrom4(m.Gateway()), inner.Dst()
	ifp := in.env.Ifs.ByIndex(p.RcvIf)
	hop, _ := in.routes.Lookup(dst)
	if ifp == nil || hop == nil || hop.If != ifp || hop.Flags&route.FlagGateway == 0 || hop.Gateway != from ||
		in.Local(inner.Src()) == nil || in.Local(gw) != nil || gw == from {
		w.Count(cntBadRedirect)
		return
	}
	near := false
	for _, a := range ifp.Addrs() {
		near = near || a.Addr.Is4() && a.Prefix().Contains(gw)
	}
	if !near {
		w.Count(cntBadRedirect)
		return
	}
	w.Post(func(w *netif.Work) {
		if err := in.routes.Redirect(dst, gw, from); err != nil {
			w.Count(cntBadRedirect)
		}
	})
}

// Knows is Upper: echo requests are what sockets send. Raw ones answer for
// themselves.
func (ic *icmp) Knows(src, dst netip.Addr, transport []byte) bool {
	return ic.echo != nil && ic.echo.Knows(src, dst, transport)
}

// ControlInput is Upper.
func (ic *icmp) ControlInput(w *netif.Work, c socket.Control, src, dst netip.Addr, transport []byte) {
	if ic.echo != nil {
		ic.echo.ControlInput(w, c, src, dst, transport)
	}
}
