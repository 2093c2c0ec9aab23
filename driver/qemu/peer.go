package qemu

import (
	"net"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"ionet/stack/netif"
	"ionet/stack/packet"
)

// peer is the socket that sends datagrams to a path. The kernel holds few of
// them for a receiver (net.unix.max_dgram_qlen, 10 unless told otherwise), so
// that the fragments of one large datagram would not get through: what it
// does not take at once waits in a queue here.
type peer struct {
	path string

	mu sync.Mutex
	// conn is connected to the path, or nil while nobody has been found there.
	// While frames wait only drain sends on it.
	conn *net.UnixConn
	raw  syscall.RawConn
	// queue is what waits, in order. Owner: who holds mu. Bound: maxQueue
	// octets. Full: the frame is dropped and counted in ifp.
	queue   []*packet.Buf
	octets  int
	waiting bool // in the queue or in the hands of drain
	ifp     *netif.Interface
	closed  bool

	kick chan struct{} // there is something for drain
	gone chan struct{} // closed by close
}

func newPeer(path string) *peer {
	return &peer{path: path, kick: make(chan struct{}, 1), gone: make(chan struct{})}
}

// send takes over a burst and never waits.
func (p *peer) send(ifp *netif.Interface, burst []*packet.Buf) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ifp = ifp
	for _, b := range burst {
		switch {
		case p.closed || !sound(b.Len()):
			p.drop(b)
		case p.waiting:
			p.wait(b)
		default:
			p.try(b)
		}
	}
}

// try sends a frame before which none waits. The peer may have been replaced
// by another at the same path since the last: then it is found again.
func (p *peer) try(b *packet.Buf) {
	for range 2 {
		if p.conn == nil && !p.dial() {
			break
		}
		var err error
		if p.raw.Control(func(fd uintptr) { err = transmit(fd, b) }) == nil {
			switch err {
			case nil:
				b.Free()
				return
			case unix.EAGAIN:
				p.wait(b)
				return
			}
		}
		p.hangUp()
	}
	p.drop(b)
}

func (p *peer) wait(b *packet.Buf) {
	if p.octets+b.Len() > maxQueue {
		p.drop(b)
		return
	}
	p.queue = append(p.queue, b)
	p.octets += b.Len()
	p.waiting = true
	select {
	case p.kick <- struct{}{}:
	default: // drain knows
	}
}

func (p *peer) drop(b *packet.Buf) {
	if p.ifp != nil {
		p.ifp.Stats.OutDrops.Add(1)
	}
	b.Free()
}

func (p *peer) dial() bool {
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: p.path, Net: "unixgram"})
	if err != nil {
		return false
	}
	raw, err := conn.SyscallConn()
	if err != nil {
		conn.Close()
		return false
	}
	_ = conn.SetWriteBuffer(1 << 20) // best effort: the kernel caps it
	p.conn, p.raw = conn, raw
	return true
}

func (p *peer) hangUp() {
	if p.conn != nil {
		p.conn.Close()
		p.conn, p.raw = nil, nil
	}
}

func transmit(fd uintptr, b *packet.Buf) error {
	for {
		_, err := unix.SendmsgN(int(fd), b.Bytes(), nil, nil, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
		if err != unix.EINTR {
			return err
		}
	}
}

// drain sends what waits, as the peer takes it, until close.
func (p *peer) drain() {
	for {
		select {
		case <-p.kick:
		case <-p.gone:
			return
		}
		for b, raw := p.next(); b != nil; b, raw = p.next() {
			err := p.write(raw, b)
			if err != nil { // another may be at the path by now, as for try
				if raw = p.again(); raw != nil {
					err = p.write(raw, b)
				}
			}
			p.done(b, err)
		}
	}
}

// write sends a frame when the peer takes it.
func (*peer) write(raw syscall.RawConn, b *packet.Buf) (err error) {
	if e := raw.Write(func(fd uintptr) bool { err = transmit(fd, b); return err != unix.EAGAIN }); e != nil {
		return e
	}
	return err
}

// again finds who is at the path now, or answers nil.
func (p *peer) again() syscall.RawConn {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.hangUp()
	if p.closed || !p.dial() {
		return nil
	}
	return p.raw
}

// next takes the first frame off the queue, or ends the waiting.
func (p *peer) next() (*packet.Buf, syscall.RawConn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || p.conn == nil && !p.dial() {
		p.flush()
	}
	if len(p.queue) == 0 {
		p.waiting = false
		return nil, nil
	}
	b := p.queue[0]
	p.queue[0] = nil
	p.queue = p.queue[1:]
	p.octets -= b.Len()
	return b, p.raw
}

// done frees a frame of next. With an error the peer has gone, and what waits
// for it goes too.
func (p *peer) done(b *packet.Buf, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err == nil {
		b.Free()
		return
	}
	p.drop(b)
	p.hangUp()
	p.flush()
}

func (p *peer) flush() {
	for _, b := range p.queue {
		p.drop(b)
	}
	p.queue, p.octets = nil, 0
}

// close drops what waits and ends drain. It may be called twice.
func (p *peer) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return
	}
	p.closed = true
	close(p.gone)
	p.hangUp()
	p.flush()
}
