package interop

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"ionet/test/need"
)

const python = "/usr/bin/python3"

// runs has a Python program run on the host, and answers what it prints.
func (h *gatewayHost) runs(program string, args ...string) string {
	h.T.Helper()
	return strings.TrimSpace(h.Must(python, append([]string{"-c", program}, args...)...))
}

// proto is what netstat -p calls the family.
func (v family) proto() string { return strings.TrimSuffix(v.name, "4") }

// beside is another kernel on the host's link, its addresses' last number 9, with to as
// addresses behind it. The host is on the link by br0 from then on.
func (h *gatewayHost) beside(to ...string) *need.NS {
	h.T.Helper()
	ns := need.Namespace(h.T)
	h.ns.Exec("ip", "link", "add", "br0", "type", "bridge", "forward_delay", "0")
	h.ns.Exec("ip", "link", "add", "beside", "type", "veth", "peer", "name", "eth0", "netns", ns.Name)
	h.ns.Exec("ip", "addr", "flush", "dev", "tap0")
	for _, port := range []string{"tap0", "beside"} {
		h.ns.Exec("ip", "link", "set", port, "master", "br0", "up")
	}
	h.ns.Exec("ip", "link", "set", "br0", "up")
	ns.Exec("ip", "link", "set", "eth0", "up")
	ns.Exec("ip", "addr", "add", "fe80::9/64", "dev", "eth0", "nodad")
	for _, v := range families {
		h.ns.Exec("ip", "addr", "add", v.prefix(h.own(v)), "dev", "br0", "nodad")
		h.ns.Exec("ip", "route", "replace", "default", "via", h.router(v))
		ns.Exec("ip", "addr", "add", v.prefix(h.nets[v.name]+"9"), "dev", "eth0", "nodad")
	}
	for _, ip := range to {
		ns.Exec("ip", "addr", "add", ip, "dev", "lo", "nodad")
	}
	return ns
}

// A kernel is told of the better router of its link, and takes it; it is not with redirect=0.
func TestGatewayRedirects(t *testing.T) {
	need.Command(t, "ping", "iputils-ping")
	bySide(t, func(t *testing.T, v family, g *gateway) {
		a := g.hosts[insideA]
		dsts := []string{"198.51.100.1", "198.51.100.2"}
		net, add, better, length := "198.51.100.0", "-inet", a.nets[v.name]+"9", "24"
		if v.name == "ip6" {
			dsts = []string{"2001:db8:51::1", "2001:db8:51::2"}
			net, add, better, length = "2001:db8:51::", "-inet6", "fe80::9%en0", "64"
		}
		a.beside(dsts...)
		if v.name == "ip6" { // a redirect is believed from the router that is used, by its link-local address
			local := regexp.MustCompile(`inet6 (fe80:\S+?)%en0`).FindStringSubmatch(g.Must("ifconfig", "en0"))
			if local == nil {
				t.Fatalf("en0 has no link-local address:\n%s", g.Must("ifconfig", "en0"))
			}
			a.ns.Exec("ip", "-6", "route", "replace", "default", "via", local[1], "dev", "br0")
		}
		g.Must("route", "add", add, "-net", net, "-prefixlen", length, better)
		forwarded := func() int {
			out := g.Must("netstat", "-s", "-p", v.proto())
			n, _ := strconv.Atoi(regexp.MustCompile(`(\d+) packets? forwarded`).FindStringSubmatch(out)[1])
			return n
		}
		pings := func(to string) (passed int) {
			t.Helper()
			before := forwarded()
			out := a.pings(to, "-c", "4", "-i", "0.3", "-W", "2")
			if !strings.Contains(out, " 0% packet loss") {
				t.Errorf("to %s:\n%s", to, out)
			}
			return forwarded() - before
		}
		g.Must("sysctl", "-w", v.node("redirect")+"=0")
		if n := pings(dsts[0]); n != 4 {
			t.Errorf("redirect=0: %d packets went by the gateway, want 4", n)
		}
		g.Must("sysctl", "-w", v.node("redirect")+"=1")
		if n := pings(dsts[1]); n == 0 || n == 4 {
			t.Errorf("redirect=1: %d packets went by the gateway, want the first alone", n)
		}
		if out := a.ns.Exec("ip", "route", "get", dsts[1]); !regexp.MustCompile(`via (\S*:|10\.1\.0\.)9 `).MatchString(out) {
			t.Errorf("the kernel's route is\n%s", out)
		}
		if n := pings(dsts[1]); n != 0 {
			t.Errorf("%d packets went by the gateway afterwards", n)
		}
		if out := g.Must("netstat", "-s", "-p", v.proto()); !regexp.MustCompile(`[1-9]\d* redirects? sent`).MatchString(out) {
			t.Errorf("no redirect is counted:\n%s", out)
		}
	})
}

