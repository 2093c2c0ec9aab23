package stackd

import (
	"encoding/binary"
	"net/netip"
	"strconv"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"ionet/protocol"
	"ionet/stack/arp"
	"ionet/stack/netif"
	"ionet/stack/packet"
	"ionet/stack/route"
	"ionet/stack/socket"
)

// routeFrame serves a frame of the door 17: one or several routing messages.
// The routes among them are one batch of the table. The reply is one frame
// with a message for each, in order, or more frames if it does not fit.
func (c *conn) routeFrame(b []byte) {
	batch := routeBatches.Get().(*routeBatch)
	batch.c = c
	defer batch.recycle()
	for len(b) > 0 {
		var m protocol.RouteMessage
		rest, err := m.Decode(b)
		if err != nil {
			batch.commit()
			batch.malformed(b)
			break
		}
		raw := b[:len(b)-len(rest)]
		b = rest
		batch.take(&m, raw)
	}
	batch.commit()
	batch.flush()
}

// routeBatch gathers a frame's wishes and its reply.
type routeBatch struct {
	c     *conn
	ops   []route.Op
	raws  [][]byte // the requests that the ops came from
	reply []byte
}

// routeBatches keeps batches with the room they have grown to: a routing
// daemon's frames come by the thousand.
var routeBatches = sync.Pool{New: func() any { return new(routeBatch) }}

// recycle gives the batch back; it keeps hold of nothing but its room.
func (rb *routeBatch) recycle() {
	rb.c = nil
	clear(rb.ops[:cap(rb.ops)])
	clear(rb.raws[:cap(rb.raws)])
	routeBatches.Put(rb)
}

// offsets in rt_msghdr
const (
	rtmFlags = 8
	rtmPID   = 16
	rtmErrno = 24
)

// malformed answers what was no message with an RTM_GET that failed.
func (rb *routeBatch) malformed(b []byte) {
	m := protocol.RouteMessage{Type: protocol.RTMGet, Errno: unix.EINVAL, PID: int(rb.c.credentials.Pid)}
	if len(b) >= 4 && b[3] >= protocol.RTMAdd && b[3] <= protocol.RTMLock {
		m.Type = int(b[3])
	}
	if len(b) >= 3 && b[2] != protocol.RTMVersion {
		m.Errno = unix.EPROTONOSUPPORT
	}
	rb.add(protocol.AppendMessage(nil, &m))
}

func (rb *routeBatch) add(b []byte) {
	if len(rb.reply)+len(b) > protocol.MaxFrame {
		rb.flush()
	}
	rb.reply = append(rb.reply, b...)
}

func (rb *routeBatch) flush() {
	if len(rb.reply) > 0 {
		rb.c.send(rb.reply)
		rb.reply = rb.reply[:0]
	}
}

// echo answers a request by itself, done or with the error's number.
func (rb *routeBatch) echo(raw []byte, err error) {
	rb.add(raw)
	h := rb.reply[len(rb.reply)-len(raw):]
	flags := binary.LittleEndian.Uint32(h[rtmFlags:]) | protocol.RTFDone
	if err != nil {
		flags &^= protocol.RTFDone
		binary.LittleEndian.PutUint32(h[rtmErrno:], uint32(protocol.AsError(err).Errno))
	}
	binary.LittleEndian.PutUint32(h[rtmFlags:], flags)
	if binary.LittleEndian.Uint32(h[rtmPID:]) == 0 {
		binary.LittleEndian.PutUint32(h[rtmPID:], uint32(rb.c.credentials.Pid))
	}
}

// take handles a message: changes of the table wait for the batch, all else
// is done when the batch before it is.
func (rb *routeBatch) take(m *protocol.RouteMessage, raw []byte) {
	c := rb.c
	if m.Type != protocol.RTMGet {
		if err := c.privileged("change routes"); err != nil {
			rb.commit()
			rb.echo(raw, err)
			return
		}
	}
	switch m.Type {
	case protocol.RTMAdd, protocol.RTMDelete, protocol.RTMChange:
		if rb.neighbour(m, raw) {
			return
		}
		op, err := c.op(m)
		if err != nil {
			rb.commit()
			rb.echo(raw, err)
			return
		}
		rb.ops, rb.raws = append(rb.ops, op), append(rb.raws, raw)
	case protocol.RTMGet:
		rb.commit()
		rb.get(m, raw)
	case protocol.RTMLock:
		rb.commit()
		rb.echo(raw, c.lock(m))
	default:
		rb.commit()
		rb.echo(raw, unix.EOPNOTSUPP)
	}
}

