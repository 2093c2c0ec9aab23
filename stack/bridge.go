package stack

import (
	"fmt"
	"syscall"

	"ionet/stack/netif"
)

// AddBridge makes an interface bridgeN. EEXIST.
func (s *Stack) AddBridge(name string) (*netif.Interface, error) {
	s.ctl.Lock()
	defer s.ctl.Unlock()
	ifp := s.Bridge.Create(name)
	if err := s.Env.Ifs.Add(ifp); err != nil {
		s.Bridge.Destroy(ifp)
		return nil, fmt.Errorf("interface %s: %w", name, err)
	}
	s.publish(Event{Kind: IfArrived, If: ifp})
	return ifp, nil
}

// AddMember makes an Ethernet or a vlan a member of a bridge. Errors are
// [bridge.Bridges.Add]'s, and ENXIO.
func (s *Stack) AddMember(ifp, member *netif.Interface) error {
	return s.membership(ifp, member, s.Bridge.Add)
}

// DeleteMember takes a member out of a bridge. Errors are [bridge.Bridges.Delete]'s.
func (s *Stack) DeleteMember(ifp, member *netif.Interface) error {
	return s.membership(ifp, member, s.Bridge.Delete)
}

func (s *Stack) membership(ifp, member *netif.Interface, f func(ifp, member *netif.Interface) error) error {
	s.ctl.Lock()
	defer s.ctl.Unlock()
	if ifp.Gone() || member.Gone() {
		return syscall.ENXIO
	}
	if err := f(ifp, member); err != nil {
		return err
	}
	s.publish(Event{Kind: IfChanged, If: member}) // PROMISC
	return nil
}
