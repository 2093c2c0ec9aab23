package abi

import (
	"bytes"
	"reflect"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"ionet/protocol"
)

// TestMulticastRoutingIsTheStacks: a routing daemon of Linux's says the stack's options, in the stack's layouts.
func TestMulticastRoutingIsTheStacks(t *testing.T) {
	four := Sock{Family: unix.AF_INET, Type: unix.SOCK_RAW, Protocol: unix.IPPROTO_IGMP, Tables: sampleTables}
	six := Sock{Family: unix.AF_INET6, Type: unix.SOCK_RAW, Protocol: unix.IPPROTO_ICMPV6}
	cat := func(b ...[]byte) []byte { return bytes.Join(b, nil) }
	one := value32(1)
	vif := []byte{2, 0, 0, 1, 0, 0, 0, 0, 10, 0, 0, 1, 0, 0, 0, 0}
	mfc := cat([]byte{10, 0, 0, 9, 239, 1, 2, 3, 2, 0, 0, 1}, make([]byte, 48))
	sin6 := func(family uint16, ip byte) []byte {
		return cat(le.AppendUint16(nil, family), make([]byte, 6), []byte{0xff, 0x0e}, make([]byte, 13), []byte{ip}, make([]byte, 4))
	}
	const lenAndFamily = protocol.AFInet6<<8 | 28
	rest := cat([]byte{2, 0, 0, 0, 6}, make([]byte, 31))
	for _, c := range []struct {
		s           Sock
		level, name int
		v           []byte
		want        protocol.SockOpt
	}{
		{four, unix.IPPROTO_IP, 200, one, opt(protocol.ProtoIP, protocol.MRTInit, one)},
		{four, unix.IPPROTO_IP, 201, nil, opt(protocol.ProtoIP, protocol.MRTDone, nil)},
		{four, unix.IPPROTO_IP, 202, vif, opt(protocol.ProtoIP, protocol.MRTAddVif, vif)},
		{four, unix.IPPROTO_IP, 202, []byte{2, 0, 8, 1, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0}, opt(protocol.ProtoIP, protocol.MRTAddVif, vif)},
		{four, unix.IPPROTO_IP, 203, vif, opt(protocol.ProtoIP, protocol.MRTDelVif, []byte{2, 0})},
		{four, unix.IPPROTO_IP, 204, mfc, opt(protocol.ProtoIP, protocol.MRTAddMFC, mfc[:44])},
		{four, unix.IPPROTO_IP, 205, mfc, opt(protocol.ProtoIP, protocol.MRTDelMFC, mfc[:44])},
		{four, unix.IPPROTO_IP, 207, one, opt(protocol.ProtoIP, protocol.MRTAssert, one)},
		{six, unix.IPPROTO_IPV6, 200, one, opt(protocol.ProtoIPv6, protocol.MRT6Init, one)},
		{six, unix.IPPROTO_IPV6, 201, nil, opt(protocol.ProtoIPv6, protocol.MRT6Done, nil)},
		{six, unix.IPPROTO_IPV6, 202, []byte{2, 0, 0, 1, 3, 0, 0, 0, 9, 9, 9, 9}, opt(protocol.ProtoIPv6, protocol.MRT6AddMif, []byte{2, 0, 0, 0, 3, 0})},
		{six, unix.IPPROTO_IPV6, 203, []byte{2, 0}, opt(protocol.ProtoIPv6, protocol.MRT6DelMif, []byte{2, 0})},
		{six, unix.IPPROTO_IPV6, 204, cat(sin6(unix.AF_INET6, 1), sin6(unix.AF_INET6, 2), rest),
			opt(protocol.ProtoIPv6, protocol.MRT6AddMFC, cat(sin6(lenAndFamily, 1), sin6(lenAndFamily, 2), rest))},
		{six, unix.IPPROTO_IPV6, 205, cat(sin6(unix.AF_INET6, 1), sin6(unix.AF_INET6, 2), rest),
			opt(protocol.ProtoIPv6, protocol.MRT6DelMFC, cat(sin6(lenAndFamily, 1), sin6(lenAndFamily, 2), rest))},
		{six, unix.IPPROTO_IPV6, 207, one, opt(protocol.ProtoIPv6, protocol.MRT6PIM, one)},
	} {
		if got := calls(t, c.s, c.level, c.name, c.v); !reflect.DeepEqual(got, []protocol.SockOpt{c.want}) {
			t.Errorf("level %d name %d set to % x asks %v, want %v", c.level, c.name, c.v, got, c.want)
		}
	}
	udp := Sock{Family: unix.AF_INET, Type: unix.SOCK_DGRAM}
	for _, c := range []struct {
		s           Sock
		level, name int
		v           []byte
		want        syscall.Errno
	}{
		{udp, unix.IPPROTO_IP, 200, one, syscall.EOPNOTSUPP},
		{four, unix.IPPROTO_IP, 200, one[:3], syscall.EINVAL},
		{four, unix.IPPROTO_IP, 202, vif[1:], syscall.EINVAL},
		{four, unix.IPPROTO_IP, 202, []byte{2, 0, 8, 1, 0, 0, 0, 0, 99, 0, 0, 0, 0, 0, 0, 0}, syscall.EADDRNOTAVAIL},
		{four, unix.IPPROTO_IP, 204, mfc[:44], syscall.EINVAL},
		{four, unix.IPPROTO_IP, 206, one, syscall.ENOPROTOOPT},
		{four, unix.IPPROTO_IP, 208, one, syscall.ENOPROTOOPT},
		{six, unix.IPPROTO_IPV6, 202, vif, syscall.EINVAL},
		{six, unix.IPPROTO_IPV6, 204, cat(sin6(unix.AF_INET, 1), sin6(unix.AF_INET6, 2), rest), syscall.EINVAL},
	} {
		if _, err := Set(&c.s, c.level, c.name, c.v); err != c.want {
			t.Errorf("level %d name %d set to % x: %v, want %v", c.level, c.name, c.v, err, c.want)
		}
	}
	q, err := Set(&four, unix.IPPROTO_IP, 201, nil)
	if err != nil || q.Err(syscall.ENOPROTOOPT) != syscall.EACCES {
		t.Errorf("MRT_DONE of a stranger: %v, %v", err, q.Err(syscall.ENOPROTOOPT))
	}
	if q, err := Get(&six, unix.IPPROTO_IPV6, 206); err != nil {
		t.Error(err)
	} else if v, err := q.Reply(nil, 4); err != nil || !bytes.Equal(v, value32(0x305)) {
		t.Errorf("the version is % x, %v", v, err)
	}
}

// TestMulticastRoutingIsTheKernels: of what can be compared without being the kernel's daemon, the kernel below says the same.
func TestMulticastRoutingIsTheKernels(t *testing.T) {
	s := Sock{Family: unix.AF_INET, Type: unix.SOCK_DGRAM}
	fd := kernelSocket(t, s)
	defer unix.Close(fd)
	want := kernelSet(fd, unix.IPPROTO_IP, 200, value32(1))
	if want == syscall.ENOPROTOOPT {
		t.Log("this kernel has no multicast routing: nothing to compare")
		return
	}
	if _, err := Set(&s, unix.IPPROTO_IP, 200, value32(1)); err != want {
		t.Errorf("MRT_INIT of a datagram socket: %v, the kernel says %v", err, want)
	}
}
