package nc

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"ionet/tool/cli"
	"ionet/tool/services"
)

// Options are nc's command line.
type Options struct {
	Listen   bool          // -l
	Keep     bool          // -k: one connection after another
	UDP      bool          // -u
	Family   string        // -4, -6: "4", "6"; "" both
	Verbose  bool          // -v
	Scan     bool          // -z: connect only
	Numeric  bool          // -n: no names
	Shutdown bool          // -N: shut down sending at the end of the input
	NoInput  bool          // -d: do not read the input
	Interval time.Duration // -i: between lines, and between ports
	Timeout  time.Duration // -w: of connecting, and of silence; 0 never
	Source   string        // -s: address
	Port     int           // -p: local port; 0 any
	Host     string        // "" any, only with Listen
	First    int           // the ports, First to Last
	Last     int
}

// network is the name of the transport: "tcp" or "udp".
func (o *Options) network() string {
	if o.UDP {
		return "udp"
	}
	return "tcp"
}

// dialled is the transport with the family that was asked for: "tcp", "udp6".
func (o *Options) dialled() string { return o.network() + o.Family }

// allows says that -4 and -6 leave ip.
func (o *Options) allows(ip netip.Addr) bool {
	return o.Family == "" || ip.Unmap().Is4() == (o.Family == "4")
}

// Parse reads nc's command line, without the command's name.
func Parse(args []string, names *services.Table) (*Options, error) {
	// Options may stand behind the words, as nc's users write them: nc host 80 -v.
	var words []string
	o := &Options{}
	source := ""
	for len(args) > 0 {
		flags, rest, err := cli.Getopt("46dhi:klNnp:s:uvw:z", args)
		if err != nil {
			return nil, &cli.UsageError{Text: err.Error()}
		}
		for _, f := range flags {
			if f.Name == "p" {
				source = f.Value
				continue
			}
			if err := o.set(f.Name, f.Value); err != nil {
				return nil, err
			}
		}
		ended := len(args) > len(rest) && args[len(args)-len(rest)-1] == "--"
		if ended || len(rest) == 0 {
			words = append(words, rest...)
			break
		}
		words, args = append(words, rest[0]), rest[1:]
	}
	var err error
	if source != "" {
		if o.Port, err = o.port(source, names); err != nil {
			return nil, err
		}
	}
	return o, o.words(words, names)
}

func (o *Options) set(name, v string) (err error) {
	switch name {
	case "4", "6":
		o.Family = name
	case "d":
		o.NoInput = true
	case "h":
		return cli.Misuse("nc --help says what the options do")
	case "i":
		o.Interval, err = seconds(name, v)
	case "k":
		o.Keep = true
	case "l":
		o.Listen = true
	case "N":
		o.Shutdown = true
	case "n":
		o.Numeric = true
	case "s":
		if _, err := netip.ParseAddr(v); err != nil {
			return fmt.Errorf("-s %s: not a numeric address", v)
		}
		o.Source = v
	case "u":
		o.UDP = true
	case "v":
		o.Verbose = true
	case "w":
		o.Timeout, err = seconds(name, v)
	case "z":
		o.Scan = true
	}
	return err
}

// words reads what is no option: host and port, or with -l the port alone.
func (o *Options) words(words []string, names *services.Table) (err error) {
	switch {
	case len(words) > 2:
		return cli.Misuse("%q: one host and one port (or a range, 20-30) are enough", words[2])
	case o.Listen && o.Scan:
		return cli.Misuse("-l waits for others and -z looks for them: only one of them")
	case o.Keep && !o.Listen:
		return cli.Misuse("-k goes on listening and needs -l")
	case o.Listen && len(words) > 0 && o.Port != 0:
		return cli.Misuse("the port is given twice: -p %d and %q", o.Port, words[len(words)-1])
	case o.Listen && o.Source != "" && len(words) == 2:
		return cli.Misuse("the address is given twice: -s %s and %q", o.Source, words[0])
	case o.Listen && len(words) == 0 && o.Port == 0:
		return cli.Misuse("-l needs a port to listen on")
	case !o.Listen && len(words) < 2:
		return cli.Misuse("a host and a port are needed")
	}
	if o.Listen {
		o.Host, o.First, o.Last = o.Source, o.Port, o.Port
		if len(words) == 2 {
			o.Host = words[0]
		}
		if len(words) > 0 {
			o.First, err = o.port(words[len(words)-1], names)
			o.Last = o.First
		}
		return err
	}
	o.Host = words[0]
	if o.Host == "" {
		return cli.Misuse("the host is empty")
	}
	return o.ports(words[1], names)
}

// ports reads a port or a range of them.
func (o *Options) ports(s string, names *services.Table) (err error) {
	if o.First, err = o.port(s, names); err == nil {
		o.Last = o.First
		return nil
	}
	lo, hi, ok := strings.Cut(s, "-")
	if !ok || strings.Contains(hi, "-") { // names have hyphens too
		return err
	}
	if o.First, err = o.port(lo, names); err != nil {
		return err
	}
	if o.Last, err = o.port(hi, names); err != nil {
		return err
	}
	if o.First > o.Last {
		o.First, o.Last = o.Last, o.First
	}
	return nil
}

// port reads a number from 1 on, or unless -n is given the name of one.
func (o *Options) port(s string, names *services.Table) (int, error) {
	if n, err := strconv.ParseUint(s, 10, 16); err == nil && n > 0 {
		return int(n), nil
	}
	if !o.Numeric {
		if n, ok := names.Port(s, o.network()); ok {
			return n, nil
		}
	}
	return 0, fmt.Errorf("port %s: a number from 1 to 65535 would be right", strconv.Quote(s))
}

// seconds reads a number of seconds above 0; it may have a fraction.
func seconds(name, v string) (time.Duration, error) {
	s, err := strconv.ParseFloat(v, 64)
	if err != nil || !(s > 0 && s <= 1e9) {
		return 0, fmt.Errorf("-%s %s: a number of seconds above 0 would be right", name, v)
	}
	return time.Duration(s * float64(time.Second)), nil
}
