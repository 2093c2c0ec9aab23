package stackd

import (
	"errors"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"ionet/protocol"
	"ionet/protocol/door"
	"ionet/stack/netif"
	"ionet/stack/packet"
	"ionet/stack/socket"
)

// pipe is a stream protocol whose peer is the test: two queues.
type pipe struct {
	d  *daemon
	so *socket.Socket

	mu        sync.Mutex
	state     string // "", "connecting", "connected", "listening", "dead"
	connects  error  // what Connect answers
	in, out   []byte // to be received; sent
	end, fin  bool   // the peer's end, and ours
	size      int    // of the send buffer
	queued    int    // of out: not acknowledged
	sendErr   error
	urgent    []byte // to be received
	sent      []byte // as out-of-band
	closed    bool
	aborted   bool
	backlog   []*socket.Socket
	recvs     int
	notWanted bool // SHUT_RD
}

// newPipe makes a stream socket without a client.
func newPipe(d *daemon) *pipe {
	p := &pipe{d: d, size: 1 << 20, connects: unix.EINPROGRESS}
	p.so = socket.New(d.eng.Engine().Env, socket.AFInet, socket.Stream, 0, socket.Cred{}, 1<<16, 1<<16, 1, new(atomic.Int64))
	p.so.H = p
	return p
}

// do changes the pipe as its peer would, and wakes the socket.
func (p *pipe) do(f func()) {
	p.d.eng.Call(func(w *netif.Work) {
		p.mu.Lock()
		f()
		p.mu.Unlock()
		p.so.Changed(w)
	})
}

func (p *pipe) fails(err syscall.Errno) {
	p.d.eng.Call(func(w *netif.Work) {
		p.mu.Lock()
		p.state = "dead"
		p.mu.Unlock()
		p.so.SetError(w, err)
	})
}

// is waits until the pipe is as ok wants it.
func (p *pipe) is(t *testing.T, what string, ok func() bool) {
	t.Helper()
	eventually(t, what, func() bool { p.mu.Lock(); defer p.mu.Unlock(); return ok() })
}

func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !ok(); {
		if time.Now().After(end) {
			t.Fatalf("waited in vain until %s", what)
		}
		unix.Poll(nil, 1)
	}
}

func (p *pipe) Bind(*netif.Work, socket.Addr) error { return nil }

func (p *pipe) Connect(*netif.Work, socket.Addr) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.connects == unix.EINPROGRESS {
		p.state = "connecting"
	}
	return p.connects
}

func (p *pipe) Listen(*netif.Work, int) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.state = "listening"
	return nil
}
func (p *pipe) Listening() bool { p.mu.Lock(); defer p.mu.Unlock(); return p.state == "listening" }

func (p *pipe) Accept(*netif.Work) (*socket.Socket, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.backlog) == 0 {
		return nil, unix.EWOULDBLOCK
	}
	so := p.backlog[0]
	p.backlog = p.backlog[1:]
	return so, nil
}

func (p *pipe) Send(_ *netif.Work, m *socket.Msg) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.sendErr != nil:
		return 0, p.sendErr
	case p.fin || p.state == "dead":
		return 0, unix.EPIPE
	case p.queued >= p.size:
		return 0, unix.EWOULDBLOCK
	case m.Flags&socket.MsgOOB != 0:
		p.sent = append(p.sent, m.Data...)
		p.out = append(p.out, '!')
		return len(m.Data), nil
	}
	n := min(len(m.Data), p.size-p.queued)
	p.out = append(p.out, m.Data[:n]...)
	p.queued += n
	return n, nil
}

func (p *pipe) Recv(_ *netif.Work, m *socket.Msg) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if m.Flags&socket.MsgOOB != 0 {
		if len(p.urgent) == 0 {
			return unix.EINVAL
		}
		m.Data = m.Data[:copy(m.Data, p.urgent)]
		p.urgent = nil
		return nil
	}
	p.recvs++
	if len(p.in) == 0 {
		if err := p.so.TakeError(); err != nil {
			return err
		}
		if p.end || p.state == "dead" {
			m.Data, m.Size = m.Data[:0], 0
			return nil
		}
		return unix.EWOULDBLOCK
	}
	m.Data = m.Data[:copy(m.Data, p.in)]
	m.Size = len(m.Data)
	p.in = p.in[m.Size:]
	return nil
}

