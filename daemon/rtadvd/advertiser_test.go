package rtadvd

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/mdlayher/ndp"

	"ionet/daemon/nd"
)

var (
	epoch = time.Unix(1000000, 0)
	host  = netip.MustParseAddr("fe80::77")
	peer  = netip.MustParseAddr("fe80::2")
	ether = []byte{2, 0, 0, 0, 0, 1}
)

// event is a message that went out.
type event struct {
	at  time.Duration // since the epoch
	to  netip.Addr
	msg nd.RouterAdvert
}

// bench is an advertiser in virtual time. Every message that comes out is held to
// another implementation.
type bench struct {
	t   *testing.T
	a   *advertiser
	now time.Time
	log []event
}

func up() link { return link{index: 1, mtu: 1500, hw: ether, up: true} }

// begin is an advertiser of a configuration on a link that is up. random: what
// randomness answers, between 0 and 1; below 0, real randomness of that seed.
func begin(t *testing.T, conf string, random float64) *bench {
	t.Helper()
	c := mustConfig(t, conf)
	r := rand.New(rand.NewPCG(uint64(-random*1000), 1))
	b := &bench{t: t, now: epoch}
	b.a = newAdvertiser("en0", c, epoch, func(n time.Duration) time.Duration {
		f := random
		if f < 0 {
			f = r.Float64()
		}
		return min(time.Duration(f*float64(n)), n-1)
	})
	b.a.setLink(epoch, up())
	return b
}

func mustConfig(t *testing.T, conf string) Config {
	t.Helper()
	db, err := parseDatabase(conf)
	if err != nil {
		t.Fatal(err)
	}
	c, _, unknown, err := readConfig(db, "en0", true)
	if err != nil || len(unknown) > 0 {
		t.Fatal(err, unknown)
	}
	return c
}

// runs until so long after the epoch and answers what went out.
func (b *bench) run(until time.Duration) []event {
	b.t.Helper()
	from := len(b.log)
	for {
		at, ok := b.a.deadline()
		if !ok || at.After(epoch.Add(until)) {
			b.now = epoch.Add(until)
			return b.log[from:]
		}
		if at.Before(b.now) {
			at = b.now
		}
		b.now = at
		for _, o := range b.a.expire(at) {
			octets := o.msg.Append(nil)
			if _, err := ndp.ParseMessage(octets); err != nil {
				b.t.Errorf("the other implementation: %v\n%+v", err, o.msg)
			}
			if len(octets) > max(b.a.link.mtu, minMTU)-ipv6Header {
				b.t.Errorf("%d octets do not fit the MTU %d", len(octets), b.a.link.mtu)
			}
			b.log = append(b.log, event{at.Sub(epoch), o.to, o.msg})
		}
	}
}

// times shows when and to whom.
func times(all []event) string {
	var s []string
	for _, e := range all {
		s = append(s, fmt.Sprintf("%v %s", e.at, e.to))
	}
	return strings.Join(s, ", ")
}

func (b *bench) want(what, want string, got []event) {
	b.t.Helper()
	if d := cmp.Diff(want, times(got)); d != "" {
		b.t.Errorf("%s: -want +got\n%s", what, d)
	}
}

// TestTheFirstOnesAreFast is RFC 4861 §6.2.4.
func TestTheFirstOnesAreFast(t *testing.T) {
	b := begin(t, "", 0)
	b.want("shortest", "0s ff02::1, 16s ff02::1, 32s ff02::1, 3m52s ff02::1, 7m12s ff02::1", b.run(8*time.Minute))
	b = begin(t, "", 1)
	b.want("longest", "0s ff02::1, 16s ff02::1, 32s ff02::1, 10m32s ff02::1", b.run(20*time.Minute))
	b = begin(t, "en0:maxinterval#4:", 0)
	b.want("shorter than fast", "0s ff02::1, 3s ff02::1, 6s ff02::1, 9s ff02::1", b.run(10*time.Second))
}

