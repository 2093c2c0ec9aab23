package interop

import (
	"encoding/json"
	"io"
	"regexp"
	"strings"
	"testing"

	"ionet/test/play"
)

// one answers what the group of re matches in text, once.
func one(t *testing.T, text, re string) string {
	t.Helper()
	m := regexp.MustCompile(re).FindStringSubmatch(text)
	if m == nil {
		t.Fatalf("nothing matches %s in\n%s", re, text)
	}
	return m[1]
}

// wantRows fails unless every expression matches a line.
func wantRows(t *testing.T, what, text string, rows ...string) {
	t.Helper()
	for _, r := range rows {
		if !regexp.MustCompile(`(?m)^` + r + ` ?$`).MatchString(text) {
			t.Errorf("%s: no line is %s in\n%s", what, r, text)
		}
	}
}

// TestKAMESession is an afternoon at two stacks of somebody who learnt IPv6 on KAME.
func TestKAMESession(t *testing.T) {
	a, b := play.Pair(t)
	a.Must("ifconfig", "en0", "inet6", "2001:db8::1/64")
	b.Must("ifconfig", "en0", "inet6", "2001:db8::2", "prefixlen", "64", "alias")
	for _, u := range []*play.User{a, b} { // until nobody else has claimed the addresses
		for i := 0; strings.Contains(u.Must("ifconfig", "en0"), "tentative"); i++ {
			if i == 10000 {
				t.Fatal("an address stays tentative")
			}
		}
	}
	const linkLocal = `\tinet6 (fe80::\S+%en0) prefixlen 64 scopeid 0x2\n`
	there := one(t, b.Must("ifconfig", "en0"), linkLocal)
	mine := a.Must("ifconfig", "en0")
	here, mac := one(t, mine, linkLocal), one(t, mine, `address: (\S+)`)
	row := regexp.QuoteMeta

	// Addresses.
	a.Must("ifconfig", "en0", "inet6", "2001:db8:1::", "prefixlen", "64", "eui64", "alias")
	a.Must("ifconfig", "en0", "inet6", "2001:db8:2::1", "prefixlen", "64", "pltime", "1000", "vltime", "2000", "alias")
	a.Must("ifconfig", "en0", "inet6", "2001:db8:3::1", "prefixlen", "64", "anycast", "alias")
	a.Must("ifconfig", "en0", "inet6", "2001:db8:4::1", "prefixlen", "64", "deprecated", "alias")
	id := strings.TrimSuffix(strings.TrimPrefix(here, "fe80::"), "%en0")
	wantRows(t, "ifconfig -L", a.Must("ifconfig", "-L", "en0"), `\tinet6 2001:db8:1:0:`+row(id)+` prefixlen 64( tentative)? pltime infty vltime infty`,
		`\tinet6 2001:db8:2::1 prefixlen 64( tentative)? pltime \d+ vltime [12]\d\d\d`, `\tinet6 2001:db8:3::1 prefixlen 64 anycast pltime infty vltime infty`,
		`\tinet6 2001:db8:4::1 prefixlen 64( tentative)? deprecated pltime infty vltime infty`)
	for _, gone := range []string{"2001:db8:2::1", "2001:db8:3::1", "2001:db8:4::1"} {
		a.Must("ifconfig", "en0", "inet6", gone, "-alias")
	}

	// Who is there?
	wantRows(t, "ping6 of a neighbour", a.Must("ping6", "-n", "-c", "1", there), `PING6\(104=40\+8\+56 bytes\) `+row(here)+` --> `+row(there),
		`64 bytes from `+row(there)+`, icmp_seq=0 hlim=64 time=\S+ ms`)
	wantRows(t, "ping6 of all nodes", a.Must("ping6", "-n", "-c", "2", "ff02::1%en0"), `64 bytes from `+row(there)+`, icmp_seq=0 hlim=64 time=\S+ ms(\(DUP!\))?`,
		`2 packets transmitted, 2 packets received, \+[12] duplicates, 0% packet loss`)
	wantRows(t, "node information", a.Must("ping6", "-c", "1", "-a", "g", there), `  2001:db8::2\(TTL=0\)`)
	wantRows(t, "traceroute6", a.Must("traceroute6", "-n", "-q", "1", "2001:db8::2"), ` 1  2001:db8::2  \S+ ms`)
	for _, host := range []string{"%en0", "fe80::1", "2001:db8::2%en7", "10.0.0.2"} {
		if r := a.Try("ping6", "-c", "1", host); r.Status != 1 || strings.Contains(r.Err, "lookup") || !strings.HasPrefix(r.Err, "ping6: ") {
			t.Errorf("ping6 %s: status %d, %s", host, r.Status, r.Err)
		}
	}

	// Neighbours, and one by hand.
	wantRows(t, "ndp -an", a.Must("ndp", "-an"), row(there)+` +\S+ +en0 \S+ +[RSD] (R?)`)
	a.Must("ndp", "-s", "2001:db8::55", "0:1:2:3:4:55")
	wantRows(t, "ndp", a.Must("ndp", "-n", "2001:db8::55"), `2001:db8::55 +0:1:2:3:4:55 +en0 permanent R`)
	if out := a.Must("ndp", "-d", "2001:db8::55"); out != "2001:db8::55 (2001:db8::55) deleted\n" {
		t.Errorf("ndp -d: %q", out)
	}
	a.Must("ndp", "-c")

	// Routes.
	if out, want := a.Must("route", "add", "-inet6", "2001:db8:5::/48", there), "add net 2001:db8:5::/48: gateway "+there+"\n"; out != want {
		t.Errorf("route add: %q, want %q", out, want)
	}
	a.Must("route", "add", "-inet6", "default", "2001:db8::2")
	a.Must("route", "add", "-inet6", "2001:db8:6::", "-prefixlen", "48", "::1", "-reject")
	a.Must("route", "change", "-inet6", "2001:db8:5::/48", there, "-mtu", "1400")
	wantRows(t, "route get", a.Must("route", "-n", "get", "-inet6", "2001:db8:5::9"), `destination: 2001:db8:5::`, `       mask: ffff:ffff:ffff::`,
		`    gateway: `+row(there), ` local addr: 2001:db8:.*`, `  interface: en0`, `      flags: <UP,GATEWAY,DONE,STATIC>`)
	wantRows(t, "route get of a neighbour", a.Must("route", "-n", "get", "-inet6", there), `   route to: `+row(there), ` local addr: `+row(here))
	wantRows(t, "netstat -rn", a.Must("netstat", "-rn", "-f", "inet6"),
		`Destination                   Gateway                   Flags     Refs     Use    Mtu  Interface`,
		`default                       2001:db8::2               UGS         0 +\d+      -  en0`,
		`2001:db8::1                   `+mac+`         UHL         0 +\d+      -  lo0`,
		`::1                           ::1                       UH          0 +\d+  33228  lo0`,
		`2001:db8:5::/48               `+row(there)+` +UGS +0 +\d+   1400  en0`,
		`2001:db8:6::/48               ::1                       UGRS        0 +\d+      -  lo0`,
		`fe80::%en0/64                 link#2                    UC          0 +\d+      -  en0`)
	if r := a.Try("route", "add", "-inet6", "2001:db8:7::/48", "fe80::9"); r.Status != 1 || !strings.Contains(r.Err, "fe80::9 is an address of one link: say of which, as in fe80::9%en0") {
		t.Errorf("a gateway without its link: %+v", r)
	}
	if r := a.Try("ping6", "-c", "1", "2001:db8:6::1"); r.Status == 0 || !strings.Contains(r.Out+r.Err, "unreachable") {
		t.Errorf("a refused network: %+v", r)
	}
	wantRows(t, "route flush", a.Must("route", "-n", "flush", "-inet6"), `default              2001:db8::2          done`, `2001:db8:5::/48      `+row(there)+` +done`)

	// One listener for both versions of IP.
	l := b.Begin(nil, "nc", "-v", "-k", "-l", "99")
	l.Says("Listening on")
	for _, to := range []string{"10.0.0.2", "2001:db8::2", there} {
		if c := a.Begin(strings.NewReader("to "+to+"\n"), "nc", "-N", to, "99"); c.Wait() != 0 {
			t.Errorf("nc %s: %s", to, c.Err.String())
		}
		l.Says("Connection received on")
	}
	wantRows(t, "netstat -an", b.Must("netstat", "-an", "-f", "inet6"), `tcp6       0      0  \*\.99                   \*\.\*                    LISTEN`)
	for _, wrong := range [][]string{{"-4", "2001:db8::2"}, {"-6", "10.0.0.2"}} {
		if r := a.Try("nc", append(wrong, "99")...); r.Status != 1 || !strings.Contains(r.Err, "is no address of IPv"+wrong[0][1:]) {
			t.Errorf("nc %q: %+v", wrong, r)
		}
	}
	in, hold := io.Pipe()
	defer func() { _ = hold.Close() }()
	c := a.Begin(in, "nc", "-v", "-6", "2001:db8::2", "99")
	c.Says("succeeded")
	local := one(t, a.Must("netstat", "-n", "-f", "inet6"), `tcp6 .*  2001:db8::1\.(\d+) +2001:db8::2\.99 +ESTABLISHED`)
	a.Must("tcpdrop", "2001:db8::1."+local, "2001:db8::2.99")
	c.Says("connection abort")

	// Everything else that shows IPv6, for people and for programs.
	play.WantLines(t, "sysctl -a", a.Must("sysctl", "-a"), "net.inet6.ip6.hlim = 64\n", "net.inet6.ip6.accept_rtadv = 1\n", "net.inet6.icmp6.nodeinfo = 3\n")
	play.WantLines(t, "netstat -s", a.Must("netstat", "-s"), "\nip6:\n", "\nicmp6:\n")
	play.WantLines(t, "netstat -p tcp6", a.Must("netstat", "-p", "tcp6"), "tcp:\n")
	wantRows(t, "netstat -in", a.Must("netstat", "-in", "-f", "inet6"), `en0   1500  2001:db8::/64 2001:db8::1 .*`, `en0   1500  fe80::/64     fe80::.*`)
	wantRows(t, "ifmcstat", a.Must("ifmcstat"), `\t\tgroup ff02::1%en0 refcnt \d+`)
	wantRows(t, "ip6addrctl", a.Must("ip6addrctl"), `::1/128 +50 +0 +\d+`)
	for _, line := range []string{"route show -inet6", "route get 2001:db8::2", "netstat -rn -f inet6", "netstat -an", "netstat -in", "ifconfig -a inet6", "ndp -an", "ip6addrctl",
		"ifmcstat", "ping6 -n -c 1 2001:db8::2", "traceroute6 -n 2001:db8::2"} {
		words := strings.Fields(line)
		d := json.NewDecoder(strings.NewReader(a.Must(words[0], append([]string{"--json"}, words[1:]...)...)))
		n := 0
		for ; ; n++ {
			var v any
			if err := d.Decode(&v); err == io.EOF {
				break
			} else if err != nil {
				t.Errorf("%s --json: %v", line, err)
				break
			}
		}
		if n == 0 {
			t.Errorf("%s --json says nothing", line)
		}
	}
}
