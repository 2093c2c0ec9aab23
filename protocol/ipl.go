package protocol

// Languages of a [RulesRequest].
const (
	RulesFilter = 1 // ipf(5)
	RulesNAT    = 2 // ipnat(5)
	RulesPools  = 3 // ippool(5)
)

// Kinds of steps.
const (
	StepAdd         = 1 // a rule, at its place; a pool, in the place of the one of its name
	StepRemove      = 2 // the rule that reads the same, of NAT with its sessions if Arg is 1; the pool of that name
	StepFlush       = 3 // rules of the filter: those that Arg says; of NAT, pools: all
	StepSwap        = 4 // the filter's active and inactive set change places
	StepZero        = 5 // the counters of a rule of the filter; without a text of all, and of packets
	StepFlushStates = 6 // of the filter: Arg 1 all, 0 those of no established connection; of NAT: all sessions
	StepEnable      = 7 // Arg 1: packets are asked about; 0: all pass, untranslated
	StepJoin        = 8 // the entries of a pool are put into the one of its name, which is there
	StepLeave       = 9 // they are taken out
)

// Bits of a step's Arg: of which set a rule of the filter is, and what StepFlush is about.
const (
	StepInactive = 1
	StepIn       = 2
	StepOut      = 4
	StepInet     = 8
	StepInet6    = 16
)

// RuleStep is one step of a change. Text is one rule or pool of the language,
// with addresses and ports as numbers.
//
//	u8 kind, u8 arg, bytes text
type RuleStep struct {
	Kind, Arg uint8
	Text      string
}

// RulesRequest is a part of a change; the last one, without More, has all of it
// carried out or none of it.
//
//	u8 language, u8 more, then steps
type RulesRequest struct {
	Language uint8
	More     bool
	Steps    []RuleStep
}

// AppendRulesRequest appends the payload of TypeRules.
func AppendRulesRequest(b []byte, q RulesRequest) []byte {
	b = append(b, q.Language, flag(q.More))
	for _, s := range q.Steps {
		b = AppendRuleStep(b, s)
	}
	return b
}

// AppendRuleStep appends one step.
func AppendRuleStep(b []byte, s RuleStep) []byte {
	return AppendBytes(append(b, s.Kind, s.Arg), []byte(s.Text))
}

// ParseRulesRequest reads what [AppendRulesRequest] wrote.
func ParseRulesRequest(b []byte) (q RulesRequest, err error) {
	r := NewReader(b)
	q.Language, q.More = r.U8(), r.U8() != 0
	for r.Len() > 0 {
		q.Steps = append(q.Steps, RuleStep{Kind: r.U8(), Arg: r.U8(), Text: string(r.Bytes())})
	}
	return q, r.Close()
}

// Which log TypeLog reads, and which table TypeSave and TypeRestore are about.
const (
	LogPackets = 0 // /dev/ipl
	LogStates  = 1 // /dev/ipstate
	LogNAT     = 2 // /dev/ipnat
)

// RestoreRequest is a part of what a TypeSave answered; the last one, without
// More, has it taken.
//
//	u8 which, u8 more, data to the end
type RestoreRequest struct {
	Which uint8
	More  bool
	Data  []byte
}

// AppendRestoreRequest appends the payload of TypeRestore.
func AppendRestoreRequest(b []byte, q RestoreRequest) []byte {
	return append(append(b, q.Which, flag(q.More)), q.Data...)
}

// ParseRestoreRequest reads it; the data points into b.
func ParseRestoreRequest(b []byte) (q RestoreRequest, err error) {
	r := NewReader(b)
	q.Which, q.More, q.Data = r.U8(), r.U8() != 0, r.Rest()
	return q, r.Close()
}

// AppendSaveRequest appends the payload of TypeSave.
func AppendSaveRequest(b []byte, which uint8, cursor uint64) []byte {
	return le.AppendUint64(append(b, which), cursor)
}

// ParseSaveRequest reads it.
func ParseSaveRequest(b []byte) (which uint8, cursor uint64, err error) {
	r := NewReader(b)
	which, cursor = r.U8(), r.U64()
	return which, cursor, r.Close()
}

func flag(on bool) byte {
	if on {
		return 1
	}
	return 0
}

// Tables of the packet filter, for the superuser and the stack's own user. ENODEV:
// there is no filter in the stack.
const (
	TableFilter      = "filter"       // one FilterRow
	TableFilterRules = "filterrules"  // FilterRuleRow, both sets, both directions
	TableStates      = "filterstates" // StateRow
	TableFragments   = "fragments"    // FragmentRow
	TablePools       = "pools"        // PoolRow
	TablePoolEntries = "poolentries"  // PoolEntryRow; arg: the pool's name
	TableNAT         = "nat"          // one NATRow
	TableNATRules    = "natrules"     // NATRuleRow
	TableNATSessions = "natsessions"  // NATSessionRow
)

