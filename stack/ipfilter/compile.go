package ipfilter

import (
	"net/netip"
	"slices"

	"github.com/gaissmai/bart"

	"ionet/ipl"
	"ionet/stack/netif"
	"ionet/stack/packet"
	"ionet/stack/pfil"
)

// A list of rules is compiled so that most of them are never looked at. Each
// rule stands in one of five places, by what it asks that fewest of the others
// ask: its destination network, its source network, its destination port, its
// source port, or, asking none of them, with those that every packet is asked about.
// A packet takes at most one row from each place; the rows are walked together in the order of the list,
// and what stands in them is asked in full. So a list costs a packet two
// look-ups of longest prefixes and two of ports, and then as many rules as
// concern its hosts and ports.
type compiled struct {
	dst, src     *bart.Table[row] // nil: empty
	dport, sport ports
	rest         row
}

// row are numbers of rules, ascending.
type row []int32

// ports are rows by intervals: those from start[i] on belong to rows[i].
type ports struct {
	start []uint16
	rows  []row
}

func (p *ports) at(n uint16) row {
	lo, hi := 0, len(p.start)
	for lo < hi {
		if m := (lo + hi) / 2; p.start[m] <= n {
			lo = m + 1
		} else {
			hi = m
		}
	}
	if lo == 0 {
		return nil
	}
	return p.rows[lo-1]
}

// list is the rules of one direction, version and group, in order.
type list struct {
	rules   []*rule
	members []*list // of rules with a head, by number; nil: none
	view    *view   // that it is of
	c       compiled
	texts   map[string]*rule // while an edit goes on
}

const (
	byDst = iota
	bySrc
	byDport
	bySport
	places
)

// spans is the ports that a condition lets through, as intervals.
func spans(p ipl.Port) [][2]int {
	const last = 65535
	lo, hi := int(p.Lo), int(p.Hi)
	switch p.Op {
	case ipl.PortEq:
		return [][2]int{{lo, lo}}
	case ipl.PortNe:
		return [][2]int{{0, lo - 1}, {lo + 1, last}}
	case ipl.PortLt:
		return [][2]int{{0, lo - 1}}
	case ipl.PortGt:
		return [][2]int{{lo + 1, last}}
	case ipl.PortLe:
		return [][2]int{{0, lo}}
	case ipl.PortGe:
		return [][2]int{{lo, last}}
	case ipl.PortOutside:
		return [][2]int{{0, lo - 1}, {hi + 1, last}}
	case ipl.PortInside:
		return [][2]int{{lo + 1, hi - 1}}
	case ipl.PortRange:
		return [][2]int{{lo, hi}}
	}
	return nil
}

// asks is what of a rule can place it, comparable; nil: nothing there.
func (r *rule) asks(place int) any {
	switch place {
	case byDst:
		if p, ok := r.dst.prefixOf(); ok && p.Bits() > 0 {
			return p
		}
	case bySrc:
		if p, ok := r.src.prefixOf(); ok && p.Bits() > 0 {
			return p
		}
	case byDport:
		if r.Dst.Port.Op != ipl.PortAny {
			return r.Dst.Port
		}
	case bySport:
		if r.Src.Port.Op != ipl.PortAny {
			return r.Src.Port
		}
	}
	return nil
}

// compile takes time proportional to the rules, their nesting, and the intervals of
// their ports.
func (l *list) compile() {
	shared := map[any]int{} // how many rules ask the same at the same place
	type asked struct {
		place int
		what  any
	}
	for _, r := range l.rules {
		for p := range places {
			if what := r.asks(p); what != nil {
				shared[asked{p, what}]++
			}
		}
	}
	var nets [2]map[netip.Prefix]row
	var span [2][]interval
	l.c = compiled{}
	for n, r := range l.rules {
		best, fewest := places, 0
		for p := range places {
			if what := r.asks(p); what != nil {
				if k := shared[asked{p, what}]; best == places || k < fewest {
					best, fewest = p, k
				}
			}
		}
		switch best {
		case byDst, bySrc:
			if nets[best] == nil {
				nets[best] = map[netip.Prefix]row{}
			}
			p := r.asks(best).(netip.Prefix)
			nets[best][p] = append(nets[best][p], int32(n))
		case byDport, bySport:
			for _, s := range spans(r.asks(best).(ipl.Port)) {
				if s[0] <= s[1] {
					span[best-byDport] = append(span[best-byDport], interval{s[0], s[1], int32(n)})
				}
			}
		default:
			l.c.rest = append(l.c.rest, int32(n))
		}
	}
	l.c.dst, l.c.src = trie(nets[byDst]), trie(nets[bySrc])
	l.c.dport, l.c.sport = intervals(span[0]), intervals(span[1])
}

// trie gives each network the rules of those that it lies in, too.
func trie(nets map[netip.Prefix]row) *bart.Table[row] {
	if nets == nil {
		return nil
	}
	own, t := new(bart.Table[row]), new(bart.Table[row])
	for p, r := range nets { // map order: a trie is the same whatever the order
		own.Insert(p, r)
	}
	for p := range nets { // map order: as above
		var all row
		for _, r := range own.Supernets(p) {
			all = append(all, r...)
		}
		slices.Sort(all)
		t.Insert(p, all)
	}
	return t
}

type interval struct {
	lo, hi int
	rule   int32
}

