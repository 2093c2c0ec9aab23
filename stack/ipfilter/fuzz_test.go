package ipfilter

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"ionet/ipl"
	"ionet/stack/packet"
	"ionet/stack/pfil"
)

// rich is a set with something of everything.
const rich = `
block return-rst in log quick proto tcp from any to any port = 23
block return-icmp-as-dest(port-unr) in proto udp from any to any port 100 >< 200
log in on en0 from 10.0.0.0/8 to any
count out from any to any
skip 1 in on en1 proto icmp all
block in log body quick from any to any with short
block in quick from any to any with opt lsrr
pass in quick on en0 proto tcp from any to any flags S/SA keep state keep frags
pass in log first quick on en0 proto udp from any to any keep state (limit 50) keep frags (strict)
pass in on en0 proto icmp all keep state head 100
block in quick proto icmp from 10.0.0.9 to any group 100
pass in quick on en0 family inet6 all keep state keep frags
pass out quick on en1 dup-to en0 proto 99 all
pass out quick on en1 to en0:10.0.0.77 proto 98 all keep state
block out log or-block quick proto tcp from any to any port != 80 flags A/A
`

func loadText(t testing.TB, r *rig, text string) {
	t.Helper()
	rules, err := ipl.Parse("rich", []byte(text), ipl.Options{})
	if err != nil {
		t.Fatal(err)
	}
	r.load(rules...)
}

// valid reports what IP has checked before it asks a filter.
func valid(b []byte) bool {
	if h, ok := packet.CheckIPv4(b); ok {
		return h.TotalLen() == len(b)
	}
	h, ok := packet.CheckIPv6(b)
	return ok && h.PayloadLen()+packet.IPv6Len == len(b)
}

// FuzzPackets: whatever packets come and go, nothing is lost or freed twice (the rig
// asks at its end), and every packet is counted as passed or as blocked, once.
func FuzzPackets(f *testing.F) {
	cat := func(bs ...[]byte) (all []byte) {
		for _, b := range bs {
			all = append(append(all, byte(len(all)), byte(len(b)>>8), byte(len(b))), b...)
		}
		return all
	}
	f.Add(cat(c2s(syn, 100, 0, 0), s2c(syn|ack, 200, 101, 0), c2s(ack, 101, 201, 9), s2c(rst, 201, 0, 0)))
	f.Add(cat(datagram(inner, outer, 1, 2), ip4(outer, inner, packet.ProtoICMP, append([]byte{3, 1, 0, 0, 0, 0, 0, 0}, datagram(inner, outer, 1, 2)...))))
	f.Add(cat(six("2001:db8::1", "2001:db8::2", syn, 1, 0, 0), fragment(inner, outer, packet.ProtoUDP, 7, 0, true, make([]byte, 32)), fragment(inner, outer, packet.ProtoUDP, 7, 32, false, make([]byte, 32))))
	f.Add(cat(ip4(inner, outer, 99, []byte{1}), ip4(inner, outer, 98, []byte{1}), ip4(outer, inner, 98, []byte{1})))
	f.Fuzz(func(t *testing.T, in []byte) {
		r := newRig(t)
		loadText(t, r, rich)
		asked, answered := [2]uint64{}, 0
		for len(in) > 3 {
			how, n := in[0], int(in[1])<<8|int(in[2])
			in = in[3:]
			b := in[:min(n, len(in))]
			if in = in[len(b):]; !valid(b) {
				continue
			}
			out := how&1 != 0
			ifp := r.en0
			if how&2 != 0 {
				ifp = r.en1
			}
			r.now += int64(how>>2) * second
			if r.send(ifp, out, b) {
				answered++
			}
			asked[dirOf(out)]++
		}
		s := r.Stats()
		if s.In.Passed+s.In.Blocked != asked[0] || s.Out.Passed+s.Out.Blocked != asked[1] {
			t.Fatalf("asked about %d in, %d out; counted %+v", asked[0], asked[1], s)
		}
		if c := s.States; c.Added != c.Active+c.Expired+c.Removed+c.Evicted {
			t.Fatalf("the books of the states do not balance: %+v", c)
		}
	})
}

