package stackd

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"ionet/protocol"
	"ionet/stack/bridge"
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
	case protocol.BridgePriority, protocol.BridgeHello, protocol.BridgeDelay, protocol.BridgeMaxAge:
		return s.bridgeTree(br, q)
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
	case protocol.BridgeIfPriority:
		return eng.Bridge.SetPort(br, m, int(min(q.Value, 1<<16)), -1)
	case protocol.BridgeIfCost:
		return eng.Bridge.SetPort(br, m, -1, int(min(q.Value, 1<<16)))
	case protocol.BridgeStatic:
		return eng.Bridge.SetStation(br, m, q.Addr)
	}
	return errf(unix.EINVAL, "a bridge has no command %d", q.Command)
}

// bridgeTree serves the commands about the spanning tree.
func (s *server) bridgeTree(br *netif.Interface, q protocol.BridgeReq) error {
	r := s.eng.Engine().Bridge
	p, err := r.Tree(br)
	if err != nil {
		return err
	}
	seconds := time.Duration(q.Value) * time.Second
	switch q.Command {
	case protocol.BridgePriority:
		if q.Value > 0xffff {
			return errf(unix.EINVAL, "priority %d: it is from 0 to 65535", q.Value)
		}
		p.Priority = uint16(q.Value)
	case protocol.BridgeHello:
		p.Hello = seconds
	case protocol.BridgeDelay:
		p.Delay = seconds
	case protocol.BridgeMaxAge:
		p.MaxAge = seconds
	}
	return r.SetTree(br, p)
}

// treeRow adds what there is to say of a bridge's spanning tree.
func treeRow(r *protocol.BridgeRow, p bridge.Params) {
	r.Priority = int(p.Priority)
	r.Hello, r.Delay, r.MaxAge = int(p.Hello/time.Second), int(p.Delay/time.Second), int(p.MaxAge/time.Second)
	if p.ID == 0 {
		return
	}
	id := func(x uint64) string { return fmt.Sprintf("%04x.%012x", x>>48, x&(1<<48-1)) }
	r.ID, r.Root, r.RootCost = id(p.ID), id(p.Root), p.RootCost
	if p.RootPort != nil {
		r.RootPort = p.RootPort.Name
	}
}

var portStates = [...]string{bridge.Disabled: "disabled", bridge.Listening: "listening", bridge.Hearing: "learning",
	bridge.Forwarding: "forwarding", bridge.Blocking: "blocking"}

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
		tree, err := eng.Bridge.Tree(ifp)
		if err != nil {
			return nil, err
		}
		treeRow(&r, tree)
		members, err := eng.Bridge.Members(ifp)
		if err != nil {
			return nil, err
		}
		for _, m := range members {
			row := protocol.BridgeMember{Interface: m.If.Name, Port: int(m.Port), Priority: int(m.Priority), PathCost: m.Cost, Flags: m.Flags,
				InPackets: m.In, OutPackets: m.Out, Dropped: m.Dropped}
			if m.Flags&bridge.STP != 0 {
				row.State = portStates[m.State]
			}
			r.Members = append(r.Members, row)
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
