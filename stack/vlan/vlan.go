// Package vlan is vlan(4): interfaces for the VLANs of an Ethernet, told apart by a tag in
// its frames (IEEE 802.1Q).
//
// The walk up: ether.Input of the parent → [VLAN.Take] → ether.Input of the vlan.
// The walk down: ether.Send → netif → [lower.TransmitOn] → netif of the parent.
package vlan

import (
	"encoding/binary"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"

	"ionet/stack/mib"
	"ionet/stack/netif"
	"ionet/stack/packet"
)

// The numbers of VLANs: 0 says a priority and no VLAN, and 4095 is reserved.
const (
	MinTag = 1
	MaxTag = 4094
)

const addrs = 12 // octets of a frame's two addresses

var (
	cntIn       = mib.NewCounter("vlan", "received", "# frame{s} received on a vlan")
	cntOut      = mib.NewCounter("vlan", "sent", "# frame{s} sent with a tag")
	cntUnknown  = mib.NewCounter("vlan", "unknown vlan", "# frame{s} of a vlan that has no interface")
	cntShort    = mib.NewCounter("vlan", "short frame", "# frame{s} too short for the tag")
	cntNoParent = mib.NewCounter("vlan", "no parent", "# output frame{s} dropped because the vlan has no parent")
	cntNoMem    = mib.NewCounter("vlan", "no memory", "# output frame{s} dropped due to no bufs, etc.")
)

// VLAN is one stack's VLANs.
type VLAN struct {
	mu  sync.Mutex // one change at a time
	all map[*netif.Interface]*lower
}

// lower is below a vlan interface.
type lower struct {
	ifp *netif.Interface
	on  atomic.Pointer[link] // nil: no parent

	mu   sync.Mutex
	want filter           // what is asked of the vlan
	have filter           // what is asked of the parent for it,
	of   *netif.Interface // which is this one
}

// filter is what a link is asked to let through.
type filter struct {
	promisc, allmulti bool
	groups            []netif.MAC
}

// link says which VLAN of which Ethernet. It is immutable.
type link struct {
	parent *netif.Interface
	tag    uint16
}

// trunk is the VLANs of one Ethernet. It is immutable.
type trunk [MaxTag + 1]*netif.Interface

// New makes the room.
func New() *VLAN { return &VLAN{all: map[*netif.Interface]*lower{}} }

// Create makes an interface vlanN, which is not in the stack's table yet.
func (v *VLAN) Create(name string) *netif.Interface {
	v.mu.Lock()
	defer v.mu.Unlock()
	l := &lower{}
	// The parent cuts and sums what its driver does not take as it is.
	l.ifp = netif.New(netif.Config{Name: name, Type: netif.TypeL2VLAN, MTU: 1500, Stacked: l,
		Caps:  netif.CapCsum | netif.CapTSO4 | netif.CapTSO6 | netif.CapUSO,
		Flags: netif.FlagBroadcast | netif.FlagSimplex | netif.FlagMulticast})
	l.ifp.SetLinkUp(false)
	v.all[l.ifp] = l
	return l.ifp
}

// Destroy forgets a vlan that has been taken out of the stack.
func (v *VLAN) Destroy(ifp *netif.Interface) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if l := v.all[ifp]; l != nil {
		v.put(l, nil)
		delete(v.all, ifp)
	}
}

