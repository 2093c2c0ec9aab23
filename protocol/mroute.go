package protocol

import (
	"encoding/binary"
	"net/netip"
)

// Options of a routing daemon's raw socket: of IGMP at level IPPROTO_IP (NetBSD's MRT_*), of ICMPv6 at level
// IPPROTO_IPV6 (KAME's MRT6_*). The socket that has said Init is the router's until Done or its end.
const (
	MRTInit    = 100 // int 1; EADDRINUSE: there is a daemon
	MRTDone    = 101
	MRTAddVif  = 102 // VifCtl
	MRTDelVif  = 103 // u16
	MRTAddMFC  = 104 // MFCCtl
	MRTDelMFC  = 105 // MFCCtl, of which Origin and Group count
	MRTVersion = 106 // read
	MRTAssert  = 107 // int: tell of packets by a wrong vif

	MRT6Done   = 101
	MRT6AddMif = 102 // MifCtl
	MRT6DelMif = 103 // u16
	MRT6AddMFC = 104
	MRT6DelMFC = 105
	MRT6PIM    = 107
	MRT6Init   = 108
)

// MaxVifs is the number of virtual interfaces of a family.
const MaxVifs = 32

// Kinds of [McastUpcall].
const (
	UpcallNoCache  = 1 // IGMPMSG_NOCACHE, MRT6MSG_NOCACHE
	UpcallWrongVif = 2 // IGMPMSG_WRONGVIF, MRT6MSG_WRONGMIF
)

const (
	vifctlLen  = 16
	mfcctlLen  = 44
	mf6cctlLen = 2*SockaddrIn6Len + 4 + 32
	igmpmsgLen = 20
	mrt6msgLen = 40
	vifReqLen  = 40
	sgReqLen   = 32
	sg6ReqLen  = 2*SockaddrIn6Len + 3*8

	iowrMcast = iocIn | iocOut | 'u'<<8
)

// Requests about counters: of a virtual interface [VifCount], of a source and a group [SGCount].
const (
	SIOCGETVIFCNT    = iowrMcast | vifReqLen<<16 | 51
	SIOCGETSGCNT     = iowrMcast | sgReqLen<<16 | 52
	SIOCGETSGCNTIN6  = iowrMcast | sg6ReqLen<<16 | 106
	SIOCGETMIFCNTIN6 = iowrMcast | vifReqLen<<16 | 107
)

// VifCtl is the argument of MRT_ADD_VIF (vifctl).
//
//	0 u16 number, 2 u8 flags (VIFF_*, none of which is taken), 3 u8 threshold, 4 u32 rate limit,
//	8 in_addr the interface's address, 12 in_addr remote
type VifCtl struct {
	Vif       int
	Flags     uint8
	Threshold uint8
	RateLimit uint32
	Local     netip.Addr
	Remote    netip.Addr // invalid: 0.0.0.0
}

// AppendVifCtl appends v.
func AppendVifCtl(b []byte, v VifCtl) []byte {
	b = append(le.AppendUint16(b, uint16(v.Vif)), v.Flags, v.Threshold)
	b = append(le.AppendUint32(b, v.RateLimit), v.Local.AsSlice()...)
	if !v.Remote.IsValid() {
		return append(b, 0, 0, 0, 0)
	}
	return append(b, v.Remote.AsSlice()...)
}

// AppendMifCtl appends the argument of MRT6_ADD_MIF (mif6ctl).
//
//	0 u16 number, 2 u8 flags, 4 u16 index of the interface
func AppendMifCtl(b []byte, mif, index int) []byte {
	b = append(le.AppendUint16(b, uint16(mif)), 0, 0)
	return le.AppendUint16(b, uint16(index))
}

// MFCCtl is an entry of the forwarding cache (mfcctl, mf6cctl): packets of Origin to Group that come by Parent leave by the
// vifs whose TTL is not 0 and less than the packet's. IPv6 has no thresholds: 0 or not.
//
//	0 in_addr origin, 4 in_addr group, 8 u16 parent, 10 u8 ttls[32], 42 two octets of padding; or
//	0 sockaddr_in6 origin, 28 sockaddr_in6 group, 56 u16 parent, 60 u32[8] bits of mifs
type MFCCtl struct {
	Origin, Group netip.Addr // both of one family
	Parent        int
	TTLs          [MaxVifs]uint8
}

// AppendMFCCtl appends m as its family has it.
func AppendMFCCtl(b []byte, m MFCCtl) []byte {
	if m.Group.Is4() {
		b = append(append(b, m.Origin.AsSlice()...), m.Group.AsSlice()...)
		b = append(le.AppendUint16(b, uint16(m.Parent)), m.TTLs[:]...)
		return append(b, 0, 0)
	}
	b = AppendSockaddr(AppendSockaddr(b, AddrFrom(m.Origin, 0)), AddrFrom(m.Group, 0))
	b = append(le.AppendUint16(b, uint16(m.Parent)), 0, 0)
	var bits uint32
	for i, ttl := range m.TTLs {
		if ttl != 0 {
			bits |= 1 << i
		}
	}
	return append(le.AppendUint32(b, bits), make([]byte, 28)...)
}

