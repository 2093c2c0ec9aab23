package ipfilter

import (
	"fmt"
	"slices"
	"syscall"

	"ionet/ipl"
)

// Set is one of the two sets of rules.
type Set uint8

const (
	Active Set = iota
	Inactive
)

// OpKind says what an [Op] does.
type OpKind uint8

const (
	Add    OpKind = iota + 1 // Rule, at its place; EEXIST
	Remove                   // the rule that is Rule but for its place; ESRCH
	Flush                    // every rule of the direction and version
	Swap                     // active and inactive change places
	Zero                     // the counters of Rule; if that has no action, of all rules of both sets and of packets
)

// Op is one step of an edit.
type Op struct {
	Kind OpKind
	Set  Set
	Rule ipl.Rule
	// Flush: which.
	In, Out, V4, V6 bool
}

// OpError is the step that an edit failed at.
type OpError struct {
	Index int
	Rule  ipl.Rule
	Err   error
}

func (e *OpError) Error() string {
	if e.Rule.Line > 0 {
		return fmt.Sprintf("line %d: %v", e.Rule.Line, e.Err)
	}
	return e.Err.Error()
}

// Unwrap is the reason.
func (e *OpError) Unwrap() error { return e.Err }

// groupKey names a group of rules.
type groupKey struct {
	dir, side int
	name      string
}

// ruleset is one set, immutable once compiled.
type ruleset struct {
	n      int         // rules in its lists
	main   [2][2]*list // by direction and version
	groups map[groupKey]*list
	views  [asides]*view
}

// view is the rules of a set that are for one thing, with the heads of their groups, as the packet path
// reads them. IPFilter keeps its rules of accounting in lists of their own, too.
type view struct {
	main   [2][2]*list
	groups map[groupKey]*list
}

// view is that of the set; nil: there is no such rule.
func (s *ruleset) view(a aside) *view {
	any, grouped := false, false
	s.each(func(l *list) { any = any || l.has(a) })
	for _, l := range s.groups { // map order: one is enough
		grouped = grouped || l.has(a)
	}
	if !any {
		return nil
	}
	v := &view{groups: make(map[groupKey]*list, len(s.groups))}
	for k, l := range s.groups { // map order: into another map
		v.groups[k] = l.only(a, grouped)
	}
	for d := range s.main {
		for n := range s.main[d] {
			v.main[d][n] = s.main[d][n].only(a, grouped)
			v.link(v.main[d][n], d, n)
		}
	}
	for k, l := range v.groups { // map order: each on its own
		v.link(l, k.dir, k.side)
	}
	return v
}

// has reports whether a list has rules for a.
func (l *list) has(a aside) bool {
	return slices.ContainsFunc(l.rules, func(r *rule) bool { return r.aside == a })
}

// only is the rules of a list for a, and if there are such in groups those that lead to groups.
func (l *list) only(a aside, grouped bool) *list {
	n := &list{}
	for _, r := range l.rules {
		if r.aside == a || grouped && (r.Head != "" || r.Action == ipl.Call) {
			n.rules = append(n.rules, r)
		}
	}
	return n
}

// link compiles a list, and finds the groups that its rules lead to.
func (v *view) link(l *list, dir, side int) {
	l.members, l.view = make([]*list, len(l.rules)), v
	for n, r := range l.rules {
		if r.Head != "" {
			l.members[n] = v.groups[groupKey{dir, side, r.Head}]
		}
	}
	l.compile()
}

// clone is a set with lists of its own of the same rules.
func (s *ruleset) clone() *ruleset {
	n := &ruleset{groups: map[groupKey]*list{}, n: s.n}
	for d := range s.main {
		for v := range s.main[d] {
			n.main[d][v] = &list{rules: slices.Clone(s.main[d][v].rules)}
		}
	}
	for k, l := range s.groups { // map order: into another map
		n.groups[k] = &list{rules: slices.Clone(l.rules)}
	}
	return n
}

func (s *ruleset) each(f func(*list)) {
	for d := range s.main {
		for _, l := range s.main[d] {
			f(l)
		}
	}
	for _, l := range s.groups { // map order: each on its own
		f(l)
	}
}

// compile makes s ready for the packet path.
func (s *ruleset) compile(f *Filter) *ruleset {
	for d := range s.main {
		for v := range s.main[d] {
			if s.main[d][v] == nil {
				s.main[d][v] = &list{}
			}
		}
	}
	for d := range s.main {
		for v := range s.main[d] {
			s.link(s.main[d][v], d, v)
		}
	}
	for k, l := range s.groups { // map order: each on its own
		s.link(l, k.dir, k.side)
	}
	for a := range s.views {
		s.views[a] = s.view(aside(a))
	}
	return s
}

// link finds the groups that rules of l are the heads of.
func (s *ruleset) link(l *list, dir, v int) {
	l.members = make([]*list, len(l.rules))
	for n, r := range l.rules {
		r.number.Store(int32(n + 1))
		if r.Head != "" {
			l.members[n] = s.groups[groupKey{dir, v, r.Head}]
		}
	}
}

