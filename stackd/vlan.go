package stackd

import (
	"golang.org/x/sys/unix"

	"ionet/protocol"
	"ionet/stack/netif"
)

// setVLAN serves SIOCSETVLAN.
func (s *server) setVLAN(ifp *netif.Interface, r protocol.IfReq) error {
	eng := s.eng.Engine()
	switch parent := eng.Env.Ifs.ByName(r.Text); {
	case ifp.Type != netif.TypeL2VLAN:
		return errf(unix.EINVAL, "%s is no vlan interface", ifp.Name)
	case r.Text == "":
		return eng.ClearVLAN(ifp)
	case parent == nil:
		return errf(unix.ENXIO, "there is no interface %s", r.Text)
	default:
		return eng.SetVLAN(ifp, int(min(r.Value, 1<<16)), parent)
	}
}

// getVLAN serves SIOCGETVLAN.
func (s *server) getVLAN(ifp *netif.Interface, r *protocol.IfReq) error {
	if ifp.Type != netif.TypeL2VLAN {
		return errf(unix.EINVAL, "%s is no vlan interface", ifp.Name)
	}
	if tag, parent := s.eng.Engine().VLAN.Of(ifp); parent != nil {
		r.Value, r.Text = uint32(tag), parent.Name
	}
	return nil
}

// vlanRow adds which VLAN an interface is.
func (s *server) vlanRow(r *protocol.InterfaceRow, ifp *netif.Interface) {
	if tag, parent := s.eng.Engine().VLAN.Of(ifp); parent != nil {
		r.VLAN, r.VLANParent = tag, parent.Name
	}
}
