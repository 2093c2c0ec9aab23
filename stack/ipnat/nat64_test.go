package ipnat

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"ionet/stack/netif"
	"ionet/stack/packet"
	"ionet/stack/pfil"

	"pgregory.net/rapid"
)

const (
	host6, host4 = "2001:db8:1::5", "198.51.100.1"
	remote6      = "64:ff9b::c633:6401" // host4
	rule64       = "nat64 out0 64:ff9b::/96 -> 192.0.2.1/32"
)

// nets are both versions of IP below a translator. What they are handed is what said asks for.
type nets struct {
	r    *rig
	sent [][]byte
	said []string
	mtu  int
	gso  []packet.GSOType
}

func (n *nets) take(p *packet.Buf, six bool) {
	b := p.Bytes()
	if (b[0]>>4 == 6) != six || &p.L3()[0] != &b[0] {
		n.r.Errorf("the other version of IP gets % x", b)
	}
	n.gso = append(n.gso, p.GSO)
	p.CompleteCsum()
	n.sent = append(n.sent, append([]byte(nil), b...))
	p.Free()
}

func (n *nets) Inject(w *netif.Work, p *packet.Buf, ifp *netif.Interface, _ netip.Addr) {
	i := pfil.Scratch(w)
	i.Parse(p, ifp, true)
	if v := n.r.NAT.Out(w, i); v != pfil.Untouched || ifp != n.r.out0 { // as inet does
		n.r.Errorf("what has crossed is translated again: %d", v)
	}
	n.take(p, false)
}

func (n *nets) Receive(_ *netif.Work, p *packet.Buf, ifp *netif.Interface) {
	if ifp != n.r.out0 {
		n.r.Errorf("comes in by %s", ifp.Name)
	}
	n.take(p, true)
}

func (n *nets) MTUTo(netip.Addr, *netif.Interface) int { return n.mtu }
func (n *nets) Refuse(_ *netif.Work, p *packet.Buf, code uint8, asDest bool) {
	n.said = append(n.said, fmt.Sprintf("unreachable %d %v", code, asDest))
}
func (n *nets) TooBig(_ *netif.Work, p *packet.Buf, mtu int) {
	n.said = append(n.said, fmt.Sprintf("too big %d", mtu))
}
func (n *nets) ParamProblem(_ *netif.Work, p *packet.Buf, at int) {
	n.said = append(n.said, fmt.Sprintf("problem at %d", at))
}

func newRig64(t testing.TB, rules ...string) (*rig, *nets) {
	r := newRig(t)
	n := &nets{r: r, mtu: 1500}
	r.net4, r.net6 = n, n
	r.load(rules...)
	return r, n
}

// wire is a packet in words, with what its headers say besides addresses.
func wire(b []byte) string {
	if b[0]>>4 == 4 {
		h := packet.IPv4(b)
		s := describe(b) + fmt.Sprintf(" class %d ttl %d", h.TOS(), h.TTL())
		if h.DF() {
			s += " df"
		}
		if h.FragField()&^packet.IPv4DF != 0 {
			s += fmt.Sprintf(" id %d off %d more %v", h.ID(), h.FragOff(), h.MF())
		}
		return s
	}
	h := packet.IPv6(b)
	frag := ""
	if h.Next() == packet.ProtoFragment {
		f := packet.Fragment(b[40:])
		frag = fmt.Sprintf(" id %d off %d more %v", f.ID(), f.Off(), f.More())
		c := append([]byte(nil), b[:40]...)
		c[6] = f.Next()
		binary.BigEndian.PutUint16(c[4:], uint16(len(b)-48))
		b = append(c, b[48:]...)
		if f.Off() > 0 {
			b = b[:40]
		}
	}
	return describe(b) + fmt.Sprintf(" class %d ttl %d", h.Class(), h.HopLimit()) + frag
}

// says64 has a packet looked at at out0 and compares what has crossed, or what was said instead.
func (n *nets) says64(out bool, b []byte, want ...string) {
	n.r.Helper()
	n.sent, n.said = nil, nil
	p, v := n.r.hookBuf(out, n.r.buf(b, 20))
	if v != pfil.Taken {
		p.Free()
		n.said = append(n.said, v2s(v))
	}
	got := n.said
	for _, b := range n.sent {
		got = append(got, wire(b))
		whole := b[0]>>4 == 4 && packet.IPv4(b).FragField()&^packet.IPv4DF == 0 || b[0]>>4 == 6 && b[6] != packet.ProtoFragment
		if err := sums(b); whole && err != nil {
			n.r.Errorf("%s: %v", wire(b), err)
		}
	}
	if strings.Join(got, "; ") != strings.Join(want, "; ") {
		n.r.Errorf("%s, out %v:\n got %s\nwant %s", wire(b), out, strings.Join(got, "; "), strings.Join(want, "; "))
	}
}

