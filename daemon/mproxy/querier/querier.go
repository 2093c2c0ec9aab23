// Package querier is the router's side of IGMP (RFC 3376) and of MLD (RFC 3810) on
// one link: who asks there, and which packets somebody there wants. It is passive:
// whoever owns it hands in the time and what has come, and sends what comes out.
//
// Versions are counted as IGMP counts them: 1 knows no leave, 2 (and MLD's 1) no
// sources, 3 (and MLD's 2) both.
package querier

import (
	"net/netip"
	"slices"
	"time"
)

// Types of records (RFC 3376 §4.2.12, RFC 3810 §5.2.12).
const (
	IsInclude = 1
	IsExclude = 2
	ToInclude = 3
	ToExclude = 4
	Allow     = 5
	Block     = 6
)

// Bounds of what a link's hosts can make us remember.
const (
	MaxGroups  = 4096 // a link
	MaxSources = 256  // a group
)

// perQuery is how many sources one query asks about: they fit into 1280 octets.
const perQuery = 64

// Record is what a report says of a group.
type Record struct {
	Type    uint8
	Group   netip.Addr
	Sources []netip.Addr
}

// Query is a question, ours or another router's.
type Query struct {
	Group      netip.Addr   // invalid: about all groups
	Sources    []netip.Addr // none: about all
	Suppress   bool         // other routers are not to lower their timers (the S flag)
	MaxResp    time.Duration
	Robustness int           // 0: not said
	Interval   time.Duration // 0: not said
}

// Config is what an administrator may choose (RFC 3376 §8, RFC 3810 §9).
type Config struct {
	Robustness int
	Interval   time.Duration // between general queries
	Response   time.Duration // in which they are answered
	LastMember time.Duration // in which a question about one group is, and between two
}

// Default is what the RFCs have.
var Default = Config{Robustness: 2, Interval: 125 * time.Second, Response: 10 * time.Second, LastMember: time.Second}

// Link is one link.
type Link struct {
	own     Config
	conf    Config     // as the querier has it
	addr    netip.Addr // ours; invalid: nobody can be asked
	other   netip.Addr // of the querier; invalid: that is us
	until   time.Time  // and then it is held to have gone
	next    time.Time  // of our general queries
	startup int        // how many of the first ones are still to come
	groups  map[netip.Addr]*group
	changed map[netip.Addr]bool

	Refused uint64 // groups and sources beyond the bounds
}

// group is the state of a group (RFC 3376 §6.2).
type group struct {
	addr    netip.Addr
	exclude bool
	until   time.Time // the group timer, with exclude
	sources []source  // in order

	older [3]time.Time // by version: a host of that version is held to be there

	ask       int // how often the group is still to be asked about
	askAt     time.Time
	askSource time.Time // when sources are; zero: none is
}

// source is one of a group's: with a timer it is wanted, without it is not.
type source struct {
	addr  netip.Addr
	until time.Time
	ask   int // how often it is still to be asked about
}

func (s source) wanted() bool { return !s.until.IsZero() }

// New is a link that is not up yet.
func New(c Config) *Link {
	return &Link{own: c, conf: c, groups: map[netip.Addr]*group{}, changed: map[netip.Addr]bool{}}
}

// memberTime is how long a report is believed (Group Membership Interval, Multicast Address Listening Interval).
func (l *Link) memberTime() time.Duration {
	return time.Duration(l.conf.Robustness)*l.conf.Interval + l.conf.Response
}

// lastTime is how long the answer to a question about a group is waited for (Last Member Query Time).
func (l *Link) lastTime() time.Duration {
	return time.Duration(l.conf.Robustness) * l.conf.LastMember
}

// SetAddr says which address our queries have. A link that gets one comes up, and asks; one that has none is
// down, and nobody is there.
func (l *Link) SetAddr(now time.Time, a netip.Addr) {
	if a == l.addr {
		return
	}
	up := !l.addr.IsValid()
	l.addr = a
	switch {
	case !a.IsValid():
		for g := range l.groups {
			l.changed[g] = true
		}
		clear(l.groups)
		l.other, l.conf = netip.Addr{}, l.own
	case up:
		l.startup = l.own.Robustness
		l.next = now
	}
}

