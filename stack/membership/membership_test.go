package membership

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"ionet/stack/mib"
	"ionet/stack/netif"
	"ionet/stack/packet"
)

// bench is a set in virtual time whose messages are kept as text.
type bench struct {
	testing.TB
	env  *netif.Env
	ifp  *netif.Interface
	set  *Set
	now  int64
	seed uint32
	room int
	out  []string
}

var names = [...]string{"", "is-in", "is-ex", "to-in", "to-ex", "allow", "block"}

func (*bench) Reported(_ *netif.Interface, g netip.Addr) bool { return g != g1(0) }
func (b *bench) Room(*netif.Interface) int {
	return b.room
}

func (b *bench) Report(_ *netif.Work, _ *netif.Interface, recs []Record) {
	var s []string
	for _, r := range recs {
		t := fmt.Sprintf("%s(%d", names[r.Type], r.Group.As4()[3])
		for _, a := range r.Sources {
			t += fmt.Sprintf(" %d", a.As4()[3])
		}
		s = append(s, t+")")
	}
	b.out = append(b.out, strings.Join(s, " "))
}

func (b *bench) Old(_ *netif.Work, _ *netif.Interface, g netip.Addr, v int, leave bool) {
	b.out = append(b.out, fmt.Sprintf("v%d %d leave=%v", v, g.As4()[3], leave))
}

func newBench(t testing.TB) *bench {
	b := &bench{TB: t, now: second, seed: 1, room: 1000}
	b.env = &netif.Env{Pool: packet.NewPool(1 << 20), MIB: mib.NewValues(), Now: func() int64 { return b.now },
		Rand32: func() uint32 { b.seed = b.seed*1664525 + 1013904223; return b.seed }}
	b.env.Wheel.Init(b.now, nil)
	b.ifp = netif.New(netif.Config{Name: "en0", Type: netif.TypeEther, Flags: netif.FlagUp | netif.FlagRunning})
	if err := b.env.Ifs.Add(b.ifp); err != nil {
		t.Fatal(err)
	}
	b.set = New(b.env, Config{Messages: b, Newest: 3, AddrLen: 4})
	t.Cleanup(func() {
		b.set.Detach(b.ifp)
		if n := b.env.Wheel.Armed(); n != 0 {
			t.Errorf("%d timers are still armed", n)
		}
		if n := b.ifp.Groups(); n != 0 {
			t.Errorf("the link still listens to %d groups", n)
		}
	})
	return b
}

func (b *bench) do(f func(w *netif.Work)) {
	w := b.env.Begin(b.now)
	f(w)
	w.End()
}

func (b *bench) pass(d time.Duration) {
	end := b.now + int64(d)
	for at, ok := b.env.Wheel.Next(); ok && at <= end; at, ok = b.env.Wheel.Next() {
		b.now = max(b.now, at)
		b.do(func(w *netif.Work) { b.env.Wheel.Advance(b.now, w) })
	}
	b.now = end
}

func (b *bench) expect(want ...string) {
	b.Helper()
	if !slices.Equal(b.out, want) {
		b.Fatalf("said:\n\t%s\nwant:\n\t%s", strings.Join(b.out, "\n\t"), strings.Join(want, "\n\t"))
	}
	b.out = nil
}

func g1(n byte) netip.Addr  { return netip.AddrFrom4([4]byte{239, 0, 0, n}) }
func src(n byte) netip.Addr { return netip.AddrFrom4([4]byte{10, 0, 0, n}) }

func (b *bench) socket() *Socket {
	s := &Socket{}
	s.Init(b.set)
	return s
}

func (b *bench) ok(f func(w *netif.Work) error) {
	b.Helper()
	b.do(func(w *netif.Work) {
		if err := f(w); err != nil {
			b.Fatal(err)
		}
	})
}

// A change while another one is still being repeated loses nothing of either
// (RFC 3376 §5.1).
func TestChangesAreMerged(t *testing.T) {
	b := newBench(t)
	s := b.socket()
	source := func(n byte, c Change) {
		t.Helper()
		b.ok(func(w *netif.Work) error { return s.Source(w, b.ifp, g1(1), src(n), c) })
	}
	source(1, AddSource)
	source(2, AddSource)
	b.expect("allow(1 1)", "allow(1 1 2)")
	b.pass(10 * time.Second)
	b.expect("allow(1 2)")
	source(3, AddSource)
	source(3, DropSource) // said anew: it is blocked by now
	source(1, DropSource)
	b.expect("allow(1 3)", "block(1 3)", "block(1 1 3)")
	b.pass(10 * time.Second)
	b.expect("block(1 1)")

	u := b.socket() // one that wants all turns the interface over; the mode comes with everything
	b.ok(func(w *netif.Work) error { return u.Join(w, b.ifp, g1(1)) })
	b.ok(func(w *netif.Work) error { return u.Source(w, b.ifp, g1(1), src(9), BlockSource) })
	b.expect("to-ex(1)", "to-ex(1 9)")
	b.pass(10 * time.Second)
	b.expect("block(1 9)")
	b.do(u.Close)
	b.pass(10 * time.Second)
	b.expect("to-in(1 2)", "to-in(1 2)")
	b.do(s.Close)
	b.pass(10 * time.Second)
	b.expect("block(1 2)", "block(1 2)")
}