// families are the sides that a rule is in.
func families(r *ipl.Rule) []int {
	switch r.Family {
	case ipl.Inet:
		return []int{0}
	case ipl.Inet6:
		return []int{1}
	}
	return []int{0, 1}
}

// of is the list that a rule belongs to; nil: its group has no head.
func (s *ruleset) of(r *ipl.Rule, v int) *list {
	if r.Group == "" || r.Group == "0" {
		return s.main[dirOf(r.Out)][v]
	}
	return s.groups[groupKey{dirOf(r.Out), v, r.Group}]
}

// textOf is what a rule says, the same of rules that differ in nothing but where
// they stand.
func textOf(r ipl.Rule) string {
	r.Line, r.At = 0, -1
	return r.String()
}

// index is the rules by what they say, made when it is first asked for.
func (l *list) index() map[string]*rule {
	if l.texts == nil {
		l.texts = make(map[string]*rule, len(l.rules))
		for _, r := range l.rules {
			l.texts[r.text] = r
		}
	}
	return l.texts
}

func (s *ruleset) add(f *Filter, r *rule) error {
	if k := r.KeepState; k != nil && k.NewISN && (r.Fast || r.To != (ipl.Target{}) || r.ReplyTo != (ipl.Target{})) {
		return fmt.Errorf("newisn: what goes its own way passes one hook only, and would be numbered there alone: %w", syscall.EOPNOTSUPP)
	}
	for _, v := range families(&r.Rule) {
		l := s.of(&r.Rule, v)
		if l == nil && s.calls(r.Out, v) > 0 {
			l = &list{}
			s.groups[groupKey{dirOf(r.Out), v, r.Group}] = l
		}
		if l == nil {
			return fmt.Errorf("group %s: no rule that is in force is its head, and none calls a group-map: %w", r.Group, syscall.ESRCH)
		}
		if l.index()[r.text] != nil {
			return syscall.EEXIST
		}
		if k := (groupKey{dirOf(r.Out), v, r.Head}); r.Head != "" && s.leads(k, r.Group, map[string]bool{}) {
			return fmt.Errorf("head %s in group %s: the one leads to the other already: %w", r.Head, r.Group, syscall.ELOOP)
		}
		l.texts[r.text] = r
		at := len(l.rules)
		if r.At >= 0 {
			at = min(max(r.At-1, 0), at)
		}
		l.rules = slices.Insert(l.rules, at, r)
		s.n++
		if r.Head != "" {
			k := groupKey{dirOf(r.Out), v, r.Head}
			if s.groups[k] == nil {
				s.groups[k] = &list{}
			}
		}
	}
	return nil
}

// leads reports whether a group is the other one, or leads to it.
func (s *ruleset) leads(from groupKey, to string, seen map[string]bool) bool {
	if from.name == to {
		return true
	}
	if seen[from.name] || s.groups[from] == nil {
		return false
	}
	seen[from.name] = true
	return slices.ContainsFunc(s.groups[from].rules, func(r *rule) bool {
		return r.Head != "" && s.leads(groupKey{from.dir, from.side, r.Head}, to, seen)
	})
}

// find is the rule that says the same, and its list; ESRCH.
func (s *ruleset) find(r *ipl.Rule, v int) (*list, *rule, error) {
	l := s.of(r, v)
	if l == nil {
		return nil, nil, syscall.ESRCH
	}
	is := l.index()[textOf(*r)]
	if is == nil {
		return nil, nil, syscall.ESRCH
	}
	return l, is, nil
}

// place is where a rule of the list stands: where it stood, or before that when others have gone.
func (l *list) place(r *rule) int {
	for at := min(int(r.number.Load()), len(l.rules)) - 1; at >= 0; at-- {
		if l.rules[at] == r {
			return at
		}
	}
	return slices.Index(l.rules, r)
}

func (s *ruleset) remove(r *ipl.Rule) error {
	for _, v := range families(r) {
		l, is, err := s.find(r, v)
		if err != nil {
			return err
		}
		if k := (groupKey{dirOf(r.Out), v, r.Head}); r.Head != "" && s.groups[k] != nil && len(s.groups[k].rules) > 0 {
			return fmt.Errorf("group %s still has rules: %w", r.Head, syscall.EBUSY)
		}
		if r.Action == ipl.Call && s.calls(r.Out, v) == 1 && s.headless(r.Out, v) {
			return fmt.Errorf("groups that only it leads to still have rules: %w", syscall.EBUSY)
		}
		delete(l.index(), is.text)
		at := l.place(is)
		l.rules = slices.Delete(l.rules, at, at+1)
		s.n--
	}
	return nil
}

