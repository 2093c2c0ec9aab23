package route

import (
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/gaissmai/bart"

	"ionet/stack/netif"
)

// Table is a forwarding table: two LPM tables of the same content. Readers
// use the active one; a writer edits the other, makes it the active one, waits
// until no reader is left in the first and repeats its edits there.
//
// Inside an epoch (a [netif.Work] begun and not ended) only Lookup, AddUse,
// Generation and Publish may be called. Every other method takes the writer's
// lock, whose holder may be waiting for that very epoch to end.
type Table struct {
	env    *netif.Env
	gen    atomic.Uint64
	active atomic.Uint32
	side   [2]bart.Table[*Entry]
	cache  atomic.Pointer[lookCache] // nil while the table is small

	collect []func() // who counts uses elsewhere

	mu      sync.Mutex
	key     uint64 // of the choice between equal routes; 0: not drawn yet
	hops    map[hopKey]*Hop
	dynamic int      // routes made by redirects
	edits   []edit   // of the batch at hand
	walked  []*Entry // of the page at hand

	news news
}

// Entry is one destination's place in the table. Two words: a million of them
// are to fit.
type Entry struct {
	hop *Hop
	use atomic.Uint64
}

// Handle names the route a look-up found, for AddUse. Nil is none.
type Handle = *Entry

type edit struct {
	dst        netip.Prefix
	old, new   *Entry // what the place held and holds
	gone, came *Entry // the route itself: of equal ones only that which changed
	msg        Message
}

// New makes an empty table.
func New(env *netif.Env) *Table {
	return &Table{env: env, hops: map[hopKey]*Hop{}}
}

// Lookup finds the longest match for dst, or answers nil, nil. The caller is
// inside an epoch; it takes no lock and allocates nothing.
func (t *Table) Lookup(dst netip.Addr) (*Hop, Handle) {
	dst = dst.Unmap()
	cache := t.cache.Load()
	if cache == nil {
		return t.found(t.side[t.active.Load()].Lookup(dst))
	}
	hi, lo := lookKey(dst)
	gen, set := cache.generation(hi, lo), cache.set(hi, lo)
	if e := set.get(hi, lo, gen); e != nil {
		return t.found(e, true)
	}
	e, ok := t.side[t.active.Load()].Lookup(dst)
	if ok {
		set.put(hi, lo, gen, e)
	}
	return t.found(e, ok)
}

func (t *Table) found(e *Entry, ok bool) (*Hop, Handle) {
	if !ok {
		t.env.MIB.Add(cntUnreach, 1)
		return nil, nil
	}
	if e.hop.wildcard {
		t.env.MIB.Add(cntWildcard, 1)
	}
	return e.hop, e
}

// AddUse adds n packets to a route's use. It may be called at any time, with
// nil too.
func (t *Table) AddUse(h Handle, n uint64) { h.Used(n) }

// BeforeUse has f called before somebody looks at the use of routes: it adds
// what it has counted. At assembly.
func (t *Table) BeforeUse(f func()) { t.collect = append(t.collect, f) }

func (t *Table) collected() {
	for _, f := range t.collect {
		f()
	}
}

// Used is [Table.AddUse].
func (e *Entry) Used(n uint64) {
	if e != nil {
		e.use.Add(n)
	}
}

// Generation changes with every change of the table: what was found in
// another generation is looked up again.
func (t *Table) Generation() uint64 { return t.gen.Load() }

// Len is the number of destinations.
func (t *Table) Len() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.side[t.active.Load()].Size()
}

// Update carries out a batch in order and answers one error, or nil, for each
// of its ops. Readers see all of it or nothing. The caller is not inside an
// epoch, since Update waits for those who are. Errors: EEXIST, ESRCH,
// ENETUNREACH (no directly connected way to the gateway), ENOBUFS
// (net.inet.ip.maxroutes), EINVAL.
func (t *Table) Update(ops []Op) []error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.update(ops)
}

func (t *Table) update(ops []Op) []error {
	was := t.active.Load()
	next := &t.side[was^1]
	errs := make([]error, len(ops))
	told, pid := false, int32(0)
	for i := range ops {
		if i == 0 || ops[i].PID != pid {
			pid = ops[i].PID
			told = t.news.watched(pid)
		}
		e, err := t.apply(next, &ops[i])
		errs[i] = err
		if told && (err == nil || ops[i].PID != 0) {
			e.msg = message(&ops[i], &e, err)
		}
		if err == nil || e.msg.Type != 0 {
			t.edits = append(t.edits, e)
		}
	}
	t.commit(was)
	return errs
}

