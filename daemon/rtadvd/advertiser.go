// Package rtadvd is the router advertisement daemon: it tells the hosts of a link
// that there is a router, which prefixes are theirs, and where names are looked up.
//
// advertiser is the state machine of one interface (RFC 4861 §6.2). It is passive:
// whoever owns it hands in the time, what has come, and randomness, and sends what
// comes out. Everything else is around it: termcap.go and config.go read the file,
// system.go asks the stack, serve.go is the daemon.
package rtadvd

import (
	"net/netip"
	"slices"
	"time"

	"ionet/daemon/nd"
)

// Constants of RFC 4861 §10.
const (
	maxInitialInterval = 16 * time.Second
	maxInitialAdverts  = 3
	maxFinalAdverts    = 3
	minDelayBetween    = 3 * time.Second
	maxAnswerDelay     = 500 * time.Millisecond
)

const (
	// maxAnswers is how many hosts get an answer of their own within
	// maxAnswerDelay; when there are more all get one together.
	maxAnswers = 16
	// withdrawnLife is how long a prefix that has gone is advertised with
	// lifetimes of 0: hosts keep what they believe for two hours at most (RFC
	// 4862 §5.5.3 e).
	withdrawnLife = 2 * time.Hour
	// maxWithdrawn bounds them; the oldest goes.
	maxWithdrawn = 64
)

// link is the interface as the stack has it.
type link struct {
	index int
	mtu   int
	hw    []byte // link address; nil: it has none
	up    bool   // and running, with a link-local address to send from
	own   []netip.Addr
}

// withdrawn is a prefix that hosts are to forget.
type withdrawn struct {
	prefix netip.Prefix
	flags  uint8
	until  time.Time
}

// answer is a host that has asked.
type answer struct {
	to netip.Addr
	at time.Time
}

// out is a message to be sent.
type out struct {
	to  netip.Addr
	msg nd.RouterAdvert
}

// advertiser advertises on one interface.
type advertiser struct {
	name   string
	cfg    Config
	random func(time.Duration) time.Duration // from 0 up to, and without, its argument
	link   link
	began  time.Time // lifetimes that fall begin here

	router  bool // the stack forwards
	leaving bool // after farewell

	fromStack []netip.Prefix // what the interface's routes say
	gone      []withdrawn

	last    time.Time // an advertisement went to all; zero: none has
	next    time.Time // the next one goes; zero: none will
	initial int       // how many of the first ones have gone
	final   int       // and of the last ones
	answers []answer

	sent, heard, solicits, inconsistent uint64
	others                              []otherRouter
}

// newAdvertiser is an advertiser for a link that is not up yet.
func newAdvertiser(name string, c Config, now time.Time, random func(time.Duration) time.Duration) *advertiser {
	return &advertiser{name: name, cfg: c, random: random, began: now, router: true}
}

// setLink says how the interface is. One that comes up is a new link to us: the
// first advertisements go out fast (RFC 4861 §6.2.4).
func (a *advertiser) setLink(now time.Time, l link) {
	was := a.link
	a.link = l
	switch {
	case !l.up:
		a.next, a.answers = time.Time{}, nil
	case !was.up:
		a.initial = 0
		a.next = now
	case was.mtu != l.mtu && a.cfg.MTUAuto || !slices.Equal(was.hw, l.hw) && !a.cfg.NoLinkAddr:
		a.changed(now)
	}
}

// setRouter says whether the stack forwards. One that does not is no router, and
// says so (RFC 4861 §6.2.5).
func (a *advertiser) setRouter(now time.Time, on bool) {
	if a.router != on {
		a.router = on
		a.changed(now)
	}
}

