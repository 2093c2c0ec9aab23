package querier

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// bench is a link in virtual time.
type bench struct {
	testing.TB
	*Link
	now time.Time
	out []string
}

var (
	us    = netip.MustParseAddr("10.0.0.5")
	lower = netip.MustParseAddr("10.0.0.2")
	g1    = netip.MustParseAddr("239.0.0.1")
)

func src(n int) netip.Addr { return netip.AddrFrom4([4]byte{10, 1, byte(n >> 8), byte(n)}) }

func srcs(n ...int) (out []netip.Addr) {
	for _, i := range n {
		out = append(out, src(i))
	}
	return out
}

func newBench(t testing.TB) *bench {
	b := &bench{TB: t, Link: New(Default), now: time.Unix(1000, 0)}
	b.SetAddr(b.now, us)
	b.pass(time.Minute)
	b.expect("all", "31.25s all")
	return b
}

func (b *bench) pass(d time.Duration) {
	start := b.now
	end := b.now.Add(d)
	for {
		at, ok := b.Deadline()
		if !ok || at.After(end) {
			break
		}
		if at.After(b.now) {
			b.now = at
		}
		for _, q := range b.Expire(b.now) {
			s := "all"
			if q.Group.IsValid() {
				s = q.Group.String()[len("239.0.0."):]
				for _, a := range q.Sources {
					s += fmt.Sprint(" ", a.As4()[3])
				}
			}
			if q.Suppress {
				s += " S"
			}
			if d := b.now.Sub(start); d > 0 {
				s = d.String() + " " + s
			}
			b.out = append(b.out, s)
		}
	}
	b.now = end
}

func (b *bench) expect(want ...string) {
	b.Helper()
	if !slices.Equal(b.out, want) {
		b.Fatalf("asked:\n\t%s\nwant:\n\t%s", strings.Join(b.out, "\n\t"), strings.Join(want, "\n\t"))
	}
	b.out = nil
}

func (b *bench) report(typ uint8, sources ...int) {
	b.Report(b.now, 3, Record{typ, g1, srcs(sources...)})
}

// state is the group's: its mode, and of the sources those that are wanted and those that are not, each with the seconds left.
func (b *bench) state() string {
	g := b.groups[g1]
	if g == nil {
		return "none"
	}
	left := func(t time.Time) int { return int(t.Sub(b.now) / time.Second) }
	s := "in"
	if g.exclude {
		s = fmt.Sprintf("ex:%d", left(g.until))
	}
	for _, x := range g.sources {
		s += fmt.Sprintf(" %d", x.addr.As4()[3])
		if x.wanted() {
			s += fmt.Sprintf(":%d", left(x.until))
		}
	}
	return s
}

// The tables of RFC 3376 §6.4.1 and §6.4.2: 260 is the Group Membership Interval, 2 the Last Member Query Time. The states are
// made thirty seconds before.
func TestTransitions(t *testing.T) {
	in := func(b *bench) { b.report(IsInclude, 1, 2) }
	ex := func(b *bench) { b.report(IsInclude, 1, 2); b.report(IsExclude, 1, 2, 3, 4) } // X is 1 2, Y is 3 4
	for _, c := range []struct {
		from  func(*bench)
		typ   uint8
		with  []int
		want  string
		asked []string
	}{
		{in, IsInclude, []int{2, 3}, "in 1:230 2:260 3:260", nil},
		{in, IsExclude, []int{2, 3}, "ex:260 2:230 3", nil},
		{ex, IsInclude, []int{2, 3, 5}, "ex:230 1:230 2:260 3:260 4 5:260", nil},
		{ex, IsExclude, []int{2, 3, 5}, "ex:260 2:230 3 5:260", nil},
		{in, Allow, []int{2, 3}, "in 1:230 2:260 3:260", nil},
		{in, Block, []int{2, 3}, "in 1:230 2:2", []string{"1 2"}},
		{in, ToExclude, []int{2, 3}, "ex:260 2:2 3", []string{"1 2"}},
		{in, ToInclude, []int{2, 3}, "in 1:2 2:260 3:260", []string{"1 1"}},
		{ex, Allow, []int{2, 3, 5}, "ex:230 1:230 2:260 3:260 4 5:260", nil},
		{ex, Block, []int{2, 3, 5}, "ex:230 1:230 2:2 3 4 5:2", []string{"1 2 5"}},
		{ex, ToExclude, []int{2, 3, 5}, "ex:260 2:2 3 5:2", []string{"1 2 5"}},
		{ex, ToInclude, []int{2, 3, 5}, "ex:2 1:2 2:260 3:260 4 5:260", []string{"1", "1 1"}},
	} {
		b := newBench(t)
		b.SetAddr(b.now, us)
		c.from(b)
		b.pass(30 * time.Second)
		b.report(c.typ, c.with...)
		if got := b.state(); got != c.want {
			t.Errorf("type %d with %v: %s, want %s", c.typ, c.with, got, c.want)
		}
		b.pass(0)
		if !slices.Equal(b.out, c.asked) {
			t.Errorf("type %d with %v: asked %q, want %q", c.typ, c.with, b.out, c.asked)
		}
	}
}

