package interop

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"ionet/test/need"
	"ionet/test/play"
)

// node is a family's node of net.inet.ip or net.inet6.ip6.
func (v family) node(name string) string {
	if v.name == "ip4" {
		return "net.inet.ip." + name
	}
	return "net.inet6.ip6." + name
}

// bySide runs a test of a gateway in each family.
func bySide(t *testing.T, f func(t *testing.T, v family, g *gateway)) {
	inBoth(t, func(t *testing.T, v family) { f(t, v, newGateway(t)) })
}

func TestGatewayPings(t *testing.T) {
	need.Command(t, "ping", "iputils-ping")
	bySide(t, func(t *testing.T, v family, g *gateway) {
		a, b, o := g.hosts[insideA], g.hosts[insideB], g.hosts[outside]
		for _, size := range []string{"0", "56", "1400", "5000", "60000"} {
			for _, to := range []string{b.own(v), o.own(v), o.router(v)} {
				if out := a.pings(to, "-s", size); !strings.Contains(out, " 0% packet loss") {
					t.Errorf("%s octets to %s:\n%s", size, to, out)
				}
			}
			if out := o.pings(a.own(v), "-s", size); !strings.Contains(out, " 0% packet loss") {
				t.Errorf("%s octets from outside:\n%s", size, out)
			}
		}
		// The last hop that a router may not pass on.
		want := "From " + a.router(v) + " icmp_seq=1 Time "
		if out := a.pings(o.own(v), "-t", "1"); !strings.Contains(out, want) {
			t.Errorf("a TTL of 1, want %q:\n%s", want, out)
		}
		if out := a.pings(o.own(v), "-t", "2"); !strings.Contains(out, " 0% packet loss") {
			t.Errorf("a TTL of 2:\n%s", out)
		}
		// Forwarding goes off and on while the stack runs.
		g.Must("sysctl", "-w", v.node("forwarding")+"=0")
		if out := a.pings(o.own(v), "-W", "1"); !strings.Contains(out, " 100% packet loss") {
			t.Errorf("without forwarding:\n%s", out)
		}
		if out := a.pings(a.router(v)); !strings.Contains(out, " 0% packet loss") {
			t.Errorf("the stack itself, without forwarding:\n%s", out)
		}
		g.Must("sysctl", "-w", v.node("forwarding")+"=1")
		if out := a.pings(o.own(v)); !strings.Contains(out, " 0% packet loss") {
			t.Errorf("forwarding again:\n%s", out)
		}
	})
}

// A narrower link behind the gateway is told of, and the kernel sends what fits.
func TestGatewayPathMTU(t *testing.T) {
	need.Command(t, "ping", "iputils-ping")
	bySide(t, func(t *testing.T, v family, g *gateway) {
		a, o := g.hosts[insideA], g.hosts[outside]
		g.Must("ifconfig", "en2", "mtu", "1300")
		out := a.pings(o.own(v), "-M", "do", "-s", "1400")
		want := regexp.MustCompile("From " + regexp.QuoteMeta(a.router(v)) + ` icmp_seq=1 (Frag needed and DF set \(mtu = 1300\)|Packet too big: mtu=1300)`)
		if !want.MatchString(out) {
			t.Errorf("a packet too large, want %v:\n%s", want, out)
		}
		lines := o.watch("icmp or icmp6 or ip6", func() {
			if out := a.pings(o.own(v), "-s", "1400"); !strings.Contains(out, " 0% packet loss") {
				t.Errorf("the kernel's fragments:\n%s", out)
			}
		})
		if text := strings.Join(lines, "\n"); !regexp.MustCompile(`flags \[\+\]|frag \(0x`).MatchString(text) {
			t.Errorf("no fragments outside:\n%s", text)
		}
		a.forgetMTU()
	})
}

func TestGatewayTraceroute(t *testing.T) {
	bySide(t, func(t *testing.T, v family, g *gateway) { g.traces(t, v) })
}

// traces has A find its way to the host outside.
func (g *gateway) traces(t *testing.T, v family) {
	theirs := need.Command(t, "traceroute", "traceroute")
	a, o := g.hosts[insideA], g.hosts[outside]
	for _, how := range []string{"-U", "-I"} {
		out := a.Must(theirs, "-n", "-w", "5,9999,9999", how, o.own(v))
		if !through(a.router(v), o.own(v)).MatchString(out) {
			t.Errorf("traceroute %s:\n%s", how, out)
		}
	}
}

