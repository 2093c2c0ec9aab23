package host_test

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/mdlayher/ndp"
	"github.com/miekg/dns"

	"ionet/driver/wire"
	"ionet/host"
	"ionet/stack/inet6"
	"ionet/stack/netif"
	"ionet/stack/socket"
)

// accepted answers the ends of a connection from a to l.
func accepted(t *testing.T, a *host.Stack, network, address string, l net.Listener) (x, y net.Conn) {
	t.Helper()
	x, err := a.Dial(network, address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { x.Close() })
	if y, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { y.Close() })
	return x, y
}

// One listener has both families, as package net's, and shows each as itself.
func TestDualListener(t *testing.T) {
	seg := wire.NewSegment()
	a, b := station(t, seg, 1), station(t, seg, 2)
	for _, address := range []string{":0", "[::]:0", "0.0.0.0:0"} {
		l, err := b.Listen("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		host, port, _ := net.SplitHostPort(l.Addr().String())
		if host != "::" {
			t.Errorf("%s listens on %s", address, host)
		}
		for _, c := range []struct{ to, from string }{{"10.0.0.2", "10.0.0.1"}, {"2001:db8::2", "2001:db8::1"}, {"fe80::2%en0", "fe80::1%en0"}} {
			x, y := accepted(t, a, "tcp", net.JoinHostPort(c.to, port), l)
			if from, _, _ := net.SplitHostPort(y.RemoteAddr().String()); from != c.from || x.LocalAddr().String() != y.RemoteAddr().String() {
				t.Errorf("%s: from %v, which says %v", c.to, y.RemoteAddr(), x.LocalAddr())
			}
			if at := y.LocalAddr().String(); at != net.JoinHostPort(c.to, port) || at != x.RemoteAddr().String() {
				t.Errorf("%s: at %s", c.to, at)
			}
		}
	}
	// Each family alone leaves the port to the other.
	l6, err := b.Listen("tcp6", ":0")
	if err != nil {
		t.Fatal(err)
	}
	defer l6.Close()
	_, port, _ := net.SplitHostPort(l6.Addr().String())
	if _, err := a.Dial("tcp", "10.0.0.2:"+port); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("IPv4 at a listener of IPv6: %v", err)
	}
	l4, err := b.Listen("tcp4", ":"+port)
	if err != nil {
		t.Fatal(err)
	}
	defer l4.Close()
	accepted(t, a, "tcp", "10.0.0.2:"+port, l4)
	accepted(t, a, "tcp", "[2001:db8::2]:"+port, l6)
	if _, err := b.Listen("tcp", ":"+port); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("both families on a port in use: %v", err)
	}
}

// Datagrams of both families come to one socket and go back from it.
func TestDualDatagrams(t *testing.T) {
	seg := wire.NewSegment()
	a, b := station(t, seg, 1), station(t, seg, 2)
	srv, err := b.ListenPacket("udp", ":7")
	if err != nil {
		t.Fatal(err)
	}
	defer srv.Close()
	for _, c := range []struct{ to, from string }{{"10.0.0.2", "10.0.0.1"}, {"2001:db8::2", "2001:db8::1"}, {"fe80::2%en0", "fe80::1%en0"}} {
		conn, err := a.Dial("udp", net.JoinHostPort(c.to, "7"))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		b := make([]byte, 100)
		if _, err := conn.Write([]byte("there")); err != nil {
			t.Fatal(err)
		}
		srv.SetReadDeadline(time.Now().Add(10 * time.Second))
		n, from, err := srv.ReadFrom(b)
		if err != nil || string(b[:n]) != "there" || from.String() != conn.LocalAddr().String() {
			t.Fatalf("%s: %q from %v, %v", c.to, b[:n], from, err)
		}
		if ip, _, _ := net.SplitHostPort(from.String()); ip != c.from {
			t.Errorf("%s: from %v, want %s", c.to, from, c.from)
		}
		if _, err := srv.WriteTo([]byte("and back"), from); err != nil {
			t.Fatalf("%s: %v", c.to, err)
		}
		conn.SetReadDeadline(time.Now().Add(10 * time.Second))
		if n, err := conn.Read(b); err != nil || string(b[:n]) != "and back" {
			t.Errorf("%s: %q, %v", c.to, b[:n], err)
		}
	}
	if _, err := srv.WriteTo(nil, &net.UDPAddr{IP: net.ParseIP("fe80::1"), Port: 7, Zone: "en9"}); err == nil {
		t.Error("sent by an interface that is not there")
	}
}

