package interop

import (
	"encoding/binary"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"ionet/driver/netns"
	"ionet/driver/vnet"
	"ionet/test/need"
	"ionet/test/play"
)

// TestVLANBetweenTwoStacks: what goes over an Ethernet goes over a VLAN of it, and
// over no other one.
func TestVLANBetweenTwoStacks(t *testing.T) {
	a, b := play.Pair(t)
	for i, u := range []*play.User{a, b} {
		me := string(rune('1' + i))
		u.Must("sysctl", "-w", "net.inet6.ip6.dad_count=0")
		u.Must("ifconfig", "vlan0", "create")
		u.Must("ifconfig", "vlan0", "vlan", "5", "vlanif", "en0")
		u.Must("ifconfig", "vlan0", "10.5.0."+me+"/24")
		u.Must("ifconfig", "vlan0", "inet6", "2001:db8:5::"+me+"/64")
		u.Must("ifconfig", "vlan1", "create")
		u.Must("ifconfig", "vlan1", "vlan", "1"+me, "vlanif", "en0")
		u.Must("ifconfig", "vlan1", "10.6.0."+me+"/24")
	}
	for _, size := range []string{"56", "1472", "8000"} {
		play.WantLines(t, "ping -s "+size, a.Must("ping", "-n", "-c", "2", "-i", "0.1", "-s", size, "10.5.0.2"), "2 packets received, 0.0% packet loss")
		play.WantLines(t, "ping6 -s "+size, a.Must("ping6", "-n", "-c", "2", "-i", "0.1", "-s", size, "2001:db8:5::2"), "2 packets received, 0% packet loss")
	}
	if r := a.Try("ping", "-n", "-c", "1", "-w", "1", "10.6.0.2"); r.Status == 0 {
		t.Errorf("VLAN 11 reaches VLAN 12:\n%s", r.Out)
	}
	play.WantLines(t, "netstat -s", b.Must("netstat", "-s", "-p", "vlan"), "of a vlan that has no interface")
	transfer(t, a, "nc", b, "nc", "10.5.0.2")
	transfer(t, b, "nc", a, "nc", "2001:db8:5::1")

	play.WantLines(t, "ifconfig vlan0", a.Must("ifconfig", "vlan0"), "vlan0: flags=8843<UP,BROADCAST,RUNNING,SIMPLEX,MULTICAST> mtu 1500\n\tvlan: 5 parent: en0\n\taddress: ",
		"\tinet 10.5.0.1 netmask 0xffffff00 broadcast 10.5.0.255\n")
	a.Must("ifconfig", "vlan0", "-vlanif")
	if out := a.Must("ifconfig", "vlan0"); strings.Contains(out, "parent") || strings.Contains(out, "RUNNING") {
		t.Errorf("taken off:\n%s", out)
	}
	a.Must("ifconfig", "vlan0", "vlan", "5", "vlanif", "en0")
	play.WantLines(t, "ping", a.Must("ping", "-n", "-c", "2", "-i", "0.1", "10.5.0.2"), "2 packets received, 0.0% packet loss")
	a.Must("umount", "/dev/io-net/en0")
	if out := a.Must("ifconfig", "vlan0"); strings.Contains(out, "parent") {
		t.Errorf("the parent is gone:\n%s", out)
	}
	a.Must("ifconfig", "vlan0", "destroy")
}

// transfer sends a stream from a to an address of b's. nc is whose netcat either runs.
func transfer(t *testing.T, a *play.User, nca string, b *play.User, ncb, ip string) {
	t.Helper()
	const line, lines = "a stream over a link\n", 40000
	f, err := os.Open(b.Write("data", strings.Repeat(line, lines), 0o644))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	l := b.Serves("Listening on", ncb, "-v", "-n", "-l", ip, "7777")
	if c := a.Begin(f, nca, "-N", "-n", ip, "7777"); c.Wait() != 0 {
		t.Errorf("nc %s: %s", ip, c.Err.String())
	}
	if s, n := l.Wait(), strings.Count(l.Err.String(), line); s != 0 || n != lines {
		t.Errorf("nc -l %s: status %d, %d lines of %d", ip, s, n, lines)
	}
}

