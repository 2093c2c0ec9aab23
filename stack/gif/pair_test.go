package gif_test

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"ionet/stack/netif"
	"ionet/stack/packet"
	"ionet/stack/route"
	"ionet/stack/socket"
	rig "ionet/stack/stacktest"
)

// pair is two stacks on one Ethernet, 10.0.0.1 and 10.0.0.2, 2001:db8::1 and
// 2001:db8::2, that know each other.
type pair struct {
	t    testing.TB
	a, b *rig.Rig
}

func newPair(t testing.TB) *pair {
	t.Helper()
	p := &pair{t: t}
	for i, r := range []**rig.Rig{&p.a, &p.b} {
		*r = station(t, i+1)
		for _, net := range []string{"10.0.0.", "2001:db8::"} {
			ip := netip.MustParseAddr(fmt.Sprint(net, 2-i))
			if err := (*r).AddNeighbour((*r).If, ip, netif.MAC{2, 0, 0, 0, 0, byte(2 - i)}, 0, 0); err != nil {
				t.Fatal(err)
			}
		}
	}
	p.pass(10 * time.Second)
	p.carry()
	return p
}

// station is one of them.
func station(t testing.TB, n int) *rig.Rig {
	t.Helper()
	r := rig.Bare(t, rig.Dual)
	r.If = r.AddIf("en0", netif.MAC{2, 0, 0, 0, 0, byte(n)}, fmt.Sprintf("10.0.0.%d/24", n))
	r.Addr(r.If, fmt.Sprintf("2001:db8::%d/64", n))
	return r
}

// create makes a tunnel.
func create(r *rig.Rig, name string) *netif.Interface {
	r.Helper()
	ifp, err := r.AddTunnel(name)
	if err != nil {
		r.Fatal(err)
	}
	return ifp
}

// gif makes one with ends, such as "10.0.0.1", and addresses.
func gif(r *rig.Rig, name, src, dst string, addrs ...string) *netif.Interface {
	r.Helper()
	ifp := create(r, name)
	if err := r.SetTunnel(ifp, netip.MustParseAddr(src), netip.MustParseAddr(dst)); err != nil {
		r.Fatal(err)
	}
	for _, a := range addrs {
		r.Addr(ifp, a)
	}
	return ifp
}

// joined makes gif0 of both, with 10.9.0.1/24 and 2001:db8:9::1/64 and so on inside.
func (p *pair) joined(outer string) (a, b *netif.Interface) {
	p.t.Helper()
	one, two := outer+"1", outer+"2"
	a = gif(p.a, "gif0", one, two, "10.9.0.1/24", "2001:db8:9::1/64")
	b = gif(p.b, "gif0", two, one, "10.9.0.2/24", "2001:db8:9::2/64")
	p.pass(3 * time.Second)
	p.carry()
	return a, b
}

// pass lets time pass on both, and carries what they send.
func (p *pair) pass(d time.Duration) {
	for step := 100 * time.Millisecond; d > 0; d -= step {
		p.a.Pass(step)
		p.b.Pass(step)
		p.carry()
	}
}

// carry brings each what the other has sent, until nothing more comes, and
// answers it in words.
func (p *pair) carry() (seen []string) {
	p.t.Helper()
	for range 200 {
		x, y := p.a.Sent(), p.b.Sent()
		if len(x)+len(y) == 0 {
			return seen
		}
		for _, f := range slices.Concat(x, y) {
			seen = append(seen, rig.Describe(f))
		}
		p.b.Send(x...)
		p.a.Send(y...)
	}
	p.t.Fatal("they do not come to an end")
	return nil
}

func (p *pair) sees(want ...string) {
	p.t.Helper()
	if got := p.carry(); !slices.Equal(got, want) {
		p.t.Fatalf("on the wire:\n\t%q\nwant:\n\t%q", got, want)
	}
}

// udp is a datagram socket of both families, bound to a port.
func udp(r *rig.Rig, port uint16) *socket.Socket {
	r.Helper()
	return udpAt(r, "::", port)
}

