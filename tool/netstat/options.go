package netstat

import (
	"fmt"
	"strconv"
	"strings"

	"ionet/protocol"
	"ionet/tool/cli"
)

// Options are netstat's command line.
type Options struct {
	PCBs       bool   // -A: names of control blocks
	All        bool   // -a: servers too; with -i: groups too
	Bytes      bool   // -b: octets instead of packets
	Drops      bool   // -d
	Family     string // -f: "", "inet", "inet6", "local", "arp", "pfkey"
	Groups     bool   // -g: multicast routing
	Interfaces bool   // -i, and what implies it: -I, -w
	Interface  string // -I
	NoLink     bool   // -L: no neighbours among the routes
	Memory     bool   // -m
	Numeric    bool   // -n
	PCB        uint64 // -P
	OnePCB     bool   // -P was given
	Proto      string // -p
	Routes     bool   // -r
	Stats      int    // -s: 1; -ss: 2, nothing that is zero
	Verbose    bool   // -v: nothing is cut short, metrics of routes
	Wait       int    // -w: seconds; 0 once
	JSON       bool
}

// protocols are the names that -p knows, in the order of -s.
var protocols = []string{"ip", "icmp", "igmp", "tcp", "udp", "ipsec", "ah", "esp", "ipcomp", "arp", "route", "ether", "rawip", "loop", "gif", "vlan", "bridge", "mroute",
	"ip6", "icmp6", "nd6", "mld6", "mroute6", "rawip6", "tcp6", "udp6", "ipsec6", "pim6", "rip6", "pfkey"}

// Parse reads netstat's command line, without the command's name. It is
// getopt(3)'s grammar; a number behind the options is -w's, as of old.
func Parse(args []string) (*Options, error) {
	flags, rest, err := cli.Getopt("AabdgiLmnrsTvf:I:P:p:w:", args)
	if err != nil {
		return nil, &cli.UsageError{Text: err.Error()}
	}
	o := &Options{}
	for _, f := range flags {
		if err := o.set(f.Name, f.Value); err != nil {
			return nil, err
		}
	}
	if len(rest) > 0 && rest[0] != "" && rest[0][0] >= '0' && rest[0][0] <= '9' {
		if err := o.set("w", rest[0]); err != nil {
			return nil, err
		}
		rest = rest[1:]
	}
	if len(rest) > 0 {
		return nil, cli.Misuse("%q: netstat takes no further arguments", rest[0])
	}
	return o, nil
}

func (o *Options) set(c, v string) error {
	switch c {
	case "A":
		o.PCBs = true
	case "a":
		o.All = true
	case "b":
		o.Bytes = true
	case "d":
		o.Drops = true
	case "g":
		o.Groups = true
	case "i":
		o.Interfaces = true
	case "L":
		o.NoLink = true
	case "m":
		o.Memory = true
	case "n":
		o.Numeric = true
	case "r":
		o.Routes = true
	case "s":
		o.Stats++
	case "T": // taken, and changes nothing
	case "v":
		o.Verbose = true
	case "f":
		switch v {
		case "inet", "inet6", "local", "arp", "pfkey":
			o.Family = v
		case "unix":
			o.Family = "local"
		default:
			return fmt.Errorf("%s: unknown address family", v)
		}
	case "I":
		o.Interface, o.Interfaces = v, true
	case "P":
		n, err := strconv.ParseUint(strings.TrimPrefix(strings.TrimPrefix(v, "0x"), "0X"), 16, 64)
		if err != nil {
			return fmt.Errorf("invalid PCB address %s", v)
		}
		o.PCB, o.OnePCB = n, true
	case "p":
		name := strings.ToLower(v) // /etc/protocols has both
		for _, p := range protocols {
			if p == name {
				o.Proto = name
				return nil
			}
		}
		return fmt.Errorf("%s: unknown or uninstrumented protocol", v)
	case "w":
		n, err := strconv.Atoi(v)
		if err != nil || n < 1 || n > 1<<30 {
			return fmt.Errorf("%s: -w takes a number of seconds from 1 on", v)
		}
		o.Wait, o.Interfaces = n, true
	}
	return nil
}

// family is the number of -f; 0 all.
func (o *Options) family() int {
	switch o.Family {
	case "inet":
		return protocol.AFInet
	case "inet6":
		return protocol.AFInet6
	}
	return 0
}

// has says whether a family is to be shown.
func (o *Options) has(family string) bool { return o.Family == "" || o.Family == family }