// setPrefixes says which prefixes the interface's routes have.
func (a *advertiser) setPrefixes(now time.Time, p []netip.Prefix) {
	if slices.Equal(a.fromStack, p) {
		return
	}
	before := a.prefixes(now)
	a.fromStack = p
	after := a.prefixes(now)
	has := func(in []nd.Prefix, p netip.Prefix) bool {
		return slices.ContainsFunc(in, func(x nd.Prefix) bool { return x.Prefix == p })
	}
	a.gone = slices.DeleteFunc(a.gone, func(w withdrawn) bool { return has(after, w.prefix) })
	for _, x := range before {
		if !has(after, x.Prefix) {
			a.gone = append(a.gone, withdrawn{x.Prefix, x.Flags, now.Add(min(withdrawnLife, time.Duration(x.Valid)*time.Second))})
		}
	}
	if n := len(a.gone) - maxWithdrawn; n > 0 {
		a.gone = slices.Delete(a.gone, 0, n)
	}
	a.changed(now)
}

// changed has the next advertisements go out as the first ones did: what hosts
// know is not true any more (RFC 4861 §6.2.4).
func (a *advertiser) changed(now time.Time) {
	if !a.link.up || a.leaving || a.last.IsZero() && !a.next.IsZero() {
		return
	}
	a.initial = 0
	a.toAll(now)
}

// toAll brings the next advertisement to all forward: at a random moment, and not
// too soon after the last (RFC 4861 §6.2.6).
func (a *advertiser) toAll(now time.Time) {
	at := now
	if !a.last.IsZero() && now.Sub(a.last) < minDelayBetween {
		at = a.last.Add(minDelayBetween)
	}
	at = at.Add(a.random(maxAnswerDelay))
	if a.next.IsZero() || at.Before(a.next) {
		a.next = at
	}
}

// solicit takes a solicitation. A host that has an address already is answered by
// itself, so that the others sleep on (RFC 7772 §4); one without hears what goes to
// all, and so do many at once.
func (a *advertiser) solicit(now time.Time, from netip.Addr) {
	a.solicits++
	if !a.link.up || a.leaving {
		return
	}
	if from.IsUnspecified() || !from.IsLinkLocalUnicast() && !from.IsGlobalUnicast() {
		a.toAll(now)
		return
	}
	if slices.ContainsFunc(a.answers, func(x answer) bool { return x.to == from }) {
		return
	}
	if len(a.answers) == maxAnswers {
		a.answers = nil
		a.toAll(now)
		return
	}
	a.answers = append(a.answers, answer{from, now.Add(a.random(maxAnswerDelay))})
}

// deadline is when expire has something to do.
func (a *advertiser) deadline() (at time.Time, ok bool) {
	at = a.next
	for _, x := range a.answers {
		if at.IsZero() || x.at.Before(at) {
			at = x.at
		}
	}
	return at, !at.IsZero()
}

// expire answers what is to be sent now.
func (a *advertiser) expire(now time.Time) (todo []out) {
	if !a.next.IsZero() && !now.Before(a.next) {
		a.last = now
		a.answers = nil // they hear it too
		todo = a.messages(now, nd.AllNodes)
		a.schedule(now)
	}
	a.answers = slices.DeleteFunc(a.answers, func(x answer) bool {
		if now.Before(x.at) {
			return false
		}
		todo = append(todo, a.messages(now, x.to)...)
		return true
	})
	a.sent += uint64(len(todo))
	return todo
}

// schedule chooses when the next advertisement goes to all.
func (a *advertiser) schedule(now time.Time) {
	if a.leaving {
		if a.final++; a.final >= maxFinalAdverts {
			a.next = time.Time{}
			return
		}
		a.next = now.Add(minDelayBetween)
		return
	}
	wait := a.cfg.MinInterval + a.random(a.cfg.MaxInterval-a.cfg.MinInterval+1)
	if a.initial < maxInitialAdverts {
		a.initial++
		if a.initial < maxInitialAdverts {
			wait = min(wait, maxInitialInterval)
		}
	}
	a.next = now.Add(wait)
}

// farewell has the last advertisements go out, which say that there is no router
// any more (RFC 4861 §6.2.5): the first at once.
func (a *advertiser) farewell(now time.Time) {
	if a.leaving {
		return
	}
	a.leaving, a.answers, a.next = true, nil, time.Time{}
	if a.link.up && !a.last.IsZero() {
		a.next = now
	}
}

