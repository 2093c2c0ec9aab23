// Package ippool is the command ippool: the pools of addresses that rules name.
package ippool

import (
	"context"
	"strings"

	"ionet/client"
	"ionet/protocol"
	"ionet/tool/cli"
	"ionet/tool/ruleset"
)

// Command is ippool.
var Command = cli.Command{
	Name:  "ippool",
	Short: "change and show the pools of addresses of the packet filter",
	Synopsis: []string{
		"-a [-dnv] -m name [-o role] [-t type] -i address ...",
		"-r [-dnv] -m name [-o role] [-t type] -i address ...",
		"-A [-dnv] -m name [-o role] [-S seed] [-t type]",
		"-R [-dnv] -m name [-o role] [-t type]",
		"-f file [-dnuv]",
		"-F [-dnv] [-o role] [-t type]",
		"-l [-v] [-m name] [-o role] [-t type]",
		"-s",
	},
	Long: "A pool is a set of networks that rules ask about: pool/NAME, hash/NAME, and group-maps, which choose a group of rules by an address. Files are in the language of ippool(5); " +
		"a million entries are at home in a pool. mount -Ttcpip lsm-ipfilter.so loads the packet filter, which has them.\n\n" +
		"A command line is one change: a fault in any line of the file, FILE:LINE:COLUMN: what is wrong, leaves everything as it was. Names and numbers are one space, whatever role and type; " +
		"-o and -t with a pool that is there say what it must be.",
	Options: []cli.Opt{
		{Flags: "-a", Text: "Put addresses into a pool."},
		{Flags: "-r", Text: "Take addresses out of a pool, written as ippool -l shows them."},
		{Flags: "-A", Text: "Make an empty pool. The role is ipf and the type tree, if nothing is said."},
		{Flags: "-R", Text: "Remove a pool. Rules that name it match nothing."},
		{Flags: "-f file", Text: "Load the pools of a file, each in the place of the one of its name; - is standard input. May be said several times."},
		{Flags: "-u", Text: "With -f: remove the pools that the file names."},
		{Flags: "-F", Text: "Remove all pools, or those of a role and a type, and say how many."},
		{Flags: "-l", Text: "List pools in the language of files."},
		{Flags: "-s", Text: "Show how many pools and entries there are."},
		{Flags: "-i address", Text: "An address or a network, a name for all its addresses, with ! before it one that is not in the pool. May be said several times. In a group-map also 'network, group = G'."},
		{Flags: "-m name", Text: "The pool's name or number."},
		{Flags: "-o role", Text: "ipf, nat, auth, count or all."},
		{Flags: "-S seed", Text: "The seed of a hash: a hint, which is kept."},
		{Flags: "-t type", Text: "tree, hash, or, of pools that are there, group-map."},
		{Flags: "-n", Text: "Change nothing: check what is asked for."},
		{Flags: "-v", Text: "Of a change: how many entries each pool of a file has. With -l: entries and hits of each pool, as a comment."},
		{Flags: "-d", Text: "Print the pools of a file as they are understood."},
	},
	JSON: "-l: one object a line for each pool: name, kind (tree, hash, group-map), role, of a group-map direction and group, of a hash size and seed, hits (addresses that were asked for and in it), entries (an array of networks, with ! before those that are not in it, " +
		"in a group-map with their group). -s: one object: pools, pool_entries, hashes, hash_entries, group_maps, group_map_entries, hits.",
	ExitStatus: []cli.Exit{
		{Status: 0, Text: "Success."},
		{Status: 1, Text: "Wrong usage, a fault in a file, no stack, no packet filter in it, no such pool, or a change that failed."},
	},
	Files: []cli.Item{{Name: "/etc/ippool.conf", Text: "Where pools usually are."}},
	Examples: []cli.Item{
		{Name: "ippool -f /etc/ippool.conf", Text: "Load pools, or load them anew."},
		{Name: "ippool -A -m 10; ippool -a -m 10 -i 10.0.0.0/8 -i '!10.1.0.0/16'", Text: "A pool of network 10 without 10.1; rules ask for pool/10."},
		{Name: "ippool -l -m 10", Text: "What is in it."},
	},
	SeeAlso: []string{"ipf(8)", "ipfstat(8)", "ipnat(8)", "mount(1)"},
	Run:     run,
}

// Stack is what ippool asks of a stack; *client.Stack answers all but the tables.
type Stack interface {
	ruleset.Resolver
	// EditRulesTold is EditRules that says how many steps have been sent.
	EditRulesTold(language uint8, steps []protocol.RuleStep, sent func(n int)) (took []int, err error)
	Pools() ([]protocol.PoolRow, error)
	Entries(pool string) ([]protocol.PoolEntryRow, error)
}

// remote is a running stack.
type remote struct{ *client.Stack }

func (r remote) Pools() ([]protocol.PoolRow, error) {
	return client.Table[protocol.PoolRow](r.Stack, protocol.TablePools, "")
}

func (r remote) Entries(pool string) ([]protocol.PoolEntryRow, error) {
	return client.Table[protocol.PoolEntryRow](r.Stack, protocol.TablePoolEntries, pool)
}

func run(ctx *cli.Context, args []string) int {
	o, err := parse(args)
	if err == nil && ctx.JSON && o.command != "l" && o.command != "s" {
		err = cli.Misuse("--json is there for -l and -s")
	}
	if err != nil {
		return ctx.Refuse(err)
	}
	o.verbose = o.verbose || ctx.Verbose
	c, stop := ctx.Interruptible()
	defer stop()
	var s *client.Stack
	defer func() {
		if s != nil {
			s.Close()
		}
	}()
	t := tool{ctx: c, out: ctx.Stdout, progress: ctx.Stderr, json: ctx.JSON, read: func(path string) (string, []byte, error) { return ruleset.Read(ctx, path) },
		open: func() (Stack, error) {
			if s == nil {
				if s, err = client.Open(ctx.Sock); err != nil {
					return nil, err
				}
				context.AfterFunc(c, func() { s.Close() }) // a signal ends a long change
			}
			return remote{s}, nil
		}}
	if err := t.do(o); err != nil {
		for line := range strings.SplitSeq(err.Error(), "\n") {
			ctx.Errorf("%s", line)
		}
		return 1
	}
	return 0
}