// A flow that rules alone have let pass is looked at again once it has a state.
func TestTrackerStepsBackForAState(t *testing.T) {
	r := newRig(t)
	r.load(aRule(ipl.Pass, true), aRule(ipl.Pass, false, func(x *ipl.Rule) { x.If = "en0" }), aRule(ipl.Pass, false, quick, udp, keepState, func(x *ipl.Rule) { x.If = "en1" }))
	track := func(b []byte) *packet.Buf {
		p := r.env.Pool.Get(len(b))
		copy(p.Append(len(b)), b)
		p.MarkL3(0)
		p.MarkL4(packet.IPv4Len)
		p.Came.Flow4(packet.IPv4(p.Bytes()), r.en0.Index)
		return p
	}
	p := track(datagram(inner, outer, 1025, 53))
	defer p.Free()
	r.w.Start(r.now)
	k, ok := r.Track(r.w, r.en0, r.en1, &p.Came, p)
	if !ok {
		t.Fatal("rules that ask for addresses only do not let a flow be tracked")
	}
	for range 3 {
		if !k.Track(r.w, p) {
			t.Fatal("a packet is not tracked")
		}
	}
	k.Passed(3, uint64(3*p.Len()))
	if n := testing.AllocsPerRun(100, func() { k.Track(r.w, p); k.Passed(1, uint64(p.Len())) }); n != 0 {
		t.Errorf("%v allocations a packet", n)
	}
	rule := r.Rules(Active, false, false)[0]
	if s := r.Stats(); rule.Hits != s.In.Passed || s.In.Passed != s.Out.Passed || s.In.Passed < 100 {
		t.Errorf("%d hits, %+v", rule.Hits, s)
	}
	r.w.Finish()
	r.want("a packet back, that begins a state", r.back(datagram(outer, inner, 53, 1025)), true)
	r.w.Start(r.now)
	if k.Track(r.w, p) {
		t.Error("a packet of the state was tracked by rules")
	}
	r.w.Finish()
	for _, o := range [][]byte{ip4(inner, outer, packet.ProtoICMP, []byte{3, 1, 0, 0, 0, 0, 0, 0})} {
		p := track(o)
		r.w.Start(r.now)
		if _, ok := r.Track(r.w, r.en0, r.en1, &p.Came, p); ok {
			t.Error("ICMP errors are tracked")
		}
		r.w.Finish()
		p.Free()
	}
}

// many are n rules about hosts and services, and a few about everything.
func many(n int) (all []ipl.Rule) {
	all = append(all, aRule(ipl.Block, false))
	for i := range n {
		all = append(all, aRule(ipl.Pass, false, tcp, quick, func(x *ipl.Rule) {
			x.Src = network(netip.PrefixFrom(netip.AddrFrom4([4]byte{172, 16, byte(i >> 8), byte(i)}), 24+i%9).String())
			x.Dst = network(netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i >> 10), byte(i >> 2), byte(i)}), 32).String())
			x.Dst.Port = ipl.Port{Op: ipl.PortEq, Lo: uint16(i)}
			x.LogTag = i
		}))
	}
	return all
}

func TestManyRulesCompile(t *testing.T) {
	r := newRig(t)
	at := time.Now()
	r.load(many(10_000)...)
	took := time.Since(at)
	t.Log(took)
	if took > 5*time.Second {
		t.Errorf("10,000 rules took %v", took)
	}
}

// BenchmarkScan: a thousand rules are to cost about what ten do.
func BenchmarkScan(b *testing.B) {
	for _, n := range []int{10, 1000, 10_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			r := newRig(b)
			r.load(many(n)...)
			pkt := seg("172.16.0.5", "10.0.1.5", 1, 5, ack, 1, 1, 1, 0)
			p := r.env.Pool.Get(len(pkt))
			copy(p.Append(len(pkt)), pkt)
			p.MarkL3(0)
			defer p.Free()
			var i pfil.Info
			for b.Loop() {
				i.Parse(p, r.en0, false)
				var v verdict
				r.scan(r.w, &i, deciding, &v)
			}
		})
	}
}
