package ipsec

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"ionet/test/need"
	"ionet/test/vm"
)

// tunnelSuites are what gateways protect packets with, and the lengths that it adds and asks for (RFC 4303 §2).
var tunnelSuites = []struct {
	suite
	iv, icv, align int
}{
	{suite{"AES-GCM", "esp", vm.NewAlg("aes-gcm-16", 20, 7), vm.Alg{}}, 8, 16, 4},
	{suite{"AES-CBC", "esp", vm.NewAlg("aes-cbc", 32, 7), vm.NewAlg("hmac-sha2-256", 32, 9)}, 16, 16, 16},
}

// inside is the largest packet that fits into a tunnel whose own may have mtu.
func inside(mtu, iv, icv, align int, outer6 bool) int {
	room := mtu - 20 - 8 - iv - icv
	if outer6 {
		room -= 20
	}
	return room/align*align - 2
}

var inOut = []struct {
	name           string
	inner6, outer6 bool
}{{"4in4", false, false}, {"4in6", false, true}, {"6in4", true, false}, {"6in6", true, true}}

// TestGateways: kernels behind two gateways reach each other through a tunnel, whichever family is in which; what does not fit is
// said exactly, streams find it out by themselves, and the packets between the gateways are all ESP.
func TestGateways(t *testing.T) {
	v := newVPN(t, "")
	for _, f := range inOut {
		for _, s := range tunnelSuites {
			t.Run(f.name+" "+s.name, func(t *testing.T) {
				v := *v
				v.t = t
				v.key(f.inner6, f.outer6, s.suite)
				v.forget()
				a, b := v.host(0, f.inner6), v.host(1, f.inner6)
				headers, told := 28, `Frag needed and DF set \(mtu = (\d+)\)`
				if f.inner6 {
					headers, told = 48, `Packet too big: mtu=(\d+)`
				}
				mtu := inside(1500, s.iv, s.icv, s.align, f.outer6)
				caught := v.watches(0, "en1", func() {
					for _, size := range []string{"0", "56", "1200"} {
						v.reaches(0, b, "-s", size)
						v.reaches(1, a, "-s", size)
					}
					// To the octet: what fits with DF, and what the sender of one more is told.
					v.reaches(0, b, "-M", "do", "-s", fmt.Sprint(mtu-headers))
					for _, size := range []int{mtu + 1, 1500} {
						v.forget()
						out := v.pings(0, b, "-M", "do", "-s", fmt.Sprint(size-headers))
						if m := regexp.MustCompile(told).FindStringSubmatch(out); m == nil || m[1] != fmt.Sprint(mtu) || !strings.Contains(out, "From "+v.router(0, f.inner6).String()) {
							t.Errorf("%d octets, want told of %d:\n%s", size, mtu, out)
						}
					}
					v.forget()
					// Without DF everything goes; with IPv6 each sender is told once, and cuts.
					for _, size := range []int{mtu, mtu + 1, 1500, 3000, 20000} {
						if f.inner6 && size == mtu+1 {
							v.pings(0, b, "-M", "dont", "-s", "1452", "-c", "3", "-i", "0.1", "-W", "0.2")
						}
						v.reaches(0, b, "-M", "dont", "-s", fmt.Sprint(size-headers))
					}
				})
				spis := map[uint32]int{}
				for _, frame := range caught {
					h := headOf(frame)
					if h.proto != 50 || h.dst != v.outer(0, f.outer6) && h.dst != v.outer(1, f.outer6) {
						t.Fatalf("between the gateways: protocol %d, %v to %v: % x", h.proto, h.src, h.dst, frame)
					}
					if len(frame) > 14+1500 {
						t.Errorf("a frame of %d octets", len(frame))
					}
					if !h.later {
						spis[binary.BigEndian.Uint32(h.rest)]++
					}
				}
				if len(spis) != 2 || spis[0x1000] < 12 || spis[0x2000] < 12 {
					t.Errorf("associations by the packets that they carried: %v", spis)
				}
				v.forget()
				c := v.dial(0, v.listen(1, f.inner6))
				if err := echoesOn(c, 3_000_000); err != nil {
					t.Error(err)
				}
			})
		}
	}
}

// TestGatewayDF: net.inet.ipsec.dfbit says what a tunnel's header has of DF, and packets that may be cut come through all the same.
func TestGatewayDF(t *testing.T) {
	v := newVPN(t, "")
	b := v.host(1, false)
	v.key(false, false, tunnelSuites[0].suite)
	for _, tc := range []struct {
		dfbit          string
		small, smallDF string // the fragment words of the outer headers, of packets without DF and with
		whole          string // of one without DF that fills the link
	}{
		{"0", "0000", "0000", "2000 00b9"},
		{"1", "4000", "4000", ""}, // there is no way to cut it; the sender is told
		{"2", "0000", "4000", "2000 00b9"},
	} {
		v.gw[0].Must("sysctl", "-w", "net.inet.ipsec.dfbit="+tc.dfbit)
		for _, p := range []struct{ df, size, want string }{{"dont", "100", tc.small}, {"do", "100", tc.smallDF}, {"dont", "1472", tc.whole}} {
			var words []string
			out := ""
			caught := v.watches(0, "en1", func() { out = v.pings(0, b, "-M", p.df, "-s", p.size) })
			for _, frame := range caught {
				if headOf(frame).src == v.outer(0, false) {
					words = append(words, fmt.Sprintf("%x", frame[14+6:14+8]))
				}
			}
			want := " 0% packet loss"
			if p.want == "" {
				want = "From 10.1.0.1 icmp_seq=1 Frag needed and DF set (mtu = 1446)"
			}
			if got := strings.Join(words, " "); got != p.want || !strings.Contains(out, want) {
				t.Errorf("dfbit=%s, -M %s -s %s: %q, want %q\n%s", tc.dfbit, p.df, p.size, got, p.want, out)
			}
		}
		v.forget()
	}
}

