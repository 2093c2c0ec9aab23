package frames

import (
	"bytes"
	"testing"

	"golang.org/x/sys/unix"

	"ionet/driver"
	"ionet/driver/internal/sinktest"
	"ionet/driver/vnet"
	"ionet/stack/netif"
	"ionet/stack/packet"
)

// device is a driver over one end of a socket pair; the test holds the other.
type device struct{ *Conn }

func (d device) Transmit(ifp *netif.Interface, burst []*packet.Buf) { d.Send(ifp, burst) }
func (d device) Info() driver.Info                                  { return driver.Info{MTU: 1500} }
func (d device) Run(sink driver.Sink) error {
	return d.Receive(sink, func(error) bool { return false })
}

func pair(t *testing.T, vnetHeader bool) (*sinktest.Sink, int) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET, 0)
	if err != nil {
		t.Fatal(err)
	}
	c, err := New(fds[0], "pair", vnetHeader)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fds[1]) })
	return sinktest.Run(t, device{c}, nil), fds[1]
}

func TestBothWays(t *testing.T) {
	for _, head := range []bool{false, true} {
		s, far := pair(t, head)
		sizes := []int{14, 60, 1514, 30000, 40000, 100, 65599}
		for i, n := range sizes {
			frame := bytes.Repeat([]byte{byte(i + 1)}, n)
			wire := frame
			if head {
				wire = append(make([]byte, vnet.Size), frame...)
			}
			if _, err := unix.Write(far, wire); err != nil {
				t.Fatal(err)
			}
			s.Until("the frame", func() bool { return len(s.Frames) == i+1 })
			if !bytes.Equal(s.Frames[i].Data, frame) {
				t.Errorf("frame of %d octets came as %d of %d", n, len(s.Frames[i].Data), s.Frames[i].Data[0])
			}
			s.Send(frame)
			back := make([]byte, 70000)
			if k, err := unix.Read(far, back); err != nil || !bytes.Equal(back[:k], wire) {
				t.Errorf("frame of %d octets was written as %d: %v", n, k, err)
			}
		}
	}
}

func TestHeaderCrosses(t *testing.T) {
	s, far := pair(t, true)
	frame := make([]byte, 4000)
	frame[12] = 8
	if _, err := unix.Write(far, append([]byte{1, 1, 54, 0, 0xa8, 5, 34, 0, 16, 0}, frame...)); err != nil {
		t.Fatal(err)
	}
	s.Until("the frame", func() bool { return len(s.Frames) == 1 })
	if f := s.Frames[0]; f.Csum != packet.CsumPartial || f.GSO != packet.GSOTCPv4 || f.GSOSize != 1448 {
		t.Errorf("came as csum %d gso %d/%d", f.Csum, f.GSO, f.GSOSize)
	}
	b := s.Pool().Get(60)
	clear(b.Append(60))
	b.SetPartial(34, 6)
	b.Reserve(3) // no room for the header in front
	clear(b.Append(60))
	b.SetPartial(34, 6)
	s.SendBuf(b)
	back := make([]byte, 200)
	if n, err := unix.Read(far, back); err != nil || n != 70 || back[0] != 1 || back[6] != 34 || back[8] != 6 {
		t.Errorf("%d octets, header % x: %v", n, back[:10], err)
	}
}

