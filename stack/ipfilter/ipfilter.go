// Package ipfilter is the packet filter, with the rules and manners of IPFilter.
//
// The walk of a packet that comes in ([Filter.In]); one that goes out has step 1 last:
//
//	1 Translator.In     addresses become those that rules know
//	2 Filter.known      a fragment of a datagram that is known, a packet of a state,
//	                    an ICMP error about one                           state.go, frag.go, icmp.go
//	3 Filter.account    the rules that count; at Out behind step 5        compile.go
//	4 Filter.scan       the rules, by what their lists were compiled to   rules.go, compile.go
//	5 Filter.decide     states begin, the log is written, the sender of what is
//	                    blocked is answered                               state.go, log.go, reply.go
//
// Readers take no lock but a state's own: rules are immutable lists that an edit
// replaces as a whole; their counters live in the rules and are kept.
package ipfilter

import (
	"net/netip"
	"sync"
	"sync/atomic"

	"ionet/ipl"
	"ionet/stack/mib"
	"ionet/stack/netif"
	"ionet/stack/packet"
	"ionet/stack/pfil"
)

var (
	nodeDefault = mib.Int("net.inet.ipf.fr_pass", 1, "What becomes of a packet that no rule matches: 1 it passes, 0 it is blocked.", mib.Bool())
	nodeActive  = mib.Int("net.inet.ipf.fr_active", 0, "Which of the two sets of rules is in force; ipf -s changes it.", mib.ReadOnly())
	nodeMinTTL  = mib.Int("net.inet.ipf.fr_minttl", 4, "A packet whose time to live is less has a low one for `with lowttl`.", mib.Range(0, 255))

	cntBlocked = mib.NewCounter("ipf", "blocked", "# packet{s} blocked")
	cntBadNAT  = mib.NewCounter("ipf", "not translated", "# packet{s} that could not be translated")
)

// Net is what the filter asks of a version of IP (inet, inet6).
type Net interface {
	// Refuse answers pkt, L3 marked, with an ICMP "unreachable" of that code: from
	// us, or as its destination.
	Refuse(w *netif.Work, pkt *packet.Buf, code uint8, asDest bool)
	// Inject takes over a complete packet, window at its IP header, and sends it:
	// by ifp, or if that is nil by its route; to nexthop if that is valid.
	Inject(w *netif.Work, pkt *packet.Buf, ifp *netif.Interface, nexthop netip.Addr)
	// ReversePath reports whether packets to src would leave by ifp, or with
	// strict false by whatever interface.
	ReversePath(src netip.Addr, ifp *netif.Interface, strict bool) bool
}

// Config is what a filter works with.
type Config struct {
	Nets       [2]Net          // IPv4, IPv6
	Translator pfil.Translator // nil: none
}

// Filter is one stack's packet filter. It is a [pfil.Filter].
type Filter struct {
	env    *netif.Env
	nets   [2]Net
	nat    pfil.Translator
	gen    atomic.Uint64
	active atomic.Pointer[ruleset]
	pools  pools
	states states
	frags  frags
	log    Log
	stats  [2][2]dirStats // in, out; of IPv4, IPv6

	mu   sync.Mutex // one edit at a time
	sets [2]*ruleset
}

// New makes a filter without rules.
func New(env *netif.Env, c Config) *Filter {
	f := &Filter{env: env, nets: c.Nets, nat: c.Translator}
	f.gen.Store(uint64(env.Rand32())) // another filter's generation was another one
	f.sets = [2]*ruleset{new(ruleset).compile(f), new(ruleset).compile(f)}
	f.active.Store(f.sets[0])
	f.states.init(f)
	f.frags.init(f)
	f.log.init(env)
	env.MIB.Put(nodeActive, 0)
	return f
}

// Close ends every state: their timers belong to the stack.
func (f *Filter) Close() {
	f.states.flush(func(*state) bool { return true })
	f.frags.flush()
}

// Generation is pfil.Filter. Settings that the fast path stands on are part of it.
func (f *Filter) Generation() uint64 {
	v := f.env.MIB
	gen := f.gen.Load() + uint64(v.Int(nodeDefault)|v.Int(nodeUpdateID)<<1|v.Int(nodeFlags)>>26)<<56
	if f.nat != nil {
		gen += f.nat.Generation()
	}
	return gen
}

func side(v6 bool) int {
	if v6 {
		return 1
	}
	return 0
}

// In is pfil.Filter.
func (f *Filter) In(w *netif.Work, ifp *netif.Interface, pkt *packet.Buf) *packet.Buf {
	i := pfil.Scratch(w)
	i.Parse(pkt, ifp, false)
	if f.nat != nil {
		switch f.nat.In(w, i) {
		case pfil.Taken:
			return nil
		case pfil.Refused:
			f.stat(i).Blocked.Add(1)
			f.untranslated(w, i)
			return nil
		case pfil.Translated:
			i.Is |= pfil.NATed
		}
	}
	if !f.check(w, i) {
		return nil
	}
	return i.Pkt
}

// Out is pfil.Filter.
func (f *Filter) Out(w *netif.Work, ifp *netif.Interface, pkt *packet.Buf) *packet.Buf {
	i := pfil.Scratch(w)
	i.Parse(pkt, ifp, true)
	if pkt.Flags&packet.FlagInjected == 0 && !f.check(w, i) {
		return nil
	}
	if f.nat != nil {
		switch f.nat.Out(w, i) {
		case pfil.Taken:
			return nil
		case pfil.Refused:
			f.untranslated(w, i)
			return nil
		}
	}
	if !i.V6 && f.env.MIB.On(nodeUpdateID) {
		f.updateID(i.Pkt.Bytes())
	}
	return i.Pkt
}

