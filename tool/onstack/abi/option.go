package abi

import (
	"syscall"

	"golang.org/x/sys/unix"

	"ionet/protocol"
)

// Request is what becomes of one setsockopt(2) or getsockopt(2). Which of
// these it is, Calls and [Request.Idle] tell:
//
//   - the stack is asked: Calls has what for, in the order to be made, the
//     first error being the answer ([Request.Err]). A getsockopt has one call
//     at most; [Request.Reply] makes the program's answer of the stack's.
//   - it is answered here: no Calls.
//   - it is accepted and has no effect, because there is nothing in a stack
//     that it could act on: no Calls, and Idle.
//
// After a setsockopt that went well, the caller gives the Request to
// [Sock.Keep].
type Request struct {
	Calls []protocol.SockOpt
	Idle  bool

	keep  []kept
	reply func(answer []byte) ([]byte, error) // of the stack's answer
	value []byte                              // without one
	least int                                 // what the program must have room for
	octet bool                                // level SOL_IP: a small number in 1 to 3 octets is one
	wide  bool                                // a number of 8 octets is one of 4 where they have no room
	errno map[syscall.Errno]syscall.Errno     // of the stack's, those that Linux has otherwise; 0: none
}

// kept is a value to be remembered.
type kept struct {
	option Option
	value  int
}

// Reply is the answer to a getsockopt that offers room for optlen octets:
// their number is what the program finds in its length. answer is the
// stack's, nil if it was not asked. Errors: EINVAL (optlen is negative, or too
// little for an option that must be had whole), EPROTO (an answer that is
// none).
func (r Request) Reply(answer []byte, optlen int) ([]byte, error) {
	if optlen < 0 {
		return nil, syscall.EINVAL
	}
	v := r.value
	if r.reply != nil {
		var err error
		if v, err = r.reply(answer); err != nil {
			return nil, err
		}
	}
	if len(v) > 0 && optlen < r.least {
		return nil, syscall.EINVAL
	}
	if r.wide && optlen < 8 {
		v = Truncate(v, 4)
	}
	if r.octet && optlen > 0 && optlen < 4 && len(v) == 4 && le.Uint32(v) <= 255 {
		return v[:1], nil
	}
	return Truncate(v, optlen), nil
}

// Err is the stack's refusal of a call as Linux has it: what the stack calls
// ENXIO is ENODEV there, for example, and a buffer too large is none.
func (r Request) Err(err error) error {
	if err == nil {
		return nil
	}
	e := protocol.AsError(err).Errno
	if to, ok := r.errno[e]; ok {
		e = to
	}
	if e == 0 {
		return nil
	}
	return e
}

// Truncate is the part of an option's value that goes into optlen octets, as
// Linux cuts it: without an error, and the length says how much came.
func Truncate(value []byte, optlen int) []byte { return value[:max(min(len(value), optlen), 0)] }

// rule is what becomes of one option. A function that is nil answers
// ENOPROTOOPT.
type rule struct {
	set func(s *Sock, o Option, v []byte) (Request, error)
	get func(s *Sock, o Option) (Request, error)
}

// Set is setsockopt(2) of level and name, in Linux's numbers, on s. Errors are
// those that need no stack: ENOPROTOOPT, EINVAL (length or value), EPERM (what
// an ordinary user may not), EDOM, ENODEV, EOPNOTSUPP.
func Set(s *Sock, level, name int, value []byte) (Request, error) {
	o := Option{level, name}
	r, ok := find(s, o)
	if len(value) < 4 && s.wantsInt(o) {
		return Request{}, syscall.EINVAL // before the name is looked at
	}
	if !ok || r.set == nil {
		return Request{}, syscall.ENOPROTOOPT
	}
	return r.set(s, o, value)
}

// Get is getsockopt(2) of level and name, in Linux's numbers, on s. Errors as
// [Set], and EOPNOTSUPP for a level that an AF_INET socket does not have. That
// the program's length is not negative (EINVAL) is seen to before.
func Get(s *Sock, level, name int) (Request, error) {
	o := Option{level, name}
	r, ok := find(s, o)
	if !ok && s.Family == unix.AF_INET && level != unix.SOL_SOCKET && level != unix.IPPROTO_IP && level != s.transport() {
		return Request{}, syscall.EOPNOTSUPP
	}
	if !ok || r.get == nil {
		return Request{}, syscall.ENOPROTOOPT
	}
	return r.get(s, o)
}

