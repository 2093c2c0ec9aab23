package membership

import (
	"math/bits"
	"net/netip"
	"slices"

	"ionet/stack/callout"
	"ionet/stack/netif"
)

const (
	robustness     = 2            // RFC 3376 §8.1, RFC 3810 §9.1
	unsolicited    = second       // RFC 3376 §8.11, RFC 3810 §9.11
	unsolicitedOld = 10 * second  // RFC 2236 §8.10, RFC 2710 §7.10
	olderQuerier   = 260 * second // RFC 3376 §8.12, RFC 3810 §9.12: robustness × 125 s + 10 s

	// maxAsked bounds the sources that queries ask about before they are
	// answered; beyond, the answer says everything.
	maxAsked = 256
)

// link is what is known of an interface's routers, and the answer they are to
// get about all groups at once (RFC 3376 §5.2, RFC 3810 §6.2).
type link struct {
	until [3]int64 // by version: a router of that version is held to be there
	asked bool
	due   int64
	reply callout.Timer[*netif.Work]
}

// version is which one is spoken on a link (RFC 3376 §7.2.1, RFC 3810 §8.2.1).
func (s *Set) version(w *netif.Work, ifp *netif.Interface) int {
	if l := s.ifs[ifp.Index]; l != nil {
		for v := 1; v < s.conf.Newest; v++ {
			if l.until[v] > w.Now {
				return v
			}
		}
	}
	return s.conf.Newest
}

func (s *Set) upTo(d int64) int64 {
	hi, _ := bits.Mul64(uint64(s.env.Rand32())<<32, uint64(d))
	return int64(hi)
}

// Query is what a router asks.
type Query struct {
	Version int
	Delay   int64        // answers are spread over it; nanoseconds
	Group   netip.Addr   // invalid: all groups
	Sources []netip.Addr // none: all
}

// Query notes the querier's version and schedules the answers (RFC 3376 §5.2, RFC 3810 §6.2).
func (s *Set) Query(w *netif.Work, ifp *netif.Interface, q Query) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.ifs[ifp.Index]
	if l == nil {
		l = &link{}
		l.reply.Fn = func(w *netif.Work) { s.answerAll(w, ifp, l) }
		s.ifs[ifp.Index] = l
	}
	was := s.version(w, ifp)
	if q.Version < s.conf.Newest {
		l.until[q.Version] = w.Now + olderQuerier
	}
	v := s.version(w, ifp)
	if v != was { // what was to be said was not meant for this one (§7.2.1; §8.2.1)
		s.env.Wheel.Stop(&l.reply)
		l.asked = false
		for _, m := range s.on(ifp) {
			m.said()
			s.quiet(m)
		}
		for k, m := range s.leaving { // map order: nothing is sent
			if m.ifp == ifp {
				s.forget(k)
			}
		}
	}
	at := w.Now + s.upTo(q.Delay)
	switch {
	case l.asked && l.due <= at: // all of it is on its way
	case q.Group.IsValid():
		if m := s.all[key{ifp.Index, q.Group}]; m != nil && s.conf.Messages.Reported(ifp, q.Group) {
			s.ask(m, q.Sources, at)
		}
	case v == s.conf.Newest:
		l.asked, l.due = true, at
		s.env.Wheel.Reset(&l.reply, at)
	default: // an older report is about one group, and others may come before it
		for _, m := range s.on(ifp) {
			s.ask(m, nil, w.Now+s.upTo(q.Delay))
		}
	}
}

// ask has a group's state reported by the time at.
func (s *Set) ask(m *group, sources []netip.Addr, at int64) {
	switch {
	case !m.answer:
		m.asked, m.due = slices.Clone(sources), at
	case len(sources) == 0 || len(m.asked) == 0 || len(m.asked)+len(sources) > maxAsked:
		m.asked = nil
	default:
		m.asked = append(m.asked, sources...)
	}
	m.answer, m.due = true, min(m.due, at)
	s.env.Wheel.Reset(&m.reply, m.due)
}

// Heard suppresses an older report that another host has just sent, and reports whether the
// group is ours too.
func (s *Set) Heard(w *netif.Work, ifp *netif.Interface, ip netip.Addr) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	m := s.all[key{ifp.Index, ip}]
	if m == nil {
		return false
	}
	if s.version(w, ifp) < s.conf.Newest && (m.answer || m.left() > 0) {
		m.last = false
		m.said()
		s.quiet(m)
	}
	return true
}

// Ready says on an interface all over again what it listens to: it can be heard
// only now, or by its own address only now (RFC 3810 §5.2.13).
func (s *Set) Ready(w *netif.Work, ifp *netif.Interface) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !ifp.Up() {
		return
	}
	var recs []Record
	v := s.version(w, ifp)
	for _, m := range s.on(ifp) {
		if m.include && len(m.sources) == 0 {
			continue
		}
		if m.said(); m.include {
			m.move(m.sources, nil)
		} else {
			m.mode = robustness
		}
		if v < s.conf.Newest {
			s.report(w, m)
			continue
		}
		recs = append(recs, m.changes()...)
		m.once()
		s.rearm(w, m)
	}
	s.send(w, ifp, recs)
}

