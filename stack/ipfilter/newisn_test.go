package ipfilter

import (
	"encoding/binary"
	"testing"

	"ionet/stack/netif"
	"ionet/stack/packet"
)

// summed has a segment's or an ICMP error's checksum right.
func summed(b []byte) []byte {
	l4, proto := packet.IPv4Len, b[9]
	if b[0]>>4 == 6 {
		l4, proto = packet.IPv6Len, b[6]
	}
	at, sum := 16, packet.HeaderPseudoSum(b, proto, len(b)-l4)
	if proto != packet.ProtoTCP {
		if at = 2; proto == packet.ProtoICMP {
			sum = 0
		}
	}
	binary.BigEndian.PutUint16(b[l4+at:], 0)
	binary.BigEndian.PutUint16(b[l4+at:], ^packet.Fold(packet.Sum(sum, b[l4:])))
	return b
}

// over has a packet with a right checksum pass hooks, and answers what has come out; nil: nothing.
func (r *rig) over(b []byte, hooks ...func(*netif.Work, *packet.Buf) *packet.Buf) []byte {
	r.Helper()
	p := r.env.Pool.Get(len(b))
	copy(p.Append(len(b)), summed(b))
	p.MarkL3(0)
	r.w.Start(r.now)
	defer r.w.Finish()
	for _, h := range hooks {
		if p = h(r.w, p); p == nil {
			return nil
		}
	}
	out := append([]byte(nil), p.Bytes()...)
	p.Free()
	was := append([]byte(nil), out...)
	if string(summed(out)) != string(was) {
		r.Errorf("the checksum of % x is wrong", was)
	}
	return was
}

func (r *rig) at(ifp *netif.Interface, out bool) func(*netif.Work, *packet.Buf) *packet.Buf {
	return func(w *netif.Work, p *packet.Buf) *packet.Buf {
		if out {
			return r.Out(w, ifp, p)
		}
		return r.In(w, ifp, p)
	}
}

func (r *rig) goes(b []byte) []byte {
	r.Helper()
	return r.over(b, r.at(r.en0, false), r.at(r.en1, true))
}
func (r *rig) comes(b []byte) []byte {
	r.Helper()
	return r.over(b, r.at(r.en1, false), r.at(r.en0, true))
}

// numbers are those of the segment at an offset of b.
func numbers(b []byte, at int) (seq, ack uint32) {
	if len(b) < at+12 {
		return 0, 0
	}
	return binary.BigEndian.Uint32(b[at+4:]), binary.BigEndian.Uint32(b[at+8:])
}

func (r *rig) wantNumbers(what string, b []byte, seq, ack uint32) {
	r.Helper()
	if b == nil {
		r.Fatalf("%s did not come through", what)
	}
	if s, a := numbers(b, packet.IPv4Len); s != seq || a != ack {
		r.Fatalf("%s: %d, %d; want %d, %d", what, s, a, seq, ack)
	}
}

// withSACK is s with a block of SACK, which begins after n octets of padding.
func withSACK(b []byte, n int, from, to uint32) []byte {
	opts := make([]byte, 16)
	for i := range opts {
		opts[i] = packet.TCPOptNop
	}
	opts[n], opts[n+1] = packet.TCPOptSACK, 10
	binary.BigEndian.PutUint32(opts[n+2:], from)
	binary.BigEndian.PutUint32(opts[n+6:], to)
	b = append(b[:40:40], append(opts, b[40:]...)...)
	b[32] = 36 << 2
	packet.IPv4(b).SetTotalLen(len(b))
	packet.IPv4(b).SetChecksum()
	return b
}

