package stacktest

import (
	"encoding/binary"
	"flag"
	"fmt"
	"net/netip"
	"testing"

	"ionet/stack/netif"
	"ionet/stack/packet"
)

// six has rigs speak IPv6. What a test says stays the same, word for word and
// octet for octet: between the words and the stack stands a translator (RFC
// 7915), 10.0.0.1 is 2001:db8::10.0.0.1, and links carry 20 octets more, so that
// segments have the same size.
var six bool

// Over6 reports that this is the run over IPv6.
func Over6() bool { return six }

// Families runs a package's tests twice, over IPv4 and over IPv6. It is what
// TestMain calls.
func Families(m *testing.M) int {
	code := m.Run()
	for _, name := range []string{"test.fuzz", "test.bench", "test.list"} {
		if f := flag.Lookup(name); f != nil && f.Value.String() != "" {
			return code
		}
	}
	fmt.Println("once more, over IPv6")
	six = true
	return max(code, m.Run())
}

// Wire is a frame of the bench's words as a driver brings it, and where its
// transport header begins.
func Wire(f []byte) (frame []byte, l4 int) {
	if six {
		return to6(f), packet.EtherLen + packet.IPv6Len
	}
	return f, packet.EtherLen + packet.IPv4Len
}

// headerMore is what an IPv6 header is longer than one of IPv4.
const headerMore = packet.IPv6Len - packet.IPv4Len

// PathMTU is the MTU that leaves segments as large as n does over IPv4.
func PathMTU(n int) int {
	if six {
		return n + headerMore
	}
	return n
}

var prefix6 = netip.MustParseAddr("2001:db8::")

// Real is the address that a test means by a.
func Real(a netip.Addr) netip.Addr {
	if !six || !a.Is4() {
		return a
	}
	switch a {
	case netip.IPv4Unspecified():
		return netip.IPv6Unspecified()
	case netip.AddrFrom4([4]byte{127, 0, 0, 1}):
		return netip.IPv6Loopback()
	case netip.AddrFrom4([4]byte{10, 0, 0, 255}), netip.AddrFrom4([4]byte{255, 255, 255, 255}): // everybody
		return netip.MustParseAddr("ff02::1")
	}
	b, x := prefix6.As16(), a.As4()
	if a.IsMulticast() {
		b[0], b[1] = 0xff, 0x0e
	}
	copy(b[12:], x[:])
	return netip.AddrFrom16(b)
}

// Said is what a test calls a.
func Said(a netip.Addr) netip.Addr {
	if !six || !a.Is6() {
		return a
	}
	switch a {
	case netip.IPv6Unspecified():
		return netip.IPv4Unspecified()
	case netip.IPv6Loopback():
		return netip.AddrFrom4([4]byte{127, 0, 0, 1})
	}
	b := a.As16()
	return netip.AddrFrom4([4]byte(b[12:]))
}

// OnBench resolves every neighbour to the one that there is.
type OnBench struct{}

// Resolve is ether.Resolver.
func (OnBench) Resolve(*netif.Work, *netif.Interface, netip.Addr, *packet.Buf) (netif.MAC, bool, error) {
	return Peer, true, nil
}

// Neighbour is ether.Resolver.
func (OnBench) Neighbour(*netif.Interface, netip.Addr) *netif.Neighbour { return nil }

// sumAt is where a protocol's checksum stands, which covers the addresses; -1: it
// has none.
func sumAt(proto uint8, p []byte) int {
	switch at := -1; proto {
	case packet.ProtoTCP:
		at = packet.TCPCsumOffset
		fallthrough
	case packet.ProtoUDP:
		if proto == packet.ProtoUDP {
			at = packet.UDPCsumOffset
		}
		if at+2 <= len(p) {
			return at
		}
	}
	return -1
}

// resum has a checksum that was right, or wrong, for one pair of addresses be so
// for another.
func resum(p []byte, proto uint8, was, now [2]netip.Addr) {
	if at := sumAt(proto, p); at >= 0 {
		old := packet.Fold(packet.PseudoSum(was[0], was[1], proto, len(p)))
		new := packet.Fold(packet.PseudoSum(now[0], now[1], proto, len(p)))
		binary.BigEndian.PutUint16(p[at:], packet.UpdateChecksum(binary.BigEndian.Uint16(p[at:]), old, new))
	}
}

// to6 is a frame of IPv4 as one of IPv6; nil: it has no such. A packet that lies
// about its length, or is cut off, does so afterwards.
func to6(f []byte) []byte {
	e, ok := packet.CheckEther(f)
	if !ok || e.Type() != packet.EtherIPv4 {
		return nil
	}
	p := packet6(e.Payload())
	if p == nil {
		return nil
	}
	out := make([]byte, packet.EtherLen, packet.EtherLen+len(p))
	dst := netif.MAC(e.Dst())
	if dst == netif.BroadcastMAC {
		dst = netif.MAC{0x33, 0x33, 0, 0, 0, 1}
	}
	packet.PutEther(out, dst, e.Src(), packet.EtherIPv6)
	return append(out, p...)
}

func packet6(b []byte) []byte {
	h, ok := packet.CheckIPv4(b)
	if !ok {
		return nil
	}
	was := [2]netip.Addr{h.Src(), h.Dst()}
	now := [2]netip.Addr{Real(h.Src()), Real(h.Dst())}
	proto, p := h.Proto(), append([]byte(nil), b[h.HeaderLen():]...)
	switch proto {
	case packet.ProtoICMP:
		if p = icmp6(p, now); p == nil {
			return nil
		}
		proto = packet.ProtoICMPv6
	default:
		if whole := h.TotalLen() - h.HeaderLen(); whole >= 0 && whole <= len(p) { // padding does not count
			resum(p[:whole], proto, was, now)
		}
	}
	out := make([]byte, packet.IPv6Len, packet.IPv6Len+len(p))
	size := h.TotalLen() - h.HeaderLen()
	if h.Proto() == packet.ProtoICMP {
		size = len(p)
	}
	packet.PutIPv6(out, h.TOS(), 0, size, proto, h.TTL(), now[0], now[1])
	return append(out, p...)
}

