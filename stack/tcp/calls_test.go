package tcp_test

import (
	"fmt"
	"syscall"
	"testing"
	"time"

	"ionet/stack/inet"
	"ionet/stack/inet6"
	"ionet/stack/netif"
	"ionet/stack/packet"
	"ionet/stack/socket"
	. "ionet/stack/stacktest"
	"ionet/stack/tcp"
)

// What each call answers on a socket that is in the wrong state for it, or with
// something that it cannot do.
func TestErrors(t *testing.T) {
	r := New(t)
	write := func(s *Socket) error { _, err := s.Write("x", 0); return err }
	accept := func(s *Socket) error { _, err := s.Accept(); return err }

	s := r.Stream("")
	is(t, "write on a fresh socket", write(s), syscall.ENOTCONN)
	says(t, "read on a fresh socket", s.Read(9, 0), "transport endpoint is not connected")
	is(t, "shutdown of a fresh socket", s.Shutdown(true, true), syscall.ENOTCONN)
	is(t, "accept on a fresh socket", accept(s), syscall.EINVAL)
	is(t, "connect to no address", s.Connect(""), syscall.ENOTCONN)
	is(t, "connect to port 0", s.Connect("10.0.0.2:0"), syscall.EADDRNOTAVAIL)
	is(t, "connect to a group", s.Connect("224.0.0.1:80"), syscall.EADDRNOTAVAIL)
	is(t, "connect to everybody", s.Connect("10.0.0.255:80"), map[bool]error{false: syscall.EACCES, true: syscall.EADDRNOTAVAIL}[Over6()])
	is(t, "connect to nowhere", s.Connect("99.0.0.1:80"), syscall.ENETUNREACH)
	is(t, "bind to an address that is not ours", s.Bind("10.0.0.77:80"), syscall.EADDRNOTAVAIL)
	is(t, "bind to a group", s.Bind("224.0.0.1:80"), syscall.EADDRNOTAVAIL)
	is(t, "bind", s.Bind(":80"), nil)
	is(t, "bind again", s.Bind(":81"), syscall.EINVAL)
	is(t, "bind beside it", r.Stream("").Bind(":80"), syscall.EADDRINUSE)
	is(t, "listen", s.Listen(5), nil)
	is(t, "listen again", s.Listen(7), nil)
	is(t, "connect of a listener", s.Connect("10.0.0.2:80"), syscall.EOPNOTSUPP)
	is(t, "accept", accept(s), syscall.EWOULDBLOCK)
	is(t, "write on a listener", write(s), syscall.ENOTCONN)
	says(t, "read on a listener", s.Read(9, 0), "transport endpoint is not connected")
	is(t, "shutdown of a listener", s.Shutdown(true, true), syscall.ENOTCONN)

	c, e := r.Dial(bare)
	is(t, "listen on a connection", c.Listen(5), syscall.EINVAL)
	is(t, "accept on a connection", accept(c), syscall.EINVAL)
	is(t, "bind of a connection", c.Bind(":99"), syscall.EINVAL)
	is(t, "shutdown", c.Shutdown(false, true), nil)
	is(t, "write after it", write(c), syscall.EPIPE)
	is(t, "an option there is not", c.Set(tcp.LevelTCP, 99, socket.Value32(1)), syscall.ENOPROTOOPT)
	is(t, "a segment size of 1", c.Set(tcp.LevelTCP, tcp.MaxSeg, socket.Value32(1)), syscall.EINVAL)
	is(t, "a congestion control there is not", c.Set(tcp.LevelTCP, tcp.CongCtl, []byte("vegas")), syscall.ENOENT)
	is(t, "keepalive after no time", c.Set(tcp.LevelTCP, tcp.KeepIdle, socket.Value32(0)), syscall.EINVAL)
	e.Lines()

	user, err := r.SocketAs(socket.Stream, 0, socket.Cred{UID: 1})
	is(t, "a user's socket", err, nil)
	is(t, "bind of a low port", user.Bind(":79"), syscall.EACCES)
	is(t, "bind of a high one", user.Bind(":7900"), nil)
}