// TestKernelOnAVLAN: the kernels of this machine have no VLAN devices, so that the
// test puts tags on the frames of a TAP device, and takes them off; super-packets go
// whole, by the kernel's own header in front of them.
func TestKernelOnAVLAN(t *testing.T) {
	ns, u, _ := play.KernelHost(t)
	tagging(t, ns, "lan5", "tap0", 5)
	ns.Exec("ip", "addr", "add", "10.5.0.1/24", "dev", "lan5")
	ns.Exec("ip", "addr", "add", "2001:db8:5::1/64", "dev", "lan5", "nodad")
	ns.Exec("ip", "link", "set", "lan5", "up")
	u.Must("sysctl", "-w", "net.inet6.ip6.dad_count=0")
	u.Must("ifconfig", "vlan0", "create")
	u.Must("ifconfig", "vlan0", "vlan", "5", "vlanif", "en0")
	u.Must("ifconfig", "vlan0", "10.5.0.2/24")
	u.Must("ifconfig", "vlan0", "inet6", "2001:db8:5::2/64")

	need.Command(t, "tcpdump", "tcpdump")
	dump := u.Begin(nil, "sh", "-c", "exec tcpdump -c 2 -l -n -e -i tap0 vlan 5 and icmp >&2")
	dump.Says("listening on tap0")
	for _, size := range []string{"56", "1472", "4000"} {
		for _, to := range []string{"10.5.0.2", "2001:db8:5::2"} {
			out, err := ns.Try(need.Command(t, "ping", "iputils-ping"), "-n", "-c", "1", "-W", "5", "-s", size, to)
			if err != nil || !strings.Contains(out, " 0% packet loss") {
				t.Errorf("the kernel pings with %s octets: %v\n%s", size, err, out)
			}
		}
	}
	dump.Wait()
	if out := dump.Err.String(); strings.Count(out, "vlan 5, p 0, ethertype IPv4") != 2 {
		t.Errorf("tcpdump has seen\n%s", out)
	}
	nc := need.Command(t, "nc", "netcat-openbsd")
	transfer(t, u, nc, u, "nc", "10.5.0.2")
	transfer(t, u, nc, u, "nc", "2001:db8:5::2")
	transfer(t, u, "nc", u, nc, "10.5.0.1")
	transfer(t, u, "nc", u, nc, "2001:db8:5::1")
}

// tagging makes dev, whose frames are those of trunk that have the tag.
func tagging(t *testing.T, ns *need.NS, dev, trunk string, tag uint16) {
	t.Helper()
	var tap, sock *os.File
	if err := netns.Do(ns.Name, func() (err error) {
		if tap, err = openTAP(dev); err == nil {
			sock, err = openTrunk(trunk)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	done := make(chan bool, 2)
	go func() { // down: the tag goes in, and what lies behind it moves
		defer func() { done <- true }()
		b := make([]byte, 70000)
		for {
			n, err := tap.Read(b[4:])
			if err != nil {
				return
			}
			h, f := b[:vnet.Size], b[4+vnet.Size:n+4]
			copy(h, b[4:])
			for _, at := range [...]int{2, 6} {
				if v := binary.LittleEndian.Uint16(h[at:]); v != 0 {
					binary.LittleEndian.PutUint16(h[at:], v+4)
				}
			}
			copy(b[vnet.Size:], f[:12])
			binary.BigEndian.PutUint32(b[vnet.Size+12:], 0x8100<<16|uint32(tag))
			_, _ = sock.Write(b[:n+4]) // lost
		}
	}()
	go func() { // up: the kernel has taken the tag out, and tells it apart
		defer func() { done <- true }()
		raw, err := sock.SyscallConn()
		if err != nil {
			return
		}
		b, oob := make([]byte, 70000), make([]byte, 256)
		for {
			var n, m int
			if err := raw.Read(func(fd uintptr) bool {
				n, m, _, _, err = unix.Recvmsg(int(fd), b, oob, 0)
				return err != unix.EAGAIN
			}); err != nil {
				return
			}
			if err == nil && m >= unix.CmsgLen(20) {
				if aux := oob[unix.CmsgLen(0):]; binary.NativeEndian.Uint32(aux)&unix.TP_STATUS_VLAN_VALID != 0 && binary.NativeEndian.Uint16(aux[16:]) == tag {
					_, _ = tap.Write(b[:n])
				}
			}
		}
	}()
	t.Cleanup(func() {
		_ = tap.Close()
		_ = sock.Close()
		<-done
		<-done
	})
}

// openTAP makes a TAP device with vnet headers that takes super-packets.
func openTAP(dev string) (*os.File, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	ifr, err := unix.NewIfreq(dev)
	if err != nil {
		return nil, err
	}
	ifr.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI | unix.IFF_VNET_HDR)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, ifr); err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), filepath.Join("/dev/net", dev)), unix.IoctlSetInt(fd, unix.TUNSETOFFLOAD, unix.TUN_F_CSUM|unix.TUN_F_TSO4|unix.TUN_F_TSO6)
}

// openTrunk is a packet socket with vnet headers on the interface dev.
func openTrunk(dev string) (*os.File, error) {
	link, err := net.InterfaceByName(dev)
	if err != nil {
		return nil, err
	}
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	const all = unix.ETH_P_ALL<<8 | unix.ETH_P_ALL>>8
	for _, opt := range [...]int{unix.PACKET_VNET_HDR, unix.PACKET_AUXDATA, unix.PACKET_IGNORE_OUTGOING} {
		if err := unix.SetsockoptInt(fd, unix.SOL_PACKET, opt, 1); err != nil {
			return nil, err
		}
	}
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, 4<<20)
	return os.NewFile(uintptr(fd), "trunk"), unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: link.Index})
}