// FilterRow is the filter and what it has counted.
type FilterRow struct {
	Enabled bool             `json:"enabled"`
	Default string           `json:"default"` // "pass" or "block": what no rule matches
	Since   int64            `json:"since"`   // when it was loaded, Unix seconds
	In      FilterDirection  `json:"in"`
	Out     FilterDirection  `json:"out"`
	States  FilterStates     `json:"states"`
	Frags   FilterFragments  `json:"fragments"`
	Rules   FilterRuleCounts `json:"rules"`
	Logs    [3]int           `json:"logs"` // records that wait: packets, states, NAT
}

// FilterRuleCounts are the rules of each list.
type FilterRuleCounts struct {
	In        int `json:"in"`
	Out       int `json:"out"`
	In6       int `json:"in6"`
	Out6      int `json:"out6"`
	Inactive  int `json:"inactive"`
	Inactive6 int `json:"inactive6"`
}

// FilterDirection counts packets of a direction.
type FilterDirection struct {
	Passed     uint64 `json:"passed"`
	Blocked    uint64 `json:"blocked"`
	NoMatch    uint64 `json:"no_match"`
	Logged     uint64 `json:"logged"`
	LogFailed  uint64 `json:"log_failed"` // the log was full
	NewStates  uint64 `json:"new_states"`
	BadStates  uint64 `json:"bad_states"` // could not be kept
	KnownFrags uint64 `json:"known_fragments"`
	NewFrags   uint64 `json:"new_fragments"`
	BadFrags   uint64 `json:"bad_fragments"`
	Replies    uint64 `json:"replies"` // ICMP errors sent
	RSTs       uint64 `json:"rsts"`
	IPv6       uint64 `json:"ipv6"`    // of passed and blocked
	Counted    uint64 `json:"counted"` // that rules of accounting are about
	Short      uint64 `json:"short"`
	Bad        uint64 `json:"bad"`
	// Of logged; the others are those that rules only log.
	LoggedPassed  uint64 `json:"logged_passed"`
	LoggedBlocked uint64 `json:"logged_blocked"`
}

// FilterStates counts states.
type FilterStates struct {
	Active      uint64 `json:"active"`
	Max         int64  `json:"max"`
	Added       uint64 `json:"added"`
	Expired     uint64 `json:"expired"`
	Removed     uint64 `json:"removed"`
	Full        uint64 `json:"full"`
	Evicted     uint64 `json:"evicted"`
	OutOfWindow uint64 `json:"out_of_window"`
	Hits        uint64 `json:"hits"`
	Misses      uint64 `json:"misses"`
	TCP         uint64 `json:"tcp"` // of added
	UDP         uint64 `json:"udp"`
	ICMP        uint64 `json:"icmp"`
}

// FilterFragments counts datagrams in fragments.
type FilterFragments struct {
	Active  uint64 `json:"active"`
	Added   uint64 `json:"added"`
	Expired uint64 `json:"expired"`
	Hits    uint64 `json:"hits"`
	Refused uint64 `json:"refused"`
	Full    uint64 `json:"full"`
}

// FilterRuleRow is one rule of the filter.
type FilterRuleRow struct {
	Set       string `json:"set"`       // "active", "inactive"
	Direction string `json:"direction"` // "in", "out"
	Family    string `json:"family"`    // "inet", "inet6"
	Group     string `json:"group,omitempty"`
	Number    int    `json:"number"` // in its group, from 1
	Rule      string `json:"rule"`
	Hits      uint64 `json:"hits"`
	Bytes     uint64 `json:"bytes"`
	States    int64  `json:"states"`
}

// StateRow is one state. Of the arrays of four the first two are the direction of
// the first packet, in and out, the others its answers'.
type StateRow struct {
	Family   string    `json:"family"`
	Protocol int       `json:"protocol"`
	Src      string    `json:"source"`
	Dst      string    `json:"destination"`
	SrcPort  int       `json:"source_port"` // of an echo both are its identifier
	DstPort  int       `json:"destination_port"`
	ICMPType int       `json:"icmp_type,omitempty"` // of the request
	TCP      [2]int    `json:"tcp"`                 // states of both sides, in IPFilter's numbers
	Rule     string    `json:"rule"`
	If       [4]string `json:"interfaces"`
	Packets  [4]uint64 `json:"packets"`
	Bytes    [4]uint64 `json:"bytes"`
	Age      int64     `json:"age"` // seconds
	TTL      int64     `json:"ttl"` // seconds; half ones count as whole
}

