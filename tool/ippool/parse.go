package ippool

import (
	"slices"
	"strings"

	"ionet/tool/cli"
)

// options are a command line.
type options struct {
	command                string // the letter that says what to do
	files, addrs           []string
	name, role, kind, seed string
	check, unload          bool // -n -u
	verbose, debug         bool // -v -d
}

// takes are the options that a command has beside -d, -n and -v.
var takes = map[string]string{"a": "moti", "r": "moti", "A": "motS", "R": "mot", "f": "u", "F": "ot", "l": "mot", "s": ""}

var (
	roles = []string{"ipf", "nat", "auth", "count", "all"}
	kinds = []string{"tree", "hash", "group-map"}
)

func parse(args []string) (*options, error) {
	flags, rest, err := cli.Getopt("aAdf:Fi:lm:no:rRsS:t:uv", args)
	if err != nil {
		return nil, cli.Misuse("%v", err)
	}
	o := &options{}
	given := ""
	for _, f := range flags {
		switch f.Name {
		case "a", "A", "F", "l", "r", "R", "s", "f":
			if o.command != "" && o.command != f.Name {
				return nil, cli.Misuse("-%s and -%s in one line: ippool does one of them", o.command, f.Name)
			}
			o.command = f.Name
			if f.Name == "f" {
				o.files = append(o.files, f.Value)
			}
		case "d":
			o.debug, o.verbose = true, true
		case "n":
			o.check = true
		case "v":
			o.verbose = true
		case "i":
			o.addrs, given = append(o.addrs, f.Value), given+"i"
		case "m":
			o.name, given = f.Value, given+"m"
		case "o":
			o.role, given = f.Value, given+"o"
		case "S":
			o.seed, given = f.Value, given+"S"
		case "t":
			o.kind, given = f.Value, given+"t"
		case "u":
			o.unload, given = true, given+"u"
		}
	}
	if len(rest) > 0 && o.command == "a" || len(rest) > 0 && o.command == "r" {
		o.addrs, rest = append(o.addrs, rest...), nil // -i a b c
	}
	return o, o.judge(given, rest)
}

func (o *options) judge(given string, rest []string) error {
	for i := range len(given) {
		if letter := given[i : i+1]; o.command != "" && !strings.Contains(takes[o.command], letter) {
			return cli.Misuse("-%s does not go with -%s", letter, o.command)
		}
	}
	switch {
	case o.command == "":
		return cli.Misuse("nothing to do: one of -a, -A, -f, -F, -l, -r, -R and -s is needed")
	case len(rest) > 0:
		return cli.Misuse("%q: pools are named by -m, files by -f", rest[0])
	case strings.Contains("aArR", o.command) && o.name == "":
		return cli.Misuse("-%s is about a pool: -m name is needed", o.command)
	case strings.Contains("ar", o.command) && len(o.addrs) == 0:
		return cli.Misuse("-%s is about addresses: -i address is needed", o.command)
	case o.role != "" && !slices.Contains(roles, o.role):
		return cli.Misuse("%q is no role: ipf, nat, auth, count or all", o.role)
	case o.kind != "" && !slices.Contains(kinds, o.kind):
		return cli.Misuse("%q is no type: tree, hash or group-map", o.kind)
	case o.command == "A" && o.kind == "group-map":
		return cli.Misuse("a group-map begins with its groups: it comes from a file")
	case o.seed != "" && o.kind != "hash":
		return cli.Misuse("-S is of a hash: -t hash")
	}
	return nil
}
