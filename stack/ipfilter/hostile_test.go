package ipfilter

import (
	"net/netip"
	"testing"

	"ionet/ipl"
	"ionet/stack/packet"
)

// scaled is a segment that offers a window scale.
func scaled(b []byte, shift uint8) []byte {
	b = append(b[:40:40], append([]byte{packet.TCPOptNop, packet.TCPOptWScale, 3, shift}, b[40:]...)...)
	b[32] = 24 << 2
	packet.IPv4(b).SetTotalLen(len(b))
	packet.IPv4(b).SetChecksum()
	return b
}

// wide is a segment of another window.
func wide(b []byte, window uint16) []byte {
	b[34], b[35] = byte(window>>8), byte(window)
	return b
}

// Both sides send a SYN, and both an answer, which pass two hooks each (RFC 9293 §3.5, figure 8).
func TestSimultaneousOpen(t *testing.T) {
	r := newRig(t)
	stateful(r)
	r.want("SYN", r.forth(c2s(syn, 100, 0, 0)), true)
	r.want("the other SYN", r.back(s2c(syn, 200, 0, 0)), true)
	r.want("SYN|ACK", r.forth(c2s(syn|ack, 100, 201, 0)), true)
	r.want("the other SYN|ACK", r.back(s2c(syn|ack, 200, 101, 0)), true)
	r.wantPhase("4/4")
	r.want("data", r.forth(c2s(ack, 101, 201, 10)), true)
	r.want("data back", r.back(s2c(ack, 201, 111, 10)), true)
}

// The last acknowledgement of the opening is lost behind the filter: the SYN|ACK comes again.
func TestSYNACKAgain(t *testing.T) {
	r := newRig(t)
	stateful(r)
	r.connect()
	r.want("SYN|ACK again", r.back(s2c(syn|ack, 200, 101, 0)), true)
	r.want("ACK again", r.forth(c2s(ack, 101, 201, 0)), true)
	r.want("data back", r.back(s2c(ack, 201, 101, 10)), true)
	r.want("SYN|ACK after data", r.back(s2c(syn|ack, 200, 101, 0)), false)
	r.wantPhase("4/4")
}

// A server of cookies answers the SYN that was said again with another number.
func TestAnotherCookie(t *testing.T) {
	r := newRig(t)
	stateful(r)
	r.want("SYN", r.forth(c2s(syn, 100, 0, 0)), true)
	r.want("a cookie that is lost", r.back(s2c(syn|ack, 200, 101, 0)), true)
	r.want("SYN again", r.forth(c2s(syn, 100, 0, 0)), true)
	r.want("another cookie, of a stranger", r.back(s2c(syn|ack, 50_000_000, 99, 0)), false)
	r.want("another cookie", r.back(s2c(syn|ack, 900_000_000, 101, 0)), true)
	r.want("ACK", r.forth(c2s(ack, 101, 900_000_001, 0)), true)
	r.wantPhase("4/4")
	r.want("a third one", r.back(s2c(syn|ack, 200, 101, 0)), false)
}

// Fast Open: a SYN has data, which the other side takes, or in part, or not (RFC 7413).
func TestDataOnSYN(t *testing.T) {
	for _, acked := range []uint32{101, 301, 601} {
		r := newRig(t)
		stateful(r)
		r.want("SYN with data", r.forth(c2s(syn, 100, 0, 500)), true)
		r.want("an answer to less than the SYN", r.back(s2c(syn|ack, 200, 100, 0)), false)
		r.want("an answer to more", r.back(s2c(syn|ack, 200, 602, 0)), false)
		r.want("SYN|ACK with data", r.back(s2c(syn|ack, 200, acked, 300)), true)
		r.want("more data before the ACK", r.back(s2c(ack, 501, acked, 300)), true)
		r.want("data from where it is taken on", r.forth(c2s(ack, acked, 801, 500)), true)
		r.wantPhase("4/4")
	}
	r := newRig(t)
	stateful(r)
	r.want("SYN with data", r.forth(c2s(syn, 100, 0, 500)), true)
	r.want("SYN without", r.forth(c2s(syn, 100, 0, 0)), true)
	r.want("SYN|ACK", r.back(s2c(syn|ack, 200, 101, 0)), true)
	r.want("ACK", r.forth(c2s(ack, 101, 201, 500)), true)
	r.want("a reset that acknowledges the data", r.back(s2c(rst, 201, 0, 0)), true)
	r.wantPhase("0/0")
}

