package interop

import (
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"ionet/client"
	"ionet/protocol"
	"ionet/test/need"
)

// guardRules are a gateway's: who is inside may begin, and what comes back is known by
// its states; from outside there is a web server to see, which is A.
const guardRules = `
block in log all
block out log all
pass in quick on en0 from 10.1.0.0/24 to any keep state keep frags
pass in quick on en1 from 10.2.0.0/24 to any keep state keep frags
pass in quick on en2 proto tcp from any to 10.1.0.2 port = 8080 flags S/SA keep state
block return-rst in log quick on en2 proto tcp from any to any port = 113

block in log family inet6 all
block out log family inet6 all
pass in quick proto ipv6-icmp from any to any icmp-type neighborsol
pass in quick proto ipv6-icmp from any to any icmp-type neighadvert
pass out quick proto ipv6-icmp from any to any icmp-type neighborsol
pass out quick proto ipv6-icmp from any to any icmp-type neighadvert
pass in quick on en0 from 2001:db8:1::/64 to any keep state keep frags
pass in quick on en1 from 2001:db8:2::/64 to any keep state keep frags
pass in quick on en2 proto tcp from any to 2001:db8:1::2 port = 8080 flags S/SA keep state
block return-rst in log quick on en2 family inet6 proto tcp from any to any port = 113
`

// guardNAT has all that is inside look like the gateway, and IPv6 like another network.
const guardNAT = `
map en2 10.0.0.0/8 -> 0/32 portmap tcp/udp 20000:60000
map en2 10.0.0.0/8 -> 0/32
rdr en2 192.0.2.1/32 port 80 -> 10.1.0.2 port 8080 tcp
nptv6 en2 2001:db8:1::/64 -> 2001:db8:99::/64
`

// guard loads the filter with rules and translations.
func (g *gateway) guard(rules, nat string) {
	g.T.Helper()
	g.Must("mount", "-Ttcpip", "lsm-ipfilter.so")
	g.Must("ipf", "-Fa", "-f", g.Write("ipf.conf", rules, 0o644))
	g.Must("ipnat", "-CF", "-f", g.Write("ipnat.conf", nat, 0o644))
}

// seenAs is how A begins to look from outside, and a pattern for its address.
func (v family) seenAs() string {
	if v.name == "ip4" {
		return "192.0.2.1"
	}
	return "2001:db8:99:"
}

// rules are what is in force, and translated.
func (g *gateway) rules(t *testing.T) (all []string) {
	t.Helper()
	s := g.Open()
	for _, r := range rows[protocol.FilterRuleRow](t, s, protocol.TableFilterRules) {
		all = append(all, r.Set+": "+r.Rule)
	}
	for _, r := range rows[protocol.NATRuleRow](t, s, protocol.TableNATRules) {
		all = append(all, r.Rule)
	}
	return all
}

func rows[T any](t *testing.T, s *client.Stack, table string) []T {
	t.Helper()
	rows, err := client.Table[T](s, table, "")
	if err != nil {
		t.Fatal(err)
	}
	return rows
}

// byGuard runs a test of a guarded gateway in each family.
func byGuard(t *testing.T, f func(t *testing.T, v family, g *gateway)) {
	bySide(t, func(t *testing.T, v family, g *gateway) {
		g.guard(guardRules, guardNAT)
		f(t, v, g)
	})
}

// All that passes an open gateway passes a guarded one, and nobody outside sees who is inside.
func TestGuardedGateway(t *testing.T) {
	need.Command(t, "ping", "iputils-ping")
	byGuard(t, func(t *testing.T, v family, g *gateway) {
		a, o := g.hosts[insideA], g.hosts[outside]
		seen := o.watch("(ip or ip6) and not (tcp and greater 300)", func() {
			for _, size := range []string{"0", "56", "5000", "60000"} {
				if out := a.pings(o.own(v), "-s", size); !strings.Contains(out, " 0% packet loss") {
					t.Errorf("%s octets:\n%s", size, out)
				}
			}
			g.traces(t, v)
			g.fetches(t, v)
			g.logsIn(t, v, v.seenAs())
		})
		inside := regexp.MustCompile(`\b10\.1\.0\.2\b|\b2001:db8:1::2\b`)
		as := 0
		for _, line := range seen {
			if inside.MatchString(line) {
				t.Fatalf("outside is seen: %s", line)
			}
			if strings.Contains(line, v.seenAs()) {
				as++
			}
		}
		if as < 50 {
			t.Errorf("%d lines of %d are of %s", as, len(seen), v.seenAs())
		}
		g.measures(t, v)
		proto := map[string]string{"ip4": "ip", "ip6": "ip6"}[v.name]
		if m := regexp.MustCompile(`\((\d{4,}) packets fast forwarded\)`).FindString(g.Must("netstat", "-s", "-p", proto)); m == "" {
			t.Errorf("few packets go by the fast path:\n%s", g.Must("netstat", "-s", "-p", proto))
		}
	})
}

