package ipfilter

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"ionet/ipl"
	"ionet/stack/packet"
	"ionet/stack/pfil"
)

// slow is a list as IPFilter walks it: every rule, one after the other.
func slow(li *list, l *look, v *verdict) (done bool) {
	for n := 0; n < len(li.rules); n++ {
		r := li.rules[n]
		if !r.matches(l) {
			continue
		}
		v.hit = append(v.hit, r)
		switch r.Action {
		case ipl.Log:
			continue
		case ipl.Skip:
			n += r.Skip
			continue
		}
		v.rule = r
		done := r.Quick
		if m := li.members[n]; m != nil {
			done = slow(m, l, v) || done
		}
		if done || v.rule.Quick {
			return true
		}
	}
	return false
}

// slowCount is what count rules see: all that match, whatever the others say.
func slowCount(li *list, l *look, v *verdict) {
	for n, r := range li.rules {
		if !r.matches(l) {
			continue
		}
		if r.Action == ipl.Count {
			v.hit = append(v.hit, r)
		}
		if m := li.members[n]; m != nil {
			slowCount(m, l, v)
		}
	}
}

func drawEndpoint(t *rapid.T, six bool, ports bool, name string) (e ipl.Endpoint) {
	addrs := []string{"10.0.0.0/8", "10.0.0.0/24", "10.0.0.1/32", "10.0.0.2/32", "10.0.1.0/24", "0.0.0.0/0", "10.0.0.0/31"}
	if six {
		addrs = []string{"2001:db8::/32", "2001:db8::/64", "2001:db8::1/128", "fe80::/10", "fe80::1/128", "::/0", "2001:db8::/127"}
	}
	switch k := rapid.IntRange(0, 9).Draw(t, name); {
	case k < 3:
	case k < 9:
		e = network(rapid.SampledFrom(addrs).Draw(t, name+" net"))
		e.Not = rapid.IntRange(0, 6).Draw(t, name+" not") == 0
	default:
		e = ipl.Endpoint{Kind: ipl.PoolAddr, Name: "7", Not: rapid.Bool().Draw(t, name+" not")}
	}
	if ports && rapid.Bool().Draw(t, name+" has port") {
		e.Port = ipl.Port{Op: ipl.PortOp(rapid.IntRange(1, int(ipl.PortRange)).Draw(t, name+" op")),
			Lo: rapid.SampledFrom([]uint16{0, 1, 53, 80, 443, 65535}).Draw(t, name+" lo")}
		e.Port.Hi = rapid.SampledFrom([]uint16{0, 53, 80, 90, 443, 65535}).Draw(t, name+" hi")
	}
	return e
}

func drawRule(t *rapid.T, n int, six bool) ipl.Rule {
	x := aRule(rapid.SampledFrom([]ipl.Action{ipl.Pass, ipl.Pass, ipl.Block, ipl.Block, ipl.Count, ipl.Skip}).Draw(t, "action"), false)
	if six {
		x.Family = ipl.Inet6
	}
	if x.Action == ipl.Skip {
		x.Skip = rapid.IntRange(0, 4).Draw(t, "skip")
	}
	x.LogTag = n // no rule is there twice
	x.Quick = rapid.IntRange(0, 4).Draw(t, "quick") == 0
	x.If = rapid.SampledFrom([]string{"", "", "en0", "en1"}).Draw(t, "if")
	x.Proto = rapid.SampledFrom([]int{ipl.AnyProto, ipl.ProtoTCPUDP, packet.ProtoTCP, packet.ProtoUDP, 99}).Draw(t, "proto")
	ports := x.Proto == ipl.ProtoTCPUDP || x.Proto == packet.ProtoTCP || x.Proto == packet.ProtoUDP
	x.Src, x.Dst = drawEndpoint(t, six, ports, "src"), drawEndpoint(t, six, ports, "dst")
	if x.Proto == packet.ProtoTCP && rapid.IntRange(0, 3).Draw(t, "flags") == 0 {
		x.Flags = &ipl.TCPFlags{Set: packet.TCPSyn, Mask: packet.TCPSyn | packet.TCPAck}
	}
	if rapid.IntRange(0, 5).Draw(t, "with") == 0 {
		x.With = []ipl.With{{Not: rapid.Bool().Draw(t, "not"), What: rapid.SampledFrom([]ipl.WithKind{ipl.WithFrag, ipl.WithShort, ipl.WithIPOpts, ipl.WithLowTTL, ipl.WithBadSrc, ipl.WithMBcast}).Draw(t, "what")}}
	}
	return x
}

