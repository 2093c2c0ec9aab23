package mproxy

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"ionet/client"
	"ionet/daemon/mproxy/querier"
	"ionet/protocol"
)

// iface is an interface as the proxy sees it.
type iface struct {
	name     string
	index    int
	groups   bool // it has groups at all
	loopback bool
	up       bool       // and running, with its link connected
	four     netip.Addr // its first address of IPv4; invalid: none
	local    netip.Addr // its link-local address of IPv6, without zone; invalid: none that may be used
}

// ifaces are the interfaces of the stack.
func ifaces(s *client.Stack) ([]iface, error) {
	rows, err := client.Table[protocol.InterfaceRow](s, protocol.TableInterfaces, "")
	if err != nil {
		return nil, err
	}
	var all []iface
	for _, r := range rows {
		i := iface{name: r.Name, index: r.Index, groups: r.Flags&protocol.IFFMulticast != 0, loopback: r.Flags&protocol.IFFLoopback != 0,
			up: r.Flags&protocol.IFFUp != 0 && r.Flags&protocol.IFFRunning != 0 && r.LinkUp}
		for _, a := range r.Addresses {
			ip, err := netip.ParseAddr(a.Address)
			const unusable = protocol.IN6IFFTentative | protocol.IN6IFFDuplicated | protocol.IN6IFFAnycast
			switch {
			case err != nil:
			case ip.Is4() && !i.four.IsValid() && !a.Tentative && !a.Duplicated:
				i.four = ip
			case ip.Is6() && ip.IsLinkLocalUnicast() && !i.local.IsValid() && a.Flags&unusable == 0:
				i.local = ip.WithZone("")
			}
		}
		all = append(all, i)
	}
	return all, nil
}

// system is the stack as one version of IP has it: the routing daemon's socket, and the sockets whose memberships are those upstream.
type system struct {
	log   logger
	stack *client.Stack
	v6    bool
	older bool
	k     *client.Socket

	vifs    []int      // by number: the index of the interface that the stack has there; 0: none
	up      netip.Addr // of the upstream interface
	members members
	now     []iface // by number, as they are; index 0: it is not there
}

// logger takes sentences.
type logger interface {
	Warnf(format string, a ...any)
	Debugf(format string, a ...any)
	Dumpf(format string, a ...any)
}

var _ outside = (*system)(nil)

// routerAlert is RFC 2113's option, routerAlert6 the header with RFC 2711's.
var (
	routerAlert  = []byte{0x94, 4, 0, 0}
	routerAlert6 = []byte{0, 0, 5, 2, 0, 0, 1, 0}
)

const internetControl = 0xc0 // the precedence of IGMP (RFC 3376 §4)

// open makes the stack's routing daemon of us.
func open(log logger, prefix string, v6, older bool, n int) (*system, error) {
	af, proto, name := protocol.AFInet, protocol.ProtoIGMP, "IPv4"
	if v6 {
		af, proto, name = protocol.AFInet6, protocol.ProtoICMPv6, "IPv6"
	}
	stack, err := client.OpenFamily(prefix, af)
	if err != nil {
		return nil, err
	}
	s := &system{log: log, stack: stack, v6: v6, older: older, vifs: make([]int, n), now: make([]iface, n)}
	s.members = members{v6: v6, openSocket: func() (socketOption, error) { return stack.Socket(protocol.SockDgram, 0) }}
	if s.k, err = stack.Socket(protocol.SockRaw, proto); err == nil {
		err = s.prepare()
	} else if errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.EACCES) {
		err = errors.New("only the superuser of the stack may have a raw socket")
	}
	if errors.Is(err, syscall.EADDRINUSE) {
		err = fmt.Errorf("there is a multicast routing daemon of %s already", name)
	}
	if err != nil {
		stack.Close()
		return nil, err
	}
	return s, nil
}

