package inet

import (
	"cmp"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"

	"ionet/stack/callout"
	"ionet/stack/netif"
	"ionet/stack/packet"
	"ionet/stack/socket"
)

type groupKey struct {
	ifindex uint32
	group   netip.Addr
}

// groups is the stack's memberships: which groups each interface listens to,
// and what of that the routers are still to be told (igmp.go).
type groups struct {
	in  *Inet
	set atomic.Pointer[map[groupKey]bool] // what the packet path asks

	mu      sync.Mutex
	all     map[groupKey]*group
	leaving map[groupKey]*group // left, and the routers not told often enough
	ifs     map[uint32]*igmpIf
}

// group is one interface's membership: the merged filter of its sockets
// (RFC 3376 §3.2).
type group struct {
	key     groupKey
	ifp     *netif.Interface
	members []*Options
	include bool
	sources []netip.Addr

	timer   callout.Timer[*netif.Work]
	changes int // state change reports still to send
	records []record
	answer  bool // a query waits for an answer
	asked   []netip.Addr
	last    bool // we sent the latest version 1 or 2 report
	gone    bool // left; what is still to be reported is
}

type record struct {
	typ     uint8
	sources []netip.Addr
}

func (g *groups) init(in *Inet) {
	g.in, g.all, g.leaving, g.ifs = in, map[groupKey]*group{}, map[groupKey]*group{}, map[uint32]*igmpIf{}
	g.set.Store(&map[groupKey]bool{})
}

func (g *groups) joined(ifindex uint32, ip netip.Addr) bool {
	return (*g.set.Load())[groupKey{ifindex, ip}]
}

func (g *groups) publish() {
	s := make(map[groupKey]bool, len(g.all))
	for k := range g.all { // map order: into a map
		s[k] = true
	}
	g.set.Store(&s)
}

// GroupInfo is a membership of an interface.
type GroupInfo struct {
	If      *netif.Interface
	Group   netip.Addr
	Members int
}

// Groups are the memberships in order of interface and address.
func (in *Inet) Groups() []GroupInfo {
	g := &in.groups
	g.mu.Lock()
	defer g.mu.Unlock()
	out := make([]GroupInfo, 0, len(g.all))
	for _, m := range g.sorted() {
		out = append(out, GroupInfo{m.ifp, m.key.group, len(m.members)})
	}
	return out
}

func (g *groups) sorted() []*group {
	out := make([]*group, 0, len(g.all))
	for _, m := range g.all { // map order: sorted below
		out = append(out, m)
	}
	slices.SortFunc(out, func(a, b *group) int {
		return cmp.Or(cmp.Compare(a.key.ifindex, b.key.ifindex), a.key.group.Compare(b.key.group))
	})
	return out
}

// attach joins the all-hosts group when an interface gets its first address.
func (g *groups) attach(ifp *netif.Interface) {
	if ifp.Flags()&netif.FlagMulticast == 0 {
		return
	}
	w := g.in.env.Begin(g.in.env.Now())
	defer w.End()
	g.mu.Lock()
	k := groupKey{ifp.Index, allHosts}
	have := g.all[k] != nil
	g.mu.Unlock()
	if !have {
		g.join(w, ifp, allHosts, nil)
	}
}

func (g *groups) detach(ifp *netif.Interface) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, m := range g.sorted() {
		if m.ifp == ifp {
			g.drop(m)
		}
	}
	for k, m := range g.leaving { // map order: nothing is sent
		if m.ifp == ifp {
			g.forget(k)
		}
	}
	delete(g.ifs, ifp.Index)
	g.publish()
}

func (g *groups) drop(m *group) {
	m.gone = true
	g.in.env.Wheel.Stop(&m.timer)
	delete(g.all, m.key)
	if m.ifp.Type == netif.TypeEther {
		m.ifp.LeaveGroup(netif.GroupMAC(m.key.group))
	}
}

// forget ends the reports about a group that was left.
func (g *groups) forget(k groupKey) {
	if m := g.leaving[k]; m != nil {
		m.changes = 0
		g.in.env.Wheel.Stop(&m.timer)
		delete(g.leaving, k)
	}
}

