package autoconf

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mdlayher/ndp"

	"ionet/stack/netif"
	"ionet/stack/packet"
)

const (
	inA = "2001:db8:a:0:0:ff:fe00:1"
	inB = "2001:db8:b:0:0:ff:fe00:1"
)

func TestConfiguresItself(t *testing.T) {
	b := start(t)
	mac := []byte{2, 0, 0, 0, 0, 9}
	ra := say(30*time.Minute, &ndp.LinkLayerAddress{Direction: ndp.Source, Addr: mac}, ndp.NewMTU(1400), day(netA))
	ra.CurrentHopLimit, ra.ReachableTime, ra.RetransmitTimer, ra.OtherConfiguration = 32, 40*time.Second, 2*time.Second, true
	b.hear(r1, ra)
	b.wantAddrs(plain(inA) + " tentative")
	b.pass(asked)
	b.wantAddrs(plain(inA))
	b.wantRoutes("::/0 via fe80::1 en0", "2001:db8:a::/64 en0")
	if want := (Parameters{HopLimit: 32, Reachable: 40000, Retrans: 2000, MTU: 1400}); b.nd.par != want {
		t.Errorf("learnt %+v, want %+v", b.nd.par, want)
	}
	b.want("heard", b.nd.heard, "02:00:00:00:00:09 router true")
	if m, o := b.Managed(b.en0); m || !o {
		t.Errorf("managed %v, other %v", m, o)
	}
	rs := b.Routers()
	if len(rs) != 1 || rs[0].Addr != b.scoped(r1) || rs[0].Lifetime != 1800 || !rs[0].Installed || rs[0].MTU != 1400 || rs[0].Flags != packet.RAFlagOther {
		t.Errorf("routers %+v", rs)
	}
	ps := b.Prefixes()
	if len(ps) != 1 || ps[0].Prefix != netA || ps[0].Valid != 86400 || !ps[0].OnLink || !ps[0].Autonomous || ps[0].Refs != 1 || !slices.Equal(ps[0].Routers, []netip.Addr{b.scoped(r1)}) {
		t.Errorf("prefixes %+v", ps)
	}
}

// asked is when duplicate address detection is over.
const asked = 1100 * time.Millisecond

func plain(s string) string { return netip.MustParseAddr(s).String() }

func TestLifetimesCountDown(t *testing.T) {
	b := start(t)
	b.hear(r1, say(time.Hour, on(netA, 4*time.Hour, 3*time.Hour)))
	b.pass(time.Hour)
	if p, v := b.left(inA); p != 7200 || v != 10800 {
		t.Errorf("%d, %d seconds left", p, v)
	}
	b.hear(r1, say(time.Hour, on(netA, 4*time.Hour, 3*time.Hour)))
	if p, v := b.left(inA); p != 10800 || v != 14400 {
		t.Errorf("%d, %d seconds left after another advertisement", p, v)
	}
	stale := b.ip.stale
	b.pass(3*time.Hour + time.Second)
	b.wantAddrs(plain(inA) + " deprecated")
	if b.ip.stale == stale {
		t.Error("cached sources were not given up")
	}
	b.pass(time.Hour)
	b.wantAddrs()
	b.wantRoutes()
	if ps := b.Prefixes(); len(ps) != 0 {
		t.Errorf("prefixes %+v", ps)
	}
}

// RFC 4862 §5.5.3 (e): nobody can shorten an address's life below two hours.
func TestTwoHours(t *testing.T) {
	b := start(t)
	for i, c := range []struct {
		wait, valid time.Duration
		want        int64
	}{
		{0, 24 * time.Hour, 86400},
		{0, 3 * time.Hour, 10800},           // more than two hours
		{0, time.Minute, 7200},              // less
		{time.Hour, 30 * time.Minute, 3600}, // not even two hours are left
		{0, 90 * time.Minute, 5400},         // but longer than that is welcome
		{0, 0, 5400},
		{0, ndp.Infinity, -1},
		{0, time.Second, 7200},
	} {
		b.pass(c.wait)
		b.hear(r1, say(time.Hour, on(netA, c.valid, 0)))
		if _, v := b.left(inA); v != c.want {
			t.Errorf("step %d: %d seconds left, want %d", i, v, c.want)
		}
	}
	b.wantAddrs(plain(inA) + " deprecated")
	b.pass(2*time.Hour + time.Second)
	b.wantAddrs()
}

