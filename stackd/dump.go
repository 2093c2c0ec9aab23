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
// entries that are not of the table, and what the next cursor stands for. Of IPv4
// it is only a short cut: any cursor can be taken up without it.
type dumpState struct {
	cursor uint64
	extras []extra
	buf    []route.Route
	page   []byte

	// marks: where dumps of IPv6 stand, whose addresses fit no cursor. Owner: the
	// client. Bound: 64, more than dumps that it has under way. Full: the oldest
	// goes, and a dump that takes it up is to begin again.
	marks []mark
	last  uint32
}

// mark is what a cursor of IPv6 stands for.
type mark struct {
	cursor uint64
	at     place
}

// place is where a dump stands: behind the route to after, which was an extra
// or of the table. The zero place is the beginning.
type place struct {
	after netip.Prefix
	extra bool
}

const maxMarks = 64

// extra is an entry that only looks like a route: a neighbour, or what the
// host cache knows of a destination.
type extra struct {
	at  netip.Prefix
	msg []byte
	fl  uint32
}

// A cursor of a route dump names the last route sent. The top bit is set. Of IPv4
// a second bit if that was an extra, the prefix length and the address follow;
// of IPv6 the third bit, and the number of a mark.
const (
	cursorSet   = 1 << 63
	cursorExtra = 1 << 62
	cursor6     = 1 << 61
)

// cursorAt is the cursor of a place.
func (d *dumpState) cursorAt(at place) uint64 {
	if at.after.Addr().Is4() {
		a := at.after.Addr().As4()
		c := uint64(cursorSet) | uint64(at.after.Bits())<<32 | uint64(binary.BigEndian.Uint32(a[:]))
		if at.extra {
			c |= cursorExtra
		}
		return c
	}
	d.last++
	c := cursorSet | cursor6 | uint64(d.last)
	if len(d.marks) == maxMarks {
		d.marks = slices.Delete(d.marks, 0, 1)
	}
	d.marks = append(d.marks, mark{c, at})
	return c
}

