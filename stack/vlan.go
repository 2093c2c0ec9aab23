package stack

import (
	"fmt"
	"syscall"

	"ionet/stack/netif"
	"ionet/stack/vlan"
)

// AddVLAN makes an interface vlanN. EEXIST.
func (s *Stack) AddVLAN(name string) (*netif.Interface, error) {
	s.ctl.Lock()
	defer s.ctl.Unlock()
	ifp := s.VLAN.Create(name)
	s.Ether.Attach(ifp)
	if err := s.Env.Ifs.Add(ifp); err != nil {
		s.VLAN.Destroy(ifp)
		return nil, fmt.Errorf("interface %s: %w", name, err)
	}
	s.publish(Event{Kind: IfArrived, If: ifp})
	return ifp, nil
}

// SetVLAN makes ifp the VLAN tag of parent; it comes up if parent is up, as on
// BSD. Errors are [vlan.VLAN.Set]'s, and ENXIO.
func (s *Stack) SetVLAN(ifp *netif.Interface, tag int, parent *netif.Interface) error {
	s.ctl.Lock()
	defer s.ctl.Unlock()
	if ifp.Gone() || parent.Gone() {
		return syscall.ENXIO
	}
	if err := s.VLAN.Set(ifp, tag, parent); err != nil {
		return err
	}
	s.setFlags(ifp, parent.Flags()&netif.FlagUp, 0)
	s.follow(ifp, parent)
	s.resized(ifp)
	return nil
}

// ClearVLAN takes a vlan off its parent. EADDRNOTAVAIL: it has none.
func (s *Stack) ClearVLAN(ifp *netif.Interface) error {
	s.ctl.Lock()
	defer s.ctl.Unlock()
	return s.clearVLAN(ifp)
}

func (s *Stack) clearVLAN(ifp *netif.Interface) error {
	if err := s.VLAN.Clear(ifp); err != nil {
		return err
	}
	ifp.SetLinkUp(false)
	s.setFlags(ifp, 0, netif.FlagUp|netif.FlagRunning)
	return nil
}

// follow gives a vlan the state of its parent.
func (s *Stack) follow(ifp, parent *netif.Interface) {
	if ifp.SetLinkUp(parent.LinkUp()) {
		s.Routes.Reconsider()
		s.publish(Event{Kind: IfChanged, If: ifp})
	}
	if parent.Up() {
		s.setFlags(ifp, netif.FlagRunning, 0)
	} else {
		s.setFlags(ifp, 0, netif.FlagRunning)
	}
}

// followers have the vlans of an interface, and the bridge that it is in or is, follow a
// change of it.
func (s *Stack) followers(parent *netif.Interface) {
	if parent.Above() == nil && parent.Type != netif.TypeBridge {
		return
	}
	s.Bridge.Changed(parent)
	for _, ifp := range s.VLAN.On(parent) {
		s.follow(ifp, parent)
	}
}

// shrink has the vlans of an interface take no larger packets than it does.
func (s *Stack) shrink(parent *netif.Interface) {
	most := vlan.MaxMTU(parent)
	for _, ifp := range s.VLAN.On(parent) {
		if ifp.MTU() > most {
			ifp.SetMTU(most)
			s.resized(ifp)
		}
	}
}

// maxVLAN is the largest MTU of a vlan. EINVAL: it has no parent yet.
func (s *Stack) maxVLAN(ifp *netif.Interface) (int, error) {
	_, parent := s.VLAN.Of(ifp)
	if parent == nil {
		return 0, fmt.Errorf("%s has no parent, whose MTU bounds its own: %w", ifp.Name, syscall.EINVAL)
	}
	return vlan.MaxMTU(parent), nil
}

// readdress gives the vlans that had the old link address of an interface its new one.
func (s *Stack) readdress(parent *netif.Interface, old netif.MAC) {
	for _, ifp := range s.VLAN.On(parent) {
		if ifp.MAC() == old {
			s.setMAC(ifp, parent.MAC())
		} else {
			s.VLAN.Readdressed(ifp)
		}
	}
}
