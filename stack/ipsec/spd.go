package ipsec

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"

	"ionet/stack/callout"
	"ionet/stack/mib"
	"ionet/stack/netif"
	"ionet/stack/packet"
)

var nodeMaxPolicies = mib.Int("net.key.max_policies", 1_000_000, "Policies at most.", mib.Range(1, 1<<26))

// Kind is what a policy does, in PF_KEY's numbers.
type Kind uint8

const (
	Discard Kind = iota
	None         // the packet goes as it is
	Protect      // "ipsec"
	Entrust      // of a socket: as the SPD says
	Bypass       // of a socket: as it is, whatever the SPD says
)

// Level says what becomes of a packet when a request's SA is missing, in PF_KEY's numbers.
type Level uint8

const (
	Default Level = iota
	Use           // it goes without
	Require
	Unique // through the SA of that request, and no other
)

// AnyProto is a Selector's protocol that all match.
const AnyProto = 255

// Selector is what packets a policy is about. The zero Prefix stands for none.
type Selector struct {
	Src, Dst         netip.Prefix
	SrcPort, DstPort uint16 // 0: any; of ICMP type and code, with Typed
	Proto            uint8  // AnyProto
	Typed            bool   // of ICMP: SrcPort is a type, DstPort a code or 0xffff for any
}

// Request is one of the protections that a policy asks for, the innermost first.
type Request struct {
	Proto    uint8
	Mode     uint8
	Level    Level
	ReqID    uint32
	Src, Dst netip.Addr // of a tunnel; not valid: the packet's own
	// Ports that ESP in UDP has there, as they were said; which SA is taken, addresses and ReqID decide.
	SrcPort, DstPort uint16
}

// Policy is a line of the SPD, or a socket's own. What is in the first part does not change.
type Policy struct {
	Selector
	Dir      uint8
	Kind     Kind
	Priority uint32 // the lower comes first; equal ones in the order in which they came
	Requests []Request
	Life     Lifetime // Add: seconds from now, Use: seconds that nothing matches
	ID       uint32
	PID, Seq uint32
	Kept     bool // by an interface, which alone takes it away
	Made     int64

	last  atomic.Int64
	order uint64
	dead  atomic.Bool
	timer callout.Timer[*netif.Work]
}

// Last is when a packet matched last, of the stack's clock; 0: never. It may be a minute ago.
func (p *Policy) Last() int64 { return p.last.Load() }

// shape is what policies of one hash table have alike: how many bits of the addresses
// count, and which of the rest.
type shape struct {
	v6               bool
	src, dst         uint8
	proto, from, to  bool
	typed, codeMatch bool
}

// exact is a packet or policy in a shape.
type exact struct {
	srcHi, srcLo, dstHi, dstLo uint64
	from, to                   uint16
	proto                      uint8
}

// tuple is the policies of a shape.
type tuple struct {
	shape
	first uint64 // no policy in it comes before
	by    map[exact][]*Policy
}

// spd is the policies. Packets ask it when they are the first of their flow; the others are
// answered by the flow table.
type spd struct {
	x   *IPsec
	gen atomic.Uint64
	n   atomic.Int32

	mu     sync.RWMutex
	tuples [Forward + 1][]*tuple // by direction, in the order of first
	byID   map[uint32]*Policy
	lastID uint32
	came   uint64
}

func (d *spd) init(x *IPsec) { d.x, d.byID = x, map[uint32]*Policy{} }

func (s *Selector) shape() shape {
	f := shape{v6: s.Src.Addr().Is6(), src: uint8(s.Src.Bits()), dst: uint8(s.Dst.Bits()), proto: s.Proto != AnyProto}
	if s.Typed {
		f.typed, f.from, f.codeMatch = true, true, s.DstPort != 0xffff
		return f
	}
	f.from, f.to = s.SrcPort != 0, s.DstPort != 0
	return f
}

