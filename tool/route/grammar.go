// Package route is the route command: it changes the stack's forwarding
// table, asks it, and watches the routing socket.
package route

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"ionet/protocol"
)

// Usage is the sentence of a wrong command line.
const Usage = "Usage: route [ -fnqv ] cmd [[ -<qualifers> ] args ]"

// Resolver answers the addresses of a host's name.
type Resolver interface {
	LookupHost(ctx context.Context, name string) ([]netip.Addr, error)
}

// change is one add, delete, change or get, read from words.
type change struct {
	verb    string // as typed
	dest    string // as typed
	gateway string // as typed, "" if none
	host    bool
	msg     protocol.RouteMessage
	others  []netip.Addr // further addresses of the gateway's name
}

var verbs = map[string]int{"add": protocol.RTMAdd, "delete": protocol.RTMDelete, "change": protocol.RTMChange, "get": protocol.RTMGet}

// usageError asks for [Usage] to be printed behind its sentence.
type usageError struct{ text string }

func (e *usageError) Error() string { return e.text }

func botched(keyword, why string) error {
	if why != "" {
		why = ": " + why
	}
	return &usageError{"botched keyword: " + keyword + why}
}

// flagWords set a flag of the route; those that only clear one are in parse.
var flagWords = map[string]uint32{
	"llinfo": protocol.RTFLLInfo, "reject": protocol.RTFReject, "blackhole": protocol.RTFBlackhole,
	"proto1": protocol.RTFProto1, "proto2": protocol.RTFProto2, "cloning": protocol.RTFCloning,
	"xresolve": protocol.RTFXResolve, "static": protocol.RTFStatic, "mpath": protocol.RTFMPath,
}

// metricWords name the metrics.
var metricWords = map[string]struct {
	bit uint32
	at  func(*protocol.RouteMetrics) *uint64
}{
	"mtu":      {protocol.RTVMTU, func(m *protocol.RouteMetrics) *uint64 { return &m.MTU }},
	"hopcount": {protocol.RTVHopcount, func(m *protocol.RouteMetrics) *uint64 { return &m.Hopcount }},
	"expire":   {protocol.RTVExpire, func(m *protocol.RouteMetrics) *uint64 { return &m.Expire }},
	"recvpipe": {protocol.RTVRpipe, func(m *protocol.RouteMetrics) *uint64 { return &m.Rpipe }},
	"sendpipe": {protocol.RTVSpipe, func(m *protocol.RouteMetrics) *uint64 { return &m.Spipe }},
	"ssthresh": {protocol.RTVSsthresh, func(m *protocol.RouteMetrics) *uint64 { return &m.Ssthresh }},
	"rtt":      {protocol.RTVRTT, func(m *protocol.RouteMetrics) *uint64 { return &m.RTT }},
	"rttvar":   {protocol.RTVRTTVar, func(m *protocol.RouteMetrics) *uint64 { return &m.RTTVar }},
}

// words is what the words of one change said, before any address is read:
// which word is an address of what depends on modifiers that may follow it.
type words struct {
	family, prefixLen                      int // 0: not said; -1: not said
	dest, gateway, mask, genmask, ifp, ifa string
	haveDest, haveGateway                  bool
	forceHost, forceNet, toInterface       bool
	flags                                  uint32
	metrics                                protocol.RouteMetrics
	inits                                  uint32
	warnings                               []string
}

