// Package netlink answers the questions that programs put to rtnetlink(7),
// from a stack's tables: which interfaces, addresses, routes and neighbours
// there are, and which way a destination is reached. It is the kernel's side of
// a NETLINK_ROUTE socket, in the kernel's layouts (RFC 3549 describes them) and
// with its habits; nothing can be changed through it.
//
// Integers are in the machine's byte order, internet and link addresses in the
// network's.
package netlink

import (
	"net"
	"net/netip"
	"syscall"

	"golang.org/x/sys/unix"
)

// Tables is what the answers are made of. Rows come back in the order in which
// the tables hold them. A [syscall.Errno] in an error reaches the program;
// any other error does as EIO, with its text.
type Tables interface {
	Interfaces() ([]Interface, error)
	Addrs() ([]Addr, error)
	Routes() ([]Route, error)
	// Lookup is the route by which dst is reached, through the interface oif
	// unless that is 0, and the source that a packet there would have.
	// ENETUNREACH when there is none.
	Lookup(dst netip.Addr, oif int) (Route, error)
	Neighbours() ([]Neighbour, error)
}

// Interface is a row of `ip link`.
type Interface struct {
	Index     int
	Name      string // at most 15 octets
	Type      uint16 // ARPHRD_*
	Flags     uint32 // IFF_* as Linux numbers them, IFF_LOWER_UP for a carrier
	MTU       int    // octets
	TxQueue   int    // packets
	OperState uint8  // RFC 2863's, as Linux numbers them: OperUnknown, OperDown, OperUp
	HW        net.HardwareAddr
	Broadcast net.HardwareAddr
	Stats     Stats
}

// States of an interface (IF_OPER_*).
const (
	OperUnknown = 0
	OperDown    = 2
	OperUp      = 6
)

// Stats are an interface's counters.
type Stats struct {
	RxPackets, TxPackets uint64
	RxBytes, TxBytes     uint64
	RxErrors, TxErrors   uint64
	RxDropped, TxDropped uint64
	Multicast            uint64 // received
	Collisions           uint64
}

// Addr is a row of `ip addr`.
type Addr struct {
	Index     int          // of the interface
	Label     string       // the interface's name; sent with IPv4 addresses only
	Prefix    netip.Prefix // the address, host part included, with the length of its network
	Peer      netip.Addr   // the other end, if it has one; Prefix's length then counts there
	Broadcast netip.Addr   // IPv4 only
	Flags     uint32       // IFA_F_*
	Scope     uint8        // RT_SCOPE_*
	Life      *Lifetime    // nil: for ever
}

// Lifetime is what is left of an address's, in seconds, at most 1<<32-2.
type Lifetime struct{ Preferred, Valid uint32 }

// Route is a row of `ip route`, or the answer to a question for one.
type Route struct {
	Dst      netip.Prefix // without a host part
	Gateway  netip.Addr   // none: on the link
	OIF      int          // index of the interface; 0 none
	Source   netip.Addr   // preferred
	Metric   uint32
	MTU      uint32 // of the route, in octets; 0: the interface's
	Type     uint8  // RTN_*; local, broadcast, anycast and multicast ones stand in the table "local", all others in "main"
	Scope    uint8  // RT_SCOPE_*; sent with IPv4 routes only
	Protocol uint8  // RTPROT_*: who made it
}

// table is the routing table that the route is a row of.
func (r *Route) table() uint32 {
	switch r.Type {
	case unix.RTN_LOCAL, unix.RTN_BROADCAST, unix.RTN_ANYCAST, unix.RTN_MULTICAST:
		return unix.RT_TABLE_LOCAL
	}
	return unix.RT_TABLE_MAIN
}

// Neighbour is a row of `ip neigh`.
type Neighbour struct {
	Index int // of the interface
	Addr  netip.Addr
	HW    net.HardwareAddr // none while it is looked for
	State uint16           // NUD_*
	Flags uint8            // NTF_*, NTF_ROUTER among them; rows with NTF_PROXY are shown to those who ask for them only
	Refs  int

	Probes int // asked without an answer
}

// Socket is what the kernel would know of the program's socket. The zero value
// with a port id is a fresh one.
type Socket struct {
	PID    uint32 // port id, as getsockname tells it
	ExtAck bool   // NETLINK_EXT_ACK: refusals carry a sentence
	CapAck bool   // NETLINK_CAP_ACK: refusals do not repeat the request's body
	Strict bool   // NETLINK_GET_STRICT_CHK: dumps are filtered, and sloppy requests refused
}

