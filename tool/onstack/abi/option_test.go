package abi

import (
	"bytes"
	"math"
	"reflect"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"ionet/protocol"
)

// calls are the requests of the stack that come of a setsockopt.
func calls(t *testing.T, s Sock, level, name int, v []byte) []protocol.SockOpt {
	t.Helper()
	r, err := Set(&s, level, name, v)
	if err != nil {
		t.Errorf("level %d name %d set to % x: %v", level, name, v, err)
	}
	return r.Calls
}

func opt(level, name int, v []byte) protocol.SockOpt {
	return protocol.SockOpt{Level: level, Name: name, Value: v}
}

// TestSetIsTheStacks: each option of Linux's that the stack has arrives there
// under its own number, in its own octets.
func TestSetIsTheStacks(t *testing.T) {
	raw := Sock{Family: unix.AF_INET, Type: unix.SOCK_RAW, Protocol: unix.IPPROTO_ICMP}
	member := datagram
	member.Tables = sampleTables
	group, en0, source := []byte{224, 0, 0, 251}, []byte{10, 0, 0, 1}, []byte{10, 0, 0, 9}
	cat := func(b ...[]byte) []byte { return bytes.Join(b, nil) }
	storage := func(ip []byte) []byte {
		b := make([]byte, storageLen)
		b[0] = unix.AF_INET
		copy(b[4:], ip)
		return b
	}
	one := value32(1)
	for _, c := range []struct {
		s           Sock
		level, name int
		v           []byte
		want        []protocol.SockOpt
	}{
		{stream, unix.SOL_SOCKET, unix.SO_KEEPALIVE, value32(7), []protocol.SockOpt{opt(protocol.SolSocket, protocol.SoKeepAlive, one)}},
		{stream, unix.SOL_SOCKET, unix.SO_OOBINLINE, value32(0), []protocol.SockOpt{opt(protocol.SolSocket, protocol.SoOOBInline, value32(0))}},
		{datagram, unix.SOL_SOCKET, unix.SO_BROADCAST, one, []protocol.SockOpt{opt(protocol.SolSocket, protocol.SoBroadcast, one)}},
		{datagram, unix.SOL_SOCKET, unix.SO_DONTROUTE, one, []protocol.SockOpt{opt(protocol.SolSocket, protocol.SoDontRoute, one)}},
		{stream, unix.SOL_SOCKET, unix.SO_REUSEADDR, one, []protocol.SockOpt{
			opt(protocol.SolSocket, protocol.SoReuseAddr, one), opt(protocol.SolSocket, protocol.SoReusePort, value32(0))}},
		{datagram, unix.SOL_SOCKET, unix.SO_REUSEADDR, one, []protocol.SockOpt{
			opt(protocol.SolSocket, protocol.SoReuseAddr, one), opt(protocol.SolSocket, protocol.SoReusePort, one)}},
		{stream, unix.SOL_SOCKET, unix.SO_RCVBUF, value32(100000), []protocol.SockOpt{opt(protocol.SolSocket, protocol.SoRcvBuf, value32(100000))}},
		{stream, unix.SOL_SOCKET, unix.SO_RCVBUF, value32(0), []protocol.SockOpt{opt(protocol.SolSocket, protocol.SoRcvBuf, value32(1152))}},
		{stream, unix.SOL_SOCKET, unix.SO_SNDBUF, value32(-1), []protocol.SockOpt{opt(protocol.SolSocket, protocol.SoSndBuf, value32(maxBuf))}},
		{stream, unix.SOL_SOCKET, unix.SO_LINGER, cat(value32(2), value32(-1)), []protocol.SockOpt{opt(protocol.SolSocket, protocol.SoLinger, cat(one, value32(1<<15)))}},
		{stream, unix.SOL_SOCKET, unix.SO_RCVTIMEO, cat(value64(5), value64(250000)), []protocol.SockOpt{opt(protocol.SolSocket, protocol.SoRcvTimeo, cat(value64(5), value64(250000)))}},
		{stream, unix.SOL_SOCKET, unix.SO_SNDTIMEO_NEW, cat(value64(math.MaxInt64), value64(1)), []protocol.SockOpt{opt(protocol.SolSocket, protocol.SoSndTimeo, make([]byte, 16))}},
		{stream, unix.SOL_SOCKET, unix.SO_RCVTIMEO, cat(value64(math.MaxUint64), value64(1)), []protocol.SockOpt{opt(protocol.SolSocket, protocol.SoRcvTimeo, cat(value64(0), value64(1)))}},
		{datagram, unix.SOL_SOCKET, unix.SO_BINDTODEVICE, []byte("en0\x00junk"), []protocol.SockOpt{opt(protocol.SolSocket, protocol.SoBindToIf, []byte("en0"))}},
		{member, unix.SOL_SOCKET, unix.SO_BINDTOIFINDEX, value32(3), []protocol.SockOpt{opt(protocol.SolSocket, protocol.SoBindToIf, []byte("en0"))}},
		{stream, unix.IPPROTO_TCP, unix.TCP_NODELAY, one, []protocol.SockOpt{opt(protocol.ProtoTCP, protocol.TCPNoDelay, one)}},
		{stream, unix.IPPROTO_TCP, unix.TCP_CORK, one, []protocol.SockOpt{opt(protocol.ProtoTCP, protocol.TCPNoPush, one)}},
		{stream, unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, value32(60), []protocol.SockOpt{opt(protocol.ProtoTCP, protocol.TCPKeepIdle, value32(60))}},
		{stream, unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, value32(60), []protocol.SockOpt{opt(protocol.ProtoTCP, protocol.TCPKeepIntvl, value32(60))}},
		{stream, unix.IPPROTO_TCP, unix.TCP_KEEPCNT, value32(6), []protocol.SockOpt{opt(protocol.ProtoTCP, protocol.TCPKeepCnt, value32(6))}},
		{stream, unix.IPPROTO_TCP, unix.TCP_MAXSEG, value32(536), []protocol.SockOpt{opt(protocol.ProtoTCP, protocol.TCPMaxSeg, value32(536))}},
		{stream, unix.IPPROTO_TCP, unix.TCP_CONGESTION, []byte("reno"), []protocol.SockOpt{opt(protocol.ProtoTCP, protocol.TCPCongestion, []byte("newreno"))}},
		{stream, unix.IPPROTO_TCP, unix.TCP_CONGESTION, []byte("cubic\x00"), []protocol.SockOpt{opt(protocol.ProtoTCP, protocol.TCPCongestion, []byte("cubic"))}},
		{stream, unix.IPPROTO_TCP, unix.TCP_FASTOPEN, value32(5), []protocol.SockOpt{opt(protocol.ProtoTCP, protocol.TCPFastOpen, value32(5))}},
		{stream, unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, value32(5), nil},
		{datagram, unix.IPPROTO_IP, unix.IP_TOS, []byte{0xb9}, []protocol.SockOpt{opt(protocol.ProtoIP, protocol.IPTos, value32(0xb9))}},
		{stream, unix.IPPROTO_IP, unix.IP_TOS, value32(0xb9), []protocol.SockOpt{opt(protocol.ProtoIP, protocol.IPTos, value32(0xb8))}},
		{datagram, unix.IPPROTO_IP, unix.IP_TTL, value32(-1), []protocol.SockOpt{opt(protocol.ProtoIP, protocol.IPTTL, value32(64))}},
		{raw, unix.IPPROTO_IP, unix.IP_HDRINCL, one, []protocol.SockOpt{opt(protocol.ProtoIP, protocol.IPHdrIncl, one)}},
		{raw, unix.IPPROTO_IP, unix.IP_OPTIONS, []byte{7, 3, 4, 0}, []protocol.SockOpt{opt(protocol.ProtoIP, protocol.IPOptions, []byte{7, 3, 4, 0})}},
		{datagram, unix.IPPROTO_IP, unix.IP_PKTINFO, one, []protocol.SockOpt{
			opt(protocol.ProtoIP, protocol.IPRecvDstAddr, one), opt(protocol.ProtoIP, protocol.IPRecvIf, one)}},
		{datagram, unix.IPPROTO_IP, unix.IP_RECVTTL, one, []protocol.SockOpt{opt(protocol.ProtoIP, protocol.IPRecvTTL, one)}},
		{datagram, unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, value32(unix.IP_PMTUDISC_PROBE), []protocol.SockOpt{opt(protocol.ProtoIP, protocol.IPDontFrag, one)}},
		{datagram, unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, value32(unix.IP_PMTUDISC_WANT), []protocol.SockOpt{opt(protocol.ProtoIP, protocol.IPDontFrag, value32(0))}},
		{stream, unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, value32(unix.IP_PMTUDISC_DO), nil},
		{datagram, unix.IPPROTO_IP, unix.IP_MULTICAST_TTL, value32(-1), []protocol.SockOpt{opt(protocol.ProtoIP, protocol.IPMulticastTTL, one)}},
		{datagram, unix.IPPROTO_IP, unix.IP_MULTICAST_LOOP, []byte{0}, []protocol.SockOpt{opt(protocol.ProtoIP, protocol.IPMulticastLoop, value32(0))}},
		{datagram, unix.IPPROTO_IP, unix.IP_MULTICAST_IF, en0, []protocol.SockOpt{opt(protocol.ProtoIP, protocol.IPMulticastIf, en0)}},
		{datagram, unix.IPPROTO_IP, unix.IP_MULTICAST_IF, cat(group, en0), []protocol.SockOpt{opt(protocol.ProtoIP, protocol.IPMulticastIf, en0)}},
		{datagram, unix.IPPROTO_IP, unix.IP_MULTICAST_IF, cat(group, en0, value32(3)), []protocol.SockOpt{opt(protocol.ProtoIP, protocol.IPMulticastIf, cat(group, en0, value32(3)))}},
		{datagram, unix.IPPROTO_IP, unix.IP_ADD_MEMBERSHIP, cat(group, en0), []protocol.SockOpt{opt(protocol.ProtoIP, protocol.IPAddMembership, cat(group, en0))}},
		{member, unix.IPPROTO_IP, unix.IP_ADD_MEMBERSHIP, cat(group, source, value32(3)), []protocol.SockOpt{opt(protocol.ProtoIP, protocol.IPAddMembership, cat(group, en0))}},
		{datagram, unix.IPPROTO_IP, unix.IP_DROP_MEMBERSHIP, cat(group, en0, value32(0)), []protocol.SockOpt{opt(protocol.ProtoIP, protocol.IPDropMembership, cat(group, en0))}},
		{datagram, unix.IPPROTO_IP, unix.IP_ADD_SOURCE_MEMBERSHIP, cat(group, en0, source), []protocol.SockOpt{opt(protocol.ProtoIP, protocol.IPAddSourceMembership, cat(group, source, en0))}},
		{datagram, unix.IPPROTO_IP, unix.IP_DROP_SOURCE_MEMBERSHIP, cat(group, en0, source), []protocol.SockOpt{opt(protocol.ProtoIP, protocol.IPDropSourceMembership, cat(group, source, en0))}},
		{datagram, unix.IPPROTO_IP, unix.IP_BLOCK_SOURCE, cat(group, en0, source), []protocol.SockOpt{opt(protocol.ProtoIP, protocol.IPBlockSource, cat(group, source, en0))}},
		{datagram, unix.IPPROTO_IP, unix.IP_UNBLOCK_SOURCE, cat(group, en0, source), []protocol.SockOpt{opt(protocol.ProtoIP, protocol.IPUnblockSource, cat(group, source, en0))}},
		{member, unix.IPPROTO_IP, unix.MCAST_JOIN_GROUP, cat(value32(3), value32(0), storage(group)), []protocol.SockOpt{opt(protocol.ProtoIP, protocol.IPAddMembership, cat(group, en0))}},
		{datagram, unix.IPPROTO_IP, unix.MCAST_LEAVE_GROUP, cat(value32(0), value32(0), storage(group)), []protocol.SockOpt{opt(protocol.ProtoIP, protocol.IPDropMembership, cat(group, value32(0)))}},
		{member, unix.IPPROTO_IP, unix.MCAST_JOIN_SOURCE_GROUP, cat(value32(3), value32(0), storage(group), storage(source)),
			[]protocol.SockOpt{opt(protocol.ProtoIP, protocol.IPAddSourceMembership, cat(group, source, en0))}},
	} {
		if got := calls(t, c.s, c.level, c.name, c.v); !reflect.DeepEqual(got, c.want) {
			t.Errorf("level %d name %d set to % x asks %v, want %v", c.level, c.name, c.v, got, c.want)
		}
	}
	for _, name := range []int{unix.IP_ADD_MEMBERSHIP, unix.IP_MULTICAST_IF} {
		if _, err := Set(&stream, unix.IPPROTO_IP, name, cat(group, en0)); err == nil {
			t.Errorf("%d of a stream is granted", name)
		}
	}
	if _, err := Set(&member, unix.IPPROTO_IP, unix.IP_ADD_MEMBERSHIP, cat(group, en0, value32(9))); err != syscall.ENODEV {
		t.Errorf("a group on an interface that is not there: %v", err)
	}
}

