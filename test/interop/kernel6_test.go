package interop

import (
	"io"
	"net"
	"net/netip"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"ionet/driver/netns"
	"ionet/protocol"
	"ionet/test/need"
	"ionet/test/play"
)

// dualHost is [play.KernelHost] with IPv6.
func dualHost(t *testing.T) (ns *need.NS, u *play.User) {
	t.Helper()
	ns, u, _ = play.KernelHost(t)
	play.SpeakIPv6(ns, u)
	return ns, u
}

func TestKernelHostPings6(t *testing.T) {
	need.Command(t, "ping", "iputils-ping")
	ns, u := dualHost(t)
	for _, size := range []string{"0", "1", "56", "1452", "1453", "8000", "65507"} {
		out, err := ns.Try("/usr/bin/ping", "-6", "-n", "-c", "1", "-W", "5", "-s", size, "2001:db8::2")
		if err != nil || !strings.Contains(out, " 0% packet loss") {
			t.Errorf("the kernel pings with %s octets: %v\n%s", size, err, out)
		}
		out = u.Must("ping6", "-n", "-c", "2", "-i", "0.1", "-s", size, "2001:db8::1")
		play.WantLines(t, "ping6 -s "+size, out, "2 packets received, 0% packet loss")
	}
	out := u.Must("netstat", "-s", "-p", "ip6")
	if !regexp.MustCompile(`(?m)^\t[1-9]\d* packets reassembled ok$`).MatchString(out) ||
		!regexp.MustCompile(`(?m)^\t[1-9]\d* output datagrams fragmented$`).MatchString(out) {
		t.Errorf("netstat -s -p ip6 tells nothing of fragments:\n%s", out)
	}
	// The neighbour is in the routing table and in ndp.
	mac := strings.TrimSpace(ns.Exec("cat", "/sys/class/net/tap0/address"))
	mac = regexp.MustCompile(`\b0`).ReplaceAllString(mac, "0?") // ndp leaves a leading nought out
	if out := u.Must("ndp", "-an"); !regexp.MustCompile(`(?m)^2001:db8::1 +` + mac + ` +en0 `).MatchString(out) {
		t.Errorf("ndp -an lacks the neighbour %s:\n%s", mac, out)
	}
	if out := u.Must("netstat", "-rnf", "inet6"); !regexp.MustCompile(`(?m)^2001:db8::1 +` + mac + ` +UHLc? `).MatchString(out) {
		t.Errorf("netstat -rn lacks the neighbour %s:\n%s", mac, out)
	}
}

// TestNdisc6: a solicitation of another implementation is answered, and one for
// an address that nobody has is not.
func TestNdisc6(t *testing.T) {
	ndisc6 := need.Command(t, "ndisc6", "ndisc6")
	ns, u := dualHost(t)
	m := regexp.MustCompile(`\taddress: (\S+)\n`).FindStringSubmatch(u.Must("ifconfig", "en0"))
	out, err := ns.Try(ndisc6, "-1", "-m", "2001:db8::2", "tap0")
	if err != nil || m == nil || !strings.Contains(strings.ToLower(out), m[1]) {
		t.Errorf("ndisc6: %v, want an answer from %q\n%s", err, m, out)
	}
	if out, err := ns.Try(ndisc6, "-1", "-m", "-r", "1", "-w", "200", "2001:db8::9", "tap0"); err == nil {
		t.Errorf("somebody has 2001:db8::9:\n%s", out)
	}
}

// TestKernelTracesThroughAStack6: what Debian's traceroute reads of us, and we
// of the kernel.
func TestKernelTracesThroughAStack6(t *testing.T) {
	theirs := need.Command(t, "traceroute", "traceroute")
	ns, u := dualHost(t)
	wire := filepath.Join(u.Dir, "w")
	u.Must("mount", "-T", "io-net", "-o", "path="+wire, "devn-wire.so")
	u.Must("ifconfig", "en1", "inet6", "2001:db8:2::1", "prefixlen", "64")
	u.Must("sysctl", "-w", "net.inet6.ip6.forwarding=1")
	p := filepath.Join(u.Dir, "far")
	u.Ionet(p, "-d", "wire", "path="+wire, "-ptcpip", "prefix="+p)
	far := u.At(p)
	far.Must("sysctl", "-w", "net.inet6.ip6.dad_count=0")
	far.Must("ifconfig", "en0", "inet6", "2001:db8:2::2", "prefixlen", "64")
	far.Must("route", "add", "-inet6", "default", "2001:db8:2::1")
	ns.Exec("ip", "-6", "route", "add", "2001:db8:2::/64", "via", "2001:db8::2")
	for _, how := range []string{"-U", "-I", "-T"} {
		out, err := ns.Try(theirs, "-6", "-n", "-w", "5,9999,9999", how, "2001:db8:2::2")
		if err != nil || !through("2001:db8::2", "2001:db8:2::2").MatchString(out) {
			t.Errorf("traceroute -6 %s of the kernel: %v\n%s", how, err, out)
		}
	}
	ns.Exec("sysctl", "-qw", "net.ipv6.conf.all.forwarding=1")
	if out := far.Must("traceroute6", "-n", "2001:db8::1"); !through("2001:db8:2::1", "2001:db8::1").MatchString(out) {
		t.Errorf("traceroute6 to the kernel:\n%s", out)
	}
}