// TestIntervals: whatever the randomness and whoever asks, what goes to all keeps
// to the RFC's distances.
func TestIntervals(t *testing.T) {
	for seed := range 20 {
		b := begin(t, "en0:maxinterval#60:mininterval#20:", -float64(seed+1))
		b.a.setPrefixes(epoch, []netip.Prefix{netip.MustParsePrefix("2001:db8:1::/64")})
		r := rand.New(rand.NewPCG(uint64(seed), 2))
		for at := time.Duration(0); at < time.Hour; {
			at += time.Duration(r.IntN(40000)) * time.Millisecond
			b.run(at)
			if r.IntN(4) == 0 {
				b.a.solicit(b.now, netip.IPv6Unspecified())
				before := len(b.log)
				if b.run(at + minDelayBetween + maxAnswerDelay); len(b.log) == before {
					t.Fatalf("seed %d: nobody answered the solicitation at %v", seed, at)
				}
			}
		}
		last := b.log[0].at
		for _, e := range b.log[1:] {
			if apart := e.at - last; apart < minDelayBetween || apart > 60*time.Second {
				t.Errorf("seed %d: %v between two advertisements, at %v", seed, apart, e.at)
			}
			last = e.at
		}
		if len(b.log) < 60 {
			t.Errorf("seed %d: %d advertisements in an hour", seed, len(b.log))
		}
	}
}

// TestSolicitations is RFC 4861 §6.2.6.
func TestSolicitations(t *testing.T) {
	b := begin(t, "", 0.5)
	b.want("first", "0s ff02::1, 16s ff02::1, 32s ff02::1", b.run(100*time.Second))
	b.a.solicit(b.now, host)
	b.a.solicit(b.now, host) // impatient
	b.want("to a host", "1m40.25s fe80::77", b.run(102*time.Second))
	b.a.solicit(b.now, netip.IPv6Unspecified())
	b.want("to one without an address", "1m42.25s ff02::1", b.run(103*time.Second))
	b.a.solicit(b.now, netip.IPv6Unspecified())
	b.want("to the next", "1m45.5s ff02::1", b.run(150*time.Second))
	for i := range maxAnswers + 1 {
		b.a.solicit(b.now, netip.AddrFrom16([16]byte{0xfe, 0x80, 15: byte(i + 1)}))
	}
	b.want("to many", "2m30.25s ff02::1", b.run(151*time.Second))
	// Who hears what goes to all needs no other answer.
	b.a.solicit(b.now, netip.IPv6Unspecified())
	b.a.solicit(b.now, host)
	b.want("to all and one", "2m31.25s fe80::77, 2m33.5s ff02::1", b.run(160*time.Second))
	b.a.setLink(b.now, link{})
	b.a.solicit(b.now, host)
	b.want("on a link that is down", "", b.run(time.Hour))
}

// TestFarewell is RFC 4861 §6.2.5.
func TestFarewell(t *testing.T) {
	b := begin(t, "en0:rtprefix=\"2001:db8:9::\":raflags=mh:", 0)
	b.run(time.Second)
	if m := b.log[0].msg; m.Lifetime != 1800 || m.Routes[0].Lifetime == 0 {
		t.Errorf("first %+v", m)
	}
	b.a.farewell(b.now)
	b.a.solicit(b.now, host)
	got := b.run(time.Hour)
	b.want("farewell", "1s ff02::1, 4s ff02::1, 7s ff02::1", got)
	for _, e := range got {
		if e.msg.Lifetime != 0 || e.msg.Flags != nd.Managed || e.msg.Routes[0].Lifetime != 0 {
			t.Errorf("a farewell with %+v", e.msg)
		}
	}
	if !b.a.left() {
		t.Error("it stays")
	}
	// Who has said nothing has nothing to take back.
	quiet := newAdvertiser("en0", mustConfig(t, ""), epoch, func(time.Duration) time.Duration { return 0 })
	quiet.farewell(epoch)
	if !quiet.left() {
		t.Error("one that was never up stays")
	}
}

