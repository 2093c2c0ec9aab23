package abi

import (
	"net/netip"
	"syscall"

	"golang.org/x/sys/unix"

	"ionet/protocol"
)

// cmsghdrLen is the length of a cmsghdr: u64 length with these 16 octets, i32
// level, i32 type; data follows, and zeros up to a multiple of 8.
const cmsghdrLen = 16

func cmsgAlign(n int) int { return (n + 7) &^ 7 }

// AppendCmsg appends one control message; room is how much there is left for
// all that is to come. As in Linux, a message that does not fit is cut, one
// whose header does not fit is left out, and cut says so (MSG_CTRUNC).
func AppendCmsg(b []byte, level, typ int, data []byte, room int) (out []byte, cut bool) {
	if room < cmsghdrLen {
		return b, true
	}
	n := cmsghdrLen + len(data)
	if n > room {
		n, cut = room, true
		data = data[:n-cmsghdrLen]
	}
	b = le.AppendUint64(b, uint64(n))
	b = le.AppendUint32(b, uint32(level))
	b = le.AppendUint32(b, uint32(typ))
	b = append(b, data...)
	for pad := min(cmsgAlign(n), room) - n; pad > 0; pad-- {
		b = append(b, 0)
	}
	return b, cut
}

// AppendCmsgs appends what the program of the socket s has asked to be told of
// the message m that it receives, in at most room octets, in the order of Linux:
// the time, where the message was sent to, its TTL, the others of IPv6. cut asks
// for MSG_CTRUNC. Of a message of IPv4 an AF_INET6 socket is told by IPPROTO_IP,
// and by IPPROTO_IPV6 where it was sent to.
func (s *Sock) AppendCmsgs(b []byte, m protocol.Msg, room int) (out []byte, cut bool) {
	a, err := protocol.ParseAncillary(m.Control)
	if err != nil {
		return b, false
	}
	start := len(b)
	put := func(level, typ int, data []byte) {
		var c bool
		b, c = AppendCmsg(b, level, typ, data, room-(len(b)-start))
		cut = cut || c
	}
	if typ := s.kept[stamp]; typ != 0 && !a.Time.IsZero() {
		// The stack's time has microseconds; SCM_TIMESTAMPNS shows them in
		// nanoseconds. Old and new differ in the number alone: both have
		// words of 64 bits here.
		part := a.Time.Nanosecond()
		if typ == unix.SO_TIMESTAMP_OLD || typ == unix.SO_TIMESTAMP_NEW {
			part /= 1000
		}
		t := le.AppendUint64(nil, uint64(a.Time.Unix()))
		put(unix.SOL_SOCKET, typ, le.AppendUint64(t, uint64(part)))
	}
	four := s.Family == unix.AF_INET || m.Addr.IP.Is4In6()
	if s.Family == unix.AF_INET6 {
		s.cmsgs6(m.Control, four, put)
	}
	if !four {
		return b, cut
	}
	if a.Dst = a.Dst.Unmap(); s.on(unix.IPPROTO_IP, unix.IP_PKTINFO) && a.Dst.Is4() {
		dst, local := a.Dst.As4(), s.localOf(a).As4()
		v := le.AppendUint32(nil, uint32(a.If.Index))
		v = append(v, local[:]...)
		put(unix.IPPROTO_IP, unix.IP_PKTINFO, append(v, dst[:]...))
	}
	if s.on(unix.IPPROTO_IP, unix.IP_RECVTTL) && a.TTL >= 0 {
		put(unix.IPPROTO_IP, unix.IP_TTL, le.AppendUint32(nil, uint32(a.TTL)))
	}
	return b, cut
}

// linuxCmsg is the type of a control message of IPPROTO_IPV6 that Linux has with
// the same octets; other names are the stack's, as is IPV6_PATHMTU's address.
var linuxCmsg = map[int]int{
	protocol.IPv6PktInfo:      unix.IPV6_PKTINFO,
	protocol.IPv6HopLimit:     unix.IPV6_HOPLIMIT,
	protocol.IPv6TClass:       unix.IPV6_TCLASS,
	protocol.IPv6HopOpts:      unix.IPV6_HOPOPTS,
	protocol.IPv6DstOpts:      unix.IPV6_DSTOPTS,
	protocol.IPv6RtHdr:        unix.IPV6_RTHDR,
	protocol.IPv62292PktInfo:  unix.IPV6_2292PKTINFO,
	protocol.IPv62292HopLimit: unix.IPV6_2292HOPLIMIT,
	protocol.IPv62292HopOpts:  unix.IPV6_2292HOPOPTS,
	protocol.IPv62292DstOpts:  unix.IPV6_2292DSTOPTS,
	protocol.IPv62292RtHdr:    unix.IPV6_2292RTHDR,
}

