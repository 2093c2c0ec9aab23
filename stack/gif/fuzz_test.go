package gif_test

import (
	"testing"
	"time"

	"ionet/stack/netif"
	"ionet/stack/packet"
	rig "ionet/stack/stacktest"
)

// FuzzDecapsulation feeds what is behind an outer header to a router with every kind
// of tunnel: as protocol 4 or 41, in IPv4 or IPv6, or as what an error quotes.
// Nothing panics, and nothing is left over.
func FuzzDecapsulation(f *testing.F) {
	six, four := ip6(3, "2001:db8:9::2", "2001:db8:9::1", packet.ProtoUDP, udp6("2001:db8:9::2", "2001:db8:9::1", 5)),
		ip4(rig.IP{Src: "10.9.0.2", Dst: "10.9.0.1", Proto: 17, TOS: 2, Data: udp6("10.9.0.2", "10.9.0.1", 5)})
	for how := range byte(6) {
		f.Add(how, byte(0), six)
		f.Add(how, byte(3), four)
		f.Add(how, byte(1), ip4(rig.IP{Src: "10.0.0.2", Dst: "10.0.0.1", Proto: 4, Data: four})) // one in the other
		f.Add(how, byte(2), ip6(0, two6, one6, packet.ProtoUDP, udp6(two6, one6, 5)))
	}
	f.Fuzz(func(t *testing.T, how, tos byte, inner []byte) {
		if len(inner) > 1400 {
			return
		}
		r := station(t, 1)
		r.Addr(r.If, "198.51.100.1/24")
		r.Sysctl("net.inet.ip.forwarding", "1")
		r.Sysctl("net.inet6.ip6.forwarding", "1")
		for _, ip := range []string{"10.0.0.2", "198.51.100.2", "2001:db8::2"} {
			if err := r.AddNeighbour(r.If, said(ip), netif.MAC{2, 0, 0, 0, 0, 2}, 0, 0); err != nil {
				t.Fatal(err)
			}
		}
		gif(r, "gif0", "10.0.0.1", "10.0.0.2", "10.9.0.1/24", "2001:db8:9::1/64")
		gif(r, "gif1", "2001:db8::1", "2001:db8::2", "10.8.0.1/24", "2001:db8:8::1/64")
		r.Addr(create(r, "stf0"), one6+"/16")
		udp(r, 9)
		r.Pass(5 * time.Second)
		proto := uint8(packet.ProtoIPv4)
		if how&1 != 0 {
			proto = packet.ProtoIPv6
		}
		var pkt []byte
		switch how / 2 % 4 {
		case 0:
			pkt = ip4(rig.IP{Src: "10.0.0.2", Dst: "10.0.0.1", Proto: proto, TOS: tos, Data: inner})
		case 1:
			pkt = ip6(tos, "2001:db8::2", "2001:db8::1", proto, inner)
		case 2:
			pkt = ip4(rig.IP{Src: "198.51.100.2", Dst: "198.51.100.1", Proto: proto, TOS: tos, Data: inner})
		case 3:
			sent := ip4(rig.IP{Src: "10.0.0.1", Dst: "10.0.0.2", Proto: proto, Data: inner})
			pkt = ip4(rig.IP{Src: "10.0.0.9", Dst: "10.0.0.1", Proto: packet.ProtoICMP, Data: rig.ICMP(packet.ICMPUnreach, tos&15, 1400, sent)})
		}
		r.Send(frame(1, 2, pkt))
		r.Sent()
	})
}
