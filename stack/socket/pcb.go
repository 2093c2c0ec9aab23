package socket

import (
	"math/bits"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"

	"ionet/stack/cmap"

	"ionet/stack/packet"
)

// Ends are the two ends of a control block. They are immutable.
type Ends struct{ Local, Foreign Addr }

// PCB is an Internet protocol control block, embedded in a protocol's own,
// which is its socket's handler.
type PCB struct {
	So *Socket

	next, prev *PCB // of the table's list

	ends atomic.Pointer[Ends]
	vers atomic.Uint32 // which IP it takes when its address is the wildcard; 0: no port yet
	conn bool          // in the connection hash
	port bool          // in the port hash
	gone bool          // removed: in no hash any more
	// light: a stream whose port nobody bound to, an accepted one or one with
	// an ephemeral port. It is in the connection hash only, and counted in
	// uses: its port may be shared as long as the peers differ.
	light bool
}

var noEnds Ends

// Init ties the block to its socket.
func (p *PCB) Init(so *Socket) {
	p.So = so
	p.ends.Store(&noEnds)
}

// Ends are the block's ends now.
func (p *PCB) Ends() *Ends { return p.ends.Load() }

// Versions is a set of IP versions.
type Versions uint32

// The versions there are.
const (
	V4 Versions = 1 << iota
	V6
)

// VersionOf is the version of an address.
func VersionOf(a netip.Addr) Versions {
	if a.Is4() {
		return V4
	}
	return V6
}

// versions are those that the block takes part in, once it has the local address
// a: one, unless that is the wildcard of an IPv6 socket without IPV6_V6ONLY
// (RFC 3493 §5.3).
func (p *PCB) versions(a netip.Addr) Versions {
	switch {
	case a.IsValid():
		return VersionOf(a)
	case p.vers.Load() != 0:
		return Versions(p.vers.Load())
	case p.So.Family == AFInet:
		return V4
	case p.So.V6Only():
		return V6
	}
	return V4 | V6
}

// Reaches reports whether the block may send to a: its local address, or the IP
// version that its wildcard stands for, is of that version.
func (p *PCB) Reaches(a netip.Addr) bool {
	if p.So.Family == AFInet {
		return a.Is4()
	}
	return p.versions(p.Ends().Local.IP)&VersionOf(a) != 0
}

// PCBTable finds control blocks: those with a peer by both ends, the others by
// local port. A look-up takes no lock. Invariants: a block with a local port
// is in the port hash, unless it is light; one with a foreign address is in the
// connection hash too; no two blocks have the same four values.
type PCBTable struct {
	// Busy, if set, reports ends that are spoken for although no block has them
	// (TIME_WAIT); without foreign end it is asked of a local one that is to be
	// bound, of these versions if it is the wildcard. Streams: blocks with
	// ephemeral ports are light.
	Busy    func(Ends, Versions) bool
	Streams bool

	elsewhere atomic.Pointer[func(Addr, Versions) bool]

	mu    sync.Mutex // writers
	key   uint64     // secret, so that no stranger chooses a bucket
	key6  uint64     // of IPv6 addresses
	conns cmap.Map[*PCB]
	ports cmap.Map[*PCB]
	all   *PCB      // the newest
	n     int       // of them
	uses  LocalUses // of light blocks
}

// Init makes the table ready; key is a secret random value.
func (t *PCBTable) Init(key uint64) {
	t.key, t.key6 = key, mix(key, 0x2545f4914f6cdd1d)
	t.uses.Init(key)
	t.conns.Init()
	t.ports.Init()
}

func mix(h, v uint64) uint64 {
	h ^= v
	h *= 0x9e3779b97f4a7c15
	return h ^ h>>29
}

// Hash is the hash of both ends, for tables of the protocol's own.
func (t *PCBTable) Hash(local, foreign Addr) uint64 { return t.connHash(local, foreign) }

func (t *PCBTable) connHash(local, foreign Addr) uint64 {
	lh, ll := packet.Words(local.IP)
	fh, fl := packet.Words(foreign.IP)
	h := mix(t.key, lh)
	if fh != 0 { // an IPv6 peer chooses all of it, and multiplies without the key what it likes
		hi, lo := bits.Mul64(fh^t.key, fl^t.key6)
		h = mix(h, hi^lo)
	}
	h = mix(h, ll)
	h = mix(h, fl)
	return mix(h, uint64(local.Port)<<16|uint64(foreign.Port))
}

