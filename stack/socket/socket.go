// Package socket is the BSD socket: options, buffers, readiness; and the
// tables of protocol control blocks that datagram and stream protocols share.
//
// Sockets here never wait. A call that would block answers EWOULDBLOCK, and
// the upcall tells when to try again; waiting belongs to the host.
package socket

import (
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"ionet/stack/netif"
	"ionet/stack/packet"
)

// Address families (BSD's numbers).
const (
	AFInet  = 2
	AFInet6 = 24
)

// Socket types.
const (
	Stream = 1
	Dgram  = 2
	Raw    = 3
)

// Addr is the address of a socket of any family. An invalid IP means none.
//
// In calls of a [Socket] an IPv6 address of one link is as on the wire, with its
// interface beside it, and one of IPv4 is mapped (::ffff:192.0.2.1) if the socket
// is of IPv6. Control blocks and all below have the interface in the address
// (packet.Scoped), no Scope, and IPv4 addresses as such.
type Addr struct {
	IP    netip.Addr
	Port  uint16
	Scope uint32 // interface index of an address of one link
}

// Cred is who owns a socket.
type Cred struct {
	UID, PID int
	Super    bool
}

// Msg flags (BSD's MSG_*). MsgElsewhere is ionet's own: a datagram goes to its
// address though the socket has a peer, if that is of the same version of IP.
const (
	MsgOOB       = 0x1
	MsgPeek      = 0x2
	MsgDontRoute = 0x4
	MsgTrunc     = 0x10
	MsgBcast     = 0x100
	MsgMcast     = 0x200
	MsgElsewhere = 0x10000
)

// Elsewhere reports whether m may be sent to its address by a socket whose peer is
// at peer.
func (m *Msg) Elsewhere(peer netip.Addr) bool {
	return m.Flags&MsgElsewhere != 0 && m.Addr.IP.Is4() == peer.Is4()
}

// Msg is a datagram, or a piece of a stream, as a socket call sees it.
type Msg struct {
	Addr  Addr   // destination, or source
	Data  []byte // Recv copies into it and sets its length
	Flags int
	Size  int // Recv: the datagram's whole size

	// What the receiver may ask for as ancillary data.
	Dst     netip.Addr
	IfIndex uint32
	TTL     uint8
	Time    int64 // arrival, nanoseconds of the stack's clock

	Control []Cmsg // Send: wishes for this packet; Recv: what options have asked for
}

// SOL_SOCKET options.
const (
	SOAcceptConn = 0x2 // read only
	SOReuseAddr  = 0x4
	SOKeepAlive  = 0x8
	SODontRoute  = 0x10
	SOBroadcast  = 0x20
	SOLinger     = 0x80
	SOOOBInline  = 0x100
	SOReusePort  = 0x200
	SOTimestamp  = 0x400
	SOSndBuf     = 0x1001
	SORcvBuf     = 0x1002
	SOSndLowat   = 0x1003
	SORcvLowat   = 0x1004
	SOSndTimeo   = 0x1005
	SORcvTimeo   = 0x1006
	SOError      = 0x1007
	SOType       = 0x1008
	SOBindToIf   = 0x100b

	soFlags = 0x1 | SOReuseAddr | SOKeepAlive | SODontRoute | SOBroadcast | 0x40 | SOOOBInline | SOReusePort | SOTimestamp

	// LevelSocket is SOL_SOCKET.
	LevelSocket = 0xffff
)

// Handler is the protocol below a socket, one value a socket (pr_usrreqs).
// Its methods are called without the socket's lock; their addresses are those of
// control blocks.
type Handler interface {
	Bind(w *netif.Work, a Addr) error
	Connect(w *netif.Work, a Addr) error // an invalid a.IP dissolves the association
	Send(w *netif.Work, m *Msg) (int, error)
	Shutdown(w *netif.Work, read, write bool) error
	Close(w *netif.Work)
	Local() Addr
	Peer() Addr
	// SetOption and Option serve every level but SOL_SOCKET; ENOPROTOOPT.
	SetOption(w *netif.Work, level, name int, value []byte) error
	Option(level, name int) ([]byte, error)
	// Describe fills in what a received packet says of its sender and way.
	Describe(pkt *packet.Buf, m *Msg)
}

