package ipfilter

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"

	"ionet/stack/packet"
)

// talk has r know a connection, a datagram that was answered, and an echo.
func talk(r *rig) {
	r.Helper()
	r.want("SYN", r.forth(seg(inner, outer, 9, 80, syn, 100, 0, 1000, 0)), true)
	r.want("SYN|ACK", r.back(seg(outer, inner, 80, 9, syn|ack, 200, 101, 1000, 0)), true)
	r.want("ACK", r.forth(seg(inner, outer, 9, 80, ack, 101, 201, 1000, 0)), true)
	r.want("a question", r.forth(datagram(inner, outer, 1025, 53)), true)
	r.want("its answer", r.back(datagram(outer, inner, 53, 1025)), true)
	r.want("an echo", r.forth(ip4(inner, outer, packet.ProtoICMP, []byte{8, 0, 0, 0, 0, 7, 0, 1})), true)
}

func sortedStates(r *rig) []string {
	var all []string
	for _, s := range r.States(0, 0) {
		all = append(all, fmt.Sprintf("%+v", s))
	}
	slices.Sort(all)
	return all
}

// What was saved is known to another filter as it was: who was in the middle of
// something goes on.
func TestSaveAndRestore(t *testing.T) {
	a, b := newRig(t), newRig(t)
	stateful(a)
	talk(a)
	saved := a.Save()
	stateful(b)
	b.now = a.now
	n, err := b.Restore(saved)
	if err != nil || n != 3 {
		t.Fatalf("%d states, %v; want 3", n, err)
	}
	if got, want := sortedStates(b), sortedStates(a); !slices.Equal(got, want) {
		t.Errorf("restored\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	again := b.Save()
	if len(again) != len(saved) {
		t.Errorf("saved again: %d octets, at first %d", len(again), len(saved))
	}
	b.want("data of the connection", b.back(seg(outer, inner, 80, 9, ack, 201, 101, 1000, 10)), true)
	b.want("data out of its window", b.back(seg(outer, inner, 80, 9, ack, 2001, 101, 1000, 10)), false)
	b.want("the reply", b.back(ip4(outer, inner, packet.ProtoICMP, []byte{0, 0, 0, 0, 0, 7, 0, 1})), true)
	if rules := b.Rules(Active, false, false); rules[1].States != 1 {
		t.Errorf("the rule in force has %d states, want 1", rules[1].States)
	}
	if n, err := b.Restore(saved); n != 0 || err != nil {
		t.Errorf("restored a second time: %d, %v; want none", n, err)
	}
	b.pass(121)
	b.want("an answer after its time", b.back(datagram(outer, inner, 53, 1025)), false)
}

func TestRestoreRefuses(t *testing.T) {
	a, b := newRig(t), newRig(t)
	stateful(a)
	talk(a)
	saved := a.Save()
	for name, tc := range map[string]struct {
		b    []byte
		want string
	}{
		"nothing":           {nil, "a version are expected"},
		"another file":      {[]byte("#!/bin/sh and so on"), "are expected"},
		"another version":   {append([]byte("ipfstat\x01"), saved[8:]...), "is expected"},
		"half a head":       {saved[:30], "where"},
		"too many rules":    {append(slices.Clone(saved[:8]), 0xff, 0xff, 0xff, 0xff), "number of rules 4294967295: at most"},
		"a file cut off":    {saved[:len(saved)-1], "number of states 3: at most 2"},
		"one too long":      {append(slices.Clone(saved), 0), "1 octets behind"},
		"a rule of nothing": {bytes.Replace(saved, []byte("pass in"), []byte("pass on"), 1), `"in" or "out"`},
		"no state's rule":   {bytes.Replace(saved, []byte("keep state"), []byte("keep frags"), 1), "keeps state"},
		"a state of TCP":    {append(slices.Clone(saved[:len(saved)-1]), 99), "state of a side 99: at most 10"},
	} {
		n, err := b.Restore(tc.b)
		if err == nil || n != 0 || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %d, %v; want an error with %q", name, n, err, tc.want)
		}
		if len(b.States(0, 0)) != 0 {
			t.Fatalf("%s: %d states have come", name, len(b.States(0, 0)))
		}
	}
}

// FuzzRestore: whatever the octets are, states come whole or none; what has come is
// saved and read again.
func FuzzRestore(f *testing.F) {
	r := newRig(f)
	stateful(r)
	talk(r)
	saved := r.Save()
	f.Add(saved)
	f.Add(saved[:8])
	f.Fuzz(func(t *testing.T, b []byte) {
		r := newRig(t)
		n, err := r.Restore(b)
		if got := len(r.States(0, 0)); got != n || err != nil && n != 0 {
			t.Fatalf("%d states of %d, %v", got, n, err)
		}
		r.back(seg(outer, inner, 80, 9, ack, 201, 101, 1000, 10))
		r.forth(datagram(inner, outer, 1025, 53))
		o := newRig(t)
		o.now = r.now
		live := 0
		for _, s := range r.States(0, 0) {
			if s.TTL > 0 {
				live++
			}
		}
		if m, err := o.Restore(r.Save()); err != nil || m != live {
			t.Fatalf("of %d live states %d were saved and restored: %v", live, m, err)
		}
	})
}
