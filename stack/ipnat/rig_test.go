package ipnat

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"ionet/ipl"
	"ionet/stack/mib"
	"ionet/stack/netif"
	"ionet/stack/packet"
	"ionet/stack/pfil"
)

// rig is a translator between two interfaces, without a stack: in0 is inside, out0,
// 192.0.2.1 and 2001:db8::1, outside.
type rig struct {
	testing.TB
	*NAT
	env       *netif.Env
	w         *netif.Work
	now       int64
	in0, out0 *netif.Interface
	inner     bool // hooks are those of in0
}

func newRig(t testing.TB, rules ...string) *rig {
	r := &rig{TB: t, now: second}
	seed := uint32(1)
	r.env = &netif.Env{Pool: packet.NewPool(64 << 20), MIB: mib.NewValues(), Now: func() int64 { return r.now },
		Rand32: func() uint32 { seed = seed*1664525 + 1013904223; return seed ^ seed>>15 }}
	r.env.Wheel.Init(r.now, nil)
	r.in0 = netif.New(netif.Config{Name: "in0", MTU: 1500, HdrLen: 14})
	r.out0 = netif.New(netif.Config{Name: "out0", MTU: 1500, HdrLen: 14})
	for _, p := range []*netif.Interface{r.in0, r.out0} {
		if err := r.env.Ifs.Add(p); err != nil {
			t.Fatal(err)
		}
	}
	r.address("192.0.2.1", 24)
	r.NAT = New(r.env, Config{})
	r.w = r.env.NewWork()
	r.load(rules...)
	t.Cleanup(func() {
		r.Close()
		if n := r.env.Pool.Bufs(); n != 0 {
			t.Errorf("%d buffers were not given back", n)
		}
		if n := r.env.Wheel.Armed(); n != 0 {
			t.Errorf("%d timers are still armed", n)
		}
	})
	return r
}

func (r *rig) address(a string, bits int) {
	r.out0.EditAddrs(func([]*netif.Addr) []*netif.Addr {
		return []*netif.Addr{{Addr: netip.MustParseAddr(a), Bits: bits}, {Addr: netip.MustParseAddr("2001:db8::1"), Bits: 64}}
	})
}

// load puts rules behind those that are there.
func (r *rig) load(rules ...string) {
	r.Helper()
	all, err := ipl.ParseNAT("test", []byte(strings.Join(rules, "\n")), ipl.Options{})
	if err != nil {
		r.Fatal(err)
	}
	var ops []Op
	for _, x := range all {
		ops = append(ops, Op{Kind: Add, Rule: x})
	}
	if err := r.Edit(ops); err != nil {
		r.Fatal(err)
	}
}

// buf is a packet in a buffer, as hooks get it.
func (r *rig) buf(b []byte, l4 int) *packet.Buf {
	p := r.env.Pool.Get(len(b))
	copy(p.Append(len(b)), b)
	p.MarkL3(0)
	p.MarkL4(l4)
	return p
}

// hook asks the translator about a packet and answers what became of it.
func (r *rig) hook(out bool, b []byte) ([]byte, pfil.Verdict) {
	p, v := r.hookBuf(out, r.buf(b, 20))
	if v == pfil.Taken {
		return nil, v
	}
	defer p.Free()
	return append([]byte(nil), p.Bytes()...), v
}

// hookBuf answers the packet that goes on, which is another one if the translator says so.
func (r *rig) hookBuf(out bool, p *packet.Buf) (*packet.Buf, pfil.Verdict) {
	r.w.Start(r.now)
	defer r.w.Finish()
	i := pfil.Scratch(r.w)
	ifp := r.out0
	if r.inner {
		ifp = r.in0
	}
	i.Parse(p, ifp, out)
	f := r.NAT.In
	if out {
		f = r.NAT.Out
	}
	v := f(r.w, i)
	return i.Pkt, v
}