// What is on the link, a router takes back at once (RFC 4861 §6.3.4).
func TestWithdrawnPrefix(t *testing.T) {
	b := start(t)
	b.hear(r1, say(time.Hour, day(netA)))
	b.pass(2 * time.Second)
	b.hear(r1, say(time.Hour, on(netA, 0, 0)))
	b.wantRoutes("::/0 via fe80::1 en0")
	b.wantAddrs(plain(inA) + " deprecated")
	b.pass(2*time.Hour + time.Second)
	b.wantAddrs()
}

func TestRenumbering(t *testing.T) {
	b := start(t)
	b.hear(r1, say(time.Hour, day(netA)))
	b.pass(time.Minute)
	b.hear(r1, say(time.Hour, on(netA, 2*time.Hour, 0), day(netB)))
	b.pass(time.Minute)
	b.wantAddrs(plain(inA)+" deprecated", plain(inB))
	b.wantRoutes("::/0 via fe80::1 en0", "2001:db8:a::/64 en0", "2001:db8:b::/64 en0")
	b.pass(2 * time.Hour)
	b.wantAddrs(plain(inB))
	b.wantRoutes("2001:db8:b::/64 en0")
}

func TestPrefixesThatMakeNoAddress(t *testing.T) {
	long := netip.MustParsePrefix("2001:db8:a::/80")
	notAuto := day(netA)
	notAuto.AutonomousAddressConfiguration = false
	offLink := day(netA)
	offLink.OnLink = false
	for name, c := range map[string]struct {
		o      *ndp.PrefixInformation
		routes []string
		addrs  []string
		bad    uint64
	}{
		"not autonomous":            {notAuto, []string{"2001:db8:a::/64 en0"}, nil, 0},
		"not on the link":           {offLink, nil, []string{plain(inA)}, 0},
		"of another length":         {day(long), []string{"2001:db8:a::/80 en0"}, nil, 0},
		"link-local":                {day(netip.MustParsePrefix("fe80::/64")), nil, nil, 0},
		"a group":                   {day(netip.MustParsePrefix("ff05::/64")), nil, nil, 1},
		"everything":                {day(netip.MustParsePrefix("::/0")), nil, nil, 1},
		"preferred beyond validity": {on(netA, time.Hour, 2*time.Hour), nil, nil, 1},
		"without a life":            {on(netA, 0, 0), nil, nil, 0},
	} {
		t.Run(name, func(t *testing.T) {
			b := start(t)
			b.hear(r1, say(0, c.o))
			b.pass(asked)
			b.wantRoutes(c.routes...)
			b.wantAddrs(c.addrs...)
			if n := b.count("bad advertised option"); n != c.bad {
				t.Errorf("%d options counted", n)
			}
		})
	}
}

// Nothing that is not from a router of this link is believed (RFC 4861 §6.1.2).
func TestBadAdvertisements(t *testing.T) {
	good := marshal(t, say(time.Hour, day(netA)))
	zero := slices.Clone(good)
	zero[17] = 0
	long := slices.Clone(good)
	long[17] = 5
	code := slices.Clone(good)
	code[1] = 1
	for name, c := range map[string]struct {
		src  netip.Addr
		hlim uint8
		icmp []byte
	}{
		"forwarded":                    {r1, 254, good},
		"from a global address":        {netip.MustParseAddr("2001:db8::1"), 255, good},
		"from nobody":                  {netip.IPv6Unspecified(), 255, good},
		"another code":                 {r1, 255, code},
		"too short":                    {r1, 255, good[:15]},
		"an option without length":     {r1, 255, zero},
		"an option beyond the end":     {r1, 255, long},
		"octets after the last option": {r1, 255, append(slices.Clone(good), 1, 1, 0, 0)},
	} {
		t.Run(name, func(t *testing.T) {
			b := start(t)
			b.input(c.src, c.hlim, c.icmp)
			b.wantAddrs()
			b.wantRoutes()
			if b.count("bad router advertisement") != 1 {
				t.Error("not counted")
			}
		})
	}
}

