package stack

import (
	"fmt"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"ionet/stack/gif"
	"ionet/stack/membership"
	"ionet/stack/netif"
)

// Event is a change of an interface or of an address.
type Event struct {
	Kind EventKind
	If   *netif.Interface
	Addr *netif.Addr // AddrAdded, AddrRemoved
}

// EventKind says what happened.
type EventKind uint8

const (
	IfArrived   EventKind = iota + 1 // RTM_IFANNOUNCE
	IfDeparted                       // RTM_IFANNOUNCE
	IfChanged                        // RTM_IFINFO: flags, MTU, carrier
	AddrAdded                        // RTM_NEWADDR; also when an address stops being tentative
	AddrRemoved                      // RTM_DELADDR
)

// news tells subscribers, in order, after the state has been published.
type news struct {
	mu   sync.Mutex
	last int
	subs map[int]func(Event)
}

// Subscribe has f told of every event. f must not block nor make a control
// call.
func (s *Stack) Subscribe(f func(Event)) (cancel func()) {
	n := &s.news
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.subs == nil {
		n.subs = map[int]func(Event){}
	}
	n.last++
	id := n.last
	n.subs[id] = f
	return func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		delete(n.subs, id)
	}
}

func (s *Stack) publish(e Event) {
	n := &s.news
	n.mu.Lock()
	defer n.mu.Unlock()
	for i := 1; i <= n.last; i++ {
		if f := n.subs[i]; f != nil {
			f(e)
		}
	}
}

func (s *Stack) addrChanged(a *netif.Addr, added bool) {
	k := AddrRemoved
	if added {
		k = AddrAdded
	}
	s.publish(Event{Kind: k, If: a.If, Addr: a})
}

// AddInterface makes an Ethernet interface part of the stack. EEXIST: the
// name is taken.
func (s *Stack) AddInterface(ifp *netif.Interface) error {
	s.ctl.Lock()
	defer s.ctl.Unlock()
	s.Ether.Attach(ifp)
	if err := s.Env.Ifs.Add(ifp); err != nil {
		return fmt.Errorf("interface %s: %w", ifp.Name, err)
	}
	s.publish(Event{Kind: IfArrived, If: ifp})
	return nil
}

// AddLoopback makes another loopback interface, such as lo1. EEXIST.
func (s *Stack) AddLoopback(name string) (*netif.Interface, error) {
	s.ctl.Lock()
	defer s.ctl.Unlock()
	ifp := s.newLoop(name)
	if err := s.Env.Ifs.Add(ifp); err != nil {
		return nil, fmt.Errorf("interface %s: %w", name, err)
	}
	s.publish(Event{Kind: IfArrived, If: ifp})
	return ifp, nil
}

// RemoveInterface takes an interface out, with its addresses, routes and
// neighbours. EBUSY: lo0 stays.
func (s *Stack) RemoveInterface(ifp *netif.Interface) error {
	if ifp == s.Lo {
		return syscall.EBUSY
	}
	s.ctl.Lock()
	defer s.ctl.Unlock()
	if ifp.Gone() {
		return syscall.ENXIO
	}
	s.setFlags(ifp, 0, netif.FlagUp|netif.FlagRunning)
	for _, v := range s.VLAN.On(ifp) {
		_ = s.clearVLAN(v) // it has this parent
	}
	s.Inet.Detach(ifp)
	if s.Inet6 != nil {
		s.Inet6.Detach(ifp)
		s.Auto.Detach(ifp)
	}
	s.Env.Ifs.Remove(ifp) // from here on no route to it can be made
	s.Gif.Destroy(ifp)
	s.unsecureTunnel(ifp)
	s.Bridge.Destroy(ifp)
	s.VLAN.Destroy(ifp)
	if s.IPsec != nil && s.IPsec.Enc() == ifp {
		s.IPsec.SetEnc(nil)
	}
	s.Routes.DeleteInterface(ifp)
	s.publish(Event{Kind: IfDeparted, If: ifp})
	return nil
}

