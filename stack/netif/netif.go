package netif

import (
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"

	"ionet/stack/mib"
	"ionet/stack/packet"
)

// Interface flags (BSD's IFF_*).
const (
	FlagUp           = 0x1
	FlagBroadcast    = 0x2
	FlagDebug        = 0x4
	FlagLoopback     = 0x8
	FlagPointToPoint = 0x10
	FlagNoTrailers   = 0x20
	FlagRunning      = 0x40
	FlagNoARP        = 0x80
	FlagPromisc      = 0x100
	FlagAllMulti     = 0x200
	FlagOActive      = 0x400
	FlagSimplex      = 0x800
	FlagLink0        = 0x1000
	FlagLink1        = 0x2000
	FlagLink2        = 0x4000
	FlagMulticast    = 0x8000

	// FlagsSettable are those that SIOCSIFFLAGS may change.
	FlagsSettable = FlagUp | FlagDebug | FlagNoARP | FlagPromisc | FlagAllMulti | FlagLink0 | FlagLink1 | FlagLink2
)

// Link types (BSD's IFT_*).
const (
	TypeEther  = 0x6
	TypeLoop   = 0x18
	TypeL2VLAN = 0x87 // a VLAN of an Ethernet
	TypeBridge = 0xd1
	TypeSTF    = 0xd7 // 6to4
	TypeGIF    = 0xf0 // a generic tunnel
	TypeEnc    = 0xf4 // what comes out of IPsec's tunnels
)

// MAC is a 48-bit link address.
type MAC [6]byte

// BroadcastMAC is the Ethernet broadcast address.
var BroadcastMAC = MAC{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}

func (m MAC) String() string {
	return fmt.Sprintf("%02x:%02x:%02x:%02x:%02x:%02x", m[0], m[1], m[2], m[3], m[4], m[5])
}

// IsMulticast reports the group bit (broadcast included).
func (m MAC) IsMulticast() bool { return m[0]&1 != 0 }

// GroupMAC is the link address of a multicast group (RFC 1112 §6.4, RFC 2464 §7).
func GroupMAC(g netip.Addr) MAC {
	if g.Is4() {
		a := g.As4()
		return MAC{0x01, 0x00, 0x5e, a[1] & 0x7f, a[2], a[3]}
	}
	a := g.As16()
	return MAC{0x33, 0x33, a[12], a[13], a[14], a[15]}
}

// Caps are what a driver can do for us.
type Caps uint32

const (
	// CapCsum: the driver completes partial checksums, and marks verified
	// ones, so packets may cross with CsumPartial.
	CapCsum Caps = 1 << iota
	// CapTSO4, CapTSO6, CapUSO: the driver takes super-packets.
	CapTSO4
	CapTSO6
	CapUSO
	// CapVLANMTU: a frame of the MTU may have a VLAN tag besides.
	CapVLANMTU
	// CapNoVLAN: frames with a VLAN tag are left to others and never come.
	CapNoVLAN
)

// Driver is the lower side of an interface: where its frames go.
type Driver interface {
	// Transmit takes over a burst of frames. It never blocks: what finds no
	// room is freed and counted in the interface's OutDrops. It is called by
	// several goroutines at once. The slice is the caller's again afterwards.
	Transmit(ifp *Interface, burst []*packet.Buf)
}

// Filter is implemented by drivers that can be told which link addresses
// to pass up.
type Filter interface {
	SetFilter(promisc, allmulti bool, groups []MAC)
}

// Tap sees every frame of an interface: a capture. It is called from the
// packet path and must not block or keep the packet.
type Tap interface {
	// Tap is handed a frame in (out false) or out.
	Tap(now int64, ifp *Interface, frame []byte, out bool)
	// Dropped is handed a packet from its network header on that the stack
	// dropped, and why.
	Dropped(now int64, ifp *Interface, pkt []byte, why mib.Counter)
}

// Stats are an interface's counters (if_data).
type Stats struct {
	InPackets, InErrors, InBytes, InMcast, InDrops atomic.Uint64
	_                                              [24]byte
	OutPackets, OutErrors, OutBytes, OutMcast, OutDrops, Collisions,
	NoProto atomic.Uint64
	LastChange atomic.Int64
}

