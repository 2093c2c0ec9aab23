package autoconf

import (
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mdlayher/ndp"

	"ionet/stack/callout"
	"ionet/stack/mib"
	"ionet/stack/netif"
	"ionet/stack/packet"
	"ionet/stack/route"
	"ionet/stack/socket"
)

// bench is the room on a table: en0 with two neighbours who may be routers, an
// IPv6 that keeps addresses, and a clock.
type bench struct {
	testing.TB
	*Autoconf
	env  *netif.Env
	tab  *route.Table
	ip   *fakeInet
	nd   *fakeND
	en0  *netif.Interface
	now  int64
	seed uint32
	sent []string
	log  strings.Builder
}

var (
	myMAC = netif.MAC{0x02, 0, 0, 0, 0, 1}
	myLL  = netip.MustParseAddr("fe80::ff:fe00:1")
	r1    = netip.MustParseAddr("fe80::1")
	r2    = netip.MustParseAddr("fe80::2")
	r3    = netip.MustParseAddr("fe80::3")
	netA  = netip.MustParsePrefix("2001:db8:a::/64")
	netB  = netip.MustParsePrefix("2001:db8:b::/64")
)

// open makes a bench; what is said of it in set ("name=value") holds from the
// beginning. en0 is down.
func open(t testing.TB, set ...string) *bench {
	t.Helper()
	b := &bench{TB: t, now: second, seed: 7}
	b.env = &netif.Env{Pool: packet.NewPool(1 << 20), MIB: mib.NewValues(), Now: func() int64 { return b.now }, Rand32: func() uint32 {
		b.seed = b.seed*1664525 + 1013904223
		return b.seed ^ b.seed>>15
	}}
	b.env.Log = slog.New(slog.NewTextHandler(&b.log, nil))
	b.env.Wheel.Init(b.now, nil)
	b.tab = route.New(b.env)
	b.ip = &fakeInet{b: b, dad: time.Second, taken: map[netip.Addr]bool{}, pending: map[netip.Addr]*callout.Timer[*netif.Work]{}}
	b.nd = &fakeND{b: b, known: map[netip.Addr]bool{}}
	b.Autoconf = New(b.env, b.tab, b.ip, b.nd)
	b.en0 = b.addIf("en0", myMAC)
	for _, s := range set {
		name, value, _ := strings.Cut(s, "=")
		b.set(name, value)
	}
	t.Cleanup(func() {
		b.Close()
		if n := b.env.Pool.Bufs(); n != 0 {
			t.Errorf("%d buffers were not given back", n)
		}
	})
	return b
}

// start is open, with en0 up for ten seconds and its solicitations forgotten.
func start(t testing.TB, set ...string) *bench {
	t.Helper()
	b := open(t, set...)
	b.InterfaceUp(b.en0)
	b.pass(10 * time.Second)
	b.sent = nil
	return b
}

func (b *bench) addIf(name string, mac netif.MAC) *netif.Interface {
	ifp := netif.New(netif.Config{Name: name, Type: netif.TypeEther, MTU: 1500, MAC: mac,
		Flags: netif.FlagUp | netif.FlagRunning | netif.FlagBroadcast | netif.FlagMulticast})
	if err := b.env.Ifs.Add(ifp); err != nil {
		b.Fatal(err)
	}
	return ifp
}

func (b *bench) set(name, value string) {
	b.Helper()
	if _, err := b.env.MIB.Set("net.inet6.ip6."+name, value); err != nil {
		b.Fatal(err)
	}
}

// pass lets virtual time pass.
func (b *bench) pass(d time.Duration) {
	end := b.now + int64(d)
	for at, ok := b.env.Wheel.Next(); ok && at <= end; at, ok = b.env.Wheel.Next() {
		b.now = max(b.now, at)
		w := b.env.Begin(b.now)
		b.env.Wheel.Advance(b.now, w)
		w.End()
	}
	b.now = end
}

func (b *bench) work(f func(w *netif.Work)) {
	w := b.env.Begin(b.now)
	f(w)
	w.End()
}

// message is an ICMPv6 message in a packet as neighbour discovery hands it on.
func (b *bench) message(src netip.Addr, hlim uint8, icmp []byte) *packet.Buf {
	p := b.env.Pool.Get(packet.IPv6Len + len(icmp))
	packet.PutIPv6(p.Append(packet.IPv6Len), 0, 0, len(icmp), packet.ProtoICMPv6, hlim, src, netip.MustParseAddr("ff02::1"))
	copy(p.Append(len(icmp)), icmp)
	p.MarkL3(0)
	p.MarkL4(packet.IPv6Len)
	p.TrimFront(packet.IPv6Len)
	p.RcvIf = b.en0.Index
	return p
}

func (b *bench) input(src netip.Addr, hlim uint8, icmp []byte) {
	b.Helper()
	p := b.message(src, hlim, icmp)
	b.work(func(w *netif.Work) { b.Input(w, b.en0, p) })
}

