package stackd

import (
	"errors"
	"maps"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"ionet/ipl"
	"ionet/protocol"
	"ionet/stack/ipfilter"
	"ionet/stack/ipnat"
)

// filterEntry is the packet filter among what is mounted.
const filterEntry = "ipfilter0"

// filterServer is what the daemon knows of the packet filter.
type filterServer struct {
	mu    sync.Mutex // one change at a time, and its record in the journal
	since time.Time
	delta [protocol.RulesPools + 1]int // octets of changes recorded since the last whole record, by language
	logs  logHub
}

// isFilter reports whether a module's file is the packet filter: lsm-ipfilter.so,
// or the one of tcpip-v4 or tcpip-v6.
func isFilter(module string) bool {
	switch strings.TrimSuffix(path.Base(module), ".so") {
	case "lsm-ipfilter", "lsm-ipfilter-v4", "lsm-ipfilter-v6", "ipfilter":
		return true
	}
	return false
}

// errNoFilter says how there would be one.
var errNoFilter = errf(unix.ENODEV, "no packet filter in this stack; mount -Ttcpip lsm-ipfilter.so loads it")

// mountFilter serves mount -Ttcpip lsm-ipfilter.so.
func (s *server) mountFilter(q protocol.MountRequest) error {
	if !isFilter(q.Module) {
		return errf(unix.ENOENT, "%s: no such module of the stack (known: lsm-ipfilter.so); drivers are mounted with -T io-net", q.Module)
	}
	if q.Options != "" {
		return errf(unix.EINVAL, "%s takes no options, not %q", q.Module, q.Options)
	}
	s.filter.mu.Lock()
	defer s.filter.mu.Unlock()
	f, err := s.eng.Engine().LoadFilter()
	if errors.Is(err, unix.EEXIST) {
		return errf(unix.EEXIST, "the packet filter is loaded already")
	}
	if err != nil {
		return err
	}
	s.filter.since, s.filter.delta = time.Now(), [len(s.filter.delta)]int{}
	s.filter.logs.open(s, f, s.eng.Engine().NAT())
	s.log.Info("packet filter loaded, without rules", "module", q.Module)
	return nil
}

// umountFilter takes it out.
func (s *server) umountFilter() error {
	s.filter.mu.Lock()
	defer s.filter.mu.Unlock()
	s.filter.logs.close()
	if s.eng.Engine().UnloadFilter() != nil {
		return errNoFilter
	}
	s.log.Info("packet filter unloaded")
	return nil
}

// changeLimit bounds what one change may gather, in octets of its steps.
const changeLimit = 64 << 20

// rulesFrame serves TypeRules: parts are gathered, the last one has all done.
func (c *conn) rulesFrame(p []byte) ([]byte, error) {
	if err := c.privileged("change rules"); err != nil {
		return nil, err
	}
	q, err := protocol.ParseRulesRequest(p)
	if err != nil {
		return nil, err
	}
	g := &c.change
	if len(g.q.Steps) > 0 && g.q.Language != q.Language || g.size+len(p) > changeLimit {
		big := g.size+len(p) > changeLimit
		*g = change{}
		if big {
			return nil, errf(unix.E2BIG, "one change has at most %d octets", changeLimit)
		}
		return nil, errf(unix.EINVAL, "a change is about one language; the parts of another one had come before")
	}
	g.q.Language, g.size = q.Language, g.size+len(p)
	g.q.Steps = append(g.q.Steps, q.Steps...)
	if q.More {
		return nil, nil
	}
	whole := g.q
	*g = change{}
	took, err := c.s.changeRules(whole)
	var b []byte
	for _, n := range took {
		b = protocol.AppendU32(b, uint32(n))
	}
	if len(b) > protocol.MaxPayload { // of a great change nobody asks what each step took
		b = nil
	}
	return b, err
}

// change is what a client has sent of a change so far. Bound: changeLimit.
type change struct {
	q    protocol.RulesRequest
	size int
}

// stepError says which step failed. The client finds the number in the sentence.
func stepError(n int, err error) error {
	e := protocol.AsError(err)
	return errf(e.Errno, "step %d: %s", n+1, e.Text)
}

// changeRules carries out a change, and writes it into the journal.
func (s *server) changeRules(q protocol.RulesRequest) (took []int, err error) {
	s.filter.mu.Lock()
	defer s.filter.mu.Unlock()
	f, nat := s.eng.Engine().Filter(), s.eng.Engine().NAT()
	if f == nil {
		return nil, errNoFilter
	}
	switch q.Language {
	case protocol.RulesFilter:
		took, err = s.changeFilter(f, q.Steps)
	case protocol.RulesNAT:
		took, err = changeNAT(nat, q.Steps)
	case protocol.RulesPools:
		took, err = changePools(f, q.Steps)
	default:
		err = errf(unix.EINVAL, "no language %d", q.Language)
	}
	if err != nil {
		return nil, err
	}
	s.recordChange(q)
	return took, nil
}

