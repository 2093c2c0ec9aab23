package stackd

import (
	"encoding/json"
	"net/netip"
	"os"
	"os/user"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"ionet/protocol"
	"ionet/stack/arp"
	"ionet/stack/membership"
	"ionet/stack/mib"
	"ionet/stack/netif"
	"ionet/stack/packet"
	"ionet/stack/socket"
	"ionet/tool/cli"
)

// stackInfo is what the daemon says of itself.
type stackInfo struct {
	instance int
	started  time.Time
	restarts int
	options  []string
	rows     []protocol.OptionRow // io-net --show
}

// table makes the rows of a table. only, if not empty, is the one interface
// that the client may see.
func (s *server) table(name, arg, only string) ([]any, error) {
	switch name {
	case protocol.TableStack:
		return []any{s.stackRow()}, nil
	case protocol.TableInterfaces:
		return s.interfaceRows(arg, only)
	case protocol.TableSockets:
		return s.socketRows(), nil
	case protocol.TableCounters:
		return s.counterRows(arg), nil
	case protocol.TableMbuf:
		p := s.eng.Engine().Env.Pool
		return []any{protocol.MbufRow{Buffers: p.Bufs(), Octets: p.InUse(), Limit: p.Limit(), Denied: p.Denied(), SockData: s.eng.Engine().SocketMemory()}}, nil
	case protocol.TableNeighbours:
		return s.neighbourRows(), nil
	case protocol.TableNIC:
		return s.nicRows(arg, only)
	case protocol.TableGroups:
		var rows []any
		for _, g := range s.eng.Engine().Groups() {
			rows = append(rows, groupRow(g))
		}
		return rows, nil
	case protocol.TableBridges:
		return s.bridgeRows(arg)
	case protocol.TableVifs:
		return s.vifRows(), nil
	case protocol.TableMFC:
		return s.mfcRows(), nil
	case protocol.TableND:
		return s.ndRows(arg, only)
	case protocol.TablePrefixes:
		return s.prefixRows(), nil
	case protocol.TableRouters:
		return s.routerRows(), nil
	case protocol.TableResolver:
		return s.resolverRows(), nil
	case protocol.TablePolicy:
		return s.policyRows(), nil
	case protocol.TableOptions:
		var rows []any
		for _, r := range s.info.rows {
			rows = append(rows, r)
		}
		return rows, nil
	}
	return nil, errf(unix.ENOENT, "no table %q", name)
}

func (s *server) stackRow() protocol.StackInfo {
	clients, sockets := s.counts()
	name := strconv.Itoa(os.Getuid())
	if u, err := user.LookupId(name); err == nil {
		name = u.Username
	}
	return protocol.StackInfo{Version: cli.BuildVersion(), Prefix: s.paths.prefix, Instance: s.info.instance, PID: os.Getpid(),
		User: name, UID: os.Getuid(), Started: s.info.started.Unix(), Uptime: int64(time.Since(s.info.started) / time.Second),
		Clients: clients, Sockets: sockets, Workers: int(s.workers.Load()), Restarts: s.info.restarts, Options: s.info.options}
}

func (s *server) interfaceRows(arg, only string) ([]any, error) {
	var rows []any
	for _, ifp := range s.eng.Engine().Env.Ifs.All() {
		if (arg == "" || arg == ifp.Name) && (only == "" || only == ifp.Name) {
			rows = append(rows, s.interfaceRow(ifp))
		}
	}
	if arg != "" && rows == nil {
		return nil, unix.ENXIO
	}
	return rows, nil
}

func (s *server) interfaceRow(ifp *netif.Interface) protocol.InterfaceRow {
	st := &ifp.Stats
	r := protocol.InterfaceRow{Name: ifp.Name, Index: int(ifp.Index), Type: int(ifp.Type), Flags: ifp.Flags(), MTU: ifp.MTU(),
		Metric: ifp.Metric(), LinkUp: ifp.LinkUp(), Addresses: []protocol.AddressRow{},
		InPackets: st.InPackets.Load(), InErrors: st.InErrors.Load(), InBytes: st.InBytes.Load(), InMcast: st.InMcast.Load(), InDrops: st.InDrops.Load(),
		OutPackets: st.OutPackets.Load(), OutErrors: st.OutErrors.Load(), OutBytes: st.OutBytes.Load(), OutMcast: st.OutMcast.Load(),
		OutDrops: st.OutDrops.Load(), Collisions: st.Collisions.Load(), NoProto: st.NoProto.Load()}
	if t := st.LastChange.Load(); t != 0 {
		r.LastChange = s.eng.Wall(t).Unix()
	}
	if m := ifp.MAC(); m != (netif.MAC{}) {
		r.Link = m.String()
	}
	s.tunnelRow(&r, ifp)
	s.vlanRow(&r, ifp)
	if d := s.eng.Device(ifp.Name); d != nil {
		r.Media = media(d.Info().Rate)
	}
	now := s.eng.Now()
	for _, a := range ifp.Addrs() {
		row := protocol.AddressRow{Family: "inet", Address: scoped(a.Addr, ifp.Name), Bits: a.Bits, Alias: a.Alias,
			Tentative: a.Tentative, Duplicated: a.Duplicated, Flags: a.Flags}
		if a.Addr.Is6() {
			row.Family, row.Flags = "inet6", flags6(a, now)
			row.Preferred, row.Valid = left(a.Preferred, now), left(a.Valid, now)
			if packet.IsLinkScoped(a.Addr) {
				row.Scope = int(ifp.Index)
			}
		}
		if a.Broadcast.IsValid() {
			row.Broadcast = a.Broadcast.String()
		}
		if a.Dst.IsValid() {
			row.Destination = scoped(a.Dst, ifp.Name)
		}
		r.Addresses = append(r.Addresses, row)
	}
	return r
}

