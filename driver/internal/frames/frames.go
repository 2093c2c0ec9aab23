// Package frames moves frames through a descriptor that takes and gives one
// frame a system call: a TAP queue, a packet socket, a datagram socket.
// Sockets take many by [WriteBurst]. A TAP does not, and its reads and writes
// in batches of io_uring(7) were measured: the call is so little of what they
// take that nothing is won, and reads complete out of order.
package frames

import (
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"ionet/driver"
	"ionet/driver/vnet"
	"ionet/stack/netif"
	"ionet/stack/packet"
)

const (
	// burstSize is the most frames read before they are handed up.
	burstSize = 64
	// largeFrame is where copying a frame costs more than reading it straight
	// into a buffer of the largest class.
	largeFrame = 12 << 10
	// burstOctets is where a burst ends whose frames are large: what is made of it is read again while
	// it is still in the processor's cache.
	burstOctets = 256 << 10
)

// Conn is one such descriptor. Send may be called by several goroutines at
// once, Receive by one.
type Conn struct {
	file *os.File
	raw  syscall.RawConn
	head int // octets of vnet header in front of a frame
	join bool
	uso  bool

	mu     sync.RWMutex // guards fd against closing; senders share it
	fd     int
	closed bool
}

// New takes over fd. Each frame has a vnet header in front of it when vnetHeader
// is set.
func New(fd int, name string, vnetHeader bool) (*Conn, error) {
	if err := unix.SetNonblock(fd, true); err != nil {
		unix.Close(fd)
		return nil, os.NewSyscallError("fcntl", err)
	}
	c := &Conn{file: os.NewFile(uintptr(fd), name), fd: fd}
	if vnetHeader {
		c.head = vnet.Size
	}
	var err error
	if c.raw, err = c.file.SyscallConn(); err != nil {
		c.file.Close()
		return nil, err
	}
	return c, nil
}

// Join has segments that follow each other written as one super-packet. The descriptor is
// no socket, and its frames have a vnet header; with uso it takes datagrams so, too.
func (c *Conn) Join(uso bool) { c.join, c.uso = true, uso }

// Close ends Receive. It may be called twice.
func (c *Conn) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil
	}
	c.closed = true
	return c.file.Close()
}

func (c *Conn) isClosed() bool {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.closed
}

// Control calls f with the descriptor, unless it is closed.
func (c *Conn) Control(f func(fd int)) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if !c.closed {
		f(c.fd)
	}
}

// Send takes over a burst and writes its frames. What the descriptor does not
// take at once is dropped and counted in ifp.
func (c *Conn) Send(ifp *netif.Interface, burst []*packet.Buf) {
	drops := 0
	c.mu.RLock()
	switch {
	case c.closed:
		drops = len(burst)
	case c.join:
		drops = writeJoined(c.fd, c.uso, burst)
	default:
		for _, b := range burst {
			if !c.write(b) {
				drops++
			}
		}
	}
	c.mu.RUnlock()
	if drops > 0 && ifp != nil {
		ifp.Stats.OutDrops.Add(uint64(drops))
	}
	packet.FreeBurst(burst)
}

// write changes the window of b, whose octets are not read again.
func (c *Conn) write(b *packet.Buf) bool {
	if b.Len() < vnet.EtherLen {
		return false
	}
	if c.head > 0 {
		var h [vnet.Size]byte
		vnet.Put(h[:], b)
		if b.Headroom() < c.head {
			return c.gather(h, b.Bytes())
		}
		copy(b.Prepend(c.head), h[:])
	}
	for refused := false; ; {
		n, err := unix.Write(c.fd, b.Bytes())
		switch {
		case err == unix.EINTR:
		case err == unix.ECONNREFUSED && !refused: // the fate of an earlier datagram
			refused = true
		default:
			return err == nil && n == b.Len()
		}
	}
}

// gather is write for a frame without headroom, which is rare.
func (c *Conn) gather(h [vnet.Size]byte, frame []byte) bool {
	n, err := unix.Writev(c.fd, [][]byte{h[:], frame})
	return err == nil && n == len(h)+len(frame)
}

// receiver is the state of one Receive. Reading goes to the scratch, and the
// frame is copied to a buffer of its size; while frames are large they are
// read straight into buffers instead.
type receiver struct {
	c       *Conn
	sink    driver.Sink
	pool    *packet.Pool
	scratch []byte
	burst   [burstSize]*packet.Buf
	n       int
	octets  int // of the burst
	large   bool
	spare   *packet.Buf // of the largest class, within one burst only
	err     error
}

// Receive hands frames to sink in bursts until the descriptor is closed or
// fails; closed answers nil. A failure that again(err) calls passing does not
// end it.
func (c *Conn) Receive(sink driver.Sink, again func(error) bool) error {
	r := &receiver{c: c, sink: sink, pool: sink.Pool(), scratch: make([]byte, packet.MaxPacket+vnet.Size)}
	sink.Receiving()
	read := r.read // one method value for all rounds
	for {
		err := c.raw.Read(read)
		if r.n > 0 {
			sink.Input(r.burst[:r.n])
			r.n, r.octets = 0, 0
		}
		switch {
		case c.isClosed():
			return nil
		case err != nil:
			return err
		case r.err != nil && !again(r.err):
			return r.err
		}
		r.err = nil
	}
}

// read fills the burst from fd. False has the caller wait for more.
func (r *receiver) read(fd uintptr) bool {
	defer r.dropSpare()
	for r.n < burstSize && r.octets < burstOctets {
		buf := r.space()
		n, err := unix.Read(int(fd), buf)
		switch err {
		case nil:
		case unix.EINTR:
			continue
		case unix.EAGAIN:
			return r.n > 0
		default:
			r.err = err
			return true
		}
		r.take(buf[:n])
		if n == 0 { // the other end may have gone: let Close come through
			return true
		}
	}
	return true
}

// space is where the next frame is read to, vnet header first.
func (r *receiver) space() []byte {
	if r.large && r.spare == nil {
		r.spare = r.pool.Get(packet.MaxPacket)
	}
	if r.spare == nil {
		return r.scratch
	}
	return r.spare.Storage()[packet.Headroom-r.c.head:]
}

// take makes a frame of what was read.
func (r *receiver) take(buf []byte) {
	head := r.c.head
	n := len(buf) - head
	if n < vnet.EtherLen || n > packet.MaxPacket {
		r.sink.Malformed(1)
		return
	}
	r.large = n > largeFrame
	var b *packet.Buf
	if r.large && r.spare != nil {
		b, r.spare = r.spare, nil
		b.SetWindow(packet.Headroom, packet.Headroom+n)
	} else if b = r.pool.Get(n); b != nil {
		copy(b.Append(n), buf[head:])
	} else {
		r.sink.Dropped(1)
		return
	}
	if head > 0 {
		if err := vnet.Get(buf, b); err != nil {
			b.Free()
			r.sink.Malformed(1)
			return
		}
	}
	r.burst[r.n] = b
	r.n++
	r.octets += n
}

func (r *receiver) dropSpare() {
	if r.spare != nil {
		r.spare.Free()
		r.spare = nil
	}
}
