package ipfilter

import (
	"fmt"
	"testing"

	"ionet/ipl"
	"ionet/stack/packet"
	"ionet/stack/pfil"
)

const (
	inner, outer = "10.0.0.1", "192.0.2.1"
	syn, ack     = packet.TCPSyn, packet.TCPAck
	fin, rst     = packet.TCPFin, packet.TCPRst
)

// stateful lets TCP and UDP begin from en0, and nothing else go anywhere.
func stateful(r *rig) {
	r.Helper()
	r.load(
		aRule(ipl.Block, false), aRule(ipl.Block, true),
		aRule(ipl.Pass, false, quick, keepState, tcp, func(x *ipl.Rule) {
			x.If, x.Flags = "en0", &ipl.TCPFlags{Set: syn, Mask: syn | ack}
		}),
		aRule(ipl.Pass, false, quick, keepState, udp, func(x *ipl.Rule) { x.If = "en0" }),
		aRule(ipl.Pass, false, quick, keepState, func(x *ipl.Rule) { x.If, x.Proto = "en0", packet.ProtoICMP }),
	)
}

// forth has a packet pass both hooks from en0 to en1, back the other way.
func (r *rig) forth(b []byte) bool { return r.send(r.en0, false, b) && r.send(r.en1, true, b) }
func (r *rig) back(b []byte) bool  { return r.send(r.en1, false, b) && r.send(r.en0, true, b) }

func (r *rig) want(what string, got, want bool) {
	r.Helper()
	if got != want {
		r.Errorf("%s: passed %v, want %v", what, got, want)
	}
}

func (r *rig) phase() string {
	for _, s := range r.States(0, 0) {
		return fmt.Sprintf("%d/%d", s.TCP[0], s.TCP[1])
	}
	return "none"
}

func TestConnection(t *testing.T) {
	r := newRig(t)
	stateful(r)
	c := func(flags uint8, seq, ack uint32, n int) []byte {
		return seg(inner, outer, 1025, 80, flags, seq, ack, 1000, n)
	}
	s := func(flags uint8, seq, ack uint32, n int) []byte {
		return seg(outer, inner, 80, 1025, flags, seq, ack, 1000, n)
	}
	r.want("data before anything", r.forth(c(ack, 100, 200, 10)), false)
	r.want("SYN|ACK before anything", r.back(s(syn|ack, 200, 101, 0)), false)
	r.want("SYN", r.forth(c(syn, 100, 0, 0)), true)
	r.want("an answer to another SYN", r.back(s(syn|ack, 200, 99, 0)), false)
	r.want("SYN|ACK", r.back(s(syn|ack, 200, 101, 0)), true)
	r.want("ACK", r.forth(c(ack, 101, 201, 0)), true)
	if got := r.phase(); got != "4/4" {
		t.Errorf("states %s, want 4/4", got)
	}
	r.want("data", r.forth(c(ack, 101, 201, 500)), true)
	r.want("data beyond the window", r.forth(c(ack, 1102, 201, 10)), false)
	r.want("data from long ago", r.back(s(ack, 1<<32-1800, 601, 10)), false)
	r.want("an acknowledgement of what was never sent", r.back(s(ack, 201, 601+100_000, 0)), false)
	r.want("an acknowledgement", r.back(s(ack, 201, 601, 0)), true)
	r.want("a second SYN", r.forth(c(syn, 601, 0, 0)), true)
	if got := r.phase(); got != "4/4" {
		t.Errorf("states %s after a second SYN, want 4/4", got)
	}
	r.want("a reset beside the next number", r.back(s(rst, 701, 0, 0)), true)
	if got := r.phase(); got != "4/4" {
		t.Errorf("after a reset inside the window that is not the next: %s, want 4/4", got)
	}
	r.want("a reset from outside the window", r.back(s(rst, 50_000, 0, 0)), false)
	r.want("FIN", r.forth(c(fin|ack, 601, 201, 0)), true)
	r.want("its acknowledgement", r.back(s(ack, 201, 602, 0)), true)
	r.want("FIN the other way", r.back(s(fin|ack, 201, 602, 0)), true)
	if got := r.phase(); got != "9/8" {
		t.Errorf("states %s, want 9/8", got)
	}
	r.want("the last acknowledgement", r.forth(c(ack, 602, 202, 0)), true)
	if got := r.phase(); got != "10/10" {
		t.Errorf("states %s, want 10/10", got)
	}
	r.pass(31)
	if got := r.phase(); got != "none" {
		t.Errorf("states %s after their time, want none", got)
	}
	r.want("data after everything", r.back(s(ack, 202, 602, 1)), false)
}