// A general query is answered for all groups at once, unless a sooner answer is
// on its way; one about a group by that group; one about sources by those.
func TestQueries(t *testing.T) {
	b := newBench(t)
	b.do(func(w *netif.Work) {
		for i := range byte(4) {
			b.set.Join(w, b.ifp, g1(i), nil)
		}
	})
	b.pass(10 * time.Second)
	b.out = nil
	ask := func(d time.Duration, g netip.Addr, sources ...netip.Addr) {
		b.do(func(w *netif.Work) {
			b.set.Query(w, b.ifp, Query{Version: 3, Delay: int64(d), Group: g, Sources: sources})
		})
	}
	ask(time.Hour, netip.Addr{})
	ask(time.Second, netip.Addr{}) // sooner
	ask(time.Hour, netip.Addr{})
	b.pass(time.Second)
	b.expect("is-ex(1) is-ex(2) is-ex(3)")
	b.pass(time.Hour)
	b.expect()

	ask(time.Second, g1(2), src(1))
	ask(time.Hour, g1(2), src(2), src(1)) // what both want, as soon as the one wants it
	ask(time.Second, g1(9))
	b.pass(time.Second)
	b.expect("is-in(2 1 2)")
	ask(time.Second, g1(2), src(1))
	ask(time.Second, g1(2))
	b.pass(time.Second)
	b.expect("is-ex(2)")
	ask(time.Hour, g1(2))
	ask(time.Second, netip.Addr{}) // which says that too
	b.pass(2 * time.Hour)
	b.expect("is-ex(1) is-ex(2) is-ex(3)")
}

// While an older router is there, its version is spoken, and a report that
// another host has sent is one less to send (RFC 3376 §7.2).
func TestOlderRouters(t *testing.T) {
	b := newBench(t)
	b.do(func(w *netif.Work) { b.set.Join(w, b.ifp, g1(1), nil) })
	b.expect("to-ex(1)")
	b.do(func(w *netif.Work) { b.set.Query(w, b.ifp, Query{Version: 2, Delay: second, Group: g1(9)}) })
	b.pass(20 * time.Second)
	b.expect() // the repetition was not meant for it
	b.do(func(w *netif.Work) { b.set.Join(w, b.ifp, g1(2), nil) })
	b.expect("v2 2 leave=false")
	b.pass(20 * time.Second)
	b.expect("v2 2 leave=false")
	heard := false
	b.do(func(w *netif.Work) {
		b.set.Query(w, b.ifp, Query{Version: 2, Delay: 10 * second})
		heard = b.set.Heard(w, b.ifp, g1(2))
		b.set.Leave(w, b.ifp, g1(2), nil) // whose latest report was another's
	})
	b.pass(20 * time.Second)
	b.expect("v2 1 leave=false")
	if !heard {
		t.Error("a report about a group of ours is taken for another's")
	}
	b.do(func(w *netif.Work) { b.set.Query(w, b.ifp, Query{Version: 1, Delay: second}) })
	b.pass(time.Second)
	b.expect("v1 1 leave=false")
	b.pass(300 * time.Second)
	b.do(func(w *netif.Work) { b.set.Leave(w, b.ifp, g1(1), nil) })
	b.pass(20 * time.Second)
	b.expect("to-in(1)", "to-in(1)")
}

// What does not fit into a report goes into the next; a list of what is not
// wanted is cut off, since a part of it in another record would say that the
// rest is wanted (RFC 3376 §4.2.16).
func TestManySources(t *testing.T) {
	b := newBench(t)
	b.room = 8 + 3*4
	s, u := b.socket(), b.socket()
	var five []netip.Addr
	for i := range byte(5) {
		five = append(five, src(i+1))
	}
	b.ok(func(w *netif.Work) error { return s.SetFilter(w, b.ifp, g1(1), true, five) })
	b.expect("allow(1 1 2 3)", "allow(1 4 5)")
	b.pass(10 * time.Second)
	b.expect("allow(1 1 2 3)", "allow(1 4 5)")
	b.ok(func(w *netif.Work) error { return s.SetFilter(w, b.ifp, g1(1), true, nil) })
	b.pass(10 * time.Second)
	b.expect("block(1 1 2 3)", "block(1 4 5)", "block(1 1 2 3)", "block(1 4 5)")
	b.ok(func(w *netif.Work) error { return u.SetFilter(w, b.ifp, g1(2), false, five) })
	b.expect("to-ex(2 1 2 3)")
	b.do(u.Close)
	b.do(s.Close)
}

// An interface that can be heard only now says everything.
func TestReady(t *testing.T) {
	b := newBench(t)
	b.ifp.SetFlags(0, netif.FlagUp)
	s := b.socket()
	b.do(func(w *netif.Work) {
		b.set.Join(w, b.ifp, g1(0), nil)
		b.set.Join(w, b.ifp, g1(1), nil)
	})
	b.ok(func(w *netif.Work) error { return s.Source(w, b.ifp, g1(2), src(1), AddSource) })
	b.pass(10 * time.Second)
	b.expect()
	b.do(func(w *netif.Work) { b.set.Ready(w, b.ifp) })
	b.expect()
	b.ifp.SetFlags(netif.FlagUp, 0)
	b.do(func(w *netif.Work) { b.set.Ready(w, b.ifp) })
	b.expect("to-ex(1) allow(2 1)")
	b.pass(10 * time.Second)
	b.expect("to-ex(1)", "allow(2 1)")
	b.do(s.Close)
}
