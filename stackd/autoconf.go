package stackd

import (
	"net/netip"

	"golang.org/x/sys/unix"

	"ionet/protocol"
	"ionet/stack/autoconf"
	"ionet/stack/netif"
	"ionet/stack/packet"
)

// autoconf is what the stack has of autoconfiguration. EAFNOSUPPORT: it has no
// IPv6.
func (s *server) autoconf() (*autoconf.Autoconf, error) {
	if _, err := s.inet6(); err != nil {
		return nil, err
	}
	return s.eng.Engine().Auto, nil
}

// routers serves what ndp asks of autoconfiguration: SIOCSPFXFLUSH,
// SIOCSRTRFLUSH, SIOCSDEFIFACE, SIOCGDEFIFACE and SIOCSRTSOL.
func (s *server) routers(req uint32, r protocol.IfReq) ([]byte, error) {
	a, err := s.autoconf()
	if err != nil {
		return nil, err
	}
	var ifp *netif.Interface
	if r.Name != "" && req != protocol.SIOCGDEFIFACE {
		if ifp = s.eng.Engine().Env.Ifs.ByName(r.Name); ifp == nil {
			return nil, unix.ENXIO
		}
	}
	switch req {
	case protocol.SIOCSPFXFLUSH:
		a.FlushPrefixes()
	case protocol.SIOCSRTRFLUSH:
		a.FlushRouters()
	case protocol.SIOCSDEFIFACE:
		var index uint32
		if ifp != nil {
			index = ifp.Index
		}
		s.eng.Engine().Inet6.SetDefaultIf(index)
		a.SetDefaultIf(ifp)
	case protocol.SIOCGDEFIFACE:
		r.Name = ""
		if ifp = a.DefaultIf(); ifp != nil {
			r.Name = ifp.Name
		}
		return protocol.AppendIfReq(nil, r), nil
	case protocol.SIOCSRTSOL:
		if ifp != nil {
			a.Solicit(ifp)
			break
		}
		for _, ifp := range s.eng.Engine().Env.Ifs.All() {
			a.Solicit(ifp)
		}
	}
	return nil, nil
}

// seconds is a lifetime as a router tells it; -1: for ever.
func seconds(lifetime uint32) int64 {
	if lifetime == protocol.LifetimeInfinite {
		return -1
	}
	return int64(lifetime)
}

func (s *server) prefixRows() (rows []any) {
	a, err := s.autoconf()
	if err != nil {
		return nil
	}
	now := s.eng.Now()
	for _, p := range a.Prefixes() {
		plain, _ := packet.Unscoped(p.Prefix.Addr())
		r := protocol.PrefixRow{Prefix: netip.PrefixFrom(plain, p.Prefix.Bits()).String(), Interface: p.If.Name,
			OnLink: p.OnLink, Autonomous: p.Autonomous, Detached: p.Detached,
			Preferred: seconds(p.Preferred), Valid: seconds(p.Valid), Expire: left(p.Expire, now), Refs: p.Refs}
		for _, router := range p.Routers {
			r.Routers = append(r.Routers, scoped(router, p.If.Name))
		}
		rows = append(rows, r)
	}
	return rows
}

// preferences are the names of RFC 4191 §2.1, and their bits in a router's
// advertisement (§2.2).
var preferences = map[int]struct {
	name string
	bits uint8
}{
	autoconf.PrefHigh:   {"high", 0x08},
	autoconf.PrefMedium: {"medium", 0},
	autoconf.PrefLow:    {"low", 0x18},
}

func (s *server) routerRows() (rows []any) {
	a, err := s.autoconf()
	if err != nil {
		return nil
	}
	now := s.eng.Now()
	for _, r := range a.Routers() {
		p := preferences[r.Pref]
		rows = append(rows, protocol.RouterRow{Address: scoped(r.Addr, r.If.Name), Interface: r.If.Name, Flags: r.Flags | p.bits,
			Managed: r.Flags&packet.RAFlagManaged != 0, Other: r.Flags&packet.RAFlagOther != 0,
			Preference: p.name, Lifetime: int64(r.Lifetime), Expire: left(r.Expire, now), Default: r.Installed})
	}
	return rows
}

func (s *server) resolverRows() (rows []any) {
	a, err := s.autoconf()
	if err != nil {
		return nil
	}
	servers, search := a.DNS()
	for _, ip := range servers {
		plain, index := packet.Unscoped(ip)
		if ifp := s.eng.Engine().Env.Ifs.ByIndex(index); ifp != nil {
			plain = plain.WithZone(ifp.Name)
		}
		rows = append(rows, protocol.ResolverRow{Server: plain.String()})
	}
	for _, name := range search {
		rows = append(rows, protocol.ResolverRow{Search: name})
	}
	return rows
}
