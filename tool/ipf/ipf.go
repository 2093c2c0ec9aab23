package ipf

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"syscall"

	"ionet/client"
	"ionet/ipl"
	"ionet/protocol"
	"ionet/tool/cli"
	"ionet/tool/ipfstat"
	"ionet/tool/ruleset"
)

// errSaid means that the failure has been told already.
var errSaid = errors.New("failed")

// origin is where a step comes from: a line of a file, or an option.
type origin struct {
	at   string // "ipf.conf:3", "-Fa"
	rule string // "": none
}

// do carries out the command line: all is read first, then changed at once.
func (t *tool) do() error {
	for _, a := range t.actions {
		if a.kind == version {
			if err := t.version(); err != nil {
				return err
			}
		}
	}
	if err := t.gather(); err != nil {
		return err
	}
	if t.dry {
		return t.check()
	}
	if slices.ContainsFunc(t.actions, func(a action) bool { return a.kind != version && a.kind != resync }) {
		if err := t.stack(); err != nil {
			return err
		}
	}
	stats, err := t.stats()
	if err != nil {
		return err
	}
	before, err := t.counters()
	if err != nil {
		return err
	}
	undo, err := t.tune()
	if err != nil {
		undo()
		return err
	}
	took, err := t.edit()
	if err != nil {
		undo()
		return err
	}
	return t.tell(took, stats, before)
}

// stack opens the stack, once.
func (t *tool) stack() (err error) {
	if t.s == nil {
		t.s, err = t.open()
	}
	return err
}

// gather makes the steps of the change. All faults of all files are told.
func (t *tool) gather() error {
	faulty := false
	for _, a := range t.actions {
		switch a.kind {
		case step:
			t.add(a.step, origin{at: a.word})
		case load:
			name, rules, err := t.load(a)
			if faults, ok := errors.AsType[ipl.Errors](err); ok {
				t.faults(faults)
			} else if err != nil {
				fmt.Fprintf(t.errw, "ipf: %v\n", err)
			}
			faulty = faulty || err != nil
			st := protocol.RuleStep{Kind: protocol.StepAdd}
			switch {
			case a.remove: // what is behind a head goes before it
				st.Kind = protocol.StepRemove
				slices.Reverse(rules)
			case a.counters:
				st.Kind = protocol.StepZero
			}
			if a.inactive {
				st.Arg = protocol.StepInactive
			}
			for _, r := range rules {
				st.Text = r.String()
				t.add(st, origin{fmt.Sprintf("%s:%d", name, r.Line), st.Text})
			}
		}
	}
	if faulty {
		if !t.dry {
			fmt.Fprintln(t.errw, "ipf: nothing was changed")
		}
		return errSaid
	}
	return nil
}

func (t *tool) add(st protocol.RuleStep, o origin) {
	t.steps, t.of = append(t.steps, st), append(t.of, o)
}

// load reads one file.
func (t *tool) load(a action) (name string, rules []ipl.Rule, err error) {
	name, text, err := t.read(a.value)
	if err != nil {
		return name, nil, fmt.Errorf("%s: %s", name, protocol.Strerror(err))
	}
	names := ruleset.Names(t.ctx, t.resolver)
	names.V6 = a.v6
	rules, err = ipl.Parse(name, text, names)
	return name, rules, err
}

// resolver is the stack, or of a checker that finds none the host.
func (t *tool) resolver() (ruleset.Resolver, error) {
	err := t.stack()
	switch {
	case err == nil:
		return t.s, nil
	case t.dry:
		return t.host, nil
	}
	return nil, err
}

func (t *tool) faults(all ipl.Errors) {
	for _, f := range all {
		if t.json {
			t.row(struct {
				File   string `json:"file"`
				Line   int    `json:"line"`
				Column int    `json:"column"`
				Fault  string `json:"fault"`
			}{f.File, f.Line, f.Column, f.Msg})
			continue
		}
		fmt.Fprintln(t.errw, f)
	}
}

func (t *tool) row(v any) {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // rows are plain structs
	}
	t.out.Write(append(b, '\n'))
}

// check ends a command line with -n.
func (t *tool) check() error {
	for i, st := range t.steps {
		if t.verbose && t.of[i].rule != "" {
			fmt.Fprintln(t.out, st.Text)
		}
	}
	return nil
}

// edit sends the change.
func (t *tool) edit() ([]int, error) {
	if len(t.steps) == 0 {
		return nil, nil
	}
	if t.each {
		for i, st := range t.steps {
			fmt.Fprintf(t.errw, "step %d: kind %d arg %#x %s (%s)\n", i+1, st.Kind, st.Arg, st.Text, t.of[i].at)
		}
	}
	took, err := t.s.EditRules(protocol.RulesFilter, t.steps)
	if err == nil {
		return took, nil
	}
	se, ok := errors.AsType[*client.RuleStepError](err)
	if !ok || se.Step >= len(t.of) {
		return nil, refusal(err)
	}
	o := t.of[se.Step]
	at := o.at
	if o.rule != "" {
		at += ": " + o.rule
	}
	fmt.Fprintf(t.errw, "%s: %s\n", at, reason(se.Err, t.steps[se.Step].Kind))
	fmt.Fprintln(t.errw, "ipf: nothing was changed")
	return nil, errSaid
}

