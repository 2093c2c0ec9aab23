// Package protocol is what a client and a stack say to each other over
// $SOCK/dev/socket: frames, socket addresses, error numbers, ioctls, sysctl
// answers, RTM_* messages and table rows. It is codec only. README.md has the
// byte layouts for other languages.
package protocol

// Version is the protocol's version; the first frame of a client carries it.
const Version = 1

// Magic opens the HELLO payload: "IONT".
const Magic = 0x544e4f49

// MaxFrame is the largest frame, header included: an IP datagram of 65,535
// octets fits with its address and control messages. Longer answers are paged
// by a cursor.
const MaxFrame = 66 << 10

// MaxPayload is what a frame carries beside its header.
const MaxPayload = MaxFrame - HeaderLen

// HeaderLen is the length of a frame's header. All integers of the protocol
// are little-endian; ports and addresses inside a sockaddr are in network order.
//
//	0  u8   version
//	1  u8   type
//	2  u16  flags
//	4  u32  tag     chosen by the client, repeated in the reply
//	8  u32  id      socket or capture; 0: the connection itself
//	12 u32  errno   in a reply: 0, or Linux's number; the payload then is a text
const HeaderLen = 16

// Families: BSD's numbers, and the names of the doors below dev/socket.
const (
	AFUnspec = 0
	AFLocal  = 1
	AFInet   = 2
	AFRoute  = 17
	AFLink   = 18
	AFInet6  = 24
	AFKey    = 29
)

// Socket types.
const (
	SockStream = 1
	SockDgram  = 2
	SockRaw    = 3
)

// Type is the type of a frame.
type Type uint8

// Frame types on the doors 2 and 24. Except TypeHello, any may be sent before
// the reply to an earlier one has come; replies come in any order.
const (
	TypeHello       Type = 1  // u32 magic, u16 version -> Hello
	TypeSocket      Type = 2  // u16 type, u16 protocol, and u16 family unless it is the door's -> u32 id
	TypeClose       Type = 3  // - of a stream that lingers: answered when all is acknowledged
	TypeBind        Type = 4  // sockaddr
	TypeConnect     Type = 5  // sockaddr; of a stream: ConnectRequest -> when it stands or has failed: sockaddr peer, sockaddr local, and a descriptor unless the request brought one
	TypeListen      Type = 6  // u32 backlog
	TypeAccept      Type = 7  // -> when there is a connection: u32 id, sockaddr peer, sockaddr local, and a descriptor
	TypeShutdown    Type = 8  // u32 how (0 read, 1 write, 2 both)
	TypeGetsockname Type = 9  // -> sockaddr
	TypeGetpeername Type = 10 // -> sockaddr
	TypeSetsockopt  Type = 11 // u32 level, u32 name, bytes value
	TypeGetsockopt  Type = 12 // u32 level, u32 name -> bytes value
	TypeSend        Type = 13 // Msg -> u32 octets taken; of a stream: out-of-band octets only
	TypeRecv        Type = 14 // u32 flags, u32 size -> Msg; answered when there is something, at once with MSG_DONTWAIT; of a stream: as TypeSend
	TypeCancel      Type = 15 // u32 tag of a waiting request, which is answered EINTR
	TypeIoctl       Type = 16 // u32 request, bytes argument -> bytes argument
	TypeSysctl      Type = 17 // SysctlRequest -> SysctlReply
	TypeTable       Type = 18 // string name, string arg, u64 cursor -> u64 next cursor (0: end), JSON rows, one a line
	TypeDump        Type = 19 // u8 what (NET_RT_*), u8 family, u32 flags or if index, u64 cursor -> u64 next cursor (0: end), RTM messages
	TypeCapture     Type = 20 // CaptureRequest -> u32 id
	TypeCaptured    Type = 21 // on a capture's id: waits for records -> CaptureRecords
	TypeMount       Type = 22 // string type, string options, string module -> string what came of it
	TypeUmount      Type = 23 // string path
	TypeStop        Type = 24 // the stack ends after this reply
	TypeEnded       Type = 25 // -> when there are any: Ended, of streams that have ended by themselves
	TypeRules       Type = 26 // RulesRequest -> u32 for each step: how many rules, sessions or entries it took away
	TypeLog         Type = 27 // u8 which -> when there are any: u32 lost, LogRow, one a line
	TypeSave        Type = 28 // u8 which, u64 cursor -> u64 next cursor (0: end), data
	TypeRestore     Type = 29 // RestoreRequest -> u32 how many were restored
)

