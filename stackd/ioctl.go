package stackd

import (
	"net/netip"
	"strings"

	"golang.org/x/sys/unix"

	"ionet/protocol"
	"ionet/stack"
	"ionet/stack/netif"
)

// ioctl serves TypeIoctl.
func (c *conn) ioctl(p []byte) ([]byte, error) {
	req, arg, err := protocol.ParseIoctl(p)
	if err != nil {
		return nil, err
	}
	if changes(req) {
		if err := c.privileged("change interfaces"); err != nil {
			return nil, err
		}
	}
	answer, err := c.s.control(req, arg)
	if err != nil {
		return nil, err
	}
	if req == protocol.SIOCIFCREATE {
		arg = answer // with the number that it chose
	}
	if changes(req) && !momentary(req) && !onlyFlushes(req, arg) {
		c.s.journal.ioctl(req, arg)
	}
	return protocol.AppendBytes(nil, answer), nil
}

// changes tells the requests that change the stack from those that look.
func changes(req uint32) bool {
	switch req {
	case protocol.SIOCGIFFLAGS, protocol.SIOCGIFMETRIC, protocol.SIOCGIFADDR, protocol.SIOCGIFDSTADDR, protocol.SIOCGIFBRDADDR,
		protocol.SIOCGIFNETMASK, protocol.SIOCGIFMEDIA, protocol.SIOCIFGCLONERS, protocol.SIOCGIFMTU, protocol.SIOCGIFINDEX,
		protocol.SIOCGDEFIFACE, protocol.SIOCGIFPSRCADDR, protocol.SIOCGIFPDSTADDR, protocol.SIOCGETVLAN,
		protocol.SIOCGETVIFCNT, protocol.SIOCGETMIFCNTIN6, protocol.SIOCGETSGCNT, protocol.SIOCGETSGCNTIN6:
		return false
	}
	return true
}

// momentary are the requests that a restarted stack need not do again.
func momentary(req uint32) bool {
	return req == protocol.SIOCSPFXFLUSH || req == protocol.SIOCSRTRFLUSH || req == protocol.SIOCSRTSOL
}

// onlyFlushes reports a request by which a bridge forgets what it has learnt.
func onlyFlushes(req uint32, arg []byte) bool {
	q, err := protocol.ParseBridgeReq(arg)
	return req == protocol.SIOCSDRVSPEC && err == nil && q.Command == protocol.BridgeFlush && q.Value == 0
}