// with changes bytes of a packet and makes its header's sum again, if it has one.
func with(b []byte, f func(b []byte)) []byte {
	b = append([]byte(nil), b...)
	f(b)
	if b[0]>>4 == 4 {
		packet.IPv4(b).SetChecksum()
	}
	return b
}

// big is a datagram of n octets.
func big(src string, sport uint16, dst string, dport uint16, n int) []byte {
	b := make([]byte, n)
	packet.PutUDP(b, sport, dport, n, 0)
	for k := 8; k < n; k++ {
		b[k] = byte(k * 7)
	}
	return ip(src, dst, packet.ProtoUDP, b, 6)
}

func df(b []byte) []byte {
	return with(b, func(b []byte) { packet.IPv4(b).SetFrag(packet.IPv4DF) })
}

func TestNAT64(t *testing.T) {
	r, n := newRig64(t, rule64)
	ask := with(udp(host6, 5000, remote6, 53), func(b []byte) { packet.IPv6(b).SetClass(0xb8); b[7] = 31 })
	n.says64(out, ask, "udp 192.0.2.1:5000 > 198.51.100.1:53 class 184 ttl 31") // small: without DF
	answer := with(udp(host4, 53, "192.0.2.1", 5000), func(b []byte) { b[1], b[8] = 0x28, 17 })
	n.says64(in, answer, "udp [64:ff9b::c633:6401]:53 > [2001:db8:1::5]:5000 class 40 ttl 17")
	n.says64(in, udp("198.51.100.2", 53, "192.0.2.1", 5000), "untouched")
	n.says64(out, udp(host6, 5000, "2001:db8:9::1", 53), "untouched")
	n.says64(out, udp("2001:db8:1::6", 5000, remote6, 53), "udp 192.0.2.1:37412 > 198.51.100.1:53 class 0 ttl 64") // another port, of its parity
	// A connection begins with a SYN (RFC 6146 §3.5.2.2).
	n.says64(out, tcp(host6, 6000, remote6, 80, packet.TCPAck), "refused")
	n.says64(out, tcp(host6, 6000, remote6, 80, packet.TCPSyn), "tcp 192.0.2.1:6000 > 198.51.100.1:80 class 0 ttl 64")
	n.says64(in, tcp(host4, 80, "192.0.2.1", 6000, packet.TCPSyn|packet.TCPAck), "tcp [64:ff9b::c633:6401]:80 > [2001:db8:1::5]:6000 class 0 ttl 64")
	n.says64(out, tcp(host6, 6000, remote6, 80, packet.TCPAck), "tcp 192.0.2.1:6000 > 198.51.100.1:80 class 0 ttl 64")
	// Echoes: the types, and the pseudo-header that ICMP has not.
	n.says64(out, echo(host6, remote6, packet.ICMP6Echo, 7), "echo 8 192.0.2.1 > 198.51.100.1 id 7 class 0 ttl 64")
	n.says64(in, echo(host4, "192.0.2.1", packet.ICMPEchoReply, 7), "echo 129 64:ff9b::c633:6401 > 2001:db8:1::5 id 7 class 0 ttl 64")
	n.says64(out, echo("2001:db8:1::6", remote6, packet.ICMP6Echo, 7), "echo 8 192.0.2.1 > 198.51.100.1 id 29825 class 0 ttl 64")
	n.says64(in, echo(host4, "192.0.2.1", packet.ICMPEchoReply, 29825), "echo 129 64:ff9b::c633:6401 > 2001:db8:1::6 id 7 class 0 ttl 64")
	// Nothing else crosses.
	n.says64(out, ip(host6, remote6, 47, make([]byte, 20), -1), "refused")
	n.says64(out, ip(host6, remote6, packet.ProtoICMPv6, []byte{150, 0, 0, 0, 0, 0, 0, 0}, 2), "refused")
	n.says64(out, udp("64:ff9b::a00:1", 5000, remote6, 53), "refused") // has crossed
	n.says64(out, udp(host6, 5000, "64:ff9b::a00:1", 53), "refused")   // RFC 6052 §3.1: no private addresses
	n.says64(out, udp(host6, 5000, "64:ff9b::7f00:1", 53), "refused")  // this host
	n.says64(out, udp(host6, 5000, "64:ff9b::e000:1", 53), "refused")  // a group
	n.says64(out, udp(host6, 5000, "64:ff9b::ffff:ffff", 53), "refused")
	if l := r.Sessions(0, 0); len(l) != 5 || l[0].Inside.String() != "[2001:db8:1::5]:5000" || l[0].Outer.String() != "192.0.2.1:5000" || l[0].Remote.String() != "198.51.100.1:53" || l[0].PacketsIn != 1 {
		t.Errorf("%+v", l)
	}
	if h := r.Hosts(0, 0); len(h) != 2 || h[0].Inside.String() != host6 || h[0].Sessions != 3 {
		t.Errorf("%+v", h)
	}
	r.fast(r.in0, r.out0, udp(host6, 5000, remote6, 53), "no")
	r.fast(r.out0, r.in0, udp(host4, 53, "192.0.2.1", 5000), "no")
	b, err := r.Save()
	if err != nil {
		t.Fatal(err)
	}
	q, m := newRig64(t, rule64, "map out0 10.0.0.0/8 -> 0/32")
	if k, err := q.Restore(b); k != 5 || err != nil {
		t.Fatal(k, err)
	}
	m.says64(in, answer, "udp [64:ff9b::c633:6401]:53 > [2001:db8:1::5]:5000 class 40 ttl 17")
	q.AddrRemoved(q.out0, netip.MustParseAddr("192.0.2.1")) // not the interface's own for the rule
	if k := q.Stats().InUse; k != 5 {
		t.Errorf("%d sessions", k)
	}
	none := newRig(t)
	if err := none.Edit([]Op{{Kind: Add, Rule: q.Rules()[0].Rule}}); err == nil {
		t.Error("nat64 without IPv6")
	}
}