// Set makes ifp the VLAN tag of parent, with its link address and as large an MTU as
// it allows. Errors: EINVAL (ifp is no vlan, or there is no such VLAN), EPROTONOSUPPORT
// (parent is no Ethernet), EOPNOTSUPP (its driver does not do it), EEXIST (parent has such a vlan), EBUSY (ifp is
// another VLAN).
func (v *VLAN) Set(ifp *netif.Interface, tag int, parent *netif.Interface) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	l := v.all[ifp]
	switch {
	case l == nil:
		return fmt.Errorf("%s is no vlan interface: %w", ifp.Name, syscall.EINVAL)
	case tag < MinTag || tag > MaxTag:
		return fmt.Errorf("vlan %d: a VLAN has a number from %d to %d: %w", tag, MinTag, MaxTag, syscall.EINVAL)
	case parent.Type != netif.TypeEther:
		return fmt.Errorf("%s is no Ethernet: %w", parent.Name, syscall.EPROTONOSUPPORT)
	}
	if parent.Caps()&netif.CapNoVLAN != 0 {
		return fmt.Errorf("the driver of %s leaves frames with a tag to others: %w", parent.Name, syscall.EOPNOTSUPP)
	}
	k := link{parent, uint16(tag)}
	for _, o := range v.on(parent) {
		if *o.on.Load() == k && o != l {
			return fmt.Errorf("%s is vlan %d of %s already: %w", o.ifp.Name, tag, parent.Name, syscall.EEXIST)
		}
	}
	switch old := l.on.Load(); {
	case old != nil && *old == k:
		return nil
	case old != nil:
		return fmt.Errorf("%s is vlan %d of %s, which is to be ended first: %w", ifp.Name, old.tag, old.parent.Name, syscall.EBUSY)
	}
	ifp.SetMAC(parent.MAC())
	v.put(l, &k)
	ifp.SetMTU(MaxMTU(parent))
	return nil
}

// Clear takes ifp off its parent. EADDRNOTAVAIL: it has none.
func (v *VLAN) Clear(ifp *netif.Interface) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	l := v.all[ifp]
	if l == nil || l.on.Load() == nil {
		return syscall.EADDRNOTAVAIL
	}
	v.put(l, nil)
	ifp.SetMAC(netif.MAC{})
	return nil
}

// put changes what a vlan stands on. mu is held.
func (v *VLAN) put(l *lower, k *link) {
	old := l.on.Swap(k)
	for _, k := range [...]*link{old, k} {
		if k == nil {
			continue
		}
		on := v.on(k.parent)
		k.parent.EditAbove(func(a *netif.Above) {
			a.VLANs = nil
			if len(on) == 0 {
				return
			}
			t := &trunk{}
			for _, o := range on {
				t[o.on.Load().tag] = o.ifp
			}
			a.VLANs = t
		})
	}
	l.ask()
}

// on are the vlans of a parent in order of their numbers. mu is held.
func (v *VLAN) on(parent *netif.Interface) (out []*lower) {
	// map order: sorted below.
	for _, l := range v.all {
		if k := l.on.Load(); k != nil && k.parent == parent {
			out = append(out, l)
		}
	}
	slices.SortFunc(out, func(a, b *lower) int { return int(a.on.Load().tag) - int(b.on.Load().tag) })
	return out
}

// On are the vlans of an interface in order of their numbers.
func (v *VLAN) On(parent *netif.Interface) (out []*netif.Interface) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, l := range v.on(parent) {
		out = append(out, l.ifp)
	}
	return out
}

// Of says which VLAN of which interface ifp is; nil: it has no parent.
func (v *VLAN) Of(ifp *netif.Interface) (tag int, parent *netif.Interface) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if l := v.all[ifp]; l != nil {
		if k := l.on.Load(); k != nil {
			return int(k.tag), k.parent
		}
	}
	return 0, nil
}

// MaxMTU is the largest MTU of a vlan of parent.
func MaxMTU(parent *netif.Interface) int {
	if parent.Caps()&netif.CapVLANMTU != 0 {
		return parent.MTU()
	}
	return parent.MTU() - packet.VLANTagLen
}

// SetFilter is netif.Filter: the parent is asked for what the vlan is asked for.
func (l *lower) SetFilter(promisc, allmulti bool, groups []netif.MAC) {
	l.mu.Lock()
	l.want = filter{promisc, allmulti, groups}
	l.mu.Unlock()
	l.ask()
}