func (t Type) String() string {
	names := [...]string{"", "hello", "socket", "close", "bind", "connect", "listen", "accept", "shutdown",
		"getsockname", "getpeername", "setsockopt", "getsockopt", "send", "recv", "cancel", "ioctl", "sysctl",
		"table", "dump", "capture", "captured", "mount", "umount", "stop", "ended", "rules", "log", "save", "restore"}
	if int(t) < len(names) && t != 0 {
		return names[t]
	}
	return "unknown"
}

// FlagReply marks a reply.
const FlagReply = 1

// Message flags (BSD's MSG_*). MsgElsewhere is ionet's own: a datagram goes to its
// address though the socket has a peer, as Linux sends it, in place of EISCONN.
const (
	MsgOOB       = 0x1
	MsgPeek      = 0x2
	MsgDontRoute = 0x4
	MsgTrunc     = 0x10
	MsgCtrunc    = 0x20
	MsgWaitAll   = 0x40
	MsgDontWait  = 0x80
	MsgBcast     = 0x100
	MsgMcast     = 0x200
	MsgElsewhere = 0x10000
)

// What a TypeDump asks for (BSD's NET_RT_*).
const (
	DumpRoutes = 1 // NET_RT_DUMP: RTM_GET messages, cloned and neighbour entries included
	DumpFlags  = 2 // NET_RT_FLAGS: those with all of the flags, e.g. RTF_LLINFO
	DumpIfList = 3 // NET_RT_IFLIST: RTM_IFINFO then RTM_NEWADDR for each interface
)

