package ippool

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync/atomic"
	"time"

	"ionet/ipl"
	"ionet/protocol"
	"ionet/tool/ruleset"
)

// piece is how many entries one step has: with the longest ones they fit a frame.
const piece = 500

// tool carries a command line out.
type tool struct {
	ctx      context.Context
	out      io.Writer
	progress io.Writer // of what takes long
	json     bool
	read     func(path string) (name string, text []byte, err error)
	open     func() (Stack, error)
	total    atomic.Int64 // entries that a long change has
	sent     atomic.Int64
}

func (t *tool) do(o *options) error {
	switch o.command {
	case "l":
		return t.list(o)
	case "s":
		return t.statistics()
	case "f":
		defer t.tell()()
		return t.load(o)
	case "F":
		return t.flush(o)
	}
	return t.edit(o)
}

// load obeys -f.
func (t *tool) load(o *options) error {
	names := ruleset.Names(t.ctx, func() (ruleset.Resolver, error) { return t.open() })
	c := ruleset.Change{}
	var faults []error
	for _, path := range o.files {
		name, text, err := t.read(path)
		if err != nil {
			return err
		}
		pools, err := ipl.ParsePools(name, text, names)
		if err != nil {
			faults = append(faults, err)
			continue
		}
		for _, p := range pools {
			t.total.Add(int64(len(p.Entries)))
			if o.debug {
				fmt.Fprintln(t.out, p)
			} else if o.verbose {
				fmt.Fprintf(t.out, "%s:%d: pool %s, %d entries\n", name, p.Line, p.Name, len(p.Entries))
			}
			if o.unload {
				p.Entries = nil
				c.Add(protocol.RuleStep{Kind: protocol.StepRemove, Text: p.String()}, name, p.Line)
				continue
			}
			for i, part := range p.Split(piece) {
				step := protocol.RuleStep{Kind: protocol.StepAdd, Text: part.String()}
				if i > 0 {
					step.Kind = protocol.StepJoin
				}
				c.Add(step, name, p.Line)
			}
		}
	}
	if len(faults) > 0 {
		return errors.Join(faults...)
	}
	_, err := t.change(o, &c)
	return err
}

// flush obeys -F.
func (t *tool) flush(o *options) error {
	s, err := t.open()
	if err != nil {
		return err
	}
	c := ruleset.Change{}
	gone := 0
	pools, err := s.Pools()
	if err != nil {
		return errors.New(ruleset.Reason(err))
	}
	for _, p := range pools {
		if o.about(p) {
			c.Add(protocol.RuleStep{Kind: protocol.StepRemove, Text: poolText(p, "")}, "", 0)
			gone++
		}
	}
	all := o.role == "" && o.kind == ""
	if all { // those too that have come since
		c = ruleset.Change{}
		c.Add(protocol.RuleStep{Kind: protocol.StepFlush}, "", 0)
	}
	if gone > 0 || all {
		took, err := t.change(o, &c)
		if err != nil {
			return err
		}
		if all && len(took) > 0 {
			gone = took[0]
		}
	}
	plural := "s"
	if gone == 1 {
		plural = ""
	}
	fmt.Fprintf(t.out, "%d object%s flushed\n", gone, plural)
	return nil
}

// about reports whether a pool is one that -m, -o and -t mean.
func (o *options) about(p protocol.PoolRow) bool {
	return (o.name == "" || o.name == p.Name) && (o.role == "" || o.role == p.Role) && (o.kind == "" || o.kind == p.Kind)
}

