package sysctl

import (
	"ionet/client"
	"ionet/tool/cli"
)

// Command is sysctl.
var Command = cli.Command{
	Name:  "sysctl",
	Short: "read and set the stack's variables",
	Synopsis: []string{
		"[-nq] name ...",
		"[-nq] -w name=value ...",
		"[-n] -a | -A",
		"[-nq] -f file",
	},
	Long: "sysctl shows variables of the stack as \"name = value\". A name that stands for a part of the tree, " +
		"such as net.inet.ip, shows all below it. With -w a name=value sets a variable and shows \"name: old -> new\"; " +
		"the new value is the one that the stack then has.\n\n" +
		"Some names are tables that other commands show (net.route: netstat): -a leaves them out, -A names the command, " +
		"and asking for one alone is a failure.\n\n" +
		"The original ended with 0 after names that do not exist. Here every failure ends with a status other than 0; " +
		"the names behind the bad one are tried all the same.",
	Options: []cli.Opt{
		{Flags: "-a", Text: "Show every variable."},
		{Flags: "-A", Text: "Show every variable, and name the tables with the command that shows each."},
		{Flags: "-n", Text: "Show values without names."},
		{Flags: "-q", Text: "Show nothing of what was set."},
		{Flags: "-w", Text: "Set what is given as name=value."},
		{Flags: "-f file", Text: "Set what the file's lines say, each name=value; '#' begins a comment. (The original took this option and read nothing.)"},
	},
	JSON: "One object a line. Of a variable: name, kind (\"int\", \"string\" or \"table\"), value (a string), read_only, " +
		"use (of a table: the command that shows it) and doc. Of one that was set: name, old, new.",
	ExitStatus: []cli.Exit{
		{Status: 0, Text: "All names were shown or set."},
		{Status: 1, Text: "A name does not exist, or a value was refused; sentences on standard error say which and why."},
		{Status: 2, Text: "A variable was to be set without -w."},
	},
	Examples: []cli.Item{
		{Name: "sysctl net.inet.ip.forwarding", Text: "net.inet.ip.forwarding = 0"},
		{Name: "sysctl -w net.inet.ip.forwarding=1", Text: "net.inet.ip.forwarding: 0 -> 1"},
		{Name: "sysctl net.inet.icmp", Text: "Everything of ICMP."},
	},
	SeeAlso: []string{"ifconfig(8)", "io-net(8)", "netstat(1)", "route(8)"},
	Run:     run,
}

func run(ctx *cli.Context, args []string) int {
	o, err := Parse(args)
	if err != nil {
		return ctx.Refuse(err)
	}
	o.JSON = ctx.JSON
	s, err := client.Open(ctx.Sock)
	if err != nil {
		return ctx.Errorf("%v", err)
	}
	defer s.Close()
	return Run(s, o, ctx.Stdout, ctx.Stderr)
}
