package stackd

import (
	"errors"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"ionet/protocol"
	"ionet/stack/netif"
	"ionet/stack/socket"
)

// sock is a client's socket. Lock order: sock, then conn, or the socket's
// own. A lock of ours is held while the engine is called, but never at the end
// of host.Call, where the upcalls run.
type sock struct {
	c  *conn
	id uint32
	so *socket.Socket // nil: the connection has failed, and err is what is left of it

	// parked: requests that wait for something to come. Owner: the socket.
	// Bound: kern.client.waiting a client. Full: ENOBUFS.
	mu     sync.Mutex
	parked []*waiter
	closed bool
	wants  uint32 // IP_RECV… options that are on, by number

	stream // of a stream socket
}

// maxDatagram is the largest datagram, IP header included.
const maxDatagram = 65535

// waiter is a request that is answered later.
type waiter struct {
	h     protocol.Header
	flags int
	size  int
	data  []byte // of a send
	timer *time.Timer
}

func (c *conn) cred() socket.Cred {
	return socket.Cred{UID: int(c.credentials.Uid), PID: int(c.credentials.Pid), Super: c.super}
}

// newSocket serves TypeSocket.
func (c *conn) newSocket(p []byte) (uint32, error) {
	typ, proto, family, err := protocol.ParseSocket(p)
	if err != nil {
		return 0, err
	}
	if family == 0 {
		family = uint16(c.family)
	}
	if err := c.s.takeSocket(c); err != nil {
		return 0, err
	}
	sk := &sock{c: c}
	c.s.eng.Call(func(w *netif.Work) {
		sk.so, err = c.s.eng.Engine().Socket(w, int(family), int(typ), int(proto), c.cred())
		if err == nil {
			sk.so.SetUpcall(sk.upcall)
			if sk.so.Type == socket.Stream {
				sk.so.SetUpcall(sk.streamUpcall)
			}
		}
	})
	if err != nil {
		c.s.dropSocket(c)
		return 0, err
	}
	c.adopt(sk) // only the worker that has the client ends it
	return sk.id, nil
}

// adopt gives the socket to the client, with a number; false when the client
// has gone.
func (c *conn) adopt(sk *sock) bool {
	c.own.Lock()
	defer c.own.Unlock()
	if c.empty {
		return false
	}
	sk.id = c.freeID()
	c.socks[sk.id] = sk
	return true
}

// disown takes a number from the client; what had it is still to be closed.
func (c *conn) disown(id uint32) {
	c.own.Lock()
	delete(c.socks, id)
	c.own.Unlock()
}

// sock and capture are what the client owns under a number, or nil.
func (c *conn) sock(id uint32) *sock {
	c.own.Lock()
	defer c.own.Unlock()
	return c.socks[id]
}

func (c *conn) capture(id uint32) *capture {
	c.own.Lock()
	defer c.own.Unlock()
	return c.caps[id]
}

// freeID is an unused number for a socket or capture, never 0. The caller
// holds c.own.
func (c *conn) freeID() uint32 {
	c.lastID++
	for c.socks[c.lastID] != nil || c.caps[c.lastID] != nil || c.lastID == 0 {
		c.lastID++
	}
	return c.lastID
}

// close ends the socket; receives that wait are answered EBADF.
func (sk *sock) close() {
	sk.mu.Lock()
	sk.closed = true
	waiting := sk.parked
	sk.parked = nil
	sk.mu.Unlock()
	for _, r := range waiting {
		sk.answer(r, unix.EBADF)
	}
	sk.c.s.eng.Call(func(w *netif.Work) { sk.so.Close(w) })
	sk.c.s.dropSocket(sk.c)
}

// answer ends a parked request with an error.
func (sk *sock) answer(r *waiter, err error) {
	sk.unpark(r)
	sk.c.reply(r.h, err, nil)
}

// unpark gives back what the waiting of r has taken.
func (sk *sock) unpark(r *waiter) {
	if r.timer != nil {
		r.timer.Stop()
	}
	sk.c.unpark()
}

