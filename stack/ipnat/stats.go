package ipnat

import (
	"cmp"
	"encoding/binary"
	"net/netip"
	"slices"
	"sync/atomic"

	"ionet/ipl"
)

type counters struct {
	mapped                                  [2]atomic.Uint64 // in, out
	added, expired, evicted, bad, exhausted atomic.Uint64
	icmp, badICMP, frags, badFrag, fragFull atomic.Uint64
	orphaned                                atomic.Uint64
	expected, ftpEdits                      atomic.Uint64
	ftpRefused, ftpDropped                  atomic.Uint64
}

// Stats is what ipnat -s shows.
type Stats struct {
	MappedIn, MappedOut uint64 // packets
	Added               uint64 // sessions
	Expired             uint64
	Evicted             uint64 // they made room
	Orphaned            uint64 // their interface has gone, or its address that they had, or the way leads elsewhere
	Bad                 uint64 // packets that no session could be made for
	Exhausted           uint64 // of these: no port was free
	ICMP, BadICMP       uint64 // errors translated; refused
	Frags, BadFrags     uint64 // later fragments translated; that came before the first
	FragFull            uint64 // datagrams whose fragments could not be remembered
	Expected            uint64 // connections that a proxy has read of
	FTPEdits            uint64 // lines changed
	FTPRefused          uint64 // that announce another host, or a port of servers: not followed
	FTPDropped          uint64 // segments of control connections: not the next one, broken, or too many changes not acknowledged
	InUse, Rules        int
}

// Stats answers the counters.
func (n *NAT) Stats() Stats {
	c := &n.count
	return Stats{MappedIn: c.mapped[0].Load(), MappedOut: c.mapped[1].Load(), Added: c.added.Load(), Expired: c.expired.Load(),
		Evicted: c.evicted.Load(), Orphaned: c.orphaned.Load(), Bad: c.bad.Load(), Exhausted: c.exhausted.Load(), ICMP: c.icmp.Load(), BadICMP: c.badICMP.Load(),
		Frags: c.frags.Load(), BadFrags: c.badFrag.Load(), FragFull: c.fragFull.Load(), Expected: c.expected.Load(), FTPEdits: c.ftpEdits.Load(),
		FTPRefused: c.ftpRefused.Load(), FTPDropped: c.ftpDropped.Load(), InUse: n.table.len(), Rules: len(n.rules.Load().all)}
}

// SessionInfo describes a session, as ipnat -l shows it.
type SessionInfo struct {
	Kind                  ipl.NATKind
	If                    string
	Proto                 uint8
	Inside, Outer, Remote netip.AddrPort // of an echo the port of the first two is its identifier
	Established           bool           // of TCP
	Age, Idle, TTL        int64          // nanoseconds
	PacketsIn, PacketsOut uint64
	BytesIn, BytesOut     uint64
	Rule, Tag             string
}

// Sessions describe up to limit sessions behind the first skip, those that made the
// longest way from being heard of first; limit 0: all.
func (n *NAT) Sessions(skip, limit int) (some []SessionInfo) {
	now := n.env.Now()
	t := &n.table
	t.mu.Lock()
	defer t.mu.Unlock()
	for c := range t.queues {
		for s := t.queues[c].next; s != &t.queues[c]; s = s.next {
			if skip--; skip >= 0 {
				continue
			}
			if limit > 0 && len(some) == limit {
				return some
			}
			some = append(some, s.info(now))
		}
	}
	return some
}

// HostInfo is an inside address and an outer one that stands for it, as ipnat -l lists them
// below the sessions.
type HostInfo struct {
	Inside, Outer netip.Addr
	Sessions      int
}

// Hosts describe up to limit of those that map, map-block, bimap and nat64 have sessions of, behind the
// first skip, by their addresses; limit 0: all.
func (n *NAT) Hosts(skip, limit int) []HostInfo {
	uses := map[[2]netip.Addr]int{}
	t := &n.table
	t.mu.Lock()
	for c := range t.queues {
		for s := t.queues[c].next; s != &t.queues[c]; s = s.next {
			if s.rule.Kind != ipl.Rdr {
				uses[[2]netip.Addr{s.in.addrPort(s.v6 || s.rule.six()).Addr(), s.out.addrPort(s.v6).Addr()}]++
			}
		}
	}
	t.mu.Unlock()
	all := make([]HostInfo, 0, len(uses))
	for h, k := range uses { // map order: sorted below
		all = append(all, HostInfo{h[0], h[1], k})
	}
	slices.SortFunc(all, func(a, b HostInfo) int {
		return cmp.Or(a.Inside.Compare(b.Inside), a.Outer.Compare(b.Outer))
	})
	all = all[min(skip, len(all)):]
	if limit > 0 {
		all = all[:min(limit, len(all))]
	}
	return all
}

func (s *session) info(now int64) SessionInfo {
	return SessionInfo{Kind: s.rule.Kind, If: s.ifp.Name, Proto: s.proto, Inside: s.in.addrPort(s.v6 || s.rule.six()), Outer: s.out.addrPort(s.v6),
		Remote: s.rem.addrPort(s.v6), Established: tcpUp(s.tcp.Load()), Age: now - s.born, Idle: now - s.last.Load(), TTL: s.expire.Load() - now,
		PacketsIn: s.pkts[0].Load(), PacketsOut: s.pkts[1].Load(), BytesIn: s.bytes[0].Load(), BytesOut: s.bytes[1].Load(),
		Rule: s.rule.text, Tag: s.rule.Tag}
}

func (e end) addrPort(v6 bool) netip.AddrPort {
	var b [16]byte
	binary.BigEndian.PutUint64(b[:], e.hi)
	binary.BigEndian.PutUint64(b[8:], e.lo)
	if !v6 {
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte(b[12:])), e.port)
	}
	return netip.AddrPortFrom(netip.AddrFrom16(b), e.port)
}