// Option levels and names (BSD's).
const (
	SolSocket = 0xffff

	SoDebug       = 0x1
	SoAcceptConn  = 0x2
	SoReuseAddr   = 0x4
	SoKeepAlive   = 0x8
	SoDontRoute   = 0x10
	SoBroadcast   = 0x20
	SoUseLoopback = 0x40
	SoLinger      = 0x80
	SoOOBInline   = 0x100
	SoReusePort   = 0x200
	SoTimestamp   = 0x400
	SoSndBuf      = 0x1001
	SoRcvBuf      = 0x1002
	SoSndLowat    = 0x1003
	SoRcvLowat    = 0x1004
	SoSndTimeo    = 0x1005
	SoRcvTimeo    = 0x1006
	SoError       = 0x1007
	SoType        = 0x1008
	SoBindToIf    = 0x100b // ionet's own: string, the interface's name; empty undoes it

	// On level ProtoTCP, with NetBSD's numbers: ints, times in seconds.
	TCPNoDelay    = 1
	TCPMaxSeg     = 2
	TCPKeepIdle   = 3
	TCPNoPush     = 4
	TCPKeepIntvl  = 5
	TCPKeepCnt    = 6
	TCPInfoOpt    = 9     // read only: stack/tcp/sockopt.go has the octets
	TCPCongestion = 0x20  // string, the algorithm's name
	TCPFastOpen   = 0x401 // FreeBSD's: of a listener, how many may be open before their handshake is complete

	IPOptions              = 1
	IPHdrIncl              = 2
	IPTos                  = 3
	IPTTL                  = 4
	IPRecvOpts             = 5
	IPRecvRetOpts          = 6
	IPRecvDstAddr          = 7
	IPRetOpts              = 8
	IPMulticastIf          = 9  // in_addr of the interface, or u32 index in an ip_mreqn
	IPMulticastTTL         = 10 // u8
	IPMulticastLoop        = 11 // u8
	IPAddMembership        = 12 // ip_mreq: group, interface address (both in_addr)
	IPDropMembership       = 13
	IPPortRange            = 19
	IPRecvIf               = 20
	IPErrorMTU             = 21
	IPRecvTTL              = 23
	IPDontFrag             = 28 // ionet's own number space from here on
	IPAddSourceMembership  = 70 // ip_mreq_source: group, source, interface
	IPDropSourceMembership = 71
	IPBlockSource          = 72
	IPUnblockSource        = 73

	// On level ProtoIPv6, with KAME's numbers: ints (i32), except where said.
	// RFC 3493 §5, RFC 3542; those called 2292 are RFC 2292's, whose control
	// messages have the numbers of the options.
	IPv6UnicastHops       = 4  // -1: the default
	IPv6MulticastIf       = 9  // u32 index; 0: any
	IPv6MulticastHops     = 10 // -1: the default
	IPv6MulticastLoop     = 11 // u32
	IPv6JoinGroup         = 12 // ipv6_mreq: group (16), u32 index
	IPv6LeaveGroup        = 13 // ipv6_mreq
	IPv6PortRange         = 14
	IPv62292PktInfo       = 19 // control message: in6_pktinfo
	IPv62292HopLimit      = 20 // control message: i32
	IPv62292NextHop       = 21 // control message: sockaddr_in6
	IPv62292HopOpts       = 22 // control message: ip6_hbh
	IPv62292DstOpts       = 23 // control message: ip6_dest
	IPv62292RtHdr         = 24 // control message: ip6_rthdr
	IPv62292PktOptions    = 25
	IPv6Checksum          = 26 // where in the data the checksum is; -1: none
	IPv6V6Only            = 27
	IPv6RtHdrDstOpts      = 35 // ip6_dest; option and control message, as the others without RECV are
	IPv6RecvPktInfo       = 36
	IPv6RecvHopLimit      = 37
	IPv6RecvRtHdr         = 38
	IPv6RecvHopOpts       = 39
	IPv6RecvDstOpts       = 40
	IPv6RecvRtHdrDstOpts  = 41
	IPv6UseMinMTU         = 42 // -1: to groups; 0: never; 1: always
	IPv6RecvPathMTU       = 43
	IPv6PathMTU           = 44 // read only, and control message: ip6_mtuinfo, a sockaddr_in6 and u32 MTU
	IPv6PktInfo           = 46 // in6_pktinfo: address (16), u32 index
	IPv6HopLimit          = 47 // control message alone: i32
	IPv6NextHop           = 48 // sockaddr_in6
	IPv6HopOpts           = 49 // ip6_hbh: the header whole
	IPv6DstOpts           = 50 // ip6_dest
	IPv6RtHdr             = 51 // ip6_rthdr
	IPv6RecvTClass        = 57
	IPv6AutoFlowLabel     = 59
	IPv6TClass            = 61 // -1: the default
	IPv6DontFrag          = 62
	IPv6PreferTempAddr    = 63
	MCastJoinGroup        = 80 // group_req: u32 index, sockaddr_in6 group (28); RFC 3678 §5
	MCastLeaveGroup       = 81
	MCastJoinSourceGroup  = 82 // group_source_req: u32 index, sockaddr_in6 group, sockaddr_in6 source
	MCastLeaveSourceGroup = 83
	MCastBlockSource      = 84
	MCastUnblockSource    = 85

	// On level ProtoICMPv6.
	ICMP6Filter = 18 // icmp6_filter: eight u32, of which bit n set lets type n pass, as KAME has it (RFC 3542 §3.2)
)

// Protocols.
const (
	ProtoIP     = 0
	ProtoICMP   = 1
	ProtoIGMP   = 2
	ProtoTCP    = 6
	ProtoUDP    = 17
	ProtoIPv6   = 41
	ProtoICMPv6 = 58
	ProtoRaw    = 255
)
