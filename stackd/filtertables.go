package stackd

import (
	"cmp"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"ionet/ipl"
	"ionet/protocol"
	"ionet/stack/ipfilter"
	"ionet/stack/ipnat"
)

// listing is a table that a client reads page by page: rows are made once.
type listing struct {
	name, arg string
	next      uint64
	rows      []any
}

// sessionPage is how many states or sessions a page is made of.
const sessionPage = 256

func isFilterTable(name string) bool {
	switch name {
	case protocol.TableFilter, protocol.TableFilterRules, protocol.TableStates, protocol.TableFragments, protocol.TablePools, protocol.TablePoolEntries,
		protocol.TableNAT, protocol.TableNATRules, protocol.TableNATSessions:
		return true
	}
	return false
}

// filterTable serves a page of a table of the packet filter.
func (c *conn) filterTable(q protocol.TableRequest) ([]byte, error) {
	if err := c.privileged("look at the packet filter"); err != nil {
		return nil, err
	}
	s := c.s
	f, nat := s.eng.Engine().Filter(), s.eng.Engine().NAT()
	if f == nil || nat == nil {
		return nil, errNoFilter
	}
	// Of states and sessions there may be many: each page is made of its own.
	var rows []any
	if q.Cursor > 1<<32 {
		return nil, errf(unix.EINVAL, "no row %d", q.Cursor)
	}
	switch q.Name {
	case protocol.TableStates:
		for _, i := range f.States(int(q.Cursor), sessionPage) {
			rows = append(rows, stateRow(i))
		}
		return sessionsPage(rows, q.Cursor)
	case protocol.TableNATSessions:
		for _, i := range nat.Sessions(int(q.Cursor), sessionPage) {
			rows = append(rows, sessionRow(i))
		}
		return sessionsPage(rows, q.Cursor)
	}
	l := &c.listing
	if q.Cursor == 0 || q.Cursor != l.next || l.name != q.Name || l.arg != q.Arg {
		rows, err := s.filterRows(f, nat, q.Name, q.Arg)
		if err != nil {
			return nil, err
		}
		*l = listing{name: q.Name, arg: q.Arg, rows: rows}
	}
	page, next, err := tablePage(l.rows, q.Cursor, protocol.MaxPayload-8)
	if l.next = next; next == 0 {
		*l = listing{}
	}
	if err != nil {
		return nil, err
	}
	return append(protocol.AppendPage(nil, next), page...), nil
}

func sessionsPage(rows []any, cursor uint64) ([]byte, error) {
	page, next, err := tablePage(rows, 0, protocol.MaxPayload-8)
	if err != nil {
		return nil, err
	}
	switch {
	case next > 0:
		next += cursor
	case len(rows) == sessionPage:
		next = cursor + sessionPage
	}
	return append(protocol.AppendPage(nil, next), page...), nil
}

func (s *server) filterRows(f *ipfilter.Filter, nat *ipnat.NAT, name, arg string) (rows []any, err error) {
	switch name {
	case protocol.TableFilter:
		return []any{s.filterRow(f, nat)}, nil
	case protocol.TableFilterRules:
		for set, setName := range []string{"active", "inactive"} {
			for _, l := range lists {
				for _, r := range f.Rules(ipfilter.Set(set), l.out, l.v6) {
					r.At = -1
					rows = append(rows, protocol.FilterRuleRow{Set: setName, Direction: direction(l.out), Family: familyName(l.v6), Group: r.Group,
						Number: r.Number, Rule: r.String(), Hits: r.Hits, Bytes: r.Bytes, States: r.States})
				}
			}
		}
	case protocol.TableFragments:
		for _, i := range f.Fragments() {
			rows = append(rows, protocol.FragmentRow{Family: familyName(i.V6), Direction: direction(i.Out), Protocol: int(i.Proto), Src: i.Src.String(),
				Dst: i.Dst.String(), ID: i.ID, State: i.State, TTL: wholeSeconds(i.TTL)})
		}
	case protocol.TablePools:
		for _, p := range sortedPools(f) {
			r := protocol.PoolRow{Name: p.Name, Kind: poolKind(p.Kind), Role: p.Role, Group: p.Group, Size: p.Size, Seed: p.Seed, Entries: len(p.Entries), Hits: p.Hits}
			if p.Kind == ipl.PoolGroupMap {
				r.Direction = direction(p.Out)
			}
			rows = append(rows, r)
		}
	case protocol.TablePoolEntries:
		for _, p := range f.Pools() {
			if p.Name != arg {
				continue
			}
			for _, e := range p.Entries {
				rows = append(rows, protocol.PoolEntryRow{Pool: p.Name, Entry: e.String()})
			}
			return rows, nil
		}
		return nil, errf(unix.ESRCH, "no pool %s", arg)
	case protocol.TableNAT:
		t := nat.Stats()
		return []any{protocol.NATRow{MappedIn: t.MappedIn, MappedOut: t.MappedOut, Added: t.Added, Expired: t.Expired, Evicted: t.Evicted, Bad: t.Bad,
			Exhausted: t.Exhausted, ICMP: t.ICMP, BadICMP: t.BadICMP, Frags: t.Frags, BadFrags: t.BadFrags, FragFull: t.FragFull,
			InUse: t.InUse, Rules: t.Rules}}, nil
	case protocol.TableNATRules:
		for _, r := range nat.Rules() {
			rows = append(rows, protocol.NATRuleRow{Rule: r.Rule.String(), Redirect: r.Rule.Kind == ipl.Rdr, Hits: r.Hits, Sessions: r.Sessions})
		}
	}
	return rows, nil
}