// untranslated drops what the translator refuses; rules `with bad-nat` say how.
func (f *Filter) untranslated(w *netif.Work, i *pfil.Info) {
	var v verdict
	f.scan(w, i, refused, &v)
	if r := v.rule; r == nil || r.Log == nil {
		f.logAnyway(w, i, r, false, true)
	} else {
		f.logPacket(w, i, r, LogBlock)
	}
	if v.rule != nil {
		f.reply(w, i, v.rule)
	}
	w.Drop(i.Pkt, cntBadNAT)
}

// check asks states and rules about a packet; false: it has gone.
func (f *Filter) check(w *netif.Work, i *pfil.Info) bool {
	d := f.stat(i)
	if i.Type == packet.ICMPUnreach && i.Proto == packet.ProtoICMP && f.tinyMTU(i) {
		i.Is |= pfil.Bad
	}
	if i.Is&(pfil.Bad|pfil.Short) != 0 {
		if i.Is&pfil.Bad != 0 {
			d.Bad.Add(1)
		}
		if i.Is&pfil.Short != 0 {
			d.Short.Add(1)
		}
	}
	fate, s, back := f.known(w, i)
	if !i.Out { // what goes out is accounted for if it passes
		f.account(w, i)
	}
	switch fate {
	case passed:
		if s != nil && s.rule.follows {
			return f.follow(w, i, s, back, d)
		}
		f.logAnyway(w, i, nil, true, true)
		f.pass(w, i, d)
		return true
	case forged:
		return f.refuse(w, i, d, cntForged)
	case overlaps:
		return f.refuse(w, i, d, cntBadFrag)
	}
	var v verdict
	f.scan(w, i, deciding, &v)
	return f.decide(w, i, &v, d)
}

// pass counts a packet that goes on.
func (f *Filter) pass(w *netif.Work, i *pfil.Info, d *dirStats) {
	d.Passed.Add(1)
	if i.Out {
		f.account(w, i)
	}
}

// refuse drops what no rule is asked about.
func (f *Filter) refuse(w *netif.Work, i *pfil.Info, d *dirStats, why mib.Counter) bool {
	f.logAnyway(w, i, nil, false, true)
	d.Blocked.Add(1)
	w.Drop(i.Pkt, why)
	return false
}

// follow does for a packet of a state what its rule asks of each.
func (f *Filter) follow(w *netif.Work, i *pfil.Info, s *state, back bool, d *dirStats) bool {
	r := s.rule
	if r.Log == nil || r.Log.First {
		f.logAnyway(w, i, nil, true, true)
	} else if !f.logPacket(w, i, r, LogPass) && r.Log.OrBlock {
		d.Blocked.Add(1)
		w.Drop(i.Pkt, cntBlocked)
		return false
	}
	f.pass(w, i, d)
	switch at := i.Out == r.Out; {
	case !back && at:
		return f.routed(w, i, r.DupTo, r.To, r.Fast)
	case back && !at: // what comes back meets the rule's hook at the other end of its way
		return f.routed(w, i, r.DupTo, r.ReplyTo, false)
	}
	return true
}

func dirOf(out bool) int {
	if out {
		return 1
	}
	return 0
}

// fate is what [Filter.known] says.
type fate uint8

const (
	unknown fate = iota // the rules are to be asked
	passed
	forged   // an ICMP error about what nobody can have sent
	overlaps // a fragment over what the first one had
)

// decide carries out what the rules say.
func (f *Filter) decide(w *netif.Work, i *pfil.Info, v *verdict, d *dirStats) bool {
	r := v.rule
	pass := r == nil && f.env.MIB.On(nodeDefault) || r != nil && r.Action == ipl.Pass
	if !pass && f.announced(w, i) {
		d.Passed.Add(1)
		return true
	}
	if r == nil {
		d.NoMatch.Add(1)
		f.logAnyway(w, i, nil, pass, false)
		if pass {
			f.pass(w, i, d)
			return true
		}
		d.Blocked.Add(1)
		w.Drop(i.Pkt, cntBlocked)
		return false
	}
	if pass && r.KeepState != nil {
		if pass = f.states.add(w, i, r); !pass { // it would not be known again
			d.BadStates.Add(1)
		}
	}
	if pass && r.KeepFrags && i.Is&pfil.Fragment != 0 {
		f.frags.add(w, i, r, nil)
	}
	if r.Log == nil {
		f.logAnyway(w, i, r, pass, true)
	} else if !f.logPacket(w, i, r, passOrBlock(pass)) && r.Log.OrBlock {
		pass = false
	}
	if pass {
		f.pass(w, i, d)
		return f.routed(w, i, r.DupTo, r.To, r.Fast)
	}
	d.Blocked.Add(1)
	f.reply(w, i, r)
	w.Drop(i.Pkt, cntBlocked)
	return false
}

// announced reports whether a packet that rules would block begins a connection that one with
// a state has announced (FTP's data connection), and has a state begin for it by the
// same rule, as IPFilter's proxy does.
func (f *Filter) announced(w *netif.Work, i *pfil.Info) bool {
	e, ok := f.nat.(pfil.Expecter)
	if !ok || i.Proto != packet.ProtoTCP {
		return false
	}
	control, ok := e.Expected(i)
	if !ok {
		return false
	}
	s, _ := f.states.of(&control, f.states.hashOf(&control))
	return s != nil && !s.dead() && s.rule.KeepState != nil && f.states.add(w, i, s.rule)
}
