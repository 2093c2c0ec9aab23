package stack

import (
	"syscall"

	"ionet/stack/ipfilter"
)

// LoadFilter hangs a packet filter without rules into the stack. It is a control
// call. EEXIST: there is one.
func (s *Stack) LoadFilter() (*ipfilter.Filter, error) {
	s.ctl.Lock()
	defer s.ctl.Unlock()
	if s.filter.Load() != nil {
		return nil, syscall.EEXIST
	}
	c := ipfilter.Config{}
	c.Nets[0] = s.Inet
	if s.Inet6 != nil {
		c.Nets[1] = s.Inet6
	}
	f := ipfilter.New(s.Env, c)
	s.filter.Store(f)
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
	return nil
}

// Filter is the packet filter, or nil.
func (s *Stack) Filter() *ipfilter.Filter { return s.filter.Load() }

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
