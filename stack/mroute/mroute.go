// Package mroute is multicast forwarding (MROUTING: ip_mroute, ip6_mroute), one
// engine for both versions of IP. A routing daemon says by a raw socket which
// interfaces take part, the virtual interfaces or vifs, and what becomes of the
// packets of a source to a group, the forwarding cache; packets that the cache
// knows nothing of wait, a few of them and not for long, while the daemon is asked.
//
// A family's room reads the daemon's options and the packets' headers ([Network])
// and brings packets as turns of the work list ([Router.Forward]). Looking up
// takes no lock.
package mroute

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"

	"ionet/stack/callout"
	"ionet/stack/cmap"
	"ionet/stack/mib"
	"ionet/stack/netif"
	"ionet/stack/packet"
)

const second = int64(1e9)

const (
	// MaxVifs is the number of virtual interfaces (MAXVIFS of NetBSD).
	MaxVifs = 32

	mostEntries = 65536 // of the forwarding cache
)

// Flags of a virtual interface (VIFF_*, MIFF_*).
const (
	FlagTunnel   = 0x1
	FlagSrcRt    = 0x2
	FlagRegister = 0x4
)

// Kinds of [Upcall] (IGMPMSG_*, MRT6MSG_*).
const (
	NoCache  = 1 // the cache has no entry for a packet
	WrongVif = 2 // a packet came by another interface than its entry's parent
)

// Upcall is what the routing daemon is told of a packet.
type Upcall struct {
	Kind     uint8
	Vif      int // by which the packet came
	Src, Dst netip.Addr
}

// User is the socket of a routing daemon.
type User interface {
	// Told takes word to the socket, of packet p, at which it only looks. false: it has
	// no room.
	Told(w *netif.Work, u Upcall, p *packet.Buf) bool
}

// Network is what the engine asks of a version of IP.
type Network interface {
	// Read is what the header of p says, whose window begins there.
	Read(p *packet.Buf) (src, dst netip.Addr, hops uint8)
	// SendGroup takes over p, lowers its hop limit and sends it out of ifp.
	SendGroup(w *netif.Work, p *packet.Buf, ifp *netif.Interface)
}

// Counters are those of a family.
type Counters struct {
	Lookups, Misses, Upcalls, Overflow, SockFull, Cleanups, NoRoute, WrongIf, NoMemory mib.Counter
}

// Config is what a [Router] starts with.
type Config struct {
	Network  Network
	Counters Counters
}

// Router is one family's multicast forwarding. Without a user it does nothing.
type Router struct {
	env  *netif.Env
	conf Config
	seed uint64

	user   atomic.Pointer[User]
	assert atomic.Bool
	vifs   atomic.Pointer[table]
	cache  cmap.Map[*entry]

	mu      sync.Mutex // writers, and what follows
	waiting waiting
}

// table is the virtual interfaces; a change replaces it.
type table struct {
	vif [MaxVifs]*vif
	n   int // all from here on are nil
}

type vif struct {
	Vif
	inPackets, outPackets, inBytes, outBytes atomic.Uint64
}

// Vif is a virtual interface: an interface that packets are forwarded from and to.
type Vif struct {
	If        *netif.Interface
	Flags     uint8
	Threshold uint8  // what the daemon says of it; the entries' count
	RateLimit uint32 // likewise
	Local     netip.Addr
	Remote    netip.Addr
}

type key struct{ src, dst netip.Addr }

// entry is what becomes of the packets of a source to a group.
type entry struct {
	key
	hash   uint64
	way    atomic.Pointer[Way]
	told   atomic.Int64 // when the daemon last heard of a packet by the wrong vif
	counts struct{ packets, bytes, wrong atomic.Uint64 }
}

// Way is where packets are to come from, and where they go: out of every vif whose
// number here is not 0, if their hop limit is larger than that.
type Way struct {
	Parent int
	TTLs   [MaxVifs]uint8
}

// New makes a router.
func New(env *netif.Env, c Config) *Router {
	r := &Router{env: env, conf: c, seed: uint64(env.Rand32())<<32 | uint64(env.Rand32())}
	r.vifs.Store(&table{})
	r.cache.Init()
	r.waiting.init(r)
	return r
}