// StreamHandler is the protocol below a stream socket. The buffers of a stream
// are the protocol's own.
type StreamHandler interface {
	Handler
	// Listen makes the socket passive, with room for backlog connections that
	// nobody has accepted yet. EINVAL: it is connected.
	Listen(w *netif.Work, backlog int) error
	// Accept takes the oldest connection. EWOULDBLOCK: there is none; EINVAL:
	// the socket does not listen.
	Accept(w *netif.Work) (*Socket, error)
	// Recv is [Socket.Recv] for a stream.
	Recv(w *netif.Work, m *Msg) error
	// Poll is the readiness of the stream; pending errors are the socket's.
	Poll() Events
	// Queued are the octets that wait to be received, and those that wait to
	// be sent or acknowledged.
	Queued() (recv, send int)
	// Buffers are the sizes of the buffers; SetBuffer fixes one, which then
	// tunes itself no longer. SetLowat is SO_SNDLOWAT and SO_RCVLOWAT.
	Buffers() (recv, send int)
	SetBuffer(w *netif.Work, send bool, n int)
	// Abort ends the connection at once, with a reset.
	Abort(w *netif.Work)
	// Listening reports whether connections are accepted here.
	Listening() bool
}

// Packer is a stream's [Handler] that knows how many octets of a write fill a
// packet, so that who has more can give whole ones.
type Packer interface{ Packet() int }

// FlagWatcher is a [Handler] that acts when a flag option (SOKeepAlive, …)
// changes.
type FlagWatcher interface {
	FlagChanged(w *netif.Work, flag uint32)
}

// Events are a socket's readiness. A stream that is being connected is
// nothing of it; one whose connection failed is all but Urgent.
type Events uint8

const (
	Readable Events = 1 << iota // data, the end of it, an error, or a connection to accept
	Writable                    // connected, and there is room; or an error says at once why not
	Error
	HangUp // both directions have ended
	Urgent // out-of-band data waits, or its mark is reached
)

// Socket is one socket.
type Socket struct {
	Family, Type, Proto int
	Cred                Cred
	H                   Handler

	env    *netif.Env
	opts   atomic.Uint32
	bindIf atomic.Uint32
	v6only atomic.Bool
	ID     uint64 // unique in the stack: netstat's PCB address

	mu       sync.Mutex
	err      syscall.Errno
	upcall   func(w *netif.Work)
	onClose  func()
	rcv      queue
	rcvHiwat int
	sndHiwat int
	rcvTimeo time.Duration
	sndTimeo time.Duration
	rcvLowat atomic.Int32 // read for every segment
	sndLowat atomic.Int32
	linger   int32 // seconds; -1: off
	cantRecv bool
	closed   bool
	waking   bool
	sum      *atomic.Int64 // octets of storage in all sockets of the stack
}

// queue is a list of received packets. Owner: the socket. Bound: rcvHiwat
// octets of payload and twice that of storage; full: the packet is refused
// and the protocol counts it.
type queue struct {
	head, tail *packet.Buf
	payload    int
	charge     int
}

// New makes a socket; the protocol then sets H. sum is the stack's tally of
// socket memory.
func New(env *netif.Env, family, typ, proto int, cred Cred, rcv, snd int, id uint64, sum *atomic.Int64) *Socket {
	so := &Socket{Family: family, Type: typ, Proto: proto, Cred: cred, env: env,
		rcvHiwat: rcv, sndHiwat: snd, linger: -1, ID: id, sum: sum}
	so.v6only.Store(family == AFInet6 && env.MIB.On(nodeV6Only))
	so.rcvLowat.Store(1)
	so.sndLowat.Store(2048)
	return so
}

// stream is the handler of a stream socket; nil for others.
func (so *Socket) stream() StreamHandler {
	if so.Type != Stream {
		return nil
	}
	return so.H.(StreamHandler)
}

// Opt reports whether a flag option (SOBroadcast, …) is set.
func (so *Socket) Opt(flag uint32) bool { return so.opts.Load()&flag != 0 }