// refusal is the sentence of the stack about what it does not do.
func refusal(err error) error {
	if e, ok := errors.AsType[*protocol.Error](err); ok && e.Text != "" {
		return errors.New(e.Text)
	}
	return errors.New(protocol.Strerror(err))
}

// reason says why a step was refused.
func reason(err error, kind uint8) string {
	e := protocol.AsError(err)
	if e.Text != "" {
		return strings.TrimSuffix(e.Text, ": "+e.Errno.Error())
	}
	switch {
	case e.Errno == syscall.EEXIST:
		return "there is such a rule already"
	case e.Errno == syscall.ESRCH && kind != protocol.StepAdd:
		return "there is no such rule"
	}
	return protocol.Strerror(e)
}

// counted is what -Z prints.
type counted struct {
	protocol.FilterRow
	flags uint64
}

// stats are the counters before the change; nil: nobody asks.
func (t *tool) stats() (*counted, error) {
	if !slices.ContainsFunc(t.steps, func(s protocol.RuleStep) bool { return s.Kind == protocol.StepZero && s.Text == "" }) {
		return nil, nil
	}
	row, err := t.s.Filter()
	if err != nil {
		return nil, refusal(err)
	}
	return &counted{row, t.number("fr_flags")}, nil
}

// counters are those of the rules that -z is about.
func (t *tool) counters() (map[string]protocol.FilterRuleRow, error) {
	if !slices.ContainsFunc(t.actions, func(a action) bool { return a.kind == load && a.counters }) {
		return nil, nil
	}
	rows, err := t.s.Rules()
	if err != nil {
		return nil, refusal(err)
	}
	all := map[string]protocol.FilterRuleRow{}
	for _, r := range rows {
		all[r.Set+" "+r.Rule] = r
	}
	return all, nil
}

// tell prints what was done.
func (t *tool) tell(took []int, stats *counted, before map[string]protocol.FilterRuleRow) error {
	say := func(format string, a ...any) {
		if t.verbose {
			fmt.Fprintf(t.out, format+"\n", a...)
		}
	}
	for _, s := range t.set {
		say("%s", s)
	}
	for i, st := range t.steps {
		n := 0
		if i < len(took) {
			n = took[i]
		}
		switch st.Kind {
		case protocol.StepAdd, protocol.StepRemove:
			say("%s", st.Text)
		case protocol.StepFlush:
			say("%s: %d rules removed", t.of[i].at, n)
		case protocol.StepFlushStates:
			say("%s: %d states removed", t.of[i].at, n)
		case protocol.StepZero:
			if st.Text == "" {
				if t.json {
					t.row(stats)
				} else {
					ipfstat.Write(t.out, stats.FilterRow, stats.flags)
				}
				continue
			}
			set := "active"
			if st.Arg&protocol.StepInactive != 0 {
				set = "inactive"
			}
			r := before[set+" "+st.Text]
			if t.json {
				t.row(struct {
					Rule  string `json:"rule"`
					Hits  uint64 `json:"hits"`
					Bytes uint64 `json:"bytes"`
				}{st.Text, r.Hits, r.Bytes})
				continue
			}
			fmt.Fprintf(t.out, "hits %d bytes %d %s\n", r.Hits, r.Bytes, st.Text)
		case protocol.StepSwap:
			say("the sets have changed places")
		case protocol.StepEnable:
			say("%s", map[uint8]string{0: "disabled: all packets pass", 1: "enabled"}[st.Arg])
		}
	}
	if slices.ContainsFunc(t.actions, func(a action) bool { return a.kind == resync }) {
		say("-y: rules follow the addresses of interfaces by themselves")
	}
	for _, o := range t.unused {
		say("-%c has no effect", o)
	}
	return nil
}

// version is -V.
func (t *tool) version() error {
	const language = "v4.1"
	v := struct {
		Version  string `json:"version"`
		Stack    bool   `json:"stack"`
		Filter   bool   `json:"filter"`
		Running  bool   `json:"running"`
		Default  string `json:"default,omitempty"`
		LogFlags uint64 `json:"log_flags"`
		Active   int    `json:"active"`
	}{Version: cli.BuildVersion()}
	if !t.json {
		fmt.Fprintf(t.out, "ipf: IP Filter: %s (ionet %s)\n", language, v.Version)
	}
	err := t.stack()
	if v.Stack = err == nil; v.Stack {
		var f protocol.FilterRow
		f, err = t.s.Filter()
		v.Filter, v.Running, v.Default = err == nil, f.Enabled, f.Default
	}
	if v.Filter {
		v.LogFlags, v.Active = t.number("fr_flags"), int(t.number("fr_active"))
	}
	if t.json {
		t.row(v)
	} else if v.Stack {
		fmt.Fprintf(t.out, "Kernel: IP Filter: %s\nRunning: %s\n", language, map[bool]string{true: "yes", false: "no"}[v.Running])
	}
	switch {
	case v.Stack && errors.Is(err, syscall.ENODEV):
		if !t.json {
			fmt.Fprintln(t.out, "Filter: not loaded; mount -Ttcpip lsm-ipfilter.so loads it")
		}
		return nil
	case err != nil:
		return refusal(err)
	}
	if !t.json {
		fmt.Fprintf(t.out, "Log Flags: %s\nDefault: %s all, Logging: available\nActive list: %d\n", logText(v.LogFlags), v.Default, v.Active)
	}
	return nil
}