// park charges a waiting request to the client.
func (c *conn) park() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.parked >= c.s.limit(nodeClientParked) {
		c.s.refused(cntRefusedWait)
		return errf(unix.ENOBUFS, "%d requests wait already", c.parked)
	}
	c.parked++
	return nil
}

func (c *conn) unpark() {
	c.mu.Lock()
	c.parked--
	c.mu.Unlock()
}

// recv serves TypeRecv: at once if it can, else when something comes.
func (sk *sock) recv(h protocol.Header, p []byte) error {
	var flags, size uint32
	if err := protocol.ParseU32(p, &flags, &size); err != nil {
		return err
	}
	r := &waiter{h: h, flags: int(flags), size: int(min(size, maxDatagram))}
	sk.mu.Lock()
	defer sk.mu.Unlock()
	if len(sk.parked) == 0 {
		served := false
		// Nothing of this socket's is woken by taking a datagram: no upcall
		// meets the lock that is held here.
		sk.c.s.eng.Call(func(w *netif.Work) { served = sk.serve(w, r) })
		if served {
			return nil
		}
	}
	if r.flags&protocol.MsgDontWait != 0 {
		return unix.EAGAIN
	}
	d, _ := sk.so.Timeouts()
	return sk.park(r, d)
}

// park has r wait, for at most d unless that is 0; EAGAIN then. The caller
// holds sk.mu.
func (sk *sock) park(r *waiter, d time.Duration) error {
	if err := sk.c.park(); err != nil {
		return err
	}
	if d > 0 {
		r.timer = time.AfterFunc(d, func() { sk.abandon(r, unix.EAGAIN) })
	}
	sk.parked = append(sk.parked, r)
	return nil
}

// abandon answers r with err if it still waits.
func (sk *sock) abandon(r *waiter, err error) bool {
	sk.mu.Lock()
	i := slices.Index(sk.parked, r)
	if i >= 0 {
		sk.parked = slices.Delete(sk.parked, i, i+1)
	}
	sk.mu.Unlock()
	if i >= 0 {
		sk.answer(r, err)
	}
	return i >= 0
}

// cancel answers the request tag with EINTR if it waits here.
func (sk *sock) cancel(tag uint32) bool {
	sk.mu.Lock()
	i := slices.IndexFunc(sk.parked, func(r *waiter) bool { return r.h.Tag == tag })
	var r *waiter
	if i >= 0 {
		r = sk.parked[i]
	}
	sk.mu.Unlock()
	return r != nil && sk.abandon(r, unix.EINTR)
}

// upcall answers what waits while there is something to answer it with.
func (sk *sock) upcall(w *netif.Work) {
	sk.mu.Lock()
	defer sk.mu.Unlock()
	for len(sk.parked) > 0 && sk.serve(w, sk.parked[0]) {
		sk.unpark(sk.parked[0])
		sk.parked = slices.Delete(sk.parked, 0, 1)
	}
}

// serve tries to answer r. The caller holds sk.mu.
func (sk *sock) serve(w *netif.Work, r *waiter) bool {
	data := frames.Get().(*[]byte)
	defer frames.Put(data)
	m := socket.Msg{Data: (*data)[:r.size], Flags: r.flags & (protocol.MsgPeek | protocol.MsgOOB)}
	err := sk.so.Recv(w, &m)
	switch {
	case errors.Is(err, unix.EWOULDBLOCK):
		return false
	case err != nil:
		sk.c.reply(r.h, err, nil)
		return true
	}
	b := frames.Get().(*[]byte)
	*b = sk.appendMsg(protocol.AppendReply((*b)[:0], r.h), &m)
	if len(*b) > protocol.MaxFrame { // headers that are told of twice, by the old names too
		m.Control, m.Flags = nil, m.Flags|protocol.MsgCtrunc
		*b = sk.appendMsg(protocol.AppendReply((*b)[:0], r.h), &m)
	}
	sk.c.send(*b)
	frames.Put(b)
	return true
}

