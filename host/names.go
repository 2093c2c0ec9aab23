package host

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"sync"

	"ionet/addrsel"
	"ionet/stack/packet"
	"ionet/stack/socket"
)

// Resolver looks names up as package net does, from the files of the system
// and by DNS, but asks over the stack's own sockets; Dial uses it. The servers
// are those of Config.NameServers or else those that routers have told of (RFC
// 8106), of which one that has failed is asked when the others have too, or
// else those of the system's resolv.conf.
func (h *Stack) Resolver() *net.Resolver { return &h.resolver }

// lookup answers the addresses of a name, of a family if that is not 0, in the
// order of RFC 6724 as the stack sees it: package net has asked the system.
func (h *Stack) lookup(ctx context.Context, family int, name string) ([]netip.Addr, error) {
	network := "ip"
	switch {
	case family == socket.AFInet, h.engine.Inet6 == nil:
		network = "ip4"
	case family == socket.AFInet6:
		network = "ip6"
	}
	ips, err := h.resolver.LookupNetIP(ctx, network, name)
	if err != nil || network == "ip4" {
		return ips, err
	}
	for i := range ips {
		ips[i] = ips[i].Unmap()
	}
	var policy []addrsel.Policy
	for _, p := range h.engine.Inet6.Policies() {
		policy = append(policy, addrsel.Policy{Prefix: p.Prefix, Precedence: p.Precedence, Label: p.Label})
	}
	addrsel.Sort(ips, h.source, policy)
	return ips, nil
}

// source is what a packet to dst would leave with.
func (h *Stack) source(dst netip.Addr) addrsel.Source {
	a, err := h.scoped(dst, 0)
	if err != nil {
		return addrsel.Source{}
	}
	f := socket.Flow{Dst: packet.Scoped(a.IP, a.Scope)}
	var src netip.Addr
	if dst.Is4() {
		src, err = h.engine.Inet.Source(&f)
	} else {
		src, err = h.engine.Inet6.Source(&f)
	}
	if err != nil {
		return addrsel.Source{}
	}
	out := addrsel.Source{Addr: src, Bits: src.BitLen()}
	out.Addr, _ = packet.Unscoped(src)
	if own := h.engine.Inet6.Local(src); own != nil {
		out.Bits, out.Deprecated = own.Bits, own.Deprecated(h.Now())
	}
	return out
}

// failures remembers when a name server was of no use.
type failures struct {
	mu   sync.Mutex
	last map[netip.AddrPort]int64 // the stack's clock
}

// best is the server that has not failed for the longest time.
func (f *failures) best(servers []netip.AddrPort) netip.AddrPort {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.MinFunc(servers, func(a, b netip.AddrPort) int { return int(min(max(f.last[a]-f.last[b], -1), 1)) })
}

func (f *failures) note(server netip.AddrPort, now int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.last == nil {
		f.last = map[netip.AddrPort]int64{}
	}
	f.last[server] = now
}

// serverConn is a socket to a name server, whose failure is noted.
type serverConn struct {
	*Conn
	server netip.AddrPort
}

// Read is net.Conn.
func (c *serverConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if err != nil && !errors.Is(err, net.ErrClosed) {
		c.h.failures.note(c.server, c.h.Now())
	}
	return n, err
}

func (h *Stack) nameServers() []netip.AddrPort {
	if len(h.conf.NameServers) > 0 || h.engine.Auto == nil {
		return h.conf.NameServers
	}
	learnt, _ := h.engine.Auto.DNS()
	servers := make([]netip.AddrPort, 0, len(learnt))
	for _, ip := range learnt {
		plain, index := packet.Unscoped(ip)
		if ifp := h.engine.Env.Ifs.ByIndex(index); ifp != nil {
			plain = plain.WithZone(ifp.Name)
		}
		servers = append(servers, netip.AddrPortFrom(plain, 53))
	}
	return servers
}

func (h *Stack) dialServer(ctx context.Context, network, address string) (net.Conn, error) {
	servers := h.nameServers()
	if len(servers) == 0 {
		return h.DialContext(ctx, network, address)
	}
	server := h.failures.best(servers)
	c, err := h.DialContext(ctx, network, server.String())
	if err != nil {
		h.failures.note(server, h.Now())
		return nil, err
	}
	if dgram, ok := c.(*Conn); ok {
		return &serverConn{dgram, server}, nil
	}
	return c, nil
}
