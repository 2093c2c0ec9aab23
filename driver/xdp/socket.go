package xdp

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"

	"ionet/driver/internal/waiter"
	"ionet/driver/vnet"
	"ionet/stack/packet"
)

const (
	// ringFrames is the size of each ring, and half of the frames of a socket.
	ringFrames = 2048
	// linkHeader is an Ethernet header with a VLAN tag.
	linkHeader = vnet.EtherLen + 4
	// maxFrame is the largest frame: the kernel takes no chunk larger than a
	// page, and keeps some of it to itself.
	maxFrame = 4096 - unix.XDP_PACKET_HEADROOM
)

// socket is one AF_XDP socket: a receive queue of an interface, and a way to
// send. Its memory is cut into chunks of one frame each; the first ringFrames
// of them are to receive into, the others to send from.
type socket struct {
	chunk int
	umem  []byte
	rx    ring[unix.XDPDesc]
	fill  ring[uint64]
	wait  *waiter.Waiter
	lost  atomic.Uint64

	sending sync.Mutex // guards what follows
	tx      ring[unix.XDPDesc]
	done    ring[uint64] // the completion ring
	free    []uint64     // chunks to send from

	mu      sync.RWMutex // guards fd against closing
	fd      int
	closed  bool
	running bool // the receiver unmaps the memory
}

// newSocket binds a socket to a receive queue, for frames of size octets.
func newSocket(index, queue, size int) (s *socket, err error) {
	s = &socket{chunk: 2048, fd: -1}
	if size > s.chunk-unix.XDP_PACKET_HEADROOM {
		s.chunk = 4096
	}
	if s.fd, err = unix.Socket(unix.AF_XDP, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0); err != nil {
		return nil, explain("an AF_XDP socket", err)
	}
	if err = s.open(index, queue); err != nil {
		_ = s.close()
		return nil, err
	}
	return s, nil
}

func (s *socket) open(index, queue int) (err error) {
	if s.umem, err = unix.Mmap(-1, 0, 2*ringFrames*s.chunk, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_POPULATE); err != nil {
		return os.NewSyscallError("mmap", err)
	}
	reg := unix.XDPUmemReg{Addr: uint64(uintptr(unsafe.Pointer(&s.umem[0]))), Len: uint64(len(s.umem)), Size: uint32(s.chunk)}
	switch err := option(s.fd, unix.XDP_UMEM_REG, &reg); err {
	case nil:
	case unix.ENOBUFS:
		return fmt.Errorf("to lock %d MiB of memory: %w; it takes CAP_IPC_LOCK or a higher ulimit -l", len(s.umem)>>20, err)
	default:
		return fmt.Errorf("XDP_UMEM_REG: %w", err)
	}
	for _, o := range []int{unix.XDP_UMEM_FILL_RING, unix.XDP_UMEM_COMPLETION_RING, unix.XDP_RX_RING, unix.XDP_TX_RING} {
		if err := unix.SetsockoptInt(s.fd, unix.SOL_XDP, o, ringFrames); err != nil {
			return fmt.Errorf("ring %d of %d entries: %w", o, ringFrames, err)
		}
	}
	// Best effort: as much at a time as the ring holds, where the kernel is new.
	_ = unix.SetsockoptInt(s.fd, unix.SOL_XDP, unix.XDP_MAX_TX_SKB_BUDGET, ringFrames)
	var at unix.XDPMmapOffsets
	n := uint32(unsafe.Sizeof(at))
	if _, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(s.fd), unix.SOL_XDP, unix.XDP_MMAP_OFFSETS, uintptr(unsafe.Pointer(&at)), uintptr(unsafe.Pointer(&n)), 0); errno != 0 || uintptr(n) != unsafe.Sizeof(at) {
		return fmt.Errorf("XDP_MMAP_OFFSETS: %w, %d octets; it takes Linux 5.9", errno, n)
	}
	if s.rx, err = newRing[unix.XDPDesc](s.fd, unix.XDP_RX_RING, ringFrames, at.Rx, unix.XDP_PGOFF_RX_RING); err != nil {
		return err
	}
	if s.tx, err = newRing[unix.XDPDesc](s.fd, unix.XDP_TX_RING, ringFrames, at.Tx, unix.XDP_PGOFF_TX_RING); err != nil {
		return err
	}
	if s.fill, err = newRing[uint64](s.fd, unix.XDP_UMEM_FILL_RING, ringFrames, at.Fr, unix.XDP_UMEM_PGOFF_FILL_RING); err != nil {
		return err
	}
	if s.done, err = newRing[uint64](s.fd, unix.XDP_UMEM_COMPLETION_RING, ringFrames, at.Cr, unix.XDP_UMEM_PGOFF_COMPLETION_RING); err != nil {
		return err
	}
	for i := range ringFrames {
		*s.fill.at(i) = uint64(i * s.chunk)
		s.free = append(s.free, uint64((ringFrames+i)*s.chunk))
	}
	s.fill.produced(ringFrames)
	if s.wait, err = waiter.New(s.fd, s.control); err != nil {
		return err
	}
	switch err := unix.Bind(s.fd, &unix.SockaddrXDP{Flags: unix.XDP_USE_NEED_WAKEUP, Ifindex: uint32(index), QueueID: uint32(queue)}); err {
	case nil:
		return nil
	case unix.EBUSY:
		return fmt.Errorf("bind: %w; another AF_XDP socket has it", err)
	case unix.EPERM:
		return explain("bind", err)
	default:
		return fmt.Errorf("bind: %w", err)
	}
}

