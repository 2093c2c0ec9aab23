package ipfilter

import (
	"errors"
	"fmt"
	"slices"
	"syscall"
	"testing"

	"ionet/ipl"
	"ionet/stack/packet"
)

func TestStats(t *testing.T) {
	r := newRig(t)
	loadText(t, r, `
count in proto udp all
block in log all
pass in log quick proto udp all keep state
pass in quick proto tcp all keep state
pass in quick proto icmp all keep state
log in proto 98 all
`)
	r.want("a datagram", r.forth(datagram(inner, outer, 1025, 53)), true)
	r.want("one of its state", r.forth(datagram(inner, outer, 1025, 53)), true)
	r.want("a connection", r.forth(seg(inner, outer, 9, 80, syn, 1, 0, 1000, 0)), true)
	r.want("a blocked one", r.forth(ip4(inner, outer, 98, nil)), false)
	r.want("a short one", r.forth(ip4(inner, outer, packet.ProtoTCP, make([]byte, 4))), false)
	in := r.Stats().In
	if want := (DirStats{Passed: 3, Blocked: 2, Logged: 4, LoggedPassed: 2, LoggedBlocked: 1, Counted: 2, Short: 1, NewStates: 2, BadStates: 1}); in != want {
		t.Errorf("in %+v, want %+v", in, want)
	}
	if s := r.Stats().States; s.Added != 2 || s.UDP != 1 || s.TCP != 1 || s.ICMP != 0 {
		t.Errorf("states %+v", s)
	}

	// Counters of one rule, then all.
	rule, err := ipl.Parse("", []byte("count in proto udp all"), ipl.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Edit([]Op{{Kind: Zero, Rule: rule[0]}}); err != nil {
		t.Fatal(err)
	}
	r.wantHits("one rule is zero", false, 0, 4, 1, 2, 0, 1)
	if in.Passed != r.Stats().In.Passed {
		t.Error("the counters of packets are zero too")
	}
	if err := r.Edit([]Op{{Kind: Zero}}); err != nil {
		t.Fatal(err)
	}
	r.wantHits("all are", false, 0, 0, 0, 0, 0, 0)
	if in := r.Stats().In; in != (DirStats{}) {
		t.Errorf("in %+v", in)
	}
}

// A set that takes the place of one as large is not both of them, and one that goes goes soon.
func TestLargeSets(t *testing.T) {
	r := newRig(t)
	const n = maxRules - 1
	ops := make([]Op, 0, 2*n)
	for i := range n {
		ops = append(ops, Op{Kind: Add, Rule: aRule(ipl.Block, false, func(x *ipl.Rule) { x.Src = network(fmt.Sprintf("10.%d.%d.%d/32", i>>16, i>>8&255, i&255)) })})
	}
	all := Op{Kind: Flush, In: true, Out: true, V4: true, V6: true}
	for range 2 {
		if err := r.Edit(append([]Op{all}, ops...)); err != nil {
			t.Fatal(err)
		}
	}
	one := func(i int) Op { return Op{Kind: Add, Rule: aRule(ipl.Pass, true, func(x *ipl.Rule) { x.TTL = i })} }
	if err := r.Edit([]Op{one(1), one(2)}); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("one too many: %v", err)
	}
	if err := r.Edit([]Op{one(1), {Kind: Remove, Rule: ops[0].Rule}, one(2)}); err != nil {
		t.Errorf("one more when one has gone: %v", err)
	}
	for i := range ops {
		ops[i].Kind = Remove
	}
	slices.Reverse(ops) // as ipf does
	if err := r.Edit(ops[:n-1]); err != nil || len(r.Rules(Active, false, false)) != 0 || len(r.Rules(Active, true, false)) != 2 {
		t.Errorf("all have gone: %v", err)
	}
}