// say is a Router Advertisement of a router with a lifetime, and options.
func say(lifetime time.Duration, opts ...ndp.Option) *ndp.RouterAdvertisement {
	return &ndp.RouterAdvertisement{RouterLifetime: lifetime, Options: opts}
}

func marshal(t testing.TB, m ndp.Message) []byte {
	t.Helper()
	icmp, err := ndp.MarshalMessage(m)
	if err != nil {
		t.Fatal(err)
	}
	return icmp
}

// hear has en0 receive ra from router ip.
func (b *bench) hear(ip netip.Addr, ra *ndp.RouterAdvertisement) {
	b.Helper()
	b.input(ip, 255, marshal(b, ra))
}

// on is a prefix on the link to make addresses from, by its lifetimes.
func on(p netip.Prefix, valid, preferred time.Duration) *ndp.PrefixInformation {
	return &ndp.PrefixInformation{PrefixLength: uint8(p.Bits()), Prefix: p.Addr(), OnLink: true, AutonomousAddressConfiguration: true,
		ValidLifetime: valid, PreferredLifetime: preferred}
}

// day is an ordinary prefix.
func day(p netip.Prefix) *ndp.PrefixInformation { return on(p, 24*time.Hour, 4*time.Hour) }

// addrs describe en0's addresses but the link-local ones.
func (b *bench) addrs() (out []string) {
	for _, o := range b.en0.Addrs() {
		if !o.Addr.IsLinkLocalUnicast() {
			out = append(out, b.describe(o))
		}
	}
	return out
}

func (b *bench) describe(o *netif.Addr) string {
	plain, _ := packet.Unscoped(o.Addr)
	s := plain.String()
	for _, f := range []struct {
		on   bool
		name string
	}{
		{o.Tentative, "tentative"}, {o.Duplicated, "duplicated"}, {o.Flags&netif.AddrDetached != 0, "detached"},
		{o.Flags&netif.AddrTemporary != 0, "temporary"}, {o.Deprecated(b.now) && o.Flags&netif.AddrDetached == 0, "deprecated"},
	} {
		if f.on {
			s += " " + f.name
		}
	}
	return s
}

// left are the seconds of life of en0's address ip; -1: for ever.
func (b *bench) left(ip string) (preferred, valid int64) {
	b.Helper()
	for _, o := range b.en0.Addrs() {
		if o.Addr == netip.MustParseAddr(ip) {
			secs := func(at int64) int64 {
				if at == 0 {
					return -1
				}
				return (at - b.now + second/2) / second
			}
			return secs(o.Preferred), secs(o.Valid)
		}
	}
	b.Fatalf("no address %s", ip)
	return 0, 0
}

// table describes the routes.
func (b *bench) table() (out []string) {
	for r := range b.tab.Dump(route.AFInet6) {
		s := r.Dst.String()
		if r.Gateway.IsValid() {
			plain, _ := packet.Unscoped(r.Gateway)
			s += " via " + plain.String()
		}
		out = append(out, s+" "+r.If.Name)
	}
	return out
}

func (b *bench) want(what string, got []string, want ...string) {
	b.Helper()
	if !slices.Equal(got, want) {
		b.Errorf("%s: %q, want %q", what, got, want)
	}
}

func (b *bench) wantAddrs(want ...string)  { b.Helper(); b.want("addresses", b.addrs(), want...) }
func (b *bench) wantRoutes(want ...string) { b.Helper(); b.want("routes", b.table(), want...) }
func (b *bench) wantSent(want ...string)   { b.Helper(); b.want("sent", b.sent, want...); b.sent = nil }

// count is the value of a counter.
func (b *bench) count(name string) uint64 {
	for i, c := range mib.Counters() {
		if c.Name == name {
			return b.env.MIB.Count(mib.Counter(i))
		}
	}
	b.Fatalf("no counter %q", name)
	return 0
}

func (b *bench) scoped(ip netip.Addr) netip.Addr { return packet.Scoped(ip, b.en0.Index) }

// unreachable has NUD find a router silent.
func (b *bench) unreachable(ip netip.Addr) {
	delete(b.nd.known, b.scoped(ip))
	b.work(func(w *netif.Work) { b.RouterGone(w, b.en0, b.scoped(ip)) })
}

// fakeInet keeps addresses, and asks for duplicates for a while.
type fakeInet struct {
	b       *bench
	dad     time.Duration // 0: none
	taken   map[netip.Addr]bool
	all     bool // another station has whatever is asked for
	forward bool
	stale   int
	pending map[netip.Addr]*callout.Timer[*netif.Work]
}

func (f *fakeInet) find(ifp *netif.Interface, ip netip.Addr) *netif.Addr {
	for _, o := range ifp.Addrs() {
		if o.Addr == ip {
			return o
		}
	}
	return nil
}

