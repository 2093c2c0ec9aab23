package e2e

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"ionet/client"
	"ionet/protocol"
)

// zone is a name server's behaviour, and what it was asked.
type zone struct {
	t     *testing.T
	conns []net.PacketConn

	mu    sync.Mutex
	asked []string        // "name type"
	froms map[string]bool // addresses with ports
	ids   map[uint16]bool
}

// names is a stack whose name servers live on a second one, 10.0.0.2 and
// 10.0.0.3, joined by a wire.
func names(t *testing.T) (*daemon, *zone) {
	t.Helper()
	segment := t.TempDir()
	asking, serving := start(t, "-dwire", "path="+segment), start(t, "-dwire", "path="+segment)
	s := serving.open()
	for d, addr := range map[*client.Stack]string{asking.open(): "10.0.0.1", s: "10.0.0.2"} {
		if err := d.AddAddr("en0", protocol.AliasReq{Addr: inet(addr), Mask: protocol.MaskAddr(protocol.AFInet, 24)}); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.AddAddr("en0", protocol.AliasReq{Addr: inet("10.0.0.3"), Mask: protocol.MaskAddr(protocol.AFInet, 32)}); err != nil {
		t.Fatal(err)
	}
	z := &zone{t: t, froms: map[string]bool{}, ids: map[uint16]bool{}}
	var servers sync.WaitGroup
	for _, addr := range []string{"10.0.0.2:53", "10.0.0.3:53"} {
		pc, err := s.ListenPacket("udp", addr)
		if err != nil {
			t.Fatal(err)
		}
		z.conns = append(z.conns, pc)
		srv := &dns.Server{PacketConn: pc, Handler: z, UDPSize: 4096}
		servers.Go(func() { _ = srv.ActivateAndServe() })
		t.Cleanup(func() { _ = pc.Close() })
	}
	t.Cleanup(servers.Wait) // before it the conns are closed
	t.Cleanup(func() {
		for _, pc := range z.conns {
			_ = pc.Close()
		}
	})
	return asking, z
}

func rr(t *testing.T, s string) dns.RR {
	r, err := dns.NewRR(s)
	if err != nil {
		t.Error(err)
	}
	return r
}

// ServeDNS answers by the first label of the name.
func (z *zone) ServeDNS(w dns.ResponseWriter, m *dns.Msg) {
	q := m.Question[0]
	name := strings.ToLower(q.Name)
	z.mu.Lock()
	z.asked = append(z.asked, name+" "+dns.TypeToString[q.Qtype])
	z.froms[w.RemoteAddr().String()], z.ids[m.Id] = true, true
	z.mu.Unlock()
	r := new(dns.Msg).SetReply(m)
	add := func(format string, a ...any) { r.Answer = append(r.Answer, rr(z.t, fmt.Sprintf(format, a...))) }
	switch label, _, _ := strings.Cut(name, "."); {
	case name == "host.example.":
		add("HOST.example. 60 IN A 192.0.2.1")
		add("host.example. 60 IN A 192.0.2.2")
		add("other.example. 60 IN A 192.0.2.66") // nobody asked
	case name == "www.corp.example.":
		add("www.corp.example. 60 IN A 192.0.2.3")
	case name == "alias.example.":
		add("alias.example. 60 IN CNAME middle.example.")
		add("middle.example. 60 IN CNAME host.example.")
		add("host.example. 60 IN A 192.0.2.1")
	case name == "half.example.": // the rest is to be asked for
		add("half.example. 60 IN CNAME host.example.")
	case name == "loop.example.":
		add("loop.example. 60 IN CNAME pool.example.")
		add("pool.example. 60 IN CNAME loop.example.")
	case label == "endless":
		add("%s 60 IN CNAME endless.x%s", name, name)
	case name == "dangling.example.":
		add("dangling.example. 60 IN CNAME gone.example.")
		r.Rcode = dns.RcodeNameError
	case name == "empty.example.":
	case name == "big.example.":
		for i := range 100 {
			add("big.example. 60 IN A 192.0.3.%d", i)
		}
		if o := m.IsEdns0(); o == nil || o.UDPSize() < 4096 {
			r.Answer, r.Truncated = r.Answer[:10], true
		}
	case name == "huge.example.":
		add("huge.example. 60 IN A 192.0.2.1")
		r.Truncated = true
	case name == "old.example.": // knows no EDNS
		if m.IsEdns0() != nil {
			r.Rcode = dns.RcodeFormatError
		} else {
			add("old.example. 60 IN A 192.0.2.4")
		}
	case name == "broken.example.":
		r.Rcode = dns.RcodeServerFailure
	case name == "silent.example." || strings.HasSuffix(name, ".254.10.in-addr.arpa."):
		return
	case name == "forged.example.":
		lie := func(f func(*dns.Msg)) {
			l := new(dns.Msg).SetReply(m)
			l.Answer = []dns.RR{rr(z.t, "forged.example. 60 IN A 192.0.2.66")}
			f(l)
			_ = w.WriteMsg(l)
		}
		lie(func(l *dns.Msg) { l.Id++ })
		lie(func(l *dns.Msg) { l.Response = false })
		lie(func(l *dns.Msg) { l.Question[0].Name = "other.example." })
		lie(func(l *dns.Msg) { l.Question[0].Qtype = dns.TypeAAAA })
		lie(func(l *dns.Msg) { l.Question[0].Qclass = dns.ClassCHAOS })
		lie(func(l *dns.Msg) { l.Question = nil })
		_, _ = w.Write([]byte("nonsense"))
		add("forged.example. 60 IN A 192.0.2.5")
	case name == "5.2.0.192.in-addr.arpa.":
		add("%s 60 IN CNAME 5.sub.2.0.192.in-addr.arpa.", name)
		add("5.sub.2.0.192.in-addr.arpa. 60 IN PTR five.example.")
	case name == "6.2.0.192.in-addr.arpa.":
		add(`%s 60 IN PTR \027[31mred.example.`, name)
	default:
		r.Rcode = dns.RcodeNameError
	}
	_ = w.WriteMsg(r)
}

// taken answers what was asked since the last call.
func (z *zone) taken() []string {
	z.mu.Lock()
	defer z.mu.Unlock()
	out := z.asked
	z.asked = nil
	return out
}

// etc writes a file below the daemon's prefix.
func (d *daemon) etc(name, text string) {
	d.t.Helper()
	path := filepath.Join(d.prefix, "etc", name)
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644)); err != nil {
		d.t.Fatal(err)
	}
}

