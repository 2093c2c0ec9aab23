package abi

import (
	"bytes"
	"math"
	"syscall"

	"golang.org/x/sys/unix"

	"ionet/protocol"
)

func tcpOption(name int) Option { return Option{protocol.ProtoTCP, name} }

// Options of IPPROTO_TCP that are younger than the headers.
const (
	tcpIsMPTCP  = 43
	tcpRTOMaxMS = 44
)

// tcpRules are the options of IPPROTO_TCP on a stream. Missing, and therefore
// ENOPROTOOPT: TCP_MD5SIG and TCP-AO, TCP_ZEROCOPY_RECEIVE, TCP_FASTOPEN_KEY,
// TCP_TIMESTAMP.
var tcpRules = map[int]rule{
	unix.TCP_NODELAY:    boolean(tcpOption(protocol.TCPNoDelay)),
	unix.TCP_CORK:       boolean(tcpOption(protocol.TCPNoPush)),
	unix.TCP_MAXSEG:     {set: setMaxSeg, get: askNumber(tcpOption(protocol.TCPMaxSeg))},
	unix.TCP_KEEPIDLE:   within(tcpOption(protocol.TCPKeepIdle), 1, 32767),
	unix.TCP_KEEPINTVL:  within(tcpOption(protocol.TCPKeepIntvl), 1, 32767),
	unix.TCP_KEEPCNT:    within(tcpOption(protocol.TCPKeepCnt), 1, 127),
	unix.TCP_INFO:       {get: getInfo},
	unix.TCP_CONGESTION: {set: setCongestion, get: getCongestion},
	unix.TCP_FASTOPEN:   {set: setFastOpen, get: remembered(0)},

	// To send with the first write instead of connecting is a client's Fast
	// Open, which Linux can be told to refuse in just this way.
	unix.TCP_FASTOPEN_CONNECT: zeroOnly(syscall.EOPNOTSUPP),

	// How the stack acknowledges, waits for data before accepting, gives up
	// and forgets is set for all of it (net.inet.tcp), and what has not been
	// sent is bounded by SO_SNDBUF: accepted for the sake of the programs that
	// hint at it.
	unix.TCP_QUICKACK:             idleFlag(1),
	unix.TCP_DEFER_ACCEPT:         idle(0, math.MinInt32, math.MaxInt32, syscall.EINVAL),
	unix.TCP_USER_TIMEOUT:         idle(0, 0, math.MaxInt32, syscall.EINVAL),
	unix.TCP_SYNCNT:               idle(6, 1, 127, syscall.EINVAL),
	unix.TCP_LINGER2:              idle(60, math.MinInt32, math.MaxInt32, syscall.EINVAL),
	unix.TCP_WINDOW_CLAMP:         idle(0, 0, math.MaxInt32, syscall.EINVAL),
	unix.TCP_NOTSENT_LOWAT:        idle(0, math.MinInt32, math.MaxInt32, syscall.EINVAL),
	unix.TCP_THIN_LINEAR_TIMEOUTS: idle(0, 0, 1, syscall.EINVAL),
	unix.TCP_THIN_DUPACK:          {set: idle(0, 0, 1, syscall.EINVAL).set, get: fixed(func(*Sock) int { return 0 }).get},
	unix.TCP_FASTOPEN_NO_COOKIE:   idle(0, 0, 1, syscall.EINVAL),
	unix.TCP_SAVE_SYN:             idle(0, 0, 2, syscall.EINVAL), // and none is saved
	tcpRTOMaxMS:                   idle(120000, 1000, 120000, syscall.EINVAL),

	unix.TCP_SAVED_SYN: zeros(0),
	unix.TCP_CC_INFO:   zeros(0),
	tcpIsMPTCP:         fixed(func(*Sock) int { return 0 }),

	// An upper layer (kernel TLS) that is not loaded.
	unix.TCP_ULP: {set: setULP, get: zeros(0).get},

	// What would have to be done to the data descriptor, or to a packet.
	unix.TCP_INQ:      zeroOnly(syscall.ENOPROTOOPT),
	unix.TCP_TX_DELAY: zeroOnly(syscall.ENOPROTOOPT),

	// Taking a connection apart is the superuser's, and the rest of it EINVAL
	// as long as nobody has begun.
	unix.TCP_REPAIR:         {set: number32(syscall.EPERM), get: remembered(0)},
	unix.TCP_REPAIR_QUEUE:   {set: number32(syscall.EPERM), get: refuse(syscall.EINVAL).get},
	unix.TCP_QUEUE_SEQ:      {set: number32(syscall.EINVAL), get: refuse(syscall.EINVAL).get},
	unix.TCP_REPAIR_OPTIONS: {set: number32(syscall.EINVAL)},
	unix.TCP_REPAIR_WINDOW:  {set: number32(syscall.EPERM), get: refuse(syscall.EINVAL).get},
}

