package stack_test

import (
	"fmt"
	"net/netip"

	"ionet/stack/packet"
	rig "ionet/stack/stacktest"
)

// tunnel makes a gif with an address of IPv4 inside.
func tunnel(r *rig.Rig, name, src, dst, addr string) {
	ifp, err := r.AddTunnel(name)
	if err == nil {
		err = r.SetTunnel(ifp, netip.MustParseAddr(src), netip.MustParseAddr(dst))
	}
	if err != nil {
		r.Fatal(err)
	}
	r.Addr(ifp, addr)
}

// outside is what a datagram to ip leaves as.
func outside(r *rig.Rig, ip string) []byte {
	_ = r.UDP("").SendTo(ip+":9", "hello")
	if out := r.Sent(); len(out) > 0 {
		return out[0][packet.EtherLen:]
	}
	return nil
}

// gifEffects are the nodes of stack/gif.
var gifEffects = map[string]effect{
	"net.inet.ip.gifttl": {"7", "", func(r *rig.Rig) string {
		r.Meet("10.0.0.2")
		tunnel(r, "gif0", "10.0.0.1", "10.0.0.2", "10.9.0.1/24")
		return fmt.Sprint(packet.IPv4(outside(r, "10.9.0.2")).TTL())
	}, "30", "7"},
	"net.inet6.ip6.gifhlim": {"7", "", func(r *rig.Rig) string {
		met(r)
		tunnel(r, "gif0", "2001:db8::1", "2001:db8::2", "10.9.0.1/24")
		return fmt.Sprint(packet.IPv6(outside(r, "10.9.0.2")).HopLimit())
	}, "30", "7"},
	"net.inet6.ip6.gifencaplimit": {"4", "", func(r *rig.Rig) string {
		met(r)
		tunnel(r, "gif0", "2001:db8::1", "2001:db8::2", "10.9.0.1/24")
		h := packet.IPv6(outside(r, "10.9.0.2"))
		if h.Next() != packet.ProtoDstOpts {
			return fmt.Sprint("none, ", h.Next())
		}
		return fmt.Sprint(h.Payload()[:8])
	}, "none, 4", "[4 0 4 1 4 1 1 0]"},
	"net.link.gif.max_nesting": {"2", "", func(r *rig.Rig) string {
		r.Meet("10.0.0.2")
		tunnel(r, "gif0", "10.0.0.1", "10.0.0.2", "10.9.0.1/24")
		tunnel(r, "gif1", "10.9.0.1", "10.9.0.2", "10.8.0.1/24")
		return fmt.Sprint(len(outside(r, "10.8.0.2")))
	}, "0", "73"},
	"net.link.stf.permit_rfc1918": {"1", "", func(r *rig.Rig) string {
		ifp, err := r.AddTunnel("stf0")
		if err != nil {
			r.Fatal(err)
		}
		return fmt.Sprint(r.Gif.CheckAddr(ifp, netip.MustParseAddr("2002:a00:1::1")) == nil) // 10.0.0.1's
	}, "false", "true"},
}