// edit obeys -a, -r, -A and -R.
func (t *tool) edit(o *options) error {
	s, err := t.open()
	if err != nil {
		return err
	}
	pools, err := s.Pools()
	if err != nil {
		return errors.New(ruleset.Reason(err))
	}
	var row *protocol.PoolRow
	for i := range pools {
		if pools[i].Name == o.name {
			row = &pools[i]
		}
	}
	c := ruleset.Change{}
	if o.command == "A" {
		if row != nil {
			return fmt.Errorf("pool %s is there already, of role %s and type %s", row.Name, row.Role, row.Kind)
		}
		row = &protocol.PoolRow{Name: o.name, Role: "ipf", Kind: "tree"}
		if o.role != "" {
			row.Role = o.role
		}
		if o.kind != "" {
			row.Kind = o.kind
		}
		p, err := t.pool(poolText(*row, ""), o)
		if err != nil {
			return err
		}
		c.Add(protocol.RuleStep{Kind: protocol.StepAdd, Text: p.String()}, "", 0)
		_, err = t.change(o, &c)
		return err
	}
	switch {
	case row == nil:
		return fmt.Errorf("there is no pool %s", o.name)
	case !o.about(*row):
		return fmt.Errorf("pool %s has role %s and type %s", row.Name, row.Role, row.Kind)
	case o.command == "R":
		c.Add(protocol.RuleStep{Kind: protocol.StepRemove, Text: poolText(*row, "")}, "", 0)
		_, err := t.change(o, &c)
		return err
	}
	var all ipl.Pool
	for _, a := range o.addrs {
		p, err := t.pool(poolText(*row, a), o)
		if err != nil {
			return fmt.Errorf("%s: %w", a, err)
		}
		p.Entries = append(all.Entries, p.Entries...)
		all = p
	}
	for _, part := range all.Split(piece) {
		step := protocol.RuleStep{Kind: protocol.StepJoin, Text: part.String()}
		if o.command == "r" {
			step.Kind = protocol.StepLeave
		}
		c.Add(step, "", 0)
	}
	_, err = t.change(o, &c)
	return err
}

// poolText is a pool in the language of files, with one entry or none.
func poolText(row protocol.PoolRow, entry string) string {
	head := "table"
	attrs := " role = " + row.Role
	if row.Kind == "group-map" {
		head = "group-map " + row.Direction
		if row.Group != "" {
			attrs += " group = " + row.Group
		}
	} else {
		attrs += " type = " + row.Kind
	}
	id := " name = "
	if row.Name != "" && strings.Trim(row.Name, "0123456789") == "" {
		id = " number = "
	}
	if entry != "" {
		entry += ";"
	}
	return head + attrs + id + row.Name + " { " + entry + " };"
}

// pool reads one pool that a command line means.
func (t *tool) pool(text string, o *options) (ipl.Pool, error) {
	if o.seed != "" {
		text = strings.Replace(text, " { ", " seed = "+o.seed+" { ", 1)
	}
	pools, err := ipl.ParsePools("", []byte(text), ruleset.Names(t.ctx, func() (ruleset.Resolver, error) { return t.open() }))
	if faults, ok := errors.AsType[ipl.Errors](err); ok && len(faults) > 0 {
		return ipl.Pool{}, errors.New(faults[0].Msg) // there is no file to show a place in
	}
	if err == nil && len(pools) != 1 {
		err = errors.New("one pool is expected")
	}
	if err != nil {
		return ipl.Pool{}, err
	}
	return pools[0], nil
}

// change has a change carried out, unless -n says no.
func (t *tool) change(o *options, c *ruleset.Change) ([]int, error) {
	if o.check || len(c.Steps) == 0 {
		return nil, nil
	}
	s, err := t.open()
	if err != nil {
		return nil, err
	}
	return c.Do(told{s, &t.sent}, protocol.RulesPools)
}

// told counts the entries that have been sent.
type told struct {
	Stack
	sent *atomic.Int64
}

func (e told) EditRules(language uint8, steps []protocol.RuleStep) ([]int, error) {
	return e.EditRulesTold(language, steps, func(n int) { e.sent.Store(int64(n) * piece) })
}

// When and how often a long change tells how far it is.
const (
	tellAfter = 2 * time.Second
	tellEvery = time.Second
)

// tell begins to tell how far a long change is; end ends it.
func (t *tool) tell() (end func()) {
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for wait := tellAfter; ; wait = tellEvery {
			select {
			case <-stop:
				return
			case <-time.After(wait):
			}
			switch sent, total := t.sent.Load(), t.total.Load(); {
			case total == 0:
				fmt.Fprintf(t.progress, "ippool: files are being read\n")
			case sent == 0:
				fmt.Fprintf(t.progress, "ippool: %d entries have been read\n", total)
			case sent < total:
				fmt.Fprintf(t.progress, "ippool: %d of %d entries have been sent\n", sent, total)
			default:
				fmt.Fprintf(t.progress, "ippool: %d entries have been sent; the stack makes pools of them\n", total)
			}
		}
	}()
	return func() {
		close(stop)
		<-done
	}
}