// Both sides of a connection see each other number from elsewhere, and understand it.
func TestNewISN(t *testing.T) {
	r := newRig(t)
	r.now = 1000 * second
	loadText(t, r, "block in all\nblock out all\npass in quick on en0 proto tcp from any to any flags S/SA keep state (newisn)")
	syn1 := r.goes(c2s(syn, 100, 0, 0))
	seq, _ := numbers(syn1, packet.IPv4Len)
	d0 := seq - 100
	if d0 == 0 {
		t.Fatal("a SYN goes as it came")
	}
	r.now += second
	r.wantNumbers("the SYN again", r.goes(c2s(syn, 100, 0, 0)), seq, 0)
	if r.comes(s2c(syn|ack, 200, 101, 0)) != nil {
		t.Error("an answer in the numbers that nobody outside knows came in")
	}
	b := r.comes(s2c(syn|ack, 200, 101+d0, 0))
	seq, acked := numbers(b, packet.IPv4Len)
	d1 := seq - 200
	if acked != 101 || d1 == 0 || d1 == d0 {
		t.Fatalf("SYN|ACK: %d, %d", seq, acked)
	}
	r.wantNumbers("ACK", r.goes(c2s(ack, 101, 201+d1, 0)), 101+d0, 201)
	r.wantNumbers("data", r.goes(c2s(ack, 101, 201+d1, 101)), 101+d0, 201)
	r.wantNumbers("data back", r.comes(s2c(ack, 201, 202+d0, 7)), 201+d1, 202)
	r.wantPhase("4/4")
	if b := r.goes(c2s(ack, 202, 201, 10)); b != nil {
		t.Error("an acknowledgement in the other side's own numbers was taken")
	}
	for n := range 5 {
		b := r.comes(withSACK(s2c(ack, 208, 102+d0, 0), n, 152+d0, 202+d0))
		r.wantNumbers("an acknowledgement with SACK", b, 208+d1, 102)
		if from, to := binary.BigEndian.Uint32(b[40+n+2:]), binary.BigEndian.Uint32(b[40+n+6:]); from != 152 || to != 202 {
			t.Errorf("block at %d is %d-%d, want 152-202", n, from, to)
		}
		b = r.goes(withSACK(c2s(ack, 202, 201+d1, 0), n, 203+d1, 208+d1))
		if from, to := binary.BigEndian.Uint32(b[40+n+2:]), binary.BigEndian.Uint32(b[40+n+6:]); from != 203 || to != 208 {
			t.Errorf("block at %d is %d-%d, want 203-208", n, from, to)
		}
	}
	// An error quotes what has gone out; its receiver reads what it had said.
	sent := r.goes(c2s(ack, 202, 201+d1, 50))
	about := func(n int) []byte {
		return ip4("192.0.2.9", inner, packet.ProtoICMP, append([]byte{3, 4, 0, 0, 0, 0, 4, 0}, sent[:n]...))
	}
	for _, n := range []int{28, 40, 60} {
		b = r.comes(about(n))
		if b == nil {
			t.Fatalf("an error with %d octets did not come in", n)
		}
		q := packet.IPv4Len + packet.ICMPLen + packet.IPv4Len
		seq, acked := binary.BigEndian.Uint32(b[q+4:]), uint32(0)
		if n > 28 {
			_, acked = numbers(b, q)
		}
		if seq != 202 || n > 28 && acked != 201+d1 {
			t.Errorf("an error with %d octets quotes %d, %d; want 202, %d", n, seq, acked, 201+d1)
		}
	}
	binary.BigEndian.PutUint32(sent[packet.IPv4Len+4:], 202+100_000_000)
	if r.comes(about(40)) != nil {
		t.Error("an error about what was not sent came in")
	}
	// States that are saved have it with them.
	o := newRig(t)
	o.now = r.now
	if n, err := o.Restore(r.Save()); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	o.wantNumbers("data after a restart", o.goes(c2s(ack, 252, 208+d1, 1)), 252+d0, 208)
	// Resets, of either side.
	r.wantNumbers("RST|ACK of 0", r.comes(s2c(rst|ack, 208+1, 0, 0)), 209+d1, 0)
	r.wantNumbers("RST", r.comes(s2c(rst, 208, 0, 0)), 208+d1, 0)
	r.wantPhase("0/0")
	r.now += 10 * second
	b = r.goes(c2s(syn, 77, 0, 0))
	if seq, _ := numbers(b, packet.IPv4Len); int32(seq-(100+d0)) < 2_000_000 {
		t.Errorf("the next connection begins at %d, the one before it at %d", seq, 100+d0)
	}
}