// closeAll ends all that a client owned.
func (c *conn) closeAll() {
	c.own.Lock()
	socks, caps := c.socks, c.caps
	c.socks, c.caps, c.ended, c.empty = nil, nil, nil, true
	c.own.Unlock()
	for _, sk := range socks {
		switch {
		case sk.so == nil:
			c.s.dropSocket(c)
		case sk.so.Type == socket.Stream:
			sk.closeStream(protocol.Header{})
		default:
			sk.close()
		}
	}
	for _, cp := range caps {
		cp.close()
	}
	c.s.filter.logs.remove(c, 0, true)
}

// appendMsg is a received datagram as the client sees it.
func (sk *sock) appendMsg(b []byte, m *socket.Msg) []byte {
	out := protocol.Msg{Flags: uint32(m.Flags), Addr: protoAddr(sk.so.Family, m.Addr), Data: m.Data}
	a := protocol.Ancillary{TTL: -1}
	if sk.so.Opt(socket.SOTimestamp) {
		a.Time = sk.c.s.eng.Wall(m.Time)
	}
	if sk.want(protocol.IPRecvDstAddr) {
		a.Dst = m.Dst
	}
	if sk.want(protocol.IPRecvTTL) {
		a.TTL = int(m.TTL)
	}
	if sk.want(protocol.IPRecvIf) {
		a.If = protocol.LinkAddr{Index: int(m.IfIndex)}
		if ifp := sk.c.s.eng.Engine().Env.Ifs.ByIndex(m.IfIndex); ifp != nil {
			a.If = linkAddr(ifp)
		}
	}
	out.Control = protocol.AppendAncillary(nil, a)
	for _, c := range m.Control {
		out.Control = protocol.AppendControl(out.Control, protocol.Control(c))
	}
	return protocol.AppendMsg(b, out)
}

// want reports whether an option of IPv4's level is on. What a socket of
// IPv6 asks for the engine tells by itself.
func (sk *sock) want(name int) bool { return sk.wants&(1<<name) != 0 && sk.so.Family == socket.AFInet }

// noteOption keeps what the client wants as control messages, so that
// a datagram costs no look-up of options, and the sizes that a stream's
// descriptor is to have.
func (sk *sock) noteOption(level, name int, value []byte) {
	if level == protocol.SolSocket && (name == protocol.SoSndBuf || name == protocol.SoRcvBuf) {
		n, _ := socket.Int32(value)
		sk.mu.Lock()
		if name == protocol.SoSndBuf {
			sk.sndbuf = n
		} else {
			sk.rcvbuf = n
		}
		sk.mu.Unlock()
	}
	if level != protocol.ProtoIP || name != protocol.IPRecvDstAddr && name != protocol.IPRecvTTL && name != protocol.IPRecvIf {
		return
	}
	n, _ := socket.Int32(value)
	sk.mu.Lock()
	defer sk.mu.Unlock()
	if sk.wants &^= 1 << name; n != 0 {
		sk.wants |= 1 << name
	}
}

// protoAddr is an address of a socket of a family; with none the wildcard.
func protoAddr(family int, a socket.Addr) protocol.Addr {
	out := protocol.Addr{Family: family, IP: a.IP, Port: a.Port}
	switch {
	case !a.IP.IsValid() && family == socket.AFInet6:
		out.IP = netip.IPv6Unspecified()
	case !a.IP.IsValid():
		out.IP = netip.IPv4Unspecified()
	case a.Scope != 0:
		out.IP = a.IP.WithZone(strconv.Itoa(int(a.Scope)))
	}
	return out
}

// sockAddr is a client's address for a socket call of that family. Family 0
// is taken for the socket's own, as the original's bind did; a connect
// without address dissolves the association.
func sockAddr(family int, a protocol.Addr) (socket.Addr, error) {
	switch {
	case a.Family == 0:
		return socket.Addr{}, nil
	case a.Family != family:
		return socket.Addr{}, errf(unix.EAFNOSUPPORT, "an address of family %d on a socket of family %d", a.Family, family)
	}
	out := socket.Addr{IP: a.IP.WithZone(""), Port: a.Port}
	if z := a.IP.Zone(); z != "" {
		n, _ := strconv.ParseUint(z, 10, 32)
		out.Scope = uint32(n)
	}
	return out, nil
}
