// Package mount is the mount and umount commands: they add interfaces to a
// running stack and take them away, and leave all else to the system's own.
package mount

import (
	"errors"
	"fmt"
	"path"
	"strings"

	"ionet/tool/cli"
)

// request is a mount that is ours.
type request struct {
	typ, options, module string
	verbose              bool
}

// ours says whether the stack serves a mount type: io-net, io-net1, tcpip.
func ours(typ string) bool {
	return strings.TrimRight(typ, "0123456789") == "io-net" || typ == "tcpip"
}

// parseMount reads a command line. nil without an error: it is the system's.
func parseMount(args []string) (*request, error) {
	// The options are looked for everywhere, as the original's users write
	// mount -T io-net devn-x.so -o opts too.
	r := &request{}
	var words []string
	var typed bool
	var bad error
	for rest := args; ; {
		flags, after, err := cli.Getopt("abeo:rt:T:uvw", rest)
		if err != nil {
			// Perhaps an option of the system's mount: whose line it is shows
			// when all of it has been seen, so pass over the wrong word.
			bad = err
			n := len(rest)
			for ; err != nil; n-- {
				flags, after, err = cli.Getopt("abeo:rt:T:uvw", rest[:n-1])
			}
			after = append(append([]string{}, after...), rest[n+1:]...)
		}
		for _, f := range flags {
			switch f.Name {
			case "t", "T":
				r.typ, typed = f.Value, true
			case "o":
				r.options = join(r.options, f.Value)
			case "v":
				r.verbose = true
			}
		}
		if len(after) == 0 {
			break
		}
		words = append(words, after[0])
		rest = after[1:]
	}
	if !typed && len(words) > 0 {
		if name := path.Base(words[0]); strings.HasPrefix(name, "npm-") || strings.HasPrefix(name, "devn-") || strings.HasPrefix(name, "nfm-") {
			r.typ = "io-net"
		}
	}
	switch {
	case !ours(r.typ):
		return nil, nil
	case bad != nil:
		return nil, bad
	case len(words) == 0:
		return nil, errors.New("a module is missing, such as devn-wire.so")
	case len(words) > 2 || len(words) == 2 && words[1] != "/":
		return nil, fmt.Errorf("%q: one module is mounted at a time, and nowhere but at /", words[len(words)-1])
	}
	r.module = words[0]
	return r, nil
}

func join(a, b string) string {
	if a == "" || b == "" {
		return a + b
	}
	return a + "," + b
}

// unmount is a umount with paths of ours among its own.
type unmount struct {
	paths          []string
	verbose, force bool
}

// parseUmount reads a command line. nil without an error: it is the system's.
func parseUmount(args []string) (*unmount, error) {
	flags, paths, err := cli.Getopt("fv", args)
	mine := 0
	for _, p := range args {
		if kind(p) != foreign {
			mine++
		}
	}
	switch {
	case mine == 0:
		return nil, nil
	case err != nil:
		return nil, err
	case mine != len(paths):
		return nil, errors.New("paths of the stack and others in one line: unmount them apart")
	}
	u := &unmount{paths: paths}
	for _, f := range flags {
		switch f.Name {
		case "f":
			u.force = true
		case "v":
			u.verbose = true
		}
	}
	return u, nil
}

// What a path to unmount stands for.
type pathKind int

const (
	foreign  pathKind = iota // not ours
	driver                   // dev/io-net/en0, ipfilter0
	protocol                 // TCP/IP itself, which stays
)

func kind(p string) pathKind {
	clean := path.Clean(p)
	dir, name := path.Split(clean)
	dir = strings.TrimSuffix(dir, "/")
	switch {
	case strings.HasSuffix(clean, "/dev/socket"), strings.HasSuffix(dir, "/dev/socket"), strings.HasPrefix(name, "npm-tcpip"), strings.HasPrefix(name, "npm-qnet"):
		return protocol
	case strings.HasSuffix(strings.TrimRight(dir, "0123456789"), "/dev/io-net") && name != "":
		if strings.HasPrefix(name, "ip_") || strings.HasPrefix(name, "tcpip") {
			return protocol
		}
		return driver
	case clean == "ipfilter0": // the packet filter, which has no path
		return driver
	}
	return foreign
}
