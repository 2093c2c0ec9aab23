package client

import (
	"bytes"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"

	"ionet/protocol"
)

func TestResolvConf(t *testing.T) {
	const text = `# the host's
nameserver 127.0.0.53
nameserver ::1
nameserver fe80::1%eth0
nameserver 2001:db8::1
nameserver ::ffff:10.0.0.1
nameserver resolver.example
nameserver 10.0.0.2
nameserver 10.0.0.3
nameserver 10.0.0.4
domain corp.example
search example. a..b . sub.example
options ndots:2 timeout:100 attempts:99
`
	servers := func(c resolvConf) (s []string) {
		for _, a := range c.servers {
			s = append(s, a.String())
		}
		return s
	}
	c := parseResolvConf([]byte(text), "/etc/resolv.conf", true)
	if got, want := servers(c), []string{"[2001:db8::1]:53", "10.0.0.1:53", "10.0.0.2:53"}; !slices.Equal(got, want) {
		t.Errorf("servers %v, want %v", got, want)
	}
	if want := []string{
		"/etc/resolv.conf: name server 127.0.0.53 is skipped: it is the host's own, which the stack cannot reach",
		"/etc/resolv.conf: name server ::1 is skipped: it is the host's own, which the stack cannot reach",
		"/etc/resolv.conf: name server fe80::1%eth0 is skipped: it is the host's own, which the stack cannot reach",
		"/etc/resolv.conf: name server resolver.example is skipped: it is no address",
		"/etc/resolv.conf: name server 10.0.0.3 is skipped: 3 are enough",
		"/etc/resolv.conf: name server 10.0.0.4 is skipped: 3 are enough",
	}; !slices.Equal(c.skipped, want) {
		t.Errorf("skipped\n%s\nwant\n%s", strings.Join(c.skipped, "\n"), strings.Join(want, "\n"))
	}
	if !slices.Equal(c.search, []string{"example", "sub.example"}) || c.ndots != 2 || c.timeout != 30*time.Second || c.attempts != 5 {
		t.Errorf("%+v", c)
	}
	// In the stack's own file 127.0.0.1 is the stack's lo0, and en0 its interface.
	if c := parseResolvConf([]byte("nameserver 127.0.0.1\nnameserver fe80::1%en0"), "/alt/etc/resolv.conf", false); len(c.servers) != 2 || len(c.skipped) != 0 {
		t.Errorf("%+v", c)
	}
}

// TestRoutersServers: what routers have told stands behind what is written in
// the stack's own file, and before what the host's says.
func TestRoutersServers(t *testing.T) {
	told := []protocol.ResolverRow{{Server: "fe80::53%en0"}, {Server: "2001:db8::53"}, {Search: "told.example."}, {Search: "a..b"}, {Server: "frob"}}
	for _, tt := range []struct {
		text            string
		foreign         bool
		servers, search string
	}{
		{"nameserver 10.0.0.1\nsearch own.example", false, "10.0.0.1 fe80::53%en0 2001:db8::53", "own.example"},
		{"nameserver 10.0.0.1\nnameserver 10.0.0.2", false, "10.0.0.1 10.0.0.2 fe80::53%en0", "told.example"},
		{"nameserver 10.0.0.1\nnameserver 10.0.0.2\nsearch hosts.example", true, "fe80::53%en0 2001:db8::53 10.0.0.1", "told.example"},
		{"", true, "fe80::53%en0 2001:db8::53", "told.example"},
	} {
		c := parseResolvConf([]byte(tt.text), "resolv.conf", tt.foreign)
		before := slices.Clone(c.servers)
		var servers []string
		all := c.with(told)
		for _, s := range all.servers {
			servers = append(servers, s.Addr().String())
		}
		if got := strings.Join(servers, " "); got != tt.servers || strings.Join(all.search, " ") != tt.search {
			t.Errorf("%q, foreign %v: %s, %v", tt.text, tt.foreign, got, all.search)
		}
		if !slices.Equal(c.servers, before) {
			t.Errorf("%q: what is told stays", tt.text)
		}
	}
}