// TestGetIsLinuxs: what the stack answers, as the program reads it.
func TestGetIsLinuxs(t *testing.T) {
	member := datagram
	member.Tables = sampleTables
	listener := stream
	listener.Listening = true
	for _, c := range []struct {
		s           Sock
		level, name int
		answer      []byte
		optlen      int
		want        []byte
	}{
		{stream, unix.SOL_SOCKET, unix.SO_KEEPALIVE, value32(protocol.SoKeepAlive), 4, value32(1)},
		{stream, unix.SOL_SOCKET, unix.SO_RCVBUF, value32(65536), 4, value32(131072)},
		{stream, unix.SOL_SOCKET, unix.SO_SNDBUF, value32(math.MaxInt32), 4, value32(math.MaxInt32)},
		{stream, unix.SOL_SOCKET, unix.SO_ERROR, value32(111), 4, value32(111)},
		{stream, unix.SOL_SOCKET, unix.SO_TYPE, nil, 4, value32(unix.SOCK_STREAM)},
		{datagram, unix.SOL_SOCKET, unix.SO_PROTOCOL, nil, 4, value32(unix.IPPROTO_UDP)},
		{datagram, unix.SOL_SOCKET, unix.SO_DOMAIN, nil, 4, value32(unix.AF_INET)},
		{listener, unix.SOL_SOCKET, unix.SO_ACCEPTCONN, nil, 4, value32(1)},
		{stream, unix.SOL_SOCKET, unix.SO_PEERCRED, nil, 12, []byte{0, 0, 0, 0, 255, 255, 255, 255, 255, 255, 255, 255}},
		{datagram, unix.SOL_SOCKET, unix.SO_BINDTODEVICE, []byte("en0"), 16, []byte("en0\x00")},
		{datagram, unix.SOL_SOCKET, unix.SO_BINDTODEVICE, nil, 4, nil},
		{member, unix.SOL_SOCKET, unix.SO_BINDTOIFINDEX, []byte("en0"), 4, value32(3)},
		{member, unix.SOL_SOCKET, unix.SO_BINDTOIFINDEX, nil, 4, value32(0)},
		{stream, unix.IPPROTO_TCP, unix.TCP_CONGESTION, []byte("newreno"), 16, append([]byte("reno"), make([]byte, 12)...)},
		{stream, unix.IPPROTO_TCP, unix.TCP_CONGESTION, []byte("cubic"), 5, []byte("cubic")},
		{datagram, unix.IPPROTO_IP, unix.IP_TTL, value32(64), 1, []byte{64}},
		{datagram, unix.IPPROTO_IP, unix.IP_MULTICAST_IF, []byte{10, 0, 0, 1}, 4, []byte{10, 0, 0, 1}},
		{datagram, unix.IPPROTO_IP, unix.IP_OPTIONS, []byte{7, 3, 4, 0}, 40, []byte{7, 3, 4, 0}},
	} {
		r, err := Get(&c.s, c.level, c.name)
		if err != nil {
			t.Errorf("level %d name %d: %v", c.level, c.name, err)
			continue
		}
		if got, err := r.Reply(c.answer, c.optlen); err != nil || !bytes.Equal(got, c.want) {
			t.Errorf("level %d name %d: % x, %v; want % x", c.level, c.name, got, err, c.want)
		}
		if len(r.Calls) == 1 && c.level != unix.SOL_SOCKET {
			if _, err := r.Reply([]byte{1, 2, 3}, c.optlen); err != syscall.EPROTO && c.name != unix.TCP_CONGESTION && c.name != unix.IP_OPTIONS {
				t.Errorf("level %d name %d of a wrong answer: %v", c.level, c.name, err)
			}
		}
	}
	r, err := Get(&datagram, unix.SOL_SOCKET, unix.SO_BINDTODEVICE)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Reply([]byte("en0"), 15); err != syscall.EINVAL {
		t.Errorf("a name in 15 octets: %v", err)
	}
}