// Who is asked has an older connection of the same ends still, and says so; the reset that it gets for
// that is let out, and the connection begins.
func TestConnectionOverAnOldOne(t *testing.T) {
	r := newRig(t)
	stateful(r)
	c := func(flags uint8, seq, ack uint32) []byte {
		return seg(inner, outer, 1025, 80, flags, seq, ack, 1000, 0)
	}
	s := func(flags uint8, seq, ack uint32, n int) []byte {
		return seg(outer, inner, 80, 1025, flags, seq, ack, 1000, n)
	}
	r.want("SYN", r.forth(c(syn, 100, 0)), true)
	r.want("a reset of nothing", r.forth(c(rst, 70_000, 0)), false)
	r.want("data of the old connection", r.back(s(ack, 9000, 70_000, 5)), false)
	r.want("what it has acknowledged", r.back(s(ack, 9000, 70_000, 0)), true)
	r.want("a reset of another", r.forth(c(rst, 70_001, 0)), false)
	r.want("its reset", r.forth(c(rst, 70_000, 0)), true)
	if got := r.phase(); got != "2/0" {
		t.Errorf("states %s, want 2/0", got)
	}
	r.want("the SYN again", r.forth(c(syn, 100, 0)), true)
	r.want("SYN|ACK", r.back(s(syn|ack, 200, 101, 0)), true)
	r.want("a reset of the old connection now", r.forth(c(rst, 70_000, 0)), false)
	r.want("ACK", r.forth(c(ack, 101, 201)), true)
	if got := r.phase(); got != "4/4" {
		t.Errorf("states %s, want 4/4", got)
	}
}

func TestDatagramsAndEchoes(t *testing.T) {
	r := newRig(t)
	stateful(r)
	r.want("an answer that nobody has asked for", r.back(datagram(outer, inner, 53, 1025)), false)
	r.want("a question", r.forth(datagram(inner, outer, 1025, 53)), true)
	r.want("its answer", r.back(datagram(outer, inner, 53, 1025)), true)
	r.want("an answer from another port", r.back(datagram(outer, inner, 54, 1025)), false)
	echo := func(typ uint8, id byte) []byte { return []byte{typ, 0, 0, 0, 0, id, 0, 1} }
	r.want("an echo", r.forth(ip4(inner, outer, packet.ProtoICMP, echo(8, 7))), true)
	r.want("its reply", r.back(ip4(outer, inner, packet.ProtoICMP, echo(0, 7))), true)
	r.want("another reply", r.back(ip4(outer, inner, packet.ProtoICMP, echo(0, 8))), false)
	r.want("an echo the other way", r.back(ip4(outer, inner, packet.ProtoICMP, echo(8, 7))), false)
	about := func(q []byte) []byte {
		return ip4("192.0.2.9", inner, packet.ProtoICMP, append([]byte{3, 3, 0, 0, 0, 0, 0, 0}, q[:28]...))
	}
	r.want("an error about the question", r.back(about(datagram(inner, outer, 1025, 53))), true)
	r.want("an error about another", r.back(about(datagram(inner, outer, 1026, 53))), false)
	wrong := about(datagram(outer, inner, 53, 1025))
	r.want("an error to who has not sent what it quotes", r.back(wrong), false)
	r.pass(121)
	r.want("an answer after its time", r.back(datagram(outer, inner, 53, 1025)), false)
}

// A full table: who was idle for longest makes room, answered conversations after those without
// an answer, and established connections for nobody.
func TestFullTable(t *testing.T) {
	r := newRig(t)
	stateful(r)
	if _, err := r.env.MIB.Set("net.inet.ipf.fr_statemax", "100"); err != nil {
		t.Fatal(err)
	}
	r.want("SYN", r.forth(seg(inner, outer, 9, 80, syn, 100, 0, 1000, 0)), true)
	r.want("SYN|ACK", r.back(seg(outer, inner, 80, 9, syn|ack, 200, 101, 1000, 0)), true)
	r.want("ACK", r.forth(seg(inner, outer, 9, 80, ack, 101, 201, 1000, 0)), true)
	for n := range 1000 {
		r.now += second / 100
		r.want("a question", r.forth(datagram(inner, outer, uint16(2000+n), 53)), true)
		r.want("the first question again", r.forth(datagram(inner, outer, 2000, 53)), true)
	}
	if n := len(r.States(0, 0)); n != 100 {
		t.Errorf("%d states, want 100", n)
	}
	r.want("the answer to the first question, which goes on", r.back(datagram(outer, inner, 53, 2000)), true)
	r.want("the answer to the last question", r.back(datagram(outer, inner, 53, 2999)), true)
	r.want("the answer to an old question", r.back(datagram(outer, inner, 53, 2500)), false)
	r.want("the connection", r.forth(seg(inner, outer, 9, 80, ack, 101, 201, 1000, 5)), true)
	if s := r.Stats().States; s.Evicted != 901 {
		t.Errorf("%d evicted, want 901", s.Evicted)
	}
}