// one reads the only rule of a step's text.
func one[T any](parse func(string, []byte, ipl.Options) ([]T, error), text string) (r T, err error) {
	all, err := parse("", []byte(text), ipl.Options{})
	switch {
	case err != nil:
		return r, errf(unix.EINVAL, "%v", err)
	case len(all) != 1:
		return r, errf(unix.EINVAL, "a step is about one rule, not %d", len(all))
	}
	return all[0], nil
}

func (s *server) changeFilter(f *ipfilter.Filter, steps []protocol.RuleStep) ([]int, error) {
	took := make([]int, len(steps))
	var ops []ipfilter.Op
	var of []int // the step of each
	var after []func()
	for i, st := range steps {
		o := ipfilter.Op{}
		if st.Arg&protocol.StepInactive != 0 {
			o.Set = ipfilter.Inactive
		}
		switch st.Kind {
		case protocol.StepAdd, protocol.StepRemove:
			var err error
			if o.Rule, err = one(ipl.Parse, st.Text); err != nil {
				return nil, stepError(i, err)
			}
			if o.Kind = ipfilter.Add; st.Kind == protocol.StepRemove {
				o.Kind, took[i] = ipfilter.Remove, 1
			}
		case protocol.StepFlush:
			o.Kind = ipfilter.Flush
			o.In, o.Out = st.Arg&protocol.StepIn != 0, st.Arg&protocol.StepOut != 0
			o.V4, o.V6 = st.Arg&protocol.StepInet != 0, st.Arg&protocol.StepInet6 != 0
			for _, l := range lists {
				if (l.out && o.Out || !l.out && o.In) && (l.v6 && o.V6 || !l.v6 && o.V4) {
					took[i] += len(f.Rules(o.Set, l.out, l.v6))
				}
			}
		case protocol.StepSwap:
			o.Kind = ipfilter.Swap
		case protocol.StepZero:
			o.Kind = ipfilter.Zero
			if st.Text != "" {
				var err error
				if o.Rule, err = one(ipl.Parse, st.Text); err != nil {
					return nil, stepError(i, err)
				}
			}
		case protocol.StepFlushStates:
			after = append(after, func() { took[i] = f.FlushStates(st.Arg != 0) })
			continue
		case protocol.StepEnable:
			after = append(after, func() { _ = s.eng.Engine().EnableFilter(st.Arg != 0) }) // there is one
			continue
		default:
			return nil, stepError(i, errf(unix.EINVAL, "no step %d in rules of the filter", st.Kind))
		}
		ops, of = append(ops, o), append(of, i)
	}
	if len(ops) > 0 {
		if err := f.Edit(ops); err != nil {
			var oe *ipfilter.OpError
			if errors.As(err, &oe) {
				return nil, stepError(of[oe.Index], oe.Err)
			}
			return nil, err
		}
	}
	for _, do := range after {
		do()
	}
	return took, nil
}

// lists are the lists of rules of a set.
var lists = []struct{ out, v6 bool }{{false, false}, {true, false}, {false, true}, {true, true}}

func changeNAT(nat *ipnat.NAT, steps []protocol.RuleStep) ([]int, error) {
	took := make([]int, len(steps))
	ops := make([]ipnat.Op, len(steps))
	kinds := map[uint8]ipnat.OpKind{protocol.StepAdd: ipnat.Add, protocol.StepRemove: ipnat.Remove,
		protocol.StepFlush: ipnat.FlushRules, protocol.StepFlushStates: ipnat.FlushSessions}
	before := nat.Stats()
	for i, st := range steps {
		kind, ok := kinds[st.Kind]
		if !ok {
			return nil, stepError(i, errf(unix.EINVAL, "no step %d in rules of NAT", st.Kind))
		}
		ops[i].Kind = kind
		switch kind {
		case ipnat.FlushRules:
			took[i] = before.Rules
		case ipnat.FlushSessions:
			took[i] = before.InUse
		default:
			var err error
			if ops[i].Rule, err = one(ipl.ParseNAT, st.Text); err != nil {
				return nil, stepError(i, err)
			}
			if kind == ipnat.Remove {
				ops[i].Purge, took[i] = st.Arg != 0, 1
			}
		}
	}
	if err := nat.Edit(ops); err != nil {
		var oe *ipnat.OpError
		if errors.As(err, &oe) {
			return nil, stepError(oe.Index, oe.Err)
		}
		return nil, err
	}
	return took, nil
}