// SetFlags changes interface flags; EINVAL for those the stack keeps itself,
// ENXIO when the interface has been removed.
func (s *Stack) SetFlags(ifp *netif.Interface, set, clear uint32) error {
	if (set|clear)&^netif.FlagsSettable != 0 {
		return syscall.EINVAL
	}
	s.ctl.Lock()
	defer s.ctl.Unlock()
	if ifp.Gone() {
		return syscall.ENXIO
	}
	if ifp.Type == netif.TypeBridge { // which needs no driver to run
		if set&netif.FlagUp != 0 {
			set |= netif.FlagRunning
		}
		if clear&netif.FlagUp != 0 {
			clear |= netif.FlagRunning
		}
	}
	s.setFlags(ifp, set, clear)
	return nil
}

// SetRunning notes that the driver works or has failed.
func (s *Stack) SetRunning(ifp *netif.Interface, on bool) {
	s.ctl.Lock()
	defer s.ctl.Unlock()
	if on {
		s.setFlags(ifp, netif.FlagRunning, 0)
	} else {
		s.setFlags(ifp, 0, netif.FlagRunning)
	}
}

func (s *Stack) setFlags(ifp *netif.Interface, set, clear uint32) {
	was := ifp.Up()
	changed := ifp.SetFlags(set, clear)
	if changed == 0 {
		return
	}
	if changed&(netif.FlagPromisc|netif.FlagAllMulti) != 0 {
		ifp.Refilter()
	}
	switch now := ifp.Up(); {
	case now && !was:
		s.interfaceUp(ifp)
	case was && !now:
		s.Inet.InterfaceDown(ifp)
		if s.Inet6 != nil {
			s.Inet6.InterfaceDown(ifp)
		}
	}
	if ifp.Up() != was {
		s.Routes.Reconsider()
	}
	s.publish(Event{Kind: IfChanged, If: ifp})
	s.followers(ifp)
}

func (s *Stack) interfaceUp(ifp *netif.Interface) {
	s.Inet.InterfaceUp(ifp)
	if s.Inet6 != nil {
		s.Inet6.InterfaceUp(ifp)
	}
}

// LinkState notes a change of carrier and tells subscribers (RTM_IFINFO). Of an
// interface that has been removed nothing more is told.
func (s *Stack) LinkState(ifp *netif.Interface, up bool) {
	s.ctl.Lock()
	defer s.ctl.Unlock()
	if ifp.SetLinkUp(up) && !ifp.Gone() {
		s.Routes.Reconsider()
		s.publish(Event{Kind: IfChanged, If: ifp})
		s.followers(ifp)
	}
}

// MinMTU is the smallest MTU of an interface (RFC 791).
const MinMTU = 72

// SetMTU changes the MTU, from MinMTU to max, or as a tunnel or a vlan takes it. EINVAL.
func (s *Stack) SetMTU(ifp *netif.Interface, n, max int) error {
	min := MinMTU
	if ifp.Type == netif.TypeGIF || ifp.Type == netif.TypeSTF {
		min, max = gif.MinMTU, gif.MaxMTU
	}
	if ifp.Type == netif.TypeL2VLAN {
		var err error
		if max, err = s.maxVLAN(ifp); err != nil {
			return err
		}
	}
	if n < min || n > max {
		return fmt.Errorf("mtu %d: %s takes %d to %d: %w", n, ifp.Name, min, max, syscall.EINVAL)
	}
	ifp.SetMTU(n)
	s.resized(ifp)
	s.shrink(ifp)
	return nil
}

// resized sees to it that a changed MTU counts.
func (s *Stack) resized(ifp *netif.Interface) {
	s.Inet.Invalidate()
	if s.Inet6 != nil {
		s.Inet6.Invalidate()
	}
	s.publish(Event{Kind: IfChanged, If: ifp})
}

// SetMetric changes the routing metric.
func (s *Stack) SetMetric(ifp *netif.Interface, n int) {
	ifp.SetMetric(n)
	s.publish(Event{Kind: IfChanged, If: ifp})
}

// SetMAC changes the link address and announces the addresses anew.
// EINVAL: a group address, or no Ethernet.
func (s *Stack) SetMAC(ifp *netif.Interface, m netif.MAC) error {
	if !ifp.Ether() || m.IsMulticast() || m == (netif.MAC{}) {
		return syscall.EINVAL
	}
	s.setMAC(ifp, m)
	return nil
}

