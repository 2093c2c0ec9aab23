package ipfilter

import (
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"ionet/ipl"
	"ionet/stack/packet"
	"ionet/stack/pfil"
)

// cache is the fast path of a rig, as ipflow has it.
type cache struct {
	*rig
	gen   uint64
	flows map[pfil.Flow]pfil.Tracker
	took  int
}

// forward has b come in by one interface and go out by the other.
func (c *cache) forward(b []byte, back bool) bool {
	from, to := c.en0, c.en1
	if back {
		from, to = to, from
	}
	p := c.env.Pool.Get(len(b))
	copy(p.Append(len(b)), b)
	p.MarkL3(0)
	p.MarkL4(packet.IPv4Len)
	p.RcvIf = from.Index
	p.Came.Flow4(packet.IPv4(b), from.Index)
	c.w.Start(c.now)
	defer c.w.Finish()
	if gen := c.Generation(); gen != c.gen {
		c.gen, c.flows = gen, map[pfil.Flow]pfil.Tracker{}
	}
	if k := c.flows[p.Came]; k != nil && k.Track(c.w, p) {
		c.took++
		k.Passed(1, uint64(p.Len()))
		p.Free()
		return true
	}
	if p = c.In(c.w, from, p); p == nil {
		return false
	}
	if p = c.Out(c.w, to, p); p == nil {
		return false
	}
	delete(c.flows, p.Came)
	if k, ok := c.Track(c.w, from, to, &p.Came, p); ok {
		c.flows[p.Came] = k
	}
	p.Free()
	return true
}

// all is whatever a filter counts and knows.
func (r *rig) all() string {
	s := sortedStates(r)
	for _, out := range []bool{false, true} {
		for _, x := range r.Rules(Active, out, false) {
			s = append(s, fmt.Sprint(x.String(), x.Hits, x.Bytes, x.States))
		}
	}
	return fmt.Sprintf("%s\n%+v", s, r.Stats())
}

// The fast path is the hooks, packet by packet, in what passes and in all that is
// counted, while rules change and time goes by.
func TestFastIsSlow(tt *testing.T) {
	took := 0
	rapid.Check(tt, func(t *rapid.T) {
		slow, fast := newRig(tt), &cache{rig: newRig(tt)}
		rules := []ipl.Rule{
			aRule(ipl.Block, false), aRule(ipl.Block, true),
			aRule(ipl.Pass, false, quick, keepState, tcp, func(x *ipl.Rule) { x.If = "en0" }),
			aRule(ipl.Pass, false, quick, keepState, udp, func(x *ipl.Rule) { x.If, x.Dst.Port = "en0", ipl.Port{Op: ipl.PortEq, Lo: 53} }),
			aRule(ipl.Count, true, udp),
			aRule(ipl.Pass, false, udp), aRule(ipl.Pass, true, quick, udp, func(x *ipl.Rule) { x.Src.Port = ipl.Port{Op: ipl.PortNe, Lo: 53} }),
		}
		slow.load(rules...)
		fast.load(rules...)
		seq := [2]uint32{100, 200}
		for n := range rapid.IntRange(1, 60).Draw(t, "packets") {
			back := rapid.Bool().Draw(t, "back")
			src, dst, me := inner, outer, 0
			if back {
				src, dst, me = outer, inner, 1
			}
			var b []byte
			switch rapid.IntRange(0, 9).Draw(t, "kind") {
			case 0, 1, 2, 3, 4:
				flags := rapid.SampledFrom([]uint8{ack, ack, ack, ack, ack, ack, syn, syn | ack, fin | ack, rst}).Draw(t, "flags")
				size := rapid.IntRange(0, 100).Draw(t, "size")
				at := seq[me] + rapid.SampledFrom([]uint32{0, 0, 0, 0, 5000, ^uint32(50)}).Draw(t, "beside")
				sport, dport := uint16(9), uint16(80)
				if back {
					sport, dport = dport, sport
				}
				b = seg(src, dst, sport, dport, flags, at, seq[1-me], 1000, size)
				if at == seq[me] {
					seq[me] += uint32(size)
					if flags&(syn|fin) != 0 {
						seq[me]++
					}
				}
			case 5, 6, 7:
				sport, dport := uint16(1025), rapid.SampledFrom([]uint16{53, 54}).Draw(t, "port")
				if back {
					sport, dport = dport, sport
				}
				b = datagram(src, dst, sport, dport)
			case 8:
				for _, r := range []*rig{slow, fast.rig} {
					r.pass([]int{1, 100, 300}[n%3])
				}
				continue
			default:
				at := rapid.IntRange(0, 1).Draw(t, "edit")
				x := aRule(ipl.Count, at == 1, func(x *ipl.Rule) { x.LogTag = n })
				for _, r := range []*rig{slow, fast.rig} {
					if err := r.Edit([]Op{{Kind: Add, Rule: x}}); err != nil {
						t.Fatal(err)
					}
				}
				continue
			}
			hooks := slow.forth
			if back {
				hooks = slow.back
			}
			if got, want := fast.forward(slices.Clone(b), back), hooks(b); got != want {
				t.Fatalf("packet %d passed: %v, the hooks say %v", n, got, want)
			}
			if got, want := fast.all(), slow.all(); got != want {
				t.Fatalf("packet %d:\n%s\nthe hooks have\n%s", n, got, want)
			}
		}
		took += fast.took
	})
	if took == 0 {
		tt.Error("no packet took the fast path")
	}
	tt.Logf("%d packets took the fast path", took)
}

// BenchmarkState is a segment of a known connection: on the fast path, and at both hooks.
func BenchmarkState(b *testing.B) {
	r := &cache{rig: newRig(b)}
	stateful(r.rig)
	r.connect()
	data := c2s(ack, 101, 201, 0)
	p := r.env.Pool.Get(len(data))
	copy(p.Append(len(data)), data)
	defer p.Free()
	p.MarkL3(0)
	p.MarkL4(packet.IPv4Len)
	p.RcvIf = r.en0.Index
	p.Came.Flow4(packet.IPv4(data), r.en0.Index)
	r.w.Start(r.now)
	defer r.w.Finish()
	k, ok := r.Track(r.w, r.en0, r.en1, &p.Came, p)
	if !ok {
		b.Fatal("the connection is not tracked")
	}
	b.Run("fast", func(b *testing.B) {
		for b.Loop() {
			if !k.Track(r.w, p) {
				b.Fatal("a segment is not tracked")
			}
		}
	})
	b.Run("hooks", func(b *testing.B) {
		for b.Loop() {
			if r.In(r.w, r.en0, p) == nil || r.Out(r.w, r.en1, p) == nil {
				b.Fatal("a segment is blocked")
			}
		}
	})
}
