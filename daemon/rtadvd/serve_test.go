package rtadvd

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"ionet/daemon/life"
	"ionet/daemon/nd"
)

// world is the stack, the wire and the log.
type world struct {
	ifaces  []life.Link
	pfx     map[int][]netip.Prefix
	off     bool // forwarding is
	sent    []nd.Packet
	joined  []int
	refused error
	said    []string
}

func (w *world) links() ([]life.Link, error)               { return w.ifaces, nil }
func (w *world) prefixes() (map[int][]netip.Prefix, error) { return w.pfx, nil }
func (w *world) forwarding() (bool, error)                 { return !w.off, nil }
func (w *world) Send(p nd.Packet) error                    { w.sent = append(w.sent, p); return nil }
func (w *world) Recv() (nd.Packet, error)                  { return nd.Packet{}, w.refused }
func (w *world) Close() error                              { return nil }
func (w *world) Warnf(f string, a ...any)                  { w.said = append(w.said, fmt.Sprintf(f, a...)) }
func (w *world) Debugf(string, ...any)                     {}
func (w *world) Dumpf(string, ...any)                      {}
func (w *world) Join(_ netip.Addr, index int) error {
	w.joined = append(w.joined, index)
	return w.refused
}

func newWorld() *world {
	return &world{
		ifaces: []life.Link{
			{Name: "lo0", Index: 1, MTU: 32976, Loopback: true, Up: true},
			{Name: "en0", Index: 2, MTU: 1500, HW: ether, Up: true, Local: netip.MustParseAddr("fe80::1"), Own: []netip.Addr{netip.MustParseAddr("fe80::1")}},
			{Name: "en1", Index: 3, MTU: 1500, HW: ether},
		},
		pfx: map[int][]netip.Prefix{2: {netip.MustParsePrefix("2001:db8:1::/64")}},
	}
}

func start(t *testing.T, w *world, conf string, ifaces ...string) *daemon {
	t.Helper()
	d := &daemon{options: options{ifaces: ifaces}, log: w, stack: w, conn: w, joint: map[int]bool{}}
	if err := d.configure(conf, "rtadvd.conf", epoch); err != nil {
		t.Fatal(err)
	}
	if err := d.refresh(epoch); err != nil {
		t.Fatal(err)
	}
	return d
}

// adverts are what has been sent since the last look.
func (w *world) adverts(t *testing.T) (all []*nd.RouterAdvert) {
	t.Helper()
	for _, p := range w.sent {
		m, err := nd.ParseAdvert(nd.Packet{Src: netip.MustParseAddr("fe80::1"), HopLimit: p.HopLimit, Data: p.Data})
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, m)
	}
	w.sent = nil
	return all
}

func TestDaemonAdvertises(t *testing.T) {
	w := newWorld()
	d := start(t, w, "en0:rltime#900:", "en0", "en1")
	d.turn(epoch)
	if len(w.sent) != 1 || w.sent[0].If != 2 || w.sent[0].Dst != nd.AllNodes {
		t.Fatalf("first %+v", w.sent)
	}
	if m := w.adverts(t)[0]; m.Lifetime != 900 || len(m.Prefixes) != 1 || !slices.Equal(m.LinkAddr, ether) {
		t.Errorf("first %+v", m)
	}
	if !slices.Equal(w.joined, []int{2}) {
		t.Errorf("solicitations are heard on %v", w.joined)
	}
	// en1 comes up with its address in use.
	now := epoch.Add(5 * time.Second)
	w.ifaces[2].Up, w.ifaces[2].Local = true, netip.MustParseAddr("fe80::3")
	if err := d.refresh(now); err != nil {
		t.Fatal(err)
	}
	d.turn(now)
	if len(w.sent) != 1 || w.sent[0].If != 3 || w.adverts(t)[0].Lifetime != 1800 {
		t.Errorf("en1: %+v", w.sent)
	}
	// A host asks, somebody far away too, another router says something else.
	from := netip.MustParseAddr("fe80::9")
	solicit := nd.AppendSolicit(nil, ether)
	d.take(now, nd.Packet{If: 2, Src: from, HopLimit: 64, Data: solicit})
	d.take(now, nd.Packet{If: 9, Src: from, HopLimit: 255, Data: solicit})
	d.take(now, nd.Packet{If: 2, Src: from, HopLimit: 255})
	if d.all[0].solicits != 0 {
		t.Error("a solicitation from afar counts")
	}
	d.take(now, nd.Packet{If: 2, Src: from, HopLimit: 255, Data: solicit})
	if d.turn(now.Add(maxAnswerDelay)); len(w.sent) != 1 || w.sent[0].Dst != from {
		t.Errorf("the answer: %+v", w.sent)
	}
	w.adverts(t)
	other := nd.RouterAdvert{HopLimit: 32}
	d.take(now, nd.Packet{If: 2, Src: peer, HopLimit: 255, Data: other.Append(nil)})
	d.take(now, nd.Packet{If: 2, Src: netip.MustParseAddr("fe80::1"), HopLimit: 255, Data: other.Append(nil)}) // ourselves
	if len(w.said) != 1 || w.said[0] != "en0: fe80::2 advertises another hop limit: 32, ours is 64" {
		t.Errorf("it says %q", w.said)
	}
	w.said = nil
	// The stack is no router for a while.
	w.off = true
	now = epoch.Add(16 * time.Second)
	d.turn(now)
	if m := w.adverts(t); len(m) != 1 || m[0].Lifetime != 0 {
		t.Errorf("without forwarding: %+v", m)
	}
	if len(w.said) != 1 || w.said[0] != "en0: net.inet6.ip6.forwarding is 0: the advertisements say that this is no router" {
		t.Errorf("it says %q", w.said)
	}
	w.off = false
	d.turn(now.Add(time.Hour))
	w.adverts(t)
	// en1 goes; what is left says farewell.
	w.ifaces = w.ifaces[:2]
	now = now.Add(time.Hour)
	if err := d.refresh(now); err != nil {
		t.Fatal(err)
	}
	d.farewell(now)
	n := 0
	for next := now; !d.left(); next = d.turn(next) {
		for _, m := range w.adverts(t) {
			if n++; m.Lifetime != 0 {
				t.Errorf("a farewell of %d seconds", m.Lifetime)
			}
		}
	}
	if n += len(w.adverts(t)); n != maxFinalAdverts {
		t.Errorf("%d last advertisements", n)
	}
}