// One outer end for an inside one, open to everybody (RFC 6146 §3.5.1).
func TestNAT64EndpointIndependent(t *testing.T) {
	r, n := newRig64(t, "nat64 out0 2001:db8:64::/96 -> 0/32 portmap tcp/udp 40000:40001")
	r.env.MIB.Put(nodeEIM, 1)
	n.says64(out, udp(host6, 40001, "2001:db8:64::a00:1", 53), "udp 192.0.2.1:40001 > 10.0.0.1:53 class 0 ttl 64") // its own prefix: private ones too
	n.says64(out, udp(host6, 40001, "2001:db8:64::a00:2", 53), "udp 192.0.2.1:40001 > 10.0.0.2:53 class 0 ttl 64")
	n.says64(in, udp("203.0.113.9", 7, "192.0.2.1", 40001), "udp [2001:db8:64::cb00:7109]:7 > [2001:db8:1::5]:40001 class 0 ttl 64")
	n.says64(out, udp("2001:db8:1::6", 40001, "2001:db8:64::a00:2", 53), "udp 192.0.2.1:40000 > 10.0.0.2:53 class 0 ttl 64")
	n.says64(out, udp("2001:db8:1::7", 40001, "2001:db8:64::a00:2", 53), "refused")
	r.address("192.0.2.2", 24)
	r.AddrRemoved(r.out0, netip.MustParseAddr("192.0.2.1"))
	n.says64(in, udp("203.0.113.9", 7, "192.0.2.1", 40001), "untouched")
}

