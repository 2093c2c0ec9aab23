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
	"ionet/stack/cmap"
	"ionet/stack/crypt"
	"ionet/stack/mib"
	"ionet/stack/netif"
	"ionet/stack/packet"
)

var (
	nodeSPIMin = mib.Int("net.key.spi_min_value", 256, "The lowest SPI that GETSPI chooses when it is asked for any.", mib.Range(256, 1<<32-1))
	nodeSPIMax = mib.Int("net.key.spi_max_value", 0x0fffffff, "The highest SPI that GETSPI chooses when it is asked for any.", mib.Range(256, 1<<32-1))
	nodeSPITry = mib.Int("net.key.spi_try", 1000, "How often GETSPI tries to find an SPI that is free.", mib.Range(1, 1<<20))
	nodeLarval = mib.Int("net.key.larval_lifetime", 30, "Seconds that an SA without keys, which GETSPI has made, waits for them.", mib.Range(1, 1<<30))
	nodeOldSA  = mib.Int("net.key.preferred_oldsa", 1, "Of several SAs the oldest is used for what leaves: 1, or the newest: 0.", mib.Bool())
	nodeMaxSAs = mib.Int("net.key.max_sas", 1_000_000, "SAs at most.", mib.Range(1, 1<<26))
	nodeWeak   = mib.Int("net.inet.ipsec.weak", 1, "SAs with weak algorithms (DES, 3DES, Blowfish, CAST-128, MD5) may be made: 1, or are refused: 0.", mib.Bool())
)

// State is an SA's, in PF_KEY's numbers.
type State uint8

const (
	Larval State = iota
	Mature
	Dying
	Dead
)

// Lifetime is how long an SA may live; 0: no limit.
type Lifetime struct {
	Packets uint32 // PF_KEY's allocations
	Bytes   uint64
	Add     int64 // seconds since it was made
	Use     int64 // seconds since it was used first
}

// NATT is how ESP rides UDP (RFC 3948); the zero one: it does not.
type NATT struct {
	Type         uint8 // 2: ESP in UDP; 1: the drafts' way with a marker
	Sport, Dport uint16
	OA           netip.Addr // what the far end thinks its address is, of a transport's checksums
}

// Spec is what an SA is made of.
type Spec struct {
	Proto    uint8 // 50, 51, 108
	SPI      uint32
	Mode     uint8
	Src, Dst netip.Addr
	ReqID    uint32

	Ealg, Aalg, Calg uint8
	Ekey, Akey       []byte
	Replay           int // numbers in the window; 0: none is refused
	ESN              bool
	Cyclic           bool  // numbers may begin again
	Pad              uint8 // how ESP pads: 0 in order, 1 random, 2 zeros
	TFC              int   // octets that plaintexts are padded to at least (RFC 4303 §2.7); 0: none
	RawCPI           bool  // of IPComp: the SPI is what packets say; else the algorithm's number is (RFC 3173 §3.3)

	Soft, Hard Lifetime // as it was made; Update gives it others
	NATT       NATT
	PID        uint32
	Seq        uint32 // of the acquire that it answers
}

// SA is a security association.
type SA struct {
	Spec
	x   *IPsec
	esp crypt.ESP
	// Of esp: octets of IV and check value, and what lengths are multiples of, a power of two.
	iv, icv, align int
	to             [2]uint64            // Dst's words
	header         [packet.IPv6Len]byte // of a tunnel, but for lengths, class and what sysctls say
	sum            uint64               // of header, of IPv4

	auth *crypt.Auth
	comp crypt.Comp

	state   atomic.Uint32
	seq     atomic.Uint64 // the last that was sent
	bytes   atomic.Uint64
	packets atomic.Uint64
	order   uint64       // in which it joined its groups
	Made    int64        // nanoseconds of the stack's clock
	first   atomic.Int64 // when it was used first; 0: never
	last    atomic.Int64
	life    atomic.Pointer[lifetimes]
	soft    atomic.Bool // it was told that it gets old
	timer   callout.Timer[*netif.Work]
	pmtu    atomic.Int64 // of a transport's path, and until when it is believed
	pmtuEnd atomic.Int64

	mu     sync.Mutex // a leaf
	replay window
	came   struct{ packets, bytes uint64 } // of ESP and AH; others and what leaves are counted above
	ways   []*way                          // idle ones, besides single

	busy atomic.Bool // single is somebody's

	trail atomic.Pointer[Trail] // of the packet that came last
	hosts atomic.Pointer[hosts] // of mode BEET
	stats saStats
	wiped bool // there are no keys any more

	// What is used first, and life and trail are: with many SAs each object of its own is a page of its own.
	born   lifetimes
	single way
	simple Trail
}

