// Package ping6 is the ping6 command: ICMPv6 echo requests, node information
// queries (RFC 4620), and what comes back.
package ping6

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"ionet/tool/cli"
	"ionet/tool/echo"
)

const (
	headerLen   = echo.HeaderLen
	ipHeaderLen = 40
	maxData     = 65527 // what a payload of 65,535 octets leaves
	defaultData = 56
)

// question is what is asked for.
type question int

const (
	askEcho  question = iota
	askTypes          // -t
	askName           // -w
	askOld            // -W: as draft 03 had it, without a subject
	askAddrs          // -a
)

// options are a command line.
type options struct {
	host, ifname, source         string
	count, preload, size, buffer int // count 0: for ever; buffer 0: the default
	hlim                         int // -1: the default
	interval                     time.Duration
	pattern                      []byte
	ask                          question
	addrFlags                    uint16 // of -a (RFC 4620 §6.4)
	group                        int    // -N: 1 the group of RFC 4620, 2 that of the drafts
	wholeMTU                     int    // -m, how often
	debug, flood, names          bool
	numeric, quiet, verbose      bool
	policies                     echo.Policies
}

// refusal is a wrong value; other errors of parse ask for the usage.
type refusal struct{ text string }

func (e *refusal) Error() string { return e.text }

func refuse(format string, a ...any) error { return &refusal{fmt.Sprintf(format, a...)} }

// addrTypes are the letters of -a.
var addrTypes = map[rune]uint16{'a': 0x02, 'c': 0x04, 'l': 0x08, 's': 0x10, 'g': 0x20, 'A': 0x40}

func parse(args []string) (*options, error) {
	o := &options{size: defaultData, hlim: -1}
	flags, rest, err := cli.Getopt("a:b:c:dfHh:I:i:l:mNnP:p:qRS:s:tvWw", args)
	if err != nil {
		return nil, err
	}
	asked := ""
	ask := func(letter string, q question) error {
		if asked != "" && asked != letter {
			return refuse("-%s and -%s ask for different things", asked, letter)
		}
		asked, o.ask = letter, q
		return nil
	}
	for _, f := range flags {
		ok := true
		switch f.Name {
		case "a":
			for _, c := range f.Value {
				bit, known := addrTypes[c]
				if !known {
					return nil, refuse("invalid address type %q: the letters a, c, l, s, g and A are known", f.Value)
				}
				o.addrFlags |= bit
			}
			err = ask("a", askAddrs)
		case "b":
			if o.buffer, ok = echo.Number(f.Value, 1, 1<<30); !ok {
				return nil, refuse("invalid socket buffer size %s: a number from 1 on belongs there", f.Value)
			}
		case "c":
			if o.count, ok = echo.Number(f.Value, 1, 1<<31-1); !ok {
				return nil, refuse("illegal number of packets -- %s: a number from 1 on belongs there", f.Value)
			}
		case "d":
			o.debug = true
		case "f":
			o.flood = true
		case "H":
			o.names = true
		case "h":
			if o.hlim, ok = echo.Number(f.Value, 0, 255); !ok {
				return nil, refuse("illegal hoplimit -- %s: a number from 0 to 255 belongs there", f.Value)
			}
		case "I":
			o.ifname = f.Value
		case "i":
			if o.interval, ok = echo.Seconds(f.Value); !ok {
				return nil, refuse("illegal timing interval -- %s: seconds above 0 belong there", f.Value)
			}
		case "l":
			if o.preload, ok = echo.Number(f.Value, 0, 65535); !ok {
				return nil, refuse("illegal preload value -- %s: a number from 0 to 65535 belongs there", f.Value)
			}
		case "m":
			o.wholeMTU++
		case "N":
			o.group++
		case "n":
			o.numeric = true
		case "P":
			if err := o.policies.Add(f.Value); err != nil {
				return nil, refuse("invalid security policy -P %q: %v", f.Value, err)
			}
		case "p":
			if o.pattern, err = echo.Pattern(f.Value); err != nil {
				return nil, refuse("%v", err)
			}
		case "q":
			o.quiet = true
		case "R": // the stack believes replies without being told
		case "S":
			o.source = f.Value
		case "s":
			if o.size, ok = echo.Number(f.Value, 0, 1<<31-1); !ok {
				return nil, refuse("illegal packet size -- %s: a number from 0 to %d belongs there", f.Value, maxData)
			}
			if o.size > maxData {
				return nil, refuse("packet size too large: %d, and the maximum is %d", o.size, maxData)
			}
		case "t":
			err = ask("t", askTypes)
		case "v":
			o.verbose = true
		case "W":
			err = ask("W", askOld)
		case "w":
			err = ask("w", askName)
		}
		if err != nil {
			return nil, err
		}
	}
	switch len(rest) {
	case 0:
		return nil, errors.New("a host is missing")
	case 1:
		o.host = rest[0]
	default:
		return nil, refuse("%s: a list of hops needs routing header type 0, which nobody obeys any more (RFC 5095); one host stands behind the options", strings.Join(rest, " "))
	}
	if o.group > 0 && o.ask == askEcho {
		o.ask = askName
	}
	if o.interval == 0 {
		o.interval = time.Second
		if o.flood {
			o.interval = echo.FloodPace
		}
	}
	if o.count > 0 {
		o.preload = min(o.preload, o.count)
	}
	return o, nil
}
