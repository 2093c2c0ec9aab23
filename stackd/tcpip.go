package stackd

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"ionet/protocol"
)

// TCPIP are the options of the tcpip module after the original's rules.
// Defaults are the original's.
type TCPIP struct {
	Module  string // "tcpip-v6" or "tcpip-v4"
	Prefix  string
	Forward bool
	// FastForward acts only together with Forward.
	FastForward      bool
	Forward6         bool
	IPsec            bool
	PfilIPsec        bool
	ExternalARP      bool
	Random           bool
	ReusePortUnicast bool
	StrictRFC        bool
	Cache            bool
	RecvCtxt         int // octets, a multiple of 2048
	SoMaxConn        int
	StackSize        int
	RxPrio           int
	RxPrioGiven      bool // else the threads stay as they are
	TimerPrio        int
	TimerPrioGiven   bool
	ThreadsMin       int
	ThreadsMax       int
	ThreadsIncr      int

	// Warnings are sentences for standard error and the log.
	Warnings []string
	given    map[string]string
}

const (
	minContext = 2048
	maxContext = 512 << 10
	maxPrio    = 63
)

type tcpipOption struct {
	name  string
	value bool // takes a number or a path
	// dead says why the option steers nothing here; the warning.
	dead string
	set  func(o *TCPIP, v string, n int64)
	get  func(o *TCPIP) string
	v6   bool // not in tcpip-v4
	note string
}

func flagOption(name string, f func(*TCPIP) *bool) tcpipOption {
	return tcpipOption{name: name,
		set: func(o *TCPIP, _ string, _ int64) { *f(o) = true },
		get: func(o *TCPIP) string { return strconv.FormatBool(*f(o)) }}
}

func numOption(name string, f func(*TCPIP) *int, set func(o *TCPIP, n int64)) tcpipOption {
	return tcpipOption{name: name, value: true,
		set: func(o *TCPIP, _ string, n int64) { set(o, n) },
		get: func(o *TCPIP) string { return strconv.Itoa(*f(o)) }}
}

func (t tcpipOption) inert(why string) tcpipOption { t.dead = why; return t }
func (t tcpipOption) only6() tcpipOption           { t.v6 = true; return t }
func (t tcpipOption) noted(s string) tcpipOption   { t.note = s; return t }

func clamp(n, low, high int64) int { return int(min(max(n, low), high)) }

// tcpipOptions are the documented options, in order of name.
var tcpipOptions = []tcpipOption{
	{name: "cache", value: true, set: func(o *TCPIP, _ string, n int64) { o.Cache = n != 0 },
		get: func(o *TCPIP) string { return strconv.Itoa(btoi(o.Cache)) }},
	flagOption("external_arp", func(o *TCPIP) *bool { return &o.ExternalARP }).noted("neighbours in dev/io-net/ip_en (arp -p), not among the routes"),
	{name: "fastforward", set: setFastForward, get: func(o *TCPIP) string { return strconv.Itoa(btoi(o.FastForward)) },
		note: "net.inet.ip.maxflows and net.inet6.ip6.maxflows are 0 with 0; implies forward unless 0"},
	flagOption("forward", func(o *TCPIP) *bool { return &o.Forward }).noted("net.inet.ip.forwarding"),
	flagOption("forward6", func(o *TCPIP) *bool { return &o.Forward6 }).only6().noted("net.inet6.ip6.forwarding, and net.inet6.ip6.accept_rtadv=0"),
	flagOption("ipsec", func(o *TCPIP) *bool { return &o.IPsec }).only6().noted("policies and associations by setkey, dev/socket/29"),
	flagOption("pfil_ipsec", func(o *TCPIP) *bool { return &o.PfilIPsec }).only6().noted("with ipsec: filter and NAT see what leaves before it is protected"),
	{name: "prefix", value: true, set: func(o *TCPIP, v string, _ int64) { o.Prefix = v }, get: func(o *TCPIP) string { return o.Prefix }},
	flagOption("random", func(o *TCPIP) *bool { return &o.Random }).noted("every number from the system; else from a generator that it seeds"),
	numOption("recv_ctxt", func(o *TCPIP) *int { return &o.RecvCtxt }, func(o *TCPIP, n int64) {
		o.RecvCtxt = clamp(n, minContext, maxContext) / minContext * minContext
	}).noted("a burst is a packet for each 2048"),
	flagOption("reuseport_unicast", func(o *TCPIP) *bool { return &o.ReusePortUnicast }),
	numOption("rx_pulse_prio", func(o *TCPIP) *int { return &o.RxPrio }, func(o *TCPIP, n int64) {
		o.RxPrio, o.RxPrioGiven = clamp(n, 1, maxPrio), true
	}).noted("when given, SCHED_RR for the threads that receive"),
	numOption("somaxconn", func(o *TCPIP) *int { return &o.SoMaxConn }, func(o *TCPIP, n int64) {
		o.SoMaxConn = clamp(n, defaultSoMaxConn, 1<<20)
	}).noted("kern.somaxconn; can only be raised"),
	numOption("stacksize", func(o *TCPIP) *int { return &o.StackSize }, func(o *TCPIP, n int64) {
		o.StackSize = clamp(n, defaultStackSize, 1<<30)
	}).inert("the stacks of threads grow by themselves"),
	flagOption("strict_rfc", func(o *TCPIP) *bool { return &o.StrictRFC }).noted("net.inet.tcp.strict_rfc"),
	numOption("threads_incr", func(o *TCPIP) *int { return &o.ThreadsIncr }, func(o *TCPIP, n int64) { o.ThreadsIncr = clamp(n, 4, 1<<16) }),
	numOption("threads_max", func(o *TCPIP) *int { return &o.ThreadsMax }, func(o *TCPIP, n int64) {
		o.ThreadsMax = max(clamp(n, 4, 1<<14), o.ThreadsMin)
	}),
	numOption("threads_min", func(o *TCPIP) *int { return &o.ThreadsMin }, func(o *TCPIP, n int64) {
		o.ThreadsMin = min(clamp(n, 4, 1<<14), o.ThreadsMax)
	}),
	numOption("timer_pulse_prio", func(o *TCPIP) *int { return &o.TimerPrio }, func(o *TCPIP, n int64) {
		o.TimerPrio, o.TimerPrioGiven = clamp(n, 1, maxPrio), true
	}).noted("when given, SCHED_RR for the thread of the timers"),
}