// TestErr: the stack's refusals in Linux's words.
func TestErr(t *testing.T) {
	for _, c := range []struct {
		level, name int
		v           []byte
		err         error
		want        error
	}{
		{unix.SOL_SOCKET, unix.SO_BINDTODEVICE, []byte("en9"), syscall.ENXIO, syscall.ENODEV},
		{unix.SOL_SOCKET, unix.SO_RCVBUF, value32(1 << 20), &protocol.Error{Errno: syscall.ENOBUFS, Text: "too large"}, nil},
		{unix.SOL_SOCKET, unix.SO_BROADCAST, value32(1), syscall.EBADF, syscall.EBADF},
		{unix.SOL_SOCKET, unix.SO_BROADCAST, value32(1), nil, nil},
		{unix.IPPROTO_IP, unix.IP_ADD_MEMBERSHIP, []byte{224, 0, 0, 1, 0, 0, 0, 0}, syscall.EADDRNOTAVAIL, syscall.ENODEV},
		{unix.IPPROTO_IP, unix.IP_DROP_MEMBERSHIP, []byte{224, 0, 0, 1, 0, 0, 0, 0}, syscall.EADDRNOTAVAIL, syscall.EADDRNOTAVAIL},
	} {
		r, err := Set(&datagram, c.level, c.name, c.v)
		if err != nil {
			t.Fatal(err)
		}
		if got := r.Err(c.err); got != c.want {
			t.Errorf("level %d name %d, %v: %v, want %v", c.level, c.name, c.err, got, c.want)
		}
	}
}

