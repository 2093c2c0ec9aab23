package stack_test

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"strings"
	"syscall"
	"testing"

	"ionet/stack/inet6"
	"ionet/stack/netif"
	"ionet/stack/packet"
	"ionet/stack/socket"
	rig "ionet/stack/stacktest"
)

// both is a stack of both families whose sockets talk over lo0.
type both struct {
	*rig.Rig
	t testing.TB
}

func newBoth(t testing.TB) both { return both{rig.Bare(t, rig.Dual), t} }

// at reads "[::1]:7", "127.0.0.1:7" or "[fe80::1%1]:7"; the zone is an index.
func at(s string) (a socket.Addr) {
	p := netip.MustParseAddrPort(s)
	_, _ = fmt.Sscan(p.Addr().Zone(), &a.Scope)
	a.IP, a.Port = p.Addr().WithZone(""), p.Port()
	return a
}

// said is its inverse.
func said(a socket.Addr) string {
	if !a.IP.IsValid() {
		return fmt.Sprint(":", a.Port)
	}
	if a.Scope != 0 {
		a.IP = a.IP.WithZone(fmt.Sprint(a.Scope))
	}
	return netip.AddrPortFrom(a.IP, a.Port).String()
}

// socket makes one of a family that is bound, unless local is "". v6only is of
// IPv6.
func (b both) socket(family, typ, proto int, v6only bool, local string) *socket.Socket {
	b.t.Helper()
	var so *socket.Socket
	err := b.Do(func(w *netif.Work) (err error) {
		if so, err = b.Stack.Socket(w, family, typ, proto, socket.Cred{Super: true}); err != nil {
			return err
		}
		if family == socket.AFInet6 {
			if err := so.SetV6Only(v6only); err != nil {
				return err
			}
		}
		if local != "" {
			return so.Bind(w, at(local))
		}
		return nil
	})
	if err != nil {
		b.t.Fatal(local, err)
	}
	b.t.Cleanup(func() { _ = b.Do(func(w *netif.Work) error { so.Close(w); return nil }) })
	return so
}

// set sets options at the IPv6 level to 1.
func (b both) set(so *socket.Socket, names ...int) {
	b.t.Helper()
	for _, name := range names {
		if err := b.Do(func(w *netif.Work) error { return so.SetOption(w, inet6.LevelIPv6, name, socket.Value32(1)) }); err != nil {
			b.t.Fatal(name, err)
		}
	}
}

func (b both) connect(so *socket.Socket, to string) error {
	return b.Do(func(w *netif.Work) error { return so.Connect(w, at(to)) })
}

func (b both) send(so *socket.Socket, to, data string) error {
	return b.Do(func(w *netif.Work) error {
		m := socket.Msg{Data: []byte(data)}
		if to != "" {
			m.Addr = at(to)
		}
		given := m.Addr
		_, err := so.Send(w, &m)
		if m.Addr != given {
			b.t.Errorf("a send to %v has left %v", given, m.Addr)
		}
		return err
	})
}

// recv is the next message as "from > to: data".
func (b both) recv(so *socket.Socket) string {
	m := socket.Msg{Data: make([]byte, 70000)}
	if err := b.Do(func(w *netif.Work) error { return so.Recv(w, &m) }); err != nil {
		return err.Error()
	}
	return fmt.Sprintf("%s > %v: %s", said(m.Addr), m.Dst, m.Data)
}

func same(t testing.TB, what, got, want string) {
	t.Helper()
	if got != want {
		t.Errorf("%s: %q, want %q", what, got, want)
	}
}

const nothing = "resource temporarily unavailable"