// SetOption is setsockopt at level SOL_NETLINK with an int. ENOPROTOOPT for
// options that have nothing to do with asking.
func (s *Socket) SetOption(name, value int) error {
	switch name {
	case unix.NETLINK_EXT_ACK:
		s.ExtAck = value != 0
	case unix.NETLINK_CAP_ACK:
		s.CapAck = value != 0
	case unix.NETLINK_GET_STRICT_CHK:
		s.Strict = value != 0
	default:
		return syscall.ENOPROTOOPT
	}
	return nil
}

// Option is getsockopt at level SOL_NETLINK, for what SetOption sets.
func (s *Socket) Option(name int) (value int, err error) {
	on := false
	switch name {
	case unix.NETLINK_EXT_ACK:
		on = s.ExtAck
	case unix.NETLINK_CAP_ACK:
		on = s.CapAck
	case unix.NETLINK_GET_STRICT_CHK:
		on = s.Strict
	default:
		return 0, syscall.ENOPROTOOPT
	}
	if on {
		value = 1
	}
	return value, nil
}

// Answer answers one datagram of requests that came from a socket without
// options and with the port id pid. Each element of the result is one datagram
// for it.
func Answer(t Tables, req []byte, pid uint32) [][]byte {
	return Socket{PID: pid}.Answer(t, req)
}

// Answer answers one datagram of requests. Each element of the result is one
// datagram for the program; those of a dump have at most 3776 octets. What is
// behind the last whole message is padding and not looked at.
func (s Socket) Answer(t Tables, req []byte) [][]byte {
	a := answer{Socket: s, tables: t}
	for {
		r, rest, ok := nextRequest(req)
		if !ok {
			return a.out
		}
		a.one(r)
		req = rest
	}
}

// answer is the answer to one datagram, as far as it is.
type answer struct {
	Socket
	tables Tables
	out    [][]byte
	dumped bool
}

// question is one of the types RTM_GET*.
type question struct {
	header int                                     // octets of the type's fixed header
	dump   func(*answer, *request, *dump) error    // all there is; an error ends it
	get    func(*answer, *request) ([]byte, error) // one; nil: only dumps are answered
	name   string                                  // in sentences
}

var questions = map[uint16]question{
	unix.RTM_GETLINK:  {unix.SizeofIfInfomsg, (*answer).dumpLinks, (*answer).getLink, "link"},
	unix.RTM_GETADDR:  {unix.SizeofIfAddrmsg, (*answer).dumpAddrs, nil, "address"},
	unix.RTM_GETROUTE: {unix.SizeofRtMsg, (*answer).dumpRoutes, (*answer).getRoute, "route"},
	unix.RTM_GETNEIGH: {unix.SizeofNdMsg, (*answer).dumpNeighbours, (*answer).getNeighbour, "neighbor"},
	unix.RTM_GETRULE:  {unix.SizeofRtMsg, (*answer).dumpRules, nil, "rule"},
}

// kindGet is what the two low bits of a type say that asks; the others change
// something.
const kindGet = 2

// one answers a request as rtnetlink_rcv_msg and netlink_rcv_skb do: a reply,
// then an acknowledgement if it was asked for; a dump has none, and one that
// fails says so in its NLMSG_DONE.
func (a *answer) one(r *request) {
	var err error
	q, known := questions[r.typ]
	switch {
	case r.flags&unix.NLM_F_REQUEST == 0, r.typ < minType:
	case r.typ > unix.RTM_MAX:
		err = syscall.EOPNOTSUPP
	case len(r.body) == 0: // not even a family
	case r.typ&3 != kindGet:
		err = refused(syscall.EPERM, "the stack is changed with ifconfig and route")
	case !known:
		err = syscall.EOPNOTSUPP
	case r.flags&unix.NLM_F_DUMP != 0 && a.dumped:
		err = refused(syscall.EBUSY, "one dump at a time")
	case r.flags&unix.NLM_F_DUMP != 0:
		a.dumped = true
		d := &dump{answer: a, request: r}
		err = r.parse(q.header, "dump", q.name, a.Strict)
		if err == nil {
			err = q.dump(a, r, d)
		}
		d.done(err)
		return
	case q.get == nil:
		err = syscall.EOPNOTSUPP
	default:
		var m []byte
		err = r.parse(q.header, "get", q.name, a.Strict)
		if err == nil {
			m, err = q.get(a, r)
		}
		if err == nil {
			a.out = append(a.out, m)
		}
	}
	if err != nil || r.flags&unix.NLM_F_ACK != 0 {
		a.out = append(a.out, a.acknowledgement(r, err))
	}
}

// ofFamily says whether a dump for a family has rows of another address's.
func ofFamily(asked uint8, ip netip.Addr) bool {
	return asked == unix.AF_UNSPEC || asked == unix.AF_PACKET || asked == family(ip)
}

// family is the AF_* of an address.
func family(ip netip.Addr) uint8 {
	if ip.Is4() {
		return unix.AF_INET
	}
	return unix.AF_INET6
}