// Nothing comes of nothing.
func TestNoGroup(t *testing.T) {
	b := newBench(t)
	b.report(Block, 1)
	b.report(ToInclude)
	b.report(IsInclude)
	b.report(Allow)
	b.report(7, 1)
	b.report(0, 1)
	if got := b.state(); got != "none" || len(b.Changed()) != 0 {
		t.Error(got)
	}
}

// The last one to leave is missed two seconds later; who stays answers, and the next question says so.
func TestLeave(t *testing.T) {
	b := newBench(t)
	b.report(IsExclude)
	if got := b.Changed(); !slices.Equal(got, []netip.Addr{g1}) || !b.Wants(g1, src(1)) {
		t.Errorf("%v", got)
	}
	b.report(ToInclude)
	b.pass(1900 * time.Millisecond)
	b.expect("1", "1s 1")
	if !b.Wants(g1, src(1)) {
		t.Error("it is gone too soon")
	}
	b.Changed()
	b.pass(200 * time.Millisecond)
	b.expect()
	if b.Wants(g1, src(1)) || len(b.Changed()) != 1 || b.state() != "none" {
		t.Error("it is still there")
	}
	b.report(IsExclude)
	b.report(ToInclude)
	b.pass(100 * time.Millisecond)
	b.report(IsExclude) // another one
	b.pass(10 * time.Second)
	b.expect("1", "900ms 1 S")
	if got := b.state(); got != "ex:250" {
		t.Error(got)
	}
	b.pass(249 * time.Second)
	if got := b.state(); got != "ex:1" {
		t.Error(got)
	}
	b.pass(2 * time.Second)
	if got := b.state(); got != "none" {
		t.Error(got)
	}
}

// Of sources: those that are wanted go with their timers, and when nobody excludes any more, those that are wanted stay.
func TestSources(t *testing.T) {
	b := newBench(t)
	b.report(IsInclude, 1, 2)
	b.report(Block, 1, 2)
	b.pass(time.Second / 2)
	b.report(IsInclude, 2)
	b.pass(time.Second)
	b.expect("1 1 2", "500ms 1 1", "500ms 1 2 S")
	b.pass(5 * time.Second)
	if got := b.state(); got != "in 2:254" {
		t.Error(got)
	}
	if b.Wants(g1, src(1)) || !b.Wants(g1, src(2)) || b.Wants(g1, src(3)) {
		t.Error("include 2")
	}
	b.report(ToExclude, 2, 3)
	b.pass(time.Second / 2)
	b.report(Allow, 2)
	if got := b.state(); got != "ex:259 2:260 3" {
		t.Error(got)
	}
	if !b.Wants(g1, src(1)) || !b.Wants(g1, src(2)) || b.Wants(g1, src(3)) {
		t.Error("exclude 3")
	}
	if inc, s := b.Filter(g1); inc || !slices.Equal(s, srcs(3)) {
		t.Error(inc, s)
	}
	b.pass(259*time.Second + time.Second/2)
	if got := b.state(); got != "in 2:0" {
		t.Error(got)
	}
	if inc, s := b.Filter(g1); !inc || !slices.Equal(s, srcs(2)) {
		t.Error(inc, s)
	}
}

// A router with a lower address asks; what it asks lowers our timers, and when it is silent we ask again.
func TestElection(t *testing.T) {
	b := newBench(t)
	b.report(IsExclude)
	b.Changed()
	b.Hear(b.now, netip.MustParseAddr("10.0.0.9"), Query{MaxResp: 10 * time.Second})
	b.Hear(b.now, netip.IPv4Unspecified(), Query{MaxResp: 10 * time.Second}) // a switch (RFC 4541 §2.1.1)
	if !b.Querier() {
		t.Fatal("one that does not count has won")
	}
	b.Hear(b.now, lower, Query{MaxResp: 10 * time.Second, Robustness: 3, Interval: 20 * time.Second})
	if b.Querier() || b.Other() != lower || len(b.Changed()) != 1 {
		t.Fatal("we are still the querier")
	}
	b.report(ToInclude) // is the other one's business
	b.pass(10 * time.Second)
	b.expect()
	if got := b.state(); got != "ex:250" {
		t.Error(got)
	}
	b.Hear(b.now, lower, Query{Group: g1, MaxResp: time.Second, Suppress: true})
	if got := b.state(); got != "ex:250" {
		t.Error(got)
	}
	b.Hear(b.now, lower, Query{Group: g1, MaxResp: time.Second})
	if got := b.state(); got != "ex:3" { // three times a second
		t.Error(got)
	}
	b.report(IsExclude)
	if got := b.state(); got != "ex:70" { // as the querier has it: 3 × 20 s + 10 s
		t.Error(got)
	}
	b.report(IsInclude, 1)
	b.Hear(b.now, lower, Query{Group: g1, Sources: srcs(1, 2), MaxResp: time.Second})
	if got := b.state(); got != "ex:70 1:3" {
		t.Error(got)
	}
	b.pass(64 * time.Second)
	b.expect()
	b.pass(2 * time.Second)
	b.expect("1s all")
	if !b.Querier() || b.conf != Default {
		t.Error("we are not the querier again")
	}
}

