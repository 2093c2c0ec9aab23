package e2e

import (
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"ionet/client"
	"ionet/protocol"
	"ionet/protocol/door"
)

// dial is a bare connection to a family's door.
func (d *daemon) dial(family int) *net.UnixConn {
	d.t.Helper()
	c, err := door.Dial(door.Socket(d.prefix, family))
	if err != nil {
		d.t.Fatal(err)
	}
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	return c
}

// frame is a request as it goes over the door.
func frame(typ protocol.Type, tag, id uint32, payload ...byte) []byte {
	return append(protocol.AppendHeader(nil, protocol.Header{Type: typ, Tag: tag, ID: id}), payload...)
}

func hello() []byte {
	return frame(protocol.TypeHello, 1, 0, protocol.AppendHelloRequest(nil)...)
}

// TestThousandClientsVanish in the midst of what they do, and all that they
// had goes with them.
func TestThousandClientsVanish(t *testing.T) {
	d := start(t)
	s := d.open()
	mbufs := func() protocol.MbufRow {
		rows, err := client.Table[protocol.MbufRow](s, protocol.TableMbuf, "")
		if err != nil || len(rows) != 1 {
			t.Fatal(rows, err)
		}
		return rows[0]
	}
	visit := func(i int) {
		family := protocol.AFInet
		if i%5 == 4 {
			family = protocol.AFRoute
		}
		c := d.dial(family)
		defer func() { _ = c.Close() }()
		send := func(b []byte) {
			if _, err := c.Write(b); err != nil {
				t.Error(i, err)
			}
		}
		if family == protocol.AFRoute {
			send(protocol.AppendMessage(nil, &protocol.RouteMessage{Type: protocol.RTMGet, Flags: protocol.RTFHost, Dst: inet("127.0.0.1")}))
			return
		}
		if i%7 == 6 {
			return // not even a word
		}
		send(hello())
		send(frame(protocol.TypeSocket, 2, 0, protocol.AppendSocket(nil, protocol.SockDgram, 0, 0)...))
		send(frame(protocol.TypeBind, 3, 1, protocol.AppendSockaddr(nil, inet("127.0.0.1:0"))...))
		send(frame(protocol.TypeSend, 4, 1, protocol.AppendMsg(nil, protocol.Msg{Addr: inet("127.0.0.1:9"), Data: []byte("x")})...))
		send(frame(protocol.TypeRecv, 5, 1, protocol.AppendU32(nil, 0, 100)...))
		send(frame(protocol.TypeCapture, 6, 0, protocol.AppendCaptureRequest(nil, protocol.CaptureRequest{})...))
		send(frame(protocol.TypeCaptured, 7, 2))
		if i%3 == 0 {
			send(frame(protocol.TypeSocket, 8, 0)[:11]) // and half a frame
		}
	}
	// A stack at rest holds no packet.
	back := func() bool {
		i := info(t, s)
		return i.Clients == 1 && i.Sockets == 0 && mbufs().Buffers == 0
	}
	for i := range 100 { // what is made once and kept
		visit(i)
	}
	until(t, "the first have gone", back)
	before := d.measure()
	var visitors sync.WaitGroup
	for w := range 10 {
		visitors.Go(func() {
			for i := range 100 {
				visit(100*w + i)
			}
		})
	}
	visitors.Wait()
	until(t, "all have gone", back)
	var after gauges
	until(t, "goroutines and descriptors are as before", func() bool {
		after = d.measure()
		// Workers that were called in for the rush stay for a while.
		return after.FDs <= before.FDs && after.Goroutines <= before.Goroutines+info(t, s).Workers
	})
	// Each worker has room for a frame. They leave one by one, so the heap and
	// their number are looked at until the two fit together.
	until(t, "the heap is as before", func() bool {
		after = d.measure()
		return after.Heap <= before.Heap+4<<20+info(t, s).Workers*protocol.MaxFrame
	})
}

