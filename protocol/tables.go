package protocol

// The rows of TypeTable, one JSON object a line. The tools' --json prints the
// same objects. Addresses are complete texts ("10.0.0.1", "fe80::1%en0"),
// prefixes "10.0.0.0/8", link addresses "00:50:da:c8:2f:96", times seconds.
// Names of tables: TableStack, TableInterfaces, TableSockets, TableCounters, TableMbuf,
// TableNeighbours, TableNIC, TableGroups, TableOptions, TableTCP, TableVifs, TableMFC, TableBridges, and of IPv6
// TablePrefixes, TableRouters, TableND, TableResolver, TablePolicy.
const (
	TableStack      = "stack"      // one StackInfo
	TableInterfaces = "interfaces" // InterfaceRow
	TableSockets    = "sockets"    // SocketRow
	TableCounters   = "counters"   // CounterRow
	TableMbuf       = "mbuf"       // one MbufRow
	TableNeighbours = "neighbours" // NeighbourRow: ARP and ND
	TableNIC        = "nic"        // NICRow; arg: interface name or empty
	TableGroups     = "groups"     // GroupRow: multicast memberships of interfaces
	TableVifs       = "vifs"       // VifRow: virtual interfaces of multicast forwarding
	TableBridges    = "bridges"    // BridgeRow; arg: interface name or empty
	TableMFC        = "mfc"        // MFCRow: the multicast forwarding cache
	TableOptions    = "options"    // OptionRow: io-net --show
	TableTCP        = "tcp"        // one TCPInfo; arg: SocketRow.PCB
	TablePrefixes   = "prefixes"   // PrefixRow: those that routers have told of
	TableRouters    = "routers"    // RouterRow: the default routers, the one in use first
	TableND         = "nd"         // NDIfRow; arg: interface name or empty
	TableResolver   = "resolver"   // ResolverRow: what routers have told of names
	TablePolicy     = "policy"     // PolicyRow: how addresses are chosen
)

// StackInfo describes the stack.
type StackInfo struct {
	Version  string   `json:"version"`
	Prefix   string   `json:"prefix"`
	Instance int      `json:"instance"`
	PID      int      `json:"pid"`
	User     string   `json:"user"`
	UID      int      `json:"uid"`
	Started  int64    `json:"started"` // Unix seconds
	Uptime   int64    `json:"uptime"`
	Clients  int      `json:"clients"`
	Sockets  int      `json:"sockets"`
	Workers  int      `json:"workers"`
	Restarts int      `json:"restarts"`
	Options  []string `json:"options,omitempty"`
}

// InterfaceRow is one interface with its addresses and counters.
type InterfaceRow struct {
	Name       string       `json:"name"`
	Index      int          `json:"index"`
	Type       int          `json:"type"`
	Flags      uint32       `json:"flags"`
	MTU        int          `json:"mtu"`
	Metric     int          `json:"metric"`
	Link       string       `json:"link,omitempty"` // link address
	Media      string       `json:"media,omitempty"`
	LinkUp     bool         `json:"link_up"`
	TunnelSrc  string       `json:"tunnel_source,omitempty"` // where a gif leads, in the family of its outer packets
	TunnelDst  string       `json:"tunnel_destination,omitempty"`
	VLAN       int          `json:"vlan,omitempty"` // which of VLANParent it is
	VLANParent string       `json:"vlan_parent,omitempty"`
	Addresses  []AddressRow `json:"addresses"`
	InPackets  uint64       `json:"in_packets"`
	InErrors   uint64       `json:"in_errors"`
	InBytes    uint64       `json:"in_bytes"`
	InMcast    uint64       `json:"in_mcast"`
	InDrops    uint64       `json:"in_drops"`
	OutPackets uint64       `json:"out_packets"`
	OutErrors  uint64       `json:"out_errors"`
	OutBytes   uint64       `json:"out_bytes"`
	OutMcast   uint64       `json:"out_mcast"`
	OutDrops   uint64       `json:"out_drops"`
	Collisions uint64       `json:"collisions"`
	NoProto    uint64       `json:"no_proto"`
	LastChange int64        `json:"last_change"` // Unix seconds
}

// AddressRow is one address of an interface.
type AddressRow struct {
	Family      string `json:"family"` // "inet", "inet6"
	Address     string `json:"address"`
	Bits        int    `json:"prefixlen"`
	Broadcast   string `json:"broadcast,omitempty"`
	Destination string `json:"destination,omitempty"`
	Alias       bool   `json:"alias,omitempty"`
	Tentative   bool   `json:"tentative,omitempty"`
	Duplicated  bool   `json:"duplicated,omitempty"`
	Flags       uint32 `json:"flags,omitempty"` // of inet6: IN6_IFF_*, the three above among them

	// Of inet6: seconds left, absent or 0 when they are over, -1 for ever; and
	// the index of the interface in an address of one link.
	Preferred int64 `json:"pltime,omitempty"`
	Valid     int64 `json:"vltime,omitempty"`
	Scope     int   `json:"scopeid,omitempty"`
}