// Options are read back as they were set, and connections inherit them.
func TestOptionsAreInherited(t *testing.T) {
	r := New(t)
	l := r.Listen(":80", 5)
	set := map[int]int{tcp.NoDelay: 1, tcp.MaxSeg: 700, tcp.KeepIdle: 11, tcp.KeepIntvl: 12, tcp.KeepCnt: 13}
	for name, v := range set {
		option(t, l, name, v)
	}
	l.Flag(socket.SORcvBuf, 5000)
	l.Flag(socket.SOKeepAlive, 1)
	r.Knock(bare)
	s, err := l.Accept()
	is(t, "accept", err, nil)
	for name, v := range set {
		b, err := s.Option(tcp.LevelTCP, name)
		if n, _ := socket.Int32(b); n != v || err != nil {
			t.Errorf("option %d is %d, %v, want %d", name, n, err, v)
		}
	}
	b, _ := s.Option(socket.LevelSocket, socket.SORcvBuf)
	if n, _ := socket.Int32(b); n != 5000 {
		t.Errorf("the buffer is %d", n)
	}
	b, _ = s.Option(socket.LevelSocket, socket.SOKeepAlive)
	if n, _ := socket.Int32(b); n == 0 {
		t.Error("it is not kept alive")
	}
	r.Sent()
}

// Options of the network's level are inherited too, and are the connection's own
// from then on.
func TestNetworkOptionsAreTheConnectionsOwn(t *testing.T) {
	level, name := inet.LevelIP, inet.IPTOS
	if Over6() {
		level, name = inet6.LevelIPv6, inet6.IPv6TClass
	}
	class := func(s *Socket) int {
		t.Helper()
		v, err := s.Option(level, name)
		is(t, "the class", err, nil)
		n, _ := socket.Int32(v)
		return n
	}
	r := New(t)
	l := r.Listen(":80", 5)
	is(t, "a class of traffic", l.Set(level, name, socket.Value32(8)), nil)
	r.Knock(bare)
	first, err := l.Accept()
	is(t, "accept", err, nil)
	is(t, "another for a connection", first.Set(level, name, socket.Value32(16)), nil)
	r.End("10.0.0.2:5001", "10.0.0.1:80").Knock(bare)
	second, err := l.Accept()
	is(t, "accept", err, nil)
	r.Sent()
	if got := [3]int{class(l), class(first), class(second)}; got != [3]int{8, 16, 8} {
		t.Errorf("listener, first and second connection have %d", got)
	}
}

// A server whose old connections live on may be started anew with
// SO_REUSEADDR, and without it not.
func TestRestartOfAServer(t *testing.T) {
	r := New(t)
	l := r.Listen(":80", 5)
	r.Knock(bare)
	if _, err := l.Accept(); err != nil {
		t.Fatal(err)
	}
	l.Close()
	is(t, "bind", r.Stream("").Bind(":80"), syscall.EADDRINUSE)
	n := r.Stream("")
	n.Flag(socket.SOReuseAddr, 1)
	is(t, "bind with SO_REUSEADDR", n.Bind(":80"), nil)
	is(t, "listen", n.Listen(5), nil)
	says(t, "state", state(r), "ESTABLISHED")
	e := r.End("10.0.0.2:5001", "10.0.0.1:80")
	e.Knock(bare)
	says(t, "readiness", events(n), "R")
}

// Ephemeral ports are shared by connections to different peers, and run out
// only for one.
func TestEphemeralPorts(t *testing.T) {
	r := New(t)
	r.Sysctl("net.inet.ip.anonportmin", "60000")
	r.Sysctl("net.inet.ip.anonportmax", "60007")
	r.Meet("10.0.0.2")
	seen := map[uint16]bool{}
	for i := range 8 {
		s := r.Stream("")
		is(t, fmt.Sprint("connect ", i), s.Connect("10.0.0.2:80"), syscall.EINPROGRESS)
		seen[s.Local().Port] = true
	}
	if len(seen) != 8 {
		t.Errorf("%d different ports", len(seen))
	}
	is(t, "one more", r.Stream("").Connect("10.0.0.2:80"), syscall.EADDRNOTAVAIL)
	is(t, "to another port", r.Stream("").Connect("10.0.0.2:81"), syscall.EINPROGRESS)
	r.Sent()
}

