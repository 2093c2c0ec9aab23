package stackd

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"ionet/client"
	"ionet/protocol"
	"ionet/protocol/door"
	"ionet/tool/cli"
)

// TestMain lets the test binary be io-net, which starts itself again.
func TestMain(m *testing.M) {
	if os.Getenv("IONET_TEST_MAIN") == "1" {
		cli.Main(&Command)
	}
	goleak.VerifyTestMain(m)
}

// daemonFor starts a stack in this process and answers it; its prefix is the
// test's own.
func daemonFor(t *testing.T, args ...string) *daemon {
	t.Helper()
	return daemonWith(t, "", args...)
}

// daemonWith is daemonFor with options of the tcpip module, such as "forward,".
func daemonWith(t testing.TB, tcpip string, args ...string) *daemon {
	t.Helper()
	t.Setenv("XDG_RUNTIME_DIR", t.TempDir())
	t.Setenv("SOCK", "")
	o, err := ParseOptions(append(args, "-ptcpip", tcpip+"prefix="+t.TempDir()))
	if err != nil {
		t.Fatal(err)
	}
	d, err := configure(o)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.start(io.Discard, false); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.close)
	return d
}

func open(t *testing.T, d *daemon) *client.Stack {
	t.Helper()
	s, err := client.Open(d.paths.prefix)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func openRoute(t *testing.T, d *daemon) *client.RouteSocket {
	t.Helper()
	r, err := client.OpenRoute(d.paths.prefix)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	r.SetReadDeadline(time.Now().Add(20 * time.Second))
	return r
}

func inet(s string) protocol.Addr {
	if ap, err := netip.ParseAddrPort(s); err == nil {
		return protocol.AddrFrom(ap.Addr(), ap.Port())
	}
	return protocol.AddrFrom(netip.MustParseAddr(s), 0)
}

func want(t *testing.T, err error, errno syscall.Errno) {
	t.Helper()
	if !errors.Is(err, errno) {
		t.Errorf("error %v, want %v", err, errno)
	}
}

func TestDatagrams(t *testing.T) {
	d := daemonFor(t)
	s := open(t, d)
	if h := s.Hello(); h.PID != uint32(os.Getpid()) || h.Prefix != d.paths.prefix {
		t.Errorf("hello %+v", h)
	}
	a, err := s.Socket(protocol.SockDgram, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Bind(inet("127.0.0.1:7777")); err != nil {
		t.Fatal(err)
	}
	b, err := s.Socket(protocol.SockDgram, protocol.ProtoUDP)
	if err != nil {
		t.Fatal(err)
	}
	_, err = a.Recv(100, protocol.MsgDontWait)
	want(t, err, unix.EAGAIN)
	type got struct {
		m   protocol.Msg
		err error
	}
	for _, size := range []int{0, 1, 1472, 9000} {
		ch := make(chan got, 1)
		go func() { m, err := a.Recv(65535, 0); ch <- got{m, err} }()
		data := make([]byte, size)
		if n, err := b.Send(protocol.Msg{Addr: inet("127.0.0.1:7777"), Data: data}); n != size || err != nil {
			t.Fatalf("send of %d: %d, %v", size, n, err)
		}
		if g := <-ch; g.err != nil || len(g.m.Data) != size {
			t.Fatalf("received %d, %v; want %d octets", len(g.m.Data), g.err, size)
		}
	}
	if err := a.SetOption(protocol.SolSocket, protocol.SoRcvTimeo, append(make([]byte, 8), 0x10, 0x27, 0, 0, 0, 0, 0, 0)); err != nil {
		t.Fatal(err)
	}
	_, err = a.Recv(100, 0)
	want(t, err, unix.EAGAIN)
	rows, err := client.Table[protocol.SocketRow](s, protocol.TableSockets, "")
	if err != nil || len(rows) != 2 {
		t.Errorf("sockets %v, %v; want two", rows, err)
	}
	a.Close()
	_, err = a.Recv(100, 0)
	if err == nil {
		t.Error("received on a closed socket")
	}
}

func TestRecvEndsWithItsSocket(t *testing.T) {
	s := open(t, daemonFor(t))
	for _, end := range []func(*client.Socket){
		func(k *client.Socket) { k.Close() },
		func(k *client.Socket) { k.SetReadDeadline(time.Now()) },
	} {
		k, err := s.Socket(protocol.SockDgram, 0)
		if err != nil {
			t.Fatal(err)
		}
		ch := make(chan error, 1)
		go func() { _, err := k.Recv(10, 0); ch <- err }()
		end(k)
		if err := <-ch; err == nil {
			t.Error("a receive ended without error")
		}
	}
}

func TestInterface(t *testing.T) {
	d := daemonFor(t, "-dwire", "path="+t.TempDir())
	s := open(t, d)
	r := openRoute(t, d)
	if _, err := os.Stat(d.paths.entry("en0")); err != nil {
		t.Error(err)
	}
	if err := s.AddAddr("en0", protocol.AliasReq{Addr: inet("10.0.0.1")}); err != nil {
		t.Fatal(err)
	}
	for seen := false; !seen; {
		ms, err := r.Read()
		if err != nil {
			t.Fatal("no RTM_NEWADDR:", err)
		}
		for _, m := range ms {
			if a, ok := m.(*protocol.AddrMessage); ok && a.Type == protocol.RTMNewAddr && a.Addr.IP == netip.MustParseAddr("10.0.0.1") && a.Bits == 8 {
				seen = true
			}
		}
	}
	rows, err := client.Table[protocol.InterfaceRow](s, protocol.TableInterfaces, "en0")
	if err != nil || len(rows) != 1 || len(rows[0].Addresses) == 0 || rows[0].Addresses[0].Broadcast != "10.255.255.255" || rows[0].Flags&protocol.IFFUp == 0 {
		t.Errorf("en0: %+v, %v", rows, err)
	}
	if a, err := s.Addr(protocol.SIOCGIFNETMASK, "en0"); err != nil || a.IP.String() != "255.0.0.0" {
		t.Errorf("netmask %v, %v", a, err)
	}
	want(t, s.SetMTU("en0", 10), unix.EINVAL)
	if err := s.SetMTU("en0", 1400); err != nil {
		t.Error(err)
	}
	_, err = s.Flags("xx0")
	want(t, err, unix.ENXIO)
	var names []string
	for m, err := range s.Dump(protocol.DumpIfList, 0, 0) {
		if err != nil {
			t.Fatal(err)
		}
		if i, ok := m.(*protocol.IfMessage); ok {
			names = append(names, i.Name)
		}
	}
	if !slices.Equal(names, []string{"lo0", "en0"}) {
		t.Errorf("interfaces %v", names)
	}
	// The entry is a door that knows its interface only.
	conn, err := door.Dial(d.paths.entry("en0"))
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
	if _, err := s.Mount("io-net", "lan=3,path="+t.TempDir(), "devn-ne2000.so"); err != nil {
		t.Fatal(err)
	}
	want(t, s.Umount("/dev/io-net/en7"), unix.ENOENT)
	want(t, s.Umount(d.paths.entryDir()+"/ip_en"), unix.EBUSY)
	if err := s.Umount("/dev/io-net/en3"); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(d.paths.entry("en3")); !os.IsNotExist(err) {
		t.Errorf("the entry en3 is still there: %v", err)
	}
	_, err = s.Mount("io-net", "", "npm-tcpip-v6.so")
	want(t, err, unix.EBUSY)
}

func TestStaticMountsNothing(t *testing.T) {
	s := open(t, daemonFor(t, "-s"))
	_, err := s.Mount("io-net", "", "wire")
	want(t, err, unix.EPERM)
}

func TestSysctl(t *testing.T) {
	s := open(t, daemonFor(t))
	old, err := s.SetSysctl("net.inet.ip.forwarding", "1")
	if err != nil || old != "0" {
		t.Errorf("forwarding: old %q, %v", old, err)
	}
	if v, err := s.Sysctl("net.inet.ip.forwarding"); v != "1" || err != nil {
		t.Errorf("forwarding %q, %v", v, err)
	}
	_, err = s.Sysctl("net.inet.ip")
	want(t, err, unix.ENOTDIR)
	_, err = s.Sysctl("net.inet.frob")
	want(t, err, unix.ENOENT)
	_, err = s.SetSysctl("kern.ostype", "x")
	want(t, err, unix.EPERM)
	_, err = s.SetSysctl("kern.somaxconn", "1")
	want(t, err, unix.EINVAL)
	nodes, err := s.SysctlList("")
	if err != nil || len(nodes) < 20 || !slices.IsSortedFunc(nodes, func(a, b protocol.SysctlNode) int { return strings.Compare(a.Name, b.Name) }) {
		t.Errorf("%d nodes, %v", len(nodes), err)
	}
}

func TestSysctlHeap(t *testing.T) {
	d := daemonFor(t)
	s := open(t, d)
	v, err := s.Sysctl("kern.heap")
	if n, perr := strconv.ParseInt(v, 10, 64); err != nil || perr != nil || n < 100_000 {
		t.Errorf("kern.heap %q, %v", v, err)
	}
	nodes, err := s.SysctlList("")
	if err != nil {
		t.Fatal(err)
	}
	table := false
	for _, n := range nodes {
		table = table || n.Name == "net.route" && n.Kind == "table" && n.Use == "netstat"
		if n.Name == "kern.heap" {
			t.Error("a list of all collects the garbage")
		}
	}
	if !table {
		t.Error("no table net.route")
	}
	if nodes, err := s.SysctlList("kern.heap"); err != nil || len(nodes) != 1 || nodes[0].Value == "0" {
		t.Errorf("a list of kern.heap alone: %v, %v", nodes, err)
	}
	for _, op := range []uint8{protocol.SysctlGet, protocol.SysctlList} {
		c := &conn{s: d.srv}
		_, err = c.sysctl(protocol.AppendSysctlRequest(nil, protocol.SysctlRequest{Op: op, Name: "kern.heap"}))
		want(t, err, unix.EPERM)
	}
}

func TestRouteAnswers(t *testing.T) {
	d := daemonFor(t, "-dwire", "path="+t.TempDir())
	if err := open(t, d).AddAddr("en0", protocol.AliasReq{Addr: inet("10.0.0.1")}); err != nil {
		t.Fatal(err)
	}
	r := openRoute(t, d)
	m, err := r.Request(protocol.RouteMessage{Type: protocol.RTMGet, Dst: inet("10.2.3.4")})
	if err != nil || m.Metrics.MTU != 1500 || m.Inits&protocol.RTVMTU == 0 {
		t.Errorf("get: %+v, %v", m, err)
	}
	add := protocol.RouteMessage{Type: protocol.RTMAdd, Flags: protocol.RTFUp | protocol.RTFGateway, Dst: inet("172.16.0.0"),
		Netmask: protocol.MaskAddr(protocol.AFInet, 12), Gateway: inet("10.0.0.2"), Inits: protocol.RTVMTU, Metrics: protocol.RouteMetrics{MTU: 900}}
	if _, err := r.Request(add); err != nil {
		t.Fatal(err)
	}
	m, err = r.Request(protocol.RouteMessage{Type: protocol.RTMGet, Dst: inet("172.16.3.4")})
	if err != nil || m.Metrics.MTU != 900 {
		t.Errorf("get with an MTU: %+v, %v", m, err)
	}
	add.Dst, add.Netmask, add.Gateway = inet("2001:db8::"), protocol.MaskAddr(protocol.AFInet6, 32), inet("2001:db8:1::1")
	_, err = r.Request(add)
	want(t, err, unix.ENETUNREACH)
}

func TestRoutes(t *testing.T) {
	d := daemonFor(t, "-dwire", "path="+t.TempDir())
	s := open(t, d)
	if err := s.AddAddr("en0", protocol.AliasReq{Addr: inet("10.0.0.1")}); err != nil {
		t.Fatal(err)
	}
	r, listener := openRoute(t, d), openRoute(t, d)
	const n = 5000
	var batch []protocol.Message
	for i := range n {
		m := &protocol.RouteMessage{Type: protocol.RTMAdd, Seq: i + 1, PID: os.Getpid(), Flags: protocol.RTFUp | protocol.RTFGateway | protocol.RTFStatic, Gateway: inet("10.0.0.2")}
		m.SetPrefix(netip.PrefixFrom(netip.AddrFrom4([4]byte{20, byte(i >> 8), byte(i), 0}), 24))
		batch = append(batch, m)
	}
	if err := r.Write(batch...); err != nil {
		t.Fatal(err)
	}
	replies := func(from *client.RouteSocket, what string) {
		t.Helper()
		for seq := 1; seq <= n; {
			ms, err := from.Read()
			if err != nil {
				t.Fatalf("%s after %d: %v", what, seq-1, err)
			}
			for _, m := range ms {
				rm, ok := m.(*protocol.RouteMessage)
				if !ok || rm.Type != protocol.RTMAdd || rm.PID != os.Getpid() { // another: en0 has got its link-local address
					continue
				}
				if rm.Seq != seq || rm.Errno != 0 || rm.Flags&protocol.RTFDone == 0 {
					t.Fatalf("%s: %+v, want seq %d done", what, rm, seq)
				}
				seq++
			}
		}
	}
	replies(r, "reply")
	replies(listener, "news")
	again, err := r.Request(*batch[0].(*protocol.RouteMessage))
	if again.Errno != unix.EEXIST && !errors.Is(err, unix.EEXIST) {
		t.Errorf("the same again: %v, %v; want EEXIST", again.Errno, err)
	}
	count, last := 0, netip.Prefix{}
	for m, err := range s.Dump(protocol.DumpRoutes, protocol.AFInet, 0) {
		if err != nil {
			t.Fatal(err)
		}
		p := m.(*protocol.RouteMessage).Prefix()
		if last.IsValid() && comparePrefix(last, p) >= 0 {
			t.Fatalf("%v after %v", p, last)
		}
		last = p
		count++
	}
	if count != n+2 { // 127.0.0.1, 10
		t.Errorf("%d routes, want %d", count, n+2)
	}
	got, err := r.Request(protocol.RouteMessage{Type: protocol.RTMGet, Seq: 99, PID: os.Getpid(), Dst: inet("20.1.2.3"), Flags: protocol.RTFHost})
	if err != nil || got.Gateway.IP != netip.MustParseAddr("10.0.0.2") || got.Ifp.Link.Name != "en0" || got.Ifa.IP != netip.MustParseAddr("10.0.0.1") {
		t.Errorf("get: %+v, %v", got, err)
	}
}

func TestNeighbourLooksLikeARoute(t *testing.T) {
	d := daemonFor(t, "-dwire", "path="+t.TempDir())
	s, r := open(t, d), openRoute(t, d)
	if err := s.AddAddr("en0", protocol.AliasReq{Addr: inet("10.0.0.1")}); err != nil {
		t.Fatal(err)
	}
	m := protocol.RouteMessage{Type: protocol.RTMAdd, Seq: 1, PID: os.Getpid(), Flags: protocol.RTFHost | protocol.RTFLLInfo | protocol.RTFStatic,
		Dst: inet("10.0.0.9"), Gateway: protocol.LinkAddrOf(protocol.LinkOf(0, protocol.IFTEthernet, "", []byte{2, 0, 0, 0, 0, 9}))}
	if _, err := r.Request(m); err != nil {
		t.Fatal(err)
	}
	for _, what := range []int{protocol.DumpRoutes, protocol.DumpFlags} {
		found := false
		for m, err := range s.Dump(what, 0, protocol.RTFLLInfo) {
			if err != nil {
				t.Fatal(err)
			}
			rm := m.(*protocol.RouteMessage)
			if rm.Dst.IP == netip.MustParseAddr("10.0.0.9") && rm.Gateway.Link.String() == "02:00:00:00:00:09" && rm.Flags&(protocol.RTFLLInfo|protocol.RTFHost) != 0 {
				found = true
			} else if what == protocol.DumpFlags && rm.Flags&protocol.RTFLLInfo == 0 {
				t.Errorf("NET_RT_FLAGS shows %+v", rm)
			}
		}
		if !found {
			t.Errorf("dump %d does not show 10.0.0.9", what)
		}
	}
	for m, err := range s.Dump(protocol.DumpRoutes, protocol.AFInet, 0) {
		if rm, ok := m.(*protocol.RouteMessage); err == nil && ok && rm.Flags&protocol.RTFCloning != 0 && rm.Refs != 1 {
			t.Errorf("the network has %d references, want its neighbour: %+v", rm.Refs, rm)
		}
	}
	m.Type, m.Seq = protocol.RTMDelete, 2
	if _, err := r.Request(m); err != nil {
		t.Error(err)
	}
	if rows, err := client.Table[protocol.NeighbourRow](s, protocol.TableNeighbours, ""); err != nil || len(rows) != 0 {
		t.Errorf("neighbours %v, %v", rows, err)
	}
}

func TestCapture(t *testing.T) {
	s := open(t, daemonFor(t))
	c, err := s.Capture(protocol.CaptureRequest{Interface: "lo0"})
	if err != nil {
		t.Fatal(err)
	}
	type got struct {
		r   []protocol.CaptureRecord
		err error
	}
	ch := make(chan got, 1)
	go func() { r, err := c.Next(); ch <- got{r, err} }()
	k, err := s.Socket(protocol.SockDgram, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := k.Send(protocol.Msg{Addr: inet("127.0.0.1:9"), Data: []byte("hello")}); err != nil {
		t.Fatal(err)
	}
	g := <-ch
	if g.err != nil || len(g.r) == 0 || g.r[0].IfName != "lo0" || !strings.Contains(string(g.r[0].Data), "hello") {
		t.Errorf("captured %+v, %v", g.r, g.err)
	}
	if _, err := s.Capture(protocol.CaptureRequest{Interface: "en9"}); !errors.Is(err, unix.ENXIO) {
		t.Errorf("capture on en9: %v", err)
	}
	c.Close()
}

// TestBadClients: each of them is answered, and costs nobody else anything.
func TestBadClients(t *testing.T) {
	d := daemonFor(t)
	good := open(t, d)
	hello := protocol.AppendHelloRequest(protocol.AppendHeader(nil, protocol.Header{Type: protocol.TypeHello, Tag: 1}))
	frame := func(typ protocol.Type, id uint32, p ...byte) []byte {
		return append(protocol.AppendHeader(nil, protocol.Header{Type: typ, Tag: 7, ID: id}), p...)
	}
	other := slices.Clone(hello)
	other[0] = 99
	tests := []struct {
		name  string
		hello bool
		send  []byte
		errno syscall.Errno
	}{
		{"half a header", false, []byte{1, 2, 3}, unix.EPROTO},
		{"another version", false, other, unix.EPROTO},
		{"no hello", false, frame(protocol.TypeSocket, 0, 2, 0, 17, 0), unix.EPROTO},
		{"hello with a wrong magic", false, frame(protocol.TypeHello, 0, 1, 2, 3, 4, 1, 0), unix.EPROTO},
		{"unknown type", true, frame(200, 0), unix.ENOSYS},
		{"a socket that is not there", true, frame(protocol.TypeRecv, 77, 0, 0, 0, 0, 0, 0, 0, 0), unix.EBADF},
		{"half a request", true, frame(protocol.TypeSocket, 0, 2), unix.EPROTO},
		{"a long frame", true, make([]byte, protocol.MaxFrame+100), unix.EMSGSIZE},
		{"a reply", true, protocol.AppendReply(nil, protocol.Header{Type: protocol.TypeSocket}), unix.EINVAL},
	}
	buf := make([]byte, protocol.MaxFrame)
	for _, tt := range tests {
		c, err := door.Dial(d.paths.door(protocol.AFInet))
		if err != nil {
			t.Fatal(err)
		}
		c.SetDeadline(time.Now().Add(10 * time.Second))
		if tt.hello {
			c.Write(hello)
			c.Read(buf)
		}
		if _, err := c.Write(tt.send); err != nil {
			t.Fatal(tt.name, err)
		}
		n, err := c.Read(buf)
		if err != nil {
			t.Fatalf("%s: no answer: %v", tt.name, err)
		}
		if h, _, err := protocol.ParseFrame(buf[:n]); err != nil || h.Errno != tt.errno || h.Flags&protocol.FlagReply == 0 {
			t.Errorf("%s: %+v, %v; want %v", tt.name, h, err, tt.errno)
		}
		c.Close()
	}
	rc, err := door.Dial(d.paths.door(protocol.AFRoute))
	if err != nil {
		t.Fatal(err)
	}
	defer rc.Close()
	rc.SetDeadline(time.Now().Add(10 * time.Second))
	rc.Write([]byte{9, 9, 9, 9, 9})
	n, err := rc.Read(buf)
	if m, _, perr := protocol.NextMessage(buf[:n]); err != nil || perr != nil || m.(*protocol.RouteMessage).Errno == 0 {
		t.Errorf("garbage on a routing socket: %v, %v, %v", m, err, perr)
	}
	if _, err := good.Sysctl("kern.ostype"); err != nil {
		t.Error("another client:", err)
	}
}

// TestClientThatDoesNotRead asks for much and takes nothing; others are served.
func TestClientThatDoesNotRead(t *testing.T) {
	d := daemonFor(t)
	c, err := door.Dial(d.paths.door(protocol.AFInet))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.Write(protocol.AppendHelloRequest(protocol.AppendHeader(nil, protocol.Header{Type: protocol.TypeHello})))
	q := protocol.AppendSysctlRequest(protocol.AppendHeader(nil, protocol.Header{Type: protocol.TypeSysctl}), protocol.SysctlRequest{Op: protocol.SysctlList})
	raw, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	for full := false; !full; {
		raw.Write(func(fd uintptr) bool {
			full = sendFrame(int(fd), q, -1) != nil
			return true
		})
	}
	s := open(t, d)
	if _, err := s.Sysctl("kern.ostype"); err != nil {
		t.Fatal(err)
	}
	// It may still take its answers.
	buf := make([]byte, protocol.MaxFrame)
	c.SetReadDeadline(time.Now().Add(10 * time.Second))
	for range 10 {
		if n, err := c.Read(buf); err != nil || n < protocol.HeaderLen {
			t.Fatal(n, err)
		}
	}
}

func TestThousandClientsVanish(t *testing.T) {
	d := daemonFor(t)
	s := open(t, d)
	eng := d.eng.Engine()
	before := goroutines()
	mem := eng.Env.Pool.InUse()
	for round := range 10 {
		var conns []*net.UnixConn
		for i := range 100 {
			c, err := door.Dial(d.paths.door(protocol.AFInet))
			if err != nil {
				t.Fatal(round, i, err)
			}
			c.Write(protocol.AppendHelloRequest(protocol.AppendHeader(nil, protocol.Header{Type: protocol.TypeHello})))
			c.Write(append(protocol.AppendHeader(nil, protocol.Header{Type: protocol.TypeSocket}), 2, 0, 0, 0))
			c.Write(append(protocol.AppendHeader(nil, protocol.Header{Type: protocol.TypeRecv, ID: 1}), 0, 0, 0, 0, 100, 0, 0, 0))
			if i%3 == 0 {
				c.Write([]byte("half a fr"))
			}
			conns = append(conns, c)
		}
		for _, c := range conns {
			c.Close()
		}
	}
	deadline := time.Now().Add(30 * time.Second)
	for {
		clients, sockets := d.srv.counts()
		if clients == 1 && sockets == 0 && eng.Sockets() == 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d clients, %d sockets, %d in the engine are left", clients, sockets, eng.Sockets())
		}
		if _, err := s.Sysctl("kern.ostype"); err != nil {
			t.Fatal(err)
		}
	}
	if got := eng.Env.Pool.InUse(); got != mem {
		t.Errorf("%d octets of buffers, before %d", got, mem)
	}
	if got := goroutines() - int(d.srv.workers.Load()-d.srv.low); got > before+2 {
		t.Errorf("%d goroutines, before %d", got, before)
	}
}

func TestQuotas(t *testing.T) {
	d := daemonFor(t)
	for n, v := range map[string]string{"kern.user.sockets": "2", "kern.client.waiting": "1"} {
		if _, err := d.eng.Engine().Env.MIB.Set(n, v); err != nil {
			t.Fatal(err)
		}
	}
	c := &conn{s: d.srv, fd: -1, closed: true, family: protocol.AFInet, socks: map[uint32]*sock{}, caps: map[uint32]*capture{}}
	c.credentials.Uid = 12345
	d.srv.users[12345] = &quota{}
	for i := range 3 {
		_, err := c.newSocket([]byte{2, 0, 0, 0})
		if (err != nil) != (i == 2) {
			t.Errorf("socket %d: %v", i, err)
		}
	}
	if _, err := c.newSocket([]byte{3, 0, 1, 0}); err == nil {
		t.Error("a raw socket for an ordinary user")
	}
	recv := func(tag uint32) error {
		return c.socks[1].recv(protocol.Header{Type: protocol.TypeRecv, Tag: tag}, make([]byte, 8))
	}
	if err := recv(1); err != nil {
		t.Error(err)
	}
	want(t, recv(2), unix.ENOBUFS)
	if err := c.cancel(protocol.AppendU32(nil, 1)); err != nil {
		t.Error(err)
	}
	_, err := c.sysctl(protocol.AppendSysctlRequest(nil, protocol.SysctlRequest{Op: protocol.SysctlSet, Name: "net.inet.ip.ttl", Value: "3"}))
	want(t, err, unix.EPERM)
	c.closeAll()
	if n := d.eng.Engine().Sockets(); n != 0 {
		t.Errorf("%d sockets left", n)
	}
}

// TestUserQueue: what all clients of a user leave unread is bounded together.
func TestUserQueue(t *testing.T) {
	d := daemonFor(t)
	if _, err := d.eng.Engine().Env.MIB.Set("kern.user.queue", "65536"); err != nil {
		t.Fatal(err)
	}
	user := &quota{}
	client := func() *conn {
		fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { unix.Close(fds[1]) })
		c := &conn{s: d.srv, fd: fds[0], user: user, busy: true, socks: map[uint32]*sock{}, caps: map[uint32]*capture{}}
		t.Cleanup(c.teardown)
		return c
	}
	answer := make([]byte, 1000)
	first, second := client(), client()
	for user.queued.Load() <= 65536 {
		if !first.send(answer) {
			t.Fatal("dropped below the limit")
		}
	}
	if first.send(answer) || !first.dead {
		t.Error("the first client goes on above the limit")
	}
	for i := 0; second.send(answer); i++ {
		if second.queued > 0 || i > 1<<20 {
			t.Fatal("the second client queues more above the limit")
		}
	}
	first.teardown()
	if n := user.queued.Load(); n != 0 {
		t.Errorf("%d octets are charged to a user without clients", n)
	}
}

func goroutines() int {
	return strings.Count(stacks(), "\ngoroutine ") + 1
}

func stacks() string {
	buf := make([]byte, 4<<20)
	return string(buf[:runtimeStack(buf)])
}

func ExampleOptions() {
	o, _ := ParseOptions([]string{"-dne2000", "-ptcpip", "ipsec,forward"})
	fmt.Println(o.Drivers(), o.Protocols())
	// Output: [{false ne2000 }] [{true tcpip ipsec,forward}]
}

func TestExternalARPIsNoRoute(t *testing.T) {
	d := daemonWith(t, "external_arp,", "-dwire", "path="+t.TempDir())
	s, r := open(t, d), openRoute(t, d)
	if err := s.AddAddr("en0", protocol.AliasReq{Addr: inet("10.0.0.1")}); err != nil {
		t.Fatal(err)
	}
	m := protocol.RouteMessage{Type: protocol.RTMAdd, Seq: 1, PID: os.Getpid(), Flags: protocol.RTFHost | protocol.RTFLLInfo | protocol.RTFStatic,
		Dst: inet("10.0.0.9"), Gateway: protocol.LinkAddrOf(protocol.LinkOf(0, protocol.IFTEthernet, "", []byte{2, 0, 0, 0, 0, 9}))}
	if _, err := r.Request(m); err != nil {
		t.Fatal(err)
	}
	for m, err := range s.Dump(protocol.DumpRoutes, protocol.AFInet, 0) {
		if err != nil {
			t.Fatal(err)
		}
		if m.(*protocol.RouteMessage).Flags&protocol.RTFLLInfo != 0 {
			t.Errorf("a neighbour among the routes: %+v", m)
		}
	}
	if rows, err := client.Table[protocol.NeighbourRow](s, protocol.TableNeighbours, ""); err != nil || len(rows) != 1 {
		t.Errorf("neighbours %v, %v", rows, err)
	}
	if _, err := os.Stat(d.paths.entry("ip_en")); err != nil {
		t.Error(err)
	}
}
