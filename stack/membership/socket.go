package membership

import (
	"net/netip"
	"slices"
	"sync"
	"syscall"

	"ionet/stack/netif"
)

const (
	// maxGroups bounds the groups of one socket (IP_MAX_MEMBERSHIPS), and
	// maxSources the sources that it names for one of them.
	maxGroups  = 256
	maxSources = 64
)

// Socket is the memberships of one socket, each with its source filter
// (RFC 3376 §3, RFC 3810 §3). It is a [Member].
type Socket struct {
	set *Set

	mu     sync.Mutex
	list   []*filter
	closed bool
}

type filter struct {
	ifp     *netif.Interface
	group   netip.Addr
	include bool
	sources []netip.Addr // replaced by a change
}

// Init makes it ready.
func (s *Socket) Init(set *Set) { s.set = set }

func (s *Socket) find(ifp *netif.Interface, group netip.Addr) *filter {
	for _, m := range s.list {
		if m.group == group && m.ifp == ifp {
			return m
		}
	}
	return nil
}

func (s *Socket) remove(m *filter) {
	s.list = slices.DeleteFunc(s.list, func(x *filter) bool { return x == m })
}

// Join joins a group, for all sources. EADDRINUSE: it is joined; ETOOMANYREFS.
func (s *Socket) Join(w *netif.Work, ifp *netif.Interface, group netip.Addr) error {
	s.mu.Lock()
	var err error
	switch {
	case s.closed:
		err = syscall.EBADF
	case s.find(ifp, group) != nil:
		err = syscall.EADDRINUSE
	case len(s.list) >= maxGroups:
		err = syscall.ETOOMANYREFS
	default:
		s.list = append(s.list, &filter{ifp: ifp, group: group})
	}
	s.mu.Unlock()
	if err == nil {
		s.enter(w, ifp, group)
	}
	return err
}

// enter joins the interface's membership. A Close that came between noting the
// group and this has left too early.
func (s *Socket) enter(w *netif.Work, ifp *netif.Interface, group netip.Addr) {
	s.set.Join(w, ifp, group, s)
	s.mu.Lock()
	closed := s.closed
	s.mu.Unlock()
	if closed {
		s.set.Leave(w, ifp, group, s)
	}
}

// Leave leaves a group. EADDRNOTAVAIL: it is not joined.
func (s *Socket) Leave(w *netif.Work, ifp *netif.Interface, group netip.Addr) error {
	s.mu.Lock()
	m := s.find(ifp, group)
	if m != nil {
		s.remove(m)
	}
	s.mu.Unlock()
	if m == nil {
		return syscall.EADDRNOTAVAIL
	}
	s.set.Leave(w, ifp, group, s)
	return nil
}

// Change is what a call does to a source filter (RFC 3678 §4.1, §5.1).
type Change int

const (
	AddSource   Change = iota // joins the group if need be
	DropSource                // leaves it with the last one
	BlockSource               // of a group that is joined for all
	UnblockSource
)

// Source changes a source filter. EINVAL: the group is not joined in the mode
// that the change belongs to; EADDRNOTAVAIL: it is so already; ENOBUFS.
func (s *Socket) Source(w *netif.Work, ifp *netif.Interface, group, src netip.Addr, c Change) error {
	add := c == AddSource || c == BlockSource
	s.mu.Lock()
	m := s.find(ifp, group)
	had := m != nil
	var err error
	switch {
	case s.closed:
		err = syscall.EBADF
	case m == nil && c == AddSource && len(s.list) < maxGroups:
		m = &filter{ifp: ifp, group: group, include: true}
		s.list = append(s.list, m)
	case m == nil:
		err = syscall.EINVAL
	case m.include != (c == AddSource || c == DropSource):
		err = syscall.EINVAL // RFC 3678 §4.1.3: the two modes do not mix
	}
	gone := false
	if err == nil {
		i := slices.Index(m.sources, src)
		switch {
		case add && i >= 0, !add && i < 0:
			err = syscall.EADDRNOTAVAIL
		case add && len(m.sources) >= maxSources:
			err = syscall.ENOBUFS
		case add:
			m.sources = append(slices.Clone(m.sources), src)
		default:
			m.sources = slices.Delete(slices.Clone(m.sources), i, i+1)
			if gone = m.include && len(m.sources) == 0; gone {
				s.remove(m)
			}
		}
	}
	s.mu.Unlock()
	switch {
	case err != nil:
	case !had:
		s.enter(w, ifp, group)
	case gone:
		s.set.Leave(w, ifp, group, s)
	default:
		s.set.Refilter(w, ifp, group)
	}
	return err
}

// SetFilter replaces a source filter as a whole, and joins or leaves the group
// as that has it (RFC 3678 §4.2, §5.2). EINVAL; ENOBUFS: too many sources.
func (s *Socket) SetFilter(w *netif.Work, ifp *netif.Interface, group netip.Addr, include bool, sources []netip.Addr) error {
	if len(sources) > maxSources {
		return syscall.ENOBUFS
	}
	s.mu.Lock()
	m := s.find(ifp, group)
	had, wanted := m != nil, !include || len(sources) > 0
	var err error
	switch {
	case s.closed:
		err = syscall.EBADF
	case !had && wanted && len(s.list) >= maxGroups:
		err = syscall.ETOOMANYREFS
	case !had && wanted:
		s.list = append(s.list, &filter{ifp, group, include, slices.Clone(sources)})
	case had && wanted:
		m.include, m.sources = include, slices.Clone(sources)
	case had:
		s.remove(m)
	}
	s.mu.Unlock()
	switch {
	case err != nil || !had && !wanted:
	case !had:
		s.enter(w, ifp, group)
	case !wanted:
		s.set.Leave(w, ifp, group, s)
	default:
		s.set.Refilter(w, ifp, group)
	}
	return err
}

// Accepts reports whether a packet from src to a group concerns the socket. One
// that has joined nothing gets what anybody's membership brings, as BSD has it.
func (s *Socket) Accepts(group, src netip.Addr, ifindex uint32) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.list) == 0 {
		return true
	}
	for _, m := range s.list {
		if m.group == group && m.ifp.Index == ifindex {
			return slices.Contains(m.sources, src) == m.include
		}
	}
	return false
}

// Filter is [Member].
func (s *Socket) Filter(ifp *netif.Interface, group netip.Addr) (include bool, sources []netip.Addr, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if m := s.find(ifp, group); m != nil {
		return m.include, m.sources, true
	}
	return false, nil, false
}

// Close leaves all groups.
func (s *Socket) Close(w *netif.Work) {
	s.mu.Lock()
	list := s.list
	s.list, s.closed = nil, true
	s.mu.Unlock()
	for _, m := range list {
		s.set.Leave(w, m.ifp, m.group, s)
	}
}
