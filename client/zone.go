package client

import (
	"net"
	"net/netip"
	"strconv"
	"sync"

	"ionet/protocol"
)

// zones knows interfaces by name and by index. An index is never given twice
// and keeps its name; a name may come to mean another interface.
type zones struct {
	names   sync.Map // by index, as a decimal number
	indices sync.Map // by name
}

// scoped is an address as it goes to the stack: a zone that is a name becomes
// the interface's index ("fe80::1%en0": "fe80::1%2"). An interface that is not
// there is a *net.AddrError.
func (s *Stack) scoped(a protocol.Addr) (protocol.Addr, error) {
	zone := a.IP.Zone()
	if zone == "" {
		return a, nil
	}
	if n, err := strconv.ParseUint(zone, 10, 32); err == nil {
		a.IP = a.IP.WithZone(strconv.FormatUint(n, 10))
		return a, nil
	}
	index, ok := s.zones.indices.Load(zone)
	if !ok {
		n, err := s.IfIndex(zone)
		if err != nil {
			return a, &net.AddrError{Err: "there is no interface " + zone, Addr: a.IP.String()}
		}
		index = strconv.Itoa(n)
		s.zones.indices.Store(zone, index)
	}
	a.IP = a.IP.WithZone(index.(string))
	return a, nil
}

// unscope has the name of an interface looked up again: the stack would not
// have the index that it stood for.
func (s *Stack) unscope(zone string) {
	if zone != "" {
		s.zones.indices.Delete(zone)
	}
}

// named is an address as people read it: the zone is the interface's name, or
// stays a number when that is not there any more.
func (s *Stack) named(a protocol.Addr) protocol.Addr {
	zone := a.IP.Zone()
	if zone == "" {
		return a
	}
	name, ok := s.zones.names.Load(zone)
	if !ok {
		index, err := strconv.Atoi(zone)
		if err != nil {
			return a
		}
		found, err := s.IfName(index)
		if err != nil {
			return a
		}
		name = found
		s.zones.names.Store(zone, name)
	}
	a.IP = a.IP.WithZone(name.(string))
	return a
}

// mapped is an address for a socket of a family: on one of AF_INET6 those of
// IPv4 are ::ffff:a.b.c.d (RFC 3493 §3.7).
func mapped(family int, a protocol.Addr) protocol.Addr {
	if family == protocol.AFInet6 && a.IP.Is4() {
		a.Family, a.IP = family, netip.AddrFrom16(a.IP.As16())
	}
	return a
}