func TestDaemonRefuses(t *testing.T) {
	for _, tc := range []struct{ iface, conf, want string }{
		{"en7", "", "en7: there is no such interface: ifconfig -l lists them"},
		{"lo0", "", "lo0 is a loopback interface: nobody is there to advertise to"},
		{"en0", "en0:mtu#9000:", "rtadvd.conf, en0: mtu#9000 is more than the 1500 octets that the interface takes"},
		{"en0", "en0:chlim#x:", `rtadvd.conf, line 1: "chlim#x": a number follows the #`},
	} {
		w := newWorld()
		d := &daemon{options: options{ifaces: []string{tc.iface}}, log: w, stack: w, conn: w}
		if err := d.configure(tc.conf, "rtadvd.conf", epoch); err == nil || err.Error() != tc.want {
			t.Errorf("%s %q: %v", tc.iface, tc.conf, err)
		}
	}
	for line, want := range map[string]string{
		"":         "an interface is missing",
		"a a":      "a stands there twice",
		"-R a":     errRenumbering.Error(),
		"-x a":     "illegal option -- x",
		"-c":       "option requires an argument -- c",
		"-M en0 a": errRenumbering.Error(),
	} {
		if _, err := parse(strings.Fields(line)); err == nil || err.Error() != want {
			t.Errorf("%q: %v", line, err)
		}
	}
	if o, err := parse(strings.Fields("-dDfms -c x a b")); err != nil || !o.static || !o.mobile || !o.foreground || o.level != life.Dump || len(o.ifaces) != 2 {
		t.Errorf("%+v, %v", o, err)
	}
}

func TestDump(t *testing.T) {
	w := newWorld()
	d := start(t, w, `en0:raflags=moh:rdnss="2001:db8::53":dnssl="example.org":rtprefix="2001:db8:9::":pltimedecr:`, "en0", "en1")
	d.turn(epoch)
	w.pfx = nil
	if err := d.refresh(epoch); err != nil {
		t.Fatal(err)
	}
	d.take(epoch, nd.Packet{If: 2, Src: peer, HopLimit: 255, Data: (&nd.RouterAdvert{Lifetime: 600}).Append(nil)})
	got := d.dump(epoch)
	for _, want := range []string{
		"en0:\n  Status: UP\n  Last RA sent: ", "statistics: RA(out/in/inconsistent): 1/1/1, RS(input): 0\n", "  Link-layer address: 02:00:00:00:00:01\n",
		"  DefaultLifetime: 1800, MaxAdvInterval: 600, MinAdvInterval: 200\n  Flags: MO, Preference: high, MTU: 0\n",
		"  ReachableTime: 0, RetransTimer: 0, CurHopLimit: 64\n", "    2001:db8:1::/64(WITHDRAWN, for another 7200s, flags: LA)\n",
		"    2001:db8:9::/64(prf: medium, ltime: 2592000)\n", "    [2001:db8::53](ltime: 1800)\n", "    [example.org](ltime: 1800)\n",
		"    fe80::2(last RA: ", "en1:\n  Status: DOWN\n  RA timer is stopped\n",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("the dump lacks %q:\n%s", want, got)
		}
	}
}
