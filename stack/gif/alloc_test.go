package gif_test

import (
	"testing"
	"time"

	"ionet/stack/netif"
	"ionet/stack/packet"
	rig "ionet/stack/stacktest"
)

// sunk is a driver that frees.
type sunk struct{}

func (sunk) Transmit(_ *netif.Interface, burst []*packet.Buf) { packet.FreeBurst(burst) }

// Neither way costs an allocation, nor the way through.
func TestNoAllocation(t *testing.T) {
	for _, tc := range []struct {
		name, outer string
		proto       uint8
	}{{"IPv6 in IPv4", "10.0.0.", 41}, {"IPv6 in IPv6", "2001:db8::", 41}, {"IPv4 in IPv4", "10.0.0.", 4}, {"IPv4 in IPv6", "2001:db8::", 4}} {
		r := rig.Bare(t, rig.Dual)
		mac := netif.MAC{2, 0, 0, 0, 0, 1}
		r.If = netif.New(netif.Config{Name: "sink0", MTU: 1500, MAC: mac, Driver: sunk{},
			Flags: netif.FlagBroadcast | netif.FlagSimplex | netif.FlagMulticast | netif.FlagRunning})
		if err := r.AddInterface(r.If); err != nil {
			t.Fatal(err)
		}
		r.Addr(r.If, "10.0.0.1/24")
		r.Addr(r.If, "2001:db8::1/64")
		for _, ip := range []string{"10.0.0.2", "2001:db8::2"} {
			if err := r.AddNeighbour(r.If, said(ip), rig.Peer, 0, 0); err != nil {
				t.Fatal(err)
			}
		}
		r.Sysctl("net.inet.ip.forwarding", "1")
		r.Sysctl("net.inet6.ip6.forwarding", "1")
		gif(r, "gif0", tc.outer+"1", tc.outer+"2", "10.9.0.1/24", "2001:db8:9::1/64")
		r.Pass(20 * time.Second)
		in, out := ip4(rig.IP{Src: "10.9.0.2", Dst: "10.0.0.2", Proto: 99}), ip4(rig.IP{Src: "10.0.0.2", Dst: "10.9.0.2", Proto: 99})
		if tc.proto == packet.ProtoIPv6 {
			in, out = ip6(0, "2001:db8:9::2", "2001:db8::2", 99, nil), ip6(0, "2001:db8::2", "2001:db8:9::2", 99, nil)
		}
		wrapped := ip4(rig.IP{Src: "10.0.0.2", Dst: "10.0.0.1", Proto: tc.proto, Data: in})
		if tc.outer != "10.0.0." {
			wrapped = ip6(0, "2001:db8::2", "2001:db8::1", tc.proto, in)
		}
		work, burst := r.Env.NewWork(), make([]*packet.Buf, 1)
		for way, f := range map[string][]byte{"in": frame(1, 2, wrapped), "out": frame(1, 2, out)} {
			was := count(r, "received") + count(r, "sent")
			if n := testing.AllocsPerRun(100, func() {
				burst[0] = r.Env.Pool.Get(len(f))
				copy(burst[0].Append(len(f)), f)
				r.Input(work, r.Now(), r.If, burst)
			}); n != 0 {
				t.Errorf("%s, %s: %v allocations, want none", tc.name, way, n)
			}
			if n := count(r, "received") + count(r, "sent") - was; n != 101 {
				t.Errorf("%s, %s: %d packets went through the tunnel, want 101", tc.name, way, n)
			}
		}
	}
}