// Querier reports whether we are the one who asks, so that what the link wants is ours to bring (RFC 4605 §4.2).
func (l *Link) Querier() bool { return l.addr.IsValid() && !l.other.IsValid() }

// Other is the querier's address if we are not it.
func (l *Link) Other() netip.Addr { return l.other }

// Hear takes another router's query (RFC 3376 §6.6, RFC 3810 §7.6).
func (l *Link) Hear(now time.Time, from netip.Addr, q Query) {
	if !l.addr.IsValid() || !from.IsValid() || from.IsUnspecified() || from == l.addr {
		return
	}
	if from.Less(l.addr) {
		if !l.other.IsValid() {
			l.all()
		}
		if !l.other.IsValid() || !l.other.Less(from) {
			l.other = from
			if q.Robustness > 0 {
				l.conf.Robustness = q.Robustness
			}
			if q.Interval > 0 {
				l.conf.Interval = q.Interval
			}
		}
		l.until = now.Add(time.Duration(l.conf.Robustness)*l.conf.Interval + l.conf.Response/2)
	}
	g := l.groups[q.Group]
	if g == nil || q.Suppress || from != l.other {
		return
	}
	by := now.Add(time.Duration(l.conf.Robustness) * q.MaxResp)
	if len(q.Sources) == 0 && g.exclude {
		g.until = sooner(g.until, by)
	}
	for i := range g.sources {
		if s := &g.sources[i]; s.wanted() && slices.Contains(q.Sources, s.addr) {
			s.until = sooner(s.until, by)
		}
	}
}

// all marks every group as changed.
func (l *Link) all() {
	for g := range l.groups {
		l.changed[g] = true
	}
}

