package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"ionet/stack/packet"
)

// A router lies between two networks, each a link to a kernel in a network
// namespace of its own: inside sends, outside receives.
const (
	ioFrame   = 64 // octets of a frame
	ioSettle  = 20 * time.Millisecond
	ioWarmUp  = 300 * time.Millisecond
	ioBatch   = 64 // frames a system call of the sender
	ioNothing = 77 // the host outside that does not exist
)

// ioAddr is an address of host n inside, 0, or outside, 1. Host 1 is the
// kernel, 2 the router.
func ioAddr(v *version, side, n int) netip.Addr {
	if v == v4 {
		return netip.AddrFrom4([4]byte{10, byte(1 + side), 0, byte(n)})
	}
	return netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, 0, byte(1 + side), 15: byte(n)})
}

// ioPrefix is ioAddr with the length of its network.
func ioPrefix(v *version, side, n int) netip.Prefix {
	bits := 24
	if v == v6 {
		bits = 64
	}
	return netip.PrefixFrom(ioAddr(v, side, n), bits)
}

// ioMAC is the router's address on a side. A frame for a host that does not
// exist is discarded by the kernel that gets it as soon as it sees the address.
func ioMAC(side int) [6]byte { return [6]byte{2, 0, 0, 0, byte(1 + side), 1} }

// ioKernelMAC is the kernel's on a side.
func ioKernelMAC(side int) [6]byte { return [6]byte{2, 0, 0, 0, byte(1 + side), 9} }

var ioNobody = [6]byte{2, 0, 0, 0, 0, ioNothing}

// ioLink is the name of the kernel's end of a link.
func ioLink(side int) string { return [2]string{"inside", "outside"}[side] }

// ioField is a router between its two kernels.
type ioField struct {
	name                    string
	inside, outside, router *process
}

// newField makes the namespaces of the kernels and starts the router, which
// makes the links.
func newField(name string, cpus []int, role ...string) (f *ioField, err error) {
	f = &ioField{name: name}
	defer func() {
		if err != nil {
			f.stop()
		}
	}()
	sender, own := processors()
	if f.inside, err = spawn(placement{cpus: []int{sender}, newNet: true}, "forward-io-kernel", "0"); err != nil {
		return f, err
	}
	if f.outside, err = spawn(placement{cpus: []int{own}, newNet: true}, "forward-io-kernel", "1"); err != nil {
		return f, err
	}
	for _, k := range []*process{f.inside, f.outside} {
		if _, err := k.line(); err != nil {
			return f, err
		}
	}
	at := placement{cpus: cpus, newNet: true, procs: len(cpus)} // as Go has it for who is placed before it starts
	f.router, err = spawn(at, append(role, fmt.Sprint(f.inside.cmd.Process.Pid), fmt.Sprint(f.outside.cmd.Process.Pid))...)
	if err != nil {
		return f, err
	}
	if _, err := f.router.line(); err != nil {
		return f, err
	}
	for _, k := range []*process{f.inside, f.outside} {
		if _, err := fmt.Fprintln(k.in, "up"); err != nil {
			return f, err
		}
		if _, err := k.line(); err != nil {
			return f, err
		}
	}
	return f, nil
}

func (f *ioField) stop() {
	for _, p := range []*process{f.router, f.inside, f.outside} {
		if p != nil {
			p.stop()
		}
	}
}

// flood has the inside send for a while, and answers what the outside has
// received and what was sent, frames/s.
func (f *ioField) flood(v *version, d time.Duration) (arrived, sent float64, err error) {
	before, err := f.count()
	if err != nil {
		return 0, 0, err
	}
	if _, err := fmt.Fprintln(f.inside.in, "flood", v.name, d); err != nil {
		return 0, 0, err
	}
	var n, seconds float64
	if err := f.inside.ask(&n, &seconds); err != nil {
		return 0, 0, err
	}
	time.Sleep(ioSettle) // what is on its way
	after, err := f.count()
	if err == nil && after == before {
		err = errors.New("nothing arrives")
	}
	return (after - before) / seconds, n / seconds, err
}

// count is how many frames the outside has received so far.
func (f *ioField) count() (n float64, err error) {
	if _, err := fmt.Fprintln(f.outside.in, "count"); err != nil {
		return 0, err
	}
	return n, f.outside.ask(&n)
}

