package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"ionet/driver/vnet"
)

const (
	bareSegment = 1460      // octets of a segment: the peer is offered no options that take room
	bareSuper   = 44 * 1460 // and of a super-packet
	// bareShift scales the window that the bare receiver offers, 65535: fewer
	// frames than a TAP queues, as what is lost there is acknowledged all the same.
	bareShift = 4
	// bareHeaders are those a stack's segment has, timestamps included: frames
	// without a stack count as what such a segment would carry.
	bareHeaders = 66
)

// bareStream is a TAP without a stack, for streams. It answers ARP and knows as
// much TCP as makes the kernel do its part: it accepts one connection at a
// time, discards and acknowledges whatever comes, at fillPort writes as fast as
// the window allows and goes back to where a loss was, and at echoPort echoes
// octets. It can also write frames that the kernel has no use for.
type bareStream struct {
	raw  syscall.RawConn
	fd   int
	head int // octets of vnet header
	buf  []byte

	ctl, seg []byte // frames to send, behind their vnet headers: an ACK, data
	dataSum  uint32 // over the pseudo-header and the constant part of seg

	port         uint16 // ours, of the connection
	open         bool
	una, snd     uint32
	rcv          uint32
	window       uint32
	shift        uint8
	dups, unread int
}

// Offsets in a frame of IPv4 and TCP without options.
const (
	tcpAt     = 34
	tcpSeq    = tcpAt + 4
	tcpAck    = tcpAt + 8
	tcpFlags  = tcpAt + 13
	tcpWindow = tcpAt + 14
	tcpSum    = tcpAt + 16
	tcpData   = tcpAt + 20

	flagFIN, flagSYN, flagRST, flagACK = 1, 2, 4, 16
)

func newBareStream(offload bool) (*bareStream, error) {
	fd, err := openTapWith(offload)
	if err != nil {
		return nil, err
	}
	t := &bareStream{fd: fd, buf: make([]byte, 80<<10)}
	size := bareSegment
	if offload {
		t.head, size = vnet.Size, bareSuper
	}
	t.seg = make([]byte, t.head+tcpData+size)
	t.ctl = make([]byte, t.head+tcpData+8)
	if offload {
		h := t.seg
		h[0], h[1] = 1, 1 // the checksum is partial; TCP over IPv4
		binary.LittleEndian.PutUint16(h[2:], tcpData)
		binary.LittleEndian.PutUint16(h[4:], bareSegment)
		binary.LittleEndian.PutUint16(h[6:], tcpAt)
		binary.LittleEndian.PutUint16(h[8:], tcpSum-tcpAt)
	}
	t.raw, err = os.NewFile(uintptr(fd), tapName).SyscallConn()
	return t, err
}

// loop handles frames until the TAP ends.
func (t *bareStream) loop() error {
	return t.raw.Read(func(uintptr) bool {
		for {
			n, err := unix.Read(t.fd, t.buf)
			switch {
			case err == unix.EAGAIN:
				t.acknowledge()
				if t.blast() {
					continue
				}
				return false
			case err != nil && err != unix.EINTR:
				return true
			case n >= t.head+42:
				t.handle(t.buf[t.head:n])
			}
		}
	})
}

func (t *bareStream) handle(f []byte) {
	if f[12] == 8 && f[13] == 6 && f[arpOp+1] == 1 && string(f[arpTarget+6:arpTarget+10]) == string(ours[:]) {
		f[arpOp+1] = 2
		copy(f[arpTarget:], f[arpSender:arpSender+10])
		copy(f[arpSender:], stackMAC[:])
		copy(f[arpSender+6:], ours[:])
		copy(f[0:6], f[6:12])
		copy(f[6:12], stackMAC[:])
		t.write(t.buf[:t.head+len(f)]) // its vnet header asks for nothing: ARP has no checksum
		return
	}
	if f[12] == 8 && f[13] == 0 && f[ipProtocol] == 6 && len(f) >= tcpData {
		t.segment(f)
	}
}

// segment is tcp_input without what can go wrong.
func (t *bareStream) segment(f []byte) {
	be := binary.BigEndian
	flags, seq, ack := f[tcpFlags], be.Uint32(f[tcpSeq:]), be.Uint32(f[tcpAck:])
	n := uint32(int(be.Uint16(f[16:])) + 14 - tcpAt - int(f[tcpAt+12]>>4)*4)
	switch {
	case flags&flagRST != 0:
		t.open = false
	case flags&flagSYN != 0:
		t.open, t.port = false, be.Uint16(f[tcpAt+2:])
		t.shift = windowShift(f[tcpData : tcpAt+int(f[tcpAt+12]>>4)*4])
		t.rcv, t.una, t.snd, t.dups = seq+1, 1, 1, 0
		t.address(t.ctl, f, 8)
		t.address(t.seg, f, len(t.seg)-t.head-tcpData)
		t.control(flagSYN|flagACK, 0)
	default:
		window := uint32(be.Uint16(f[tcpWindow:])) << t.shift
		switch {
		case ack != t.una:
			t.una, t.dups = ack, 0
			if int32(t.snd-ack) < 0 {
				t.snd = ack
			}
		case n == 0 && t.snd != t.una && window == t.window:
			if t.dups++; t.dups == 3 {
				t.snd = t.una
			}
		}
		t.window = window
		if t.open = flags&flagFIN == 0; !t.open {
			n++
		}
		if int32(seq+n-t.rcv) > 0 {
			t.rcv = seq + n
		}
		switch {
		case !t.open:
			t.control(flagFIN|flagACK, 0)
			t.unread = 0
		case n == 1 && t.port == echoPort:
			t.ctl[t.head+tcpData] = f[tcpAt+int(f[tcpAt+12]>>4)*4]
			t.control(flagACK, 1)
			t.snd++
		case n > 0:
			if t.unread++; t.unread == 32 {
				t.acknowledge()
			}
		}
	}
}