// A datagram socket of IPv6 without IPV6_V6ONLY speaks IPv4 by mapped addresses,
// and one with it has nothing to do with them (RFC 3493 §3.7, §5.3).
func TestDatagramsOfBothFamilies(t *testing.T) {
	b := newBoth(t)
	dual := b.socket(socket.AFInet6, socket.Dgram, 0, false, "[::]:7")
	four := b.socket(socket.AFInet, socket.Dgram, 0, false, "127.0.0.1:9")
	six := b.socket(socket.AFInet6, socket.Dgram, 0, true, "[::1]:9")
	for _, c := range []struct {
		from, to *socket.Socket
		dst      string
		want     string
	}{
		{four, dual, "127.0.0.1:7", "[::ffff:127.0.0.1]:9 > ::ffff:127.0.0.1: x"},
		{six, dual, "[::1]:7", "[::1]:9 > ::1: x"},
		{dual, four, "[::ffff:127.0.0.1]:9", "127.0.0.1:7 > 127.0.0.1: x"},
		{dual, six, "[::1]:9", "[::1]:7 > ::1: x"},
		{dual, dual, "[::]:7", "[::1]:7 > ::1: x"}, // this host
	} {
		if err := b.send(c.from, c.dst, "x"); err != nil {
			t.Error(c.dst, err)
		}
		same(t, c.dst, b.recv(c.to), c.want)
	}
	same(t, "mapped, IPv6 only", fmt.Sprint(b.send(six, "[::ffff:127.0.0.1]:7", "x")), syscall.EINVAL.Error())
	same(t, "IPv4 of an IPv6 socket", fmt.Sprint(b.send(dual, "127.0.0.1:9", "x")), syscall.EAFNOSUPPORT.Error())
	same(t, "IPv6 of an IPv4 socket", fmt.Sprint(b.send(four, "[::1]:7", "x")), syscall.EAFNOSUPPORT.Error())

	// Connected, it is of one family, and dissolved of both again.
	if err := b.connect(dual, "[::ffff:127.0.0.1]:9"); err != nil {
		t.Fatal(err)
	}
	same(t, "its ends", said(dual.Local())+" "+said(dual.Peer()), "[::ffff:127.0.0.1]:7 [::ffff:127.0.0.1]:9")
	_ = b.send(six, "[::1]:7", "y")
	same(t, "from a stranger", b.recv(dual), nothing)
	if err := b.Do(func(w *netif.Work) error { return dual.Connect(w, socket.Addr{}) }); err != nil {
		t.Fatal(err)
	}
	_ = b.send(six, "[::1]:7", "z")
	same(t, "once more", b.recv(dual), "[::1]:9 > ::1: z")

	// An address of one family does not reach the other.
	bound := b.socket(socket.AFInet6, socket.Dgram, 0, false, "[::ffff:127.0.0.1]:77")
	same(t, "from a mapped address", fmt.Sprint(b.send(bound, "[::1]:9", "x")), syscall.EINVAL.Error())
	same(t, "its name", said(bound.Local()), "[::ffff:127.0.0.1]:77")
}

