package stack_test

import (
	"bytes"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"ionet/stack/packet"
	rig "ionet/stack/stacktest"
)

// ext is an extension header of one or more eights, padded with Pad1.
func ext(next uint8, body ...byte) []byte {
	b := append([]byte{next, 0}, body...)
	for len(b)%8 != 0 {
		b = append(b, packet.OptPad1)
	}
	b[1] = byte(len(b)/8 - 1)
	return b
}

// piece is a fragment of a packet to us whose header chain in front of it is pre.
func piece(pre []byte, first, next uint8, off int, more bool, id uint32, part []byte) []byte {
	f := make([]byte, packet.FragmentLen)
	packet.PutFragment(f, next, off, more, id)
	return ip6("2001:db8::1", first, slices.Concat(pre, f, part))
}

// respell is a frame with octets of it changed.
func respell(f []byte, change func(h packet.IPv6)) []byte {
	f = slices.Clone(f)
	change(packet.IPv6(f[packet.EtherLen:]))
	return f
}

// from is a packet with another source.
func from(src string, f []byte) []byte {
	return respell(f, func(h packet.IPv6) { h.SetSrc(netip.MustParseAddr(src)) })
}

// echo6 is an echo request to dst, behind a header if there is one.
func echo6(dst string, first uint8, pre []byte) []byte {
	m := packet.ICMP6(make([]byte, packet.ICMP6Len))
	m.SetType(packet.ICMP6Echo, 0)
	m.SetChecksum(netip.MustParseAddr("2001:db8::2"), netip.MustParseAddr(dst))
	f := ip6(dst, first, slices.Concat(pre, m))
	if netip.MustParseAddr(dst).IsMulticast() {
		copy(f, []byte{0x33, 0x33, 0, 0, 0, 1})
	}
	return f
}

// attack is one that a few frames make. The answer is what comes back; "":
// nothing does.
type attack struct {
	attack, rfc string
	frames      [][]byte
	answer      string
	proto, name string // the counter
}