// left says that nothing more is to be sent.
func (a *advertiser) left() bool { return a.leaving && a.next.IsZero() }

// falls is a lifetime that may have begun to fall with the daemon's start.
func (a *advertiser) falls(now time.Time, life uint32, fall bool) uint32 {
	if !fall || life == nd.Infinity {
		return life
	}
	gone := now.Sub(a.began) / time.Second
	return uint32(max(int64(life)-int64(gone), 0))
}

// prefixes are the prefixes that are advertised: those of the file, else those of
// the interface's routes.
func (a *advertiser) prefixes(now time.Time) (all []nd.Prefix) {
	one := func(p PrefixConfig) nd.Prefix {
		x := nd.Prefix{Prefix: p.Prefix, Flags: p.Flags, Valid: a.falls(now, p.Valid, p.ValidFalls), Preferred: a.falls(now, p.Preferred, p.PreferredFalls)}
		x.Preferred = min(x.Preferred, x.Valid)
		return x
	}
	for _, p := range a.cfg.Prefixes {
		all = append(all, one(p))
	}
	if len(a.cfg.Prefixes) > 0 || a.cfg.NoIfPrefix {
		return all
	}
	for _, p := range a.fromStack {
		t := a.cfg.Template
		t.Prefix = p
		all = append(all, one(t))
	}
	return all
}

// messages are the advertisement to somebody: more than one where the interface
// does not take all options at once, for such messages are not fragmented (RFC
// 4861 §6.2.3, RFC 6980 §2).
func (a *advertiser) messages(now time.Time, to netip.Addr) []out {
	c := &a.cfg
	head := nd.RouterAdvert{HopLimit: c.HopLimit, Flags: c.Flags, Lifetime: c.Lifetime, Reachable: c.Reachable, Retrans: c.Retrans}
	over := a.leaving || !a.router
	if over {
		head.Lifetime = 0
	}
	if head.Lifetime == 0 { // RFC 4191 §2.2
		head.Flags &^= nd.PrefMask
	}
	m := head
	if !c.NoLinkAddr {
		m.LinkAddr = a.link.hw
	}
	m.MTU = c.MTU
	if c.MTUAuto {
		m.MTU = uint32(a.link.mtu)
	}
	if c.Agent != nil {
		m.Interval, m.Agent = uint32(c.MaxInterval.Milliseconds()), c.Agent
	}
	var all []out
	room := max(a.link.mtu, minMTU) - ipv6Header
	add := func(put func(*nd.RouterAdvert)) {
		longer := m
		put(&longer)
		if longer.Len() > room {
			all = append(all, out{to, m})
			longer = head
			put(&longer)
		}
		m = longer
	}
	for _, p := range a.prefixes(now) {
		add(func(m *nd.RouterAdvert) { m.Prefixes = append(slices.Clip(m.Prefixes), p) })
	}
	a.gone = slices.DeleteFunc(a.gone, func(w withdrawn) bool { return !now.Before(w.until) })
	for _, w := range a.gone {
		p := nd.Prefix{Prefix: w.prefix, Flags: w.flags}
		add(func(m *nd.RouterAdvert) { m.Prefixes = append(slices.Clip(m.Prefixes), p) })
	}
	for _, r := range c.Routes {
		if over { // they lead through us
			r.Lifetime = 0
		}
		add(func(m *nd.RouterAdvert) { m.Routes = append(slices.Clip(m.Routes), r) })
	}
	for _, s := range c.Servers {
		add(func(m *nd.RouterAdvert) { m.Servers = append(slices.Clip(m.Servers), s) })
	}
	for _, s := range c.Search {
		add(func(m *nd.RouterAdvert) { m.Search = append(slices.Clip(m.Search), s) })
	}
	return append(all, out{to, m})
}

const ipv6Header = 40