// wantsInt says that an option is at least an int to Linux, whatever its name.
func (s *Sock) wantsInt(o Option) bool {
	switch o.Level {
	case unix.SOL_SOCKET:
		return o.Name != unix.SO_BINDTODEVICE
	case unix.IPPROTO_TCP:
		return s.transport() == o.Level && o.Name != unix.TCP_CONGESTION && o.Name != unix.TCP_ULP
	case unix.IPPROTO_UDP:
		return s.transport() == o.Level
	case unix.SOL_RAW:
		return s.transport() == o.Level && s.Family == unix.AF_INET6
	}
	return false
}

// transport is the level above IP's that the socket has.
func (s *Sock) transport() int {
	switch {
	case s.Type == unix.SOCK_STREAM:
		return unix.IPPROTO_TCP
	case s.Type == unix.SOCK_RAW:
		return unix.SOL_RAW
	case s.protocol() == unix.IPPROTO_UDP:
		return unix.IPPROTO_UDP
	}
	return -1
}

// find is the rule of o where the socket has that level.
func find(s *Sock, o Option) (rule, bool) {
	var table map[int]rule
	switch o.Level {
	case unix.SOL_SOCKET:
		table = socketRules
	case unix.IPPROTO_IP:
		if s.Family == unix.AF_INET || s.Type != unix.SOCK_RAW {
			table = ipRules
		}
	case unix.IPPROTO_IPV6:
		if s.Family == unix.AF_INET6 {
			table = ip6Rules
		}
	case s.transport():
		switch o.Level {
		case unix.IPPROTO_TCP:
			table = tcpRules
		case unix.IPPROTO_UDP:
			table = udpRules
		case unix.SOL_RAW:
			table = rawRules
			if s.Family == unix.AF_INET6 {
				table = raw6Rules
			}
		}
	case unix.SOL_ICMPV6:
		switch {
		case s.Family != unix.AF_INET6 || s.Type != unix.SOCK_RAW:
		case s.Protocol != unix.IPPROTO_ICMPV6:
			return refuse(syscall.EOPNOTSUPP), true
		default:
			table = icmp6Rules
		}
	}
	r, ok := table[o.Name]
	return r, ok
}

// number reads an int as the level has it: SOL_IP takes one octet too, and
// nothing as 0 (least 0) or not at all (least 1); the others want four.
func number(level int, v []byte, least int) (int, error) {
	switch {
	case len(v) >= 4:
		return int(int32(le.Uint32(v))), nil
	case level != unix.IPPROTO_IP || len(v) < least:
		return 0, syscall.EINVAL
	case len(v) > 0:
		return int(v[0]), nil
	}
	return 0, nil
}

func value32(n int) []byte { return le.AppendUint32(nil, uint32(n)) }

func value64(n uint64) []byte { return le.AppendUint64(nil, n) }

func flag(on bool) int {
	if on {
		return 1
	}
	return 0
}

// call is a request of the stack's option o with the number n.
func call(o Option, n int) protocol.SockOpt {
	return protocol.SockOpt{Level: o.Level, Name: o.Name, Value: value32(n)}
}

// answer is a getsockopt that is answered by the number n.
func answer(o Option, n int) Request {
	return Request{value: value32(n), octet: o.Level == unix.IPPROTO_IP}
}

// ask is a getsockopt that the stack's option to answers with a number, which
// conv makes Linux's.
func ask(o, to Option, conv func(int) int) Request {
	return Request{
		Calls: []protocol.SockOpt{{Level: to.Level, Name: to.Name}},
		octet: o.Level == unix.IPPROTO_IP,
		reply: func(v []byte) ([]byte, error) {
			if len(v) != 4 {
				return nil, syscall.EPROTO
			}
			n := int(int32(le.Uint32(v)))
			if conv != nil {
				n = conv(n)
			}
			return value32(n), nil
		},
	}
}

// refuse answers errno to both calls.
func refuse(errno syscall.Errno) rule {
	return rule{
		set: func(*Sock, Option, []byte) (Request, error) { return Request{}, errno },
		get: func(*Sock, Option) (Request, error) { return Request{}, errno },
	}
}

