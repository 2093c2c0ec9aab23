// Package onstack runs programs that know nothing of ionet on a stack: their
// internet sockets are the stack's. No part of the program is changed or
// preloaded: the kernel hands its socket calls to a supervisor (seccomp user
// notification), which answers them. Streams then carry their data through a
// descriptor that the stack has passed, and nobody is asked.
package onstack

import (
	"log/slog"
	"strings"

	"ionet/tool/cli"
)

// name is what the command is called.
const name = "onstack"

// Command is onstack.
var Command = cli.Command{
	Name:     name,
	Aliases:  []string{"run"},
	Section:  1,
	Short:    "run a program on a stack",
	Wraps:    letters,
	Synopsis: []string{"command [argument …]", "-d [-r] [-l file] [-p pidfile] [--json] command [argument …]"},
	Long: `onstack starts the command so that its internet sockets, and those of all that it starts, are sockets of the stack that SOCK names. The program is the one that is installed; it may be static, and in any language.

The socket calls of the program wait for a supervisor, which is a process of the same user, asks the stack, and answers. Data of connections does not pass through it. The program cannot reach the host's network: other families than local sockets are refused, the resolver, name cache and bus of the host too, and there is no io_uring. Names are looked up by the servers of /etc/resolv.conf as the stack reaches them; where there is a file $SOCK/etc/resolv.conf, hosts, nsswitch.conf or services, the program reads that instead. Where there is none of resolv.conf, and routers had told the stack of name servers when the program was started, it reads of those, as they are known by then, before those of /etc/resolv.conf.

With -d the command is a service: onstack goes to the background when the program has started, or fails with its error, and starts the program again when it ends badly, after a pause that doubles from half a second to a minute, and that begins anew after one that has lived for a minute. What the program leaves behind when it ends well (it has gone to the background itself) is the service from then on; when it ends badly that is ended too. Where the stack is not there yet, onstack waits for it in the background; when the stack goes, the service is ended, and started again when the stack is back. SIGTERM ends it: SIGTERM for the program, and SIGKILL for what is left after ten seconds. Other signals are the program's. What the program says on its outputs are records of the log.

Sockets of both versions of IP are the stack's, one of AF_INET6 for both unless the program says otherwise; interfaces, addresses, routes and neighbours are the stack's where a program asks by rtnetlink(7) or by ioctls. Files below /proc/net show the host's. A program that asks for the error queue (IP_RECVERR, IPV6_RECVERR), as ping and traceroute of Linux do, finds it empty: a router's complaint about an echo looks to it like no answer.

What a program can gain by executing others (setuid) it does not gain here, and programs of 32 bits do not run.`,
	Options: []cli.Opt{
		{Flags: "-d", Text: "Keep the command running as a service, in the background."},
		{Flags: "-l file", Text: "Log there, and keep the last files as file.1 to file.3; without it to the syslog of the host, under the command's name. Until onstack is in the background, to standard error too."},
		{Flags: "-p pidfile", Text: "Write the number of the process that SIGTERM is for to pidfile, as long as it lives; refused while another one lives that has it."},
		{Flags: "-r", Text: "Start the program again when it ends well, too."},
	},
	JSON: `With -d, the records of the log: {"time": "…", "level": "INFO", "msg": "…", …}, one object a line.`,
	ExitStatus: []cli.Exit{
		{Status: 0, Text: "That of the command, which may be any; with -d: the service runs."},
		{Status: 125, Text: "onstack itself has failed: no stack, or a kernel without seccomp user notification (Linux 5.14 has it)."},
		{Status: 126, Text: "The command was found and could not be run."},
		{Status: 127, Text: "There is no such command."},
	},
	Files: []cli.Item{{Name: "$SOCK/etc/resolv.conf", Text: "Stands for /etc/resolv.conf; so do hosts, nsswitch.conf, services, networks, host.conf and gai.conf."}},
	Examples: []cli.Item{
		{Name: "SOCK=/alt onstack curl http://10.0.0.2/", Text: "Fetch a page through the stack at /alt."},
		{Name: "onstack sh", Text: "A shell in which everything is on the stack."},
		{Name: "onstack -d -p /run/web.pid -l /var/log/web nginx", Text: "A web server that stays."},
	},
	SeeAlso: []string{"ionet-proxy(8)", "nc(1)", "seccomp_unotify(2)"},
	Run:     run,
}

func run(ctx *cli.Context, args []string) int {
	if len(args) > 0 {
		command := args[1:]
		if len(command) > 0 && command[0] == "--" {
			command = command[1:]
		}
		switch {
		case strings.HasPrefix(args[0], becomeArg) && len(command) > 0:
			return become(args[0], command)
		case strings.HasPrefix(args[0], superviseArg) && len(command) > 0:
			return supervise(ctx, args[0], command)
		}
	}
	o, command, err := parse(ctx, args)
	if err != nil {
		ctx.Usage(err)
		return exitFailed
	}
	if o.keep {
		return serve(ctx, o, command)
	}
	return front(ctx, command)
}

// options are those of a service.
type options struct {
	keep    bool
	always  bool
	log     string
	pidFile string
}

// letters are the options, as cli.Getopt wants them.
const letters = "dl:p:r"

func parse(ctx *cli.Context, args []string) (o options, command []string, err error) {
	flags, command, err := cli.Getopt(letters, args)
	if err != nil {
		return o, nil, cli.Misuse("%v", err)
	}
	for _, f := range flags {
		switch f.Name {
		case "d":
			o.keep = true
		case "l":
			o.log = f.Value
		case "p":
			o.pidFile = f.Value
		case "r":
			o.always = true
		}
	}
	switch {
	case len(command) == 0:
		return o, nil, cli.Misuse("what is to be run?")
	case !o.keep && len(flags) > 0:
		return o, nil, cli.Misuse("-%s is for services: it goes with -d", flags[0].Name)
	case !o.keep && ctx.JSON:
		return o, nil, cli.Misuse("--json is for the log of services: it goes with -d")
	}
	return o, command, nil
}

// logger is for what the supervisor has to say while the program runs.
func logger(ctx *cli.Context) *slog.Logger {
	level := slog.LevelWarn
	if ctx.Verbose {
		level = slog.LevelDebug
	}
	return slog.New(slog.NewTextHandler(ctx.Stderr, &slog.HandlerOptions{Level: level}))
}
