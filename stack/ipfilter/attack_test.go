package ipfilter

import (
	"fmt"
	"net/netip"
	"runtime"
	"sync"
	"testing"

	"ionet/ipl"
	"ionet/stack/packet"
)

func c2s(flags uint8, seq, ack uint32, n int) []byte {
	return seg(inner, outer, 9, 80, flags, seq, ack, 1000, n)
}

func s2c(flags uint8, seq, ack uint32, n int) []byte {
	return seg(outer, inner, 80, 9, flags, seq, ack, 1000, n)
}

// connect has a connection stand: 101 and 201 come next.
func (r *rig) connect() {
	r.Helper()
	r.want("SYN", r.forth(c2s(syn, 100, 0, 0)), true)
	r.want("SYN|ACK", r.back(s2c(syn|ack, 200, 101, 0)), true)
	r.want("ACK", r.forth(c2s(ack, 101, 201, 0)), true)
}

func (r *rig) wantPhase(want string) {
	r.Helper()
	if got := r.phase(); got != want {
		r.Errorf("states %s, want %s", got, want)
	}
}

// loose lets every segment of TCP begin a state.
func loose(r *rig) {
	r.Helper()
	r.load(aRule(ipl.Block, false), aRule(ipl.Block, true), aRule(ipl.Pass, false, quick, keepState, tcp))
}

func TestResets(t *testing.T) {
	r := newRig(t)
	stateful(r)
	r.want("SYN", r.forth(c2s(syn, 100, 0, 0)), true)
	r.want("a reset that acknowledges nothing", r.back(s2c(rst, 0, 0, 0)), false)
	r.want("a reset that acknowledges another SYN", r.back(s2c(rst|ack, 0, 99, 0)), false)
	r.want("an ACK without SYN", r.back(s2c(ack, 5000, 101, 0)), false)
	r.want("the SYN|ACK for all that", r.back(s2c(syn|ack, 200, 101, 0)), true)
	r.want("ACK", r.forth(c2s(ack, 101, 201, 0)), true)
	r.want("a reset numbered 0, inside of the window but not the next", r.back(s2c(rst, 0, 0, 0)), true)
	r.wantPhase("4/4")
	r.want("the reset", r.back(s2c(rst, 201, 0, 0)), true)
	r.wantPhase("0/0")
	r.want("the connection anew", r.forth(c2s(syn, 70_000, 0, 0)), true)
	r.wantPhase("2/0")
}

// A packet out of its connection's window does not come in by the rule that let the
// connection begin.
func TestOutOfWindowIsNoBeginning(t *testing.T) {
	r := newRig(t)
	loose(r)
	r.connect()
	r.want("data beyond the window", r.forth(c2s(ack, 50_000, 201, 10)), false)
	r.want("a reset beyond the window", r.forth(c2s(rst, 50_000, 0, 0)), false)
	r.want("a SYN of who was asked", r.back(s2c(syn, 50_000, 0, 0)), false)
	r.wantPhase("4/4")
	r.want("data", r.forth(c2s(ack, 101, 201, 10)), true)
	if n := r.Stats().In.BadStates; n != 3 {
		t.Errorf("%d packets found no state, want 3", n)
	}
}

func TestNewConnectionOfTheSameEnds(t *testing.T) {
	r := newRig(t)
	stateful(r)
	r.want("a SYN that is not answered", r.forth(c2s(syn, 100, 0, 0)), true)
	r.want("another one", r.forth(c2s(syn, 900_000, 0, 0)), true)
	r.want("the answer to the first", r.back(s2c(syn|ack, 200, 101, 0)), false)
	r.want("the answer to the second", r.back(s2c(syn|ack, 200, 900_001, 0)), true)
	r.want("ACK", r.forth(c2s(ack, 900_001, 201, 0)), true)
	r.want("FIN", r.forth(c2s(fin|ack, 900_001, 201, 0)), true)
	r.want("a SYN while the other side still talks", r.forth(c2s(syn, 5_000_000, 0, 0)), true)
	r.wantPhase("6/5")
	r.want("FIN back", r.back(s2c(fin|ack, 201, 900_002, 0)), true)
	r.want("its ACK", r.forth(c2s(ack, 900_002, 202, 0)), true)
	r.wantPhase("10/10")
	r.want("a SYN after the end", r.forth(c2s(syn, 5_000_000, 0, 0)), true)
	r.wantPhase("2/0")
	if n := len(r.States(0, 0)); n != 1 {
		t.Errorf("%d states, want 1", n)
	}
}

