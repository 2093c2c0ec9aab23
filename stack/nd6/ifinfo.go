package nd6

import (
	"ionet/stack/netif"
)

// Flags of an interface (KAME's ND6_IFF_*).
const (
	PerformNUD   = 0x1
	AcceptRtAdv  = 0x2
	PreferSource = 0x4
)

// Defaults of RFC 4861 §10, in milliseconds, and how long a random
// ReachableTime is used (§6.3.4: a few hours).
const (
	defaultReachable = 30_000
	defaultRetrans   = 1_000
	redraw           = 2 * 3600 * second
)

// What a router may say is bounded, so that nobody has us solicit without a pause or
// wait for ever. RFC 4861 §6.2.1 has the second for ReachableTime.
const (
	minTime = 100       // milliseconds
	maxTime = 3_600_000 // milliseconds
)

// IfInfo is what neighbour discovery goes by on an interface. Zero LinkMTU and
// HopLimit leave it to the interface and the stack; the other times are
// milliseconds.
type IfInfo struct {
	LinkMTU       int
	HopLimit      uint8
	Reachable     uint32 // BaseReachable times a random factor (RFC 4861 §6.3.2); not to be set
	BaseReachable uint32
	Retrans       uint32
	Flags         uint32
}

// params is an interface's IfInfo. Immutable.
type params struct {
	info  IfInfo
	drawn int64 // when Reachable was
}

var standard = params{info: IfInfo{Reachable: defaultReachable, BaseReachable: defaultReachable, Retrans: defaultRetrans, Flags: PerformNUD | AcceptRtAdv}}

func (p *params) retrans() int64 { return int64(p.info.Retrans) * millisecond }

// param answers what holds for ifp; the standard, where nobody has needed a
// random time yet.
func (nd *ND) param(ifp *netif.Interface) *params {
	if s := nd.params.Load(); s != nil && int(ifp.Index) < len(*s) && (*s)[ifp.Index] != nil {
		return (*s)[ifp.Index]
	}
	return &standard
}

func (nd *ND) setParam(ifp *netif.Interface, p *params) {
	var s []*params
	if old := nd.params.Load(); old != nil {
		s = append(s, *old...)
	}
	for len(s) <= int(ifp.Index) {
		s = append(s, nil)
	}
	s[ifp.Index] = p
	nd.params.Store(&s)
}

// draw chooses a random ReachableTime.
func (nd *ND) draw(info IfInfo, now int64) *params {
	info.Reachable = uint32(uint64(info.BaseReachable)/2 + uint64(nd.upTo(int64(info.BaseReachable)))) // 0.5 to 1.5 of it
	return &params{info, now}
}

// reachable is how long a neighbour on ifp counts as reachable (RFC 4861
// §6.3.2), in nanoseconds.
func (nd *ND) reachable(w *netif.Work, ifp *netif.Interface) int64 {
	p := nd.param(ifp)
	if p == &standard || w.Now-p.drawn >= redraw {
		nd.paramMu.Lock()
		if p = nd.param(ifp); p == &standard || w.Now-p.drawn >= redraw {
			p = nd.draw(p.info, w.Now)
			nd.setParam(ifp, p)
		}
		nd.paramMu.Unlock()
	}
	return int64(p.info.Reachable) * millisecond
}

// IfInfo is what holds on ifp.
func (nd *ND) IfInfo(ifp *netif.Interface) IfInfo { return nd.param(ifp).info }

// SetIfInfo has f change what holds on ifp. Another BaseReachable has another
// ReachableTime chosen; times of less than a tenth of a second and of more than an
// hour are taken for these.
func (nd *ND) SetIfInfo(w *netif.Work, ifp *netif.Interface, f func(*IfInfo)) {
	nd.paramMu.Lock()
	defer nd.paramMu.Unlock()
	old := nd.param(ifp)
	info := old.info
	f(&info)
	info.BaseReachable = min(max(info.BaseReachable, minTime), maxTime)
	info.Retrans = min(max(info.Retrans, minTime), maxTime)
	info.Reachable = old.info.Reachable
	p := &params{info, old.drawn}
	if old == &standard || info.BaseReachable != old.info.BaseReachable {
		p = nd.draw(info, w.Now)
	}
	nd.setParam(ifp, p)
}

// HopLimit is what a router has said for the link of ifp; 0: nothing.
func (nd *ND) HopLimit(ifp *netif.Interface) uint8 { return nd.param(ifp).info.HopLimit }

// LinkMTU is what a router has said for the link of ifp; 0: nothing.
func (nd *ND) LinkMTU(ifp *netif.Interface) int { return nd.param(ifp).info.LinkMTU }
