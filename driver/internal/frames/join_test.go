package frames

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"ionet/driver/vnet"
	"ionet/stack/packet"
)

// segments are what a stream of n octets, in a super-packet, is cut into, and what the super-packet is in front
// of a descriptor.
func segments(t testing.TB, pool *packet.Pool, n int) (segs []*packet.Buf, wire []byte) {
	const l4 = packet.EtherLen + packet.IPv4Len
	b := pool.Get(l4 + packet.TCPLen + n)
	f := b.Append(l4 + packet.TCPLen + n)
	src, dst := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2")
	packet.PutEther(f, [6]byte{2}, [6]byte{4}, packet.EtherIPv4)
	packet.PutIPv4(f[packet.EtherLen:], 0, len(f)-packet.EtherLen, 7, packet.IPv4DF, 63, packet.ProtoTCP, src, dst, nil).SetChecksum()
	packet.PutTCP(f[l4:], 1000, 2000, 1, 77, packet.TCPLen, packet.TCPAck, 5000, 0, 0)
	for i := range f[l4+packet.TCPLen:] {
		f[l4+packet.TCPLen+i] = byte(i)
	}
	binary.BigEndian.PutUint16(f[l4+packet.TCPCsumOffset:], packet.Fold(packet.PseudoSum(src, dst, packet.ProtoTCP, len(f)-l4)))
	b.MarkL3(packet.EtherLen)
	b.SetPartial(l4, packet.TCPCsumOffset)
	b.GSO, b.GSOSize = packet.GSOTCPv4, 1400
	h := make([]byte, vnet.Size)
	vnet.Put(h, b)
	wire = append(h, b.Bytes()...)
	segs, ok := b.Segments(nil)
	if !ok {
		t.Fatal("not cut")
	}
	for _, s := range segs {
		s.CompleteCsum()
	}
	b.Free()
	return segs, wire
}

// TestJoined: segments that follow each other are written as the super-packet that they were, and what is
// between them by itself.
func TestJoined(t *testing.T) {
	writers := map[string]func(fd int, burst []*packet.Buf) (drops int){
		"socket": func(fd int, burst []*packet.Buf) int { return WriteBurst(fd, true, burst) },
		"device": func(fd int, burst []*packet.Buf) int { return writeJoined(fd, true, burst) },
	}
	for name, write := range writers {
		fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_NONBLOCK, 0)
		if err != nil {
			t.Fatal(err)
		}
		if err := unix.SetsockoptInt(fds[0], unix.SOL_SOCKET, unix.SO_SNDBUF, 1<<20); err != nil {
			t.Fatal(err)
		}
		pool := packet.NewPool(16 << 20)
		first, firstWire := segments(t, pool, 30*1400)
		second, secondWire := segments(t, pool, 40*1400+17)
		other := pool.Get(60)
		clear(other.Append(60))
		bare := pool.Get(len(second[0].Bytes())) // no room for the header in front
		bare.Reserve(3)
		copy(bare.Append(second[0].Len()), second[0].Bytes())
		bare.Csum = packet.CsumVerified
		second[0].Free()
		second[0] = bare
		burst := slices.Concat(first, []*packet.Buf{other}, second)
		if n := write(fds[0], burst); n != 0 {
			t.Errorf("%s: %d frames dropped", name, n)
		}
		var got [][]byte
		back := make([]byte, 1<<17)
		for {
			n, err := unix.Read(fds[1], back)
			if err != nil {
				break
			}
			got = append(got, bytes.Clone(back[:n]))
		}
		if len(got) != 3 || !bytes.Equal(got[0], firstWire) || len(got[1]) != vnet.Size+60 || !bytes.Equal(got[2], secondWire) {
			t.Fatalf("%s: %d messages", name, len(got))
		}
		packet.FreeBurst(burst)
		unix.Close(fds[1])
		burst, _ = segments(t, pool, 5*1400)
		if n := write(fds[0], burst); n != 5 {
			t.Errorf("%s: %d of 5 frames dropped when nobody reads", name, n)
		}
		packet.FreeBurst(burst)
		unix.Close(fds[0])
		if pool.Bufs() != 0 {
			t.Errorf("%s: %d buffers out", name, pool.Bufs())
		}
	}
}
