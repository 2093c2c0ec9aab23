package ipf

import (
	"errors"
	"fmt"
	"strings"

	"ionet/protocol"
	"ionet/tool/cli"
)

// kind says what an action is.
type kind uint8

const (
	load kind = iota
	step
	version
	resync
	tune
	logging
)

// action is one option that does something, with those before it that count for it.
type action struct {
	kind             kind
	word             string // as it was given: "-Fa"
	value            string // of load the file, of tune the list
	inactive, v6     bool
	remove, counters bool // of load: remove the rules; their counters
	step             protocol.RuleStep
	flag             uint64 // of logging
}

// options are a command line.
type options struct {
	actions            []action
	dry, verbose, each bool
	unused             string // what is taken and without effect: -o, -U
}

// Bits of net.inet.ipf.fr_flags, in IPFilter's numbers.
var logFlags = []struct {
	word string
	flag uint64
}{{"pass", 0x10000000}, {"block", 0x20000000}, {"nomatch", 0x40000000}}

func parse(args []string) (*options, error) {
	flags, rest, err := cli.Getopt("6AdDEf:F:Il:noPrsT:UvVyzZ", args)
	if err != nil {
		return nil, cli.Misuse("%v", err)
	}
	if len(rest) > 0 {
		return nil, cli.Misuse("%q: rules are read from files, each behind a -f", rest[0])
	}
	o := &options{}
	var now action // what counts for the options that follow
	var waits string
	stdin := false
	for _, f := range flags {
		a := now
		a.word = "-" + f.Name + f.Value
		switch f.Name {
		case "6":
			now.v6 = true
		case "A", "I":
			now.inactive = f.Name == "I"
		case "r":
			now.remove = true
		case "z":
			now.counters = true
		case "d":
			o.each = true
		case "n":
			o.dry = true
		case "v":
			o.verbose = true
		case "o", "U":
			o.unused += f.Name
		case "P":
			return nil, errors.New("-P: no program answers for packets here, and rules of authentication have no meaning")
		case "f":
			a.kind, a.value = load, f.Value
			switch {
			case a.remove && a.counters:
				return nil, cli.Misuse("-r and -z: the rules of %s are removed, or their counters are", f.Value)
			case f.Value == "-" && stdin:
				return nil, cli.Misuse("-f - twice: standard input is read once")
			}
			stdin = stdin || f.Value == "-"
			o.actions = append(o.actions, a)
		case "F":
			if err := a.flush(f.Value); err != nil {
				return nil, err
			}
			o.actions = append(o.actions, a)
		case "l":
			if err := a.log(f.Value); err != nil {
				return nil, err
			}
			o.actions = append(o.actions, a)
		case "T":
			a.kind, a.value = tune, f.Value
			o.actions = append(o.actions, a)
		case "V":
			a.kind = version
			o.actions = append(o.actions, a)
		case "y":
			a.kind = resync
			o.actions = append(o.actions, a)
		default:
			a.kind = step
			a.step = map[string]protocol.RuleStep{"s": {Kind: protocol.StepSwap}, "Z": {Kind: protocol.StepZero},
				"D": {Kind: protocol.StepEnable}, "E": {Kind: protocol.StepEnable, Arg: 1}}[f.Name]
			o.actions = append(o.actions, a)
		}
		// What nothing is told behind, somebody has put at the wrong end.
		switch f.Name {
		case "6", "A", "I", "r", "z":
			waits = f.Name
		case "f":
			waits = ""
		case "F":
			if waits != "r" && waits != "z" {
				waits = ""
			}
		}
	}
	switch {
	case waits != "" && waits != "A":
		return nil, cli.Misuse("-%s counts for the files that follow, and none does", waits)
	case len(o.actions) == 0:
		return nil, cli.Misuse("nothing to do: -f file adds rules, -Fa flushes them")
	}
	return o, nil
}

// flush makes the action one of -F.
func (a *action) flush(what string) error {
	a.kind = step
	const both = protocol.StepIn | protocol.StepOut
	families := uint8(protocol.StepInet | protocol.StepInet6)
	if a.v6 {
		families = protocol.StepInet6
	}
	a.step = protocol.RuleStep{Kind: protocol.StepFlush, Arg: families}
	if a.inactive {
		a.step.Arg |= protocol.StepInactive
	}
	for _, w := range []struct {
		word string
		arg  uint8
	}{{"input", protocol.StepIn}, {"output", protocol.StepOut}, {"all", both}} {
		if what != "" && strings.HasPrefix(w.word, what) {
			a.step.Arg |= w.arg
			return nil
		}
	}
	if what == "" || !strings.HasPrefix("states", strings.ToLower(what)) {
		return cli.Misuse("-F %s: i, o and a are rules (in, out, all), s and S states (not established, all)", what)
	}
	a.step = protocol.RuleStep{Kind: protocol.StepFlushStates}
	if what[0] == 'S' {
		a.step.Arg = 1
	}
	return nil
}

// log makes the action one of -l.
func (a *action) log(what string) error {
	a.kind = logging
	for _, l := range logFlags {
		if l.word == what {
			a.flag = l.flag
			return nil
		}
	}
	return cli.Misuse("-l %s: block, pass or nomatch", what)
}

// logText are the words of fr_flags.
func logText(flags uint64) string {
	var on []string
	for _, l := range logFlags {
		if flags&l.flag != 0 {
			on = append(on, l.word)
		}
	}
	if on == nil {
		return fmt.Sprintf("%d = none set", flags)
	}
	return fmt.Sprintf("%#x = %s", flags, strings.Join(on, ", "))
}
