package ipsec

import (
	"errors"
	"net/netip"
	"syscall"
	"testing"

	"ionet/stack/crypt"
	"ionet/stack/mib"
	"ionet/stack/packet"
)

// When its numbers are over, an SA sends nothing more, and that is counted; one that may begin again goes on.
func TestExhausted(t *testing.T) {
	x := bare()
	w := x.env.NewWork()
	for _, spec := range []Spec{
		{Proto: packet.ProtoESP, Ealg: crypt.EalgAESGCM16, Ekey: make([]byte, 20)},
		{Proto: packet.ProtoAH, Aalg: crypt.AalgHMACSHA256, Akey: make([]byte, 32)},
	} {
		for _, cyclic := range []bool{false, true} {
			spec.SPI += 1001
			spec.Mode, spec.Cyclic = ModeTransport, cyclic
			spec.Src, spec.Dst = netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2")
			s, err := x.Add(spec)
			if err != nil {
				t.Fatal(err)
			}
			before := x.env.MIB.Count(s.stats.proto.wrap)
			for n, last := range []uint64{1<<32 - 3, 1<<32 - 2, 1<<32 - 1} {
				s.seq.Store(last)
				w.Start(1)
				pkt := x.env.Pool.Get(100)
				packet.PutIPv4(pkt.Append(30), 0, 30, 1, 0, 64, packet.ProtoUDP, spec.Src, spec.Dst, nil)
				pkt, err := x.transform(w, pkt, &bundle{n: 1, sa: [maxBundle]*SA{s}})
				if over := n == 2 && !cyclic; over != errors.Is(err, syscall.EOVERFLOW) || !over && err != nil {
					t.Errorf("protocol %d, cyclic %v, after %d: %v", spec.Proto, cyclic, last, err)
				}
				if err == nil {
					pkt.Free()
				}
				w.Finish()
			}
			want := uint64(1)
			if cyclic {
				want = 0
			}
			if n := x.env.MIB.Count(s.stats.proto.wrap) - before; n != want {
				t.Errorf("protocol %d, cyclic %v: %d are counted", spec.Proto, cyclic, n)
			}
		}
	}
	if n := x.env.Pool.Bufs(); n != 0 {
		t.Errorf("%d buffers are kept", n)
	}
}

// Every algorithm has a line of its own in each histogram that it belongs to.
func TestHistograms(t *testing.T) {
	x := bare()
	seen := map[mib.Counter]string{}
	for proto, all := range map[uint8][]crypt.Algorithm{packet.ProtoESP: crypt.Ealgs(), packet.ProtoAH: crypt.Aalgs(), packet.ProtoIPComp: crypt.Calgs()} {
		for _, dst := range []string{"10.0.0.2", "2001:db8::2"} {
			for _, a := range all {
				s := &SA{Spec: Spec{Proto: proto, Ealg: a.Number, Aalg: a.Number, Calg: a.Number, Dst: netip.MustParseAddr(dst)}, x: x}
				s.findStats()
				for _, c := range []mib.Counter{s.stats.in, s.stats.out} {
					if was, there := seen[c]; there {
						t.Errorf("%s counts with %s", a.Name, was)
					}
					seen[c] = a.Name
				}
				for _, c := range []mib.Counter{s.stats.in, s.stats.out, s.stats.proc} {
					if i := c.Info(); i.Heading == "" || i.Sentence != a.Name+": #" {
						t.Errorf("%s: %+v", a.Name, i)
					}
				}
			}
		}
	}
}

// Counting costs no allocation.
func TestCountingAllocates(t *testing.T) {
	x := bare()
	w := x.env.NewWork()
	s := &SA{Spec: Spec{Proto: packet.ProtoESP, Ealg: crypt.EalgAESGCM16, Dst: netip.MustParseAddr("10.0.0.2")}, x: x}
	s.findStats()
	count := func() {
		w.Start(1)
		s.wentOut(w, 100)
		s.cameIn(w, 100)
		w.Finish()
	}
	count()
	if n := testing.AllocsPerRun(100, count); n != 0 {
		t.Errorf("%v allocations a packet", n)
	}
}