func sortedPools(f *ipfilter.Filter) []ipfilter.PoolInfo {
	all := f.Pools()
	slices.SortFunc(all, func(a, b ipfilter.PoolInfo) int { return cmp.Compare(a.Name, b.Name) })
	return all
}

func poolKind(k ipl.PoolKind) string {
	switch k {
	case ipl.PoolHash:
		return "hash"
	case ipl.PoolGroupMap:
		return "group-map"
	}
	return "tree"
}

func familyName(v6 bool) string {
	if v6 {
		return "inet6"
	}
	return "inet"
}

func (s *server) filterRow(f *ipfilter.Filter, nat *ipnat.NAT) protocol.FilterRow {
	st := f.Stats()
	sysctl := func(name string) string { v, _ := s.eng.Engine().Env.MIB.Get(name); return v }
	r := protocol.FilterRow{Enabled: s.eng.Engine().FilterEnabled(), Default: "pass", In: filterDirection(st.In), Out: filterDirection(st.Out),
		States: protocol.FilterStates{Active: st.States.Active, Added: st.States.Added, Expired: st.States.Expired, Removed: st.States.Removed,
			Full: st.States.Full, Evicted: st.States.Evicted, OutOfWindow: st.States.OutOfWindow, Hits: st.States.Hits, Misses: st.States.Misses,
			TCP: st.States.TCP, UDP: st.States.UDP, ICMP: st.States.ICMP},
		Frags: protocol.FilterFragments(st.Frags), Logs: [3]int{f.Waiting(ipfilter.PacketLog), f.Waiting(ipfilter.StateLog), nat.Waiting()}}
	r.States.Max, _ = strconv.ParseInt(sysctl("net.inet.ipf.fr_statemax"), 10, 64) // a number, or 0 without the node
	if sysctl("net.inet.ipf.fr_pass") == "0" {
		r.Default = "block"
	}
	s.filter.mu.Lock()
	r.Since = s.filter.since.Unix()
	s.filter.mu.Unlock()
	count := func(set ipfilter.Set, out, v6 bool) int { return len(f.Rules(set, out, v6)) }
	r.Rules = protocol.FilterRuleCounts{In: count(ipfilter.Active, false, false), Out: count(ipfilter.Active, true, false),
		In6: count(ipfilter.Active, false, true), Out6: count(ipfilter.Active, true, true),
		Inactive:  count(ipfilter.Inactive, false, false) + count(ipfilter.Inactive, true, false),
		Inactive6: count(ipfilter.Inactive, false, true) + count(ipfilter.Inactive, true, true)}
	return r
}

func filterDirection(d ipfilter.DirStats) protocol.FilterDirection {
	return protocol.FilterDirection{Passed: d.Passed, Blocked: d.Blocked, NoMatch: d.NoMatch, Logged: d.Logged, LogFailed: d.LogFailed,
		NewStates: d.NewStates, BadStates: d.BadStates, KnownFrags: d.KnownFrags, NewFrags: d.NewFrags, BadFrags: d.BadFrags, Replies: d.Replies, RSTs: d.RSTs,
		IPv6: d.IPv6, Counted: d.Counted, Short: d.Short, Bad: d.Bad, LoggedPassed: d.LoggedPassed, LoggedBlocked: d.LoggedBlocked}
}

// wholeSeconds counts what has begun.
func wholeSeconds(ns int64) int64 { return max(0, (ns+1e9-1)/1e9) }

func stateRow(i ipfilter.StateInfo) protocol.StateRow {
	return protocol.StateRow{Family: familyName(i.V6), Protocol: int(i.Proto), Src: i.Src.String(), Dst: i.Dst.String(), SrcPort: int(i.Sport),
		DstPort: int(i.Dport), ICMPType: int(i.ICMP), TCP: [2]int{int(i.TCP[0]), int(i.TCP[1])}, Rule: i.Rule, If: i.If, Packets: i.Packets, Bytes: i.Bytes,
		Age: i.Age / 1e9, TTL: wholeSeconds(i.TTL)}
}

func sessionRow(i ipnat.SessionInfo) protocol.NATSessionRow {
	text := func(a netip.AddrPort) string { return a.String() }
	kind, _, _ := strings.Cut(i.Rule, " ")
	return protocol.NATSessionRow{Kind: kind, Interface: i.If, Protocol: int(i.Proto), Inside: text(i.Inside), Outer: text(i.Outer), Remote: text(i.Remote),
		Established: i.Established, Age: i.Age / 1e9, Idle: i.Idle / 1e9, TTL: wholeSeconds(i.TTL), PacketsIn: i.PacketsIn, PacketsOut: i.PacketsOut,
		BytesIn: i.BytesIn, BytesOut: i.BytesOut, Rule: i.Rule, Tag: i.Tag}
}
