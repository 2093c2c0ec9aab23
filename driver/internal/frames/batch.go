package frames

import (
	"sync"
	"sync/atomic"
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
	join   packet.Join
	msgs   [batchSize]message
	frames [batchSize]int // in a message
	iovs   [4 * batchSize]unix.Iovec
	heads  [batchSize][vnet.Size]byte // of frames without headroom
	n      int                        // messages
	used   int                        // iovs
}

// noUSO: the kernel has refused a super-packet of datagrams, which Linux takes from 6.2 on.
var noUSO atomic.Bool

var batches = sync.Pool{New: func() any { return new(batch) }}

// WriteBurst writes frames to the socket fd, many a system call, each behind
// its vnet header when vnetHeader is set; segments that follow each other then leave as
// one super-packet. It never waits: it answers how many
// the socket did not take. The windows and headers change, the octets are not read again;
// the caller frees them.
func WriteBurst(fd int, vnetHeader bool, burst []*packet.Buf) (drops int) {
	t := batches.Get().(*batch)
	for len(burst) > 0 {
		t.join.UDP = !noUSO.Load()
		n, bad := t.fill(burst, vnetHeader, vnetHeader)
		drops += bad + t.send(fd)
		burst = burst[n:]
	}
	batches.Put(t)
	return drops
}

// writeJoined is WriteBurst for a descriptor that takes one frame a system call, behind its vnet
// header; it takes super-packets of datagrams with uso.
func writeJoined(fd int, uso bool, burst []*packet.Buf) (drops int) {
	t := batches.Get().(*batch)
	t.join.UDP = uso
	for len(burst) > 0 {
		n, bad := t.fill(burst, true, true)
		drops += bad + t.write(fd)
		burst = burst[n:]
	}
	batches.Put(t)
	return drops
}

// fill makes messages of as many frames as there is room for. It answers how many these are, and how many
// of them are none.
func (t *batch) fill(burst []*packet.Buf, vnetHeader, join bool) (n, bad int) {
	t.n, t.used = 0, 0
	for n < len(burst) && t.n < batchSize && len(t.iovs)-t.used >= 2 {
		if burst[n].Len() < vnet.EtherLen {
			bad++
			n++
			continue
		}
		k := 1
		if join {
			k = t.run(burst[n:min(len(burst), n+len(t.iovs)-t.used-1)])
		}
		t.put(burst[n:n+k], vnetHeader)
		n += k
	}
	return n, bad
}

// run is how many frames from the first on are one super-packet.
func (t *batch) run(burst []*packet.Buf) int {
	if len(burst) == 1 || !t.join.Begin(burst[0]) {
		return 1
	}
	n := 1
	for n < len(burst) && t.join.Add(burst[n]) {
		n++
	}
	t.join.End()
	return n
}

// put makes frames that are one the next message.
func (t *batch) put(frames []*packet.Buf, vnetHeader bool) {
	b, at := frames[0], t.used
	if vnetHeader {
		h := &t.heads[t.n]
		vnet.Put(h[:], b)
		if b.Headroom() >= vnet.Size {
			copy(b.Prepend(vnet.Size), h[:])
		} else {
			t.add(h[:])
		}
	}
	t.add(b.Bytes())
	for _, c := range frames[1:] {
		t.add(t.join.Payload(c))
	}
	m := &t.msgs[t.n]
	m.Iov = &t.iovs[at]
	m.SetIovlen(t.used - at)
	t.frames[t.n] = len(frames)
	t.n++
}

func (t *batch) add(b []byte) {
	t.iovs[t.used] = iovec(b)
	t.used++
}

func iovec(b []byte) (v unix.Iovec) {
	v.Base = &b[0]
	v.SetLen(len(b))
	return v
}

// send sends the messages to a socket. One that is refused is passed over, and so
// the next is tried as if each had a call of its own. It answers how many frames were refused.
//
// The call never waits, it works: what it takes is the processor's time. Told that it might wait, the
// runtime would hand the processor on meanwhile, and the goroutine would have to get one back.
func (t *batch) send(fd int) (drops int) {
	for i := 0; i < t.n; {
		k, _, errno := unix.RawSyscall6(unix.SYS_SENDMMSG, uintptr(fd), uintptr(unsafe.Pointer(&t.msgs[i])), uintptr(t.n-i), unix.MSG_DONTWAIT, 0, 0)
		switch {
		case errno == unix.EINTR:
		case errno != 0:
			if errno == unix.EINVAL && t.frames[i] > 1 {
				noUSO.Store(true)
			}
			drops += t.frames[i]
			i++
		default:
			i += int(k)
		}
	}
	return drops
}

// write writes the messages to a descriptor that takes one a system call, and does not wait either.
func (t *batch) write(fd int) (drops int) {
	for i := 0; i < t.n; {
		m := &t.msgs[i]
		switch _, _, errno := unix.RawSyscall(unix.SYS_WRITEV, uintptr(fd), uintptr(unsafe.Pointer(m.Iov)), uintptr(m.Iovlen)); errno {
		case unix.EINTR:
			continue
		case 0:
		default:
			drops += t.frames[i]
		}
		i++
	}
	return drops
}