// commit makes the edited side the active one, tells of it, and repeats the
// edits on the other side.
func (t *Table) commit(was uint32) {
	changed := false
	for i := range t.edits {
		changed = changed || t.edits[i].old != nil || t.edits[i].new != nil
	}
	if changed {
		if t.cache.Load() == nil && t.side[was^1].Size() >= cacheFrom {
			t.cache.Store(new(lookCache))
		}
		t.active.Store(was ^ 1)
		t.gen.Add(1)
		if c := t.cache.Load(); c != nil { // after the switch: what is found anew is of the new side
			for i := range t.edits {
				c.spoil(t.edits[i].dst)
			}
		}
	}
	for i := range t.edits {
		if m := &t.edits[i].msg; m.Type != 0 {
			t.news.publish(*m)
		}
	}
	if changed {
		t.env.Epoch.Wait()
		for i := range t.edits {
			t.settle(&t.side[was], &t.edits[i])
		}
	}
	clear(t.edits)
	if t.edits = t.edits[:0]; cap(t.edits) > 4096 {
		t.edits = nil
	}
}

func (t *Table) settle(side *bart.Table[*Entry], e *edit) {
	switch {
	case e.new != nil:
		side.Insert(e.dst, e.new)
		if e.gone != nil && e.came != nil { // nobody counts on the old one any more
			e.came.use.Add(e.gone.use.Load())
		}
	case e.old != nil:
		side.Delete(e.dst)
	}
}

func (t *Table) apply(side *bart.Table[*Entry], op *Op) (edit, error) {
	s := op.Spec
	s.Host = s.Host || s.Flags&FlagHost != 0
	if !s.Dst.IsValid() {
		return edit{}, fmt.Errorf("route: a destination without address or length: %w", syscall.EINVAL)
	}
	s.Dst = s.Dst.Masked()
	if s.Dst.Addr().Is4In6() {
		return edit{}, fmt.Errorf("route: %v is an IPv4-mapped destination, give it as IPv4: %w", s.Dst, syscall.EINVAL)
	}
	if s.Host && !s.Dst.IsSingleIP() {
		return edit{}, fmt.Errorf("route: a host route to %v, which is no host: %w", s.Dst, syscall.EINVAL)
	}
	if s.Gateway.IsValid() && s.Gateway.BitLen() != s.Dst.Addr().BitLen() {
		return edit{}, fmt.Errorf("route: %v and its gateway %v are of different families: %w", s.Dst, s.Gateway, syscall.EINVAL)
	}
	equal := s.Flags&FlagMPath != 0
	s.Flags &^= FlagMPath // shown of those that have equals
	if op.Kind == Add {
		return t.add(side, s, equal)
	}
	old, _ := side.Get(s.Dst)
	// A host route and a network of full length share their place, but do
	// not answer to each other's name.
	if old != nil && s.Host != (old.hop.Flags&FlagHost != 0) {
		old = nil
	}
	switch op.Kind {
	case Delete:
		if old == nil {
			return edit{dst: s.Dst}, syscall.ESRCH
		}
		i := 0
		if g := old.hop.group; g != nil {
			if i = g.find(&s); i < 0 {
				return edit{dst: s.Dst}, syscall.ESRCH
			}
		}
		return t.replace(side, s.Dst, old, i, nil), nil
	case Change:
		return t.change(side, s, old)
	}
	return edit{}, fmt.Errorf("route: no such operation as %d: %w", op.Kind, syscall.EINVAL)
}

// add looks for the destination's place only once: most that is added is new,
// and that place is seldom in the processor's cache.
func (t *Table) add(side *bart.Table[*Entry], s Spec, equal bool) (edit, error) {
	err := t.resolve(side, &s)
	if int64(side.Size()) >= t.env.MIB.Int(nodeMaxRoutes) {
		err = syscall.ENOBUFS
	}
	if err != nil {
		if _, ok := side.Get(s.Dst); ok && !equal {
			err = syscall.EEXIST
		}
		return edit{dst: s.Dst}, err
	}
	if equal {
		if old, ok := side.Get(s.Dst); ok {
			return t.addEqual(side, s, old)
		}
	}
	e := &Entry{hop: t.intern(s)}
	exists := false
	side.Modify(s.Dst, func(old *Entry, ok bool) (*Entry, bool) {
		if exists = ok; ok {
			return old, false
		}
		return e, false
	})
	if exists {
		t.release(e.hop)
		return edit{dst: s.Dst}, syscall.EEXIST
	}
	return edit{dst: s.Dst, new: e, came: e}, nil
}

// flagsKept are the flags a Change cannot touch.
const flagsKept = FlagUp | FlagHost | FlagDynamic | FlagModified | FlagCloned

