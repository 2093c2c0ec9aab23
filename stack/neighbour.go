package stack

import (
	"cmp"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"

	"ionet/stack/arp"
	"ionet/stack/nd6"
	"ionet/stack/neigh"
	"ionet/stack/netif"
	"ionet/stack/packet"
)

// Neighbour describes a neighbour of either family.
type Neighbour struct {
	IP     netip.Addr // scoped
	MAC    netif.MAC
	Known  bool // false: incomplete
	If     *netif.Interface
	Expire int64 // time of the stack's clock; 0: permanent
	Flags  uint8 // as AddNeighbour's
	Use    uint64
	// IPv6 alone: the state in words, such as "REACHABLE", whether it says it is a
	// router, and solicitations without an answer.
	State    string
	IsRouter bool
	Probes   int
}

func neighbour4(e arp.Info) Neighbour {
	return Neighbour{IP: e.IP, MAC: e.MAC, Known: e.Known, If: e.If, Expire: e.Expire, Flags: e.Flags, Use: e.Use}
}

func neighbour6(e nd6.Info) Neighbour {
	return Neighbour{IP: e.IP, MAC: e.MAC, Known: e.Known, If: e.If, Expire: e.Expire, Flags: e.Flags, Use: e.Use,
		State: e.State.String(), IsRouter: e.IsRouter, Probes: e.Probes}
}

// NeighbourListener is told of a neighbour what has become of it: as it is now, or as
// it was before it was lost. It must do no more than note it: a packet waits.
type NeighbourListener func(n *Neighbour, c neigh.Change)

// neighbourNews tells listeners of neighbours. While there is none, packets
// read one pointer a change.
type neighbourNews struct {
	mu   sync.Mutex // writers
	subs atomic.Pointer[[]*NeighbourListener]
}

// SubscribeNeighbours has f told of neighbours of both families, of each in order.
func (s *Stack) SubscribeNeighbours(f NeighbourListener) (cancel func()) {
	n := &s.neighbours
	edit := func(change func([]*NeighbourListener) []*NeighbourListener) {
		n.mu.Lock()
		defer n.mu.Unlock()
		var subs []*NeighbourListener
		if p := n.subs.Load(); p != nil {
			subs = slices.Clone(*p)
		}
		if subs = change(subs); len(subs) == 0 {
			n.subs.Store(nil)
			return
		}
		n.subs.Store(&subs)
	}
	edit(func(l []*NeighbourListener) []*NeighbourListener { return append(l, &f) })
	return func() {
		edit(func(l []*NeighbourListener) []*NeighbourListener {
			return slices.DeleteFunc(l, func(p *NeighbourListener) bool { return p == &f })
		})
	}
}

func tell(subs []*NeighbourListener, of Neighbour, c neigh.Change) {
	for _, f := range subs {
		(*f)(&of, c)
	}
}

func (n *neighbourNews) arp(i arp.Info, c neigh.Change) {
	if subs := n.subs.Load(); subs != nil {
		tell(*subs, neighbour4(i), c)
	}
}

func (n *neighbourNews) nd6(i nd6.Info, c neigh.Change) {
	if subs := n.subs.Load(); subs != nil {
		tell(*subs, neighbour6(i), c)
	}
}

// Neighbours are the entries of ARP, then those of neighbour discovery, in
// order of address.
func (s *Stack) Neighbours() (out []Neighbour) {
	for _, e := range s.ARP.Entries() {
		out = append(out, neighbour4(e))
	}
	if s.ND != nil {
		for _, e := range s.ND.Entries() {
			out = append(out, neighbour6(e))
		}
	}
	slices.SortFunc(out, func(a, b Neighbour) int {
		return cmp.Or(a.IP.Compare(b.IP), cmp.Compare(a.If.Index, b.If.Index))
	})
	return out
}

// neighbourIf is the interface on whose network ip lies.
func (s *Stack) neighbourIf(ip netip.Addr) *netif.Interface {
	for _, ifp := range s.Env.Ifs.All() {
		if !ifp.Ether() {
			continue
		}
		for _, a := range ifp.Addrs() {
			if a.Addr.Is4() == ip.Is4() && a.Prefix().Contains(ip) {
				return ifp
			}
		}
	}
	return nil
}

// AddNeighbour makes an entry by hand (arp -s, ndp -s). A nil ifp is found from
// the address; ENETUNREACH when ip is on no network of ours, ENXIO when the
// interface has been removed. life is in
// seconds, 0 for ever; flags are arp.Published and arp.ProxyOnly, which are
// nd6's too.
func (s *Stack) AddNeighbour(ifp *netif.Interface, ip netip.Addr, mac netif.MAC, flags uint8, life int64) error {
	if !s.speaks(ip) {
		return syscall.EAFNOSUPPORT
	}
	if ifp == nil {
		if ifp = s.neighbourIf(ip); ifp == nil {
			return syscall.ENETUNREACH
		}
	}
	s.ctl.Lock()
	defer s.ctl.Unlock()
	if ifp.Gone() {
		return syscall.ENXIO
	}
	w := s.Env.Begin(s.Env.Now())
	defer w.End()
	if ip.Is6() {
		return s.ND.Set(w, ifp, ip, mac, flags, life)
	}
	return s.ARP.Set(w, ifp, ip, mac, flags, life)
}

// DeleteNeighbour removes the entries for ip; ENXIO: there is none. A link-local
// address with an interface is of that one alone.
func (s *Stack) DeleteNeighbour(ip netip.Addr) error {
	w := s.Env.Begin(s.Env.Now())
	defer w.End()
	err := error(syscall.ENXIO)
	for _, ifp := range s.Env.Ifs.All() {
		if _, link := packet.Unscoped(ip); link != 0 && link != ifp.Index {
			continue
		}
		if ip.Is4() && s.ARP.Delete(w, ifp, ip) == nil || ip.Is6() && s.ND != nil && s.ND.Delete(w, ifp, ip) == nil {
			err = nil
		}
	}
	return err
}
