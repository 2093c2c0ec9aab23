package stackd

import (
	"time"

	"golang.org/x/sys/unix"

	"ionet/protocol"
	"ionet/stack/netif"
)

// bridge serves SIOCSDRVSPEC.
func (s *server) bridge(arg []byte) error {
	q, err := protocol.ParseBridgeReq(arg)
	if err != nil {
		return err
	}
	eng := s.eng.Engine()
	br := eng.Env.Ifs.ByName(q.Bridge)
	if br == nil {
		return unix.ENXIO
	}
	r := eng.Bridge
	switch q.Command {
	case protocol.BridgeMaxAddr, protocol.BridgeTimeout:
		n, timeout, err := r.Table(br)
		if err != nil {
			return err
		}
		if q.Command == protocol.BridgeMaxAddr {
			n = int64(q.Value)
		} else {
			timeout = time.Duration(q.Value) * time.Second
		}
		return r.SetTable(br, n, timeout)
	case protocol.BridgeDelAddr:
		return r.DeleteStation(br, q.Addr)
	case protocol.BridgeFlush:
		return r.Flush(br, q.Value != 0)
	}
	m := eng.Env.Ifs.ByName(q.Member)
	if m == nil {
		return errf(unix.ENXIO, "there is no interface %s", q.Member)
	}
	return s.bridgeMember(br, m, q)
}

// bridgeMember serves the commands about a member.
func (s *server) bridgeMember(br, m *netif.Interface, q protocol.BridgeReq) error {
	eng := s.eng.Engine()
	switch q.Command {
	case protocol.BridgeAdd:
		return eng.AddMember(br, m)
	case protocol.BridgeDelete:
		return eng.DeleteMember(br, m)
	case protocol.BridgeFlags:
		return eng.Bridge.SetMember(br, m, q.Value&q.Mask, q.Mask&^q.Value)
	case protocol.BridgeStatic:
		return eng.Bridge.SetStation(br, m, q.Addr)
	}
	return errf(unix.EINVAL, "a bridge has no command %d", q.Command)
}

// bridgeRows are the bridges, or the one of a name. ENXIO; EINVAL: it is none.
func (s *server) bridgeRows(arg string) (rows []any, err error) {
	eng := s.eng.Engine()
	for _, ifp := range eng.Env.Ifs.All() {
		if arg != "" && arg != ifp.Name || arg == "" && ifp.Type != netif.TypeBridge {
			continue
		}
		r := protocol.BridgeRow{Name: ifp.Name, Flags: ifp.Flags(), Members: []protocol.BridgeMember{}, Addresses: []protocol.BridgeAddress{}}
		n, timeout, err := eng.Bridge.Table(ifp)
		if err != nil {
			return nil, err
		}
		r.MaxAddr, r.Timeout = n, int64(timeout/time.Second)
		members, err := eng.Bridge.Members(ifp)
		if err != nil {
			return nil, err
		}
		for _, m := range members {
			r.Members = append(r.Members, protocol.BridgeMember{Interface: m.If.Name, Port: int(m.If.Index), Flags: m.Flags,
				InPackets: m.In, OutPackets: m.Out, Dropped: m.Dropped})
		}
		stations, err := eng.Bridge.Stations(ifp)
		if err != nil {
			return nil, err
		}
		for _, e := range stations {
			r.Addresses = append(r.Addresses, protocol.BridgeAddress{Address: e.MAC.String(), Interface: e.Member.Name, Expire: e.Expire, Static: e.Static})
		}
		rows = append(rows, r)
	}
	if arg != "" && rows == nil {
		return nil, unix.ENXIO
	}
	return rows, nil
}
