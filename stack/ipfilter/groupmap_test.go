package ipfilter

import (
	"errors"
	"fmt"
	"net/netip"
	"syscall"
	"testing"

	"ionet/ipl"
)

func (r *rig) setPools(text string) {
	r.Helper()
	pools, err := ipl.ParsePools("pools", []byte(text), ipl.Options{})
	if err != nil {
		r.Fatal(err)
	}
	for _, p := range pools {
		if err := r.EditPools([]ipl.Pool{p}, nil); err != nil {
			r.Fatal(err)
		}
	}
}

// An address chooses the group of rules that are asked, as in ippool(5).
func TestGroupMaps(t *testing.T) {
	r := newRig(t)
	rules, err := ipl.Parse("t", []byte("call now fr_srcgrpmap/1010 in all\nblock in all group 1020"), ipl.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Edit([]Op{{Kind: Add, Rule: rules[1]}}); !errors.Is(err, syscall.ESRCH) {
		t.Errorf("a rule in a group that nobody leads to: %v", err)
	}
	if err := r.Edit([]Op{{Kind: Add, Rule: rules[0]}, {Kind: Add, Rule: rules[1]}, {Kind: Remove, Rule: rules[0]}}); !errors.Is(err, syscall.EBUSY) {
		t.Errorf("the only way to a group is taken away: %v", err)
	}
	r.setPools(`
group-map in role = ipf number = 1010 { 1.1.1.1/32, group = 1020; 3.3.0.0/16, group = 1030; 3.3.3.0/24, group = 1020; };
group-map out role = ipf number = 2010 group = 2020 { 2.2.2.2/32; 4.4.0.0/16; 5.0.0.0/8, group = 2040; };
`)
	text := `
call now fr_srcgrpmap/1010 in all
call now fr_dstgrpmap/2010 out all
pass in quick proto 98 all group 1020
block in all group 1020
count in all group 1020
block in proto 97 all group 1030
block out all group 2020
pass out quick all group 2040
pass in proto 99 all
`
	loadText(t, r, text)
	for _, tc := range []struct {
		src, dst string
		proto    uint8
		out      bool
		pass     bool
	}{
		{"1.1.1.1", "9.9.9.9", 17, false, false},
		{"1.1.1.1", "9.9.9.9", 98, false, true},
		{"1.1.1.1", "9.9.9.9", 99, false, true}, // no quick: the list goes on, and its last rule decides
		{"1.1.1.2", "9.9.9.9", 17, false, true},
		{"3.3.1.1", "9.9.9.9", 17, false, true},
		{"3.3.1.1", "9.9.9.9", 97, false, false},
		{"3.3.3.1", "9.9.9.9", 17, false, false},
		{"9.9.9.9", "1.1.1.1", 17, false, true},
		{"9.9.9.9", "2.2.2.2", 17, true, false},
		{"9.9.9.9", "4.4.1.1", 17, true, false},
		{"9.9.9.9", "5.4.1.1", 17, true, true},
	} {
		r.want(fmt.Sprint(tc), r.send(r.en0, tc.out, ip4(tc.src, tc.dst, tc.proto, make([]byte, 8))), tc.pass)
	}
	r.wantHits("in", false, 8, 1, 1, 3, 4, 1)
	for n, want := range []string{"call now fr_srcgrpmap/1010 in all", "pass in proto 99 from any to any", "pass in quick proto 98 from any to any group 1020"} {
		if got := r.Rules(Active, false, false)[n].String(); got != want {
			t.Errorf("rule %d is %q, want %q", n, got, want)
		}
	}
	r.setPools("group-map in role = ipf number = 1010 { 9.9.9.9/32, group = 1020; };")
	r.want("one that the map no longer chooses for", r.send(r.en0, false, ip4("1.1.1.1", "9.9.9.9", 17, make([]byte, 8))), true)
	r.want("one that it now does", r.send(r.en0, false, ip4("9.9.9.9", "1.1.1.1", 17, make([]byte, 8))), false)
	if r.InPool("1010", netip.MustParseAddr("9.9.9.9")) {
		t.Error("who a group is chosen for is in a pool")
	}
}

// quick behind call ends the list if the group has decided; groups that choose each other come
// to an end.
func TestGroupMapsChooseAgain(t *testing.T) {
	r := newRig(t)
	r.setPools("group-map in role = ipf name = a group = 1 { 1.0.0.0/8; 2.0.0.0/8, group = 2; };\ngroup-map in role = ipf name = b group = 1 { 2.0.0.0/8; };")
	loadText(t, r, `
pass in all
call now fr_srcgrpmap/a in quick all
block in all
call now fr_srcgrpmap/a in all group 1
call now fr_srcgrpmap/b in proto 99 all group 2
pass in proto 98 all group 2
`)
	in := func(src string, proto uint8) bool {
		return r.send(r.en0, false, ip4(src, "9.9.9.9", proto, make([]byte, 8)))
	}
	r.want("a group that decides nothing", in("1.1.1.1", 17), false)
	r.want("a group that decides", in("2.1.1.1", 98), true)
	r.want("groups in a circle", in("2.1.1.1", 99), false)
}

// The fast path follows group-maps.
func TestGroupMapsOnTheFastPath(t *testing.T) {
	r := &cache{rig: newRig(t)}
	r.setPools("group-map in role = ipf number = 1 group = 5 { 10.0.0.0/8; };")
	loadText(t, r.rig, "block in all\ncall now fr_srcgrpmap/1 in all\npass in all group 5")
	for range 5 {
		r.want("one that is chosen for", r.forward(datagram(inner, outer, 1025, 53), false), true)
	}
	if r.took != 4 {
		t.Errorf("%d packets took the fast path, want 4", r.took)
	}
	r.setPools("group-map in role = ipf number = 1 group = 5 { 11.0.0.0/8; };")
	r.want("one that is no longer chosen for", r.forward(datagram(inner, outer, 1025, 53), false), false)
}
