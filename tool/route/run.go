package route

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"time"

	"ionet/protocol"
)

// table is what route reads of a stack.
type table interface {
	Resolver
	interfaces
	LookupAddr(ctx context.Context, ip netip.Addr) (string, error)
	Dump(what, family int, flags uint32) iter.Seq2[protocol.Message, error]
}

// socket is a routing socket.
type socket interface {
	Write(m ...protocol.Message) error
	Read() ([]protocol.Message, error)
	ReadRaw() ([]byte, error)
	Request(m protocol.RouteMessage) (protocol.RouteMessage, error)
	Close() error
}

// options are those of the command itself.
type options struct {
	flush, numeric, quiet, verbose, debug, test, json bool
	batch                                             string
}

// tool is one run of the command.
type tool struct {
	options
	out      *bufio.Writer
	err      io.Writer
	openFile func(name string) (io.ReadCloser, error)
	table    func() (table, error)
	socket   func() (socket, error)
	now      func() time.Time

	names   Resolver
	zones   *zones
	sock    socket
	printer printer
}

// errSaid means that the failure has been told already.
var errSaid = errors.New("failed")

// run does what args say and answers the exit status.
func (t *tool) run(ctx context.Context, args []string) int {
	defer t.out.Flush()
	defer func() {
		if t.sock != nil {
			t.sock.Close()
		}
	}()
	err := t.do(ctx, args)
	t.out.Flush()
	var usage *usageError
	switch {
	case err == nil:
		return 0
	case errors.Is(err, errSaid) || ctx.Err() != nil && errors.Is(err, net.ErrClosed):
	case errors.As(err, &usage):
		if usage.text != "" {
			fmt.Fprintf(t.err, "route: %s\n", usage.text)
		}
		fmt.Fprintln(t.err, Usage)
	default:
		fmt.Fprintf(t.err, "route: %v\n", err)
	}
	return 1
}

func (t *tool) do(ctx context.Context, args []string) error {
	t.printer, t.zones = printer{w: t.out, now: t.now}, newZones(nil)
	if len(args) == 0 && t.batch == "" {
		if !t.flush {
			return &usageError{}
		}
		args = []string{"flush"}
	}
	verb := "batch"
	if t.batch == "" {
		verb = args[0]
	} else if len(args) > 0 {
		return &usageError{"with -b the commands come from the file alone"}
	}
	if t.json && verb != "get" && verb != "show" && verb != "monitor" {
		return &usageError{"--json is there for get, show and monitor"}
	}
	family := 0
	switch verb {
	case "add", "delete", "change", "get", "batch":
	case "flush", "show", "monitor":
		for _, a := range args[1:] {
			switch a {
			case "-inet":
				family = protocol.AFInet
			case "-inet6":
				family = protocol.AFInet6
			default:
				return botched(strings.TrimPrefix(a, "-"), verb+" takes -inet or -inet6 only")
			}
		}
	default:
		return botched(verb, "add, change, delete, flush, get, monitor and show are known")
	}
	var tab table
	if !t.test {
		var err error
		if tab, err = t.table(); err != nil {
			return err
		}
		t.names, t.zones = tab, newZones(tab)
		if !t.numeric {
			t.printer.name = func(ip netip.Addr) string {
				name, _ := tab.LookupAddr(ctx, ip)
				return name
			}
		}
		if verb != "show" && !(verb == "monitor" && t.debug) {
			if t.sock, err = t.socket(); err != nil {
				return err
			}
		}
	}
	if t.flush && verb != "flush" && verb != "show" && verb != "monitor" && tab != nil {
		if err := t.flushAll(tab, 0); err != nil {
			return err
		}
	}
	switch verb {
	case "batch":
		return t.runBatch(ctx)
	case "show":
		return t.show(tab, family)
	case "monitor":
		return t.monitor(tab)
	case "flush":
		return t.flushAll(tab, family)
	}
	return t.change(ctx, args)
}

// send makes one request, unless nothing is to be sent.
func (t *tool) send(m protocol.RouteMessage) (protocol.RouteMessage, error) {
	if t.debug || t.test {
		return m, nil
	}
	return t.sock.Request(m)
}