// What the rules do not let in is not seen inside, and is answered as they say.
func TestGuardedGatewayRefuses(t *testing.T) {
	need.Command(t, "ping", "iputils-ping")
	curl := need.Command(t, "curl", "curl")
	byGuard(t, func(t *testing.T, v family, g *gateway) {
		a, o := g.hosts[insideA], g.hosts[outside]
		a.Write("page", "A's own page\n", 0o644)
		a.serveFiles()
		public := at(o.router(v), 80)
		if v.name == "ip6" {
			lines := o.watch("icmp6", func() { a.pings(o.own(v)) })
			m := regexp.MustCompile(`(2001:db8:99:\S*) >`).FindStringSubmatch(strings.Join(lines, "\n"))
			if m == nil {
				t.Fatalf("A is not seen outside:\n%s", strings.Join(lines, "\n"))
			}
			public = at(m[1], 8080)
		}
		if out := o.Must(curl, "-sS", "--max-time", "20", "http://"+public+"/page"); out != "A's own page\n" {
			t.Errorf("A's page from outside: %q", out)
		}
		host, _ := split(public)
		lines := a.watch("src net "+o.nets[v.name]+"2 and not port 8080", func() {
			if r := o.Try(curl, "-sS", "--max-time", "2", "http://"+at(host, 81)+"/"); r.Status != 28 {
				t.Errorf("a port that is blocked: status %d, %s", r.Status, r.Err)
			}
			if r := o.Try(curl, "-sS", "--max-time", "10", "http://"+at(host, 113)+"/"); r.Status != 7 || !strings.Contains(r.Err, "refused") && !strings.Contains(r.Err, "connect") {
				t.Errorf("a port that is answered with a reset: status %d, %s", r.Status, r.Err)
			}
			if out := o.pings(host, "-W", "1"); !strings.Contains(out, "100% packet loss") {
				t.Errorf("an echo from outside:\n%s", out)
			}
		})
		if len(lines) > 0 {
			t.Errorf("inside is seen:\n%s", strings.Join(lines, "\n"))
		}
		// A file with a fault changes nothing.
		before := g.rules(t)
		bad := g.Write("bad.conf", "pass in all\npass in quick on en2 proto tcp from any to any port 22 flags Q\n", 0o644)
		if r := g.Try("ipf", "-Fa", "-f", bad); r.Status != 1 || !regexp.MustCompile(regexp.QuoteMeta(bad)+`:2:\d+: `).MatchString(r.Err) {
			t.Errorf("ipf: status %d, %q", r.Status, r.Err)
		}
		bad = g.Write("badnat.conf", "map en2 10.0.0.0/8 -> 0/32\nmap en2 10.0.0.0/8 -> somewhere\n", 0o644)
		if r := g.Try("ipnat", "-CF", "-f", bad); r.Status != 1 || !regexp.MustCompile(regexp.QuoteMeta(bad)+`:2:\d+: `).MatchString(r.Err) {
			t.Errorf("ipnat: status %d, %q", r.Status, r.Err)
		}
		if d := cmp.Diff(before, g.rules(t)); d != "" {
			t.Errorf("the rules are others (-before +after):\n%s", d)
		}
	})
}

// A connection a request, a thousand and more a second: each has a state and a session, and
// when they are over both go.
func TestGuardedGatewayChurn(t *testing.T) {
	wrk := need.Command(t, "wrk", "wrk")
	byGuard(t, func(t *testing.T, v family, g *gateway) {
		a, o := g.hosts[insideA], g.hosts[outside]
		g.Must("sysctl", "-w", "net.inet.ipf.fr_tcpclosed=1", "net.inet.ipf.fr_tcplastack=1", "net.inet.ipf.ipnat_tcptransitory=1")
		o.Write("small", "a small answer\n", 0o644)
		o.serveFiles()
		out := a.Must(wrk, "-t", "2", "-c", "50", "-d", "5s", "-H", "Connection: close", "http://"+at(o.own(v), 8080)+"/small")
		m := regexp.MustCompile(`(\d+) requests in`).FindStringSubmatch(out)
		if m == nil || strings.Contains(out, "Socket errors") || strings.Contains(out, "Non-2xx") {
			t.Fatalf("wrk:\n%s", out)
		}
		n, _ := strconv.Atoi(m[1])
		if n < 500 {
			t.Errorf("%d requests in five seconds", n)
		}
		s := g.Open()
		added := rows[protocol.FilterRow](t, s, protocol.TableFilter)[0].States.Added
		t.Logf("%d requests, %d states", n, added)
		if added < uint64(n) {
			t.Errorf("%d states of %d requests", added, n)
		}
		for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(100 * time.Millisecond) {
			states, sessions := len(rows[protocol.StateRow](t, s, protocol.TableStates)), len(rows[protocol.NATSessionRow](t, s, protocol.TableNATSessions))
			if states+sessions == 0 {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("%d states and %d sessions of connections that are over, as %+v", states, sessions, rows[protocol.StateRow](t, s, protocol.TableStates)[:1])
			}
		}
	})
}

// Errors about what was translated reach who sent it.
func TestGuardedGatewayErrors(t *testing.T) {
	need.File(t, "/usr/bin/python3")
	byGuard(t, func(t *testing.T, v family, g *gateway) {
		a, o := g.hosts[insideA], g.hosts[outside]
		prog := a.Write("refused.py", `
import socket, sys
s = socket.socket(socket.AF_INET6 if ':' in sys.argv[1] else socket.AF_INET, socket.SOCK_DGRAM)
s.connect((sys.argv[1], 9))
s.settimeout(10)
s.send(b'is there anybody')
try:
    s.recv(100)
except ConnectionRefusedError:
    print('refused')
`, 0o644)
		if out := a.Must("/usr/bin/python3", prog, o.own(v)); out != "refused\n" {
			t.Errorf("a port that nobody has: %q", out)
		}
		g.Must("ifconfig", "en2", "mtu", "1300")
		if out := a.pings(o.own(v), "-M", "do", "-s", "1400"); !strings.Contains(out, "1300") {
			t.Errorf("a narrow link:\n%s", out)
		}
		g.fetches(t, v)
	})
}