func TestTimeouts(t *testing.T) {
	r := newRig(t)
	stateful(r)
	r.connect()
	r.pass(400_000) // the timer stands at days
	r.want("data after days", r.forth(c2s(ack, 101, 201, 1)), true)
	r.pass(400_000)
	r.wantPhase("4/4")
	r.want("FIN", r.forth(c2s(fin|ack, 102, 201, 0)), true)
	r.want("its ACK", r.back(s2c(ack, 201, 103, 0)), true)
	r.wantPhase("9/5")
	r.pass(7201)
	r.wantPhase("none")
	if s := r.Stats().States; s.Expired != 1 || s.Active != 0 {
		t.Errorf("%+v", s)
	}
}

// Segments of connections that nobody saw begin do not count as connections until the
// other side has answered.
func TestMidstreamFlood(t *testing.T) {
	r := newRig(t)
	loose(r)
	if _, err := r.env.MIB.Set("net.inet.ipf.fr_statemax", "100"); err != nil {
		t.Fatal(err)
	}
	r.want("the middle of a connection", r.forth(c2s(ack, 101, 201, 10)), true)
	r.wantPhase("4/0")
	r.want("its other side", r.back(s2c(ack, 201, 111, 10)), true)
	r.wantPhase("4/4")
	for n := range 1000 {
		r.want("a segment of nothing", r.forth(seg(inner, outer, uint16(1000+n), 80, ack, 1, 1, 1000, 0)), true)
	}
	r.want("the connection", r.forth(c2s(ack, 111, 211, 10)), true)
	if s := r.Stats().States; s.Active != 100 || s.Evicted != 901 {
		t.Errorf("%d states, %d evicted; want 100, 901", s.Active, s.Evicted)
	}
	r.pass(241)
	if n := r.Stats().States.Active; n != 1 {
		t.Errorf("%d states after the time of an opening, want 1", n)
	}
}

func TestStrictIsForBothHooks(t *testing.T) {
	r := newRig(t)
	r.load(aRule(ipl.Block, false), aRule(ipl.Block, true), aRule(ipl.Pass, false, quick, tcp, func(x *ipl.Rule) {
		x.KeepState, x.Flags = &ipl.KeepState{Strict: true}, &ipl.TCPFlags{Set: syn, Mask: syn | ack}
	}))
	r.connect()
	r.want("the next segment", r.forth(c2s(ack, 101, 201, 100)), true)
	r.want("one behind the next", r.forth(c2s(ack, 301, 201, 100)), false)
	r.want("the next", r.forth(c2s(ack, 201, 201, 100)), true)
}

// Who can write the addresses of a conversation from another interface does not get
// it bound there.
func TestForgedPacketDoesNotBind(t *testing.T) {
	r := newRig(t)
	stateful(r)
	r.want("SYN", r.forth(c2s(syn, 100, 0, 0)), true)
	r.want("an answer to nothing, from inside", r.send(r.en0, false, s2c(syn|ack, 200, 77, 0)), false)
	r.want("SYN|ACK", r.back(s2c(syn|ack, 200, 101, 0)), true)
	r.want("ACK", r.forth(c2s(ack, 101, 201, 0)), true)
	r.want("data of the right numbers, from inside", r.send(r.en0, false, s2c(ack, 201, 101, 5)), false)
	r.want("data", r.back(s2c(ack, 201, 101, 5)), true)
}