// McastUpcall is a message of the stack to a routing daemon (igmpmsg, mrt6msg).
//
//	0 8 octets, 8 u8 kind, 9 u8 0, 10 u8 vif, 12 in_addr source, 16 in_addr group; or
//	0 u8 0, 1 u8 kind, 2 u16 mif, 8 in6_addr source, 24 in6_addr group
type McastUpcall struct {
	Kind          int
	Vif           int
	Source, Group netip.Addr
}

// ParseUpcall reads an igmpmsg. ok is false for anything else that the socket receives: packets, which have a protocol
// where this has 0.
func ParseUpcall(b []byte) (u McastUpcall, ok bool) {
	if len(b) != igmpmsgLen || b[9] != 0 {
		return u, false
	}
	return McastUpcall{int(b[8]), int(b[10]), netip.AddrFrom4([4]byte(b[12:16])), netip.AddrFrom4([4]byte(b[16:20]))}, true
}

// ParseUpcall6 reads an mrt6msg. ok is false for anything else: messages, of a type other than 0.
func ParseUpcall6(b []byte) (u McastUpcall, ok bool) {
	if len(b) != mrt6msgLen || b[0] != 0 {
		return u, false
	}
	return McastUpcall{int(b[1]), int(le.Uint16(b[2:])), netip.AddrFrom16([16]byte(b[8:24])), netip.AddrFrom16([16]byte(b[24:40]))}, true
}

// VifCount is the argument of SIOCGETVIFCNT and SIOCGETMIFCNT_IN6 (sioc_vif_req, sioc_mif_req6).
//
//	0 u16 number, 8 u64 packets in, 16 u64 packets out, 24 u64 octets in, 32 u64 octets out
type VifCount struct {
	Vif                                      int
	InPackets, OutPackets, InBytes, OutBytes uint64
}

// AppendVifCount appends c.
func AppendVifCount(b []byte, c VifCount) []byte {
	b = append(le.AppendUint16(b, uint16(c.Vif)), 0, 0, 0, 0, 0, 0)
	return appendU64s(b, c.InPackets, c.OutPackets, c.InBytes, c.OutBytes)
}

// ParseVifCount reads what [AppendVifCount] wrote.
func ParseVifCount(b []byte) (VifCount, error) {
	if len(b) != vifReqLen {
		return VifCount{}, malformed("sioc_vif_req of %d octets, not %d", len(b), vifReqLen)
	}
	return VifCount{int(le.Uint16(b)), le.Uint64(b[8:]), le.Uint64(b[16:]), le.Uint64(b[24:]), le.Uint64(b[32:])}, nil
}

// SGCount is the argument of SIOCGETSGCNT and SIOCGETSGCNT_IN6 (sioc_sg_req, sioc_sg_req6).
//
//	0 source, group (in_addr, or sockaddr_in6), then u64 packets, u64 octets, u64 packets by a wrong vif
type SGCount struct {
	Source, Group           netip.Addr
	Packets, Bytes, WrongIf uint64
}

// AppendSGCount appends c as its family has it.
func AppendSGCount(b []byte, c SGCount) []byte {
	if c.Group.Is4() {
		b = append(append(b, c.Source.AsSlice()...), c.Group.AsSlice()...)
	} else {
		b = AppendSockaddr(AppendSockaddr(b, AddrFrom(c.Source, 0)), AddrFrom(c.Group, 0))
	}
	return appendU64s(b, c.Packets, c.Bytes, c.WrongIf)
}

// ParseSGCount reads what [AppendSGCount] wrote.
func ParseSGCount(b []byte) (SGCount, error) {
	var c SGCount
	n := len(b) - 3*8
	switch len(b) {
	case sgReqLen:
		c.Source, c.Group = netip.AddrFrom4([4]byte(b)), netip.AddrFrom4([4]byte(b[4:]))
	case sg6ReqLen:
		src, rest, err := ParseSockaddr(b)
		if err != nil {
			return c, err
		}
		group, _, err := ParseSockaddr(rest)
		if err != nil {
			return c, err
		}
		if src.Family != AFInet6 || group.Family != AFInet6 {
			return c, malformed("sioc_sg_req6 with addresses of families %d and %d", src.Family, group.Family)
		}
		c.Source, c.Group = src.IP, group.IP
	default:
		return c, malformed("sioc_sg_req of %d octets, not %d or %d", len(b), sgReqLen, sg6ReqLen)
	}
	c.Packets, c.Bytes, c.WrongIf = le.Uint64(b[n:]), le.Uint64(b[n+8:]), le.Uint64(b[n+16:])
	return c, nil
}

func appendU64s(b []byte, all ...uint64) []byte {
	for _, v := range all {
		b = binary.LittleEndian.AppendUint64(b, v)
	}
	return b
}
