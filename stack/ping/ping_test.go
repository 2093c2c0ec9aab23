package ping_test

import (
	"errors"
	"fmt"
	"net/netip"
	"syscall"
	"testing"

	"ionet/stack"
	"ionet/stack/netif"
	"ionet/stack/packet"
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

// echo makes an echo socket of an ordinary user's, bound to local ("" for not).
func echo(t *testing.T, r *Rig, local string) *Socket {
	t.Helper()
	s, err := r.SocketAs(socket.Dgram, packet.ProtoICMP, socket.Cred{UID: 1000})
	if err != nil {
		t.Fatal(err)
	}
	if local != "" {
		is(t, "bind "+local, s.Bind(local), nil)
	}
	return s
}

// request is an echo request as a program writes it: it knows no identifier.
func request(seq uint32, data string) string {
	return string(ICMP(packet.ICMPEcho, 0, 0xbad<<16|seq, []byte(data)))
}

func message(typ uint8, id, seq uint32, data string) []byte {
	return ICMP(typ, 0, id<<16|seq, []byte(data))
}

// reply is an echo reply to 10.0.0.1.
func reply(src string, id, seq uint32, data string) []byte {
	return IP{Src: src, Dst: "10.0.0.1", Proto: packet.ProtoICMP, Data: message(packet.ICMPEchoReply, id, seq, data)}.Frame()
}

// about is an ICMP error from 10.0.0.2 about a message that 10.0.0.1 sent to
// dst.
func about(typ, code uint8, dst string, m []byte) []byte {
	q := IP{Src: "10.0.0.1", Dst: dst, Proto: packet.ProtoICMP, Data: m}.Frame()[packet.EtherLen:]
	return IP{Src: "10.0.0.2", Dst: "10.0.0.1", Proto: packet.ProtoICMP, Data: ICMP(typ, code, 0, q[:packet.IPv4Len+packet.ICMPLen])}.Frame()
}

func TestRequestAndReply(t *testing.T) {
	r := New(t)
	r.Meet("10.0.0.2")
	s, other := echo(t, r, ":77"), echo(t, r, ":78")
	r.Counts("icmp", "echo sent", func() { is(t, "send", s.SendTo("10.0.0.2", request(7, "ping")), nil) })
	r.Expect("10.0.0.1 > 10.0.0.2 echo id 77 seq 7 len 4")

	bad := reply("10.0.0.2", 77, 7, "ping")
	bad[len(bad)-1] ^= 1
	r.Counts("icmp", "bad ICMP checksum", func() { r.Send(bad) })
	r.Counts("icmp", "delivered", func() { r.Send(reply("10.0.0.2", 77, 7, "ping"), reply("10.0.0.2", 79, 7, "nobody's")) })
	if got, want := s.Get(), "10.0.0.2: "+string(message(packet.ICMPEchoReply, 77, 7, "ping")); got != want {
		t.Errorf("got %q, want %q: the message alone, from no port", got, want)
	}
	if got := s.Get() + other.Get(); got != again+again {
		t.Errorf("then %q", got)
	}
}

// TestOnlyReplies: requests, errors and other messages are no socket's
// business, whatever identifier they have.
func TestOnlyReplies(t *testing.T) {
	r := New(t)
	r.Meet("10.0.0.2")
	s := echo(t, r, ":77")
	from := func(dst string, m []byte) []byte {
		return IP{Src: "10.0.0.2", Dst: dst, Proto: packet.ProtoICMP, Data: m}.Frame()
	}
	r.Send(from("10.0.0.1", message(packet.ICMPEcho, 77, 1, "")),
		from("10.0.0.1", message(packet.ICMPTimestampReply, 77, 1, "0123456789ab")),
		from("10.0.0.1", ICMP(packet.ICMPEchoReply, 1, 77<<16, nil)),
		about(packet.ICMPUnreach, packet.ICMPUnreachHost, "10.0.0.9", message(packet.ICMPEcho, 77, 1, "")))
	for _, all := range []string{"10.0.0.255", "224.0.0.1"} {
		r.Counts("icmp", "reply to a group", func() { r.Send(from(all, message(packet.ICMPEchoReply, 77, 1, ""))) })
	}
	r.Expect("10.0.0.1 > 10.0.0.2 echo-reply id 77 seq 1 len 0")
	if got := s.Get(); got != again {
		t.Errorf("got %q", got)
	}
}

func TestIdentifiers(t *testing.T) {
	r := New(t)
	r.Meet("10.0.0.2")
	chosen, none, asked := echo(t, r, ":1"), echo(t, r, ""), echo(t, r, ":0")
	if got := chosen.Local(); got != Addr(":1") {
		t.Errorf("bound to %v, want identifier 1", got)
	}
	if got := none.Local().Port; got != 0 {
		t.Errorf("identifier %d before there is one", got)
	}
	is(t, "send", none.SendTo("10.0.0.2", request(1, "")), nil)
	free, free2 := none.Local().Port, asked.Local().Port
	if free == 0 || free2 == 0 || free == free2 {
		t.Errorf("the stack chose %d and %d", free, free2)
	}
	r.Expect(fmt.Sprintf("10.0.0.1 > 10.0.0.2 echo id %d seq 1 len 0", free))

	is(t, "bind again", none.Bind(":5"), syscall.EINVAL)
	is(t, "bind to one that is taken", echo(t, r, "").Bind(":1"), syscall.EADDRINUSE)
	is(t, "bind to one that is taken, by address", echo(t, r, "").Bind("10.0.0.1:1"), syscall.EADDRINUSE)
	is(t, "bind elsewhere", echo(t, r, "").Bind("10.0.0.9:5"), syscall.EADDRNOTAVAIL)
	is(t, "bind in IPv6", r.Do(func(w *netif.Work) error { return none.H.Bind(w, socket.Addr{IP: netip.IPv6Loopback()}) }), syscall.EAFNOSUPPORT)
	thief, err := r.SocketAs(socket.Dgram, packet.ProtoICMP, socket.Cred{UID: 1001})
	is(t, "another user's", err, nil)
	thief.Flag(socket.SOReuseAddr, 1)
	thief.Flag(socket.SOReusePort, 1)
	is(t, "bind to another user's", thief.Bind(":1"), syscall.EADDRINUSE)
	chosen.Close()
	is(t, "bind to one that is free again", thief.Bind(":1"), nil)
}

// TestEveryIdentifierTaken: the one after the last is told so.
func TestEveryIdentifierTaken(t *testing.T) {
	r := New(t)
	r.Sysctl("kern.maxsockets", "70000")
	for id := range 65535 {
		if id++; id != 4711 {
			echo(t, r, fmt.Sprint(":", id))
		}
	}
	last := echo(t, r, ":0")
	if got := last.Local().Port; got != 4711 {
		t.Errorf("identifier %d, want the last free one", got)
	}
	is(t, "one more", echo(t, r, "").Bind(":0"), syscall.EADDRNOTAVAIL)
	is(t, "one more that sends", echo(t, r, "").SendTo("127.0.0.1", request(1, "")), syscall.EADDRNOTAVAIL)
}

func TestWhatMayBeSent(t *testing.T) {
	r := New(t)
	r.Meet("10.0.0.2")
	s := echo(t, r, ":77")
	for _, m := range []string{"", "\x08\x00", request(1, "")[:7], string(ICMP(packet.ICMPEchoReply, 0, 0, nil)),
		string(ICMP(packet.ICMPEcho, 1, 0, nil)), string(ICMP(packet.ICMPUnreach, 1, 0, make([]byte, 28))), string(ICMP(packet.ICMPTimestamp, 0, 0, make([]byte, 12)))} {
		is(t, fmt.Sprintf("% x", m), s.SendTo("10.0.0.2", m), syscall.EINVAL)
	}
	is(t, "too long for IPv4", s.SendTo("10.0.0.2", request(1, string(make([]byte, 65508)))), syscall.EMSGSIZE)
	s.Flag(socket.SOSndBuf, 100)
	is(t, "too long for SO_SNDBUF", s.SendTo("10.0.0.2", request(1, string(make([]byte, 93)))), syscall.EMSGSIZE)
	is(t, "to nowhere", s.SendTo("", request(1, "")), syscall.EDESTADDRREQ)
	is(t, "without a route", s.SendTo("99.0.0.1", request(1, "")), syscall.ENETUNREACH)
	is(t, "to all", s.SendTo("10.0.0.255", request(1, "")), syscall.EACCES)
	is(t, "connect to all", s.Connect("10.0.0.255"), syscall.EACCES)
	r.Expect()
	s.Flag(socket.SOBroadcast, 1)
	is(t, "to all with SO_BROADCAST", s.SendTo("10.0.0.255", request(1, "")), nil)
	is(t, "shutdown without a peer", s.Shutdown(false, true), syscall.ENOTCONN)
	is(t, "connect", s.Connect("10.0.0.2"), nil)
	is(t, "to the peer and an address", s.SendTo("10.0.0.2", request(1, "")), syscall.EISCONN)
	is(t, "shutdown", s.Shutdown(false, true), nil)
	is(t, "after it", s.SendTo("", request(1, "")), syscall.EPIPE)
	r.Expect("10.0.0.1 > 10.0.0.255 echo id 77 seq 1 len 0")
}

func TestConnect(t *testing.T) {
	r := New(t)
	r.Meet("10.0.0.2")
	s := echo(t, r, ":77")
	is(t, "dissolve nothing", s.Connect(""), syscall.ENOTCONN)
	is(t, "connect", s.Connect("10.0.0.2:9"), nil)
	if l, p := s.Local(), s.Peer(); l != Addr("10.0.0.1:77") || p != Addr("10.0.0.2") {
		t.Errorf("from %v to %v, want 10.0.0.1, identifier 77, to 10.0.0.2 without port", l, p)
	}
	is(t, "send", s.SendTo("", request(1, "")), nil)
	r.Expect("10.0.0.1 > 10.0.0.2 echo id 77 seq 1 len 0")
	r.Send(reply("10.0.0.3", 77, 1, "a stranger's"), reply("10.0.0.2", 77, 1, "the peer's"))
	if got, want := s.Get(), "10.0.0.2: "+string(message(packet.ICMPEchoReply, 77, 1, "the peer's")); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	is(t, "connect elsewhere", s.Connect("10.0.0.3"), nil)
	is(t, "dissolve", s.Connect(""), nil)
	if l, p := s.Local(), s.Peer(); l != Addr(":77") || p.IP.IsValid() {
		t.Errorf("from %v to %v, want identifier 77 and nobody", l, p)
	}
	r.Send(reply("10.0.0.3", 77, 2, "anybody's"))
	if got, want := s.Get(), "10.0.0.3: "+string(message(packet.ICMPEchoReply, 77, 2, "anybody's")); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestErrors: a connected socket hears of ICMP errors about its own requests,
// and nobody else of anything.
func TestErrors(t *testing.T) {
	r := New(t)
	s, other := echo(t, r, ":77"), echo(t, r, ":78")
	open, raw := echo(t, r, ":79"), r.Socket(socket.Raw, packet.ProtoICMP)
	is(t, "connect", s.Connect("10.0.0.9"), nil)
	is(t, "connect", other.Connect("10.0.0.9"), nil)
	mine := message(packet.ICMPEcho, 77, 1, "")
	for _, c := range []struct {
		typ, code uint8
		want      error
	}{
		{packet.ICMPUnreach, packet.ICMPUnreachHost, syscall.EHOSTUNREACH},
		{packet.ICMPUnreach, packet.ICMPUnreachNet, syscall.ENETUNREACH},
		{packet.ICMPUnreach, packet.ICMPUnreachProtocol, syscall.ECONNREFUSED},
		{packet.ICMPUnreach, packet.ICMPUnreachNeedFrag, syscall.EMSGSIZE},
		{packet.ICMPTimeExceeded, packet.ICMPTimeTransit, syscall.EHOSTUNREACH},
		{packet.ICMPParamProblem, 0, syscall.ENOPROTOOPT},
	} {
		r.Send(about(c.typ, c.code, "10.0.0.9", mine))
		is(t, fmt.Sprint("type ", c.typ, " code ", c.code), s.TakeError(), c.want)
	}
	for what, f := range map[string][]byte{
		"of a socket without a peer": about(packet.ICMPUnreach, packet.ICMPUnreachHost, "10.0.0.9", message(packet.ICMPEcho, 79, 1, "")),
		"about another destination":  about(packet.ICMPUnreach, packet.ICMPUnreachHost, "10.0.0.8", mine),
		"about a reply of ours":      about(packet.ICMPUnreach, packet.ICMPUnreachHost, "10.0.0.9", message(packet.ICMPEchoReply, 77, 1, "")),
	} {
		r.Send(f)
		is(t, what, errors.Join(s.TakeError(), open.TakeError()), nil)
	}
	is(t, "another identifier's", other.TakeError(), nil)
	is(t, "a raw socket's", raw.TakeError(), nil)
}

// TestForgedPathMTU: only who has sent a request is believed to have hit a
// narrow link (RFC 5927 §4.1).
func TestForgedPathMTU(t *testing.T) {
	r := New(t)
	echo(t, r, ":77")
	narrow := func(id uint32) {
		r.Send(about(packet.ICMPUnreach, packet.ICMPUnreachNeedFrag, "10.0.0.9", message(packet.ICMPEcho, id, 1, "")))
	}
	r.Counts("icmp", "not about us", func() { narrow(78) })
	r.Counts("icmp", "path MTU changes", func() { narrow(77) })
}

func TestOptions(t *testing.T) {
	r := New(t)
	r.Meet("10.0.0.2")
	s := echo(t, r, ":77")
	is(t, "IP_TTL", s.Set(0, 4, []byte{3}), nil)
	is(t, "IP_TOS", s.Set(0, 3, []byte{0x10}), nil)
	is(t, "IP_HDRINCL", s.Set(0, 2, []byte{1}), syscall.ENOPROTOOPT)
	is(t, "IP_RECVTTL", s.Set(0, 23, []byte{1}), nil)
	is(t, "send", s.SendTo("10.0.0.2", request(1, "")), nil)
	h := packet.IPv4(r.Sent()[0][packet.EtherLen:])
	if h.TTL() != 3 || h.TOS() != 0x10 {
		t.Errorf("sent with TTL %d and TOS %#x", h.TTL(), h.TOS())
	}
	f := IP{Src: "10.0.0.2", Dst: "10.0.0.1", Proto: packet.ProtoICMP, TTL: 42, Data: message(packet.ICMPEchoReply, 77, 1, "")}.Frame()
	r.Send(f)
	m := socket.Msg{Data: make([]byte, 100)}
	is(t, "recv", s.Recv(nil, &m), nil)
	if m.TTL != 42 || m.Dst != Addr("10.0.0.1").IP || m.IfIndex != r.If.Index || m.Time != r.Now() {
		t.Errorf("came with %+v", m)
	}

	en1 := r.AddIf("en1", Me1, "10.0.1.1/24")
	is(t, "SO_BINDTOIF", s.Set(socket.LevelSocket, socket.SOBindToIf, []byte(en1.Name)), nil)
	r.Send(f)
	if got := s.Get(); got != again {
		t.Errorf("by the other interface came %q", got)
	}
}

// TestGroup: requests to a group, whose members each reply.
func TestGroup(t *testing.T) {
	r := New(t)
	s := echo(t, r, ":77")
	is(t, "IP_MULTICAST_IF", s.Set(0, 9, []byte{10, 0, 0, 1}), nil)
	is(t, "IP_MULTICAST_TTL", s.Set(0, 10, []byte{5}), nil)
	is(t, "send", s.SendTo("239.1.1.1", request(1, "")), nil)
	f := r.Sent()
	if len(f) != 1 || Describe(f[0]) != "10.0.0.1 > 239.1.1.1 echo id 77 seq 1 len 0" || packet.IPv4(f[0][packet.EtherLen:]).TTL() != 5 {
		t.Fatalf("sent % x", f)
	}
	for _, src := range []string{"10.0.0.2", "10.0.0.3"} {
		r.Send(reply(src, 77, 1, ""))
		if got, want := s.Get(), src+": "+string(message(packet.ICMPEchoReply, 77, 1, "")); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

// A group or broadcast address is bound to be listened on, and never a source.
func TestBoundToAGroup(t *testing.T) {
	r := New(t)
	r.Meet("10.0.0.2")
	for i, local := range []string{"239.1.1.1", "10.0.0.255"} {
		s := echo(t, r, fmt.Sprint(local, ":", 77+i))
		is(t, "send", s.SendTo("10.0.0.2", request(1, "")), nil)
		r.Expect(fmt.Sprintf("10.0.0.1 > 10.0.0.2 echo id %d seq 1 len 0", 77+i))
	}
}

// TestOneself: through lo0 by an address, and by 0.0.0.0, which is this host.
func TestOneself(t *testing.T) {
	r := New(t)
	s := echo(t, r, ":77")
	for to, from := range map[string]string{"10.0.0.1": "10.0.0.1", "127.0.0.1": "127.0.0.1", "0.0.0.0": "127.0.0.1"} {
		is(t, "send", s.SendTo(to, request(1, "me")), nil)
		if got, want := s.Get(), from+": "+string(message(packet.ICMPEchoReply, 77, 1, "me")); got != want {
			t.Errorf("%s: got %q, want %q", to, got, want)
		}
	}
	r.Expect()
}

func TestFullSocketRefusesAndCounts(t *testing.T) {
	r := New(t)
	s := echo(t, r, ":77")
	s.Flag(socket.SORcvBuf, 2000)
	for range 50 {
		r.Send(reply("10.0.0.2", 77, 1, "x"))
	}
	full := Counter(r.Stack, "icmp", "full socket buffer")
	if full == 0 || full+Counter(r.Stack, "icmp", "delivered") != 50 {
		t.Errorf("%d refused", full)
	}
}

// TestRawSeesItToo: the superuser's raw socket and the user's echo socket get
// the same reply, one with its IP header and one without.
func TestRawSeesItToo(t *testing.T) {
	r := New(t)
	raw, s := r.Socket(socket.Raw, packet.ProtoICMP), echo(t, r, ":77")
	f := reply("10.0.0.2", 77, 1, "both")
	r.Send(f)
	if got, want := raw.Get(), "10.0.0.2: "+string(f[packet.EtherLen:]); got != want {
		t.Errorf("raw got %q, want %q", got, want)
	}
	if got, want := s.Get(), "10.0.0.2: "+string(f[packet.EtherLen+packet.IPv4Len:]); got != want {
		t.Errorf("echo got %q, want %q", got, want)
	}
}

func TestTable(t *testing.T) {
	r := New(t)
	s := echo(t, r, ":77")
	is(t, "connect", s.Connect("10.0.0.2"), nil)
	r.Send(reply("10.0.0.2", 77, 1, "four"))
	want := stack.SocketInfo{ID: s.ID, Proto: "icmp", Family: socket.AFInet, RecvQ: 12,
		Local: Addr("10.0.0.1:77"), Foreign: Addr("10.0.0.2"), Cred: socket.Cred{UID: 1000}}
	if all := r.SocketTable(); len(all) != 1 || all[0] != want {
		t.Errorf("got %+v\nwant %+v", all, want)
	}
}

// A call that comes too late, by another goroutine than the one that closed
// the socket, takes no identifier.
func TestCallsAfterClose(t *testing.T) {
	r := New(t)
	s := echo(t, r, "")
	s.Close()
	is(t, "bind", s.Bind(":77"), syscall.EBADF)
	is(t, "connect", s.Connect("10.0.0.2"), syscall.EBADF)
	is(t, "send", s.SendTo("10.0.0.2", request(1, "")), syscall.EBADF)
	is(t, "send, just checked", r.Do(func(w *netif.Work) error {
		_, err := s.H.Send(w, &socket.Msg{Addr: Addr("10.0.0.2"), Data: []byte(request(1, ""))})
		return err
	}), syscall.EBADF)
}