func (s *Selector) exact() exact {
	f := s.shape()
	e := exact{}
	e.srcHi, e.srcLo = packet.Words(s.Src.Addr())
	e.dstHi, e.dstLo = packet.Words(s.Dst.Addr())
	return f.of(e, s.SrcPort, s.DstPort, s.Proto)
}

// of is e, whose addresses are filled in, as the shape sees it.
func (f *shape) of(e exact, from, to uint16, proto uint8) exact {
	e.srcHi, e.srcLo = masked(e.srcHi, e.srcLo, f.src, f.v6)
	e.dstHi, e.dstLo = masked(e.dstHi, e.dstLo, f.dst, f.v6)
	if f.proto {
		e.proto = proto
	}
	if f.from {
		e.from = from
	}
	if f.to || f.codeMatch {
		e.to = to
	}
	return e
}

// masked keeps the first bits of an address in words; of IPv4 the words have 32 bits.
func masked(hi, lo uint64, bits uint8, v6 bool) (uint64, uint64) {
	if !v6 {
		return 0, lo & (^uint64(0) << (32 - bits)) & 0xffffffff
	}
	if bits <= 64 {
		return hi & (^uint64(0) << (64 - bits)), 0
	}
	return hi, lo & (^uint64(0) << (128 - bits))
}

// before is the order in which policies are asked.
func (p *Policy) before(o *Policy) int {
	return cmp.Or(cmp.Compare(p.Priority, o.Priority), cmp.Compare(p.order, o.order))
}

// rank is its place as one number: as long as less than 2^32 have come.
func (p *Policy) rank() uint64 { return uint64(p.Priority)<<32 | p.order&0xffffffff }

// AddPolicy puts p, which is the SPD's then, behind those of its priority, and gives it its ID. EEXIST: a
// policy of the same direction and selector is there; EINVAL; ENOBUFS.
func (x *IPsec) AddPolicy(p *Policy) error { return x.spd.add(p, false) }

// UpdatePolicy is AddPolicy in the place of one with the same direction and selector.
func (x *IPsec) UpdatePolicy(p *Policy) error { return x.spd.add(p, true) }

func (p *Policy) check() error {
	switch {
	case p.Dir < In || p.Dir > Forward:
		return fmt.Errorf("direction %d is none: %w", p.Dir, syscall.EINVAL)
	case !p.Src.IsValid() || !p.Dst.IsValid() || p.Src.Addr().Is4() != p.Dst.Addr().Is4():
		return fmt.Errorf("a policy is about a source and a destination of one family: %w", syscall.EINVAL)
	case p.Kind > Protect:
		return fmt.Errorf("entrust and bypass are for sockets: %w", syscall.EINVAL)
	case p.beet() && (!p.Src.IsSingleIP() || !p.Dst.IsSingleIP()):
		return fmt.Errorf("a policy that asks for mode beet is about one host at each end, whose addresses packets do not carry: %w", syscall.EINVAL)
	}
	return p.checkRequests()
}

// CheckOwn says whether p can be a socket's; EINVAL.
func (p *Policy) CheckOwn() error {
	if p.Dir != In && p.Dir != Out {
		return fmt.Errorf("a socket's policy is about what comes or what leaves: %w", syscall.EINVAL)
	}
	if p.Kind == None {
		return fmt.Errorf("a socket's policy is discard, ipsec, entrust or bypass: %w", syscall.EINVAL)
	}
	if p.beet() {
		return fmt.Errorf("mode beet is for policies with addresses, not for a socket's: %w", syscall.EINVAL)
	}
	return p.checkRequests()
}

