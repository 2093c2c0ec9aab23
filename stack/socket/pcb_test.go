package socket

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"testing"

	"ionet/stack/mib"
	"ionet/stack/netif"
)

// bench is a table whose sockets are named by how they were made.
type bench struct {
	testing.TB
	t    PCBTable
	env  *netif.Env
	pcbs map[string]*PCB
}

// handler knows no more than a block's ends.
type handler struct {
	Handler
	p *PCB
}

func (h handler) Local() Addr { return h.p.Ends().Local }
func (h handler) Peer() Addr  { return h.p.Ends().Foreign }

func newBench(t testing.TB) *bench {
	b := &bench{TB: t, env: &netif.Env{MIB: mib.NewValues()}, pcbs: map[string]*PCB{}}
	b.t.Init(0x1234567890abcdef)
	return b
}

func (b *bench) addr(s string) (a Addr) {
	i := strings.LastIndexByte(s, ':')
	host := strings.Trim(s[:i], "[]")
	if host != "" {
		a.IP = netip.MustParseAddr(host)
	}
	_, _ = fmt.Sscan(s[i+1:], &a.Port)
	return a
}

// bind makes a socket of words such as "4", "6", "6only", "addr", "port" (the
// options SO_REUSEADDR, SO_REUSEPORT), "user", and binds it.
func (b *bench) bind(words, local string) error {
	b.Helper()
	family, w := AFInet, strings.Fields(words)
	if w[0] != "4" {
		family = AFInet6
	}
	so := New(b.env, family, Dgram, 0, Cred{UID: 1, Super: !slices.Contains(w, "user")}, 0, 0, uint64(len(b.pcbs)), nil)
	p := &PCB{}
	p.Init(so)
	so.H = handler{p: p}
	if err := so.SetV6Only(w[0] == "6only"); err != nil {
		b.Fatal(err)
	}
	for word, flag := range map[string]int{"addr": SOReuseAddr, "port": SOReusePort} {
		if slices.Contains(w, word) {
			_ = so.SetOption(nil, LevelSocket, flag, Value32(1))
		}
	}
	a, err := so.enter(b.addr(local))
	if err == nil {
		err = b.t.Bind(p, a, Ports{Min: 1024, Max: 65535, Rand: func() uint32 { return 7 }})
	}
	if err == nil {
		b.pcbs[words+" "+local] = p
	}
	return err
}

// finds is which socket a packet to local from foreign finds.
func (b *bench) finds(local, foreign string) string {
	p := b.t.Lookup(b.addr(local), b.addr(foreign), 0)
	for name, q := range b.pcbs {
		if q == p {
			return name
		}
	}
	return "nobody"
}

func TestPortsAreSharedBetweenFamilies(t *testing.T) {
	for _, c := range []struct {
		first, firstAt, second, secondAt string
		want                             error
	}{
		{"4", ":7", "6only", "[::]:7", nil},
		{"6only", "[::]:7", "4", ":7", nil},
		{"4", ":7", "6", "[::]:7", syscall.EADDRINUSE},
		{"6", "[::]:7", "4", ":7", syscall.EADDRINUSE},
		{"6", "[::]:7", "6only", "[::]:7", syscall.EADDRINUSE},
		{"4 port", ":7", "6 port", "[::]:7", nil},
		{"4 port", ":7", "6", "[::]:7", syscall.EADDRINUSE},
		{"4 addr", ":7", "6 addr", "[::]:7", syscall.EADDRINUSE},
		// A specific address beside the wildcard is SO_REUSEADDR's, across families too.
		{"4", "10.0.0.1:7", "6", "[::]:7", syscall.EADDRINUSE},
		{"4", "10.0.0.1:7", "6 addr", "[::]:7", nil},
		{"6", "[::]:7", "4 addr", "10.0.0.1:7", nil},
		{"6only", "[::]:7", "4", "10.0.0.1:7", nil},
		// Mapped addresses are IPv4's.
		{"6", "[::ffff:10.0.0.1]:7", "4", "10.0.0.1:7", syscall.EADDRINUSE},
		{"6", "[::ffff:10.0.0.1]:7", "4", "10.0.0.2:7", nil},
		{"6", "[::ffff:0.0.0.0]:7", "6only", "[::]:7", nil},
		{"6", "[::ffff:0.0.0.0]:7", "4", ":7", syscall.EADDRINUSE},
		{"4", ":9", "6only", "[::ffff:10.0.0.1]:7", syscall.EINVAL},
		// IPv6 among itself.
		{"6", "[2001:db8::1]:7", "4", ":7", nil},
		{"6", "[2001:db8::1]:7", "6only", "[2001:db8::1]:7", syscall.EADDRINUSE},
		{"6only", "[2001:db8::1]:7", "6only", "[2001:db8::2]:7", nil},
		{"6only", "[ff02::1]:7", "6only", "[ff02::1]:7", syscall.EADDRINUSE},
		{"6only addr", "[ff02::1]:7", "6only addr", "[ff02::1]:7", nil},
		// Families that an address cannot have.
		{"4", ":9", "4", "[2001:db8::1]:7", syscall.EAFNOSUPPORT},
		{"4", ":9", "6", "10.0.0.1:7", syscall.EAFNOSUPPORT},
	} {
		b := newBench(t)
		if err := b.bind(c.first, c.firstAt); err != nil {
			t.Fatalf("%s %s: %v", c.first, c.firstAt, err)
		}
		if err := b.bind(c.second, c.secondAt); err != c.want {
			t.Errorf("%s %s beside %s %s: %v, want %v", c.second, c.secondAt, c.first, c.firstAt, err, c.want)
		}
	}
}

