package interop

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"ionet/driver/netns"
	"ionet/protocol"
	"ionet/test/need"
	"ionet/test/play"
)

// tree is a stack with three kernels around it, upstream and two downstream, mproxy between them, and tcpdump at each.
type tree struct {
	*testing.T
	u     *play.User
	ends  [3]*need.NS
	dumps [3]string // files
	log   *play.Job
}

// mcastPort is where the groups' datagrams go.
const mcastPort = 5005

func newTree(t *testing.T, options ...string) *tree {
	t.Helper()
	need.File(t, "/dev/net/tun")
	need.Command(t, "tcpdump", "tcpdump")
	mid := need.Namespace(t)
	u := play.NewRoot(t, mid)
	prefix := filepath.Join(u.Dir, "s")
	var args []string
	for i := range 3 {
		args = append(args, "-d", "tap", fmt.Sprint("name=tap", i))
	}
	u.Ionet(prefix, append(args, "-p", "tcpip", "prefix="+prefix)...)
	w := &tree{T: t, u: u.At(prefix)}
	w.u.Must("sysctl", "-w", "net.inet6.ip6.dad_count=0")
	for i := range w.ends {
		ns, tap, en := need.Namespace(t), fmt.Sprint("tap", i), fmt.Sprint("en", i)
		w.ends[i] = ns
		mid.Exec("ip", "link", "set", tap, "netns", ns.Name)
		ns.Exec("sysctl", "-qw", "net.ipv4.conf.all.rp_filter=0", "net.ipv4.conf."+tap+".rp_filter=0", "net.ipv6.conf."+tap+".accept_dad=0")
		for _, command := range []string{
			"link set " + tap + " up", fmt.Sprintf("addr add 10.0.%d.1/24 dev %s", i, tap), fmt.Sprintf("addr add 2001:db8:%d::1/64 dev %s nodad", i, tap),
			"route add 224.0.0.0/4 dev " + tap,
		} {
			ns.Exec("ip", strings.Fields(command)...)
		}
		w.u.Must("ifconfig", en, fmt.Sprintf("10.0.%d.2/24", i))
		w.u.Must("ifconfig", en, "inet6", fmt.Sprintf("2001:db8:%d::2", i), "prefixlen", "64")
		w.dumps[i] = filepath.Join(u.Dir, tap+".txt")
		r := play.NewRoot(t, ns)
		r.Serves("listening on", "sh", "-c", `exec tcpdump -nltQ in -i "$1" udp port "$2" >"$3"`, "sh", tap, fmt.Sprint(mcastPort), w.dumps[i])
	}
	w.log = w.u.Begin(nil, "mproxy", append(append([]string{"-fd"}, options...), "en0", "en1", "en2")...)
	eventually(t, "netstat -g", `(?s)Virtual Interface Table.*10\.0\.2\.2.*IPv6 Multicast Interface Table.* en2 `, func() string { return w.u.Try("netstat", "-g").Out })
	return w
}

// lines are what tcpdump has seen come in at an end that matches.
func (w *tree) lines(end int, match string) (n int) {
	w.Helper()
	b, err := os.ReadFile(w.dumps[end])
	if err != nil {
		w.Fatal(err)
	}
	for l := range strings.Lines(string(b)) {
		if strings.Contains(l, match) {
			n++
		}
	}
	return n
}

// send has an end send a numbered datagram to a group every 20 ms, until the test ends.
func (w *tree) send(end int, group string) {
	w.Helper()
	var c net.Conn
	err := netns.Do(w.ends[end].Name, func() (err error) {
		d := net.Dialer{Control: func(_, _ string, raw syscall.RawConn) (err error) {
			e := raw.Control(func(fd uintptr) {
				if strings.Contains(group, ":") {
					ifp, e := net.InterfaceByName(fmt.Sprint("tap", end))
					if err = e; err == nil {
						err = unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_IF, ifp.Index)
					}
					if err == nil {
						err = unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_HOPS, 8)
					}
					return
				}
				err = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_MULTICAST_TTL, 8)
			})
			if err == nil {
				err = e
			}
			return err
		}}
		c, err = d.Dial("udp", net.JoinHostPort(group, fmt.Sprint(mcastPort)))
		return err
	})
	if err != nil {
		w.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for n := uint32(0); ; n++ {
			_, _ = c.Write(binary.BigEndian.AppendUint32(nil, n))
			select {
			case <-tick.C:
			case <-ctx.Done():
				return
			}
		}
	}()
	w.Cleanup(func() {
		stop()
		<-done
		_ = c.Close()
	})
}

