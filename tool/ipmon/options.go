package ipmon

import (
	"strings"

	"ionet/protocol"
	"ionet/tool/cli"
)

// The logs of a stack, by IPFilter's names for them.
var devices = map[string]uint8{"/dev/ipl": protocol.LogPackets, "/dev/ipstate": protocol.LogStates, "/dev/ipnat": protocol.LogNAT}

// letters of -o and -O.
var letters = map[rune]uint8{'I': protocol.LogPackets, 'S': protocol.LogStates, 'N': protocol.LogNAT}

// source is where records come from: a log of the stack, or a file that -B has written.
type source struct {
	log  uint8
	file string // "": the stack; "-": standard input
}

// options are a command line.
type options struct {
	sources                                []source
	body, hex, record                      bool // -b -x -X
	daemon, flush, names, numbers, verbose bool // -D -F -n -p -v
	syslog, tail, usage                    bool // -s -t -h
	facility                               int
	copy, pid, file                        string // -B, -P, where to
}

func parse(args []string) (*options, error) {
	flags, rest, err := cli.Getopt("abB:Df:FhL:nN:o:O:pP:sS:tvxX", args)
	if err != nil {
		return nil, cli.Misuse("%v", err)
	}
	o := &options{facility: facilities["local0"]}
	want := map[uint8]bool{}
	from := map[uint8]string{}
	for _, f := range flags {
		switch f.Name {
		case "a":
			want[protocol.LogPackets], want[protocol.LogStates], want[protocol.LogNAT] = true, true, true
		case "b":
			o.body = true
		case "B":
			o.copy = f.Value
		case "D":
			o.daemon = true
		case "f":
			want[protocol.LogPackets], from[protocol.LogPackets] = true, f.Value
		case "F":
			o.flush = true
		case "h":
			o.usage = true
		case "L":
			n, ok := facilities[f.Value]
			if !ok {
				return nil, cli.Misuse("%q is no facility of syslog", f.Value)
			}
			o.facility = n
		case "n":
			o.names = true
		case "N":
			want[protocol.LogNAT], from[protocol.LogNAT] = true, f.Value
		case "o", "O":
			for _, l := range f.Value {
				log, ok := letters[l]
				if !ok {
					return nil, cli.Misuse("-%s %s: logs are N, S and I", f.Name, f.Value)
				}
				want[log] = f.Name == "o"
			}
		case "p":
			o.numbers = true
		case "P":
			o.pid = f.Value
		case "s":
			o.syslog = true
		case "S":
			want[protocol.LogStates], from[protocol.LogStates] = true, f.Value
		case "t":
			o.tail = true
		case "v":
			o.verbose = true
		case "x":
			o.hex = true
		case "X":
			o.record = true
		}
	}
	if len(rest) > 0 {
		o.file = rest[0]
	}
	switch {
	case len(rest) > 1:
		return nil, cli.Misuse("%q: one file is written", rest[1])
	case o.syslog && o.file != "":
		return nil, cli.Misuse("%q: with -s syslog has the lines, and no file", o.file)
	case o.daemon && o.file == "" && !o.syslog:
		return nil, cli.Misuse("-D needs a file or -s: a daemon has no terminal")
	}
	if o.sources, err = sources(want, from); err != nil {
		return nil, err
	}
	return o, nil
}

func sources(want map[uint8]bool, from map[uint8]string) (all []source, err error) {
	if len(want) == 0 {
		want[protocol.LogPackets] = true
	}
	stdin := false
	for _, log := range []uint8{protocol.LogPackets, protocol.LogNAT, protocol.LogStates} {
		if !want[log] {
			continue
		}
		s := source{log: log, file: from[log]}
		if device, ok := devices[s.file]; ok {
			s = source{log: device}
		} else if strings.HasPrefix(s.file, "/dev/ip") {
			return nil, cli.Misuse("%s: the logs are /dev/ipl, /dev/ipstate and /dev/ipnat", s.file)
		}
		if s.file == "-" && stdin {
			return nil, cli.Misuse("standard input is read once")
		}
		stdin = stdin || s.file == "-"
		all = append(all, s)
	}
	if len(all) == 0 {
		return nil, cli.Misuse("no log is left to be read")
	}
	return all, nil
}

// stack reports whether a stack is read.
func (o *options) stack() bool {
	for _, s := range o.sources {
		if s.file == "" {
			return true
		}
	}
	return o.flush
}