// A datagram says where it was sent to and how far, and may be sent with such
// words.
func TestAncillary(t *testing.T) {
	const ipv6, recvPktInfo, recvHopLimit, hopLimit = 41, 36, 37, 47
	seg := wire.NewSegment()
	a, b := station(t, seg, 1), station(t, seg, 2)
	lc := host.ListenConfig{Stack: b, Control: func(_, _ string, so *socket.Socket) (err error) {
		b.Call(func(w *netif.Work) {
			if err = so.SetOption(w, ipv6, recvPktInfo, socket.Value32(1)); err == nil {
				err = so.SetOption(w, ipv6, recvHopLimit, socket.Value32(1))
			}
		})
		return err
	}}
	srv, err := lc.ListenPacket(t.Context(), "udp6", ":7")
	if err != nil {
		t.Fatal(err)
	}
	defer srv.Close()
	c, err := a.Dial("udp6", "[2001:db8::2]:7")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.(*host.Conn).WriteMsg(socket.Msg{Data: []byte("x"), Control: []socket.Cmsg{{Level: ipv6, Type: hopLimit, Data: socket.Value32(7)}}}); err != nil {
		t.Fatal(err)
	}
	srv.SetReadDeadline(time.Now().Add(10 * time.Second))
	m, err := srv.(*host.Conn).ReadMsg(make([]byte, 10))
	if err != nil || len(m.Control) != 2 || m.Addr.IP != netip.MustParseAddr("2001:db8::1") {
		t.Fatalf("%+v, %v", m, err)
	}
	for _, c := range m.Control {
		if c.Type == hopLimit {
			if n, err := socket.Int32(c.Data); n != 7 || err != nil {
				t.Errorf("hop limit %d, %v", n, err)
			}
		} else if ip := netip.AddrFrom16([16]byte(c.Data)); ip != netip.MustParseAddr("2001:db8::2") {
			t.Errorf("sent to %v", ip)
		}
	}
}

// answers is a name server of b's that has these records.
func answers(t *testing.T, b *host.Stack, records ...string) {
	t.Helper()
	pc, err := b.ListenPacket("udp", ":53")
	if err != nil {
		t.Fatal(err)
	}
	up, done := make(chan struct{}), make(chan struct{})
	srv := &dns.Server{PacketConn: pc, NotifyStartedFunc: func() { close(up) }, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		m := new(dns.Msg).SetReply(q)
		for _, s := range records {
			if rr, err := dns.NewRR(s); err != nil {
				t.Error(err)
			} else if h := rr.Header(); h.Rrtype == q.Question[0].Qtype && h.Name == q.Question[0].Name {
				m.Answer = append(m.Answer, rr)
			}
		}
		_ = w.WriteMsg(m)
	})}
	go func() { defer close(done); _ = srv.ActivateAndServe() }()
	<-up
	t.Cleanup(func() { _ = srv.Shutdown(); <-done })
}

