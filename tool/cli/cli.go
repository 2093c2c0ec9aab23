// Package cli is the small layer that every command of ionet shares.
//
// A tool exports one value, and everything else follows from it:
//
//	var Command = cli.Command{
//		Name:     "waitfor",
//		Short:    "wait until a path exists",
//		Synopsis: []string{"path [seconds]"},
//		Run:      run,
//	}
//
//	func run(ctx *cli.Context, args []string) int
//
// --help, the usage on standard error and the manual page all come from it.
// --sock, --help, --version, --verbose and (where Command.JSON says what is
// printed) --json are taken out of the arguments wherever they stand before
// "--"; the rest reaches Run as it was typed. Getopt reads it by the rules of
// getopt(3). cmd/<tool>/main.go is cli.Main(&tool.Command).
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"
)

// Version is set by the build (-ldflags -X); a plain go build leaves what the
// toolchain knows of the checkout.
var Version string

// Command is one command: what it does and all that is said of it.
//
// Texts are paragraphs parted by an empty line; a paragraph whose lines begin
// with a tab is shown as it stands.
type Command struct {
	Name       string
	Word       bool   // of ionet alone, as in "ionet ps": its page must not hide the system's
	Wraps      string // its options, as Getopt has them; what begins with the first argument that is no option is another command
	Aliases    []string
	Section    int      // of the manual; 0 is 8
	Synopsis   []string // one a form, without the name
	Short      string   // one line, no full stop
	Long       string
	Options    []Opt
	JSON       string // schema of --json; empty refuses --json
	ExitStatus []Exit // empty is 0 for success and 1 for failure
	Files      []Item
	Env        []Item // beside SOCK, which every page explains
	Examples   []Item // Name is the command line
	SeeAlso    []string

	// Run does the work and returns the exit status.
	Run func(ctx *Context, args []string) int
}

// UsageError is a wrong command line; [Context.Refuse] shows the usage with it.
type UsageError struct{ Text string }

func (e *UsageError) Error() string { return e.Text }

// Misuse makes a UsageError.
func Misuse(format string, a ...any) error { return &UsageError{fmt.Sprintf(format, a...)} }

// Refuse ends a command whose arguments could not be read.
func (ctx *Context) Refuse(err error) int {
	if _, ok := errors.AsType[*UsageError](err); ok {
		return ctx.Usage(err)
	}
	return ctx.Errorf("%v", err)
}

// Opt is an option or keyword: Flags as the page shows it, such as "-c count".
type Opt struct{ Flags, Text string }

// Exit is an exit status and when it is returned.
type Exit struct {
	Status int
	Text   string
}

// Item is a name and what there is to say of it.
type Item struct{ Name, Text string }

// Context is the world a command runs in, so that tests run it in process.
type Context struct {
	Stdin  io.Reader
	Stdout io.Writer
	Stderr io.Writer
	Env    func(string) string
	Ctx    context.Context // ends the command early; nil is Background

	Sock    string // --sock; empty leaves the search to client
	JSON    bool   // --json
	Verbose bool   // --verbose; a tool with a -v of its own sets it too

	cmd *Command
}

// System is the world of the process.
func System() *Context {
	return &Context{Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr, Env: os.Getenv}
}

// Main runs the command with the process's arguments and exits.
func Main(c *Command) { os.Exit(c.Exec(System(), os.Args[1:])) }

// speak has what packages below log come as sentences of the command.
func (c *Command) speak(ctx *Context) {
	slog.SetDefault(slog.New(sentences{w: ctx.Stderr, name: c.Name}))
}

// Exec runs the command in ctx and returns its exit status.
func (c *Command) Exec(ctx *Context, args []string) int {
	ctx.cmd = c
	c.speak(ctx)
	rest, err := ctx.common(args)
	switch {
	case errors.Is(err, errHelp):
		c.Help(ctx.Stdout)
		return 0
	case errors.Is(err, errVersion):
		fmt.Fprintf(ctx.Stdout, "%s (ionet) %s\n", c.Name, BuildVersion())
		return 0
	case err != nil:
		return ctx.Usage(err)
	}
	return c.Run(ctx, rest)
}

