package wire

import (
	"errors"
	"fmt"
	"io"
	"net"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"ionet/driver"
	"ionet/driver/internal/outq"
	"ionet/driver/vnet"
	"ionet/stack/netif"
	"ionet/stack/packet"
)

const (
	// maxQueue bounds the octets waiting for one peer, beside what the socket
	// holds. A frame that does not fit is dropped and counted.
	maxQueue = 1 << 20
	// readSize is what one read takes; it holds more than one largest record.
	readSize = 192 << 10
	// maxBurst is the most frames handed up at once.
	maxBurst = 64
	// greetTime is how long a caller may take to say who it is.
	greetTime = 5 * time.Second
)

// peer is another member and the stream to it.
type peer struct {
	w    *Wire
	conn *net.UnixConn
	mac  netif.MAC
	name atomic.Pointer[string]
	pid  int32

	promisc atomic.Bool

	out     *outq.Queue
	gone    chan struct{} // closed when the stream has ended
	greeted chan struct{} // closed when the peer has said hello

	in       []byte // in[r:w] is read and not yet taken
	inR, inW int
}

func newPeer(w *Wire, conn *net.UnixConn) (*peer, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil, err
	}
	p := &peer{
		w: w, conn: conn, out: outq.New(raw, maxQueue),
		gone: make(chan struct{}), greeted: make(chan struct{}),
		in: make([]byte, readSize),
	}
	p.name.Store(new(string))
	// Best effort: the kernel caps it at net.core.wmem_max.
	_ = conn.SetWriteBuffer(maxQueue)
	_ = raw.Control(func(fd uintptr) {
		if c, err := unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); err == nil {
			p.pid = c.Pid
		}
	})
	return p, nil
}

// enqueue copies frames to the queue and answers how many found no room.
func (p *peer) enqueue(burst []*packet.Buf) (dropped int) {
	octets := 0
	for _, b := range burst {
		octets += recordHeader + b.Len()
	}
	p.out.Lock()
	defer p.out.Unlock()
	if room := p.out.Room(octets); room != nil {
		for _, b := range burst {
			room = room[putFrame(room, b):]
		}
		return 0
	}
	for _, b := range burst { // some of them may fit
		if room := p.out.Room(recordHeader + b.Len()); room != nil {
			putFrame(room, b)
		} else {
			dropped++
		}
	}
	return dropped
}

// A run of frames this large goes out from where it lies rather than by a copy
// in the queue; small frames are cheaper copied.
const (
	gatherFrame = 512
	gatherRun   = 8 << 10
)

// gather writes frames without copying them, if it can: done is false when
// they are still to be queued.
func (p *peer) gather(burst []*packet.Buf) (dropped int, done bool) {
	if len(burst) > maxBurst {
		return 0, false
	}
	octets := 0
	for _, b := range burst {
		n := b.Len()
		if n < gatherFrame || b.Headroom() < recordHeader {
			return 0, false
		}
		octets += n
	}
	if octets < gatherRun {
		return 0, false
	}
	var records [maxBurst][]byte
	for i, b := range burst {
		var h [recordHeader]byte
		putHeader(h[:], b)
		copy(b.Prepend(recordHeader), h[:])
		records[i] = b.Bytes()
	}
	if dropped, done = p.out.Gather(records[:len(burst)]); !done {
		for _, b := range burst {
			b.TrimFront(recordHeader)
		}
	}
	return dropped, done
}

// control queues a control record, which always finds room.
func (p *peer) control(kind uint16, body []byte) {
	p.out.Lock()
	p.out.Force(appendControl(nil, kind, body))
	p.out.Unlock()
}

// flush writes what is queued, as far as the socket takes it without waiting.
func (p *peer) flush() { p.out.Flush() }

// drain is the goroutine that waits for a full socket.
func (p *peer) drain() {
	if p.out.Drain(p.gone) != nil {
		// The stream has ended, which its reader must see too. What is still
		// queued goes with the peer.
		_ = p.conn.Close()
	}
}