// changePools works on copies of the pools, which then take their places.
func changePools(f *ipfilter.Filter, steps []protocol.RuleStep) ([]int, error) {
	took := make([]int, len(steps))
	now, was := map[string]*editedPool{}, map[string]bool{}
	for _, p := range f.Pools() {
		now[p.Name], was[p.Name] = &editedPool{Pool: p.Pool}, true
	}
	for i, st := range steps {
		if st.Kind == protocol.StepFlush {
			took[i] = len(now)
			clear(now)
			continue
		}
		p, err := one(ipl.ParsePools, st.Text)
		if err != nil {
			return nil, stepError(i, err)
		}
		if st.Kind == protocol.StepAdd {
			now[p.Name] = &editedPool{Pool: p, changed: true}
			continue
		}
		e := now[p.Name]
		if e == nil {
			return nil, stepError(i, errf(unix.ESRCH, "no pool %s", p.Name))
		}
		switch st.Kind {
		case protocol.StepRemove:
			took[i] = len(e.Entries)
			delete(now, p.Name)
		case protocol.StepJoin:
			e.join(p.Entries)
		case protocol.StepLeave:
			if err := e.leave(p.Entries); err != nil {
				return nil, stepError(i, err)
			}
			took[i] = len(p.Entries)
		default:
			return nil, stepError(i, errf(unix.EINVAL, "no step %d in pools", st.Kind))
		}
	}
	var set []ipl.Pool
	for name, e := range now {
		if e.changed {
			set = append(set, e.Pool)
		}
		delete(was, name)
	}
	if err := f.EditPools(set, slices.Collect(maps.Keys(was))); err != nil {
		return nil, err
	}
	return took, nil
}

// editedPool is a pool that a change is being made to.
type editedPool struct {
	ipl.Pool
	changed bool
	at      map[string]int // entries by what they say, while entries join and leave
}

func (e *editedPool) index() {
	if e.at == nil {
		e.Entries = append([]ipl.PoolEntry(nil), e.Entries...)
		e.at = make(map[string]int, len(e.Entries))
		for i, x := range e.Entries {
			e.at[x.Prefix.String()] = i
		}
	}
	e.changed = true
}

func (e *editedPool) join(entries []ipl.PoolEntry) {
	e.index()
	for _, x := range entries {
		if i, ok := e.at[x.Prefix.String()]; ok {
			e.Entries[i] = x
			continue
		}
		e.at[x.Prefix.String()] = len(e.Entries)
		e.Entries = append(e.Entries, x)
	}
}

func (e *editedPool) leave(entries []ipl.PoolEntry) error {
	e.index()
	for _, x := range entries {
		i, ok := e.at[x.Prefix.String()]
		if !ok {
			return errf(unix.ESRCH, "%v is not in pool %s", x, e.Name)
		}
		last := len(e.Entries) - 1
		e.Entries[i] = e.Entries[last]
		e.at[e.Entries[i].Prefix.String()] = i
		e.Entries = e.Entries[:last]
		delete(e.at, x.Prefix.String())
	}
	return nil
}

// recordChange writes what lasts of a change into the journal. After many small
// ones all rules are written down anew, and the earlier records do not count any more.
func (s *server) recordChange(q protocol.RulesRequest) {
	if s.journal == nil {
		return
	}
	lasting := protocol.RulesRequest{Language: q.Language}
	size := 0
	for _, st := range q.Steps {
		if st.Kind != protocol.StepZero && st.Kind != protocol.StepFlushStates {
			lasting.Steps, size = append(lasting.Steps, st), size+len(st.Text)+6
		}
	}
	if len(lasting.Steps) == 0 {
		return
	}
	d := &s.filter.delta[q.Language]
	if *d += size; *d > compactAt {
		lasting.Steps, *d = s.wholeRules(q.Language), 0
		s.journal.rules(lasting, true)
		return
	}
	s.journal.rules(lasting, false)
}

// wholeRules are the steps that make all rules of a language from nothing.
func (s *server) wholeRules(language uint8) (steps []protocol.RuleStep) {
	eng := s.eng.Engine()
	add := func(arg uint8, text string) {
		steps = append(steps, protocol.RuleStep{Kind: protocol.StepAdd, Arg: arg, Text: text})
	}
	switch language {
	case protocol.RulesFilter:
		all := uint8(protocol.StepIn | protocol.StepOut | protocol.StepInet | protocol.StepInet6)
		for set := range uint8(2) {
			steps = append(steps, protocol.RuleStep{Kind: protocol.StepFlush, Arg: set | all})
			for _, l := range lists {
				for _, r := range eng.Filter().Rules(ipfilter.Set(set), l.out, l.v6) {
					r.At = -1
					add(set, r.String())
				}
			}
		}
		if !eng.FilterEnabled() {
			steps = append(steps, protocol.RuleStep{Kind: protocol.StepEnable})
		}
	case protocol.RulesNAT:
		steps = append(steps, protocol.RuleStep{Kind: protocol.StepFlush})
		for _, r := range eng.NAT().Rules() {
			add(0, r.Rule.String())
		}
	case protocol.RulesPools:
		steps = append(steps, protocol.RuleStep{Kind: protocol.StepFlush})
		for _, p := range eng.Filter().Pools() {
			for i, piece := range p.Split(1000) {
				kind := uint8(protocol.StepAdd)
				if i > 0 {
					kind = protocol.StepJoin
				}
				steps = append(steps, protocol.RuleStep{Kind: kind, Text: piece.String()})
			}
		}
	}
	return steps
}