// Nobody gets another user's datagrams by way of the other family.
func TestPortsOfUsersBetweenFamilies(t *testing.T) {
	b := newBench(t)
	if err := b.bind("6 port", "[::]:7"); err != nil {
		t.Fatal(err)
	}
	b.pcbs["6 port [::]:7"].So.Cred.UID = 2
	if err := b.bind("4 port addr user", "10.0.0.1:7"); err != syscall.EADDRINUSE {
		t.Error(err)
	}
	if err := b.bind("6only port addr user", "[2001:db8::1]:7"); err != syscall.EADDRINUSE {
		t.Error(err)
	}
}

func TestLookupBetweenFamilies(t *testing.T) {
	b := newBench(t)
	for _, s := range [][2]string{
		{"6 addr port", "[::]:7"}, {"4 addr port", ":7"}, {"4 addr port", "10.0.0.1:7"}, {"6 addr port", "[2001:db8::1]:7"},
		{"6 addr port", "[::]:8"}, {"6only addr port", "[::]:8"}, {"6 addr port", "[::ffff:0.0.0.0]:9"},
	} {
		if err := b.bind(s[0], s[1]); err != nil {
			t.Fatal(s, err)
		}
	}
	for _, c := range [][2]string{
		{"10.0.0.1:7", "4 addr port 10.0.0.1:7"},
		{"10.0.0.2:7", "4 addr port :7"}, // IPv4's own before the one that takes both
		{"2001:db8::1:7", "6 addr port [2001:db8::1]:7"},
		{"2001:db8::2:7", "6 addr port [::]:7"},
		{"10.0.0.1:8", "6 addr port [::]:8"},
		{"2001:db8::2:8", "6only addr port [::]:8"},
		{"10.0.0.1:9", "6 addr port [::ffff:0.0.0.0]:9"},
		{"2001:db8::1:9", "nobody"},
	} {
		from := "10.0.0.9:99"
		if strings.Contains(c[0], "db8") {
			from = "2001:db8::9:99"
		}
		if got := b.finds(c[0], from); got != c[1] {
			t.Errorf("%s finds %s, want %s", c[0], got, c[1])
		}
	}
	var got []string
	b.t.Each(b.addr("10.0.0.1:7"), b.addr("10.0.0.9:99"), 0, func(p *PCB) bool {
		got = append(got, fmt.Sprint(p.So.ID))
		return true
	})
	slices.Sort(got)
	if want := "[0 1 2]"; fmt.Sprint(got) != want {
		t.Errorf("a broadcast concerns %v, want %s", got, want)
	}
}

