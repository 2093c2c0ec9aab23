package qemu

import (
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"syscall"

	"ionet/driver"
	"ionet/driver/internal/outq"
	"ionet/stack/packet"
)

const (
	// maxQueue bounds the octets that wait for the peer, beside its socket's.
	maxQueue = 1 << 20
	// readSize is what one read takes; it holds more than one largest frame.
	readSize = 192 << 10
	maxBurst = 64
)

// session is one connection.
type session struct {
	conn net.Conn
	out  *outq.Queue

	in       []byte // in[r:w] is read and not yet taken
	inR, inW int
}

func newSession(conn net.Conn) (*session, error) {
	sc, ok := conn.(syscall.Conn)
	if !ok {
		return nil, fmt.Errorf("a connection of type %T has no descriptor", conn)
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return nil, err
	}
	return &session{conn: conn, out: outq.New(raw, maxQueue), in: make([]byte, readSize)}, nil
}

// send queues and writes a burst and answers how many frames found no room.
func (e *session) send(burst []*packet.Buf) (dropped int) {
	e.out.Lock()
	for _, b := range burst {
		if !sound(b.Len()) {
			dropped++
		} else if room := e.out.Room(lengthSize + b.Len()); room != nil {
			putFrame(room, b.Bytes())
		} else {
			dropped++
		}
	}
	e.out.Unlock()
	e.out.Flush()
	return dropped
}

// run receives until the connection ends, and says why it did.
func (e *session) run(sink driver.Sink) error {
	gone := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		if driver.Guard(func() error { return e.out.Drain(gone) }) != nil {
			_ = e.conn.Close() // which the reader must see too
		}
	})
	defer wg.Wait()
	defer close(gone)
	defer e.conn.Close()
	var burst [maxBurst]*packet.Buf
	sink.Receiving()
	for {
		if err := e.deliver(sink, &burst); err != nil {
			sink.Malformed(1)
			return err
		}
		if e.inR > 0 {
			e.inW = copy(e.in, e.in[e.inR:e.inW])
			e.inR = 0
		}
		n, err := e.conn.Read(e.in[e.inW:])
		e.inW += n
		switch {
		case n > 0:
		case errors.Is(err, io.EOF):
			return errors.New("the peer hung up")
		case err != nil:
			return err
		}
	}
}

// deliver hands up every whole frame that has been read.
func (e *session) deliver(sink driver.Sink, burst *[maxBurst]*packet.Buf) error {
	pool := sink.Pool()
	for {
		n, lost, bad := 0, 0, 0
		var more bool
		var err error
		for n < maxBurst {
			var frame []byte
			var size int
			if frame, size, more, err = next(e.in[e.inR:e.inW]); !more || err != nil {
				break
			}
			e.inR += size
			if !sound(len(frame)) {
				bad++
				continue
			}
			b := pool.Get(len(frame))
			if b == nil {
				lost++
				continue
			}
			copy(b.Append(len(frame)), frame)
			burst[n] = b
			n++
		}
		if bad > 0 {
			sink.Malformed(bad)
		}
		if lost > 0 {
			sink.Dropped(lost)
		}
		if n > 0 {
			sink.Input(burst[:n])
		}
		if !more || err != nil {
			return err
		}
	}
}
