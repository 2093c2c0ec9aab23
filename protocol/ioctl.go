package protocol

import "net/netip"

// Interface flags (BSD's IFF_*).
const (
	IFFUp           = 0x1
	IFFBroadcast    = 0x2
	IFFDebug        = 0x4
	IFFLoopback     = 0x8
	IFFPointToPoint = 0x10
	IFFNoTrailers   = 0x20
	IFFRunning      = 0x40
	IFFNoARP        = 0x80
	IFFPromisc      = 0x100
	IFFAllMulti     = 0x200
	IFFOActive      = 0x400
	IFFSimplex      = 0x800
	IFFLink0        = 0x1000
	IFFLink1        = 0x2000
	IFFLink2        = 0x4000
	IFFMulticast    = 0x8000
)

// The numbers of the requests are BSD's _IOW/_IOR/_IOWR('i', n, size) with the
// sizes of the layouts here, which have room for any family.
const (
	iocOut    = 0x40000000
	iocIn     = 0x80000000
	ioGroup   = 'i' << 8
	ifreqLen  = IfNameLen + 32
	aliasLen  = IfNameLen + 3*32 + 4
	policyLen = 32 + 3*4

	iow   = iocIn | ifreqLen<<16 | ioGroup
	iowr  = iocIn | iocOut | ifreqLen<<16 | ioGroup
	iowal = iocIn | aliasLen<<16 | ioGroup
	iowpo = iocIn | policyLen<<16 | 'u'<<8
)

// Requests of TypeIoctl. The argument is an [IfReq] except where said.
const (
	SIOCSIFADDR     = iow | 12   // sets the first address, mask by class
	SIOCSIFDSTADDR  = iow | 14   //
	SIOCSIFFLAGS    = iow | 16   // Flags, Mask
	SIOCGIFFLAGS    = iowr | 17  //
	SIOCSIFBRDADDR  = iow | 19   //
	SIOCSIFNETMASK  = iow | 22   //
	SIOCGIFMETRIC   = iowr | 23  // Value
	SIOCSIFMETRIC   = iow | 24   // Value
	SIOCDIFADDR     = iow | 25   // Addr
	SIOCAIFADDR     = iowal | 26 // AliasReq
	SIOCGIFADDR     = iowr | 33  //
	SIOCGIFDSTADDR  = iowr | 34  //
	SIOCGIFBRDADDR  = iowr | 35  //
	SIOCGIFNETMASK  = iowr | 37  //
	SIOCADDMULTI    = iow | 49   // Addr
	SIOCDELMULTI    = iow | 50   // Addr
	SIOCGIFMEDIA    = iowr | 56  // Text
	SIOCSETVLAN     = iow | 57   // Value, and in Text the parent; no parent: it is taken off (NetBSD's SIOCSIFGENERIC)
	SIOCGETVLAN     = iowr | 58  // Value, Text; Text empty: no parent
	SIOCSIFLLADDR   = iow | 60   // Addr.Link; ionet's own
	SIOCSRTSOL      = iow | 61   // solicit routers now, on one interface or, without a name, on all; ionet's own
	SIOCSIFPHYADDR  = iowal | 70 // AliasReq: Addr and Brd are the source and the destination of a tunnel
	SIOCGIFPSRCADDR = iowr | 71  // Addr; EADDRNOTAVAIL: the tunnel has none
	SIOCGIFPDSTADDR = iowr | 72  //
	SIOCDIFPHYADDR  = iow | 73   // takes both away
	SIOCSPFXFLUSH   = iow | 79   // forget the prefixes that routers have told of, and the addresses made of them
	SIOCSRTRFLUSH   = iow | 80   // forget the default routers
	SIOCSDEFIFACE   = iow | 85   // where to look for destinations while there is no router; no name: nowhere
	SIOCGDEFIFACE   = iowr | 86  // Name
	SIOCSNDINFO     = iow | 87   // Value, Mask: ND6_IFF_* (KAME's SIOCSIFINFO_FLAGS)
	SIOCGIFINDEX    = iowr | 90  // Value of Name; without a name, Name of Value
	SIOCIFGCLONERS  = iowr | 120 // Text: the kinds, separated by blanks
	SIOCIFDESTROY   = iow | 121  // Name
	SIOCIFCREATE    = iowr | 122 // Name "gif" or "gif0"; the reply has the whole name
	SIOCGIFMTU      = iowr | 126 // Value
	SIOCSIFMTU      = iow | 127  // Value

	SIOCAADDRCTLPOLICY = iowpo | 108 // AddrPolicy: into the table of RFC 6724 §2.1, in the place of one of the prefix
	SIOCDADDRCTLPOLICY = iowpo | 109 // AddrPolicy, of which the prefix counts; ESRCH
)

