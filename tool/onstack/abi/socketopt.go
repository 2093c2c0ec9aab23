package abi

import (
	"bytes"
	"math"
	"syscall"

	"golang.org/x/sys/unix"

	"ionet/protocol"
)

// maxBuf is the most that a socket buffer is asked to be: kern.sbmax as a
// stack starts with.
const maxBuf = 8 << 20

// stamp is where the way of SO_TIMESTAMP* that is in force is kept: its name,
// which is also the type of its control message.
var stamp = Option{unix.SOL_SOCKET, unix.SO_TIMESTAMP_OLD}

// soOption is the stack's option of SOL_SOCKET.
func soOption(name int) Option { return Option{protocol.SolSocket, name} }

// socketRules are the options of SOL_SOCKET. Missing, and therefore
// ENOPROTOOPT: SO_PEERNAME and SO_PEERSEC, SO_MEMINFO, SO_NETNS_COOKIE and
// SO_BPF_EXTENSIONS (what they show is the kernel's), SO_ATTACH_BPF and
// SO_ATTACH_REUSEPORT_* (programs that would have to run in the stack),
// SO_TXTIME (nothing here sends later), and SO_SECURITY_*, which no Linux has.
var socketRules = map[int]rule{
	unix.SO_BROADCAST: boolean(soOption(protocol.SoBroadcast)),
	unix.SO_DONTROUTE: boolean(soOption(protocol.SoDontRoute)),
	unix.SO_KEEPALIVE: boolean(soOption(protocol.SoKeepAlive)),
	unix.SO_OOBINLINE: boolean(soOption(protocol.SoOOBInline)),
	unix.SO_REUSEADDR: {set: setReuse, get: getReuse},
	unix.SO_REUSEPORT: {set: setReuse, get: getReuse},

	unix.SO_ERROR:        {get: askNumber(soOption(protocol.SoError))},
	unix.SO_SNDBUF:       buffer(protocol.SoSndBuf, 2304),
	unix.SO_RCVBUF:       buffer(protocol.SoRcvBuf, 1152),
	unix.SO_SNDBUFFORCE:  {set: refuse(syscall.EPERM).set},
	unix.SO_RCVBUFFORCE:  {set: refuse(syscall.EPERM).set},
	unix.SO_RCVLOWAT:     {set: setRcvLowat, get: askNumber(soOption(protocol.SoRcvLowat))},
	unix.SO_SNDLOWAT:     fixed(func(*Sock) int { return 1 }),
	unix.SO_RCVTIMEO:     timeout(protocol.SoRcvTimeo),
	unix.SO_RCVTIMEO_NEW: timeout(protocol.SoRcvTimeo),
	unix.SO_SNDTIMEO:     timeout(protocol.SoSndTimeo),
	unix.SO_SNDTIMEO_NEW: timeout(protocol.SoSndTimeo),
	unix.SO_LINGER:       {set: setLinger, get: askOctets(soOption(protocol.SoLinger), 8)},

	unix.SO_BINDTODEVICE:  {set: setDevice, get: getDevice},
	unix.SO_BINDTOIFINDEX: {set: setDeviceIndex, get: getDeviceIndex},

	unix.SO_TIMESTAMP_OLD:   {set: setStamp, get: getStamp},
	unix.SO_TIMESTAMP_NEW:   {set: setStamp, get: getStamp},
	unix.SO_TIMESTAMPNS_OLD: {set: setStamp, get: getStamp},
	unix.SO_TIMESTAMPNS_NEW: {set: setStamp, get: getStamp},
	// When a packet left, or what a network card's clock says, the stack does
	// not tell; 0 asks for nothing.
	unix.SO_TIMESTAMPING_OLD: {set: zeroOnly(syscall.ENOPROTOOPT).set, get: zeros(8).get},
	unix.SO_TIMESTAMPING_NEW: {set: zeroOnly(syscall.ENOPROTOOPT).set, get: zeros(8).get},

	unix.SO_TYPE:             fixed(func(s *Sock) int { return s.Type }),
	unix.SO_DOMAIN:           fixed(func(s *Sock) int { return s.Family }),
	unix.SO_PROTOCOL:         fixed((*Sock).protocol),
	unix.SO_ACCEPTCONN:       fixed(func(s *Sock) int { return flag(s.Listening) }),
	unix.SO_COOKIE:           {get: getCookie},
	unix.SO_INCOMING_NAPI_ID: fixed(func(*Sock) int { return 0 }),

	// An internet socket's peer has no identity: pid 0, uid and gid -1.
	unix.SO_PEERCRED:   octets(func(*Sock) []byte { return []byte("\x00\x00\x00\x00\xff\xff\xff\xff\xff\xff\xff\xff") }),
	unix.SO_PEERGROUPS: {get: refuse(syscall.ENODATA).get},
	unix.SO_PEERPIDFD:  {get: refuse(syscall.ENODATA).get},
	unix.SO_PASSCRED:   refuse(syscall.EOPNOTSUPP),
	unix.SO_PASSSEC:    refuse(syscall.EOPNOTSUPP),
	unix.SO_PASSPIDFD:  refuse(syscall.EOPNOTSUPP),
	unix.SO_PASSRIGHTS: refuse(syscall.EOPNOTSUPP),

	// What takes a privilege that nobody has over the stack by having it over
	// the kernel.
	unix.SO_DEBUG: zeroOnly(syscall.EACCES),
	unix.SO_MARK:  {set: refuse(syscall.EPERM).set, get: remembered(0)},

	// Data goes by the data descriptor or a frame, always copied.
	unix.SO_ZEROCOPY: zeroOnly(syscall.EOPNOTSUPP),
	// Peeking at an offset would have to be the data descriptor's.
	unix.SO_PEEK_OFF: idle(-1, -1, -1, syscall.EOPNOTSUPP),
	// Memory ahead of need is an affair of control groups.
	unix.SO_RESERVE_MEM: {set: refuse(syscall.EOPNOTSUPP).set, get: remembered(0)},

	// Hints to queues, processors and cards that a stack has none of.
	unix.SO_PRIORITY:         idle(0, 0, 6, syscall.EPERM),
	unix.SO_RCVPRIORITY:      idleFlag(0),
	unix.SO_BUSY_POLL:        idle(0, 0, math.MaxInt32, syscall.EINVAL),
	unix.SO_PREFER_BUSY_POLL: idleFlag(0),
	unix.SO_BUSY_POLL_BUDGET: {set: idle(0, 0, math.MaxUint16, syscall.EINVAL).set},
	unix.SO_INCOMING_CPU:     idle(-1, math.MinInt32, math.MaxInt32, syscall.EINVAL),
	unix.SO_TXREHASH:         only(unix.SOCK_STREAM, syscall.EOPNOTSUPP, rule{set: idle(1, -1, 1, syscall.EINVAL).set, get: start(1)}),
	unix.SO_CNX_ADVICE:       {set: idle(0, math.MinInt32, math.MaxInt32, syscall.EINVAL).set},
	unix.SO_WIFI_STATUS:      idleFlag(0),
	unix.SO_NOFCS:            idleFlag(0),
	unix.SO_MAX_PACING_RATE:  {set: setPacing, get: getPacing}, // nothing is paced

	// A program that asks for these goes on without: no checksum to be spared,
	// no count of lost datagrams beside a message, no error queue to be told
	// of, no marks, no buffer that grows where it was set.
	unix.SO_RCVMARK:          idleFlag(0),
	unix.SO_NO_CHECK:         idleFlag(0),
	unix.SO_RXQ_OVFL:         idleFlag(0),
	unix.SO_SELECT_ERR_QUEUE: idleFlag(0),
	unix.SO_BUF_LOCK:         idle(0, 0, 3, syscall.EINVAL),
	unix.SO_BSDCOMPAT:        {set: idleFlag(0).set, get: fixed(func(*Sock) int { return 0 }).get},

	unix.SO_ATTACH_FILTER: {set: attachFilter, get: zeros(0).get},
	unix.SO_DETACH_FILTER: {set: detachFilter},
	unix.SO_LOCK_FILTER:   idleFlag(0),
}