func TestBadParameters(t *testing.T) {
	b := start(t)
	for _, mtu := range []uint32{1279, 1501, 1 << 31} {
		b.hear(r1, say(time.Hour, ndp.NewMTU(mtu)))
	}
	ra := say(time.Hour)
	ra.ReachableTime = 2 * time.Hour
	b.hear(r1, ra)
	if b.nd.par != (Parameters{}) {
		t.Errorf("learnt %+v", b.nd.par)
	}
}

func (b *bench) linkLocals() (out []string) {
	for _, o := range b.en0.Addrs() {
		if o.Addr.IsLinkLocalUnicast() {
			out = append(out, b.describe(o))
		}
	}
	return out
}

func TestLinkLocal(t *testing.T) {
	b := start(t)
	b.want("link-local", b.linkLocals(), "fe80::ff:fe00:1")
	b = start(t, "auto_linklocal=0")
	b.want("link-local", b.linkLocals())
	// One given by hand is enough.
	b = open(t)
	if err := b.ip.AutoAddr(b.en0, netif.Addr{If: b.en0, Addr: b.scoped(netip.MustParseAddr("fe80::77")), Bits: 64}); err != nil {
		t.Fatal(err)
	}
	b.InterfaceUp(b.en0)
	b.pass(10 * time.Second)
	b.want("link-local", b.linkLocals(), "fe80::77")
}

// A second station with our hardware address: no IPv6 on the interface, until it
// comes up again (RFC 4862 §5.4.5).
func TestDuplicateLinkLocal(t *testing.T) {
	b := open(t)
	b.ip.taken[myLL] = true
	b.InterfaceUp(b.en0)
	b.pass(500 * time.Millisecond)
	b.hear(r1, say(time.Hour, day(netA)))
	b.wantRoutes("::/0 via fe80::1 en0", "2001:db8:a::/64 en0")
	b.pass(10 * time.Second)
	b.want("link-local", b.linkLocals(), "fe80::ff:fe00:1 duplicated")
	b.wantAddrs()
	b.wantRoutes()
	if !strings.Contains(b.log.String(), "does without IPv6") {
		t.Error("nothing in the log")
	}
	b.hear(r1, say(time.Hour, day(netA)))
	b.wantAddrs()
	delete(b.ip.taken, myLL)
	b.work(func(w *netif.Work) { b.Ready(w, b.en0, false) })
	b.InterfaceUp(b.en0)
	b.pass(10 * time.Second)
	b.want("link-local", b.linkLocals(), "fe80::ff:fe00:1")
	b.hear(r1, say(time.Hour, day(netA)))
	b.wantAddrs(plain(inA) + " tentative")
}

func TestDuplicateEUI64(t *testing.T) {
	b := start(t)
	b.ip.taken[netip.MustParseAddr(inA)] = true
	for range 2 { // it is not tried again
		b.hear(r1, say(time.Hour, day(netA)))
		b.pass(10 * time.Second)
		b.wantAddrs(plain(inA) + " duplicated")
	}
}

