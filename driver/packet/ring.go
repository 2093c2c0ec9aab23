package packet

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
	"sync"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"

	"ionet/driver"
	"ionet/driver/internal/frames"
	"ionet/driver/internal/waiter"
	"ionet/driver/vnet"
	"ionet/stack/netif"
	"ionet/stack/packet"
)

const (
	ringOctets = 8 << 20
	blockSize  = 64 << 10
	minSlot    = 2 << 10
	maxSlot    = 16 << 10
	// slotHead is where the kernel puts a frame in a slot: tpacket2_hdr and
	// sockaddr_ll, the vnet header, and what aligns the network header.
	slotHead = 96
	// ringBurst is the most frames that are handed up at a time.
	ringBurst = 64
)

// ring is a packet socket whose frames arrive in memory that it shares with
// the kernel (packet(7), PACKET_RX_RING, TPACKET_V2), and leave many a system
// call. A frame larger than a slot, a super-packet, waits in the socket's
// queue, and its slot says so: it is copied once, as without a ring.
//
// TPACKET_V3 would spare the kernel some work a frame, but hands a frame up
// when its block is full or after a millisecond, and no sooner.
type ring struct {
	mem  []byte
	slot int
	next int // slot that the kernel fills next; the receiver's

	wait *waiter.Waiter
	lost atomic.Uint64 // frames for which the ring had no room

	mu      sync.RWMutex // guards fd against closing; senders share it
	fd      int
	closed  bool
	running bool // Receive unmaps mem
}

// slotSize is the slot for frames of an interface's MTU. Frames beyond what is
// usual on Ethernet are left to the socket's queue.
func slotSize(mtu int) int {
	n := mtu + vnet.EtherLen + slotHead
	if n > maxSlot {
		return minSlot
	}
	return max(minSlot, 1<<bits.Len(uint(n-1)))
}

// newRing dresses a packet socket, non-blocking and not bound yet, with a ring.
// The descriptor is taken over if there is no error.
func newRing(fd, mtu int) (*ring, error) {
	r := &ring{fd: fd, slot: slotSize(mtu)}
	if err := unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_VERSION, unix.TPACKET_V2); err != nil {
		return nil, fmt.Errorf("PACKET_VERSION: %w", err)
	}
	// A frame that does not fit is to be queued whole.
	if err := unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_COPY_THRESH, 1); err != nil {
		return nil, fmt.Errorf("PACKET_COPY_THRESH: %w", err)
	}
	req := unix.TpacketReq{Block_size: blockSize, Block_nr: ringOctets / blockSize, Frame_size: uint32(r.slot), Frame_nr: uint32(ringOctets / r.slot)}
	if err := unix.SetsockoptTpacketReq(fd, unix.SOL_PACKET, unix.PACKET_RX_RING, &req); err != nil {
		return nil, fmt.Errorf("PACKET_RX_RING of %d octets: %w", ringOctets, err)
	}
	var err error
	if r.wait, err = waiter.New(fd, r.Control); err == nil {
		if r.mem, err = unix.Mmap(fd, 0, ringOctets, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED); err != nil {
			_ = r.wait.Close()
			err = fmt.Errorf("mmap of %d octets: %w", ringOctets, err)
		}
	}
	if err != nil {
		_ = unix.SetsockoptTpacketReq(fd, unix.SOL_PACKET, unix.PACKET_RX_RING, new(unix.TpacketReq))
		return nil, err
	}
	return r, nil
}

// Close ends Receive. It may be called twice.
func (r *ring) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return nil
	}
	r.closed = true
	err := errors.Join(r.wait.Close(), unix.Close(r.fd))
	if !r.running {
		err = errors.Join(err, unix.Munmap(r.mem))
	}
	return err
}

// Control calls f with the descriptor, unless it is closed.
func (r *ring) Control(f func(fd int)) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if !r.closed {
		f(r.fd)
	}
}

func (r *ring) isClosed() bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.closed
}

// Send takes over a burst and writes its frames. What the socket does not take
// at once is dropped and counted in ifp.
func (r *ring) Send(ifp *netif.Interface, burst []*packet.Buf) {
	drops := len(burst)
	r.Control(func(fd int) { drops = frames.WriteBurst(fd, true, burst) })
	if drops > 0 && ifp != nil {
		ifp.Stats.OutDrops.Add(uint64(drops))
	}
	packet.FreeBurst(burst)
}

// Receive hands frames to sink in bursts until the ring is closed or the socket
// fails; closed answers nil. A failure that again(err) calls passing does not
// end it.
func (r *ring) Receive(sink driver.Sink, again func(error) bool) error {
	r.mu.Lock()
	if r.closed {
		r.mu.Unlock()
		return nil
	}
	r.running = true
	r.mu.Unlock()
	defer unix.Munmap(r.mem) //nolint:errcheck // it was mapped
	sink.Receiving()
	c := collector{ring: r, sink: sink, pool: sink.Pool()}
	for !r.isClosed() {
		if n := c.ready(); n > 0 {
			c.take(n)
			continue
		}
		if err := r.wait.Wait(); err != nil && !r.isClosed() && !again(err) {
			return err
		}
	}
	return nil
}