// BoundIf is the index of the interface that SOBindToIf names, or 0.
func (so *Socket) BoundIf() uint32 { return so.bindIf.Load() }

// SetUpcall has f called whenever readiness may have changed. f must not
// block, and is called without locks.
func (so *Socket) SetUpcall(f func(w *netif.Work)) {
	so.mu.Lock()
	so.upcall = f
	so.mu.Unlock()
}

// OnClose has f called once, when the socket is closed.
func (so *Socket) OnClose(f func()) { so.onClose = f }

// Wake is netif.Waker.
func (so *Socket) Wake(w *netif.Work) {
	so.mu.Lock()
	so.waking = false
	f := so.upcall
	so.mu.Unlock()
	if f != nil {
		f(w)
	}
}

func (so *Socket) wakeLocked(w *netif.Work) {
	if so.upcall != nil && !so.waking {
		so.waking = true
		w.WakeLater(so)
	}
}

// Changed has the upcall made at the end of the call: a protocol says so when
// the readiness of its stream may have changed. It may be called under the
// protocol's locks.
func (so *Socket) Changed(w *netif.Work) {
	so.mu.Lock()
	so.wakeLocked(w)
	so.mu.Unlock()
}

// Lowat are SO_RCVLOWAT and SO_SNDLOWAT.
func (so *Socket) Lowat() (recv, send int) {
	return int(so.rcvLowat.Load()), int(so.sndLowat.Load())
}

// Linger is SO_LINGER: false when it is off.
func (so *Socket) Linger() (time.Duration, bool) {
	so.mu.Lock()
	defer so.mu.Unlock()
	return time.Duration(so.linger) * time.Second, so.linger >= 0
}

// Inherit gives a socket that has just been accepted the options of the one
// that listened.
func (so *Socket) Inherit(from *Socket) {
	so.opts.Store(from.opts.Load())
	so.bindIf.Store(from.bindIf.Load())
	so.v6only.Store(from.v6only.Load())
	from.mu.Lock()
	defer from.mu.Unlock()
	so.rcvTimeo, so.sndTimeo, so.linger = from.rcvTimeo, from.sndTimeo, from.linger
	so.rcvLowat.Store(from.rcvLowat.Load())
	so.sndLowat.Store(from.sndLowat.Load())
}

// Charge adds n octets to what the stack's sockets hold of its buffers, and
// Full reports that they hold their share.
func (so *Socket) Charge(n int) { so.sum.Add(int64(n)) }

// Full reports that all sockets together hold what they may.
func (so *Socket) Full() bool { return so.sum.Load() > so.env.Pool.Limit()/4*memoryShare }

// memoryShare is what all sockets together may hold of the stack's buffers, in
// quarters: who does not read must not keep the rest from working.
const memoryShare = 3

// Deliver queues a received packet, whose data window is the payload and
// whose L3 and L4 marks are set. It takes the packet over unless it reports
// false: no room, or closed.
func (so *Socket) Deliver(w *netif.Work, pkt *packet.Buf) bool {
	n := pkt.Len()
	if so.Full() {
		return false
	}
	so.mu.Lock()
	q := &so.rcv
	if so.closed || so.cantRecv || q.payload+n > so.rcvHiwat || q.charge+pkt.ShrunkCap() > 2*so.rcvHiwat {
		so.mu.Unlock()
		return false
	}
	pkt = pkt.Shrink() // only now: a packet that is refused stays the caller's
	c := pkt.Cap()
	pkt.Next = nil
	if q.tail == nil {
		q.head = pkt
	} else {
		q.tail.Next = pkt
	}
	q.tail = pkt
	q.payload += n
	q.charge += c
	so.wakeLocked(w)
	so.mu.Unlock()
	so.sum.Add(int64(c))
	return true
}