// Interface is one network interface.
type Interface struct {
	Name   string
	Index  uint32
	Type   uint8
	HdrLen int // of the link header
	Stats  Stats

	// Input takes over a burst of received frames, with its link headers; set
	// by the link room at assembly.
	Input func(w *Work, ifp *Interface, burst []*packet.Buf)
	// Output takes over a packet from its network header on and sends it to
	// the neighbour nexthop (for a group or broadcast: that address). Errors:
	// EHOSTDOWN, ENETDOWN; the packet is gone in any case.
	Output func(w *Work, ifp *Interface, pkt *packet.Buf, nexthop netip.Addr) error

	// Neighbour is the neighbour nexthop as the fast path knows it; nil: it has to
	// be asked for, or the link has no such thing. Set by the link room.
	Neighbour func(ifp *Interface, nexthop netip.Addr) *Neighbour

	driver  Driver
	stacked Stacked
	caps    Caps
	above   atomic.Pointer[Above]
	flags   atomic.Uint32
	mtu     atomic.Int32
	metric  atomic.Int32
	linkUp  atomic.Bool
	gone    atomic.Bool

	mu      sync.Mutex // writers of what follows
	mac     atomic.Pointer[MAC]
	addrs   atomic.Pointer[[]*Addr]
	taps    atomic.Pointer[[]Tap]
	groups  map[MAC]int
	allMult int // wishes for all groups
	promisc int // wishes for all frames
	lastErr atomic.Pointer[string]
}

// Addr is an address of an interface. It is immutable: a change replaces it.
type Addr struct {
	If        *Interface
	Addr      netip.Addr
	Bits      int        // prefix length
	Dst       netip.Addr // of a point-to-point interface
	Broadcast netip.Addr // IPv4 on a broadcast interface
	Flags     uint32     // IPv6: Anycast and the others below
	Alias     bool       // not the first of its family
	// Preferred and Valid are when an IPv6 address becomes deprecated, and when
	// it goes: nanoseconds of the stack's clock; 0: never (RFC 4862 §5.5.4).
	Preferred, Valid int64
	// Tentative: not usable yet, the link is being asked for another owner;
	// Duplicated: there is one (RFC 5227, RFC 4862).
	Tentative, Duplicated bool
}

// Flags of an IPv6 address (KAME's IN6_IFF_*, and the last two ionet's own).
// Tentative and Duplicated have fields of their own; Deprecated is what the
// time says.
const (
	AddrAnycast    = 0x01
	AddrTentative  = 0x02
	AddrDuplicated = 0x04
	AddrDetached   = 0x08 // its router has gone
	AddrDeprecated = 0x10
	AddrNoDAD      = 0x20
	AddrAutoconf   = 0x40  // from a router's prefix
	AddrTemporary  = 0x80  // RFC 8981
	AddrStable     = 0x100 // its interface identifier is RFC 7217's
	AddrOptimistic = 0x200 // in use although tentative (RFC 4429)
)

// Deprecated reports whether new connections should not begin with the address.
func (a *Addr) Deprecated(now int64) bool {
	return a.Flags&(AddrDeprecated|AddrDetached) != 0 || a.Preferred != 0 && now >= a.Preferred
}

// Prefix is the network of the address.
func (a *Addr) Prefix() netip.Prefix { return netip.PrefixFrom(a.Addr, a.Bits).Masked() }

// Config is what a new interface starts with.
type Config struct {
	Name   string
	Type   uint8
	Flags  uint32
	MTU    int
	HdrLen int
	MAC    MAC
	Caps   Caps
	Driver Driver
	// Stacked is there instead of a driver if the interface stands on others.
	Stacked Stacked
}

// New makes an interface; [Table.Add] gives it its index.
func New(c Config) *Interface {
	ifp := &Interface{Name: c.Name, Type: c.Type, HdrLen: c.HdrLen, driver: c.Driver, stacked: c.Stacked, caps: c.Caps, groups: map[MAC]int{}}
	ifp.flags.Store(c.Flags)
	ifp.mtu.Store(int32(c.MTU))
	ifp.mac.Store(&c.MAC)
	ifp.addrs.Store(new([]*Addr))
	ifp.taps.Store(new([]Tap))
	ifp.linkUp.Store(true)
	return ifp
}

// Flags are the IFF_* bits.
func (ifp *Interface) Flags() uint32 { return ifp.flags.Load() }

// Up reports whether the interface is up and its driver works. lo0 and stf0 have
// no driver and, as on BSD, do not show RUNNING.
func (ifp *Interface) Up() bool {
	f := ifp.flags.Load()
	return f&FlagUp != 0 && (f&(FlagRunning|FlagLoopback) != 0 || ifp.Type == TypeSTF)
}