func (g *groups) join(w *netif.Work, ifp *netif.Interface, ip netip.Addr, o *Options) {
	g.mu.Lock()
	defer g.mu.Unlock()
	k := groupKey{ifp.Index, ip}
	m := g.all[k]
	if m == nil {
		g.forget(k)
		m = &group{key: k, ifp: ifp, include: true}
		m.timer.Fn = func(w *netif.Work) { g.fire(w, m) }
		g.all[k] = m
		if ifp.Type == netif.TypeEther {
			ifp.JoinGroup(netif.GroupMAC(ip))
		}
		g.publish()
	}
	m.members = append(m.members, o)
	g.change(w, m)
}

func (g *groups) leave(w *netif.Work, ifp *netif.Interface, ip netip.Addr, o *Options) {
	g.mu.Lock()
	defer g.mu.Unlock()
	m := g.all[groupKey{ifp.Index, ip}]
	if m == nil {
		return
	}
	if i := slices.Index(m.members, o); i >= 0 {
		m.members = slices.Delete(m.members, i, i+1)
	}
	g.change(w, m)
	if len(m.members) > 0 {
		return
	}
	more := m.changes > 0 && g.version(w, m.key.ifindex) == 3 // an older leave is said once
	g.drop(m)
	g.publish()
	if more {
		g.leaving[m.key] = m
		g.rearm(w, m)
	}
}

func (g *groups) refilter(w *netif.Work, ifp *netif.Interface, ip netip.Addr) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if m := g.all[groupKey{ifp.Index, ip}]; m != nil {
		g.change(w, m)
	}
}

// merge is RFC 3376 §3.2: one EXCLUDE makes the interface EXCLUDE, of what all
// exclude and nobody includes.
func (m *group) merge() (include bool, sources []netip.Addr) {
	include = true
	var excl, incl []netip.Addr
	first := true
	for _, o := range m.members {
		inc, src, ok := true, []netip.Addr(nil), false
		if o == nil { // the stack's own membership
			inc, ok = false, true
		} else {
			inc, src, ok = o.filter(m.ifp, m.key.group)
		}
		switch {
		case !ok:
		case inc:
			incl = append(incl, src...)
		case first:
			include, first, excl = false, false, slices.Clone(src)
		default:
			excl = slices.DeleteFunc(excl, func(a netip.Addr) bool { return !slices.Contains(src, a) })
		}
	}
	if include {
		sources = incl
	} else {
		sources = slices.DeleteFunc(excl, func(a netip.Addr) bool { return slices.Contains(incl, a) })
	}
	slices.SortFunc(sources, netip.Addr.Compare)
	return include, slices.Compact(sources)
}

// change works out what has changed in a membership and begins to report it.
func (g *groups) change(w *netif.Work, m *group) {
	include, sources := m.merge()
	wasIn, wasSrc := m.include, m.sources
	if include == wasIn && slices.Equal(sources, wasSrc) {
		return
	}
	m.include, m.sources = include, sources
	if !reported(m.key.group) || !m.ifp.Up() {
		m.changes = 0
		return
	}
	m.records = m.records[:0]
	switch {
	case include != wasIn && include:
		m.records = append(m.records, record{packet.IGMPChangeToInclude, sources})
	case include != wasIn:
		m.records = append(m.records, record{packet.IGMPChangeToExclude, sources})
	default:
		// ALLOW_NEW_SOURCES 5, BLOCK_OLD_SOURCES 6 (RFC 3376 §5.1).
		allow, block := minus(sources, wasSrc), minus(wasSrc, sources)
		if !include {
			allow, block = block, allow
		}
		if len(allow) > 0 {
			m.records = append(m.records, record{5, allow})
		}
		if len(block) > 0 {
			m.records = append(m.records, record{6, block})
		}
	}
	m.changes = robustness
	g.report(w, m)
}

func minus(a, b []netip.Addr) (out []netip.Addr) {
	for _, x := range a {
		if !slices.Contains(b, x) {
			out = append(out, x)
		}
	}
	return out
}

// reported tells the groups that routers hear of: not the all-hosts group
// (RFC 3376 §5).
func reported(ip netip.Addr) bool { return ip != allHosts }

var _ socket.NetOptions = (*Options)(nil)