func (r *Router) hash(k key) uint64 {
	h := r.seed
	for _, a := range [...]netip.Addr{k.src, k.dst} {
		hi, lo := packet.Words(a)
		h = (h ^ hi) * 0x9e3779b97f4a7c15
		h = (h ^ h>>29 ^ lo) * 0xbf58476d1ce4e5b9
		h ^= h >> 32
	}
	return h
}

func (r *Router) find(k key, hash uint64) *entry {
	for b, i := r.cache.Bucket(hash), 0; i < b.Len(); i++ {
		if h, e := b.At(i); h == hash && e.key == k {
			return e
		}
	}
	return nil
}

// Active reports whether a routing daemon is there.
func (r *Router) Active() bool { return r.user.Load() != nil }

// Is reports whether u is that daemon's socket.
func (r *Router) Is(u User) bool {
	p := r.user.Load()
	return p != nil && *p == u
}

// Start is MRT_INIT. EADDRINUSE: there is a user.
func (r *Router) Start(u User) error {
	if !r.user.CompareAndSwap(nil, &u) {
		return syscall.EADDRINUSE
	}
	return nil
}

// Stop is MRT_DONE, or the end of u's socket: all goes that it has said.
func (r *Router) Stop(w *netif.Work, u User) {
	r.mu.Lock()
	if !r.Is(u) {
		r.mu.Unlock()
		return
	}
	r.assert.Store(false)
	t := r.vifs.Swap(&table{})
	var all []*entry
	r.cache.All(func(e *entry) bool { all = append(all, e); return true })
	for _, e := range all {
		r.cache.Remove(e.hash, e)
	}
	for _, v := range t.vif[:t.n] {
		if v != nil {
			v.If.AllMulti(false)
		}
	}
	lost := r.waiting.takeAll()
	r.user.Store(nil)
	r.mu.Unlock()
	for _, p := range lost {
		w.Drop(p, r.conf.Counters.Cleanups)
	}
}

// SetAssert is MRT_ASSERT: the user wants to hear of packets by a wrong vif.
func (r *Router) SetAssert(on bool) { r.assert.Store(on) }

// Assert is what SetAssert has said.
func (r *Router) Assert() bool { return r.assert.Load() }