func TestCandidates(t *testing.T) {
	c := resolvConf{search: []string{"a.example", "b.example"}, ndots: 2}
	for name, want := range map[string]string{
		"host":   "host.a.example. host.b.example. host.",
		"host.":  "host.",
		"x.y":    "x.y.a.example. x.y.b.example. x.y.",
		"x.y.z":  "x.y.z. x.y.z.a.example. x.y.z.b.example.",
		"x.y.z.": "x.y.z.",
		strings.Repeat("l23456789.", 24) + "the-end": strings.Repeat("l23456789.", 24) + "the-end.", // there is no room for a domain
	} {
		if got := strings.Join(c.candidates(name), " "); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
}

// TestNamesFiles: whose files count, and what stands in their place.
func TestNamesFiles(t *testing.T) {
	root, prefix := t.TempDir(), t.TempDir()
	write := func(path, text string) {
		t.Helper()
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	load := func() *lookups {
		l := new(lookups)
		l.load(prefix, root)
		return l
	}
	ours := func(l *lookups, name string) []netip.Addr { return l.local(name, true, false) }
	if l := load(); ours(l, "static") != nil || len(l.conf.servers) != 0 {
		t.Errorf("from nothing: %+v", l.conf)
	}
	write(root+"/etc/hosts", "192.0.2.1 static\n192.0.2.2 theirs\n::1 six\n")
	write(root+"/etc/resolv.conf", "nameserver 127.0.0.53\nnameserver 192.0.2.53\n")
	l := load()
	if got := ours(l, "static"); len(got) != 1 || got[0] != netip.MustParseAddr("192.0.2.1") || len(l.conf.servers) != 1 || len(l.conf.skipped) != 1 {
		t.Errorf("the host's: %v, %+v", got, l.conf)
	}
	// What is skipped is said once, and not before somebody asks.
	var said bytes.Buffer
	old := slog.Default()
	slog.SetDefault(slog.New(slog.NewTextHandler(&said, nil)))
	defer slog.SetDefault(old)
	for range 2 {
		if err := l.usable(&l.conf); err != nil {
			t.Error(err)
		}
	}
	if n := strings.Count(said.String(), "127.0.0.53"); n != 1 {
		t.Errorf("said %d times: %s", n, &said)
	}
	if got := l.local("localhost", true, true); len(got) != 2 || got[0] != netip.IPv6Loopback() || len(ours(l, "x.localhost")) != 1 {
		t.Errorf("localhost: %v", got)
	}
	write(prefix+"/etc/hosts", "192.0.2.9 static\n")
	write(prefix+"/etc/resolv.conf", "nameserver 127.0.0.1\n")
	l = load()
	if got := ours(l, "static"); len(got) != 1 || got[0] != netip.MustParseAddr("192.0.2.9") {
		t.Errorf("the stack's own hosts first: %v", got)
	}
	if got := ours(l, "theirs"); len(got) != 1 || len(ours(l, "six")) != 0 || len(l.local("six", false, true)) != 1 || len(l.local("six", true, true)) != 1 {
		t.Errorf("then the host's: %v", got)
	}
	if len(l.conf.servers) != 1 || l.conf.servers[0].Addr().String() != "127.0.0.1" {
		t.Errorf("the stack's own resolv.conf alone: %+v", l.conf)
	}
	if err := errors.Join(os.Remove(prefix+"/etc/resolv.conf"), syscall.Mkfifo(prefix+"/etc/resolv.conf", 0o644)); err != nil {
		t.Fatal(err)
	}
	if l = load(); l.usable(&l.conf) == nil { // and does not hang
		t.Error("a pipe was read")
	}
}

func TestHosts(t *testing.T) {
	h := parseHosts([]byte("192.0.2.1\tOne.Example one # two\n#192.0.2.2 two\n192.0.2.3\nnonsense three\n192.0.2.1 uno\nfe80::1%lo0 six\n192.0.2.4 a..b four\n192.0.2.5 last"))
	for name, want := range map[string]string{"one.example": "192.0.2.1", "one": "192.0.2.1", "uno": "192.0.2.1", "four": "192.0.2.4", "six": "fe80::1%lo0", "last": "192.0.2.5"} {
		if got := h.addrs[name]; len(got) != 1 || got[0].String() != want {
			t.Errorf("%s: %v, want %s", name, got, want)
		}
	}
	if len(h.addrs) != 6 || h.names[netip.MustParseAddr("192.0.2.1")] != "One.Example" || h.names[netip.MustParseAddr("192.0.2.4")] != "four" {
		t.Errorf("%+v", h)
	}
}

func FuzzResolvConf(f *testing.F) {
	f.Add([]byte("nameserver 10.0.0.1\nsearch a b\noptions ndots:3 timeout:1 attempts:9\n"), "host")
	f.Add([]byte("nameserver\nnameserver fe80::1%en0\nsearch .\ndomain\noptions ndots: timeout:-1"), "a.b.")
	f.Fuzz(func(t *testing.T, text []byte, name string) {
		c := parseResolvConf(text, "resolv.conf", true)
		if len(c.servers) > maxServers || len(c.search) > maxSearch || c.ndots < 0 || c.ndots > 15 || c.attempts < 1 || c.attempts > maxAttempts || c.timeout < time.Second || c.timeout > maxTimeout {
			t.Fatalf("%+v", c)
		}
		for _, s := range c.servers {
			if s.Addr().IsLoopback() || s.Addr().IsLinkLocalUnicast() || s.Addr().Is4In6() {
				t.Fatalf("server %v", s)
			}
		}
		if !hostName(name) {
			return
		}
		for _, q := range c.candidates(name) {
			m := new(dns.Msg).SetQuestion(q, dns.TypeA)
			if b, err := m.Pack(); err != nil || len(b) > 300 {
				t.Fatalf("cannot ask for %q: %v", q, err)
			}
		}
	})
}

func FuzzHosts(f *testing.F) {
	f.Add([]byte("127.0.0.1 localhost # x\n::1 ip6-localhost\n"))
	f.Add([]byte("1.2.3.4\x00 a b\r\n1.2.3.4"))
	f.Fuzz(func(t *testing.T, text []byte) {
		h := parseHosts(text)
		for name, ips := range h.addrs {
			if !hostName(name) || name != hostKey(name) || len(ips) == 0 {
				t.Fatalf("%q has %v", name, ips)
			}
		}
		for ip, name := range h.names {
			if !slices.Contains(h.addrs[hostKey(name)], ip) {
				t.Fatalf("%v is %q, which is %v", ip, name, h.addrs[hostKey(name)])
			}
		}
	})
}

func FuzzAnswer(f *testing.F) {
	m := new(dns.Msg).SetQuestion("host.example.", dns.TypeA)
	m.Id = 0x1234
	r := new(dns.Msg).SetReply(m)
	for _, s := range []string{"host.example. 1 IN CNAME b.example.", "b.example. 1 IN A 192.0.2.1"} {
		rr, err := dns.NewRR(s)
		if err != nil {
			f.Fatal(err)
		}
		r.Answer = append(r.Answer, rr)
	}
	b, err := r.Pack()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add(b[:len(b)-3])
	f.Add([]byte{0x12, 0x34})
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := answer(b, m)
		if r == nil {
			return
		}
		if err != nil || r.Id != m.Id || !r.Response || !strings.EqualFold(r.Question[0].Name, "host.example.") {
			t.Fatalf("%v, %v", r, err)
		}
		found, _, links := follow(r.Answer, "host.example.", dns.TypeA)
		if links > maxChain+1 || len(addresses(found)) > len(r.Answer) {
			t.Fatalf("%d links, %v", links, found)
		}
	})
}

// TestCutAnswer: a datagram that was cut in the midst of a record counts as
// truncated if it says so, and is an error if not.
func TestCutAnswer(t *testing.T) {
	m := new(dns.Msg).SetQuestion("host.example.", dns.TypeA)
	r := new(dns.Msg).SetReply(m)
	r.Answer = []dns.RR{&dns.A{Hdr: dns.RR_Header{Name: "host.example.", Rrtype: dns.TypeA, Class: dns.ClassINET}, A: net.IPv4(192, 0, 2, 1)}}
	for _, truncated := range []bool{false, true} {
		r.Truncated = truncated
		b, err := r.Pack()
		if err != nil {
			t.Fatal(err)
		}
		got, err := answer(b[:len(b)-2], m)
		if (err == nil) != truncated || truncated && !got.Truncated {
			t.Errorf("truncated %v: %v, %v", truncated, got, err)
		}
	}
}
