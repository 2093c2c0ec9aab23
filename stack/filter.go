package stack

import (
	"net/netip"
	"syscall"

	"ionet/stack/ipfilter"
	"ionet/stack/ipnat"
)

// LoadFilter hangs a packet filter and its address translation, both without rules, into the stack. It is a control
// call. EEXIST: there is one.
func (s *Stack) LoadFilter() (*ipfilter.Filter, error) {
	s.ctl.Lock()
	defer s.ctl.Unlock()
	if s.filter.Load() != nil {
		return nil, syscall.EEXIST
	}
	var f *ipfilter.Filter
	nat := ipnat.New(s.Env, ipnat.Config{Pool: func(name string, ip netip.Addr) bool { return f.InPool(name, ip) }})
	c := ipfilter.Config{Translator: nat}
	c.Nets[0] = s.Inet
	if s.Inet6 != nil {
		c.Nets[1] = s.Inet6
	}
	f = ipfilter.New(s.Env, c)
	s.filter.Store(f)
	s.nat.Store(nat)
	s.hook.Set(f)
	s.forgetFlows()
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
	s.hook.Set(nil)
	s.forgetFlows()
	s.filter.Store(nil)
	f.Close()
	s.nat.Swap(nil).Close()
	return nil
}

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
