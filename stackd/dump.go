package stackd

import (
	"encoding/binary"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"ionet/protocol"
	"ionet/stack"
	"ionet/stack/arp"
	"ionet/stack/route"
)

// dumpState is what a client's dump of the routes keeps between pages: the
// entries that are not of the table, and what the next cursor stands for. It
// is only a short cut: any cursor can be taken up without it.
type dumpState struct {
	cursor uint64
	extras []extra
	buf    []route.Route
	page   []byte
}

// extra is an entry that only looks like a route: a neighbour, or what the
// host cache knows of a destination.
type extra struct {
	at  netip.Prefix
	msg []byte
	fl  uint32
}

// A cursor of a route dump names the last route sent: the top bit, a second
// bit if that was an extra, the prefix length, and the IPv4 address.
const (
	cursorSet   = 1 << 63
	cursorExtra = 1 << 62
)

func routeCursor(p netip.Prefix, isExtra bool) uint64 {
	a := p.Addr().As4()
	c := uint64(cursorSet) | uint64(p.Bits())<<32 | uint64(binary.BigEndian.Uint32(a[:]))
	if isExtra {
		c |= cursorExtra
	}
	return c
}

func parseCursor(c uint64) (p netip.Prefix, isExtra bool, err error) {
	if c == 0 {
		return p, false, nil
	}
	bits := int(c >> 32 & 0x3fffffff)
	if c&cursorSet == 0 || bits > 32 {
		return p, false, errf(unix.EINVAL, "dump: %#x is no cursor of ours", c)
	}
	var a [4]byte
	binary.BigEndian.PutUint32(a[:], uint32(c))
	return netip.PrefixFrom(netip.AddrFrom4(a), bits).Masked(), c&cursorExtra != 0, nil
}

// dumpFrame serves TypeDump.
func (c *conn) dumpFrame(p []byte) ([]byte, error) {
	q, err := protocol.ParseDumpRequest(p)
	if err != nil {
		return nil, err
	}
	switch q.What {
	case protocol.DumpIfList:
		return c.s.dumpInterfaces(q)
	case protocol.DumpRoutes:
		q.Flags = 0
	case protocol.DumpFlags:
	default:
		return nil, errf(unix.EINVAL, "dump: no kind %d", q.What)
	}
	if q.Family != 0 && q.Family != protocol.AFInet {
		return protocol.AppendPage(nil, 0), nil
	}
	return c.dumpRoutes(q)
}

// dumpInterfaces pages by interface; Flags, if not 0, is the only index.
func (s *server) dumpInterfaces(q protocol.DumpRequest) ([]byte, error) {
	var body []byte
	for _, ifp := range s.eng.Engine().Env.Ifs.All() {
		if uint64(ifp.Index) < q.Cursor || q.Flags != 0 && ifp.Index != q.Flags {
			continue
		}
		was := len(body)
		body = protocol.AppendMessage(body, s.ifMessage(ifp))
		for _, a := range ifp.Addrs() {
			if q.Family == 0 || int(q.Family) == protocol.AddrFrom(a.Addr, 0).Family {
				body = protocol.AppendMessage(body, addrMessage(protocol.RTMNewAddr, ifp, a))
			}
		}
		if len(body) > protocol.MaxPayload-8 {
			if was == 0 {
				return nil, errf(unix.EMSGSIZE, "the addresses of %s do not fit a frame", ifp.Name)
			}
			return append(protocol.AppendPage(nil, uint64(ifp.Index)), body[:was]...), nil
		}
	}
	return append(protocol.AppendPage(nil, 0), body...), nil
}

// pageRoutes is how many routes are asked of the table for one frame, and
// maxRoute how long the message of one can be.
const (
	pageRoutes = 420
	maxRoute   = 256
)

