package abi

import (
	"maps"
	"syscall"

	"golang.org/x/sys/unix"

	"ionet/protocol"
)

// The options of a multicast routing daemon: Linux has the numbers of NetBSD and KAME 100 higher, IPv6's without
// their exceptions. What the daemon is told has the same layout in both (igmpmsg, mrt6msg).
const (
	mrtBase    = 200 // MRT_INIT, MRT6_INIT
	mrtDone    = mrtBase + 1
	mrtAddVif  = mrtBase + 2
	mrtDelVif  = mrtBase + 3
	mrtAddMFC  = mrtBase + 4
	mrtDelMFC  = mrtBase + 5
	mrtVersion = mrtBase + 6
	mrtAssert  = mrtBase + 7
	mrtPIM     = mrtBase + 8 // a register vif, which the stack has none of

	mrtVersionIs = 0x0305

	vifctlLen   = 16 // as the stack's, but that flag 8 has an index in the address's place
	useIfIndex  = 8
	mfcctlLen   = 60 // the stack's 44 octets, and counters that nobody reads
	stackMFCLen = 44
	mif6ctlLen  = 12 // u16 number, u8 flags, u8 threshold, u16 index, u32 rate limit; the stack has the first 6 octets, without threshold
	mf6cctlLen  = 92 // as the stack's, the families apart
)

// errMRT is what Linux says to a socket that is not the daemon's.
var errMRT = map[syscall.Errno]syscall.Errno{syscall.ENOPROTOOPT: syscall.EACCES}

func init() {
	maps.Copy(ipRules, mrtRules(protocol.ProtoIP, protocol.MRTInit, protocol.MRTAssert, map[int]func(*Sock, []byte) ([]byte, error){
		mrtAddVif: vifctl,
		mrtDelVif: func(_ *Sock, v []byte) ([]byte, error) { return first(v, vifctlLen, 2) },
		mrtAddMFC: func(_ *Sock, v []byte) ([]byte, error) { return first(v, mfcctlLen, stackMFCLen) },
		mrtDelMFC: func(_ *Sock, v []byte) ([]byte, error) { return first(v, mfcctlLen, stackMFCLen) },
	}))
	maps.Copy(ip6Rules, mrtRules(protocol.ProtoIPv6, protocol.MRT6Init, protocol.MRT6PIM, map[int]func(*Sock, []byte) ([]byte, error){
		mrtAddVif: mif6ctl,
		mrtDelVif: func(_ *Sock, v []byte) ([]byte, error) { return first(v, 2, 2) },
		mrtAddMFC: mf6cctl,
		mrtDelMFC: mf6cctl,
	}))
}

// mrtRules are a level's. values make the stack's octets of Linux's.
func mrtRules(level, start, assert int, values map[int]func(*Sock, []byte) ([]byte, error)) map[int]rule {
	to := func(name int, v []byte) Request {
		return Request{Calls: []protocol.SockOpt{{Level: level, Name: name, Value: v}}, errno: errMRT}
	}
	integer := func(name int) rule {
		return rule{set: func(_ *Sock, _ Option, v []byte) (Request, error) {
			if len(v) != 4 {
				return Request{}, syscall.EINVAL
			}
			q := to(name, v)
			if name == start {
				q.errno = nil
			}
			return q, nil
		}}
	}
	all := map[int]rule{
		mrtBase:   integer(start),
		mrtDone:   {set: func(*Sock, Option, []byte) (Request, error) { return to(protocol.MRTDone, nil), nil }},
		mrtAssert: integer(assert),
		mrtPIM:    zeroOnly(syscall.ENOPROTOOPT),
		mrtVersion: {get: only(unix.SOCK_RAW, syscall.EOPNOTSUPP, rule{get: func(_ *Sock, o Option) (Request, error) {
			return answer(o, mrtVersionIs), nil
		}}).get},
	}
	for name, value := range values {
		all[name] = rule{set: func(s *Sock, _ Option, v []byte) (Request, error) {
			v, err := value(s, v)
			if err != nil {
				return Request{}, err
			}
			return to(name-mrtBase+protocol.MRTInit, v), nil
		}}
	}
	for name, r := range all {
		if r.set != nil {
			all[name] = rule{set: only(unix.SOCK_RAW, syscall.EOPNOTSUPP, r).set, get: r.get}
		}
	}
	return all
}

// first are the first n octets of a structure of size octets.
func first(v []byte, size, n int) ([]byte, error) {
	if len(v) != size {
		return nil, syscall.EINVAL
	}
	return v[:n], nil
}

// vifctl is a virtual interface of IPv4.
func vifctl(s *Sock, v []byte) ([]byte, error) {
	if len(v) != vifctlLen {
		return nil, syscall.EINVAL
	}
	if v[2]&useIfIndex == 0 {
		return v, nil
	}
	ip, err := s.addrOf(int(int32(le.Uint32(v[8:]))))
	if err != nil {
		return nil, syscall.EADDRNOTAVAIL
	}
	b := append([]byte(nil), v...)
	b[2] &^= useIfIndex
	copy(b[8:], ip[:])
	return b, nil
}

// mif6ctl is a virtual interface of IPv6.
func mif6ctl(_ *Sock, v []byte) ([]byte, error) {
	if len(v) != mif6ctlLen {
		return nil, syscall.EINVAL
	}
	return append(append([]byte(nil), v[:3]...), 0, v[4], v[5]), nil
}

// mf6cctl is an entry of IPv6's forwarding cache.
func mf6cctl(_ *Sock, v []byte) ([]byte, error) {
	if len(v) != mf6cctlLen {
		return nil, syscall.EINVAL
	}
	b := append([]byte(nil), v...)
	for at := 0; at < 2*unix.SizeofSockaddrInet6; at += unix.SizeofSockaddrInet6 {
		if le.Uint16(b[at:]) != unix.AF_INET6 {
			return nil, syscall.EINVAL
		}
		b[at], b[at+1] = unix.SizeofSockaddrInet6, protocol.AFInet6
	}
	return b, nil
}
