package main

import (
	"encoding/binary"
	"errors"
	"net"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// echoID is the identifier of all echoes.
const echoID = 0x696f

// putEcho makes m an echo request with sequence number seq. Whoever sends one
// over IPv6 fills in the checksum, which is over addresses too.
func putEcho(v *version, m []byte, seq uint16) {
	clear(m[:8])
	m[0] = v.echoRequest()
	binary.BigEndian.PutUint16(m[4:], echoID)
	binary.BigEndian.PutUint16(m[6:], seq)
	for i := 8; i < len(m); i++ {
		m[i] = byte(i)
	}
	if v == v4 {
		binary.BigEndian.PutUint16(m[2:], ^sum(m))
	}
}

// isReply reports whether r answers the request m.
func isReply(v *version, r, m []byte) bool {
	return len(r) == len(m) && r[0] == v.echoReply() && string(r[4:]) == string(m[4:])
}

func sum(b []byte) uint16 {
	s := uint32(0)
	for ; len(b) > 1; b = b[2:] {
		s += uint32(binary.BigEndian.Uint16(b))
	}
	for s > 0xffff {
		s = s>>16 + s&0xffff
	}
	return uint16(s)
}

// ours and theirs are the addresses that a TAP without a stack knows.
var ours, theirs = v4.server.As4(), v4.client.As4()

// bare is a TAP without a stack: a loop that reads a frame through Go's
// poller, swaps its addresses and writes it back. It answers ARP and echo
// requests for our IPv4 address and nothing else.
type bare struct {
	raw   syscall.RawConn
	buf   [2048]byte
	fd    int
	reply []byte // an echo reply that came
	all   func(fd uintptr) bool
	one   func(fd uintptr) bool
	err   error
}

// Offsets in an Ethernet frame of ARP or of IPv4 without options.
const (
	frameType  = 12
	arpOp      = 20
	arpSender  = 22
	arpTarget  = 32
	ipProtocol = 23
	ipSource   = 26
	ipDest     = 30
	icmpAt     = 34
)

// handle answers one frame. It reports whether that was an echo reply.
func (t *bare) handle(f []byte) bool {
	if len(f) < 42 {
		return false
	}
	answer := func() {
		copy(f[0:6], f[6:12])
		copy(f[6:12], stackMAC[:])
		if _, err := unix.Write(t.fd, f); err != nil && !errors.Is(err, unix.EAGAIN) {
			t.err = err
		}
	}
	switch binary.BigEndian.Uint16(f[frameType:]) {
	case 0x0806:
		if f[arpOp+1] == 1 && string(f[arpTarget+6:arpTarget+10]) == string(ours[:]) {
			f[arpOp+1] = 2
			copy(f[arpTarget:], f[arpSender:arpSender+10])
			copy(f[arpSender:], stackMAC[:])
			copy(f[arpSender+6:], ours[:])
			answer()
		}
	case 0x0800:
		if f[ipProtocol] != 1 || string(f[ipDest:ipDest+4]) != string(ours[:]) {
			return false
		}
		switch f[icmpAt] {
		case 0:
			n := 14 + int(binary.BigEndian.Uint16(f[16:]))
			t.reply = f[icmpAt:min(n, len(f))]
			return true
		case 8:
			var a [4]byte
			copy(a[:], f[ipSource:])
			copy(f[ipSource:], f[ipDest:ipDest+4])
			copy(f[ipDest:], a[:])
			// Type 8 became 0: RFC 1624, with carry.
			f[icmpAt] = 0
			c := uint32(binary.BigEndian.Uint16(f[icmpAt+2:])) + 0x0800
			binary.BigEndian.PutUint16(f[icmpAt+2:], uint16(c+c>>16))
			answer()
		}
	}
	return false
}

// read handles frames until there are none, or, with one, until a reply.
func (t *bare) read(fd uintptr, one bool) bool {
	for t.err == nil {
		n, err := unix.Read(int(fd), t.buf[:])
		switch {
		case err == unix.EAGAIN:
			return false
		case err == unix.EINTR:
		case err != nil:
			t.err = err
		case t.handle(t.buf[:n]) && one:
			return true
		}
	}
	return true
}

func tapBare([]string) error {
	fd, err := openTap(0)
	if err != nil {
		return err
	}
	file := os.NewFile(uintptr(fd), tapName)
	defer file.Close()
	t := &bare{fd: fd}
	if t.raw, err = file.SyscallConn(); err != nil {
		return err
	}
	t.all = func(fd uintptr) bool { return t.read(fd, false) }
	t.one = func(fd uintptr) bool { return t.read(fd, true) }
	if err := kernelSide(); err != nil {
		return err
	}
	ifi, err := net.InterfaceByName(tapName)
	if err != nil {
		return err
	}
	// The loop echoes, except while it pings: then the pinging goroutine reads.
	resume := make(chan bool)
	go func() {
		for range resume {
			_ = t.raw.Read(t.all) // until the deadline
			resume <- true
		}
	}()
	resume <- true
	return serve(func(string) error {
		_ = file.SetReadDeadline(time.Unix(1, 0))
		<-resume
		_ = file.SetReadDeadline(time.Time{})
		err := t.ping(ifi.HardwareAddr)
		resume <- true
		return err
	})
}

// ping pings the kernel from the loop itself.
func (t *bare) ping(mac net.HardwareAddr) error {
	f := make([]byte, icmpAt+echoOctets)
	copy(f, mac)
	copy(f[6:], stackMAC[:])
	binary.BigEndian.PutUint16(f[frameType:], 0x0800)
	ip := f[14:icmpAt]
	ip[0], ip[8], ip[9] = 0x45, 64, 1
	binary.BigEndian.PutUint16(ip[2:], uint16(len(f)-14))
	copy(ip[12:], ours[:])
	copy(ip[16:], theirs[:])
	binary.BigEndian.PutUint16(ip[10:], ^sum(ip))
	return pings(v4, func(m []byte) error {
		copy(f[icmpAt:], m)
		_, err := unix.Write(t.fd, f)
		return err
	}, func() ([]byte, error) {
		err := t.raw.Read(t.one)
		return t.reply, errors.Join(err, t.err)
	})
}