func TestGatewayIperf3(t *testing.T) {
	bySide(t, func(t *testing.T, v family, g *gateway) {
		g.measures(t, v)
		// What the kernels leave to their devices to cut crosses whole.
		o := g.hosts[outside]
		lines := o.watch("tcp and greater 3000", func() {
			g.hosts[insideA].Must("iperf3", "-c", o.own(v), "-p", "5201", "-n", "8M")
		})
		if len(lines) == 0 {
			t.Error("no super-packet arrives outside")
		}
	})
}

// measures has A send to the host outside, and it to A.
func (g *gateway) measures(t *testing.T, v family) {
	iperf3 := need.Command(t, "iperf3", "iperf3")
	a, o := g.hosts[insideA], g.hosts[outside]
	o.serveMeasures()
	for _, more := range [][]string{nil, {"-R"}, {"-P", "4"}} {
		out := a.Must(iperf3, append([]string{"-c", o.own(v), "-p", "5201", "-J", "-n", "64M"}, more...)...)
		var r struct {
			End struct {
				Received struct {
					Bytes float64
					Rate  float64 `json:"bits_per_second"`
				} `json:"sum_received"`
			}
			Error string
		}
		if err := json.Unmarshal([]byte(out), &r); err != nil || r.Error != "" || r.End.Received.Bytes < 16<<20 { // it ends when all is sent
			t.Errorf("iperf3 %q: %v %s, %.0f octets received", more, err, r.Error, r.End.Received.Bytes)
		}
		t.Logf("iperf3 %q: %.2f Gbit/s", more, r.End.Received.Rate/1e9)
	}
}

func TestGatewayCurlAndSSH(t *testing.T) {
	bySide(t, func(t *testing.T, v family, g *gateway) {
		g.fetches(t, v)
		g.logsIn(t, v, g.hosts[insideA].own(v)+" ")
	})
}

// fetches has A get a large file from the host outside.
func (g *gateway) fetches(t *testing.T, v family) {
	curl := need.Command(t, "curl", "curl")
	a, o := g.hosts[insideA], g.hosts[outside]
	page := bytes.Repeat(pattern, 10<<20/len(pattern)+1)
	o.Write("large", string(page), 0o644)
	o.serveFiles()
	a.Must(curl, "-sS", "--max-time", "50", "-o", "got", "http://"+at(o.own(v), 8080)+"/large")
	got, err := os.ReadFile(filepath.Join(a.Dir, "got"))
	if err != nil || sha256.Sum256(got) != sha256.Sum256(page) {
		t.Errorf("curl: %d octets that are not the %d of the file, %v", len(got), len(page), err)
	}
}

// logsIn has A use a shell of the host outside, which sees as its client who begins with client.
func (g *gateway) logsIn(t *testing.T, v family, client string) {
	ssh := need.Command(t, "ssh", "openssh-client")
	a, o := g.hosts[insideA], g.hosts[outside]
	key := o.serveShell()
	out := a.Must(ssh, "-F", "none", "-p", "2222", "-l", "root", "-i", key, "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=no",
		"-o", "UserKnownHostsFile=/dev/null", o.own(v), "echo $SSH_CONNECTION")
	if !strings.HasPrefix(out, client) || !strings.Contains(out, " "+o.own(v)+" 2222") {
		t.Errorf("ssh: %q, want a connection of %s with %s", out, client, o.own(v))
	}
}

// Routes that refuse answer, those that swallow do not.
func TestGatewayRefusals(t *testing.T) {
	need.Command(t, "ping", "iputils-ping")
	bySide(t, func(t *testing.T, v family, g *gateway) {
		a := g.hosts[insideA]
		add, reject, hole, none := "-inet", "198.51.100.1", "198.51.100.2", "203.0.113.1"
		if v.name == "ip6" {
			add, reject, hole, none = "-inet6", "2001:db8:51::1", "2001:db8:51::2", "2001:db8:113::1"
		}
		g.Must("route", "add", add, "-host", reject, a.own(v), "-reject")
		g.Must("route", "add", add, "-host", hole, a.own(v), "-blackhole")
		from := "From " + a.router(v) + " icmp_seq=1 Destination"
		for _, to := range []string{reject, none} {
			if out := a.pings(to); !strings.Contains(out, from) {
				t.Errorf("to %s, want %q:\n%s", to, from, out)
			}
		}
		if out := a.pings(hole, "-W", "1"); strings.Contains(out, "From ") || !strings.Contains(out, "100% packet loss") {
			t.Errorf("into the black hole:\n%s", out)
		}
		play.WantLines(t, "route show", g.Must("route", "-n", "get", add, hole), "BLACKHOLE")
	})
}

