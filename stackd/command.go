// Package stackd is the daemon io-net: a stack of package host, served to
// clients through the doors below $prefix/dev, with its files, its log, its
// privileges, its birth and its death.
package stackd

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"strconv"
	"time"

	"github.com/olekukonko/tablewriter"
	"golang.org/x/sys/unix"

	"ionet/protocol"
	"ionet/protocol/door"
	"ionet/tool/background"
	"ionet/tool/cli"
)

// Command is io-net.
var Command = cli.Command{
	Name:     "io-net",
	Section:  8,
	Short:    "run a network stack",
	Synopsis: []string{"[-avms] [-f] [--restart] [-i instance] [-C size] [-c 0] [-d driver [options]]... -p protocol [options]... [-t threads]", "--stop", "--show [--json] [-p protocol [options]]"},
	Long: `io-net runs a TCP/IP stack in a process of its own and goes to the background when the stack answers. The tools reach it through the sockets below prefix/dev/socket; they find it by --sock, SOCK, or the user's own folder.

The options of a driver or protocol are one word, parted by commas, right after its name. A driver may be named by its file (devn-ne2000.so), a protocol too (npm-tcpip-v6.so). tcpip is tcpip-v6; tcpip-v4 has no IPv6 and no IPsec.`,
	Options: []cli.Opt{
		{Flags: "-a", Text: "No automatic loading of converters. They are part of the stack: no effect."},
		{Flags: "-C size", Text: "Message context size of each thread. No effect."},
		{Flags: "-c 0", Text: "No caching of packet buffers, to find errors in their use."},
		{Flags: "-d driver [options]", Text: "Load a driver: wire, tap, packet, xdp, qemu, impair, or the name of QNX hardware, which wire or IONET_HARDWARE stands in for. May be given several times."},
		{Flags: "-f, --foreground", Text: "Stay in the foreground and log to standard error too."},
		{Flags: "-i instance", Text: "The entries are in dev/io-netN instead of dev/io-net."},
		{Flags: "-m", Text: "Allow groups on the entries. No effect."},
		{Flags: "-p protocol [options]", Text: "Load the protocol: tcpip, tcpip-v6 or tcpip-v4. Options: cache=0 external_arp fastforward[=n] forward forward6 ipsec pfil_ipsec prefix=path random recv_ctxt=n reuseport_unicast rx_pulse_prio=n somaxconn=n stacksize=n strict_rfc threads_incr=n threads_max=n threads_min=n timer_pulse_prio=n. --show says which of them act."},
		{Flags: "--restart", Text: "Start the stack again when it has crashed, with its configuration, and log the reason."},
		{Flags: "-s", Text: "Static: no mount and no umount after the command line."},
		{Flags: "--show", Text: "Show every option with its value and whether it acts: those of the command line, else those of the running stack."},
		{Flags: "--stop", Text: "End the running stack and wait until it is gone."},
		{Flags: "-t threads", Text: "Threads that serve clients (threads_min)."},
		{Flags: "-v", Text: "Log more."},
	},
	JSON: `{"module": "tcpip-v6", "name": "forward", "value": "true", "given": true, "acts": true, "note": "…"}, one object a line`,
	Files: []cli.Item{
		{Name: "prefix/dev/socket/2, 17", Text: "where the tools connect"},
		{Name: "prefix/dev/io-net/en0", Text: "an interface, while it is there"},
		{Name: "prefix/var/log/io-net.log", Text: "the log"},
		{Name: "prefix/var/run/io-net.state", Text: "the configuration that --restart replays"},
	},
	Env: []cli.Item{
		{Name: "IONET_HARDWARE", Text: "the driver that stands in for QNX hardware, with its options, such as tap,name=tap0"},
		{Name: "NOTIFY_SOCKET", Text: "told READY=1 when the stack answers (systemd)"},
	},
	Examples: []cli.Item{
		{Name: "io-net -dne2000 -ptcpip forward", Text: "a router with one interface on the user's segment 0"},
		{Name: "io-net -i1 -ptcpip prefix=/alt", Text: "a second stack"},
	},
	Run: run,
}

