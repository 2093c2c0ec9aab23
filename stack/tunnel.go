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

// AddTunnel makes an interface gifN, ipsecN, or the stf. Errors: EINVAL (no such kind, or
// this stack has no IPsec), EBUSY (there is an stf), EEXIST.
func (s *Stack) AddTunnel(name string) (*netif.Interface, error) {
	s.ctl.Lock()
	defer s.ctl.Unlock()
	if kind, _ := netif.Unit(name); kind == "ipsec" && s.IPsec == nil {
		return nil, withoutIPsec(name)
	}
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

// SetTunnel says between which addresses a gif or ipsec leads, link-local ones scoped; it
// comes up with that, as on BSD. Errors are [gif.Gif.Set]'s, ENXIO, and EEXIST: there are policies
// about what goes through an ipsec already.
func (s *Stack) SetTunnel(ifp *netif.Interface, src, dst netip.Addr) error {
	return s.tunnel(ifp, netif.FlagUp|netif.FlagRunning, 0, func() error {
		if err := s.Gif.Set(ifp, src, dst); err != nil {
			return err
		}
		if err := s.secureTunnel(ifp, src, dst); err != nil {
			_ = s.Gif.Clear(ifp) // it has ends
			return err
		}
		return nil
	})
}

// DeleteTunnel takes a gif's or ipsec's addresses away. EADDRNOTAVAIL: it has none.
func (s *Stack) DeleteTunnel(ifp *netif.Interface) error {
	return s.tunnel(ifp, 0, netif.FlagRunning, func() error {
		if err := s.Gif.Clear(ifp); err != nil {
			return err
		}
		s.unsecureTunnel(ifp)
		return nil
	})
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