// byFamily is an option that is not the same on sockets of AF_INET and AF_INET6.
func byFamily(four, six rule) rule {
	of := func(s *Sock) rule {
		if s.Family == unix.AF_INET6 {
			return six
		}
		return four
	}
	return rule{
		set: func(s *Sock, o Option, v []byte) (Request, error) { return of(s).set(s, o, v) },
		get: func(s *Sock, o Option) (Request, error) { return of(s).get(s, o) },
	}
}

// fixed is an option that can be read only.
func fixed(value func(s *Sock) int) rule {
	return rule{get: func(s *Sock, o Option) (Request, error) { return answer(o, value(s)), nil }}
}

// octets is an option that can be read only, whose value is no number.
func octets(value func(s *Sock) []byte) rule {
	return rule{get: func(s *Sock, _ Option) (Request, error) { return Request{value: value(s)}, nil }}
}

// boolean is an option of the stack that is on or off.
func boolean(to Option) rule {
	return rule{
		set: func(_ *Sock, o Option, v []byte) (Request, error) {
			n, err := number(o.Level, v, 0)
			if err != nil {
				return Request{}, err
			}
			return Request{Calls: []protocol.SockOpt{call(to, flag(n != 0))}}, nil
		},
		get: func(_ *Sock, o Option) (Request, error) {
			return ask(o, to, func(n int) int { return flag(n != 0) }), nil
		},
	}
}

// within is an option of the stack with a number between low and high.
func within(to Option, low, high int) rule {
	return rule{
		set: func(_ *Sock, o Option, v []byte) (Request, error) {
			n, err := number(o.Level, v, 1)
			if err != nil {
				return Request{}, err
			}
			if n < low || n > high {
				return Request{}, syscall.EINVAL
			}
			return Request{Calls: []protocol.SockOpt{call(to, n)}}, nil
		},
		get: func(_ *Sock, o Option) (Request, error) { return ask(o, to, nil), nil },
	}
}

// idle is an option that is accepted, remembered and of no effect; start is
// what it is before that. A value outside low to high is errno.
func idle(start, low, high int, errno syscall.Errno) rule {
	return rule{
		set: func(_ *Sock, o Option, v []byte) (Request, error) {
			n, err := number(o.Level, v, 0)
			if err != nil {
				return Request{}, err
			}
			if n < low || n > high {
				return Request{}, errno
			}
			return Request{Idle: true, keep: []kept{{o, n}}}, nil
		},
		get: remembered(start),
	}
}

// idleFlag is idle with the values 0 and 1; any number not 0 is 1.
func idleFlag(start int) rule {
	return rule{
		set: func(_ *Sock, o Option, v []byte) (Request, error) {
			n, err := number(o.Level, v, 0)
			if err != nil {
				return Request{}, err
			}
			return Request{Idle: true, keep: []kept{{o, flag(n != 0)}}}, nil
		},
		get: remembered(start),
	}
}

// some is r, to which nothing at all is EINVAL; elsewhere on SOL_IP it is 0.
func some(r rule) rule {
	return rule{get: r.get, set: func(s *Sock, o Option, v []byte) (Request, error) {
		if len(v) == 0 {
			return Request{}, syscall.EINVAL
		}
		return r.set(s, o, v)
	}}
}

// zeroOnly is an option whose 0 changes nothing, and any other number is errno.
func zeroOnly(errno syscall.Errno) rule { return idle(0, 0, 0, errno) }

// remembered reads what was set, start before that.
func remembered(start int) func(s *Sock, o Option) (Request, error) {
	return func(s *Sock, o Option) (Request, error) {
		n, ok := s.Kept(o)
		if !ok {
			n = start
		}
		return answer(o, n), nil
	}
}

// told is an option by which a program wants to be told of something with each
// message: it turns the stack's options to on or off and is remembered, for
// [Sock.AppendCmsgs]. Two may share one of the stack's, which stays on while
// either is: share has the others.
func told(share []Option, to ...Option) rule {
	return rule{
		set: func(s *Sock, o Option, v []byte) (Request, error) {
			n, err := number(o.Level, v, 0)
			if err != nil {
				return Request{}, err
			}
			on := n != 0
			r := Request{keep: []kept{{o, flag(on)}}}
			for _, other := range share {
				on = on || s.kept[other] != 0
			}
			for _, t := range to {
				r.Calls = append(r.Calls, call(t, flag(on)))
			}
			return r, nil
		},
		get: remembered(0),
	}
}
