package traceroute

import (
	"errors"
	"strconv"
	"time"

	"ionet/tool/cli"
)

const (
	firstPort   = 33434 // 32768 + 666, which nobody is likely to listen on
	defaultHops = 30
	defaultWait = 5 * time.Second
	defaultTry  = 3
	maxGateways = 8
	maxPacket   = 32768
)

// options are a command line, of either command.
type options struct {
	host, source, iface                                     string
	gateways                                                []string
	first, hops, port, tries, tos, size                     int // size 0: as small as it may be
	wait                                                    time.Duration
	dump, dontFrag, mtu, icmp, debug, show, numeric, direct bool
	verbose, noSum                                          bool
}

// family is in what the two commands differ on the command line.
type family struct {
	spec       string // of cli.Getopt
	least      int    // the smallest len
	sizeSentry string // what len counts
}

// opacketLen is the smallest data of a probe of traceroute6: seq, hops, two
// octets of nothing, seconds and microseconds.
const opacketLen = 12

var (
	inet4 = family{spec: "dDf:Fg:i:Ilm:np:Pq:rs:t:vw:x", least: 40, sizeSentry: "packet length"}
	inet6 = family{spec: "df:g:Ilm:np:q:rs:vw:", least: opacketLen, sizeSentry: "data length"}
)

func parse(args []string, fam family) (*options, error) {
	o := &options{first: 1, hops: defaultHops, port: firstPort, tries: defaultTry, wait: defaultWait}
	flags, rest, err := cli.Getopt(fam.spec, args)
	if err != nil {
		return nil, cli.Misuse("%v", err)
	}
	for _, f := range flags {
		var err error
		switch f.Name {
		case "d":
			o.debug = true
		case "D":
			o.dump = true
		case "f":
			o.first, err = number(f.Value, "first ttl", 1, 255)
		case "F":
			o.dontFrag = true
		case "g":
			if len(o.gateways) == maxGateways {
				return nil, errors.New("no more than 8 gateways fit into the options of a packet")
			}
			o.gateways = append(o.gateways, f.Value)
		case "i":
			o.iface = f.Value
		case "I":
			o.icmp = true
		case "l":
			o.show = true
		case "m":
			o.hops, err = number(f.Value, "max ttl", 1, 255)
		case "n":
			o.numeric = true
		case "p":
			o.port, err = number(f.Value, "port", 1, 65535)
		case "P":
			o.dontFrag, o.mtu = true, true
		case "q":
			o.tries, err = number(f.Value, "nprobes", 1, 1000)
		case "r":
			o.direct = true
		case "s":
			o.source = f.Value
		case "t":
			o.tos, err = number(f.Value, "tos", 0, 255)
		case "v":
			o.verbose = true
		case "w":
			var n int
			n, err = number(f.Value, "wait time", 1, 86400)
			o.wait = time.Duration(n) * time.Second
		case "x":
			o.noSum = true
		}
		if err != nil {
			return nil, err
		}
	}
	switch len(rest) {
	case 1:
	case 2:
		if o.size, err = number(rest[1], fam.sizeSentry, fam.least+gatewayOctets(o), maxPacket); err != nil {
			return nil, err
		}
	case 0:
		return nil, cli.Misuse("a host is missing")
	default:
		return nil, cli.Misuse("%q: a host and a length are all, and options stand before them", rest[2])
	}
	o.host = rest[0]
	if o.first > o.hops {
		return nil, errors.New("first ttl (" + strconv.Itoa(o.first) + ") may not be greater than max ttl (" + strconv.Itoa(o.hops) + ")")
	}
	return o, nil
}

// gatewayOctets is how much longer the smallest packet is with -g.
func gatewayOctets(o *options) int {
	if len(o.gateways) == 0 {
		return 0
	}
	return 4 + 4*len(o.gateways)
}

// number reads what strtol does with base 0.
func number(s, what string, low, high int) (int, error) {
	n, err := strconv.ParseInt(s, 0, 32)
	switch {
	case err != nil:
		return 0, errors.New(strconv.Quote(s) + " bad value for " + what + ": a number belongs there")
	case int(n) < low:
		return 0, errors.New(what + " must be >= " + strconv.Itoa(low))
	case int(n) > high:
		return 0, errors.New(what + " must be <= " + strconv.Itoa(high))
	}
	return int(n), nil
}