// ask asks the parent, and it for everything if the vlan has another link address.
func (l *lower) ask() {
	l.mu.Lock()
	defer l.mu.Unlock()
	var parent *netif.Interface
	if k := l.on.Load(); k != nil {
		parent = k.parent
	}
	if l.of != nil && l.of != parent {
		l.have.become(l.of, filter{})
	}
	if l.of = parent; parent != nil {
		want := l.want
		want.promisc = want.promisc || l.ifp.MAC() != parent.MAC()
		l.have.become(parent, want)
	}
}

// Readdressed is to be told when the link address of a vlan or of its parent has changed.
func (v *VLAN) Readdressed(ifp *netif.Interface) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if l := v.all[ifp]; l != nil {
		l.ask()
	}
}

func (f *filter) become(ifp *netif.Interface, want filter) {
	if f.promisc != want.promisc {
		ifp.Promisc(want.promisc)
	}
	if f.allmulti != want.allmulti {
		ifp.AllMulti(want.allmulti)
	}
	for _, m := range want.groups {
		if !slices.Contains(f.groups, m) {
			ifp.JoinGroup(m)
		}
	}
	for _, m := range f.groups {
		if !slices.Contains(want.groups, m) {
			ifp.LeaveGroup(m)
		}
	}
	*f = want
}

// Take is netif.Intake: frames with a tag are those of the vlan of that number. A
// tag without a number says a priority, and the frame stays with the parent.
func (t *trunk) Take(w *netif.Work, parent *netif.Interface, burst []*packet.Buf) []*packet.Buf {
	n, from, to := 0, 0, (*netif.Interface)(nil) // burst[from:i] are to's
	flush := func(i int) {
		if to != nil {
			w.CountN(cntIn, uint32(i-from))
			to.Input(w, to, burst[from:i])
			clear(burst[from:i])
			to = nil
		}
	}
	for i, p := range burst {
		ifp, mine := t.find(w, parent, p)
		if ifp != to || ifp == nil {
			flush(i)
			from, to = i, ifp
		}
		if ifp != nil {
			continue
		}
		burst[i] = nil
		if !mine {
			burst[n] = p
			n++
		}
	}
	flush(len(burst))
	return burst[:n]
}

// find takes the tag off a frame. nil, true: it is gone; nil, false: it is the
// parent's.
func (t *trunk) find(w *netif.Work, parent *netif.Interface, p *packet.Buf) (ifp *netif.Interface, mine bool) {
	h, ok := packet.CheckEther(p.Bytes())
	if !ok || h.Type() != packet.EtherVLAN {
		return nil, false
	}
	p.RcvIf, p.Time = parent.Index, w.Now
	p.MarkL3(packet.EtherLen)
	if len(h) < packet.EtherLen+packet.VLANTagLen {
		parent.Stats.InErrors.Add(1)
		w.Drop(p, cntShort)
		return nil, true
	}
	tag, _ := packet.VLANTag(h[packet.EtherLen:])
	if tag == 0 {
		return nil, false
	}
	if int(tag) < len(t) {
		ifp = t[tag]
	}
	if ifp == nil {
		parent.Stats.NoProto.Add(1)
		w.Drop(p, cntUnknown)
		return nil, true
	}
	copy(h[packet.VLANTagLen:], h[:addrs])
	p.TrimFront(packet.VLANTagLen)
	return ifp, true
}

// TransmitOn is netif.Stacked.
func (l *lower) TransmitOn(w *netif.Work, ifp *netif.Interface, burst []*packet.Buf) {
	k := l.on.Load()
	for _, p := range burst {
		why := cntNoParent
		if k != nil {
			if q := p.WithHeadroom(packet.VLANTagLen); q != nil {
				q.Prepend(packet.VLANTagLen)
				b := q.Bytes()
				copy(b[:addrs], b[packet.VLANTagLen:])
				binary.BigEndian.PutUint16(b[addrs:], packet.EtherVLAN)
				binary.BigEndian.PutUint16(b[addrs+2:], k.tag)
				w.Count(cntOut)
				w.TransmitDirect(k.parent, q)
				continue
			}
			why = cntNoMem
		}
		ifp.Stats.OutDrops.Add(1)
		w.Drop(p, why)
	}
}
