package ipfstat

import (
	"net/netip"
	"strconv"
	"strings"
	"time"

	"ionet/tool/cli"
	"ionet/tool/ruleset"
)

// mode is what is shown.
type mode uint8

const (
	modeStats mode = iota
	modeRules
	modeStates
	modeFrags
	modeAuth
	modeGroups
	modeTop
)

var modes = map[string]mode{"i": modeRules, "o": modeRules, "s": modeStates, "f": modeFrags, "A": modeAuth, "g": modeGroups, "t": modeTop}

// end is one side of what -t shows.
type end struct {
	addr netip.Addr // not valid: any
	port int        // -1: any
}

// options are a command line.
type options struct {
	mode                          mode
	in, out_                      bool
	v6, inactive, account         bool
	hits, numbers, verbose, debug bool
	list                          bool // -l
	closed                        bool // -C
	src, dst                      end
	proto                         int // -1: any
	refresh                       time.Duration
}

func parse(args []string) (*options, error) {
	flags, rest, err := cli.Getopt("6aACdD:fghIilnoP:sS:tT:v", args)
	if err != nil {
		return nil, cli.Misuse("%v", err)
	}
	if len(rest) > 0 {
		return nil, cli.Misuse("%q: ipfstat takes options alone", rest[0])
	}
	o := &options{src: end{port: -1}, dst: end{port: -1}, proto: -1, refresh: time.Second}
	of := "" // the option that said the mode
	top := ""
	for _, f := range flags {
		if m, ok := modes[f.Name]; ok {
			if of != "" && m != o.mode {
				return nil, cli.Misuse("-%s and -%s: one of the two", of, f.Name)
			}
			o.mode, of = m, f.Name
		}
		switch f.Name {
		case "6":
			o.v6 = true
		case "a":
			o.account = true
		case "d":
			o.debug = true
		case "h":
			o.hits = true
		case "I":
			o.inactive = true
		case "i":
			o.in = true
		case "l":
			o.list = true
		case "n":
			o.numbers = true
		case "o":
			o.out_ = true
		case "v":
			o.verbose = true
		case "C":
			o.closed, top = true, f.Name
		case "S":
			o.src, err = parseEnd(f.Value)
			top = f.Name
		case "D":
			o.dst, err = parseEnd(f.Value)
			top = f.Name
		case "P":
			o.proto, err = parseProto(f.Value)
			top = f.Name
		case "T":
			var n uint64
			if n, err = strconv.ParseUint(f.Value, 10, 16); err != nil || n == 0 {
				return nil, cli.Misuse("-T %s: seconds from 1 to 65535", f.Value)
			}
			o.refresh = time.Duration(n) * time.Second
			top = f.Name
		}
		if err != nil {
			return nil, err
		}
	}
	switch {
	case top != "" && o.mode != modeTop:
		return nil, cli.Misuse("-%s goes with -t", top)
	case o.mode != modeRules && (o.account || o.hits || o.inactive || o.numbers):
		return nil, cli.Misuse("-a, -h, -I and -n are about rules: -i or -o is needed")
	case o.list && o.mode != modeStates && o.mode != modeFrags:
		return nil, cli.Misuse("-l goes with -s or -f")
	}
	return o, nil
}

// parseEnd reads "addr[,port]".
func parseEnd(s string) (e end, err error) {
	addr, port, both := strings.Cut(s, ",")
	e.port = -1
	if addr != "any" {
		if e.addr, err = netip.ParseAddr(addr); err != nil || e.addr.Zone() != "" {
			return e, cli.Misuse("%s: an address in numbers, or any", addr)
		}
		e.addr = e.addr.Unmap()
	}
	if both && port != "any" {
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil {
			return e, cli.Misuse("%s: a port from 0 to 65535, or any", port)
		}
		e.port = int(n)
	}
	return e, nil
}

func parseProto(s string) (int, error) {
	if s == "any" {
		return -1, nil
	}
	for n := range 256 {
		if strings.EqualFold(s, ruleset.Protocol(n)) || s == strconv.Itoa(n) {
			return n, nil
		}
	}
	if s == "ipv6-icmp" {
		return ruleset.ICMPv6, nil
	}
	return 0, cli.Misuse("-P %s: no protocol is called so; its number does too", s)
}
