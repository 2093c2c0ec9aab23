package ipnat

import (
	"bytes"
	"fmt"
	"testing"

	"ionet/stack/netif"
	"ionet/stack/packet"
	"ionet/stack/pfil"

	"pgregory.net/rapid"
)

const out, in = true, false

func TestMap(t *testing.T) {
	r := newRig(t, "map out0 10.0.0.0/8 -> 0/32 portmap tcp/udp 40000:40009", "map out0 10.0.0.0/8 -> 0/32")
	r.says(out, udp("10.0.0.1", 40003, "198.51.100.1", 53), "udp 192.0.2.1:40003 > 198.51.100.1:53")
	r.says(in, udp("198.51.100.1", 53, "192.0.2.1", 40003), "udp 198.51.100.1:53 > 10.0.0.1:40003")
	r.says(in, udp("198.51.100.2", 53, "192.0.2.1", 40003), "untouched")
	r.says(out, udp("172.16.0.1", 40003, "198.51.100.1", 53), "untouched")
	got := r.says(out, udp("10.0.0.2", 40003, "198.51.100.1", 53), "udp 192.0.2.1:40001 > 198.51.100.1:53")
	if p := packet.UDP(got[20:]).SrcPort(); p%2 != 1 {
		t.Errorf("port %d for 40003: not of its parity", p)
	}
	r.says(out, echo("10.0.0.1", "198.51.100.1", 8, 7), "echo 8 192.0.2.1 > 198.51.100.1 id 7")
	r.says(in, echo("198.51.100.1", "192.0.2.1", 0, 7), "echo 0 198.51.100.1 > 10.0.0.1 id 7")
	r.address("192.0.2.77", 24) // the rule follows, what has begun stays
	r.says(out, udp("10.0.0.1", 40003, "198.51.100.1", 53), "udp 192.0.2.1:40003 > 198.51.100.1:53")
	r.says(out, udp("10.0.0.3", 40001, "198.51.100.1", 53), "udp 192.0.2.77:40001 > 198.51.100.1:53")
	r.pass(301)
	r.says(in, udp("198.51.100.1", 53, "192.0.2.1", 40003), "untouched")
	if s := r.Stats(); s.InUse != 0 || s.Added != 4 || s.Expired != 4 {
		t.Errorf("%+v", s)
	}
}

func TestKinds(t *testing.T) {
	r := newRig(t, "bimap out0 10.9.0.0/24 -> 203.0.113.0/24", "map out0 10.8.0.0/24 -> 203.0.113.0/24",
		"map-block out0 10.7.0.0/24 -> 192.0.2.8/30 ports 256", "map out0 fd00::/64 -> 2001:db8::1/128 portmap tcp/udp auto",
		"map out0 from 10.6.0.0/16 to ! 10.0.0.0/8 -> range 192.0.2.20-192.0.2.20", "nptv6 out0 fd01:203:405::/48 -> 2001:db8:1::/48")
	r.says(out, tcp("10.9.0.5", 1, "198.51.100.1", 2, packet.TCPSyn), "tcp 203.0.113.5:1 > 198.51.100.1:2")
	r.says(in, tcp("198.51.100.1", 9, "203.0.113.6", 2, packet.TCPSyn), "tcp 198.51.100.1:9 > 10.9.0.6:2")
	r.says(out, tcp("10.9.0.6", 2, "198.51.100.1", 9, packet.TCPSyn|packet.TCPAck), "tcp 203.0.113.6:2 > 198.51.100.1:9")
	r.says(out, udp("10.8.0.77", 1, "198.51.100.1", 2), "udp 203.0.113.77:1 > 198.51.100.1:2")
	got := r.says(out, udp("10.7.0.6", 1, "198.51.100.1", 2), "udp 192.0.2.10:1315 > 198.51.100.1:2")
	if p := packet.UDP(got[20:]).SrcPort(); p < 1024+256 || p >= 1024+512 {
		t.Errorf("port %d is not of the block", p)
	}
	r.says(out, udp("fd00::5", 5000, "2001:db8:9::1", 2), "udp [2001:db8::1]:5000 > [2001:db8:9::1]:2")
	r.says(in, udp("2001:db8:9::1", 2, "2001:db8::1", 5000), "udp [2001:db8:9::1]:2 > [fd00::5]:5000")
	r.says(out, udp("10.6.0.1", 1, "198.51.100.1", 2), "udp 192.0.2.20:1 > 198.51.100.1:2")
	r.says(out, udp("10.6.0.1", 1, "10.5.0.1", 2), "untouched")
	// RFC 6296 §3 ff., figure 1 and its worked example.
	r.says(out, udp("fd01:203:405:1::1234", 1, "2001:db8:9::1", 2), "udp [2001:db8:1:d550::1234]:1 > [2001:db8:9::1]:2")
	e := unreachable("2001:db8:9::1", "2001:db8:1:d550::1234", udp("2001:db8:1:d550::1234", 1, "2001:db8:9::1", 2))
	r.says(in, e, "error 2001:db8:9::1 > fd01:203:405:1::1234 about udp [fd01:203:405:1::1234]:1 > [2001:db8:9::1]:2")
}