// What a route that rejects says reaches the program that has sent; a black hole says nothing.
func TestGatewayRefusalCodes(t *testing.T) {
	need.File(t, python)
	need.Command(t, "tcpdump", "tcpdump")
	bySide(t, func(t *testing.T, v family, g *gateway) {
		a := g.hosts[insideA]
		a.pings(a.router(v)) // the neighbour is known
		add, net, length, host, hole := "-inet", "198.51.100.0", "24", "203.0.113.1", "203.0.113.2"
		says := map[string]string{"198.51.100.7": "ENETUNREACH", host: "EHOSTUNREACH", "192.168.7.7": "ENETUNREACH"}
		codes := []string{"ICMP net 198.51.100.7 unreachable", "ICMP host 203.0.113.1 unreachable", "ICMP net 192.168.7.7 unreachable"}
		if v.name == "ip6" {
			add, net, length, host, hole = "-inet6", "2001:db8:51::", "64", "2001:db8:113::1", "2001:db8:113::2"
			says = map[string]string{"2001:db8:51::7": "EACCES", host: "EACCES", "2001:db8:77::7": "ENETUNREACH"} // Linux of codes 6, 6 and 0
			codes = []string{`ICMP6, destination unreachable, .*unreachable route 2001:db8:77::7|ICMP6, destination unreachable, length \d+, unreachable route 2001:db8:77::7`}
		}
		g.Must("route", "add", add, "-net", net, "-prefixlen", length, a.own(v), "-reject")
		g.Must("route", "add", add, "-host", host, a.own(v), "-reject")
		g.Must("route", "add", add, "-host", hole, a.own(v), "-blackhole")
		const send = `
import errno, socket, sys
host = sys.argv[1]
s = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
s.settimeout(float(sys.argv[2]))
s.setsockopt(*((socket.IPPROTO_IPV6, 25, 1) if ":" in host else (socket.IPPROTO_IP, 11, 1))) # RECVERR
s.connect((host, 9))
s.send(b"x")
try: s.recv(9)
except TimeoutError: print("silence")
except OSError as e: print(errno.errorcode[e.errno])
`
		lines := a.watch("icmp or icmp6[0] == 1", func() {
			for to, want := range says {
				if got := a.runs(send, to, "10"); got != want {
					t.Errorf("a datagram to %s: %s, want %s", to, got, want)
				}
			}
			if got := a.runs(send, hole, "1"); got != "silence" {
				t.Errorf("a datagram into the black hole: %s", got)
			}
		})
		text := strings.Join(lines, "\n")
		for _, re := range codes {
			if !regexp.MustCompile(re).MatchString(text) {
				t.Errorf("no %q among\n%s", re, text)
			}
		}
		if strings.Contains(text, hole+" ") {
			t.Errorf("the black hole speaks:\n%s", text)
		}
	})
}

// A thousand packets that come to nothing have the answers that errppslimit allows a second.
func TestGatewayErrorFlood(t *testing.T) {
	need.File(t, python)
	bySide(t, func(t *testing.T, v family, g *gateway) {
		a, o := g.hosts[insideA], g.hosts[outside]
		a.pings(a.router(v))
		a.ns.Exec("ip", "link", "set", "tap0", "txqueuelen", "4000") // that none is lost before it comes to the gateway
		got := a.runs(`
import socket, sys, time
host, six = sys.argv[1], ":" in sys.argv[1]
family = socket.AF_INET6 if six else socket.AF_INET
errors = socket.socket(family, socket.SOCK_RAW, socket.IPPROTO_ICMPV6 if six else socket.IPPROTO_ICMP)
errors.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
s = socket.socket(family, socket.SOCK_DGRAM)
if six: s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, 1)
else: s.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, 1)
begin = time.monotonic()
for i in range(1000): s.sendto(b"x", (host, 33000 + i))
took, n = time.monotonic() - begin, 0
errors.settimeout(1.5)
try:
    while True:
        m = errors.recv(2000)
        n += m[0] == 3 if six else m[20] == 11
except TimeoutError: print(n, 100 * (1 + int(took) + 1))
`, o.own(v))
		var n, most int
		if _, err := fmt.Sscan(got, &n, &most); err != nil || n < 100 || n > most {
			t.Errorf("answers and most of them: %s", got)
		}
		m := regexp.MustCompile(`(\d+) errors? not generated because of rate limitation`).FindAllStringSubmatch(g.Must("netstat", "-s"), -1)
		held := 0 // of both families
		for _, x := range m {
			k, _ := strconv.Atoi(x[1])
			held += k
		}
		if n+held != 1000 {
			t.Errorf("%d answers and %d that the limit kept back are not 1000", n, held)
		}
	})
}