// askNumber is a getsockopt of the stack's option to.
func askNumber(to Option) func(*Sock, Option) (Request, error) {
	return func(_ *Sock, o Option) (Request, error) { return ask(o, to, nil), nil }
}

// askOctets is a getsockopt of the stack's option to, whose n octets are
// Linux's too.
func askOctets(to Option, n int) func(*Sock, Option) (Request, error) {
	return func(*Sock, Option) (Request, error) {
		return Request{
			Calls: []protocol.SockOpt{{Level: to.Level, Name: to.Name}},
			reply: func(v []byte) ([]byte, error) {
				if len(v) != n {
					return nil, syscall.EPROTO
				}
				return v, nil
			},
		}, nil
	}
}

// zeros is an option that reads as n zero octets.
func zeros(n int) rule { return octets(func(*Sock) []byte { return make([]byte, n) }) }

// only is r on sockets of the type typ, and errno on others.
func only(typ int, errno syscall.Errno, r rule) rule {
	return rule{
		set: func(s *Sock, o Option, v []byte) (Request, error) {
			if s.Type != typ {
				return Request{}, errno
			}
			return r.set(s, o, v)
		},
		get: func(s *Sock, o Option) (Request, error) {
			if s.Type != typ {
				return Request{}, errno
			}
			return r.get(s, o)
		},
	}
}