func (t *PCBTable) portHash(port uint16) uint64 { return mix(t.key, uint64(port)) }

// Add makes the table know a block, so that All lists it.
func (t *PCBTable) Add(p *PCB) {
	t.mu.Lock()
	t.enlist(p)
	t.mu.Unlock()
}

func (t *PCBTable) enlist(p *PCB) {
	if p.next = t.all; p.next != nil {
		p.next.prev = p
	}
	t.all = p
	t.n++
}

// Remove forgets a block for good: a call of Bind or Connect that comes late
// finds it gone.
func (t *PCBTable) Remove(p *PCB) {
	t.mu.Lock()
	defer t.mu.Unlock()
	e := p.Ends()
	if p.conn {
		t.conns.Remove(t.connHash(e.Local, e.Foreign), p)
	}
	if p.port {
		t.ports.Remove(t.portHash(e.Local.Port), p)
	}
	if p.light && p.conn {
		t.uses.Add(e.Local, -1)
	}
	if t.all == p || p.prev != nil { // it is in the list
		t.n--
		if p.prev == nil {
			t.all = p.next
		} else {
			p.prev.next = p.next
		}
		if p.next != nil {
			p.next.prev = p.prev
		}
	}
	p.conn, p.port, p.gone, p.next, p.prev = false, false, true, nil, nil
}

// link gives p other ends. The new places are taken before the old ones are
// left, so that no packet that comes meanwhile finds nobody.
func (t *PCBTable) link(p *PCB, e *Ends) {
	old, conn, port := p.Ends(), p.conn, p.port
	if old.Local.Port == 0 {
		p.vers.Store(uint32(p.versions(netip.Addr{})))
	}
	if p.conn = e.Foreign.IP.IsValid(); p.conn {
		t.conns.Add(t.connHash(e.Local, e.Foreign), p)
		if p.light && !conn {
			t.uses.Add(e.Local, 1)
		}
	}
	stays := port && old.Local.Port == e.Local.Port
	if p.port = e.Local.Port != 0 && !p.light; p.port && !stays {
		t.ports.Add(t.portHash(e.Local.Port), p)
	}
	p.ends.Store(e)
	if conn {
		t.conns.Remove(t.connHash(old.Local, old.Foreign), p)
	}
	if port && !stays {
		t.ports.Remove(t.portHash(old.Local.Port), p)
	}
}

// All are the blocks, in order of their sockets' birth.
func (t *PCBTable) All() []*PCB {
	t.mu.Lock()
	out := make([]*PCB, 0, t.n)
	for p := t.all; p != nil; p = p.next {
		out = append(out, p)
	}
	t.mu.Unlock()
	sortPCBs(out)
	return out
}

// Ports is what a bind without a port chooses from.
type Ports struct {
	Min, Max uint16
	Rand     func() uint32
}

// Bind gives p a local end; an unspecified address is the wildcard of its IP
// version. Port 0 asks for an ephemeral one, chosen at random (RFC 6056). Errors: EADDRINUSE, EADDRNOTAVAIL (no port left), EINVAL (bound
// already), EBADF (removed).
func (t *PCBTable) Bind(p *PCB, local Addr, ports Ports) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	e := *p.Ends()
	switch {
	case p.gone:
		return syscall.EBADF
	case e.Local.Port != 0:
		return syscall.EINVAL
	}
	v := p.versions(local.IP)
	if local.IP.IsUnspecified() {
		if local.IP.Is6() {
			v = p.versions(netip.Addr{})
		}
		local.IP = netip.Addr{}
	}
	if local.Port == 0 {
		port, ok := t.pick(p, local, ports, func(a Addr) bool { return t.bindConflict(p, a, v) || t.inUse(p, a, v) })
		if !ok {
			return syscall.EADDRNOTAVAIL
		}
		local.Port = port
	} else if t.bindConflict(p, local, v) || t.inUse(p, local, v) {
		return syscall.EADDRINUSE
	}
	if !local.IP.IsValid() {
		p.vers.Store(uint32(v))
	}
	e.Local = local
	t.link(p, &e)
	return nil
}