// udpAt is one that is bound to an address of IPv6.
func udpAt(r *rig.Rig, ip string, port uint16) *socket.Socket {
	r.Helper()
	var so *socket.Socket
	err := r.Do(func(w *netif.Work) (err error) {
		if so, err = r.Stack.Socket(w, socket.AFInet6, socket.Dgram, 0, socket.Cred{Super: true}); err != nil {
			return err
		}
		if err = so.SetV6Only(false); err == nil {
			err = so.Bind(w, socket.Addr{IP: said(ip), Port: port})
		}
		return err
	})
	if err != nil {
		r.Fatal(err)
	}
	r.Cleanup(func() { _ = r.Do(func(w *netif.Work) error { so.Close(w); return nil }) })
	return so
}

// send sends n octets to ip's port.
func send(r *rig.Rig, so *socket.Socket, ip string, port uint16, n int) error {
	a := netip.MustParseAddr(ip)
	if a.Is4() {
		a = netip.AddrFrom16(a.As16())
	}
	return r.Do(func(w *netif.Work) error {
		_, err := so.Send(w, &socket.Msg{Addr: socket.Addr{IP: a, Port: port}, Data: make([]byte, n)})
		return err
	})
}

// got is where the next datagram is from, and its length; or the error.
func got(r *rig.Rig, so *socket.Socket) string {
	m := socket.Msg{Data: make([]byte, 70000)}
	if err := r.Do(func(w *netif.Work) error { return so.Recv(w, &m) }); err != nil {
		return err.Error()
	}
	return fmt.Sprintf("%v len %d", m.Addr.IP.Unmap(), len(m.Data))
}

const nothing = "resource temporarily unavailable"

// add makes a route.
func add(r *rig.Rig, dst, gw string) {
	r.Helper()
	s := route.Spec{Dst: netip.MustParsePrefix(dst), Gateway: netip.MustParseAddr(gw), Flags: route.FlagUp | route.FlagGateway}
	if err := r.Routes.Update([]route.Op{{Kind: route.Add, Spec: s}})[0]; err != nil {
		r.Fatal(err)
	}
}

// ip6 is a packet of IPv6.
func ip6(class uint8, src, dst string, next uint8, body []byte) []byte {
	b := make([]byte, packet.IPv6Len+len(body))
	h := packet.PutIPv6(b, class, 0, len(body), next, 64, netip.MustParseAddr(src), netip.MustParseAddr(dst))
	copy(h.Payload(), body)
	return b
}

// ip4 is one of IPv4.
func ip4(p rig.IP) []byte { return p.Frame()[packet.EtherLen:] }

// frame puts a packet into a frame from one station to the other.
func frame(to, from byte, pkt []byte) []byte {
	b := make([]byte, packet.EtherLen, packet.EtherLen+len(pkt))
	typ := uint16(packet.EtherIPv4)
	if pkt[0]>>4 == 6 {
		typ = packet.EtherIPv6
	}
	packet.PutEther(b, netif.MAC{2, 0, 0, 0, 0, to}, netif.MAC{2, 0, 0, 0, 0, from}, typ)
	return append(b, pkt...)
}

// udp6 is a datagram of n octets to port 9, with its checksum.
func udp6(src, dst string, n int) []byte {
	b := make([]byte, packet.UDPLen+n)
	packet.PutUDP(b, 5, 9, len(b), 0)
	s := ^packet.Fold(packet.Sum(packet.PseudoSum(netip.MustParseAddr(src), netip.MustParseAddr(dst), packet.ProtoUDP, len(b)), b))
	b[6], b[7] = byte(s>>8), byte(s)
	return b
}

func said(ip string) netip.Addr { return netip.MustParseAddr(ip) }

func count(r *rig.Rig, name string) uint64 { return rig.Counter(r.Stack, "gif", name) }

// sendScoped sends n octets to the port 9 of an address on a link.
func sendScoped(w *netif.Work, so *socket.Socket, ip string, link uint32, n int) error {
	_, err := so.Send(w, &socket.Msg{Addr: socket.Addr{IP: said(ip), Port: 9, Scope: link}, Data: make([]byte, n)})
	return err
}