// DF, what is cut, and fragments of either side (RFC 7915 §4, §4.1, §5.1).
func TestNAT64Fragments(t *testing.T) {
	_, n := newRig64(t, rule64)
	n.says64(out, big(host6, 5000, remote6, 53, 1240), "udp 192.0.2.1:5000 > 198.51.100.1:53 class 0 ttl 64")
	n.says64(out, big(host6, 5000, remote6, 53, 1241), "udp 192.0.2.1:5000 > 198.51.100.1:53 class 0 ttl 64 df")
	// Larger than what goes on: the sender hears of it, in octets of IPv6.
	n.mtu = 1400
	n.says64(out, big(host6, 5000, remote6, 53, 1380), "udp 192.0.2.1:5000 > 198.51.100.1:53 class 0 ttl 64 df")
	n.says64(out, big(host6, 5000, remote6, 53, 1381), "too big 1420", "refused")
	n.mtu = 1000
	n.says64(out, big(host6, 5000, remote6, 53, 1240), "udp 192.0.2.1:5000 > 198.51.100.1:53 class 0 ttl 64") // is cut there
	// Without DF what is too large for a path of IPv6 is cut; with it it is not, and the next router says so.
	const back = "udp [64:ff9b::c633:6401]:53 > [2001:db8:1::5]:5000 class 0 ttl 64"
	n.says64(in, big(host4, 53, "192.0.2.1", 5000, 1240), back)
	n.says64(in, big(host4, 53, "192.0.2.1", 5000, 1241), back+" id 1 off 0 more true", "17 64:ff9b::c633:6401 > 2001:db8:1::5 class 0 ttl 64 id 1 off 1232 more false")
	var all []byte
	for _, b := range n.sent {
		if len(b) > packet.MinMTU6 {
			t.Errorf("%d octets", len(b))
		}
		all = append(all, b[48:]...)
	}
	h := append([]byte(nil), n.sent[0][:40]...)
	h[6] = packet.ProtoUDP
	packet.IPv6(h).SetPayloadLen(len(all))
	if err := sums(append(h, all...)); err != nil || len(all) != 1241 {
		t.Errorf("together: %d octets, %v", len(all), err)
	}
	n.says64(in, df(big(host4, 53, "192.0.2.1", 5000, 1441)), back)
	// Fragments of IPv4: a Fragment header with the identification in its lower half.
	frag := func(b []byte, field uint16) []byte {
		return with(b, func(b []byte) { packet.IPv4(b).SetFrag(field); packet.IPv4(b).SetID(0xbeef) })
	}
	n.says64(in, frag(big(host4, 53, "192.0.2.1", 5000, 800), packet.IPv4MF), back+" id 48879 off 0 more true")
	n.says64(in, frag(ip(host4, "192.0.2.1", packet.ProtoUDP, make([]byte, 24), -1), 100), "17 64:ff9b::c633:6401 > 2001:db8:1::5 class 0 ttl 64 id 48879 off 800 more false")
	n.says64(in, frag(ip(host4, "192.0.2.1", packet.ProtoUDP, make([]byte, 1240), -1), packet.IPv4MF|100),
		"17 64:ff9b::c633:6401 > 2001:db8:1::5 class 0 ttl 64 id 48879 off 800 more true", "17 64:ff9b::c633:6401 > 2001:db8:1::5 class 0 ttl 64 id 48879 off 2032 more true")
	// Fragments of IPv6: the lower half of the identification, and no DF.
	six := func(next uint8, off int, more bool, body []byte) []byte {
		b := ip(host6, remote6, packet.ProtoFragment, append(make([]byte, packet.FragmentLen), body...), -1)
		packet.PutFragment(b[40:], next, off, more, 0x1234beef)
		return b
	}
	body := big(host6, 5000, remote6, 53, 1440)[40:]
	n.says64(out, six(packet.ProtoUDP, 1432, false, body[:16]), "refused") // before the first
	n.says64(out, six(packet.ProtoUDP, 0, true, body[:1432]), "udp 192.0.2.1:5000 > 198.51.100.1:53 class 0 ttl 64 id 48879 off 0 more true")
	first := n.sent[0]
	n.says64(out, six(packet.ProtoUDP, 1432, false, body[1432:]), "17 192.0.2.1 > 198.51.100.1 class 0 ttl 64 id 48879 off 1432 more false")
	b := append(append([]byte(nil), first...), n.sent[0][20:]...)
	packet.IPv4(b).SetFrag(0)
	packet.IPv4(b).SetTotalLen(len(b))
	packet.IPv4(b).SetChecksum()
	if err := sums(b); err != nil {
		t.Errorf("together: %v", err)
	}
	n.says64(out, six(packet.ProtoUDP, 0, false, udp(host6, 5000, remote6, 53)[40:]), "udp 192.0.2.1:5000 > 198.51.100.1:53 class 0 ttl 64") // atomic
	// Echoes in fragments do not cross (RFC 7915 §1.2).
	n.says64(out, echo(host6, remote6, packet.ICMP6Echo, 7), "echo 8 192.0.2.1 > 198.51.100.1 id 7 class 0 ttl 64")
	n.says64(out, six(packet.ProtoICMPv6, 0, true, echo(host6, remote6, packet.ICMP6Echo, 7)[40:48]), "refused")
	n.says64(in, frag(echo(host4, "192.0.2.1", packet.ICMPEchoReply, 7), packet.IPv4MF), "refused")
}

