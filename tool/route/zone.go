package route

import (
	"fmt"
	"net/netip"
	"strconv"

	"ionet/protocol"
)

// interfaces are a stack's interfaces by name and by index.
type interfaces interface {
	IfIndex(name string) (int, error)
	IfName(index int) (string, error)
}

// zones turns the zones of addresses into what the protocol has, the
// interface's index, and back into what people read, its name. Without a
// stack they stay as they are. It remembers: a batch has one gateway often.
type zones struct {
	stack   interfaces
	indices map[string]string // by name
	names   map[string]string // by index
}

func newZones(stack interfaces) *zones {
	return &zones{stack, make(map[string]string), make(map[string]string)}
}

// number numbers the zones of a request.
func (z *zones) number(m *protocol.RouteMessage) error {
	for _, a := range []*protocol.Addr{&m.Dst, &m.Gateway, &m.Ifa} {
		zone := a.IP.Zone()
		if zone == "" || z.stack == nil {
			continue
		}
		if _, err := strconv.ParseUint(zone, 10, 32); err == nil {
			continue
		}
		index, ok := z.indices[zone]
		if !ok {
			n, err := z.stack.IfIndex(zone)
			if err != nil {
				return fmt.Errorf("%s: there is no interface %s", a.IP, zone)
			}
			index = strconv.Itoa(n)
			z.indices[zone] = index
		}
		a.IP = a.IP.WithZone(index)
	}
	return nil
}

// name is a with its interface's name for a zone, or its number when the
// interface has gone.
func (z *zones) name(a netip.Addr) netip.Addr {
	zone := a.Zone()
	if zone == "" || z.stack == nil {
		return a
	}
	name, ok := z.names[zone]
	if !ok {
		name = zone
		if n, err := strconv.Atoi(zone); err == nil {
			if found, err := z.stack.IfName(n); err == nil {
				name = found
			}
		}
		z.names[zone] = name
	}
	return a.WithZone(name)
}

// named is a message to be shown: its zones are names.
func (z *zones) named(m protocol.Message) protocol.Message {
	switch m := m.(type) {
	case *protocol.RouteMessage:
		n := *m
		for _, a := range []*protocol.Addr{&n.Dst, &n.Gateway, &n.Ifa, &n.Author, &n.Brd} {
			a.IP = z.name(a.IP)
		}
		return &n
	case *protocol.AddrMessage:
		n := *m
		n.Addr.IP, n.Brd.IP = z.name(m.Addr.IP), z.name(m.Brd.IP)
		return &n
	}
	return m
}

// lost is the host or the gateway of c that is an address of one link without
// a word of which.
func (c *change) lost() (netip.Addr, bool) {
	for _, a := range []protocol.Addr{c.msg.Dst, c.msg.Gateway} {
		if a.IP.Is6() && (a.IP.IsLinkLocalUnicast() || a.IP.IsLinkLocalMulticast()) && a.IP.Zone() == "" &&
			c.msg.Ifp.Link.Name == "" && (c.host || a != c.msg.Dst) {
			return a.IP, true
		}
	}
	return netip.Addr{}, false
}
