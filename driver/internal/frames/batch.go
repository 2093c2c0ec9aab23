package frames

import (
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"

	"ionet/driver/vnet"
	"ionet/stack/packet"
)

// batchSize is the most frames that one system call takes.
const batchSize = 64

// message is struct mmsghdr.
type message struct {
	unix.Msghdr
	sent uint32
}

// batch is room for one call of sendmmsg(2).
type batch struct {
	msgs  [batchSize]message
	iovs  [batchSize][2]unix.Iovec
	heads [batchSize][vnet.Size]byte // of frames without headroom
}

var batches = sync.Pool{New: func() any {
	t := new(batch)
	for i := range t.msgs {
		t.msgs[i].Iov = &t.iovs[i][0]
	}
	return t
}}

// WriteBurst writes frames to the socket fd, many a system call, each behind
// its vnet header when vnetHeader is set. It never waits: it answers how many
// the socket did not take. The windows change, the octets are not read again;
// the caller frees them.
func WriteBurst(fd int, vnetHeader bool, burst []*packet.Buf) (drops int) {
	t := batches.Get().(*batch)
	for len(burst) > 0 {
		n := min(len(burst), batchSize)
		k := 0
		for _, b := range burst[:n] {
			if b.Len() < vnet.EtherLen {
				drops++
				continue
			}
			t.put(k, b, vnetHeader)
			k++
		}
		drops += t.send(fd, k)
		burst = burst[n:]
	}
	batches.Put(t)
	return drops
}

// put makes b message k.
func (t *batch) put(k int, b *packet.Buf, vnetHeader bool) {
	iovs, n := &t.iovs[k], 1
	if vnetHeader {
		h := &t.heads[k]
		vnet.Put(h[:], b)
		if b.Headroom() >= vnet.Size {
			copy(b.Prepend(vnet.Size), h[:])
		} else {
			iovs[1] = iovec(b.Bytes())
			iovs[0] = iovec(h[:])
			n = 2
		}
	}
	if n == 1 {
		iovs[0] = iovec(b.Bytes())
	}
	t.msgs[k].SetIovlen(n)
}

func iovec(b []byte) (v unix.Iovec) {
	v.Base = &b[0]
	v.SetLen(len(b))
	return v
}

// send sends the first n messages. One that is refused is passed over, and so
// the next is tried as if each had a call of its own.
func (t *batch) send(fd, n int) (drops int) {
	for i := 0; i < n; {
		k, _, errno := unix.Syscall6(unix.SYS_SENDMMSG, uintptr(fd), uintptr(unsafe.Pointer(&t.msgs[i])), uintptr(n-i), unix.MSG_DONTWAIT, 0, 0)
		switch {
		case errno == unix.EINTR:
		case errno != 0:
			drops++
			i++
		default:
			i += int(k)
		}
	}
	return drops
}