// TestShared: two ways to be told of the destination, one option of the
// stack's, which stays on while either is wanted.
func TestShared(t *testing.T) {
	s, f := Sock{Family: unix.AF_INET6, Type: unix.SOCK_DGRAM}, newFakeStack()
	dst := func() byte {
		return f.get(protocol.SockOpt{Level: protocol.ProtoIPv6, Name: protocol.IPv6RecvPktInfo})[0]
	}
	for i, step := range []struct {
		o    Option
		on   int
		want byte
	}{{pktinfo4, 1, 1}, {pktinfo6, 1, 1}, {pktinfo4, 0, 1}, {pktinfo6, 0, 0}} {
		if err := ourSet(&s, f, step.o.Level, step.o.Name, value32(step.on)); err != nil {
			t.Fatal(err)
		}
		if dst() != step.want {
			t.Errorf("step %d: IPV6_RECVPKTINFO is %d, want %d", i, dst(), step.want)
		}
	}
}

// TestAccepted: a connection inherits what its listener remembered, and then
// has it for itself.
func TestAccepted(t *testing.T) {
	l, f := stream, newFakeStack()
	l.Listening = true
	if err := ourSet(&l, f, unix.SOL_SOCKET, unix.SO_PRIORITY, value32(5)); err != nil {
		t.Fatal(err)
	}
	c := l.Accepted(7)
	if err := ourSet(&l, f, unix.SOL_SOCKET, unix.SO_PRIORITY, value32(1)); err != nil {
		t.Fatal(err)
	}
	if n, ok := c.Kept(Option{unix.SOL_SOCKET, unix.SO_PRIORITY}); !ok || n != 5 || c.Listening || c.Cookie != 7 {
		t.Errorf("priority %d, %v of %+v", n, ok, c)
	}
}

