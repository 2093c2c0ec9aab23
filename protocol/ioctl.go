package protocol

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
	iocOut   = 0x40000000
	iocIn    = 0x80000000
	ioGroup  = 'i' << 8
	ifreqLen = IfNameLen + 32
	aliasLen = IfNameLen + 3*32 + 4

	iow   = iocIn | ifreqLen<<16 | ioGroup
	iowr  = iocIn | iocOut | ifreqLen<<16 | ioGroup
	iowal = iocIn | aliasLen<<16 | ioGroup
)

// Requests of TypeIoctl. The argument is an [IfReq] except where said.
const (
	SIOCSIFADDR    = iow | 12   // sets the first address, mask by class
	SIOCSIFDSTADDR = iow | 14   //
	SIOCSIFFLAGS   = iow | 16   // Flags, Mask
	SIOCGIFFLAGS   = iowr | 17  //
	SIOCSIFBRDADDR = iow | 19   //
	SIOCSIFNETMASK = iow | 22   //
	SIOCGIFMETRIC  = iowr | 23  // Value
	SIOCSIFMETRIC  = iow | 24   // Value
	SIOCDIFADDR    = iow | 25   // Addr
	SIOCAIFADDR    = iowal | 26 // AliasReq
	SIOCGIFADDR    = iowr | 33  //
	SIOCGIFDSTADDR = iowr | 34  //
	SIOCGIFBRDADDR = iowr | 35  //
	SIOCGIFNETMASK = iowr | 37  //
	SIOCADDMULTI   = iow | 49   // Addr
	SIOCDELMULTI   = iow | 50   // Addr
	SIOCGIFMEDIA   = iowr | 56  // Text
	SIOCSIFLLADDR  = iow | 60   // Addr.Link; ionet's own
	SIOCIFGCLONERS = iowr | 120 // Text: the kinds, separated by blanks
	SIOCIFDESTROY  = iow | 121  // Name
	SIOCIFCREATE   = iowr | 122 // Name "gif" or "gif0"; the reply has the whole name
	SIOCGIFMTU     = iowr | 126 // Value
	SIOCSIFMTU     = iow | 127  // Value
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
		SIOCGIFBRDADDR, SIOCGIFNETMASK, SIOCADDMULTI, SIOCDELMULTI, SIOCSIFLLADDR:
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
type AliasReq struct {
	Name  string
	Addr  Addr
	Brd   Addr
	Mask  Addr   // none: by class, or the whole address in inet6
	Flags uint32 // the family's own (IN6_IFF_*), and AliasFirst
}

// AliasFirst, in AliasReq.Flags: the address takes the place of the first one
// of its family instead of joining the others.
const AliasFirst = 1 << 31

// AppendAliasReq appends r.
func AppendAliasReq(b []byte, r AliasReq) []byte {
	b = appendName(b, r.Name)
	b = appendSlot(b, r.Addr)
	b = appendSlot(b, r.Brd)
	b = appendSlot(b, r.Mask)
	return le.AppendUint32(b, r.Flags)
}

// ParseAliasReq reads what [AppendAliasReq] wrote.
func ParseAliasReq(b []byte) (AliasReq, error) {
	if len(b) != aliasLen {
		return AliasReq{}, malformed("ifaliasreq of %d octets, not %d", len(b), aliasLen)
	}
	r := AliasReq{Name: parseName(b[:IfNameLen]), Flags: le.Uint32(b[112:])}
	for i, to := range []*Addr{&r.Addr, &r.Brd, &r.Mask} {
		var err error
		if *to, err = parseSlot(b[IfNameLen+32*i:][:32]); err != nil {
			return AliasReq{}, err
		}
	}
	return r, nil
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
