package e2e

import (
	"bytes"
	"encoding/binary"
	"errors"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"ionet/client"
	"ionet/protocol"
	"ionet/tool/onstack/abi"
	"ionet/tool/onstack/stacktables"
)

// linuxSocket is a socket of a stack's as a Linux program sees it.
type linuxSocket struct {
	abi.Sock
	k *client.Socket
}

func (l *linuxSocket) set(level, name int, v []byte) error {
	r, err := abi.Set(&l.Sock, level, name, v)
	if err != nil {
		return err
	}
	for _, c := range r.Calls {
		if err := r.Err(l.k.SetOption(c.Level, c.Name, c.Value)); err != nil {
			return err
		}
	}
	l.Keep(r)
	return nil
}

func (l *linuxSocket) get(level, name, optlen int) ([]byte, error) {
	r, err := abi.Get(&l.Sock, level, name)
	if err != nil {
		return nil, err
	}
	var v []byte
	for _, c := range r.Calls {
		if v, err = l.k.Option(c.Level, c.Name); err != nil {
			return nil, r.Err(err)
		}
	}
	return r.Reply(v, optlen)
}

// TestLinuxOptions: whatever the translation asks of a stack, the stack has.
func TestLinuxOptions(t *testing.T) {
	_, s := linked(t)
	tables := stacktables.New(s)
	open := func(typ, proto int) *linuxSocket {
		t.Helper()
		k, err := s.Socket(typ, proto)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = k.Close() })
		return &linuxSocket{abi.Sock{Family: unix.AF_INET, Type: typ, Protocol: proto, Tables: tables}, k}
	}
	number := func(n int) []byte { return binary.LittleEndian.AppendUint32(nil, uint32(n)) }
	values := [][]byte{{}, {1}, number(-1), number(0), number(1), number(2), number(100), number(70000), make([]byte, 8), make([]byte, 12), make([]byte, 16), make([]byte, 300)}
	kinds := map[string]*linuxSocket{
		"stream": open(unix.SOCK_STREAM, 0), "datagram": open(unix.SOCK_DGRAM, 0), "raw": open(unix.SOCK_RAW, unix.IPPROTO_ICMP),
		"echo": open(unix.SOCK_DGRAM, unix.IPPROTO_ICMP),
	}
	for what, l := range kinds {
		for _, level := range []int{unix.SOL_SOCKET, unix.IPPROTO_IP, unix.IPPROTO_TCP, unix.IPPROTO_UDP, unix.SOL_RAW} {
			for name := range 110 {
				for _, v := range values {
					r, err := abi.Set(&l.Sock, level, name, v)
					if err != nil {
						continue
					}
					for _, c := range r.Calls {
						if err := r.Err(l.k.SetOption(c.Level, c.Name, c.Value)); errors.Is(err, syscall.ENOPROTOOPT) {
							t.Errorf("%s: level %d name %d set to % x asks for %+v, which the stack does not have", what, level, name, v, c)
						}
					}
				}
				r, err := abi.Get(&l.Sock, level, name)
				if err != nil || len(r.Calls) == 0 {
					continue
				}
				if _, err := l.get(level, name, 512); err != nil && !(name == unix.IP_MTU && level == unix.IPPROTO_IP) {
					t.Errorf("%s: level %d name %d by %+v: %v", what, level, name, r.Calls, err)
				}
			}
		}
	}

	// As a program would: set, and read again.
	for _, c := range []struct {
		kind        string
		level, name int
		v, want     []byte
		err         error
	}{
		{"stream", unix.SOL_SOCKET, unix.SO_RCVBUF, number(100000), number(200000), nil},
		{"stream", unix.SOL_SOCKET, unix.SO_SNDBUF, number(1 << 30), number(16 << 20), nil},
		{"stream", unix.SOL_SOCKET, unix.SO_KEEPALIVE, number(1), number(1), nil},
		{"stream", unix.SOL_SOCKET, unix.SO_LINGER, append(number(1), number(5)...), append(number(1), number(5)...), nil},
		{"stream", unix.IPPROTO_TCP, unix.TCP_CORK, number(1), number(1), nil},
		{"stream", unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, number(60), number(60), nil},
		{"stream", unix.IPPROTO_TCP, unix.TCP_CONGESTION, []byte("reno"), []byte("reno\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"), nil},
		{"stream", unix.IPPROTO_TCP, unix.TCP_CONGESTION, []byte("bbr"), nil, syscall.ENOENT},
		{"datagram", unix.SOL_SOCKET, unix.SO_BINDTODEVICE, []byte("en0"), []byte("en0\x00"), nil},
		{"datagram", unix.SOL_SOCKET, unix.SO_BINDTODEVICE, []byte("eth0"), nil, syscall.ENODEV},
		{"datagram", unix.SOL_SOCKET, unix.SO_BINDTODEVICE, nil, nil, nil},
		{"datagram", unix.IPPROTO_IP, unix.IP_TOS, []byte{0xb8}, number(0xb8), nil},
		{"datagram", unix.IPPROTO_IP, unix.IP_MULTICAST_TTL, number(7), number(7), nil},
		{"datagram", unix.IPPROTO_IP, unix.IP_MULTICAST_IF, append(make([]byte, 8), number(2)...), []byte{10, 0, 0, 1}, nil},
		{"raw", unix.IPPROTO_IP, unix.IP_HDRINCL, number(1), number(1), nil},
	} {
		l := kinds[c.kind]
		if err := l.set(c.level, c.name, c.v); !errors.Is(err, c.err) {
			t.Errorf("level %d name %d set to %q: %v, want %v", c.level, c.name, c.v, err, c.err)
		}
		if c.err != nil {
			continue
		}
		if got, err := l.get(c.level, c.name, 64); err != nil || !bytes.Equal(got, c.want) {
			t.Errorf("level %d name %d set to %q reads % x, %v; want % x", c.level, c.name, c.v, got, err, c.want)
		}
	}
	group := []byte{224, 0, 1, 9, 0, 0, 0, 0, 2, 0, 0, 0} // on interface 2
	for _, c := range []struct {
		name int
		v    []byte
		want error
	}{
		{unix.IP_ADD_MEMBERSHIP, group, nil},
		{unix.IP_ADD_MEMBERSHIP, group, syscall.EADDRINUSE},
		{unix.IP_DROP_MEMBERSHIP, group, nil},
		{unix.IP_DROP_MEMBERSHIP, group, syscall.EADDRNOTAVAIL},
	} {
		if err := kinds["datagram"].set(unix.IPPROTO_IP, c.name, c.v); !errors.Is(err, c.want) {
			t.Errorf("%d of 224.0.1.9: %v, want %v", c.name, err, c.want)
		}
	}
}