// ioKernel is a kernel's namespace inside or outside.
func ioKernel(args []string) error {
	side := 0
	if args[0] == "1" {
		side = 1
	}
	return serve(func(line string) error {
		words := strings.Fields(line)
		switch words[0] {
		case "up":
			if err := ioUp(side); err != nil {
				return err
			}
			fmt.Println("up")
		case "count":
			n, err := os.ReadFile("/proc/self/net/dev")
			if err != nil {
				return err
			}
			fmt.Println(received(string(n), ioLink(side)))
		case "flood":
			v, err := versionNamed(words[1])
			if err != nil {
				return err
			}
			d, err := time.ParseDuration(words[2])
			if err != nil {
				return err
			}
			return ioFlood(v, d)
		}
		return nil
	})
}

// received is how many frames an interface has received, of the text of
// /proc/net/dev.
func received(text, name string) (frames uint64) {
	for l := range strings.Lines(text) {
		if k, v, ok := strings.Cut(strings.TrimSpace(l), ":"); ok && k == name {
			var octets uint64
			_, _ = fmt.Sscan(v, &octets, &frames)
		}
	}
	return frames
}

// ioUp gives the kernel's end of a link its addresses and a way through the
// router, and brings it up.
func ioUp(side int) error {
	name := ioLink(side)
	if err := ioQuiet(name); err != nil {
		return err
	}
	script := fmt.Sprintf("link set lo up\nlink set %s address %s up\n", name, ioText(ioKernelMAC(side)))
	for _, v := range versions {
		script += fmt.Sprintf("address add %v dev %s", ioPrefix(v, side, 1), name)
		if v == v6 {
			script += " nodad"
		}
		script += fmt.Sprintf("\nneighbour add %v lladdr %s dev %s\n", ioAddr(v, side, 2), ioText(ioMAC(side)), name)
		script += fmt.Sprintf("route add %v via %v\n", ioPrefix(v, 1-side, 0), ioAddr(v, side, 2))
	}
	return ip(script)
}

// ioQuiet leaves the kernel nothing to say on an interface by itself.
func ioQuiet(name string) error {
	for node, value := range map[string]string{"addr_gen_mode": "1", "accept_ra": "0", "router_solicitations": "0"} {
		if err := os.WriteFile("/proc/sys/net/ipv6/conf/"+name+"/"+node, []byte(value), 0); err != nil {
			return err
		}
	}
	return nil
}

// ip runs lines of ip(8).
func ip(script string) error {
	cmd := exec.Command("ip", "-batch", "-")
	cmd.Stdin = strings.NewReader(script)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("ip -batch: %w: %s", err, out)
	}
	return nil
}

// ioPacket is the frame that is sent again and again.
func ioPacket(v *version) []byte {
	f := make([]byte, ioFrame)
	typ, head := uint16(packet.EtherIPv4), packet.IPv4Len
	if v == v6 {
		typ, head = packet.EtherIPv6, packet.IPv6Len
	}
	packet.PutEther(f, ioMAC(0), [6]byte{2, 0, 0, 0, 0, 1}, typ)
	src, dst := ioAddr(v, 0, 1), ioAddr(v, 1, ioNothing)
	b := f[packet.EtherLen:]
	if v == v4 {
		packet.PutIPv4(b, 0, len(b), 0, 0, 64, packet.ProtoUDP, src, dst, nil).SetChecksum()
	} else {
		packet.PutIPv6(b, 0, 0, len(b)-head, packet.ProtoUDP, 64, src, dst)
	}
	l4 := b[head:]
	packet.PutUDP(l4, 1024, 53, len(l4), 0)
	binary.BigEndian.PutUint16(l4[6:], ^packet.Fold(packet.Sum(packet.PseudoSum(src, dst, packet.ProtoUDP, len(l4)), l4)))
	return f
}

// ioFlood sends as fast as a packet socket lets it, and prints how many frames
// in how many seconds.
func ioFlood(v *version, d time.Duration) error {
	link, err := net.InterfaceByName(ioLink(0))
	if err != nil {
		return err
	}
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Ifindex: link.Index}); err != nil {
		return err
	}
	frame := ioPacket(v)
	var msgs [ioBatch]struct {
		unix.Msghdr
		_ uint32
	}
	iov := unix.Iovec{Base: &frame[0]}
	iov.SetLen(len(frame))
	for i := range msgs {
		msgs[i].Iov = &iov
		msgs[i].SetIovlen(1)
	}
	n, start := 0, time.Now()
	for time.Since(start) < d {
		k, _, errno := unix.Syscall6(unix.SYS_SENDMMSG, uintptr(fd), uintptr(unsafe.Pointer(&msgs)), ioBatch, 0, 0, 0)
		switch errno {
		case 0:
			n += int(k)
		case unix.EINTR, unix.ENOBUFS: // a TAP's queue is full
		default:
			return fmt.Errorf("sendmmsg: %w", errno)
		}
	}
	fmt.Println(n, time.Since(start).Seconds())
	return nil
}
