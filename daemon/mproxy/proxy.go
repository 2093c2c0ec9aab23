// Package mproxy is the IGMP and MLD proxying daemon (RFC 4605): what the hosts of its
// downstream links want it wants upstream, and has the stack forward it.
//
// proxy is the state machine of one version of IP, over that of each link (package
// querier). It is passive: whoever owns it hands in the time and what has come, and
// does what it wants done ([outside]). message.go are the messages, system.go is the
// stack, serve.go the daemon.
package mproxy

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"time"

	"ionet/daemon/mproxy/querier"
)

const (
	// upstream is the number of the upstream interface; the downstream ones follow.
	upstream = 0
	// idleTime is how long an entry of the forwarding cache is kept that no packet came by.
	idleTime = 3 * time.Minute
	// maxEntries bounds them; one more is not made, and the stack asks again.
	maxEntries = 16384
)

// filter is what is wanted of a group: the sources, or all but these. To include none is to want nothing.
type filter struct {
	include bool
	sources []netip.Addr
}

func (f filter) nothing() bool { return f.include && len(f.sources) == 0 }

func (f filter) equal(o filter) bool {
	return f.include == o.include && slices.Equal(f.sources, o.sources)
}

// outside is what the proxy has done.
type outside interface {
	// ask sends a query on a downstream link.
	ask(link int, q querier.Query)
	// join has the upstream router hear what we want of a group.
	join(group netip.Addr, f filter)
	// route makes or changes an entry of the forwarding cache, unroute takes it away.
	route(k flow, e *entry)
	unroute(k flow)
	// counts are how many packets came by each entry.
	counts() map[flow]uint64
}

// flow is the packets of a source to a group.
type flow struct{ origin, group netip.Addr }

// entry is where they come from, and where they go.
type entry struct {
	parent  int
	out     []int
	packets uint64    // at the last look
	since   time.Time // when more of them were seen
}

// proxy is one family's proxy.
type proxy struct {
	out     outside
	links   []*querier.Link // number 1 and on
	wanted  map[netip.Addr]filter
	entries map[flow]*entry
	sweep   time.Time // when idle entries are looked for; zero: there are none

	refused uint64 // entries beyond the bound
}

func newProxy(out outside, c querier.Config, links int) *proxy {
	p := &proxy{out: out, wanted: map[netip.Addr]filter{}, entries: map[flow]*entry{}}
	for range links {
		p.links = append(p.links, querier.New(c))
	}
	return p
}

// setAddr says which address we have on a downstream link; invalid: the link is down.
func (p *proxy) setAddr(now time.Time, link int, a netip.Addr) { p.links[link-1].SetAddr(now, a) }

// take is a message of a downstream link.
func (p *proxy) take(now time.Time, link int, from netip.Addr, m message) {
	l := p.links[link-1]
	if m.query != nil {
		l.Hear(now, from, *m.query)
		return
	}
	for _, r := range m.records {
		l.Report(now, m.version, r)
	}
}

// asked is for a packet that the stack knows no way for.
func (p *proxy) asked(now time.Time, vif int, k flow) {
	if vif > len(p.links) {
		return
	}
	e := p.entries[k]
	if e == nil {
		if len(p.entries) >= maxEntries {
			p.refused++
			return
		}
		e = &entry{}
		p.entries[k] = e
	}
	*e = entry{parent: vif, out: p.way(vif, k), since: now}
	p.out.route(k, e)
	if p.sweep.IsZero() {
		p.sweep = now.Add(idleTime)
	}
}

// way is where packets that come by a vif go: to the links that we serve and where they are wanted, and upstream if they are from
// below (RFC 4605 §4.2).
func (p *proxy) way(parent int, k flow) (out []int) {
	if parent != upstream {
		out = append(out, upstream)
	}
	for i, l := range p.links {
		if vif := i + 1; vif != parent && l.Querier() && l.Wants(k.group, k.origin) {
			out = append(out, vif)
		}
	}
	return out
}

// turn does what is due and answers when the next thing is.
func (p *proxy) turn(now time.Time) (next time.Time) {
	first := func(t time.Time) {
		if next.IsZero() || t.Before(next) {
			next = t
		}
	}
	changed := map[netip.Addr]bool{}
	for i, l := range p.links {
		for _, q := range l.Expire(now) {
			p.out.ask(i+1, q)
		}
		for _, g := range l.Changed() {
			changed[g] = true
		}
		if at, ok := l.Deadline(); ok {
			first(at)
		}
	}
	if len(changed) > 0 {
		p.apply(changed)
	}
	if !p.sweep.IsZero() && !now.Before(p.sweep) {
		p.idle(now)
	}
	if !p.sweep.IsZero() {
		first(p.sweep)
	}
	return next
}

// apply brings upstream memberships and entries up to date with what the links want of groups.
func (p *proxy) apply(changed map[netip.Addr]bool) {
	for _, g := range slices.SortedFunc(maps.Keys(changed), netip.Addr.Compare) {
		f := p.merge(g)
		was, ok := p.wanted[g]
		if !ok {
			was = filter{include: true}
		}
		if f.equal(was) {
			continue
		}
		if f.nothing() {
			delete(p.wanted, g)
		} else {
			p.wanted[g] = f
		}
		p.out.join(g, f)
	}
	for _, k := range p.flows() {
		if e := p.entries[k]; changed[k.group] {
			if out := p.way(e.parent, k); !slices.Equal(out, e.out) {
				e.out = out
				p.out.route(k, e)
			}
		}
	}
}

// merge is what all links together want of a group (RFC 3376 §3.2, RFC 4605 §4.1): one that wants all but some makes it all, but
// what each of those does without and nobody includes.
func (p *proxy) merge(g netip.Addr) filter {
	var included, excluded []netip.Addr
	all := true
	for _, l := range p.links {
		switch include, sources := l.Filter(g); {
		case include:
			included = append(included, sources...)
		case all:
			all, excluded = false, sources
		default:
			excluded = slices.DeleteFunc(excluded, func(a netip.Addr) bool { return !slices.Contains(sources, a) })
		}
	}
	f := filter{include: all, sources: included}
	if !all {
		f.sources = slices.DeleteFunc(excluded, func(a netip.Addr) bool { return slices.Contains(included, a) })
	}
	slices.SortFunc(f.sources, netip.Addr.Compare)
	f.sources = slices.Compact(f.sources)
	return f
}

// flows are the entries in order.
func (p *proxy) flows() []flow {
	return slices.SortedFunc(maps.Keys(p.entries), func(a, b flow) int {
		return cmp.Or(a.group.Compare(b.group), a.origin.Compare(b.origin))
	})
}

// idle takes entries away that no packets came by for a while.
func (p *proxy) idle(now time.Time) {
	counts := p.out.counts()
	p.sweep = time.Time{}
	for _, k := range p.flows() {
		e := p.entries[k]
		if n := counts[k]; n != e.packets {
			e.packets, e.since = n, now
		}
		if now.Sub(e.since) >= idleTime {
			delete(p.entries, k)
			p.out.unroute(k)
		}
	}
	if len(p.entries) > 0 {
		p.sweep = now.Add(idleTime / 3)
	}
}

// rejoin says all memberships again: the upstream interface is another one.
func (p *proxy) rejoin() {
	for _, g := range slices.SortedFunc(maps.Keys(p.wanted), netip.Addr.Compare) {
		p.out.join(g, p.wanted[g])
	}
}