// attacks are those on a host; docs/ipv6-attacks.md lists them.
func attacks() []attack {
	const (
		dst  = packet.ProtoDstOpts
		hbh  = packet.ProtoHopByHop
		frag = packet.ProtoFragment
		icmp = packet.ProtoICMPv6
		us   = "2001:db8::1"
		pong = "echo-reply id 0 seq 0 len 0"
	)
	echo := func(first uint8, pre ...[]byte) [][]byte { return [][]byte{echo6(us, first, slices.Concat(pre...))} }
	group := func(option byte) [][]byte { return [][]byte{echo6("ff02::1", dst, ext(icmp, option, 0))} }
	u := udp6(us)
	nest := func(n int) (b []byte) {
		for i := range n {
			next := uint8(dst)
			if i == n-1 {
				next = icmp
			}
			b = append(b, ext(next, packet.OptPadN, 4, 0, 0, 0, 0)...)
		}
		return b
	}
	ndFrag := func(off int, more bool) [][]byte {
		f := neighbour(packet.ICMP6NeighborSol, 0, 3)
		g := piece(nil, frag, icmp, off, more, 1, f[packet.EtherLen+packet.IPv6Len:])
		return [][]byte{respell(from("2001:db8::3", g), func(h packet.IPv6) { h.SetHopLimit(255) })}
	}
	return []attack{
		{"unknown option 00: skipped", "8200 §4.2", echo(dst, ext(icmp, 0x1e, 0)), pong, "icmp6", "echo received"},
		{"unknown option 01: dropped", "8200 §4.2", echo(dst, ext(icmp, 0x5e, 0)), "", "ip6", "bad options"},
		{"unknown option 10: told", "8200 §4.2", echo(dst, ext(icmp, 0x9e, 0)), "param-problem 2 at 42", "ip6", "bad options"},
		{"unknown option 11: told", "8200 §4.2", echo(dst, ext(icmp, 0xde, 0)), "param-problem 2 at 42", "ip6", "bad options"},
		{"to a group, 00", "8200 §4.2", group(0x1e), pong, "icmp6", "echo received"},
		{"to a group, 01", "8200 §4.2", group(0x5e), "", "ip6", "bad options"},
		{"to a group, 10: told all the same", "8200 §4.2", group(0x9e), "param-problem 2 at 42", "ip6", "bad options"},
		{"to a group, 11: not told", "8200 §4.2", group(0xde), "", "ip6", "bad options"},
		{"an option beyond its header", "8200 §4.2", echo(dst, ext(icmp, 0x1e, 9)), "param-problem 0 at 42", "ip6", "bad options"},
		{"seventeen options", "8504 §5.3", echo(dst, ext(icmp, bytes.Repeat([]byte{0x1e, 0}, 17)...)), "", "ip6", "bad options"},
		{"more than seven octets of padding", "8504 §5.3", echo(dst, ext(icmp, packet.OptPadN, 6, 0, 0, 0, 0, 0, 0)), "", "ip6", "bad options"},
		{"a jumbogram", "2675 §3", echo(hbh, ext(icmp, packet.OptJumbo, 4, 0, 1, 0, 0)), "param-problem 0 at 42", "ip6", "bad options"},
		{"hop-by-hop options behind others", "8200 §4.1", echo(dst, ext(hbh), ext(icmp)), "param-problem 1 at 40", "ip6", "bad options"},
		{"a header longer than the packet", "8200 §4", [][]byte{ip6(us, dst, []byte{icmp, 9, 0, 0, 0, 0, 0, 0})}, "", "ip6", "data length"},
		{"fifty headers", "8504 §5.3", echo(dst, nest(50)), pong, "icmp6", "echo received"},
		{"fifty-one headers", "8504 §5.3", echo(dst, nest(51)), "", "ip6", "too many headers"},
		{"routing header of type 0", "5095", echo(packet.ProtoRouting, ext(icmp, 0, 1, 0, 0, 0, 0)), "param-problem 0 at 42", "ip6", "bad options"},
		{"routing header with nothing left", "8200 §4.4", echo(packet.ProtoRouting, ext(icmp, 0, 0, 0, 0, 0, 0)), pong, "icmp6", "echo received"},
		{"unknown protocol", "4443 §3.4", [][]byte{ip6(us, 253, make([]byte, 8))}, "param-problem 1 at 6", "ip6", "unknown protocol"},

		{"overlapping fragments", "5722", [][]byte{piece(nil, frag, 17, 0, true, 1, u), piece(nil, frag, 17, 8, false, 1, u[8:])}, "", "ip6", "malformed fragment"},
		{"an atomic fragment", "6946", [][]byte{piece(nil, frag, 17, 0, false, 1, u)}, "unreach 4", "ip6", "fragment"},
		{"an atomic fragment beside others", "6946", [][]byte{piece(nil, frag, 17, 0, true, 1, u[:8]), piece(nil, frag, 17, 0, false, 2, u), piece(nil, frag, 17, 8, false, 1, u[8:])}, "unreach 4, unreach 4", "ip6", "reassembled"},
		{"a first fragment that ends in the headers", "7112 §5", [][]byte{piece(nil, frag, dst, 0, true, 1, append(ext(dst), ext(17)[:0]...))}, "param-problem 3 at 0", "ip6", "malformed fragment"},
		{"a first fragment without its transport", "7112 §5", [][]byte{piece(nil, frag, dst, 0, true, 1, ext(17))}, "param-problem 3 at 0", "ip6", "malformed fragment"},
		{"a first fragment with part of its transport", "7112 §5", [][]byte{piece(nil, frag, packet.ProtoTCP, 0, true, 1, make([]byte, 16))}, "param-problem 3 at 0", "ip6", "malformed fragment"},
		{"a fragment not of eights", "8200 §4.5", [][]byte{piece(nil, frag, 17, 0, true, 1, u[:15])}, "param-problem 0 at 4", "ip6", "malformed fragment"},
		{"a fragment beyond 65,535", "8200 §4.5", [][]byte{piece(nil, frag, 17, 65528, false, 1, u)}, "param-problem 0 at 42", "ip6", "malformed fragment"},
		{"longer headers before the last piece", "8200 §4.5", [][]byte{piece(nil, frag, 17, 0, true, 1, u[:8]), piece(ext(frag, bytes.Repeat([]byte{0x1e, 4, 0, 0, 0, 0}, 15)...), dst, 17, 8, false, 1, u[8:])}, "unreach 4", "ip6", "reassembled"},
		{"longer headers before the first piece", "8200 §4.5", [][]byte{piece(nil, frag, 17, 8, false, 1, u[8:]), piece(ext(frag, 0x1e, 4, 0, 0, 0, 0), dst, 17, 0, true, 1, u[:8])}, "unreach 4", "ip6", "reassembled"},

		{"neighbour discovery in a fragment", "6980", ndFrag(0, false), "", "icmp6", "fragmented nd"},
		{"solicitation from beyond a router", "4861 §7.1", [][]byte{respell(neighbour(packet.ICMP6NeighborSol, 0, 2), func(h packet.IPv6) { h.SetHopLimit(254) })}, "", "icmp6", "not answered"},

		{"from a group", "4291 §2.7", [][]byte{from("ff02::1", ip6(us, 17, u))}, "", "ip6", "bad scope"},
		{"from nobody", "4443 §2.4", [][]byte{from("::", ip6(us, 253, u))}, "", "icmp6", "cannot answer"},
		{"from the loop-back address", "4291 §2.5.3", [][]byte{from("::1", ip6(us, 17, u))}, "", "ip6", "bad scope"},
		{"from a mapped address", "4942 §2.2", [][]byte{from("::ffff:10.0.0.2", ip6(us, 17, u))}, "", "ip6", "bad scope"},
		{"from ourselves", "land", [][]byte{from(us, ip6(us, 17, u))}, "", "ip6", "bad scope"},
		{"to the loop-back address", "4291 §2.5.3", [][]byte{ip6("::1", 17, u)}, "", "ip6", "bad scope"},
		{"to nobody", "4291 §2.5.2", [][]byte{ip6("::", 17, u)}, "", "ip6", "bad scope"},
		{"node information of another", "4620 §4", [][]byte{nd("2001:db8::2", us, append([]byte{packet.ICMP6NIQuery, 0, 0, 0, 0, 2, 0, 0}, make([]byte, 24)...))}, "", "icmp6", "not answered"},
		{"the name, asked about no subject", "4620 §4", [][]byte{nd("2001:db8::2", us, append([]byte{packet.ICMP6NIQuery, 1, 0, 0, 0, 2, 0, 0}, make([]byte, 8)...))}, "", "icmp6", "not answered"},
		{"addresses, asked about no subject", "4620 §4", [][]byte{nd("2001:db8::2", us, append([]byte{packet.ICMP6NIQuery, 1, 0, 0, 0, 3, 0, 0x2a}, make([]byte, 8)...))}, "", "icmp6", "not answered"},
	}
}