// dumpRoutes merges the table with the entries that look like routes, in
// order of address; at the same place the table's come first.
func (c *conn) dumpRoutes(q protocol.DumpRequest) ([]byte, error) {
	after, wasExtra, err := parseCursor(q.Cursor)
	if err != nil {
		return nil, err
	}
	d := &c.dump
	if q.Cursor == 0 || q.Cursor != d.cursor {
		d.extras = c.s.extras()
		if q.Cursor != 0 {
			n, _ := slices.BinarySearchFunc(d.extras, after, func(e extra, p netip.Prefix) int { return comparePrefix(e.at, p) })
			for n < len(d.extras) && wasExtra && d.extras[n].at == after {
				n++
			}
			d.extras = d.extras[n:]
		}
	}
	var routes []route.Route
	atEnd := true
	if q.Flags&protocol.RTFLLInfo == 0 {
		if d.buf == nil {
			d.buf = make([]route.Route, pageRoutes)
		}
		n := c.s.eng.Engine().Routes.Page(route.AFInet, after, d.buf)
		routes, atEnd = d.buf[:n], n < len(d.buf)
	}
	if d.page == nil {
		d.page = make([]byte, 0, protocol.MaxPayload)
	}
	out := protocol.AppendPage(d.page[:0], 0) // the reply copies it
	last, lastExtra := after, wasExtra
	for len(routes) > 0 || len(d.extras) > 0 && atEnd {
		if len(out)+maxRoute > protocol.MaxPayload {
			break
		}
		if len(d.extras) > 0 && (len(routes) == 0 || comparePrefix(d.extras[0].at, routes[0].Dst) < 0) {
			e := &d.extras[0]
			if e.fl&q.Flags == q.Flags {
				out = append(out, e.msg...)
			}
			last, lastExtra = e.at, true
			d.extras = d.extras[1:]
			continue
		}
		r := &routes[0]
		if r.Flags&q.Flags == q.Flags {
			m := routeMessage(r, false)
			if r.Flags&protocol.RTFCloning != 0 {
				m.Refs = c.s.cloned(r)
			}
			out = protocol.AppendRoute(out, &m)
		}
		last, lastExtra = r.Dst, false
		routes = routes[1:]
	}
	if len(routes) == 0 && atEnd && len(d.extras) == 0 {
		d.cursor, d.extras = 0, nil
		return out, nil
	}
	d.cursor = routeCursor(last, lastExtra)
	binary.LittleEndian.PutUint64(out, d.cursor)
	return out, nil
}

// cloned is how many neighbour entries a connected network has brought forth:
// its references, as BSD counts them.
func (s *server) cloned(r *route.Route) (n int) {
	if s.arpOut {
		return 0
	}
	for _, e := range s.eng.Engine().ARP.Entries() {
		if e.If == r.If && r.Dst.Contains(e.IP) {
			n++
		}
	}
	return n
}

func comparePrefix(a, b netip.Prefix) int {
	if c := a.Addr().Compare(b.Addr()); c != 0 {
		return c
	}
	return a.Bits() - b.Bits()
}

// extras are the neighbours, unless ARP is a module of its own, and the host
// cache, in order of address.
func (s *server) extras() []extra {
	var out []extra
	known := map[netip.Addr]bool{}
	for _, n := range s.eng.Engine().Neighbours() {
		if !n.IP.Is4() || s.arpOut {
			continue
		}
		m := s.neighbourMessage(&n)
		known[n.IP] = true
		out = append(out, extra{netip.PrefixFrom(n.IP, n.IP.BitLen()), protocol.AppendMessage(nil, &m), m.Flags})
	}
	for _, r := range s.eng.Engine().Cache.Routes(s.eng.Now()) {
		if !r.Dst.Addr().Is4() || known[r.Dst.Addr()] {
			continue
		}
		if r.Metrics != nil {
			x := *r.Metrics
			x.Expire += s.eng.Wall(s.eng.Now()).Unix()
			r.Metrics = &x
		}
		m := routeMessage(&r, false)
		out = append(out, extra{r.Dst, protocol.AppendMessage(nil, &m), m.Flags})
	}
	slices.SortStableFunc(out, func(a, b extra) int { return comparePrefix(a.at, b.at) })
	return out
}

// neighbour finds the entry of an address.
func (s *server) neighbour(ip netip.Addr) (stack.Neighbour, bool) {
	for _, n := range s.eng.Engine().Neighbours() {
		if n.IP == ip {
			return n, true
		}
	}
	return stack.Neighbour{}, false
}

// neighbourMessage is a neighbour as BSD shows it: a host route with the link
// address as its gateway, cloned from the network's link#N. A published one
// has a netmask of all ones, a proxy-only one RTF_PROTO2 too.
func (s *server) neighbourMessage(n *stack.Neighbour) protocol.RouteMessage {
	m := protocol.RouteMessage{Type: protocol.RTMGet, Index: int(n.If.Index), Use: n.Use, NetmaskBits: -1,
		Flags: protocol.RTFUp | protocol.RTFHost | protocol.RTFLLInfo, Dst: protocol.AddrFrom(n.IP, 0)}
	l := protocol.LinkAddr{Index: int(n.If.Index), Type: n.If.Type}
	if n.Known {
		l = protocol.LinkOf(l.Index, l.Type, "", n.MAC[:])
	}
	m.Gateway = protocol.LinkAddrOf(l)
	if n.Flags&arp.Permanent != 0 {
		m.Flags |= protocol.RTFStatic
	} else {
		m.Flags |= protocol.RTFCloned
		m.Metrics.Expire = uint64(s.eng.Wall(n.Expire).Unix())
		m.Inits = protocol.RTVExpire
	}
	if n.Flags&arp.Published != 0 {
		m.Netmask, m.NetmaskBits = protocol.MaskAddr(m.Dst.Family, n.IP.BitLen()), n.IP.BitLen()
	}
	if n.Flags&arp.ProxyOnly != 0 {
		m.Flags |= protocol.RTFProto2
	}
	m.Metrics.PkSent = n.Use
	return m
}
