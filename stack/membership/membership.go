// Package membership is which multicast groups the interfaces of a stack listen
// to, and what routers are told of it: the host's side of IGMP (RFC 3376) and of
// MLD (RFC 3810), which are one machine. A family's room reads and writes the
// messages ([Messages]); this one merges the wishes of sockets (§3.2; §4.2),
// says what has changed as often as it takes, answers queries in their time, and
// speaks as old a version as the oldest router does.
package membership

import (
	"cmp"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"

	"ionet/stack/callout"
	"ionet/stack/netif"
)

const second = int64(1e9)

// Member is who listens to a group: the options of a socket.
type Member interface {
	// Filter is what the member wants of a group on ifp: the sources it includes, or all
	// but those it excludes. ok is false when it has left.
	Filter(ifp *netif.Interface, group netip.Addr) (include bool, sources []netip.Addr, ok bool)
}

// Types of records (RFC 3376 §4.2.12, RFC 3810 §5.2.12).
const (
	ModeIsInclude   = 1
	ModeIsExclude   = 2
	ChangeToInclude = 3
	ChangeToExclude = 4
	AllowNewSources = 5
	BlockOldSources = 6
)

// Record is what a report says of one group.
type Record struct {
	Type    uint8
	Group   netip.Addr
	Sources []netip.Addr
}

// Messages are a family's messages. Its methods are called under the lock of
// the [Set] and put what they send on the work list.
type Messages interface {
	// Reported tells the groups that routers are to hear of.
	Reported(ifp *netif.Interface, group netip.Addr) bool
	// Room is how many octets of records fit into a report on ifp.
	Room(ifp *netif.Interface) int
	// Report sends a report of the newest version.
	Report(w *netif.Work, ifp *netif.Interface, recs []Record)
	// Old sends an older version's report about a group, or its leave.
	Old(w *netif.Work, ifp *netif.Interface, group netip.Addr, version int, leave bool)
}

// Config is what a [Set] starts with.
type Config struct {
	Messages Messages
	Newest   int // version of the protocol: 3 of IGMP, 2 of MLD
	AddrLen  int // octets of an address
}

// Set is a stack's memberships of one family.
type Set struct {
	env  *netif.Env
	conf Config
	seen atomic.Pointer[map[key]bool] // what the packet path asks

	mu      sync.Mutex
	all     map[key]*group
	leaving map[key]*group // left, and the routers not told often enough
	ifs     map[uint32]*link
}

type key struct {
	ifindex uint32
	group   netip.Addr
}

// group is one interface's membership: the merged filter of its members.
type group struct {
	key     key
	ifp     *netif.Interface
	members []Member
	include bool
	sources []netip.Addr // in order

	// What has changed and is still to be said (RFC 3376 §5.1, RFC 3810 §6.1).
	mode   int      // how often: the mode, with all sources
	moved  []source // those that have come or gone
	change callout.Timer[*netif.Work]

	// What a query wants to know.
	answer bool
	asked  []netip.Addr // of these sources only; none: everything
	due    int64
	reply  callout.Timer[*netif.Work]

	last bool // ours was the latest report of an older version
	gone bool // left; what is still to be said is
}

// source is one that has come or gone, and in how many reports that is still
// to be said.
type source struct {
	addr netip.Addr
	left int
}

// New makes an empty set.
func New(env *netif.Env, c Config) *Set {
	s := &Set{env: env, conf: c, all: map[key]*group{}, leaving: map[key]*group{}, ifs: map[uint32]*link{}}
	s.seen.Store(&map[key]bool{})
	return s
}

// Joined reports whether interface ifindex listens to a group.
func (s *Set) Joined(ifindex uint32, ip netip.Addr) bool { return (*s.seen.Load())[key{ifindex, ip}] }

func (s *Set) publish() {
	seen := make(map[key]bool, len(s.all))
	for k := range s.all { // map order: into a map
		seen[k] = true
	}
	s.seen.Store(&seen)
}

// Info is a membership of an interface.
type Info struct {
	If      *netif.Interface
	Group   netip.Addr
	Members int
	Include bool // only of Sources; else of all but those
	Sources []netip.Addr
}

// Groups are the memberships in order of interface and address.
func (s *Set) Groups() []Info {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]Info, 0, len(s.all))
	for _, m := range s.sorted() {
		out = append(out, Info{m.ifp, m.key.group, len(m.members), m.include, m.sources})
	}
	return out
}

func (s *Set) sorted() []*group {
	out := make([]*group, 0, len(s.all))
	for _, m := range s.all { // map order: sorted below
		out = append(out, m)
	}
	slices.SortFunc(out, func(a, b *group) int {
		return cmp.Or(cmp.Compare(a.key.ifindex, b.key.ifindex), a.key.group.Compare(b.key.group))
	})
	return out
}

// on are the memberships of an interface that routers hear of, in order.
func (s *Set) on(ifp *netif.Interface) []*group {
	return slices.DeleteFunc(s.sorted(), func(m *group) bool { return m.ifp != ifp || !s.conf.Messages.Reported(m.ifp, m.key.group) })
}

