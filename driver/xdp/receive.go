package xdp

import (
	"golang.org/x/sys/unix"

	"ionet/driver"
	"ionet/driver/internal/frames"
	"ionet/driver/vnet"
	"ionet/stack/packet"
)

// burstSize is the most frames that are handed up at a time.
const burstSize = 64

// receiver makes packets of the frames in a socket's receive ring.
type receiver struct {
	*socket
	link  *Link
	sink  driver.Sink
	pool  *packet.Pool
	lost  uint64 // of the losses, those that are counted
	sizes [burstSize]int
	bufs  [burstSize]*packet.Buf
	burst [burstSize]*packet.Buf
}

// receive hands frames up until the socket is closed, which answers nil, or
// fails.
func (l *Link) receive(s *socket, sink driver.Sink) error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.running = true
	s.mu.Unlock()
	defer func() {
		_ = s.close()
		s.sending.Lock()
		s.unmap()
		s.sending.Unlock()
	}()
	sink.Receiving()
	r := receiver{socket: s, link: l, sink: sink, pool: sink.Pool()}
	for !s.isClosed() {
		if n := s.rx.filled(); n > 0 {
			r.take(min(n, burstSize))
			if n >= ringFrames/2 {
				if lost := s.losses(); lost > r.lost {
					sink.Dropped(int(lost - r.lost))
					r.lost = lost
				}
			}
			continue
		}
		// An interface that goes says so twice; the other way says which.
		if err := s.wait.Wait(); err != nil && err != unix.ENETDOWN && !s.isClosed() {
			return err
		}
	}
	return nil
}

// take hands up n frames and gives their chunks back.
func (r *receiver) take(n int) {
	for i := range n {
		r.sizes[i] = 1
		if f, ok := r.frame(*r.rx.at(i)); ok {
			r.sizes[i] = len(f)
		}
	}
	frames.Buffers(r.pool, r.bufs[:n], r.sizes[:n])
	k, bad, dropped, partial := 0, 0, 0, uint64(0)
	for i := range n {
		d, b := *r.rx.at(i), r.bufs[i]
		r.bufs[i] = nil
		*r.fill.at(i) = d.Addr - d.Addr%uint64(r.chunk)
		f, ok := r.frame(d)
		switch {
		case !ok:
			bad++
			if b != nil {
				b.Free()
			}
			continue
		case b == nil:
			dropped++
			continue
		}
		copy(b.Append(len(f)), f)
		if r.link.soft {
			if start, offset, ok := unfinished(f); ok {
				b.SetPartial(start, offset)
				partial++
			}
		}
		r.burst[k] = b
		k++
	}
	r.fill.produced(n)
	r.rx.consumed(n)
	if r.fill.wakeup() { // zero-copy interfaces alone
		r.control(refill)
	}
	if partial > 0 {
		r.link.partial.Add(partial)
	}
	if k > 0 {
		r.sink.Input(r.burst[:k])
	}
	if dropped > 0 {
		r.sink.Dropped(dropped)
	}
	if bad > 0 {
		r.sink.Malformed(bad)
	}
}

// refill tells the kernel that there are chunks again.
func refill(fd int) {
	_, _, _ = unix.Syscall6(unix.SYS_RECVFROM, uintptr(fd), 0, 0, unix.MSG_DONTWAIT, 0, 0)
}

// frame is what a descriptor of the receive ring speaks of; false: no frame.
func (s *socket) frame(d unix.XDPDesc) ([]byte, bool) {
	if d.Options&unix.XDP_PKT_CONTD != 0 || d.Len < vnet.EtherLen || d.Addr >= uint64(len(s.umem)) || uint64(d.Len) > uint64(s.chunk)-d.Addr%uint64(s.chunk) {
		return nil, false
	}
	return s.umem[d.Addr : d.Addr+uint64(d.Len)], true
}
