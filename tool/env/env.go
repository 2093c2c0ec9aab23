// Package env prints the shell code that puts the BSD names of an
// installation first and points them at a stack.
package env

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"ionet/tool/cli"
)

// Command is ionet env.
var Command = cli.Command{
	Name:     "env",
	Word:     true,
	Section:  1,
	Short:    "print shell code that puts the BSD names of ionet first",
	Synopsis: []string{"[prefix]"},
	Long: "Prints shell code for eval. It puts lib/ionet/bin of the installation first on PATH and lib/ionet/man " +
		"first on MANPATH, so that ifconfig, route, ping and the others are those of ionet, in this shell only. " +
		"With prefix (or --sock) it sets SOCK too.",
	Examples: []cli.Item{{Name: `eval "$(ionet env /alt)"`, Text: "Work with the stack under /alt."}},
	SeeAlso:  []string{"io-net(8)"},
	Run:      run,
}

func run(ctx *cli.Context, args []string) int {
	_, args, err := cli.Getopt("", args)
	if err != nil {
		return ctx.Usage(err)
	}
	prefix := ctx.Sock
	switch len(args) {
	case 0:
	case 1:
		if args[0] == "" {
			return ctx.Usage(fmt.Errorf("the prefix is empty: give a path such as /alt"))
		}
		prefix = args[0]
	default:
		return ctx.Usage(nil)
	}
	lib, err := library()
	if err != nil {
		return ctx.Errorf("cannot tell where ionet is installed: %v", err)
	}
	if strings.Contains(lib, ":") {
		return ctx.Errorf("%q has a colon in it and cannot be on PATH: install ionet elsewhere", lib)
	}
	if prefix != "" {
		if prefix, err = filepath.Abs(prefix); err != nil {
			return ctx.Errorf("%v", err)
		}
	}
	fmt.Fprint(ctx.Stdout, script(lib, prefix))
	return 0
}

// library is the folder lib/ionet beside the bin folder of this program.
func library() (string, error) {
	exe, err := os.Executable()
	if err != nil {
		return "", err
	}
	if exe, err = filepath.EvalSymlinks(exe); err != nil {
		return "", err
	}
	return filepath.Join(filepath.Dir(filepath.Dir(exe)), "lib", "ionet"), nil
}

// script is code for any POSIX shell. MANPATH keeps an empty part, which
// stands for the system's own pages.
func script(lib, prefix string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "PATH=%s${PATH:+:$PATH}; export PATH;\n", quote(lib+"/bin"))
	fmt.Fprintf(&b, "MANPATH=%s:${MANPATH-}; export MANPATH;\n", quote(lib+"/man"))
	if prefix != "" {
		fmt.Fprintf(&b, "SOCK=%s; export SOCK;\n", quote(prefix))
	}
	return b.String()
}

// quote makes one word of any string.
func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }
