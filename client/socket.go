package client

import (
	"cmp"
	"errors"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"ionet/protocol"
)

// deadline is a channel that closes at a time that can be moved.
type deadline struct {
	mu     sync.Mutex
	timer  *time.Timer
	c      chan struct{}
	closed bool
}

func newDeadline() *deadline { return &deadline{c: make(chan struct{})} }

func (d *deadline) wait() <-chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.c
}

// set moves the deadline; the zero time is never. It answers whether there
// was one to move, not shut yet.
func (d *deadline) set(t time.Time) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return false
	}
	if d.timer != nil {
		d.timer.Stop()
		d.timer = nil
	}
	select {
	case <-d.c:
		d.c = make(chan struct{})
	default:
	}
	if t.IsZero() {
		return true
	}
	c := d.c
	fire := func() {
		select {
		case <-c:
		default:
			close(c)
		}
	}
	if left := time.Until(t); left > 0 {
		d.timer = time.AfterFunc(left, func() {
			d.mu.Lock()
			defer d.mu.Unlock()
			if d.c == c {
				fire()
			}
		})
		return true
	}
	fire()
	return true
}

// shut lets everybody go for good; false when it was shut before.
func (d *deadline) shut() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return false
	}
	d.closed = true
	if d.timer != nil {
		d.timer.Stop()
	}
	select {
	case <-d.c:
	default:
		close(d.c)
	}
	return true
}

func (d *deadline) why() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return net.ErrClosed
	}
	return os.ErrDeadlineExceeded
}

// Socket is a socket of the stack. Addresses of one link have the index of
// their interface as zone here ("fe80::1%2"), and of a socket of AF_INET6 those of IPv4 are
// mapped (::ffff:10.0.0.1), in and out.
type Socket struct {
	s      *Stack
	id     uint32
	family int
	read   *deadline
}

// Socket makes a socket of the family of the door that s was opened at,
// AF_INET after [Open].
func (s *Stack) Socket(typ, proto int) (*Socket, error) { return s.SocketFamily(0, typ, proto) }

// SocketFamily is [Stack.Socket] with the family said. EAFNOSUPPORT: the stack
// does not have it, as AF_INET6 when it runs tcpip-v4.
func (s *Stack) SocketFamily(af, typ, proto int) (*Socket, error) {
	b, err := s.do(protocol.TypeSocket, 0, protocol.AppendSocket(nil, uint16(typ), uint16(proto), uint16(af)))
	if err != nil {
		return nil, err
	}
	k := &Socket{s: s, family: cmp.Or(af, s.family), read: newDeadline()}
	return k, protocol.ParseU32(b, &k.id)
}

// Family is AF_INET or AF_INET6 (protocol's numbers).
func (k *Socket) Family() int { return k.family }

// do is one request about the socket.
func (k *Socket) do(t protocol.Type, payload []byte) ([]byte, error) {
	b, err := k.s.do(t, k.id, payload)
	return b, k.closed(err)
}

// closed is net.ErrClosed for what the stack says of a socket that this
// program has closed.
func (k *Socket) closed(err error) error {
	if errors.Is(err, syscall.EBADF) && errors.Is(k.read.why(), net.ErrClosed) {
		return net.ErrClosed
	}
	return err
}

func (k *Socket) simple(t protocol.Type, payload []byte) error {
	_, err := k.do(t, payload)
	return err
}

// Bind gives the socket its own address.
func (k *Socket) Bind(a protocol.Addr) error {
	return k.simple(protocol.TypeBind, protocol.AppendSockaddr(nil, a))
}

// Listen has a stream socket accept connections, of which backlog may wait.
func (k *Socket) Listen(backlog int) error {
	return k.simple(protocol.TypeListen, protocol.AppendU32(nil, uint32(backlog)))
}

// Connect gives a datagram socket its peer; no address dissolves that.
// Streams are connected by [Stack.Dial].
func (k *Socket) Connect(a protocol.Addr) error {
	return k.simple(protocol.TypeConnect, protocol.AppendSockaddr(nil, a))
}

// Shutdown ends reading (0), writing (1) or both (2).
func (k *Socket) Shutdown(how int) error {
	return k.simple(protocol.TypeShutdown, protocol.AppendU32(nil, uint32(how)))
}

// Send sends one datagram and answers how many octets were taken.
func (k *Socket) Send(m protocol.Msg) (int, error) {
	b, err := k.do(protocol.TypeSend, protocol.AppendMsg(nil, m))
	if err != nil {
		return 0, err
	}
	var n uint32
	err = protocol.ParseU32(b, &n)
	return int(n), err
}

// Recv waits for a datagram of which at most size octets are kept; MSG_TRUNC
// in the answer's flags says that there were more. With MSG_DONTWAIT the
// error is EAGAIN when there is none, after the read deadline
// os.ErrDeadlineExceeded.
func (k *Socket) Recv(size int, flags uint32) (protocol.Msg, error) {
	b, err := k.s.callUntil(k.read.wait(), k.read.why, protocol.TypeRecv, k.id, protocol.AppendU32(nil, flags, uint32(size)))
	if err != nil {
		return protocol.Msg{}, k.closed(err)
	}
	return protocol.ParseMsg(b)
}

// SetReadDeadline moves the deadline of Recv, also of one that waits; the
// zero time is never.
func (k *Socket) SetReadDeadline(t time.Time) error {
	if !k.read.set(t) {
		return net.ErrClosed
	}
	return nil
}

// SetOption sets an option's octets.
func (k *Socket) SetOption(level, name int, value []byte) error {
	return k.simple(protocol.TypeSetsockopt, protocol.AppendSockOpt(nil, protocol.SockOpt{Level: level, Name: name, Value: value}))
}

// SetInt sets an option that is an int.
func (k *Socket) SetInt(level, name, value int) error {
	return k.SetOption(level, name, protocol.AppendU32(nil, uint32(value)))
}

// Option reads an option's octets.
func (k *Socket) Option(level, name int) ([]byte, error) {
	b, err := k.do(protocol.TypeGetsockopt, protocol.AppendSockOpt(nil, protocol.SockOpt{Level: level, Name: name}))
	if err != nil {
		return nil, err
	}
	r := protocol.NewReader(b)
	v := r.Bytes()
	return v, r.Close()
}

// Int reads an option that is an int, or a single octet.
func (k *Socket) Int(level, name int) (int, error) {
	b, err := k.Option(level, name)
	if err != nil {
		return 0, err
	}
	if len(b) == 1 {
		return int(b[0]), nil
	}
	var v uint32
	err = protocol.ParseU32(b, &v)
	return int(int32(v)), err
}

func (k *Socket) addr(t protocol.Type) (protocol.Addr, error) {
	b, err := k.do(t, nil)
	if err != nil {
		return protocol.Addr{}, err
	}
	return protocol.ParseAddr(b)
}

// LocalAddr is getsockname.
func (k *Socket) LocalAddr() (protocol.Addr, error) { return k.addr(protocol.TypeGetsockname) }

// PeerAddr is getpeername; ENOTCONN without a peer.
func (k *Socket) PeerAddr() (protocol.Addr, error) { return k.addr(protocol.TypeGetpeername) }

// Close ends the socket and every Recv on it.
func (k *Socket) Close() error {
	if !k.read.shut() {
		return net.ErrClosed
	}
	return k.simple(protocol.TypeClose, nil)
}
