// Package ionet is the command that is all the others: it is called by one of
// their names (argv[0]), or names one by its first argument.
package ionet

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"ionet/tool/cli"
)

// Find is the command called name, by its name or an alias; nil if there is none.
func Find(commands []*cli.Command, name string) *cli.Command {
	for _, c := range commands {
		if c.Name == name || slices.Contains(c.Aliases, name) {
			return c
		}
	}
	return nil
}

// Exec dispatches argv and returns the exit status.
func Exec(ctx *cli.Context, commands []*cli.Command, argv []string) int {
	if len(argv) > 0 {
		if c := Find(commands, filepath.Base(argv[0])); c != nil {
			return c.Exec(ctx, argv[1:])
		}
		argv = argv[1:]
	}
	status := 0
	root := Root(ctx, commands, &status)
	if argv == nil {
		argv = []string{}
	}
	root.SetArgs(argv)
	if err := root.Execute(); err != nil {
		return ctx.Errorf("%v", err)
	}
	return status
}

// Root is the command line of ionet. The BSD tools read their own arguments;
// cobra finds them, lists them and completes them. What a tool returns is
// left in status.
func Root(ctx *cli.Context, commands []*cli.Command, status *int) *cobra.Command {
	root := &cobra.Command{
		Use:           "ionet",
		Short:         "the BSD tools of a user-space network stack",
		Long:          "ionet is every command of the stack in one: ionet ifconfig -a is ifconfig -a.\nThe stack is the one that --sock or SOCK names, else the user's own.",
		Version:       cli.BuildVersion(),
		SilenceUsage:  true,
		SilenceErrors: true,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return fmt.Errorf("%q is no command of ionet: ionet help lists them", args[0])
			}
			return nil
		},
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	root.SetIn(ctx.Stdin)
	root.SetOut(ctx.Stdout)
	root.SetErr(ctx.Stderr)
	root.SetVersionTemplate("ionet {{.Version}}\n")
	for _, c := range commands {
		sub := &cobra.Command{
			Use:                c.Name,
			Aliases:            c.Aliases,
			Short:              c.Short,
			DisableFlagParsing: true,
			Run:                func(_ *cobra.Command, args []string) { *status = c.Exec(ctx, args) },
			ValidArgsFunction:  complete(c),
		}
		sub.SetHelpFunc(func(*cobra.Command, []string) { c.Help(ctx.Stdout) })
		root.AddCommand(sub)
	}
	root.AddCommand(
		&cobra.Command{
			Use: "version", Short: "print the version", Args: cobra.NoArgs,
			Run: func(*cobra.Command, []string) { fmt.Fprintf(ctx.Stdout, "ionet %s\n", cli.BuildVersion()) },
		},
		manual(ctx.Stdout, commands),
		&cobra.Command{
			Use: "names", Short: "list the commands, one a line", Args: cobra.NoArgs, Hidden: true,
			Run: func(*cobra.Command, []string) {
				for _, c := range commands {
					for _, n := range append([]string{c.Name}, c.Aliases...) {
						fmt.Fprintln(ctx.Stdout, n)
					}
				}
			},
		},
	)
	return root
}

// manual is ionet man: one page to out, or all of them as files.
func manual(out io.Writer, commands []*cli.Command) *cobra.Command {
	var dir string
	m := &cobra.Command{
		Use:   "man [name]",
		Short: "print the manual page of a command as roff",
		Args:  cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			switch {
			case dir != "" && len(args) == 0:
				return Pages(dir, commands)
			case dir != "" || len(args) == 0:
				return fmt.Errorf("man: name one command, or a folder for all pages with --dir")
			}
			page := Find(commands, args[0])
			if page == nil {
				return fmt.Errorf("man: %q is no command of ionet: ionet help lists them", args[0])
			}
			page.Man(out)
			return nil
		},
	}
	m.Flags().StringVar(&dir, "dir", "", "write every page below `folder`, as man1/… and man8/…")
	return m
}

// Pages writes every manual page below dir, as MANPATH wants them; an alias is
// a page that includes the other.
func Pages(dir string, commands []*cli.Command) error {
	for _, c := range commands {
		section := c.PageName()[strings.LastIndexByte(c.PageName(), '.')+1:]
		folder := filepath.Join(dir, "man"+section)
		if err := os.MkdirAll(folder, 0o755); err != nil {
			return err
		}
		var b strings.Builder
		c.Man(&b)
		if err := os.WriteFile(filepath.Join(folder, c.PageName()), []byte(b.String()), 0o644); err != nil {
			return err
		}
		for _, a := range c.Aliases {
			so := fmt.Sprintf(".so man%s/%s\n", section, c.PageName())
			if err := os.WriteFile(filepath.Join(folder, a+"."+section), []byte(so), 0o644); err != nil {
				return err
			}
		}
	}
	return nil
}

// complete offers the options of c that begin as what was typed; other words
// are files to the shell.
func complete(c *cli.Command) func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	return func(_ *cobra.Command, _ []string, typed string) ([]string, cobra.ShellCompDirective) {
		var out []string
		for _, o := range c.AllOptions() {
			flag, _, _ := strings.Cut(o.Flags, " ")
			if strings.HasPrefix(flag, typed) {
				out = append(out, cobra.CompletionWithDesc(flag, o.Text))
			}
		}
		return out, cobra.ShellCompDirectiveDefault
	}
}