// Datagrams without a checksum, options and extension headers (RFC 7915 §4.1, §4.5, §5.1, §5.1.1).
func TestNAT64Headers(t *testing.T) {
	_, n := newRig64(t, rule64)
	n.says64(out, udp(host6, 5000, remote6, 53), "udp 192.0.2.1:5000 > 198.51.100.1:53 class 0 ttl 64")
	const back = "udp [64:ff9b::c633:6401]:53 > [2001:db8:1::5]:5000 class 0 ttl 64"
	bare := with(udp(host4, 53, "192.0.2.1", 5000), func(b []byte) { b[26], b[27] = 0, 0 })
	n.says64(in, bare, back)
	if f := n.sent[0][46:48]; f[0] == 0 && f[1] == 0 {
		t.Error("a datagram of IPv6 without a checksum")
	}
	n.says64(in, with(bare, func(b []byte) { packet.IPv4(b).SetFrag(packet.IPv4MF) }), "refused")
	options := func(o ...byte) []byte {
		b := udp(host4, 53, "192.0.2.1", 5000)
		c := append(append(append([]byte(nil), b[:20]...), o...), b[20:]...)
		return with(c, func(b []byte) { b[0] = 0x40 | byte(20+len(o))/4; packet.IPv4(b).SetTotalLen(len(b)) })
	}
	n.says64(in, options(7, 7, 4, 0, 0, 0, 0, 0), back)                                // record route: left behind
	n.says64(in, options(131, 7, 4, 10, 0, 0, 1, 0), "unreachable 5 false", "refused") // a source route that goes on
	n.says64(in, options(131, 7, 8, 10, 0, 0, 1, 0), back)                             // one at its end
	n.says64(in, options(1, 137, 7, 4, 10, 0, 0, 1), "unreachable 5 false", "refused")
	headed := func(next uint8, h ...byte) []byte {
		b := udp(host6, 5000, remote6, 53)
		c := append(append(append([]byte(nil), b[:40]...), h...), b[40:]...)
		c[6] = next
		packet.IPv6(c).SetPayloadLen(len(c) - 40)
		return c
	}
	const there = "udp 192.0.2.1:5000 > 198.51.100.1:53 class 0 ttl 64"
	n.says64(out, headed(packet.ProtoHopByHop, packet.ProtoDstOpts, 0, 1, 4, 0, 0, 0, 0, packet.ProtoUDP, 0, 1, 4, 0, 0, 0, 0), there)
	n.says64(out, headed(packet.ProtoRouting, packet.ProtoUDP, 0, 4, 0, 0, 0, 0, 0), there)
	n.says64(out, headed(packet.ProtoHopByHop, packet.ProtoRouting, 0, 1, 4, 0, 0, 0, 0, packet.ProtoUDP, 0, 4, 1, 0, 0, 0, 0), "problem at 51", "refused")
	n.says64(out, headed(packet.ProtoFragment, packet.ProtoDstOpts, 0, 0, 1, 0, 0, 0, 9, packet.ProtoUDP, 0, 1, 4, 0, 0, 0, 0), "refused")
	n.says64(out, headed(packet.ProtoAH, packet.ProtoUDP, 4, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0), "refused")
}