// calls is how many rules call a group-map: then groups need no head.
func (s *ruleset) calls(out bool, v int) (n int) {
	s.each(func(l *list) {
		for _, r := range l.rules {
			if r.Action == ipl.Call && r.Out == out && slices.Contains(families(&r.Rule), v) {
				n++
			}
		}
	})
	return n
}

// headless reports a group with rules that no rule is the head of.
func (s *ruleset) headless(out bool, v int) bool {
	heads := map[string]bool{}
	s.each(func(l *list) {
		for _, r := range l.rules {
			if r.Out == out && slices.Contains(families(&r.Rule), v) {
				heads[r.Head] = true
			}
		}
	})
	for k, l := range s.groups { // map order: one is enough
		if k.dir == dirOf(out) && k.side == v && len(l.rules) > 0 && !heads[k.name] {
			return true
		}
	}
	return false
}

func (s *ruleset) flush(o *Op) {
	for d := range s.main {
		if d == 0 && !o.In || d == 1 && !o.Out {
			continue
		}
		for v := range s.main[d] {
			if v == 0 && !o.V4 || v == 1 && !o.V6 {
				continue
			}
			s.main[d][v] = &list{}
			for k := range s.groups { // map order: those of one kind go
				if k.dir == d && k.side == v {
					delete(s.groups, k)
				}
			}
		}
	}
	s.n = s.size()
}

// maxRules bounds a set.
const maxRules = 100_000

// Edit carries out all of ops or, with an [OpError], none. Packets see all of
// it or nothing; rules that stay keep their counters. It must not be called
// inside a Work. Reasons: EEXIST, ESRCH, EBUSY, ELOOP, ENOSPC, EOPNOTSUPP.
func (f *Filter) Edit(ops []Op) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	sets := [2]*ruleset{f.sets[0].clone(), f.sets[1].clone()}
	var zeroed []*rule
	zero, swapped := false, false
	for n := range ops {
		o := &ops[n]
		s, err := sets[o.Set], error(nil)
		switch o.Kind {
		case Add:
			err = s.add(f, newRule(f, o.Rule))
			if err == nil && s.n > maxRules {
				err = fmt.Errorf("more than %d rules: %w", maxRules, syscall.ENOSPC)
			}
		case Remove:
			err = s.remove(&o.Rule)
		case Flush:
			s.flush(o)
		case Swap:
			sets[0], sets[1] = sets[1], sets[0]
			swapped = !swapped
		case Zero:
			if o.Rule.Action == 0 {
				zero = true
				break
			}
			for _, v := range families(&o.Rule) {
				var is *rule
				if _, is, err = s.find(&o.Rule, v); err != nil {
					break
				}
				zeroed = append(zeroed, is)
			}
		default:
			err = syscall.EINVAL
		}
		if err != nil {
			return &OpError{n, o.Rule, err}
		}
	}
	for n := range sets {
		sets[n].compile(f)
		sets[n].each(func(l *list) { l.texts = nil })
	}
	f.sets = sets
	f.active.Store(f.sets[0])
	f.gen.Add(1)
	if swapped {
		f.env.MIB.Put(nodeActive, 1-f.env.MIB.Int(nodeActive))
	}
	for _, r := range zeroed {
		r.zero()
	}
	if zero {
		f.zero()
	}
	return nil
}

func (s *ruleset) size() (n int) {
	s.each(func(l *list) { n += len(l.rules) })
	return n
}

func (r *rule) zero() {
	r.Hits.Store(0)
	r.Bytes.Store(0)
}

func (f *Filter) zero() {
	for _, s := range f.sets {
		s.each(func(l *list) {
			for _, r := range l.rules {
				r.zero()
			}
		})
	}
	for d := range f.stats {
		for v := range f.stats[d] {
			for _, c := range f.stats[d][v].all() {
				c.Store(0)
			}
		}
	}
}

// RuleInfo is a rule as ipfstat shows it.
type RuleInfo struct {
	ipl.Rule
	Number      int // in its list, from 1
	Hits, Bytes uint64
	States      int64
}

// Rules are the rules of a list in order, those of a group behind its head; groups without
// one come last.
func (f *Filter) Rules(set Set, out, v6 bool) (all []RuleInfo) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var walk func(l *list)
	seen := map[*list]bool{}
	walk = func(l *list) {
		seen[l] = true
		for n, r := range l.rules {
			all = append(all, RuleInfo{r.Rule, n + 1, r.Hits.Load(), r.Bytes.Load(), r.live.Load()})
			if m := l.members[n]; m != nil {
				walk(m)
			}
		}
	}
	s := f.sets[set]
	walk(s.main[dirOf(out)][side(v6)])
	var others []string          // that only group-maps lead to
	for k, l := range s.groups { // map order: they are sorted
		if k.dir == dirOf(out) && k.side == side(v6) && !seen[l] {
			others = append(others, k.name)
		}
	}
	slices.Sort(others)
	for _, name := range others {
		if l := s.groups[groupKey{dirOf(out), side(v6), name}]; !seen[l] {
			walk(l)
		}
	}
	return all
}