// cmsgs6 puts the control messages of IPPROTO_IPV6 among those of a message, which
// is one of IPv4 if four says so.
func (s *Sock) cmsgs6(control []byte, four bool, put func(level, typ int, data []byte)) {
	all, _ := protocol.Controls(control)
	for _, c := range all {
		typ, ok := linuxCmsg[c.Type]
		switch {
		case c.Level != protocol.ProtoIPv6:
		case c.Type == protocol.IPv6PktInfo && !s.on(unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO),
			c.Type == protocol.IPv6HopLimit && !s.on(unix.IPPROTO_IPV6, unix.IPV6_RECVHOPLIMIT): // asked for on IPPROTO_IP
		case c.Type == protocol.IPv6PathMTU:
			if a, mtu, err := protocol.ParseSockaddr(c.Data); err == nil {
				put(unix.IPPROTO_IPV6, unix.IPV6_PATHMTU, append(AppendSockaddr(nil, a), mtu...))
			}
		case ok && (!four || c.Type == protocol.IPv6PktInfo || c.Type == protocol.IPv62292PktInfo):
			put(unix.IPPROTO_IPV6, typ, c.Data)
		}
	}
}

// localOf is the address that an answer to the message would come from
// (ipi_spec_dst): where it was sent to, or for a broadcast or multicast the
// first address of the interface.
func (s *Sock) localOf(a protocol.Ancillary) netip.Addr {
	if s.Tables == nil {
		return a.Dst
	}
	addrs, err := s.Tables.Addrs()
	if err != nil {
		return a.Dst
	}
	first := netip.Addr{}
	for _, l := range addrs {
		switch {
		case l.Prefix.Addr() == a.Dst:
			return a.Dst
		case l.Index == a.If.Index && l.Prefix.Addr().Is4() && !first.IsValid():
			first = l.Prefix.Addr()
		}
	}
	if first.IsValid() {
		return first
	}
	return a.Dst
}

// Control is what the control messages of a message to be sent ask for.
type Control struct {
	Src   netip.Addr // IP_PKTINFO: the source; invalid: not said
	Index int        // IP_PKTINFO: the interface; 0: not said
	TTL   int        // IP_TTL; -1: not said
	TOS   int        // IP_TOS; -1: not said

	// Six are the wishes for a packet of IPv6, as the stack takes them.
	Six []byte
}

// ParseCmsgs reads the control messages that a program sends on s with a message
// of IPv4, or of IPv6 if six says so. Those of other levels Linux passes over.
// Errors: EINVAL (malformed, unknown on a level that is looked at, or a value out
// of range), EPERM (SO_MARK).
func (s *Sock) ParseCmsgs(b []byte, six bool) (Control, error) {
	c := Control{TTL: -1, TOS: -1}
	for len(b) >= cmsghdrLen {
		n := le.Uint64(b)
		if n < cmsghdrLen || n > uint64(len(b)) {
			return c, syscall.EINVAL
		}
		level, typ := int(int32(le.Uint32(b[8:]))), int(int32(le.Uint32(b[12:])))
		data := b[cmsghdrLen:n]
		b = b[min(cmsgAlign(int(n)), len(b)):]
		var err error
		switch {
		case level == unix.SOL_SOCKET:
			err = sendSocket(typ, data)
		case level == unix.IPPROTO_UDP:
			// UDP_SEGMENT: the stack does not cut datagrams for a program.
			if s.Type == unix.SOCK_DGRAM {
				err = syscall.EINVAL
			}
		case level == unix.IPPROTO_IPV6 && six:
			err = c.ip6(typ, data)
		case six:
		case level == unix.IPPROTO_IP:
			err = c.ip(typ, data)
		case level == unix.IPPROTO_IPV6:
			// ip_cmsg_send takes this one alone, of a v4-mapped source.
			if s.Family == unix.AF_INET6 && typ == unix.IPV6_PKTINFO {
				err = c.pktinfo6(data)
			}
		}
		if err != nil {
			return c, err
		}
	}
	return c, nil
}