// TestDuplicateWithTheKernel: who comes second does without the address,
// whichever of the two that is.
func TestDuplicateWithTheKernel(t *testing.T) {
	t.Parallel()
	ns, u := dualHost(t)
	u.Must("sysctl", "-w", "net.inet6.ip6.dad_count=1")
	ns.Exec("ip", "addr", "add", "2001:db8::a/64", "dev", "tap0", "nodad")
	u.Must("ifconfig", "en0", "inet6", "2001:db8::a", "prefixlen", "64", "alias")
	eventually(t, "ifconfig", `inet6 2001:db8::a prefixlen 64 duplicated\n`, func() string { return u.Must("ifconfig", "en0") })
	ns.Exec("sysctl", "-qw", "net.ipv6.conf.tap0.dad_transmits=1", "net.ipv6.conf.tap0.accept_dad=1")
	ns.Exec("ip", "addr", "add", "2001:db8::2/64", "dev", "tap0")
	eventually(t, "ip addr", `inet6 2001:db8::2/64 scope global (dadfailed tentative|tentative dadfailed)`, func() string { return ns.Exec("ip", "addr", "show", "dev", "tap0") })
	// The stack's own still is.
	if out := u.Must("ifconfig", "en0"); !regexp.MustCompile(`inet6 2001:db8::2 prefixlen 64\n`).MatchString(out) {
		t.Errorf("ifconfig:\n%s", out)
	}
}

// TestListenerReports: tcpdump sees what a program joins and leaves told in MLDv2
// (RFC 9777 §5.2), and, after a query of version 1, in that (§8).
func TestListenerReports(t *testing.T) {
	t.Parallel()
	need.Command(t, "tcpdump", "tcpdump")
	ns, u := dualHost(t)
	dump := u.Begin(nil, "sh", "-c", "exec tcpdump -l -n -v -i tap0 'ip6[6]=0' >&2")
	dump.Says(`listening on tap0`)
	s := u.Open()
	index, err := s.IfIndex("en0")
	if err != nil {
		t.Fatal(err)
	}
	program, err := s.SocketFamily(protocol.AFInet6, protocol.SockDgram, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer program.Close()
	does := func(name int, addresses ...string) {
		t.Helper()
		var v []byte
		if len(addresses) == 1 { // ipv6_mreq
			v = protocol.AppendU32(netip.MustParseAddr(addresses[0]).AsSlice(), uint32(index))
		} else { // group_source_req, of sockaddr_in6
			v = protocol.AppendU32(nil, uint32(index))
			for _, a := range addresses {
				v = append(v, 28, protocol.AFInet6, 0, 0, 0, 0, 0, 0)
				v = append(append(v, netip.MustParseAddr(a).AsSlice()...), 0, 0, 0, 0)
			}
		}
		if err := program.SetOption(protocol.ProtoIPv6, name, v); err != nil {
			t.Fatalf("option %d, %q: %v", name, addresses, err)
		}
	}
	const alert = `: HBH \(.*rtalert: 0x0000.*\) .*multicast listener `
	const v2 = `IP6 \(hlim 1, .*\) fe80::\S+ > ff02::16` + alert + `report v2, .*\[gaddr `
	does(protocol.IPv6JoinGroup, "ff05::1234")
	dump.Says(v2 + `ff05::1234 to_ex, 0 source`)
	does(protocol.IPv6LeaveGroup, "ff05::1234")
	dump.Says(v2 + `ff05::1234 to_in, 0 source`)
	does(protocol.MCastJoinSourceGroup, "ff35::5678", "2001:db8::1")
	dump.Says(v2 + `ff35::5678 allow, 1 source`)
	does(protocol.MCastLeaveSourceGroup, "ff35::5678", "2001:db8::1")
	dump.Says(v2 + `ff35::5678 block, 1 source`)
	does(protocol.IPv6JoinGroup, "ff05::1234")
	// A query from elsewhere than a link-local address is none (RFC 2710 §3).
	eventually(t, "ip addr", `(?m)inet6 fe80::\S+ scope link *$`, func() string { return ns.Exec("ip", "addr", "show", "dev", "tap0") })
	query(t, ns)
	dump.Says(`IP6 \(.*hlim 1, .*\) fe80::\S+ > ff05::1234` + alert + `report.*addr: ff05::1234`)
	does(protocol.IPv6LeaveGroup, "ff05::1234")
	dump.Says(`IP6 \(.*hlim 1, .*\) fe80::\S+ > ff02::2` + alert + `done.*addr: ff05::1234`)
}

// query sends a general query of MLD version 1 (RFC 2710) from the namespace.
func query(t *testing.T, ns *need.NS) {
	t.Helper()
	if err := netns.Do(ns.Name, func() error {
		ifi, err := net.InterfaceByName("tap0")
		if err != nil {
			return err
		}
		fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_ICMPV6)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		// A router alert, and padding (RFC 2711).
		if err := unix.SetsockoptString(fd, unix.IPPROTO_IPV6, unix.IPV6_HOPOPTS, "\x00\x00\x05\x02\x00\x00\x01\x00"); err != nil {
			return err
		}
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_HOPS, 1); err != nil {
			return err
		}
		m := make([]byte, 24)
		m[0], m[5] = 130, 200 // answers within 200 ms
		to := &unix.SockaddrInet6{ZoneId: uint32(ifi.Index)}
		copy(to.Addr[:], net.ParseIP("ff02::1"))
		return unix.Sendto(fd, m, 0, to)
	}); err != nil {
		t.Fatal(err)
	}
}