func intervals(all []interval) (p ports) {
	if len(all) == 0 {
		return p
	}
	var cuts []int
	for _, v := range all {
		cuts = append(cuts, v.lo, v.hi+1)
	}
	slices.Sort(cuts)
	cuts = slices.Compact(cuts)
	slices.SortFunc(all, func(a, b interval) int { return a.lo - b.lo })
	next, open := 0, []interval(nil)
	for _, c := range cuts {
		if c > 65535 {
			break
		}
		open = slices.DeleteFunc(open, func(v interval) bool { return v.hi < c })
		for ; next < len(all) && all[next].lo <= c; next++ {
			open = append(open, all[next])
		}
		var r row
		for _, v := range open {
			r = append(r, v.rule)
		}
		slices.Sort(r)
		p.start, p.rows = append(p.start, uint16(c)), append(p.rows, slices.Compact(r))
	}
	return p
}

// candidates are the rows that concern a packet.
func (c *compiled) candidates(l *look, rows *[5]row) {
	rows[0], rows[1], rows[2], rows[3], rows[4] = c.rest, nil, nil, nil, nil
	if c.dst != nil {
		rows[1], _ = c.dst.Lookup(onWire(l.Dst))
	}
	if c.src != nil {
		rows[2], _ = c.src.Lookup(onWire(l.Src))
	}
	if l.Is&pfil.FragBody == 0 { // who asks for a port asks for one that is there
		rows[3], rows[4] = c.dport.at(l.Dport), c.sport.at(l.Sport)
	}
}

func onWire(ip netip.Addr) netip.Addr {
	ip, _ = packet.Unscoped(ip)
	return ip
}

// next takes the lowest number from the rows; -1: they are empty.
func next(rows *[5]row) int32 {
	best, n := -1, int32(-1)
	for i := range rows {
		if r := rows[i]; len(r) > 0 && (best < 0 || r[0] < n) {
			best, n = i, r[0]
		}
	}
	if best >= 0 {
		rows[best] = rows[best][1:]
	}
	return n
}

// verdict is what a scan has come to.
type verdict struct {
	rule  *rule // the one that decides; nil: none matched
	quick bool
	// stateless is whether every packet of the flow would fare the same; then hit
	// are the rules that have matched on the way.
	stateless bool
	hit       []*rule
	trace     bool // fill in the two
	matched   bool // whether any rule did
	calls     int  // groups that group-maps have chosen
}

// maxCalls bounds the groups that group-maps choose for a packet: one may lead to itself.
const maxCalls = 64

// scan asks the rules of the active set that are for this.
func (f *Filter) scan(w *netif.Work, i *pfil.Info, a aside, v *verdict) {
	v.stateless = true
	set := f.active.Load().views[a]
	if set == nil {
		return
	}
	if li := set.main[dirOf(i.Out)][side(i.V6)]; len(li.rules) > 0 {
		l := f.look(i)
		li.scan(w, &l, a, v)
	}
}

// account asks the rules that count.
func (f *Filter) account(w *netif.Work, i *pfil.Info) {
	var v verdict
	f.scan(w, i, counting, &v)
	if v.matched {
		f.stat(i).Counted.Add(1)
	}
}

func (li *list) scan(w *netif.Work, l *look, a aside, v *verdict) {
	if len(li.rules) == 0 {
		return
	}
	var rows [5]row
	li.c.candidates(l, &rows)
	skipTo := int32(0)
	for n := next(&rows); n >= 0; n = next(&rows) {
		if n < skipTo {
			continue
		}
		r := li.rules[n]
		if !r.aboutFlow(l) {
			continue
		}
		if v.trace && r.eachPacket() {
			v.stateless = false
		}
		if !r.aboutPacket(l) {
			continue
		}
		was := v.rule
		if r.aside == a {
			if v.matched = true; v.trace {
				v.hit = append(v.hit, r)
			} else {
				r.Hits.Add(1)
				r.Bytes.Add(uint64(l.Pkt.Len()))
			}
			switch r.Action {
			case ipl.Log:
				if !v.trace {
					l.f.logPacket(w, l.Info, r, LogOnly)
				}
				continue
			case ipl.Skip:
				skipTo = n + 1 + int32(r.Skip)
				continue
			case ipl.Pass, ipl.Block:
				v.rule = r
			}
		}
		m := li.members[n]
		if r.Action == ipl.Call && v.calls < maxCalls {
			v.calls++
			m = li.view.chosen(l, r)
		}
		if m != nil {
			m.scan(w, l, a, v)
		}
		// A head's quick ends the list behind its group, that of a call if its group has decided.
		if decides := v.rule != was || v.rule == r; decides && (r.aside == a && r.Quick || v.rule.Quick) {
			v.quick = true
		}
		if v.quick {
			return
		}
	}
}

// chosen is the group that the group-map of a rule chooses for a packet, or nil.
func (s *view) chosen(l *look, r *rule) *list {
	ip := l.Src
	if r.MapDst {
		ip = l.Dst
	}
	return s.groups[groupKey{dirOf(l.Out), side(l.V6), l.f.pools.group(r.Map, l.Out, ip)}]
}

// eachPacket reports a rule that more than its verdict is to be had from for each packet of a flow.
func (r *rule) eachPacket() bool {
	return r.varies || r.Log != nil || r.Action == ipl.Log || r.KeepState != nil || r.To != (ipl.Target{}) || r.DupTo != (ipl.Target{}) || r.ReplyTo != (ipl.Target{}) || r.Fast
}
