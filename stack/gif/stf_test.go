package gif_test

import (
	"fmt"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"ionet/stack/netif"
	"ionet/stack/packet"
	rig "ionet/stack/stacktest"
)

// The pair's public addresses, 198.51.100.1 and 198.51.100.2, as 6to4 has them.
const (
	one6 = "2002:c633:6401::1"
	two6 = "2002:c633:6402::1"
)

// routers makes both 6to4 routers.
func routers(t *testing.T) (p *pair, a, b *netif.Interface) {
	t.Helper()
	p = newPair(t)
	for i, r := range []*rig.Rig{p.a, p.b} {
		r.Addr(r.If, fmt.Sprintf("198.51.100.%d/24", i+1))
		if err := r.AddNeighbour(r.If, netip.MustParseAddr(fmt.Sprintf("198.51.100.%d", 2-i)), netif.MAC{2, 0, 0, 0, 0, byte(2 - i)}, 0, 0); err != nil {
			t.Fatal(err)
		}
	}
	a, b = create(p.a, "stf0"), create(p.b, "stf0")
	p.a.Addr(a, one6+"/16")
	p.b.Addr(b, two6+"/16")
	p.pass(5 * time.Second)
	return p, a, b
}

func TestSixToFour(t *testing.T) {
	p, a, _ := routers(t)
	if f := a.Flags(); f != netif.FlagUp {
		t.Errorf("flags %#x, want UP alone", f)
	}
	from, to := udp(p.a, 5), udp(p.b, 9)
	if err := send(p.a, from, two6, 9, 5); err != nil {
		t.Fatal(err)
	}
	p.sees("198.51.100.1 > 198.51.100.2 proto 41 len 53")
	if g := got(p.b, to); g != one6+" len 5" {
		t.Errorf("arrived: %s", g)
	}
	// Through a relay: the next hop says which.
	add(p.a, "2001:db8:77::/48", two6)
	if err := send(p.a, from, "2001:db8:77::1", 9, 5); err != nil {
		t.Fatal(err)
	}
	p.sees("198.51.100.1 > 198.51.100.2 proto 41 len 53")
	// Not to groups, and not into our own network, where nobody is.
	for _, dst := range []string{"2002:c633:6401:7::1", "2002:a00:1::1", "2002:e000:1::1"} {
		_ = send(p.a, from, dst, 9, 5)
		p.sees()
	}
	if n := count(p.a, "bad outer address"); n != 3 {
		t.Errorf("%d counted, want 3", n)
	}
	// Nor from an address that means something here alone.
	p.a.Addr(p.a.If, "fec0::5/64")
	p.pass(3 * time.Second)
	site := udpAt(p.a, "fec0::5", 6)
	_ = send(p.a, site, two6, 9, 5)
	p.sees()
	if n := count(p.a, "bad outer address"); n != 4 {
		t.Errorf("%d counted, want 4", n)
	}
}

// RFC 3964 §5.2.
func TestWhat6to4DoesNotBring(t *testing.T) {
	for _, tc := range []struct {
		name, why  string
		src4       string
		src6, dst6 string
	}{
		{"from another's 6to4 address", "spoofed 6to4 address", "198.51.100.9", two6, one6},
		{"to another's", "spoofed 6to4 address", "198.51.100.2", two6, "2002:c633:6409::1"},
		{"between strangers", "spoofed 6to4 address", "198.51.100.2", "2001:db8:5::1", "2001:db8:6::1"},
		{"from a private address", "bad outer address", "10.0.0.2", "2002:a00:2::1", one6},
		{"from a link's", "bad outer address", "169.254.0.2", "2002:a9fe:2::1", one6},
		{"from a private one inside", "bad inner address", "198.51.100.2", "2002:a00:2::1", one6},
		{"from a link-local one", "bad inner address", "198.51.100.2", "fe80::2", one6},
		{"from a site-local one", "bad inner address", "198.51.100.2", "fec0::2", one6},
		{"from nobody", "bad inner address", "198.51.100.2", "::", one6},
		{"to a group", "bad inner address", "198.51.100.2", two6, "ff02::1"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p, g, _ := routers(t)
			if err := p.a.SetFlags(g, netif.FlagLink2, 0); err != nil { // the others come another way
				t.Fatal(err)
			}
			so := udp(p.a, 9)
			in := ip6(0, tc.src6, tc.dst6, packet.ProtoUDP, udp6(tc.src6, tc.dst6, 5))
			p.a.Send(frame(1, 2, ip4(rig.IP{Src: tc.src4, Dst: "198.51.100.1", Proto: packet.ProtoIPv6, Data: in})))
			if n := count(p.a, tc.why); n != 1 {
				t.Errorf("%d counted as %q, want 1", n, tc.why)
			}
			if g := got(p.a, so); g != nothing {
				t.Errorf("it came out: %s", g)
			}
		})
	}
}

// A relay's packets come from anywhere, if the prefix says so.
func TestRelaysAndPrefixLength(t *testing.T) {
	p, g, _ := routers(t)
	so := udp(p.a, 9)
	in := ip6(0, "2001:db8:77::1", one6, packet.ProtoUDP, udp6("2001:db8:77::1", one6, 5))
	f := frame(1, 2, ip4(rig.IP{Src: "198.51.100.2", Dst: "198.51.100.1", Proto: packet.ProtoIPv6, Data: in}))
	p.a.Send(f)
	if s := got(p.a, so); s != "2001:db8:77::1 len 5" {
		t.Errorf("a relay's: %s", s)
	}
	p.a.Addr(g, one6+"/48") // all of its 32 bits: nobody else's
	p.a.Send(f)
	if s := got(p.a, so); s != nothing || rig.Counter(p.a.Stack, "ip", "unknown protocol") != 1 {
		t.Errorf("with prefix length 48: %s", s)
	}
	p.pass(time.Second)
}

func TestAddressesOfAnSTF(t *testing.T) {
	r := station(t, 1)
	g := create(r, "stf0")
	for addr, want := range map[string]error{
		"2001:db8:7::1": syscall.EINVAL, "2002:a00:1::1": syscall.EINVAL, "2002:7f00:1::1": syscall.EINVAL, "2002:e000:1::1": syscall.EINVAL,
		"10.7.0.1": syscall.EAFNOSUPPORT, "fe80::1": syscall.EINVAL,
	} {
		if err := r.Gif.CheckAddr(g, netip.MustParseAddr(addr)); !isErr(err, want.(syscall.Errno)) {
			t.Errorf("%s: %v, want %v", addr, err, want)
		}
	}
	if _, err := r.AddTunnel("stf1"); !isErr(err, syscall.EBUSY) {
		t.Errorf("a second stf: %v", err)
	}
	if err := r.SetTunnel(g, netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2")); !isErr(err, syscall.EINVAL) {
		t.Errorf("ends of an stf: %v", err)
	}
	if err := r.RemoveInterface(g); err != nil {
		t.Fatal(err)
	}
	create(r, "stf1")
}