// Two gateways behind the gateway share the flows to one network, and when one is
// taken away only its own flows move.
func TestGatewayEqualRoutes(t *testing.T) {
	need.Command(t, "ping", "iputils-ping")
	bySide(t, func(t *testing.T, v family, g *gateway) {
		a, b, o := g.hosts[insideA], g.hosts[insideB], g.hosts[outside]
		net, to, add := "198.51.100.0", "198.51.100.1", "-inet"
		if v.name == "ip6" {
			net, to, add = "2001:db8:51::", "2001:db8:51::1", "-inet6"
		}
		for _, h := range []*gatewayHost{b, o} {
			h.ns.Exec("ip", "addr", "add", to, "dev", "lo", "nodad")
		}
		// Who answers is seen by the hop limit that it begins with.
		o.ns.Exec("sysctl", "-qw", "net.ipv4.ip_default_ttl=100", "net.ipv6.conf.tap0.hop_limit=100")
		length := strconv.Itoa(v.bits)
		g.Must("route", "add", add, "-net", net, "-prefixlen", length, b.own(v))
		if r := g.Try("route", "add", add, "-net", net, "-prefixlen", length, o.own(v)); r.Status == 0 {
			t.Errorf("a second route without -mpath: %s", r.Out)
		}
		g.Must("route", "add", "-mpath", add, "-net", net, "-prefixlen", length, o.own(v))
		rows := regexp.MustCompile(`(?m)^`+strings.TrimSuffix(net, ".0")+`\S* +(\S+) +UGSP `).FindAllStringSubmatch(g.Must("netstat", "-rn"), -1)
		if len(rows) != 2 || rows[0][1] != b.own(v) || rows[1][1] != o.own(v) {
			t.Errorf("netstat -rn has the rows %q:\n%s", rows, g.Must("netstat", "-rn"))
		}
		const flows = 24
		limit := regexp.MustCompile(` ttl=(\d+) `)
		for i := range flows {
			a.ns.Exec("ip", "addr", "add", v.prefix(a.nets[v.name]+strconv.Itoa(50+i)), "dev", "tap0", "nodad")
		}
		for _, h := range []*gatewayHost{b, o} { // the neighbours are known
			a.pings(h.own(v))
		}
		ways := func() (by [flows]string, parts map[string]int) {
			parts = map[string]int{}
			for i := range by {
				out := a.pings(to, "-I", a.nets[v.name]+strconv.Itoa(50+i))
				if m := limit.FindStringSubmatch(out); m != nil {
					by[i] = m[1]
				} else {
					t.Errorf("flow %d:\n%s", i, out)
				}
				parts[by[i]]++
			}
			return by, parts
		}
		before, parts := ways()
		if parts["63"] < 3 || parts["99"] < 3 || parts["63"]+parts["99"] != flows {
			t.Errorf("flows by the gateways' hop limits: %v", parts)
		}
		if again, _ := ways(); again != before {
			t.Errorf("flows by %q, then by %q", before, again)
		}
		g.Must("ifconfig", "en2", "down")
		if _, parts := ways(); parts["63"] != flows {
			t.Errorf("with en2 down: %v", parts)
		}
		g.Must("ifconfig", "en2", "up")
		if again, _ := ways(); again != before {
			t.Errorf("flows by %q, with en2 up again by %q", before, again)
		}
		g.Must("route", "change", add, "-net", net, "-prefixlen", length, o.own(v), "-mtu", "1400")
		g.Must("route", "change", add, "-net", net, "-prefixlen", length, o.own(v), "-sendpipe", "9000")
		if r := g.Try("route", "change", add, "-net", net, "-prefixlen", length, a.nets[v.name]+"77", "-mtu", "1300"); r.Status == 0 {
			t.Errorf("a change of a route that is none of them: %s", r.Out)
		}
		wantEquals(t, g, net, fmt.Sprint(b.own(v), " 0"), fmt.Sprint(o.own(v), " 1400"))
		if again, _ := ways(); again != before {
			t.Errorf("flows by %q, with another MTU by %q", before, again)
		}
		g.Must("route", "delete", add, "-net", net, "-prefixlen", length, o.own(v))
		if _, parts := ways(); parts["63"] != flows {
			t.Errorf("without one of them: %v", parts)
		}
		if out := g.Must("netstat", "-rn"); strings.Contains(out, "UGSP") {
			t.Errorf("one route alone has no equals:\n%s", out)
		}
	})
}

