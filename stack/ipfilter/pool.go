package ipfilter

import (
	"fmt"
	"maps"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/gaissmai/bart"

	"ionet/ipl"
	"ionet/stack/packet"
)

// pools are the tables of ippool, by name. An edit replaces a table as a whole.
type pools struct {
	mu sync.Mutex
	p  atomic.Pointer[map[string]*pool]
}

// pool is one table, immutable but for its counters.
type pool struct {
	ipl.Pool
	tree   bart.Table[bool]   // whether what falls there is in
	chosen bart.Table[string] // of a group-map: the group of what falls there
	hits   atomic.Uint64
}

// maxPoolEntries bounds a pool.
const maxPoolEntries = 1_000_000

// has reports whether ip is in the pool; there may be none of that name.
func (p *pools) has(name string, ip netip.Addr) bool {
	m := p.p.Load()
	if m == nil {
		return false
	}
	t := (*m)[name]
	if t == nil || t.Kind == ipl.PoolGroupMap {
		return false
	}
	ip, _ = packet.Unscoped(ip)
	in, ok := t.tree.Lookup(ip)
	if ok && in {
		t.hits.Add(1)
	}
	return ok && in
}

// group is the group that a group-map of that direction chooses for ip; "": none.
func (p *pools) group(name string, out bool, ip netip.Addr) string {
	m := p.p.Load()
	if m == nil {
		return ""
	}
	t := (*m)[name]
	if t == nil || t.Kind != ipl.PoolGroupMap || t.Out != out {
		return ""
	}
	ip, _ = packet.Unscoped(ip)
	g, ok := t.chosen.Lookup(ip)
	if ok {
		t.hits.Add(1)
	}
	return g
}

func newPool(c ipl.Pool) (*pool, error) {
	if len(c.Entries) > maxPoolEntries {
		return nil, fmt.Errorf("pool %s: more than %d entries: %w", c.Name, maxPoolEntries, syscall.ENOSPC)
	}
	n := &pool{Pool: c}
	for _, e := range c.Entries {
		if c.Kind == ipl.PoolGroupMap {
			g := e.Group
			if g == "" {
				g = c.Group
			}
			n.chosen.Insert(e.Prefix, g)
			continue
		}
		n.tree.Insert(e.Prefix, !e.Not)
	}
	return n, nil
}

// InPool reports whether the pool of that name holds an address; there may be none.
func (f *Filter) InPool(name string, ip netip.Addr) bool { return f.pools.has(name, ip) }

// EditPools makes or replaces pools, and removes those named by gone: rules that name
// these match nothing. Packets see all of it or none. Errors change nothing. ENOSPC: too
// many entries; ESRCH: no pool to remove.
func (f *Filter) EditPools(set []ipl.Pool, gone []string) error {
	made := make([]*pool, len(set))
	for i, c := range set {
		n, err := newPool(c)
		if err != nil {
			return err
		}
		made[i] = n
	}
	f.pools.mu.Lock()
	defer f.pools.mu.Unlock()
	m := map[string]*pool{}
	if old := f.pools.p.Load(); old != nil {
		maps.Copy(m, *old)
	}
	for _, name := range gone {
		if m[name] == nil {
			return fmt.Errorf("pool %s: %w", name, syscall.ESRCH)
		}
		delete(m, name)
	}
	for _, n := range made {
		if old := m[n.Name]; old != nil {
			n.hits.Store(old.hits.Load())
		}
		m[n.Name] = n
	}
	f.pools.p.Store(&m)
	f.gen.Add(1)
	return nil
}

// PoolInfo is a pool as ippool shows it.
type PoolInfo struct {
	ipl.Pool
	Hits uint64
}

// Pools are the pools, in no order.
func (f *Filter) Pools() (all []PoolInfo) {
	if m := f.pools.p.Load(); m != nil {
		for _, p := range *m { // map order: the caller sorts
			all = append(all, PoolInfo{p.Pool, p.hits.Load()})
		}
	}
	return all
}
