package route

import (
	"net/netip"
	"slices"
	"syscall"

	"github.com/gaissmai/bart"

	"ionet/stack/netif"
	"ionet/stack/packet"
)

// MaxPaths is how many equal routes a destination may have.
const MaxPaths = 16

// group are the equal routes to one destination, two or more. It is immutable.
type group struct {
	key     uint64
	members []*Entry
	ids     []uint64 // of each member's way, the same in every group
}

// Pick chooses one of equal routes for packets from src to dst; of a single route
// that is itself. src may be invalid: then the destination alone decides. Each
// member draws a number for the flow and the highest wins (rendezvous hashing), so
// that with a member only its own flows move. A member whose interface is down, or
// has no carrier, wins only when none is better. h and e are what Lookup answered.
func (h *Hop) Pick(e Handle, src, dst netip.Addr) (*Hop, Handle) {
	if h.group == nil {
		return h, e
	}
	return h.group.pick(src, dst)
}

func (g *group) pick(src, dst netip.Addr) (*Hop, Handle) {
	flow := g.key
	if src.IsValid() {
		hi, lo := packet.Words(src.Unmap())
		flow = mix(mix(flow^hi) ^ lo)
	}
	hi, lo := packet.Words(dst.Unmap())
	flow = mix(mix(flow^hi) ^ lo)
	var best *Entry
	var most uint64
	bestUp := false
	for i, m := range g.members {
		n, up := mix(flow^g.ids[i]), m.hop.If.Up() && m.hop.If.LinkUp()
		if best == nil || up && !bestUp || up == bestUp && n > most {
			best, most, bestUp = m, n, up
		}
	}
	return best.hop, best
}

// Through is the first of equal routes that leaves by ifp, else what it was asked of.
func (h *Hop) Through(e Handle, ifp *netif.Interface) (*Hop, Handle) {
	if h.group != nil {
		if i := h.group.find(&Spec{If: ifp}); i >= 0 {
			return h.group.members[i].hop, h.group.members[i]
		}
	}
	return h, e
}

// mix spreads the bits of x over the word (the finalizer of SplitMix64).
func mix(x uint64) uint64 {
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// Reconsider has what was found be looked up again, after an interface went up or
// down, or its carrier did: the choice between equal routes may be another.
func (t *Table) Reconsider() { t.gen.Add(1) }

// members are the routes of a place in the table.
func (e *Entry) members() []*Entry {
	if e.hop.group != nil {
		return e.hop.group.members
	}
	return []*Entry{e}
}

// join is what a place holds whose routes are members: itself for one.
func (t *Table) join(members []*Entry) *Entry {
	if len(members) == 1 {
		return members[0]
	}
	for t.key == 0 {
		t.key = uint64(t.env.Rand32())<<32 | uint64(t.env.Rand32())
	}
	g := &group{key: t.key, members: members, ids: make([]uint64, len(members))}
	for i, m := range members {
		hi, lo := packet.Words(m.hop.Gateway.Unmap())
		if !m.hop.Gateway.IsValid() {
			hi, lo = 0, 0
		}
		g.ids[i] = mix(mix(mix(t.key+hi)+lo) + uint64(m.hop.If.Index))
	}
	// Who asks for no choice sees the first.
	first := members[0].hop
	return &Entry{hop: &Hop{If: first.If, Gateway: first.Gateway, Src: first.Src, Flags: first.Flags, MTU: first.MTU,
		Metrics: first.Metrics, GenMask: first.GenMask, group: g, wildcard: first.wildcard}}
}

// find is the member that s names by its gateway or, without one, its interface;
// -1: none. A name left out fits the first.
func (g *group) find(s *Spec) int {
	return slices.IndexFunc(g.members, func(m *Entry) bool {
		return (!s.Gateway.IsValid() || m.hop.Gateway == s.Gateway) && (s.If == nil || m.hop.If == s.If)
	})
}

// addEqual adds a route beside those that the destination has. Errors: EEXIST (the
// same way twice, or what is there is no route to have equals), ENOBUFS (MaxPaths).
func (t *Table) addEqual(side *bart.Table[*Entry], s Spec, old *Entry) (edit, error) {
	const single = FlagReject | FlagBlackhole | FlagDynamic | FlagCloning
	all := old.members()
	switch {
	case s.Flags&single != 0 || old.hop.Flags&single != 0 || s.Host != (old.hop.Flags&FlagHost != 0):
		return edit{dst: s.Dst}, syscall.EEXIST
	case slices.ContainsFunc(all, func(m *Entry) bool { return m.hop.Gateway == s.Gateway && m.hop.If == s.If }):
		return edit{dst: s.Dst}, syscall.EEXIST
	case len(all) >= MaxPaths:
		return edit{dst: s.Dst}, syscall.ENOBUFS
	}
	m := &Entry{hop: t.intern(s)}
	e := t.join(append(slices.Clip(slices.Clone(all)), m))
	side.Insert(s.Dst, e)
	return edit{dst: s.Dst, old: old, new: e, came: m}, nil
}

// replace puts m in the place of member i, or takes that away.
func (t *Table) replace(side *bart.Table[*Entry], dst netip.Prefix, old *Entry, i int, m *Entry) edit {
	if old.hop.group == nil { // as nearly all are
		t.release(old.hop)
		if m == nil {
			side.Delete(dst)
		} else {
			side.Insert(dst, m)
		}
		return edit{dst: dst, old: old, new: m, gone: old, came: m}
	}
	all := slices.Clone(old.hop.group.members)
	gone := all[i]
	if m == nil {
		all = slices.Delete(all, i, i+1)
	} else {
		all[i] = m
	}
	t.release(gone.hop)
	e := t.join(all)
	side.Insert(dst, e)
	return edit{dst: dst, old: old, new: e, gone: gone, came: m}
}