// setReuse is SO_REUSEADDR and SO_REUSEPORT. Linux lets datagram sockets that
// have either share a port; BSD wants SO_REUSEPORT for it.
func setReuse(s *Sock, o Option, v []byte) (Request, error) {
	n, err := number(o.Level, v, 0)
	if err != nil {
		return Request{}, err
	}
	addr, port := s.on(unix.SOL_SOCKET, unix.SO_REUSEADDR), s.on(unix.SOL_SOCKET, unix.SO_REUSEPORT)
	if o.Name == unix.SO_REUSEADDR {
		addr = n != 0
	} else {
		port = n != 0
	}
	return Request{
		Calls: []protocol.SockOpt{
			call(soOption(protocol.SoReuseAddr), flag(addr)),
			call(soOption(protocol.SoReusePort), flag(port || addr && s.Type == unix.SOCK_DGRAM)),
		},
		keep: []kept{{o, flag(n != 0)}},
	}, nil
}

func getReuse(s *Sock, o Option) (Request, error) { return answer(o, s.kept[o]), nil }

// buffer is SO_SNDBUF or SO_RCVBUF. Linux takes any size, makes of it what it
// can, and shows twice as much (socket(7)); least is half of the least that it
// shows. The stack refuses what is above kern.sbmax: the buffer then stays.
func buffer(name, least int) rule {
	to := soOption(name)
	return rule{
		set: func(_ *Sock, o Option, v []byte) (Request, error) {
			n, err := number(o.Level, v, 0)
			if err != nil {
				return Request{}, err
			}
			if n < 0 || n > maxBuf {
				n = maxBuf
			}
			return Request{
				Calls: []protocol.SockOpt{call(to, max(n, least))},
				errno: map[syscall.Errno]syscall.Errno{syscall.ENOBUFS: 0},
			}, nil
		},
		get: func(_ *Sock, o Option) (Request, error) {
			return ask(o, to, func(n int) int { return min(2*n, math.MaxInt32) }), nil
		},
	}
}

func setRcvLowat(_ *Sock, o Option, v []byte) (Request, error) {
	n, err := number(o.Level, v, 0)
	if err != nil {
		return Request{}, err
	}
	if n < 0 {
		n = math.MaxInt32
	}
	return Request{Calls: []protocol.SockOpt{call(soOption(protocol.SoRcvLowat), max(n, 1))}}, nil
}

// timeout is SO_RCVTIMEO or SO_SNDTIMEO: i64 seconds, i64 microseconds, in the
// old layout of 64-bit machines and in the new one. Linux takes a negative
// time as none at all, where nothing waits; here it is the shortest.
func timeout(name int) rule {
	to := soOption(name)
	return rule{
		set: func(_ *Sock, _ Option, v []byte) (Request, error) {
			if len(v) < 16 {
				return Request{}, syscall.EINVAL
			}
			sec, usec := int64(le.Uint64(v)), int64(le.Uint64(v[8:]))
			switch {
			case usec < 0 || usec >= 1e6:
				return Request{}, syscall.EDOM
			case sec < 0:
				sec, usec = 0, 1
			case sec > math.MaxInt32: // for ever
				sec, usec = 0, 0
			}
			t := value64(uint64(sec))
			return Request{Calls: []protocol.SockOpt{{Level: to.Level, Name: to.Name, Value: le.AppendUint64(t, uint64(usec))}}}, nil
		},
		get: askOctets(to, 16),
	}
}

// setLinger is SO_LINGER: i32 on, i32 seconds. Linux takes any number.
func setLinger(_ *Sock, _ Option, v []byte) (Request, error) {
	if len(v) < 8 {
		return Request{}, syscall.EINVAL
	}
	on, sec := le.Uint32(v), le.Uint32(v[4:])
	value := append(value32(flag(on != 0)), value32(int(min(sec, 1<<15)))...)
	return Request{Calls: []protocol.SockOpt{{Level: protocol.SolSocket, Name: protocol.SoLinger, Value: value}}}, nil
}

// noDevice: the stack's word for an interface that is not there, and Linux's.
var noDevice = map[syscall.Errno]syscall.Errno{syscall.ENXIO: syscall.ENODEV}