func TestOptionsDoNotRideOnStates(t *testing.T) {
	r := newRig(t)
	stateful(r)
	r.want("a question", r.forth(datagram(inner, outer, 1025, 53)), true)
	b := make([]byte, packet.IPv4Len+8+packet.UDPLen)
	opts := []byte{131, 7, 4, 10, 0, 0, 9, 0} // a source route
	packet.PutIPv4(b, 0, len(b), 1, 0, 64, packet.ProtoUDP, netip.MustParseAddr(outer), netip.MustParseAddr(inner), opts).SetChecksum()
	packet.PutUDP(b[packet.IPv4Len+8:], 53, 1025, packet.UDPLen, 0)
	r.want("an answer with a source route", r.back(b), false)
	r.want("an answer", r.back(datagram(outer, inner, 53, 1025)), true)
}

func TestQueries(t *testing.T) {
	r := newRig(t)
	stateful(r)
	m := func(typ, id byte) []byte { return append([]byte{typ, 0, 0, 0, 0, id, 0, 1}, make([]byte, 12)...) }
	r.want("a timestamp", r.forth(ip4(inner, outer, packet.ProtoICMP, m(13, 7))), true)
	r.want("an echo reply of that number", r.back(ip4(outer, inner, packet.ProtoICMP, m(0, 7))), false)
	r.want("a timestamp back", r.back(ip4(outer, inner, packet.ProtoICMP, m(13, 7))), false)
	r.want("its reply", r.back(ip4(outer, inner, packet.ProtoICMP, m(14, 7))), true)
	if ttl := r.States(0, 0)[0].TTL; ttl != 6*second {
		t.Errorf("an answered query is known for %d s, want 6", ttl/second)
	}
}

// ICMP errors come to who has sent what they quote; a forged one is dropped and counted.
func TestErrorsAboutConnections(t *testing.T) {
	r := newRig(t)
	stateful(r)
	r.connect()
	about := func(to string, q []byte) []byte {
		return ip4("192.0.2.9", to, packet.ProtoICMP, append([]byte{3, 1, 0, 0, 0, 0, 0, 0}, q[:28]...))
	}
	r.want("about a segment that was sent", r.back(about(inner, c2s(ack, 101, 201, 0))), true)
	r.want("about one beyond what was sent", r.back(about(inner, c2s(ack, 5_000_000, 201, 0))), false)
	r.want("to who has not sent it", r.back(about("10.0.0.2", c2s(ack, 101, 201, 0))), false)
	if s := r.Stats().States; s.OutOfWindow != 2 {
		t.Errorf("%d forged errors counted, want 2", s.OutOfWindow)
	}
	r.wantPhase("4/4")
	echo := ip4(inner, outer, packet.ProtoICMP, []byte{8, 0, 0, 0, 0, 7, 0, 1})
	r.want("an echo", r.forth(echo), true)
	r.want("about the echo", r.back(about(inner, echo)), true)
	echo[packet.IPv4Len] = 0
	r.want("about a reply that was not sent", r.back(about(inner, echo)), false)
}

// Of IPv6 as well.
func TestErrorsAboutConnections6(t *testing.T) {
	const here, there = "2001:db8::1", "2001:db8::2"
	r := newRig(t)
	r.load(aRule(ipl.Block, false, func(x *ipl.Rule) { x.Family = ipl.Inet6 }),
		aRule(ipl.Pass, false, quick, tcp, keepState, func(x *ipl.Rule) { x.Family, x.If = ipl.Inet6, "en0" }))
	r.want("SYN", r.forth(six(here, there, syn, 100, 0, 0)), true)
	about := func(to string, q []byte) []byte {
		b := make([]byte, packet.IPv6Len+8+len(q))
		packet.PutIPv6(b, 0, 0, 8+len(q), packet.ProtoICMPv6, 64, netip.MustParseAddr("2001:db8::9"), netip.MustParseAddr(to))
		b[packet.IPv6Len] = 1
		copy(b[packet.IPv6Len+8:], q)
		return b
	}
	r.want("about the SYN", r.back(about(here, six(here, there, syn, 100, 0, 0))), true)
	r.want("about another number", r.back(about(here, six(here, there, syn, 9_000_000, 0, 0))), false)
	r.want("about another connection", r.back(about(here, six(here, "2001:db8::3", syn, 100, 0, 0))), false)
	r.want("to another host", r.back(about("2001:db8::7", six(here, there, syn, 100, 0, 0))), false)
	if n := r.Stats().States.OutOfWindow; n != 2 {
		t.Errorf("%d forged errors counted, want 2", n)
	}
}