// placeOf is the place of a cursor.
func (d *dumpState) placeOf(c uint64) (at place, err error) {
	switch {
	case c == 0:
		return at, nil
	case c&(cursorSet|cursor6) == cursorSet|cursor6:
		i := slices.IndexFunc(d.marks, func(m mark) bool { return m.cursor == c })
		if i < 0 {
			return at, errf(unix.ESTALE, "dump: the cursor %#x is too old, or of another connection: begin again", c)
		}
		return d.marks[i].at, nil
	}
	bits := int(c >> 32 & 0x1fffffff)
	if c&cursorSet == 0 || bits > 32 {
		return at, errf(unix.EINVAL, "dump: %#x is no cursor of ours", c)
	}
	var a [4]byte
	binary.BigEndian.PutUint32(a[:], uint32(c))
	return place{netip.PrefixFrom(netip.AddrFrom4(a), bits).Masked(), c&cursorExtra != 0}, nil
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
			if q.Family == 0 || int(q.Family) == familyOf(a.Addr) {
				body = protocol.AppendMessage(body, s.addrMessage(protocol.RTMNewAddr, ifp, a))
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
	maxRoute   = 320
)

// dumpRoutes answers a page of the routes of the families that are asked for,
// IPv4's first.
func (c *conn) dumpRoutes(q protocol.DumpRequest) ([]byte, error) {
	d := &c.dump
	at, err := d.placeOf(q.Cursor)
	if err != nil {
		return nil, err
	}
	if q.Cursor == 0 || q.Cursor != d.cursor {
		d.extras = c.s.extras(int(q.Family))
		if q.Cursor != 0 {
			n, _ := slices.BinarySearchFunc(d.extras, at.after, func(e extra, p netip.Prefix) int { return comparePrefix(e.at, p) })
			for n < len(d.extras) && at.extra && d.extras[n].at == at.after {
				n++
			}
			d.extras = d.extras[n:]
		}
	}
	if d.page == nil {
		d.page = make([]byte, 0, protocol.MaxPayload)
	}
	out := protocol.AppendPage(d.page[:0], 0) // the reply copies it
	for _, af := range [...]int{protocol.AFInet, protocol.AFInet6} {
		if q.Family != 0 && int(q.Family) != af || at.after.IsValid() && familyOf(at.after.Addr()) > af {
			continue
		}
		var all bool
		if out, all = c.dumpFamily(out, af, q.Flags, &at); !all {
			d.cursor = d.cursorAt(at)
			binary.LittleEndian.PutUint64(out, d.cursor)
			return out, nil
		}
	}
	d.cursor, d.extras = 0, nil
	return out, nil
}

// dumpFamily merges the table of a family with the entries that look like
// routes, in order of address; at the same place the table's come first. It
// appends what there is room for behind at, moves that on, and answers whether
// it was all.
func (c *conn) dumpFamily(out []byte, af int, flags uint32, at *place) (_ []byte, all bool) {
	d := &c.dump
	var after netip.Prefix // in the table; of another family: none yet
	if familyOf(at.after.Addr()) == af {
		after = at.after
	}
	extras := func() bool { return len(d.extras) > 0 && d.extras[0].at.Addr().Is4() == (af == protocol.AFInet) }
	var routes []route.Route
	atEnd := true
	if flags&protocol.RTFLLInfo == 0 {
		if d.buf == nil {
			d.buf = make([]route.Route, pageRoutes)
		}
		var n int
		n, atEnd = c.s.eng.Engine().Routes.Page(af, after, d.buf)
		routes = d.buf[:n]
	}
	for len(routes) > 0 || extras() && atEnd {
		need := maxRoute
		if len(routes) > 0 && routes[0].Flags&route.FlagMPath != 0 && routes[0].Dst != at.after {
			need *= route.MaxPaths // equal routes go together: a place has no number
		}
		if len(out)+need > protocol.MaxPayload {
			return out, false
		}
		if extras() && (len(routes) == 0 || comparePrefix(d.extras[0].at, routes[0].Dst) < 0) {
			e := &d.extras[0]
			if e.fl&flags == flags {
				out = append(out, e.msg...)
			}
			*at = place{e.at, true}
			d.extras = d.extras[1:]
			continue
		}
		r := &routes[0]
		if r.Flags&flags == flags {
			m := c.s.routeMessage(r, false)
			if r.Flags&protocol.RTFCloning != 0 {
				m.Refs = c.s.cloned(r)
			}
			out = protocol.AppendRoute(out, &m)
		}
		*at = place{r.Dst, false}
		routes = routes[1:]
	}
	return out, atEnd
}

// cloned is how many neighbour entries a connected network has brought forth:
// its references, as BSD counts them.
func (s *server) cloned(r *route.Route) (n int) {
	eng := s.eng.Engine()
	if r.Dst.Addr().Is6() {
		for _, e := range eng.ND.Entries() {
			if e.If == r.If && r.Dst.Contains(e.IP) {
				n++
			}
		}
		return n
	}
	if s.arpOut {
		return 0
	}
	for _, e := range eng.ARP.Entries() {
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

// extras are the neighbours, those of IPv4 unless ARP is a module of its own,
// and the host cache, of a family (0: both), in order of address.
func (s *server) extras(family int) []extra {
	var out []extra
	wanted := func(ip netip.Addr) bool { return family == 0 || familyOf(ip) == family }
	known := map[netip.Addr]bool{}
	for _, n := range s.eng.Engine().Neighbours() {
		if !wanted(n.IP) || n.IP.Is4() && s.arpOut {
			continue
		}
		m := s.neighbourMessage(&n)
		known[n.IP] = true
		out = append(out, extra{netip.PrefixFrom(n.IP, n.IP.BitLen()), protocol.AppendMessage(nil, &m), m.Flags})
	}
	for _, r := range s.eng.Engine().Cache.Routes(s.eng.Now()) {
		if !wanted(r.Dst.Addr()) || known[r.Dst.Addr()] {
			continue
		}
		if r.Metrics != nil {
			x := *r.Metrics
			x.Expire += s.eng.Wall(s.eng.Now()).Unix()
			r.Metrics = &x
		}
		m := s.routeMessage(&r, false)
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
		Flags: protocol.RTFUp | protocol.RTFHost | protocol.RTFLLInfo, Dst: sockaddr(n.IP)}
	l := protocol.LinkAddr{Index: int(n.If.Index), Type: n.If.Type}
	if n.Known {
		l = protocol.LinkOf(l.Index, l.Type, "", n.MAC[:])
	}
	m.Gateway = protocol.LinkAddrOf(l)
	switch {
	case n.Flags&arp.Permanent != 0:
		m.Flags |= protocol.RTFStatic
	case n.Expire == 0: // ND's may stay as they are until they are used
		m.Flags |= protocol.RTFCloned
	default:
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
