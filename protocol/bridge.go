package protocol

// Commands of SIOCSDRVSPEC to a bridge (NetBSD's BRDG*): which of the fields of a
// BridgeReq they read besides Bridge.
const (
	BridgeAdd        = 0  // Member
	BridgeDelete     = 1  // Member
	BridgeFlags      = 3  // Member; Value, Mask: BridgeLearning, BridgeDiscover, BridgeSTP
	BridgeMaxAddr    = 4  // Value: stations
	BridgeStatic     = 8  // Member, Addr
	BridgeTimeout    = 9  // Value: seconds, 0: for ever
	BridgeDelAddr    = 11 // Addr
	BridgeFlush      = 12 // Value: 0 those that were learnt, 1 all
	BridgePriority   = 14 // Value
	BridgeHello      = 16 // Value: seconds
	BridgeDelay      = 18 // Value: seconds
	BridgeMaxAge     = 20 // Value: seconds
	BridgeIfPriority = 21 // Member, Value
	BridgeIfCost     = 22 // Member, Value
	bridgeReqLen     = IfNameLen + 4 + IfNameLen + 4 + 4 + 8
	SIOCSDRVSPEC     = iocIn | bridgeReqLen<<16 | ioGroup | 123 // BridgeReq
	BridgeLearning   = 0x1
	BridgeDiscover   = 0x2
	BridgeSTP        = 0x4
)

// BridgeReq is the argument of SIOCSDRVSPEC (ifdrv, with what it points at behind it).
//
//	0  char[16] bridge
//	16 u32 command
//	20 char[16] member
//	36 u32 value, u32 mask
//	44 octets address (6), u16 0
type BridgeReq struct {
	Bridge, Member       string
	Command, Value, Mask uint32
	Addr                 [6]byte
}

// AppendBridgeReq appends r.
func AppendBridgeReq(b []byte, r BridgeReq) []byte {
	b = AppendU32(appendName(b, r.Bridge), r.Command)
	b = AppendU32(appendName(b, r.Member), r.Value, r.Mask)
	return append(append(b, r.Addr[:]...), 0, 0)
}

// ParseBridgeReq reads what [AppendBridgeReq] wrote.
func ParseBridgeReq(b []byte) (BridgeReq, error) {
	if len(b) != bridgeReqLen {
		return BridgeReq{}, malformed("request to a bridge of %d octets, not %d", len(b), bridgeReqLen)
	}
	return BridgeReq{Bridge: parseName(b[:IfNameLen]), Command: le.Uint32(b[16:]), Member: parseName(b[20:36]),
		Value: le.Uint32(b[36:]), Mask: le.Uint32(b[40:]), Addr: [6]byte(b[44:])}, nil
}

// BridgeRow is one bridge.
type BridgeRow struct {
	Name      string          `json:"name"`
	Flags     uint32          `json:"flags"`
	MaxAddr   int64           `json:"maxaddr"`
	Timeout   int64           `json:"timeout"` // seconds, 0: for ever
	Priority  int             `json:"priority"`
	Hello     int             `json:"hellotime"` // with the two others: seconds
	Delay     int             `json:"fwddelay"`
	MaxAge    int             `json:"maxage"`
	ID        string          `json:"id,omitempty"`   // with STP: priority and address, 8000.020000000001
	Root      string          `json:"root,omitempty"` // the root's
	RootCost  uint32          `json:"root_cost,omitempty"`
	RootPort  string          `json:"root_port,omitempty"` // the member that leads there
	Members   []BridgeMember  `json:"members"`
	Addresses []BridgeAddress `json:"addresses"`
}

// BridgeMember is one member of a bridge.
type BridgeMember struct {
	Interface  string `json:"interface"`
	Port       int    `json:"port"`
	Priority   int    `json:"priority"`
	PathCost   uint32 `json:"path_cost"`
	State      string `json:"state,omitempty"` // with STP: disabled, listening, learning, forwarding, blocking
	Flags      uint32 `json:"flags"`
	InPackets  uint64 `json:"in_packets"`
	OutPackets uint64 `json:"out_packets"`
	Dropped    uint64 `json:"dropped"`
}

// BridgeAddress is one station that a bridge knows.
type BridgeAddress struct {
	Address   string `json:"address"`
	Interface string `json:"interface"`
	Expire    int64  `json:"expire"` // seconds; 0: never
	Static    bool   `json:"static,omitempty"`
}
