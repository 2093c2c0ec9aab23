package abi

import (
	"bytes"
	"errors"
	"os"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"ionet/protocol"
	"ionet/test/need"
)

// The kernel below is the oracle: what it answers about a socket of its own,
// the translation answers too, but where the tables here say otherwise.

// sockKinds are the sockets that are compared.
var sockKinds = []struct {
	name string
	sock Sock
	root bool
}{
	{"tcp", Sock{Family: unix.AF_INET, Type: unix.SOCK_STREAM}, false},
	{"udp", Sock{Family: unix.AF_INET, Type: unix.SOCK_DGRAM}, false},
	{"tcp6", Sock{Family: unix.AF_INET6, Type: unix.SOCK_STREAM}, false},
	{"udp6", Sock{Family: unix.AF_INET6, Type: unix.SOCK_DGRAM}, false},
	{"icmp", Sock{Family: unix.AF_INET, Type: unix.SOCK_RAW, Protocol: unix.IPPROTO_ICMP}, true},
	{"icmp6", Sock{Family: unix.AF_INET6, Type: unix.SOCK_RAW, Protocol: unix.IPPROTO_ICMPV6}, true},
	{"ospf6", Sock{Family: unix.AF_INET6, Type: unix.SOCK_RAW, Protocol: 89}, true},
	{"ospf", Sock{Family: unix.AF_INET, Type: unix.SOCK_RAW, Protocol: 89}, true},
}

var levels = []int{unix.SOL_SOCKET, unix.IPPROTO_IP, unix.IPPROTO_TCP, unix.IPPROTO_UDP, unix.IPPROTO_IPV6, unix.SOL_RAW, unix.SOL_ICMPV6, 2}

const names = 110 // the kernel's are below, but for private ones

func kernelSocket(t testing.TB, s Sock) int {
	t.Helper()
	fd, err := unix.Socket(s.Family, s.Type|unix.SOCK_CLOEXEC, s.Protocol)
	if err != nil {
		t.Fatalf("socket of the kernel's: %v", err)
	}
	return fd
}

func kernelGet(fd, level, name, optlen int) ([]byte, error) {
	b := make([]byte, 512)
	n := int32(optlen)
	_, _, e := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), uintptr(level), uintptr(name),
		uintptr(unsafe.Pointer(&b[0])), uintptr(unsafe.Pointer(&n)), 0)
	if e != 0 {
		return nil, e
	}
	return b[:n], nil
}

func kernelSet(fd, level, name int, v []byte) error {
	b := append([]byte(nil), v...)
	b = append(b, 0)
	_, _, e := unix.Syscall6(unix.SYS_SETSOCKOPT, uintptr(fd), uintptr(level), uintptr(name),
		uintptr(unsafe.Pointer(&b[0])), uintptr(len(v)), 0)
	if e != 0 {
		return e
	}
	return nil
}

// fakeStack is a stack that grants everything and answers what it was told, or
// what a new socket has.
type fakeStack map[Option][]byte

func newFakeStack() fakeStack {
	return fakeStack{
		soOption(protocol.SoLinger):        make([]byte, 8),
		soOption(protocol.SoRcvTimeo):      make([]byte, 16),
		soOption(protocol.SoSndTimeo):      make([]byte, 16),
		soOption(protocol.SoRcvLowat):      value32(1),
		soOption(protocol.SoBindToIf):      {},
		ipOption(protocol.IPTTL):           value32(64),
		ipOption(protocol.IPOptions):       {},
		ipOption(protocol.IPMulticastIf):   make([]byte, 4),
		ipOption(protocol.IPMulticastTTL):  value32(1),
		ipOption(protocol.IPMulticastLoop): value32(1),

		ip6Option(protocol.IPv6UnicastHops):   value32(64),
		ip6Option(protocol.IPv6MulticastHops): value32(1),
		ip6Option(protocol.IPv6MulticastLoop): value32(1),
		ip6Option(protocol.IPv6TClass):        value32(-1),
		ip6Option(protocol.IPv6Checksum):      value32(-1),
		ip6Option(protocol.IPv6AutoFlowLabel): value32(1),

		tcpOption(protocol.TCPInfoOpt):    make([]byte, stackInfoLen),
		tcpOption(protocol.TCPCongestion): []byte("cubic"),
	}
}

// set is the stack's setsockopt; it has no interfaces, and cubic alone.
func (f fakeStack) set(c protocol.SockOpt) error {
	o := Option{c.Level, c.Name}
	switch {
	case o == soOption(protocol.SoBindToIf) && len(c.Value) > 0:
		return syscall.ENXIO
	case o == tcpOption(protocol.TCPCongestion) && string(c.Value) != "cubic":
		return syscall.ENOENT
	}
	f[o] = c.Value
	if n := newFakeStack()[o]; (o == ip6Option(protocol.IPv6UnicastHops) || o == ip6Option(protocol.IPv6MulticastHops)) && bytes.Equal(c.Value, value32(-1)) {
		f[o] = n // as at the beginning
	}
	return nil
}

func (f fakeStack) get(c protocol.SockOpt) []byte {
	if v, ok := f[Option{c.Level, c.Name}]; ok {
		return v
	}
	return value32(0)
}