func windowShift(options []byte) uint8 {
	for len(options) > 1 && options[0] != 0 {
		switch {
		case options[0] == 1:
			options = options[1:]
		case options[0] == 3:
			return options[2]
		default:
			options = options[min(len(options), max(2, int(options[1]))):]
		}
	}
	return 0
}

// address makes m, a frame behind its vnet header, an answer to f that carries
// n octets, and sums what stays as it is.
func (t *bareStream) address(m, f []byte, n int) {
	be := binary.BigEndian
	g := m[t.head:]
	copy(g, f[6:12])
	copy(g[6:], stackMAC[:])
	be.PutUint16(g[12:], 0x0800)
	ip := g[14:tcpAt]
	clear(ip)
	ip[0], ip[8], ip[9] = 0x45, 64, 6
	be.PutUint16(ip[2:], uint16(len(g)-14))
	copy(ip[12:], f[ipDest:ipDest+4])
	copy(ip[16:], f[ipSource:ipSource+4])
	be.PutUint16(ip[10:], ^sum(ip))
	clear(g[tcpAt:])
	copy(g[tcpAt:], f[tcpAt+2:tcpAt+4])
	copy(g[tcpAt+2:], f[tcpAt:tcpAt+2])
	g[tcpAt+12], g[tcpFlags] = 5<<4, flagACK
	be.PutUint16(g[tcpWindow:], 65535)
	if n > 8 {
		t.dataSum = uint32(sum(ip[12:])) + 6 + uint32(20+n)
		if t.head > 0 {
			be.PutUint16(g[tcpSum:], fold(t.dataSum))
		}
		t.dataSum += uint32(sum(g[tcpAt:]))
	}
}

func fold(s uint32) uint16 {
	for s > 0xffff {
		s = s>>16 + s&0xffff
	}
	return uint16(s)
}

func halves(v uint32) uint32 { return v>>16 + v&0xffff }

// control sends a segment with the data octets that lie in ctl; a SYN offers a
// segment size and a window shift.
func (t *bareStream) control(flags byte, data int) {
	be := binary.BigEndian
	g := t.ctl[t.head:]
	n := 20 + data
	g[tcpFlags], g[tcpAt+12] = flags, 5<<4
	seq := t.snd
	if flags&flagSYN != 0 {
		seq--
		g[tcpAt+12] = 7 << 4
		copy(g[tcpData:], []byte{2, 4, bareSegment >> 8, bareSegment & 255, 3, 3, bareShift, 0})
		n = 28
	}
	g = g[:tcpAt+n]
	ip := g[14:tcpAt]
	be.PutUint16(ip[2:], uint16(20+n))
	be.PutUint16(ip[10:], 0)
	be.PutUint16(ip[10:], ^sum(ip))
	be.PutUint32(g[tcpSeq:], seq)
	be.PutUint32(g[tcpAck:], t.rcv)
	be.PutUint16(g[tcpSum:], 0)
	be.PutUint16(g[tcpSum:], ^fold(uint32(sum(ip[12:]))+6+uint32(n)+uint32(sum(g[tcpAt:]))))
	t.write(t.ctl[:t.head+len(g)])
}

func (t *bareStream) acknowledge() {
	if t.open && t.unread > 0 {
		t.control(flagACK, 0)
		t.unread = 0
	}
}

// blast sends a burst of data as the window allows. It reports whether it did.
func (t *bareStream) blast() bool {
	if !t.open || t.port != fillPort {
		return false
	}
	be := binary.BigEndian
	g := t.seg[t.head:]
	n := uint32(len(g) - tcpData)
	sent := 0
	for ; sent < 32 && t.snd-t.una+n <= t.window; sent++ {
		be.PutUint32(g[tcpSeq:], t.snd)
		be.PutUint32(g[tcpAck:], t.rcv)
		if t.head == 0 {
			be.PutUint16(g[tcpSum:], ^fold(t.dataSum+halves(t.snd)+halves(t.rcv)))
		}
		t.write(t.seg)
		t.snd += n
	}
	return sent > 0
}

func (t *bareStream) write(m []byte) {
	if _, err := unix.Write(t.fd, m); err != nil && err != unix.EAGAIN {
		panic(err)
	}
}

// written answers Gbit/s of frames that are written for d and that the kernel
// has no use for: their type is one for experiments.
func (t *bareStream) written(d time.Duration) float64 {
	f := make([]byte, t.head+14+1500)
	if t.head > 0 {
		f = make([]byte, t.head+14+20+20+bareSuper)
	}
	copy(f[t.head:], "\xff\xff\xff\xff\xff\xff")
	copy(f[t.head+6:], stackMAC[:])
	binary.BigEndian.PutUint16(f[t.head+12:], 0x88b5)
	octets, start := 0, time.Now()
	for time.Since(start) < d {
		for range 32 {
			t.write(f)
			octets += len(f) - t.head - bareHeaders
		}
	}
	return float64(octets) * 8 / float64(time.Since(start).Nanoseconds())
}

// tcpTapBare serves the loop. A line of input, which is a duration, asks what
// it writes in that time.
func tcpTapBare(args []string) error {
	t, err := newBareStream(args[0] == "offload")
	if err != nil {
		return err
	}
	if err := kernelSide(); err != nil {
		return err
	}
	go func() { must(errors.Join(t.loop(), errors.New("the TAP has ended"))) }()
	fmt.Println("ready")
	return serveLines(func(line string) error {
		d, err := time.ParseDuration(line)
		if err != nil {
			return err
		}
		fmt.Println(t.written(d))
		return nil
	})
}