// udpRules are the options of IPPROTO_UDP. Missing, so that a program that
// asks whether they are there is told no: UDP_SEGMENT and UDP_GRO.
var udpRules = map[int]rule{
	unix.UDP_CORK:         zeroOnly(syscall.ENOPROTOOPT),
	unix.UDP_ENCAP:        zeroOnly(syscall.ENOPROTOOPT),
	unix.UDP_NO_CHECK6_TX: idleFlag(0),
	unix.UDP_NO_CHECK6_RX: idleFlag(0),
}

// number32 refuses a number with errno.
func number32(errno syscall.Errno) func(*Sock, Option, []byte) (Request, error) {
	return func(_ *Sock, o Option, v []byte) (Request, error) {
		if _, err := number(o.Level, v, 0); err != nil {
			return Request{}, err
		}
		return Request{}, errno
	}
}

// setMaxSeg is TCP_MAXSEG; 0 is what the path has, as before.
func setMaxSeg(_ *Sock, o Option, v []byte) (Request, error) {
	n, err := number(o.Level, v, 0)
	switch {
	case err != nil:
		return Request{}, err
	case n == 0:
		return Request{Idle: true}, nil
	case n < 88 || n > 32767:
		return Request{}, syscall.EINVAL
	}
	return Request{Calls: []protocol.SockOpt{call(tcpOption(protocol.TCPMaxSeg), n)}}, nil
}

// setFastOpen is TCP_FASTOPEN, on a listener: how many connections may be open
// before their handshake is complete.
func setFastOpen(_ *Sock, o Option, v []byte) (Request, error) {
	n, err := number(o.Level, v, 0)
	if err != nil {
		return Request{}, err
	}
	if n < 0 {
		return Request{}, syscall.EINVAL
	}
	return Request{
		Calls: []protocol.SockOpt{call(tcpOption(protocol.TCPFastOpen), n)},
		keep:  []kept{{o, n}},
		errno: map[syscall.Errno]syscall.Errno{syscall.EISCONN: syscall.EINVAL},
	}, nil
}

// caNameLen is the room for the name of a congestion control.
const caNameLen = 16

// The congestion controls whose names differ.
const (
	linuxReno = "reno"
	stackReno = "newreno"
)

// setCongestion is TCP_CONGESTION. A name that the stack does not have is
// ENOENT, as where the kernel's module is not loaded.
func setCongestion(_ *Sock, _ Option, v []byte) (Request, error) {
	if len(v) == 0 {
		return Request{}, syscall.EINVAL
	}
	name := Truncate(v, caNameLen-1)
	if i := bytes.IndexByte(name, 0); i >= 0 {
		name = name[:i]
	}
	switch string(name) {
	case linuxReno:
		name = []byte(stackReno)
	case "", stackReno:
		return Request{}, syscall.ENOENT
	}
	return Request{Calls: []protocol.SockOpt{{Level: protocol.ProtoTCP, Name: protocol.TCPCongestion, Value: name}}}, nil
}

func getCongestion(*Sock, Option) (Request, error) {
	return Request{
		Calls: []protocol.SockOpt{{Level: protocol.ProtoTCP, Name: protocol.TCPCongestion}},
		reply: func(v []byte) ([]byte, error) {
			if string(v) == stackReno {
				v = []byte(linuxReno)
			}
			name := make([]byte, caNameLen)
			copy(name[:caNameLen-1], v)
			return name, nil
		},
	}, nil
}

func setULP(_ *Sock, _ Option, v []byte) (Request, error) {
	if len(v) == 0 {
		return Request{}, syscall.EINVAL
	}
	return Request{}, syscall.ENOENT
}