// maxTFC bounds what packets are padded to.
const maxTFC = 9000

// Trail is what a packet has come through, the outermost last.
type Trail struct {
	SA     *SA
	Tunnel bool // it was opened as a tunnel's, or as BEET's
	Before *Trail
}

// State is the SA's state now.
func (s *SA) State() State { return State(s.state.Load()) }

// Usable reports an SA that packets may go through.
func (s *SA) usable() bool { st := s.State(); return st == Mature || st == Dying }

// SAInfo is an SA as it is listed.
type SAInfo struct {
	Spec
	State             State
	Number            uint64 // the last that was sent, or has come
	Bytes, Packets    uint64
	Made, First, Last int64 // of the stack's clock; 0: never
}

// Info describes the SA, without its keys.
func (s *SA) Info() SAInfo {
	i := SAInfo{Spec: s.Spec, State: s.State(), Number: s.seq.Load(), Made: s.Made, First: s.first.Load(), Last: s.last.Load()}
	s.mu.Lock()
	i.Number = max(i.Number, s.replay.top.Load())
	i.Packets, i.Bytes = s.packets.Load()+s.came.packets, s.bytes.Load()+s.came.bytes
	i.Soft, i.Hard = s.lifetimes()
	s.mu.Unlock()
	i.Ekey, i.Akey = nil, nil
	return i
}

// AppendKeys appends the key for encryption, of n octets, and the one for authentication to b. Of an SA that is
// gone there are none.
func (s *SA) AppendKeys(b []byte) (keys []byte, n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.wiped {
		return b, 0
	}
	return append(append(b, s.Ekey...), s.Akey...), len(s.Ekey)
}

// choice names the SAs that a request may be fulfilled by.
type choice struct {
	proto, mode uint8
	src, dst    netip.Addr
	reqid       uint32 // 0: any
}

// group is the SAs of a choice.
type group struct {
	cur atomic.Pointer[SA] // which packets take; nil: none
	// As they were made, by order; the table's lock. Who has left is nil, until half of them are.
	all  []joined
	left int
	head int // all before it have left
}

type joined struct {
	order uint64
	sa    *SA
}

func (g *group) add(s *SA) { g.all = append(g.all, joined{s.order, s}) }

// remove takes s away if it is there.
func (g *group) remove(s *SA) {
	i, found := slices.BinarySearchFunc(g.all, s.order, func(j joined, order uint64) int { return cmp.Compare(j.order, order) })
	if !found || g.all[i].sa != s {
		return
	}
	g.all[i].sa = nil
	for g.left++; g.head < len(g.all) && g.all[g.head].sa == nil; g.head++ {
	}
	for n := len(g.all); n > 0 && g.all[n-1].sa == nil; n-- {
		g.all = g.all[:n-1]
		g.left--
	}
	if g.left*2 > len(g.all) {
		g.all = slices.DeleteFunc(g.all, func(j joined) bool { return j.sa == nil })
		g.left, g.head = 0, 0
	}
	g.head = min(g.head, len(g.all))
}

type sad struct {
	x    *IPsec
	key  uint64
	byID cmap.Map[*SA]

	old atomic.Bool // preferred_oldsa

	mu     sync.Mutex
	groups map[choice]*group
	came   uint64 // SAs that have joined
	doomed []*SA  // gone, but packets may be on their way through them
}

func (d *sad) init(x *IPsec) {
	d.x, d.groups = x, map[choice]*group{}
	d.key = uint64(x.env.Rand32())<<32 | uint64(x.env.Rand32())
	d.byID.Init()
	d.old.Store(x.env.MIB.On(nodeOldSA))
	x.env.MIB.OnChange(nodeOldSA, func(_, n int64) error {
		d.old.Store(n != 0)
		d.chooseAll()
		return nil
	})
}

func (d *sad) hash(proto uint8, spi uint32, dst [2]uint64) uint64 {
	return mix(mix(d.key, dst[0]^uint64(spi)<<8^uint64(proto)), dst[1])
}

func mix(a, b uint64) uint64 {
	a = (a ^ b) * 0x9e3779b97f4a7c15
	return a ^ a>>32
}