func (p *pipe) Poll() (ev socket.Events) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch p.state {
	case "connecting":
		return 0
	case "listening":
		if len(p.backlog) > 0 {
			return socket.Readable
		}
		return 0
	case "dead":
		return socket.Readable | socket.Writable | socket.HangUp
	}
	if len(p.in) > 0 || p.end {
		ev |= socket.Readable
	}
	if len(p.urgent) > 0 {
		ev |= socket.Urgent
	}
	if p.queued < p.size || p.fin {
		ev |= socket.Writable
	}
	if p.end && p.fin {
		ev |= socket.HangUp
	}
	return ev
}

func (p *pipe) Queued() (int, int) { p.mu.Lock(); defer p.mu.Unlock(); return len(p.in), p.queued }
func (p *pipe) Buffers() (int, int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return 1 << 20, p.size
}
func (p *pipe) SetBuffer(*netif.Work, bool, int) {}
func (p *pipe) Shutdown(_ *netif.Work, read, write bool) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fin, p.notWanted = p.fin || write, p.notWanted || read
	return nil
}
func (p *pipe) Close(*netif.Work) { p.mu.Lock(); p.closed = true; p.mu.Unlock() }
func (p *pipe) Abort(*netif.Work) { p.mu.Lock(); p.aborted = true; p.mu.Unlock() }
func (p *pipe) Local() socket.Addr {
	return socket.Addr{IP: inet("10.0.0.1").IP, Port: 1024}
}
func (p *pipe) Peer() socket.Addr                             { return socket.Addr{IP: inet("10.0.0.2").IP, Port: 80} }
func (p *pipe) SetOption(*netif.Work, int, int, []byte) error { return nil }
func (p *pipe) Option(int, int) ([]byte, error)               { return nil, unix.ENOPROTOOPT }
func (p *pipe) Describe(*packet.Buf, *socket.Msg)             {}

// caller is a client that speaks in frames.
type caller struct {
	t    *testing.T
	d    *daemon
	conn *net.UnixConn
	tag  uint32
	c    *conn // its other side
}

// answer is a reply with what came with it.
type answer struct {
	protocol.Header
	p  []byte
	fd int // -1: none
}

func call(t *testing.T, d *daemon) *caller {
	t.Helper()
	conn, err := door.Dial(d.paths.door(protocol.AFInet))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(20 * time.Second))
	r := &caller{t: t, d: d, conn: conn}
	before := r.others()
	r.ask(protocol.TypeHello, 0, protocol.AppendHelloRequest(nil)...).ok(t)
	for c := range r.others() {
		if before[c] == 0 {
			r.c = c
		}
	}
	if r.c == nil {
		r.c = r.newest()
	}
	return r
}

func (r *caller) others() map[*conn]int {
	r.d.srv.mu.Lock()
	defer r.d.srv.mu.Unlock()
	m := map[*conn]int{}
	for c := range r.d.srv.conns {
		m[c] = int(c.id)
	}
	return m
}

func (r *caller) newest() (newest *conn) {
	for c := range r.others() {
		if newest == nil || c.id > newest.id {
			newest = c
		}
	}
	return newest
}

// owns gives the client a socket that is on the pipe.
func (r *caller) owns(p *pipe) uint32 {
	sk := &sock{c: r.c, so: p.so}
	if err := r.d.srv.takeSocket(r.c); err != nil {
		r.t.Fatal(err)
	}
	p.so.SetUpcall(sk.streamUpcall)
	r.c.adopt(sk)
	return sk.id
}

func (r *caller) send(typ protocol.Type, id uint32, payload ...byte) (tag uint32) {
	r.t.Helper()
	r.tag++
	b := protocol.AppendHeader(nil, protocol.Header{Type: typ, Tag: r.tag, ID: id})
	if _, err := r.conn.Write(append(b, payload...)); err != nil {
		r.t.Fatal(err)
	}
	return r.tag
}

// hears is the next reply.
func (r *caller) hears() answer {
	r.t.Helper()
	b, oob := make([]byte, protocol.MaxFrame), make([]byte, unix.CmsgSpace(4))
	n, nn, _, _, err := r.conn.ReadMsgUnix(b, oob)
	if err != nil {
		r.t.Fatal(err)
	}
	h, p, err := protocol.ParseFrame(b[:n])
	if err != nil {
		r.t.Fatal(err)
	}
	a := answer{h, p, -1}
	if nn > 0 {
		msgs, _ := unix.ParseSocketControlMessage(oob[:nn])
		fds, err := unix.ParseUnixRights(&msgs[0])
		if err != nil || len(msgs) != 1 || len(fds) != 1 {
			r.t.Fatalf("%d control messages with %v, %v; want one descriptor", len(msgs), fds, err)
		}
		a.fd = fds[0]
	}
	return a
}

