package packet

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"ionet/driver"
	"ionet/driver/internal/sinktest"
	"ionet/stack/netif"
	"ionet/stack/packet"
)

// stations are a at v0 and b at v1, where carrier is.
func stations(t *testing.T, optionsA, optionsB string) (a, b *sinktest.Sink) {
	ns := veth(t)
	a, b = open(t, ns, "if=v0"+optionsA), open(t, ns, "if=v1"+optionsB)
	for _, s := range []*sinktest.Sink{a, b} {
		s.Until("carrier", func() bool { return len(s.Links) > 0 && s.Links[len(s.Links)-1] })
	}
	return a, b
}

// ours are the frames of our type that s has received, in their order.
func ours(s *sinktest.Sink) (out []sinktest.Frame) {
	for _, f := range s.Frames {
		if f.Data[12] == 0x88 || f.Data[12] == 8 && f.Data[13] == 0 {
			out = append(out, f)
		}
	}
	return out
}

// segments makes a TCP super-packet of n octets of payload, each of them c.
func segments(s *sinktest.Sink, dst, src netif.MAC, n int, c byte) *packet.Buf {
	f := append(append(dst[:], src[:]...), 8, 0, 0x45, 0, 0, 0, 0, 0, 0, 0, 64, 6, 0, 0, 10, 99, 0, 2, 10, 99, 0, 1)
	binary.BigEndian.PutUint16(f[16:], uint16(40+n))
	binary.BigEndian.PutUint16(f[24:], packet.Checksum(f[14:34]))
	f = append(f, 0x12, 0x34, 0, 7, 0, 0, 0, 1, 0, 0, 0, 1, 0x50, 0x10, 1, 0, 0, 0, 0, 0)
	binary.BigEndian.PutUint16(f[50:], packet.Fold(packet.Sum(uint64(6+20+n), f[26:34])))
	f = append(f, bytes.Repeat([]byte{c}, n)...)
	b := s.Pool().Get(len(f))
	copy(b.Append(len(f)), f)
	b.SetPartial(34, 16)
	b.GSO, b.GSOSize = packet.GSOTCPv4, 1448
	return b
}

// TestRingOrder has frames of all sizes go round the ring more than once, those
// among them that no slot holds.
func TestRingOrder(t *testing.T) {
	a, b := stations(t, "", "")
	macA, macB := a.Driver.Info().MAC, b.Driver.Info().MAC
	const rounds, each = 250, 40 // 10,000 frames and 250 super-packets
	sent := 0
	for i := range rounds {
		burst := []*packet.Buf{segments(a, macB, macA, 3000+i*240, byte(i))}
		for k := range each {
			f := frame(macB, macA, fmt.Sprintf("%d.%d %s", i, k, strings.Repeat("x", (i*each+k)%1400)))
			p := a.Pool().Get(len(f))
			copy(p.Append(len(f)), f)
			burst = append(burst, p)
		}
		sent += len(burst)
		a.Driver.Transmit(a.Ifp, burst)
		b.Until("a round", func() bool { return len(ours(b)) == sent })
	}
	b.Until("to look at", func() bool { return true })
	got := ours(b)
	for i := range rounds {
		super := got[i*(each+1)]
		if super.GSO != packet.GSOTCPv4 || super.GSOSize != 1448 || super.Csum != packet.CsumPartial ||
			!bytes.Equal(super.Data[54:], bytes.Repeat([]byte{byte(i)}, 3000+i*240)) {
			t.Fatalf("super-packet %d: %d octets, gso %d/%d, checksum %d", i, len(super.Data), super.GSO, super.GSOSize, super.Csum)
		}
		for k := range each {
			want := fmt.Sprintf("%d.%d %s", i, k, strings.Repeat("x", (i*each+k)%1400))
			if f := got[i*(each+1)+1+k]; !bytes.HasPrefix(f.Data[14:], []byte(want)) || len(f.Data) != 14+46+len(want) {
				t.Fatalf("frame %d.%d is %d octets: %q", i, k, len(f.Data), f.Data[14:min(40, len(f.Data))])
			}
		}
	}
	if b.Lost+b.Bad != 0 {
		t.Errorf("%d lost, %d malformed", b.Lost, b.Bad)
	}
}

// TestRingFull has nobody empty the ring for a while: what it held arrives, the
// rest is counted, and so it is again when the socket's queue of large frames
// was full too.
func TestRingFull(t *testing.T) {
	ns := veth(t)
	o, err := driver.ParseOptions("if=v1,ring=on,netns=" + ns)
	if err != nil {
		t.Fatal(err)
	}
	d, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	a := open(t, ns, "if=v0")
	macA, macB := a.Driver.Info().MAC, d.Info().MAC
	const slots = ringOctets / minSlot
	for range slots / 64 {
		a.SendBuf(segments(a, macB, macA, 60000, 1))
		for range 127 {
			a.Send(frame(macB, macA, "waits"))
		}
	}
	b := sinktest.Run(t, d, nil) // nobody has read so far
	b.Until("all that were sent", func() bool { return len(ours(b))+b.Lost >= 2*slots })
	b.Until("to look at", func() bool { return len(ours(b)) >= slots/2 && b.Lost > 0 && b.Bad == 0 })
	a.Send(frame(macB, macA, "after it"))
	b.Until("a frame after that", has(b, "after it"))
	if i := d.Info(); !strings.Contains(fmt.Sprint(i.Details), "frames found it full") || strings.Contains(fmt.Sprint(i.Details), " 0 frames") {
		t.Errorf("details %v", i.Details)
	}
}

