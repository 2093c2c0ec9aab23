package inet6_test

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"ionet/stack/inet6"
	"ionet/stack/netif"
	"ionet/stack/packet"
	"ionet/stack/socket"
	"ionet/stack/stacktest"
)

// there is a host on the link.
const there = "2001:db8::2"

// bench is a rig with 2001:db8::1 and fe80::1 whose neighbours are all known.
type bench struct{ *stacktest.Rig }

func newBench(t testing.TB) *bench {
	r := &bench{listener(t)}
	r.Ether.ResolveWith(true, stacktest.OnBench{})
	addr6(r.Rig, "2001:db8::1/64")
	r.Pass(10 * time.Second)
	r.Sent()
	return r
}

// sock is a socket of IPv6.
type sock struct {
	*socket.Socket
	r *bench
}

func (r *bench) socket(typ, proto int, super bool) *sock {
	r.Helper()
	s := &sock{r: r}
	err := r.Do(func(w *netif.Work) (err error) {
		s.Socket, err = r.Stack.Socket(w, socket.AFInet6, typ, proto, socket.Cred{Super: super})
		return err
	})
	if err != nil {
		r.Fatal(err)
	}
	r.Cleanup(s.close)
	return s
}

func (r *bench) udp() *sock { return r.socket(socket.Dgram, 0, true) }

func (s *sock) close() { _ = s.r.Do(func(w *netif.Work) error { s.Close(w); return nil }) }

func (s *sock) set(name int, v []byte) error {
	return s.r.Do(func(w *netif.Work) error { return s.SetOption(w, inet6.LevelIPv6, name, v) })
}

func (s *sock) must(name int, v []byte) {
	s.r.Helper()
	if err := s.set(name, v); err != nil {
		s.r.Fatalf("option %d: %v", name, err)
	}
}

func (s *sock) get(name int) []byte {
	s.r.Helper()
	v, err := s.Option(inet6.LevelIPv6, name)
	if err != nil {
		s.r.Fatalf("option %d: %v", name, err)
	}
	return v
}

func (s *sock) bind(port uint16) {
	s.r.Helper()
	if err := s.r.Do(func(w *netif.Work) error { return s.Bind(w, socket.Addr{IP: netip.IPv6Unspecified(), Port: port}) }); err != nil {
		s.r.Fatal(err)
	}
}

func cmsg(name int, data []byte) socket.Cmsg {
	return socket.Cmsg{Level: inet6.LevelIPv6, Type: name, Data: data}
}

// send answers the packets that a datagram leaves as, and the error.
func (s *sock) send(to string, size int, c ...socket.Cmsg) ([]packet.IPv6, error) {
	ip := netip.MustParseAddr(to)
	a := socket.Addr{IP: ip.WithZone(""), Port: 9}
	if ip.Zone() != "" {
		a.Scope = s.r.Env.Ifs.ByName(ip.Zone()).Index
	}
	s.r.Sent()
	err := s.r.Do(func(w *netif.Work) error {
		_, err := s.Send(w, &socket.Msg{Addr: a, Data: make([]byte, size), Control: c})
		return err
	})
	var out []packet.IPv6
	for _, f := range s.r.Sent() {
		if h, ok := packet.CheckIPv6(f[packet.EtherLen:]); ok && mld(f) == "" {
			out = append(out, h)
		}
	}
	return out, err
}

// one is the packet that a datagram leaves as.
func (s *sock) one(to string, c ...socket.Cmsg) packet.IPv6 {
	s.r.Helper()
	p, err := s.send(to, 4, c...)
	if err != nil || len(p) != 1 {
		s.r.Fatalf("to %s: %d packets, %v", to, len(p), err)
	}
	return p[0]
}

// refuse sees that sending fails so.
func (s *sock) refuse(want error, to string, c ...socket.Cmsg) {
	s.r.Helper()
	if p, err := s.send(to, 4, c...); !errors.Is(err, want) || len(p) != 0 {
		s.r.Errorf("to %s: %d packets, %v, want %v", to, len(p), err, want)
	}
}

func (s *sock) recv() (*socket.Msg, error) {
	m := &socket.Msg{Data: make([]byte, 65536)}
	return m, s.r.Do(func(w *netif.Work) error { return s.Recv(w, m) })
}

// headers are the extension headers and the protocol of a packet.
func headers(h packet.IPv6) string {
	var s []string
	for next, rest := h.Next(), h.Payload(); ; {
		s = append(s, fmt.Sprint(next))
		e, ok := packet.CheckExt(rest)
		if next != packet.ProtoHopByHop && next != packet.ProtoDstOpts && next != packet.ProtoRouting || !ok {
			return strings.Join(s, " ")
		}
		next, rest = e.Next(), rest[len(e):]
	}
}

// sumOK verifies the checksum of a datagram whose final destination is dst.
func sumOK(h packet.IPv6, dst string) bool {
	p := h.Payload()
	for next := h.Next(); next != packet.ProtoUDP; {
		e, _ := packet.CheckExt(p)
		next, p = e.Next(), p[len(e):]
	}
	return packet.Fold(packet.Sum(packet.PseudoSum(h.Src(), netip.MustParseAddr(dst), packet.ProtoUDP, len(p)), p)) == 0xffff
}

func i32(n int) []byte { return socket.Value32(n) }

// pktinfo is an in6_pktinfo, and an ipv6_mreq, which looks the same.
func pktinfo(ip string, index uint32) []byte {
	return append(netip.MustParseAddr(ip).AsSlice(), i32(int(index))...)
}

func sockaddr(ip string, scope uint32) []byte {
	b := append([]byte{28, socket.AFInet6, 0, 0, 0, 0, 0, 0}, netip.MustParseAddr(ip).AsSlice()...)
	return append(b, i32(int(scope))...)
}

// opts is a header of one option that nobody knows, and that may pass.
func opts(n byte) []byte { return []byte{0, 0, 0x1e, 4, n, 0, 0, 0} }

// of is header h with a Next Header.
func of(next uint8, h []byte) []byte {
	h = slices.Clone(h)
	h[0] = next
	return h
}

// datagram is one from there with hop limit 33 and class 0x2c, behind the
// headers of ext, each of the protocol that its first octet says.
func datagram(dst string, port uint16, ext ...[]byte) []byte {
	p := stacktest.Datagram(there, dst, 5, port, "hello")
	next := uint8(packet.ProtoUDP)
	for _, e := range slices.Backward(ext) {
		p = append(of(next, e), p...)
		next = e[0]
	}
	b := make([]byte, packet.EtherLen+packet.IPv6Len)
	ip, to := netip.MustParseAddr(dst), stacktest.Me
	if ip.IsMulticast() {
		to = netif.GroupMAC(ip)
	}
	packet.PutEther(b, to, stacktest.Peer, packet.EtherIPv6)
	packet.PutIPv6(b[packet.EtherLen:], 0x2c, 0, len(p), next, 33, netip.MustParseAddr(there), ip)
	return append(b, p...)
}