func TestRedirect(t *testing.T) {
	r := newRig(t, "rdr out0 192.0.2.1/32 port 80 -> 10.0.0.1,10.0.0.2 port 8080 tcp round-robin",
		"rdr out0 0/32 port 5000-5009 -> 10.0.0.3 port 6000 udp", "rdr out0 192.0.2.9/32 -> 10.0.0.4 ip")
	r.says(in, tcp("198.51.100.1", 9, "192.0.2.1", 80, packet.TCPSyn), "tcp 198.51.100.1:9 > 10.0.0.1:8080")
	r.says(in, tcp("198.51.100.1", 8, "192.0.2.1", 80, packet.TCPSyn), "tcp 198.51.100.1:8 > 10.0.0.2:8080")
	r.says(out, tcp("10.0.0.1", 8080, "198.51.100.1", 9, packet.TCPSyn|packet.TCPAck), "tcp 192.0.2.1:80 > 198.51.100.1:9")
	r.says(in, udp("198.51.100.1", 9, "192.0.2.1", 5004), "udp 198.51.100.1:9 > 10.0.0.3:6004")
	r.says(in, udp("198.51.100.1", 9, "192.0.2.1", 5010), "untouched")
	r.says(in, ip("198.51.100.1", "192.0.2.9", 47, make([]byte, 20), -1), "47 198.51.100.1 > 10.0.0.4")
	r.says(out, ip("10.0.0.4", "198.51.100.1", 47, make([]byte, 20), -1), "47 192.0.2.9 > 198.51.100.1")
	// An error of an inside host about what was redirected to it.
	e := unreachable("10.0.0.3", "198.51.100.1", udp("198.51.100.1", 9, "10.0.0.3", 6004))
	r.says(out, e, "error 192.0.2.1 > 198.51.100.1 about udp 198.51.100.1:9 > 192.0.2.1:5004")
}

func TestErrors(t *testing.T) {
	r := newRig(t, "map out0 10.0.0.0/8 -> 0/32 portmap tcp/udp 40000:40000", "map out0 10.0.0.0/8 -> 0/32 icmpidmap icmp 9:9",
		"map out0 10.0.0.0/8 -> 0/32")
	sent := r.says(out, udp("10.0.0.1", 5, "198.51.100.1", 53), "udp 192.0.2.1:40000 > 198.51.100.1:53")
	want := "error 203.0.113.1 > 10.0.0.1 about udp 10.0.0.1:5 > 198.51.100.1:53"
	r.says(in, unreachable("203.0.113.1", "192.0.2.1", sent), want)
	r.says(in, unreachable("203.0.113.1", "192.0.2.1", sent[:28]), want)
	r.says(in, unreachable("203.0.113.1", "192.0.2.2", sent), "refused") // not to where the session is
	bad := unreachable("203.0.113.1", "192.0.2.1", sent)
	bad[len(bad)-1]++
	r.says(in, bad, "refused")
	r.says(in, unreachable("203.0.113.1", "192.0.2.1", udp("192.0.2.1", 1, "198.51.100.1", 53)), "untouched")
	r.says(out, unreachable("10.0.0.1", "198.51.100.1", udp("198.51.100.1", 53, "10.0.0.1", 6)), "refused")
	ping := r.says(out, echo("10.0.0.1", "198.51.100.1", 8, 5), "echo 8 192.0.2.1 > 198.51.100.1 id 9")
	r.says(in, unreachable("203.0.113.1", "192.0.2.1", ping), "error 203.0.113.1 > 10.0.0.1 about echo 8 10.0.0.1 > 198.51.100.1 id 5")
	if s := r.Stats(); s.ICMP != 3 || s.BadICMP != 3 {
		t.Errorf("%+v", s)
	}
}

