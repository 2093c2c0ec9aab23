package route

import (
	"iter"
	"net/netip"

	"ionet/stack/netif"
)

// Page fills buf with the routes of a family that follow after, in order of
// address and then of length, and answers how many there were, and whether they
// were the last. The zero prefix begins. Pages need no memory between them; each is
// a true picture of its moment. Equal routes are on one page, hence buf has room
// for MaxPaths at least. af is AFInet or AFInet6.
func (t *Table) Page(af int, after netip.Prefix, buf []Route) (n int, end bool) {
	if !after.IsValid() {
		t.collected()
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	es := t.walked[:0]
	end = true
	t.walk(af, after, func(dst netip.Prefix, e *Entry) bool {
		g := e.hop.group
		if g == nil {
			if end = len(es) < len(buf); end {
				buf[len(es)].Dst, buf[len(es)].Flags = dst, 0
				es = append(es, e)
			}
			return end
		}
		if end = len(es)+len(g.members) <= len(buf); end {
			for _, m := range g.members {
				buf[len(es)].Dst, buf[len(es)].Flags = dst, FlagMPath
				es = append(es, m)
			}
		}
		return end
	})
	// Entries lie all over memory: read one after the other, with nothing
	// between, the processor waits for many of them at a time.
	for i, e := range es {
		buf[i].Use = e.use.Load()
	}
	for i, e := range es {
		mpath := buf[i].Flags
		buf[i] = Route{Spec: e.hop.spec(buf[i].Dst), Use: buf[i].Use}
		buf[i].Flags |= mpath
	}
	n = len(es)
	clear(es)
	if t.walked = es; cap(es) > 4096 {
		t.walked = nil
	}
	return n, end
}

// Dump is every route of a family (0: both, IPv4 first), page by page: the
// loop may change the table.
func (t *Table) Dump(af int) iter.Seq[Route] {
	return func(yield func(Route) bool) {
		buf := make([]Route, 512)
		for _, f := range [...]int{AFInet, AFInet6} {
			if af != 0 && af != f {
				continue
			}
			var after netip.Prefix
			for {
				n, end := t.Page(f, after, buf)
				for _, r := range buf[:n] {
					if !yield(r) {
						return
					}
				}
				if end {
					break
				}
				after = buf[n-1].Dst
			}
		}
	}
}

// walk calls f for the routes that sort behind after: those inside it, then
// those inside each block to its right, from the smallest to the largest. No
// route to the right starts in a block without lying wholly inside it, since
// the block's last bit is set.
func (t *Table) walk(af int, after netip.Prefix, f func(netip.Prefix, *Entry) bool) {
	side := &t.side[t.active.Load()]
	if !after.IsValid() {
		all := side.AllSorted4()
		if af == AFInet6 {
			all = side.AllSorted6()
		}
		all(f)
		return
	}
	after = after.Masked()
	goOn := true
	within := func(p netip.Prefix) {
		side.Subnets(p)(func(dst netip.Prefix, e *Entry) bool {
			goOn = dst == after || f(dst, e)
			return goOn
		})
	}
	within(after)
	for bits := after.Bits(); goOn && bits > 0; bits-- {
		if right, ok := setBit(after.Addr(), bits-1); ok {
			within(netip.PrefixFrom(right, bits).Masked())
		}
	}
}

// setBit sets bit i, counted from the left; ok is false when it was set.
func setBit(a netip.Addr, i int) (_ netip.Addr, ok bool) {
	m := byte(0x80) >> (i % 8)
	if a.Is4() {
		b := a.As4()
		ok = b[i/8]&m == 0
		b[i/8] |= m
		return netip.AddrFrom4(b), ok
	}
	b := a.As16()
	ok = b[i/8]&m == 0
	b[i/8] |= m
	return netip.AddrFrom16(b), ok
}

// DeleteInterface removes the routes through ifp.
func (t *Table) DeleteInterface(ifp *netif.Interface) {
	t.purge(func(h *Hop) bool { return h.If == ifp }, func(Route) (Spec, bool) { return Spec{}, false })
}

// DeleteSource removes the routes that speak as address src of ifp, after
// that address went away; a route whose gateway another address of ifp still
// reaches is given that one.
func (t *Table) DeleteSource(ifp *netif.Interface, src netip.Addr) {
	t.purge(func(h *Hop) bool { return h.If == ifp && h.Src == src }, func(r Route) (Spec, bool) {
		if r.Flags&FlagGateway == 0 {
			return Spec{}, false
		}
		for _, a := range ifp.Addrs() {
			if a.Addr != src && (a.Prefix().Contains(r.Gateway) || a.Dst == r.Gateway) {
				r.Src = a.Addr
				return r.Spec, true
			}
		}
		return Spec{}, false
	})
}

// purge deletes the routes whose hop is chosen, or changes them to what
// instead makes of them.
func (t *Table) purge(chosen func(*Hop) bool, instead func(Route) (Spec, bool)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	doomed := map[*Hop]bool{}
	// map order: this fills a set; the walk below has the order.
	for _, h := range t.hops {
		if chosen(h) {
			doomed[h] = true
		}
	}
	if len(doomed) == 0 {
		return
	}
	var ops []Op
	for _, af := range [...]int{AFInet, AFInet6} {
		t.walk(af, netip.Prefix{}, func(dst netip.Prefix, e *Entry) bool {
			if e.hop.group == nil && !doomed[e.hop] {
				return true
			}
			for _, m := range e.members() {
				if !doomed[m.hop] {
					continue
				}
				op := Op{Kind: Delete, Spec: m.hop.spec(dst)}
				if s, ok := instead(m.route(dst)); ok {
					op = Op{Kind: Change, Spec: s}
				}
				ops = append(ops, op)
			}
			return true
		})
	}
	t.update(ops)
}

// Flush removes every route that keep does not want. It is what `route flush`
// and a stack's end need.
func (t *Table) Flush(keep func(Route) bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	var ops []Op
	for _, af := range [...]int{AFInet, AFInet6} {
		t.walk(af, netip.Prefix{}, func(dst netip.Prefix, e *Entry) bool {
			for _, r := range e.routes(dst) {
				if !keep(r) {
					ops = append(ops, Op{Kind: Delete, Spec: r.Spec})
				}
			}
			return true
		})
	}
	t.update(ops)
}
