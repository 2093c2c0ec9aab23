package e2e

import (
	"errors"
	"net"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"ionet/client"
	"ionet/protocol"
	"ionet/test/need"
)

// asNobody runs f on a thread whose effective user is nobody; the sockets
// that f connects are nobody's for good.
func asNobody(t *testing.T, f func()) {
	t.Helper()
	need.Root(t)
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	const nobody, keep = 65534, ^uintptr(0)
	if _, _, e := unix.RawSyscall(unix.SYS_SETRESUID, keep, nobody, keep); e != 0 {
		t.Fatal(e)
	}
	defer func() {
		if _, _, e := unix.RawSyscall(unix.SYS_SETRESUID, keep, 0, keep); e != 0 {
			panic(e) // this thread must not serve others
		}
	}()
	f()
}

// says wants err to have the number and a sentence with the text.
func says(t *testing.T, what string, err error, errno syscall.Errno, text string) {
	t.Helper()
	if !errors.Is(err, errno) || !strings.Contains(err.Error(), text) {
		t.Errorf("%s: %v; want %q with %q", what, err, errno, text)
	}
}

func TestSysctl(t *testing.T) {
	d := start(t)
	s, other := d.open(), d.open()
	if old, err := s.SetSysctl("net.inet.ip.forwarding", "1"); old != "0" || err != nil {
		t.Errorf("forwarding was %q, %v", old, err)
	}
	if v, err := other.Sysctl("net.inet.ip.forwarding"); v != "1" || err != nil {
		t.Errorf("another client sees %q, %v", v, err)
	}
	_, err := s.Sysctl("net.inet.ip.frob")
	says(t, "no node", err, syscall.ENOENT, "net.inet.ip.frob")
	_, err = s.Sysctl("net.inet")
	says(t, "half a name", err, syscall.ENOTDIR, "incomplete")
	_, err = s.SetSysctl("kern.ostype", "QNX")
	says(t, "read only", err, syscall.EPERM, "kern.ostype")
	_, err = s.SetSysctl("net.inet.ip.ttl", "many")
	says(t, "a word for a number", err, syscall.EINVAL, "many")
	all, err := s.SysctlList("")
	if err != nil || len(all) < 20 {
		t.Fatalf("%d nodes, %v", len(all), err)
	}
	udp, err := s.SysctlList("net.inet.udp")
	if err != nil || len(udp) == 0 {
		t.Fatal(udp, err)
	}
	var want []protocol.SysctlNode
	for _, n := range all {
		if strings.HasPrefix(n.Name, "net.inet.udp.") {
			want = append(want, n)
		}
	}
	if !slices.EqualFunc(udp, want, func(a, b protocol.SysctlNode) bool { return a.Name == b.Name }) {
		t.Errorf("net.inet.udp: %v, want %v", udp, want)
	}
	if nodes, err := s.SysctlList("frob"); err == nil && len(nodes) > 0 {
		t.Errorf("below frob: %v", nodes)
	}
}

// TestNobody: who is not trusted may look and use datagrams, and is told in a
// sentence what he may not.
func TestNobody(t *testing.T) {
	d := start(t, "-dwire", "path="+t.TempDir())
	var s *client.Stack
	var r *client.RouteSocket
	asNobody(t, func() {
		var err error
		if s, err = client.Open(d.prefix); err != nil {
			t.Fatal(err)
		}
		if r, err = client.OpenRoute(d.prefix); err != nil {
			t.Fatal(err)
		}
	})
	defer func() { _ = s.Close(); _ = r.Close() }()
	const who = "only the superuser or the stack's own user may "
	_, err := s.SetSysctl("net.inet.ip.forwarding", "1")
	says(t, "sysctl -w", err, syscall.EPERM, who+"set net.inet.ip.forwarding")
	if v, err := s.Sysctl("net.inet.ip.forwarding"); v != "0" || err != nil {
		t.Errorf("forwarding is %q, %v", v, err)
	}
	says(t, "ifconfig", s.AddAddr("en0", protocol.AliasReq{Addr: inet("10.0.0.1")}), syscall.EPERM, who)
	says(t, "ifconfig down", s.SetFlags("en0", 0, protocol.IFFUp), syscall.EPERM, who)
	_, err = s.Capture(protocol.CaptureRequest{})
	says(t, "capture", err, syscall.EPERM, who+"capture")
	_, err = s.Mount("io-net", "", "wire")
	says(t, "mount", err, syscall.EPERM, who+"mount")
	says(t, "umount", s.Umount("/dev/io-net/en0"), syscall.EPERM, who)
	says(t, "stop", s.Stop(), syscall.EPERM, who+"end the stack")
	_, err = s.ListenPacket("ip4:icmp", "")
	if !errors.Is(err, syscall.EPERM) && !errors.Is(err, syscall.EACCES) {
		t.Errorf("raw socket: %v", err)
	}
	_, err = s.ListenPacket("udp", "127.0.0.1:53")
	if !errors.Is(err, syscall.EPERM) && !errors.Is(err, syscall.EACCES) {
		t.Errorf("port 53: %v", err)
	}
	m := protocol.RouteMessage{Type: protocol.RTMAdd, Flags: protocol.RTFUp, Gateway: inet("127.0.0.1")}
	m.SetPrefix(prefixOf(0))
	if _, err := r.Request(m); !errors.Is(err, syscall.EPERM) {
		t.Errorf("route add: %v", err)
	}
	if got, err := r.Request(protocol.RouteMessage{Type: protocol.RTMGet, Flags: protocol.RTFHost, Dst: inet("127.0.0.1")}); err != nil || got.Ifp.Link.Name != "lo0" {
		t.Errorf("route get: %+v, %v", got, err)
	}
	if rows, err := client.Table[protocol.InterfaceRow](s, protocol.TableInterfaces, ""); err != nil || len(rows) != 2 {
		t.Errorf("interfaces %v, %v", rows, err)
	}
	pc, err := s.ListenPacket("udp", "127.0.0.1:5300")
	if err != nil {
		t.Fatal(err)
	}
	c, err := s.Dial("udp", "127.0.0.1:5300")
	if err != nil {
		t.Fatal(err)
	}
	exchange(t, c, pc, "hello")
	rows, err := client.Table[protocol.SocketRow](s, protocol.TableSockets, "")
	if err != nil || len(rows) != 2 || rows[0].UID != 65534 {
		t.Errorf("sockets %+v, %v", rows, err)
	}
}