// wantEquals compares what netstat --json has of the equal routes to net: gateway and MTU of each.
func wantEquals(t *testing.T, g *gateway, net string, want ...string) {
	t.Helper()
	var got []string
	out := g.Must("netstat", "-rn", "--json")
	for line := range strings.Lines(out) {
		var r struct {
			Destination, Gateway, Flags string
			MTU                         int
		}
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			t.Fatalf("netstat --json: %v\n%s", err, line)
		}
		if strings.HasPrefix(r.Destination, net+"/") && strings.Contains(r.Flags, "P") {
			got = append(got, fmt.Sprint(r.Gateway, " ", r.MTU))
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("equal routes %q, want %q:\n%s", got, want, out)
	}
}

// A member of equal routes whose interface loses its carrier takes no flows while it has none.
func TestGatewayLosesCarrier(t *testing.T) {
	need.Command(t, "ping", "iputils-ping")
	mid, in := need.Namespace(t), need.Namespace(t)
	u := play.NewRoot(t, mid)
	prefix := filepath.Join(u.Dir, "s")
	args := []string{"-dpacket", "if=near0", "-dpacket", "if=near1", "-dpacket", "if=near2", "-ptcpip", "prefix=" + prefix + ",forward"}
	ends := []*need.NS{in, need.Namespace(t), need.Namespace(t)}
	for i, ns := range ends {
		ns.Exec("ip", "link", "add", "far", "type", "veth", "peer", "name", fmt.Sprint("near", i), "netns", mid.Name)
		mid.Exec("ip", "link", "set", fmt.Sprint("near", i), "up")
		ns.Exec("ip", "link", "set", "far", "up")
		ns.Exec("ip", "addr", "add", fmt.Sprintf("10.0.%d.2/24", i), "dev", "far")
		ns.Exec("ip", "route", "add", "default", "via", fmt.Sprintf("10.0.%d.1", i))
		if i > 0 {
			ns.Exec("ip", "addr", "add", "198.51.100.1", "dev", "lo")
		}
	}
	u.Ionet(prefix, args...)
	u = u.At(prefix)
	for i := range ends {
		u.Must("ifconfig", fmt.Sprint("en", i), fmt.Sprintf("10.0.%d.1/24", i))
	}
	u.Must("route", "add", "-net", "198.51.100.0/24", "10.0.1.2")
	u.Must("route", "add", "-mpath", "-net", "198.51.100.0/24", "10.0.2.2")
	const flows = 16
	for i := range flows {
		in.Exec("ip", "addr", "add", fmt.Sprintf("10.0.0.%d/24", 50+i), "dev", "far")
	}
	// Who answers is seen by the hop limit that it begins with.
	ends[2].Exec("sysctl", "-qw", "net.ipv4.ip_default_ttl=100")
	ways := func() (by string) {
		for i := range flows {
			out, _ := in.Try("/usr/bin/ping", "-n", "-c", "1", "-W", "5", "-I", fmt.Sprint("10.0.0.", 50+i), "198.51.100.1")
			switch {
			case strings.Contains(out, " ttl=63 "):
				by += "1"
			case strings.Contains(out, " ttl=99 "):
				by += "2"
			default:
				t.Fatalf("flow %d:\n%s", i, out)
			}
		}
		return by
	}
	carrier := func(want string) {
		t.Helper()
		for range 500 {
			if strings.Contains(u.Must("ifconfig", "en2"), want) {
				return
			}
			time.Sleep(10 * time.Millisecond)
		}
		t.Fatalf("en2 does not show %q:\n%s", want, u.Must("ifconfig", "en2"))
	}
	before := ways()
	if !strings.Contains(before, "1") || !strings.Contains(before, "2") {
		t.Errorf("flows by %s", before)
	}
	ends[2].Exec("ip", "link", "set", "far", "down")
	carrier("no carrier")
	if by := ways(); strings.Contains(by, "2") {
		t.Errorf("without the carrier of en2: %s", by)
	}
	ends[2].Exec("ip", "link", "set", "far", "up")
	ends[2].Exec("ip", "route", "replace", "default", "via", "10.0.2.1")
	carrier("status: active")
	if by := ways(); by != before {
		t.Errorf("with it again: %s, want %s", by, before)
	}
}
