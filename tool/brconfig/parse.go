package brconfig

import (
	"fmt"
	"net"
	"strconv"

	"ionet/protocol"
	"ionet/tool/cli"
)

// options are a command line.
type options struct {
	all   bool
	name  string
	steps []step // none: show
}

// step is one change.
type step struct {
	word string
	req  protocol.BridgeReq
	flag uint32 // of the bridge, to be set or cleared; 0: req is it
	set  bool
	show bool // addr: the table of addresses
}

// word is what follows a command, and which request it is.
type word struct {
	takes   string // i: a member, a: an address, n: a number
	command uint32
	flag    uint32 // of the member
	clear   bool
	value   uint32 // when there is no number
	most    uint64
}

var words = map[string]word{
	"add":        {takes: "i", command: protocol.BridgeAdd},
	"delete":     {takes: "i", command: protocol.BridgeDelete},
	"discover":   {takes: "i", command: protocol.BridgeFlags, flag: protocol.BridgeDiscover},
	"-discover":  {takes: "i", command: protocol.BridgeFlags, flag: protocol.BridgeDiscover, clear: true},
	"learn":      {takes: "i", command: protocol.BridgeFlags, flag: protocol.BridgeLearning},
	"-learn":     {takes: "i", command: protocol.BridgeFlags, flag: protocol.BridgeLearning, clear: true},
	"stp":        {takes: "i", command: protocol.BridgeFlags, flag: protocol.BridgeSTP},
	"-stp":       {takes: "i", command: protocol.BridgeFlags, flag: protocol.BridgeSTP, clear: true},
	"priority":   {takes: "n", command: protocol.BridgePriority, most: 65535},
	"hellotime":  {takes: "n", command: protocol.BridgeHello, most: 255},
	"fwddelay":   {takes: "n", command: protocol.BridgeDelay, most: 255},
	"maxage":     {takes: "n", command: protocol.BridgeMaxAge, most: 255},
	"ifpriority": {takes: "in", command: protocol.BridgeIfPriority, most: 255},
	"ifpathcost": {takes: "in", command: protocol.BridgeIfCost, most: 65535},
	"maxaddr":    {takes: "n", command: protocol.BridgeMaxAddr, most: 1 << 20},
	"timeout":    {takes: "n", command: protocol.BridgeTimeout, most: 1 << 24},
	"static":     {takes: "ia", command: protocol.BridgeStatic},
	"deladdr":    {takes: "a", command: protocol.BridgeDelAddr},
	"flush":      {command: protocol.BridgeFlush},
	"flushall":   {command: protocol.BridgeFlush, value: 1},
}

func parse(args []string) (*options, error) {
	flags, rest, err := cli.Getopt("a", args)
	if err != nil {
		return nil, cli.Misuse("%v", err)
	}
	o := &options{all: len(flags) > 0}
	switch {
	case o.all && len(rest) > 0:
		return nil, cli.Misuse("%q: -a shows all bridges and takes nothing else", rest[0])
	case o.all:
		return o, nil
	case len(rest) == 0:
		return nil, cli.Misuse("a bridge or -a is needed")
	}
	o.name, rest = rest[0], rest[1:]
	if len(o.name) > protocol.IfNameLen-1 {
		return nil, fmt.Errorf("%s: an interface's name has at most %d letters", o.name, protocol.IfNameLen-1)
	}
	for len(rest) > 0 {
		s := step{word: rest[0]}
		if rest, err = s.parse(o.name, rest[1:]); err != nil {
			return nil, err
		}
		o.steps = append(o.steps, s)
	}
	return o, nil
}

// parse reads what follows the word, and answers what is left.
func (s *step) parse(bridge string, rest []string) ([]string, error) {
	switch s.word {
	case "up", "down":
		s.flag, s.set = protocol.IFFUp, s.word == "up"
		return rest, nil
	case "addr":
		s.show = true
		return rest, nil
	}
	w, ok := words[s.word]
	if !ok {
		return nil, cli.Misuse("%q is no command to a bridge", s.word)
	}
	s.req = protocol.BridgeReq{Bridge: bridge, Command: w.command, Value: w.value, Mask: w.flag}
	if w.flag != 0 && !w.clear {
		s.req.Value = w.flag
	}
	for _, t := range w.takes {
		if len(rest) == 0 {
			return nil, fmt.Errorf("'%s' requires %d argument(s)", s.word, len(w.takes))
		}
		v := rest[0]
		rest = rest[1:]
		switch t {
		case 'i':
			if len(v) > protocol.IfNameLen-1 {
				return nil, fmt.Errorf("%s: an interface's name has at most %d letters", v, protocol.IfNameLen-1)
			}
			s.req.Member = v
		case 'a':
			hw, err := net.ParseMAC(v)
			if err != nil || len(hw) != 6 {
				return nil, fmt.Errorf("%s: %s takes a link address such as 02:00:00:00:00:01", v, s.word)
			}
			s.req.Addr = [6]byte(hw)
		case 'n':
			n, err := strconv.ParseUint(v, 0, 32)
			if err != nil || n > w.most {
				return nil, fmt.Errorf("%s: %s takes a number up to %d", v, s.word, w.most)
			}
			s.req.Value = uint32(n)
		}
	}
	return rest, nil
}