// TestTablePages: more rows than a frame holds, all there and once.
func TestTablePages(t *testing.T) {
	d := start(t)
	s := d.open()
	const n = 1500 // rows of 150 octets and more: several pages of 66 KiB
	for range n {
		if _, err := s.ListenPacket("udp", ":0"); err != nil {
			t.Fatal(err)
		}
	}
	rows, err := client.Table[protocol.SocketRow](d.open(), protocol.TableSockets, "")
	if err != nil {
		t.Fatal(err)
	}
	ports := map[int]bool{}
	for _, r := range rows {
		ports[r.LPort] = true
	}
	if len(rows) != n || len(ports) != n {
		t.Errorf("%d rows with %d ports, want %d", len(rows), len(ports), n)
	}
	if _, err := client.Table[protocol.SocketRow](s, "frob", ""); !errors.Is(err, syscall.ENOENT) && !errors.Is(err, syscall.EINVAL) {
		t.Errorf("table frob: %v", err)
	}
	// A reader may stop in the middle.
	for line, err := range s.TableRaw(protocol.TableSockets, "") {
		if err != nil || len(line) == 0 {
			t.Error(line, err)
		}
		break
	}
}

// udpTo is a filter for IPv4 without options, UDP to a port. Filters are
// written for Ethernet, whatever the interface.
func udpTo(t *testing.T, port uint32) []bpf.RawInstruction {
	t.Helper()
	f, err := bpf.Assemble([]bpf.Instruction{
		bpf.LoadAbsolute{Off: 14 + 9, Size: 1},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: protocol.ProtoUDP, SkipTrue: 3},
		bpf.LoadAbsolute{Off: 14 + 22, Size: 2},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: port, SkipTrue: 1},
		bpf.RetConstant{Val: 0xffff},
		bpf.RetConstant{Val: 0},
	})
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestCapture(t *testing.T) {
	d := start(t)
	s := d.open()
	c, err := s.Capture(protocol.CaptureRequest{Interface: "lo0", Filter: udpTo(t, 7)})
	if err != nil {
		t.Fatal(err)
	}
	k, err := s.ListenPacket("udp", "127.0.0.1:7000")
	if err != nil {
		t.Fatal(err)
	}
	send := func(port int, data string) {
		t.Helper()
		if _, err := k.WriteTo([]byte(data), &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: port}); err != nil {
			t.Fatal(err)
		}
	}
	send(8, "not wanted")
	send(7, "wanted") // nobody is there: it is dropped
	// A packet on lo0 is seen once, when it comes.
	came := 0
	var dropped string
	for came == 0 || dropped == "" {
		recs, err := c.Next()
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range recs {
			if !strings.HasSuffix(string(r.Data), "wanted") || strings.HasSuffix(string(r.Data), "not wanted") || r.IfName != "lo0" || r.OrigLen != 34 ||
				r.LinkType != protocol.LinkTypeRaw || time.Since(time.Unix(0, r.Time)).Abs() > time.Minute {
				t.Errorf("captured %+v", r)
			}
			switch {
			case r.Dropped != "":
				dropped = r.Dropped
			default:
				came++
			}
		}
	}
	if came != 1 || dropped != "no socket" {
		t.Errorf("seen %d times and dropped because of %q; want once, no socket", came, dropped)
	}
	_, err = s.Capture(protocol.CaptureRequest{Interface: "en9"})
	says(t, "capture on en9", err, syscall.ENXIO, "en9")
	_, err = s.Capture(protocol.CaptureRequest{Filter: []bpf.RawInstruction{{Op: 0xffff}}})
	if !errors.Is(err, syscall.EINVAL) {
		t.Errorf("a filter that is no program: %v", err)
	}
	// Next ends with Close, whoever is first.
	got := make(chan error, 1)
	go func() { _, err := c.Next(); got <- err }()
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	if err := <-got; !errors.Is(err, net.ErrClosed) {
		t.Errorf("Next: %v, want net.ErrClosed", err)
	}
	if _, err := c.Next(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Next after Close: %v, want net.ErrClosed", err)
	}
}