// join has an end's kernel join a group: of everybody, or of one source (IPv4).
func (w *tree) join(end int, group, source string) *net.UDPConn {
	w.Helper()
	var c *net.UDPConn
	err := netns.Do(w.ends[end].Name, func() error {
		ifp, err := net.InterfaceByName(fmt.Sprint("tap", end))
		if err != nil {
			return err
		}
		a := &net.UDPAddr{IP: net.ParseIP(group), Port: mcastPort}
		if source == "" {
			c, err = net.ListenMulticastUDP("udp", ifp, a)
			return err
		}
		if c, err = net.ListenUDP("udp4", a); err != nil {
			return err
		}
		raw, err := c.SyscallConn()
		if err != nil {
			return err
		}
		// Linux's ip_mreq_source: group, interface, source.
		mreq := append(append(append([]byte{}, a.IP.To4()...), 10, 0, byte(end), 1), net.ParseIP(source).To4()...)
		if e := raw.Control(func(fd uintptr) {
			err = unix.SetsockoptString(int(fd), unix.IPPROTO_IP, unix.IP_ADD_SOURCE_MEMBERSHIP, string(mreq))
		}); e != nil {
			err = e
		}
		return err
	})
	if err != nil {
		w.Fatal(err)
	}
	w.Cleanup(func() { _ = c.Close() })
	return c
}

// hears receives from c until it has heard n datagrams in a row, without a gap.
func (w *tree) hears(c *net.UDPConn, n int) {
	w.Helper()
	_ = c.SetReadDeadline(time.Now().Add(20 * time.Second))
	b := make([]byte, 100)
	var last uint32
	for i := range n {
		if _, err := c.Read(b); err != nil {
			w.Fatalf("after %d datagrams: %v\n%s", i, err, w.log.Err.String())
		}
		now := binary.BigEndian.Uint32(b)
		if i > 0 && now != last+1 {
			w.Errorf("datagram %d came behind %d", now, last)
		}
		last = now
	}
}

// quiet waits until nothing more of a group comes in at an end, and answers how long that took.
func (w *tree) quiet(end int, match string) time.Duration {
	w.Helper()
	start := time.Now()
	for last, since := w.lines(end, match), time.Now(); ; time.Sleep(20 * time.Millisecond) { // polls another process's file
		n := w.lines(end, match)
		if n != last {
			last, since = n, time.Now()
		}
		if time.Since(since) > time.Second {
			return since.Sub(start)
		}
		if time.Since(start) > 20*time.Second {
			w.Fatalf("%s goes on at %d\n%s\n%s", match, end, w.u.Try("netstat", "-g").Out, w.log.Err.String())
		}
	}
}

// TestMulticastProxy: between kernels, nothing passes before somebody has joined, everything then, and nothing a few seconds after
// the last one has left; whatever version of IGMP and MLD the kernels speak, and of which sources.
func TestMulticastProxy(t *testing.T) {
	for _, c := range []struct {
		name, group, source, force string
		options                    []string
	}{
		{name: "IGMPv3", group: "239.1.2.3"},
		{name: "IGMPv3 of a source", group: "232.1.2.3", source: "10.0.0.1"},
		{name: "IGMPv2", group: "239.1.2.3", force: "net.ipv4.conf.tap1.force_igmp_version=2"},
		{name: "asked in IGMPv2", group: "239.1.2.3", options: []string{"-o"}},
		{name: "MLDv2", group: "ff0e::1:2"},
		{name: "MLDv1", group: "ff0e::1:2", force: "net.ipv6.conf.tap1.force_mld_version=1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := newTree(t, c.options...)
			if c.force != "" {
				w.ends[1].Exec("sysctl", "-qw", c.force)
			}
			w.send(0, c.group)
			eventually(t, "netstat -g", regexp.QuoteMeta(c.group), func() string { return w.u.Try("netstat", "-gv").Out })
			time.Sleep(500 * time.Millisecond) // it is to be seen that nothing comes
			if n := w.lines(1, c.group); n != 0 {
				t.Errorf("%d packets came before somebody joined\n%s", n, w.log.Err.String())
			}
			s := w.join(1, c.group, c.source)
			w.hears(s, 50)
			n := 0
			for late := time.Now().Add(10 * time.Second); n < 45 && time.Now().Before(late); time.Sleep(20 * time.Millisecond) { // tcpdump writes later than it sees
				n = w.lines(1, c.group)
			}
			if n < 45 {
				t.Errorf("tcpdump has seen %d packets, the member 50", n)
			}
			if out := w.u.Try("ifmcstat").Out; !strings.Contains(out, c.group) {
				t.Errorf("the stack is no member upstream:\n%s", out)
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			if d := w.quiet(1, c.group); d > 6*time.Second {
				t.Errorf("it took %v until nothing came any more", d)
			}
			if n := w.lines(2, c.group); n != 0 {
				t.Errorf("%d packets came where nobody has joined", n)
			}
			gone(t, "ifmcstat", regexp.QuoteMeta(c.group), func() string { return w.u.Try("ifmcstat").Out })
			w.log.Cmd.Process.Signal(syscall.SIGTERM)
			if status := w.log.Wait(); status != 0 {
				t.Errorf("mproxy ends with %d", status)
			}
			play.WantLines(t, "netstat -g", w.u.Must("netstat", "-g"), "Virtual Interface Table is empty", "IPv6 Multicast Routing Table is empty")
		})
	}
}