func (t *Table) change(side *bart.Table[*Entry], s Spec, old *Entry) (edit, error) {
	if old == nil {
		return edit{dst: s.Dst}, syscall.ESRCH
	}
	i, was := 0, old
	if g := old.hop.group; g != nil {
		if i = g.find(&s); i < 0 || !s.Gateway.IsValid() {
			return edit{dst: s.Dst}, syscall.ESRCH
		}
		was = g.members[i]
	}
	n := was.hop.spec(s.Dst)
	n.Flags = n.Flags&flagsKept | s.Flags&^flagsKept
	if s.Flags&FlagModified != 0 {
		n.Flags |= FlagModified
	}
	if s.Metrics != nil {
		n.Metrics = s.Metrics
	}
	if s.GenMask.IsValid() {
		n.GenMask = s.GenMask
	}
	if s.Gateway.IsValid() || s.If != nil || s.Src.IsValid() {
		if s.Gateway.IsValid() {
			n.Gateway = s.Gateway
		} else if s.If != nil && s.Flags&FlagGateway == 0 {
			n.Gateway = netip.Addr{}
		}
		n.If, n.Src = s.If, s.Src
		if err := t.resolve(side, &n); err != nil {
			return edit{dst: s.Dst}, err
		}
	} else {
		n.Flags = n.Flags&^FlagGateway | was.hop.Flags&FlagGateway
	}
	return t.replace(side, s.Dst, old, i, &Entry{hop: t.intern(n)}), nil
}

func (t *Table) intern(s Spec) *Hop {
	k := hopKey{ifp: s.If, gateway: s.Gateway, src: s.Src, genmask: s.GenMask, flags: s.Flags | FlagUp, wildcard: s.Dst.Bits() == 0}
	if s.Host {
		k.flags |= FlagHost
	}
	if s.Metrics != nil {
		k.metered, k.metrics = true, *s.Metrics
	}
	h := t.hops[k]
	if h == nil {
		h = &Hop{If: s.If, Gateway: s.Gateway, Src: s.Src, Flags: k.flags, GenMask: s.GenMask, key: k, wildcard: k.wildcard}
		if k.metered {
			m := k.metrics
			h.Metrics, h.MTU = &m, m.MTU
		}
		t.hops[k] = h
	}
	h.users++
	if h.Flags&FlagDynamic != 0 {
		t.dynamic++
	}
	return h
}

func (t *Table) release(h *Hop) {
	if h.Flags&FlagDynamic != 0 {
		t.dynamic--
	}
	if h.users--; h.users == 0 {
		delete(t.hops, h.key)
	}
}

// Get answers the route that packets to dst take, of equal ones the first. Error: ESRCH.
func (t *Table) Get(dst netip.Addr) (Route, error) {
	t.collected()
	t.mu.Lock()
	defer t.mu.Unlock()
	p, e, ok := t.match(dst)
	if !ok {
		return Route{}, syscall.ESRCH
	}
	return e.routes(p)[0], nil
}

// GetExact answers the route to exactly that destination, of equal ones the first. Error: ESRCH.
func (t *Table) GetExact(dst netip.Prefix) (Route, error) {
	t.collected()
	t.mu.Lock()
	defer t.mu.Unlock()
	e, ok := t.side[t.active.Load()].Get(dst)
	if !ok {
		return Route{}, syscall.ESRCH
	}
	return e.routes(dst.Masked())[0], nil
}

// GetBy is GetExact for one of equal routes, that whose gateway is gw; a single route
// is answered whatever gw is. Error: ESRCH.
func (t *Table) GetBy(dst netip.Prefix, gw netip.Addr) (Route, error) {
	t.collected()
	t.mu.Lock()
	defer t.mu.Unlock()
	e, ok := t.side[t.active.Load()].Get(dst)
	i := 0
	if ok && e.hop.group != nil {
		if i = e.hop.group.find(&Spec{Gateway: gw}); !gw.IsValid() {
			i = -1
		}
	}
	if !ok || i < 0 {
		return Route{}, syscall.ESRCH
	}
	return e.routes(dst.Masked())[i], nil
}

func (t *Table) match(dst netip.Addr) (netip.Prefix, *Entry, bool) {
	dst = dst.Unmap().WithZone("")
	if !dst.IsValid() {
		return netip.Prefix{}, nil, false
	}
	return t.side[t.active.Load()].LookupPrefixLPM(netip.PrefixFrom(dst, dst.BitLen()))
}

func (e *Entry) route(dst netip.Prefix) Route {
	return Route{Spec: e.hop.spec(dst), Use: e.use.Load()}
}

// routes are those of a place, from outside.
func (e *Entry) routes(dst netip.Prefix) []Route {
	all := e.members()
	rs := make([]Route, len(all))
	for i, m := range all {
		rs[i] = m.route(dst)
		if len(all) > 1 {
			rs[i].Flags |= FlagMPath
		}
	}
	return rs
}