// says has a packet looked at and compares what it is afterwards.
func (r *rig) says(out bool, b []byte, want string) []byte {
	r.Helper()
	got, v := r.hook(out, b)
	s := describe(got)
	switch v {
	case pfil.Untouched:
		s = "untouched"
	case pfil.Refused:
		s = "refused"
	}
	if s != want {
		r.Errorf("%s, out %v: %s, want %s", describe(b), out, s, want)
	}
	if v == pfil.Translated {
		if err := sums(got); err != nil {
			r.Errorf("%s: %v", describe(got), err)
		}
	}
	return got
}

// pass lets time go by.
func (r *rig) pass(seconds int) {
	end := r.now + int64(seconds)*second
	for at, ok := r.env.Wheel.Next(); ok && at <= end; at, ok = r.env.Wheel.Next() {
		r.now = max(r.now, at)
		r.w.Start(r.now)
		r.env.Wheel.Advance(r.now, r.w)
		r.w.Finish()
	}
	r.now = end
}

// describe is a packet in words: "udp 10.0.0.1:5 > 192.0.2.9:53".
func describe(b []byte) string {
	var src, dst netip.Addr
	proto, l4, body := uint8(0), 20, false
	if b[0]>>4 == 6 {
		h := packet.IPv6(b)
		src, dst, proto, l4 = h.Src(), h.Dst(), h.Next(), 40
	} else {
		h := packet.IPv4(b)
		src, dst, proto, body = h.Src(), h.Dst(), h.Proto(), h.FragOff() > 0
	}
	t := b[l4:]
	switch {
	case body || len(t) < 8:
		return fmt.Sprintf("%d %s > %s", proto, src, dst)
	case proto == packet.ProtoTCP, proto == packet.ProtoUDP:
		name := map[uint8]string{6: "tcp", 17: "udp"}[proto]
		return fmt.Sprintf("%s %s > %s", name, netip.AddrPortFrom(src, binary.BigEndian.Uint16(t)), netip.AddrPortFrom(dst, binary.BigEndian.Uint16(t[2:])))
	case proto == packet.ProtoICMP && packet.ICMPIsError(t[0]), proto == packet.ProtoICMPv6 && t[0] < 128:
		return fmt.Sprintf("error %s > %s about %s", src, dst, describe(t[8:]))
	case proto == packet.ProtoICMP, proto == packet.ProtoICMPv6:
		return fmt.Sprintf("echo %d %s > %s id %d", t[0], src, dst, binary.BigEndian.Uint16(t[4:]))
	}
	return fmt.Sprintf("%d %s > %s", proto, src, dst)
}

// sums verifies the checksums of a packet from scratch.
func sums(b []byte) error {
	l4, proto := 40, uint8(0)
	if b[0]>>4 == 4 {
		h := packet.IPv4(b)
		if !h.ChecksumOK() {
			return fmt.Errorf("the header's checksum is wrong")
		}
		if l4, proto = h.HeaderLen(), h.Proto(); h.FragField()&^packet.IPv4DF != 0 {
			return nil
		}
	} else {
		proto = packet.IPv6(b).Next()
	}
	t := b[l4:]
	sum := packet.HeaderPseudoSum(b, proto, len(t))
	switch proto {
	case packet.ProtoUDP:
		if t[6] == 0 && t[7] == 0 {
			return nil
		}
	case packet.ProtoICMP:
		sum = 0
		if packet.ICMPIsError(t[0]) {
			q := t[8:]
			if !packet.IPv4(q).ChecksumOK() {
				return fmt.Errorf("the quoted header's checksum is wrong")
			}
			if int(packet.IPv4(q).TotalLen()) == len(q) {
				if err := sums(q); err != nil {
					return fmt.Errorf("quoted: %w", err)
				}
			}
		}
	case packet.ProtoTCP, packet.ProtoICMPv6:
	default:
		return nil
	}
	if packet.Fold(packet.Sum(sum, t)) != 0xffff {
		return fmt.Errorf("the checksum of protocol %d is wrong", proto)
	}
	return nil
}