// Every attack is met as its RFC says, and counted.
func TestHostileIPv6(t *testing.T) {
	for _, c := range attacks() {
		t.Run(c.attack, func(t *testing.T) {
			r := rig.New(t, rig.Dual)
			met(r)
			before := rig.Counter(r.Stack, c.proto, c.name)
			r.Send(c.frames...)
			var got []string
			for _, f := range r.Sent() {
				s, _, _ := strings.Cut(rig.Describe(f), " quotes ")
				_, s, _ = strings.Cut(s, " > 2001:db8::2 ")
				got = append(got, s)
			}
			if s := strings.Join(got, ", "); s != c.answer {
				t.Errorf("RFC %s: the answer is %q, want %q", c.rfc, s, c.answer)
			}
			if rig.Counter(r.Stack, c.proto, c.name) == before {
				t.Errorf("RFC %s: %s %q has not moved", c.rfc, c.proto, c.name)
			}
		})
	}
}

// A flood of fragments that never end takes no more than the limit has, and whom
// it displaces is counted; the errors about them have a rate.
func TestFloodOfFragments(t *testing.T) {
	r := rig.New(t, rig.Dual)
	met(r)
	for i := range 5000 {
		r.Send(piece(nil, packet.ProtoFragment, packet.ProtoUDP, 0, true, uint32(i), make([]byte, 1024)))
	}
	if n, m := r.Env.Pool.Bufs(), r.Env.Pool.InUse(); n > 200 || m > 5<<20 {
		t.Errorf("%d buffers of %d octets wait", n, m)
	}
	if n := rig.Counter(r.Stack, "ip6", "fragment dropped"); n != 4800 {
		t.Errorf("%d were displaced, want 4800", n)
	}
	r.Pass(time.Minute + time.Second)
	if n := len(r.Sent()); n > 101 { // and a solicitation of the neighbour
		t.Errorf("%d errors in a second", n)
	}
}

// Who waits in vain for the rest of a datagram tells its sender, with what came
// (RFC 8200 §4.5).
func TestUnfinishedEcho(t *testing.T) {
	r := rig.New(t, rig.Dual)
	met(r)
	m := make([]byte, 16)
	m[0] = packet.ICMP6Echo
	r.Send(piece(nil, packet.ProtoFragment, packet.ProtoICMPv6, 0, true, 1, m))
	r.Pass(time.Minute + time.Second)
	var got []string
	for _, f := range r.Sent() {
		if s := rig.Describe(f); strings.Contains(s, "time-exceeded") {
			got = append(got, s)
		}
	}
	want := "2001:db8::1 > 2001:db8::2 time-exceeded 1 quotes 2001:db8::2 > 2001:db8::1 proto 44 len 24"
	if !slices.Equal(got, []string{want}) {
		t.Errorf("sent %q, want %q", got, want)
	}
}
