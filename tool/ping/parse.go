// Package ping is the ping command: ICMP echo requests and what comes back.
package ping

import (
	"errors"
	"fmt"
	"time"

	"ionet/tool/cli"
	"ionet/tool/echo"
)

const (
	headerLen   = echo.HeaderLen
	maxData     = 65507
	defaultData = 56
)

// options are a command line.
type options struct {
	host, gateway, source                      string
	count, preload, size, tos, ttl             int // count 0: for ever; ttl 0: 255
	interval, wait                             time.Duration
	pattern                                    []byte
	random, audible, dontFrag, debug, flood    bool
	noLoop, numeric, once, quiet, semi, direct bool
	record, verbose                            bool
	policies                                   echo.Policies
}

// refusal is a wrong value; other errors of parse ask for the usage.
type refusal struct{ text string }

func (e *refusal) Error() string { return e.text }

func refuse(format string, a ...any) error { return &refusal{fmt.Sprintf(format, a...)} }

func parse(args []string) (*options, error) {
	o := &options{size: defaultData}
	flags, rest, err := cli.Getopt("ac:dDfg:h:i:I:l:Lnop:PqQrRs:t:T:vw:E:", args)
	if err != nil {
		return nil, err
	}
	for _, f := range flags {
		ok := true
		switch f.Name {
		case "a":
			o.audible = true
		case "c":
			if o.count, ok = echo.Number(f.Value, 1, 1<<31-1); !ok {
				return nil, refuse("Bad/invalid number of packets %s: a number from 1 on belongs there", f.Value)
			}
		case "d":
			o.debug = true
		case "D":
			o.dontFrag = true
		case "f":
			o.flood = true
		case "g":
			o.gateway = f.Value
		case "h":
			o.host = f.Value
		case "i":
			if o.interval, ok = echo.Seconds(f.Value); !ok {
				return nil, refuse("Bad/invalid interval %s: seconds above 0 belong there", f.Value)
			}
		case "I":
			o.source = f.Value
		case "l":
			if o.preload, ok = echo.Number(f.Value, 0, 65535); !ok {
				return nil, refuse("Bad/invalid preload value %s: a number from 0 to 65535 belongs there", f.Value)
			}
		case "L":
			o.noLoop = true
		case "n":
			o.numeric = true
		case "o":
			o.once = true
		case "p":
			if o.random {
				return nil, refuse("Only one of -P and -p allowed")
			}
			if o.pattern, err = echo.Pattern(f.Value); err != nil {
				return nil, refuse("%v", err)
			}
		case "P":
			if o.pattern != nil {
				return nil, refuse("Only one of -P and -p allowed")
			}
			o.random = true
		case "q":
			o.quiet = true
		case "Q":
			o.semi = true
		case "r":
			o.direct = true
		case "R":
			o.record = true
		case "s":
			if o.size, ok = echo.Number(f.Value, 0, 1<<31-1); !ok {
				return nil, refuse("Bad/invalid packet size %s: a number from 0 to %d belongs there", f.Value, maxData)
			}
			if o.size > maxData {
				return nil, refuse("packet size is too large: %d, and an IP packet has room for %d", o.size, maxData)
			}
		case "t":
			if o.tos, ok = echo.Number(f.Value, 0, 255); !ok {
				return nil, refuse("bad tos value: %s: a number from 0 to 255 belongs there", f.Value)
			}
		case "T":
			if o.ttl, ok = echo.Number(f.Value, 1, 255); !ok {
				return nil, refuse("ttl out of range: %s: a number from 1 to 255 belongs there", f.Value)
			}
		case "v":
			o.verbose = true
		case "w":
			if o.wait, ok = echo.Seconds(f.Value); !ok {
				return nil, refuse("Bad/invalid maxwait time %s: seconds above 0 belong there", f.Value)
			}
		case "E":
			if err := o.policies.Add(f.Value); err != nil {
				return nil, refuse("invalid security policy -E %q: %v", f.Value, err)
			}
		}
	}
	switch {
	case o.host == "" && len(rest) == 1:
		o.host = rest[0]
	case o.host != "" && len(rest) == 0:
	case o.host == "" && len(rest) == 0:
		return nil, errors.New("a host is missing")
	default:
		return nil, fmt.Errorf("%q: one host is enough, and options stand before it", rest[len(rest)-1])
	}
	if o.interval == 0 {
		o.interval = time.Second
		if o.flood {
			o.interval = echo.FloodPace
		}
	}
	if o.count > 0 {
		o.count += o.preload
	}
	if o.record && o.gateway != "" {
		return nil, refuse("-R and -g together do not fit the 40 octets of IP options")
	}
	return o, nil
}
