// Package ipl is IPFilter's languages: the rules of ipf(5) and ipnat(5), the
// pools of ippool(5), read and printed. What Parse has read, String prints so
// that Parse reads the same again: rules travel to the stack as that text.
package ipl

import "net/netip"

// Action is what a filter rule does with a packet that it matches.
type Action uint8

const (
	Pass  Action = iota + 1
	Block        // drop, with an answer if Reply says so
	Log          // note it, and decide nothing
	Count        // count it, and decide nothing
	Skip         // go on Rule.Skip rules further down
	Call         // ask the group of rules that the group-map Rule.Map chooses
)

// Reply is how the sender of a blocked packet is told.
type Reply uint8

const (
	NoReply     Reply = iota
	ReplyRST          // return-rst: TCP only
	ReplyICMP         // return-icmp, from the router
	ReplyAsDest       // return-icmp-as-dest, from the address that was asked for
)

// Family is the version of IP that a rule is about.
type Family uint8

const (
	AnyFamily Family = 0
	Inet      Family = 4
	Inet6     Family = 6
)

// AnyProto is a Proto that every protocol matches, ProtoTCPUDP one for "tcp/udp".
const (
	AnyProto    = -1
	ProtoTCPUDP = -2
)

// Rule is one line of ipf.conf. Numbers that are not asked for are -1.
type Rule struct {
	Line         int // of the file; 0: from none
	At           int // "@n": before which of the rules of its list it goes; -1: at the end
	Action       Action
	Skip         int    // with Skip
	Map          string // with Call: the name of the group-map
	MapDst       bool   // it is asked for the destination, otherwise for the source
	Reply        Reply
	ICMPCode     int // with ReplyICMP and ReplyAsDest: the code of "unreachable"; -1: the default, port
	Out          bool
	Log          *LogOption // nil: no log
	Quick        bool
	If           string // "on"; "": any
	Via          string // "in-via", "out-via": the other interface of a forwarded packet
	DupTo        Target
	To           Target // "to", and "fastroute" with neither
	ReplyTo      Target
	Fast         bool // fastroute
	Family       Family
	TOS          int
	TTL          int
	Proto        int
	Src, Dst     Endpoint
	Flags        *TCPFlags // nil: any
	With         []With
	ICMPType     int
	ICMPTypeCode int        // the code of "icmp-type T code C"
	KeepState    *KeepState // nil: none
	KeepFrags    bool
	FragsStrict  bool
	Head, Group  string // "": none; the group that is the list itself
	LogTag       int    // set-tag(log=N); -1
}

// LogOption is "log" with what follows it.
type LogOption struct {
	Body, First, OrBlock bool
	Level                string // "facility.priority" or "priority"; "": the default
}

// Target is "interface[:address]"; the zero Target is none.
type Target struct {
	If   string
	Addr netip.Addr // not valid: the packet's own next hop
}

// EndpointKind says how an address is given.
type EndpointKind uint8

const (
	AnyAddr  EndpointKind = iota
	NetAddr               // Addr and Mask
	PoolAddr              // "pool/NAME"
	HashAddr              // "hash/NAME"
	IfAddr                // "IF", "IF/netmasked", "IF/network", "IF/peer", "IF/broadcast": the interface's address, as it changes
)

// Endpoint is one side of "from A to B".
type Endpoint struct {
	Not  bool
	Kind EndpointKind
	Addr netip.Addr
	Mask netip.Addr // of Addr's family; it need not be of contiguous ones
	Name string     // of the pool or interface
	Part string     // of an IfAddr: "", "netmasked", "network", "peer", "broadcast"
	Port Port
}

// PortOp is how a port is compared.
type PortOp uint8

const (
	PortAny     PortOp = iota
	PortEq             // =   lo
	PortNe             // !=  lo
	PortLt             // <   lo
	PortGt             // >   lo
	PortLe             // <=  lo
	PortGe             // >=  lo
	PortOutside        // lo <> hi: below lo or above hi
	PortInside         // lo >< hi: between, the ends not included
	PortRange          // lo : hi: the ends included
)

// Port is a condition on a port.
type Port struct {
	Op     PortOp
	Lo, Hi uint16
}

// Matches reports whether port p fulfils the condition.
func (c Port) Matches(p uint16) bool {
	switch c.Op {
	case PortEq:
		return p == c.Lo
	case PortNe:
		return p != c.Lo
	case PortLt:
		return p < c.Lo
	case PortGt:
		return p > c.Lo
	case PortLe:
		return p <= c.Lo
	case PortGe:
		return p >= c.Lo
	case PortOutside:
		return p < c.Lo || p > c.Hi
	case PortInside:
		return p > c.Lo && p < c.Hi
	case PortRange:
		return p >= c.Lo && p <= c.Hi
	}
	return true
}

// TCPFlags is "flags SET/MASK": of the flags in Mask exactly those in Set.
type TCPFlags struct{ Set, Mask uint8 }

// With is one property of "with": a packet has it, or with Not it has not.
type With struct {
	Not  bool
	What WithKind
	Opts []string // with WithOpt and WithV6Hdrs: names
}

// WithKind is such a property.
type WithKind uint8

const (
	WithIPOpts   WithKind = iota + 1
	WithShort             // too short for its transport header
	WithFrag              // a fragment
	WithFragBody          // one that is not the first
	WithNAT               // translated
	WithLowTTL
	WithMulticast
	WithBroadcast
	WithMBcast // either
	WithState  // of a known state
	WithBad    // malformed
	WithBadSrc // from where its source is not routed
	WithBadNAT // could not be translated
	WithOOW    // outside of its TCP connection's window
	WithOpt    // "opt NAME,NAME"
	WithV6Hdrs // "v6hdr NAME,NAME"
)

// KeepState is "keep state" with its options.
type KeepState struct {
	Limit     int  // states of this rule at most; 0: no limit of its own
	Strict    bool // segments in order only
	NewISN    bool
	NoICMPErr bool
	Age       [2]int // seconds, of the sender's and of the answerer's side; 0: the default
}