func (p *Policy) checkRequests() error {
	if p.Kind == Protect && len(p.Requests) == 0 {
		return fmt.Errorf("a policy of kind ipsec asks for something: %w", syscall.EINVAL)
	}
	if len(p.Requests) > maxBundle {
		return fmt.Errorf("%d requests, %d at most: %w", len(p.Requests), maxBundle, syscall.EINVAL)
	}
	for _, r := range p.Requests {
		switch {
		case r.Proto != packet.ProtoESP && r.Proto != packet.ProtoAH && r.Proto != packet.ProtoIPComp:
			return fmt.Errorf("protocol %d is none of IPsec: %w", r.Proto, syscall.EINVAL)
		case r.Mode != ModeTransport && r.Mode != ModeTunnel && r.Mode != ModeBEET:
			return fmt.Errorf("mode %d is none: %w", r.Mode, syscall.EINVAL)
		case r.Mode == ModeBEET && r.Proto != packet.ProtoESP:
			return fmt.Errorf("mode beet is ESP's alone: %w", syscall.EINVAL)
		case r.Mode != ModeTransport && (!r.Src.IsValid() || !r.Dst.IsValid() || r.Src.Is4() != r.Dst.Is4()):
			return fmt.Errorf("a tunnel has two ends of one family: %w", syscall.EINVAL)
		}
	}
	return nil
}

// maxBundle is how many protections a packet may get.
const maxBundle = 4

func (d *spd) add(p *Policy, replace bool) error {
	p.Src, p.Dst = p.Src.Masked(), p.Dst.Masked()
	if err := p.check(); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if int64(len(d.byID)) >= d.x.env.MIB.Int(nodeMaxPolicies) {
		return fmt.Errorf("%d policies are there (net.key.max_policies): %w", len(d.byID), syscall.ENOBUFS)
	}
	d.came++
	p.order, p.Made = d.came, d.x.env.Now()
	if old := d.get(p.Dir, p.Selector); old != nil {
		if !replace || old.Kept {
			return syscall.EEXIST
		}
		p.order, p.ID = old.order, old.ID
		d.removeLocked(old)
	}
	key, sh := p.exact(), p.shape()
	t := d.tuple(p.Dir, sh)
	if t == nil {
		t = &tuple{shape: sh, first: ^uint64(0), by: map[exact][]*Policy{}}
		d.tuples[p.Dir] = append(d.tuples[p.Dir], t)
	}
	if p.ID == 0 {
		for d.lastID++; d.lastID == 0 || d.byID[d.lastID] != nil; d.lastID++ {
		}
		p.ID = d.lastID
	}
	list := t.by[key]
	at, _ := slices.BinarySearchFunc(list, p, (*Policy).before)
	t.by[key] = slices.Insert(list, at, p)
	if p.rank() < t.first {
		t.first = p.rank()
		slices.SortStableFunc(d.tuples[p.Dir], func(a, b *tuple) int { return cmp.Compare(a.first, b.first) })
	}
	d.byID[p.ID] = p
	d.n.Store(int32(len(d.byID)))
	d.gen.Add(1)
	p.arm(d.x)
	return nil
}

func (d *spd) tuple(dir uint8, f shape) *tuple {
	for _, t := range d.tuples[dir] {
		if t.shape == f {
			return t
		}
	}
	return nil
}

func (d *spd) removeLocked(p *Policy) {
	t, key := d.tuple(p.Dir, p.shape()), p.exact()
	list := t.by[key]
	if i := slices.Index(list, p); i >= 0 {
		list = slices.Delete(list, i, i+1)
	}
	if t.by[key] = list; len(list) == 0 {
		delete(t.by, key)
	}
	if len(t.by) == 0 {
		d.tuples[p.Dir] = slices.DeleteFunc(d.tuples[p.Dir], func(o *tuple) bool { return o == t })
	}
	delete(d.byID, p.ID)
	p.dead.Store(true)
	d.x.env.Wheel.Stop(&p.timer)
	d.n.Store(int32(len(d.byID)))
	d.gen.Add(1)
}

// DeletePolicy takes the policy with that direction and selector away; ESRCH, EPERM.
func (x *IPsec) DeletePolicy(dir uint8, s Selector) (*Policy, error) {
	s.Src, s.Dst = s.Src.Masked(), s.Dst.Masked()
	d := &x.spd
	d.mu.Lock()
	defer d.mu.Unlock()
	p := d.get(dir, s)
	if p == nil {
		return nil, syscall.ESRCH
	}
	if p.Kept {
		return nil, fmt.Errorf("the policy is an ipsec interface's: %w", syscall.EPERM)
	}
	d.removeLocked(p)
	return p, nil
}

