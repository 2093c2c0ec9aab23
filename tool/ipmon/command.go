// Package ipmon is the command ipmon: what the packet filter logs.
package ipmon

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"ionet/client"
	"ionet/protocol/door"
	"ionet/tool/background"
	"ionet/tool/cli"
	"ionet/tool/ruleset"
)

// Command is ipmon.
var Command = cli.Command{
	Name:  "ipmon",
	Short: "print what the packet filter logs",
	Synopsis: []string{
		"[-abDFhnpstvxX] [-B file] [-f log] [-L facility] [-N log] [-o NSI] [-O NSI] [-P file] [-S log] [file]",
	},
	Long: "The packet filter keeps three logs: of packets, as its rules say with log, of states that begin and end, and of sessions of address translation. ipmon reads " +
		"the first unless other options name others, and prints a line for each record as it comes: on standard output, or to the end of a file. A record goes to one reader. " +
		"What nobody reads waits, at most net.inet.ipf.logsize and ipnat_logsize records; how many were lost is said.\n\n" +
		"Of a packet: date, time, interface, @group:rule, what became of it (p passed, b blocked, L log alone, n matched by no rule; P and B: logged by net.inet.ipf.fr_flags; S before it: short), " +
		"source and destination with ports, PR and the protocol, len and the octets of its headers and of all of it; of TCP its flags, of ICMP type and code and the packet that it is about; " +
		"fragments as (frag id:octets@offset), with + if others follow; K-S and K-F if its rule keeps state and fragments; IN or OUT.\n\n" +
		"\t27/11/2026 03:12:45.123456 en0 @0:1 b 10.0.0.2,1024 -> 10.0.0.1,22 PR tcp len 20 60 -S IN\n\n" +
		"Of a state: STATE: and NEW, CLOSE (an ended connection), EXPIRE or REMOVE, its ends, and at its end what it has carried. Of a session: @rule, NAT: and MAP, RDR, BIMAP, MAPBLOCK, EXPIRE, FLUSH or EVICT " +
		"(it made room), inside <- -> outer [remote].\n\n" +
		"SIGHUP opens the files anew. ipmon ends with the stack, with its packet filter, and with SIGTERM or SIGINT, then with what has been read.",
	Options: []cli.Opt{
		{Flags: "-a", Text: "Read all logs."},
		{Flags: "-b", Text: "Below the line of a packet whose rule says log body: what follows its headers, in hexadecimal."},
		{Flags: "-B file", Text: "Append the records to a file too, as they are; -f, -N and -S read it again."},
		{Flags: "-D", Text: "Go to the background; a file or -s is needed."},
		{Flags: "-f log, -N log, -S log", Text: "Read packets, sessions, states from there: /dev/ipl, /dev/ipnat or /dev/ipstate is the stack's log, another name a file that -B or --json has written, - standard input."},
		{Flags: "-F", Text: "First throw away what waits in the three logs, and say how much it was."},
		{Flags: "-h", Text: "Say how ipmon is called."},
		{Flags: "-L facility", Text: "The facility for -s; local0 if not said."},
		{Flags: "-n", Text: "Show names of hosts, with their addresses, and of ports. The stack looks hosts up: that makes packets."},
		{Flags: "-o NSI", Text: "Read these logs: N sessions, S states, I packets."},
		{Flags: "-O NSI", Text: "Do not read these."},
		{Flags: "-p", Text: "With -n: ports stay numbers."},
		{Flags: "-P file", Text: "Write the process number there; with -D $SOCK/var/run/ipmon.pid if not said."},
		{Flags: "-s", Text: "Give the lines, without the date, to syslog: passed packets as notice, blocked ones as warning, others, states and sessions as info, short packets as err; what a rule says with level counts more."},
		{Flags: "-t", Text: "Go on at the end of a file that is read."},
		{Flags: "-v", Text: "Of TCP: also sequence number, acknowledgement and window."},
		{Flags: "-x", Text: "Below the line of a packet its octets in hexadecimal, as many as were logged."},
		{Flags: "-X", Text: "Below each line its record, as --json has it."},
	},
	JSON: "One object a line for each record: log (packets, states, nat), time (nanoseconds since 1970), event (of packets pass, block, log, nomatch). " +
		"Of packets: direction, interface, group, rule (its number, from 1), level, tag, anyway (by fr_flags), with (an array: keep-state, keep-frags, short, lowttl, oow, bad, nat, multicast, bcast), " +
		"length, packet (its first octets, base64). state: as ipfstat --json has it. session: as ipnat --json has it, and rule.",
	ExitStatus: []cli.Exit{
		{Status: 0, Text: "SIGTERM, SIGINT, or the end of the files."},
		{Status: 1, Text: "Wrong usage, no stack, no packet filter in it or no longer, a file that cannot be written, or no syslog."},
	},
	Files: []cli.Item{{Name: "/dev/log", Text: "Where syslog listens; else /var/run/syslog or /var/run/log."}},
	Examples: []cli.Item{
		{Name: "ipmon -a", Text: "All that is logged, as it comes."},
		{Name: "ipmon -Dsn", Text: "Packets that rules log, with names, to syslog."},
		{Name: "ipmon -D -a -P /run/ipmon.pid /var/log/ipmon; kill -HUP $(cat /run/ipmon.pid)", Text: "Keep a file, and begin it anew after it was renamed."},
		{Name: "ipmon -a --json | jq .state.rule", Text: "Hand records to a program."},
	},
	SeeAlso: []string{"ipf(8)", "ipfstat(8)", "ipnat(8)", "mount(1)", "sysctl(8)"},
	Run:     run,
}

