package ipsec

import (
	"fmt"
	"net/netip"
	"regexp"
	"strings"
	"testing"

	"ionet/test/vm"
)

// tunnel has gateway i send what goes from one network to another through the tunnel from its outer address, and want what
// comes back to have come through the other; neither end need have such a network.
func (v *vpn) tunnel(i int, own, other netip.Prefix) string {
	gcm := tunnelSuites[0].suite
	v6 := own.Addr().Is6()
	conf := "flush; spdflush;\n"
	for from := range v.gw {
		to := 1 - from
		sa := vm.SA{Proto: "esp", Mode: "tunnel", Src: v.outer(from, v6), Dst: v.outer(to, v6), SPI: 0x1000 * uint32(1+from), Enc: gcm.enc}
		src, dst, dir := own, other, "out"
		if from != i {
			src, dst, dir = other, own, "in"
		}
		conf += cell{}.add(sa) + fmt.Sprintf("spdadd %v %v any -P %s ipsec esp/tunnel/%v-%v/require;\n", src, dst, dir, sa.Src, sa.Dst)
	}
	return conf
}

func (v *vpn) setkey(i int, conf string) {
	v.t.Helper()
	v.gw[i].Must("setkey", "-f", v.gw[i].Write("setkey.conf", conf, 0o600))
}

// sources are the outer addresses of ESP packets of a gateway, and whatever else is among the frames.
func (v *vpn) sources(frames [][]byte) string {
	seen := map[string]bool{}
	for _, f := range frames {
		if h := headOf(f); h.dst != v.outer(0, h.dst.Is6()) {
			seen[fmt.Sprintf("%d from %v", h.proto, h.src)] = true
		}
	}
	var all []string
	for s := range seen {
		all = append(all, s)
	}
	return strings.Join(all, ", ")
}

// TestNATBeforeTunnel: with pfil_ipsec addresses are translated before policies are asked, and back when packets have come out of the
// tunnel, at enc0.
func TestNATBeforeTunnel(t *testing.T) {
	v := newVPN(t, ",pfil_ipsec")
	g := v.gw[0]
	g.Must("ifconfig", "enc0", "create")
	g.Must("ifconfig", "enc0", "up")
	g.Must("mount", "-Ttcpip", "lsm-ipfilter.so")
	g.Must("ipnat", "-CF", "-f", g.Write("ipnat.conf", "map enc0,en1 10.1.0.0/24 -> 10.9.0.1/32 portmap tcp/udp 20000:60000\nmap enc0,en1 10.1.0.0/24 -> 10.9.0.1/32\n"+
		"nptv6 en1 2001:db8:1::/64 -> 2001:db8:99::/64\nnptv6 enc0 2001:db8:1::/64 -> 2001:db8:99::/64\n", 0o644))
	v.ns[0].Exec("ip", "link", "set", "tap0", "mtu", "1400") // who is told what fits is the translated sender
	for _, v6 := range []bool{false, true} {
		t.Run(map[bool]string{false: "v4", true: "v6"}[v6], func(t *testing.T) {
			v := *v
			v.t = t
			// The policies are about the translated addresses alone.
			as, pattern := netip.MustParsePrefix("10.9.0.1/32"), `10\.9\.0\.1`
			if v6 {
				as, pattern = netip.MustParsePrefix("2001:db8:99::/64"), `2001:db8:99:`
			}
			v.setkey(0, v.tunnel(0, as, v.network(1, v6)))
			v.setkey(1, v.tunnel(1, v.network(1, v6), as))
			var inner [][]byte
			outer := v.watches(0, "en1", func() {
				inner = v.watches(1, "en0", func() {
					for _, size := range []string{"56", "1200"} {
						v.reaches(0, v.host(1, v6), "-s", size)
					}
					if err := echoesOn(v.dial(0, v.listen(1, v6)), 100_000); err != nil {
						t.Error(err)
					}
				})
			})
			if got, want := v.sources(outer), fmt.Sprintf("50 from %v", v.outer(0, v6)); got != want {
				t.Errorf("between the gateways: %q, want %q", got, want)
			}
			for _, f := range inner {
				if h := headOf(f); h.src != v.host(1, v6) && !regexp.MustCompile("^"+pattern).MatchString(h.src.String()) {
					t.Errorf("seen behind the tunnel: %v to %v", h.src, h.dst)
				}
			}
		})
	}
}