// media is the media text of an Ethernet of so many bits a second.
func media(rate uint64) string {
	switch {
	case rate == 0:
		return "Ethernet autoselect"
	case rate >= 1e9 && rate%1e9 == 0:
		return "Ethernet autoselect (" + strconv.FormatUint(rate/1e6, 10) + "baseT full-duplex)"
	}
	return "Ethernet autoselect (" + strconv.FormatUint(rate/1e6, 10) + "baseTX full-duplex)"
}

// scoped is an address of the engine's as people read it.
func scoped(a netip.Addr, ifname string) string {
	if packet.IsLinkScoped(a) {
		a, _ = packet.Unscoped(a)
		return a.WithZone(ifname).String()
	}
	return a.String()
}

// readable is scoped where the interface is known from the address alone.
func (s *server) readable(a netip.Addr) string {
	plain, index := packet.Unscoped(a)
	if ifp := s.eng.Engine().Env.Ifs.ByIndex(index); ifp != nil {
		return plain.WithZone(ifp.Name).String()
	}
	return plain.String()
}

func (s *server) socketRows() []any {
	var rows []any
	for _, i := range s.eng.Engine().SocketTable() {
		r := protocol.SocketRow{Proto: i.Proto, Family: "inet", RecvQ: i.RecvQ, SendQ: i.SendQ, Local: s.star(i.Local), LPort: int(i.Local.Port),
			Foreign: s.star(i.Foreign), FPort: int(i.Foreign.Port), State: i.State, PCB: strconv.FormatUint(i.ID, 16), PID: i.Cred.PID, UID: i.Cred.UID}
		if i.Family == socket.AFInet6 {
			r.Family = "inet6"
		}
		rows = append(rows, r)
	}
	return rows
}

func (s *server) star(a socket.Addr) string {
	if !a.IP.IsValid() || a.IP.Unmap().IsUnspecified() {
		return "*"
	}
	return s.readable(packet.Scoped(a.IP, a.Scope))
}

func (s *server) counterRows(proto string) []any {
	v := s.eng.Engine().Env.MIB
	var rows []any
	for i, c := range mib.Counters() {
		if proto == "" || proto == c.Proto {
			rows = append(rows, protocol.CounterRow{Proto: c.Proto, Name: c.Name, Sentence: c.Sentence, Heading: c.Heading, Value: v.Count(mib.Counter(i))})
		}
	}
	return rows
}

func (s *server) neighbourRows() []any {
	var rows []any
	now := s.eng.Now()
	for _, n := range s.eng.Engine().Neighbours() {
		r := protocol.NeighbourRow{Family: "inet", Address: scoped(n.IP, n.If.Name), Interface: n.If.Name, Use: n.Use,
			State: n.State, Router: n.IsRouter, Probes: n.Probes,
			Permanent: n.Flags&arp.Permanent != 0, Published: n.Flags&arp.Published != 0, ProxyOnly: n.Flags&arp.ProxyOnly != 0}
		if n.IP.Is6() {
			r.Family = "inet6"
		}
		if n.Known {
			r.Link = n.MAC.String()
		}
		if n.Expire > now {
			r.Expire = (n.Expire - now + 1e9 - 1) / 1e9
		}
		rows = append(rows, r)
	}
	return rows
}

func (s *server) nicRows(arg, only string) ([]any, error) {
	var rows []any
	for _, ifp := range s.eng.Engine().Env.Ifs.All() {
		if arg != "" && arg != ifp.Name || only != "" && only != ifp.Name {
			continue
		}
		d := s.eng.Device(ifp.Name)
		if d == nil {
			continue
		}
		i := d.Info()
		r := protocol.NICRow{Name: ifp.Name, Driver: s.eng.driverName(ifp.Name), Description: i.Description, MAC: ifp.MAC().String(),
			PermanentMAC: i.MAC.String(), Rate: i.Rate, MTU: ifp.MTU(), MRU: i.MaxMTU, Promiscuous: ifp.Flags()&netif.FlagPromisc != 0,
			Multicast: ifp.Flags()&netif.FlagMulticast != 0, LinkUp: ifp.LinkUp(), LastError: ifp.LastError(), InterfaceRow: s.interfaceRow(ifp)}
		for _, x := range i.Details {
			r.Details = append(r.Details, protocol.NICDetail{Name: x.Name, Value: x.Value})
		}
		rows = append(rows, r)
	}
	if arg != "" && rows == nil {
		return nil, unix.ENXIO
	}
	return rows, nil
}

// tablePage packs rows from the cursor on into at most room octets, one JSON
// object a line, and answers where to go on; 0: that was all.
func tablePage(rows []any, cursor uint64, room int) (b []byte, next uint64, err error) {
	for i := cursor; i < uint64(len(rows)); i++ {
		line, err := json.Marshal(rows[i])
		if err != nil {
			return nil, 0, err
		}
		if len(b)+len(line)+1 > room {
			if len(b) == 0 {
				return nil, 0, errf(unix.EMSGSIZE, "a row of %d octets does not fit a frame", len(line))
			}
			return b, i, nil
		}
		b = append(append(b, line...), '\n')
	}
	return b, 0, nil
}

// groupRow is a membership as tools print it: a group of one link with its
// interface.
func groupRow(g membership.Info) protocol.GroupRow {
	name := func(a netip.Addr) string { return scoped(a, g.If.Name) }
	r := protocol.GroupRow{Interface: g.If.Name, Group: name(g.Group), Refs: g.Members, Mode: "exclude"}
	if g.Include {
		r.Mode = "include"
	}
	for _, a := range g.Sources {
		r.Sources = append(r.Sources, name(a))
	}
	return r
}