func run(ctx *cli.Context, args []string) int {
	o, err := parse(args)
	switch {
	case err != nil:
		return ctx.Refuse(err)
	case o.usage:
		return ctx.Usage(nil)
	}
	o.verbose = o.verbose || ctx.Verbose
	var ready *os.File
	if o.daemon {
		if background.Stage() != background.Detached {
			err := background.Start()
			if e, said := errors.AsType[*background.EndedError](err); said {
				return e.Status
			}
			if err != nil {
				return ctx.Errorf("cannot go to the background: %v", err)
			}
			return 0
		}
		ready = background.Ready()
		background.Forget()
	}
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	defer signal.Stop(hup)
	c, stop := ctx.Interruptible()
	defer stop()
	t := &tool{ctx: c, o: o, json: ctx.JSON, hup: hup, stdin: ctx.Stdin, zone: time.Local}
	if o.stack() {
		s, err := client.Open(ctx.Sock)
		if err != nil {
			return ctx.Errorf("%v", err)
		}
		defer s.Close()
		t.stack = remote{s}
	}
	pid, err := takePID(ctx, o)
	if err != nil {
		return ctx.Errorf("%v", err)
	}
	if pid != nil {
		defer pid.Remove()
	}
	if t.out, err = open(o, ctx.Stdout); err != nil {
		return ctx.Errorf("%v", err)
	}
	defer t.out.close()
	if o.flush {
		if err := t.flush(ctx.Stdout); err != nil {
			return ctx.Errorf("%s", ruleset.Reason(err))
		}
	}
	if o.daemon {
		t.serves = func() { background.Serve(ready, true) }
	}
	err = t.do()
	if err == nil {
		return 0
	}
	if o.daemon && t.serves == nil { // standard error is nobody's any more
		_ = t.out.write(severityCrit, fmt.Appendf(nil, "ipmon: %v", err))
		return 1
	}
	return ctx.Errorf("%v", err)
}

// takePID makes the file with the process number, if there is to be one.
func takePID(ctx *cli.Context, o *options) (*background.PIDFile, error) {
	path := o.pid
	if path == "" {
		prefix, err := client.Find(ctx.Sock)
		if !o.daemon || err != nil { // without a stack there is no such place
			return nil, nil
		}
		path = door.Path(prefix, "var/run/ipmon.pid")
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return nil, err
		}
	}
	return background.TakePIDFile(path)
}