func (f *fakeInet) AutoAddr(ifp *netif.Interface, a netif.Addr) error {
	old := f.find(ifp, a.Addr)
	if old != nil && !old.Duplicated {
		a.Tentative = old.Tentative
	} else {
		a.Tentative = f.dad > 0
	}
	a.Duplicated = false
	f.put(ifp, old, &a)
	switch {
	case a.Tentative && f.pending[a.Addr] == nil:
		t := &callout.Timer[*netif.Work]{Fn: func(w *netif.Work) { f.asked(w, ifp, a.Addr) }}
		f.pending[a.Addr] = t
		f.b.env.Wheel.Reset(t, f.b.now+int64(f.dad))
	case !a.Tentative && a.Addr.IsLinkLocalUnicast():
		f.b.work(func(w *netif.Work) { f.b.Ready(w, ifp, true) })
	}
	return nil
}

func (f *fakeInet) put(ifp *netif.Interface, old, a *netif.Addr) {
	ifp.EditAddrs(func(s []*netif.Addr) []*netif.Addr {
		i := slices.Index(s, old)
		switch {
		case i < 0:
			return append(s, a)
		case a == nil:
			return slices.Delete(s, i, i+1)
		}
		s[i] = a
		return s
	})
	if a != nil {
		f.b.AddrChanged(a, true)
	} else {
		f.b.AddrChanged(old, false)
	}
}

func (f *fakeInet) asked(w *netif.Work, ifp *netif.Interface, ip netip.Addr) {
	delete(f.pending, ip)
	old := f.find(ifp, ip)
	if old == nil {
		return
	}
	c := *old
	plain, _ := packet.Unscoped(ip)
	c.Tentative, c.Duplicated = false, f.taken[plain] || f.all
	f.put(ifp, old, &c)
	switch {
	case c.Duplicated:
		w.Post(func(w *netif.Work) { f.b.Duplicate(w, &c) })
	case ip.IsLinkLocalUnicast():
		w.Post(func(w *netif.Work) { f.b.Ready(w, ifp, true) })
	}
}

func (f *fakeInet) DelAddr(ifp *netif.Interface, ip netip.Addr) error {
	old := f.find(ifp, ip)
	if old == nil {
		return fmt.Errorf("no such address")
	}
	f.put(ifp, old, nil)
	f.b.tab.DeleteSource(ifp, ip)
	return nil
}

// Output notes the message as ndp reads it.
func (f *fakeInet) Output(w *netif.Work, p *packet.Buf, fl *socket.Flow) error {
	defer p.Free()
	f.b.Helper()
	if !packet.ICMP6(p.Bytes()).ChecksumOK(fl.Src, fl.Dst) {
		f.b.Errorf("a message with a bad checksum")
	}
	if fl.TTL != 255 || !fl.Raw || fl.IfIndex != f.b.en0.Index && f.b.env.Ifs.ByIndex(fl.IfIndex) == nil {
		f.b.Errorf("sent as %+v", fl)
	}
	m, err := ndp.ParseMessage(p.Bytes())
	if err != nil {
		f.b.Fatal(err)
	}
	src, _ := packet.Unscoped(fl.Src)
	dst, _ := packet.Unscoped(fl.Dst)
	s := fmt.Sprintf("%v > %v", src, dst)
	if rs, ok := m.(*ndp.RouterSolicitation); !ok {
		s += fmt.Sprintf(" %T", m)
	} else {
		s += " who routes"
		for _, o := range rs.Options {
			if ll, ok := o.(*ndp.LinkLayerAddress); ok && ll.Direction == ndp.Source {
				s += " tell " + ll.Addr.String()
			}
		}
	}
	f.b.sent = append(f.b.sent, s)
	return nil
}

func (f *fakeInet) Forwarding() bool { return f.forward }
func (f *fakeInet) Invalidate()      { f.stale++ }

// fakeND knows the neighbours it was told of.
type fakeND struct {
	b     *bench
	known map[netip.Addr]bool
	heard []string
	par   Parameters
	deaf  bool
}

func (n *fakeND) Heard(w *netif.Work, ifp *netif.Interface, ip netip.Addr, mac netif.MAC, known, router bool) {
	if known {
		n.known[ip] = true
		n.heard = append(n.heard, fmt.Sprintf("%v router %v", mac, router))
	}
}
func (n *fakeND) Reachable(ifp *netif.Interface, ip netip.Addr) bool      { return n.known[ip] }
func (n *fakeND) Learn(w *netif.Work, ifp *netif.Interface, p Parameters) { n.par = p }
func (n *fakeND) AcceptsRA(ifp *netif.Interface) bool                     { return !n.deaf }

func addrOf(s string) netip.Addr     { return netip.MustParseAddr(s) }
func prefixOf(s string) netip.Prefix { return netip.MustParsePrefix(s) }

func addrsOf(ss ...string) (out []netip.Addr) {
	for _, s := range ss {
		out = append(out, netip.MustParseAddr(s))
	}
	return out
}