// A host of ours passes one hook only: its own numbers are others outside, its peer's are
// the peer's.
func TestNewISNOfOurOwn(t *testing.T) {
	r := newRig(t)
	r.now = 1000 * second
	loadText(t, r, "block in all\nblock out all\npass out quick proto tcp from any to any flags S/SA keep state (newisn)\npass in quick proto tcp from any to any port = 22 flags S/SA keep state (newisn)")
	out, in := r.at(r.en1, true), r.at(r.en1, false)
	seq, _ := numbers(r.over(c2s(syn, 100, 0, 0), out), packet.IPv4Len)
	d := seq - 100
	r.wantNumbers("SYN|ACK", r.over(s2c(syn|ack, 200, 101+d, 0), in), 200, 101)
	r.wantNumbers("ACK", r.over(c2s(ack, 101, 201, 0), out), 101+d, 201)
	// And a connection to us.
	there := func(flags uint8, seq, ack uint32) []byte {
		return seg(outer, inner, 999, 22, flags, seq, ack, 1000, 0)
	}
	here := func(flags uint8, seq, ack uint32) []byte {
		return seg(inner, outer, 22, 999, flags, seq, ack, 1000, 0)
	}
	r.wantNumbers("SYN", r.over(there(syn, 500, 0), in), 500, 0)
	seq, acked := numbers(r.over(here(syn|ack, 700, 501), out), packet.IPv4Len)
	if d = seq - 700; d == 0 || acked != 501 {
		t.Fatalf("SYN|ACK: %d, %d", seq, acked)
	}
	r.wantNumbers("ACK", r.over(there(ack, 501, 701+d), in), 501, 701)
}

// What a rule answers at the way out is in the numbers that the sender knows.
func TestNewISNAndReturnRST(t *testing.T) {
	r := newRig(t)
	loadText(t, r, "pass in quick on en0 proto tcp from any to any flags S/SA keep state (newisn)\npass in all\nblock return-rst out quick proto tcp all")
	r.goes(c2s(syn, 100, 0, 0))
	d0 := r.shiftOfOnly()[0]
	r.comes(s2c(syn|ack, 200, 101+d0, 0))
	d1 := r.shiftOfOnly()[1]
	if !r.send(r.en0, false, c2s(ack, 101, 201+d1, 0)) {
		t.Fatal("ACK")
	}
	r.send(r.en0, true, c2s(ack, 101, 201, 10)) // where the state is not
	if len(r.injected) != 1 {
		t.Fatalf("%d resets", len(r.injected))
	}
	r.wantNumbers("the reset", r.injected[0], 201+d1, 0)
}

func (r *rig) shiftOfOnly() (d [2]uint32) {
	r.states.byID.All(func(s *state) bool { d = s.shift(); return false })
	return d
}

// The fast path leaves such connections to the hooks; a checksum that is yet to be summed is
// left alone.
func TestNewISNOnTheFastPath(t *testing.T) {
	r := &cache{rig: newRig(t)}
	loadText(t, r.rig, "pass in quick on en0 proto tcp from any to any flags S/SA keep state (newisn)\nblock in all")
	r.want("SYN", r.forward(c2s(syn, 100, 0, 0), false), true)
	r.want("SYN|ACK", r.forward(s2c(syn|ack, 200, 101+r.shiftOfOnly()[0], 0), true), true)
	for range 5 {
		r.want("ACK", r.forward(c2s(ack, 101, 201+r.shiftOfOnly()[1], 0), false), true)
	}
	if r.took != 0 {
		t.Errorf("%d packets took the fast path", r.took)
	}
	b := c2s(ack, 101, 201+r.shiftOfOnly()[1], 0)
	p := r.env.Pool.Get(len(b))
	copy(p.Append(len(b)), b)
	p.MarkL3(0)
	p.SetPartial(packet.IPv4Len, packet.TCPCsumOffset)
	binary.BigEndian.PutUint16(p.Bytes()[packet.IPv4Len+16:], 0x1234)
	r.w.Start(r.now)
	p = r.In(r.w, r.en0, p)
	if p = r.Out(r.w, r.en1, p); binary.BigEndian.Uint16(p.Bytes()[packet.IPv4Len+16:]) != 0x1234 {
		t.Error("the sum of the pseudo-header has changed")
	}
	p.Free()
	r.w.Finish()
}
