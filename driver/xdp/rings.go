package xdp

import (
	"fmt"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ring is one of a socket's four rings (Linux, Documentation/networking/af_xdp.rst):
// entries between a producer's and a consumer's count, one of which is ours.
type ring[T uint64 | unix.XDPDesc] struct {
	mem      []byte
	producer *uint32
	consumer *uint32
	flags    *uint32
	entries  []T
	ours     uint32 // our count, not told yet
}

// newRing makes a ring of n entries, a power of two, of a socket.
func newRing[T uint64 | unix.XDPDesc](fd, option int, n int, at unix.XDPRingOffset, page int64) (r ring[T], err error) {
	var entry T
	r.mem, err = unix.Mmap(fd, page, int(at.Desc)+n*int(unsafe.Sizeof(entry)), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_POPULATE)
	if err != nil {
		return r, fmt.Errorf("mmap of ring %d: %w", option, err)
	}
	word := func(off uint64) *uint32 { return (*uint32)(unsafe.Pointer(&r.mem[off])) }
	r.producer, r.consumer, r.flags = word(at.Producer), word(at.Consumer), word(at.Flags)
	r.entries = unsafe.Slice((*T)(unsafe.Pointer(&r.mem[at.Desc])), n)
	return r, nil
}

func (r *ring[T]) unmap() {
	if r.mem != nil {
		_ = unix.Munmap(r.mem)
		r.mem = nil
	}
}

// at is entry i from our count on.
func (r *ring[T]) at(i int) *T { return &r.entries[(r.ours+uint32(i))&uint32(len(r.entries)-1)] }

// filled is how many entries the kernel has produced for us. A count that no
// kernel would tell is the whole ring.
func (r *ring[T]) filled() int {
	return int(min(atomic.LoadUint32(r.producer)-r.ours, uint32(len(r.entries))))
}

// consumed gives back the first n of them.
func (r *ring[T]) consumed(n int) {
	r.ours += uint32(n)
	atomic.StoreUint32(r.consumer, r.ours)
}

// pending is how many of our entries the kernel has not consumed yet.
func (r *ring[T]) pending() int {
	return int(min(r.ours-atomic.LoadUint32(r.consumer), uint32(len(r.entries))))
}

// produced hands over n entries from our count on.
func (r *ring[T]) produced(n int) {
	r.ours += uint32(n)
	atomic.StoreUint32(r.producer, r.ours)
}

// wakeup reports that the kernel looks at the ring only when it is told to.
func (r *ring[T]) wakeup() bool {
	return atomic.LoadUint32(r.flags)&unix.XDP_RING_NEED_WAKEUP != 0
}