// find is the SA of a packet that comes to dst, in words, or nil.
func (d *sad) find(proto uint8, spi uint32, dst [2]uint64, v6 bool) *SA {
	hash := d.hash(proto, spi, dst)
	b := d.byID.Bucket(hash)
	for i := range b.Len() {
		if h, s := b.At(i); h == hash && s.is(proto, spi, dst, v6) {
			return s
		}
	}
	return nil
}

// at is the SA of a destination, or nil.
func (d *sad) at(proto uint8, spi uint32, dst netip.Addr) *SA {
	hi, lo := packet.Words(dst)
	return d.find(proto, spi, [2]uint64{hi, lo}, dst.Is6())
}

func (s *SA) is(proto uint8, spi uint32, dst [2]uint64, v6 bool) bool {
	return s.SPI == spi && s.to == dst && s.Proto == proto && s.Dst.Is6() == v6
}

// choices are those that an SA is in: it may be asked for by its mode and by its
// request, or whatever they are.
func (s *SA) choices() (all []choice) {
	modes := [...]uint8{s.Mode, ModeTransport, ModeTunnel}
	n := 1
	if s.Mode == ModeAny {
		n = len(modes)
	}
	all = make([]choice, 0, 2*n)
	for _, m := range modes[:n] {
		all = append(all, choice{s.Proto, m, s.Src, s.Dst, 0})
		if s.ReqID != 0 {
			all = append(all, choice{s.Proto, m, s.Src, s.Dst, s.ReqID})
		}
	}
	return all
}

// groupsOf fills in the groups that a flow's requests are fulfilled from. When one begins or ends, the SPD's
// generation changes.
func (d *sad) groupsOf(f *flow) {
	d.mu.Lock()
	defer d.mu.Unlock()
	src, dst := f.src(), f.dst()
	for n := range f.policy.Requests {
		r := &f.policy.Requests[n]
		if r.Mode != ModeTransport {
			src, dst = unscope(r.Src), unscope(r.Dst)
		}
		c := choice{r.Proto, r.Mode, src, dst, 0}
		if r.Level == Unique {
			c.reqid = r.ReqID
		}
		f.groups[n] = d.groups[c]
	}
}

// group is the one of a choice, or nil.
func (d *sad) group(c choice) *group {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.groups[c]
}

// choose decides which SA of a group packets take; the lock is held.
func (d *sad) choose(g *group) {
	var best *SA
	if d.old.Load() {
		for _, j := range g.all[g.head:] {
			if best = j.sa; best != nil && best.usable() {
				break
			}
		}
	} else {
		for i := len(g.all) - 1; i >= g.head; i-- {
			if best = g.all[i].sa; best != nil && best.usable() {
				break
			}
		}
	}
	if best != nil && !best.usable() {
		best = nil
	}
	g.cur.Store(best)
}

func (d *sad) chooseAll() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, g := range d.groups { // map order: each on its own
		d.choose(g)
	}
}

// join and leave bring the groups up to date.
func (d *sad) join(s *SA) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.came++
	s.order = d.came
	for _, c := range s.choices() {
		g := d.groups[c]
		if g == nil {
			g = &group{}
			d.groups[c] = g
			d.x.spd.gen.Add(1)
		}
		g.add(s)
		d.choose(g)
	}
}

func (d *sad) leave(s *SA) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, c := range s.choices() {
		g := d.groups[c]
		if g == nil {
			continue
		}
		g.remove(s)
		d.choose(g)
		if len(g.all) == 0 {
			delete(d.groups, c)
			d.x.spd.gen.Add(1) // who knows it looks again
		}
	}
}

