package ndp

import (
	"context"
	"errors"
	"io"
	"os"
	"time"

	"ionet/client"
	"ionet/protocol"
	"ionet/tool/cli"
)

// Command is ndp.
var Command = cli.Command{
	Name:  "ndp",
	Short: "show and change IPv6 neighbours, routers and prefixes",
	Synopsis: []string{
		"[-nlt] hostname",
		"[-nlt] -a",
		"[-nlt] -A wait",
		"[-n] -c",
		"[-n] -d hostname",
		"-f file",
		"-H",
		"-I [delete|interface]",
		"-i interface [flags ...]",
		"-P",
		"[-n] -p",
		"-R",
		"[-n] -r",
		"-s nodename ether_addr [temp] [proxy]",
	},
	Long: "ndp shows which link address belongs to an IPv6 address, on which interface (Netif), when the entry ends or is asked for again (Expire), " +
		"and how reachable the neighbour is (S):\n\n" +
		"\tI  incomplete: asked, and not answered yet\n" +
		"\tR  reachable, or made by hand\n" +
		"\tS  stale: was reachable, and is used without asking until somebody sends\n" +
		"\tD  delay: somebody sends, and a sign of life from above is waited for\n" +
		"\tP  probe: it is asked\n\n" +
		"Flgs is R for a router and p for an address that the stack answers for (proxy); a number behind it counts the questions without an answer.\n\n" +
		"An address of one link has its interface behind it: fe80::1%en0.",
	Options: []cli.Opt{
		{Flags: "-a", Text: "Show all entries."},
		{Flags: "-A wait", Text: "Show all entries every wait seconds."},
		{Flags: "-c", Text: "Delete all entries that were not made by hand."},
		{Flags: "-d", Text: "Delete the host's entry."},
		{Flags: "-f file", Text: `Make the entries of a file, one a line as behind -s; # begins a comment. "-" is standard input.`},
		{Flags: "-H", Text: "Bring the routing table in line with the list of default routers. This stack keeps them so: nothing changes."},
		{Flags: "-I", Text: "Show where destinations are looked for while there is no router; with an interface, choose it; with delete, choose none."},
		{Flags: "-i interface", Text: "Show how neighbours are found on an interface. Flags change that: nud (ask whether neighbours are reachable), accept_rtadv (believe routers), prefer_source (take source addresses of this interface first); with '-' before a flag it is cleared."},
		{Flags: "-l", Text: "Cut no address short."},
		{Flags: "-n", Text: "Print numbers, look no names up."},
		{Flags: "-P", Text: "Forget the prefixes that routers have told of, and the addresses made of them."},
		{Flags: "-p", Text: "Show the prefixes, with the routers that told of them. The flags are L (on the link), A (addresses are made of it), O (in use), D (detached: none of its routers is reachable)."},
		{Flags: "-R", Text: "Forget the default routers."},
		{Flags: "-r", Text: "Show the default routers. The flags are M (addresses by DHCPv6) and O (other things by DHCPv6)."},
		{Flags: "-s", Text: "Make an entry, permanent unless temp is said: that one lives for 20 minutes. proxy: answer others who ask for it."},
		{Flags: "-t", Text: "Begin each entry with the time."},
	},
	JSON: "An array. Of neighbours: address, link (missing: incomplete), interface, expire (seconds left, 0 when permanent), permanent, published, proxy_only, refs, use, " +
		"family, state (\"INCOMPLETE\", \"REACHABLE\", \"STALE\", \"DELAY\", \"PROBE\", \"PERMANENT\"), router, probes. " +
		"-p: prefix, interface, on_link, autonomous, detached, pltime, vltime (seconds as told, -1 for ever), expire (seconds left, -1 never), refs, routers. " +
		"-r: address, interface, flags, managed, other, preference, lifetime, expire, default (in use). " +
		"-i: interface, linkmtu, maxmtu, curhlim, basereachable, reachable, retrans (milliseconds), flags (ND6_IFF_*).",
	ExitStatus: []cli.Exit{
		{Status: 0, Text: "Success."},
		{Status: 1, Text: "Wrong usage, no stack, no such entry, or a change that failed."},
	},
	Examples: []cli.Item{
		{Name: "ndp -an", Text: "All neighbours, without names."},
		{Name: "ndp -s fe80::25%en0 0:50:da:1:2:3", Text: "This neighbour has this link address, for good."},
		{Name: "ndp -i en0 -accept_rtadv", Text: "Believe no router on en0."},
	},
	SeeAlso: []string{"arp(8)", "ifconfig(8)", "ip6addrctl(8)", "netstat(1)", "ping6(8)", "route(8)", "rtsol(8)"},
	Run:     run,
}

// stack adds the tables to a client.
type stack struct{ *client.Stack }

func (s stack) Neighbours() ([]protocol.NeighbourRow, error) {
	return client.Table[protocol.NeighbourRow](s.Stack, protocol.TableNeighbours, "")
}

func (s stack) Prefixes() ([]protocol.PrefixRow, error) {
	return client.Table[protocol.PrefixRow](s.Stack, protocol.TablePrefixes, "")
}

func (s stack) Routers() ([]protocol.RouterRow, error) {
	return client.Table[protocol.RouterRow](s.Stack, protocol.TableRouters, "")
}

func (s stack) ND(name string) ([]protocol.NDIfRow, error) {
	return client.Table[protocol.NDIfRow](s.Stack, protocol.TableND, name)
}

func run(ctx *cli.Context, args []string) int {
	r, err := parse(args)
	if err != nil {
		return ctx.Usage(err)
	}
	if ctx.JSON && !r.shows() {
		return ctx.Usage(errors.New("--json is there for showing neighbours, prefixes, routers and interfaces"))
	}
	s, err := client.Open(ctx.Sock)
	if err != nil {
		return ctx.Errorf("%v", err)
	}
	defer s.Close()
	c, stop := ctx.Interruptible()
	defer stop()
	t := &tool{out: ctx.Stdout, err: ctx.Stderr, json: ctx.JSON, stack: stack{s}, now: time.Now, wait: wait,
		change: func() (changer, error) {
			r, err := client.OpenRoute(ctx.Sock)
			if err != nil {
				return nil, err
			}
			return r, nil
		},
		openFile: func(name string) (io.ReadCloser, error) {
			if name == "-" {
				return io.NopCloser(ctx.Stdin), nil
			}
			return os.Open(name)
		}}
	switch err := t.do(c, r); {
	case errors.Is(err, errSaid):
		return 1
	case err != nil:
		return ctx.Errorf("%v", err)
	}
	return 0
}

// shows says that the request prints a table.
func (r *request) shows() bool {
	switch r.mode {
	case modeGet, modeAll, modePrefixes, modeRouters:
		return true
	case modeIf:
		return len(r.flags) == 0
	}
	return false
}

func wait(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}
