package ipsec

import (
	"bytes"
	"encoding/binary"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"ionet/test/play"
	"ionet/test/vm"
)

// station is the only other host on the link of a machine, for every address: the test itself.
type station struct {
	*vm.Kernel
	conn *net.UnixConn
	to   *net.UnixAddr
	mac  []byte // the machine's
}

const stationMAC = "02:00:00:00:00:01"

// newStation boots a machine that has 192.0.2.2 and 2001:db8::2, and everything else behind the station.
func newStation(t *testing.T) *station {
	t.Helper()
	dir := play.ShortDir(t)
	us, them := filepath.Join(dir, "us"), filepath.Join(dir, "them")
	s := &station{to: &net.UnixAddr{Name: them, Net: "unixgram"}}
	var err error
	if s.conn, err = net.ListenUnixgram("unixgram", &net.UnixAddr{Name: us, Net: "unixgram"}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.conn.Close() })
	s.Kernel = vm.NewKernel(t, vm.Dgram(them, us))
	s.Load(vm.IPsec()...)
	s.IP("link set eth0 up", "addr add 192.0.2.2/24 dev eth0", "addr add 2001:db8::2/64 dev eth0",
		"neigh add 192.0.2.1 lladdr "+stationMAC+" dev eth0", "neigh add 2001:db8::1 lladdr "+stationMAC+" dev eth0",
		"route add default via 192.0.2.1", "route add default via 2001:db8::1")
	mac, err := net.ParseMAC(string(bytes.TrimSpace([]byte(s.Must("cat", "/sys/class/net/eth0/address")))))
	if err != nil {
		t.Fatal(err)
	}
	s.mac = mac
	return s
}

// send sends an IP packet.
func (s *station) send(packet []byte) {
	s.T.Helper()
	kind := []byte{0x08, 0x00}
	if packet[0]>>4 == 6 {
		kind = []byte{0x86, 0xdd}
	}
	from, _ := net.ParseMAC(stationMAC)
	frame := append(append(append(append([]byte{}, s.mac...), from...), kind...), packet...)
	if _, err := s.conn.WriteTo(frame, s.to); err != nil {
		s.T.Fatal(err)
	}
}

// receive is the next IP packet to an address, none after that time.
func (s *station) receive(to netip.Addr, limit time.Duration) []byte {
	s.T.Helper()
	if err := s.conn.SetReadDeadline(time.Now().Add(limit)); err != nil {
		s.T.Fatal(err)
	}
	for b := make([]byte, 65536); ; {
		n, err := s.conn.Read(b)
		if os.IsTimeout(err) {
			return nil
		} else if err != nil {
			s.T.Fatal(err)
		}
		if p := packetOf(b[:n]); p != nil && destination(p) == to {
			return bytes.Clone(p)
		}
	}
}

// packetOf is the IP packet of a frame, nil if there is none, without the link's padding.
func packetOf(frame []byte) []byte {
	if len(frame) < 14+20 {
		return nil
	}
	p := frame[14:]
	size := 0
	switch binary.BigEndian.Uint16(frame[12:]) {
	case 0x0800:
		size = int(binary.BigEndian.Uint16(p[2:]))
	case 0x86dd:
		size = 40 + int(binary.BigEndian.Uint16(p[4:]))
	}
	if size < 20 || size > len(p) {
		return nil
	}
	return p[:size]
}

func destination(packet []byte) netip.Addr {
	if packet[0]>>4 == 6 {
		return netip.AddrFrom16([16]byte(packet[24:40]))
	}
	return netip.AddrFrom4([4]byte(packet[16:20]))
}

// upper is the protocol of an IP packet without options and extension headers, and what it carries.
func upper(packet []byte) (proto byte, payload []byte) {
	if packet[0]>>4 == 6 {
		return packet[6], packet[40:]
	}
	return packet[9], packet[20:]
}

// echo is an echo request with n octets of data.
func echo(from, to netip.Addr, seq uint16, n int) []byte {
	m := make([]byte, 8+n)
	binary.BigEndian.PutUint16(m[4:], 0x4242)
	binary.BigEndian.PutUint16(m[6:], seq)
	for i := range n {
		m[8+i] = byte(i)
	}
	if to.Is6() {
		m[0] = 128
		pseudo := append(append(from.AsSlice(), to.AsSlice()...), 0, 0, 0, 0, 0, 0, 0, 58)
		binary.BigEndian.PutUint32(pseudo[32:], uint32(len(m)))
		binary.BigEndian.PutUint16(m[2:], sum(append(pseudo, m...)))
		p := append([]byte{0x60, 0, 0, 0, 0, 0, 58, 64}, append(from.AsSlice(), to.AsSlice()...)...)
		binary.BigEndian.PutUint16(p[4:], uint16(len(m)))
		return append(p, m...)
	}
	m[0] = 8
	binary.BigEndian.PutUint16(m[2:], sum(m))
	p := append([]byte{0x45, 0, 0, 0, 0, 1, 0x40, 0, 64, 1, 0, 0}, append(from.AsSlice(), to.AsSlice()...)...)
	binary.BigEndian.PutUint16(p[2:], uint16(20+len(m)))
	binary.BigEndian.PutUint16(p[10:], sum(p))
	return append(p, m...)
}

// answers reports whether a packet is the answer to an echo request.
func answers(packet, request []byte) bool {
	if len(packet) < 20 || packet[0]>>4 != request[0]>>4 {
		return false
	}
	_, a := upper(packet)
	_, q := upper(request)
	kind := byte(0)
	if request[0]>>4 == 6 {
		kind = 129
	}
	return len(a) >= 8 && a[0] == kind && bytes.Equal(a[4:], q[4:])
}

// sum is the Internet's checksum (RFC 1071).
func sum(b []byte) uint16 {
	var s uint32
	for i, c := range b {
		if i%2 == 0 {
			s += uint32(c) << 8
		} else {
			s += uint32(c)
		}
	}
	for s > 0xffff {
		s = s>>16 + s&0xffff
	}
	return ^uint16(s)
}