// Errors in both directions, about what went and what came (RFC 7915 §4.2, §4.3, §5.2, §5.3).
func TestNAT64Errors(t *testing.T) {
	r, n := newRig64(t, rule64)
	n.says64(out, udp(host6, 5000, remote6, 53), "udp 192.0.2.1:5000 > 198.51.100.1:53 class 0 ttl 64")
	sent := n.sent[0]
	n.says64(in, udp(host4, 53, "192.0.2.1", 5000), "udp [64:ff9b::c633:6401]:53 > [2001:db8:1::5]:5000 class 0 ttl 64")
	came := n.sent[0]
	four := func(typ, code uint8, rest uint32, about []byte) []byte {
		b := append([]byte{typ, code, 0, 0, 0, 0, 0, 0}, about...)
		binary.BigEndian.PutUint32(b[4:], rest)
		return ip("203.0.113.1", "192.0.2.1", packet.ProtoICMP, b, 2)
	}
	six := func(src string, typ, code uint8, rest uint32, about []byte) []byte {
		b := append([]byte{typ, code, 0, 0, 0, 0, 0, 0}, about...)
		binary.BigEndian.PutUint32(b[4:], rest)
		return ip(src, remote6, packet.ProtoICMPv6, b, 2)
	}
	const about6 = "error 64:ff9b::cb00:7101 > 2001:db8:1::5 about udp [2001:db8:1::5]:5000 > [64:ff9b::c633:6401]:53 class 0 ttl 64"
	for _, tc := range []struct {
		typ, code, asTyp, asCode uint8
		rest, as                 uint32
	}{
		{3, 0, 1, 0, 0, 0}, {3, 1, 1, 0, 0, 0}, {3, 2, 4, 1, 0, 6}, {3, 3, 1, 4, 0, 0}, {3, 5, 1, 0, 0, 0}, {3, 6, 1, 0, 0, 0}, {3, 7, 1, 0, 0, 0}, {3, 8, 1, 0, 0, 0},
		{3, 9, 1, 1, 0, 0}, {3, 10, 1, 1, 0, 0}, {3, 11, 1, 0, 0, 0}, {3, 12, 1, 0, 0, 0}, {3, 13, 1, 1, 0, 0}, {3, 15, 1, 1, 0, 0},
		{3, 4, 2, 0, 1400, 1420}, {3, 4, 2, 0, 1492, 1512}, {3, 4, 2, 0, 9000, 1520}, {3, 4, 2, 0, 600, 1280}, {3, 4, 2, 0, 0, 1280},
		{11, 0, 3, 0, 0, 0}, {11, 1, 3, 1, 0, 0}, {12, 0, 4, 0, 0, 0}, {12, 0, 4, 0, 1 << 24, 1}, {12, 2, 4, 0, 3 << 24, 4}, {12, 0, 4, 0, 8 << 24, 7},
		{12, 0, 4, 0, 9 << 24, 6}, {12, 0, 4, 0, 12 << 24, 8}, {12, 0, 4, 0, 19 << 24, 24},
	} {
		n.says64(in, four(tc.typ, tc.code, tc.rest, sent), about6)
		if m := packet.ICMP6(n.sent[0][40:]); m.Type() != tc.asTyp || m.Code() != tc.asCode || m.Rest() != tc.as {
			t.Errorf("%d %d %d became %d %d %d, want %d %d %d", tc.typ, tc.code, tc.rest, m.Type(), m.Code(), m.Rest(), tc.asTyp, tc.asCode, tc.as)
		}
		if q := n.sent[0][48:]; sums(q) != nil || packet.IPv6(q).PayloadLen() != len(q)-40 {
			t.Errorf("the quoted packet: %v", sums(q))
		}
	}
	for _, bad := range [][2]uint8{{3, 14}, {3, 16}, {4, 0}, {5, 1}, {12, 1}} {
		n.says64(in, four(bad[0], bad[1], 0, sent), "refused")
	}
	for _, at := range []uint32{4, 7, 10, 20} {
		n.says64(in, four(12, 0, at<<24, sent), "refused")
	}
	const about4 = "error 192.0.2.1 > 198.51.100.1 about udp 198.51.100.1:53 > 192.0.2.1:5000 class 0 ttl 64"
	for _, tc := range []struct {
		typ, code, asTyp, asCode uint8
		rest, as                 uint32
	}{
		{1, 0, 3, 1, 0, 0}, {1, 1, 3, 10, 0, 0}, {1, 2, 3, 1, 0, 0}, {1, 3, 3, 1, 0, 0}, {1, 4, 3, 3, 0, 0}, {2, 0, 3, 4, 1480, 1460}, {2, 0, 3, 4, 9000, 1500}, {2, 0, 3, 4, 0xffffffff, 1500},
		{3, 0, 11, 0, 0, 0}, {3, 1, 11, 1, 0, 0}, {4, 1, 3, 2, 40, 0}, {4, 0, 12, 0, 0, 0}, {4, 0, 12, 0, 1, 1 << 24}, {4, 0, 12, 0, 5, 2 << 24}, {4, 0, 12, 0, 6, 9 << 24},
		{4, 0, 12, 0, 7, 8 << 24}, {4, 0, 12, 0, 23, 12 << 24}, {4, 0, 12, 0, 39, 16 << 24},
	} {
		for _, src := range []string{host6, "2001:db8:7::1"} { // the host itself, and a router before it
			n.says64(out, six(src, tc.typ, tc.code, tc.rest, came), about4)
			if m := packet.ICMP(n.sent[0][20:]); m.Type() != tc.asTyp || m.Code() != tc.asCode || binary.BigEndian.Uint32(m[4:]) != tc.as {
				t.Errorf("%d %d %d became %x, want %d %d %d", tc.typ, tc.code, tc.rest, []byte(m[:8]), tc.asTyp, tc.asCode, tc.as)
			}
		}
	}
	for _, bad := range [][2]uint8{{1, 5}, {4, 2}, {100, 0}} {
		n.says64(out, six(host6, bad[0], bad[1], 0, came), "refused")
	}
	n.says64(out, six(host6, 4, 0, 2, came), "refused")
	n.says64(out, six(host6, 4, 0, 40, came), "refused")
	n.says64(out, six(host6, 1, 4, 0, udp(remote6, 54, host6, 5000)), "refused") // about nothing that is known
	n.says64(in, with(four(3, 1, 0, sent), func(b []byte) { b[len(b)-1]++ }), "refused")
	n.says64(in, ip("203.0.113.1", "192.0.2.2", packet.ProtoICMP, four(3, 1, 0, sent)[20:], -1), "refused")
	// Of a large packet as much as there may be.
	n.says64(out, six(host6, 1, 4, 0, big(remote6, 53, host6, 5000, 1000)), about4)
	if len(n.sent[0]) != 576 {
		t.Errorf("%d octets", len(n.sent[0]))
	}
	n.says64(in, four(3, 1, 0, big("192.0.2.1", 5000, host4, 53, 1400)), about6)
	if len(n.sent[0]) != packet.MinMTU6 {
		t.Errorf("%d octets", len(n.sent[0]))
	}
	// About echoes.
	n.says64(out, echo(host6, remote6, packet.ICMP6Echo, 7), "echo 8 192.0.2.1 > 198.51.100.1 id 7 class 0 ttl 64")
	n.says64(in, four(11, 0, 0, n.sent[0]), "error 64:ff9b::cb00:7101 > 2001:db8:1::5 about echo 128 2001:db8:1::5 > 64:ff9b::c633:6401 id 7 class 0 ttl 64")
	if err := sums(n.sent[0][48:]); err != nil {
		t.Errorf("the quoted echo: %v", err)
	}
	if s := r.Stats(); s.ICMP == 0 || s.BadICMP == 0 {
		t.Errorf("%+v", s)
	}
}

