package stack

import (
	"fmt"
	"net/netip"
	"syscall"

	"ionet/stack/gif"
	"ionet/stack/netif"
	"ionet/stack/packet"
)

// tunnels introduces tunnels to both versions of IP.
func (s *Stack) tunnels(env *netif.Env) {
	s.Gif = gif.New(env, s.Routes)
	s.Gif.Over(false, s.Inet, s.Inet.HostUnreachable)
	s.Inet.Handle(packet.ProtoIPv4, s.Gif.Upper(false, false))
	if s.Inet6 == nil {
		return
	}
	s.Gif.Over(true, s.Inet6, s.Inet6.AddrUnreachable)
	s.Gif.ParamProblem = s.Inet6.ParamProblem
	s.Inet.Handle(packet.ProtoIPv6, s.Gif.Upper(false, true))
	s.Inet6.Handle(packet.ProtoIPv4, s.Gif.Upper(true, false))
	s.Inet6.Handle(packet.ProtoIPv6, s.Gif.Upper(true, true))
}

// AddTunnel makes an interface gifN, or the stf. Errors: EINVAL (no such kind),
// EBUSY (there is an stf), EEXIST.
func (s *Stack) AddTunnel(name string) (*netif.Interface, error) {
	s.ctl.Lock()
	defer s.ctl.Unlock()
	ifp, err := s.Gif.Create(name)
	if err != nil {
		return nil, err
	}
	if err := s.Env.Ifs.Add(ifp); err != nil {
		s.Gif.Destroy(ifp)
		return nil, fmt.Errorf("interface %s: %w", name, err)
	}
	s.publish(Event{Kind: IfArrived, If: ifp})
	return ifp, nil
}

// SetTunnel says between which addresses a gif leads, link-local ones scoped; it
// comes up with that, as on BSD. Errors are [gif.Gif.Set]'s, and ENXIO.
func (s *Stack) SetTunnel(ifp *netif.Interface, src, dst netip.Addr) error {
	return s.tunnel(ifp, netif.FlagUp|netif.FlagRunning, 0, func() error { return s.Gif.Set(ifp, src, dst) })
}

// DeleteTunnel takes a gif's addresses away. EADDRNOTAVAIL: it has none.
func (s *Stack) DeleteTunnel(ifp *netif.Interface) error {
	return s.tunnel(ifp, 0, netif.FlagRunning, func() error { return s.Gif.Clear(ifp) })
}

func (s *Stack) tunnel(ifp *netif.Interface, set, clear uint32, f func() error) error {
	s.ctl.Lock()
	defer s.ctl.Unlock()
	if ifp.Gone() {
		return syscall.ENXIO
	}
	if err := f(); err != nil {
		return err
	}
	s.setFlags(ifp, set, clear)
	return nil
}