// SocketRow is one protocol control block.
type SocketRow struct {
	Proto   string `json:"proto"` // "tcp", "udp", "icmp", "ip", ...
	Family  string `json:"family"`
	RecvQ   int    `json:"recv_q"`
	SendQ   int    `json:"send_q"`
	Local   string `json:"local"` // "10.0.0.1"; "*" when unbound
	LPort   int    `json:"lport"`
	Foreign string `json:"foreign"`
	FPort   int    `json:"fport"`
	State   string `json:"state,omitempty"` // of a TCP connection: "ESTABLISHED", …
	PCB     string `json:"pcb"`             // a stable hex name of the control block
	PID     int    `json:"pid,omitempty"`
	UID     int    `json:"uid"`
}

// TCPInfo is how a TCP connection is doing. Sequence numbers are its secret, so
// that only its owner and the superuser may ask. Windows and queues are octets,
// times microseconds, but ages milliseconds.
type TCPInfo struct {
	State      string `json:"state"`
	Congestion string `json:"congestion"` // "cubic", "newreno"
	Phase      string `json:"phase"`      // of congestion control: "open", "cwr", "recovery", "loss"

	// What both sides have agreed on.
	Timestamps bool  `json:"timestamps"`
	SACK       bool  `json:"sack"`
	WScale     bool  `json:"wscale"`
	ECN        bool  `json:"ecn"`
	SndScale   uint8 `json:"snd_scale"`
	RcvScale   uint8 `json:"rcv_scale"`
	MSS        int   `json:"mss"`      // of what is sent, without options
	RcvMSS     int   `json:"rcv_mss"`  // of what comes, as seen
	PeerMSS    int   `json:"peer_mss"` // that the peer has offered
	MTU        int   `json:"mtu"`      // of the path

	ISS    uint32 `json:"iss"`
	SndUna uint32 `json:"snd_una"`
	SndNxt uint32 `json:"snd_nxt"`
	SndWnd uint32 `json:"snd_wnd"`
	IRS    uint32 `json:"irs"`
	RcvNxt uint32 `json:"rcv_nxt"`
	RcvAdv uint32 `json:"rcv_adv"`
	RcvWnd uint32 `json:"rcv_wnd"`

	Cwnd     uint32 `json:"snd_cwnd"`
	SSThresh uint32 `json:"snd_ssthresh"`
	InFlight uint32 `json:"in_flight"`
	Lost     uint32 `json:"lost"`
	SACKed   uint32 `json:"sacked"`

	SRTT    int64 `json:"srtt"` // 0: not measured yet
	RTTVar  int64 `json:"rttvar"`
	MinRTT  int64 `json:"rttmin"`
	RTO     int64 `json:"rto"`
	Backoff int   `json:"rxtshift"` // timeouts in a row

	SendQ        int   `json:"send_q"`
	SendBuf      int   `json:"send_buf"`
	RecvQ        int   `json:"recv_q"`
	RecvBuf      int   `json:"recv_buf"`
	OutOfOrder   int   `json:"out_of_order"`            // ranges that wait for what is before them
	LastSent     int64 `json:"last_sent,omitempty"`     // age, at least 1; 0: never
	LastReceived int64 `json:"last_received,omitempty"` // age
}

// CounterRow is one counter as netstat -s prints it. See mib.CounterInfo for
// the sentence's marks.
type CounterRow struct {
	Proto    string `json:"proto"`
	Name     string `json:"name"`
	Sentence string `json:"sentence"`
	Heading  string `json:"heading,omitempty"` // of the histogram that it is a line of
	Value    uint64 `json:"value"`
}

// MbufRow is the packet memory.
type MbufRow struct {
	Buffers  int64  `json:"buffers"` // handed out
	Octets   int64  `json:"octets"`
	Limit    int64  `json:"limit"`
	Denied   uint64 `json:"denied"`
	SockData int64  `json:"socket_octets"` // of Octets, in socket buffers
}

// NeighbourRow is one neighbour entry.
type NeighbourRow struct {
	Address   string `json:"address"`
	Link      string `json:"link,omitempty"` // empty: incomplete
	Interface string `json:"interface"`
	Expire    int64  `json:"expire"` // seconds left; 0 with Permanent
	Permanent bool   `json:"permanent,omitempty"`
	Published bool   `json:"published,omitempty"`
	ProxyOnly bool   `json:"proxy_only,omitempty"`
	Refs      int    `json:"refs"`
	Use       uint64 `json:"use"`

	Family string `json:"family,omitempty"` // "inet", "inet6"
	// Of inet6 (RFC 4861 §7.3.2): "INCOMPLETE", "REACHABLE", "STALE", "DELAY",
	// "PROBE", and "PERMANENT" for what was made by hand.
	State  string `json:"state,omitempty"`
	Router bool   `json:"router,omitempty"`
	Probes int    `json:"probes,omitempty"` // asked without an answer
}