// split sorts the words behind the verb. now is for -expire +seconds.
func (w *words) split(args []string, now func() time.Time) error {
	*w = words{prefixLen: -1, flags: protocol.RTFStatic}
	var lock, lockRest bool
	for i := 0; i < len(args); i++ {
		arg := args[i]
		if !strings.HasPrefix(arg, "-") {
			if err := w.bare(arg); err != nil {
				return err
			}
			continue
		}
		key := arg[1:]
		value := func() (string, error) {
			if i++; i == len(args) {
				return "", botched(key, "a value belongs behind it")
			}
			return args[i], nil
		}
		var err error
		switch key {
		case "inet":
			w.family = protocol.AFInet
		case "inet6":
			w.family = protocol.AFInet6
		case "link":
			w.family = protocol.AFLink
		case "interface", "iface":
			w.toInterface = true
		case "nostatic":
			w.flags &^= protocol.RTFStatic
		case "lock":
			lock = true
		case "lockrest":
			lockRest = true
		case "host":
			w.forceHost = true
		case "net":
			w.forceNet = true
		case "netmask":
			w.forceNet = true
			w.mask, err = value()
		case "prefixlen":
			var s string
			if s, err = value(); err == nil {
				w.prefixLen, err = strconv.Atoi(s)
				if err != nil || w.prefixLen < 0 || w.prefixLen > 128 {
					return fmt.Errorf("-prefixlen %s: bad value: a number from 0 to 128 belongs there", s)
				}
			}
		case "genmask":
			w.genmask, err = value()
		case "ifp":
			w.ifp, err = value()
		case "ifa":
			w.ifa, err = value()
		case "gateway":
			w.gateway, err = value()
			w.haveGateway = true
		case "dst":
			w.dest, err = value()
			w.haveDest = true
		default:
			if flag, ok := flagWords[key]; ok {
				w.flags |= flag
				break
			}
			m, ok := metricWords[key]
			if !ok {
				return botched(key, "")
			}
			var s string
			if s, err = value(); err != nil {
				return err
			}
			n, from := s, int64(0)
			if key == "expire" && strings.HasPrefix(s, "+") {
				n, from = s[1:], now().Unix()
			}
			v, perr := strconv.ParseUint(n, 10, 31)
			if perr != nil {
				return fmt.Errorf("-%s %s: bad value: a number belongs there", key, s)
			}
			*m.at(&w.metrics) = v + uint64(from)
			w.inits |= m.bit
			if lock || lockRest {
				w.metrics.Locks |= uint64(m.bit)
			}
			lock = false
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// bare takes a word that is no modifier: destination, gateway, netmask, or
// the number that 4.2BSD wanted there.
func (w *words) bare(arg string) error {
	switch {
	case !w.haveDest:
		w.dest, w.haveDest = arg, true
	case !w.haveGateway:
		w.gateway, w.haveGateway = arg, true
	case arg == "0":
		w.warnings = append(w.warnings, "old usage of trailing 0, assuming route to if")
		w.toInterface = true
	case len(arg) == 1 && arg[0] >= '1' && arg[0] <= '9':
		w.warnings = append(w.warnings, "old usage of trailing digit, assuming route via gateway")
		w.toInterface = false
	case w.mask == "":
		w.mask, w.forceNet = arg, true
	default:
		return &usageError{fmt.Sprintf("%q is one address too many: destination, gateway and netmask are there already", arg)}
	}
	return nil
}

// parse reads a change: the verb and the words behind it. The second answer
// are warnings.
func parse(ctx context.Context, args []string, names Resolver, now func() time.Time) (*change, []string, error) {
	c, w := new(change), new(words)
	if err := c.parse(ctx, w, args, names, now); err != nil {
		return nil, nil, err
	}
	return c, w.warnings, nil
}

// parse reads a change into c, which is empty; w is room for its words.
func (c *change) parse(ctx context.Context, w *words, args []string, names Resolver, now func() time.Time) error {
	typ, ok := verbs[args[0]]
	if !ok {
		return botched(args[0], "")
	}
	err := w.split(args[1:], now)
	if err != nil {
		return err
	}
	if !w.haveDest {
		return &usageError{args[0] + " of what: a destination belongs there"}
	}
	c.verb, c.dest, c.gateway = args[0], w.dest, w.gateway
	m := &c.msg
	m.Type, m.Flags, m.Inits, m.Metrics, m.NetmaskBits = typ, w.flags|protocol.RTFUp, w.inits, w.metrics, -1
	if w.family == 0 && w.dest == "default" {
		if a, err := netip.ParseAddr(w.gateway); err == nil && a.Is6() {
			w.family = protocol.AFInet6 // the default of the gateway's family
		}
	}
	r := reader{ctx, names, w.family}
	if err := r.destination(w, c); err != nil {
		return err
	}
	if w.haveGateway {
		if m.Gateway, c.others, err = r.gateway(w.gateway, w.toInterface); err != nil {
			return err
		}
	}
	if w.genmask != "" {
		if m.Genmask, err = r.mask(w.genmask); err != nil {
			return err
		}
	}
	if w.ifp != "" {
		if m.Ifp, err = link(w.ifp); err != nil {
			return err
		}
	}
	if w.ifa != "" {
		if m.Ifa, err = r.host(w.ifa); err != nil {
			return err
		}
	}
	if c.host {
		m.Flags |= protocol.RTFHost
	}
	if !w.toInterface {
		m.Flags |= protocol.RTFGateway
	}
	if typ == protocol.RTMGet && m.Ifp.Family == 0 {
		m.Ifp = protocol.LinkAddrOf(protocol.LinkAddr{}) // asks for the interface
	}
	return nil
}

var errNoAddress = errors.New("no address")