// SetFlags clears the bits of clear, then sets those of set, and answers the
// bits that changed.
func (ifp *Interface) SetFlags(set, clear uint32) uint32 {
	for {
		old := ifp.flags.Load()
		now := old&^clear | set
		if ifp.flags.CompareAndSwap(old, now) {
			return old ^ now
		}
	}
}

// MTU is the largest packet, link header not counted.
func (ifp *Interface) MTU() int { return int(ifp.mtu.Load()) }

// SetMTU changes the MTU; the caller has checked it.
func (ifp *Interface) SetMTU(n int) { ifp.mtu.Store(int32(n)) }

// Metric is the interface's routing metric.
func (ifp *Interface) Metric() int { return int(ifp.metric.Load()) }

// SetMetric changes the metric.
func (ifp *Interface) SetMetric(n int) { ifp.metric.Store(int32(n)) }

// MAC is the link address; zero where the link has none.
func (ifp *Interface) MAC() MAC { return *ifp.mac.Load() }

// SetMAC changes the link address.
func (ifp *Interface) SetMAC(m MAC) { ifp.mac.Store(&m) }

// Caps are the driver's offloads.
func (ifp *Interface) Caps() Caps { return ifp.caps }

// Driver is the lower side; nil for lo0.
func (ifp *Interface) Driver() Driver { return ifp.driver }

// LinkUp is the carrier state.
func (ifp *Interface) LinkUp() bool { return ifp.linkUp.Load() }

// SetLinkUp notes a change of carrier and reports whether it was one.
func (ifp *Interface) SetLinkUp(up bool) bool { return ifp.linkUp.Swap(up) != up }

// Gone reports whether the interface has been removed.
func (ifp *Interface) Gone() bool { return ifp.gone.Load() }

// SetLastError notes why the driver failed, for nicinfo.
func (ifp *Interface) SetLastError(s string) { ifp.lastErr.Store(&s) }

// LastError is why the driver failed, or "".
func (ifp *Interface) LastError() string {
	if p := ifp.lastErr.Load(); p != nil {
		return *p
	}
	return ""
}

// Addrs are the addresses in order of assignment. Do not change the slice.
func (ifp *Interface) Addrs() []*Addr { return *ifp.addrs.Load() }

// EditAddrs replaces the addresses by what f makes of a copy of them.
func (ifp *Interface) EditAddrs(f func([]*Addr) []*Addr) {
	ifp.mu.Lock()
	defer ifp.mu.Unlock()
	s := f(append([]*Addr(nil), *ifp.addrs.Load()...))
	ifp.addrs.Store(&s)
}

// AddTap begins a capture.
func (ifp *Interface) AddTap(t Tap) { ifp.editTaps(func(s []Tap) []Tap { return append(s, t) }) }

// RemoveTap ends a capture.
func (ifp *Interface) RemoveTap(t Tap) {
	ifp.editTaps(func(s []Tap) []Tap {
		for i := range s {
			if s[i] == t {
				return append(s[:i], s[i+1:]...)
			}
		}
		return s
	})
}

func (ifp *Interface) editTaps(f func([]Tap) []Tap) {
	ifp.mu.Lock()
	defer ifp.mu.Unlock()
	s := f(append([]Tap(nil), *ifp.taps.Load()...))
	ifp.taps.Store(&s)
}

// TapIn shows received frames to the captures.
func (ifp *Interface) TapIn(w *Work, burst []*packet.Buf) { ifp.tap(w, burst, false) }

// TapOut shows the captures what an interface without a driver sends.
func (ifp *Interface) TapOut(w *Work, pkt *packet.Buf) {
	for _, t := range *ifp.taps.Load() {
		t.Tap(w.Now, ifp, pkt.Bytes(), true)
	}
}

func (ifp *Interface) tap(w *Work, burst []*packet.Buf, out bool) {
	for _, t := range *ifp.taps.Load() {
		for _, p := range burst {
			t.Tap(w.Now, ifp, p.Bytes(), out)
		}
	}
}

func (ifp *Interface) tapDrop(w *Work, pkt *packet.Buf, why mib.Counter) {
	if taps := *ifp.taps.Load(); len(taps) > 0 {
		for _, t := range taps {
			t.Dropped(w.Now, ifp, pkt.L3(), why)
		}
	}
}

// JoinGroup asks the link for a group address; LeaveGroup ends one such wish.
func (ifp *Interface) JoinGroup(m MAC) { ifp.editGroup(m, 1) }

// LeaveGroup undoes one JoinGroup.
func (ifp *Interface) LeaveGroup(m MAC) { ifp.editGroup(m, -1) }

