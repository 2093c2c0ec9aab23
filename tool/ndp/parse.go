// Package ndp is the ndp command: it shows and changes what the stack knows of
// IPv6 neighbours, routers and prefixes.
package ndp

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"ionet/protocol"
	"ionet/tool/arp"
	"ionet/tool/cli"
)

// mode is what a command line asks for.
type mode int

const (
	modeGet mode = iota + 1
	modeAll
	modeClear
	modeDelete
	modeFile
	modeHarmonize
	modeDefaultIf
	modeIf
	modeFlushPrefixes
	modePrefixes
	modeFlushRouters
	modeRouters
	modeSet
)

// request is a command line.
type request struct {
	mode    mode
	host    string        // modeGet, modeDelete
	file    string        // modeFile
	ifname  string        // modeIf; modeDefaultIf: "" asks, "delete" means none
	set     setting       // modeSet
	flags   []flag        // modeIf
	repeat  time.Duration // -A
	numeric bool
	long    bool
	stamped bool
}

// setting is an entry to make.
type setting struct {
	host        string
	ether       net.HardwareAddr
	temp, proxy bool
}

// flag is a flag of an interface to set or to clear.
type flag struct {
	word string
	bit  uint32
	on   bool
}

// forms are the letters of which one at most may be said, and what they mean.
var forms = map[string]mode{"a": modeAll, "A": modeAll, "c": modeClear, "d": modeDelete, "f": modeFile, "H": modeHarmonize,
	"I": modeDefaultIf, "i": modeIf, "P": modeFlushPrefixes, "p": modePrefixes, "R": modeFlushRouters, "r": modeRouters, "s": modeSet}

// parse reads a command line. Errors ask for the usage.
func parse(args []string) (*request, error) {
	flags, rest, err := cli.Getopt("acdfHIilnPpRrstA:", args)
	if err != nil {
		return nil, err
	}
	r := &request{}
	form := ""
	for _, f := range flags {
		switch f.Name {
		case "l":
			r.long = true
		case "n":
			r.numeric = true
		case "t":
			r.stamped = true
		default:
			if form != "" && form != f.Name {
				return nil, fmt.Errorf("-%s and -%s exclude each other", form, f.Name)
			}
			form = f.Name
		}
		if f.Name == "A" {
			n, err := strconv.Atoi(f.Value)
			if err != nil || n < 1 || n > 1<<20 {
				return nil, fmt.Errorf("-A %s: a number of seconds from 1 on belongs there", f.Value)
			}
			r.repeat = time.Duration(n) * time.Second
		}
	}
	if r.mode = forms[form]; r.mode == 0 {
		r.mode = modeGet
	}
	return r, r.words(form, rest)
}

// words reads what stands behind the options.
func (r *request) words(form string, rest []string) (err error) {
	one := func(to *string, what string) error {
		if len(rest) != 1 {
			return fmt.Errorf("%s, not %d words", what, len(rest))
		}
		*to = rest[0]
		return nil
	}
	switch r.mode {
	case modeGet:
		return one(&r.host, "one host is to be looked up")
	case modeDelete:
		return one(&r.host, "-d takes one host")
	case modeFile:
		return one(&r.file, "-f takes one file")
	case modeSet:
		r.set, err = parseSetting(rest)
		return err
	case modeDefaultIf:
		if len(rest) == 0 {
			return nil
		}
		return one(&r.ifname, "-I takes one interface, or delete")
	case modeIf:
		if len(rest) == 0 {
			return errors.New("-i takes an interface, and flags")
		}
		r.ifname = rest[0]
		r.flags, err = parseFlags(rest[1:])
		return err
	}
	if len(rest) > 0 {
		return fmt.Errorf("%q: -%s stands alone", rest[0], form)
	}
	return nil
}

// parseSetting reads "node ether [temp] [proxy]", of -s or of a line of a
// file.
func parseSetting(words []string) (s setting, err error) {
	if len(words) < 2 {
		return s, errors.New("an entry is a node and its Ethernet address")
	}
	s.host = words[0]
	if s.ether, err = arp.ParseEther(words[1]); err != nil {
		return s, err
	}
	for _, w := range words[2:] {
		switch w {
		case "temp":
			s.temp = true
		case "proxy":
			s.proxy = true
		default:
			return s, fmt.Errorf("%q: behind the Ethernet address temp and proxy are known", w)
		}
	}
	return s, nil
}

// ifFlags are the flags of an interface (KAME's ND6_IFF_*): the word that
// changes one, the word that shows it, and its bit.
var ifFlags = [...]struct {
	word, shown string
	bit         uint32
}{{"nud", "PERFORMNUD", protocol.ND6IFFPerformNUD}, {"accept_rtadv", "ACCEPT_RA", protocol.ND6IFFAcceptRtAdv},
	{"prefer_source", "PREFER_SRC", protocol.ND6IFFPreferSource}}

// parseFlags reads flags; '-' before one clears it.
func parseFlags(words []string) (out []flag, err error) {
next:
	for _, w := range words {
		name, off := strings.CutPrefix(w, "-")
		for _, f := range ifFlags {
			if f.word == name {
				out = append(out, flag{w, f.bit, !off})
				continue next
			}
		}
		return nil, fmt.Errorf("%q: nud, accept_rtadv and prefer_source are known, with - before them too", w)
	}
	return out, nil
}