// TestLinuxMessages: a datagram's destination and TTL, as a Linux program
// reads them, and the interface's address by ioctl.
func TestLinuxMessages(t *testing.T) {
	_, s := linked(t)
	tables := stacktables.New(s)
	k, err := s.Socket(unix.SOCK_DGRAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	l := &linuxSocket{abi.Sock{Family: unix.AF_INET, Type: unix.SOCK_DGRAM, Tables: tables}, k}
	on := []byte{1, 0, 0, 0}
	for _, name := range []int{unix.IP_PKTINFO, unix.IP_RECVTTL} {
		if err := l.set(unix.IPPROTO_IP, name, on); err != nil {
			t.Fatal(err)
		}
	}
	to := inet("10.0.0.1")
	to.Port = 4000
	if err := k.Bind(to); err != nil {
		t.Fatal(err)
	}
	if _, err := k.Send(protocol.Msg{Addr: to, Data: []byte("hello")}); err != nil {
		t.Fatal(err)
	}
	m, err := k.Recv(100, 0)
	if err != nil {
		t.Fatal(err)
	}
	b, cut := l.AppendCmsgs(nil, m, 256)
	c, err := syscall.ParseSocketControlMessage(b)
	if err != nil || cut || len(c) != 2 {
		t.Fatalf("% x: %d messages, cut %v, %v", b, len(c), cut, err)
	}
	if !bytes.Equal(c[0].Data[4:], []byte{10, 0, 0, 1, 10, 0, 0, 1}) || c[0].Data[0] == 0 {
		t.Errorf("in_pktinfo is % x", c[0].Data)
	}
	if c[1].Header.Type != unix.IP_TTL || c[1].Data[0] != 64 {
		t.Errorf("IP_TTL is %+v", c[1])
	}
	ifr := make([]byte, abi.IfreqLen)
	copy(ifr, "en0")
	got, err := abi.Ioctl(tables, unix.SIOCGIFADDR, ifr)
	if err != nil {
		t.Fatal(err)
	}
	if a, err := abi.ParseSockaddr(got[unix.IFNAMSIZ:]); err != nil || a.IP != to.IP {
		t.Errorf("SIOCGIFADDR of en0: %v, %v", a, err)
	}
}