// FragmentRow is a datagram of which the first fragment has passed: the others follow it.
type FragmentRow struct {
	Family    string `json:"family"`
	Direction string `json:"direction"` // "in", "out"
	Protocol  int    `json:"protocol"`
	Src       string `json:"source"`
	Dst       string `json:"destination"`
	ID        uint32 `json:"id"`
	State     bool   `json:"state"` // it is one of a state
	TTL       int64  `json:"ttl"`   // seconds; half ones count as whole
}

// PoolRow is one pool.
type PoolRow struct {
	Name      string `json:"name"`
	Kind      string `json:"kind"` // "tree", "hash", "group-map"
	Role      string `json:"role"`
	Direction string `json:"direction,omitempty"` // of a group-map: "in", "out"
	Group     string `json:"group,omitempty"`
	Size      int    `json:"size,omitempty"` // of a hash
	Seed      int    `json:"seed,omitempty"`
	Entries   int    `json:"entries"`
	Hits      uint64 `json:"hits"`
}

// PoolEntryRow is one address or network of a pool, with ! before one that is not in it.
type PoolEntryRow struct {
	Pool  string `json:"pool"`
	Entry string `json:"entry"`
}

// NATRow is what translation has counted.
type NATRow struct {
	MappedIn  uint64 `json:"mapped_in"`
	MappedOut uint64 `json:"mapped_out"`
	Added     uint64 `json:"added"`
	Expired   uint64 `json:"expired"`
	Evicted   uint64 `json:"evicted"`
	Bad       uint64 `json:"bad"`
	Exhausted uint64 `json:"exhausted"`
	ICMP      uint64 `json:"icmp"`
	BadICMP   uint64 `json:"bad_icmp"`
	Frags     uint64 `json:"fragments"`
	BadFrags  uint64 `json:"bad_fragments"`
	FragFull  uint64 `json:"fragments_full"`
	InUse     int    `json:"in_use"`
	Rules     int    `json:"rules"`
}

// NATRuleRow is one rule of translation.
type NATRuleRow struct {
	Rule     string `json:"rule"`
	Redirect bool   `json:"redirect"` // a rdr
	Hits     uint64 `json:"hits"`
	Sessions int64  `json:"sessions"`
}

// NATSessionRow is one session: ends as "address:port".
type NATSessionRow struct {
	Kind        string `json:"kind"` // as the rule begins: "map", "rdr", …
	Interface   string `json:"interface"`
	Protocol    int    `json:"protocol"`
	Inside      string `json:"inside"`
	Outer       string `json:"outer"`
	Remote      string `json:"remote"`
	Established bool   `json:"established,omitempty"`
	Age         int64  `json:"age"` // seconds
	Idle        int64  `json:"idle"`
	TTL         int64  `json:"ttl"`
	PacketsIn   uint64 `json:"packets_in"`
	PacketsOut  uint64 `json:"packets_out"`
	BytesIn     uint64 `json:"bytes_in"`
	BytesOut    uint64 `json:"bytes_out"`
	Rule        string `json:"rule"`
	Tag         string `json:"tag,omitempty"`
}

// What the record of a packet may be with: what its rule keeps, and properties of
// the packet in the words of rules.
const (
	WithState     = "keep-state"
	WithFrags     = "keep-frags"
	WithShort     = "short"
	WithLowTTL    = "lowttl"
	WithOOW       = "oow"
	WithBad       = "bad"
	WithNAT       = "nat"
	WithMulticast = "multicast"
	WithBroadcast = "bcast"
)

// LogRow is one record of a log.
type LogRow struct {
	Log       string         `json:"log"`  // "packets", "states", "nat"
	Time      int64          `json:"time"` // Unix ns
	Event     string         `json:"event"`
	Direction string         `json:"direction,omitempty"` // of a packet: "in", "out"
	Interface string         `json:"interface,omitempty"`
	Group     string         `json:"group,omitempty"`
	Rule      int            `json:"rule,omitempty"` // its number in its group, of NAT in the list; 0: none
	Level     string         `json:"level,omitempty"`
	Tag       int            `json:"tag,omitempty"`
	Anyway    bool           `json:"anyway,omitempty"` // logged by net.inet.ipf.fr_flags, not by its rule
	With      []string       `json:"with,omitempty"`   // WithState and the like
	Length    int            `json:"length,omitempty"` // of the packet
	Packet    []byte         `json:"packet,omitempty"` // its headers, and with `log body` what follows
	State     *StateRow      `json:"state,omitempty"`
	Session   *NATSessionRow `json:"session,omitempty"`
}