func TestFilters(t *testing.T) {
	s, f := Sock{Family: unix.AF_INET, Type: unix.SOCK_RAW, Protocol: unix.IPPROTO_ICMP}, newFakeStack()
	fprog := make([]byte, 16)
	if err := ourSet(&s, f, unix.SOL_SOCKET, unix.SO_DETACH_FILTER, value32(0)); err != syscall.ENOENT {
		t.Errorf("detach what is not there: %v", err)
	}
	if err := ourSet(&s, f, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, fprog); err != nil {
		t.Errorf("a filter of ping's: %v", err)
	}
	if err := ourSet(&s, f, unix.SOL_SOCKET, unix.SO_DETACH_FILTER, value32(0)); err != nil {
		t.Errorf("detach: %v", err)
	}
	if _, err := Set(&datagram, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, fprog); err != syscall.ENOPROTOOPT {
		t.Errorf("a filter of UDP's: %v", err)
	}
	reply := append([]byte{0x45}, make([]byte, 27)...)
	echo := bytes.Clone(reply)
	echo[20] = 8
	if s.Filtered(reply) || s.Filtered(echo) {
		t.Error("filtered without a filter")
	}
	if err := ourSet(&s, f, unix.SOL_RAW, unix.ICMP_FILTER, value32(^(1 << 0))); err != nil { // replies only
		t.Fatal(err)
	}
	if s.Filtered(reply) || !s.Filtered(echo) || s.Filtered(echo[:20]) || s.Filtered(nil) {
		t.Error("the filter lets through what it should not, or stops what it should not")
	}
}

