package udp_test

import (
	"errors"
	"fmt"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"ionet/stack"
	"ionet/stack/netif"
	"ionet/stack/packet"
	"ionet/stack/route"
	"ionet/stack/socket"
	. "ionet/stack/stacktest"
)

const again = "resource temporarily unavailable"

func is(t *testing.T, what string, got, want error) {
	t.Helper()
	if !errors.Is(got, want) || (want == nil) != (got == nil) {
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
}

func TestChecksum(t *testing.T) {
	r := New(t)
	s := r.UDP(":9")
	d := Datagram("10.0.0.2", "10.0.0.1", 5, 9, "x")
	frame := func() []byte { return IP{Src: "10.0.0.2", Dst: "10.0.0.1", Proto: 17, Data: d}.Frame() }
	r.Send(frame())
	if got := s.Get(); got != "10.0.0.2:5: x" {
		t.Error(got)
	}
	d[7] ^= 1
	r.Counts("udp", "bad UDP checksum", func() { r.Send(frame()) })
	d[6], d[7] = 0, 0 // none
	if Over6() {      // RFC 8200 §8.1
		f, l4 := Wire(frame())
		f[l4+6], f[l4+7] = 0, 0
		r.Counts("udp", "no UDP checksum", func() { r.SendWire(f) })
		return
	}
	r.Send(frame())
	if got := s.Get(); got != "10.0.0.2:5: x" {
		t.Error(got)
	}
}

func TestBadLengths(t *testing.T) {
	r := New(t)
	d := Datagram("10.0.0.2", "10.0.0.1", 5, 9, "xyz")
	frame := func(d []byte) []byte { return IP{Src: "10.0.0.2", Dst: "10.0.0.1", Proto: 17, Data: d}.Frame() }
	r.Counts("udp", "incomplete header", func() { r.Send(frame(d[:7])) })
	r.Counts("udp", "bad data length", func() { r.Send(frame(d[:10])) })
	d[5] = 7
	r.Counts("udp", "bad data length", func() { r.Send(frame(d)) })
	r.Expect()
}

func TestFullSocketRefusesAndCounts(t *testing.T) {
	r := New(t)
	s := r.UDP(":9")
	s.Flag(socket.SORcvBuf, 2000)
	f := UDP("10.0.0.2", "10.0.0.1", 5, 9, "x")
	for range 50 {
		r.Send(f)
	}
	full := Counter(r.Stack, "udp", "full socket buffer")
	if full == 0 || full+Counter(r.Stack, "udp", "delivered") != 50 {
		t.Errorf("%d refused", full)
	}
	if m := r.SocketMemory(); m > 4000 {
		t.Errorf("%d octets are held for a buffer of 2000", m)
	}
}

func TestWhoGetsIt(t *testing.T) {
	r := New(t)
	wild, exact, conn := r.UDP(":9"), r.Socket(socket.Dgram, 0), r.Socket(socket.Dgram, 0)
	for _, s := range []*Socket{exact, conn} {
		s.Flag(socket.SOReuseAddr, 1)
		s.Flag(socket.SOReusePort, 1)
		is(t, "bind", s.Bind("10.0.0.1:9"), nil)
		if s == conn {
			is(t, "connect", s.Connect("10.0.0.2:5"), nil)
		}
	}
	r.Send(UDP("10.0.0.2", "10.0.0.1", 5, 9, "to the peer's"), UDP("10.0.0.2", "10.0.0.1", 6, 9, "to the address"), UDP("10.0.0.2", "10.0.0.255", 6, 9, "to all"))
	for _, c := range []struct {
		s    *Socket
		want []string
	}{
		{conn, []string{"10.0.0.2:5: to the peer's", again}},
		{exact, []string{"10.0.0.2:6: to the address", again}},
		{wild, []string{"10.0.0.2:6: to all", again}},
	} {
		for _, want := range c.want {
			if got := c.s.Get(); got != want {
				t.Errorf("got %q, want %q", got, want)
			}
		}
	}
}

func TestReusePort(t *testing.T) {
	for _, all := range []bool{false, true} {
		r := New(t, func(c *stack.Config) { c.ReuseportUnicast = all })
		var ss []*Socket
		for range 2 {
			s := r.Socket(socket.Dgram, 0)
			s.Flag(socket.SOReusePort, 1)
			is(t, "bind", s.Bind(":9"), nil)
			ss = append(ss, s)
		}
		is(t, "a third without the option", r.Socket(socket.Dgram, 0).Bind(":9"), syscall.EADDRINUSE)
		r.Send(UDP("10.0.0.2", "10.0.0.1", 5, 9, "one"), UDP("10.0.0.2", "255.255.255.255", 5, 9, "all"))
		got := [][2]string{{ss[0].Get(), ss[0].Get()}, {ss[1].Get(), ss[1].Get()}}
		want := [][2]string{{"10.0.0.2:5: one", "10.0.0.2:5: all"}, {"10.0.0.2:5: all", again}}
		if all {
			want[1] = want[0]
		}
		if got[0] != want[0] || got[1] != want[1] {
			t.Errorf("reuseport_unicast %v: %q, want %q", all, got, want)
		}
	}
}

// TestPortsAreAUsersOwn: another user's port is not shared, whatever options
// both have set; a group's is.
func TestPortsAreAUsersOwn(t *testing.T) {
	r := New(t)
	as := func(uid int) *Socket {
		s, err := r.SocketAs(socket.Dgram, 0, socket.Cred{UID: uid})
		if err != nil {
			t.Fatal(err)
		}
		s.Flag(socket.SOReuseAddr, 1)
		s.Flag(socket.SOReusePort, 1)
		return s
	}
	is(t, "the first", as(1000).Bind(":5000"), nil)
	is(t, "his own second", as(1000).Bind("10.0.0.1:5000"), nil)
	is(t, "another user's", as(1001).Bind("10.0.0.1:5000"), syscall.EADDRINUSE)
	is(t, "another user's wildcard", as(1001).Bind(":5000"), syscall.EADDRINUSE)
	is(t, "the superuser's", r.Socket(socket.Dgram, 0).Bind("10.0.0.1:5001"), nil)
	is(t, "a group", as(1001).Bind("224.0.0.5:5000"), nil)
}

func TestBind(t *testing.T) {
	r := New(t)
	user, err := r.SocketAs(socket.Dgram, 0, socket.Cred{UID: 1000})
	is(t, "socket", err, nil)
	is(t, "a low port", user.Bind(":7"), syscall.EACCES)
	is(t, "a stranger's address", user.Bind("10.0.0.9:7000"), syscall.EADDRNOTAVAIL)
	is(t, "an address of ours", user.Bind("10.0.0.1:7000"), nil)
	is(t, "once more", user.Bind("10.0.0.1:7001"), syscall.EINVAL)
	is(t, "taken", r.Socket(socket.Dgram, 0).Bind("10.0.0.1:7000"), syscall.EADDRINUSE)
	is(t, "taken by one address", r.Socket(socket.Dgram, 0).Bind(":7000"), syscall.EADDRINUSE)
	is(t, "another address", r.Socket(socket.Dgram, 0).Bind("127.0.0.1:7000"), nil)
}

func TestSendErrors(t *testing.T) {
	r := New(t)
	r.Meet("10.0.0.2")
	s := r.UDP("")
	is(t, "nowhere", s.SendTo("", "x"), syscall.EDESTADDRREQ)
	is(t, "no port", s.SendTo("10.0.0.2", "x"), syscall.EADDRNOTAVAIL)
	is(t, "no route", s.SendTo("99.0.0.1:7", "x"), syscall.ENETUNREACH)
	if !Over6() {
		is(t, "broadcast", s.SendTo("10.0.0.255:7", "x"), syscall.EACCES)
		is(t, "limited broadcast", s.SendTo("255.255.255.255:7", "x"), syscall.EACCES)
	}
	is(t, "too long", s.SendTo("10.0.0.2:7", string(make([]byte, 9217))), syscall.EMSGSIZE)
	if s.Flag(socket.SOBroadcast, 1); !Over6() {
		is(t, "broadcast", s.SendTo("10.0.0.255:7", "x"), nil)
	}
	is(t, "disconnect", s.Connect(""), syscall.ENOTCONN)
	is(t, "connect", s.Connect("10.0.0.2:7"), nil)
	is(t, "an address too many", s.SendTo("10.0.0.2:7", "x"), syscall.EISCONN)
	is(t, "connected", s.SendTo("", "x"), nil)
	is(t, "shutdown", s.Shutdown(false, true), nil)
	is(t, "after it", s.SendTo("", "x"), syscall.EPIPE)
	is(t, "down", r.SetFlags(r.If, 0, netif.FlagUp), nil)
	is(t, "interface down", r.UDP("").SendTo("10.0.0.2:7", "x"), syscall.ENETDOWN)
}

// As on Linux, and for who asks for it: BSD has EISCONN.
func TestElsewhere(t *testing.T) {
	r := New(t)
	r.Meet("10.0.0.2")
	r.Meet("10.0.0.3")
	s := r.UDP("10.0.0.1:9")
	is(t, "connect", s.Connect("10.0.0.2:7"), nil)
	is(t, "elsewhere", r.Do(func(w *netif.Work) error {
		_, err := s.Send(w, &socket.Msg{Addr: Addr("10.0.0.3:8"), Data: []byte("x"), Flags: socket.MsgElsewhere})
		return err
	}), nil)
	is(t, "to the peer", s.SendTo("", "xy"), nil)
	r.Expect("10.0.0.1 > 10.0.0.3 udp 9 > 8 len 1", "10.0.0.1 > 10.0.0.2 udp 9 > 7 len 2")
}

func TestNobodyListens(t *testing.T) {
	r := New(t)
	r.Meet("10.0.0.2")
	r.Send(UDP("10.0.0.2", "10.0.0.1", 5, 9, "x"))
	quoted := 8
	if Over6() {
		quoted = packet.UDPLen + 1 // all of it (RFC 4443 §2.4)
	}
	r.Expect(fmt.Sprint("10.0.0.1 > 10.0.0.2 unreach 3 quotes 10.0.0.2 > 10.0.0.1 proto 17 len ", quoted))
	r.Counts("udp", "no socket for broadcast", func() { r.Send(UDP("10.0.0.2", "10.0.0.255", 5, 9, "x")) })
	r.Expect()
}

func TestSourceFilters(t *testing.T) {
	if Over6() { // its options are tested in inet6
		return
	}
	r := New(t)
	opt := func(s *Socket, name int, more ...byte) {
		t.Helper()
		is(t, "option", s.Set(0, name, append(append([]byte{239, 1, 1, 1}, more...), 10, 0, 0, 1)), nil)
	}
	any, only, but := r.Socket(socket.Dgram, 0), r.Socket(socket.Dgram, 0), r.Socket(socket.Dgram, 0)
	for _, s := range []*Socket{any, only, but} {
		s.Flag(socket.SOReusePort, 1)
		is(t, "bind", s.Bind(":9"), nil)
	}
	opt(any, 12)
	opt(only, 70, 10, 0, 0, 2) // IP_ADD_SOURCE_MEMBERSHIP
	opt(but, 12)
	opt(but, 72, 10, 0, 0, 2) // IP_BLOCK_SOURCE
	r.Send(UDP("10.0.0.2", "239.1.1.1", 5, 9, "two"), UDP("10.0.0.3", "239.1.1.1", 5, 9, "three"))
	for i, c := range []struct {
		s    *Socket
		want []string
	}{
		{any, []string{"10.0.0.2:5: two", "10.0.0.3:5: three", again}},
		{only, []string{"10.0.0.2:5: two", again}},
		{but, []string{"10.0.0.3:5: three", again}},
	} {
		for _, want := range c.want {
			if got := c.s.Get(); got != want {
				t.Errorf("socket %d: %q, want %q", i, got, want)
			}
		}
	}
}

func TestMulticastOut(t *testing.T) {
	if Over6() { // its options are tested in inet6
		return
	}
	r := New(t)
	s := r.UDP("10.0.0.1:9")
	is(t, "send", s.SendTo("239.1.1.1:9", "x"), nil)
	f := r.Sent()
	if len(f) != 1 || packet.IPv4(f[0][14:]).TTL() != 1 || netip.AddrFrom4([4]byte(f[0][30:34])) != netip.MustParseAddr("239.1.1.1") || f[0][0] != 1 {
		t.Fatalf("% x", f)
	}
	is(t, "IP_MULTICAST_TTL", s.Set(0, 10, []byte{0}), nil)
	is(t, "send", s.SendTo("239.1.1.1:9", "x"), nil)
	r.Expect()
}

// What a socket asks for after its first datagram counts for its second.
func TestOptionsChangeTheRouteInUse(t *testing.T) {
	if Over6() { // its options are tested in inet6
		return
	}
	r := New(t)
	en1 := r.AddIf("en1", Me1, "10.0.1.1/24")
	r.Meet("10.0.0.2")
	r.Pass(10 * time.Second)
	r.Sent()
	s := r.UDP("")
	is(t, "by the route", s.SendTo("239.1.1.1:9", ""), nil)
	is(t, "IP_MULTICAST_IF", s.Set(0, 9, []byte{10, 0, 1, 1}), nil)
	is(t, "by en1", s.SendTo("239.1.1.1:9", ""), nil)
	is(t, "IP_MULTICAST_IF", s.Set(0, 9, []byte{0, 0, 0, 0}), nil)
	is(t, "by the route", s.SendTo("239.1.1.1:9", ""), nil)
	port := s.Local().Port
	r.Expect(
		fmt.Sprintf("10.0.0.1 > 239.1.1.1 udp %d > 9 len 0", port),
		fmt.Sprintf("10.0.1.1 > 239.1.1.1 udp %d > 9 len 0", port),
		fmt.Sprintf("10.0.0.1 > 239.1.1.1 udp %d > 9 len 0", port))

	err := r.Routes.Update([]route.Op{{Kind: route.Add, Spec: route.Spec{Dst: netip.MustParsePrefix("0.0.0.0/0"),
		Gateway: netip.MustParseAddr("10.0.0.2"), Flags: route.FlagUp | route.FlagGateway}}})[0]
	is(t, "route", err, nil)
	is(t, "by the gateway", s.SendTo("99.0.0.1:9", ""), nil)
	s.Flag(socket.SODontRoute, 1)
	is(t, "SO_DONTROUTE", s.SendTo("99.0.0.1:9", ""), syscall.ENETUNREACH)
	s.Flag(socket.SODontRoute, 0)
	is(t, "SO_BINDTOIF", s.Set(socket.LevelSocket, socket.SOBindToIf, []byte(en1.Name)), nil)
	is(t, "by an interface without that route", s.SendTo("99.0.0.1:9", ""), syscall.ENETUNREACH)
}

// A group or broadcast address is bound to be listened on, and never a source.
func TestBoundToAGroup(t *testing.T) {
	r := New(t)
	r.Meet("10.0.0.2")
	for _, local := range []string{"239.1.1.1:9", "10.0.0.255:9"} {
		s := r.UDP(local)
		is(t, "send", s.SendTo("10.0.0.2:7", "x"), nil)
		r.Expect("10.0.0.1 > 10.0.0.2 udp 9 > 7 len 1")
		is(t, "connect", s.Connect("10.0.0.2:7"), nil)
		is(t, "send", s.SendTo("", "x"), nil)
		r.Expect("10.0.0.1 > 10.0.0.2 udp 9 > 7 len 1")
		if got := s.Local(); got != Addr(local) {
			t.Errorf("bound to %v, want %s", got, local)
		}
	}
}

// A call that comes too late, by another goroutine than the one that closed
// the socket, takes no port and joins no group.
func TestCallsAfterClose(t *testing.T) {
	r := New(t)
	for range 2 { // as often as one likes
		s := r.Socket(socket.Dgram, 0)
		s.Close()
		is(t, "bind", s.Bind(":9"), syscall.EBADF)
		is(t, "connect", s.Connect("10.0.0.2:7"), syscall.EBADF)
		is(t, "send", s.SendTo("10.0.0.2:7", ""), syscall.EBADF)
		is(t, "send, just checked", r.Do(func(w *netif.Work) error {
			_, err := s.H.Send(w, &socket.Msg{Addr: Addr("10.0.0.2:7")})
			return err
		}), syscall.EBADF)
		if Over6() { // has other options
			continue
		}
		is(t, "join", s.Set(0, 12, []byte{239, 1, 1, 1, 10, 0, 0, 1}), syscall.EBADF)
		is(t, "join with a source", s.Set(0, 70, []byte{239, 1, 1, 1, 10, 0, 0, 2, 10, 0, 0, 1}), syscall.EBADF)
	}
	for _, g := range r.Groups() {
		if g.Group == netip.MustParseAddr("239.1.1.1") {
			t.Errorf("%+v", g)
		}
	}
}

// What has come is received before the error that came behind it (soreceive).
func TestDataBeforeTheError(t *testing.T) {
	r := New(t)
	s := r.UDP(":9")
	is(t, "connect", s.Connect("10.0.0.2:5"), nil)
	r.Send(UDP("10.0.0.2", "10.0.0.1", 5, 9, "data"))
	_ = r.Do(func(w *netif.Work) error { s.SetError(w, syscall.ECONNREFUSED); return nil })
	if got := s.Get(); got != "10.0.0.2:5: data" {
		t.Error(got)
	}
	is(t, "looking", s.Socket.Recv(nil, &socket.Msg{Flags: socket.MsgPeek}), syscall.ECONNREFUSED)
	is(t, "taking", s.Socket.Recv(nil, &socket.Msg{}), syscall.ECONNREFUSED)
	is(t, "empty", s.Socket.Recv(nil, &socket.Msg{}), syscall.EWOULDBLOCK)
}

// Sockets that nobody reads leave the stack buffers to work with.
func TestSocketsShareMemory(t *testing.T) {
	r := New(t, func(c *stack.Config) { c.Memory = 1 << 20 })
	r.Meet("10.0.0.2")
	s := r.UDP(":9")
	s.Flag(socket.SORcvBuf, 8<<20)
	for range 1000 {
		r.Send(UDP("10.0.0.2", "10.0.0.1", 5, 9, string(make([]byte, 1400))))
	}
	if m := r.SocketMemory(); m < 700<<10 || m > 800<<10 {
		t.Errorf("%d octets wait in sockets, want three quarters of a MiB", m)
	}
	r.Send(Echo("10.0.0.2", "10.0.0.1", "alive?"))
	r.Expect("10.0.0.1 > 10.0.0.2 echo-reply id 1 seq 2 len 6")
}

// A super-packet from a driver is as many datagrams as it was sent as.
func TestSuperPacket(t *testing.T) {
	r := New(t)
	s := r.UDP(":9")
	f, l4 := Wire(UDP("10.0.0.2", "10.0.0.1", 5, 9, "aaabbbcc"))
	b := r.Env.Pool.Get(len(f))
	copy(b.Append(len(f)), f)
	b.SetPartial(l4, packet.UDPCsumOffset)
	if b.GSO, b.GSOSize = packet.GSOUDPv4, 3; Over6() {
		b.GSO = packet.GSOUDPv6
	}
	r.Input(r.Env.NewWork(), r.Now(), r.If, []*packet.Buf{b})
	for _, want := range []string{"10.0.0.2:5: aaa", "10.0.0.2:5: bbb", "10.0.0.2:5: cc", again} {
		if got := s.Get(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

// 0.0.0.0 as a destination is this host: one socket's datagram, not a
// broadcast.
func TestToThisHost(t *testing.T) {
	r := New(t)
	r.Sysctl("net.inet.ip.hostzerobroadcast", "0")
	s := r.UDP(":9")
	c := r.UDP("127.0.0.1:5")
	is(t, "send", c.SendTo("0.0.0.0:9", "x"), nil)
	if got := s.Get(); got != "127.0.0.1:5: x" {
		t.Error(got)
	}
	is(t, "connect", c.Connect("0.0.0.0:9"), nil)
	is(t, "send", c.SendTo("", "y"), nil)
	if got := s.Get(); got != "127.0.0.1:5: y" {
		t.Error(got)
	}
	is(t, "answer", s.SendTo("127.0.0.1:5", "z"), nil)
	if got := c.Get(); got != "127.0.0.1:9: z" {
		t.Error(got)
	}
	if p := c.Peer(); p != Addr("127.0.0.1:9") {
		t.Errorf("connected to %v", p)
	}
}