// A host of an older version takes sources, or leaving, away from the others (RFC 3376 §7.3.2).
func TestOlderHosts(t *testing.T) {
	b := newBench(t)
	b.report(IsExclude, 1)
	b.Report(b.now, 2, Record{IsExclude, g1, nil})
	b.report(Block, 2)
	b.report(ToExclude, 3)
	if got := b.state(); got != "ex:260" {
		t.Error(got)
	}
	b.Report(b.now, 2, Record{ToInclude, g1, nil}) // a leave
	if got := b.state(); got != "ex:2" {
		t.Error(got)
	}
	b.Report(b.now, 1, Record{IsExclude, g1, nil})
	b.Report(b.now, 2, Record{ToInclude, g1, nil})
	if got := b.state(); got != "ex:260" {
		t.Error(got)
	}
	b.pass(259 * time.Second)
	b.report(IsExclude)
	b.pass(2 * time.Second) // the old ones have been forgotten
	b.report(ToExclude, 3)
	if got := b.state(); got != "ex:260 3:2" {
		t.Error(got)
	}
}

func TestLinkDown(t *testing.T) {
	b := newBench(t)
	b.report(IsExclude)
	b.Changed()
	b.SetAddr(b.now, netip.Addr{})
	if _, ok := b.Deadline(); ok || b.Querier() || b.state() != "none" || len(b.Changed()) != 1 || b.Expire(b.now.Add(time.Hour)) != nil {
		t.Error("the link is still there")
	}
	b.report(IsExclude)
	if b.state() != "none" {
		t.Error("a report of nowhere")
	}
	b.SetAddr(b.now, us)
	b.pass(time.Second)
	b.expect("all")
}

func TestBounds(t *testing.T) {
	b := newBench(t)
	var many []netip.Addr
	for i := range 1000 {
		many = append(many, src(i))
	}
	b.Report(b.now, 3, Record{IsInclude, g1, many})
	if n := len(b.groups[g1].sources); n != MaxSources || b.Refused != 1 {
		t.Errorf("%d sources, refused %d", n, b.Refused)
	}
	b.Report(b.now, 3, Record{Block, g1, many})
	b.pass(0)
	if len(b.out) != MaxSources/perQuery {
		t.Errorf("%d queries", len(b.out))
	}
	for i := range 10000 {
		b.Report(b.now, 3, Record{IsExclude, netip.AddrFrom4([4]byte{239, 1, byte(i >> 8), byte(i)}), nil})
	}
	if n := len(b.Groups()); n != MaxGroups {
		t.Errorf("%d groups", n)
	}
}

// Whatever comes: timers end, nothing that nobody wants is kept, and the querier's silence is bounded.
func TestAlwaysEnds(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		b := newBench(t)
		for range rapid.IntRange(1, 40).Draw(rt, "steps") {
			switch rapid.IntRange(0, 5).Draw(rt, "step") {
			case 0:
				b.pass(time.Duration(rapid.IntRange(0, 300000).Draw(rt, "ms")) * time.Millisecond)
			case 1:
				b.Hear(b.now, rapid.SampledFrom([]netip.Addr{lower, us, src(1)}).Draw(rt, "querier"),
					Query{Group: rapid.SampledFrom([]netip.Addr{{}, g1}).Draw(rt, "group"), MaxResp: time.Second})
			default:
				typ := rapid.Uint8Range(0, 7).Draw(rt, "type")
				b.Report(b.now, rapid.IntRange(1, 3).Draw(rt, "version"), Record{typ, g1, srcs(rapid.SliceOfN(rapid.IntRange(1, 5), 0, 5).Draw(rt, "sources")...)})
			}
			if g := b.groups[g1]; g != nil {
				if !g.exclude && len(g.sources) == 0 {
					rt.Fatal("a group that nobody wants")
				}
				if !slices.IsSortedFunc(g.sources, func(x, y source) int { return x.addr.Compare(y.addr) }) {
					rt.Fatal("the sources are out of order")
				}
			}
		}
		b.pass(time.Hour)
		if b.state() != "none" {
			rt.Fatalf("left: %s", b.state())
		}
		b.out = nil
		b.pass(10 * time.Minute)
		if n := len(b.out); n < 4 || n > 5 {
			rt.Fatalf("%d queries in ten minutes", n)
		}
	})
}