// tell says once more what has changed.
func (s *Set) tell(w *netif.Work, m *group) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if m.left() > 0 && (!m.gone || s.leaving[m.key] == m) {
		s.report(w, m)
	}
	if m.left() == 0 && s.leaving[m.key] == m {
		delete(s.leaving, m.key)
	}
}

// answer says what a query wants to know of a group.
func (s *Set) answer(w *netif.Work, m *group) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if m.gone || !m.answer {
		return
	}
	if v := s.version(w, m.ifp); v < s.conf.Newest {
		s.old(w, m, v)
		return
	}
	recs := m.current()
	m.answer, m.asked = false, nil
	s.send(w, m.ifp, recs)
}

// answerAll says what a query wants to know of all groups.
func (s *Set) answerAll(w *netif.Work, ifp *netif.Interface, l *link) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !l.asked {
		return
	}
	l.asked = false
	var recs []Record
	for _, m := range s.on(ifp) {
		m.answer, m.asked = false, nil // this says it
		s.env.Wheel.Stop(&m.reply)
		recs = append(recs, m.current()...)
	}
	s.send(w, ifp, recs)
}

// rearm has what is left of a change said in a while.
func (s *Set) rearm(w *netif.Work, m *group) {
	if m.left() == 0 {
		return
	}
	d := int64(unsolicited)
	if s.version(w, m.ifp) < s.conf.Newest {
		d = unsolicitedOld
	}
	s.env.Wheel.Reset(&m.change, w.Now+1+s.upTo(d))
}

// report says what has changed in a membership, and arms the next time.
func (s *Set) report(w *netif.Work, m *group) {
	if v := s.version(w, m.ifp); v < s.conf.Newest {
		s.old(w, m, v)
	} else {
		s.send(w, m.ifp, m.changes())
		m.once()
	}
	s.rearm(w, m)
}

// old sends an older report or leave, which says all that version can say.
func (s *Set) old(w *netif.Work, m *group, v int) {
	leave := len(m.members) == 0
	m.answer, m.asked = false, nil
	s.env.Wheel.Stop(&m.reply)
	m.once()
	if !leave || m.last { // who was not the last to report has nobody to disappoint
		m.last = true
		s.conf.Messages.Old(w, m.ifp, m.key.group, v, leave)
	}
}

// changes are the records of what is still to be said: the mode as it is by
// now, or the sources that by now are wanted, and are not.
func (m *group) changes() (recs []Record) {
	if m.mode > 0 {
		typ := uint8(ChangeToExclude)
		if m.include {
			typ = ChangeToInclude
		}
		return []Record{{typ, m.key.group, m.sources}}
	}
	var allow, block []netip.Addr
	for _, s := range m.moved {
		if slices.Contains(m.sources, s.addr) == m.include {
			allow = append(allow, s.addr)
		} else {
			block = append(block, s.addr)
		}
	}
	if len(allow) > 0 {
		recs = append(recs, Record{AllowNewSources, m.key.group, allow})
	}
	if len(block) > 0 {
		recs = append(recs, Record{BlockOldSources, m.key.group, block})
	}
	return recs
}

// current is the answer to a query: the state, or what of the asked sources is
// wanted.
func (m *group) current() []Record {
	if len(m.asked) > 0 {
		var want []netip.Addr
		for _, a := range m.asked {
			if slices.Contains(m.sources, a) == m.include && !slices.Contains(want, a) {
				want = append(want, a)
			}
		}
		if len(want) == 0 {
			return nil
		}
		return []Record{{ModeIsInclude, m.key.group, want}}
	}
	switch {
	case !m.include:
		return []Record{{ModeIsExclude, m.key.group, m.sources}}
	case len(m.sources) == 0:
		return nil
	}
	return []Record{{ModeIsInclude, m.key.group, m.sources}}
}

// send sends records in as many reports as it takes. Of a record that none has
// room for, the sources are divided, or, where that would say something else,
// cut off (RFC 3376 §4.2.16, RFC 3810 §5.2.15).
func (s *Set) send(w *netif.Work, ifp *netif.Interface, recs []Record) {
	head, room := 4+s.conf.AddrLen, s.conf.Messages.Room(ifp)
	most := max((room-head)/s.conf.AddrLen, 1)
	var report []Record
	used := 0
	add := func(r Record) {
		n := head + s.conf.AddrLen*len(r.Sources)
		if used+n > room && used > 0 {
			s.conf.Messages.Report(w, ifp, report)
			report, used = nil, 0
		}
		report, used = append(report, r), used+n
	}
	for _, r := range recs {
		if r.Type == ModeIsExclude || r.Type == ChangeToExclude {
			r.Sources = r.Sources[:min(len(r.Sources), most)]
		}
		for len(r.Sources) > most {
			add(Record{r.Type, r.Group, r.Sources[:most]})
			r.Sources = r.Sources[most:]
		}
		add(r)
	}
	if len(report) > 0 {
		s.conf.Messages.Report(w, ifp, report)
	}
}