// 100,000 states and a flood of SYNs: what a state costs is bounded, established ones stay.
func TestExhaustion(t *testing.T) {
	r := newRig(t)
	stateful(r)
	r.connect()
	var before, after runtime.MemStats
	if _, err := r.env.MIB.Set("net.inet.ipf.logsize", "16"); err != nil {
		t.Fatal(err)
	}
	runtime.GC()
	runtime.ReadMemStats(&before)
	const all = 100_000
	b := c2s(syn, 100, 0, 0)
	flood := func(n int) {
		b[packet.IPv4Len], b[packet.IPv4Len+1] = byte(n>>8), byte(n)
		b[12+3] = byte(2 + n>>16)
		if !r.send(r.en0, false, b) {
			t.Fatalf("SYN %d was blocked", n)
		}
	}
	for n := range all - 1 {
		flood(n)
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	each := (int64(after.HeapAlloc) - int64(before.HeapAlloc)) / all
	t.Logf("%d octets a state", each)
	if each > 320 {
		t.Errorf("%d octets a state", each)
	}
	for n := range all {
		flood(all + n)
	}
	if s := r.Stats().States; s.Active != all || s.Evicted != all {
		t.Errorf("%d states, %d evicted; want %d of both", s.Active, s.Evicted, all)
	}
	r.want("the connection", r.forth(c2s(ack, 101, 201, 10)), true)
	seen := map[string]bool{}
	for n := 0; ; n += 150 {
		page := r.States(n, 150)
		for _, s := range page {
			seen[fmt.Sprint(s.Src, s.Sport)] = true
		}
		if len(page) < 150 {
			break
		}
	}
	if len(seen) != all {
		t.Errorf("pages of 150 are %d states, want %d", len(seen), all)
	}
	if first, far := testing.AllocsPerRun(5, func() { r.States(0, 150) }), testing.AllocsPerRun(5, func() { r.States(all-150, 150) }); far > first {
		t.Errorf("the last page costs %v allocations, the first one %v", far, first)
	}
}

// Packets, edits, flushes and readers at once: for the race detector, and for the books.
func TestAtOnce(t *testing.T) {
	r := newRig(t)
	stateful(r)
	var wg sync.WaitGroup
	for g := range 3 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			w := r.env.NewWork()
			for n := range 300 {
				for _, b := range [][]byte{datagram(inner, outer, uint16(n%50), 53), datagram(outer, inner, 53, uint16(n%50)), c2s(syn, uint32(g), 0, 0), s2c(syn|ack, 200, uint32(g+1), 0)} {
					p := r.env.Pool.Get(len(b))
					copy(p.Append(len(b)), b)
					p.MarkL3(0)
					w.Start(second)
					if p = r.In(w, r.en0, p); p != nil {
						if p = r.Out(w, r.en1, p); p != nil {
							p.Free()
						}
					}
					w.Finish()
				}
			}
		}()
	}
	for n := range 50 {
		r.FlushStates(n%2 == 0)
		if _, err := r.Restore(r.Save()); err != nil {
			t.Error(err)
		}
		x := aRule(ipl.Count, false, func(x *ipl.Rule) { x.LogTag = n })
		if err := r.Edit([]Op{{Kind: Add, Rule: x}}); err != nil {
			t.Error(err)
		}
		_, _ = r.Rules(Active, false, false), fmt.Sprint(r.Stats())
	}
	wg.Wait()
	r.FlushStates(true)
	if s := r.Stats().States; s.Active != 0 || s.Added != s.Expired+s.Removed+s.Evicted {
		t.Errorf("the books do not balance: %+v", s)
	}
	for _, x := range r.Rules(Active, false, false) {
		if x.States != 0 {
			t.Errorf("%v still has %d states", x.Rule, x.States)
		}
	}
}