// A super-packet stays one, with segments of the same size.
func TestNAT64Large(t *testing.T) {
	r, n := newRig64(t, rule64+" mssclamp 1220")
	n.says64(out, tcp(host6, 6000, remote6, 80, packet.TCPSyn, 2, 4, 5, 160), "tcp 192.0.2.1:6000 > 198.51.100.1:80 class 0 ttl 64")
	if mss := binary.BigEndian.Uint16(n.sent[0][42:]); mss != 1220 {
		t.Errorf("mss %d", mss)
	}
	n.says64(in, tcp(host4, 80, "192.0.2.1", 6000, packet.TCPSyn|packet.TCPAck), "tcp [64:ff9b::c633:6401]:80 > [2001:db8:1::5]:6000 class 0 ttl 64")
	super := func(out bool, src, dst string, sport, dport uint16, kind, want packet.GSOType) {
		t.Helper()
		b := make([]byte, packet.TCPLen+5000)
		packet.PutTCP(b, sport, dport, 1, 1, packet.TCPLen, packet.TCPAck, 100, 0, 0)
		p := r.buf(ip(src, dst, packet.ProtoTCP, b, -1), 20)
		l4 := p.Len() - len(b)
		p.MarkL4(l4)
		binary.BigEndian.PutUint16(p.L4()[16:], packet.Fold(packet.HeaderPseudoSum(p.Bytes(), packet.ProtoTCP, len(b))))
		p.SetPartial(l4, 16)
		p.GSO, p.GSOSize = kind, 1400
		n.sent, n.gso = nil, nil
		if _, v := r.hookBuf(out, p); v != pfil.Taken || len(n.sent) != 1 || n.gso[0] != want {
			t.Fatalf("%d, %d packets, %v", v, len(n.sent), n.gso)
		}
		if err := sums(n.sent[0]); err != nil {
			t.Error(err)
		}
	}
	super(true, host6, remote6, 6000, 80, packet.GSOTCPv6, packet.GSOTCPv4)
	if !packet.IPv4(n.sent[0]).DF() {
		t.Error("segments of 1440 octets without DF")
	}
	super(false, host4, "192.0.2.1", 80, 6000, packet.GSOTCPv4, packet.GSOTCPv6)
}

