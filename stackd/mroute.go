package stackd

import (
	"golang.org/x/sys/unix"

	"ionet/protocol"
	"ionet/stack/mroute"
)

// family is one version of IP's multicast forwarding.
type family struct {
	name   string
	router *mroute.Router
}

func (s *server) routers4and6() []family {
	eng := s.eng.Engine()
	all := []family{{"inet", eng.Inet.Multicast()}}
	if eng.Inet6 != nil {
		all = append(all, family{"inet6", eng.Inet6.Multicast()})
	}
	return all
}

func (s *server) vifRows() (rows []any) {
	for _, f := range s.routers4and6() {
		for _, v := range f.router.Vifs() {
			r := protocol.VifRow{Family: f.name, Vif: v.Number, Interface: v.If.Name, Threshold: int(v.Threshold), RateLimit: int(v.RateLimit),
				InPackets: v.InPackets, OutPackets: v.OutPackets, InBytes: v.InBytes, OutBytes: v.OutBytes}
			if v.Local.IsValid() {
				r.Local = v.Local.String()
			}
			rows = append(rows, r)
		}
	}
	return rows
}

func (s *server) mfcRows() (rows []any) {
	for _, f := range s.routers4and6() {
		for _, e := range f.router.Entries() {
			r := protocol.MFCRow{Family: f.name, Origin: e.Src.String(), Group: e.Dst.String(), Parent: e.Way.Parent, Out: []protocol.MFCOut{},
				Packets: e.Packets, Bytes: e.Bytes, WrongIf: e.Wrong, Waits: e.Waits}
			for i, ttl := range e.Way.TTLs {
				if ttl != 0 {
					r.Out = append(r.Out, protocol.MFCOut{Vif: i, TTL: int(ttl)})
				}
			}
			rows = append(rows, r)
		}
	}
	return rows
}

// mcastCount serves the requests about the counters of multicast forwarding (mrt_ioctl); done is false
// for any other. EINVAL: no such vif; EADDRNOTAVAIL: no such entry.
func (s *server) mcastCount(req uint32, arg []byte) (answer []byte, done bool, err error) {
	all := s.routers4and6()
	switch req {
	case protocol.SIOCGETVIFCNT, protocol.SIOCGETSGCNT:
	case protocol.SIOCGETMIFCNTIN6, protocol.SIOCGETSGCNTIN6:
		all = all[1:]
	default:
		return nil, false, nil
	}
	if len(all) == 0 {
		return nil, true, unix.EAFNOSUPPORT
	}
	r := all[0].router
	if req == protocol.SIOCGETVIFCNT || req == protocol.SIOCGETMIFCNTIN6 {
		c, err := protocol.ParseVifCount(arg)
		if err != nil {
			return nil, true, err
		}
		for _, v := range r.Vifs() {
			if v.Number == c.Vif {
				c.InPackets, c.OutPackets, c.InBytes, c.OutBytes = v.InPackets, v.OutPackets, v.InBytes, v.OutBytes
				return protocol.AppendVifCount(nil, c), true, nil
			}
		}
		return nil, true, errf(unix.EINVAL, "there is no vif %d", c.Vif)
	}
	c, err := protocol.ParseSGCount(arg)
	if err != nil {
		return nil, true, err
	}
	if c.Group.Is4() != (req == protocol.SIOCGETSGCNT) {
		return nil, true, errf(unix.EINVAL, "%v is of another version of IP", c.Group)
	}
	e, ok := r.Entry(c.Source, c.Group)
	if !ok {
		return nil, true, unix.EADDRNOTAVAIL
	}
	c.Packets, c.Bytes, c.WrongIf = e.Packets, e.Bytes, e.Wrong
	return protocol.AppendSGCount(nil, c), true, nil
}
