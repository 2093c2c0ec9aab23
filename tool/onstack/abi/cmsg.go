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
// a message that it receives, in at most room octets, in the order of Linux:
// the time, where the message was sent to, its TTL. cut asks for MSG_CTRUNC.
func (s *Sock) AppendCmsgs(b []byte, a protocol.Ancillary, room int) (out []byte, cut bool) {
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
	if s.on(unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO) && s.Family == unix.AF_INET6 && a.Dst.IsValid() {
		ip := a.Dst.As16()
		put(unix.IPPROTO_IPV6, unix.IPV6_PKTINFO, le.AppendUint32(ip[:], uint32(a.If.Index)))
	}
	if s.on(unix.IPPROTO_IP, unix.IP_PKTINFO) && a.Dst.Is4() {
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
}

// ParseCmsgs reads the control messages that a program sends on s. Those of
// other levels Linux passes over. Errors: EINVAL (malformed, unknown on a
// level that is looked at, or a value out of range), EPERM (SO_MARK).
func (s *Sock) ParseCmsgs(b []byte) (Control, error) {
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
		switch level {
		case unix.SOL_SOCKET:
			err = sendSocket(typ, data)
		case unix.IPPROTO_IP:
			err = c.ip(typ, data)
		case unix.IPPROTO_IPV6:
			// ip_cmsg_send takes this one alone, of a v4-mapped source.
			if s.Family == unix.AF_INET6 && typ == unix.IPV6_PKTINFO {
				err = c.pktinfo6(data)
			}
		case unix.IPPROTO_UDP:
			// UDP_SEGMENT: the stack does not cut datagrams for a program.
			if s.Type == unix.SOCK_DGRAM {
				err = syscall.EINVAL
			}
		}
		if err != nil {
			return c, err
		}
	}
	return c, nil
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