func (t *PCBTable) pick(p *PCB, local Addr, ports Ports, conflict func(Addr) bool) (uint16, bool) {
	n := int(ports.Max) - int(ports.Min) + 1
	first := int(ports.Rand() % uint32(n))
	elsewhere := t.elsewhere.Load()
	for i := 0; i < n; i++ {
		local.Port = ports.Min + uint16((first+i)%n)
		if !conflict(local) && (elsewhere == nil || !(*elsewhere)(local, p.versions(local.IP))) {
			return local.Port, true
		}
	}
	return 0, false
}

// bindConflict is BSD's rule: the same port may be shared by different
// addresses, by SO_REUSEPORT on both sides, by SO_REUSEADDR for a specific
// address beside the wildcard, and by SO_REUSEADDR for a group. But for groups,
// nobody but the superuser shares another user's port, and so its datagrams. v
// are the IP versions of a that is the wildcard; blocks of different ones do not
// meet.
func (t *PCBTable) bindConflict(p *PCB, a Addr, v Versions) bool {
	reuseAddr, reusePort := p.So.Opt(SOReuseAddr), p.So.Opt(SOReusePort)
	group := a.IP.IsValid() && a.IP.IsMulticast()
	b := t.ports.Bucket(t.portHash(a.Port))
	for i := 0; i < b.Len(); i++ {
		_, q := b.At(i)
		e := q.Ends()
		if q == p || e.Local.Port != a.Port || q.versions(e.Local.IP)&v == 0 {
			continue
		}
		same := e.Local.IP == a.IP
		wild := !e.Local.IP.IsValid() || !a.IP.IsValid()
		switch {
		case !same && !wild:
		case !group && !p.So.Cred.Super && p.So.Cred.UID != q.So.Cred.UID:
			return true
		case reusePort && q.So.Opt(SOReusePort):
		case group && (reuseAddr || reusePort) && (q.So.Opt(SOReuseAddr) || q.So.Opt(SOReusePort)):
		case !same && reuseAddr:
		default:
			return true
		}
	}
	return false
}

// inUse reports that a stream without a port of its own, or one in TIME_WAIT,
// has the local end a, which only SO_REUSEADDR may then have too.
func (t *PCBTable) inUse(p *PCB, a Addr, v Versions) bool {
	if p.So.Opt(SOReuseAddr) || p.So.Opt(SOReusePort) {
		return false
	}
	return t.uses.Has(a, v) || t.Busy != nil && t.Busy(Ends{Local: a}, v)
}

// Avoid has f asked which local ends an ephemeral port must not make, since somebody
// besides the sockets has them (NAT): of an address, or without one of these versions.
// f takes no lock. nil: nobody has.
func (t *PCBTable) Avoid(f func(Addr, Versions) bool) {
	if f == nil {
		t.elsewhere.Store(nil)
		return
	}
	t.elsewhere.Store(&f)
}

// Uses reports whether a block, or one that was here until lately, has the local end, with
// that foreign one, or, if that has no address, on whatever terms: on the wildcard too.
func (t *PCBTable) Uses(local, foreign Addr) bool {
	if foreign.IP.IsValid() {
		return t.LookupConn(t.connHash(local, foreign), local, foreign, 0) != nil
	}
	v := VersionOf(local.IP)
	h := t.portHash(local.Port)
	b := t.ports.Bucket(h)
	for i := 0; i < b.Len(); i++ {
		k, p := b.At(i)
		if k != h {
			continue
		}
		if e := p.Ends(); e.Local == local || e.Local.Port == local.Port && !e.Local.IP.IsValid() && Versions(p.vers.Load())&v != 0 {
			return true
		}
	}
	t.mu.Lock()
	light := t.uses.Has(local, v)
	t.mu.Unlock()
	return light || t.Busy != nil && t.Busy(Ends{Local: local}, v)
}

// Adopt gives a block that has just been made for a connection of a listening
// socket its ends. EADDRINUSE: another block has them.
func (t *PCBTable) Adopt(p *PCB, e Ends) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.taken(p, e) {
		return syscall.EADDRINUSE
	}
	p.light = true
	t.enlist(p)
	t.link(p, &e)
	return nil
}

