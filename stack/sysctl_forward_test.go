package stack_test

import (
	"fmt"
	"net/netip"

	"ionet/stack"
	"ionet/stack/netif"
	"ionet/stack/packet"
	rig "ionet/stack/stacktest"
)

// across sends a datagram from station 2 of en0, or from elsewhere by way of it,
// to station 2 of en1 n times, and reports how many have come out.
func across(src, dst string, n int) func(r *rig.Rig) int {
	from, to := netip.MustParseAddr(src), netip.MustParseAddr(dst)
	return func(r *rig.Rig) int {
		en1 := r.AddIf("en1", rig.Me1, "")
		for ifp, a := range map[*netif.Interface][2]string{r.If: {"10.0.0.1/24", "2001:db8::1/64"}, en1: {"10.0.1.1/24", "2001:db8:1::1/64"}} {
			for _, s := range a {
				p := netip.MustParsePrefix(s)
				_ = r.AddAddr(ifp, stack.AddrSpec{Addr: p.Addr(), Bits: p.Bits()}) // en0 has its first
			}
		}
		if err := r.AddNeighbour(en1, to, rig.Peer1, 0, 0); err != nil {
			r.Fatal(err)
		}
		r.Sent()
		var f []byte
		if to.Is4() {
			f = rig.IP{Src: src, Dst: dst, Proto: 99, Data: make([]byte, 8)}.Frame()
		} else {
			f = make([]byte, packet.EtherLen+packet.IPv6Len+8)
			packet.PutEther(f, rig.Me, rig.Peer, packet.EtherIPv6)
			packet.PutIPv6(f[packet.EtherLen:], 0, 0, 8, 99, 64, from, to)
		}
		for range n {
			r.SendWire(f)
		}
		return len(r.Sent())
	}
}

func fastOf(proto, src, dst string) func(r *rig.Rig) string {
	return func(r *rig.Rig) string {
		n := across(src, dst, 3)(r)
		return fmt.Sprintf("%d sent, %d of them fast", n, rig.Counter(r.Stack, proto, "fast forwarded"))
	}
}

func comesThrough(src, dst string) func(r *rig.Rig) string {
	return func(r *rig.Rig) string { return fmt.Sprint(across(src, dst, 1)(r), " sent") }
}

var forwardEffects = map[string]effect{
	"net.inet.ip.maxflows": {"0", "net.inet.ip.forwarding=1", fastOf("ip", "10.0.0.2", "10.0.1.2"),
		"3 sent, 2 of them fast", "3 sent, 0 of them fast"},
	"net.inet6.ip6.maxflows": {"0", "net.inet6.ip6.forwarding=1", fastOf("ip6", "2001:db8::2", "2001:db8:1::2"),
		"3 sent, 2 of them fast", "3 sent, 0 of them fast"},
	"net.inet.ip.rpf": {"1", "net.inet.ip.forwarding=1", comesThrough("10.0.1.9", "10.0.1.2"), "1 sent", "0 sent"},
	"net.inet6.ip6.rpf": {"1", "net.inet6.ip6.forwarding=1", comesThrough("2001:db8:1::9", "2001:db8:1::2"),
		"1 sent", "0 sent"},
}
