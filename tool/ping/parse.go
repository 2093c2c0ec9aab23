// Package ping is the ping command: ICMP echo requests and what comes back.
package ping

import (
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"time"

	"ionet/tool/cli"
)

const (
	headerLen   = 8 // of an ICMP echo message; and of the time stamp in its data
	maxData     = 65507
	defaultData = 56
	floodPace   = 10 * time.Millisecond
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
}

// refusal is a wrong value; other errors of parse ask for the usage.
type refusal struct{ text string }

func (e *refusal) Error() string { return e.text }

func refuse(format string, a ...any) error { return &refusal{fmt.Sprintf(format, a...)} }

// number reads what strtol does with base 0.
func number(s string, low, high int) (int, bool) {
	n, err := strconv.ParseInt(s, 0, 32)
	return int(n), err == nil && int(n) >= low && int(n) <= high
}

// seconds reads a number of seconds above 0, with a fraction if need be.
func seconds(s string) (time.Duration, bool) {
	f, err := strconv.ParseFloat(s, 64)
	if err != nil || !(f > 0) || f > 1e6 {
		return 0, false
	}
	return max(time.Duration(f*float64(time.Second)), 1), true
}

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
			if o.count, ok = number(f.Value, 1, 1<<31-1); !ok {
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
			if o.interval, ok = seconds(f.Value); !ok {
				return nil, refuse("Bad/invalid interval %s: seconds above 0 belong there", f.Value)
			}
		case "I":
			o.source = f.Value
		case "l":
			if o.preload, ok = number(f.Value, 0, 65535); !ok {
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
			if o.pattern, err = pattern(f.Value); err != nil {
				return nil, err
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
			if o.size, ok = number(f.Value, 0, 1<<31-1); !ok {
				return nil, refuse("Bad/invalid packet size %s: a number from 0 to %d belongs there", f.Value, maxData)
			}
			if o.size > maxData {
				return nil, refuse("packet size is too large: %d, and an IP packet has room for %d", o.size, maxData)
			}
		case "t":
			if o.tos, ok = number(f.Value, 0, 255); !ok {
				return nil, refuse("bad tos value: %s: a number from 0 to 255 belongs there", f.Value)
			}
		case "T":
			if o.ttl, ok = number(f.Value, 1, 255); !ok {
				return nil, refuse("ttl out of range: %s: a number from 1 to 255 belongs there", f.Value)
			}
		case "v":
			o.verbose = true
		case "w":
			if o.wait, ok = seconds(f.Value); !ok {
				return nil, refuse("Bad/invalid maxwait time %s: seconds above 0 belong there", f.Value)
			}
		case "E":
			return nil, refuse("-E %s: IPsec does not act yet, so the policy would not be kept and the packets would go in clear", f.Value)
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
			o.interval = floodPace
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

// pattern reads 1 to 32 hexadecimal digits; a last lone one is an octet.
func pattern(s string) ([]byte, error) {
	bad := refuse("\"-p %s\": patterns must be specified with 1-32 hex digits", s)
	if len(s) == 0 || len(s) > 32 {
		return nil, bad
	}
	if len(s)%2 == 1 {
		s = s[:len(s)-1] + "0" + s[len(s)-1:]
	}
	b, err := hex.DecodeString(s)
	if err != nil {
		return nil, bad
	}
	return b, nil
}
