// Package ipnat translates addresses, with the rules and manners of IPFilter's ipnat.
//
// A session has three ends: the inside one, the outer one that stands for it, and
// the remote one. Whichever rule let it begin, what goes out has its source turned from
// inside to outer, and what comes in its destination from outer to inside:
//
//	map, bimap   begin with a packet from inside to remote, at Out
//	rdr, bimap   begin with a packet from remote to outer, at In
//
// The walk of a packet ([NAT.In], [NAT.Out]):
//
//	1 fragment   a later one goes the way of the first        frag.go
//	2 error      an ICMP error is about a session             icmp.go
//	3 find       the session, by the ends that are seen here  session.go
//	  read       a proxy reads and changes what a control connection says,
//	             and has the connections expected that it announces   ftp.go, stream.go, expect.go
//	4 begin      or the first rule that matches, an outer end
//	             that is free, a new session                  rules.go, ports.go, mapping.go;
//	             between two inside hosts                      hairpin.go
//	5 cross      nat64: a packet of the other version of IP   nat64.go, siit.go, siiticmp.go
//	  rewrite    addresses, ports, checksums                  rewrite.go, mss.go
//
// Readers take no lock: rules are an immutable list that an edit replaces as a
// whole, sessions are found in tables of immutable buckets.
package ipnat

import (
	"net/netip"
	"sync"
	"sync/atomic"

	"ionet/stack/mib"
	"ionet/stack/netif"
	"ionet/stack/packet"
	"ionet/stack/pfil"
)

const second = int64(1e9)

var cntBad = mib.NewCounter("ipnat", "bad nat", "# packet{s} that no session could be made for")

// Config is what a translator works with.
type Config struct {
	// Pool reports whether the pool of that name holds an address; nil: there are no pools.
	Pool func(name string, a netip.Addr) bool
	// InUse reports whether a socket of this stack has the local end, with that remote one,
	// or, if that is not valid, on whatever terms; the port of an echo is its identifier,
	// the remote one's 0. It is called with the table of sessions locked. nil: there are no sockets.
	InUse func(proto uint8, local, remote netip.AddrPort) bool
	// Net4 and Net6 are for nat64; without the second there is none.
	Net4 Net4
	Net6 Net6
}

// NAT is one stack's translator. It is a [pfil.Translator].
type NAT struct {
	env     *netif.Env
	pool    func(string, netip.Addr) bool
	inUse   func(uint8, netip.AddrPort, netip.AddrPort) bool
	net4    Net4
	net6    Net6
	id      atomic.Uint32 // of packets of IPv4 that nat64 makes
	gen     atomic.Uint64
	rules   atomic.Pointer[ruleset]
	table   table
	frags   frags
	expects expects
	told    told
	log     natLog
	count   counters

	mu sync.Mutex // one edit at a time
}

// New makes a translator without rules.
func New(env *netif.Env, c Config) *NAT {
	n := &NAT{env: env, pool: c.Pool, inUse: c.InUse, net4: c.Net4, net6: c.Net6}
	n.gen.Store(uint64(env.Rand32())) // another translator's generation was another one
	n.rules.Store(compile(nil))
	n.table.init(n)
	n.id.Store(uint32(n.table.key >> 16))
	n.frags.init(n)
	n.expects.init(n)
	n.log.n = n
	env.MIB.OnChange(nodeEIM, func(_, _ int64) error { n.gen.Add(1); return nil })
	return n
}

// Close ends every session: their timers belong to the stack.
func (n *NAT) Close() {
	n.table.flush(func(*session) bool { return true })
	n.frags.flush(func(*fragment) bool { return true })
}

// Generation is pfil.Translator.
func (n *NAT) Generation() uint64 { return n.gen.Load() }

// In is pfil.Translator.
func (n *NAT) In(w *netif.Work, i *pfil.Info) pfil.Verdict { return n.translate(w, i) }

// Out is pfil.Translator.
func (n *NAT) Out(w *netif.Work, i *pfil.Info) pfil.Verdict { return n.translate(w, i) }

func (n *NAT) translate(w *netif.Work, i *pfil.Info) pfil.Verdict {
	rs := n.rules.Load()
	if len(rs.all) == 0 && n.table.len() == 0 {
		return pfil.Untouched
	}
	if made := i.Made; made != nil { // nothing is translated twice
		if i.Made = nil; made == i.Pkt {
			return pfil.Untouched
		}
	}
	if i.Is&(pfil.Multicast|pfil.Broadcast) != 0 || packet.IsLinkScoped(i.Src) || packet.IsLinkScoped(i.Dst) {
		return pfil.Untouched
	}
	if i.Is&pfil.FragBody != 0 {
		return n.later(w, rs, i)
	}
	if isError(i) {
		return n.icmpError(w, i)
	}
	if i.V6 && i.Proto == packet.ProtoICMPv6 && !i.Echo() && i.Is&pfil.Short == 0 {
		if r := rs.match(n, i); r != nil && r.six() {
			return pfil.Refused // RFC 7915 §5.2
		}
		return pfil.Untouched // neighbours and listeners talk on the link
	}
	p, ok := pairOf(i)
	if !ok {
		return n.headless(rs, i)
	}
	s := n.table.find(&p, i.If, i.Out)
	if s == nil && opens(i) {
		if e := n.expects.find(p, i.Out); e != nil && e.c.s.at(i.If) {
			if s = n.arrived(w, e, i, &p); s == nil {
				n.count.bad.Add(1)
				return pfil.Refused
			}
		}
	}
	if s == nil {
		r := rs.match(n, i)
		var o *session
		if r == nil {
			if o = n.mapping(i, &p); o == nil {
				return n.hairpin(w, i, &p)
			}
			r = o.rule
		}
		if !i.Out && n.connected(&p) {
			return pfil.Untouched
		}
		if r.stateless() {
			return n.prefix(w, r, i)
		}
		if i.V6 && r.six() && !r.crosses(i) {
			n.count.bad.Add(1)
			return pfil.Refused
		}
		if s = n.begin(w, r, i, &p, o); s == nil {
			n.count.bad.Add(1)
			w.Count(cntBad)
			return pfil.Refused
		}
	}
	if s.ftp != nil && !s.ftp.segment(w, i) {
		return pfil.Refused
	}
	if i.Is&pfil.Fragment != 0 {
		n.frags.add(w, i, s)
	}
	s.heard(w.Now, i.Out, i.Pkt.Len(), i.Proto == packet.ProtoTCP, i.Flags)
	if s.rule.MSSClamp != 0 && i.Proto == packet.ProtoTCP && i.Flags&packet.TCPSyn != 0 {
		clampMSS(i, s.rule.MSSClamp)
	}
	if s.rule.six() {
		return n.cross(w, s, i)
	}
	s.rewrite(i)
	n.count.mapped[dir(i.Out)].Add(1)
	i.Parse(i.Pkt, i.If, i.Out)
	return pfil.Translated
}

// headless answers for a packet whose transport header is not whole: it cannot
// be translated, and must not pass where it would have been.
func (n *NAT) headless(rs *ruleset, i *pfil.Info) pfil.Verdict {
	if rs.match(n, i) == nil {
		return pfil.Untouched
	}
	n.count.bad.Add(1)
	return pfil.Refused
}

func dir(out bool) int {
	if out {
		return 1
	}
	return 0
}
