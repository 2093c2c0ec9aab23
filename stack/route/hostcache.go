package route

import (
	"net/netip"
	"sort"
	"sync"
	"sync/atomic"

	"ionet/stack/mib"
	"ionet/stack/netif"
	"ionet/stack/packet"
)

var (
	cntCacheAdded   = mib.NewCounter("route", "hostcacheadded", "# host cache entr{y} added")
	cntCacheEvicted = mib.NewCounter("route", "hostcacheevicted", "# host cache entr{y} evicted for want of room")
)

const (
	cacheSets = 1024
	cacheWays = 4
)

// HostCache holds what was learnt of single destinations: a path MTU
// (RFC 1191 §6.3). It holds 4096 at most, four to a set; in a full set the
// one that expires first makes room. Nothing is timed: what has expired is
// not found. Reading takes no lock.
type HostCache struct {
	env  *netif.Env
	t    *Table
	seed uint64

	mu   sync.Mutex // writers
	sets atomic.Pointer[[cacheSets][cacheWays]atomic.Pointer[hostEntry]]
}

type hostEntry struct {
	addr    netip.Addr
	mtu     int
	expires int64
}

// NewHostCache makes an empty cache; its changes change t's generation.
func NewHostCache(env *netif.Env, t *Table) *HostCache {
	return &HostCache{env: env, t: t, seed: uint64(env.Rand32())<<32 | uint64(env.Rand32())}
}

func (c *HostCache) set(a netip.Addr) uint64 {
	hi, lo := packet.Words(a)
	h := (hi ^ c.seed) * 0x9e3779b97f4a7c15
	h = (h ^ h>>29 ^ lo) * 0xbf58476d1ce4e5b9
	h = (h ^ h>>32 ^ c.seed) * 0x94d049bb133111eb
	return h >> 40 % cacheSets
}

// MTU answers the path MTU known for dst at time now (nanoseconds).
func (c *HostCache) MTU(dst netip.Addr, now int64) (mtu int, ok bool) {
	sets := c.sets.Load()
	if sets == nil {
		return 0, false
	}
	set := &sets[c.set(dst)]
	for i := range set {
		if e := set[i].Load(); e != nil && e.addr == dst && e.expires > now {
			return e.mtu, true
		}
	}
	return 0, false
}

// Len6 is how many IPv6 destinations have a path MTU at time now.
func (c *HostCache) Len6(now int64) (n int) {
	sets := c.sets.Load()
	if sets == nil {
		return 0
	}
	for i := range sets {
		for j := range sets[i] {
			if e := sets[i][j].Load(); e != nil && e.expires > now && e.addr.Is6() {
				n++
			}
		}
	}
	return n
}

// NextExpiry is when the first of the entries that are valid at now expires;
// false: there is none. It walks the whole cache.
func (c *HostCache) NextExpiry(now int64) (at int64, ok bool) {
	sets := c.sets.Load()
	if sets == nil {
		return 0, false
	}
	for i := range sets {
		for j := range sets[i] {
			if e := sets[i][j].Load(); e != nil && e.expires > now && (!ok || e.expires < at) {
				at, ok = e.expires, true
			}
		}
	}
	return at, ok
}

// SetMTU notes a path MTU until expires. A larger one than is known is
// refused (RFC 1191 §6.3): it answers whether mtu was taken.
func (c *HostCache) SetMTU(dst netip.Addr, mtu int, now, expires int64) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	sets := c.sets.Load()
	if sets == nil {
		sets = new([cacheSets][cacheWays]atomic.Pointer[hostEntry])
		c.sets.Store(sets)
	}
	set := &sets[c.set(dst)]
	at := -1
	for i := range set {
		if e := set[i].Load(); e != nil && e.addr == dst {
			if e.expires > now && e.mtu < mtu {
				return false
			}
			at = i
		}
	}
	if at < 0 {
		at = 0
		for i := range set {
			e := set[i].Load()
			if e == nil || e.expires <= now {
				at = i
				break
			}
			if e.expires < set[at].Load().expires {
				at = i
			}
		}
		if e := set[at].Load(); e != nil && e.expires > now {
			c.env.MIB.Add(cntCacheEvicted, 1)
		}
		c.env.MIB.Add(cntCacheAdded, 1)
	}
	set[at].Store(&hostEntry{dst, mtu, expires})
	c.t.gen.Add(1)
	return true
}

// Forget drops what is known of dst.
func (c *HostCache) Forget(dst netip.Addr) {
	c.mu.Lock()
	defer c.mu.Unlock()
	sets := c.sets.Load()
	if sets == nil {
		return
	}
	set := &sets[c.set(dst)]
	for i := range set {
		if e := set[i].Load(); e != nil && e.addr == dst {
			set[i].Store(nil)
			c.t.gen.Add(1)
		}
	}
}

// Routes are the entries as they show in a dump: cloned host routes with the
// MTU and the expiry in seconds from now, in order of address.
// The caller is not inside an epoch.
func (c *HostCache) Routes(now int64) []Route {
	var out []Route
	sets := c.sets.Load()
	if sets == nil {
		return nil
	}
	for i := range sets {
		for j := range sets[i] {
			e := sets[i][j].Load()
			if e == nil || e.expires <= now {
				continue
			}
			r, err := c.t.Get(e.addr)
			if err != nil {
				continue
			}
			r.Dst, r.Host, r.Use = netip.PrefixFrom(e.addr, e.addr.BitLen()), true, 0
			r.Flags = r.Flags&^(FlagCloning|FlagStatic) | FlagHost | FlagCloned
			r.Metrics = &Metrics{MTU: uint32(e.mtu), Expire: (e.expires - now) / 1e9}
			out = append(out, r)
		}
	}
	sort.Slice(out, func(i, j int) bool { return out[i].Dst.Addr().Less(out[j].Dst.Addr()) })
	return out
}