var (
	errHelp    = errors.New("help asked")
	errVersion = errors.New("version asked")
)

// common takes the options of every command out of args.
func (ctx *Context) common(args []string) ([]string, error) {
	rest := make([]string, 0, len(args))
	for i := 0; i < len(args); i++ {
		name, value, glued := strings.Cut(args[i], "=")
		switch name {
		case "--":
			return append(rest, args[i:]...), nil
		case "--sock":
			if !glued {
				if i++; i == len(args) {
					return nil, errors.New("option requires an argument -- sock")
				}
				value = args[i]
			}
			if value == "" {
				return nil, errors.New("--sock is empty: it names the prefix of a stack, such as --sock /alt")
			}
			ctx.Sock = value
			continue
		case "--help", "--version", "--json", "--verbose":
			if glued {
				return nil, fmt.Errorf("option takes no argument -- %s", name[2:])
			}
		default:
			if ctx.cmd.Wraps != "" && !strings.HasPrefix(name, "-") {
				return append(rest, args[i:]...), nil
			}
			rest = append(rest, args[i])
			if takesNext(ctx.cmd.Wraps, args[i]) && i+1 < len(args) {
				i++
				rest = append(rest, args[i])
			}
			continue
		}
		switch name {
		case "--help":
			return nil, errHelp
		case "--version":
			return nil, errVersion
		case "--json":
			if ctx.cmd.JSON == "" {
				return nil, errors.New("--json: this command has no JSON output")
			}
			ctx.JSON = true
		case "--verbose":
			ctx.Verbose = true
		}
	}
	return rest, nil
}

// takesNext reports whether the argument of the last letter in word is the next
// one. spec is that of Getopt.
func takesNext(spec, word string) bool {
	if len(word) < 2 || word[0] != '-' || word[1] == '-' {
		return false
	}
	for i := range len(word) - 1 {
		_, after, known := strings.Cut(spec, word[i+1:i+2])
		if known && strings.HasPrefix(after, ":") {
			return i+2 == len(word) && !strings.HasPrefix(after, "::")
		}
	}
	return false
}

// Errorf writes "name: sentence" to standard error and returns 1.
func (ctx *Context) Errorf(format string, a ...any) int {
	return ctx.Fail(1, format, a...)
}

// Fail is Errorf with an exit status of the tool's choice.
func (ctx *Context) Fail(status int, format string, a ...any) int {
	fmt.Fprintf(ctx.Stderr, "%s: %s\n", ctx.name(), strings.TrimRight(fmt.Sprintf(format, a...), "\n"))
	return status
}

// Usage writes err, when there is one, and the usage lines to standard error,
// and returns 1.
func (ctx *Context) Usage(err error) int {
	if err != nil {
		ctx.Errorf("%v", err)
	}
	if ctx.cmd != nil {
		ctx.cmd.usage(ctx.Stderr)
	}
	return 1
}

func (ctx *Context) name() string {
	if ctx.cmd == nil {
		return "ionet"
	}
	return ctx.cmd.Name
}

// Interruptible is a context that SIGINT, SIGTERM or the end of ctx.Ctx ends,
// for commands that have a last word to say. Call stop when it is said.
func (ctx *Context) Interruptible() (c context.Context, stop context.CancelFunc) {
	parent := ctx.Ctx
	if parent == nil {
		parent = context.Background()
	}
	return signal.NotifyContext(parent, os.Interrupt, syscall.SIGTERM)
}

// BuildVersion is Version, or the checkout's revision, or "devel".
func BuildVersion() string {
	if Version != "" {
		return Version
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "devel"
	}
	i := slices.IndexFunc(info.Settings, func(s debug.BuildSetting) bool { return s.Key == "vcs.revision" })
	if i < 0 {
		return "devel"
	}
	return "devel-" + info.Settings[i].Value[:min(12, len(info.Settings[i].Value))]
}