func (d *spd) get(dir uint8, s Selector) *Policy {
	if dir < In || dir > Forward || !s.Src.IsValid() || !s.Dst.IsValid() {
		return nil
	}
	t := d.tuple(dir, s.shape())
	if t == nil {
		return nil
	}
	for _, p := range t.by[s.exact()] {
		if p.Selector == s {
			return p
		}
	}
	return nil
}

// FindPolicy is the policy with that direction and selector; ESRCH.
func (x *IPsec) FindPolicy(dir uint8, s Selector) (*Policy, error) {
	s.Src, s.Dst = s.Src.Masked(), s.Dst.Masked()
	x.spd.mu.RLock()
	defer x.spd.mu.RUnlock()
	if p := x.spd.get(dir, s); p != nil {
		return p, nil
	}
	return nil, syscall.ESRCH
}

// PolicyByID is the policy of a number; ESRCH.
func (x *IPsec) PolicyByID(id uint32) (*Policy, error) {
	x.spd.mu.RLock()
	defer x.spd.mu.RUnlock()
	if p := x.spd.byID[id]; p != nil {
		return p, nil
	}
	return nil, syscall.ESRCH
}

// RemovePolicy takes p away, if it is there still.
func (x *IPsec) RemovePolicy(p *Policy) {
	d := &x.spd
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.byID[p.ID] == p {
		d.removeLocked(p)
	}
}

// FlushPolicies takes all away that no interface keeps, and answers how many there were.
func (x *IPsec) FlushPolicies() (n int) {
	for _, p := range x.Policies() {
		if !p.Kept {
			x.RemovePolicy(p)
			n++
		}
	}
	return n
}

// Policies are all, in the order in which they are asked, direction by direction.
func (x *IPsec) Policies() (all []*Policy) {
	d := &x.spd
	d.mu.RLock()
	defer d.mu.RUnlock()
	for _, p := range d.byID { // map order: they are sorted
		all = append(all, p)
	}
	slices.SortFunc(all, func(a, b *Policy) int { return cmp.Or(cmp.Compare(a.Dir, b.Dir), a.before(b)) })
	return all
}

// arm has a policy's lifetime end.
func (p *Policy) arm(x *IPsec) {
	at := p.ends()
	if at == 0 {
		return
	}
	p.timer.Fn = func(w *netif.Work) {
		if at := p.ends(); at > w.Now {
			x.env.Wheel.Reset(&p.timer, at)
			return
		}
		w.Post(func(*netif.Work) {
			x.RemovePolicy(p)
			x.tell(Event{Kind: PolicyExpired, Policy: p})
		})
	}
	x.env.Wheel.Reset(&p.timer, at)
}

// ends is when the policy's lifetime is over; 0: never.
func (p *Policy) ends() (at int64) {
	if p.Life.Add != 0 {
		at = p.Made + p.Life.Add*second
	}
	if p.Life.Use != 0 {
		if idle := max(p.Made, p.last.Load()) + p.Life.Use*second; at == 0 || idle < at {
			at = idle
		}
	}
	return at
}

// match answers the policy that comes first of those that a packet matches, or nil. Of a
// fragment without its transport header ports are 0, and no policy with ports matches.
func (d *spd) match(dir uint8, k *flowKey) *Policy {
	d.mu.RLock()
	defer d.mu.RUnlock()
	var best *Policy
	whole := exact{srcHi: k.srcHi, srcLo: k.srcLo, dstHi: k.dstHi, dstLo: k.dstLo}
	for _, t := range d.tuples[dir] {
		if best != nil && best.rank() < t.first {
			break
		}
		if t.v6 != k.v6 || t.typed && !k.typed || k.typed && !t.typed && (t.from || t.to) {
			continue
		}
		for _, p := range t.by[t.of(whole, k.from, k.to, k.proto)] {
			if best == nil || p.before(best) < 0 {
				best = p
			}
			break // the others of this place come behind
		}
	}
	return best
}
