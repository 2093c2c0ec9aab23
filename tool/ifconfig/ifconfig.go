// Package ifconfig is the command ifconfig: it shows and configures the
// stack's interfaces.
package ifconfig

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"time"

	"ionet/protocol"
)

// Stack is what ifconfig asks of a stack; *client.Stack answers all but the
// first.
type Stack interface {
	// Interfaces answers all interfaces, or the one of a name (ENXIO).
	Interfaces(name string) ([]protocol.InterfaceRow, error)
	SetFlags(name string, set, clear uint32) error
	SetMTU(name string, mtu int) error
	SetMetric(name string, metric int) error
	SetLinkAddr(name string, hw net.HardwareAddr) error
	AddAddr(name string, a protocol.AliasReq) error
	DelAddr(name string, a protocol.Addr) error
	CreateInterface(name string) (string, error)
	DestroyInterface(name string) error
	SetTunnel(name string, src, dst protocol.Addr) error
	DeleteTunnel(name string) error
	SetVLAN(name string, tag int, parent string) error
	ClearVLAN(name string) error
	Cloners() ([]string, error)
	LookupHost(ctx context.Context, name string) ([]netip.Addr, error)
}

// Wait is called between two looks of -w; an error ends the command.
type Wait func(ctx context.Context, d time.Duration) error

// command is one run.
type command struct {
	ctx    context.Context
	s      Stack
	o      *Options
	wait   Wait
	out    *bufio.Writer
	errw   io.Writer
	status int
}

// Run does what o asks for and answers the exit status: 0, or 1 when
// anything failed.
func Run(ctx context.Context, s Stack, w Wait, o *Options, out, errw io.Writer) int {
	c := &command{ctx: ctx, s: s, o: o, wait: w, out: bufio.NewWriter(out), errw: errw}
	if o.Deprecated {
		fmt.Fprintln(errw, "ifconfig: -A is deprecated")
	}
	if err := c.run(); err != nil {
		c.fail(err)
	}
	if err := c.out.Flush(); err != nil {
		c.fail(err)
	}
	return c.status
}

func (c *command) fail(err error) {
	c.out.Flush()
	fmt.Fprintf(c.errw, "ifconfig: %v\n", err)
	c.status = 1
}

// Request is the original's sentence about a request that failed, with the
// stack's own explanation behind it where there is one.
func Request(what string, err error) error {
	if err == nil {
		return nil
	}
	s := what + ": " + protocol.Strerror(err)
	if e, ok := errors.AsType[*protocol.Error](err); ok && e.Text != "" {
		s += " (" + strings.TrimSuffix(e.Text, ": "+e.Errno.Error()) + ")"
	}
	return errors.New(s)
}

func (c *command) run() error {
	o := c.o
	switch {
	case o.Cloners:
		names, err := c.s.Cloners()
		if err != nil {
			return Request("SIOCIFGCLONERS", err)
		}
		if c.o.JSON {
			return c.json(map[string][]string{"cloners": append([]string{}, names...)})
		}
		if len(names) > 0 {
			fmt.Fprintln(c.out, strings.Join(names, " "))
		}
		return nil
	case o.Wait > 0:
		return c.untilUsable()
	case o.All || o.List:
		return c.all()
	case o.Change != nil && o.Change.Create:
		name, err := c.s.CreateInterface(o.Interface)
		if err != nil {
			return Request("SIOCIFCREATE", err)
		}
		if name != o.Interface && name != "" {
			fmt.Fprintln(c.out, name)
		}
		return nil
	case o.Change != nil && o.Change.Destroy:
		return Request("SIOCIFDESTROY", c.s.DestroyInterface(o.Interface))
	}
	r, err := c.one()
	switch {
	case err != nil:
		return err
	case o.Change != nil:
		return c.change(r)
	case o.Connected:
		if r.Media != "" && !r.LinkUp {
			c.status = 1
		}
		return nil
	}
	return c.show(r)
}

// one is the interface of the command line.
func (c *command) one() (protocol.InterfaceRow, error) {
	rows, err := c.s.Interfaces(c.o.Interface)
	if err == nil && len(rows) != 1 {
		err = syscall.ENXIO
	}
	if err != nil {
		return protocol.InterfaceRow{}, Request("SIOCGIFFLAGS "+c.o.Interface, err)
	}
	return rows[0], nil
}

func (c *command) show(r protocol.InterfaceRow) error {
	if c.o.JSON {
		if c.o.Family != "" {
			r.Addresses = slices.DeleteFunc(slices.Clone(r.Addresses), func(a protocol.AddressRow) bool { return a.Family != c.o.Family })
		}
		return c.json(r)
	}
	_, err := c.out.Write(appendInterface(nil, r, c.o))
	return err
}

func (c *command) json(row any) error {
	b, err := json.Marshal(row)
	if err != nil {
		return err
	}
	_, err = c.out.Write(append(b, '\n'))
	return err
}

// all shows all interfaces that the letters let through, or with -l their
// names.
func (c *command) all() error {
	rows, err := c.s.Interfaces("")
	if err != nil {
		return Request("SIOCGIFCONF", err)
	}
	var names []string
	for _, r := range rows {
		if !wanted(r, c.o) {
			continue
		}
		if c.o.List && !c.o.JSON {
			names = append(names, r.Name)
		} else if err := c.show(r); err != nil {
			return err
		}
	}
	if c.o.List && !c.o.JSON {
		fmt.Fprintln(c.out, strings.Join(names, " "))
	}
	return nil
}

// lookEvery is the time between two looks of -w.
const lookEvery = 100 * time.Millisecond

// untilUsable waits until no address is tentative any more.
func (c *command) untilUsable() error {
	for left := time.Duration(c.o.Wait) * time.Second; ; left -= lookEvery {
		rows, err := c.s.Interfaces("")
		if err != nil {
			return Request("SIOCGIFCONF", err)
		}
		var tentative []string
		for _, r := range rows {
			for _, a := range r.Addresses {
				if a.Tentative {
					tentative = append(tentative, a.Address+" on "+r.Name)
				}
			}
		}
		switch {
		case len(tentative) == 0:
			return nil
		case left <= 0:
			return fmt.Errorf("still tentative after %d seconds: %s", c.o.Wait, strings.Join(tentative, ", "))
		}
		if err := c.wait(c.ctx, lookEvery); err != nil {
			return err
		}
	}
}
