package ipsec

import (
	"net/netip"
	"testing"

	"ionet/stack/crypt"
	"ionet/stack/packet"
)

// A packet does not wait for an SA that came while it began to wait.
func TestAcquiredMeanwhile(t *testing.T) {
	x := bare()
	src, dst := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2")
	p := &Policy{Dir: Out, Kind: Protect, Requests: []Request{{Proto: packet.ProtoESP, Mode: ModeTransport, Level: Require}}}
	p.Src, p.Dst, p.Proto = netip.PrefixFrom(src, 32), netip.PrefixFrom(dst, 32), AnyProto
	if err := x.AddPolicy(p); err != nil {
		t.Fatal(err)
	}
	k := flowKey{srcLo: 10<<24 | 1, dstLo: 10<<24 | 2, proto: packet.ProtoUDP, from: 1000, to: 53, dir: Out}
	wait := func(f *flow) {
		t.Helper()
		pkt := x.env.Pool.Get(packet.IPv4Len)
		packet.PutIPv4(pkt.Append(packet.IPv4Len), 0, packet.IPv4Len, 1, 0, 64, packet.ProtoUDP, src, dst, nil)
		pkt.MarkL3(0)
		w := x.env.Begin(x.env.Now())
		defer w.End()
		_ = x.wait.want(w, pkt, f, &f.policy.Requests[0])
	}
	f := x.look(&k, nil)
	wait(f)
	if x.wait.waiting != 1 || x.env.Pool.Bufs() != 1 {
		t.Fatalf("%d packets wait, %d buffers", x.wait.waiting, x.env.Pool.Bufs())
	}
	for c, n := range x.wait.wanted { // map order: there is one
		x.wait.forget(c, n)
	}
	if _, err := x.Add(Spec{Proto: packet.ProtoESP, SPI: 1000, Src: src, Dst: dst, Mode: ModeTransport, Ealg: crypt.EalgAESGCM16, Ekey: make([]byte, 20)}); err != nil {
		t.Fatal(err)
	}
	wait(f) // found before
	if x.wait.waiting != 0 || len(x.wait.wanted) != 0 || x.env.Pool.Bufs() != 0 {
		t.Errorf("%d packets wait in %d places, %d buffers", x.wait.waiting, len(x.wait.wanted), x.env.Pool.Bufs())
	}
}