// Ancillary data goes both ways, and of IPv4's packets a socket of both is told
// in IPv6's words (RFC 3542 §6, §13).
func TestAncillaryDataOfBothFamilies(t *testing.T) {
	b := newBoth(t)
	b.Addr(b.Lo, "2001:db8::1/128")
	so := b.socket(socket.AFInet6, socket.Dgram, 0, false, "[::]:7")
	b.set(so, inet6.IPv6RecvPktInfo, inet6.IPv6RecvHopLimit)
	for to, want := range map[string]string{"[::1]:7": "::1", "[::ffff:127.0.0.1]:7": "::ffff:127.0.0.1"} {
		if err := b.send(so, to, "x"); err != nil {
			t.Fatal(to, err)
		}
		m := socket.Msg{Data: make([]byte, 9), Control: make([]socket.Cmsg, 3)} // used before
		if err := b.Do(func(w *netif.Work) error { return so.Recv(w, &m) }); err != nil {
			t.Fatal(to, err)
		}
		if len(m.Control) != 2 || m.Control[0].Type != inet6.IPv6PktInfo || m.Control[1].Type != inet6.IPv6HopLimit {
			t.Fatalf("%s: %v", to, m.Control)
		}
		same(t, to, netip.AddrFrom16([16]byte(m.Control[0].Data)).String(), want)
	}
	err := b.Do(func(w *netif.Work) error {
		src := netip.MustParseAddr("2001:db8::1").As16()
		_, err := so.Send(w, &socket.Msg{Addr: at("[::1]:7"), Data: []byte("x"), Control: []socket.Cmsg{
			{Level: inet6.LevelIPv6, Type: inet6.IPv6PktInfo, Data: append(src[:], 0, 0, 0, 0)},
			{Level: inet6.LevelIPv6, Type: inet6.IPv6HopLimit, Data: socket.Value32(9)}}})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	m := socket.Msg{Data: make([]byte, 9)}
	if err := b.Do(func(w *netif.Work) error { return so.Recv(w, &m) }); err != nil || said(m.Addr) != "[2001:db8::1]:7" || m.TTL != 9 {
		t.Errorf("from a source of its own choice: %v, hop limit %d, %v", m.Addr, m.TTL, err)
	}
}

// What is too large for the path, and is not to be cut, is refused, and who asks
// is told the path's MTU (RFC 3542 §11.3).
func TestTooLargeForThePath(t *testing.T) {
	b := both{rig.New(t, rig.Dual), t}
	six(b.Rig)
	b.Ether.ResolveWith(true, rig.OnBench{})
	so := b.socket(socket.AFInet6, socket.Dgram, 0, true, "[::]:7")
	b.set(so, inet6.IPv6RecvPathMTU, inet6.IPv6DontFrag)
	told := func() string {
		m := socket.Msg{Data: make([]byte, 9)}
		if err := b.Do(func(w *netif.Work) error { return so.Recv(w, &m) }); err != nil {
			return err.Error()
		}
		if len(m.Control) != 1 || m.Control[0].Type != inet6.IPv6PathMTU {
			return fmt.Sprint("ancillary data ", m.Control)
		}
		d := m.Control[0].Data
		return fmt.Sprint(len(m.Data), " octets and MTU ", binary.LittleEndian.Uint32(d[len(d)-4:]))
	}
	big := strings.Repeat("x", 1500)
	same(t, "send", fmt.Sprint(b.send(so, "[2001:db8::2]:9", big)), syscall.EMSGSIZE.Error())
	same(t, "by the interface", told(), "0 octets and MTU 1500")
	if err := b.send(so, "[2001:db8::2]:9", big[:1400]); err != nil {
		t.Fatal(err)
	}
	f := b.Sent()
	if len(f) != 1 {
		t.Fatalf("%d frames", len(f))
	}
	me, router := netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("2001:db8::2")
	m := packet.ICMP6(append(make([]byte, packet.ICMP6Len), f[0][packet.EtherLen:][:1200]...))
	m.SetType(packet.ICMP6TooBig, 0)
	m.SetRest(1300)
	m.SetChecksum(router, me)
	e := make([]byte, packet.EtherLen+packet.IPv6Len, 1500)
	packet.PutEther(e, rig.Me, rig.Peer, packet.EtherIPv6)
	packet.PutIPv6(e[packet.EtherLen:], 0, 0, len(m), packet.ProtoICMPv6, 64, router, me)
	b.Send(append(e, m...))
	same(t, "by a router", told(), "0 octets and MTU 1300")
	same(t, "and no error", told(), nothing)
	same(t, "send once more", fmt.Sprint(b.send(so, "[2001:db8::2]:9", big[:1400])), syscall.EMSGSIZE.Error())
}

// The largest datagrams: 65,535 octets count without the header over IPv6.
func TestLargestDatagrams(t *testing.T) {
	b := newBoth(t)
	so := b.socket(socket.AFInet6, socket.Dgram, 0, false, "[::]:7")
	for _, name := range []int{socket.SOSndBuf, socket.SORcvBuf} {
		if err := so.SetOption(nil, socket.LevelSocket, name, socket.Value32(1<<20)); err != nil {
			t.Fatal(err)
		}
	}
	for to, n := range map[string]int{"[::1]:7": 65535 - packet.UDPLen, "[::ffff:127.0.0.1]:7": 65535 - packet.UDPLen - packet.IPv4Len} {
		if err := b.send(so, to, strings.Repeat("x", n)); err != nil {
			t.Error(to, n, err)
		}
		if got := b.recv(so); !strings.HasSuffix(got, strings.Repeat("x", n)) {
			t.Errorf("%s: %.60s", to, got)
		}
		same(t, to+", one more", fmt.Sprint(b.send(so, to, strings.Repeat("x", n+1))), syscall.EMSGSIZE.Error())
	}
}

// One listener takes connections of both families, and a socket of IPv4's own
// goes before it.
func TestStreamsOfBothFamilies(t *testing.T) {
	b := newBoth(t)
	l := b.socket(socket.AFInet6, socket.Stream, 0, false, "[::]:80")
	listen := func(so *socket.Socket) {
		if err := b.Do(func(w *netif.Work) error { return so.Listen(w, 5) }); err != nil {
			t.Fatal(err)
		}
	}
	accept := func(l *socket.Socket) *socket.Socket {
		var so *socket.Socket
		if err := b.Do(func(w *netif.Work) (err error) { so, err = l.Accept(w); return err }); err != nil {
			return nil
		}
		t.Cleanup(func() { _ = b.Do(func(w *netif.Work) error { so.Close(w); return nil }) })
		return so
	}
	listen(l)
	for _, c := range []struct {
		family         int
		to, peer, name string
	}{
		{socket.AFInet, "127.0.0.1:80", "127.0.0.1:80", "::ffff:127.0.0.1"},
		{socket.AFInet6, "[::1]:80", "[::1]:80", "::1"},
		{socket.AFInet6, "[::ffff:127.0.0.1]:80", "[::ffff:127.0.0.1]:80", "::ffff:127.0.0.1"},
		{socket.AFInet6, "[::]:80", "[::1]:80", "::1"},
	} {
		so := b.socket(c.family, socket.Stream, 0, false, "")
		if err := b.connect(so, c.to); err != syscall.EINPROGRESS {
			t.Fatal(c.to, err)
		}
		n := accept(l)
		if n == nil {
			t.Fatal(c.to, ": nobody has come")
		}
		same(t, "peer", said(so.Peer()), c.peer)
		same(t, "local of the other side", n.Local().IP.String(), c.name)
		if n.Family != socket.AFInet6 || n.Peer().IP != n.Local().IP {
			t.Errorf("%s: a socket of family %d, to %v", c.to, n.Family, n.Peer())
		}
		data := strings.Repeat("both families ", 4000)
		_ = b.send(so, "", data)
		m := socket.Msg{Data: make([]byte, len(data))}
		if err := b.Do(func(w *netif.Work) error { return n.Recv(w, &m) }); err != nil || string(m.Data) != data[:len(m.Data)] || len(m.Data) < 1000 {
			t.Errorf("%s: %d octets, %v", c.to, len(m.Data), err)
		}
		same(t, "from", m.Addr.IP.String(), c.name)
	}
	own := b.socket(socket.AFInet, socket.Stream, 0, false, "")
	_ = own.SetOption(nil, socket.LevelSocket, socket.SOReuseAddr, socket.Value32(1))
	if err := b.Do(func(w *netif.Work) error { return own.Bind(w, at("127.0.0.1:80")) }); err != nil {
		t.Fatal(err)
	}
	listen(own)
	_ = b.connect(b.socket(socket.AFInet, socket.Stream, 0, false, ""), "127.0.0.1:80")
	if accept(l) != nil || accept(own) == nil {
		t.Error("the socket of both took what IPv4's own was to have")
	}
}

// A stream between link-local addresses of one interface says so at both ends.
func TestStreamOnOneLink(t *testing.T) {
	b := newBoth(t)
	b.Addr(b.Lo, "fe80::1/64")
	here := fmt.Sprintf("[fe80::1%%%d]:", b.Lo.Index)
	l := b.socket(socket.AFInet6, socket.Stream, 0, true, here+"80")
	if err := b.Do(func(w *netif.Work) error { return l.Listen(w, 5) }); err != nil {
		t.Fatal(err)
	}
	so := b.socket(socket.AFInet6, socket.Stream, 0, true, here+"5000")
	if err := b.connect(so, here+"80"); err != syscall.EINPROGRESS {
		t.Fatal(err)
	}
	same(t, "ends", said(so.Local())+" "+said(so.Peer()), here+"5000 "+here+"80")
	for _, i := range b.SocketTable() {
		if i.State == "ESTABLISHED" && (i.Local.Scope != b.Lo.Index || i.Local.IP != netip.MustParseAddr("fe80::1")) {
			t.Errorf("the table says %s", said(i.Local))
		}
	}
	drop := func(a socket.Addr) error {
		return b.Do(func(w *netif.Work) error { return b.TCP.Drop(w, so.Local(), a) })
	}
	same(t, "drop on another link", fmt.Sprint(drop(socket.Addr{IP: so.Peer().IP, Port: 80, Scope: 99})), syscall.ESRCH.Error())
	same(t, "drop", fmt.Sprint(drop(so.Peer())), "<nil>")
	same(t, "an interface that is not there", fmt.Sprint(b.connect(b.socket(socket.AFInet6, socket.Stream, 0, true, ""), "[fe80::1%99]:80")), syscall.ENXIO.Error())
}

// Raw sockets of IPv6 begin behind the header; the stack sees to checksums
// (RFC 3542 §3).
func TestRawIPv6(t *testing.T) {
	b := newBoth(t)
	const proto = 200
	a := b.socket(socket.AFInet6, socket.Raw, proto, true, "[::1]:0")
	four := b.socket(socket.AFInet, socket.Raw, proto, false, "127.0.0.1:0")
	if err := b.send(a, "[::1]:0", "data"); err != nil {
		t.Fatal(err)
	}
	same(t, "without header", b.recv(a), "[::1]:0 > ::1: data")
	same(t, "a socket of IPv4", b.recv(four), nothing)
	same(t, "a mapped address", fmt.Sprint(b.send(a, "[::ffff:127.0.0.1]:0", "x")), syscall.EINVAL.Error())
	option := func(so *socket.Socket, level, name int, v []byte) string {
		return fmt.Sprint(b.Do(func(w *netif.Work) error { return so.SetOption(w, level, name, v) }))
	}
	const level, checksum = packet.ProtoIPv6, 26
	same(t, "an odd place", option(a, level, checksum, socket.Value32(3)), syscall.EINVAL.Error())
	sums := b.socket(socket.AFInet6, socket.Raw, proto, true, "[::1]:0")
	same(t, "IPV6_CHECKSUM", option(sums, level, checksum, socket.Value32(2)), "<nil>")
	b.Counts("rawip6", "bad checksum", func() { _ = b.send(a, "[::1]:0", "none") })
	same(t, "who wants none", b.recv(a), "[::1]:0 > ::1: none")
	same(t, "who wants one", b.recv(sums), nothing)
	same(t, "too short for it", fmt.Sprint(b.send(sums, "[::1]:0", "xyz")), syscall.EINVAL.Error())
	_ = b.send(sums, "[::1]:0", "xx\x00\x00yy")
	got := b.recv(sums)
	p := []byte(got[strings.LastIndex(got, ": ")+2:])
	lo := netip.IPv6Loopback()
	if packet.Fold(packet.Sum(packet.PseudoSum(lo, lo, proto, len(p)), p)) != 0xffff {
		t.Errorf("%q", got)
	}
}

// ICMPv6 through raw sockets: its checksum is the stack's, and ICMP6_FILTER says
// which types pass.
func TestRawICMPv6(t *testing.T) {
	b := newBoth(t)
	so := b.socket(socket.AFInet6, socket.Raw, packet.ProtoICMPv6, true, "")
	set := func(name, level int, v []byte) error {
		return b.Do(func(w *netif.Work) error { return so.SetOption(w, level, name, v) })
	}
	echo := string([]byte{packet.ICMP6Echo, 0, 0, 0, 0, 1, 0, 2}) + "hi"
	_ = b.send(so, "[::1]:0", echo)
	for _, typ := range []byte{packet.ICMP6Echo, packet.ICMP6EchoReply} {
		got := b.recv(so)
		_, m, _ := strings.Cut(got, ": ")
		if len(m) != 10 || m[0] != typ || !packet.ICMP6(m).ChecksumOK(netip.IPv6Loopback(), netip.IPv6Loopback()) {
			t.Errorf("for type %d came %q", typ, got)
		}
	}
	const filter, checksum = 18, 26
	only := make([]byte, 32)
	only[packet.ICMP6EchoReply/8] = 1 << (packet.ICMP6EchoReply % 8)
	if err := set(filter, packet.ProtoICMPv6, only); err != nil {
		t.Fatal(err)
	}
	if got, err := so.Option(packet.ProtoICMPv6, filter); string(got) != string(only) || err != nil {
		t.Errorf("the filter is %x, %v", got, err)
	}
	_ = b.send(so, "[::1]:0", echo)
	if _, m, _ := strings.Cut(b.recv(so), ": "); len(m) != 10 || m[0] != packet.ICMP6EchoReply {
		t.Errorf("past the filter came %q", m)
	}
	same(t, "the rest", b.recv(so), nothing)
	same(t, "no place but its own", fmt.Sprint(set(checksum, packet.ProtoIPv6, socket.Value32(-1))), syscall.EINVAL.Error())
	same(t, "half a filter", fmt.Sprint(set(filter, packet.ProtoICMPv6, only[:5])), syscall.EINVAL.Error())
}

// Echo sockets of both families may have the same identifier.
func TestEchoOfBothFamilies(t *testing.T) {
	b := newBoth(t)
	six := b.socket(socket.AFInet6, socket.Dgram, packet.ProtoICMPv6, true, "[::]:77")
	four := b.socket(socket.AFInet, socket.Dgram, packet.ProtoICMP, false, "0.0.0.0:77")
	ask := func(typ byte) string { return string([]byte{typ, 0, 0, 0, 9, 9, 0, 2}) + "hi" }
	if err := b.send(six, "[::1]:0", ask(packet.ICMP6Echo)); err != nil {
		t.Fatal(err)
	}
	if err := b.send(four, "127.0.0.1:0", ask(packet.ICMPEcho)); err != nil {
		t.Fatal(err)
	}
	for so, typ := range map[*socket.Socket]byte{six: packet.ICMP6EchoReply, four: packet.ICMPEchoReply} {
		_, m, _ := strings.Cut(b.recv(so), ": ")
		if len(m) != 10 || m[0] != typ || packet.ICMP(m).ID() != 77 || m[8:] != "hi" {
			t.Errorf("family %d: %q", so.Family, m)
		}
		same(t, "no more", b.recv(so), nothing)
	}
	same(t, "ICMP's echo", fmt.Sprint(b.send(six, "[::1]:0", ask(packet.ICMPEcho))), syscall.EINVAL.Error())
	same(t, "a mapped address", fmt.Sprint(b.send(six, "[::ffff:127.0.0.1]:0", ask(packet.ICMP6Echo))), syscall.EINVAL.Error())
	if err := b.Do(func(w *netif.Work) error {
		_, err := b.Stack.Socket(w, socket.AFInet6, socket.Dgram, packet.ProtoICMP, socket.Cred{})
		return err
	}); err != syscall.EPROTONOSUPPORT {
		t.Error("ICMP over IPv6:", err)
	}
}