// TestPrefixesComeAndGo: hosts hear of it soon, and of what has gone for a while.
func TestPrefixesComeAndGo(t *testing.T) {
	one, two := netip.MustParsePrefix("2001:db8:1::/64"), netip.MustParsePrefix("2001:db8:2::/64")
	b := begin(t, "", 0)
	b.a.setPrefixes(b.now, []netip.Prefix{one})
	b.run(100 * time.Second)
	want := []nd.Prefix{{Prefix: one, Flags: nd.OnLink | nd.Autonomous, Valid: 2592000, Preferred: 604800}}
	if d := cmp.Diff(want, b.log[0].msg.Prefixes, comparePrefix); d != "" {
		t.Error(d)
	}
	b.a.setPrefixes(b.now, []netip.Prefix{two})
	got := b.run(140 * time.Second)
	b.want("after the change", "1m40s ff02::1, 1m56s ff02::1, 2m12s ff02::1", got)
	want = []nd.Prefix{{Prefix: two, Flags: want[0].Flags, Valid: 2592000, Preferred: 604800}, {Prefix: one, Flags: want[0].Flags}}
	if d := cmp.Diff(want, got[0].msg.Prefixes, comparePrefix); d != "" {
		t.Error(d)
	}
	// It comes back.
	b.a.setPrefixes(b.now, []netip.Prefix{one, two})
	got = b.run(150 * time.Second)
	if p := got[0].msg.Prefixes; len(p) != 2 || p[0].Valid == 0 || p[1].Valid == 0 {
		t.Errorf("both are %+v", p)
	}
	b.a.setPrefixes(b.now, nil)
	got = b.run(3 * time.Hour)
	if p := got[0].msg.Prefixes; len(p) != 2 || p[0].Valid != 0 || p[1].Preferred != 0 {
		t.Errorf("after the end %+v", p)
	}
	if p := got[len(got)-1].msg.Prefixes; len(p) != 0 {
		t.Errorf("hours later %+v", p)
	}
	// A file that names prefixes is not moved by routes.
	b = begin(t, "en0:addr=\"2001:db8:5::\":", 0)
	b.run(100 * time.Second)
	b.a.setPrefixes(b.now, []netip.Prefix{one})
	got = b.run(110 * time.Second)
	if p := got[0].msg.Prefixes; len(p) != 1 || p[0].Prefix != netip.MustParsePrefix("2001:db8:5::/64") {
		t.Errorf("%+v", p)
	}
	b = begin(t, "en0:noifprefix:", 0)
	b.a.setPrefixes(b.now, []netip.Prefix{one})
	if got = b.run(time.Second); len(got[0].msg.Prefixes) != 0 {
		t.Errorf("noifprefix: %+v", got[0].msg.Prefixes)
	}
}

var comparePrefix = cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })

// TestLifetimesFall with the time, to the end.
func TestLifetimesFall(t *testing.T) {
	b := begin(t, "en0:addr=\"2001:db8:1::\":vltime#1000:vltimedecr:pltime#500:pltimedecr:maxinterval#100:mininterval#75:", 1)
	for _, e := range b.run(1500 * time.Second) {
		at := uint32(e.at / time.Second)
		p := e.msg.Prefixes[0]
		if p.Valid != 1000-min(at, 1000) || p.Preferred != 500-min(at, 500) {
			t.Errorf("at %v: %d and %d", e.at, p.Valid, p.Preferred)
		}
	}
}

// TestTheStackCeasesToForward: hosts are told that this is no router.
func TestTheStackCeasesToForward(t *testing.T) {
	b := begin(t, "", 0)
	b.run(100 * time.Second)
	b.a.setRouter(b.now, false)
	got := b.run(101 * time.Second)
	if len(got) != 1 || got[0].msg.Lifetime != 0 {
		t.Errorf("%+v", got)
	}
	b.a.setRouter(b.now, true)
	if got = b.run(105 * time.Second); len(got) != 1 || got[0].msg.Lifetime != 1800 {
		t.Errorf("%+v", got)
	}
}