// A tracker does what the hooks do, packet by packet, counters included; what
// begins or ends something it leaves to them.
func TestTrackerIsTheHooks(t *testing.T) {
	fast, slow := newRig(t), newRig(t)
	for _, r := range []*rig{fast, slow} {
		stateful(r)
		if err := r.Edit([]Op{{Kind: Add, Rule: aRule(ipl.Count, false)}}); err != nil {
			t.Fatal(err)
		}
		r.want("SYN", r.forth(seg(inner, outer, 9, 80, syn, 100, 0, 1000, 0)), true)
		r.want("SYN|ACK", r.back(seg(outer, inner, 80, 9, syn|ack, 200, 101, 1000, 0)), true)
		r.want("ACK", r.forth(seg(inner, outer, 9, 80, ack, 101, 201, 1000, 0)), true)
	}
	seq, acked := uint32(101), uint32(201)
	ways := map[bool]pfil.Tracker{}
	took := 0
	for n := range 400 {
		back := n%3 == 2
		flags := uint8(ack)
		at, of, size := seq, acked, n%200
		if back {
			at, of = acked, seq
		}
		switch n {
		case 100:
			at += 5000 // beyond every window
		case 200:
			flags |= packet.TCPUrg | packet.TCPPsh
		case 399:
			flags |= fin
		}
		b := seg(inner, outer, 9, 80, flags, at, of, 1000, size)
		hooks, from, to := slow.forth, fast.en0, fast.en1
		if back {
			b = seg(outer, inner, 80, 9, flags, at, of, 1000, size)
			hooks, from, to = slow.back, fast.en1, fast.en0
		}
		want := hooks(b)
		p := fast.env.Pool.Get(len(b))
		copy(p.Append(len(b)), b)
		p.MarkL3(0)
		p.MarkL4(packet.IPv4Len)
		p.RcvIf = from.Index
		p.Came.Flow4(packet.IPv4(p.Bytes()), from.Index)
		fast.w.Start(fast.now)
		got := false
		if k := ways[back]; k != nil {
			if got = k.Track(fast.w, p); got {
				k.Passed(1, uint64(p.Len()))
			}
		}
		if got {
			took++
			p.Free()
		} else if p = fast.In(fast.w, from, p); p != nil {
			if p = fast.Out(fast.w, to, p); p != nil {
				got = true
				ways[back], _ = fast.Track(fast.w, from, to, &p.Came, p)
				p.Free()
			}
		}
		fast.w.Finish()
		if got != want {
			t.Fatalf("packet %d: passed %v, the hooks say %v", n, got, want)
		}
		if want && n != 100 {
			if back {
				acked += uint32(size)
			} else {
				seq += uint32(size)
			}
		}
		if a, b := fmt.Sprint(fast.States(0, 0)), fmt.Sprint(slow.States(0, 0)); a != b {
			t.Fatalf("packet %d:\n%s, the hooks have\n%s", n, a, b)
		}
	}
	if took < 350 {
		t.Errorf("%d packets were tracked", took)
	}
	a, b := fast.Stats(), slow.Stats()
	if a.In != b.In || a.Out != b.Out || a.In.Passed == 0 || a.In.Counted != a.In.Passed+a.In.Blocked {
		t.Errorf("counted %+v, %+v; the hooks say %+v, %+v", a.In, a.Out, b.In, b.Out)
	}
}

func TestNoAllocationAPacket(t *testing.T) {
	r := newRig(t)
	stateful(r)
	d, s := datagram(inner, outer, 1025, 53), seg(inner, outer, 9, 81, ack, 1, 1, 1, 1)
	r.forth(d)
	for name, b := range map[string][]byte{"of a state": d, "blocked": s} {
		if n := testing.AllocsPerRun(200, func() { r.forth(b) }); n != 0 {
			t.Errorf("a packet %s costs %v allocations", name, n)
		}
	}
}