func sooner(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// Report takes what a host of a version says of a group (RFC 3376 §6.4, RFC 3810 §7.4). Reports of older versions are
// IsExclude, leaves ToInclude, both without sources (RFC 3376 §7.3.2, RFC 3810 §8.3.2).
func (l *Link) Report(now time.Time, version int, r Record) {
	if !l.addr.IsValid() || r.Type < IsInclude || r.Type > Block {
		return
	}
	g := l.groups[r.Group]
	if g == nil {
		if r.Type == Block || r.Type != IsExclude && r.Type != ToExclude && len(r.Sources) == 0 {
			return // nothing comes of it
		}
		if len(l.groups) >= MaxGroups {
			l.Refused++
			return
		}
		g = &group{addr: r.Group}
		l.groups[r.Group] = g
	}
	defer l.prune(g)
	if version < 3 {
		g.older[version] = now.Add(l.memberTime())
	}
	if v := g.version(now); v < 3 {
		switch {
		case r.Type == Block, v == 1 && r.Type == ToInclude:
			return
		case r.Type == ToExclude:
			r.Sources = nil
		}
	}
	l.changed[g.addr] = true // if only perhaps
	switch r.Type {
	case IsInclude, Allow:
		l.want(now, g, r.Sources)
	case ToInclude:
		l.askAbout(now, g, func(s source) bool { return s.wanted() && !slices.Contains(r.Sources, s.addr) })
		l.want(now, g, r.Sources)
		if g.exclude {
			l.askGroup(now, g)
		}
	case IsExclude, ToExclude:
		l.exclude(now, g, r)
	case Block:
		if g.exclude {
			l.add(g, r.Sources, g.until)
		}
		l.askAbout(now, g, func(s source) bool { return s.wanted() && slices.Contains(r.Sources, s.addr) })
	}
}

// version is the oldest that a host of the group speaks.
func (g *group) version(now time.Time) int {
	for v := 1; v < 3; v++ {
		if now.Before(g.older[v]) {
			return v
		}
	}
	return 3
}

// want has sources wanted for as long as a report is believed.
func (l *Link) want(now time.Time, g *group, sources []netip.Addr) {
	until := now.Add(l.memberTime())
	l.add(g, sources, until)
	for i := range g.sources {
		if slices.Contains(sources, g.sources[i].addr) {
			g.sources[i].until = until
		}
	}
}

// add takes up those of the sources that are not known yet; a zero time: as unwanted.
func (l *Link) add(g *group, sources []netip.Addr, until time.Time) {
	for _, a := range sources {
		i, found := slices.BinarySearchFunc(g.sources, a, func(s source, a netip.Addr) int { return s.addr.Compare(a) })
		if found {
			continue
		}
		if len(g.sources) >= MaxSources {
			l.Refused++
			return
		}
		g.sources = slices.Insert(g.sources, i, source{addr: a, until: until})
	}
}

// exclude is for a host that wants everything but the record's sources. Of those a record of the state alone has them wanted
// until somebody else says so (RFC 3376 §6.4.1), a change until the group timer ends (§6.4.2).
func (l *Link) exclude(now time.Time, g *group, r Record) {
	var fresh time.Time // for those that nobody has known: while the group was of included ones, unwanted at once
	switch {
	case g.exclude && r.Type == IsExclude:
		fresh = now.Add(l.memberTime())
	case g.exclude:
		fresh = g.until
	}
	g.sources = slices.DeleteFunc(g.sources, func(s source) bool { return !slices.Contains(r.Sources, s.addr) })
	l.add(g, r.Sources, fresh)
	g.exclude, g.until = true, now.Add(l.memberTime())
	if r.Type == ToExclude {
		l.askAbout(now, g, source.wanted)
	}
}

// askGroup begins to ask whether somebody wants the group still (§6.6.3.1).
func (l *Link) askGroup(now time.Time, g *group) {
	if !l.Querier() {
		return
	}
	g.until = sooner(g.until, now.Add(l.lastTime()))
	g.ask, g.askAt = l.conf.Robustness, now
}

// askAbout begins to ask whether somebody wants those sources still (§6.6.3.2).
func (l *Link) askAbout(now time.Time, g *group, which func(source) bool) {
	if !l.Querier() {
		return
	}
	for i := range g.sources {
		if s := &g.sources[i]; which(*s) {
			s.until = sooner(s.until, now.Add(l.lastTime()))
			s.ask, g.askSource = l.conf.Robustness, now
		}
	}
}

// prune forgets a group that nobody wants anything of.
func (l *Link) prune(g *group) {
	if !g.exclude && len(g.sources) == 0 && l.groups[g.addr] == g {
		delete(l.groups, g.addr)
	}
}

// Expire does what is due and answers the queries to be sent.
func (l *Link) Expire(now time.Time) (out []Query) {
	due := func(t time.Time) bool { return !t.IsZero() && !now.Before(t) }
	if !l.addr.IsValid() {
		return nil
	}
	if l.other.IsValid() && due(l.until) { // the querier has gone: we are it
		l.other, l.conf = netip.Addr{}, l.own
		l.next, l.startup = now, 0
		l.all()
	}
	if l.Querier() && due(l.next) {
		out = append(out, l.query(netip.Addr{}, l.conf.Response))
		l.startup = max(l.startup-1, 0)
		l.next = now.Add(l.conf.Interval)
		if l.startup > 0 {
			l.next = now.Add(l.conf.Interval / 4)
		}
	}
	for _, g := range l.sorted() {
		if g.exclude && due(g.until) { // §6.5: what is still wanted is what is included
			l.changed[g.addr] = true
			g.exclude, g.ask = false, 0
			g.sources = slices.DeleteFunc(g.sources, func(s source) bool { return !s.wanted() })
		}
		for i := range g.sources {
			if s := &g.sources[i]; due(s.until) {
				l.changed[g.addr] = true
				s.until, s.ask = time.Time{}, 0
			}
		}
		if !g.exclude {
			g.sources = slices.DeleteFunc(g.sources, func(s source) bool { return !s.wanted() })
		}
		l.prune(g)
		if l.Querier() {
			out = l.askDue(now, g, due, out)
		} else {
			g.ask, g.askSource = 0, time.Time{}
		}
	}
	return out
}

// askDue appends the questions about one group.
func (l *Link) askDue(now time.Time, g *group, due func(time.Time) bool, out []Query) []Query {
	late := now.Add(l.lastTime())
	if g.ask > 0 && due(g.askAt) {
		q := l.query(g.addr, l.conf.LastMember)
		q.Suppress = g.until.After(late)
		out = append(out, q)
		g.ask--
		g.askAt = now.Add(l.conf.LastMember)
	}
	if !due(g.askSource) {
		return out
	}
	var by [2][]netip.Addr // those whose timers are low, and those that somebody has asked for meanwhile
	again := false
	for i := range g.sources {
		s := &g.sources[i]
		if s.ask == 0 {
			continue
		}
		k := 0
		if s.until.After(late) {
			k = 1
		}
		by[k] = append(by[k], s.addr)
		s.ask--
		again = again || s.ask > 0
	}
	if g.askSource = (time.Time{}); again {
		g.askSource = now.Add(l.conf.LastMember)
	}
	for k, sources := range by {
		for chunk := range slices.Chunk(sources, perQuery) {
			q := l.query(g.addr, l.conf.LastMember)
			q.Sources, q.Suppress = chunk, k == 1
			out = append(out, q)
		}
	}
	return out
}

func (l *Link) query(g netip.Addr, resp time.Duration) Query {
	return Query{Group: g, MaxResp: resp, Robustness: l.conf.Robustness, Interval: l.conf.Interval}
}

func (l *Link) sorted() []*group {
	out := make([]*group, 0, len(l.groups))
	for _, g := range l.groups {
		out = append(out, g)
	}
	slices.SortFunc(out, func(a, b *group) int { return a.addr.Compare(b.addr) })
	return out
}

// Deadline is when Expire has something to do.
func (l *Link) Deadline() (at time.Time, ok bool) {
	if !l.addr.IsValid() {
		return at, false
	}
	first := func(t time.Time) {
		if !t.IsZero() && (at.IsZero() || t.Before(at)) {
			at = t
		}
	}
	if l.other.IsValid() {
		first(l.until)
	} else {
		first(l.next)
	}
	for _, g := range l.groups {
		if g.exclude {
			first(g.until)
		}
		if g.ask > 0 {
			first(g.askAt)
		}
		first(g.askSource)
		for _, s := range g.sources {
			first(s.until)
		}
	}
	return at, !at.IsZero()
}

// Changed answers, in order, the groups of which something may be other than the last time, and forgets them.
func (l *Link) Changed() []netip.Addr {
	if len(l.changed) == 0 {
		return nil
	}
	out := make([]netip.Addr, 0, len(l.changed))
	for g := range l.changed {
		out = append(out, g)
	}
	clear(l.changed)
	slices.SortFunc(out, netip.Addr.Compare)
	return out
}

// Wants reports whether somebody on the link wants packets of a source to a group (RFC 3376 §6.3).
func (l *Link) Wants(group, src netip.Addr) bool {
	g := l.groups[group]
	if g == nil {
		return false
	}
	i, found := slices.BinarySearchFunc(g.sources, src, func(s source, a netip.Addr) int { return s.addr.Compare(a) })
	if !found {
		return g.exclude
	}
	return g.sources[i].wanted()
}

// Filter is what the link wants of a group: the sources, or with include false all but these.
func (l *Link) Filter(group netip.Addr) (include bool, sources []netip.Addr) {
	g := l.groups[group]
	if g == nil {
		return true, nil
	}
	for _, s := range g.sources {
		if s.wanted() != g.exclude {
			sources = append(sources, s.addr)
		}
	}
	return !g.exclude, sources
}

// Groups are those that somebody wants something of, in order.
func (l *Link) Groups() (out []netip.Addr) {
	for _, g := range l.sorted() {
		out = append(out, g.addr)
	}
	return out
}