// collector makes packets of the frames in the ring.
type collector struct {
	*ring
	sink  driver.Sink
	pool  *packet.Pool
	slots [ringBurst]slot
	sizes [ringBurst]int
	bufs  [ringBurst]*packet.Buf
	burst [ringBurst]*packet.Buf
	waste [vnet.Size]byte // what is read of a frame that nobody takes
}

// ready looks at the slots that the kernel has filled, and answers how many.
func (c *collector) ready() (n int) {
	for n < ringBurst {
		s := c.at(n)
		status := atomic.LoadUint32((*uint32)(unsafe.Pointer(&s[0])))
		if status&unix.TP_STATUS_USER == 0 {
			break
		}
		c.slots[n] = readSlot(status, s)
		n++
	}
	return n
}

// at is slot i from the next one on.
func (r *ring) at(i int) []byte {
	off := (r.next + i) * r.slot
	if off >= len(r.mem) {
		off -= len(r.mem)
	}
	return r.mem[off : off+r.slot : off+r.slot]
}

// take hands up the frames of n slots and gives the slots back.
func (c *collector) take(n int) {
	losing := false
	for i := range n {
		c.sizes[i] = c.slots[i].size
	}
	frames.Buffers(c.pool, c.bufs[:n], c.sizes[:n])
	k, bad, dropped := 0, 0, 0
	for i := range n {
		s, b := &c.slots[i], c.bufs[i]
		c.bufs[i] = nil
		losing = losing || s.status&unix.TP_STATUS_LOSING != 0
		err := c.fill(s, b)
		switch {
		case err == nil:
			c.burst[k] = b
			k++
			continue
		case err == errNoBuffer:
			dropped++
		default:
			bad++
		}
		if b != nil {
			b.Free()
		}
	}
	for i := range n {
		atomic.StoreUint32((*uint32)(unsafe.Pointer(&c.at(i)[0])), unix.TP_STATUS_KERNEL)
	}
	if c.next += n; c.next >= len(c.mem)/c.slot {
		c.next -= len(c.mem) / c.slot
	}
	if k > 0 {
		c.sink.Input(c.burst[:k])
	}
	if losing {
		dropped += c.losses()
	}
	if dropped > 0 {
		c.sink.Dropped(dropped)
	}
	if bad > 0 {
		c.sink.Malformed(bad)
	}
}

// losses is how many frames have found no room in the ring since it was asked
// last.
func (r *ring) losses() (n int) {
	r.Control(func(fd int) {
		if s, err := unix.GetsockoptTpacketStats(fd, unix.SOL_PACKET, unix.PACKET_STATISTICS); err == nil {
			n = int(s.Drops)
		}
	})
	r.lost.Add(uint64(n))
	return n
}

var (
	errNoBuffer = errors.New("no buffer")
	errCut      = errors.New("the frame was cut")
	errLength   = errors.New("no frame is of this length")
)

// fill makes b, which may be nil, the frame of s.
func (c *collector) fill(s *slot, b *packet.Buf) error {
	queued := s.status&unix.TP_STATUS_COPY != 0
	switch {
	case queued && (b == nil || s.bad):
		c.Control(func(fd int) { _, _ = unix.Read(fd, c.waste[:]) })
	case queued:
		return c.queued(s, b)
	}
	switch {
	case s.bad:
		return errLength
	case b == nil, len(s.frame) < s.size: // cut: the socket's queue had no room for it
		return errNoBuffer
	}
	copy(b.Append(s.size), s.frame)
	return vnet.Get(s.head, b)
}

// queued reads a frame that was too large for its slot.
func (c *collector) queued(s *slot, b *packet.Buf) (err error) {
	room := b.Storage()[packet.Headroom-vnet.Size:][:vnet.Size+s.size]
	n := 0
	c.Control(func(fd int) { n, err = unix.Read(fd, room) })
	if err == nil && n != len(room) {
		err = errCut
	}
	if err != nil {
		return err
	}
	b.SetWindow(packet.Headroom, packet.Headroom+s.size)
	return vnet.Get(room, b)
}

// slot is what the kernel says in a slot of the ring:
//
//	 0  u32  status
//	 4  u32  length of the frame
//	 8  u32  octets of it in the slot
//	12  u16  where they begin; the vnet header is in front of them
type slot struct {
	status uint32
	size   int // of the frame; 1 when bad
	head   []byte
	frame  []byte // what of it is in the slot
	bad    bool
}

// readSlot reads a slot. What does not fit it is bad.
func readSlot(status uint32, s []byte) slot {
	size, in, at := binary.NativeEndian.Uint32(s[4:]), int(binary.NativeEndian.Uint32(s[8:])), int(binary.NativeEndian.Uint16(s[12:]))
	if size < vnet.EtherLen || size > packet.MaxPacket || uint64(in) > uint64(size) ||
		at < unix.SizeofTpacket2Hdr+vnet.Size || at > len(s) || in > len(s)-at {
		return slot{status: status, size: 1, bad: true}
	}
	return slot{status: status, size: int(size), head: s[at-vnet.Size : at], frame: s[at : at+in]}
}