// TestCaptureLost: what a slow reader loses is counted, exactly.
func TestCaptureLost(t *testing.T) {
	d := start(t)
	s := d.open()
	c, err := s.Capture(protocol.CaptureRequest{Interface: "lo0", Filter: udpTo(t, 7), Buffer: 1 << 16, SnapLen: 64})
	if err != nil {
		t.Fatal(err)
	}
	pc, err := s.ListenPacket("udp", "127.0.0.1:7")
	if err != nil {
		t.Fatal(err)
	}
	k, err := s.Dial("udp", "127.0.0.1:7")
	if err != nil {
		t.Fatal(err)
	}
	const n = 5000
	data := make([]byte, 1000)
	for range n {
		if _, err := k.Write(data); err != nil {
			t.Fatal(err)
		}
	}
	_ = pc.Close()
	// Those that found the socket's buffer full come once more, as dropped.
	seen, drops := 0, 0
	for uint64(seen)+c.Lost() < n {
		recs, err := c.Next()
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range recs {
			if len(r.Data) != 64 || r.OrigLen != 1028 {
				t.Fatalf("%d octets of %d, want 64 of 1028", len(r.Data), r.OrigLen)
			}
			if r.Dropped != "" {
				drops++
			} else {
				seen++
			}
		}
	}
	if c.Lost() == 0 || seen == 0 {
		t.Errorf("seen %d (dropped %d), lost %d", seen, drops, c.Lost())
	}
	if _, err := s.Sysctl("kern.ostype"); err != nil {
		t.Error(err)
	}
}

// TestIoctls: interfaces made and unmade while the routing sockets hear of it.
func TestIoctls(t *testing.T) {
	d := start(t, "-dwire", "path="+t.TempDir())
	s := d.open()
	if err := s.AddAddr("en0", protocol.AliasReq{Addr: inet("10.0.0.1"), Mask: protocol.MaskAddr(protocol.AFInet, 24)}); err != nil {
		t.Fatal(err)
	}
	if a, err := s.Addr(protocol.SIOCGIFADDR, "en0"); err != nil || a.IP != netip.MustParseAddr("10.0.0.1") {
		t.Error(a, err)
	}
	if err := s.SetFlags("en0", 0, protocol.IFFUp); err != nil {
		t.Error(err)
	}
	if f, err := s.Flags("en0"); err != nil || f&protocol.IFFUp != 0 {
		t.Errorf("flags %#x, %v", f, err)
	}
	if i, err := s.IfIndex("en0"); err != nil || i != 2 {
		t.Errorf("the index of en0 is %d, %v", i, err)
	} else if name, err := s.IfName(i); err != nil || name != "en0" {
		t.Errorf("the name of %d is %q, %v", i, name, err)
	}
	_, err := s.IfName(99)
	says(t, "an index without interface", err, syscall.ENXIO, "")
	says(t, "an address it has not", s.DelAddr("en0", inet("10.0.0.2")), syscall.EADDRNOTAVAIL, "")
	if err := s.DelAddr("en0", inet("10.0.0.1")); err != nil {
		t.Error(err)
	}
	says(t, "no interface", s.SetMTU("en9", 1400), syscall.ENXIO, "")
	says(t, "a silly MTU", s.SetMTU("en0", 3), syscall.EINVAL, "")
	_, err = s.Ioctl(0xdeadbeef, protocol.AppendIfReq(nil, protocol.IfReq{Name: "en0"}))
	if !errors.Is(err, syscall.ENOTTY) && !errors.Is(err, syscall.EINVAL) && !errors.Is(err, syscall.EOPNOTSUPP) {
		t.Errorf("an unknown request: %v", err)
	}
	name, err := s.Mount("io-net", "path="+t.TempDir(), "devn-ne2000.so")
	if name, _, _ = strings.Cut(name, "\n"); name != "en1" || err != nil {
		t.Fatal(name, err)
	}
	if err := s.Umount("/dev/io-net/en1"); err != nil {
		t.Error(err)
	}
	says(t, "umount again", s.Umount("/dev/io-net/en1"), syscall.ENOENT, "en1")
}
