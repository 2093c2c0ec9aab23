// Package sysctl is the command sysctl: it reads and sets the stack's
// variables.
package sysctl

import (
	"bufio"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"syscall"

	"ionet/protocol"
)

// Stack is what sysctl asks of a stack; *client.Stack answers it.
type Stack interface {
	// SysctlList answers the nodes at or below prefix ("" for all), values
	// included, in order of name.
	SysctlList(prefix string) ([]protocol.SysctlNode, error)
	Sysctl(name string) (string, error)
	SetSysctl(name, value string) (old string, err error)
}

// SetRow is what --json prints of a variable that was set.
type SetRow struct {
	Name string `json:"name"`
	Old  string `json:"old"`
	New  string `json:"new"`
}

// Classes that sysctl knows of elsewhere. Of one that the stack has no node in a
// user reads BSD's sentence, that the class is not implemented, and the exit
// status is 1; any other first level is an invalid name.
var classes = []string{"kern", "vm", "vfs", "net", "debug", "hw", "machdep", "user", "ddb", "proc"}

// command is one run: where it prints, and what the stack has.
type command struct {
	s      Stack
	o      *Options
	out    *bufio.Writer
	errw   io.Writer
	nodes  []protocol.SysctlNode
	status int
}

// Run does what o asks for and answers the exit status: 0, 1 when anything
// failed, 2 when a variable was to be set without -w. All names are tried,
// whatever became of those before them.
func Run(s Stack, o *Options, out, errw io.Writer) int {
	c := &command{s: s, o: o, out: bufio.NewWriter(out), errw: errw}
	defer c.out.Flush()
	nodes, err := s.SysctlList("")
	if err != nil {
		c.fail("sysctl: %s", protocol.Strerror(err))
		return c.status
	}
	slices.SortFunc(nodes, func(a, b protocol.SysctlNode) int { return cmp.Compare(a.Name, b.Name) })
	c.nodes = nodes
	switch {
	case o.All:
		c.show(nodes)
	case len(o.Names) > 0 && !o.Write:
		for _, name := range o.Names {
			if strings.Contains(name, "=") {
				c.fail("sysctl: Must specify -w to set variables")
				c.status = 2
				return c.status
			}
			c.read(name)
		}
	default:
		for _, a := range o.Names {
			name, value, ok := strings.Cut(a, "=")
			if !ok {
				c.read(name)
				continue
			}
			c.set(name, value)
		}
	}
	return c.status
}

// fail prints a sentence about a failure; the status is 1 from now on.
func (c *command) fail(format string, args ...any) {
	c.out.Flush() // what came before stands before
	fmt.Fprintf(c.errw, format+"\n", args...)
	c.status = max(c.status, 1)
}

// below are the nodes at or under name.
func (c *command) below(name string) []protocol.SysctlNode {
	from, _ := slices.BinarySearchFunc(c.nodes, name, func(n protocol.SysctlNode, s string) int { return cmp.Compare(n.Name, s) })
	var out []protocol.SysctlNode
	for _, n := range c.nodes[from:] {
		if n.Name == name || strings.HasPrefix(n.Name, name+".") {
			out = append(out, n)
		} else if !strings.HasPrefix(n.Name, name) {
			break
		}
	}
	return out
}

// lookup answers the nodes at or under name, or prints why there are none.
func (c *command) lookup(name string) []protocol.SysctlNode {
	if found := c.below(name); len(found) > 0 {
		return found
	}
	// Some are too dear to be in a list of all; by their name they are told.
	switch found, err := c.s.SysctlList(name); {
	case err != nil:
		c.fail("%s", failure(name, err))
	case len(found) > 0:
		return found
	default:
		c.fail("sysctl: %s", c.invalid(name))
	}
	return nil
}

// invalid is the sentence about a name that does not exist: it names the
// first level that nothing is below.
func (c *command) invalid(name string) string {
	levels := strings.Split(name, ".")
	for i := range levels {
		if len(c.below(strings.Join(levels[:i+1], "."))) > 0 {
			continue
		}
		if i == 0 && slices.Contains(classes, levels[0]) {
			return fmt.Sprintf("Class `%s' is not implemented", levels[0])
		}
		return fmt.Sprintf("%s level name %s in %s is invalid", ordinal(i), levels[i], name)
	}
	return fmt.Sprintf("%s is invalid", name)
}

func ordinal(i int) string {
	names := [...]string{"top", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth"}
	if i < len(names) {
		return names[i]
	}
	return fmt.Sprintf("%dth", i+1)
}

// read prints a variable, or all below a name.
func (c *command) read(name string) {
	found := c.lookup(name)
	if len(found) == 1 && found[0].Name == name && found[0].Kind == "table" {
		c.fail("%s", useInstead(found[0]))
		return
	}
	c.show(found)
}

// show prints nodes. Tables show up under -A only, with the tool to use.
func (c *command) show(nodes []protocol.SysctlNode) {
	for _, n := range nodes {
		if n.Kind == "table" && !c.o.Tables {
			continue
		}
		switch {
		case c.o.JSON:
			c.json(n)
		case n.Kind == "table":
			fmt.Fprintln(c.out, useInstead(n))
		case c.o.Bare:
			fmt.Fprintln(c.out, n.Value)
		default:
			fmt.Fprintf(c.out, "%s = %s\n", n.Name, n.Value)
		}
	}
}

func useInstead(n protocol.SysctlNode) string {
	return fmt.Sprintf("%s: use '%s' to view this information", n.Name, cmp.Or(n.Use, "netstat"))
}

// set changes a variable and prints the old value and the one that the stack
// now has.
func (c *command) set(name, value string) {
	found := c.lookup(name)
	if len(found) == 0 {
		return
	}
	if len(found) > 1 || found[0].Name != name {
		c.fail("%s: the specification is incomplete", name)
		return
	}
	if found[0].Kind == "table" {
		c.fail("%s", useInstead(found[0]))
		return
	}
	old, err := c.s.SetSysctl(name, value)
	if err != nil {
		c.fail("%s", failure(name, err))
		return
	}
	now, err := c.s.Sysctl(name)
	if err != nil {
		c.fail("%s", failure(name, err))
		return
	}
	switch {
	case c.o.JSON:
		c.json(SetRow{Name: name, Old: old, New: now})
	case c.o.Quiet:
	case c.o.Bare:
		fmt.Fprintln(c.out, now)
	default:
		fmt.Fprintf(c.out, "%s: %s -> %s\n", name, old, now)
	}
}

// failure is the original's sentence about an error, with the stack's own
// explanation behind it where there is one.
func failure(name string, err error) string {
	switch {
	case errors.Is(err, syscall.EOPNOTSUPP):
		return name + ": the value is not available"
	case errors.Is(err, syscall.ENOTDIR):
		return name + ": the specification is incomplete"
	}
	s := fmt.Sprintf("%s: sysctl() failed with %s", name, protocol.Strerror(err))
	if e, ok := errors.AsType[*protocol.Error](err); ok && e.Text != "" {
		why := strings.TrimSuffix(strings.TrimPrefix(e.Text, name+": "), ": "+e.Errno.Error())
		s += " (" + why + ")"
	}
	return s
}

func (c *command) json(row any) {
	b, err := json.Marshal(row)
	if err != nil {
		c.fail("sysctl: %v", err)
		return
	}
	c.out.Write(append(b, '\n'))
}