// Who has lost the connection asks anew; the other side says that it still has it, and a
// reset ends it (RFC 9293 §3.5.1).
func TestHalfOpen(t *testing.T) {
	r := newRig(t)
	stateful(r)
	r.connect()
	ttl := r.States(0, 0)[0].TTL
	r.pass(10)
	r.want("a SYN after a crash", r.forth(c2s(syn, 70_000_000, 0, 0)), true)
	r.wantPhase("4/4")
	if got := r.States(0, 0)[0].TTL; got != ttl-10*second {
		t.Errorf("a SYN keeps a state: %d s, it had %d", got/second, ttl/second)
	}
	r.want("the other side's acknowledgement", r.back(s2c(ack, 201, 101, 0)), true)
	r.want("the reset", r.forth(c2s(rst, 101, 0, 0)), true)
	r.wantPhase("0/0")
	r.want("SYN", r.forth(c2s(syn, 70_000_000, 0, 0)), true)
	r.wantPhase("2/0")
	r.want("SYN|ACK", r.back(s2c(syn|ack, 900, 70_000_001, 0)), true)
}

// A port is used again in TIME_WAIT, with a higher number, or from the other side.
func TestTimeWait(t *testing.T) {
	for _, swap := range []bool{false, true} {
		r := newRig(t)
		loose(r)
		r.connect()
		r.want("FIN", r.forth(c2s(fin|ack, 101, 201, 0)), true)
		r.want("FIN back", r.back(s2c(fin|ack, 201, 102, 0)), true)
		r.want("ACK", r.forth(c2s(ack, 102, 202, 0)), true)
		r.wantPhase("10/10")
		r.want("FIN back again", r.back(s2c(fin|ack, 201, 102, 0)), true)
		r.want("ACK again", r.forth(c2s(ack, 102, 202, 0)), true)
		if swap {
			r.want("SYN of the other side", r.back(s2c(syn, 300, 0, 0)), true)
		} else {
			r.want("SYN", r.forth(c2s(syn, 103, 0, 0)), true)
		}
		r.wantPhase("2/0")
		if n := r.Stats().States; n.Active != 1 || n.Removed != 1 {
			t.Errorf("%+v", n)
		}
	}
}

func TestSimultaneousClose(t *testing.T) {
	r := newRig(t)
	stateful(r)
	r.connect()
	r.want("FIN", r.forth(c2s(fin|ack, 101, 201, 0)), true)
	r.want("FIN that crosses it", r.back(s2c(fin|ack, 201, 101, 0)), true)
	r.want("ACK", r.forth(c2s(ack, 102, 202, 0)), true)
	r.want("ACK back", r.back(s2c(ack, 202, 102, 0)), true)
	r.wantPhase("10/10")
}

// A window is scaled if both sides have offered it, and never that of a SYN.
func TestScales(t *testing.T) {
	open := func(mine, yours uint8) *rig {
		r := newRig(t)
		stateful(r)
		a, b := c2s(syn, 100, 0, 0), s2c(syn|ack, 200, 101, 0)
		if mine != 99 {
			a = scaled(a, mine)
		}
		if yours != 99 {
			b = scaled(b, yours)
		}
		r.want("SYN", r.forth(a), true)
		r.want("SYN|ACK", r.back(b), true)
		r.want("ACK", r.forth(c2s(ack, 101, 201, 0)), true)
		return r
	}
	r := open(7, 99)
	r.want("within a window that is not scaled", r.back(s2c(ack, 201, 101, 1000)), true)
	r.want("beyond it", r.back(s2c(ack, 1201, 101, 1000)), false)
	r = open(99, 7)
	r.want("within the other one", r.forth(c2s(ack, 101, 201, 1000)), true)
	r.want("beyond it", r.forth(c2s(ack, 1101, 201, 1000)), false)
	// One side scales, the other says that it could: many octets are on their way.
	r = open(7, 0)
	for n := range uint32(128) {
		r.want("within a scaled window", r.back(s2c(ack, 201+1000*n, 101, 1000)), true)
	}
	r.want("beyond it", r.back(s2c(ack, 128_201, 101, 1)), false)
	r.want("an acknowledgement of the first", r.forth(c2s(ack, 101, 1201, 0)), true)
	r.want("an acknowledgement of long ago", r.forth(c2s(ack, 101, 1<<32+201-90_000, 0)), false)
	r = open(14, 14)
	r.want("the widest window", r.back(s2c(ack, 201+1000<<14-1, 101, 1)), true)
}