// ip wraps a transport body whose checksum, at of it, is to be made; -1: none.
func ip(src, dst string, proto uint8, body []byte, at int) []byte {
	s, d := netip.MustParseAddr(src), netip.MustParseAddr(dst)
	var b []byte
	if s.Is4() {
		b = make([]byte, packet.IPv4Len+len(body))
		packet.PutIPv4(b, 0, len(b), 1, 0, 64, proto, s, d, nil).SetChecksum()
		copy(b[packet.IPv4Len:], body)
	} else {
		b = make([]byte, packet.IPv6Len+len(body))
		packet.PutIPv6(b, 0, 0, len(body), proto, 64, s, d)
		copy(b[packet.IPv6Len:], body)
	}
	if at >= 0 {
		t := b[len(b)-len(body):]
		sum := uint64(0)
		if proto != packet.ProtoICMP {
			sum = packet.HeaderPseudoSum(b, proto, len(t))
		}
		c := ^packet.Fold(packet.Sum(sum, t))
		if c == 0 && proto == packet.ProtoUDP {
			c = 0xffff
		}
		binary.BigEndian.PutUint16(t[at:], c)
	}
	return b
}

func udp(src string, sport uint16, dst string, dport uint16) []byte {
	b := make([]byte, packet.UDPLen+5)
	packet.PutUDP(b, sport, dport, len(b), 0)
	copy(b[8:], "hello")
	return ip(src, dst, packet.ProtoUDP, b, 6)
}

func tcp(src string, sport uint16, dst string, dport uint16, flags uint8, options ...byte) []byte {
	b := make([]byte, packet.TCPLen+len(options)+3)
	packet.PutTCP(b, sport, dport, 1, 1, packet.TCPLen+len(options), flags, 100, 0, 0)
	copy(b[packet.TCPLen:], options)
	return ip(src, dst, packet.ProtoTCP, b, 16)
}

func echo(src, dst string, typ uint8, id uint16) []byte {
	b := []byte{typ, 0, 0, 0, byte(id >> 8), byte(id), 0, 1, 'x'}
	proto := uint8(packet.ProtoICMP)
	if strings.Contains(src, ":") {
		proto = packet.ProtoICMPv6
	}
	return ip(src, dst, proto, b, 2)
}

// unreachable is an error about a packet.
func unreachable(src, dst string, about []byte) []byte {
	b := append([]byte{3, 3, 0, 0, 0, 0, 0, 0}, about...)
	proto := uint8(packet.ProtoICMP)
	if about[0]>>4 == 6 {
		proto, b[0], b[1] = packet.ProtoICMPv6, 1, 4
	}
	return ip(src, dst, proto, b, 2)
}

// fast has a packet that came in by in and is to leave by out changed by the fast path; "no":
// that does not take it.
func (r *rig) fast(in, out *netif.Interface, b []byte, want string) {
	r.Helper()
	r.w.Start(r.now)
	defer r.w.Finish()
	p := r.buf(b, 20)
	defer p.Free()
	var f packet.Flow
	if f.Flow4(b, in.Index); b[0]>>4 == 6 {
		f.Flow6(b, in.Index)
	}
	k, ok := r.Track(r.w, in, out, &f, nil)
	got := "no"
	if ok && k == nil {
		got = "untouched"
	} else if ok && k.Track(r.w, p) {
		got = describe(p.Bytes())
		if err := sums(p.Bytes()); err != nil {
			r.Errorf("%s: %v", got, err)
		}
		if i := k.(*tracker).Inner(); i == f {
			r.Error("the flow between the hooks is that from the wire")
		}
	}
	if got != want {
		r.Errorf("%s takes the fast path as %s, want %s", describe(b), got, want)
	}
}