func (ifp *Interface) editGroup(m MAC, n int) {
	ifp.mu.Lock()
	defer ifp.mu.Unlock()
	if ifp.groups[m] += n; ifp.groups[m] <= 0 {
		delete(ifp.groups, m)
	}
	ifp.refilter()
}

// AllMulti asks the link for all groups (if_allmulti); each wish ends with a false.
func (ifp *Interface) AllMulti(on bool) { ifp.wish(&ifp.allMult, FlagAllMulti, on) }

// Promisc asks the link for all frames (ifpromisc); each wish ends with a false.
func (ifp *Interface) Promisc(on bool) { ifp.wish(&ifp.promisc, FlagPromisc, on) }

func (ifp *Interface) wish(wishes *int, flag uint32, on bool) {
	ifp.mu.Lock()
	defer ifp.mu.Unlock()
	was := *wishes > 0
	if *wishes--; on {
		*wishes += 2
	}
	switch now := *wishes > 0; {
	case now == was:
		return
	case now:
		ifp.SetFlags(flag, 0)
	default:
		ifp.SetFlags(0, flag)
	}
	ifp.refilter()
}

// Refilter tells the driver the present filter, after a change of flags.
func (ifp *Interface) Refilter() {
	ifp.mu.Lock()
	defer ifp.mu.Unlock()
	ifp.refilter()
}

func (ifp *Interface) refilter() {
	f, ok := ifp.driver.(Filter)
	if ifp.stacked != nil {
		f, ok = ifp.stacked, true
	}
	if !ok {
		return
	}
	groups := make([]MAC, 0, len(ifp.groups))
	// map order: the driver takes the groups as a set.
	for m := range ifp.groups {
		groups = append(groups, m)
	}
	fl := ifp.flags.Load()
	f.SetFilter(fl&FlagPromisc != 0 || ifp.promisc > 0, fl&FlagAllMulti != 0 || ifp.allMult > 0, groups)
}

// Groups is the number of link group addresses in use.
func (ifp *Interface) Groups() int {
	ifp.mu.Lock()
	defer ifp.mu.Unlock()
	return len(ifp.groups)
}

// tooBig reports a super-packet that the driver does not take.
func (ifp *Interface) tooBig(p *packet.Buf) bool {
	return p.GSO != packet.GSONone && ifp.caps&gsoCaps[p.GSO] == 0
}

var gsoCaps = [...]Caps{packet.GSOTCPv4: CapTSO4, packet.GSOTCPv6: CapTSO6, packet.GSOUDPv4: CapUSO, packet.GSOUDPv6: CapUSO}

// cut appends burst to out, with segments for the super-packets that the
// driver does not take.
func (ifp *Interface) cut(out, burst []*packet.Buf) []*packet.Buf {
	for _, p := range burst {
		if !ifp.tooBig(p) {
			out = append(out, p)
			continue
		}
		var ok bool
		if out, ok = p.Segments(out); !ok {
			ifp.Stats.OutDrops.Add(1)
		}
		p.Free()
	}
	return out
}

// transmit sends a burst; direct: by this interface, not by the bridge that it is in.
func (ifp *Interface) transmit(w *Work, burst []*packet.Buf, direct bool) {
	if above := ifp.above.Load(); above != nil && above.Bridge != nil && !direct && ifp.Up() {
		above.Bridge.Out(w, ifp, burst)
		return
	}
	ifp.tap(w, burst, true)
	if !ifp.Up() || ifp.driver == nil && ifp.stacked == nil {
		ifp.Stats.OutDrops.Add(uint64(len(burst)))
		packet.FreeBurst(burst)
		return
	}
	if slices.ContainsFunc(burst, ifp.tooBig) {
		burst = ifp.cut(w.segs[:0], burst)
		w.segs = nil // until the driver has done with it
		defer func() { w.segs = burst[:0] }()
	}
	var octets, mcast uint64
	for _, p := range burst {
		octets += uint64(p.Len())
		if p.Flags&(packet.FlagBroadcast|packet.FlagMulticast) != 0 {
			mcast++
		}
		if p.Csum == packet.CsumPartial && ifp.caps&CapCsum == 0 {
			p.CompleteCsum()
		}
	}
	ifp.Stats.OutPackets.Add(uint64(len(burst)))
	ifp.Stats.OutBytes.Add(octets)
	if mcast != 0 {
		ifp.Stats.OutMcast.Add(mcast)
	}
	if ifp.stacked != nil {
		ifp.stacked.TransmitOn(w, ifp, burst)
		return
	}
	ifp.driver.Transmit(ifp, burst)
}