// A window is shut: what asks whether it is open passes, and no more (RFC 9293 §3.8.6.1, RFC 1122 §4.2.3.6).
func TestZeroWindow(t *testing.T) {
	r := newRig(t)
	stateful(r)
	r.connect()
	r.want("data as far as the window", r.forth(c2s(ack, 101, 201, 1000)), true)
	r.want("the window is shut", r.back(wide(s2c(ack, 201, 1101, 0), 0)), true)
	r.want("a probe", r.forth(c2s(ack, 1101, 201, 1)), true)
	r.want("the probe again", r.forth(c2s(ack, 1101, 201, 1)), true)
	r.want("more than a probe", r.forth(c2s(ack, 1101, 201, 2)), false)
	r.want("a probe of what is known", r.forth(c2s(ack, 1100, 201, 1)), true)
	r.want("still shut", r.back(wide(s2c(ack, 201, 1101, 0), 0)), true)
	r.want("the window opens", r.back(s2c(ack, 201, 1101, 0)), true)
	r.want("data", r.forth(c2s(ack, 1101, 201, 1000)), true)
	for _, n := range []int{0, 1} {
		r.want("a keepalive", r.back(s2c(ack, 200, 2101, n)), true)
		r.want("its answer", r.forth(c2s(ack, 2101, 201, 0)), true)
	}
}

// Resets and data that a stranger can only guess.
func TestBlindAttacks(t *testing.T) {
	r := newRig(t)
	stateful(r)
	r.connect()
	for _, at := range []uint32{201 + 2000, 1<<32 + 201 - 2000, 201 + 1<<31, 0xffff_0000} {
		r.want("a reset", r.back(s2c(rst, at, 0, 0)), false)
		r.want("a SYN", r.back(s2c(syn, at, 0, 0)), false)
		r.want("data", r.back(s2c(ack, at, 101, 10)), false)
		r.want("FIN", r.back(s2c(fin|ack, at, 101, 0)), false)
	}
	r.want("data that acknowledges what is to come", r.back(s2c(ack, 201, 101+70_000, 10)), false)
	r.want("a reset within the window", r.back(s2c(rst, 300, 0, 0)), true)
	r.want("a SYN within the window", r.back(s2c(syn, 300, 0, 0)), false)
	r.wantPhase("4/4")
	// The window of a shut one's forger does not open it.
	r.want("a window from long ago", r.back(wide(s2c(ack, 1<<32+201-5000, 101, 0), 65535)), false)
	r.want("data beyond the window", r.forth(c2s(ack, 101+1000, 201, 10)), false)
}

// The answer to a connection that came by a rule without a state begins one.
func TestStateOfAnAnswer(t *testing.T) {
	for _, shift := range []uint8{99, 7} {
		r := newRig(t)
		loadText(t, r, "block in all\nblock out all\npass in quick on en0 proto tcp all\npass out quick on en0 proto tcp all keep state")
		in := func(b []byte) bool { return r.send(r.en0, false, b) }
		out := func(b []byte) bool { return r.send(r.en0, true, b) }
		a, b := c2s(syn, 100, 0, 0), s2c(syn|ack, 200, 101, 0)
		if shift != 99 {
			a, b = scaled(a, shift), scaled(b, shift)
		}
		r.want("SYN", in(a), true)
		r.want("SYN|ACK", out(b), true)
		r.want("ACK", in(c2s(ack, 101, 201, 0)), true)
		r.wantPhase("4/4")
		r.want("data", in(c2s(ack, 101, 201, 500)), true)
		r.want("data back", out(s2c(ack, 201, 601, 1000)), true)
		if n := r.Stats().States.OutOfWindow; n != 0 {
			t.Errorf("%d segments out of the window", n)
		}
	}
}

// A connection that nobody saw begin goes on for more octets than the widest window has.
func TestMiddleOfALongConnection(t *testing.T) {
	r := newRig(t)
	loose(r)
	seq := uint32(101)
	r.want("data", r.forth(c2s(ack, seq, 201, 1000)), true)
	for n := range 3000 {
		r.want("an acknowledgement", r.back(s2c(ack, 201, seq+1000, 0)), true)
		seq += 1_000_000 // of which the filter has seen the last
		if !r.forth(c2s(ack, seq, 201, 1000)) {
			t.Fatalf("step %d did not come through", n)
		}
	}
	r.want("a SYN where nobody has answered", r.forth(seg(inner, outer, 10, 80, ack, 5, 5, 1000, 0)), true)
	r.want("the connection begins", r.forth(seg(inner, outer, 10, 80, syn, 9_000_000, 0, 1000, 0)), true)
	r.want("its answer", r.back(seg(outer, inner, 80, 10, syn|ack, 77, 9_000_001, 1000, 0)), true)
}

