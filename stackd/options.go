package stackd

import (
	"fmt"
	"strings"
)

// Options are io-net's command line.
type Options struct {
	NoConverters bool // -a: accepted, converters are part of the stack
	Verbose      int  // -v, counted
	Multicast    bool // -m
	Static       bool // -s: no mount or umount after the command line
	Instance     int  // -i: 0 is dev/io-net, N is dev/io-netN
	ContextSize  int  // -C: accepted
	NoCache      bool // -c 0
	Threads      int  // -t: 0 leaves it to the protocol's threads_min
	Modules      []Module

	Foreground, Restart, Stop, Show, JSON bool
	Sock                                  string
}

// Module is one -d or -p with its options.
type Module struct {
	Protocol bool // -p
	Name     string
	Options  string
}

// Drivers are the -d modules in their order.
func (o *Options) Drivers() []Module { return o.modules(false) }

// Protocols are the -p modules in their order.
func (o *Options) Protocols() []Module { return o.modules(true) }

func (o *Options) modules(protocol bool) (out []Module) {
	for _, m := range o.Modules {
		if m.Protocol == protocol {
			out = append(out, m)
		}
	}
	return out
}

// ParseOptions reads io-net's own command line, without the program's name.
// It is getopt(3)'s grammar, values glued or apart, with two additions: the
// word after a -d or -p is that module's option list unless it begins with
// '-', and the long options of ionet.
func ParseOptions(args []string) (Options, error) {
	var o Options
	for len(args) > 0 {
		word := args[0]
		args = args[1:]
		if word == "--" {
			break
		}
		if long, ok := strings.CutPrefix(word, "--"); ok {
			rest, err := o.long(long, args)
			if err != nil {
				return o, err
			}
			args = rest
			continue
		}
		if len(word) < 2 || word[0] != '-' {
			return o, fmt.Errorf("%q is no option of io-net: a module's options are one word, parted by commas, right after its name", word)
		}
		rest, err := o.short(word[1:], args)
		if err != nil {
			return o, err
		}
		args = rest
	}
	if len(args) > 0 {
		return o, fmt.Errorf("%q: io-net takes no arguments", args[0])
	}
	return o, nil
}

func (o *Options) long(name string, args []string) ([]string, error) {
	name, value, given := strings.Cut(name, "=")
	flag := map[string]*bool{"foreground": &o.Foreground, "restart": &o.Restart, "stop": &o.Stop,
		"show": &o.Show, "json": &o.JSON}[name]
	switch {
	case flag != nil && given:
		return nil, fmt.Errorf("--%s takes no value", name)
	case flag != nil:
		*flag = true
	case name == "sock":
		if !given {
			if len(args) == 0 {
				return nil, fmt.Errorf("--sock wants a prefix, such as --sock /alt")
			}
			value, args = args[0], args[1:]
		}
		o.Sock = value
	default:
		return nil, fmt.Errorf("--%s is no option of io-net", name)
	}
	return args, nil
}

// short reads a cluster of flags; the first one with a value takes what is
// left of the word, or the next word.
func (o *Options) short(cluster string, args []string) ([]string, error) {
	for cluster != "" {
		c := cluster[0]
		cluster = cluster[1:]
		switch c {
		case 'a':
			o.NoConverters = true
		case 'v':
			o.Verbose++
		case 'm':
			o.Multicast = true
		case 's':
			o.Static = true
		case 'f':
			o.Foreground = true
		case 'i', 'C', 'c', 't', 'd', 'p':
			value := cluster
			if value == "" {
				if len(args) == 0 {
					return nil, fmt.Errorf("-%c wants a value", c)
				}
				value, args = args[0], args[1:]
			}
			return o.value(c, value, args)
		default:
			return nil, fmt.Errorf("-%c is no option of io-net", c)
		}
	}
	return args, nil
}

func (o *Options) value(c byte, value string, args []string) ([]string, error) {
	if c == 'd' || c == 'p' {
		m := Module{Protocol: c == 'p', Name: value}
		if len(args) > 0 && !strings.HasPrefix(args[0], "-") {
			m.Options, args = args[0], args[1:]
		}
		if moduleName(value) == "" {
			return nil, fmt.Errorf("-%c %q: want the name of a module", c, value)
		}
		o.Modules = append(o.Modules, m)
		return args, nil
	}
	n, rest := strtol(value)
	if rest != "" || n < 0 || n > 1<<30 {
		return nil, fmt.Errorf("-%c %s: want a number", c, value)
	}
	switch c {
	case 'i':
		if n > 999 {
			return nil, fmt.Errorf("-i %s: want an instance from 0 to 999", value)
		}
		o.Instance = int(n)
	case 'C':
		o.ContextSize = int(n)
	case 'c':
		if n != 0 {
			return nil, fmt.Errorf("-c %s: only 0 (no caching of packet buffers) has a meaning", value)
		}
		o.NoCache = true
	case 't':
		o.Threads = int(n)
	}
	return args, nil
}

// moduleName is a module's short name: "/lib/dll/npm-tcpip-v6.so" and
// "tcpip-v6" are one, so are "devn-speedo.so" and "speedo".
func moduleName(name string) string {
	name = name[strings.LastIndexByte(name, '/')+1:]
	name = strings.TrimSuffix(name, ".so")
	for _, p := range []string{"npm-", "devn-", "devnp-"} {
		name = strings.TrimPrefix(name, p)
	}
	return name
}

// strtol reads a number as C's strtol in base 0 does, and answers what
// followed it. Without digits the number is 0 and everything follows.
func strtol(s string) (n int64, rest string) {
	t := strings.TrimLeft(s, " \t")
	neg := false
	if t != "" && (t[0] == '-' || t[0] == '+') {
		neg, t = t[0] == '-', t[1:]
	}
	base := int64(10)
	switch {
	case len(t) > 2 && t[0] == '0' && (t[1] == 'x' || t[1] == 'X') && digit(t[2]) < 16:
		base, t = 16, t[2:]
	case t != "" && t[0] == '0':
		base = 8
	}
	i := 0
	for ; i < len(t) && digit(t[i]) < base; i++ {
		if n = n*base + digit(t[i]); n > 1<<40 {
			n = 1 << 40
		}
	}
	if i == 0 {
		return 0, s
	}
	if neg {
		n = -n
	}
	return n, t[i:]
}

func digit(c byte) int64 {
	switch {
	case c >= '0' && c <= '9':
		return int64(c - '0')
	case c >= 'a' && c <= 'f':
		return int64(c-'a') + 10
	case c >= 'A' && c <= 'F':
		return int64(c-'A') + 10
	}
	return 99
}