// commit carries out the ops and answers them.
func (rb *routeBatch) commit() {
	if len(rb.ops) == 0 {
		return
	}
	errs := rb.c.s.routes.update(rb.c, rb.ops)
	for i, err := range errs {
		if err == nil {
			rb.c.s.journal.route(rb.raws[i])
		}
		rb.echo(rb.raws[i], err)
	}
	rb.ops, rb.raws = rb.ops[:0], rb.raws[:0]
}

// userFlags are the route flags a request may set.
const userFlags = protocol.RTFUp | protocol.RTFGateway | protocol.RTFHost | protocol.RTFReject | protocol.RTFBlackhole |
	protocol.RTFCloning | protocol.RTFXResolve | protocol.RTFStatic | protocol.RTFProto1 | protocol.RTFProto2 | protocol.RTFMPath

// op is a message as an operation of the table.
func (c *conn) op(m *protocol.RouteMessage) (route.Op, error) {
	op := route.Op{Kind: route.Kind(m.Type), PID: c.opPID(), Seq: int32(m.Seq)}
	dst, host, err := c.s.destination(m)
	if err != nil {
		return op, err
	}
	op.Spec = route.Spec{Dst: dst, Host: host, Flags: m.Flags & userFlags}
	if m.Type == protocol.RTMDelete { // the gateway names one of equal routes
		op.Spec.Gateway = c.s.gateway(m, dst)
		return op, nil
	}
	s := &op.Spec
	ifs := &c.s.eng.Engine().Env.Ifs
	switch {
	case m.Gateway.Family == protocol.AFLink:
		if s.If, err = linkIf(ifs, m.Gateway.Link); err != nil {
			return op, err
		}
	case m.Gateway.IP.IsValid():
		s.Gateway = c.s.inside(m, m.Gateway.IP)
	case m.Type == protocol.RTMAdd:
		return op, unix.EINVAL
	}
	if m.Ifp.Family == protocol.AFLink {
		if s.If, err = linkIf(ifs, m.Ifp.Link); err != nil {
			return op, err
		}
	}
	if m.Ifa.IP.IsValid() {
		s.Src = c.s.inside(m, m.Ifa.IP)
	}
	if m.Genmask.IP.IsValid() {
		s.GenMask = m.Genmask.IP
	}
	if m.Inits != 0 || m.Metrics.Locks != 0 {
		s.Metrics = c.metrics(m, dst)
	}
	return op, nil
}

// opPID names the requester to the table; never 0, which names the stack.
func (c *conn) opPID() int32 {
	if c.credentials.Pid != 0 {
		return c.credentials.Pid
	}
	return -c.id // a process that our namespace does not see
}

// destination is a message's prefix; a mask with holes is EINVAL, a family
// that the stack does not speak EAFNOSUPPORT.
func (s *server) destination(m *protocol.RouteMessage) (p netip.Prefix, host bool, err error) {
	ip := s.inside(m, m.Dst.IP)
	switch {
	case ip.Is6() && s.eng.Engine().Inet6 == nil:
		return p, false, unix.EAFNOSUPPORT
	case !ip.IsValid():
		return p, false, unix.EINVAL
	case m.Netmask.Family == 0 || m.Flags&protocol.RTFHost != 0:
		return netip.PrefixFrom(ip, ip.BitLen()), true, nil
	case m.NetmaskBits < 0 || m.NetmaskBits > ip.BitLen():
		return p, false, unix.EINVAL
	}
	return netip.PrefixFrom(ip, m.NetmaskBits).Masked(), false, nil
}

// inside is an address of a message as the engine has it. One of a link is of
// that which its scope names, else of the interface that the message does.
func (s *server) inside(m *protocol.RouteMessage, ip netip.Addr) netip.Addr {
	index, _ := strconv.ParseUint(ip.Zone(), 10, 32)
	ip = ip.WithZone("")
	if !packet.IsLinkScoped(ip) {
		return ip
	}
	for _, a := range []*protocol.Addr{&m.Ifp, &m.Gateway} {
		if index == 0 && a.Family == protocol.AFLink {
			if ifp, err := linkIf(&s.eng.Engine().Env.Ifs, a.Link); err == nil {
				index = uint64(ifp.Index)
			}
		}
	}
	return packet.Scoped(ip, uint32(index))
}

