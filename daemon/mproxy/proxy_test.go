package mproxy

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"ionet/client"
	"ionet/daemon/mproxy/querier"
	"ionet/protocol"
)

// fake is the world around a proxy, kept as text.
type fake struct {
	said    []string
	packets map[flow]uint64
}

func (f *fake) ask(link int, q querier.Query) {
	s := fmt.Sprintf("link %d: who wants", link)
	if q.Group.IsValid() {
		s += " " + q.Group.String()
	}
	f.said = append(f.said, s)
}
func (f *fake) join(g netip.Addr, x filter) {
	f.said = append(f.said, fmt.Sprintf("want %v %s", g, x))
}
func (f *fake) route(k flow, e *entry) {
	f.said = append(f.said, fmt.Sprintf("%v to %v: %d to %v", k.origin, k.group, e.parent, e.out))
}
func (f *fake) unroute(k flow) {
	f.said = append(f.said, fmt.Sprintf("%v to %v: none", k.origin, k.group))
}
func (f *fake) counts() map[flow]uint64 { return f.packets }

// bench is a proxy with three downstream links, in virtual time.
type bench struct {
	*testing.T
	*proxy
	f   *fake
	now time.Time
}

func newBench(t *testing.T) *bench {
	b := &bench{T: t, f: &fake{packets: map[flow]uint64{}}, now: time.Unix(1000, 0)}
	b.proxy = newProxy(b.f, querier.Default, 3)
	for i := range b.links {
		b.setAddr(b.now, i+1, netip.AddrFrom4([4]byte{10, 0, byte(i + 1), 5}))
	}
	b.pass(40 * time.Second)
	b.expect("link 1: who wants", "link 2: who wants", "link 3: who wants", "link 1: who wants", "link 2: who wants", "link 3: who wants")
	return b
}

func (b *bench) pass(d time.Duration) {
	for end := b.now.Add(d); ; {
		next := b.turn(b.now)
		if next.After(end) || next.IsZero() {
			b.now = end
			return
		}
		if next.After(b.now) {
			b.now = next
		}
	}
}

// expect compares what has been done, but for general queries after the first ones.
func (b *bench) expect(want ...string) {
	b.Helper()
	b.turn(b.now)
	got := b.f.said
	if len(want) == 0 || !strings.HasSuffix(want[0], "who wants") {
		got = slices.DeleteFunc(got, func(s string) bool { return strings.HasSuffix(s, "who wants") })
	}
	if !slices.Equal(got, want) {
		b.Fatalf("done:\n\t%s\nwant:\n\t%s", strings.Join(got, "\n\t"), strings.Join(want, "\n\t"))
	}
	b.f.said = nil
}

func (b *bench) report(link int, typ uint8, group string, sources ...string) {
	var s []netip.Addr
	for _, a := range sources {
		s = append(s, ip(a))
	}
	b.take(b.now, link, netip.AddrFrom4([4]byte{10, 0, byte(link), 7}), message{version: 3, records: []querier.Record{{Type: typ, Group: ip(group), Sources: s}}})
}

func (b *bench) comes(vif int, origin, group string) {
	b.asked(b.now, vif, flow{ip(origin), ip(group)})
}

// What one link wants is wanted upstream, goes there, and ends two seconds after it has left.
func TestProxy(t *testing.T) {
	b := newBench(t)
	b.comes(0, "9.9.9.9", "239.1.1.1")
	b.expect("9.9.9.9 to 239.1.1.1: 0 to []")
	b.report(2, querier.ToExclude, "239.1.1.1")
	b.expect("want 239.1.1.1 of everybody", "9.9.9.9 to 239.1.1.1: 0 to [2]")
	b.report(1, querier.ToExclude, "239.1.1.1")
	b.expect("9.9.9.9 to 239.1.1.1: 0 to [1 2]")
	b.comes(1, "10.0.1.9", "239.1.1.1") // up, and to the others
	b.comes(3, "10.0.3.9", "239.2.2.2")
	b.comes(9, "10.0.3.9", "239.2.2.2")
	b.expect("10.0.1.9 to 239.1.1.1: 1 to [0 2]", "10.0.3.9 to 239.2.2.2: 3 to [0]")
	b.report(2, querier.ToInclude, "239.1.1.1")
	b.expect("link 2: who wants 239.1.1.1")
	b.pass(1990 * time.Millisecond)
	b.expect("link 2: who wants 239.1.1.1")
	b.pass(20 * time.Millisecond)
	b.expect("9.9.9.9 to 239.1.1.1: 0 to [1]", "10.0.1.9 to 239.1.1.1: 1 to [0]")
	b.report(1, querier.ToInclude, "239.1.1.1")
	b.pass(3 * time.Second)
	b.expect("link 1: who wants 239.1.1.1", "link 1: who wants 239.1.1.1", "want 239.1.1.1 of nobody", "9.9.9.9 to 239.1.1.1: 0 to []")
}