// TestTCPInfo reads the translation as x/sys/unix lays the struct out.
func TestTCPInfo(t *testing.T) {
	v := []byte{4, 2, 15, 0x97} // ESTABLISHED, recovery, all options, 7 and 9
	for i := range 25 {
		v = le.AppendUint32(v, uint32(1000*(i+1)))
	}
	r, err := Get(&stream, unix.IPPROTO_TCP, unix.TCP_INFO)
	if err != nil {
		t.Fatal(err)
	}
	b, err := r.Reply(v, 1000)
	if err != nil {
		t.Fatal(err)
	}
	var i unix.TCPInfo
	copy(unsafe.Slice((*byte)(unsafe.Pointer(&i)), unsafe.Sizeof(i)), b) // a younger one is longer
	for _, c := range []struct {
		name      string
		got, want uint32
	}{
		{"state", uint32(i.State), 1}, {"ca_state", uint32(i.Ca_state), 3}, {"options", uint32(i.Options), 15}, {"scales", uint32(b[6]), 0x97},
		{"rto", i.Rto, 1000}, {"rtt", i.Rtt, 2000}, {"rttvar", i.Rttvar, 3000}, {"min_rtt", i.Min_rtt, 4000},
		{"snd_mss", i.Snd_mss, 5000}, {"advmss", i.Advmss, 6000}, {"snd_wnd", i.Snd_wnd, 10000}, {"rcv_ssthresh", i.Rcv_ssthresh, 11000},
		{"snd_cwnd", i.Snd_cwnd, 2}, {"snd_ssthresh", i.Snd_ssthresh, 3}, {"unacked", i.Unacked, 3}, {"lost", i.Lost, 3}, {"sacked", i.Sacked, 4},
		{"pmtu", i.Pmtu, 17000}, {"notsent", i.Notsent_bytes, 5000}, {"rcv_space", i.Rcv_space, 22000}, {"rcv_ooopack", i.Rcv_ooopack, 23000},
	} {
		if c.got != c.want {
			t.Errorf("%s is %d, want %d", c.name, c.got, c.want)
		}
	}
	if _, err := r.Reply(v[:90], 1000); err != syscall.EPROTO {
		t.Errorf("a short answer: %v", err)
	}
	r, err = Get(&stream, unix.IPPROTO_IP, unix.IP_MTU)
	if err != nil {
		t.Fatal(err)
	}
	if b, err := r.Reply(v, 4); err != nil || le.Uint32(b) != 17000 {
		t.Errorf("IP_MTU: % x, %v", b, err)
	}
	if _, err := r.Reply(make([]byte, stackInfoLen), 4); err != syscall.ENOTCONN {
		t.Errorf("IP_MTU without a connection: %v", err)
	}
}

