package route

import (
	"bufio"
	"context"
	"io"
	"os"
	"time"

	"ionet/client"
	"ionet/tool/cli"
)

// Command is route.
var Command = cli.Command{
	Name:  "route",
	Short: "change, ask and watch the routing table",
	Synopsis: []string{
		"[-dfnqtv] add|change|delete|get [modifiers] destination [gateway [netmask]]",
		"[-dnqv] flush|show|monitor [-inet|-inet6]",
		"[-dfnqtv] -b file",
	},
	Long: `The destination is a host or a network. "default" is the network of all addresses. Numbers of a host are read as inet_aton reads them: 10.25 is the host 10.0.0.25. Numbers of a network (-net, or a netmask given) stand at the left: 10.25 is 10.25.0.0. Without -host or -net, a number whose host part is zero by its class is a network, every other one a host. 10.1/16 is a network with a prefix length.

Without a netmask a network has that of its class.

add, change and delete print what they did with the words as typed; a failure follows behind a colon, and what the stack answered stands on standard error. get prints the route that packets to the destination take, show the table in three columns (netstat -rn has the others), flush deletes every route through a gateway, monitor prints messages of the routing socket as they come; those with LLINFO are of neighbours.

Unlike the original, which always exits 0, this route exits 1 when an add, change, delete or get fails.`,
	Options: []cli.Opt{
		{Flags: "-f", Text: "Flush the table first; alone it is flush."},
		{Flags: "-n", Text: "Print numbers, look no names up."},
		{Flags: "-q", Text: "Print failures only."},
		{Flags: "-v", Text: "Print the messages that are sent and received."},
		{Flags: "-d", Text: "Read everything, send nothing; with monitor, print the list of interfaces and end."},
		{Flags: "-t", Text: "Send nothing and need no stack: a check of the command line."},
		{Flags: "-b file", Text: `Read commands from file ("-" is standard input), one a line: add, delete or change with their words; # begins a comment. They are sent many at a time; a line that fails is told with its number and the others go on. After two seconds the progress is told on standard error.`},
		{Flags: "-inet, -inet6, -link", Text: "The family of the addresses."},
		{Flags: "-net, -host", Text: "The destination is a network, a host."},
		{Flags: "-netmask mask, -prefixlen bits", Text: "The netmask of the destination."},
		{Flags: "-interface, -iface", Text: "The destination is reached directly: the gateway is an interface's name or its address."},
		{Flags: "-static, -nostatic", Text: "The route was, was not made by hand."},
		{Flags: "-reject, -blackhole", Text: "Refuse packets with an ICMP error, silently."},
		{Flags: "-mpath", Text: "Add the route beside those to the same destination; flows are shared among equal routes."},
		{Flags: "-cloning, -llinfo, -xresolve, -proto1, -proto2", Text: "Set the flag of that name."},
		{Flags: "-ifp name, -ifa address, -genmask mask", Text: "The interface, the own address, the netmask of clones."},
		{Flags: "-mtu, -hopcount, -recvpipe, -sendpipe, -ssthresh, -rtt, -rttvar number", Text: "A metric of the route."},
		{Flags: "-expire seconds", Text: "When the route ends: seconds since 1970, or +seconds from now."},
		{Flags: "-lock, -lockrest", Text: "The stack may not change the next metric, all following metrics."},
	},
	JSON: `get prints one object, show an array of them, monitor one object a line.

A route has family, destination (a complete prefix), gateway, interface, local (own address), flags (array of names), mtu, expire (seconds left), use; get adds metrics (recvpipe, sendpipe, ssthresh, rtt, rttvar, hopcount, locks).

A message has time (RFC 3339), type ("RTM_ADD"), and what it carries: pid, seq, error, route; interface, index, flags, address, broadcast; what ("arrival", "departure"); lost (messages).`,
	ExitStatus: []cli.Exit{
		{Status: 0, Text: "Success."},
		{Status: 1, Text: "Wrong usage, no stack, or a change that failed. (The original exits 0 when a change fails.)"},
	},
	Examples: []cli.Item{
		{Name: "route add default 10.25", Text: "Send everything else through 10.0.0.25."},
		{Name: "route add -net 10.25 -netmask 255.255.0.0 10.0.0.1", Text: "Reach 10.25.0.0/16 through 10.0.0.1."},
		{Name: "route -n monitor", Text: "Watch the table change."},
	},
	SeeAlso: []string{"netstat", "ifconfig", "arp"},
	Run:     run,
}

func run(ctx *cli.Context, args []string) int {
	flags, rest, err := cli.Getopt("fnqvdtb:", args)
	if err != nil {
		return ctx.Fail(1, "%v\n%s", err, Usage)
	}
	t := &tool{out: bufio.NewWriterSize(ctx.Stdout, 64<<10), err: ctx.Stderr, now: time.Now}
	t.json, t.verbose = ctx.JSON, ctx.Verbose
	for _, f := range flags {
		switch f.Name {
		case "f":
			t.flush = true
		case "n":
			t.numeric = true
		case "q":
			t.quiet = true
		case "v":
			t.verbose = true
		case "d":
			t.debug = true
		case "t":
			t.test = true
		case "b":
			t.batch = f.Value
		}
	}
	t.openFile = func(name string) (io.ReadCloser, error) {
		if name == "-" {
			return io.NopCloser(ctx.Stdin), nil
		}
		return os.Open(name)
	}
	var stack *client.Stack
	defer func() {
		if stack != nil {
			stack.Close()
		}
	}()
	t.table = func() (table, error) {
		s, err := client.Open(ctx.Sock)
		if err != nil {
			return nil, err
		}
		stack = s
		return s, nil
	}
	t.socket = func() (socket, error) {
		s, err := client.OpenRoute(ctx.Sock)
		if err != nil {
			return nil, err
		}
		return s, nil
	}
	c, stop := ctx.Interruptible()
	defer stop()
	if len(rest) > 0 && rest[0] == "monitor" {
		return t.monitored(c, rest)
	}
	return t.run(c, rest)
}

// monitored runs monitor until it is interrupted, which is how it ends well.
func (t *tool) monitored(ctx context.Context, args []string) int {
	open := t.socket
	t.socket = func() (socket, error) {
		s, err := open()
		if err == nil {
			context.AfterFunc(ctx, func() { s.Close() })
		}
		return s, err
	}
	status := t.run(ctx, args)
	if ctx.Err() != nil {
		return 0
	}
	return status
}