func drawPacket(t *rapid.T, six bool) []byte {
	proto := rapid.SampledFrom([]uint8{packet.ProtoTCP, packet.ProtoUDP, 99}).Draw(t, "proto")
	body := make([]byte, rapid.SampledFrom([]int{20, 28, 3}).Draw(t, "size"))
	if len(body) >= 20 {
		sport, dport := rapid.SampledFrom([]uint16{0, 1, 52, 53, 80, 81, 443, 65535}).Draw(t, "sport"), rapid.SampledFrom([]uint16{0, 2, 53, 79, 80, 443, 65535}).Draw(t, "dport")
		packet.PutTCP(body, sport, dport, 1, 1, packet.TCPLen, rapid.SampledFrom([]uint8{2, 18, 16}).Draw(t, "flags"), 1, 0, 0)
	}
	ttl := rapid.SampledFrom([]uint8{1, 64}).Draw(t, "ttl")
	if six {
		hosts := []string{"2001:db8::1", "2001:db8::2", "2001:db8:1::1", "fe80::1", "2002::1"}
		b := make([]byte, packet.IPv6Len+len(body))
		packet.PutIPv6(b, 0, 0, len(body), proto, ttl, netip.MustParseAddr(rapid.SampledFrom(hosts).Draw(t, "src")), netip.MustParseAddr(rapid.SampledFrom(hosts).Draw(t, "dst")))
		copy(b[packet.IPv6Len:], body)
		return b
	}
	hosts := []string{"10.0.0.1", "10.0.0.2", "10.0.1.1", "10.1.0.1", "192.0.2.1"}
	b := make([]byte, packet.IPv4Len+len(body))
	packet.PutIPv4(b, 0, len(b), 7, rapid.SampledFrom([]uint16{0, packet.IPv4MF, 3}).Draw(t, "frag"), ttl, proto,
		netip.MustParseAddr(rapid.SampledFrom(hosts).Draw(t, "src")), netip.MustParseAddr(rapid.SampledFrom(hosts).Draw(t, "dst")), nil).SetChecksum()
	copy(b[packet.IPv4Len:], body)
	return b
}

// What lists are compiled to says the same as a walk through them.
func TestCompiledIsTheList(tt *testing.T) {
	rapid.Check(tt, func(t *rapid.T) {
		six := rapid.Bool().Draw(t, "six")
		r := newRig(tt)
		pool := ipl.Pool{Kind: ipl.PoolTree, Name: "7", Entries: []ipl.PoolEntry{{Prefix: netip.MustParsePrefix("10.0.0.0/24")}, {Prefix: netip.MustParsePrefix("10.0.0.2/32"), Not: true}, {Prefix: netip.MustParsePrefix("2001:db8::/64")}}}
		if err := r.EditPools([]ipl.Pool{pool}, nil); err != nil {
			t.Fatal(err)
		}
		var rules []ipl.Rule
		heads := []string{""}
		for n := range rapid.IntRange(0, 40).Draw(t, "rules") {
			x := drawRule(t, n, six)
			x.Group = rapid.SampledFrom(heads).Draw(t, "group")
			if (x.Action == ipl.Pass || x.Action == ipl.Block) && rapid.IntRange(0, 5).Draw(t, "head") == 0 {
				x.Head = fmt.Sprint(100 + n)
				heads = append(heads, x.Head)
			}
			rules = append(rules, x)
		}
		r.load(rules...)
		for range 20 {
			b := drawPacket(t, six)
			p := r.env.Pool.Get(len(b))
			copy(p.Append(len(b)), b)
			p.MarkL3(0)
			ifp := r.en0
			if rapid.Bool().Draw(t, "en1") {
				ifp = r.en1
			}
			p.RcvIf = ifp.Index
			var i pfil.Info
			i.Parse(p, ifp, false)
			got, want := verdict{trace: true}, verdict{}
			r.scan(r.w, &i, deciding, &got)
			counted, wantCounted := verdict{trace: true}, verdict{}
			r.scan(r.w, &i, counting, &counted)
			l := r.look(&i)
			if set := r.active.Load().views[deciding]; set != nil {
				slow(set.main[0][side(six)], &l, &want)
			}
			slowCount(r.active.Load().main[0][side(six)], &l, &wantCounted)
			p.Free()
			if !slices.Equal(counted.hit, wantCounted.hit) {
				t.Fatalf("% x\ncounted by %d rules, want %d", b, len(counted.hit), len(wantCounted.hit))
			}
			if got.rule != want.rule || !slices.Equal(got.hit, want.hit) {
				t.Fatalf("% x\ndecided by %+v through %d, want %+v through %d", b, got.rule, len(got.hit), want.rule, len(want.hit))
			}
		}
	})
}
