package rtsold

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mdlayher/ndp"

	"ionet/daemon/life"
	"ionet/daemon/nd"
)

var (
	epoch  = time.Unix(1000000, 0)
	ether  = []byte{2, 0, 0, 0, 0, 1}
	local  = netip.MustParseAddr("fe80::1")
	router = netip.MustParseAddr("fe80::99")
)

// world is the stack, the wire and the log, in virtual time.
type world struct {
	t       *testing.T
	d       *daemon
	links   []life.Link
	sent    []string // when, and on which interface
	now     time.Time
	scripts []string
}

func (w *world) Send(p nd.Packet) error {
	if p.Dst != nd.AllRouters || p.HopLimit != 255 {
		w.t.Errorf("a solicitation to %v with hop limit %d", p.Dst, p.HopLimit)
	}
	m, err := ndp.ParseMessage(p.Data)
	if err != nil {
		w.t.Fatal(err)
	}
	if o := m.(*ndp.RouterSolicitation).Options; len(o) != 1 || !slices.Equal(o[0].(*ndp.LinkLayerAddress).Addr, ether) {
		w.t.Errorf("options %v", o)
	}
	w.sent = append(w.sent, fmt.Sprintf("%v en%d", w.now.Sub(epoch), p.If-2))
	return nil
}
func (w *world) Recv() (nd.Packet, error)   { return nd.Packet{}, errors.New("closed") }
func (w *world) Join(netip.Addr, int) error { return nil }
func (w *world) Close() error               { return nil }
func (w *world) Warnf(f string, a ...any)   { w.t.Errorf(f, a...) }
func (w *world) Debugf(f string, a ...any)  {}
func (w *world) Dumpf(string, ...any)       {}

func start(t *testing.T, line string) *world {
	t.Helper()
	o, err := parse("adDfFm1O:", strings.Fields(line))
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, now: epoch, links: []life.Link{
		{Name: "lo0", Index: 1, Loopback: true, Up: true},
		{Name: "en0", Index: 2, HW: ether, Up: true, Local: local, Own: []netip.Addr{local}},
		{Name: "en1", Index: 3, HW: ether},
	}}
	w.d = &daemon{options: *o, log: w, conn: w, links: func() ([]life.Link, error) { return w.links, nil }}
	w.d.script = func(i string) { w.scripts = append(w.scripts, i) }
	if err := w.d.configure(); err != nil {
		t.Fatal(err)
	}
	for _, s := range w.d.all {
		s.random = func(n time.Duration) time.Duration { return n / 2 }
	}
	w.refresh()
	return w
}

func (w *world) refresh() {
	w.t.Helper()
	if err := w.d.refresh(w.now); err != nil {
		w.t.Fatal(err)
	}
}

// run until so long after the epoch; what has been sent is said.
func (w *world) run(until time.Duration, want string) {
	w.t.Helper()
	end := epoch.Add(until)
	for {
		next := w.d.turn(w.now)
		if next.IsZero() || next.After(end) {
			break
		}
		w.now = next
	}
	w.now = end
	if got := strings.Join(w.sent, ", "); got != want {
		w.t.Errorf("until %v: sent %q, want %q", until, got, want)
	}
	w.sent = nil
}

func (w *world) advert(flags uint8) {
	m := nd.RouterAdvert{Flags: flags, Lifetime: 1800}
	w.d.take(w.now, nd.Packet{If: 2, Src: router, HopLimit: 255, Data: m.Append(nil)})
}

func TestNobodyAnswers(t *testing.T) {
	w := start(t, "en0 en1")
	w.run(time.Hour, "500ms en0, 4.5s en0, 8.5s en0")
	if over, _ := w.d.over(); over {
		t.Error("rtsold ends")
	}
	w.d.once, w.d.oneShot = true, true
	if over, nobody := w.d.over(); !over || nobody.Error() != "no router has answered on en0, en1" {
		t.Errorf("rtsol: %v, %v", over, nobody)
	}
}