// bindTo is the call that ties a socket to the interface name; "" unties it.
func bindTo(name string) Request {
	return Request{
		Calls: []protocol.SockOpt{{Level: protocol.SolSocket, Name: protocol.SoBindToIf, Value: []byte(name)}},
		errno: noDevice,
		keep:  []kept{{Option{unix.SOL_SOCKET, unix.SO_BINDTODEVICE}, flag(name != "")}},
	}
}

// setDevice is SO_BINDTODEVICE: a name, which a zero may end.
func setDevice(_ *Sock, _ Option, v []byte) (Request, error) {
	v = Truncate(v, unix.IFNAMSIZ-1)
	if i := bytes.IndexByte(v, 0); i >= 0 {
		v = v[:i]
	}
	return bindTo(string(v)), nil
}

// getDevice answers the name with its zero, or nothing.
func getDevice(*Sock, Option) (Request, error) {
	return Request{
		Calls: []protocol.SockOpt{{Level: protocol.SolSocket, Name: protocol.SoBindToIf}},
		least: unix.IFNAMSIZ,
		reply: func(v []byte) ([]byte, error) {
			switch {
			case len(v) >= unix.IFNAMSIZ:
				return nil, syscall.EPROTO
			case len(v) == 0:
				return nil, nil
			}
			return append(bytes.Clone(v), 0), nil
		},
	}, nil
}

// setDeviceIndex is SO_BINDTOIFINDEX; 0 unties.
func setDeviceIndex(s *Sock, o Option, v []byte) (Request, error) {
	n, err := number(o.Level, v, 0)
	switch {
	case err != nil:
		return Request{}, err
	case n < 0:
		return Request{}, syscall.EINVAL
	case n == 0:
		return bindTo(""), nil
	}
	ifp, ok := s.byIndex(n)
	if !ok {
		return Request{}, syscall.ENODEV
	}
	return bindTo(ifp.Name), nil
}

func getDeviceIndex(s *Sock, o Option) (Request, error) {
	r, err := getDevice(s, o)
	r.least = 0
	r.reply = func(v []byte) ([]byte, error) {
		ifp, _ := s.byName(string(v))
		return value32(ifp.Index), nil
	}
	return r, err
}

// setStamp is the four ways of SO_TIMESTAMP: the last one counts, and turning
// any off turns all off.
func setStamp(_ *Sock, o Option, v []byte) (Request, error) {
	n, err := number(o.Level, v, 0)
	if err != nil {
		return Request{}, err
	}
	name := 0
	if n != 0 {
		name = o.Name
	}
	return Request{
		Calls: []protocol.SockOpt{call(soOption(protocol.SoTimestamp), flag(n != 0))},
		keep:  []kept{{stamp, name}},
	}, nil
}

func getStamp(s *Sock, o Option) (Request, error) {
	return answer(o, flag(s.kept[stamp] == o.Name)), nil
}

func getCookie(s *Sock, _ Option) (Request, error) {
	return Request{value: value64(s.Cookie), least: 8}, nil
}

// setPacing is SO_MAX_PACING_RATE, an unsigned number of 4 or 8 octets; all
// ones is no limit.
func setPacing(_ *Sock, o Option, v []byte) (Request, error) {
	n := uint64(le.Uint32(v)) // Set has seen that there are 4
	if len(v) >= 8 {
		n = le.Uint64(v)
	} else if n == math.MaxUint32 {
		n = math.MaxUint64
	}
	return Request{Idle: true, keep: []kept{{o, int(n)}}}, nil
}

func getPacing(s *Sock, o Option) (Request, error) {
	n, ok := s.Kept(o)
	if !ok {
		n = -1
	}
	return Request{value: value64(uint64(n)), wide: true}, nil
}

// attachFilter is SO_ATTACH_FILTER. The stack runs no programs for a socket.
// Those who read ICMP set a filter to be spared work, and look at what they
// get all the same; for them it is of no effect. Where a filter decides what a
// program sees it is refused.
func attachFilter(s *Sock, o Option, v []byte) (Request, error) {
	if len(v) != 16 { // sock_fprog: u16 length, pad, pointer
		return Request{}, syscall.EINVAL
	}
	if s.protocol() != unix.IPPROTO_ICMP {
		return Request{}, syscall.ENOPROTOOPT
	}
	return Request{Idle: true, keep: []kept{{o, 1}}}, nil
}

func detachFilter(s *Sock, _ Option, _ []byte) (Request, error) {
	o := Option{unix.SOL_SOCKET, unix.SO_ATTACH_FILTER}
	if s.kept[o] == 0 {
		return Request{}, syscall.ENOENT
	}
	return Request{Idle: true, keep: []kept{{o, 0}}}, nil
}