// TestBacklog: a door with more callers than it has room for turns nobody
// away who waits a little.
func TestBacklog(t *testing.T) {
	prefix := t.TempDir()
	path := filepath.Join(prefix, "dev/socket/2")
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Close(fd) }()
	addr := &unix.SockaddrUnix{Name: path}
	if err := errors.Join(unix.Bind(fd, addr), unix.Listen(fd, 0)); err != nil {
		t.Fatal(err)
	}
	var fds []int
	for full := false; !full; { // until there is no room
		c, err := unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
		if err != nil {
			t.Fatal(err)
		}
		fds = append(fds, c)
		defer func() { _ = unix.Close(c) }()
		err = unix.Connect(c, addr)
		full = errors.Is(err, unix.EAGAIN)
		if err != nil && !full || len(fds) > 1000 {
			t.Fatal(len(fds), err)
		}
	}
	got := make(chan error, 1)
	go func() {
		s, err := client.Open(prefix)
		if err == nil {
			_ = s.Close()
		}
		got <- err
	}()
	select { // while it is full nobody is turned away
	case err := <-got:
		t.Fatal(err)
	case <-time.After(100 * time.Millisecond):
	}
	for range fds { // the callers before it, and then it
		c, _, err := unix.Accept(fd)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = unix.Close(c) }()
		b := make([]byte, 100)
		// The callers before the client never speak, the client does at once.
		p := []unix.PollFd{{Fd: int32(c), Events: unix.POLLIN}}
		if _, err := unix.Poll(p, 300); err != nil || p[0].Revents&unix.POLLIN == 0 {
			continue
		}
		n, err := unix.Read(c, b)
		if err != nil {
			t.Fatal(err)
		}
		req, _, err := protocol.ParseFrame(b[:n])
		if err != nil {
			t.Fatal(err)
		}
		reply := append(protocol.AppendReply(nil, req), protocol.AppendHello(nil, protocol.Hello{Version: protocol.Version})...)
		if err := unix.Sendto(c, reply, 0, nil); err != nil {
			t.Fatal(err)
		}
	}
	if err := <-got; err != nil {
		t.Error(err)
	}
}

// TestNotAStack: what stands where a stack should is named in one sentence.
func TestNotAStack(t *testing.T) {
	short := func() string {
		dir, err := os.MkdirTemp("", "io")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = os.RemoveAll(dir) })
		return dir
	}
	// says answers the first frame of a client.
	answering := func(says func(req protocol.Header) []byte) string {
		prefix := short()
		l, err := door.Listen(prefix, "dev/socket/2")
		if err != nil {
			t.Fatal(err)
		}
		var server sync.WaitGroup
		server.Go(func() {
			c, err := l.AcceptUnix()
			if err != nil {
				return
			}
			defer func() { _ = c.Close() }()
			b := make([]byte, 100)
			n, _ := c.Read(b)
			h, _, _ := protocol.ParseFrame(b[:n])
			if out := says(h); out != nil {
				_, _ = c.Write(out)
				_, _ = c.Read(b) // until the client has gone
			}
		})
		t.Cleanup(func() { _ = l.Close(); server.Wait() })
		return prefix
	}
	version := func(v uint16) func(protocol.Header) []byte {
		return func(req protocol.Header) []byte {
			return append(protocol.AppendReply(nil, req), protocol.AppendHello(nil, protocol.Hello{Version: v})...)
		}
	}
	file, stream, notDir := short(), short(), short()
	for _, dir := range []string{file, stream} {
		if err := os.MkdirAll(dir+"/dev/socket", 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(os.WriteFile(file+"/dev/socket/2", nil, 0o644), os.WriteFile(notDir+"/dev", nil, 0o644)); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", stream+"/dev/socket/2")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	for _, tt := range []struct{ name, prefix, want string }{
		{"nothing", short(), "no stack at "},
		{"a file", file, "no stack at "},
		{"a file for a folder", notDir, "no stack at "},
		{"a stream socket", stream, "is not an ionet stack"},
		{"garbage", answering(func(protocol.Header) []byte { return []byte("220 smtp ready\r\n") }), "is not an ionet stack"},
		{"another magic", answering(func(h protocol.Header) []byte {
			return append(protocol.AppendReply(nil, h), 1, 2, 3, 4, 1, 0)
		}), "is not an ionet stack"},
		{"half a hello", answering(func(h protocol.Header) []byte {
			return append(protocol.AppendReply(nil, h), protocol.AppendU32(nil, protocol.Magic)...)
		}), "is not an ionet stack"},
		{"it hangs up", answering(func(protocol.Header) []byte { return nil }), "has gone"},
		{"a later version", answering(version(protocol.Version + 1)), "speaks version 2 of the protocol, this program 1"},
		{"it knows no such version", answering(func(h protocol.Header) []byte {
			return protocol.AppendError(nil, h, &protocol.Error{Errno: syscall.EPROTONOSUPPORT, Text: "this stack speaks version 3 of the protocol, not 1"})
		}), "/dev/socket/2: this stack speaks version 3 of the protocol, not 1"},
	} {
		s, err := client.Open(tt.prefix)
		if err == nil {
			_ = s.Close()
			t.Errorf("%s: opened", tt.name)
			continue
		}
		if !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), tt.prefix) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %q; want %q and %s", tt.name, err, tt.want, tt.prefix)
		}
	}
}