func TestFragments(t *testing.T) {
	r := newRig(t, "map out0 10.0.0.0/8 -> 0/32 portmap udp 40000:40000", "map out0 10.0.0.0/8 -> 0/32")
	frag := func(b []byte, field uint16) []byte {
		packet.IPv4(b).SetFrag(field)
		packet.IPv4(b).SetChecksum()
		return b
	}
	r.says(out, frag(ip("10.0.0.1", "198.51.100.1", 17, make([]byte, 16), -1), 2), "refused") // before the first
	r.says(out, frag(udp("10.0.0.1", 5, "198.51.100.1", 53), packet.IPv4MF), "udp 192.0.2.1:40000 > 198.51.100.1:53")
	r.says(out, frag(ip("10.0.0.1", "198.51.100.1", 17, make([]byte, 16), -1), 2), "17 192.0.2.1 > 198.51.100.1")
	r.pass(31)
	r.says(out, frag(ip("10.0.0.1", "198.51.100.1", 17, make([]byte, 16), -1), 2), "refused")
	r.says(out, ip("10.0.0.1", "198.51.100.1", 17, make([]byte, 6), -1), "refused") // no whole header
}

func TestFull(t *testing.T) {
	r := newRig(t, "map out0 10.0.0.0/8 -> 0/32 portmap udp 40000:40003", "map out0 10.1.0.0/16 -> 0/32")
	for x := range 4 {
		r.hook(out, udp(fmt.Sprintf("10.0.0.%d", x), 5, "198.51.100.1", 53))
	}
	r.says(out, udp("10.0.0.9", 5, "198.51.100.1", 53), "refused")
	if s := r.Stats(); s.InUse != 4 || s.Bad != 1 || s.Exhausted != 1 {
		t.Errorf("%+v", s)
	}
	r.env.MIB.Put(nodeMax, 4) // an established connection stays
	if err := r.Edit([]Op{{Kind: FlushSessions}}); err != nil || r.Stats().InUse != 0 {
		t.Fatal(err, r.Stats())
	}
	r.hook(out, tcp("10.1.0.1", 7, "198.51.100.1", 80, packet.TCPSyn))
	r.hook(in, tcp("198.51.100.1", 80, "192.0.2.1", 7, packet.TCPSyn|packet.TCPAck))
	r.hook(out, tcp("10.1.0.1", 7, "198.51.100.1", 80, packet.TCPAck))
	for x := range 20 {
		r.now += second / 10
		r.hook(out, udp("10.0.0.1", uint16(x), "198.51.100.1", uint16(x)))
	}
	r.says(in, tcp("198.51.100.1", 80, "192.0.2.1", 7, packet.TCPAck), "tcp 198.51.100.1:80 > 10.1.0.1:7")
	if s := r.Stats(); s.InUse != 4 {
		t.Errorf("%+v", s)
	}
	r.pass(7000)
	r.says(in, tcp("198.51.100.1", 80, "192.0.2.1", 7, packet.TCPRst), "tcp 198.51.100.1:80 > 10.1.0.1:7")
	r.pass(241)
	r.says(in, tcp("198.51.100.1", 80, "192.0.2.1", 7, packet.TCPAck), "untouched")
}

func TestSegmentSizeIsClamped(t *testing.T) {
	r := newRig(t, "map out0 10.0.0.0/8 -> 0/32 mssclamp 1400")
	for _, o := range [][]byte{{2, 4, 5, 180}, {1, 2, 4, 5, 180, 1, 1, 1}} {
		got := r.says(out, tcp("10.0.0.1", 7, "198.51.100.1", 80, packet.TCPSyn, o...), "tcp 192.0.2.1:7 > 198.51.100.1:80")
		var opt packet.TCPOptions
		if opt.Parse(packet.TCP(got[20:]).Options()); opt.MSS != 1400 {
			t.Errorf("%v: MSS %d", o, opt.MSS)
		}
	}
}