// TestRouterDisappears: a router that goes silent without a farewell is found out by
// who talks through it and to it (RFC 4861 §7.3), and believed again when it is
// back; a stream to it goes on.
func TestRouterDisappears(t *testing.T) {
	t.Parallel()
	radvd := need.Command(t, "radvd", "radvd")
	need.File(t, "/dev/net/tun")
	ns := need.Namespace(t)
	u := play.NewRoot(t, ns)
	prefix := filepath.Join(u.Dir, "s")
	u.Ionet(prefix, "-d", "tap", "name=tap0", "-ptcpip", "prefix="+prefix)
	u = u.At(prefix)
	ns.Exec("sysctl", "-qw", "net.ipv6.conf.all.forwarding=1")
	ns.Exec("ip", "link", "set", "tap0", "up")
	ns.Exec("ip", "-6", "addr", "add", "2001:db8:1::1/64", "dev", "tap0", "nodad")
	conf := u.Write("radvd.conf", "interface tap0 {\nAdvSendAdvert on; MinRtrAdvInterval 3; MaxRtrAdvInterval 4; AdvDefaultLifetime 600; AdvReachableTime 1000;\n"+
		"prefix 2001:db8:1::/64 { };\n};\n", 0o644)
	router := u.Begin(nil, radvd, "-n", "-C", conf, "-m", "stderr", "-p", filepath.Join(u.Dir, "radvd.pid"), "-u", "root")
	u.Must("ifconfig", "en0", "up")
	eventually(t, "ifconfig", `inet6 2001:db8:1:0:[0-9a-f:]+ prefixlen 64 autoconf *\n`, func() string { return u.Must("ifconfig", "en0") })
	beyond, err := u.Open().Dial("udp6", "[2001:db8:ffff::1]:9")
	if err != nil {
		t.Fatal(err)
	}
	defer beyond.Close()
	neighbours := func() string {
		_, _ = beyond.Write([]byte("through the router")) // it fails while there is none
		return u.Must("ndp", "-an")
	}
	const known = `(?m)^fe80::\S+%en0 +[0-9a-f:]{11,17} +en0 .* R`
	eventually(t, "ndp -an", known, neighbours)
	stream, theirs := connect(t, u.Open(), kernel{ns}, "[2001:db8:1::1]:0")
	if err := router.Cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	router.Wait()
	ns.Exec("sysctl", "-qw", "net.ipv6.conf.tap0.keep_addr_on_down=1")
	ns.Exec("ip", "link", "set", "tap0", "down")
	const said = "said to nobody"
	if _, err := stream.Write([]byte(said)); err != nil {
		t.Fatal(err)
	}
	gone(t, "ndp -an", known, neighbours)
	gone(t, "ndp -an", `(?m)^2001:db8:1::1 +[0-9a-f:]{11,17} `, neighbours)
	play.WantLines(t, "ndp -r", u.Must("ndp", "-rn"), "if=en0, flags=, pref=medium") // it may come back
	ns.Exec("ip", "link", "set", "tap0", "up")
	eventually(t, "ndp -an", known, neighbours)
	heard := make([]byte, len(said))
	theirs.SetDeadline(time.Now().Add(time.Minute))
	if _, err := io.ReadFull(theirs, heard); err != nil || string(heard) != said {
		t.Errorf("of what was said to the silent router came %q, %v", heard, err)
	}
}