// TestDeath: a daemon that dies gives one clear error to all who wait for it,
// and to all who come after.
func TestDeath(t *testing.T) {
	d := start(t)
	s, r := d.open(), d.route()
	pc, err := s.ListenPacket("udp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	c, err := s.Capture(protocol.CaptureRequest{})
	if err != nil {
		t.Fatal(err)
	}
	waits := map[string]func() error{
		"recv":    func() error { _, _, err := pc.ReadFrom(make([]byte, 1)); return err },
		"capture": func() error { _, err := c.Next(); return err },
		"route":   func() error { _, err := r.Read(); return err },
	}
	type end struct {
		who string
		err error
	}
	ends := make(chan end, len(waits))
	for who, f := range waits {
		go func() { ends <- end{who, f()} }()
	}
	d.kill()
	gone := func(who string, err error) {
		t.Helper()
		if !errors.Is(err, syscall.ECONNRESET) || !strings.Contains(err.Error(), "the stack at "+d.prefix) {
			t.Errorf("%s: %v", who, err)
		}
	}
	for range waits {
		e := <-ends
		gone(e.who, e.err)
	}
	_, err = s.Sysctl("kern.ostype")
	gone("sysctl", err)
	_, err = pc.WriteTo([]byte("x"), pc.LocalAddr())
	gone("send", err)
	_, err = r.Request(*routeTo(0))
	gone("request", err)
	if _, err := client.Open(d.prefix); err == nil || !strings.HasPrefix(err.Error(), "no stack at "+d.prefix) {
		t.Errorf("open: %v", err)
	}
}

// TestGarbage: what anybody may send to a door costs only him.
func TestGarbage(t *testing.T) {
	d := start(t)
	good := d.open()
	pc, err := good.ListenPacket("udp", "127.0.0.1:7000")
	if err != nil {
		t.Fatal(err)
	}
	k, err := good.Dial("udp", "127.0.0.1:7000")
	if err != nil {
		t.Fatal(err)
	}
	seed := time.Now().UnixNano()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(uint64(seed), 1))
	// Frames from the right types with random bodies get past the first check.
	// None ends the stack: TypeStop is left out.
	body := func() []byte {
		b := make([]byte, rng.IntN(64))
		if rng.IntN(50) == 0 {
			b = make([]byte, rng.IntN(protocol.MaxPayload))
		}
		for i := range b {
			if b[i] = byte(rng.Uint32()); rng.IntN(2) == 0 {
				b[i] = byte(rng.IntN(4)) // lengths that fit
			}
		}
		return b
	}
	answers := 0
	for i := range 60 {
		family := protocol.AFInet
		if i%4 == 3 {
			family = protocol.AFRoute
		}
		c := d.dial(family)
		var reader sync.WaitGroup
		reader.Go(func() {
			b := make([]byte, protocol.MaxFrame)
			for {
				n, err := c.Read(b)
				if err != nil || n == 0 {
					return
				}
				answers++
				if family != protocol.AFInet {
					continue
				}
				if h, _, err := protocol.ParseFrame(b[:n]); err != nil || h.Flags&protocol.FlagReply == 0 {
					t.Errorf("the answer is %+v, %v", h, err)
				}
			}
		})
		if i%3 != 0 {
			_, _ = c.Write(hello())
			_, _ = c.Write(frame(protocol.TypeSocket, 2, 0, protocol.AppendSocket(nil, protocol.SockDgram, 0, 0)...))
		}
		for range 200 {
			var b []byte
			switch typ := protocol.Type(1 + rng.IntN(int(protocol.TypeUmount)+3)); {
			case family == protocol.AFRoute:
				b = append(make([]byte, 4), body()...)
				binary.LittleEndian.PutUint16(b, uint16(len(b)-rng.IntN(2)))
				b[2], b[3] = protocol.RTMVersion, byte(rng.IntN(20))
			case typ == protocol.TypeStop:
				continue
			case rng.IntN(20) == 0:
				b = frame(typ, 3, 1)[:1+rng.IntN(protocol.HeaderLen-1)]
			default:
				b = frame(typ, rng.Uint32(), uint32(rng.IntN(3)), body()...)
			}
			if _, err := c.Write(b); err != nil {
				break
			}
		}
		exchange(t, k, pc, "still here")
		_ = c.Close()
		reader.Wait()
	}
	if answers < 1000 {
		t.Errorf("%d answers", answers)
	}
	until(t, "all have gone", func() bool { return info(t, good).Clients == 1 })
}