// Rules that are taken out leave their sessions, but for purge.
func TestPurge(t *testing.T) {
	r := newRig(t, "map out0 10.0.0.0/8 -> 0/32 udp", "map out0 10.0.0.0/8 -> 0/32 tcp purge")
	r.hook(out, udp("10.0.0.1", 5, "198.51.100.1", 53))
	r.hook(out, tcp("10.0.0.1", 5, "198.51.100.1", 53, packet.TCPSyn))
	gen := r.Generation()
	if err := r.Edit([]Op{{Kind: FlushRules}}); err != nil || r.Generation() == gen {
		t.Fatal(err)
	}
	r.says(in, udp("198.51.100.1", 53, "192.0.2.1", 5), "udp 198.51.100.1:53 > 10.0.0.1:5")
	r.says(in, tcp("198.51.100.1", 53, "192.0.2.1", 5, packet.TCPAck), "untouched")
	if l := r.Sessions(0, 0); len(l) != 1 || l[0].PacketsIn != 1 || l[0].Inside.String() != "10.0.0.1:5" {
		t.Errorf("%+v", l)
	}
}

// A rule that is removed takes its sessions along if the change says so.
func TestPurgeOnce(t *testing.T) {
	r := newRig(t, "map out0 10.0.0.0/8 -> 0/32 udp", "map out0 10.0.0.0/8 -> 0/32 tcp")
	r.hook(out, udp("10.0.0.1", 5, "198.51.100.1", 53))
	r.hook(out, tcp("10.0.0.1", 5, "198.51.100.1", 53, packet.TCPSyn))
	ops := []Op{{Kind: Remove, Rule: r.Rules()[0].Rule, Purge: true}, {Kind: Remove, Rule: r.Rules()[1].Rule}}
	if err := r.Edit(ops); err != nil {
		t.Fatal(err)
	}
	r.says(in, udp("198.51.100.1", 53, "192.0.2.1", 5), "untouched")
	r.says(in, tcp("198.51.100.1", 53, "192.0.2.1", 5, packet.TCPAck), "tcp 198.51.100.1:53 > 10.0.0.1:5")
}

// Every answer finds back, whatever the flows; every sum is right, complete or partial;
// the fast path does what the slow one does.
func TestFlows(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := newRig(&tb{t: t}, "map out0 10.0.0.0/8 -> 0/32 portmap tcp/udp 40000:40999 icmpidmap icmp 1:999", "map out0 10.0.0.0/8 -> 0/32")
		defer r.Close()
		model := map[string]string{} // outer conversation: inside packet's answer
		for range rapid.IntRange(1, 40).Draw(t, "packets") {
			src := fmt.Sprintf("10.0.0.%d", rapid.IntRange(1, 3).Draw(t, "src"))
			dst := fmt.Sprintf("198.51.100.%d", rapid.IntRange(1, 2).Draw(t, "dst"))
			sp, dp := uint16(rapid.IntRange(39999, 40003).Draw(t, "sport")), uint16(rapid.IntRange(1, 2).Draw(t, "dport"))
			kind := rapid.IntRange(0, 2).Draw(t, "kind")
			make := func(a string, ap uint16, b string, bp uint16) []byte {
				switch kind {
				case 0:
					return udp(a, ap, b, bp)
				case 1:
					return tcp(a, ap, b, bp, packet.TCPAck)
				}
				return echo(a, b, 8, max(ap, bp))
			}
			if kind == 2 {
				dp = 0
			}
			b := make(src, sp, dst, dp)
			got, v := r.hook(out, b)
			if v != pfil.Translated {
				t.Fatalf("%s: %d", describe(b), v)
			}
			if err := sums(got); err != nil {
				t.Fatal(err)
			}
			port := packet.UDP(got[20:]).SrcPort()
			if kind == 2 {
				port = packet.ICMP(got[20:]).ID()
			}
			key, inside := describe(got), describe(b)
			if was, ok := model[key]; ok && was != inside {
				t.Fatalf("%s is of %s and of %s", key, was, inside)
			}
			model[key] = inside
			back := make(dst, dp, "192.0.2.1", port)
			ans, v := r.hook(in, back)
			if want := describe(make(dst, dp, src, sp)); v != pfil.Translated || describe(ans) != want || sums(ans) != nil {
				t.Fatalf("%s became %s, want %s; %v", describe(back), describe(ans), want, sums(ans))
			}
			if kind == 2 {
				continue
			}
			// The same by the fast path, and with a sum that is yet to be completed.
			var f pfil.Flow
			f.Flow4(b, r.in0.Index)
			k, ok := r.Track(r.w, r.in0, r.out0, &f, nil)
			if !ok || k == nil {
				t.Fatal("no tracker")
			}
			at := map[int]int{0: 6, 1: 16}[kind]
			p := r.buf(b, 20)
			x := p.L4()
			x[at], x[at+1] = 0, 0
			c := packet.Fold(packet.HeaderPseudoSum(p.Bytes(), b[9], len(x)))
			x[at], x[at+1] = byte(c>>8), byte(c)
			p.SetPartial(20, uint16(at))
			if !k.Track(r.w, p) {
				t.Fatal("not taken")
			}
			k.Passed(1, uint64(p.Len()))
			p.CompleteCsum()
			if string(p.Bytes()) != string(got) {
				t.Fatalf("%x by the fast path, %x by the slow one", p.Bytes(), got)
			}
			p.Free()
		}
	})
}