// SixErr is the stack's refusal of the wishes of [Control.Six] as Linux has it.
func SixErr(err error) error { return Request{errno: pktInfoErrno}.Err(err) }

// stackCmsg is linuxCmsg the other way round.
var stackCmsg = func() map[int]int {
	m := map[int]int{unix.IPV6_DONTFRAG: protocol.IPv6DontFrag, unix.IPV6_RTHDRDSTOPTS: protocol.IPv6RtHdrDstOpts}
	for stack, linux := range linuxCmsg {
		m[linux] = stack
	}
	return m
}()

// ip6 passes a wish on (ip6_datagram_send_ctl). What is in it the stack judges.
func (c *Control) ip6(typ int, data []byte) error {
	to, ok := stackCmsg[typ]
	switch typ {
	case ipv6FlowInfo: // the stack labels its packets itself
		if len(data) < 4 {
			return syscall.EINVAL
		}
		return nil
	case unix.IPV6_PKTINFO, unix.IPV6_2292PKTINFO:
		if len(data) < pktInfoLen {
			return syscall.EINVAL
		}
		data = data[:pktInfoLen]
	case unix.IPV6_HOPLIMIT, unix.IPV6_2292HOPLIMIT, unix.IPV6_TCLASS, unix.IPV6_DONTFRAG:
		if len(data) != 4 {
			return syscall.EINVAL
		}
	}
	if !ok {
		return syscall.EINVAL
	}
	c.Six = protocol.AppendControl(c.Six, protocol.Control{Level: protocol.ProtoIPv6, Type: to, Data: data})
	return nil
}

// sendSocket judges a control message of SOL_SOCKET. Descriptors and
// credentials an internet socket takes and forgets (__sock_cmsg_send).
func sendSocket(typ int, data []byte) error {
	switch typ {
	case unix.SCM_RIGHTS, unix.SCM_CREDENTIALS:
		return nil
	case unix.SO_MARK:
		return syscall.EPERM
	case unix.SO_PRIORITY: // there is no queue that would look at it
		if len(data) == 4 {
			return nil
		}
	}
	return syscall.EINVAL
}

func (c *Control) ip(typ int, data []byte) error {
	switch typ {
	case unix.IP_PKTINFO: // in_pktinfo: i32 index, source(4), (4)
		if len(data) != 12 {
			return syscall.EINVAL
		}
		return c.source(int(int32(le.Uint32(data))), netip.AddrFrom4([4]byte(data[4:])))
	case unix.IP_TTL:
		if len(data) != 4 {
			return syscall.EINVAL
		}
		if c.TTL = int(int32(le.Uint32(data))); c.TTL < 1 || c.TTL > 255 {
			return syscall.EINVAL
		}
		return nil
	case unix.IP_TOS:
		switch len(data) {
		case 1:
			c.TOS = int(data[0])
		case 4:
			c.TOS = int(int32(le.Uint32(data)))
		default:
			return syscall.EINVAL
		}
		if c.TOS < 0 || c.TOS > 255 {
			return syscall.EINVAL
		}
		return nil
	}
	return syscall.EINVAL
}

// pktinfo6 reads an in6_pktinfo: address(16), u32 index.
func (c *Control) pktinfo6(data []byte) error {
	if len(data) < 20 {
		return syscall.EINVAL
	}
	ip := netip.AddrFrom16([16]byte(data))
	switch {
	case ip.Is4In6():
		ip = ip.Unmap()
	case ip.IsUnspecified():
		ip = netip.IPv4Unspecified()
	default:
		return syscall.EINVAL
	}
	return c.source(int(int32(le.Uint32(data[16:]))), ip)
}

func (c *Control) source(index int, ip netip.Addr) error {
	if index < 0 {
		return syscall.EINVAL
	}
	c.Index, c.Src = index, netip.Addr{}
	if !ip.IsUnspecified() {
		c.Src = ip
	}
	return nil
}