const (
	defaultSoMaxConn = 128
	defaultStackSize = 4096
)

// synonyms are other spellings that the original's successor knows.
var synonyms = map[string]string{"threads": "threads_max", "rx_prio": "rx_pulse_prio"}

// successors are options of the original's successor: taken, so that its
// command lines work, and reported as doing nothing.
var successors = []string{"mbuf_cache", "pkt_cache", "pagesize", "mclbytes", "confstr_monitor", "nocryptodev", "bigstack",
	"timertol", "enmap", "so_txprio_enable", "num_tap_interface", "num_tun_control_interface"}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

// setFastForward: a bare fastforward, and one that is not 0, turn forwarding
// on as well; 0 clears the fast path only.
func setFastForward(o *TCPIP, v string, n int64) {
	if v == "" {
		o.Forward, o.FastForward = true, true
		return
	}
	o.FastForward = n != 0
	if n != 0 {
		o.Forward = true
	}
}

// DefaultTCPIP are the options of a module without an option list.
func DefaultTCPIP() TCPIP {
	return TCPIP{Module: "tcpip-v6", FastForward: true, Cache: true, RecvCtxt: 65536, SoMaxConn: defaultSoMaxConn,
		StackSize: defaultStackSize, RxPrio: 21, TimerPrio: 20, ThreadsMin: 15, ThreadsMax: 200, ThreadsIncr: 25,
		given: map[string]string{}}
}

// ParseTCPIP reads a -p tcpip with its option list: words parted by commas,
// numbers in base 0, out-of-range numbers clamped. Words it does not know and
// options that steer nothing become warnings. Errors: a protocol that is not
// tcpip; with tcpip-v4 an option that only tcpip-v6 has.
func ParseTCPIP(module, list string) (TCPIP, error) {
	o := DefaultTCPIP()
	switch name := moduleName(module); name {
	case "tcpip", "tcpip-v6":
	case "tcpip-v4":
		o.Module = name
	case "ttcpip":
		o.Module = "tcpip-v4"
		o.warn("ttcpip: there is no smaller stack, tcpip-v4 runs instead")
	case "qnet", "pppmgr", "pppoe":
		return o, fmt.Errorf("-p %s: protocol %s is not here; tcpip, tcpip-v4 and tcpip-v6 are", module, name)
	default:
		return o, fmt.Errorf("-p %s: unknown protocol; tcpip, tcpip-v4 and tcpip-v6 are known", module)
	}
	for word := range strings.SplitSeq(list, ",") {
		if word == "" {
			continue
		}
		if err := o.word(word); err != nil {
			return o, err
		}
	}
	return o, nil
}

