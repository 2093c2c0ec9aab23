package client

import (
	"net/netip"
	"slices"

	"ionet/addrsel"
	"ionet/protocol"
)

// speaks6 says whether the stack has IPv6.
func (s *Stack) speaks6() bool {
	k, err := s.SocketFamily(protocol.AFInet6, protocol.SockDgram, 0)
	if err != nil {
		return !lacks(err)
	}
	_ = s.post(protocol.TypeClose, k.id, nil)
	return true
}

// sorted orders addresses by RFC 6724, with the stack's own choice of sources
// and its own policy. Of IPv4 alone the order stays.
func (s *Stack) sorted(ips []netip.Addr) []netip.Addr {
	if len(ips) < 2 || !slices.ContainsFunc(ips, netip.Addr.Is6) {
		return ips
	}
	policy := addrsel.Default
	if rows, err := Table[protocol.PolicyRow](s, protocol.TablePolicy, ""); err == nil && len(rows) > 0 {
		policy = nil
		for _, r := range rows {
			if p, err := netip.ParsePrefix(r.Prefix); err == nil {
				policy = append(policy, addrsel.Policy{Prefix: p, Precedence: r.Precedence, Label: r.Label})
			}
		}
	}
	sources := newSources(s)
	defer sources.close()
	addrsel.Sort(ips, sources.to, policy)
	return ips
}

// sources asks the stack what it would send to an address with: it connects
// datagram sockets, which sends nothing.
type sources struct {
	s     *Stack
	socks map[int]*Socket
	own   map[netip.Addr]protocol.AddressRow
}

func newSources(s *Stack) *sources {
	q := &sources{s: s, socks: map[int]*Socket{}, own: map[netip.Addr]protocol.AddressRow{}}
	rows, _ := Table[protocol.InterfaceRow](s, protocol.TableInterfaces, "")
	for _, r := range rows {
		for _, a := range r.Addresses {
			if ip, err := netip.ParseAddr(a.Address); err == nil {
				q.own[ip] = a
			}
		}
	}
	return q
}

// to is the source of packets to dst.
func (q *sources) to(dst netip.Addr) addrsel.Source {
	to, err := q.s.scoped(protocol.AddrFrom(dst, dnsPort))
	k := q.socks[to.Family]
	if k == nil && err == nil {
		if k, err = q.s.SocketFamily(to.Family, protocol.SockDgram, 0); err == nil {
			q.socks[to.Family] = k
		}
	}
	var local protocol.Addr
	if err == nil {
		if err = k.Connect(to); err == nil {
			local, err = k.LocalAddr()
		}
	}
	if err != nil {
		return addrsel.Source{}
	}
	row := q.own[q.s.named(local).IP]
	return addrsel.Source{Addr: local.IP.WithZone(""), Bits: row.Bits, Deprecated: row.Flags&(protocol.IN6IFFDeprecated|protocol.IN6IFFDetached) != 0}
}

func (q *sources) close() {
	for _, k := range q.socks {
		_ = q.s.post(protocol.TypeClose, k.id, nil)
	}
}
