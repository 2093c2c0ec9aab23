package nc

import (
	"context"
	"net"

	"ionet/client"
	"ionet/tool/cli"
	"ionet/tool/services"
)

// Command is nc.
var Command = cli.Command{
	Name:    "nc",
	Section: 1,
	Short:   "carry standard input and output over a TCP or UDP connection",
	Synopsis: []string{
		"[-46dNnuvz] [-i interval] [-p source_port] [-s source] [-w timeout] host port[-port]",
		"-l [-46dkNnuv] [-i interval] [-w timeout] [-s source] [host] port",
	},
	Long: `nc connects to a port of a host, sends what it reads from standard input and prints what comes back. With -l it waits for somebody to connect to it instead. It ends when the other end has finished sending; the end of standard input alone does not end it, but -N then tells the other end, which most servers answer by finishing too.

Ports are numbers or names of services(5). Several ports, 20-30, are tried one after the other; with -z nothing is sent, and every port that is open is reported on standard error.

With -u each piece that is read goes as one datagram, of at most 16384 octets, and there is no end that could be heard of: -w, or a signal, ends nc. A UDP port counts as open when a datagram to it is not refused within a second, or the time of -w. With -l -u nc talks to whoever sends first; with -k it prints what all of them send.

Options may also stand behind host and port. Nothing that nc carries is run: there is no -e.`,
	Options: []cli.Opt{
		{Flags: "-4, -6", Text: "IPv4 only, IPv6 only. A listener without them takes both."},
		{Flags: "-d", Text: "Do not read standard input."},
		{Flags: "-i interval", Text: "Wait so many seconds between lines that are sent, and between ports."},
		{Flags: "-k", Text: "With -l: serve one connection after the other. What is left of standard input goes to the next."},
		{Flags: "-l", Text: "Listen on the port."},
		{Flags: "-N", Text: "Shut down sending at the end of standard input."},
		{Flags: "-n", Text: "Neither look up names of hosts nor of ports."},
		{Flags: "-p source_port", Text: "The port to connect from, or to listen on."},
		{Flags: "-s source", Text: "The stack's own address to connect from, or to listen on."},
		{Flags: "-u", Text: "UDP instead of TCP."},
		{Flags: "-v", Text: "Say on standard error what happens."},
		{Flags: "-w timeout", Text: "Give up connecting after so many seconds, and end well when nothing has moved for so long. A listener waits for its first connection without limit."},
		{Flags: "-z", Text: "Only see which ports are open."},
	},
	ExitStatus: []cli.Exit{
		{Status: 0, Text: "The connection ended well; with -z and several ports: one of them at least is open."},
		{Status: 1, Text: "Wrong usage, no stack, no connection, or one that broke."},
	},
	Files: []cli.Item{{Name: services.File, Text: "Names of ports."}},
	Examples: []cli.Item{
		{Name: "nc -l 1234 >file", Text: "Receive a file …"},
		{Name: "nc -N 10.25 1234 <file", Text: "… that another stack sends."},
		{Name: "nc -6 -N fe80::25%en0 1234 <file", Text: "The same over IPv6, to a neighbour."},
		{Name: "nc -vz -w 2 10.25 20-25", Text: "Which of these ports are open?"},
		{Name: "echo hello | nc -u -w 1 10.25 7", Text: "A datagram, and what comes back within a second."},
	},
	SeeAlso: []string{"netstat(1)", "ionet-proxy(8)", "tcpdrop(8)"},
	Run:     command,
}

func command(ctx *cli.Context, args []string) int {
	o, err := Parse(args, services.Host())
	if err != nil {
		return ctx.Refuse(err)
	}
	o.Verbose = o.Verbose || ctx.Verbose
	s, err := client.Open(ctx.Sock)
	if err != nil {
		return ctx.Errorf("%v", err)
	}
	defer s.Close()
	c := ctx.Ctx
	if c == nil {
		c = context.Background() // a signal ends nc as it ends any filter
	}
	if err := Run(c, network{s}, o, IO{In: ctx.Stdin, Out: ctx.Stdout, Err: ctx.Stderr, Names: services.Host()}); err != nil {
		return ctx.Errorf("%v", err)
	}
	return 0
}

// network is a running stack.
type network struct{ *client.Stack }

// Dial is Network.
func (n network) Dial(ctx context.Context, network, local, addr string) (net.Conn, error) {
	return n.DialFromContext(ctx, network, local, addr)
}