// AddVif is MRT_ADD_VIF. Errors: EINVAL (no such number), EADDRINUSE, EOPNOTSUPP
// (a tunnel, or an interface without groups).
func (r *Router) AddVif(i int, v Vif) error {
	switch {
	case i < 0 || i >= MaxVifs:
		return fmt.Errorf("vif %d: there are 0 to %d: %w", i, MaxVifs-1, syscall.EINVAL)
	case v.Flags&(FlagTunnel|FlagSrcRt) != 0:
		return fmt.Errorf("vif %d: a tunnel (VIFF_TUNNEL) is none of mroute's, gif makes one: %w", i, syscall.EOPNOTSUPP)
	case v.Flags&FlagRegister != 0:
		return fmt.Errorf("vif %d: there are no register vifs (VIFF_REGISTER): %w", i, syscall.EOPNOTSUPP)
	case v.If.Flags()&netif.FlagMulticast == 0:
		return fmt.Errorf("vif %d: %s has no groups: %w", i, v.If.Name, syscall.EOPNOTSUPP)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.Active() { // the user has gone meanwhile
		return syscall.ENOPROTOOPT
	}
	t := *r.vifs.Load()
	if t.vif[i] != nil {
		return fmt.Errorf("vif %d is %s: %w", i, t.vif[i].If.Name, syscall.EADDRINUSE)
	}
	t.vif[i] = &vif{Vif: v}
	t.n = max(t.n, i+1)
	r.vifs.Store(&t)
	v.If.AllMulti(true)
	return nil
}

// DelVif is MRT_DEL_VIF. Entries of the cache stay. EINVAL, EADDRNOTAVAIL.
func (r *Router) DelVif(i int) error {
	if i < 0 || i >= MaxVifs {
		return syscall.EINVAL
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	t := *r.vifs.Load()
	v := t.vif[i]
	if v == nil {
		return syscall.EADDRNOTAVAIL
	}
	t.vif[i] = nil
	for t.n > 0 && t.vif[t.n-1] == nil {
		t.n--
	}
	r.vifs.Store(&t)
	v.If.AllMulti(false)
	return nil
}

// Detach forgets a departing interface.
func (r *Router) Detach(ifp *netif.Interface) {
	for i, v := range r.vifs.Load().vif {
		if v != nil && v.If == ifp {
			_ = r.DelVif(i) // unless the user was faster
		}
	}
}

// AddEntry is MRT_ADD_MFC: it makes or changes an entry, and sends what has waited
// for it. Errors: EINVAL, ENOBUFS (too many).
func (r *Router) AddEntry(w *netif.Work, src, dst netip.Addr, way Way) error {
	if way.Parent < 0 || way.Parent >= MaxVifs {
		return fmt.Errorf("parent %d: there are 0 to %d: %w", way.Parent, MaxVifs-1, syscall.EINVAL)
	}
	if !dst.IsMulticast() {
		return fmt.Errorf("%v is no group: %w", dst, syscall.EINVAL)
	}
	k := key{src, dst}
	hash := r.hash(k)
	r.mu.Lock()
	e := r.find(k, hash)
	switch {
	case !r.Active(): // the user has gone meanwhile
		r.mu.Unlock()
		return syscall.ENOPROTOOPT
	case e != nil:
		e.way.Store(&way)
	case r.cache.Len() >= mostEntries:
		r.mu.Unlock()
		return syscall.ENOBUFS
	default:
		e = &entry{key: k, hash: hash}
		e.way.Store(&way)
		r.cache.Add(hash, e)
	}
	pkts := r.waiting.take(k)
	r.mu.Unlock()
	for _, p := range pkts {
		r.along(w, e, p)
	}
	return nil
}

// DelEntry is MRT_DEL_MFC. EADDRNOTAVAIL: there is none.
func (r *Router) DelEntry(src, dst netip.Addr) error {
	k := key{src, dst}
	r.mu.Lock()
	defer r.mu.Unlock()
	e := r.find(k, r.hash(k))
	if e == nil {
		return syscall.EADDRNOTAVAIL
	}
	r.cache.Remove(e.hash, e)
	return nil
}

// VifInfo describes a virtual interface.
type VifInfo struct {
	Number int
	Vif
	InPackets, OutPackets, InBytes, OutBytes uint64
}

// Vifs are the virtual interfaces in order of number.
func (r *Router) Vifs() (out []VifInfo) {
	for i, v := range r.vifs.Load().vif {
		if v != nil {
			out = append(out, VifInfo{i, v.Vif, v.inPackets.Load(), v.outPackets.Load(), v.inBytes.Load(), v.outBytes.Load()})
		}
	}
	return out
}

// EntryInfo describes an entry of the cache, or, with Waits, the packets that wait
// for one.
type EntryInfo struct {
	Src, Dst              netip.Addr
	Way                   Way
	Waits                 int // not 0: there is no entry yet
	Packets, Bytes, Wrong uint64
}

func (e *entry) info() EntryInfo {
	return EntryInfo{Src: e.src, Dst: e.dst, Way: *e.way.Load(), Packets: e.counts.packets.Load(), Bytes: e.counts.bytes.Load(),
		Wrong: e.counts.wrong.Load()}
}

// Entry describes the entry of a source and a group.
func (r *Router) Entry(src, dst netip.Addr) (EntryInfo, bool) {
	k := key{src, dst}
	if e := r.find(k, r.hash(k)); e != nil {
		return e.info(), true
	}
	return EntryInfo{}, false
}

// Entries are the cache, and what waits, in order of group and source.
func (r *Router) Entries() (out []EntryInfo) {
	r.cache.All(func(e *entry) bool { out = append(out, e.info()); return true })
	r.mu.Lock()
	out = append(out, r.waiting.infos()...)
	r.mu.Unlock()
	slices.SortFunc(out, func(a, b EntryInfo) int { return cmp.Or(a.Dst.Compare(b.Dst), a.Src.Compare(b.Src)) })
	return out
}

// timer is the wheel's.
type timer = callout.Timer[*netif.Work]