// Connect gives p both ends. A local port of 0 asks for an ephemeral one.
// EADDRINUSE: another block has these four values; EBADF: p was removed.
func (t *PCBTable) Connect(p *PCB, e Ends, ports Ports) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if p.gone {
		return syscall.EBADF
	}
	if e.Local.Port == 0 {
		port, ok := t.pick(p, e.Local, ports, func(a Addr) bool {
			return t.bindConflict(p, a, p.versions(a.IP)) || t.taken(p, Ends{a, e.Foreign})
		})
		if !ok {
			return syscall.EADDRNOTAVAIL
		}
		e.Local.Port = port
		p.light = t.Streams
	} else if t.taken(p, e) {
		return syscall.EADDRINUSE
	}
	t.link(p, &e)
	return nil
}

func (t *PCBTable) taken(p *PCB, e Ends) bool {
	q, ok := t.conns.Find(t.connHash(e.Local, e.Foreign), func(q *PCB) bool { return q != p && *q.Ends() == e })
	return ok && q != nil || t.Busy != nil && t.Busy(e, 0)
}

// Disconnect takes the foreign end away; keepLocal says whether the local
// address was bound by the user and stays.
func (t *PCBTable) Disconnect(p *PCB, keepLocal bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if p.gone {
		return
	}
	e := *p.Ends()
	e.Foreign = Addr{}
	if !keepLocal {
		e.Local.IP = netip.Addr{}
	}
	t.link(p, &e)
}

// Lookup finds the block for a unicast packet that came in by interface
// ifindex: the exact pair first, then the address, then the wildcard.
func (t *PCBTable) Lookup(local, foreign Addr, ifindex uint32) *PCB {
	if p := t.LookupConn(t.connHash(local, foreign), local, foreign, ifindex); p != nil {
		return p
	}
	return t.LookupBound(local, ifindex)
}

// LookupConn finds the block with both ends, whose [PCBTable.Hash] is h.
func (t *PCBTable) LookupConn(h uint64, local, foreign Addr, ifindex uint32) *PCB {
	b := t.conns.Bucket(h)
	for i := 0; i < b.Len(); i++ {
		if k, p := b.At(i); k == h {
			if e := p.Ends(); e.Local == local && e.Foreign == foreign && fits(p, ifindex) {
				return p
			}
		}
	}
	return nil
}

// LookupBound finds the block without a peer that listens on local: on its
// address, else on the wildcard of its IP version, else on that of both.
func (t *PCBTable) LookupBound(local Addr, ifindex uint32) *PCB {
	var wild, both *PCB
	v := VersionOf(local.IP)
	h := t.portHash(local.Port)
	b := t.ports.Bucket(h)
	for i := 0; i < b.Len(); i++ {
		k, p := b.At(i)
		if k != h || !fits(p, ifindex) {
			continue
		}
		e := p.Ends()
		if e.Local.Port != local.Port || e.Foreign.IP.IsValid() {
			continue
		}
		if e.Local.IP == local.IP {
			return p
		}
		if e.Local.IP.IsValid() {
			continue
		}
		switch takes := Versions(p.vers.Load()); {
		case takes == v && wild == nil:
			wild = p
		case takes&v != 0 && both == nil:
			both = p
		}
	}
	if wild == nil {
		return both
	}
	return wild
}

// Each calls f for every block that a group or broadcast packet for local from
// foreign concerns, until f answers false.
func (t *PCBTable) Each(local, foreign Addr, ifindex uint32, f func(*PCB) bool) {
	h := t.portHash(local.Port)
	b := t.ports.Bucket(h)
	for i := 0; i < b.Len(); i++ {
		k, p := b.At(i)
		if k != h || !fits(p, ifindex) {
			continue
		}
		e := p.Ends()
		if e.Local.Port != local.Port ||
			e.Local.IP.IsValid() && e.Local.IP != local.IP ||
			!e.Local.IP.IsValid() && Versions(p.vers.Load())&VersionOf(local.IP) == 0 ||
			e.Foreign.IP.IsValid() && e.Foreign != foreign {
			continue
		}
		if !f(p) {
			return
		}
	}
}

func fits(p *PCB, ifindex uint32) bool {
	i := p.So.BoundIf()
	return i == 0 || i == ifindex || ifindex == 0 // 0: by no interface, an error's
}

// FamilyOf is the family of an address.
func FamilyOf(a netip.Addr) int {
	if a.Is4() {
		return AFInet
	}
	return AFInet6
}
