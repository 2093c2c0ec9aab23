package stackd

import (
	"log/slog"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"ionet/protocol"
)

// fuzzServer is one server for all inputs, without doors: nothing is mounted
// (-s), and a stop does not end it.
func fuzzServer(f *testing.F) *server {
	o, p := Options{}, DefaultTCPIP()
	ps := paths{prefix: f.TempDir()}
	log := slog.New(slog.DiscardHandler)
	eng, err := newEngine(log, ps, &o, &p)
	if err != nil {
		f.Fatal(err)
	}
	s, err := newServer(log, eng, ps)
	if err != nil {
		f.Fatal(err)
	}
	s.static = true
	f.Cleanup(func() { s.shut(func() { eng.Close() }) })
	return s
}

func FuzzFrame(f *testing.F) {
	// 1 is a datagram socket, 2 a stream, 3 one that listens; 4 to 6 of IPv6: datagrams, echoes, raw ICMPv6.
	for id := range uint32(6) {
		for typ := range protocol.Type(26) {
			h := protocol.AppendHeader(nil, protocol.Header{Type: typ, ID: id + 1})
			f.Add(append(slices.Clip(h), 2, 0, 0, 0), false)
			f.Add(append(slices.Clip(h), 0, 0, 0, 0, 100, 0, 0, 0), false)
			f.Add(append(slices.Clip(h), protocol.MsgOOB, 0, 0, 0, 1, 0, 0, 0), false)
			f.Add(protocol.AppendSockaddr(slices.Clip(h), inet("127.0.0.1:9")), false)
			f.Add(protocol.AppendSockaddr(slices.Clip(h), inet("[fe80::1%1]:9")), false)
		}
		h := protocol.AppendHeader(nil, protocol.Header{Type: protocol.TypeSend, ID: id + 1})
		wishes := protocol.AppendControl(nil, protocol.Control{Level: protocol.ProtoIPv6, Type: protocol.IPv6HopLimit, Data: []byte{7, 0, 0, 0}})
		wishes = protocol.AppendControl(wishes, protocol.Control{Level: protocol.ProtoIPv6, Type: protocol.IPv6HopOpts, Data: []byte{0, 0, 1, 4, 0, 0, 0, 0}})
		f.Add(protocol.AppendMsg(h, protocol.Msg{Addr: inet("[::1]:9"), Control: wishes, Data: make([]byte, 8)}), false)
		h = protocol.AppendHeader(nil, protocol.Header{Type: protocol.TypeSetsockopt, ID: id + 1})
		f.Add(protocol.AppendSockOpt(h, protocol.SockOpt{Level: protocol.ProtoIPv6, Name: protocol.IPv6RecvPktInfo, Value: []byte{1, 0, 0, 0}}), false)
	}
	f.Add(protocol.AppendHelloRequest(protocol.AppendHeader(nil, protocol.Header{Type: protocol.TypeHello})), false)
	m := protocol.RouteMessage{Type: protocol.RTMAdd, Dst: inet("10.0.0.0"), Netmask: inet("255.0.0.0"), Gateway: inet("127.0.0.1")}
	f.Add(protocol.AppendMessage(nil, &m), true)
	m = protocol.RouteMessage{Type: protocol.RTMAdd, Flags: protocol.RTFLLInfo | protocol.RTFHost, Dst: inet("fe80::9%1"), Gateway: protocol.LinkAddrOf(protocol.LinkAddr{Len: 6})}
	f.Add(protocol.AppendMessage(nil, &m), true)
	req := protocol.AppendHeader(nil, protocol.Header{Type: protocol.TypeIoctl})
	alias := protocol.AliasReq{Name: "lo0", Addr: inet("2001:db8::1"), Timed: true, Preferred: 1, Valid: 2}
	f.Add(protocol.AppendIoctl(slices.Clip(req), protocol.SIOCAIFADDR, protocol.AppendAliasReq(nil, alias)), false)
	f.Add(protocol.AppendIoctl(slices.Clip(req), protocol.SIOCAADDRCTLPOLICY, make([]byte, 44)), false)
	f.Add(protocol.AppendIoctl(slices.Clip(req), protocol.SIOCSNDINFO, protocol.AppendIfReq(nil, protocol.IfReq{Name: "lo0", Value: 3})), false)
	s := fuzzServer(f)
	f.Fuzz(func(t *testing.T, b []byte, onRoute bool) {
		if len(b) > protocol.MaxFrame || len(b) == 0 {
			return
		}
		fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(fds[1])
		c := &conn{s: s, fd: fds[0], family: protocol.AFInet, super: true, greets: true, busy: true, socks: map[uint32]*sock{}, caps: map[uint32]*capture{}}
		s.mu.Lock()
		s.users[0] = &quota{}
		s.mu.Unlock()
		if onRoute {
			c.family = protocol.AFRoute
			c.routeFrame(b)
		} else {
			for _, typ := range []byte{protocol.SockDgram, protocol.SockStream, protocol.SockStream} {
				if _, err := c.newSocket([]byte{typ, 0, 0, 0}); err != nil {
					t.Fatal(err)
				}
			}
			for _, kind := range [][2]uint16{{protocol.SockDgram, 0}, {protocol.SockDgram, protocol.ProtoICMPv6}, {protocol.SockRaw, protocol.ProtoICMPv6}} {
				if _, err := c.newSocket(protocol.AppendSocket(nil, kind[0], kind[1], protocol.AFInet6)); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := c.request(protocol.Header{Type: protocol.TypeListen, ID: 3}, []byte{5, 0, 0, 0}); err != nil {
				t.Fatal(err)
			}
			c.frame(b)
		}
		buf := make([]byte, protocol.MaxFrame)
		n, err := unix.Read(fds[1], buf)
		if err != nil && c.parked == 0 {
			t.Fatalf("no answer: %v", err)
		}
		if err == nil && !onRoute {
			if h, _, err := protocol.ParseFrame(buf[:n]); err != nil || h.Flags&protocol.FlagReply == 0 {
				t.Fatalf("the answer is %+v, %v", h, err)
			}
		}
		c.teardown()
	})
}

// FuzzStream plays a script to both ends of a connection, to a listener, and
// to sockets beside them: requests, octets in and out of the descriptors, and
// their ends. Whatever it says, every request is answered once or waits, the
// descriptors come with the answers that have them, and nothing is left of a
// client that has gone.
func FuzzStream(f *testing.F) {
	for _, script := range [][]byte{
		nil,
		// Words, read, and both ends.
		{stepWrite, 0, 2, stepWork, stepRead, 1, 3, stepShut, 0, 1, stepWork, stepClose, 1, stepWork},
		// SHUT_WR here, SHUT_RD there.
		{stepAsk, 0, 4, 1, stepAsk, 0, 5, 0, stepWork},
		// Words and an out-of-band octet, for which the other has been waiting.
		{stepAsk, 3, 5, protocol.MsgOOB, 1, stepWrite, 0, 9, stepAsk, 2, 4, protocol.MsgOOB, 0, 1, stepWork, stepRead, 1, 20},
		// SO_LINGER of no time, and the reset that it makes; why it ended is asked.
		{stepAsk, 5, 4, 1, 0, 2, 1, 0, stepWrite, 0, 9, stepAsk, 1, 4, stepWork, stepAsk, 4, 5, 0, 0, stepRead, 1, 9},
		// The same, and it is closed without asking.
		{stepAsk, 5, 4, 1, 0, 2, 1, 0, stepAsk, 1, 4, stepWork, stepClose, 1, stepAsk, 1, 5},
		// SO_LINGER of a second, and a reader who does not read.
		{stepAsk, 5, 4, 1, 0, 2, 1, 1, stepWrite, 0, 255, stepWrite, 0, 255, stepWork, stepAsk, 1, 4, stepWork, stepClose, 1},
		// A reader who reads at last.
		{stepWrite, 0, 255, stepWork, stepWrite, 0, 255, stepWork, stepWrite, 0, 255, stepWork, stepRead, 1, 255, stepWork, stepRead, 1, 255, stepWork},
		// A connection more, accepted, and the listener closed.
		{stepAsk, 6, 3, stepAsk, 7, 2, 0, stepWork, stepAsk, 6, 3, stepAsk, 1, 3, stepWrite, 2, 1, stepWork, stepRead, 3, 1},
		// What waits is cancelled.
		{stepAsk, 6, 3, stepAsk, 12, 0, 0, stepAsk, 3, 4, protocol.MsgOOB, 1, stepAsk, 12, 0, 0},
		// Octets that are no request.
		{stepRaw, 0, 4, 3, 1, 2, 3, stepRaw, 2, 4, 5, 1, 0, 0, 0, 0, stepRaw, 4, 5, 0},
	} {
		f.Add(script, false)
		f.Add(script, true)
	}
	for _, script := range keptScripts(f, "testdata/fuzzstream.txt") {
		f.Add(script, false)
		f.Add(script, true)
	}
	s := fuzzServer(f)
	for name, v := range map[string]string{"net.inet.tcp.maxtimewait": "0", "net.inet.ip.anonportmin": "1024"} {
		if _, err := s.eng.Engine().Env.MIB.Set(name, v); err != nil {
			f.Fatal(err)
		}
	}
	f.Fuzz(func(t *testing.T, script []byte, six bool) {
		if len(script) > 1000 {
			return
		}
		family := protocol.AFInet
		if six {
			family = protocol.AFInet6
		}
		p := newPlayer(t, s, family)
		p.play(script)
		p.leave()
	})
}