// control carries out an interface request and answers its argument.
func (s *server) control(req uint32, arg []byte) ([]byte, error) {
	eng := s.eng.Engine()
	if req == protocol.SIOCAIFADDR {
		a, err := protocol.ParseAliasReq(arg)
		if err != nil {
			return nil, err
		}
		ifp := eng.Env.Ifs.ByName(a.Name)
		if ifp == nil {
			return nil, unix.ENXIO
		}
		return nil, s.alias(ifp, &a, a.Flags&protocol.AliasFirst != 0)
	}
	if req == protocol.SIOCSDRVSPEC {
		return nil, s.bridge(arg)
	}
	if req == protocol.SIOCSIFPHYADDR {
		return nil, s.setTunnel(arg)
	}
	if req == protocol.SIOCAADDRCTLPOLICY || req == protocol.SIOCDADDRCTLPOLICY {
		return nil, s.policy(req, arg)
	}
	if answer, done, err := s.mcastCount(req, arg); done {
		return answer, err
	}
	r, err := protocol.ParseIfReq(req, arg)
	if err != nil {
		return nil, err
	}
	switch req {
	case protocol.SIOCIFGCLONERS:
		r.Text = strings.Join(cloners, " ")
		return protocol.AppendIfReq(nil, r), nil
	case protocol.SIOCIFCREATE:
		if r.Name, err = s.create(r.Name); err != nil {
			return nil, err
		}
		return protocol.AppendIfReq(nil, r), nil
	case protocol.SIOCIFDESTROY:
		return nil, s.destroy(r.Name)
	case protocol.SIOCSPFXFLUSH, protocol.SIOCSRTRFLUSH, protocol.SIOCSDEFIFACE, protocol.SIOCGDEFIFACE, protocol.SIOCSRTSOL:
		return s.routers(req, r)
	}
	ifp := eng.Env.Ifs.ByName(r.Name)
	if req == protocol.SIOCGIFINDEX && r.Name == "" {
		ifp = eng.Env.Ifs.ByIndex(r.Value)
	}
	if ifp == nil {
		return nil, unix.ENXIO
	}
	switch req {
	case protocol.SIOCGIFINDEX:
		r.Name, r.Value = ifp.Name, ifp.Index
	case protocol.SIOCGIFFLAGS:
		r.Value = ifp.Flags()
	case protocol.SIOCSIFFLAGS:
		mask := r.Mask
		if mask == 0 {
			mask = netif.FlagsSettable
		}
		return nil, eng.SetFlags(ifp, r.Value&mask, mask&^r.Value)
	case protocol.SIOCGIFMTU:
		r.Value = uint32(ifp.MTU())
	case protocol.SIOCSIFMTU:
		return nil, eng.SetMTU(ifp, int(min(r.Value, 1<<30)), s.maxMTU(ifp))
	case protocol.SIOCGIFMETRIC:
		r.Value = uint32(ifp.Metric())
	case protocol.SIOCGIFPSRCADDR, protocol.SIOCGIFPDSTADDR:
		if r.Addr, err = s.tunnelEnd(req, ifp); err != nil {
			return nil, err
		}
	case protocol.SIOCDIFPHYADDR:
		return nil, eng.DeleteTunnel(ifp)
	case protocol.SIOCSETVLAN:
		return nil, s.setVLAN(ifp, r)
	case protocol.SIOCGETVLAN:
		if err := s.getVLAN(ifp, &r); err != nil {
			return nil, err
		}
	case protocol.SIOCSNDINFO:
		return nil, s.setND(ifp, r)
	case protocol.SIOCSIFMETRIC:
		eng.SetMetric(ifp, int(int32(r.Value)))
		return nil, nil
	case protocol.SIOCGIFMEDIA:
		d := s.eng.Device(ifp.Name)
		if d == nil {
			return nil, unix.ENOTTY
		}
		r.Text = media(d.Info().Rate)
	case protocol.SIOCSIFLLADDR:
		if r.Addr.Family != protocol.AFLink || r.Addr.Link.Len != 6 {
			return nil, errf(unix.EINVAL, "a link address has six octets")
		}
		return nil, eng.SetMAC(ifp, netif.MAC(r.Addr.Link.Octet[:6]))
	case protocol.SIOCADDMULTI, protocol.SIOCDELMULTI:
		if r.Addr.Family != protocol.AFLink || r.Addr.Link.Len != 6 || r.Addr.Link.Octet[0]&1 == 0 {
			return nil, errf(unix.EINVAL, "want the link address of a group")
		}
		if req == protocol.SIOCADDMULTI {
			ifp.JoinGroup(netif.MAC(r.Addr.Link.Octet[:6]))
		} else {
			ifp.LeaveGroup(netif.MAC(r.Addr.Link.Octet[:6]))
		}
		return nil, nil
	case protocol.SIOCDIFADDR:
		ip := r.Addr.IP.WithZone("")
		if first := firstAddr(ifp); !ip.IsValid() && first != nil {
			ip = first.Addr
		}
		if !ip.IsValid() {
			return nil, unix.EADDRNOTAVAIL
		}
		return nil, eng.DelAddr(ifp, ip)
	case protocol.SIOCSIFADDR:
		return nil, s.alias(ifp, &protocol.AliasReq{Addr: r.Addr}, true)
	case protocol.SIOCGIFADDR, protocol.SIOCGIFDSTADDR, protocol.SIOCGIFBRDADDR, protocol.SIOCGIFNETMASK:
		return s.firstOf(req, ifp, r)
	case protocol.SIOCSIFDSTADDR, protocol.SIOCSIFBRDADDR, protocol.SIOCSIFNETMASK:
		return nil, s.changeFirst(req, ifp, r.Addr)
	default:
		return nil, errf(unix.ENOTTY, "no interface request %#x", req)
	}
	return protocol.AppendIfReq(nil, r), nil
}

// maxMTU is the driver's, or for lo0 the largest packet.
func (s *server) maxMTU(ifp *netif.Interface) int {
	if d := s.eng.Device(ifp.Name); d != nil {
		return d.Info().MaxMTU
	}
	return 65535
}

// firstAddr is the first IPv4 address of an interface, or nil.
func firstAddr(ifp *netif.Interface) *netif.Addr {
	for _, a := range ifp.Addrs() {
		if a.Addr.Is4() && !a.Alias {
			return a
		}
	}
	return nil
}