// Prefixes are changed on the fast path as on the slow one, in both directions, whatever
// the address; who has none that could be had is left to the slow one, which refuses.
func TestPrefixFlows(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		bits := rapid.SampledFrom([]int{48, 56, 64}).Draw(t, "bits")
		r := newRig(&tb{t: t}, fmt.Sprintf("nptv6 out0 fd01:203:405::/%d -> 2001:db8:1::/%d", bits, bits))
		defer r.Close()
		word := rapid.SampledFrom([]int{0, 1, 0x1234, 0xfffe, 0xffff})
		inside := fmt.Sprintf("fd01:203:405:%x:%x:%x:%x:%x", word.Draw(t, "subnet")*max(0, min(1, 49-bits)), word.Draw(t, "4"), word.Draw(t, "5"), word.Draw(t, "6"), word.Draw(t, "7"))
		const remote = "2001:db8:ffff::1"
		fast := func(b []byte, from, to *netif.Interface) []byte {
			var f pfil.Flow
			f.Flow6(b, from.Index)
			k, ok := r.Track(r.w, from, to, &f, nil)
			if !ok {
				return nil
			}
			if k == nil {
				t.Fatalf("%s is nobody's", describe(b))
			}
			p := r.buf(b, packet.IPv6Len)
			defer p.Free()
			if !k.Track(r.w, p) {
				t.Fatal("not taken")
			}
			k.Passed(1, uint64(p.Len()))
			return append([]byte(nil), p.Bytes()...)
		}
		b := udp(inside, 5, remote, 53)
		got, v := r.hook(out, b)
		if v == pfil.Refused {
			if x := fast(b, r.in0, r.out0); x != nil {
				t.Fatalf("%s became %s", describe(b), describe(x))
			}
			return
		}
		if x := fast(b, r.in0, r.out0); v != pfil.Translated || !bytes.Equal(x, got) || sums(got) != nil {
			t.Fatalf("%s by the fast path, %s by the slow one, %v", describe(x), describe(got), sums(got))
		}
		outer := packet.IPv6(got).Src().String()
		back := udp(remote, 53, outer, 5)
		if x, want := fast(back, r.out0, r.in0), udp(remote, 53, inside, 5); !bytes.Equal(x, want) {
			t.Fatalf("%s came back as %s", describe(back), describe(x))
		}
		if h := r.Rules()[0].Hits; h != 3 {
			t.Fatalf("%d packets are counted", h)
		}
	})
}

// tb lends a rapid.T what a rig asks for.
type tb struct {
	testing.TB
	t *rapid.T
}

func (b *tb) Cleanup(func())                    {}
func (b *tb) Helper()                           {}
func (b *tb) Fatal(a ...any)                    { b.t.Fatal(a...) }
func (b *tb) Errorf(format string, args ...any) { b.t.Errorf(format, args...) }