// Recv takes the next datagram. m.Data is where it goes; what does not fit is
// lost and MsgTrunc says so. With no datagram left (soreceive) the errors are
// the pending one, EWOULDBLOCK, and none with Size 0 after a shutdown. MsgOOB
// is EOPNOTSUPP (PRU_RCVOOB).
//
// Of a stream it takes what is there, up to the length of m.Data; Size 0 is
// its end. ENOTCONN before it is connected. With MsgOOB it takes the
// out-of-band octet: EINVAL when there is none, EWOULDBLOCK when it is still
// on its way.
func (so *Socket) Recv(w *netif.Work, m *Msg) error {
	if st := so.stream(); st != nil {
		err := st.Recv(w, m)
		if m.Addr.IP.IsValid() {
			m.Addr = so.leave(m.Addr)
		}
		return err
	}
	if m.Flags&MsgOOB != 0 {
		return syscall.EOPNOTSUPP
	}
	so.mu.Lock()
	pkt := so.rcv.head
	if pkt == nil {
		end, err := so.cantRecv || so.closed, so.err
		if m.Flags&MsgPeek == 0 {
			so.err = 0
		}
		so.mu.Unlock()
		if err != 0 {
			return err
		}
		if end {
			m.Data, m.Size = m.Data[:0], 0
			return nil
		}
		return syscall.EWOULDBLOCK
	}
	peek := m.Flags&MsgPeek != 0
	if !peek {
		so.rcv.pop()
		so.mu.Unlock()
		so.sum.Add(int64(-pkt.Cap()))
	}
	m.Flags = 0
	m.Size = pkt.Len()
	m.Data = m.Data[:copy(m.Data, pkt.Bytes())]
	if len(m.Data) < m.Size {
		m.Flags |= MsgTrunc
	}
	if pkt.Flags&packet.FlagBroadcast != 0 {
		m.Flags |= MsgBcast
	}
	if pkt.Flags&packet.FlagMulticast != 0 {
		m.Flags |= MsgMcast
	}
	m.Time, m.IfIndex, m.Control = pkt.Time, pkt.RcvIf, nil
	so.H.Describe(pkt, m)
	if so.Family != AFInet && m.Addr.IP.Is4() {
		m.Addr, m.Dst = so.leave(m.Addr), so.leave(Addr{IP: m.Dst}).IP
	}
	if peek {
		so.mu.Unlock()
		return nil
	}
	pkt.Free()
	return nil
}

func (q *queue) pop() {
	p := q.head
	q.head = p.Next
	if q.head == nil {
		q.tail = nil
	}
	p.Next = nil
	q.payload -= p.Len()
	q.charge -= p.Cap()
}

// Send hands a datagram to the protocol; MsgOOB is EOPNOTSUPP (PRU_SENDOOB). A stream takes what it has room for
// and answers how much that is; EWOULDBLOCK: no room now, ENOTCONN, EPIPE.
func (so *Socket) Send(w *netif.Work, m *Msg) (int, error) {
	if err := so.TakeError(); err != nil {
		return 0, err
	}
	if m.Flags&MsgOOB != 0 && so.Type != Stream {
		return 0, syscall.EOPNOTSUPP
	}
	if !m.Addr.IP.IsValid() {
		return so.H.Send(w, m)
	}
	to, err := so.enterTo(m.Addr)
	if err != nil {
		return 0, err
	}
	given := m.Addr
	m.Addr = to
	n, err := so.H.Send(w, m)
	m.Addr = given
	return n, err
}

// SetError notes an asynchronous error, which the next call reports.
func (so *Socket) SetError(w *netif.Work, err syscall.Errno) {
	so.mu.Lock()
	so.err = err
	so.wakeLocked(w)
	so.mu.Unlock()
}

// PendingError answers the pending error, and clears it if asked to.
func (so *Socket) PendingError(take bool) error {
	so.mu.Lock()
	defer so.mu.Unlock()
	err := so.err
	if take {
		so.err = 0
	}
	if err != 0 {
		return err
	}
	return nil
}

// TakeError answers and clears the pending error.
func (so *Socket) TakeError() error {
	so.mu.Lock()
	err := so.err
	so.err = 0
	closed := so.closed
	so.mu.Unlock()
	if closed {
		return syscall.EBADF
	}
	if err != 0 {
		return err
	}
	return nil
}