// alias adds an address, in the first one's place if asked to. Without a mask
// the class decides (inet).
func (s *server) alias(ifp *netif.Interface, q *protocol.AliasReq, inPlace bool) error {
	if q.Addr.Family != protocol.AFInet && q.Addr.Family != protocol.AFInet6 {
		return errf(unix.EAFNOSUPPORT, "an interface cannot have an address of family %d", q.Addr.Family)
	}
	spec := stack.AddrSpec{Addr: q.Addr.IP.WithZone("")}
	if spec.Addr.Is6() {
		if err := inet6Spec(&spec, q); err != nil {
			return err
		}
	}
	switch {
	case q.Mask.Family == 0 && spec.Addr.Is4():
		spec.Bits = protocol.ClassBits(spec.Addr)
	case q.Mask.Family == 0:
		spec.Bits = spec.Addr.BitLen()
	default:
		if spec.Bits = protocol.MaskBits(q.Mask); spec.Bits < 0 {
			return errf(unix.EINVAL, "the netmask %v has holes", q.Mask)
		}
	}
	if q.Brd.IP.IsValid() {
		if ifp.Flags()&netif.FlagPointToPoint != 0 {
			spec.Dst = q.Brd.IP.WithZone("")
		} else {
			spec.Broadcast = q.Brd.IP
		}
	}
	eng := s.eng.Engine()
	if first := firstAddr(ifp); inPlace && first != nil && first.Addr != spec.Addr && spec.Addr.Is4() {
		return s.replaceFirst(ifp, first, spec)
	}
	return eng.AddAddr(ifp, spec)
}

// replaceFirst puts an address in the first one's place. A failure puts the
// old one back.
func (s *server) replaceFirst(ifp *netif.Interface, first *netif.Addr, spec stack.AddrSpec) error {
	eng := s.eng.Engine()
	old := stack.AddrSpec{Addr: first.Addr, Bits: first.Bits, Broadcast: first.Broadcast, Dst: first.Dst}
	if err := eng.DelAddr(ifp, first.Addr); err != nil {
		return err
	}
	if err := eng.AddAddr(ifp, spec); err != nil {
		eng.AddAddr(ifp, old)
		return err
	}
	return nil
}

func (s *server) firstOf(req uint32, ifp *netif.Interface, r protocol.IfReq) ([]byte, error) {
	a := firstAddr(ifp)
	if a == nil {
		return nil, unix.EADDRNOTAVAIL
	}
	var ip netip.Addr
	switch req {
	case protocol.SIOCGIFADDR:
		ip = a.Addr
	case protocol.SIOCGIFDSTADDR:
		ip = a.Dst
	case protocol.SIOCGIFBRDADDR:
		ip = a.Broadcast
	case protocol.SIOCGIFNETMASK:
		ip = protocol.MaskAddr(protocol.AFInet, a.Bits).IP
	}
	if !ip.IsValid() {
		return nil, unix.EINVAL // not a link of that kind
	}
	r.Addr = protocol.AddrFrom(ip, 0)
	return protocol.AppendIfReq(nil, r), nil
}

// changeFirst changes mask, broadcast or destination of the first address.
func (s *server) changeFirst(req uint32, ifp *netif.Interface, v protocol.Addr) error {
	a := firstAddr(ifp)
	if a == nil {
		return unix.EADDRNOTAVAIL
	}
	if v.Family != protocol.AFInet {
		return unix.EAFNOSUPPORT
	}
	spec := stack.AddrSpec{Addr: a.Addr, Bits: a.Bits, Broadcast: a.Broadcast, Dst: a.Dst}
	switch req {
	case protocol.SIOCSIFNETMASK:
		if spec.Bits = protocol.MaskBits(v); spec.Bits < 0 {
			return errf(unix.EINVAL, "the netmask %v has holes", v)
		}
		spec.Broadcast = netip.Addr{}
	case protocol.SIOCSIFBRDADDR:
		if ifp.Flags()&netif.FlagBroadcast == 0 {
			return unix.EINVAL
		}
		spec.Broadcast = v.IP
	case protocol.SIOCSIFDSTADDR:
		if ifp.Flags()&netif.FlagPointToPoint == 0 {
			return unix.EINVAL
		}
		spec.Dst = v.IP
	}
	return s.eng.Engine().AddAddr(ifp, spec)
}