// Nobody has sent what these quote; and redirects are for neighbours.
func TestForgedErrors(t *testing.T) {
	r := newRig(t)
	stateful(r)
	about := func(to string, typ byte, q []byte) []byte {
		return ip4("192.0.2.9", to, packet.ProtoICMP, append([]byte{typ, 1, 0, 0, 0, 0, 0, 0}, q[:28]...))
	}
	r.want("SYN", r.forth(c2s(syn, 100, 0, 0)), true)
	r.want("about an answer that has not come", r.forth(about(outer, 3, s2c(syn|ack, 200, 101, 0))), false)
	r.want("a question", r.forth(datagram(inner, outer, 1025, 53)), true)
	r.want("about its answer", r.forth(about(outer, 3, datagram(outer, inner, 53, 1025))), false)
	r.want("its answer", r.back(datagram(outer, inner, 53, 1025)), true)
	r.want("about the answer", r.forth(about(outer, 3, datagram(outer, inner, 53, 1025))), true)
	for typ, want := range map[byte]bool{3: true, 4: false, 5: false, 11: true, 12: true} {
		r.want("about the question", r.back(about(inner, typ, datagram(inner, outer, 1025, 53))), want)
	}
}

// fragment6 is a fragment of IPv6, of what begins with a header.
func fragment6(next uint8, id byte, off int, more bool, body []byte) []byte {
	b := make([]byte, packet.IPv6Len+packet.FragmentLen+len(body))
	packet.PutIPv6(b, 0, 0, len(b)-packet.IPv6Len, packet.ProtoFragment, 64, netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("2001:db8::2"))
	packet.PutFragment(b[packet.IPv6Len:], next, off, more, uint32(id))
	copy(b[packet.IPv6Len+packet.FragmentLen:], body)
	return b
}

// Fragments of IPv6 with options inside follow their first one, and do not write over its headers;
// one that is alone lets no others in (RFC 6946).
func TestFragments6(t *testing.T) {
	r := newRig(t)
	six := func(x *ipl.Rule) { x.Family = ipl.Inet6 }
	r.load(aRule(ipl.Block, false, six), aRule(ipl.Pass, false, quick, udp, keepState, six, func(x *ipl.Rule) { x.KeepFrags = true }))
	in := func(b []byte) bool { return r.send(r.en0, false, b) }
	body := make([]byte, 32)
	packet.PutUDP(body, 1025, 53, 64, 0)
	r.want("a datagram in one fragment", in(fragment6(packet.ProtoUDP, 1, 0, false, body)), true)
	r.want("what would follow it", in(fragment6(packet.ProtoUDP, 1, 32, false, body)), false)
	if n := r.Stats().Frags.Added; n != 0 {
		t.Errorf("%d datagrams are remembered for one that is alone", n)
	}
	opts := append([]byte{packet.ProtoUDP, 0, packet.OptPadN, 4, 0, 0, 0, 0}, body...)
	r.want("a first one with options", in(fragment6(packet.ProtoDstOpts, 2, 0, true, opts)), true)
	r.want("one over the ports", in(fragment6(packet.ProtoDstOpts, 2, 8, true, body)), false)
	r.want("the second", in(fragment6(packet.ProtoDstOpts, 2, 40, false, body)), true)
	r.want("a first one without its transport header", in(fragment6(packet.ProtoDstOpts, 3, 0, true, opts[:8])), false)
}

// What looks like TCP and is not: nothing begins, and nothing falls over.
func TestOddSegments(t *testing.T) {
	r := newRig(t)
	loose(r)
	for name, f := range map[string]func(b []byte){
		"a header of 4 octets":     func(b []byte) { b[32] = 1 << 4 },
		"a header beyond the end":  func(b []byte) { b[32] = 15 << 4 },
		"options that do not end":  func(b []byte) { b[32] = 6 << 4; b[40], b[41] = 3, 0 },
		"a scale of 255":           func(b []byte) { b[32] = 6 << 4; copy(b[40:], []byte{3, 3, 255, 0}) },
		"every flag":               func(b []byte) { b[33] = 255 },
		"no flag":                  func(b []byte) { b[33] = 0 },
		"SYN and FIN":              func(b []byte) { b[33] = syn | fin },
		"SYN and RST":              func(b []byte) { b[33] = syn | rst },
		"an urgent pointer of all": func(b []byte) { b[33] |= packet.TCPUrg; b[38], b[39] = 255, 255 },
	} {
		b := seg(inner, outer, 9, 80, syn, 0xffff_fff0, 0, 1000, 4)
		f(b)
		r.FlushStates(true)
		r.forth(b)
		r.back(seg(outer, inner, 80, 9, syn|ack, 0xffff_fff0, 0xffff_fff5, 1000, 0))
		r.forth(seg(inner, outer, 9, 80, ack, 0xffff_fff5, 0xffff_fff1, 1000, 20))
		for _, s := range r.States(0, 0) {
			if s.TTL < 0 {
				t.Errorf("%s: a state that has ended: %+v", name, s)
			}
		}
	}
}
