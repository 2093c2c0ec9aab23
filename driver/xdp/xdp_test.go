package xdp

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net"
	"strings"
	"testing"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"ionet/driver"
	"ionet/driver/internal/nstest"
	"ionet/driver/internal/sinktest"
	"ionet/driver/packet"
	"ionet/stack/netif"
	buf "ionet/stack/packet"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// veth makes a namespace with a pair of interfaces, v0 and v1.
func veth(t *testing.T, more string) string {
	ns := nstest.New(t)
	nstest.IP(t, ns, "link add v0 "+more+" type veth peer name v1 "+more)
	for _, c := range []string{"v0", "v1"} {
		nstest.IP(t, ns, "link set "+c+" up")
	}
	return ns
}

func options(t *testing.T, ns, text string) driver.Options {
	t.Helper()
	o, err := driver.ParseOptions(text + ",netns=" + ns)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func open(t *testing.T, ns, text string) *sinktest.Sink {
	t.Helper()
	d, err := Open(options(t, ns, text))
	if err != nil {
		t.Fatal(err)
	}
	s := sinktest.Run(t, d, nil)
	s.Until("carrier", func() bool { return len(s.Links) > 0 && s.Links[len(s.Links)-1] })
	return s
}

// frame makes a frame of an experimental type (IEEE 802 local, 0x88b5).
func frame(dst, src netif.MAC, text string) []byte {
	return append(append(append(dst[:], src[:]...), 0x88, 0xb5), text+strings.Repeat(" ", 46)...)
}

// ours are the frames of our type that s has received, in their order.
func ours(s *sinktest.Sink) (out [][]byte) {
	for _, f := range s.Frames {
		if f.Data[12] == 0x88 {
			out = append(out, f.Data)
		}
	}
	return out
}

func has(s *sinktest.Sink, text string) func() bool {
	return func() bool {
		for _, f := range ours(s) {
			if bytes.Contains(f, []byte(text)) {
				return true
			}
		}
		return false
	}
}

// TestBothEnds has frames of all sizes go round the rings more than once, from
// one of two sockets to the other and back.
func TestBothEnds(t *testing.T) {
	ns := veth(t, "")
	a, b := open(t, ns, "if=v0"), open(t, ns, "if=v1,mac=020000000001")
	macA, macB := a.Driver.Info().MAC, b.Driver.Info().MAC
	if macB != (netif.MAC{2, 0, 0, 0, 0, 1}) || a.Driver.Info().Caps != 0 {
		t.Errorf("address %v, offloads %v", macB, a.Driver.Info().Caps)
	}
	for _, way := range []struct {
		from, to *sinktest.Sink
		dst, src netif.MAC
	}{{a, b, macB, macA}, {b, a, macA, macB}} {
		const rounds, each = 150, 40
		text := func(i, k int) string { return fmt.Sprintf("%d.%d %s", i, k, strings.Repeat("x", (i*each+k)%1440)) }
		for i := range rounds {
			var burst []*buf.Buf
			for k := range each {
				f := frame(way.dst, way.src, text(i, k))
				p := way.from.Pool().Get(len(f))
				copy(p.Append(len(f)), f)
				burst = append(burst, p)
			}
			way.from.Driver.Transmit(way.from.Ifp, burst)
			way.to.Until("a round", func() bool { return len(ours(way.to)) == (i+1)*each })
		}
		way.to.Until("to look at", func() bool { return true })
		for i, f := range ours(way.to) {
			if want := frame(way.dst, way.src, text(i/each, i%each)); !bytes.Equal(f, want) {
				t.Fatalf("frame %d is %d octets, want %d: %q", i, len(f), len(want), f[14:min(len(f), 40)])
			}
		}
	}
	if a.Lost+a.Bad+b.Lost+b.Bad != 0 || a.Ifp.Stats.OutDrops.Load()+b.Ifp.Stats.OutDrops.Load() != 0 {
		t.Errorf("lost %d and %d, malformed %d and %d", a.Lost, b.Lost, a.Bad, b.Bad)
	}
	// What is no frame for the link is dropped, and what is with it is not.
	p := a.Pool().Get(3000)
	clear(p.Append(3000))
	a.SendBuf(p)
	a.Send(make([]byte, 13))
	a.Send(frame(macB, macA, "after those"))
	b.Until("the frame behind them", has(b, "after those"))
	if n := a.Ifp.Stats.OutDrops.Load(); n != 2 {
		t.Errorf("%d dropped, want 2", n)
	}
	b.Driver.(netif.Filter).SetFilter(true, false, nil)
	b.Driver.(netif.Filter).SetFilter(false, false, nil)
}

// TestKernelsChecksums has a kernel send datagrams whose checksum it leaves to
// the interface, in both families.
func TestKernelsChecksums(t *testing.T) {
	ns := veth(t, "")
	nstest.IP(t, ns, "addr add 10.99.0.1/24 dev v0")
	nstest.IP(t, ns, "addr add fd00::1/64 dev v0 nodad")
	nstest.IP(t, ns, "neigh add 10.99.0.2 lladdr 02:00:00:00:00:01 dev v0")
	nstest.IP(t, ns, "neigh add fd00::2 lladdr 02:00:00:00:00:01 dev v0")
	kernelSends(t, ns, open(t, ns, "if=v1,mac=020000000001"))
}

// TestKernelsChecksumsByBridge is the same over a bridge, where the program runs
// without the driver's help.
func TestKernelsChecksumsByBridge(t *testing.T) {
	ns := veth(t, "")
	nstest.IP(t, ns, "link add bridge0 type bridge")
	nstest.IP(t, ns, "link set bridge0 address 02:00:00:00:00:01 up")
	nstest.IP(t, ns, "link set v1 master bridge0")
	nstest.IP(t, ns, "addr add 10.99.0.1/24 dev v0")
	nstest.IP(t, ns, "addr add fd00::1/64 dev v0 nodad")
	nstest.IP(t, ns, "neigh add 10.99.0.2 lladdr 02:00:00:00:00:01 dev v0")
	nstest.IP(t, ns, "neigh add fd00::2 lladdr 02:00:00:00:00:01 dev v0")
	kernelSends(t, ns, open(t, ns, "if=bridge0"))
}

// kernelSends has the kernel behind v0 send to s.
func kernelSends(t *testing.T, ns string, s *sinktest.Sink) {
	for family, to := range map[byte]string{4: "10.99.0.2:7", 6: "[fd00::2]:7"} {
		text := strings.Repeat("left to others", 20)
		nstest.In(t, ns, func() error {
			c, err := net.Dial("udp", to)
			if err != nil {
				return err
			}
			defer c.Close()
			_, err = c.Write([]byte(text))
			return err
		})
		s.Until("the datagram", func() bool {
			for _, f := range s.Frames {
				if f.Data[14]>>4 == family && bytes.HasSuffix(f.Data, []byte(text)) {
					return f.Csum == buf.CsumPartial
				}
			}
			return false
		})
	}
	if d := fmt.Sprint(s.Driver.Info().Details); !strings.Contains(d, "{Unfinished Checksums 2}") {
		t.Errorf("details %s", d)
	}
}

// TestFull has nobody empty the rings for a while: what found no room is
// counted.
func TestFull(t *testing.T) {
	ns := veth(t, "")
	d, err := Open(options(t, ns, "if=v1"))
	if err != nil {
		t.Fatal(err)
	}
	p, err := packet.Open(options(t, ns, "if=v0"))
	if err != nil {
		t.Fatal(err)
	}
	a := sinktest.Run(t, p, nil)
	for range 2 * ringFrames {
		a.Send(frame(d.Info().MAC, p.Info().MAC, "waits"))
	}
	b := sinktest.Run(t, d, nil) // nobody has read so far
	b.Until("what the ring held", func() bool { return len(ours(b)) >= ringFrames-100 && b.Lost > 0 && b.Bad == 0 })
	a.Send(frame(d.Info().MAC, p.Info().MAC, "after it"))
	b.Until("a frame after that", has(b, "after it"))
	if text := fmt.Sprint(d.Info().Details); !strings.Contains(text, "found them full") || strings.Contains(text, " 0 frames") {
		t.Errorf("details %s", text)
	}
}

// TestQueues has every receive queue served.
func TestQueues(t *testing.T) {
	ns := veth(t, "numtxqueues 2 numrxqueues 2")
	a, b := open(t, ns, "if=v0"), open(t, ns, "if=v1,queues=2")
	macA, macB := a.Driver.Info().MAC, b.Driver.Info().MAC
	for i := range 200 {
		f := frame(macB, macA, fmt.Sprintf("frame %3d", i))
		copy(f[26:], fmt.Sprintf("flow %3d", i))
		a.Send(f)
	}
	b.Until("all of them", func() bool { return len(ours(b)) == 200 })
	for i, s := range a.Driver.(*Link).queues {
		if s.tx.ours == 0 {
			t.Errorf("queue %d has sent nothing", i)
		}
	}
	for i, s := range b.Driver.(*Link).queues {
		if s.rx.ours == 0 {
			t.Errorf("queue %d has received nothing", i)
		}
	}
	if _, err := Open(options(t, ns, "if=v1,queues=1")); err == nil || !strings.Contains(err.Error(), "2 receive queues") {
		t.Errorf("queues=1: %v", err)
	}
}

// TestGivenBack: the kernel hears nothing while the link is ours, and again
// when it is given back.
func TestGivenBack(t *testing.T) {
	ns := veth(t, "")
	a := open(t, ns, "if=v0")
	d, err := packet.Open(options(t, ns, "if=v1"))
	if err != nil {
		t.Fatal(err)
	}
	listener := sinktest.Run(t, d, nil)
	macA, macB := a.Driver.Info().MAC, d.Info().MAC
	b := open(t, ns, "if=v1")
	if _, err := Open(options(t, ns, "if=v1")); err == nil || !strings.Contains(err.Error(), "another") {
		t.Errorf("taken over twice: %v", err)
	}
	a.Send(frame(macB, macA, "for the stack alone"))
	b.Until("the frame", has(b, "for the stack alone"))
	b.Close()
	if err := b.Driver.Close(); err != nil {
		t.Errorf("closed twice: %v", err)
	}
	b.Driver.Transmit(b.Ifp, nil)
	b.Send(frame(macA, macB, "nobody sends it"))
	a.Send(frame(macB, macA, "for the kernel again"))
	listener.Until("a frame", has(listener, "for the kernel again"))
	listener.Until("no other", func() bool { return !has(listener, "for the stack alone")() })
}

func TestCarrierAndRemoval(t *testing.T) {
	ns := veth(t, "")
	s := open(t, ns, "if=v0,promiscuous")
	n := 0
	s.Until("carrier", func() bool { n = len(s.Links); return true })
	nstest.IP(t, ns, "link set v1 down")
	s.Until("its loss", func() bool { return len(s.Links) == n+1 && !s.Links[n] })
	nstest.IP(t, ns, "link set v1 up")
	s.Until("its return", func() bool { return len(s.Links) == n+2 && s.Links[n+1] })
	nstest.IP(t, ns, "link del v0")
	s.Until("Run to fail", func() bool { return s.Ended })
	if s.Err == nil || !strings.Contains(s.Err.Error(), "v0 has gone") {
		t.Errorf("Run: %v", s.Err)
	}
}

func TestErrors(t *testing.T) {
	ns := veth(t, "mtu 9000")
	for text, says := range map[string]string{
		"verbose":        "if=NAME",
		"if=nowhere9":    "no such interface",
		"if=lo":          "none of Ethernet",
		"if=v0,queues=3": "1 receive queues",
		"if=v0,queues=0": "from 1 to 64",
		"if=v0,y":        `unknown option "y"`,
		"if=v0":          "too large for XDP",
	} {
		if _, err := Open(options(t, ns, text)); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestNoAllocations(t *testing.T) {
	ns := veth(t, "")
	a := open(t, ns, "if=v0")
	d, err := Open(options(t, ns, "if=v1"))
	if err != nil {
		t.Fatal(err)
	}
	s := &counter{pool: buf.NewPool(4 << 20), got: make(chan int, 1000)}
	ended := make(chan error)
	go func() { ended <- d.Run(s) }()
	f, burst := frame(d.Info().MAC, a.Driver.Info().MAC, "counted"), make([]*buf.Buf, 8)
	round := func() {
		for i := range burst {
			burst[i] = s.pool.Get(len(f))
			copy(burst[i].Append(len(f)), f)
		}
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
	pool *buf.Pool
	got  chan int
}

func (s *counter) Receiving()      {}
func (s *counter) LinkState(bool)  {}
func (s *counter) Pool() *buf.Pool { return s.pool }
func (s *counter) Input(burst []*buf.Buf) {
	n := 0
	for _, b := range burst {
		if b.Bytes()[12] == 0x88 {
			n++
		}
	}
	buf.FreeBurst(burst)
	s.got <- n
}

// TestUnfinished holds the guess to what a sender leaves and what it finishes.
func TestUnfinished(t *testing.T) {
	ip4 := []byte{0x45, 0, 0, 31, 0, 0, 0x40, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2, 1, 2, 3, 4, 0, 11, 0, 0, 'a', 'b', 'c'}
	ip6 := append([]byte{0x60, 0, 0, 0, 0, 23, 6, 64}, make([]byte, 32)...)
	ip6[23], ip6[39] = 1, 2
	ip6 = append(ip6, make([]byte, 23)...)
	for _, tc := range []struct {
		ip            []byte
		kind          uint16
		start, offset int
		proto         byte
	}{{ip4, 0x0800, 20, 6, 17}, {ip6, 0x86dd, 40, 16, 6}} {
		f := append(make([]byte, 14), tc.ip...)
		binary.BigEndian.PutUint16(f[12:], tc.kind)
		l4 := f[14+tc.start:]
		pseudo := buf.Fold(buf.HeaderPseudoSum(f[14:], tc.proto, len(l4)))
		binary.BigEndian.PutUint16(l4[tc.offset:], pseudo)
		if start, offset, ok := unfinished(append(f, 0, 0, 0)); !ok || start != 14+tc.start || int(offset) != tc.offset {
			t.Errorf("unfinished: %d, %d, %v", start, offset, ok)
		}
		binary.BigEndian.PutUint16(l4[tc.offset:], ^buf.Fold(buf.Sum(uint64(pseudo), append(l4[:tc.offset:tc.offset], l4[tc.offset+2:]...))))
		if _, _, ok := unfinished(f); ok {
			t.Error("a finished checksum is taken for one that is not")
		}
		if tc.kind == 0x0800 {
			binary.BigEndian.PutUint16(l4[tc.offset:], pseudo)
			f[20] |= 0x20
			if _, _, ok := unfinished(f); ok {
				t.Error("so is that of a fragment")
			}
		}
	}
}

func FuzzUnfinished(f *testing.F) {
	f.Add(append([]byte{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 8, 0, 0x45, 0, 0, 30, 0, 0, 0, 0, 64, 17}, make([]byte, 20)...))
	f.Add(append([]byte{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x86, 0xdd, 0x60, 0, 0, 0, 0, 20, 6}, make([]byte, 60)...))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) < 14 {
			return
		}
		if start, offset, ok := unfinished(b); ok && start+int(offset)+2 > len(b) {
			t.Errorf("a checksum at %d+%d of %d octets", start, offset, len(b))
		}
	})
}

// FuzzRings has a kernel that lies in every count and descriptor.
func FuzzRings(f *testing.F) {
	f.Add(uint32(3), uint32(1), uint32(2), uint64(256), uint32(60), uint32(0), uint64(2*2048))
	f.Add(uint32(1<<31), uint32(1<<30), uint32(9), uint64(1<<63), uint32(1<<31), uint32(1), uint64(1<<63))
	f.Fuzz(func(t *testing.T, rx, done, consumed uint32, addr uint64, size, opt uint32, chunk uint64) {
		var words [8]uint32
		words[0], words[2], words[5] = rx, done, consumed
		s := &socket{chunk: 2048, umem: make([]byte, 2*ringFrames*2048), fd: -1}
		s.rx = ring[unix.XDPDesc]{producer: &words[0], consumer: &words[1], entries: make([]unix.XDPDesc, ringFrames)}
		s.done = ring[uint64]{producer: &words[2], consumer: &words[3], entries: make([]uint64, ringFrames)}
		s.tx = ring[unix.XDPDesc]{producer: &words[4], consumer: &words[5], flags: &words[6], entries: make([]unix.XDPDesc, ringFrames)}
		s.fill = ring[uint64]{producer: &words[7], flags: &words[6], entries: make([]uint64, ringFrames)}
		for i := range ringFrames {
			s.rx.entries[i] = unix.XDPDesc{Addr: addr + uint64(i)*chunk, Len: size, Options: opt}
			s.done.entries[i] = chunk * uint64(i)
		}
		sink := &counter{pool: buf.NewPool(1 << 20), got: make(chan int, 1)}
		r := receiver{socket: s, link: &Link{soft: true}, sink: quiet{sink}, pool: sink.pool}
		r.take(min(s.rx.filled(), burstSize))
		p := sink.pool.Get(100)
		clear(p.Append(100))
		s.put([]*buf.Buf{p})
		if len(s.free) > ringFrames {
			t.Errorf("%d chunks are free", len(s.free))
		}
		p.Free()
		if n := sink.pool.Bufs(); n != 0 {
			t.Errorf("%d buffers out", n)
		}
	})
}

// quiet is a counter that takes note of nothing.
type quiet struct{ *counter }

func (quiet) Input(burst []*buf.Buf) { buf.FreeBurst(burst) }
func (quiet) Dropped(int)            {}
func (quiet) Malformed(int)          {}
