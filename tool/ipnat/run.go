package ipnat

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"ionet/ipl"
	"ionet/protocol"
	"ionet/tool/cli"
	"ionet/tool/ruleset"
)

// options are a command line.
type options struct {
	clear, flush, remove, purge, check, numbers bool // -C -F -r -p -n -R
	list, hits, stats, verbose, debug           bool // -l -h -s -v -d
	files                                       []string
}

func parse(args []string) (*options, error) {
	flags, rest, err := cli.Getopt("CdFhlnprRsvf:", args)
	if err != nil {
		return nil, cli.Misuse("%v", err)
	}
	o := &options{}
	for _, f := range flags {
		switch f.Name {
		case "C":
			o.clear = true
		case "d":
			o.debug, o.verbose = true, true
		case "F":
			o.flush = true
		case "f":
			o.files = append(o.files, f.Value)
		case "h":
			o.hits, o.list = true, true
		case "l":
			o.list = true
		case "n":
			o.check = true
		case "p":
			o.purge = true
		case "r":
			o.remove = true
		case "R":
			o.numbers = true
		case "s":
			o.stats = true
		case "v":
			o.verbose = true
		}
	}
	switch {
	case len(rest) > 0:
		return nil, cli.Misuse("%q: a file is named by -f", rest[0])
	case o.remove && len(o.files) == 0:
		return nil, cli.Misuse("-r removes the rules of a file: -f file is needed")
	case o.purge && !o.remove:
		return nil, cli.Misuse("-p goes with -r")
	case o.remove && o.clear:
		return nil, cli.Misuse("-C leaves no rule for -r to remove")
	case len(o.files) == 0 && !o.clear && !o.flush && !o.list && !o.stats:
		return nil, cli.Misuse("nothing to do: -f file, -C, -F, -l or -s is needed")
	}
	return o, nil
}

// tool carries a command line out.
type tool struct {
	ctx  context.Context
	out  io.Writer
	json bool
	read func(path string) (name string, text []byte, err error)
	open func() (Stack, error)
}

func (t *tool) do(o *options) error {
	c := ruleset.Change{}
	if o.flush {
		c.Add(protocol.RuleStep{Kind: protocol.StepFlushStates}, "", 0)
	}
	if o.clear {
		c.Add(protocol.RuleStep{Kind: protocol.StepFlush}, "", 0)
	}
	if err := t.files(o, &c); err != nil {
		return err
	}
	if len(c.Steps) > 0 && !o.check {
		s, err := t.open()
		if err != nil {
			return err
		}
		took, err := c.Do(s, protocol.RulesNAT)
		if err != nil {
			return err
		}
		t.tell(c.Steps, took)
	}
	if !o.list && !o.stats {
		return nil
	}
	s, err := t.open()
	if err != nil {
		return err
	}
	return t.show(s, o)
}

// files reads the rules of all files into c. The error has the faults of all.
func (t *tool) files(o *options, c *ruleset.Change) error {
	names := ipl.Options{}
	if !o.numbers {
		names = ruleset.Names(t.ctx, func() (ruleset.Resolver, error) { return t.open() })
	}
	var faults []error
	for _, path := range o.files {
		name, text, err := t.read(path)
		if err != nil {
			return err
		}
		rules, err := ipl.ParseNAT(name, text, names)
		if err != nil {
			faults = append(faults, err)
			continue
		}
		for _, r := range rules {
			step := protocol.RuleStep{Kind: protocol.StepAdd, Text: r.String()}
			if o.remove {
				step.Kind = protocol.StepRemove
				if o.purge {
					step.Arg = 1
				}
			}
			c.Add(step, name, r.Line)
			if o.verbose {
				fmt.Fprintln(t.out, step.Text)
			}
		}
	}
	return errors.Join(faults...)
}

// tell says what was flushed, as IPFilter does.
func (t *tool) tell(steps []protocol.RuleStep, took []int) {
	for i, s := range steps {
		if i >= len(took) || t.json {
			return
		}
		switch s.Kind {
		case protocol.StepFlushStates:
			fmt.Fprintf(t.out, "%d entries flushed from NAT table\n", took[i])
		case protocol.StepFlush:
			fmt.Fprintf(t.out, "%d entries flushed from NAT list\n", took[i])
		}
	}
}

// lines are what an error says, a fault each.
func lines(err error) []string { return strings.Split(err.Error(), "\n") }
