package gif_test

import (
	"encoding/binary"
	"testing"

	"ionet/stack/packet"
)

// limited is a packet that is in a tunnel already, with these Destination Options in
// front of what it holds.
func limited(opts ...byte) []byte {
	body := append([]byte{packet.ProtoIPv6, byte((len(opts)+2)/8 - 1)}, opts...)
	return ip6(0, "2001:db8::2", "2001:db8:9::2", packet.ProtoDstOpts,
		append(body, ip6(0, "2001:db8:a::1", "2001:db8:a::2", packet.ProtoNone, nil)...))
}

// TestEncapsulationLimit: a packet says in how many more tunnels it may be put, which
// a tunnel over IPv6 takes one from, or has its own configured (RFC 2473 §4.1.1).
func TestEncapsulationLimit(t *testing.T) {
	for _, c := range []struct {
		name  string
		limit string
		inner []byte
		want  int // what the outer header says; -1: nothing; -2: the packet is refused
		at    uint32
	}{
		{"none said, none configured", "-1", limited(packet.OptPadN, 4, 0, 0, 0, 0), -1, 0},
		{"none said", "4", limited(packet.OptPadN, 4, 0, 0, 0, 0), 4, 0},
		{"said", "-1", limited(4, 1, 2, packet.OptPadN, 1, 0), 1, 0},
		{"said, and another configured", "9", limited(packet.OptPadN, 1, 0, 4, 1, 1), 0, 0},
		{"nothing left", "9", limited(4, 1, 0, packet.OptPadN, 1, 0), -2, 44},
		{"nothing left, behind a pad", "-1", limited(0, packet.OptPadN, 0, 4, 1, 0), -2, 47},
		{"nothing left, behind hop-by-hop options", "-1", ip6(0, "2001:db8::2", "2001:db8:9::2", packet.ProtoHopByHop,
			[]byte{packet.ProtoDstOpts, 0, 1, 4, 0, 0, 0, 0, packet.ProtoNone, 0, 4, 1, 0, 1, 1, 0}), -2, 52},
		{"an option that does not fit", "-1", limited(4, 9, 0, 1, 1, 0), -1, 0},
		{"a header that does not fit", "-1", ip6(0, "2001:db8::2", "2001:db8:9::2", packet.ProtoDstOpts, []byte{59, 9, 4, 1, 0, 1, 1, 0}), -1, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := newPair(t)
			p.joined("2001:db8::")
			p.a.Sysctl("net.inet6.ip6.forwarding", "1")
			p.a.Sysctl("net.inet6.ip6.gifencaplimit", c.limit)
			p.a.Sent()
			refused := count(p.a, "encapsulation limit")
			p.a.Send(frame(1, 2, c.inner))
			out := p.a.Sent()
			if len(out) != 1 {
				t.Fatalf("%d packets leave", len(out))
			}
			h := packet.IPv6(out[0][packet.EtherLen:])
			switch {
			case c.want == -2:
				m := packet.ICMP6(h.Payload())
				if h.Next() != packet.ProtoICMPv6 || m.Type() != packet.ICMP6ParamProblem || m.Code() != 0 || m.Rest() != c.at || count(p.a, "encapsulation limit") != refused+1 {
					t.Errorf("%x, want a parameter problem at %d", []byte(h), c.at)
				}
			case c.want == -1:
				if h.Next() != packet.ProtoIPv6 {
					t.Errorf("%x, want it without a limit", []byte(h))
				}
			default:
				want := [8]byte{packet.ProtoIPv6, 0, 4, 1, byte(c.want), packet.OptPadN, 1, 0}
				if h.Next() != packet.ProtoDstOpts || [8]byte(h.Payload()[:8]) != want {
					t.Errorf("%x, want the limit %d", []byte(h), c.want)
				}
			}
		})
	}
}

// TestLimitArrives: the far end takes a packet with a limit as any other; what the
// limit costs is missing from what a packet may hold; and an error about the outer
// packet reaches the sender of the inner one.
func TestLimitArrives(t *testing.T) {
	p := newPair(t)
	ga, _ := p.joined("2001:db8::")
	p.a.Sysctl("net.inet6.ip6.gifencaplimit", "4")
	from, to := udp(p.a, 5), udp(p.b, 9)
	if err := send(p.a, from, "2001:db8:9::2", 9, 5); err != nil {
		t.Fatal(err)
	}
	p.carry()
	if g := got(p.b, to); g != "2001:db8:9::1 len 5" {
		t.Errorf("arrived: %q", g)
	}
	ga.SetMTU(1500)
	p.a.Inet6.Invalidate()
	if err := send(p.a, from, "2001:db8:9::2", 9, 1500-2*packet.IPv6Len-packet.UDPLen-8); err != nil {
		t.Fatal(err)
	}
	if out := p.a.Sent(); len(out) != 1 || len(out[0]) != packet.EtherLen+1500 {
		t.Fatalf("%d packets leave, want one as large as the link takes", len(out))
	} else {
		about := out[0][packet.EtherLen:][:1200]
		m := binary.BigEndian.AppendUint32([]byte{packet.ICMP6Unreach, packet.ICMP6UnreachAddr, 0, 0}, 0)
		e := ip6(0, "2001:db8::7", "2001:db8::1", packet.ProtoICMPv6, append(m, about...))
		h := packet.IPv6(e)
		packet.ICMP6(h.Payload()).SetChecksum(h.Src(), h.Dst())
		told := count(p.a, "errors passed on")
		p.a.Send(frame(1, 2, e))
		if n := count(p.a, "errors passed on"); n != told+1 {
			t.Errorf("%d errors are passed on, want one", n-told)
		}
	}
}