// change does an add, delete, change or get.
func (t *tool) change(ctx context.Context, args []string) error {
	c, warnings, err := parse(ctx, args, t.names, t.now)
	if err != nil {
		return err
	}
	if !t.quiet {
		for _, w := range warnings {
			fmt.Fprintf(t.err, "route: %s\n", w)
		}
	}
	if err := t.zones.number(&c.msg); err != nil {
		return err
	}
	var answer protocol.RouteMessage
	tried := 0
	for {
		if t.verbose && !t.json {
			t.sent(&c.msg)
		}
		answer, err = t.send(c.msg)
		if len(c.others) == 0 || !errors.Is(err, syscall.ENETUNREACH) && !errors.Is(err, syscall.ESRCH) {
			break
		}
		c.msg.Gateway = protocol.AddrFrom(c.others[0], 0)
		c.others = c.others[1:]
		tried++
	}
	if err != nil {
		t.out.Flush()
		fmt.Fprintf(t.err, "writing to routing socket: %s\n", protocol.Strerror(err))
		if a, ok := c.lost(); ok && (errors.Is(err, syscall.ENETUNREACH) || errors.Is(err, syscall.ESRCH)) {
			fmt.Fprintf(t.err, "route: %s is an address of one link: say of which, as in %s%%en0\n", a, a)
		}
	}
	switch {
	case c.verb != "get":
	case err != nil:
		return errSaid
	case t.json:
		return t.encode(routeJSON(t.zones.named(&answer).(*protocol.RouteMessage), t.now().Unix()))
	case t.debug || t.test:
		return nil
	default:
		asked := c.msg.Dst
		asked.IP = t.zones.name(asked.IP)
		t.printer.got(asked, t.zones.named(&answer).(*protocol.RouteMessage), t.verbose)
		return nil
	}
	if !t.quiet {
		t.out.WriteString(c.sentence())
		if tried > 0 && err == nil {
			fmt.Fprintf(t.out, " (%s)", t.zones.name(c.msg.Gateway.IP))
		}
	}
	switch {
	case err != nil:
		fmt.Fprintf(t.out, ": %s\n", failure(err))
		return errSaid
	case !t.quiet:
		t.out.WriteByte('\n')
	}
	return nil
}

// sentence is "add net default: gateway 10.25", with the words as typed.
func (c *change) sentence() string {
	kind := "net"
	if c.host {
		kind = "host"
	}
	s := c.verb + " " + kind + " " + c.dest
	if c.gateway != "" {
		s += ": gateway " + c.gateway
	}
	return s
}

// failure is what stands behind a failed change.
func failure(err error) string {
	switch {
	case errors.Is(err, syscall.ESRCH):
		return "not in table"
	case errors.Is(err, syscall.EBUSY):
		return "entry in use"
	case errors.Is(err, syscall.ENOBUFS):
		return "routing table overflow"
	}
	return protocol.Strerror(err)
}

// sent prints a message that is about to be sent (-v).
func (t *tool) sent(request *protocol.RouteMessage) {
	m := t.zones.named(request)
	for _, a := range addressesOf(m) {
		switch a.addr.Family {
		case protocol.AFInet:
			fmt.Fprintf(t.out, "u: inet %s; ", a.addr.IP)
		case protocol.AFInet6:
			fmt.Fprintf(t.out, "u: inet6 %s; ", a.addr.IP)
		case protocol.AFLink:
			fmt.Fprintf(t.out, "u: link %s; ", linkText(a.addr.Link))
		}
	}
	t.printer.message(m)
}

func (t *tool) show(tab table, family int) error {
	if tab == nil {
		return nil
	}
	if t.json {
		return t.showJSON(tab, family)
	}
	fmt.Fprintln(t.out, "Routing tables")
	last := -1
	for m, err := range tab.Dump(protocol.DumpRoutes, family, 0) {
		if err != nil {
			return fmt.Errorf("reading the routing table: %w", err)
		}
		if r, ok := t.zones.named(m).(*protocol.RouteMessage); ok {
			t.printer.shown(r, &last)
		}
	}
	return nil
}

// flushAll deletes every route through a gateway.
func (t *tool) flushAll(tab table, family int) error {
	if tab == nil {
		return nil
	}
	if t.verbose {
		fmt.Fprintln(t.out, "Examining routing table from sysctl")
	}
	// The dump is read to its end first: deleting moves its cursor.
	var gone []protocol.RouteMessage
	for m, err := range tab.Dump(protocol.DumpRoutes, family, 0) {
		if err != nil {
			return fmt.Errorf("reading the routing table: %w", err)
		}
		r, ok := m.(*protocol.RouteMessage)
		if !ok {
			continue
		}
		if t.verbose {
			t.printer.message(t.zones.named(r))
		}
		if r.Flags&protocol.RTFGateway != 0 && r.Flags&protocol.RTFCloned == 0 {
			gone = append(gone, *r)
		}
	}
	if t.debug {
		return nil
	}
	for _, r := range gone {
		r.Type, r.Errno = protocol.RTMDelete, 0
		if _, err := t.sock.Request(r); err != nil && !errors.Is(err, syscall.ESRCH) {
			return fmt.Errorf("writing to routing socket: %s", protocol.Strerror(err))
		}
		shown := t.zones.named(&r).(*protocol.RouteMessage)
		switch {
		case t.quiet:
		case t.verbose:
			t.printer.message(shown)
		default:
			fmt.Fprintf(t.out, "%s %s done\n", t.printer.flushed(t.printer.destination(shown)), t.printer.flushed(t.printer.host(shown.Gateway)))
		}
	}
	return nil
}

// monitor prints messages as they come, until the stack goes.
func (t *tool) monitor(tab table) error {
	if tab == nil {
		return nil
	}
	if t.debug {
		for m, err := range tab.Dump(protocol.DumpIfList, 0, 0) {
			if err != nil {
				return err
			}
			t.printer.message(t.zones.named(m))
		}
		return nil
	}
	for {
		msgs, err := t.sock.Read()
		if err != nil {
			return err
		}
		for _, m := range msgs {
			m = t.zones.named(m)
			if t.json {
				if err := t.encode(messageJSON(m, t.now())); err != nil {
					return err
				}
			} else {
				t.printer.monitored(m)
			}
			if err := t.out.Flush(); err != nil {
				return err
			}
		}
	}
}