// A program that may not send fragments learns what the path takes, and a connection's segments
// become as small as its narrowest link, wherever that is.
func TestGatewayPathMTUOfTransports(t *testing.T) {
	need.File(t, python)
	bySide(t, func(t *testing.T, v family, g *gateway) {
		a, o := g.hosts[insideA], g.hosts[outside]
		g.Must("ifconfig", "en2", "mtu", "1280")
		got := a.runs(`
import errno, socket, sys, time
host, six = sys.argv[1], ":" in sys.argv[1]
s = socket.socket(socket.AF_INET6 if six else socket.AF_INET, socket.SOCK_DGRAM)
level, discover, mtu = (socket.IPPROTO_IPV6, 23, 24) if six else (socket.IPPROTO_IP, 10, 14)
s.setsockopt(level, discover, 2)
s.connect((host, 9))
print(s.getsockopt(level, mtu))
s.send(bytes(1400))
end = time.monotonic() + 10
while s.getsockopt(level, mtu) == 1500 and time.monotonic() < end:
    time.sleep(0.01)
try: s.send(bytes(1400))
except OSError as e: print(errno.errorcode[e.errno])
print(s.getsockopt(level, mtu))
`, o.own(v))
		if got != "1500\nEMSGSIZE\n1280" {
			t.Errorf("UDP that may not be cut: %q", got)
		}
		a.forgetMTU()
		o.Serves("listening", python, "-c", `
import hashlib, socket
l = socket.create_server(("::", 7000), family=socket.AF_INET6, dualstack_ipv6=True)
print("listening", flush=True)
c, _ = l.accept()
h = hashlib.sha256()
while b := c.recv(1 << 20): h.update(b)
c.sendall(h.hexdigest().encode())
`)
		got = a.runs(`
import hashlib, socket, sys
s = socket.create_connection((sys.argv[1], 7000))
before = s.getsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG)
data = bytes(range(251)) * 33000
s.sendall(data)
s.shutdown(socket.SHUT_WR)
print(before, s.recv(64).decode() == hashlib.sha256(data).hexdigest(), s.getsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG))
`, o.own(v))
		var before, after int
		var whole string
		header := 40
		if v.name == "ip6" {
			header = 60
		}
		if _, err := fmt.Sscan(got, &before, &whole, &after); err != nil || whole != "True" || before <= 1280 || after > 1280-header || after < 1280-header-40 {
			t.Errorf("segments before, whether all arrived, segments after: %s", got)
		}
		a.forgetMTU()
	})
}

// A kernel's source route goes as far as forwsrcrt and allowsrcrt let it, a broadcast of another
// link as far as directed-broadcast.
func TestGatewaySourceRouteAndBroadcast(t *testing.T) {
	need.File(t, python)
	g := newGateway(t)
	v, a, o := families[0], g.hosts[insideA], g.hosts[outside]
	for _, c := range []string{"all", "tap0"} {
		o.ns.Exec("sysctl", "-qw", "net.ipv4.conf."+c+".accept_source_route=1")
	}
	a.pings(o.own(v))
	j := o.Serves("listening", python, "-c", `
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(("", 7000))
print("listening", flush=True)
while True: print(s.recv(99).decode(), flush=True)
`)
	// Each says what it is; the last one of all, which nothing can keep back, that all have come.
	const send = `
import socket, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
hops = [socket.inet_aton(h) for h in sys.argv[3:]]
if hops: s.setsockopt(socket.IPPROTO_IP, socket.IP_OPTIONS, bytes([131, 3 + 4 * len(hops), 4]) + b"".join(hops))
s.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
s.sendto(sys.argv[1].encode(), (sys.argv[2], 7000))
`
	set := func(name, value string) { g.Must("sysctl", "-w", "net.inet.ip."+name+"="+value) }
	a.runs(send, "routed-1", o.own(v), a.router(v))
	set("forwsrcrt", "0")
	a.runs(send, "routed-2", o.own(v), a.router(v))
	set("forwsrcrt", "1")
	set("allowsrcrt", "0")
	a.runs(send, "routed-3", o.own(v), a.router(v))
	set("allowsrcrt", "1")
	a.runs(send, "broadcast-1", "192.0.2.255")
	set("directed-broadcast", "1")
	a.runs(send, "broadcast-2", "192.0.2.255")
	set("directed-broadcast", "0")
	a.runs(send, "broadcast-3", "192.0.2.255")
	a.runs(send, "over", o.own(v))
	j.Says("over\n")
	if got := strings.Fields(strings.Split(j.Err.String(), "listening\n")[1]); strings.Join(got, " ") != "routed-1 broadcast-2 over" {
		t.Errorf("what came outside: %q", got)
	}
}