// The upcall comes when something has changed, and not else.
func TestUpcalls(t *testing.T) {
	r := New(t)
	s, e := r.Dial(bare)
	n := 0
	s.SetUpcall(func(*netif.Work) { n++ })
	once := func(what string, want int, f func()) {
		t.Helper()
		n = 0
		f()
		if n != want {
			t.Errorf("%s: %d upcalls, want %d", what, n, want)
		}
	}
	once("data", 1, func() { e.Send("P. 1+5") })
	once("more in one burst", 1, func() { e.Send("P. 6+5", "P. 11+5") })
	once("old data", 0, func() { e.Send("P. 1+5") })
	once("data out of order", 0, func() { e.Send("P. 20+5") })
	once("an ACK of nothing", 0, func() { e.Send(". 16") })
	once("the end", 1, func() { e.Send("F. 25", ". 16+4") })
	s.Read(99, 0)
	e.Lines()
	once("a reset", 1, func() { e.Send("R 26") })
}

// tcpdrop(8).
func TestDrop(t *testing.T) {
	r := New(t)
	s, e := r.Dial(bare)
	drop := func() error {
		return r.Do(func(w *netif.Work) error { return r.TCP.Drop(w, Addr("10.0.0.1:5000"), Addr("10.0.0.2:80")) })
	}
	is(t, "drop", drop(), nil)
	e.Got("R. 1 ack 1")
	says(t, "read", s.Read(9, 0), "software caused connection abort")
	is(t, "drop again", drop(), syscall.ESRCH)
}

// A super-packet that the driver or the wire brings, whole, with the checksum
// still to be made, is a segment like any other.
func TestSuperPacketIn(t *testing.T) {
	r := New(t)
	s, e := r.Dial(bare)
	for at := 1; at < 100000; at += 40000 {
		f, l4 := Wire(e.Frame("P. " + seqs(at, 40000)))
		b := r.Env.Pool.Get(len(f))
		copy(b.Append(len(f)), f)
		b.SetPartial(l4, packet.TCPCsumOffset)
		if b.GSO, b.GSOSize = packet.GSOTCPv4, 1460; Over6() {
			b.GSO = packet.GSOTCPv6
		}
		r.Input(r.Env.NewWork(), r.Now(), r.If, []*packet.Buf{b})
		r.Pass(50 * time.Millisecond)
		got := e.Segments()
		if len(got) == 0 || got[len(got)-1].Ack != uint32(at+40000) {
			t.Fatalf("at %d: %v", at, got)
		}
		s.Has(at, 40000)
		r.Sent()
	}
}

// Bad checksums, headers and lengths are counted and go nowhere.
func TestMalformedSegments(t *testing.T) {
	r := New(t)
	s, e := r.Dial(bare)
	bad := func(name string, change func(h []byte) []byte) {
		t.Helper()
		f := e.Frame("P. 1+5")
		h := change(append([]byte(nil), f[14+20:]...))
		r.Counts("tcp", name, func() {
			r.Send(IP{Src: "10.0.0.2", Dst: "10.0.0.1", Proto: packet.ProtoTCP, Data: h}.Frame())
		})
	}
	bad("bad TCP checksum", func(h []byte) []byte { h[16]++; return h })
	bad("bad TCP checksum", func(h []byte) []byte { h[24]++; return h })
	bad("bad header", func(h []byte) []byte { h[12] = 4 << 4; return h })
	bad("bad header", func(h []byte) []byte { h[12] = 15 << 4; return h })
	bad("too short", func(h []byte) []byte { return h[:19] })
	e.Got()
	says(t, "read", s.Read(9, 0), again)
	says(t, "state", state(r), "ESTABLISHED")
}

// Calls on a listener while SYNs come in (for the race detector).
func TestListenWhileSynsCome(t *testing.T) {
	r := New(t)
	e := r.End("10.0.0.2:5000", "10.0.0.1:80")
	syn := e.Frame("S 0 <mss 1460>")
	r.Sysctl("net.inet.tcp.rstppslimit", "-1")
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range 200 {
			l := r.Stream(":80")
			_ = l.Listen(5)
			for i := range 20 {
				l.Flag(socket.SORcvBuf, 5000+i)
				option(t, l, tcp.MaxSeg, 1000+i)
			}
			l.Poll()
			l.Close()
		}
	}()
	for {
		select {
		case <-done:
			r.Sent()
			return
		default:
			r.Send(syn)
		}
	}
}