// ourSet and ourGet are what onstack does with a Request.
func ourSet(s *Sock, f fakeStack, level, name int, v []byte) error {
	r, err := Set(s, level, name, v)
	if err != nil {
		return err
	}
	for _, c := range r.Calls {
		if err := r.Err(f.set(c)); err != nil {
			return err
		}
	}
	s.Keep(r)
	return nil
}

func ourGet(s *Sock, f fakeStack, level, name, optlen int) ([]byte, error) {
	r, err := Get(s, level, name)
	if err != nil {
		return nil, err
	}
	var v []byte
	for _, c := range r.Calls {
		v = f.get(c)
	}
	return r.Reply(v, optlen)
}

// differs are the options that are not the kernel's, and why. The answers are
// an ordinary user's, who compares more than the superuser.
var differs = func() map[Option]string {
	all := map[Option]string{}
	const privileged = "an ordinary user's answer, and the kernel knows the superuser"
	add := func(why string, level int, names ...int) {
		if why == privileged && os.Geteuid() != 0 {
			return
		}
		for _, n := range names {
			all[Option{level, n}] = why
		}
	}
	const (
		missing = "not here, and a program that asks is told so"
		rounds  = "remembered as it was set, where the kernel rounds"
		bound   = "the stack's own bounds"
	)
	add(missing, unix.SOL_SOCKET, unix.SO_PEERNAME, unix.SO_BPF_EXTENSIONS, unix.SO_MEMINFO, unix.SO_TXTIME, unix.SO_NETNS_COOKIE,
		unix.SO_TIMESTAMPING_OLD, unix.SO_TIMESTAMPING_NEW, unix.SO_PEEK_OFF, unix.SO_ATTACH_FILTER, unix.SO_ATTACH_BPF,
		unix.SO_ATTACH_REUSEPORT_CBPF, unix.SO_ATTACH_REUSEPORT_EBPF, unix.SO_DETACH_REUSEPORT_BPF, unix.SO_ZEROCOPY,
		unix.SO_RESERVE_MEM, unix.SO_DEVMEM_DONTNEED)
	add(privileged, unix.SOL_SOCKET, unix.SO_DEBUG, unix.SO_PRIORITY, unix.SO_SNDBUFFORCE, unix.SO_RCVBUFFORCE, unix.SO_MARK)
	if os.Geteuid() != 0 {
		add("anybody may hint", unix.SOL_SOCKET, unix.SO_BUSY_POLL, unix.SO_PREFER_BUSY_POLL, unix.SO_BUSY_POLL_BUDGET)
	}
	add(bound, unix.SOL_SOCKET, unix.SO_SNDBUF, unix.SO_RCVBUF, unix.SO_RCVLOWAT)
	add("the stack has other interfaces", unix.SOL_SOCKET, unix.SO_BINDTOIFINDEX)
	add("the stack has other interfaces", unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_IF, unix.IPV6_UNICAST_IF)
	add(missing, unix.IPPROTO_IP, unix.IP_RECVORIGDSTADDR, unix.IP_MINTTL, unix.IP_CHECKSUM, unix.IP_RECVFRAGSIZE, unix.IP_MSFILTER,
		unix.MCAST_MSFILTER, unix.IP_LOCAL_PORT_RANGE, unix.IP_ROUTER_ALERT, unix.IP_MTU, 64, 65, 66, 67, 80, 83, 96, 97, 98, 99)
	add(privileged, unix.IPPROTO_IP, unix.IP_IPSEC_POLICY, unix.IP_XFRM_POLICY, unix.IP_TRANSPARENT)
	add("the stack looks at the octets and at its interfaces", unix.IPPROTO_IP, unix.IP_OPTIONS, unix.IP_MULTICAST_IF)
	add(missing, unix.IPPROTO_TCP, unix.TCP_MD5SIG, unix.TCP_MD5SIG_EXT, unix.TCP_CC_INFO, unix.TCP_TIMESTAMP, unix.TCP_FASTOPEN_KEY, unix.TCP_ZEROCOPY_RECEIVE,
		unix.TCP_INQ, unix.TCP_TX_DELAY, unix.TCP_FASTOPEN_CONNECT, 38, 39, 40, 41, 42, 45, 46)
	add("a later kernel's is longer, or has other things in it", unix.IPPROTO_TCP, unix.TCP_INFO)
	add(privileged, unix.IPPROTO_TCP, unix.TCP_REPAIR, unix.TCP_REPAIR_QUEUE, unix.TCP_QUEUE_SEQ, unix.TCP_REPAIR_OPTIONS, unix.TCP_REPAIR_WINDOW)
	add(rounds, unix.IPPROTO_TCP, unix.TCP_LINGER2, unix.TCP_DEFER_ACCEPT, unix.TCP_WINDOW_CLAMP, unix.TCP_FASTOPEN)
	add("the stack says what there is", unix.IPPROTO_TCP, unix.TCP_MAXSEG)
	add(missing, unix.IPPROTO_UDP, unix.UDP_CORK, unix.UDP_ENCAP, unix.UDP_SEGMENT, unix.UDP_GRO, 10, 11)
	add(missing, unix.SOL_RAW, ipv6HdrIncl)
	add(missing, unix.IPPROTO_IPV6, ipv6HdrIncl, unix.IPV6_ADDRFORM, unix.IPV6_2292PKTOPTIONS, unix.IPV6_ROUTER_ALERT, unix.IPV6_JOIN_ANYCAST,
		unix.IPV6_LEAVE_ANYCAST, 32, unix.MCAST_MSFILTER, unix.IPV6_MTU, unix.IPV6_MINHOPCOUNT, unix.IPV6_RECVFRAGSIZE, unix.IPV6_RECVORIGDSTADDR, 64, 65, 68, 69, 80)
	add("the stack looks at the octets", unix.IPPROTO_IPV6, unix.IPV6_HOPOPTS, unix.IPV6_RTHDRDSTOPTS, unix.IPV6_RTHDR, unix.IPV6_DSTOPTS)
	add("the stack knows the path", unix.IPPROTO_IPV6, unix.IPV6_PATHMTU)
	add(privileged, unix.IPPROTO_IPV6, unix.IPV6_IPSEC_POLICY, unix.IPV6_XFRM_POLICY, unix.IPV6_TRANSPARENT)
	add(rounds, unix.IPPROTO_IPV6, unix.IPV6_ADDR_PREFERENCES, unix.IPV6_TCLASS)
	add("nothing at all is EINVAL here", unix.IPPROTO_IPV6, unix.IPV6_DONTFRAG, unix.IPV6_AUTOFLOWLABEL)
	return all
}()