// PrefixRow is a prefix that routers have told of.
type PrefixRow struct {
	Prefix     string   `json:"prefix"`
	Interface  string   `json:"interface"`
	OnLink     bool     `json:"on_link,omitempty"`
	Autonomous bool     `json:"autonomous,omitempty"`
	Detached   bool     `json:"detached,omitempty"` // none of its routers is reachable
	Preferred  int64    `json:"pltime"`             // as told, seconds; -1: for ever
	Valid      int64    `json:"vltime"`
	Expire     int64    `json:"expire"`            // seconds left; -1: never
	Refs       int      `json:"refs"`              // addresses made of it
	Routers    []string `json:"routers,omitempty"` // that told of it
}

// RouterRow is a default router.
type RouterRow struct {
	Address    string `json:"address"`
	Interface  string `json:"interface"`
	Flags      uint8  `json:"flags"`      // as in its advertisements (RFC 4861 §4.2, RFC 4191 §2.2)
	Managed    bool   `json:"managed"`    // M
	Other      bool   `json:"other"`      // O
	Preference string `json:"preference"` // "high", "medium", "low"
	Lifetime   int64  `json:"lifetime"`   // as told, seconds
	Expire     int64  `json:"expire"`     // seconds left
	Default    bool   `json:"default"`    // it is in use
}

// NDIfRow is neighbour discovery on one interface.
type NDIfRow struct {
	Interface     string `json:"interface"`
	LinkMTU       int    `json:"linkmtu"`
	MaxMTU        int    `json:"maxmtu"`
	CurHopLimit   int    `json:"curhlim"`
	BaseReachable int64  `json:"basereachable"` // ms, as routers or the default have it
	Reachable     int64  `json:"reachable"`     // ms, as chosen around that
	Retrans       int64  `json:"retrans"`       // ms
	Flags         uint32 `json:"flags"`         // ND6_IFF_*
}

// ResolverRow is a name server or a search domain (RFC 8106), one of both.
type ResolverRow struct {
	Server string `json:"server,omitempty"`
	Search string `json:"search,omitempty"`
}

// PolicyRow is a line of the table by which addresses are chosen (RFC 6724
// §2.1).
type PolicyRow struct {
	Prefix     string `json:"prefix"`
	Precedence int    `json:"precedence"`
	Label      int    `json:"label"`
	Use        uint64 `json:"use"`
}

// NICRow is a driver as nicinfo shows it.
type NICRow struct {
	Name         string      `json:"name"`
	Driver       string      `json:"driver"`
	Description  string      `json:"description"`
	MAC          string      `json:"mac"`
	PermanentMAC string      `json:"permanent_mac"`
	Rate         uint64      `json:"rate"` // bits/s
	MTU          int         `json:"mtu"`
	MRU          int         `json:"mru"`
	Promiscuous  bool        `json:"promiscuous"`
	Multicast    bool        `json:"multicast"`
	LinkUp       bool        `json:"link_up"`
	LastError    string      `json:"last_error,omitempty"`
	Details      []NICDetail `json:"details,omitempty"`
	InterfaceRow `json:"counters"`
}

// NICDetail is a line that the driver adds.
type NICDetail struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// GroupRow is a multicast membership.
type GroupRow struct {
	Interface string   `json:"interface"`
	Group     string   `json:"group"` // "ff02::1%en0"
	Refs      int      `json:"refs"`
	Mode      string   `json:"mode"` // "include", "exclude": what the routers are told (RFC 3376, RFC 3810)
	Sources   []string `json:"sources,omitempty"`
}

// VifRow is an interface that multicast packets are forwarded from and to.
type VifRow struct {
	Family     string `json:"family"`
	Vif        int    `json:"vif"`
	Interface  string `json:"interface"`
	Threshold  int    `json:"threshold"`
	RateLimit  int    `json:"rate_limit"`
	Local      string `json:"local,omitempty"` // of inet
	InPackets  uint64 `json:"in_packets"`
	OutPackets uint64 `json:"out_packets"`
	InBytes    uint64 `json:"in_bytes"`
	OutBytes   uint64 `json:"out_bytes"`
}

// MFCRow is what becomes of the packets of a source to a group.
type MFCRow struct {
	Family  string   `json:"family"`
	Origin  string   `json:"origin"`
	Group   string   `json:"group"`
	Parent  int      `json:"parent"` // the vif that they come by; -1: the routing daemon is still being asked
	Out     []MFCOut `json:"out"`
	Packets uint64   `json:"packets"`
	Bytes   uint64   `json:"bytes"`
	WrongIf uint64   `json:"wrong_if"` // by another vif
	Waits   int      `json:"waits"`    // packets that wait for the daemon's word
}

// MFCOut is a vif that packets leave by, if their TTL is larger.
type MFCOut struct {
	Vif int `json:"vif"`
	TTL int `json:"ttl"`
}

// OptionRow is one option of io-net or of the tcpip module.
type OptionRow struct {
	Module string `json:"module"` // "io-net" or "tcpip-v6"
	Name   string `json:"name"`
	Value  string `json:"value"`
	Given  bool   `json:"given"`
	Acts   bool   `json:"acts"`
	Note   string `json:"note,omitempty"`
}