// A connected block of a dual-stack socket falls back to the wildcard of both.
func TestDisconnectKeepsTheVersions(t *testing.T) {
	b := newBench(t)
	if err := b.bind("6", "[::]:7"); err != nil {
		t.Fatal(err)
	}
	p := b.pcbs["6 [::]:7"]
	e := Ends{b.addr("10.0.0.1:7"), b.addr("10.0.0.2:9")}
	if err := b.t.Connect(p, e, Ports{}); err != nil {
		t.Fatal(err)
	}
	if p.Reaches(netip.MustParseAddr("2001:db8::1")) || !p.Reaches(netip.MustParseAddr("10.0.0.3")) {
		t.Error("connected over IPv4, it reaches IPv6 or not IPv4")
	}
	if l, f := p.So.Local(), p.So.Peer(); l != b.addr("::ffff:10.0.0.1:7") || f != b.addr("::ffff:10.0.0.2:9") {
		t.Errorf("its ends are called %v and %v", l, f)
	}
	if got := b.finds("2001:db8::1:7", "2001:db8::2:9"); got != "nobody" {
		t.Error("connected, it is found over IPv6 as", got)
	}
	b.t.Disconnect(p, false)
	if !p.Reaches(netip.MustParseAddr("2001:db8::1")) || b.finds("2001:db8::1:7", "2001:db8::2:9") != "6 [::]:7" || b.finds("10.0.0.1:7", "10.0.0.3:9") != "6 [::]:7" {
		t.Error("dissolved, it does not take both versions")
	}
	if err := p.So.SetV6Only(true); err != syscall.EINVAL {
		t.Error("IPV6_V6ONLY of a bound socket:", err)
	}
}

// The border: plain addresses and their interface outside, one address inside.
func TestAddressesOfOneLink(t *testing.T) {
	env := &netif.Env{MIB: mib.NewValues()}
	lo := netif.New(netif.Config{Name: "en0", MTU: 1500, Driver: nil})
	if err := env.Ifs.Add(lo); err != nil {
		t.Fatal(err)
	}
	so := New(env, AFInet6, Dgram, 0, Cred{}, 0, 0, 1, nil)
	ip := netip.MustParseAddr
	in, err := so.enter(Addr{IP: ip("fe80::1"), Port: 7, Scope: lo.Index})
	if err != nil || in.Scope != 0 || in.IP == ip("fe80::1") {
		t.Fatal(in, err)
	}
	if out := so.leave(in); out != (Addr{IP: ip("fe80::1"), Port: 7, Scope: lo.Index}) {
		t.Error("it comes back as", out)
	}
	if _, err := so.enter(Addr{IP: ip("fe80::1"), Scope: 99}); err != syscall.ENXIO {
		t.Error("an interface that is not there:", err)
	}
	if err := so.bindToIf("en0"); err != nil {
		t.Fatal(err)
	}
	if also, err := so.enter(Addr{IP: ip("fe80::1"), Port: 7}); err != nil || also != in {
		t.Error("by SO_BINDTODEVICE's interface:", also, err)
	}
	if sly, _ := so.enter(Addr{IP: ip("fe80:9::1"), Port: 7, Scope: lo.Index}); sly != in {
		t.Error("an interface in the address itself:", sly)
	}
	if wide, err := so.enter(Addr{IP: ip("2001:db8::1%7"), Scope: 99}); err != nil || wide != (Addr{IP: ip("2001:db8::1")}) {
		t.Error("a global address:", wide, err)
	}
	f := Flow{Dst: ip("ff02::1"), IfIndex: lo.Index}
	if f.Place(); so.leave(Addr{IP: f.Dst}) != (Addr{IP: ip("ff02::1"), Scope: lo.Index}) {
		t.Error("a group on the flow's interface:", f.Dst)
	}
}

func BenchmarkLookup(b *testing.B) {
	for _, c := range []struct{ name, local, foreign string }{{"v4", "10.0.0.1:7", "10.0.0.2:9"}, {"v6", "2001:db8::1:7", "2001:db8::2:9"}} {
		b.Run(c.name, func(b *testing.B) {
			t := newBench(b)
			if err := t.bind("6", "[::]:7"); err != nil {
				b.Fatal(err)
			}
			l, f := t.addr(c.local), t.addr(c.foreign)
			for b.Loop() {
				if t.t.Lookup(l, f, 0) == nil {
					b.Fatal("nobody")
				}
			}
		})
	}
}

func TestElsewhere(t *testing.T) {
	four, six := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("2001:db8::1")
	m := Msg{Addr: Addr{IP: four}}
	if m.Elsewhere(four) {
		t.Error("nobody has asked for it")
	}
	m.Flags = MsgElsewhere
	if !m.Elsewhere(four) || m.Elsewhere(six) {
		t.Error("it is for a peer of the same version of IP, and for no other")
	}
}