// TestWriteBurst writes more frames than one system call takes, with some
// among them that are none or that the socket refuses.
func TestWriteBurst(t *testing.T) {
	for _, head := range []bool{false, true} {
		fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET, 0)
		if err != nil {
			t.Fatal(err)
		}
		if err := unix.SetsockoptInt(fds[0], unix.SOL_SOCKET, unix.SO_SNDBUF, 256<<10); err != nil {
			t.Fatal(err)
		}
		pool := packet.NewPool(16 << 20)
		var burst []*packet.Buf
		var want [][]byte
		for i := range 150 {
			n := 60 + i
			switch i {
			case 0, 63, 149:
				n = 13
			case 1, 70:
				n = 65599 // together more than the socket holds
			}
			b := pool.Get(n)
			if i == 9 {
				b.Reserve(3)
			}
			for k, f := 0, b.Append(n); k < n; k++ {
				f[k] = byte(i)
			}
			if n > 13 {
				frame := bytes.Clone(b.Bytes())
				if i == 5 {
					b.SetPartial(34, 6)
				}
				if head {
					h := make([]byte, vnet.Size)
					vnet.Put(h, b)
					frame = append(h, frame...)
				}
				want = append(want, frame)
			}
			burst = append(burst, b)
		}
		if n := WriteBurst(fds[0], head, burst[:70]); n != 2 {
			t.Errorf("%d of 70 frames dropped, want 2", n)
		}
		back := make([]byte, 70000)
		read := func(frames [][]byte) {
			t.Helper()
			for i, f := range frames {
				if n, err := unix.Read(fds[1], back); err != nil || !bytes.Equal(back[:n], f) {
					t.Fatalf("frame %d is %d octets of %d, want %d of %d: %v", i, n, back[n-1], len(f), f[len(f)-1], err)
				}
			}
		}
		read(want[:68])
		if n := WriteBurst(fds[0], head, burst[70:]); n != 1 {
			t.Errorf("%d of 80 frames dropped, want 1", n)
		}
		read(want[68:])
		unix.Close(fds[1])
		if n := WriteBurst(fds[0], head, burst[2:5]); n != 3 {
			t.Errorf("%d of 3 frames dropped when nobody reads", n)
		}
		packet.FreeBurst(burst)
		unix.Close(fds[0])
		if pool.Bufs() != 0 {
			t.Errorf("%d buffers out", pool.Bufs())
		}
	}
}

func TestNoFrames(t *testing.T) {
	s, far := pair(t, true)
	for _, wire := range [][]byte{{1}, make([]byte, 23), append([]byte{1, 0, 0, 0, 0, 0, 99, 0, 0, 0}, make([]byte, 60)...)} {
		if _, err := unix.Write(far, wire); err != nil {
			t.Fatal(err)
		}
	}
	s.Until("the count", func() bool { return s.Bad == 3 })
	if s.Frames != nil {
		t.Error("one was taken for a frame")
	}
}

func TestFullAndGone(t *testing.T) {
	s, far := pair(t, false)
	for i := 0; s.Ifp.Stats.OutDrops.Load() == 0; i++ {
		s.Send(make([]byte, 1514))
		if i > 100000 {
			t.Fatal("the descriptor never fills")
		}
	}
	unix.Close(far)
	s.Send(make([]byte, 60)) // EPIPE is a drop too
	s.Close()
	s.Send(make([]byte, 60))
	if n := s.Pool().Bufs(); n != 0 {
		t.Errorf("%d buffers out", n)
	}
}

func TestNoAllocations(t *testing.T) {
	for _, join := range []bool{false, true} {
		noAllocations(t, join)
	}
}

func noAllocations(t *testing.T, join bool) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fds[1])
	c, err := New(fds[0], "pair", true)
	if err != nil {
		t.Fatal(err)
	}
	if join {
		c.Join(true)
	}
	s := &counter{pool: packet.NewPool(1 << 20), got: make(chan int, 1)}
	ended := make(chan error)
	go func() { ended <- c.Receive(s, func(error) bool { return false }) }()
	frame := make([]byte, vnet.Size+1514)
	back := make([]byte, 2000)
	burst := make([]*packet.Buf, 1)
	round := func() {
		if _, err := unix.Write(fds[1], frame); err != nil {
			t.Fatal(err)
		}
		<-s.got
		burst[0] = s.pool.Get(1514)
		clear(burst[0].Append(1514))
		c.Send(nil, burst)
		if _, err := unix.Read(fds[1], back); err != nil {
			t.Fatal(err)
		}
	}
	round()
	if n := testing.AllocsPerRun(100, round); n != 0 {
		t.Errorf("%.1f allocations for a frame in and a frame out", n)
	}
	c.Close()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// counter is a sink that only tells how many came.
type counter struct {
	driver.Sink
	pool *packet.Pool
	got  chan int
}

func (s *counter) Receiving()         {}
func (s *counter) Pool() *packet.Pool { return s.pool }
func (s *counter) Input(burst []*packet.Buf) {
	packet.FreeBurst(burst)
	s.got <- len(burst)
}