// There and back: whoever answers what has crossed reaches who asked, with what was said.
func TestNAT64Model(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		r, n := newRig64(&tb{t, rt}, rule64)
		defer r.Close()
		for range rapid.IntRange(1, 12).Draw(rt, "packets") {
			src := fmt.Sprintf("2001:db8:1::%x", rapid.IntRange(1, 3).Draw(rt, "host"))
			dst := netip.AddrFrom4([4]byte{198, 51, byte(rapid.IntRange(0, 255).Draw(rt, "net")), 7})
			d4 := dst.As4()
			dst6 := netip.AddrFrom16([16]byte{0, 0x64, 0xff, 0x9b, 12: d4[0], d4[1], d4[2], d4[3]}).String()
			sport, dport := uint16(rapid.IntRange(1, 65535).Draw(rt, "port")), uint16(rapid.IntRange(1, 65535).Draw(rt, "to"))
			body := rapid.SliceOfN(rapid.Byte(), 0, 1400).Draw(rt, "data")
			class, ttl := uint8(rapid.IntRange(0, 255).Draw(rt, "class")), uint8(rapid.IntRange(1, 255).Draw(rt, "ttl"))
			var t6 []byte
			proto, at := uint8(packet.ProtoUDP), 6
			switch rapid.IntRange(0, 2).Draw(rt, "kind") {
			case 0:
				t6 = make([]byte, packet.UDPLen)
				packet.PutUDP(t6, sport, dport, packet.UDPLen+len(body), 0)
			case 1:
				proto, at = packet.ProtoTCP, 16
				t6 = make([]byte, packet.TCPLen)
				packet.PutTCP(t6, sport, dport, 9, 9, packet.TCPLen, packet.TCPSyn, 100, 0, 0)
			default:
				proto, at = packet.ProtoICMPv6, 2
				t6 = []byte{packet.ICMP6Echo, 0, 0, 0, byte(sport >> 8), byte(sport), 0, 1}
			}
			ask := ip(src, dst6, proto, append(t6, body...), at)
			packet.IPv6(ask).SetClass(class)
			ask[7] = ttl
			n.sent = nil
			if p, v := r.hookBuf(out, r.buf(ask, 40)); v != pfil.Taken || len(n.sent) != 1 {
				if v != pfil.Taken {
					p.Free()
				}
				rt.Fatalf("%s: %s, %d packets", wire(ask), v2s(v), len(n.sent))
			}
			h := packet.IPv4(n.sent[0])
			if err := sums(h); err != nil || h.TOS() != class || h.TTL() != ttl || h.Dst() != dst || h.DF() != (len(h) > 1260) || h.TotalLen() != len(ask)-20 {
				rt.Fatalf("%s became %s, %d of %d octets, %v", wire(ask), wire(h), len(h), len(ask), err)
			}
			// The answer: ends and ports the other way round.
			x := append([]byte(nil), h[20:]...)
			if proto == packet.ProtoICMPv6 {
				x[0], x[2], x[3] = packet.ICMPEchoReply, 0, 0
			} else {
				x[0], x[1], x[2], x[3] = x[2], x[3], x[0], x[1]
				x[at], x[at+1] = 0, 0
			}
			back := ip(dst.String(), h.Src().String(), h.Proto(), x, at)
			packet.IPv4(back).SetFrag(packet.IPv4DF)
			back[1], back[8] = class, ttl
			packet.IPv4(back).SetChecksum()
			n.sent = nil
			if p, v := r.hookBuf(in, r.buf(back, 20)); v != pfil.Taken || len(n.sent) != 1 {
				if v != pfil.Taken {
					p.Free()
				}
				rt.Fatalf("%s: %s, %d packets", wire(back), v2s(v), len(n.sent))
			}
			got := n.sent[0]
			y := append([]byte(nil), ask[40:]...)
			if proto == packet.ProtoICMPv6 {
				y[0], y[2], y[3] = packet.ICMP6EchoReply, 0, 0
			} else {
				y[0], y[1], y[2], y[3] = y[2], y[3], y[0], y[1]
				y[at], y[at+1] = 0, 0
			}
			want := ip(dst6, src, proto, y, at)
			packet.IPv6(want).SetClass(class)
			want[7] = ttl
			if string(got) != string(want) {
				rt.Fatalf("%s came back as\n%x, want\n%x", wire(ask), got, want)
			}
		}
	})
}

// quiet are nets that keep nothing.
type quiet struct{ nets }

func (*quiet) Inject(*netif.Work, *packet.Buf, *netif.Interface, netip.Addr) {}
func (*quiet) Receive(*netif.Work, *packet.Buf, *netif.Interface)            {}

func TestNAT64NoAllocation(t *testing.T) {
	r, _ := newRig64(t, rule64)
	r.hook(true, udp(host6, 5000, remote6, 53))
	q := new(quiet)
	r.net4, r.net6 = q, q
	r.w.Start(r.now)
	defer r.w.Finish()
	i := pfil.Scratch(r.w)
	for name, tc := range map[string]struct {
		b   []byte
		out bool
	}{"out": {udp(host6, 5000, remote6, 53), true}, "in": {udp(host4, 53, "192.0.2.1", 5000), false}} {
		p := r.env.Pool.Get(len(tc.b))
		once := func() {
			p.Reserve(packet.Headroom)
			copy(p.Append(len(tc.b)), tc.b)
			i.Parse(p, r.out0, tc.out)
			if v := r.translate(r.w, i); v != pfil.Taken {
				t.Fatalf("%s: %s", name, v2s(v))
			}
		}
		once()
		if n := testing.AllocsPerRun(100, once); n != 0 {
			t.Errorf("%s: %v allocations a packet", name, n)
		}
		p.Free()
	}
}