// TestNATAfterTunnel: without pfil_ipsec what is translated is the tunnel's own header.
func TestNATAfterTunnel(t *testing.T) {
	v := newVPN(t, "")
	g := v.gw[0]
	g.Must("mount", "-Ttcpip", "lsm-ipfilter.so")
	g.Must("ipnat", "-CF", "-f", g.Write("ipnat.conf", "map en1 10.1.0.0/24 -> 10.9.0.1/32\nmap en1 192.0.2.1/32 -> 192.0.2.77/32\n", 0o644))
	v.key(false, false, tunnelSuites[0].suite)
	var inner [][]byte
	outer := v.watches(0, "en1", func() {
		inner = v.watches(1, "en0", func() { v.reaches(0, v.host(1, false)) })
	})
	if got := v.sources(outer); !strings.Contains(got, "50 from 192.0.2.77") || strings.Contains(got, "50 from 192.0.2.1,") {
		t.Errorf("between the gateways: %q", got)
	}
	if len(inner) != 2 || headOf(inner[0]).src != v.host(0, false) {
		t.Errorf("behind the tunnel: % x", inner)
	}
}

// TestEnc: what comes out of a tunnel is shown by enc0 while that is up, to captures and to the filter.
func TestEnc(t *testing.T) {
	v := newVPN(t, "")
	g := v.gw[1]
	g.Must("mount", "-Ttcpip", "lsm-ipfilter.so")
	g.Must("ipf", "-Fa", "-f", g.Write("ipf.conf", "block in log on enc0 proto icmp all\nblock in on enc0 proto ipv6-icmp all\n", 0o644))
	for _, v6 := range []bool{false, true} {
		t.Run(map[bool]string{false: "v4", true: "v6"}[v6], func(t *testing.T) {
			v := *v
			v.t = t
			v.key(v6, v6, tunnelSuites[0].suite)
			to := v.listen(1, v6)
			v.reaches(0, v.host(1, v6)) // there is no enc0
			g := g.For(t)
			g.Must("ifconfig", "enc0", "create")
			g.Must("ifconfig", "enc0", "up")
			caught := v.watches(1, "enc0", func() {
				if out := v.pings(0, v.host(1, v6), "-W", "0.5"); !strings.Contains(out, " 100% packet loss") {
					t.Errorf("ping, against a rule:\n%s", out)
				}
				if err := echoesOn(v.dial(0, to), 10_000); err != nil {
					t.Error(err)
				}
			})
			protos := map[byte]int{}
			for _, f := range caught {
				h := headOf(f)
				if protos[h.proto]++; h.src != v.host(0, v6) || h.dst != v.host(1, v6) {
					t.Errorf("%v to %v at enc0", h.src, h.dst)
				}
			}
			icmp := map[bool]byte{false: 1, true: 58}[v6]
			if protos[icmp] != 1 || protos[6] < 5 || len(protos) != 2 {
				t.Errorf("seen at enc0, by protocol: %v", protos)
			}
			if out := g.Must("ipfstat", "-ioh"); !regexp.MustCompile(`(?m)^1 block in .*enc0 proto (icmp|ipv6-icmp)`).MatchString(out) {
				t.Errorf("ipfstat:\n%s", out)
			}
			g.Must("ifconfig", "enc0", "down")
			v.reaches(0, v.host(1, v6))
			g.Must("ifconfig", "enc0", "destroy")
			v.reaches(0, v.host(1, v6))
		})
	}
}