// TestMulticastFromBelow: what a downstream host sends goes up, and to where somebody on another link has joined.
func TestMulticastFromBelow(t *testing.T) {
	t.Parallel()
	w := newTree(t)
	s := w.join(2, "239.1.2.4", "")
	s6 := w.join(2, "ff0e::4", "")
	w.send(1, "239.1.2.4")
	w.send(1, "ff0e::4")
	w.hears(s, 50)
	w.hears(s6, 50)
	for _, g := range []string{"239.1.2.4", "ff0e::4"} {
		if n := w.lines(0, g); n < 40 {
			t.Errorf("%d packets to %s have gone up", n, g)
		}
	}
	out := w.u.Must("netstat", "-g")
	for _, re := range []string{`10\.0\.1\.1 +239\.1\.2\.4 +\d+. +1  0/1 2/1\n`, `2001:db8:1::1 +ff0e::4 +\d+ +0 +1 +0 2\n`} {
		if !regexp.MustCompile(re).MatchString(out) {
			t.Errorf("netstat -g lacks %s:\n%s", re, out)
		}
	}
	if out := w.u.Must("netstat", "-gs"); !regexp.MustCompile(`(?s)multicast forwarding:\n\t[1-9].*\t[1-9]\d* upcalls? made to mrouted\n.*\t[1-9]\d* upcalls? to mrouted\n`).MatchString(out) {
		t.Errorf("netstat -gs:\n%s", out)
	}
	if err := w.log.Cmd.Process.Signal(syscall.SIGUSR1); err != nil {
		t.Fatal(err)
	}
	dump := filepath.Join(strings.TrimPrefix(w.u.Env[len(w.u.Env)-1], "SOCK="), "var/run/mproxy.dump")
	got := eventually(t, "the dump", `ff0e::4`, func() string { return w.u.Try("cat", dump).Out })
	play.WantLines(t, "the dump", got, "IPv4, upstream en0\n", "  en2: we ask\n", "    239.1.2.4 of everybody\n", "  10.0.1.1 to 239.1.2.4: from en1 to en0, en2\n")
	// There is one daemon at a time.
	if r := w.u.Try("mproxy", "-f", "en0", "en1"); r.Status != 1 || !strings.Contains(r.Err, "there is a multicast routing daemon of IPv4 already") {
		t.Errorf("a second mproxy: status %d, %s", r.Status, r.Err)
	}
}

// TestMulticastProxyLosesInterfaces: interfaces go and come back, and what hosts want is wanted again.
func TestMulticastProxyLosesInterfaces(t *testing.T) {
	t.Parallel()
	u := play.NewUser(t)
	side := func(name string, args ...string) *play.User {
		prefix := filepath.Join(u.Dir, name)
		u.Ionet(prefix, append(args, "-p", "tcpip", "prefix="+prefix)...)
		return u.At(prefix)
	}
	r, h := side("r", "-d", "wire", "lan=0", "-d", "wire", "lan=1"), side("h", "-d", "wire", "lan=1")
	r.Must("ifconfig", "en0", "10.0.0.1/24")
	r.Must("ifconfig", "en1", "10.0.1.1/24")
	h.Must("ifconfig", "en1", "10.0.1.2/24")
	j := r.Begin(nil, "mproxy", "-fd4", "en0", "en1")
	netstat := func() string { return r.Try("netstat", "-g").Out }
	groups := func() string { return r.Try("ifmcstat", "-i", "en0").Out }
	eventually(t, "netstat -g", `(?m)^ +1 .* 10\.0\.1\.1 `, netstat)
	s, err := h.Open().Socket(protocol.SockDgram, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.SetOption(protocol.ProtoIP, protocol.IPAddMembership, []byte{239, 1, 2, 3, 10, 0, 1, 2}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "ifmcstat", `239\.1\.2\.3`, groups)
	r.Must("ifconfig", "en0", "destroy")
	gone(t, "netstat -g", `(?m)^ +0 .* 10\.0\.0\.1 `, netstat)
	j.Says(`en0 has gone`)
	r.Must("ifconfig", "en0", "create")
	r.Must("ifconfig", "en0", "10.0.0.1/24")
	eventually(t, "netstat -g", `(?m)^ +0 .* 10\.0\.0\.1 `, netstat)
	eventually(t, "ifmcstat", `239\.1\.2\.3`, groups)
	r.Must("ifconfig", "en1", "down")
	gone(t, "ifmcstat", `239\.1\.2\.3`, groups)
	r.Must("ifconfig", "en1", "up")
	eventually(t, "ifmcstat", `239\.1\.2\.3`, groups) // the host is asked, and answers within ten seconds
}