// TestGatewayClasses: differentiated services are seen outside of a tunnel, and congestion marks of the path between the gateways come
// to the inner packet, as net.inet.ipsec.ecn says (RFC 6040).
func TestGatewayClasses(t *testing.T) {
	l := newLine(t)
	v := newVPN(t, "", l.driver(toKernel), l.driver(toStack))
	const ef, notECT, ect0, ce, lost = 0xb8, 0, 2, 3, -1
	classAt := func(frame []byte) byte { // of a frame whose packet is of either version
		if p := frame[14:]; p[0]>>4 == 6 {
			return p[0]<<4 | p[1]>>4
		}
		return frame[15]
	}
	for _, v6 := range []bool{false, true} {
		v.key(v6, v6, tunnelSuites[0].suite)
		node := map[bool]string{false: "net.inet.ipsec.ecn", true: "net.inet6.ipsec6.ecn"}[v6]
		for _, tc := range []struct {
			ecn          string
			sent         int
			marked       bool // on the way
			outer, inner int
		}{
			{"1", notECT, false, notECT, notECT}, {"1", ect0, false, ect0, ect0}, {"1", ce, false, ce, ce},
			{"1", ect0, true, ect0, ce}, {"1", notECT, true, notECT, lost},
			{"0", ect0, false, notECT, ect0}, {"0", ect0, true, notECT, ect0}, {"0", notECT, true, notECT, notECT},
			{"-1", ect0, false, ect0, ect0}, {"-1", ect0, true, ect0, ect0}, {"-1", notECT, true, notECT, notECT},
		} {
			for _, g := range v.gw {
				g.Must("sysctl", "-w", node+"="+tc.ecn)
			}
			outer := make(chan byte, 10)
			l.alters(func(w way, frame []byte) {
				h := headOf(frame)
				if w != toStack || h.proto != 50 {
					return
				}
				outer <- classAt(frame)
				if !tc.marked {
					return
				}
				if p := frame[14:]; v6 {
					p[1] |= ce << 4
				} else {
					p[1] |= ce
					p[10], p[11] = 0, 0
					binary.BigEndian.PutUint16(p[10:], sum(p[:20]))
				}
			})
			inner := lost
			for _, frame := range v.watches(1, "en0", func() { v.pings(0, v.host(1, v6), "-Q", fmt.Sprint(ef|tc.sent), "-W", "0.5") }) {
				if headOf(frame).src == v.host(0, v6) {
					inner = int(classAt(frame))
				}
			}
			l.alters(nil)
			want := tc.inner
			if want != lost {
				want |= ef
			}
			if got := <-outer; int(got) != ef|tc.outer || inner != want {
				t.Errorf("v6 %v, %+v: class %#x outside, %#x inside", v6, tc, got, inner)
			}
		}
		if out := v.gw[1].Must("netstat", "-s", "-p", map[bool]string{false: "ipsec", true: "ipsec6"}[v6]); !strings.Contains(out, "\t1 inbound packet dropped that had met congestion and could not be marked\n") {
			t.Errorf("what could not be marked is not counted:\n%s", out)
		}
	}
}

// TestGatewayTools: what people look at a VPN with.
func TestGatewayTools(t *testing.T) {
	v := newVPN(t, "")
	theirs, iperf3, curl := need.Command(t, "traceroute", "traceroute"), need.Command(t, "iperf3", "iperf3"), need.Command(t, "curl", "curl")
	server, served := v.hosts[1].Serves(`Server listening`, iperf3, "-s", "--forceflush", "-p", "5201"), 1
	const line, lines = "a page through a tunnel\n", 50000
	page := v.hosts[1].Write("page", strings.Repeat(line, lines), 0o644)
	httpd := need.Command(t, "python3", "python3")
	v.hosts[1].Serves("Serving HTTP", httpd, "-u", "-m", "http.server", "8080", "--bind", "::", "--directory", filepath.Dir(page))
	for _, f := range inOut {
		t.Run(f.name, func(t *testing.T) {
			v.key(f.inner6, f.outer6, tunnelSuites[0].suite)
			v.forget()
			a, b := v.hosts[0].For(t), v.host(1, f.inner6)
			// The second gateway speaks by the address at which the tunnel ends in this family, past the policies.
			for _, how := range []string{"-U", "-I"} {
				out := a.Must(theirs, "-n", "-w", "5", "-q", "1", "-m", "3", how, b.String())
				want := regexp.MustCompile(fmt.Sprintf(`(?s) 1  %v  .* 2  %v  .* 3  %v  `, v.router(0, f.inner6), v.outer(1, f.inner6), b))
				if !want.MatchString(out) {
					t.Errorf("traceroute %s:\n%s", how, out)
				}
			}
			for _, way := range [][]string{nil, {"-R"}} {
				if r := a.Try(iperf3, append([]string{"-c", b.String(), "-p", "5201", "-n", "8M"}, way...)...); r.Status != 0 {
					t.Errorf("iperf3 %q: status %d\n%s%s", way, r.Status, r.Out, r.Err)
				}
				served++ // it serves one at a time
				server.Says(fmt.Sprintf("(?s)(Server listening.*){%d}", served))
			}
			out := a.Must(curl, "-sS", "--max-time", "30", "http://"+netip.AddrPortFrom(b, 8080).String()+"/page")
			if n := strings.Count(out, line); n != lines || len(out) != lines*len(line) {
				t.Errorf("curl brings %d lines of %d", n, lines)
			}
		})
	}
}
