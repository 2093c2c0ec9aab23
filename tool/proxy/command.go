package proxy

import (
	"context"
	"fmt"
	"log/slog"

	"ionet/client"
	"ionet/tool/cli"
)

// Command is ionet proxy.
var Command = cli.Command{
	Name:  "proxy",
	Word:  true,
	Short: "lead connections of the host into the stack, and back",
	Synopsis: []string{
		"[-v] [--listen address] [--max connections] [-L [bind:]port:host:hostport] ... [-R [bind:]port:host:hostport] ...",
	},
	Long: `proxy listens on a port of the host, and programs that know nothing of the stack reach through it what the stack reaches: browsers, curl, git, ssh. On that one port it speaks SOCKS5 (RFC 1928: CONNECT, and UDP ASSOCIATE) and HTTP (CONNECT, and requests with a whole URI); the first octet tells which. Names are looked up by the stack. There is no password: whoever reaches the port reaches the stack, so that it is open to this host alone unless --listen says otherwise.

-L leads a port of the host to one place in the stack's network, -R a port of the stack to one place in the host's, both as ssh(1) has them and as often as wanted. Without bind a port of the host is open to this host, a port of the stack to its whole network; "*" is any address.

The end of one direction is passed on as such, and so is a connection that is broken off. Who says nothing within ten seconds is let go. proxy runs until SIGINT or SIGTERM, or until the stack ends; what happens is logged on standard error.`,
	Options: []cli.Opt{
		{Flags: "-L [bind:]port:host:hostport", Text: "Lead this port of the host to a host and port in the stack's network."},
		{Flags: "--listen address", Text: "Where SOCKS5 and HTTP are spoken: an address with a port, a port of 127.0.0.1, or none; " + defaultListen + " if not said."},
		{Flags: "--max connections", Text: fmt.Sprintf("So many connections at once, %d if not said; more of them wait.", defaultMax)},
		{Flags: "-R [bind:]port:host:hostport", Text: "Lead this port of the stack to a host and port in the host's network."},
		{Flags: "-v", Text: "Log each connection too."},
	},
	JSON: "The log as one object a line, on standard error as without: time, level, msg (\"listening\", \"associated\", \"connected\", \"request\", \"closed\", \"broken off\", \"datagram dropped\", \"failed\") and, as they apply, " +
		"address, serves, via (\"socks5\", \"http\", \"-L\", \"-R\"), from, at, to, method, sent and received (octets), datagrams_in and datagrams_out, error.",
	ExitStatus: []cli.Exit{
		{Status: 0, Text: "A signal ended it."},
		{Status: 1, Text: "Wrong usage, no stack or one that has ended, or a port that it could not listen on."},
	},
	Examples: []cli.Item{
		{Name: "ionet proxy &", Text: "SOCKS5 and HTTP on " + defaultListen + " …"},
		{Name: "curl -x socks5h://" + defaultListen + " http://10.0.0.25/", Text: "… for curl, the name or address being the stack's."},
		{Name: "ionet proxy --listen none -L 8080:10.0.0.25:80", Text: "http://127.0.0.1:8080/ is the web server at 10.0.0.25."},
		{Name: "ionet proxy --listen none -R 22:127.0.0.1:22", Text: "ssh to the stack's address reaches this host."},
	},
	SeeAlso: []string{"nc(1)", "io-net(8)"},
	Run:     run,
}

func run(ctx *cli.Context, args []string) int {
	o, err := Parse(args)
	if err != nil {
		return ctx.Refuse(err)
	}
	s, err := client.Open(ctx.Sock)
	if err != nil {
		return ctx.Errorf("%v", err)
	}
	defer s.Close()
	level := slog.LevelInfo
	if o.Verbose || ctx.Verbose {
		level = slog.LevelDebug
	}
	var handler slog.Handler = slog.NewTextHandler(ctx.Stderr, &slog.HandlerOptions{Level: level})
	if ctx.JSON {
		handler = slog.NewJSONHandler(ctx.Stderr, &slog.HandlerOptions{Level: level})
	}
	c, stop := ctx.Interruptible()
	defer stop()
	c, cancel := context.WithCancel(c)
	defer cancel()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		select {
		case <-s.Done():
			cancel()
		case <-c.Done():
		}
	}()
	err = Run(c, s, Host{}, o, slog.New(handler))
	cancel()
	<-ended
	if gone := s.Err(); gone != nil {
		err = fmt.Errorf("the stack has ended: %w", gone)
	}
	if err != nil {
		return ctx.Errorf("%v", err)
	}
	return 0
}