func (r *caller) ask(typ protocol.Type, id uint32, payload ...byte) answer {
	r.t.Helper()
	tag := r.send(typ, id, payload...)
	a := r.hears()
	if a.Tag != tag || a.Type != typ {
		r.t.Fatalf("the answer to %v %d is %v %d", typ, tag, a.Type, a.Tag)
	}
	return a
}

// silent reports that no reply is there.
func (r *caller) silent() {
	r.t.Helper()
	// What has been asked is answered in order with what waits not: an answer
	// to this would come behind one that was there before.
	if a := r.ask(protocol.TypeCancel, 0, protocol.AppendU32(nil, 1<<31)...); a.Errno != unix.ESRCH {
		r.t.Fatalf("a reply of %v", a.Header)
	}
}

func (a answer) ok(t *testing.T) answer {
	t.Helper()
	if a.Errno != 0 {
		t.Fatalf("%v: %v %s", a.Type, a.Errno, a.p)
	}
	return a
}

func (a answer) is(t *testing.T, errno syscall.Errno) {
	t.Helper()
	if a.Errno != errno || a.fd >= 0 {
		t.Fatalf("%v: %v %q, descriptor %d; want %v", a.Type, a.Errno, a.p, a.fd, errno)
	}
}

// file is the descriptor as a connection.
func (a answer) file(t *testing.T) *net.UnixConn {
	t.Helper()
	a.ok(t)
	if a.fd < 0 {
		t.Fatalf("%v: no descriptor", a.Type)
	}
	f := os.NewFile(uintptr(a.fd), "data")
	defer f.Close()
	c, err := net.FileConn(f)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(20 * time.Second))
	return c.(*net.UnixConn)
}

func (r *caller) soError(id uint32) answer {
	r.t.Helper()
	return r.ask(protocol.TypeGetsockopt, id, protocol.AppendSockOpt(nil, protocol.SockOpt{Level: protocol.SolSocket, Name: protocol.SoError})...)
}

func (r *caller) linger(id uint32, sec uint32) {
	r.t.Helper()
	r.ask(protocol.TypeSetsockopt, id, protocol.AppendSockOpt(nil, protocol.SockOpt{Level: protocol.SolSocket, Name: protocol.SoLinger,
		Value: protocol.AppendU32(nil, 1, sec)})...).ok(r.t)
}

func to(s string) []byte { return protocol.AppendSockaddr(nil, inet(s)) }

// connectedStream connects a pipe for a new client.
func connectedStream(t *testing.T, d *daemon) (r *caller, p *pipe, id uint32, c *net.UnixConn) {
	t.Helper()
	r, p = call(t, d), newPipe(d)
	id = r.owns(p)
	r.send(protocol.TypeConnect, id, to("10.0.0.2:80")...)
	p.is(t, "it is connecting", func() bool { return p.state == "connecting" })
	p.do(func() { p.state = "connected" })
	return r, p, id, r.hears().file(t)
}

// rests checks that the client's sockets and descriptors have gone.
func (r *caller) rests() {
	r.t.Helper()
	s := r.d.srv
	eventually(r.t, "sockets and streams have gone", func() bool {
		_, sockets := s.counts()
		s.mu.Lock()
		defer s.mu.Unlock()
		return sockets == 0 && s.streams == 0
	})
}

func wantData(t *testing.T, c *net.UnixConn, want string) {
	t.Helper()
	b := make([]byte, len(want))
	for n := 0; n < len(b); {
		k, err := c.Read(b[n:])
		if err != nil {
			t.Fatalf("after %q: %v", b[:n], err)
		}
		n += k
	}
	if string(b) != want {
		t.Fatalf("read %q, want %q", b, want)
	}
}

func wantEnd(t *testing.T, c *net.UnixConn) {
	t.Helper()
	if n, err := c.Read(make([]byte, 1)); n != 0 || err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("read %d octets, %v; want the end", n, err)
	}
}
