// Package ipfs is the command ipfs: the states and sessions of the packet filter over a
// restart.
package ipfs

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"ionet/client"
	"ionet/ipl/saved"
	"ionet/protocol"
	"ionet/protocol/door"
	"ionet/tool/cli"
	"ionet/tool/ruleset"
)

// Command is ipfs.
var Command = cli.Command{
	Name:  "ipfs",
	Short: "save and restore states and sessions of the packet filter",
	Synopsis: []string{
		"[-nv] [-d directory] -W",
		"[-nv] [-d directory] -R",
		"[-nNSv] [-f file] -w",
		"[-nNSv] [-f file] -r",
		"[-nNSv] [-f file] -i if1,if2",
		"[-nv] -l",
		"[-nv] -u",
	},
	Long: "What keep state has noted of connections, and how addresses are translated for them, ends with a stack; ipfs -W before and ipfs -R after lets connections go on: through a router that is started anew, " +
		"or its successor. Rules first: a state or a session comes back only where its rule is, and a session where its interface and its outer end are. " +
		"io-net --restart alone brings back rules, and no states.\n\n" +
		"A saved table is a snapshot, so nothing must be locked; a file takes the place of the one before it whole, and is its owner's alone.",
	Options: []cli.Opt{
		{Flags: "-W", Text: "Save states and sessions into ipstate.ipf and ipnat.ipf."},
		{Flags: "-R", Text: "Restore what those files have; one that is missing has nothing."},
		{Flags: "-d directory", Text: "Where the two files are; $SOCK/var/db/ipf if not said."},
		{Flags: "-w", Text: "Save one of the two, into -f file."},
		{Flags: "-r", Text: "Restore one of the two, from -f file."},
		{Flags: "-i if1,if2", Text: "In saved files, call the interface if1 if2, in states, sessions and their rules. Without -f in both files."},
		{Flags: "-S", Text: "States, of -w, -r and -i. So it is if nothing is said."},
		{Flags: "-N", Text: "Sessions of address translation."},
		{Flags: "-f file", Text: "The file of -w, -r and -i; ipstate.ipf or ipnat.ipf in -d if not said."},
		{Flags: "-l, -u", Text: "Lock and unlock the tables: taken, and without effect, for a save is a snapshot."},
		{Flags: "-n", Text: "Change neither the stack nor a file: see whether it could be done."},
		{Flags: "-v", Text: "Say what is done."},
	},
	ExitStatus: []cli.Exit{
		{Status: 0, Text: "Success. That some of what was saved has no place any more is said, and no failure."},
		{Status: 1, Text: "Wrong usage, no stack, no packet filter in it, or a file that cannot be read, understood or written."},
	},
	Files: []cli.Item{
		{Name: "$SOCK/var/db/ipf/ipstate.ipf", Text: "States."},
		{Name: "$SOCK/var/db/ipf/ipnat.ipf", Text: "Sessions of address translation."},
	},
	Examples: []cli.Item{
		{Name: "ipfs -W; io-net --stop", Text: "Stop a router; then io-net as before, mount -Ttcpip lsm-ipfilter.so, ipf -f /etc/ipf.conf, ipnat -f /etc/ipnat.conf, and"},
		{Name: "ipfs -R", Text: "go on with the connections."},
		{Name: "ipfs -i en0,en1", Text: "What went by en0 goes by en1 from now on: before -R."},
	},
	SeeAlso: []string{"io-net(8)", "ipf(8)", "ipfstat(8)", "ipnat(8)", "mount(1)"},
	Run:     run,
}

// Stack is what ipfs asks of a stack; *client.Stack answers it.
type Stack interface {
	SaveStates(which uint8) ([]byte, error)
	RestoreStates(which uint8, data []byte) (n int, err error)
}

// table is one of the two that are saved.
type table struct {
	which      uint8
	file, name string
}

var (
	states   = table{protocol.LogStates, "ipstate.ipf", "states"}
	sessions = table{protocol.LogNAT, "ipnat.ipf", "sessions of NAT"}
)

// options are a command line.
type options struct {
	command        string // the letter that says what to do
	dir, file      string
	from, to       string // interfaces of -i
	tables         []table
	check, verbose bool // -n -v
}

func parse(args []string) (*options, error) {
	flags, rest, err := cli.Getopt("d:f:i:lNnRrSuvWw", args)
	if err != nil {
		return nil, cli.Misuse("%v", err)
	}
	o := &options{}
	for _, f := range flags {
		switch f.Name {
		case "i", "l", "R", "r", "u", "W", "w":
			if o.command != "" && o.command != f.Name {
				return nil, cli.Misuse("-%s and -%s in one line: ipfs does one of them", o.command, f.Name)
			}
			o.command = f.Name
			if f.Name == "i" {
				o.from, o.to, _ = strings.Cut(f.Value, ",")
			}
		case "d":
			o.dir = f.Value
		case "f":
			o.file = f.Value
		case "N":
			o.tables = append(o.tables, sessions)
		case "S":
			o.tables = append(o.tables, states)
		case "n":
			o.check = true
		case "v":
			o.verbose = true
		}
	}
	one := o.command == "w" || o.command == "r" || o.command == "i"
	switch {
	case o.command == "":
		return nil, cli.Misuse("nothing to do: one of -W, -R, -w, -r, -i, -l and -u is needed")
	case len(rest) > 0:
		return nil, cli.Misuse("%q: a file is named by -f, a directory by -d", rest[0])
	case !one && (len(o.tables) > 0 || o.file != ""):
		return nil, cli.Misuse("-N, -S and -f are about one file: they go with -w, -r and -i")
	case len(o.tables) > 1:
		return nil, cli.Misuse("-N or -S: a file has one of the two")
	case o.command == "i" && (o.from == "" || o.to == "" || len(o.to) > 15 || strings.ContainsAny(o.to, ", /")):
		return nil, cli.Misuse("-i takes two interfaces, such as en0,en1")
	}
	if len(o.tables) == 0 {
		o.tables = []table{states}
		if !one || o.command == "i" && o.file == "" {
			o.tables = []table{states, sessions}
		}
	}
	return o, nil
}