func (o *TCPIP) warn(s string) { o.Warnings = append(o.Warnings, s) }

func (o *TCPIP) word(word string) error {
	name, value, hasValue := strings.Cut(word, "=")
	spelled := name
	if s := synonyms[name]; s != "" {
		name = s
	}
	i := slices.IndexFunc(tcpipOptions, func(t tcpipOption) bool { return t.name == name })
	if i < 0 {
		if slices.Contains(successors, name) {
			o.warn(fmt.Sprintf("tcpip: option %q steers nothing here", name))
			o.given[name] = value
		} else {
			o.warn(fmt.Sprintf("tcpip: unrecognized option: %q", word))
		}
		return nil
	}
	t := tcpipOptions[i]
	if t.v6 && o.Module == "tcpip-v4" {
		return fmt.Errorf("tcpip-v4 has no option %s; start -p tcpip-v6 for it", name)
	}
	if t.value && value == "" {
		o.warn(fmt.Sprintf("tcpip: option %q wants a value, such as %s=…; it is ignored", spelled, spelled))
		return nil
	}
	if hasValue && !t.value && name != "fastforward" {
		o.warn(fmt.Sprintf("tcpip: option %q takes no value; %q is ignored", spelled, value))
		value = ""
	}
	n, rest := strtol(value)
	if t.value && name != "prefix" && rest != "" {
		o.warn(fmt.Sprintf("tcpip: option %s: %q is read as %d", spelled, value, n))
	}
	t.set(o, value, n)
	o.given[name] = value
	if t.dead == "" {
		return nil
	}
	if w := fmt.Sprintf("tcpip: option %s has no effect: %s", name, t.dead); !slices.Contains(o.Warnings, w) {
		o.warn(w)
	}
	return nil
}

// Rows are the options as io-net --show prints them.
func (o *TCPIP) Rows() []protocol.OptionRow {
	var rows []protocol.OptionRow
	for _, t := range tcpipOptions {
		if t.v6 && o.Module == "tcpip-v4" {
			continue
		}
		_, given := o.given[t.name]
		note := t.note
		if t.dead != "" {
			note = t.dead
		}
		rows = append(rows, protocol.OptionRow{Module: o.Module, Name: t.name, Value: t.get(o), Given: given, Acts: t.dead == "", Note: note})
	}
	for _, name := range successors {
		if v, given := o.given[name]; given {
			rows = append(rows, protocol.OptionRow{Module: o.Module, Name: name, Value: v, Given: true, Note: "steers nothing here"})
		}
	}
	return rows
}

// Rows are io-net's own options as --show prints them.
func (o *Options) Rows() []protocol.OptionRow {
	row := func(name, value string, given, acts bool, note string) protocol.OptionRow {
		return protocol.OptionRow{Module: "io-net", Name: name, Value: value, Given: given, Acts: acts, Note: note}
	}
	rows := []protocol.OptionRow{
		row("-a", strconv.FormatBool(o.NoConverters), o.NoConverters, false, "converters are part of the stack"),
		row("-v", strconv.Itoa(o.Verbose), o.Verbose > 0, true, ""),
		row("-m", strconv.FormatBool(o.Multicast), o.Multicast, false, "groups are asked for by sockets"),
		row("-s", strconv.FormatBool(o.Static), o.Static, true, "no mount, no umount"),
		row("-i", strconv.Itoa(o.Instance), o.Instance != 0, true, ""),
		row("-C", strconv.Itoa(o.ContextSize), o.ContextSize != 0, false, "threads take the memory they need"),
		row("-c", strconv.Itoa(btoi(!o.NoCache)), o.NoCache, true, "0: no caching of packet buffers"),
		row("-t", strconv.Itoa(o.Threads), o.Threads != 0, true, "threads that serve clients"),
		row("--restart", strconv.FormatBool(o.Restart), o.Restart, true, ""),
	}
	for _, m := range o.Drivers() {
		rows = append(rows, row("-d", strings.TrimSpace(m.Name+" "+m.Options), true, true, ""))
	}
	return rows
}

// warnings are the sentences for io-net's own options that steer nothing.
func (o *Options) warnings() (out []string) {
	if o.NoConverters {
		out = append(out, "io-net: option -a has no effect: converters are part of the stack")
	}
	if o.Multicast {
		out = append(out, "io-net: option -m has no effect: groups are asked for by sockets")
	}
	if o.ContextSize != 0 {
		out = append(out, "io-net: option -C has no effect: threads take the memory they need")
	}
	return out
}