// Of a name's addresses the better is tried first, and the next when that
// refuses or is silent.
func TestDialNames(t *testing.T) {
	seg := wire.NewSegment()
	a, b := stationOf(t, seg, 1, host.Config{NameServers: []netip.AddrPort{netip.MustParseAddrPort("[2001:db8::2]:53")}}), station(t, seg, 2)
	answers(t, b, "both.test. 60 IN A 10.0.0.2", "both.test. 60 IN AAAA 2001:db8::2",
		"silent.test. 60 IN AAAA 2001:db8::99", "silent.test. 60 IN A 10.0.0.2", // nobody has the first
		"away.test. 60 IN AAAA 2001:db8:9::1", "away.test. 60 IN A 10.0.0.2", // there is no way to the first
		"four.test. 60 IN A 10.0.0.2")
	dual, err := b.Listen("tcp", ":80")
	if err != nil {
		t.Fatal(err)
	}
	defer dual.Close()
	four, err := b.Listen("tcp4", ":81")
	if err != nil {
		t.Fatal(err)
	}
	defer four.Close()
	for _, c := range []struct {
		network, address, at string
		l                    net.Listener
	}{
		{"tcp", "both.test.:80", "[2001:db8::2]:80", dual},
		{"tcp4", "both.test.:80", "10.0.0.2:80", dual},
		{"tcp6", "both.test.:80", "[2001:db8::2]:80", dual},
		{"tcp", "both.test.:81", "10.0.0.2:81", four},
		{"tcp", "silent.test.:80", "10.0.0.2:80", dual},
		{"tcp", "away.test.:80", "10.0.0.2:80", dual},
		{"tcp", "four.test.:80", "10.0.0.2:80", dual},
	} {
		x, _ := accepted(t, a, c.network, c.address, c.l)
		if x.RemoteAddr().String() != c.at {
			t.Errorf("%s %s: %v, want %s", c.network, c.address, x.RemoteAddr(), c.at)
		}
	}
	// Whoever runs the stack may think otherwise.
	if err := a.Engine().Inet6.AddPolicy(inet6.Policy{Prefix: netip.MustParsePrefix("::ffff:0:0/96"), Precedence: 100, Label: 4}); err != nil {
		t.Fatal(err)
	}
	if x, _ := accepted(t, a, "tcp", "both.test.:80", dual); x.RemoteAddr().String() != "10.0.0.2:80" {
		t.Errorf("IPv4 is to come first: %v", x.RemoteAddr())
	}
	for _, c := range []struct{ network, address string }{{"tcp4", "[2001:db8::2]:80"}, {"tcp6", "10.0.0.2:80"}, {"udp", "[fe80::2%en9]:80"}} {
		if _, err := a.Dial(c.network, c.address); !errors.As(err, new(*net.AddrError)) {
			t.Errorf("%s %s: %v", c.network, c.address, err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if _, err := a.DialContext(ctx, "tcp6", "silent.test.:80"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("out of time: %v", err)
	}
}

// Without IPv6 everything is IPv4.
func TestV4Only(t *testing.T) {
	a := stationOf(t, wire.NewSegment(), 1, host.Config{V4Only: true})
	l, err := a.Listen("tcp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if host, _, _ := net.SplitHostPort(l.Addr().String()); host != "0.0.0.0" {
		t.Errorf("listens on %v", l.Addr())
	}
	accepted(t, a, "tcp", l.Addr().String(), l)
	for _, f := range []func() error{
		func() error { _, err := a.Listen("tcp6", ":0"); return err },
		func() error { _, err := a.ListenPacket("udp", "[::]:0"); return err },
		func() error { _, err := a.Dial("udp", "[::1]:7"); return err },
	} {
		if err := f(); !errors.Is(err, syscall.EAFNOSUPPORT) {
			t.Errorf("IPv6: %v", err)
		}
	}
}

// The name servers of a stack that was given none are those that a router tells
// of.
func TestLearntNameServers(t *testing.T) {
	seg := wire.NewSegment()
	a, b := station(t, seg, 1), station(t, seg, 2)
	answers(t, b, "learnt.test. 60 IN AAAA 2001:db8::2")
	l, err := b.Listen("tcp", ":80")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ra, err := ndp.MarshalMessage(&ndp.RouterAdvertisement{Options: []ndp.Option{
		&ndp.RecursiveDNSServer{Lifetime: time.Hour, Servers: []netip.Addr{netip.MustParseAddr("fe80::2")}}}})
	if err != nil {
		t.Fatal(err)
	}
	b.Call(func(w *netif.Work) {
		so, serr := b.Engine().Socket(w, socket.AFInet6, socket.Raw, 58, socket.Cred{Super: true})
		if err = serr; err != nil {
			return
		}
		defer so.Close(w)
		if err = so.SetOption(w, inet6.LevelIPv6, inet6.IPv6MulticastHops, socket.Value32(255)); err == nil {
			_, err = so.Send(w, &socket.Msg{Addr: socket.Addr{IP: netip.MustParseAddr("ff02::1"), Scope: 2}, Data: ra})
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(10 * time.Second); ; runtime.Gosched() {
		if servers, _ := a.Engine().Auto.DNS(); len(servers) == 1 {
			break
		}
		if time.Now().After(end) {
			t.Fatal("no name server was learnt")
		}
	}
	x, _ := accepted(t, a, "tcp", "learnt.test.:80", l)
	if x.RemoteAddr().String() != "[2001:db8::2]:80" {
		t.Errorf("connected to %v", x.RemoteAddr())
	}
}