// same says that the answers agree. An option that this kernel is too old for
// is no evidence.
func same(level int, want, got error) bool {
	if errors.Is(want, syscall.ENOPROTOOPT) && level != unix.SOL_SOCKET && got == nil {
		return true
	}
	return want == got
}

func eachKind(t *testing.T, f func(t *testing.T, s Sock)) {
	for _, k := range sockKinds {
		t.Run(k.name, func(t *testing.T) {
			if k.root {
				need.Root(t)
			}
			f(t, k.sock)
		})
	}
}

func TestGetIsTheKernels(t *testing.T) {
	eachKind(t, func(t *testing.T, s Sock) {
		fd := kernelSocket(t, s)
		defer unix.Close(fd)
		for _, level := range levels {
			for name := range names {
				if differs[Option{level, name}] != "" {
					continue
				}
				for _, optlen := range []int{0, 1, 2, 3, 4, 5, 8, 12, 16, 300} {
					s := s
					want, kerr := kernelGet(fd, level, name, optlen)
					got, err := ourGet(&s, newFakeStack(), level, name, optlen)
					if !same(level, kerr, err) || err == nil && kerr == nil && len(got) != len(want) {
						t.Errorf("level %d name %d in %d octets: % x, %v; the kernel says % x, %v", level, name, optlen, got, err, want, kerr)
					}
				}
			}
		}
	})
}

func TestSetIsTheKernels(t *testing.T) {
	values := [][]byte{{}, {1}, {0, 0, 0}, make([]byte, 8), make([]byte, 16)}
	for _, n := range []int{-1, 0, 1, 2, 100, 300, 70000} {
		values = append(values, value32(n))
	}
	eachKind(t, func(t *testing.T, s Sock) {
		for _, level := range levels {
			for name := range names {
				if differs[Option{level, name}] != "" {
					continue
				}
				for _, v := range values {
					fd := kernelSocket(t, s)
					s, f := s, newFakeStack()
					kerr, err := kernelSet(fd, level, name, v), ourSet(&s, f, level, name, v)
					if !same(level, kerr, err) {
						t.Errorf("level %d name %d set to % x: %v; the kernel says %v", level, name, v, err, kerr)
					}
					if kerr == nil && err == nil {
						want, kerr := kernelGet(fd, level, name, 300)
						got, err := ourGet(&s, f, level, name, 300)
						if !same(level, kerr, err) || !bytes.Equal(got, want) {
							t.Errorf("level %d name %d set to % x reads % x, %v; the kernel's % x, %v", level, name, v, got, err, want, kerr)
						}
					}
					_ = unix.Close(fd)
				}
			}
		}
	})
}

// TestNegativeLength: a length below zero is EINVAL whatever is asked.
func TestNegativeLength(t *testing.T) {
	s := Sock{Family: unix.AF_INET, Type: unix.SOCK_STREAM}
	fd := kernelSocket(t, s)
	defer unix.Close(fd)
	for _, o := range []Option{{unix.SOL_SOCKET, unix.SO_TYPE}, {unix.SOL_SOCKET, unix.SO_COOKIE}, {unix.IPPROTO_IP, unix.IP_TTL}, {unix.IPPROTO_TCP, unix.TCP_INFO}} {
		_, kerr := kernelGet(fd, o.Level, o.Name, -1)
		if _, err := ourGet(&s, newFakeStack(), o.Level, o.Name, -1); err != kerr || err != syscall.EINVAL {
			t.Errorf("%v: %v; the kernel says %v", o, err, kerr)
		}
	}
}
