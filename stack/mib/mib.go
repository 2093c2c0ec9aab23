// Package mib is where sysctl nodes and counters are declared, once, beside
// the code that uses them. Declarations are global and made while the program
// starts; values belong to one stack ([Values]).
package mib

import (
	"fmt"
	"sort"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
)

// Kind is the type of a node.
type Kind uint8

const (
	KindInt Kind = iota
	KindString
	KindTable // read by the tools that know it; sysctl says which
)

func (k Kind) String() string { return [...]string{"int", "string", "table"}[k] }

// Node is one declared sysctl node.
type Node struct {
	Name     string
	Kind     Kind
	Doc      string // one sentence, for the reference page
	Default  int64
	DefaultS string
	Min, Max int64
	ReadOnly bool
	// RaiseOnly: a smaller value than the present one is EINVAL.
	RaiseOnly bool
	// Use names the tool that shows a KindTable node.
	Use string
	id  int
}

// Option changes a declaration.
type Option func(*Node)

// Range bounds what may be written; outside is EINVAL.
func Range(min, max int64) Option { return func(n *Node) { n.Min, n.Max = min, max } }

// Bool is Range(0, 1).
func Bool() Option { return Range(0, 1) }

// ReadOnly refuses writes with EPERM.
func ReadOnly() Option { return func(n *Node) { n.ReadOnly = true } }

// RaiseOnly refuses to lower the value.
func RaiseOnly() Option { return func(n *Node) { n.RaiseOnly = true } }

var (
	nodes  []*Node
	byName = map[string]*Node{}
)

func declare(n *Node, opts []Option) *Node {
	for _, o := range opts {
		o(n)
	}
	if byName[n.Name] != nil {
		panic("mib: " + n.Name + " declared twice")
	}
	n.id = len(nodes)
	nodes = append(nodes, n)
	byName[n.Name] = n
	return n
}

// Int declares an integer node.
func Int(name string, def int64, doc string, opts ...Option) *Node {
	return declare(&Node{Name: name, Kind: KindInt, Doc: doc, Default: def, Min: -1 << 31, Max: 1<<31 - 1}, opts)
}

// String declares a string node.
func String(name, def, doc string, opts ...Option) *Node {
	return declare(&Node{Name: name, Kind: KindString, Doc: doc, DefaultS: def}, opts)
}

// Table declares a node whose content the named tool shows.
func Table(name, use, doc string) *Node {
	return declare(&Node{Name: name, Kind: KindTable, Doc: doc, Use: use, ReadOnly: true}, nil)
}

// Lookup finds a declaration by its full name, or answers nil.
func Lookup(name string) *Node { return byName[name] }

// Nodes are the declarations at or below prefix ("" for all), in order of name.
func Nodes(prefix string) []*Node {
	var out []*Node
	for _, n := range nodes {
		if prefix == "" || n.Name == prefix || strings.HasPrefix(n.Name, prefix+".") {
			out = append(out, n)
		}
	}
	sort.Slice(out, func(i, j int) bool { return out[i].Name < out[j].Name })
	return out
}

// Counter is the number of a declared counter.
type Counter uint16

// CounterInfo is what was declared of a counter. Proto is the heading of
// netstat -s; Name is the short name, also the reason of a drop; Sentence is
// netstat's, where # stands for the value and {s}, {es}, {y} for a plural
// ending. A sentence that begins with "(" continues the line before it, one with
// a tab is part of what stands above it. One with a Heading is a line of a
// histogram: it is shown below the heading, and only when it is not zero.
type CounterInfo struct {
	Proto, Name, Sentence string
	Heading               string
}

var counters []CounterInfo

// NewCounter declares a counter.
func NewCounter(proto, name, sentence string) Counter {
	return NewCounterUnder("", proto, name, sentence)
}

// NewCounterUnder declares a line of the histogram that heading names. The lines
// of one histogram are declared one after the other.
func NewCounterUnder(heading, proto, name, sentence string) Counter {
	counters = append(counters, CounterInfo{proto, name, sentence, heading})
	return Counter(len(counters) - 1)
}

// Counters are all declared counters; the index is the Counter.
func Counters() []CounterInfo { return counters }

// Info is what was declared of c.
func (c Counter) Info() CounterInfo { return counters[c] }

// Check is asked before a node changes, and may act on the change. It runs
// under the lock of the values: it must not set a node itself.
type Check func(old, new int64) error

