package stackd

import (
	"os"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"ionet/protocol"
)

// keptScripts reads what long runs of a fuzz target have found worth keeping, a
// line each as in Go's corpus files:
//
//	cat $(go env GOCACHE)/fuzz/ionet/stackd/FuzzStream/* | grep '^\[\]byte' >testdata/fuzzstream.txt
func keptScripts(t testing.TB, path string) (all [][]byte) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for i, line := range strings.Split(strings.TrimSpace(string(b)), "\n") {
		s, err := strconv.Unquote(strings.TrimSuffix(strings.TrimPrefix(line, "[]byte("), ")"))
		if err != nil {
			t.Fatalf("%s:%d: %v", path, i+1, err)
		}
		all = append(all, []byte(s))
	}
	return all
}

// player is a client whose steps a script says, and the worker that serves it.
// To begin with it has a datagram socket (1), a stream (2), one that listens
// (3), one that is connected to it (4) and what that has accepted (5); the
// descriptors of 5 and 4 are ends[0] and ends[1].
type player struct {
	t      testing.TB
	s      *server
	c      *conn
	fd     int                      // its side of the door
	tag    uint32                   // of the last request
	asked  map[uint32]protocol.Type // the requests without an answer
	port   protocol.Addr            // of the listener
	ends   []int                    // descriptors, -1 when closed
	buf    []byte
	script []byte
}

// What a script does: an octet, and what it needs.
const (
	stepAsk   = iota // type, socket, and what its payload is made of
	stepRaw          // type, socket, length and that many octets of payload
	stepWork         // the worker serves what is ready
	stepWrite        // descriptor, KiB: written
	stepRead         // descriptor, KiB: read
	stepShut         // descriptor, how
	stepClose        // descriptor
	steps
)

// stepTypes are the requests of a script.
var stepTypes = []protocol.Type{
	protocol.TypeShutdown, protocol.TypeClose, protocol.TypeSend, protocol.TypeRecv, protocol.TypeGetsockopt,
	protocol.TypeSetsockopt, protocol.TypeAccept, protocol.TypeConnect, protocol.TypeListen, protocol.TypeBind,
	protocol.TypeGetsockname, protocol.TypeGetpeername, protocol.TypeCancel, protocol.TypeSocket,
}

// stepOptions are the options that streams have much to do with.
var stepOptions = [][2]int{
	{protocol.SolSocket, protocol.SoError}, {protocol.SolSocket, protocol.SoLinger}, {protocol.SolSocket, protocol.SoOOBInline},
	{protocol.SolSocket, protocol.SoSndBuf}, {protocol.SolSocket, protocol.SoRcvBuf}, {protocol.SolSocket, protocol.SoSndLowat},
	{protocol.SolSocket, protocol.SoRcvLowat}, {protocol.SolSocket, protocol.SoSndTimeo}, {protocol.SolSocket, protocol.SoRcvTimeo},
	{protocol.SolSocket, protocol.SoKeepAlive}, {protocol.SolSocket, protocol.SoReuseAddr}, {protocol.ProtoTCP, protocol.TCPNoDelay},
	{protocol.ProtoIPv6, protocol.IPv6V6Only},
}