func (s *system) prepare() error {
	type option struct {
		level, name int
		value       []byte
		what        string
	}
	one := protocol.AppendU32(nil, 1)
	options := []option{
		{protocol.ProtoIP, protocol.MRTInit, one, "MRT_INIT"},
		{protocol.ProtoIP, protocol.IPRecvIf, one, "IP_RECVIF"},
		{protocol.ProtoIP, protocol.IPMulticastTTL, []byte{1}, "IP_MULTICAST_TTL"},
		{protocol.ProtoIP, protocol.IPMulticastLoop, []byte{0}, "IP_MULTICAST_LOOP"},
		{protocol.ProtoIP, protocol.IPTos, protocol.AppendU32(nil, internetControl), "IP_TOS"},
		{protocol.ProtoIP, protocol.IPOptions, routerAlert, "IP_OPTIONS"},
	}
	if s.v6 {
		options = []option{
			{protocol.ProtoICMPv6, protocol.ICMP6Filter, protocol.ICMP6Pass(mldQuery, mldReport1, mldDone, mldReport2), "ICMP6_FILTER"},
			{protocol.ProtoIPv6, protocol.MRT6Init, one, "MRT6_INIT"},
			{protocol.ProtoIPv6, protocol.IPv6RecvPktInfo, one, "IPV6_RECVPKTINFO"},
			{protocol.ProtoIPv6, protocol.IPv6RecvHopLimit, one, "IPV6_RECVHOPLIMIT"},
			{protocol.ProtoIPv6, protocol.IPv6RecvHopOpts, one, "IPV6_RECVHOPOPTS"},
			{protocol.ProtoIPv6, protocol.IPv6MulticastHops, one, "IPV6_MULTICAST_HOPS"},
			{protocol.ProtoIPv6, protocol.IPv6MulticastLoop, protocol.AppendU32(nil, 0), "IPV6_MULTICAST_LOOP"},
			{protocol.ProtoIPv6, protocol.IPv6HopOpts, routerAlert6, "IPV6_HOPOPTS"},
		}
	}
	for _, o := range options {
		if err := s.k.SetOption(o.level, o.name, o.value); err != nil {
			return fmt.Errorf("%s: %w", o.what, err)
		}
	}
	return nil
}

// addr is the address that our queries have on an interface; invalid: none can be sent.
func (s *system) addr(i iface) netip.Addr {
	switch {
	case !i.up:
		return netip.Addr{}
	case s.v6:
		return i.local
	}
	return i.four
}

// set tells the stack how the interfaces are, by number; it reports whether the upstream memberships have to be said anew.
func (s *system) set(now []iface) (rejoin bool) {
	s.now = now
	for n, i := range now {
		index := i.index
		if !s.v6 && !i.four.IsValid() {
			index = 0
		}
		if index == s.vifs[n] && (n != upstream || i.four == s.up || s.v6) {
			continue
		}
		if s.vifs[n] != 0 {
			_ = s.option(protocol.MRTDelVif, binary.LittleEndian.AppendUint16(nil, uint16(n))) // unless it went with its interface
		}
		s.vifs[n] = 0
		if n == upstream {
			s.members.reset()
			s.up, rejoin = i.four, index != 0
			s.members.on(i)
		}
		if index == 0 {
			continue
		}
		v := protocol.AppendMifCtl(nil, n, index)
		if !s.v6 {
			v = protocol.AppendVifCtl(nil, protocol.VifCtl{Vif: n, Threshold: 1, Local: i.four})
		}
		if err := s.option(protocol.MRTAddVif, v); err != nil {
			s.log.Warnf("%s: making it virtual interface %d: %v", i.name, n, err)
			continue
		}
		s.vifs[n] = index
	}
	return rejoin
}

// option sets an option of the routing daemon's, whose numbers from MRT_DONE to MRT_DEL_MFC both families share.
func (s *system) option(name int, v []byte) error {
	level := protocol.ProtoIP
	if s.v6 {
		level = protocol.ProtoIPv6
	}
	return s.k.SetOption(level, name, v)
}

// came is what the socket has received: a packet that the stack asks about, or a message of a link.
type came struct {
	vif  int
	flow *flow
	from netip.Addr
	message
}

// errIgnored is for what comes by no link of ours.
var errIgnored = errors.New("not of our links")

const maxMessage = 65535

// recv waits for one.
func (s *system) recv() (protocol.Msg, error) { return s.k.Recv(maxMessage, 0) }

// read takes apart what recv has answered.
func (s *system) read(m protocol.Msg) (came, error) {
	parse := protocol.ParseUpcall
	if s.v6 {
		parse = protocol.ParseUpcall6
	}
	if u, ok := parse(m.Data); ok {
		if u.Kind != protocol.UpcallNoCache {
			return came{}, errIgnored
		}
		return came{vif: u.Vif, flow: &flow{u.Source, u.Group}}, nil
	}
	a, err := protocol.ParseAncillary(m.Control)
	if err != nil {
		return came{}, err
	}
	c := came{vif: slices.IndexFunc(s.now, func(i iface) bool { return i.index == a.If.Index && i.index != 0 })}
	if c.vif <= upstream {
		return came{}, errIgnored // upstream we are a host, which is the stack's
	}
	if !s.v6 {
		c.from, c.message, err = parseIGMP(m.Data)
		return c, err
	}
	c.from = m.Addr.IP.WithZone("")
	if err := fromLink(c.from, a.TTL, m.Control); err != nil {
		return came{}, err
	}
	c.message, err = parseMLD(m.Data)
	return c, err
}

// fromLink refuses messages of MLD that may be from elsewhere, or that routers need not look at (RFC 3810 §5.1.14, §5.2.14).
func fromLink(from netip.Addr, hops int, control []byte) error {
	switch {
	case hops != 1:
		return fmt.Errorf("its hop limit is %d, not 1", hops)
	case !from.IsLinkLocalUnicast() && !from.IsUnspecified():
		return fmt.Errorf("its source %v is not of the link", from)
	}
	all, err := protocol.Controls(control)
	if err != nil {
		return err
	}
	for _, c := range all {
		if c.Level == protocol.ProtoIPv6 && c.Type == protocol.IPv6HopOpts && alert(c.Data) {
			return nil
		}
	}
	return errors.New("it has no router alert")
}

