package ipsec

import (
	"encoding/binary"
	"syscall"

	"ionet/stack/netif"
	"ionet/stack/packet"
	"ionet/stack/socket"
)

// way is what one sender needs at a time: a tunnel's outer flow with its route, and room for
// what a super-packet is cut into.
type way struct {
	flow socket.Flow
	segs []*packet.Buf
}

// maxIdle bounds the ways that an SA keeps.
const maxIdle = 8

func (s *SA) take() *way {
	if s.busy.CompareAndSwap(false, true) {
		return &s.single
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := len(s.ways); n > 0 {
		y := s.ways[n-1]
		s.ways = s.ways[:n-1]
		return y
	}
	return new(way)
}

func (s *SA) give(y *way) {
	if y == &s.single {
		s.busy.Store(false)
		return
	}
	s.mu.Lock()
	if len(s.ways) < maxIdle {
		s.ways = append(s.ways, y)
	}
	s.mu.Unlock()
}

// Policy is [pfil.Security]: a *flow.
func (x *IPsec) Policy(w *netif.Work, pkt *packet.Buf, own any) any {
	p, _ := own.(*Policy)
	if p != nil && p.Kind == Bypass {
		return nil
	}
	if p != nil && p.Kind == Entrust {
		p = nil
	}
	v6 := pkt.Bytes()[0]>>4 == 6
	if p == nil && x.spd.n.Load() == 0 {
		if x.dropsAll(v6) {
			return discards
		}
		return nil
	}
	var k flowKey
	keyOf(w, pkt, Out, &k)
	f := x.look(&k, p)
	if f.policy == nil {
		if back := x.backFlow(pkt, &k); back != nil {
			return back
		}
		if x.dropsAll(v6) {
			return discards
		}
		return nil
	}
	f.policy.seen(w.Now)
	if f.policy.Kind == None {
		return nil
	}
	return f
}

// discards is def_policy's 0.
var discards = &flow{policy: &Policy{Kind: Discard}}

func (x *IPsec) dropsAll(v6 bool) bool {
	if v6 {
		return !x.env.MIB.On(nodeDefPolicy6)
	}
	return !x.env.MIB.On(nodeDefPolicy)
}

// seen notes that a policy matched; once a second is enough for who lists it.
func (p *Policy) seen(now int64) {
	if now-p.last.Load() >= second {
		p.last.Store(now)
	}
}

// bundle is the SAs of a packet, the innermost first.
type bundle struct {
	n  int
	sa [maxBundle]*SA
}

// bundleOf finds the SAs that a flow's policy asks for; missing is the request that there is none for, or nil.
func (x *IPsec) bundleOf(f *flow, b *bundle) (missing *Request) {
	for n := range f.policy.Requests {
		var s *SA
		if g := f.groups[n]; g != nil {
			s = g.cur.Load()
		}
		if s == nil {
			if r := &f.policy.Requests[n]; x.level(r, f.v6) != Use {
				return r
			}
			continue
		}
		b.sa[b.n] = s
		b.n++
	}
	return nil
}

// level is a request's, or the default of its kind, of a packet of a version of IP.
func (x *IPsec) level(r *Request, v6 bool) Level {
	if r.Level != Default {
		return r.Level
	}
	return Level(x.env.MIB.Int(defaultLevel(r, v6)))
}

// Protect is [pfil.Security].
func (x *IPsec) Protect(w *netif.Work, pkt *packet.Buf, policy any, mtu int) (on *packet.Buf, cut []*packet.Buf, err error) {
	f := policy.(*flow)
	if f.policy.Kind == Discard {
		w.Drop(pkt, ipStats[side(pkt.Bytes()[0]>>4 == 6)].outPolicy)
		return nil, nil, syscall.EACCES
	}
	var b bundle
	if r := x.bundleOf(f, &b); r != nil {
		return nil, nil, x.wait.want(w, pkt, f, r)
	}
	if b.n == 0 { // all of it was "use", and nothing is there
		pkt.Flags |= packet.FlagSecured
		return pkt, nil, nil
	}
	last := b.sa[b.n-1]
	y := last.take()
	tunnel := false
	for _, s := range b.sa[:b.n] {
		tunnel = tunnel || s.Mode == ModeTunnel || s.Mode == ModeBEET
	}
	if err := x.measure(w, y, pkt, &b, mtu, tunnel); err != nil {
		last.give(y)
		return nil, nil, err
	}
	if pkt.GSO == packet.GSONone {
		pkt, err = x.transform(w, pkt, &b)
		if err == nil && tunnel {
			err = x.emit(w, y, pkt, last)
			pkt = nil
		}
		last.give(y)
		return pkt, nil, err
	}
	pkt.MarkL3(0)
	segs, ok := pkt.Segments(y.segs[:0])
	if !ok {
		last.give(y)
		w.Drop(pkt, ipStats[side(pkt.Bytes()[0]>>4 == 6)].outInvalid)
		return nil, nil, syscall.EINVAL
	}
	pkt.Free()
	kept := segs[:0]
	for _, c := range segs {
		if c, err = x.transform(w, c, &b); err != nil {
			continue // counted; TCP sends it again
		}
		if tunnel {
			last.summed(y, c)
			_ = x.emit(w, y, c, last)
			continue
		}
		kept = append(kept, c)
	}
	if tunnel {
		y.segs = segs[:0]
		last.give(y)
		return nil, nil, nil
	}
	y.segs = nil
	last.give(y)
	return nil, kept, nil
}

// Done is [pfil.Security].
func (x *IPsec) Done(cut []*packet.Buf) { clear(cut) }

// emit routes a packet with a tunnel's outer header.
func (x *IPsec) emit(w *netif.Work, y *way, pkt *packet.Buf, s *SA) error {
	pkt.Flags = pkt.Flags&^(packet.FlagBroadcast|packet.FlagMulticast|packet.FlagLoop|packet.FlagCame) | packet.FlagSecured
	f := &y.flow
	f.Src, f.Dst, f.Proto = s.Src, s.Dst, s.Proto
	return x.net(s.Dst).Emit(w, pkt, f, s.path(packet.MaxPacket, w.Now))
}

// measure asks whether the packet still fits when all has been added. One that its sender wanted
// whole is answered with what would fit; others are cut later, or never were to be.
func (x *IPsec) measure(w *netif.Work, y *way, pkt *packet.Buf, b *bundle, mtu int, tunnel bool) error {
	if tunnel {
		last := b.sa[b.n-1]
		f := &y.flow
		f.Src, f.Dst, f.Proto = last.Src, last.Dst, last.Proto
		if _, err := x.net(last.Dst).PathMTU(f); err != nil {
			w.Drop(pkt, ipStats[side(pkt.Bytes()[0]>>4 == 6)].outNoRoute)
			return err
		}
		mtu = f.Route.If.MTU()
	}
	// What a path takes is the SA's to know: of its ends inside and outside, which may be the same, the
	// stack believes what TooBig has told them below.
	mtu = b.sa[b.n-1].path(mtu, w.Now)
	for n := b.n - 1; n >= 0; n-- {
		mtu = b.sa[n].inside(mtu)
	}
	h := pkt.Bytes()
	v6 := h[0]>>4 == 6
	if v6 && tunnel {
		mtu = max(mtu, packet.MinMTU6) // what is less is the tunnel's trouble: it cuts (RFC 4301 §8.2.1)
	}
	// Of our own packets of IPv6 only TCP's are sent again smaller; the others are cut when they are protected.
	whole := v6 && (pkt.RcvIf != 0 || packet.IPv6(h).Next() == packet.ProtoTCP) || !v6 && packet.IPv4(h).DF()
	if last := b.sa[b.n-1]; tunnel && last.Dst.Is4() && last.outerDF(h) {
		whole = true // a header with DF is not cut, whatever it is around; KAME says so to the sender
	}
	if !whole || pkt.Fits(mtu) {
		return nil
	}
	pkt.MarkL3(0)
	x.nets[side(v6)].TooBig(w, pkt, mtu)
	w.Drop(pkt, ipStats[side(v6)].outBig)
	return syscall.EMSGSIZE
}

// inside is the largest packet that comes out of the SA as one of mtu at most; of a transport, with
// its IP header.
func (s *SA) inside(mtu int) int {
	outer := 0
	if s.Mode == ModeTunnel {
		if outer = packet.IPv4Len; s.Dst.Is6() {
			outer = packet.IPv6Len
		}
	}
	switch s.Proto {
	case packet.ProtoESP:
		room := mtu - outer - espLen - s.iv - s.icv
		if s.NATT.Type != 0 {
			room -= packet.UDPLen
		}
		if s.Mode == ModeBEET { // a header of the other version may be longer: that much is not used
			return packet.IPv4Len + (room-headerLen(s.Dst.Is4()))&^(s.align-1) - trailerLen
		}
		fixed := 0 // in front of what is encrypted
		if s.Mode != ModeTunnel {
			if fixed = packet.IPv4Len; s.Dst.Is6() {
				fixed = packet.IPv6Len
			}
		}
		return fixed + (room-fixed)&^(s.align-1) - trailerLen
	case packet.ProtoAH:
		return mtu - outer - s.ahLen()
	}
	return mtu - outer // IPComp: what does not get smaller goes without, but for a tunnel's header
}

// Lengths (RFC 4303 §2).
const (
	espLen     = 8
	trailerLen = 2
)

// transform takes a packet, window at its IP header, through the bundle. With an error it has
// gone.
func (x *IPsec) transform(w *netif.Work, pkt *packet.Buf, b *bundle) (*packet.Buf, error) {
	if pkt.Csum == packet.CsumPartial {
		if pkt.Shared() {
			roomy := pkt.WithRoom(packet.Headroom, 64)
			if roomy == nil {
				w.Drop(pkt, b.sa[0].stats.ip.outNoMem)
				return nil, syscall.ENOBUFS
			}
			pkt = roomy
		}
		pkt.CompleteCsum()
	}
	for _, s := range b.sa[:b.n] {
		if !s.usable() || !s.used(w, pkt.Len()) {
			w.Drop(pkt, s.stats.proto.over)
			return nil, syscall.EAGAIN
		}
		if pkt.Len() > nearlyLongest && pkt.Len() > s.inside(longest(s.Dst.Is6())) {
			drop(w, pkt, s.stats.ip.outInvalid, s.stats.proto.big)
			return nil, syscall.EMSGSIZE
		}
		var err error
		switch s.Proto {
		case packet.ProtoESP:
			pkt, err = s.sealESP(w, pkt)
		case packet.ProtoAH:
			pkt, err = s.signAH(w, pkt)
		default:
			pkt, err = s.compress(w, pkt)
		}
		if err != nil {
			return nil, err
		}
	}
	if s := b.sa[b.n-1]; s.inUDP() && s.Dst.Is6() {
		sum(pkt) // RFC 8200 §8.1
	}
	pkt.Flags |= packet.FlagSecured
	return pkt, nil
}

// nearlyLongest is what no protection makes longer than an IP header can say.
const nearlyLongest = 60000

func longest(v6 bool) int {
	if v6 {
		return packet.IPv6Len + 65535
	}
	return 65535
}

// next takes the next number; false: they are over (RFC 4303 §3.3.3).
func (s *SA) number() (uint64, bool) {
	n := s.seq.Add(1)
	if s.ESN || n <= 1<<32-1 {
		return n, true
	}
	if !s.Cyclic || s.Replay > 0 {
		s.seq.Add(^uint64(0))
		return 0, false
	}
	return n, true
}

// headers says where a packet's transport header begins, behind the extension headers that stay in front of
// protection (RFC 4303 §3.1.1), and where the octet is that names it.
func headers(b []byte) (at, nextAt int, proto uint8) {
	if b[0]>>4 == 4 {
		h := packet.IPv4(b)
		return h.HeaderLen(), 9, h.Proto()
	}
	h := packet.IPv6(b)
	at, nextAt, proto = packet.IPv6Len, 6, h.Next()
	for proto == packet.ProtoHopByHop || proto == packet.ProtoRouting || proto == packet.ProtoDstOpts || proto == packet.ProtoFragment {
		e := b[at:]
		if len(e) < 8 {
			break
		}
		if proto == packet.ProtoDstOpts && !routed(b, at) {
			break // of the last one only the destination reads them: they are protected
		}
		n := 8
		if proto != packet.ProtoFragment {
			n = 8 + int(e[1])*8
		}
		if len(e) < n {
			break
		}
		proto, nextAt, at = e[0], at, at+n
	}
	return at, nextAt, proto
}

// namedAt is where the octet is that names the header at at, behind the extension headers in front of it.
func namedAt(b []byte, at int) int {
	if b[0]>>4 == 4 {
		return 9
	}
	named, next := 6, b[6]
	for i := packet.IPv6Len; i < at && i+8 <= len(b); {
		n := 8 + int(b[i+1])*8
		if next == packet.ProtoFragment {
			n = 8
		}
		named, next, i = i, b[i], i+n
	}
	return named
}

// routed reports a routing header behind the destination options at at.
func routed(b []byte, at int) bool { return b[at] == packet.ProtoRouting }

// grown says in the IP header that the packet is as long as its window, and what follows the header at nextAt.
func grown(b []byte, nextAt int, proto uint8) {
	b[nextAt] = proto
	if b[0]>>4 == 4 {
		h := packet.IPv4(b)
		h.SetTotalLen(len(b))
		h.SetChecksum()
		return
	}
	packet.IPv6(b).SetPayloadLen(len(b) - packet.IPv6Len)
}

// sealESP is RFC 4303 §3.3.
func (s *SA) sealESP(w *netif.Work, pkt *packet.Buf) (*packet.Buf, error) {
	front := espLen + s.iv
	if s.NATT.Type != 0 {
		front += packet.UDPLen
	}
	head := front + packet.IPv6Len + 40
	tail := s.align + trailerLen + s.icv + s.TFC
	roomy := pkt.WithRoom(head, tail)
	if roomy == nil {
		w.Drop(pkt, s.stats.ip.outNoMem)
		return nil, syscall.ENOBUFS
	}
	pkt = roomy
	n, ok := s.number()
	if !ok {
		w.Drop(pkt, s.stats.proto.wrap)
		return nil, syscall.EOVERFLOW
	}
	b := pkt.Bytes()
	at, nextAt, proto := 0, 0, uint8(packet.ProtoIPv4)
	switch {
	case s.Mode == ModeTunnel && b[0]>>4 == 6:
		proto = packet.ProtoIPv6
	case s.Mode != ModeTunnel:
		at, nextAt, proto = headers(b)
	}
	if s.Mode == ModeBEET && !plainly(b, at) {
		drop(w, pkt, s.stats.ip.outInvalid, s.stats.proto.tunnel)
		return nil, syscall.EINVAL
	}
	s.wentOut(w, len(b)-at)
	fill := 0 // RFC 4303 §2.7: the inner header says how long the packet is, whatever follows
	class, df := uint8(0), false
	if s.Mode == ModeTunnel {
		fill = max(0, s.TFC-len(b))
		class, df = s.outerClass(b), s.outerDF(b)
	}
	pad := -(len(b) - at + fill + trailerLen) & (s.align - 1)
	t := pkt.Append(fill + pad + trailerLen + s.icv)
	clear(t[:fill])
	s.pad(t[fill : fill+pad])
	t[fill+pad], t[fill+pad+1] = byte(pad), proto
	pkt.Prepend(front)
	b = pkt.Bytes()
	copy(b, b[front:front+at])
	esp := b[at:]
	carrier := uint8(packet.ProtoESP)
	if s.NATT.Type != 0 {
		carrier = packet.ProtoUDP
		packet.PutUDP(esp, s.NATT.Sport, s.NATT.Dport, len(esp), 0) // no checksum, RFC 3948 §2.1
		esp = esp[packet.UDPLen:]
	}
	binary.BigEndian.PutUint32(esp, s.SPI)
	binary.BigEndian.PutUint32(esp[4:], uint32(n))
	s.esp.Seal(esp, uint32(n>>32), n)
	if s.Mode == ModeTunnel {
		s.outer(pkt, carrier, class, df)
		return pkt, nil
	}
	if s.Mode == ModeBEET {
		s.replace(pkt, at, carrier)
		return pkt, nil
	}
	grown(b, nextAt, carrier)
	pkt.MarkL3(0)
	pkt.MarkL4(at)
	pkt.Csum = packet.CsumNone
	return pkt, nil
}

// pad fills padding (RFC 4303 §2.4).
func (s *SA) pad(b []byte) {
	switch s.Pad {
	case PadZero:
		clear(b)
	case PadRandom:
		for i := range b {
			b[i] = byte(s.x.env.Rand32())
		}
	default:
		for i := range b {
			b[i] = byte(i + 1)
		}
	}
}

// Ways to pad.
const (
	PadSeq = iota
	PadRandom
	PadZero
)