// TestQueues deals out flows: each arrives once and in order.
func TestQueues(t *testing.T) {
	a, b := stations(t, "", ",ring=on,queues=4")
	macA, macB := a.Driver.Info().MAC, b.Driver.Info().MAC
	const flows, each = 32, 100
	for i := range flows * each {
		p := segments(a, macB, macA, 100, byte(i/flows))
		p.GSO, p.GSOSize = packet.GSONone, 0
		p.Bytes()[35] = byte(i % flows) // of the source port
		a.SendBuf(p)
	}
	b.Until("all of them", func() bool { return len(ours(b)) >= flows*each })
	b.Until("to look at", func() bool { return true })
	var next [flows]byte
	for _, f := range ours(b) {
		if f.Data[12] != 8 {
			continue
		}
		flow := f.Data[35]
		if f.Data[54] != next[flow] {
			t.Fatalf("flow %d: number %d where %d is next", flow, f.Data[54], next[flow])
		}
		next[flow]++
	}
	shared := 0
	for _, q := range b.Driver.(*Socket).queues {
		if q.(*ring).next > 0 {
			shared++
		}
	}
	if shared < 2 {
		t.Errorf("%d queues were used", shared)
	}
}

func TestRingClosedUnread(t *testing.T) {
	ns := veth(t)
	before := runtime.NumGoroutine()
	for range 3 {
		o, err := driver.ParseOptions("if=v0,ring=on,queues=2,netns=" + ns)
		if err != nil {
			t.Fatal(err)
		}
		d, err := Open(o)
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if err := d.Close(); err != nil {
				t.Error(err)
			}
		}
		d.Transmit(nil, nil)
		if err := d.Run(&counter{}); err != nil {
			t.Errorf("Run of what is closed: %v", err)
		}
	}
	if n := runtime.NumGoroutine(); n > before {
		t.Errorf("%d goroutines more", n-before)
	}
}

func TestSlotSize(t *testing.T) {
	for mtu, want := range map[int]int{68: 2048, 1500: 2048, 1938: 2048, 1939: 4096, 9000: 16384, 16274: 16384, 16275: 2048, 65535: 2048} {
		if n := slotSize(mtu); n != want {
			t.Errorf("MTU %d: slots of %d octets, want %d", mtu, n, want)
		}
	}
}

func TestRingNoAllocations(t *testing.T) {
	ns := veth(t)
	o, err := driver.ParseOptions("if=v1,ring=on,netns=" + ns)
	if err != nil {
		t.Fatal(err)
	}
	d, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	a := open(t, ns, "if=v0")
	s := &counter{pool: packet.NewPool(4 << 20), got: make(chan int, 1000)}
	ended := make(chan error)
	go func() { ended <- d.Run(s) }()
	mac, burst := d.Info().MAC, make([]*packet.Buf, 8)
	f := frame(mac, a.Driver.Info().MAC, "counted")
	super := segments(a, mac, a.Driver.Info().MAC, 20000, 1)
	large := bytes.Clone(super.Bytes())
	super.Free()
	round := func() {
		for i := range burst {
			burst[i] = s.pool.Get(len(f))
			copy(burst[i].Append(len(f)), f)
		}
		burst[7].Free()
		burst[7] = s.pool.Get(len(large))
		copy(burst[7].Append(len(large)), large)
		burst[7].SetPartial(34, 16)
		burst[7].GSO, burst[7].GSOSize = packet.GSOTCPv4, 1448
		a.Driver.Transmit(nil, burst)
		for n := 0; n < len(burst); {
			n += <-s.got
		}
	}
	round()
	if n := testing.AllocsPerRun(100, round); n != 0 {
		t.Errorf("%.1f allocations for frames out and in", n)
	}
	if err := d.Close(); err != nil {
		t.Error(err)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// counter is a sink that only tells how many of our frames came.
type counter struct {
	driver.Sink
	pool *packet.Pool
	got  chan int
}

func (s *counter) Receiving()         {}
func (s *counter) LinkState(bool)     {}
func (s *counter) Pool() *packet.Pool { return s.pool }
func (s *counter) Input(burst []*packet.Buf) {
	n := 0
	for _, b := range burst {
		if f := b.Bytes(); f[12] == 0x88 || f[12] == 8 {
			n++
		}
	}
	packet.FreeBurst(burst)
	s.got <- n
}

func FuzzSlot(f *testing.F) {
	good := make([]byte, minSlot)
	binary.NativeEndian.PutUint32(good[4:], 60)
	binary.NativeEndian.PutUint32(good[8:], 60)
	binary.NativeEndian.PutUint16(good[12:], 76)
	f.Add(good[:200])
	f.Add(bytes.Repeat([]byte{0xff}, 200))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) < 64 {
			return
		}
		s := readSlot(unix.TP_STATUS_USER, b)
		switch {
		case s.size < 1 || s.size > packet.MaxPacket:
			t.Errorf("a frame of %d octets", s.size)
		case !s.bad && (len(s.frame) > s.size || len(s.head) != 10):
			t.Errorf("a frame of %d octets, %d of them here, header of %d", s.size, len(s.frame), len(s.head))
		}
	})
}