func linkIf(ifs *netif.Table, l protocol.LinkAddr) (*netif.Interface, error) {
	ifp := ifs.ByIndex(uint32(l.Index))
	if l.Name != "" {
		ifp = ifs.ByName(l.Name)
	}
	if ifp == nil {
		return nil, unix.ENXIO
	}
	return ifp, nil
}

// metrics are the present ones of the route, with those that the message
// sets in their place.
func (c *conn) metrics(m *protocol.RouteMessage, dst netip.Prefix) *route.Metrics {
	var x route.Metrics
	if m.Type != protocol.RTMAdd {
		if r, err := c.s.eng.Engine().Routes.GetBy(dst, c.s.gateway(m, dst)); err == nil && r.Metrics != nil {
			x = *r.Metrics
		}
	}
	in := &m.Metrics
	set := func(bit uint32) bool { return m.Inits&bit != 0 }
	if set(protocol.RTVMTU) {
		x.MTU = uint32(min(in.MTU, 1<<32-1))
	}
	if set(protocol.RTVHopcount) {
		x.Hopcount = uint32(min(in.Hopcount, 1<<32-1))
	}
	if set(protocol.RTVExpire) {
		x.Expire = int64(in.Expire)
	}
	if set(protocol.RTVRpipe) {
		x.RecvPipe = in.Rpipe
	}
	if set(protocol.RTVSpipe) {
		x.SendPipe = in.Spipe
	}
	if set(protocol.RTVSsthresh) {
		x.SSThresh = in.Ssthresh
	}
	if set(protocol.RTVRTT) {
		x.RTT = in.RTT
	}
	if set(protocol.RTVRTTVar) {
		x.RTTVar = in.RTTVar
	}
	x.Locks = x.Locks&^m.Inits | uint32(in.Locks)
	return &x
}

// lock serves RTM_LOCK: it sets the locks of the metrics that Inits names. Of equal
// routes the gateway names one.
func (c *conn) lock(m *protocol.RouteMessage) error {
	dst, host, err := c.s.destination(m)
	if err != nil {
		return err
	}
	gw := c.s.gateway(m, dst)
	r, err := c.s.eng.Engine().Routes.GetBy(dst, gw)
	if err != nil {
		return err
	}
	if r.Flags&protocol.RTFMPath == 0 {
		gw = netip.Addr{} // it need not be named, and stays
	}
	var x route.Metrics
	if r.Metrics != nil {
		x = *r.Metrics
	}
	x.Locks = x.Locks&^m.Inits | uint32(m.Metrics.Locks)&m.Inits
	return c.s.routes.update(c, []route.Op{{Kind: route.Change, PID: c.opPID(), Seq: int32(m.Seq),
		Spec: route.Spec{Dst: dst, Host: host, Gateway: gw, Flags: r.Flags, Metrics: &x}}})[0]
}

// gateway is that of a message, which names one of equal routes to dst; not valid: none.
func (s *server) gateway(m *protocol.RouteMessage, dst netip.Prefix) netip.Addr {
	if gw := s.inside(m, m.Gateway.IP); gw.BitLen() == dst.Addr().BitLen() {
		return gw
	}
	return netip.Addr{}
}