// Detach forgets a departing interface.
func (s *Set) Detach(ifp *netif.Interface) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, m := range s.sorted() {
		if m.ifp == ifp {
			s.drop(m)
		}
	}
	for k, m := range s.leaving { // map order: nothing is sent
		if m.ifp == ifp {
			s.forget(k)
		}
	}
	if l := s.ifs[ifp.Index]; l != nil {
		s.env.Wheel.Stop(&l.reply)
		l.asked = false
		delete(s.ifs, ifp.Index)
	}
	s.publish()
}

// drop ends a membership of the link; the timers still say what there is to say
// if it is put among the leaving.
func (s *Set) drop(m *group) {
	m.gone = true
	s.quiet(m)
	delete(s.all, m.key)
	if m.ifp.Ether() {
		m.ifp.LeaveGroup(netif.GroupMAC(m.key.group))
	}
}

// quiet stops what is still to be said of a membership.
func (s *Set) quiet(m *group) {
	m.answer, m.asked = false, nil
	s.env.Wheel.Stop(&m.change)
	s.env.Wheel.Stop(&m.reply)
}

// forget ends the reports about a group that was left.
func (s *Set) forget(k key) {
	if m := s.leaving[k]; m != nil {
		m.said()
		s.quiet(m)
		delete(s.leaving, k)
	}
}

// Join adds a member to a group on ifp. nil is the stack itself, which wants
// all sources, and may be a member several times.
func (s *Set) Join(w *netif.Work, ifp *netif.Interface, ip netip.Addr, o Member) {
	s.mu.Lock()
	defer s.mu.Unlock()
	k := key{ifp.Index, ip}
	m := s.all[k]
	if m == nil {
		s.forget(k)
		m = &group{key: k, ifp: ifp, include: true}
		m.change.Fn = func(w *netif.Work) { s.tell(w, m) }
		m.reply.Fn = func(w *netif.Work) { s.answer(w, m) }
		s.all[k] = m
		if ifp.Ether() {
			ifp.JoinGroup(netif.GroupMAC(ip))
		}
		s.publish()
	}
	m.members = append(m.members, o)
	s.changed(w, m)
}

// Leave takes a member away, once.
func (s *Set) Leave(w *netif.Work, ifp *netif.Interface, ip netip.Addr, o Member) {
	s.mu.Lock()
	defer s.mu.Unlock()
	m := s.all[key{ifp.Index, ip}]
	if m == nil {
		return
	}
	i := slices.Index(m.members, o)
	if i < 0 {
		return
	}
	m.members = slices.Delete(m.members, i, i+1)
	s.changed(w, m)
	if len(m.members) > 0 {
		return
	}
	s.drop(m)
	s.publish()
	if m.left() > 0 && s.version(w, ifp) == s.conf.Newest { // an older leave is said once
		s.leaving[m.key] = m
		s.rearm(w, m)
	}
}

// Refilter is told that what a member wants of a group has changed.
func (s *Set) Refilter(w *netif.Work, ifp *netif.Interface, ip netip.Addr) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if m := s.all[key{ifp.Index, ip}]; m != nil {
		s.changed(w, m)
	}
}

// merge is RFC 3376 §3.2, RFC 3810 §4.2: one EXCLUDE makes the interface EXCLUDE, of what all
// exclude and nobody includes.
func (m *group) merge() (include bool, sources []netip.Addr) {
	include = true
	var excl, incl []netip.Addr
	first := true
	for _, o := range m.members {
		inc, src, ok := false, []netip.Addr(nil), true
		if o != nil {
			inc, src, ok = o.Filter(m.ifp, m.key.group)
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

// changed works out what has changed in a membership and begins to report it.
func (s *Set) changed(w *netif.Work, m *group) {
	include, sources := m.merge()
	wasIn, was := m.include, m.sources
	if include == wasIn && slices.Equal(sources, was) {
		return
	}
	m.include, m.sources = include, sources
	if !s.conf.Messages.Reported(m.ifp, m.key.group) || !m.ifp.Up() {
		m.said()
		return
	}
	if include != wasIn {
		m.mode, m.moved = robustness, nil // the new mode comes with all there is to say
	} else {
		m.move(sources, was)
		m.move(was, sources)
	}
	s.report(w, m)
}

// move notes the sources that are in one list and not in the other.
func (m *group) move(in, notIn []netip.Addr) {
	for _, a := range in {
		if slices.Contains(notIn, a) {
			continue
		}
		i, found := slices.BinarySearchFunc(m.moved, a, func(s source, a netip.Addr) int { return s.addr.Compare(a) })
		if !found {
			m.moved = slices.Insert(m.moved, i, source{addr: a})
		}
		m.moved[i].left = robustness
	}
}

// left is in how many reports something of a change is still to be said.
func (m *group) left() int {
	n := m.mode
	for _, s := range m.moved {
		n = max(n, s.left)
	}
	return n
}

// said forgets what was to be said of changes.
func (m *group) said() { m.mode, m.moved = 0, nil }

// once notes that one report has said it.
func (m *group) once() {
	m.mode = max(m.mode-1, 0)
	for i := range m.moved {
		m.moved[i].left--
	}
	m.moved = slices.DeleteFunc(m.moved, func(s source) bool { return s.left == 0 })
}