// alert looks for the router alert of MLD in a Hop-by-Hop header.
func alert(h []byte) bool {
	for b := h[min(2, len(h)):]; len(b) > 0; {
		if b[0] == 0 { // Pad1
			b = b[1:]
			continue
		}
		if len(b) < 2 || len(b) < 2+int(b[1]) {
			return false
		}
		if b[0] == 5 {
			return b[1] == 2 && b[2] == 0 && b[3] == 0
		}
		b = b[2+int(b[1]):]
	}
	return false
}

// ask is outside.
func (s *system) ask(link int, q querier.Query) {
	i := s.now[link]
	s.log.Dumpf("%s: query %+v", i.name, q)
	if err := s.send(i, q); err != nil {
		s.log.Warnf("%s: sending a query: %v", i.name, err)
	}
}

func (s *system) send(i iface, q querier.Query) error {
	if !s.v6 {
		if err := s.k.SetOption(protocol.ProtoIP, protocol.IPMulticastIf, i.four.AsSlice()); err != nil {
			return err
		}
		to := netip.AddrFrom4([4]byte{224, 0, 0, 1})
		if q.Group.IsValid() {
			to = q.Group
		}
		_, err := s.k.Send(protocol.Msg{Addr: protocol.AddrFrom(to, 0), Data: appendIGMPQuery(nil, q, s.older)})
		return err
	}
	to := netip.IPv6LinkLocalAllNodes()
	if q.Group.IsValid() {
		to = q.Group
	}
	if to.IsLinkLocalMulticast() {
		to = to.WithZone(strconv.Itoa(i.index))
	}
	c := protocol.AppendControl(nil, protocol.Control{Level: protocol.ProtoIPv6, Type: protocol.IPv6PktInfo,
		Data: protocol.AppendPktInfo(nil, protocol.PktInfo{Addr: i.local, Index: i.index})})
	_, err := s.k.Send(protocol.Msg{Addr: protocol.AddrFrom(to, 0), Control: c, Data: appendMLDQuery(nil, q, s.older)})
	return err
}

// join is outside.
func (s *system) join(group netip.Addr, f filter) {
	s.log.Debugf("upstream: %v %s", group, f)
	if s.vifs[upstream] == 0 {
		return // it is said when the interface is there
	}
	if err := s.members.set(group, f); err != nil {
		s.log.Warnf("%s: joining %v: %v", s.now[upstream].name, group, err)
	}
}

// route is outside.
func (s *system) route(k flow, e *entry) {
	c := protocol.MFCCtl{Origin: k.origin, Group: k.group, Parent: e.parent}
	for _, n := range e.out {
		c.TTLs[n] = 1
	}
	s.log.Debugf("%v to %v: from %s to %s", k.origin, k.group, s.name(e.parent), s.names(e.out))
	if err := s.option(protocol.MRTAddMFC, protocol.AppendMFCCtl(nil, c)); err != nil {
		s.log.Warnf("%v to %v: %v", k.origin, k.group, err)
	}
}

// unroute is outside.
func (s *system) unroute(k flow) {
	s.log.Debugf("%v to %v: no packets any more", k.origin, k.group)
	_ = s.option(protocol.MRTDelMFC, protocol.AppendMFCCtl(nil, protocol.MFCCtl{Origin: k.origin, Group: k.group})) // unless it has gone
}

// counts is outside.
func (s *system) counts() map[flow]uint64 {
	rows, err := client.Table[protocol.MFCRow](s.stack, protocol.TableMFC, "")
	if err != nil {
		s.log.Warnf("reading the forwarding cache: %v", err)
	}
	all := map[flow]uint64{}
	for _, r := range rows {
		origin, err := netip.ParseAddr(r.Origin)
		group, err2 := netip.ParseAddr(r.Group)
		if err == nil && err2 == nil {
			all[flow{origin, group}] = r.Packets
		}
	}
	return all
}

func (s *system) name(n int) string { return s.now[n].name }

func (s *system) names(all []int) string {
	if len(all) == 0 {
		return "nowhere"
	}
	var out []string
	for _, n := range all {
		out = append(out, s.name(n))
	}
	return strings.Join(out, ", ")
}

func (s *system) close() { s.stack.Close() }

func (f filter) String() string {
	var names []string
	for _, a := range f.sources {
		names = append(names, a.String())
	}
	list := strings.Join(names, " ")
	switch {
	case f.nothing():
		return "of nobody"
	case f.include:
		return "of " + list
	case list == "":
		return "of everybody"
	}
	return "of everybody but " + list
}