// neighbour serves what concerns a neighbour and not the table: messages with
// RTF_LLINFO, and the deletion of a host that only ARP or ND knows.
func (rb *routeBatch) neighbour(m *protocol.RouteMessage, raw []byte) bool {
	eng := rb.c.s.eng.Engine()
	dst, host, err := rb.c.s.destination(m)
	if err != nil {
		return false
	}
	hub := &rb.c.s.routes
	remove := func() error {
		return hub.asking(rb.c, m, dst.Addr(), func() error { return eng.DeleteNeighbour(dst.Addr()) })
	}
	// arp(8) marks a published entry by a netmask of all ones.
	full := m.Netmask.Family != 0 && dst.IsSingleIP()
	if m.Flags&protocol.RTFLLInfo == 0 {
		if m.Type != protocol.RTMDelete || !host {
			return false
		}
		rb.commit()
		if _, err := eng.Routes.GetExact(dst); err == nil || remove() != nil {
			return false
		}
		rb.echo(raw, nil)
		return true
	}
	rb.commit()
	err = unix.EINVAL
	switch {
	case m.Type == protocol.RTMDelete:
		if err = remove(); err != nil {
			err = unix.ESRCH
		}
	case m.Gateway.Family == protocol.AFLink && m.Gateway.Link.Len == 6:
		var ifp *netif.Interface
		if m.Gateway.Link.Index != 0 || m.Gateway.Link.Name != "" {
			if ifp, err = linkIf(&eng.Env.Ifs, m.Gateway.Link); err != nil {
				break
			}
		} else if _, index := packet.Unscoped(dst.Addr()); index != 0 {
			ifp = eng.Env.Ifs.ByIndex(index)
		}
		var flags uint8
		if full {
			flags |= arp.Published
		}
		if m.Flags&protocol.RTFProto2 != 0 {
			flags |= arp.Published | arp.ProxyOnly
		}
		life := int64(0)
		if m.Inits&protocol.RTVExpire != 0 && m.Metrics.Expire != 0 {
			life = max(int64(m.Metrics.Expire)-rb.c.s.eng.Wall(rb.c.s.eng.Now()).Unix(), 1)
		}
		err = hub.asking(rb.c, m, dst.Addr(), func() error {
			return eng.AddNeighbour(ifp, dst.Addr(), netif.MAC(m.Gateway.Link.Octet[:6]), flags, life)
		})
	}
	if err == nil {
		rb.c.s.journal.route(raw)
	}
	rb.echo(raw, err)
	return true
}

// get serves RTM_GET: a neighbour, else the route that packets take; with
// a netmask exactly that route.
func (rb *routeBatch) get(m *protocol.RouteMessage, raw []byte) {
	s := rb.c.s
	eng := s.eng.Engine()
	dst, host, err := s.destination(m)
	var out protocol.RouteMessage
	switch {
	case err != nil:
	case !host && m.Netmask.Family != 0:
		var r route.Route
		if r, err = eng.Routes.GetExact(dst); err == nil {
			out = s.routeMessage(&r, true)
			rb.complete(&out, &r, dst.Addr())
		}
	default:
		if n, ok := s.neighbour(dst.Addr()); ok {
			out = s.neighbourMessage(&n)
			rb.complete(&out, &route.Route{Spec: route.Spec{If: n.If}}, n.IP)
			break
		}
		if m.Flags&protocol.RTFLLInfo != 0 {
			err = syscall.ESRCH
			break
		}
		var r route.Route
		if r, err = eng.Routes.Get(dst.Addr()); err == nil {
			out = s.routeMessage(&r, true)
			rb.complete(&out, &r, dst.Addr())
			if mtu, ok := eng.Cache.MTU(dst.Addr(), s.eng.Now()); ok {
				out.Metrics.MTU, out.Inits = uint64(mtu), out.Inits|protocol.RTVMTU
			}
		}
	}
	if err != nil {
		rb.echo(raw, err)
		return
	}
	out.PID, out.Seq = m.PID, m.Seq
	if out.PID == 0 {
		out.PID = int(rb.c.credentials.Pid)
	}
	rb.add(protocol.AppendMessage(nil, &out))
}

// complete adds what a dump leaves out: the interface with its MTU where the
// route has none, and its address, in inet6 the one that packets to dst leave
// with.
func (rb *routeBatch) complete(m *protocol.RouteMessage, r *route.Route, dst netip.Addr) {
	if r.If == nil {
		return
	}
	m.Ifp = protocol.LinkAddrOf(linkAddr(r.If))
	if m.Metrics.MTU == 0 {
		m.Metrics.MTU, m.Inits = uint64(r.If.MTU()), m.Inits|protocol.RTVMTU
	}
	src := r.Src
	if dst.IsUnspecified() && r.Gateway.IsValid() {
		dst = r.Gateway // of the default route: what its gateway is spoken to with
	}
	if dst.Is6() {
		if best, err := rb.c.s.eng.Engine().Inet6.Source(&socket.Flow{Dst: dst}); err == nil {
			src = best
		}
	}
	if !src.IsValid() {
		for _, a := range r.If.Addrs() {
			if a.Addr.Is4() == m.Dst.IP.Is4() {
				src = a.Addr
				break
			}
		}
	}
	m.Ifa = sockaddr(src)
}