func (s *Stack) setMAC(ifp *netif.Interface, m netif.MAC) {
	old := ifp.MAC()
	ifp.SetMAC(m)
	s.VLAN.Readdressed(ifp)
	if ifp.Up() {
		s.interfaceUp(ifp)
		if s.ND != nil {
			w := s.Env.Begin(s.Env.Now())
			s.ND.LinkChanged(w, ifp)
			w.End()
		}
	}
	s.publish(Event{Kind: IfChanged, If: ifp})
	s.readdress(ifp, old)
}

// AddrSpec is an address to give to an interface. Broadcast and Dst may be
// left invalid for the defaults. A link-local address comes without its
// interface.
type AddrSpec struct {
	Addr           netip.Addr
	Bits           int
	Broadcast, Dst netip.Addr
	// IPv6 alone: netif.AddrAnycast and the like, and how long the address is
	// preferred and valid; 0: for ever.
	Flags            uint32
	Preferred, Valid time.Duration
}

// AddAddr gives ifp an address, or changes mask, broadcast, destination, flags
// or lifetimes of one it has. Errors: EINVAL, EEXIST (on another interface),
// EAFNOSUPPORT, ENXIO (the interface has been removed).
func (s *Stack) AddAddr(ifp *netif.Interface, a AddrSpec) error {
	if !s.speaks(a.Addr) {
		return syscall.EAFNOSUPPORT
	}
	s.ctl.Lock()
	defer s.ctl.Unlock()
	if ifp.Gone() {
		return syscall.ENXIO
	}
	if err := s.Gif.CheckAddr(ifp, a.Addr); err != nil {
		return err
	}
	if ifp.Type == netif.TypeBridge {
		return fmt.Errorf("%s has no addresses, its members have: %w", ifp.Name, syscall.EINVAL)
	}
	was, wasUp := ifp.Flags(), ifp.Up()
	n := netif.Addr{Addr: a.Addr, Bits: a.Bits, Broadcast: a.Broadcast, Dst: a.Dst}
	var err error
	if a.Addr.Is4() {
		err = s.Inet.AddAddr(ifp, n)
	} else {
		n.Flags = a.Flags
		if now := s.Env.Now(); a.Preferred != 0 || a.Valid != 0 {
			n.Preferred, n.Valid = until(now, a.Preferred), until(now, a.Valid)
		}
		err = s.Inet6.AddAddr(ifp, n)
	}
	if err != nil {
		return err
	}
	// It has come up with the address, which the address's family has seen to.
	switch up := ifp.Up() && !wasUp; {
	case up && a.Addr.Is6():
		s.Inet.InterfaceUp(ifp)
	case up && s.Inet6 != nil:
		s.Inet6.InterfaceUp(ifp)
	}
	if ifp.Flags() != was {
		s.publish(Event{Kind: IfChanged, If: ifp})
		s.followers(ifp)
	}
	return nil
}

// until is when a lifetime that begins now ends; 0 does not end.
func until(now int64, d time.Duration) int64 {
	if d == 0 {
		return 0
	}
	return now + int64(d)
}

// speaks reports whether the stack has an address's family.
func (s *Stack) speaks(ip netip.Addr) bool {
	return ip.Is4() || ip.Is6() && s.Inet6 != nil
}

// DelAddr takes an address away. EADDRNOTAVAIL, EAFNOSUPPORT.
func (s *Stack) DelAddr(ifp *netif.Interface, ip netip.Addr) error {
	if !s.speaks(ip) {
		return syscall.EAFNOSUPPORT
	}
	s.ctl.Lock()
	defer s.ctl.Unlock()
	if ip.Is6() {
		return s.Inet6.DelAddr(ifp, ip)
	}
	return s.Inet.DelAddr(ifp, ip)
}

// Groups are the interfaces' multicast memberships, of IPv4 before IPv6; the
// groups of one link carry their interface inside (packet.Unscoped).
func (s *Stack) Groups() []membership.Info {
	out := s.Inet.Groups()
	if s.Inet6 != nil {
		out = append(out, s.Inet6.Groups()...)
	}
	return out
}