// A name has addresses of both families, and those that the stack can reach go
// first.
func TestLookupHostOfBothFamilies(t *testing.T) {
	d := start(t)
	d.etc("hosts", "2001:db8::9 both.test\n127.0.0.1 both.test\n::1 six.test\n")
	for name, want := range map[string]string{"both.test": "[127.0.0.1 2001:db8::9]", "six.test": "[::1]", "fe80::1": "[fe80::1]", "10.163": "[10.0.0.163]"} {
		if ips, err := d.open().LookupHost(t.Context(), name); err != nil || fmt.Sprint(ips) != want {
			t.Errorf("%s: %v, %v, want %s", name, ips, err, want)
		}
	}
}

func TestLookupHost(t *testing.T) {
	d, z := names(t)
	d.etc("hosts", "192.0.2.9 static.example static # ours\n10.9.9.9 localhost\n")
	d.etc("resolv.conf", "nameserver 10.0.0.2\nsearch corp.example example\noptions ndots:1 timeout:1 attempts:1\n")
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for _, tt := range []struct {
		name, want string // addresses, or a part of the error
		asked      string // "" not checked, "-" nothing
	}{
		{"192.0.2.77", "192.0.2.77", "-"},
		{"static", "192.0.2.9", "-"},
		{"STATIC.Example.", "192.0.2.9", "-"},
		{"localhost", "10.9.9.9", "-"}, // before the host's own file
		{"host.example", "192.0.2.1 192.0.2.2", "host.example. A"},
		{"host.example.", "192.0.2.1 192.0.2.2", "host.example. A"},
		{"www", "192.0.2.3", "www.corp.example. A"},
		{"host", "192.0.2.1 192.0.2.2", "host.corp.example. A,host.example. A"},
		{"alias.example", "192.0.2.1", "alias.example. A"},
		{"half.example", "192.0.2.1 192.0.2.2", "half.example. A,host.example. A"},
		{"loop.example.", "lookup loop.example.: its CNAMEs do not come to an end", ""},
		{"endless.example.", "CNAMEs do not come to an end", ""},
		{"dangling.example.", "lookup dangling.example. on 10.0.0.2: no such host", ""},
		{"empty.example.", "lookup empty.example. on 10.0.0.2: the name is known but has no IPv4 address", ""},
		{"nobody.example.", "lookup nobody.example. on 10.0.0.2: no such host", "nobody.example. A"},
		{"nobody", "lookup nobody on 10.0.0.2: no such host", "nobody.corp.example. A,nobody.example. A,nobody. A"},
		{"old.example", "192.0.2.4", "old.example. A,old.example. A"},
		{"huge.example.", "on 10.0.0.2: the answer does not fit a datagram of 4096 octets, and the stack cannot ask by TCP yet", ""},
		{"broken.example.", "on 10.0.0.2: the server answers SERVFAIL", ""},
		{"silent.example.", "on 10.0.0.2: no answer in time", "silent.example. A"},
		{"silent.example", "lookup silent.example on 10.0.0.2: no answer in time", "silent.example. A"}, // not in the search domains too
		{"forged.example", "192.0.2.5", "forged.example. A"},
		{"a..b", "lookup a..b: it is not a host name", "-"},
		{"a b", "it is not a host name", "-"},
		{strings.Repeat("x", 64) + ".example", "it is not a host name", "-"},
	} {
		s := d.open() // reads the files anew
		ips, err := s.LookupNetIP(ctx, "ip4", tt.name)
		var texts []string
		for _, ip := range ips {
			texts = append(texts, ip.String())
		}
		got := strings.Join(texts, " ")
		if err != nil {
			got = err.Error()
			if e := new(net.DNSError); !errors.As(err, &e) || e.Name != tt.name {
				t.Errorf("%s: %#v", tt.name, err)
			}
		}
		if got != tt.want && (err == nil || !strings.Contains(got, tt.want)) {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
		asked := strings.Join(z.taken(), ",")
		if tt.asked == "-" && asked != "" || tt.asked != "" && tt.asked != "-" && asked != tt.asked {
			t.Errorf("%s: asked for %q, want %q", tt.name, asked, tt.asked)
		}
	}
	ips, err := d.open().LookupNetIP(ctx, "ip4", "big.example")
	if err != nil || len(ips) != 100 {
		t.Errorf("big.example: %d addresses, %v; EDNS makes room for 100", len(ips), err)
	}
	if ips, err := d.open().LookupNetIP(t.Context(), "ip4", "silent.example"); err == nil {
		t.Errorf("silent: %v", ips)
	}
	canceled, stop := context.WithCancel(ctx)
	stop()
	if _, err := d.open().LookupNetIP(canceled, "ip4", "host.example"); !errors.Is(err, context.Canceled) {
		t.Errorf("canceled: %v", err)
	}
}

// TestLookupServers: the next server is asked when one is of no use.
func TestLookupServers(t *testing.T) {
	d, z := names(t)
	for _, conf := range []string{
		"nameserver 10.0.0.99\nnameserver 10.0.0.2\n",                                       // nobody has that address
		"nameserver 10.0.0.1\nnameserver 10.0.0.2\n",                                        // our own, without a server
		"nameserver fe80::1%en9\nnameserver ::1\nnameserver frob\nnameserver 10.0.0.3 # \n", // nobody, and skipped
	} {
		d.etc("resolv.conf", conf+"options timeout:1\n")
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		ips, err := d.open().LookupNetIP(ctx, "ip4", "host.example")
		cancel()
		if err != nil || len(ips) != 2 {
			t.Errorf("%q: %v, %v", conf, ips, err)
		}
	}
	d.etc("resolv.conf", "nameserver frob\n")
	if _, err := d.open().LookupNetIP(t.Context(), "ip4", "host.example"); err == nil || !strings.Contains(err.Error(), "no name server that the stack can reach in "+d.prefix+"/etc/resolv.conf") {
		t.Errorf("no server: %v", err)
	}
	z.taken()
	d.etc("resolv.conf", "nameserver 10.0.0.2\n")
	z.mu.Lock()
	clear(z.froms)
	clear(z.ids)
	z.mu.Unlock()
	s := d.open()
	const n = 40
	for range n {
		if _, err := s.LookupNetIP(t.Context(), "ip4", "host.example."); err != nil {
			t.Fatal(err)
		}
	}
	z.mu.Lock()
	defer z.mu.Unlock()
	if len(z.froms) < n-2 || len(z.ids) < n-2 {
		t.Errorf("%d questions came from %d ports under %d ids", n, len(z.froms), len(z.ids))
	}
	ports, low, high := map[int]bool{}, 1<<16, 0
	for from := range z.froms {
		p := int(netip.MustParseAddrPort(from).Port())
		ports[p], low, high = true, min(low, p), max(high, p)
	}
	if high-low < 1<<13 {
		t.Errorf("ports from %d to %d only", low, high)
	}
	next := 0
	for p := range ports {
		if ports[p+1] {
			next++
		}
	}
	if next > n/4 {
		t.Errorf("%d of %d ports have a neighbour: they are not random", next, len(ports))
	}
}

func TestLookupAddr(t *testing.T) {
	d, z := names(t)
	d.etc("hosts", "192.0.2.9 static.example static\n")
	d.etc("resolv.conf", "nameserver 10.0.0.2\n")
	s := d.open()
	for _, tt := range []struct{ addr, want string }{
		{"192.0.2.9", "static.example"},
		{"::ffff:192.0.2.9", "static.example"},
		{"192.0.2.5", "five.example"}, // RFC 2317
		{"192.0.2.6", ""},             // nothing for a terminal
		{"192.0.2.7", ""},
		{"192.0.2.5", "five.example"},
	} {
		name, err := s.LookupAddr(t.Context(), netip.MustParseAddr(tt.addr))
		if name != tt.want || (err == nil) != (tt.want != "") {
			t.Errorf("%s: %q, %v; want %q", tt.addr, name, err, tt.want)
		}
	}
	if asked := z.taken(); len(slices.Compact(slices.Sorted(slices.Values(asked)))) != len(asked) {
		t.Errorf("asked twice: %q", asked)
	}
	// A hundred addresses that no one answers for cost a second together.
	begin := time.Now()
	for i := range 100 {
		if name, err := s.LookupAddr(t.Context(), netip.AddrFrom4([4]byte{10, 254, 0, byte(i)})); err == nil {
			t.Errorf("10.254.0.%d is %s", i, name)
		}
	}
	if took := time.Since(begin); took > 5*time.Second { // with much to spare for a slow machine
		t.Errorf("look-ups that nobody answers took %v together", took)
	}
	if n := len(z.taken()); n == 0 || n > 5 {
		t.Errorf("%d questions in the one second", n)
	}
	if _, err := s.LookupAddr(t.Context(), netip.MustParseAddr("192.0.2.9")); err != nil {
		t.Errorf("hosts cost nothing: %v", err)
	}
}
