package stack

import (
	"net/netip"
	"syscall"

	"ionet/stack/ipfilter"
	"ionet/stack/ipnat"
	"ionet/stack/mib"
	"ionet/stack/packet"
	"ionet/stack/socket"
)

var nodeControlForwarding = mib.Int("net.inet.ipf.fr_control_forwarding", 0, "1: forwarding, of both versions of IP, begins with the packet filter; 2: it ends with it; 3: both.", mib.Range(0, 3))

// LoadFilter hangs a packet filter and its address translation, both without rules, into the stack. It is a control
// call. EEXIST: there is one.
func (s *Stack) LoadFilter() (*ipfilter.Filter, error) {
	s.ctl.Lock()
	defer s.ctl.Unlock()
	if s.filter.Load() != nil {
		return nil, syscall.EEXIST
	}
	var f *ipfilter.Filter
	nc := ipnat.Config{Pool: func(name string, ip netip.Addr) bool { return f.InPool(name, ip) }, InUse: s.inUse, Net4: s.Inet}
	if s.Inet6 != nil {
		nc.Net6 = s.Inet6
	}
	nat := ipnat.New(s.Env, nc)
	c := ipfilter.Config{Translator: nat}
	c.Nets[0] = s.Inet
	if s.Inet6 != nil {
		c.Nets[1] = s.Inet6
	}
	f = ipfilter.New(s.Env, c)
	s.filter.Store(f)
	s.nat.Store(nat)
	s.avoid(nat)
	s.deaf = s.Subscribe(func(e Event) {
		switch e.Kind {
		case IfDeparted:
			nat.Departed(e.If)
		case AddrRemoved:
			nat.AddrRemoved(e.If, e.Addr.Addr)
		}
	})
	s.hook.Set(f)
	s.forgetFlows()
	s.controlForwarding(true)
	return f, nil
}

// UnloadFilter takes it out, with its rules and states. ENOENT: there is none.
func (s *Stack) UnloadFilter() error {
	s.ctl.Lock()
	defer s.ctl.Unlock()
	f := s.filter.Load()
	if f == nil {
		return syscall.ENOENT
	}
	s.controlForwarding(false)
	s.hook.Set(nil)
	s.forgetFlows()
	s.filter.Store(nil)
	f.Close()
	s.avoid(nil)
	s.deaf()
	s.nat.Swap(nil).Close()
	return nil
}

// ends finds the sockets of a protocol by their ends; nil: it has no ports.
func (s *Stack) ends(proto uint8) interface {
	Uses(local, foreign socket.Addr) bool
	Avoid(f func(socket.Addr, socket.Versions) bool)
} {
	switch proto {
	case packet.ProtoTCP:
		return s.TCP
	case packet.ProtoUDP:
		return s.UDP
	case packet.ProtoICMP, packet.ProtoICMPv6:
		return s.Ping
	}
	return nil
}

// inUse is ipnat.Config.InUse.
func (s *Stack) inUse(proto uint8, local, remote netip.AddrPort) bool {
	e := s.ends(proto)
	if e == nil || !s.owns(local.Addr()) {
		return false
	}
	return e.Uses(socket.Addr{IP: local.Addr(), Port: local.Port()}, socket.Addr{IP: remote.Addr(), Port: remote.Port()})
}

// owns reports whether an address is one of ours.
func (s *Stack) owns(ip netip.Addr) bool {
	if ip.Is4() {
		return s.Inet.Local(ip) != nil
	}
	return s.Inet6 != nil && s.Inet6.Local(ip) != nil
}

// avoid keeps ephemeral ports of sockets and echoes away from what nat, unless that is nil, has
// chosen at our addresses.
func (s *Stack) avoid(nat *ipnat.NAT) {
	for _, proto := range []uint8{packet.ProtoTCP, packet.ProtoUDP, packet.ProtoICMP} {
		var f func(socket.Addr, socket.Versions) bool
		if nat != nil {
			f = func(a socket.Addr, v socket.Versions) bool {
				if a.IP.IsValid() {
					return nat.Uses(family(proto, a.IP), netip.AddrPortFrom(a.IP, a.Port))
				}
				for _, ifp := range s.Env.Ifs.All() {
					for _, own := range ifp.Addrs() {
						if socket.VersionOf(own.Addr)&v != 0 && nat.Uses(family(proto, own.Addr), netip.AddrPortFrom(own.Addr, a.Port)) {
							return true
						}
					}
				}
				return false
			}
		}
		s.ends(proto).Avoid(f)
	}
}

// family is the protocol of an address's family: ICMP has one for each.
func family(proto uint8, ip netip.Addr) uint8 {
	if proto == packet.ProtoICMP && ip.Is6() {
		return packet.ProtoICMPv6
	}
	return proto
}

// controlForwarding has forwarding begin or end with the filter, where fr_control_forwarding
// says so: no packet goes through that the filter is not asked about.
func (s *Stack) controlForwarding(on bool) {
	bit, value := int64(2), "0"
	if on {
		bit, value = 1, "1"
	}
	if s.Env.MIB.Int(nodeControlForwarding)&bit == 0 {
		return
	}
	for _, name := range []string{"net.inet.ip.forwarding", "net.inet6.ip6.forwarding"} {
		_, _ = s.Env.MIB.Set(name, value) // it takes 0 and 1
	}
}

// EnableFilter says whether packets are asked about; they are once a filter is
// loaded. Rules, states and sessions stay. ENOENT: there is no filter.
func (s *Stack) EnableFilter(on bool) error {
	s.ctl.Lock()
	defer s.ctl.Unlock()
	f := s.filter.Load()
	if f == nil {
		return syscall.ENOENT
	}
	if on {
		s.hook.Set(f)
	} else {
		s.hook.Set(nil)
	}
	s.forgetFlows()
	s.controlForwarding(on)
	return nil
}

// FilterEnabled reports whether there is a filter that packets are asked about.
func (s *Stack) FilterEnabled() bool { return s.hook.Load() != nil }

// Filter is the packet filter, or nil.
func (s *Stack) Filter() *ipfilter.Filter { return s.filter.Load() }

// NAT is the address translation of the packet filter, or nil.
func (s *Stack) NAT() *ipnat.NAT { return s.nat.Load() }

// forgetFlows has what the fast path knows forgotten, with what calls that have
// begun before still write down.
func (s *Stack) forgetFlows() {
	forget := func() {
		s.Inet.ForgetFlows()
		if s.Inet6 != nil {
			s.Inet6.ForgetFlows()
		}
	}
	forget()
	s.Env.Epoch.Wait()
	forget()
}