// Flags of an inet6 address (KAME's IN6_IFF_*; the last two are ionet's own).
// The first, NoDAD, and those of autoconfiguration may be asked for.
const (
	IN6IFFAnycast    = 0x01
	IN6IFFTentative  = 0x02
	IN6IFFDuplicated = 0x04
	IN6IFFDetached   = 0x08 // the router that told of its prefix has gone
	IN6IFFDeprecated = 0x10
	IN6IFFNoDAD      = 0x20
	IN6IFFAutoconf   = 0x40
	IN6IFFTemporary  = 0x80
	IN6IFFStable     = 0x100 // its interface identifier is RFC 7217's
	IN6IFFOptimistic = 0x200 // in use although tentative (RFC 4429)
)

// Flags of neighbour discovery on an interface (KAME's ND6_IFF_*).
const (
	ND6IFFPerformNUD   = 0x1
	ND6IFFAcceptRtAdv  = 0x2
	ND6IFFPreferSource = 0x4
)

// IfReq is the argument of most interface requests (ifreq). Which of the
// fields below Name counts is the request's matter; Addr and the numbers
// share their place on the wire.
//
//	0  char[16] name
//	16 u32 value or flags, u32 mask; or a sockaddr; 32 octets
//	48 string text (may be left out)
type IfReq struct {
	Name  string
	Value uint32 // flags, MTU, metric
	Mask  uint32 // SIOCSIFFLAGS: the flags to change; 0: all that can be
	Addr  Addr
	Text  string
}

// AppendIfReq appends r; when r.Addr is set it stands in the numbers' place.
func AppendIfReq(b []byte, r IfReq) []byte {
	b = appendName(b, r.Name)
	if r.Addr.Family != 0 {
		b = appendSlot(b, r.Addr)
	} else {
		b = le.AppendUint32(b, r.Value)
		b = le.AppendUint32(b, r.Mask)
		b = append(b, make([]byte, 24)...)
	}
	if r.Text != "" {
		b = AppendString(b, r.Text)
	}
	return b
}

// ParseIfReq reads the argument of the request req, which says whether it has
// an address or numbers.
func ParseIfReq(req uint32, b []byte) (IfReq, error) {
	if len(b) < ifreqLen {
		return IfReq{}, malformed("ifreq of %d octets, not %d", len(b), ifreqLen)
	}
	r := IfReq{Name: parseName(b[:IfNameLen])}
	slot := b[IfNameLen:ifreqLen]
	switch req {
	case SIOCSIFADDR, SIOCSIFDSTADDR, SIOCSIFBRDADDR, SIOCSIFNETMASK, SIOCDIFADDR, SIOCGIFADDR, SIOCGIFDSTADDR,
		SIOCGIFBRDADDR, SIOCGIFNETMASK, SIOCGIFPSRCADDR, SIOCGIFPDSTADDR, SIOCADDMULTI, SIOCDELMULTI, SIOCSIFLLADDR:
		var err error
		if r.Addr, err = parseSlot(slot); err != nil {
			return IfReq{}, err
		}
	default:
		r.Value, r.Mask = le.Uint32(slot), le.Uint32(slot[4:])
	}
	if len(b) > ifreqLen {
		rd := NewReader(b[ifreqLen:])
		r.Text = rd.String()
		if err := rd.Close(); err != nil {
			return IfReq{}, err
		}
	}
	return r, nil
}

// AliasReq is the argument of SIOCAIFADDR (ifaliasreq), for every family. An
// address that is there already gets the new mask and broadcast address.
//
//	0   char[16] name
//	16  sockaddr address, 32 octets
//	48  sockaddr broadcast, or destination of a point-to-point interface, 32 octets
//	80  sockaddr netmask, 32 octets
//	112 u32 flags
//	116 u32 pltime, 120 u32 vltime: how many seconds an inet6 address is preferred and valid; may be left out
type AliasReq struct {
	Name  string
	Addr  Addr
	Brd   Addr
	Mask  Addr   // none: by class, or the whole address in inet6
	Flags uint32 // the family's own (IN6_IFF_*), and AliasFirst

	Timed            bool   // the times count; else it is for ever
	Preferred, Valid uint32 // seconds, LifetimeInfinite: for ever
}