// Upstream is told what all links together want (RFC 3376 §3.2).
func TestMerge(t *testing.T) {
	b := newBench(t)
	b.report(1, querier.Allow, "232.1.1.1", "1.1.1.1", "2.2.2.2")
	b.expect("want 232.1.1.1 of 1.1.1.1 2.2.2.2")
	b.report(2, querier.Allow, "232.1.1.1", "2.2.2.2", "3.3.3.3")
	b.expect("want 232.1.1.1 of 1.1.1.1 2.2.2.2 3.3.3.3")
	b.comes(0, "2.2.2.2", "232.1.1.1")
	b.comes(0, "3.3.3.3", "232.1.1.1")
	b.comes(0, "4.4.4.4", "232.1.1.1")
	b.expect("2.2.2.2 to 232.1.1.1: 0 to [1 2]", "3.3.3.3 to 232.1.1.1: 0 to [2]", "4.4.4.4 to 232.1.1.1: 0 to []")
	b.report(3, querier.IsExclude, "232.1.1.1", "3.3.3.3", "4.4.4.4", "5.5.5.5")
	b.expect("want 232.1.1.1 of everybody but 4.4.4.4 5.5.5.5", "2.2.2.2 to 232.1.1.1: 0 to [1 2 3]")
	b.report(2, querier.IsExclude, "232.1.1.1", "5.5.5.5")
	b.expect("want 232.1.1.1 of everybody but 5.5.5.5", "4.4.4.4 to 232.1.1.1: 0 to [2]")
}

// A link that another router serves gets nothing of us (RFC 4605 §4.2), until that is silent.
func TestOtherQuerier(t *testing.T) {
	b := newBench(t)
	b.report(2, querier.ToExclude, "239.1.1.1")
	b.expect("want 239.1.1.1 of everybody")
	b.comes(0, "9.9.9.9", "239.1.1.1")
	b.expect("9.9.9.9 to 239.1.1.1: 0 to [2]")
	b.take(b.now, 2, ip("10.0.2.1"), message{version: 3, query: &querier.Query{MaxResp: 10 * time.Second, Robustness: 2, Interval: 125 * time.Second}})
	b.expect("9.9.9.9 to 239.1.1.1: 0 to []")
	b.f.packets[flow{ip("9.9.9.9"), ip("239.1.1.1")}]++
	b.pass(100 * time.Second)
	b.f.packets[flow{ip("9.9.9.9"), ip("239.1.1.1")}]++
	b.report(2, querier.IsExclude, "239.1.1.1")
	b.pass(154 * time.Second)
	b.expect()
	b.pass(2 * time.Second)
	b.expect("9.9.9.9 to 239.1.1.1: 0 to [2]")
	b.setAddr(b.now, 2, netip.Addr{}) // and a link that goes down wants nothing
	b.expect("want 239.1.1.1 of nobody", "9.9.9.9 to 239.1.1.1: 0 to []")
}

// Entries that nothing comes by any more go.
func TestIdle(t *testing.T) {
	b := newBench(t)
	busy := flow{ip("9.9.9.9"), ip("239.1.1.1")}
	b.comes(0, "9.9.9.9", "239.1.1.1")
	b.comes(0, "9.9.9.8", "239.1.1.1")
	b.expect("9.9.9.9 to 239.1.1.1: 0 to []", "9.9.9.8 to 239.1.1.1: 0 to []")
	for range 10 {
		b.f.packets[busy]++
		b.pass(time.Minute)
	}
	b.expect("9.9.9.8 to 239.1.1.1: none")
	b.pass(5 * time.Minute)
	b.expect("9.9.9.9 to 239.1.1.1: none")
	if next := b.turn(b.now); !b.sweep.IsZero() || next.IsZero() {
		t.Error("idle entries are looked for although there are none")
	}
	for i := range maxEntries + 5 {
		b.asked(b.now, 0, flow{netip.AddrFrom4([4]byte{9, 9, byte(i >> 8), byte(i)}), ip("239.1.1.1")})
	}
	if len(b.entries) != maxEntries || b.refused != 5 {
		t.Errorf("%d entries, %d refused", len(b.entries), b.refused)
	}
}

// sock is a socket whose memberships are kept.
type sock struct {
	t      *testing.T
	number int
	log    *[]string
	closed bool
}