// TestThoseWhoNeverRead: replies, news, captured packets, datagrams. They
// cost the others nothing and the stack little.
func TestThoseWhoNeverRead(t *testing.T) {
	d := start(t)
	good := d.open()
	before := d.measure()
	flood := func(c *net.UnixConn, b []byte) { // until nothing more is taken
		_ = c.SetWriteDeadline(time.Now().Add(300 * time.Millisecond))
		for range 20000 {
			if _, err := c.Write(b); err != nil {
				return
			}
		}
	}
	const n = 5
	for range n {
		c := d.dial(protocol.AFInet)
		defer func() { _ = c.Close() }()
		_, _ = c.Write(hello())
		flood(c, frame(protocol.TypeSysctl, 9, 0, protocol.AppendSysctlRequest(nil, protocol.SysctlRequest{Op: protocol.SysctlList})...))
		r := d.dial(protocol.AFRoute)
		defer func() { _ = r.Close() }()
		flood(r, protocol.AppendMessage(nil, &protocol.RouteMessage{Type: protocol.RTMGet, Flags: protocol.RTFHost, Dst: inet("127.0.0.1")}))
		if _, err := good.Capture(protocol.CaptureRequest{}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := good.ListenPacket("udp", "127.0.0.1:7001"); err != nil { // who never receives
		t.Fatal(err)
	}
	deaf, err := good.Dial("udp", "127.0.0.1:7001")
	if err != nil {
		t.Fatal(err)
	}
	for range 2000 {
		if _, err := deaf.Write(make([]byte, 1000)); err != nil {
			t.Fatal(err)
		}
	}
	pc, err := good.ListenPacket("udp", "127.0.0.1:7000")
	if err != nil {
		t.Fatal(err)
	}
	k, err := d.open().Dial("udp", "127.0.0.1:7000")
	if err != nil {
		t.Fatal(err)
	}
	w, news := d.route(), d.route()
	for i := range 200 {
		exchange(t, k, pc, "hello "+itoa(i))
		if _, err := w.Request(*routeTo(i)); err != nil {
			t.Fatal(err)
		}
	}
	adds(t, news, 200, nil)
	if after := d.measure(); after.Heap > before.Heap+n*4<<20+16<<20 {
		t.Errorf("%d who do not read cost %d octets", n, after.Heap-before.Heap)
	}
}
