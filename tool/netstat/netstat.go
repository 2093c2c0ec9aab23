// Package netstat is the command netstat: it shows the stack's sockets,
// routes, interfaces and counters.
package netstat

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/netip"
	"strconv"
	"time"

	"ionet/protocol"
)

// Stack is what netstat asks of a stack.
type Stack interface {
	Interfaces() ([]protocol.InterfaceRow, error)
	Sockets() ([]protocol.SocketRow, error)
	// TCP is the control block of that name.
	TCP(pcb string) (protocol.TCPInfo, error)
	Counters(proto string) ([]protocol.CounterRow, error)
	Mbuf() ([]protocol.MbufRow, error)
	Groups() ([]protocol.GroupRow, error)
	Vifs() ([]protocol.VifRow, error)
	MFC() ([]protocol.MFCRow, error)
	// DumpRaw streams pages of routing messages ([protocol.NextMessage]). A page
	// is the caller's until the next one.
	DumpRaw(what, family int, flags uint32) iter.Seq2[[]byte, error]
	// LookupAddr answers the name of an address; all calls together take a
	// second at most.
	LookupAddr(ctx context.Context, a netip.Addr) (string, error)
}

// Host is what netstat needs of the world around it.
type Host struct {
	// Wait is called between two lines of -w; an error ends the command.
	Wait func(ctx context.Context, d time.Duration) error
	// Service is the name of a port ("" none).
	Service func(port int, proto string) string
	// Domain is cut off names; "" none.
	Domain string
}

// command is one run.
type command struct {
	ctx    context.Context
	s      Stack
	o      *Options
	h      Host
	out    *bufio.Writer
	errw   io.Writer
	status int
}

// Run does what o asks for and answers the exit status: 0, or 1 when
// anything failed.
func Run(ctx context.Context, s Stack, h Host, o *Options, out, errw io.Writer) int {
	c := &command{ctx: ctx, s: s, o: o, h: h, out: bufio.NewWriterSize(out, 64<<10), errw: errw}
	if err := c.run(); err != nil {
		c.fail(err)
	}
	if err := c.out.Flush(); err != nil {
		c.fail(err)
	}
	return c.status
}

func (c *command) fail(err error) {
	c.out.Flush() // what came before stands before
	text := err.Error()
	if e, ok := errors.AsType[*protocol.Error](err); ok && e.Text == "" {
		text = protocol.Strerror(err)
	}
	fmt.Fprintf(c.errw, "netstat: %s\n", text)
	c.status = 1
}

// run chooses as the original does: the first of -m, -P, -p, -i, -r, -g;
// else sockets, or with -s counters.
func (c *command) run() error {
	o := c.o
	switch {
	case o.Memory:
		return c.memory()
	case o.OnePCB:
		return c.pcb()
	case o.Proto != "":
		return c.protoStats(o.Proto)
	case o.Interfaces && o.Stats > 0:
		return c.interfaceStats()
	case o.Interfaces && o.Wait > 0:
		return c.sideways()
	case o.Interfaces:
		return c.interfaces()
	case o.Routes && o.Stats > 0:
		return c.protoStats("route")
	case o.Routes:
		return c.routes()
	case o.Groups && o.Stats > 0:
		return c.multicastStats()
	case o.Groups:
		return c.multicast()
	case o.Stats > 0:
		return c.stats()
	}
	return c.sockets()
}

// json prints a row of --json.
func (c *command) json(row any) error {
	b, err := json.Marshal(row)
	if err != nil {
		return err
	}
	_, err = c.out.Write(append(b, '\n'))
	return err
}

// host is the name of an address, or its numbers: with -n, and when there is
// no name. The client lets all look-ups of a command cost one second.
func (c *command) host(a netip.Addr) string {
	if c.o.Numeric {
		return a.String()
	}
	name, err := c.s.LookupAddr(c.ctx, a)
	if err != nil || name == "" {
		return a.String()
	}
	return trimDomain(name, c.h.Domain)
}

// trimDomain takes the final dot and the own domain off a name.
func trimDomain(name, domain string) string {
	if n := len(name); n > 1 && name[n-1] == '.' {
		name = name[:n-1]
	}
	if n := len(name) - len(domain); domain != "" && n > 1 && name[n:] == domain && name[n-1] == '.' {
		return name[:n-1]
	}
	return name
}

// left appends s and blanks up to width; a longer s is cut when cut says so.
func left(b []byte, s string, width int, cut bool) []byte {
	if cut && len(s) > width {
		s = s[:width]
	}
	b = append(b, s...)
	return pad(b, width-len(s))
}

// right appends n behind blanks, so that both are width wide at least.
func right(b []byte, n uint64, width int) []byte {
	var digits [20]byte
	d := strconv.AppendUint(digits[:0], n, 10)
	b = pad(b, width-len(d))
	return append(b, d...)
}

func pad(b []byte, n int) []byte {
	const blanks = "                                        "
	for n > len(blanks) {
		b = append(b, blanks...)
		n -= len(blanks)
	}
	if n > 0 {
		b = append(b, blanks[:n]...)
	}
	return b
}