// option sets an option of a socket that is a structure.
func option(fd, name int, reg *unix.XDPUmemReg) error {
	if _, _, errno := unix.Syscall6(unix.SYS_SETSOCKOPT, uintptr(fd), unix.SOL_XDP, uintptr(name), uintptr(unsafe.Pointer(reg)), unsafe.Sizeof(*reg), 0); errno != 0 {
		return errno
	}
	return nil
}

// close ends the receiver. It may be called twice.
func (s *socket) close() error {
	s.sending.Lock()
	defer s.sending.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	err := unix.Close(s.fd)
	if s.wait != nil {
		err = errors.Join(err, s.wait.Close())
	}
	if !s.running {
		s.unmap()
	}
	return err
}

// unmap frees what the socket shared with the kernel, when nobody sends or
// receives any more.
func (s *socket) unmap() {
	s.rx.unmap()
	s.tx.unmap()
	s.fill.unmap()
	s.done.unmap()
	if s.umem != nil {
		_ = unix.Munmap(s.umem)
		s.umem = nil
	}
}

// control calls f with the descriptor, unless it is closed.
func (s *socket) control(f func(fd int)) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if !s.closed {
		f(s.fd)
	}
}

func (s *socket) isClosed() bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.closed
}

// losses is how many frames have found no room so far.
func (s *socket) losses() uint64 {
	s.control(func(fd int) {
		var st unix.XDPStatistics
		size := uint32(unsafe.Sizeof(st))
		if _, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_XDP, unix.XDP_STATISTICS, uintptr(unsafe.Pointer(&st)), uintptr(unsafe.Pointer(&size)), 0); errno == 0 {
			s.lost.Store(st.Rx_dropped + st.Rx_ring_full)
		}
	})
	return s.lost.Load()
}

// send copies frames to the transmit ring and has the kernel send them. It
// answers how many found no room; the caller frees them.
func (s *socket) send(burst []*packet.Buf) (drops int) {
	for len(burst) > 0 {
		n, refused, ok := s.put(burst)
		drops += refused
		if !ok {
			return drops + len(burst)
		}
		s.kick()
		burst = burst[n:]
	}
	return drops
}

// put produces as many frames of a burst as there are chunks for. It answers
// how many it has dealt with, those among them that are no frames for this
// link, and whether there was a chunk at all.
func (s *socket) put(burst []*packet.Buf) (n, refused int, ok bool) {
	s.sending.Lock()
	defer s.sending.Unlock()
	if s.isClosed() {
		return 0, 0, false
	}
	for i := s.done.filled(); i > 0; i-- {
		if at := *s.done.at(0); s.sends(at) {
			s.free = append(s.free, at)
		}
		s.done.consumed(1)
	}
	k := 0
	for ; n < len(burst) && k < len(s.free) && s.tx.pending()+k < ringFrames; n++ {
		f := burst[n].Bytes()
		if len(f) < vnet.EtherLen || len(f) > s.chunk {
			refused++
			continue
		}
		at := s.free[len(s.free)-1-k]
		copy(s.umem[at:], f)
		*s.tx.at(k) = unix.XDPDesc{Addr: at, Len: uint32(len(f))}
		k++
	}
	s.free = s.free[:len(s.free)-k]
	s.tx.produced(k)
	return n, refused, n > 0
}

// sends reports that a chunk is one to send from, and not out of place.
func (s *socket) sends(at uint64) bool {
	return at >= uint64(ringFrames*s.chunk) && at < uint64(len(s.umem)) && at%uint64(s.chunk) == 0 && len(s.free) < ringFrames
}

// kick has the kernel send what is in the transmit ring. Older kernels take a
// few frames a call.
func (s *socket) kick() {
	s.control(func(fd int) {
		for range ringFrames / 16 {
			if !s.tx.wakeup() {
				return
			}
			_, _, errno := unix.Syscall6(unix.SYS_SENDTO, uintptr(fd), 0, 0, unix.MSG_DONTWAIT, 0, 0)
			if errno != unix.EAGAIN && errno != unix.EINTR || s.tx.pending() == 0 {
				return
			}
		}
	})
}