func TestOnceEnds(t *testing.T) {
	w := start(t, "-1 en0")
	w.run(5*time.Second, "500ms en0, 4.5s en0")
	if over, _ := w.d.over(); over {
		t.Error("before the answer")
	}
	// What is no valid advertisement is no answer.
	m := nd.RouterAdvert{Lifetime: 1800}
	for _, p := range []nd.Packet{
		{If: 2, Src: router, HopLimit: 64, Data: m.Append(nil)},
		{If: 3, Src: router, HopLimit: 255, Data: m.Append(nil)},
		{If: 2, Src: local, HopLimit: 255, Data: m.Append(nil)}, // our own
		{If: 2, Src: netip.MustParseAddr("2001:db8::1"), HopLimit: 255, Data: m.Append(nil)},
	} {
		w.d.take(w.now, p)
	}
	if over, _ := w.d.over(); over {
		t.Error("with no valid answer")
	}
	w.advert(0)
	if over, nobody := w.d.over(); !over || nobody != nil {
		t.Errorf("after the answer: %v, %v", over, nobody)
	}
	w.run(time.Hour, "")
}

func TestLinkComesAndGoes(t *testing.T) {
	w := start(t, "en0")
	w.run(time.Second, "500ms en0")
	w.advert(0)
	w.run(time.Minute, "")
	w.links[1].Up = false
	w.refresh()
	w.run(2*time.Minute, "")
	// It comes back: its address is tried before it is used.
	w.links[1].Up, w.links[1].Local = true, netip.Addr{}
	w.refresh()
	w.run(3*time.Minute, "")
	w.links[1].Local = local
	w.refresh()
	w.refresh() // news of something else begins nothing anew
	w.run(4*time.Minute, "3m0.5s en0, 3m4.5s en0, 3m8.5s en0")
	w.links = w.links[:1]
	w.refresh()
	w.run(5*time.Minute, "")
}

func TestMobile(t *testing.T) {
	w := start(t, "-m en0")
	w.run(time.Second, "500ms en0")
	w.advert(0) // at 1 s
	w.run(62*time.Second, "1m1s en0")
	w.advert(0)
	w.run(3*time.Minute, "2m2s en0, 2m6s en0, 2m10s en0")
}

func TestScript(t *testing.T) {
	w := start(t, "-O /bin/true en0")
	for _, f := range []uint8{0, nd.Other, nd.Other, nd.Managed, nd.Other} {
		w.advert(f)
	}
	if strings.Join(w.scripts, " ") != "en0 en0" {
		t.Errorf("the script has run for %q", w.scripts)
	}
}

func TestEveryInterface(t *testing.T) {
	w := start(t, "-a")
	if len(w.d.all) != 2 || w.d.all[0].name != "en0" || w.d.all[1].name != "en1" {
		t.Errorf("%d interfaces", len(w.d.all))
	}
	var b strings.Builder
	for _, s := range w.d.all {
		s.dump(&b, epoch)
	}
	for _, want := range []string{"Interface en0\n  probe interval: disabled\n  interface status: active\n  rtsold status: delay\n",
		"Interface en1\n  probe interval: disabled\n  interface status: no carrier, or down\n  rtsold status: down\n"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("the dump lacks %q:\n%s", want, b.String())
		}
	}
}

func TestRefuses(t *testing.T) {
	for line, want := range map[string]string{
		"":         "an interface is missing, or -a",
		"-a en0":   "-a is every interface: none is named beside it",
		"-O x en0": "-O x: the path of the script begins with a slash",
		"-z":       "illegal option -- z",
	} {
		if _, err := parse("adDfFm1O:", strings.Fields(line)); err == nil || err.Error() != want {
			t.Errorf("%q: %v", line, err)
		}
	}
	for name, want := range map[string]string{
		"en7": "en7: there is no such interface: ifconfig -l lists them",
		"lo0": "lo0 is a loopback interface: no router is there",
	} {
		d := &daemon{options: options{ifaces: []string{name}}, links: func() ([]life.Link, error) {
			return []life.Link{{Name: "lo0", Loopback: true}}, nil
		}}
		if err := d.configure(); err == nil || err.Error() != want {
			t.Errorf("%s: %v", name, err)
		}
	}
}
