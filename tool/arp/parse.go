// Package arp is the arp command: it shows and changes the stack's table of
// neighbours.
package arp

import (
	"errors"
	"fmt"
	"net"
	"strings"

	"ionet/protocol"
	"ionet/tool/cli"
)

// mode is what a command line asks for.
type mode int

const (
	modeGet mode = iota + 1
	modeAll
	modeDelete
	modeDeleteAll
	modeFile
	modeSet
)

// request is a command line.
type request struct {
	mode    mode
	host    string // modeGet, modeDelete
	file    string // modeFile
	path    string // -p
	set     setting
	numeric bool
	verbose bool
}

// setting is an entry to make.
type setting struct {
	host             string
	ether            net.HardwareAddr
	temp, pub, proxy bool
	ifname           string // with proxy; "" finds it from the address
}

// parse reads a command line. Errors ask for the usage.
func parse(args []string) (*request, error) {
	flags, rest, err := cli.Getopt("adnsfp:v", args)
	if err != nil {
		return nil, err
	}
	r := &request{}
	var all, del, set, file bool
	for _, f := range flags {
		switch f.Name {
		case "a":
			all = true
		case "d":
			del = true
		case "s":
			set = true
		case "f":
			file = true
		case "n":
			r.numeric = true
		case "v":
			r.verbose = true
		case "p":
			r.path = f.Value
		}
	}
	several := 0
	for _, b := range []bool{all || del, set, file} {
		if b {
			several++
		}
	}
	if several > 1 {
		return nil, errors.New("-a and -d, -s and -f exclude each other")
	}
	words := func(n int, what string) error {
		if len(rest) != n {
			return fmt.Errorf("%s, not %d words", what, len(rest))
		}
		return nil
	}
	switch {
	case set:
		r.mode = modeSet
		r.set, err = parseSetting(rest)
		return r, err
	case file:
		r.mode = modeFile
		if err := words(1, "-f takes one file"); err != nil {
			return nil, err
		}
		r.file = rest[0]
		if r.path != "" {
			return nil, errors.New("-f works with the built-in ARP only, not with -p")
		}
	case del && all:
		r.mode = modeDeleteAll
		return r, words(0, "-d -a takes no host")
	case del:
		r.mode = modeDelete
		if err := words(1, "-d takes one host"); err != nil {
			return nil, err
		}
		r.host = rest[0]
	case all, len(rest) == 0 && (r.numeric || r.path != ""):
		r.mode = modeAll
		return r, words(0, "-a takes no host")
	default:
		r.mode = modeGet
		if err := words(1, "one host is to be looked up"); err != nil {
			return nil, err
		}
		r.host = rest[0]
	}
	return r, nil
}

// parseSetting reads "host ether [temp] [pub] [proxy [interface]]", of -s or
// of a line of a file.
func parseSetting(words []string) (setting, error) {
	if len(words) < 2 {
		return setting{}, errors.New("an entry is a host and its Ethernet address")
	}
	s := setting{host: words[0]}
	var err error
	if s.ether, err = ParseEther(words[1]); err != nil {
		return setting{}, err
	}
	for i := 2; i < len(words); i++ {
		switch w := words[i]; {
		case w == "temp":
			s.temp = true
		case w == "pub":
			s.pub = true
		case w == "proxy", w == "pro":
			s.pub, s.proxy = true, true
		case s.proxy && s.ifname == "" && len(w) < protocol.IfNameLen && (words[i-1] == "proxy" || words[i-1] == "pro"):
			s.ifname = w
		default:
			return setting{}, fmt.Errorf("%q: behind the Ethernet address temp, pub and proxy are known", w)
		}
	}
	return s, nil
}

// ParseEther reads six octets in hexadecimal with colons between, zeros in front
// left out or not. Its errors are sentences. A group's address is refused.
func ParseEther(s string) (net.HardwareAddr, error) {
	bad := fmt.Errorf("%q is no Ethernet address: six octets like 0:50:da:1:2:3", s)
	parts := strings.Split(s, ":")
	if len(parts) != 6 {
		return nil, bad
	}
	var hw net.HardwareAddr
	for _, p := range parts {
		var v byte
		if len(p) < 1 || len(p) > 2 {
			return nil, bad
		}
		for _, c := range []byte(strings.ToLower(p)) {
			switch {
			case c >= '0' && c <= '9':
				v = v<<4 | (c - '0')
			case c >= 'a' && c <= 'f':
				v = v<<4 | (c - 'a' + 10)
			default:
				return nil, bad
			}
		}
		hw = append(hw, v)
	}
	if hw[0]&1 != 0 {
		return nil, fmt.Errorf("%q is a group's address, which no host has", s)
	}
	return hw, nil
}

// LineWords are the words of a line of a file of entries; # begins a comment.
func LineWords(line string) []string {
	if i := strings.IndexByte(line, '#'); i >= 0 {
		line = line[:i]
	}
	return strings.Fields(line)
}