var optionNames = map[int]string{protocol.IPAddMembership: "join", protocol.IPDropMembership: "leave", protocol.IPAddSourceMembership: "of",
	protocol.IPDropSourceMembership: "not of", protocol.IPBlockSource: "block", protocol.IPUnblockSource: "unblock",
	protocol.MCastJoinGroup: "join", protocol.MCastLeaveGroup: "leave", protocol.MCastJoinSourceGroup: "of", protocol.MCastLeaveSourceGroup: "not of",
	protocol.MCastBlockSource: "block", protocol.MCastUnblockSource: "unblock"}

func (s *sock) SetOption(_, name int, v []byte) error {
	if s.closed {
		return errors.New("it is closed")
	}
	var a []string
	if len(v) > 12 {
		for v = v[4:]; len(v) > 0; v = v[28:] {
			a = append(a, netip.AddrFrom16([16]byte(v[8:24])).String())
		}
	} else {
		for ; len(v) > 4; v = v[4:] {
			a = append(a, netip.AddrFrom4([4]byte(v)).String())
		}
	}
	*s.log = append(*s.log, fmt.Sprintf("%d %s %s", s.number, optionNames[name], strings.Join(a, " ")))
	return nil
}

func (s *sock) Close() error { s.closed = true; return nil }

// Memberships change as little as they can, and a change of the mode is made by another socket before the old one leaves.
func TestMembers(t *testing.T) {
	for _, v6 := range []bool{false, true} {
		g, one, two, three := "239.1.1.1", "1.1.1.1", "2.2.2.2", "3.3.3.3"
		if v6 {
			g, one, two, three = "ff0e::1", "2001:db8::1", "2001:db8::2", "2001:db8::3"
		}
		var log []string
		n := 0
		m := &members{v6: v6}
		m.openSocket = func() (socketOption, error) { n++; return &sock{t: t, number: n, log: &log}, nil }
		m.on(iface{four: ip("10.0.0.1"), index: 2})
		set := func(f filter, want ...string) {
			t.Helper()
			if err := m.set(ip(g), f); err != nil {
				t.Error(err)
			}
			for i := range want {
				want[i] = strings.NewReplacer("G", g, "A", one, "B", two, "C", three).Replace(want[i])
			}
			if !slices.Equal(log, want) {
				t.Errorf("done %q, want %q", log, want)
			}
			log = nil
		}
		set(filter{include: true})
		set(filter{include: true, sources: ips(one + " " + two)}, "1 of G A", "1 of G B")
		set(filter{include: true, sources: ips(three)}, "1 of G C", "1 not of G A", "1 not of G B")
		set(filter{}, "2 join G", "1 leave G")
		set(filter{sources: ips(one)}, "2 block G A")
		set(filter{sources: ips(two)}, "2 block G B", "2 unblock G A")
		set(filter{include: true, sources: ips(one)}, "1 of G A", "2 leave G")
		var many []netip.Addr
		for i := range 65 {
			many = append(many, netip.AddrFrom4([4]byte{5, 5, 5, byte(i)}))
		}
		set(filter{include: true, sources: many}, "2 join G", "1 leave G") // more than can be said
		set(filter{include: true}, "2 leave G")
		for i := range 2 * perSocket {
			a := netip.AddrFrom4([4]byte{239, 2, byte(i >> 8), byte(i)})
			if v6 {
				a = netip.AddrFrom16([16]byte{0xff, 0x0e, 14: byte(i >> 8), 15: byte(i)})
			}
			if err := m.set(a, filter{}); err != nil {
				t.Fatal(err)
			}
		}
		if n != 2 {
			t.Errorf("%d sockets", n)
		}
		m.reset()
		log = nil
		set(filter{}, "3 join G")
	}
}

func TestParse(t *testing.T) {
	for line, want := range map[string]string{
		"en0 en1":         "",
		"-46dDfo en0 en1": "",
		"-q 30 -r 3 a b":  "",
		"en0":             "an upstream and a downstream interface are wanted",
		"en0 en1 en0":     "en0 stands there twice",
		"-q 10 a b":       "-q 10: hosts are asked every 11 to 31744 seconds",
		"-r 8 a b":        "-r 8: the robustness is 1 to 7",
		"-x a b":          "illegal option -- x",
		strings.Repeat("x ", 1) + "1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31 32": "33 interfaces: the stack takes 32",
	} {
		_, err := parse(strings.Fields(line))
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v, want %s", line, err, want)
		}
	}
}

var _ socketOption = (*client.Socket)(nil)
