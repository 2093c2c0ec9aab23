package sysctl

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"strings"

	"ionet/tool/cli"
)

// Options are sysctl's command line.
type Options struct {
	All    bool // -a
	Tables bool // -A: -a, and the tables
	Bare   bool // -n: values without names
	Quiet  bool // -q: nothing is printed of what was set
	Write  bool // -w, or a file of settings
	JSON   bool
	Names  []string // name, or name=value
}

// Parse reads sysctl's command line, without the command's name.
func Parse(args []string) (*Options, error) {
	flags, rest, err := cli.Getopt("aAnqwf:", args)
	if err != nil {
		return nil, &cli.UsageError{Text: err.Error()}
	}
	o := &Options{}
	file := false
	for _, f := range flags {
		switch f.Name {
		case "a":
			o.All = true
		case "A":
			o.All, o.Tables = true, true
		case "n":
			o.Bare = true
		case "q":
			o.Quiet = true
		case "w":
			o.Write = true
		case "f":
			names, err := readFile(f.Value)
			if err != nil {
				return nil, err
			}
			o.Write, file = true, true
			o.Names = append(o.Names, names...)
		}
	}
	o.Names = append(o.Names, rest...)
	switch {
	case o.All && len(o.Names) > 0:
		return nil, cli.Misuse("-a shows everything: it takes no names")
	case !o.All && len(o.Names) == 0 && !file:
		return nil, cli.Misuse("a name, -a or -A is needed")
	}
	for _, n := range o.Names {
		name, _, _ := strings.Cut(n, "=")
		if name == "" || strings.HasPrefix(name, ".") || strings.HasSuffix(name, ".") || strings.Contains(name, "..") {
			return nil, cli.Misuse("%q is no variable's name: names are words parted by single dots", n)
		}
	}
	return o, nil
}

// readFile reads the settings of a file.
func readFile(path string) ([]string, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	names, err := parseFile(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return names, nil
}

// parseFile reads name=value lines; blanks around the parts, empty lines and
// what follows a '#' do not count.
func parseFile(r io.Reader) (names []string, err error) {
	sc := bufio.NewScanner(r)
	for n := 1; sc.Scan(); n++ {
		line, _, _ := strings.Cut(sc.Text(), "#")
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		name, value, ok := strings.Cut(line, "=")
		if !ok {
			return nil, fmt.Errorf("line %d: %q sets nothing: a line is name=value", n, line)
		}
		names = append(names, strings.TrimSpace(name)+"="+strings.TrimSpace(value))
	}
	return names, sc.Err()
}