// Poll is the socket's readiness now.
func (so *Socket) Poll() (ev Events) {
	if st := so.stream(); st != nil {
		ev = st.Poll()
		so.mu.Lock()
		if so.err != 0 {
			ev |= Readable | Writable | Error
		}
		if so.closed {
			ev |= HangUp | Readable
		}
		so.mu.Unlock()
		return ev
	}
	so.mu.Lock()
	defer so.mu.Unlock()
	ev = Writable
	if so.rcv.head != nil || so.cantRecv || so.err != 0 {
		ev |= Readable
	}
	if so.err != 0 {
		ev |= Error
	}
	if so.closed {
		ev |= HangUp | Readable
	}
	return ev
}

// Queued is the number of payload octets waiting to be received (Recv-Q).
func (so *Socket) Queued() int {
	if st := so.stream(); st != nil {
		n, _ := st.Queued()
		return n
	}
	so.mu.Lock()
	defer so.mu.Unlock()
	return so.rcv.payload
}

// Unsent is the number of octets of a stream that wait to be sent or
// acknowledged (Send-Q), its end included; it falls to 0 some time after Close.
func (so *Socket) Unsent() int {
	if st := so.stream(); st != nil {
		_, n := st.Queued()
		return n
	}
	return 0
}

// SendSpace is the send buffer's size: the largest datagram.
func (so *Socket) SendSpace() int {
	so.mu.Lock()
	defer so.mu.Unlock()
	return so.sndHiwat
}

// Bind gives the socket its local address.
func (so *Socket) Bind(w *netif.Work, a Addr) error {
	a, err := so.enter(a)
	if err != nil {
		return err
	}
	return so.H.Bind(w, a)
}

// Connect fixes the peer; an address without IP dissolves the association. A
// stream's connection is made from now on (EINPROGRESS): it is Writable when
// it stands, and SOError says why it does not. EALREADY, EISCONN.
func (so *Socket) Connect(w *netif.Work, a Addr) error {
	a, err := so.enterTo(a)
	if err != nil {
		return err
	}
	return so.H.Connect(w, a)
}

// Listen has a stream socket accept connections. EOPNOTSUPP: not a stream.
func (so *Socket) Listen(w *netif.Work, backlog int) error {
	if st := so.stream(); st != nil {
		return st.Listen(w, backlog)
	}
	return syscall.EOPNOTSUPP
}

// Accept takes the oldest connection of a listening socket.
func (so *Socket) Accept(w *netif.Work) (*Socket, error) {
	if st := so.stream(); st != nil {
		return st.Accept(w)
	}
	return nil, syscall.EOPNOTSUPP
}

// Abort closes a stream socket with a reset; others are closed.
func (so *Socket) Abort(w *netif.Work) {
	if st := so.stream(); st != nil {
		st.Abort(w)
	}
	so.Close(w)
}

// Shutdown ends receiving, sending or both.
func (so *Socket) Shutdown(w *netif.Work, read, write bool) error {
	if err := so.H.Shutdown(w, read, write); err != nil {
		return err
	}
	if read && so.Type != Stream {
		so.mu.Lock()
		so.cantRecv = true
		so.wakeLocked(w)
		so.mu.Unlock()
		so.drain()
	}
	return nil
}

// Close ends the socket; what is queued to be received is freed. A stream goes
// on to send what it holds, and its end, without the socket; with SOLinger of
// no time it is reset. Whoever lingers waits for [Socket.Unsent] to be 0.
func (so *Socket) Close(w *netif.Work) {
	so.mu.Lock()
	if so.closed {
		so.mu.Unlock()
		return
	}
	so.closed = true
	so.wakeLocked(w)
	reset := so.linger == 0
	so.mu.Unlock()
	if st := so.stream(); st != nil && reset {
		st.Abort(w)
	}
	so.H.Close(w)
	so.drain()
	if so.onClose != nil {
		so.onClose()
	}
}

func (so *Socket) drain() {
	so.mu.Lock()
	q := so.rcv
	so.rcv = queue{}
	so.mu.Unlock()
	so.sum.Add(int64(-q.charge))
	for p := q.head; p != nil; {
		next := p.Next
		p.Free()
		p = next
	}
}