func newPlayer(t testing.TB, s *server, family int) *player {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	u := &quota{clients: 1}
	p := &player{t: t, s: s, fd: fds[1], asked: map[uint32]protocol.Type{}, buf: make([]byte, 256<<10),
		c: &conn{s: s, fd: fds[0], family: family, user: u, super: true, greets: true, busy: true, socks: map[uint32]*sock{}, caps: map[uint32]*capture{}}}
	s.mu.Lock()
	s.users[0] = u
	s.conns[p.c] = struct{}{}
	s.mu.Unlock()
	for _, typ := range []byte{protocol.SockDgram, protocol.SockStream, protocol.SockStream, protocol.SockStream} {
		p.ask(protocol.TypeSocket, 0, []byte{typ, 0, 0, 0})
	}
	for _, name := range []int{protocol.SoSndBuf, protocol.SoRcvBuf} { // small, so that they are full at times
		for _, id := range []uint32{3, 4} {
			p.ask(protocol.TypeSetsockopt, id, protocol.AppendSockOpt(nil, protocol.SockOpt{
				Level: protocol.SolSocket, Name: name, Value: protocol.AppendU32(nil, 4096)}))
		}
	}
	p.ask(protocol.TypeListen, 3, protocol.AppendU32(nil, 5))
	p.port = protoAddr(family, p.c.socks[3].so.Local())
	p.port.IP = inet(map[int]string{protocol.AFInet: "127.0.0.1", protocol.AFInet6: "::1"}[family]).IP
	p.ask(protocol.TypeAccept, 3, nil)
	p.ask(protocol.TypeConnect, 4, protocol.AppendSockaddr(nil, p.port))
	for p.hear(); len(p.ends) < 2; p.hear() {
		unix.Poll([]unix.PollFd{{Fd: int32(p.fd), Events: unix.POLLIN}}, 10000)
	}
	return p
}

// next is an octet of the script, 0 behind its end.
func (p *player) next() byte {
	if len(p.script) == 0 {
		return 0
	}
	x := p.script[0]
	p.script = p.script[1:]
	return x
}