// LifetimeInfinite is for ever (RFC 4861 §4.6.2).
const LifetimeInfinite = 0xffffffff

// AliasFirst, in AliasReq.Flags: the address takes the place of the first one
// of its family instead of joining the others.
const AliasFirst = 1 << 31

// AppendAliasReq appends r.
func AppendAliasReq(b []byte, r AliasReq) []byte {
	b = appendName(b, r.Name)
	b = appendSlot(b, r.Addr)
	b = appendSlot(b, r.Brd)
	b = appendSlot(b, r.Mask)
	b = le.AppendUint32(b, r.Flags)
	if r.Timed {
		b = AppendU32(b, r.Preferred, r.Valid)
	}
	return b
}

// ParseAliasReq reads what [AppendAliasReq] wrote.
func ParseAliasReq(b []byte) (AliasReq, error) {
	if len(b) != aliasLen && len(b) != aliasLen+8 {
		return AliasReq{}, malformed("ifaliasreq of %d octets, not %d or %d", len(b), aliasLen, aliasLen+8)
	}
	r := AliasReq{Name: parseName(b[:IfNameLen]), Flags: le.Uint32(b[112:])}
	if r.Timed = len(b) > aliasLen; r.Timed {
		r.Preferred, r.Valid = le.Uint32(b[116:]), le.Uint32(b[120:])
	}
	for i, to := range []*Addr{&r.Addr, &r.Brd, &r.Mask} {
		var err error
		if *to, err = parseSlot(b[IfNameLen+32*i:][:32]); err != nil {
			return AliasReq{}, err
		}
	}
	return r, nil
}

// AddrPolicy is the argument of SIOCAADDRCTLPOLICY and SIOCDADDRCTLPOLICY
// (in6_addrpolicy): a line of the table by which addresses are chosen. The
// bits of an IPv4 prefix are those of ::ffff:0:0/96 less 96.
//
//	0  sockaddr_in6 prefix, 32 octets
//	32 u32 bits, i32 precedence, i32 label
type AddrPolicy struct {
	Prefix            netip.Prefix // without zone
	Precedence, Label int
}

// AppendAddrPolicy appends p.
func AppendAddrPolicy(b []byte, p AddrPolicy) []byte {
	b = appendSlot(b, Addr{Family: AFInet6, IP: p.Prefix.Addr()})
	bits := p.Prefix.Bits()
	if p.Prefix.Addr().Is4() {
		bits += 96
	}
	return AppendU32(b, uint32(bits), uint32(p.Precedence), uint32(p.Label))
}

// ParseAddrPolicy reads what [AppendAddrPolicy] wrote. An IPv4 prefix comes as
// one of ::ffff:0:0/96.
func ParseAddrPolicy(b []byte) (AddrPolicy, error) {
	if len(b) != policyLen {
		return AddrPolicy{}, malformed("in6_addrpolicy of %d octets, not %d", len(b), policyLen)
	}
	a, err := parseSlot(b[:32])
	if err != nil {
		return AddrPolicy{}, err
	}
	bits := le.Uint32(b[32:])
	if a.Family != AFInet6 || bits > 128 {
		return AddrPolicy{}, malformed("in6_addrpolicy of family %d with a prefix of %d bits", a.Family, bits)
	}
	return AddrPolicy{Prefix: netip.PrefixFrom(a.IP.WithZone(""), int(bits)).Masked(),
		Precedence: int(int32(le.Uint32(b[36:]))), Label: int(int32(le.Uint32(b[40:])))}, nil
}

// appendSlot writes a into 32 octets. A link address loses its name there.
func appendSlot(b []byte, a Addr) []byte {
	start := len(b)
	a.Link.Name = ""
	b = AppendSockaddr(b, a)
	for len(b)-start < 32 {
		b = append(b, 0)
	}
	return b
}

func parseSlot(b []byte) (Addr, error) {
	a, _, err := ParseSockaddr(b)
	return a, err
}

// AppendIoctl appends the payload of TypeIoctl.
func AppendIoctl(b []byte, req uint32, arg []byte) []byte {
	return AppendBytes(le.AppendUint32(b, req), arg)
}

// ParseIoctl reads it; arg points into b. The reply is the argument alone
// (AppendBytes, Reader.Bytes).
func ParseIoctl(b []byte) (req uint32, arg []byte, err error) {
	r := NewReader(b)
	req, arg = r.U32(), r.Bytes()
	return req, arg, r.Close()
}