// kinds6 are the types and codes of ICMPv6 that stand for ICMP's.
var kinds6 = map[[2]uint8][2]uint8{
	{packet.ICMPEcho, 0}:                                  {packet.ICMP6Echo, 0},
	{packet.ICMPEchoReply, 0}:                             {packet.ICMP6EchoReply, 0},
	{packet.ICMPUnreach, 0}:                               {packet.ICMP6Unreach, packet.ICMP6UnreachNoRoute},
	{packet.ICMPUnreach, 1}:                               {packet.ICMP6Unreach, packet.ICMP6UnreachAddr},
	{packet.ICMPUnreach, 2}:                               {packet.ICMP6ParamProblem, packet.ICMP6ParamNext},
	{packet.ICMPUnreach, packet.ICMPUnreachPort}:          {packet.ICMP6Unreach, packet.ICMP6UnreachPort},
	{packet.ICMPUnreach, packet.ICMPUnreachNeedFrag}:      {packet.ICMP6TooBig, 0},
	{packet.ICMPTimeExceeded, packet.ICMP6TimeTransit}:    {packet.ICMP6TimeExceeded, packet.ICMP6TimeTransit},
	{packet.ICMPUnreach, packet.ICMPUnreachNeedFrag + 1}:  {packet.ICMP6Unreach, packet.ICMP6UnreachAdmin},
	{packet.ICMPTimeExceeded, packet.ICMP6TimeReassembly}: {packet.ICMP6TimeExceeded, packet.ICMP6TimeReassembly},
}

// icmp6 is a message in ICMPv6; nil: it has no such.
func icmp6(b []byte, ends [2]netip.Addr) []byte {
	m, ok := packet.CheckICMP(b)
	if !ok {
		return nil
	}
	to, ok := kinds6[[2]uint8{m.Type(), m.Code()}]
	switch {
	case ok:
	case m.Type() == packet.ICMPUnreach:
		to = [2]uint8{packet.ICMP6Unreach, packet.ICMP6UnreachAdmin}
	default:
		return nil
	}
	body := m.Payload()
	if packet.ICMP6IsError(to[0]) {
		if body = packet6(body); body == nil {
			return nil
		}
	}
	out := packet.ICMP6(append(make([]byte, packet.ICMP6Len), body...))
	copy(out[4:], m[4:8])
	out.SetType(to[0], to[1])
	if to[0] == packet.ICMP6TooBig {
		out.SetRest(uint32(m.MTU()) + headerMore)
	}
	out.SetChecksum(ends[0], ends[1])
	if !m.ChecksumOK() {
		out[2] ^= 1
	}
	return out
}

// icmp4 is a message of ICMPv6 in ICMP; nil: it has no such.
func icmp4(b []byte, ends [2]netip.Addr) []byte {
	m, ok := packet.CheckICMP6(b)
	if !ok || len(m) < packet.ICMP6Len {
		return nil
	}
	var to *[2]uint8
	for k, v := range kinds6 { // map order: no two have the same value
		if v == [2]uint8{m.Type(), m.Code()} {
			to = &k
		}
	}
	if to == nil {
		return nil
	}
	body := m.Payload()
	if packet.ICMP6IsError(m.Type()) {
		if body = packet4(body); body == nil {
			return nil
		}
	}
	out := packet.ICMP(append(make([]byte, packet.ICMPLen), body...))
	copy(out[4:], m[4:8])
	out.SetType(to[0], to[1])
	if m.Type() == packet.ICMP6TooBig {
		out.SetRest(m.Rest() - headerMore)
	}
	out.SetChecksum()
	if !m.ChecksumOK(ends[0], ends[1]) {
		out[2] ^= 1
	}
	return out
}

// to4 is a frame of IPv6 as one of IPv4; nil: it has no such, as neighbour
// discovery has not.
func to4(f []byte) []byte {
	e, ok := packet.CheckEther(f)
	if !ok || e.Type() != packet.EtherIPv6 {
		return f
	}
	p := packet4(e.Payload())
	if p == nil {
		return nil
	}
	out := make([]byte, packet.EtherLen, packet.EtherLen+len(p))
	packet.PutEther(out, e.Dst(), e.Src(), packet.EtherIPv4)
	return append(out, p...)
}

func packet4(b []byte) []byte {
	h, ok := packet.CheckIPv6(b)
	if !ok || h.Next() == packet.ProtoHopByHop {
		return nil
	}
	was := [2]netip.Addr{h.Src(), h.Dst()}
	now := [2]netip.Addr{Said(h.Src()), Said(h.Dst())}
	proto, p := h.Next(), append([]byte(nil), h.Payload()...)
	size := h.PayloadLen()
	switch {
	case proto == packet.ProtoICMPv6:
		if p = icmp4(p, was); p == nil {
			return nil
		}
		proto, size = packet.ProtoICMP, len(p)
	case size <= len(p):
		p = p[:size]
		resum(p, proto, was, now)
	}
	out := make([]byte, packet.IPv4Len, packet.IPv4Len+len(p))
	packet.PutIPv4(out, h.Class(), packet.IPv4Len+size, 0, packet.IPv4DF, h.HopLimit(), proto, now[0], now[1], nil).SetChecksum()
	return append(out, p...)
}