func run(ctx *cli.Context, args []string) int {
	o, err := parse(args)
	if err != nil {
		return ctx.Refuse(err)
	}
	o.verbose = o.verbose || ctx.Verbose
	t := tool{o: o, out: ctx.Stdout, warn: ctx.Stderr}
	if o.command != "i" {
		s, err := client.Open(ctx.Sock)
		if err != nil {
			return ctx.Errorf("%v", err)
		}
		defer s.Close()
		t.stack = s
	}
	if t.dir = o.dir; t.dir == "" && o.file == "" {
		prefix, err := client.Find(ctx.Sock)
		if err != nil && ctx.Sock != "" { // -i needs no stack that lives
			prefix, err = ctx.Sock, nil
		}
		if err != nil {
			prefix, err = door.DefaultPrefix()
		}
		if err != nil {
			return ctx.Errorf("%v", err)
		}
		t.dir = door.Path(prefix, "var/db/ipf")
	}
	if err := t.do(); err != nil {
		return ctx.Errorf("%s", ruleset.Reason(err))
	}
	return 0
}

// tool carries a command line out.
type tool struct {
	o         *options
	stack     Stack
	dir       string
	out, warn io.Writer
}

func (t *tool) do() error {
	if t.o.command == "l" || t.o.command == "u" {
		t.say("nothing has to be locked: what is saved is a snapshot")
		return nil
	}
	for _, tb := range t.o.tables {
		path := t.o.file
		if path == "" {
			path = filepath.Join(t.dir, tb.file)
		}
		var err error
		switch t.o.command {
		case "W", "w":
			err = t.save(tb, path)
		case "R", "r":
			err = t.restore(tb, path)
		default:
			err = t.rename(path)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (t *tool) say(format string, args ...any) {
	if t.o.verbose {
		fmt.Fprintf(t.out, format+"\n", args...)
	}
}

func (t *tool) save(tb table, path string) error {
	b, err := t.stack.SaveStates(tb.which)
	if err != nil {
		return err
	}
	n, _, err := saved.Count(b)
	if err == nil && !t.o.check {
		err = write(path, b)
	}
	if err == nil {
		t.say("%s: %d %s", path, n, tb.name)
	}
	return err
}

func (t *tool) restore(tb table, path string) error {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) && t.o.command == "R" {
		t.say("%s: there is none", path)
		return nil
	}
	if err != nil {
		return err
	}
	all, ofStates, err := saved.Count(b)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if ofStates != (tb == states) {
		other := states
		if tb == states {
			other = sessions
		}
		return fmt.Errorf("%s: it has %s, not %s", path, other.name, tb.name)
	}
	if t.o.check {
		t.say("%s: %d %s", path, all, tb.name)
		return nil
	}
	n, err := t.stack.RestoreStates(tb.which, b)
	if err != nil {
		return fmt.Errorf("%s: %s", path, ruleset.Reason(err))
	}
	t.say("%s: %d %s of %d have come back", path, n, tb.name, all)
	if n < all {
		why := "those have a place whose hosts have no state yet, up to net.inet.ipf.fr_statemax"
		if tb == sessions {
			why = "those have a place whose rule, interface and outer end are there and free"
		}
		fmt.Fprintf(t.warn, "ipfs: %s: %d %s of %d have not come back: %s\n", path, all-n, tb.name, all, why)
	}
	return nil
}

func (t *tool) rename(path string) error {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) && t.o.file == "" {
		t.say("%s: there is none", path)
		return nil
	}
	if err != nil {
		return err
	}
	out, n, err := saved.Rename(b, t.o.from, t.o.to)
	if err == nil && n > 0 && !t.o.check {
		err = write(path, out)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	t.say("%s: %s is called %s in %d places", path, t.o.from, t.o.to, n)
	return nil
}

// write puts a file in the place of the one before it; whenever the machine stops, one of them is
// there whole.
func write(path string, b []byte) (err error) {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, filepath.Base(path)+".*") // of mode 0600
	if err != nil {
		return err
	}
	defer func() {
		f.Close()
		if err != nil {
			os.Remove(f.Name())
		}
	}()
	if _, err = f.Write(b); err != nil {
		return err
	}
	if err = f.Sync(); err != nil {
		return err
	}
	if err = f.Close(); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