// check makes what a spec says ready; EINVAL, EPROTONOSUPPORT.
func (x *IPsec) check(c *Spec) (*SA, error) {
	s := &SA{Spec: *c, x: x, Made: x.env.Now()}
	s.Src, s.Dst = unscope(c.Src), unscope(c.Dst)
	s.to[0], s.to[1] = packet.Words(s.Dst)
	s.born, s.simple = lifetimes{c.Soft, c.Hard}, Trail{SA: s, Tunnel: c.Mode == ModeTunnel || c.Mode == ModeBEET}
	s.life.Store(&s.born)
	s.trail.Store(&s.simple)
	s.replay.init(min(c.Replay, MaxReplay))
	var err error
	switch {
	case !c.Src.IsValid() || !c.Dst.IsValid() || c.Src.Is4() != c.Dst.Is4():
		err = fmt.Errorf("an SA has a source and a destination of one family: %w", syscall.EINVAL)
	case c.Mode == ModeBEET && c.Proto != packet.ProtoESP:
		err = fmt.Errorf("mode beet is ESP's alone: %w", syscall.EINVAL)
	case c.SPI < 256 && c.Proto != packet.ProtoIPComp:
		err = fmt.Errorf("SPI %d: those below 256 are reserved: %w", c.SPI, syscall.EINVAL)
	case c.TFC != 0 && (c.Proto != packet.ProtoESP || c.Mode != ModeTunnel || c.TFC > maxTFC):
		err = fmt.Errorf("packets are padded by ESP in tunnel mode alone, to %d octets at most: %w", maxTFC, syscall.EINVAL)
	case !x.env.MIB.On(nodeWeak) && len(weak(c)) > 0:
		err = fmt.Errorf("weak algorithms are refused (net.inet.ipsec.weak is 0): %w", syscall.EPROTONOSUPPORT)
	case c.Proto == packet.ProtoESP:
		if s.esp, err = crypt.NewESP(c.Ealg, c.Ekey, c.Aalg, c.Akey, c.ESN); err == nil {
			s.iv, s.icv, s.align = s.esp.IVLen(), s.esp.ICVLen(), s.esp.Align()
		}
	case c.Proto == packet.ProtoAH:
		s.auth, err = crypt.NewAuth(c.Aalg, c.Akey)
	case c.Proto == packet.ProtoIPComp:
		s.comp, err = crypt.NewComp(c.Calg)
	default:
		err = fmt.Errorf("protocol %d is none of IPsec: %w", c.Proto, syscall.EINVAL)
	}
	if err != nil {
		return nil, err
	}
	for _, name := range weak(c) {
		if _, told := x.weak.LoadOrStore(name, true); !told {
			x.env.Log.Warn("ipsec: a weak algorithm, for peers alone that know nothing better", "algorithm", name)
		}
	}
	s.findStats()
	s.prepare()
	return s, nil
}

// weak are the names of the algorithms that nobody should choose any more.
func weak(c *Spec) (names []string) {
	if e, _ := crypt.EalgByNumber(c.Ealg); c.Proto == packet.ProtoESP && e.Weak {
		names = append(names, e.Name)
	}
	if a, _ := crypt.AalgByNumber(c.Aalg); c.Proto != packet.ProtoIPComp && a.Weak {
		names = append(names, a.Name)
	}
	return names
}

// Add makes an SA. EEXIST: there is one of that SPI and destination; EINVAL: its
// algorithms or keys cannot be right; ENOBUFS: net.key.max_sas. The keys are the SA's from then on, and wiped with it.
func (x *IPsec) Add(c Spec) (*SA, error) {
	s, err := x.check(&c)
	if err != nil {
		return nil, err
	}
	s.state.Store(uint32(Mature))
	if err := x.enter(s); err != nil {
		s.wipe()
		return nil, err
	}
	x.matured(s)
	return s, nil
}

// matured lets packets take a new SA.
func (x *IPsec) matured(s *SA) {
	x.sad.join(s)
	x.ports.add(s)
	s.arm(x.env.Now())
	x.wait.arrived(s)
}

func (x *IPsec) enter(s *SA) error {
	if int64(x.sad.byID.Len()) >= x.env.MIB.Int(nodeMaxSAs) {
		return fmt.Errorf("%d SAs are there (net.key.max_sas): %w", x.sad.byID.Len(), syscall.ENOBUFS)
	}
	hash := x.sad.hash(s.Proto, s.SPI, s.to)
	if _, there := x.sad.byID.AddUnless(hash, s, func(o *SA) bool { return o.is(s.Proto, s.SPI, s.to, s.Dst.Is6()) }); there {
		return syscall.EEXIST
	}
	return nil
}

