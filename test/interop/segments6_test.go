package interop

import (
	"bytes"
	"fmt"
	"net"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/miekg/dns"

	"ionet/test/play"
)

// TestTwoSegmentsAndARouter: two stacks that configure themselves by a third one
// between them, which forwards and advertises: addresses, routes, names and every form
// of ndp, to the farewell.
func TestTwoSegmentsAndARouter(t *testing.T) {
	t.Parallel()
	u := play.NewUser(t)
	at := func(name, options string, wires ...string) *play.User {
		p := filepath.Join(u.Dir, name)
		var args []string
		for _, w := range wires {
			args = append(args, "-d", "wire", "path="+filepath.Join(u.Dir, w))
		}
		u.Ionet(p, append(args, "-p", "tcpip", options+"prefix="+p)...)
		return u.At(p)
	}
	r, a, b := at("r", "forward6,", "w1", "w2"), at("a", "", "w1"), at("b", "", "w2")
	r.Must("ifconfig", "en0", "inet6", "2001:db8:1::1", "prefixlen", "64")
	r.Must("ifconfig", "en1", "inet6", "2001:db8:2::1", "prefixlen", "64")
	r.Must("mkdir", "-p", filepath.Join(u.Dir, "r/etc"))
	const names = `:rdnss="2001:db8:2::53":dnssl="lab.example":` + "\n"
	r.Write("r/etc/rtadvd.conf", "en0"+names+"en1"+names, 0o644)
	j := r.Begin(nil, "rtadvd", "-f", "en0", "en1")
	own := map[*play.User]string{}
	for x, link := range map[*play.User]string{a: "1", b: "2"} {
		x.Must("ifconfig", "en0", "up")
		own[x] = regexp.MustCompile(`2001:db8:\d:0:[0-9a-f:]+`).FindString(
			eventually(t, "ifconfig", `inet6 2001:db8:`+link+`:0:[0-9a-f:]+ prefixlen 64 autoconf *\n`, func() string { return x.Must("ifconfig", "en0") }))
	}
	b.Must("ifconfig", "en0", "inet6", "2001:db8:2::53", "prefixlen", "64", "alias")
	eventually(t, "ifconfig", `2001:db8:2::53 prefixlen 64 *\n`, func() string { return b.Must("ifconfig", "en0") })

	// Across the router.
	play.WantLines(t, "ping6", a.Must("ping6", "-n", "-c", "2", "-i", "0.2", own[b]), "2 packets received, 0% packet loss")
	if got := a.Must("traceroute6", "-n", own[b]); !through("2001:db8:1::1", own[b]).MatchString(got) {
		t.Errorf("traceroute6:\n%s", got)
	}
	file := bytes.Repeat(pattern, 4)
	l := b.Serves("Listening on", "nc", "-6", "-v", "-l", "7777")
	c := a.Begin(bytes.NewReader(file), "nc", "-6", "-N", own[b], "7777")
	if s := c.Wait(); s != 0 {
		t.Errorf("nc: status %d\n%s", s, c.Err.String())
	}
	if s := l.Wait(); s != 0 || !strings.Contains(l.Err.String(), string(file)) {
		t.Errorf("nc -l: status %d, %d octets and what else it said, of %d", s, len(l.Err.String()), len(file))
	}

	// Names, as a program that knows nothing of routers looks them up.
	play.WantLines(t, "resolv.conf", a.Must("onstack", "cat", "/etc/resolv.conf"), "nameserver 2001:db8:2::53\n", "search lab.example\n")
	nameServer(t, b, "[2001:db8:2::53]:53", "www.lab.example.", "2001:db8:2::80")
	play.WantLines(t, "getent", a.Must("onstack", "getent", "ahostsv6", "www"), "2001:db8:2::80 ")
	if ips, err := a.Open().LookupHost(t.Context(), "www"); err != nil || fmt.Sprint(ips) != "[2001:db8:2::80]" {
		t.Errorf("www is %v, %v", ips, err)
	}

	// What there is to know, and to forget.
	routers := func() string { return a.Must("ndp", "-rn") }
	if got := routers(); !regexp.MustCompile(`^fe80::\S+%en0 if=en0, flags=, pref=medium, expire=`).MatchString(got) {
		t.Errorf("ndp -r: %s", got)
	}
	play.WantLines(t, "ndp -p", a.Must("ndp", "-pn"), "2001:db8:1::/64 if=en0\n", "flags=LAO", "fe80::")
	play.WantLines(t, "ndp -i", a.Must("ndp", "-i", "en0"), "curhlim=64")
	if got := a.Must("ndp", "-an"); !regexp.MustCompile(`(?m)^fe80::\S+%en0 +[0-9a-f:]{11,17} +en0 .* R`).MatchString(got) {
		t.Errorf("ndp -a:\n%s", got)
	}
	m := a.Begin(nil, "sh", "-c", `exec "$@" >&2`, "sh", "route", "-n", "monitor")
	for _, re := range []string{`RTM_DELETE: .*<HOST,DONE,LLINFO,CLONED>`, `RTM_ADD: .*<UP,HOST,DONE,LLINFO,CLONED>`} {
		eventually(t, "route monitor", re+`\n.*\nsockaddrs: <DST,GATEWAY,IFP>\n fe80::\S+%en0 [0-9a-f.]+ en0:`, func() string {
			a.Must("ndp", "-c")
			a.Must("ping6", "-n", "-c", "1", own[b])
			return m.Err.String()
		})
	}
	play.WantLines(t, "ndp -I en0", a.Must("ndp", "-I", "en0"), "en0")
	play.WantLines(t, "ndp -I", a.Must("ndp", "-I"), "en0")
	router := strings.Fields(routers())[0]
	if got := a.Must("ping6", "-n", "-c", "1", strings.TrimSuffix(router, "%en0")); !strings.Contains(got, "1 packets received") { // by the default interface
		t.Errorf("ping6 without a zone:\n%s", got)
	}
	play.WantLines(t, "route --json", a.Must("route", "--json", "-n", "get", "-inet6", own[b]), `"gateway":"`+router+`","interface":"en0"`)
	a.Must("ndp", "-R")
	if got := routers(); got != "" {
		t.Errorf("ndp -R leaves %s", got)
	}
	a.Must("rtsol", "en0")
	eventually(t, "ndp -r", `^fe80::`, routers)
	a.Must("ndp", "-P")
	if got := a.Must("ndp", "-pn"); strings.Contains(got, "2001:db8:1::/64") {
		t.Errorf("ndp -P leaves %s", got)
	}
	a.Must("rtsol", "en0")
	eventually(t, "ndp -p", `2001:db8:1::/64 if=en0`, func() string { return a.Must("ndp", "-pn") })
	eventually(t, "ping6", `1 packets received`, func() string { return a.Try("ping6", "-n", "-c", "1", own[b]).Out })

	// The farewell.
	if err := j.Cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	for _, x := range []*play.User{a, b} {
		gone(t, "netstat -rn", `(?m)^default +fe80::`, func() string { return x.Must("netstat", "-rnf", "inet6") })
	}
	if s := j.Wait(); s != 0 {
		t.Errorf("rtadvd ends with %d:\n%s", s, j.Err.String())
	}
}

// nameServer is a name server on a stack that knows one name.
func nameServer(t *testing.T, u *play.User, at, name, address string) {
	t.Helper()
	pc, err := u.Open().ListenPacket("udp", at)
	if err != nil {
		t.Fatal(err)
	}
	s := &dns.Server{PacketConn: pc, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		m := new(dns.Msg).SetReply(q)
		switch h := q.Question[0]; {
		case h.Name != name:
			m.Rcode = dns.RcodeNameError
		case h.Qtype == dns.TypeAAAA:
			m.Answer = []dns.RR{&dns.AAAA{Hdr: dns.RR_Header{Name: name, Rrtype: dns.TypeAAAA, Class: dns.ClassINET, Ttl: 60}, AAAA: net.ParseIP(address)}}
		}
		_ = w.WriteMsg(m) // who has asked asks again
	})}
	served := make(chan error, 1)
	go func() { served <- s.ActivateAndServe() }()
	t.Cleanup(func() {
		_ = s.Shutdown()
		pc.Close()
		<-served
	})
}