// TestLinkComesBack: a link that was down may be another one.
func TestLinkComesBack(t *testing.T) {
	b := begin(t, "en0:mtu=auto:", 0)
	b.run(200 * time.Second)
	b.a.setLink(b.now, link{index: 1})
	b.want("down", "", b.run(300*time.Second))
	l := up()
	l.mtu = 1400
	b.a.setLink(b.now, l)
	got := b.run(350 * time.Second)
	b.want("up", "5m0s ff02::1, 5m16s ff02::1, 5m32s ff02::1", got)
	if got[0].msg.MTU != 1400 || !slices.Equal(got[0].msg.LinkAddr, ether) {
		t.Errorf("%+v", got[0].msg)
	}
	l.mtu = 1300
	b.a.setLink(b.now, l)
	if got = b.run(351 * time.Second); len(got) != 1 || got[0].msg.MTU != 1300 {
		t.Errorf("another MTU: %+v", got)
	}
}

// TestManyOptions go out in several messages that each fit (RFC 6980).
func TestManyOptions(t *testing.T) {
	var many []netip.Prefix
	for i := range 100 {
		many = append(many, netip.PrefixFrom(netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, 0, byte(i)}), 64))
	}
	b := begin(t, "en0:rdnss=\"2001:db8::53\":dnssl=\"example.org\":", 0)
	b.a.setPrefixes(b.now, many)
	got := b.run(time.Second)
	n, dns := 0, 0
	for _, e := range got {
		n += len(e.msg.Prefixes)
		dns += len(e.msg.Servers) + len(e.msg.Search)
		if e.msg.Lifetime != 1800 || e.msg.HopLimit != 64 {
			t.Errorf("a part is another router: %+v", e.msg)
		}
	}
	if len(got) < 3 || n != 100 || dns != 2 {
		t.Errorf("%d messages, %d prefixes, %d of DNS", len(got), n, dns)
	}
}

// TestOtherRouters is RFC 4861 §6.2.7.
func TestOtherRouters(t *testing.T) {
	b := begin(t, `en0:chlim#64:mtu#1400:rtime#30000:addr="2001:db8:1::":addr1="2001:db8:2::":vltime1#1000:vltimedecr1:pltime1#1000:pltimedecr1:clockskew#5:`, 0)
	b.run(100 * time.Second)
	ours := b.log[0].msg
	theirs := ours
	theirs.Prefixes = slices.Clone(ours.Prefixes)
	theirs.Prefixes[1].Valid, theirs.Prefixes[1].Preferred = 904, 896
	hear := func() []string { return b.a.hear(b.now, peer, &theirs) }
	if got := hear(); got != nil {
		t.Errorf("the same: %q", got)
	}
	theirs.HopLimit, theirs.MTU, theirs.Reachable, theirs.Retrans = 0, 0, 0, 1000
	if got := hear(); got != nil {
		t.Errorf("what one leaves open: %q", got)
	}
	theirs.HopLimit, theirs.MTU, theirs.Flags = 32, 1500, nd.Managed
	theirs.Prefixes[0].Valid = nd.Infinity
	theirs.Prefixes[1].Preferred = 894
	want := []string{
		"en0: fe80::2 advertises another hop limit: 32, ours is 64",
		"en0: fe80::2 advertises another M flag: true, ours is false",
		"en0: fe80::2 advertises another MTU: 1500, ours is 1400",
		"en0: fe80::2 advertises another valid lifetime of 2001:db8:1::/64: infinity, ours is 2592000 s",
		"en0: fe80::2 advertises another preferred lifetime of 2001:db8:2::/64: 894 s, ours is 900 s",
	}
	if d := cmp.Diff(want, hear()); d != "" {
		t.Error(d)
	}
	if got := hear(); got != nil {
		t.Errorf("said again: %q", got)
	}
	theirs.MTU = 1400
	hear()
	theirs.MTU = 1500
	if got := hear(); len(got) != 1 {
		t.Errorf("what was mended and is broken again: %q", got)
	}
	if b.a.heard != 6 || b.a.inconsistent != 4 {
		t.Errorf("%d heard, %d inconsistent", b.a.heard, b.a.inconsistent)
	}
	for i := range 1000 {
		b.a.hear(b.now, netip.AddrFrom16([16]byte{0xfe, 0x80, 14: byte(i >> 8), 15: byte(i)}), &theirs)
	}
	if len(b.a.others) != maxOthers {
		t.Errorf("%d other routers are remembered", len(b.a.others))
	}
}