// fill reads more of the stream behind what is there.
func (p *peer) fill() error {
	if p.inR > 0 {
		p.inW = copy(p.in, p.in[p.inR:p.inW])
		p.inR = 0
	}
	n, err := p.conn.Read(p.in[p.inW:])
	p.inW += n
	if n > 0 {
		return nil
	}
	return err
}

// malformed is an error of what the peer sent, not of the stream.
type malformed struct{ error }

// greet reads the peer's hello.
func (p *peer) greet() (hello, error) {
	for {
		rec, err := next(p.in[p.inR:p.inW])
		if err == nil && rec != nil {
			p.inR += len(rec)
			var h hello
			if h, err = parseHello(kind(rec), rec[recordHeader:]); err == nil {
				p.name.Store(&h.name)
				p.promisc.Store(h.promisc)
				return h, nil
			}
		}
		if err != nil {
			return hello{}, malformed{err}
		}
		if err := p.fill(); err != nil {
			return hello{}, err
		}
	}
}

// receive hands the peer's frames to sink until the stream ends.
func (p *peer) receive(sink driver.Sink) error {
	var burst [maxBurst]*packet.Buf
	sink.Receiving()
	for {
		if err := p.deliver(sink, &burst); err != nil {
			return malformed{err}
		}
		if err := p.fill(); err != nil {
			return err
		}
	}
}

// deliver hands up every whole frame that has been read.
func (p *peer) deliver(sink driver.Sink, burst *[maxBurst]*packet.Buf) (err error) {
	pool := sink.Pool()
	for more := true; more && err == nil; {
		n, lost := 0, 0
		for n < maxBurst {
			var got, want int
			got, want, more, err = p.run(pool, burst[n:])
			n, lost = n+got, lost+want-got
			if !more || err != nil || got < want {
				break
			}
		}
		if lost > 0 {
			sink.Dropped(lost)
		}
		if n > 0 {
			sink.Input(burst[:n])
		}
	}
	return err
}

// run takes frames that come in buffers of one size off what has been read
// and copies them to burst. Of want frames got found a buffer; more says that
// a whole record may be left.
func (p *peer) run(pool *packet.Pool, burst []*packet.Buf) (got, want int, more bool, err error) {
	var records [maxBurst][]byte
	room := 0
	for want < len(burst) {
		rec, err := next(p.in[p.inR:p.inW])
		if rec == nil || err != nil {
			if want > 0 { // what came before the error is still good
				break
			}
			return 0, 0, false, err
		}
		if kind(rec) != kindFrame {
			if want > 0 {
				break
			}
			p.inR += len(rec)
			if err := p.hear(kind(rec), rec[recordHeader:]); err != nil {
				return 0, 0, false, err
			}
			continue
		}
		if r := packet.Room(len(rec) - recordHeader); want == 0 {
			room = r
		} else if r != room {
			break
		}
		records[want] = rec
		want++
		p.inR += len(rec)
	}
	got = pool.GetBurst(burst[:want], room)
	for i, b := range burst[:got] {
		frame := records[i][recordHeader:]
		copy(b.Append(len(frame)), frame)
		if err := vnet.Get(records[i][vnetAt:], b); err != nil {
			packet.FreeBurst(burst[i:got])
			return i, i, false, err
		}
	}
	return got, want, true, nil
}

// hear takes a control record.
func (p *peer) hear(kind uint16, body []byte) error {
	if kind != kindFilter || len(body) < 1 {
		return fmt.Errorf("a control record of kind %d with %d octets after the hello", kind, len(body))
	}
	if promisc := body[0]&helloFlag != 0; p.promisc.Swap(promisc) != promisc {
		p.w.refresh()
	}
	return nil
}

// ended reports whether err is the ordinary end of a stream: the peer left,
// or we did.
func ended(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed) ||
		errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}