func (p *player) play(script []byte) {
	for p.script = script; len(p.script) > 0; p.settled() {
		switch p.next() % steps {
		case stepAsk:
			typ, id := stepTypes[int(p.next())%len(stepTypes)], uint32(p.next()%8)
			p.ask(typ, id, p.payload(typ))
		case stepRaw:
			typ, id, n := stepTypes[int(p.next())%len(stepTypes)], uint32(p.next()%8), int(p.next())
			n = min(n, len(p.script))
			p.ask(typ, id, p.script[:n])
			p.script = p.script[n:]
		case stepWork:
			p.work()
		case stepWrite:
			fd, n := p.end(), int(p.next())
			unix.SendmsgN(fd, p.buf[:n<<10], nil, nil, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
		case stepRead:
			fd, n := p.end(), int(p.next())
			unix.Recvfrom(fd, p.buf[:n<<10], unix.MSG_DONTWAIT)
		case stepShut:
			fd, how := p.end(), int(p.next()%3)
			unix.Shutdown(fd, how)
		case stepClose:
			at := int(p.next()) % len(p.ends)
			unix.Close(p.ends[at])
			p.ends[at] = -1
		}
	}
}

// end is a descriptor.
func (p *player) end() int { return p.ends[int(p.next())%len(p.ends)] }

// payload makes one that the request has sense for, mostly.
func (p *player) payload(typ protocol.Type) []byte {
	some := make([]byte, 0, 64)
	switch typ {
	case protocol.TypeShutdown, protocol.TypeListen:
		return protocol.AppendU32(some, uint32(p.next()))
	case protocol.TypeCancel:
		return protocol.AppendU32(some, p.tag-uint32(p.next()%8))
	case protocol.TypeSocket:
		n := p.next()
		return protocol.AppendSocket(some, uint16(n%4), 0, []uint16{0, 0, protocol.AFInet, protocol.AFInet6}[n>>6])
	case protocol.TypeConnect, protocol.TypeBind:
		return protocol.AppendSockaddr(some, p.addr())
	case protocol.TypeSend:
		flags, to, n := uint32(p.next()), p.addr(), int(p.next())
		return protocol.AppendMsg(some, protocol.Msg{Flags: flags, Addr: to, Data: p.buf[:n]})
	case protocol.TypeRecv:
		return protocol.AppendU32(some, uint32(p.next()), uint32(p.next()))
	case protocol.TypeGetsockopt, protocol.TypeSetsockopt:
		o := protocol.SockOpt{Level: int(p.next()), Name: int(p.next())}
		if o.Level < len(stepOptions) {
			o.Level, o.Name = stepOptions[o.Level][0], stepOptions[o.Level][1]
		}
		if typ == protocol.TypeSetsockopt {
			for range p.next() % 5 {
				o.Value = protocol.AppendU32(o.Value, uint32(p.next()))
			}
		}
		return protocol.AppendSockOpt(some, o)
	}
	return nil
}

// addr is that of the listener, another one of the stack, or none.
func (p *player) addr() protocol.Addr {
	switch n := p.next(); {
	case n < 128:
		return p.port
	case n < 250:
		return protocol.AddrFrom(p.port.IP, uint16(n))
	}
	return protocol.Addr{}
}

// ask sends a request and hears what comes at once.
func (p *player) ask(typ protocol.Type, id uint32, payload []byte) {
	p.tag++
	p.asked[p.tag] = typ
	h := protocol.Header{Type: typ, Tag: p.tag, ID: id}
	p.c.frame(append(protocol.AppendHeader(nil, h), payload...))
	p.hear()
}

// hear takes the answers that are there. Each is one to a request, and a
// descriptor comes with a connection and with nothing else.
func (p *player) hear() {
	b, rights := make([]byte, protocol.MaxFrame), make([]byte, unix.CmsgSpace(4))
	for {
		n, nn, _, _, err := unix.Recvmsg(p.fd, b, rights, unix.MSG_DONTWAIT|unix.MSG_CMSG_CLOEXEC)
		if err != nil || n == 0 {
			return
		}
		h, payload, err := protocol.ParseFrame(b[:n])
		typ, asked := p.asked[h.Tag]
		if err != nil || h.Flags&protocol.FlagReply == 0 || !asked || typ != h.Type {
			p.t.Fatalf("the answer %+v, %v to a request of type %v (%v)", h, err, typ, asked)
		}
		delete(p.asked, h.Tag)
		connection := h.Errno == 0 && (typ == protocol.TypeAccept || typ == protocol.TypeConnect && len(payload) > 0)
		if connection != (nn > 0) {
			p.t.Fatalf("%+v comes with %d octets of descriptors", h, nn)
		}
		if connection {
			msgs, err := unix.ParseSocketControlMessage(rights[:nn])
			if err != nil {
				p.t.Fatal(err)
			}
			fds, err := unix.ParseUnixRights(&msgs[0])
			if err != nil {
				p.t.Fatal(err)
			}
			p.ends = append(p.ends, fds...)
		}
	}
}

// settled checks that what has not been answered waits.
func (p *player) settled() {
	eventually(p.t, "every request is answered or waits", func() bool {
		p.hear()
		p.c.mu.Lock()
		defer p.c.mu.Unlock()
		return p.c.parked == len(p.asked)
	})
}

// work serves the descriptors that are ready, as a worker does.
func (p *player) work() {
	var ev [1]unix.EpollEvent
	for n := 0; ; n++ {
		if k, err := unix.EpollWait(p.s.ep, ev[:], 0); k <= 0 {
			if err == unix.EINTR {
				continue
			}
			break
		}
		if n > 10000 {
			p.t.Fatalf("descriptor %d is ready again and again: events %#x", ev[0].Fd, ev[0].Events)
		}
		if e, ok := p.s.byID.Load(ev[0].Fd); ok {
			e.(pollee).ready(p.s, ev[0].Events, p.buf)
		}
	}
}

// leave ends the client, with all that it had.
func (p *player) leave() {
	p.c.teardown()
	unix.Close(p.fd)
	for _, fd := range p.ends {
		unix.Close(fd)
	}
	eventually(p.t, "nothing is left of the client", func() bool {
		p.work()
		p.s.mu.Lock()
		defer p.s.mu.Unlock()
		return p.s.streams == 0 && len(p.s.users) == 0 && p.s.eng.Engine().Sockets() == 0
	})
}
