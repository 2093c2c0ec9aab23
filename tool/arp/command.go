package arp

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"
	"time"

	"ionet/client"
	"ionet/protocol"
	"ionet/tool/cli"
)

// Command is arp.
var Command = cli.Command{
	Name:  "arp",
	Short: "show and change the table of neighbours",
	Synopsis: []string{
		"[-nv] [-p path] hostname",
		"[-nv] [-p path] -a",
		"[-p path] -d hostname",
		"[-n] [-p path] -d -a",
		"[-p path] -s hostname ether_addr [temp] [pub] [proxy [interface]]",
		"-f file",
	},
	Long: `arp shows which Ethernet address belongs to an IPv4 address. "(incomplete)" is an entry whose owner has not answered yet, "permanent" one made by hand, "published" one that the stack answers for, "(proxy only)" one that it answers for and does not use itself.

-n alone shows all entries, as -an does.`,
	Options: []cli.Opt{
		{Flags: "-a", Text: "Show all entries; with -d delete all."},
		{Flags: "-d", Text: "Delete the host's entry."},
		{Flags: "-s", Text: "Make an entry, permanent unless temp is said: that one lives for 20 minutes. pub: answer others who ask for it. proxy: answer others, but do not use it."},
		{Flags: "-f file", Text: `Make the entries of a file, one a line as behind -s; # begins a comment. "-" is standard input. Only with the built-in ARP.`},
		{Flags: "-n", Text: "Print numbers, look no names up."},
		{Flags: "-v", Text: "Show the interface too."},
		{Flags: "-p path", Text: "The file of an external ARP module (option external_arp), as dev/io-net/ip_en."},
	},
	JSON: "An array of entries: address, link (missing: incomplete), interface, expire (seconds left, 0 when permanent), permanent, published, proxy_only, refs, use, family (\"inet\").",
	ExitStatus: []cli.Exit{
		{Status: 0, Text: "Success."},
		{Status: 1, Text: "Wrong usage, no stack, no such entry, or a change that failed."},
	},
	Examples: []cli.Item{
		{Name: "arp -an", Text: "All entries, without names."},
		{Name: "arp -s 10.25 0:50:da:1:2:3", Text: "10.0.0.25 has this Ethernet address, for good."},
	},
	SeeAlso: []string{"ifconfig(8)", "ndp(8)", "netstat(1)", "route(8)"},
	Run:     run,
}

// stack adds the table to a client.
type stack struct{ *client.Stack }

func (s stack) Neighbours() ([]protocol.NeighbourRow, error) {
	return client.Table[protocol.NeighbourRow](s.Stack, protocol.TableNeighbours, "")
}

func run(ctx *cli.Context, args []string) int {
	r, err := parse(args)
	if err != nil {
		return ctx.Usage(err)
	}
	if ctx.JSON && r.mode != modeGet && r.mode != modeAll {
		return ctx.Usage(errors.New("--json is there for showing entries"))
	}
	r.verbose = r.verbose || ctx.Verbose
	sock := ctx.Sock
	if r.path != "" {
		if sock, err = modulePrefix(r.path, sock); err != nil {
			return ctx.Errorf("%v", err)
		}
	}
	s, err := client.Open(sock)
	if err != nil {
		return ctx.Errorf("%v", err)
	}
	defer s.Close()
	c, stop := ctx.Interruptible()
	defer stop()
	t := &tool{out: ctx.Stdout, err: ctx.Stderr, json: ctx.JSON, table: stack{s}, now: time.Now,
		change: func() (changer, error) {
			r, err := client.OpenRoute(sock)
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

// modulePrefix finds the stack that the file of an external ARP module
// belongs to. The original's /dev/io-net/ip_en is looked for below the
// stack's prefix.
func modulePrefix(file, sock string) (string, error) {
	prefix, err := client.Find(sock)
	if err != nil {
		return "", err
	}
	tried := path.Clean(file)
	for _, p := range []string{tried, prefix + tried} {
		dir, name := path.Split(p)
		head, ok := strings.CutSuffix(strings.TrimRight(strings.TrimSuffix(dir, "/"), "0123456789"), "/dev/io-net")
		if _, err := os.Lstat(p); err != nil || !ok || !strings.HasPrefix(name, "ip_en") {
			continue
		}
		if head == "" {
			head = "/"
		}
		return head, nil
	}
	return "", fmt.Errorf("%s is no external ARP module: a file like dev/io-net/ip_en, which io-net makes with -ptcpip external_arp", file)
}