func run(ctx *cli.Context, args []string) int {
	o, err := ParseOptions(args)
	if err != nil {
		return ctx.Usage(err)
	}
	if ctx.Sock != "" {
		o.Sock = ctx.Sock
	}
	o.JSON = o.JSON || ctx.JSON
	if ctx.Verbose {
		o.Verbose = max(o.Verbose, 1)
	}
	switch {
	case o.Stop:
		err = stopStack(o.Sock)
	case o.Show:
		err = show(ctx.Stdout, o)
	default:
		err = live(ctx.Stderr, o)
	}
	switch {
	case err == nil:
		return 0
	case errors.Is(err, errSaid):
		return 1
	}
	return ctx.Errorf("%v", err)
}

// live is an io-net that starts a stack, at whatever stage this process is.
func live(stderr io.Writer, o Options) error {
	stage := background.Stage()
	d, err := configure(o)
	switch {
	case err != nil:
		return err
	case stage == "" && !o.Foreground:
		return goBackground()
	case o.Restart && stage != stageStack:
		s := supervisor{logPath: d.paths.log(), sleep: background.Pause}
		return s.run(o.Foreground)
	}
	ready := background.Ready()
	if os.Getpid() == 1 {
		stop := make(chan struct{})
		defer close(stop)
		go reapOrphans(stop)
	}
	signal.Ignore(unix.SIGHUP, unix.SIGPIPE)
	ends, undo := signals()
	defer undo()
	if err := d.start(stderr, o.Foreground); err != nil {
		return err
	}
	if stage == background.Detached {
		d.file.TakeStderr()
	}
	tellReady(ready, stage == background.Detached)
	os.Chdir("/")
	d.wait(ends)
	notify("STOPPING=1")
	d.close()
	return nil
}

// stopWait bounds how long --stop waits for the stack to be gone.
const stopWait = 30 * time.Second

// stopStack ends the stack that sock, or the usual search, names.
func stopStack(sock string) error {
	prefix, err := door.Find(sock)
	if err != nil {
		return err
	}
	a, err := ask(prefix)
	if err != nil {
		return err
	}
	defer a.conn.Close()
	if _, err := a.request(protocol.TypeStop, nil); err != nil {
		return err
	}
	// The connection outlives the stack's last file.
	a.conn.SetReadDeadline(time.Now().Add(stopWait))
	_, err = a.conn.Read(make([]byte, 1))
	var late net.Error
	if errors.As(err, &late) && late.Timeout() {
		return fmt.Errorf("the stack at %s was told to end and has not after %v", paths{prefix: prefix}.name(), stopWait)
	}
	return nil
}

// show prints options: those of the command line if it names a protocol,
// else those of the running stack, else the defaults.
func show(w io.Writer, o Options) error {
	var rows []protocol.OptionRow
	if ps := o.Protocols(); len(ps) > 0 {
		t, err := ParseTCPIP(ps[0].Name, ps[0].Options)
		if err != nil {
			return err
		}
		rows = append(o.Rows(), t.Rows()...)
	} else if prefix, err := door.Find(o.Sock); err == nil {
		a, err := ask(prefix)
		if err != nil {
			return err
		}
		defer a.conn.Close()
		if rows, err = a.options(); err != nil {
			return err
		}
	} else if errors.Is(err, door.ErrNoStack) {
		t := DefaultTCPIP()
		rows = append(o.Rows(), t.Rows()...)
	} else {
		return err
	}
	if o.JSON {
		enc := json.NewEncoder(w)
		for _, r := range rows {
			if err := enc.Encode(r); err != nil {
				return err
			}
		}
		return nil
	}
	t := tablewriter.NewWriter(w)
	t.Header("module", "option", "value", "given", "acts", "note")
	for _, r := range rows {
		if err := t.Append(r.Module, r.Name, r.Value, strconv.FormatBool(r.Given), strconv.FormatBool(r.Acts), r.Note); err != nil {
			return err
		}
	}
	return t.Render()
}
