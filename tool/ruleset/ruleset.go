// Package ruleset is what the tools of the packet filter share: files of rules, the
// names in them, and changes that are carried out whole or not at all.
package ruleset

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"strings"
	"syscall"

	"ionet/client"
	"ionet/ipl"
	"ionet/protocol"
	"ionet/tool/cli"
	"ionet/tool/services"
)

// maxFile bounds a file of rules, in octets: a million networks fit.
const maxFile = 64 << 20

// Read reads a file of rules; "-" is standard input. name is what errors call it.
func Read(ctx *cli.Context, path string) (name string, text []byte, err error) {
	name, in := path, ctx.Stdin
	if path == "-" {
		name = "stdin"
	} else {
		f, err := os.Open(path)
		if err != nil {
			return path, nil, err
		}
		defer f.Close()
		in = f
	}
	text, err = io.ReadAll(io.LimitReader(in, maxFile+1))
	switch {
	case err != nil:
		return name, nil, fmt.Errorf("%s: %w", name, err)
	case len(text) > maxFile:
		return name, nil, fmt.Errorf("%s: more than %d octets", name, maxFile)
	}
	return name, text, nil
}

// Resolver answers the addresses of a host's name.
type Resolver interface {
	LookupHost(ctx context.Context, name string) ([]netip.Addr, error)
}

// Names are the names that files may have: ports are those of services(5), and hosts
// are asked of the stack that open answers, once there is one to be asked.
func Names(ctx context.Context, open func() (Resolver, error)) ipl.Options {
	return ipl.Options{
		Service: func(name, proto string) (uint16, bool) {
			n, ok := services.Host().Port(name, proto)
			return uint16(n), ok
		},
		Resolve: func(name string) ([]netip.Addr, error) {
			r, err := open()
			if err != nil {
				return nil, err
			}
			return r.LookupHost(ctx, name)
		},
	}
}

// Editor carries changes out; *client.Stack is one.
type Editor interface {
	EditRules(language uint8, steps []protocol.RuleStep) (took []int, err error)
}

// Change gathers the steps of a change.
type Change struct {
	Steps  []protocol.RuleStep
	places []string // of each step: "file:line", "" of none
}

// Add appends a step. line is where its rule stands in the file; 0: in none.
func (c *Change) Add(step protocol.RuleStep, file string, line int) {
	place := ""
	if line > 0 {
		place = fmt.Sprintf("%s:%d", file, line)
	}
	c.Steps, c.places = append(c.Steps, step), append(c.places, place)
}

// Do has the change carried out. The error begins with the place of the step that failed.
func (c *Change) Do(e Editor, language uint8) (took []int, err error) {
	took, err = e.EditRules(language, c.Steps)
	if err == nil {
		return took, nil
	}
	said := errors.New(Reason(err))
	if s, ok := errors.AsType[*client.RuleStepError](err); ok && s.Step < len(c.places) && c.places[s.Step] != "" {
		return nil, fmt.Errorf("%s: %w", c.places[s.Step], said)
	}
	return nil, said
}

// Reason is an error of the stack in words about rules.
func Reason(err error) string {
	e, ok := errors.AsType[*protocol.Error](err)
	if !ok {
		return err.Error()
	}
	rule, bare := strings.CutSuffix(e.Error(), ": "+e.Errno.Error())
	switch {
	case !bare:
		return e.Error()
	case e.Errno == syscall.EEXIST:
		return rule + ": it is there already"
	case e.Errno == syscall.ESRCH:
		return rule + ": it is not there"
	}
	return rule + ": " + protocol.Strerror(e.Errno)
}