// Values are one stack's nodes and counters.
type Values struct {
	ints  []atomic.Int64
	strs  []atomic.Pointer[string]
	count []atomic.Uint64
	mu    sync.Mutex
	check map[*Node][]Check
	strck map[*Node]func(old, new string) error
	read  map[*Node]func() string
}

// NewValues answers every node at its default and every counter at zero.
func NewValues() *Values {
	v := &Values{
		ints:  make([]atomic.Int64, len(nodes)),
		strs:  make([]atomic.Pointer[string], len(nodes)),
		count: make([]atomic.Uint64, len(counters)),
		check: map[*Node][]Check{},
		strck: map[*Node]func(old, new string) error{},
		read:  map[*Node]func() string{},
	}
	for i, n := range nodes {
		v.ints[i].Store(n.Default)
		s := n.DefaultS
		v.strs[i].Store(&s)
	}
	return v
}

// Int is the value of an integer node. It is cheap enough for the packet path.
func (v *Values) Int(n *Node) int64 { return v.ints[n.id].Load() }

// On reports whether an integer node is not zero.
func (v *Values) On(n *Node) bool { return v.ints[n.id].Load() != 0 }

// Str is the value of a string node.
func (v *Values) Str(n *Node) string { return *v.strs[n.id].Load() }

// Put sets an integer node from inside the stack, without its checks.
func (v *Values) Put(n *Node, x int64) { v.ints[n.id].Store(x) }

// PutStr sets a string node from inside the stack, without its checks.
func (v *Values) PutStr(n *Node, s string) { v.strs[n.id].Store(&s) }

// OnChange has f asked, and told, of every change of n.
func (v *Values) OnChange(n *Node, f Check) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.check[n] = append(v.check[n], f)
}

// OnChangeStr is OnChange for a string node.
func (v *Values) OnChangeStr(n *Node, f func(old, new string) error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.strck[n] = f
}

// OnRead makes the value of n what f answers (a live figure).
func (v *Values) OnRead(n *Node, f func() string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.read[n] = f
}

// Get is the text of a node's value. Errors: ENOENT (no such node),
// EOPNOTSUPP (a table).
func (v *Values) Get(name string) (string, error) {
	n := byName[name]
	if n == nil {
		return "", syscall.ENOENT
	}
	v.mu.Lock()
	read := v.read[n]
	v.mu.Unlock()
	switch {
	case read != nil:
		return read(), nil
	case n.Kind == KindInt:
		return strconv.FormatInt(v.Int(n), 10), nil
	case n.Kind == KindString:
		return v.Str(n), nil
	}
	return "", syscall.EOPNOTSUPP
}

// Set writes a node from text (numbers in base 0) and answers the old text.
// Errors: ENOENT, EPERM (read-only), EINVAL with what would be right.
func (v *Values) Set(name, text string) (old string, err error) {
	n := byName[name]
	if n == nil {
		return "", syscall.ENOENT
	}
	if n.ReadOnly {
		return "", fmt.Errorf("%s is read-only: %w", name, syscall.EPERM)
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if n.Kind == KindString {
		old = v.Str(n)
		if f := v.strck[n]; f != nil {
			if err := f(old, text); err != nil {
				return "", err
			}
		}
		v.PutStr(n, text)
		return old, nil
	}
	x, err := strconv.ParseInt(strings.TrimSpace(text), 0, 64)
	if err != nil {
		return "", fmt.Errorf("%s: %q is not a number: %w", name, text, syscall.EINVAL)
	}
	if x < n.Min || x > n.Max {
		return "", fmt.Errorf("%s: %d is out of range, %d to %d: %w", name, x, n.Min, n.Max, syscall.EINVAL)
	}
	was := v.Int(n)
	if n.RaiseOnly && x < was {
		return "", fmt.Errorf("%s can only be raised, it is %d: %w", name, was, syscall.EINVAL)
	}
	for _, f := range v.check[n] {
		if err := f(was, x); err != nil {
			return "", err
		}
	}
	v.ints[n.id].Store(x)
	return strconv.FormatInt(was, 10), nil
}

// Add adds to a counter.
func (v *Values) Add(c Counter, n uint64) { v.count[c].Add(n) }

// Count is the value of a counter.
func (v *Values) Count(c Counter) uint64 { return v.count[c].Load() }