// TestKeptReadsBack: an option that is remembered reads as it was set, over
// all that can be set.
func TestKeptReadsBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := rapid.SampledFrom(sockKinds).Draw(t, "socket").sock
		level := rapid.SampledFrom(levels).Draw(t, "level")
		name := rapid.IntRange(0, names).Draw(t, "name")
		v := value32(rapid.IntRange(-2, 300).Draw(t, "value"))
		r, err := Set(&s, level, name, v)
		if err != nil {
			return
		}
		if !r.Idle && len(r.Calls) == 0 && len(r.keep) == 0 {
			t.Fatalf("level %d name %d set to % x does nothing, and does not say so", level, name, v)
		}
		if r.Idle && len(r.Calls) > 0 {
			t.Fatalf("level %d name %d set to % x is of no effect, and asks %v", level, name, v, r.Calls)
		}
		s.Keep(r)
		again, err := Get(&s, level, name)
		if err != nil || len(again.Calls) > 0 || !r.Idle {
			return
		}
		b, err := again.Reply(nil, 4)
		if err != nil || len(b) == 4 && !bytes.Equal(b, v) && le.Uint32(b) > 64 {
			t.Fatalf("level %d name %d set to % x reads % x, %v", level, name, v, b, err)
		}
	})
}

// FuzzOption: no option, value or answer of any length brings the translation
// down, and what goes to the stack has a level of its own.
func FuzzOption(f *testing.F) {
	f.Add(uint8(0), unix.SOL_SOCKET, unix.SO_RCVTIMEO, make([]byte, 16), 16)
	f.Add(uint8(1), unix.IPPROTO_IP, unix.MCAST_JOIN_SOURCE_GROUP, make([]byte, groupSourceReqLen), 4)
	f.Add(uint8(0), unix.IPPROTO_TCP, unix.TCP_CONGESTION, []byte("bbr"), 16)
	f.Fuzz(func(t *testing.T, kind uint8, level, name int, v []byte, optlen int) {
		s := sockKinds[int(kind)%len(sockKinds)].sock
		s.Tables = sampleTables
		if r, err := Set(&s, level, name, v); err == nil {
			for _, c := range r.Calls {
				if c.Level != protocol.SolSocket && c.Level != protocol.ProtoIP && c.Level != protocol.ProtoTCP || len(c.Value) > max(len(v), 16) {
					t.Fatalf("level %d name %d asks %+v", level, name, c)
				}
			}
			s.Keep(r)
		}
		r, err := Get(&s, level, name)
		if err != nil {
			return
		}
		if b, err := r.Reply(v, optlen); err == nil && len(b) > optlen {
			t.Fatalf("level %d name %d: %d octets for %d", level, name, len(b), optlen)
		}
	})
}