func TestNoAllocation(t *testing.T) {
	r := newRig(t, "map out0 10.0.0.0/8 -> 0/32 portmap tcp/udp 40000:40999")
	b := udp("10.0.0.1", 5, "198.51.100.1", 53)
	p := r.buf(b, 20)
	defer p.Free()
	i := pfil.Scratch(r.w)
	r.w.Start(r.now)
	defer r.w.Finish()
	once := func() {
		copy(p.Bytes(), b)
		i.Parse(p, r.out0, true)
		if r.Out(r.w, i) != pfil.Translated {
			t.Fatal("not translated")
		}
	}
	once()
	if n := testing.AllocsPerRun(100, once); n != 0 {
		t.Errorf("%v allocations a packet", n)
	}
	c := udp("172.16.0.1", 5, "198.51.100.1", 53)
	if n := testing.AllocsPerRun(100, func() {
		copy(p.Bytes(), c)
		i.Parse(p, r.out0, true)
		r.Out(r.w, i)
	}); n != 0 {
		t.Errorf("%v allocations a packet that no rule is about", n)
	}
	g := seg{src: inner, dst: server, seq: 1, data: "NOOP\r\n"}.bytes()
	q := r.buf(g, 20)
	defer q.Free()
	r.load(ftpMap)
	ops := r.Rules()
	if err := r.Edit([]Op{{Kind: Remove, Rule: ops[0].Rule}}); err != nil {
		t.Fatal(err)
	}
	again := func() {
		copy(q.Bytes(), g)
		i.Parse(q, r.out0, true)
		r.Out(r.w, i)
	}
	again()
	if n := testing.AllocsPerRun(100, again); n != 0 || r.Sessions(0, 0)[1].PacketsOut != 102 {
		t.Errorf("%v allocations a segment of a control connection", n)
	}
}

// Whatever octets come: no panic, the books balance.
func FuzzHooks(f *testing.F) {
	f.Add(udp("10.0.0.1", 5, "198.51.100.1", 53), true)
	f.Add(unreachable("203.0.113.1", "192.0.2.1", udp("192.0.2.1", 40000, "198.51.100.1", 53)), false)
	f.Add(unreachable("2001:db8::2", "2001:db8:1::9", udp("2001:db8:1::9", 1, "2001:db8::2", 53)), false)
	f.Add(tcp("10.0.0.1", 7, "198.51.100.1", 80, packet.TCPSyn, 2, 4, 5, 180), true)
	f.Add(udp(host6, 5, remote6, 53), true)
	f.Add(unreachable("203.0.113.1", "192.0.2.1", udp("192.0.2.1", 5, host4, 53)), false)
	f.Add(unreachable(host6, remote6, udp(remote6, 53, host6, 5)), true)
	f.Add(seg{src: inner, dst: server, seq: 1, data: "PORT 10,0,0,1,19,137\r\n"}.bytes(), true)
	f.Fuzz(func(t *testing.T, b []byte, out bool) {
		if len(b) < 20 {
			return
		}
		n := 0 // what the protocol has checked before it asks
		if h, ok := packet.CheckIPv4(b); ok && h.TotalLen() >= h.HeaderLen() {
			n = h.TotalLen()
		} else if h, ok := packet.CheckIPv6(b); ok {
			n = packet.IPv6Len + h.PayloadLen()
		}
		if n == 0 || n > len(b) {
			return
		}
		b = b[:n]
		r := newRig(t, ftpMap, "map out0 10.0.0.0/8 -> 0/32 portmap tcp/udp 40000:40999 mssclamp 1000", "map out0 0/0 -> 0/32 icmpidmap icmp 1:999",
			"rdr out0 0/0 -> 10.0.0.1 ip", "nptv6 out0 fd00::/48 -> 2001:db8:1::/48", "map out0 ::/0 -> ::/128")
		r.net4, r.net6 = &nets{r: r, mtu: 1300}, &nets{r: r}
		r.load(rule64)
		r.env.MIB.Put(nodeEIM, 1)
		r.hook(true, udp("10.0.0.1", 5, "198.51.100.1", 53))
		r.hook(true, udp(host6, 5, remote6, 53))
		r.hook(out, b)
		r.inner = true
		r.hook(out, b)
		r.inner = false
		r.hook(!out, b)
		r.hook(out, b)
	})
}