func TestStableAddresses(t *testing.T) {
	const key = "soiikey=000102030405060708090a0b0c0d0e0f"
	made := func(set ...string) (out []string) {
		b := start(t, append(set, "use_stableaddr=1")...)
		b.hear(r1, say(time.Hour, day(netA), day(netB)))
		b.pass(asked)
		return append(b.linkLocals(), b.addrs()...)
	}
	first := made(key)
	if len(first) != 3 || strings.Contains(strings.Join(first, " "), "ff:fe00:1") {
		t.Fatalf("made %q", first)
	}
	ids := map[string]bool{}
	for _, s := range first {
		b := netip.MustParseAddr(s).As16()
		ids[string(b[8:])] = true
	}
	if len(ids) != 3 {
		t.Errorf("networks share an identifier: %q", first)
	}
	if again := made(key); !slices.Equal(again, first) {
		t.Errorf("the second time %q, the first %q", again, first)
	}
	if other := made("soiikey=ff0102030405060708090a0b0c0d0e0f"); slices.Equal(other, first) {
		t.Error("another secret makes the same addresses")
	}
	b := open(t)
	for _, bad := range []string{"0", "000102030405060708090a0b0c0d0e0g", "000102030405060708090a0b0c0d0e0f00"} {
		if _, err := b.env.MIB.Set("net.inet6.ip6.soiikey", bad); err == nil {
			t.Errorf("%q was taken for a key", bad)
		}
	}
}

// A stable address that another station has is followed by the next, three
// times (RFC 7217 §6).
func TestStableDuplicates(t *testing.T) {
	b := start(t, "use_stableaddr=1")
	b.ip.all = true
	b.hear(r1, say(time.Hour, day(netA)))
	seen := map[string]bool{}
	for range 10 {
		for _, s := range b.addrs() {
			seen[strings.Fields(s)[0]] = true
		}
		b.pass(time.Second)
	}
	if len(seen) != 4 {
		t.Errorf("%d addresses were tried", len(seen))
	}
	if got := b.addrs(); len(got) != 1 || !strings.HasSuffix(got[0], " duplicated") {
		t.Errorf("left %q", got)
	}
	b = open(t, "use_stableaddr=1")
	b.ip.all = true
	b.InterfaceUp(b.en0)
	b.pass(2500 * time.Millisecond)
	b.ip.all = false
	b.pass(10 * time.Second)
	if got := b.linkLocals(); len(got) != 1 || strings.Contains(got[0], " ") {
		t.Errorf("link-local %q", got)
	}
}

func TestOneTakenAwayStaysAwayUntilAdvertised(t *testing.T) {
	b := start(t)
	b.hear(r1, say(time.Hour, day(netA)))
	b.pass(time.Minute)
	if err := b.ip.DelAddr(b.en0, netip.MustParseAddr(inA)); err != nil {
		t.Fatal(err)
	}
	b.pass(time.Minute)
	b.wantAddrs()
	b.wantRoutes("::/0 via fe80::1 en0", "2001:db8:a::/64 en0")
	b.hear(r1, say(time.Hour, day(netA)))
	b.wantAddrs(plain(inA) + " tentative")
}

func TestOneByHandIsLeftAlone(t *testing.T) {
	b := start(t)
	if err := b.ip.AutoAddr(b.en0, netif.Addr{If: b.en0, Addr: netip.MustParseAddr(inA), Bits: 64}); err != nil {
		t.Fatal(err)
	}
	b.hear(r1, say(time.Hour, day(netA)))
	if p, v := b.left(inA); p != -1 || v != -1 {
		t.Errorf("it lives for %d, %d seconds", p, v)
	}
	b.pass(25 * time.Hour)
	b.wantAddrs(plain(inA))
}

// Addresses given by hand with lifetimes end too.
func TestLifetimesGivenByHand(t *testing.T) {
	b := start(t)
	if err := b.ip.AutoAddr(b.en0, netif.Addr{If: b.en0, Addr: netip.MustParseAddr(inB), Bits: 64, Preferred: b.now + 60*second, Valid: b.now + 120*second}); err != nil {
		t.Fatal(err)
	}
	b.pass(61 * time.Second)
	b.wantAddrs(plain(inB) + " deprecated")
	if b.ip.stale == 0 {
		t.Error("cached sources were not given up")
	}
	b.pass(60 * time.Second)
	b.wantAddrs()
}