// Update gives keys to the larval SA that Spec names, or other lifetimes to one that has keys. ESRCH.
func (x *IPsec) Update(c Spec) (*SA, error) {
	old := x.sad.at(c.Proto, c.SPI, unscope(c.Dst))
	if old == nil || old.State() == Dead {
		return nil, syscall.ESRCH
	}
	if old.State() != Larval { // RFC 2367 §3.1.2: of one with keys the lifetimes alone
		old.life.Store(&lifetimes{c.Soft, c.Hard})
		old.arm(x.env.Now())
		return old, nil
	}
	s, err := x.check(&c)
	if err != nil {
		return nil, err
	}
	s.state.Store(uint32(Mature))
	x.remove(old)
	x.bury()
	if err := x.enter(s); err != nil {
		s.wipe()
		return nil, err
	}
	x.matured(s)
	return s, nil
}

// GetSPI makes a larval SA with an SPI between lo and hi that is free. EEXIST: none was found.
func (x *IPsec) GetSPI(c Spec, lo, hi uint32) (*SA, error) {
	if lo == 0 && hi == 0 {
		lo, hi = uint32(x.env.MIB.Int(nodeSPIMin)), uint32(x.env.MIB.Int(nodeSPIMax))
	}
	if lo > hi {
		return nil, fmt.Errorf("SPIs from %d to %d are none: %w", lo, hi, syscall.EINVAL)
	}
	c.Dst, c.Src = unscope(c.Dst), unscope(c.Src)
	for range x.env.MIB.Int(nodeSPITry) {
		c.SPI = lo + uint32(uint64(x.env.Rand32())*(uint64(hi-lo)+1)>>32)
		s := &SA{Spec: c, x: x, Made: x.env.Now()}
		s.to[0], s.to[1] = packet.Words(s.Dst)
		s.life.Store(&lifetimes{})
		if x.enter(s) == nil {
			s.arm(x.env.Now())
			return s, nil
		}
	}
	return nil, fmt.Errorf("no SPI from %d to %d is free: %w", lo, hi, syscall.EEXIST)
}

// Find is the SA of those ends and that SPI; ESRCH. Src may be left out.
func (x *IPsec) Find(proto uint8, spi uint32, src, dst netip.Addr) (*SA, error) {
	s := x.sad.at(proto, spi, unscope(dst))
	if s == nil || src.IsValid() && s.Src != unscope(src) {
		return nil, syscall.ESRCH
	}
	return s, nil
}

// Delete ends an SA.
func (x *IPsec) Delete(s *SA) {
	s.state.Store(uint32(Dead))
	x.remove(s)
	x.bury()
}

func (x *IPsec) remove(s *SA) {
	hash := x.sad.hash(s.Proto, s.SPI, s.to)
	if !x.sad.byID.Remove(hash, s) {
		return
	}
	x.env.Wheel.Stop(&s.timer)
	x.sad.leave(s)
	x.ports.remove(s)
	x.sad.mu.Lock()
	x.sad.doomed = append(x.sad.doomed, s)
	x.sad.mu.Unlock()
}

// bury forgets the keys of SAs that are gone, when no packet is on its way through them
// any more. It must not be called inside a Work.
func (x *IPsec) bury() {
	x.sad.mu.Lock()
	all := x.sad.doomed
	x.sad.doomed = nil
	x.sad.mu.Unlock()
	if len(all) == 0 {
		return
	}
	x.env.Epoch.Wait()
	for _, s := range all {
		s.wipe()
	}
}

// wipe forgets the keys; no packet may be on its way through s.
func (s *SA) wipe() {
	s.mu.Lock()
	s.wiped = true
	clear(s.Ekey)
	clear(s.Akey)
	s.mu.Unlock()
	if s.esp != nil {
		s.esp.Wipe()
	}
	if s.auth != nil {
		s.auth.Wipe()
	}
}

// DeleteAll ends the SAs of a protocol, or of all with 0, that are between src and dst if those
// are valid, and answers how many.
func (x *IPsec) DeleteAll(proto uint8, src, dst netip.Addr) (n int) {
	for _, s := range x.SAs(proto) {
		if src.IsValid() && s.Src != unscope(src) || dst.IsValid() && s.Dst != unscope(dst) {
			continue
		}
		s.state.Store(uint32(Dead))
		x.remove(s)
		n++
	}
	x.bury()
	return n
}

// SAs are those of a protocol, or all with 0, in no order.
func (x *IPsec) SAs(proto uint8) (all []*SA) {
	x.sad.byID.All(func(s *SA) bool {
		if proto == 0 || s.Proto == proto {
			all = append(all, s)
		}
		return true
	})
	return all
}

func unscope(ip netip.Addr) netip.Addr {
	ip, _ = packet.Unscoped(ip)
	return ip
}
