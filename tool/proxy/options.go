package proxy

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"

	"ionet/tool/cli"
)

// Options are the command line of ionet proxy.
type Options struct {
	Listen   string // where SOCKS5 and HTTP are spoken; "" nowhere
	Max      int    // connections at once
	Verbose  bool   // -v: log each
	Forwards []Forward
}

// Forward is a port that leads to another side: -L or -R.
type Forward struct {
	Reverse bool   // -R: the port is the stack's, the end the host's
	Bind    string // address:port to listen on
	To      string // host:port to connect to
}

func (f Forward) String() string {
	if f.Reverse {
		return fmt.Sprintf("-R %s:%s", f.Bind, f.To)
	}
	return fmt.Sprintf("-L %s:%s", f.Bind, f.To)
}

const (
	defaultListen = "127.0.0.1:1080"
	defaultMax    = 1000
)

// Parse reads the command line, without the command's name.
func Parse(args []string) (*Options, error) {
	flags, rest, err := cli.Getopt("L:R:v", args, "listen=", "max=")
	if err != nil {
		return nil, &cli.UsageError{Text: err.Error()}
	}
	if len(rest) > 0 {
		return nil, cli.Misuse("%q: proxy takes options only", rest[0])
	}
	o := &Options{Listen: defaultListen, Max: defaultMax}
	for _, f := range flags {
		switch f.Name {
		case "v":
			o.Verbose = true
		case "listen":
			o.Listen, err = listenAddr(f.Value)
		case "max":
			o.Max, err = strconv.Atoi(f.Value)
			if err != nil || o.Max < 1 || o.Max > 1<<20 {
				err = fmt.Errorf("--max %s: a number of connections from 1 on would be right", f.Value)
			}
		case "L", "R":
			var w Forward
			w, err = parseForward(f.Value, f.Name == "R")
			o.Forwards = append(o.Forwards, w)
		}
		if err != nil {
			return nil, err
		}
	}
	if o.Listen == "" && len(o.Forwards) == 0 {
		return nil, cli.Misuse("--listen none without -L or -R leaves nothing to do")
	}
	return o, nil
}

// listenAddr reads the value of --listen: an address with or without port, a
// port, or none.
func listenAddr(s string) (string, error) {
	if s == "none" {
		return "", nil
	}
	if _, err := port(s); err == nil {
		return net.JoinHostPort("127.0.0.1", s), nil
	}
	host, p, err := net.SplitHostPort(s)
	if err == nil {
		if _, err = port(p); err == nil {
			return net.JoinHostPort(star(host), p), nil
		}
	}
	return "", fmt.Errorf("--listen %s: an address with a port such as %s would be right, or none", s, defaultListen)
}

// parseForward reads [bind:]port:host:hostport as ssh(1) has it. Without bind
// a port of the host is open to the host itself, one of the stack to all.
func parseForward(s string, reverse bool) (Forward, error) {
	name := "-L"
	if reverse {
		name = "-R"
	}
	bad := func(why error) (Forward, error) {
		return Forward{}, fmt.Errorf("%s %s: %w; [bind:]port:host:hostport would be right", name, s, why)
	}
	parts, err := fields(s)
	if err != nil {
		return bad(err)
	}
	bind := "127.0.0.1"
	if reverse {
		bind = ""
	}
	switch len(parts) {
	case 3:
	case 4:
		bind, parts = star(parts[0]), parts[1:]
	default:
		return bad(fmt.Errorf("it has %d parts", len(parts)))
	}
	if _, err := port(parts[0]); err != nil {
		return bad(err)
	}
	if p, err := port(parts[2]); err != nil || p == 0 {
		return bad(fmt.Errorf("%q is no port", parts[2]))
	}
	if parts[1] == "" {
		return bad(errors.New("the host is empty"))
	}
	return Forward{reverse, net.JoinHostPort(bind, parts[0]), net.JoinHostPort(parts[1], parts[2])}, nil
}

// star is the host of a listening address: "*" is any.
func star(host string) string {
	if host == "*" {
		return ""
	}
	return host
}

func port(s string) (uint16, error) {
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil {
		return 0, fmt.Errorf("%q is no port", s)
	}
	return uint16(n), nil
}

// fields cuts s at its colons; an IPv6 address stands between brackets, which
// are taken off.
func fields(s string) (out []string, err error) {
	for {
		var f string
		if inner, ok := strings.CutPrefix(s, "["); ok {
			if f, s, ok = strings.Cut(inner, "]"); !ok {
				return nil, errors.New("a bracket is not closed")
			}
			if s != "" && s[0] != ':' {
				return nil, fmt.Errorf("%q follows a bracket", s)
			}
		} else {
			i := strings.IndexByte(s, ':')
			if i < 0 {
				i = len(s)
			}
			f, s = s[:i], s[i:]
		}
		out = append(out, f)
		if s == "" {
			return out, nil
		}
		s = s[1:]
	}
}
