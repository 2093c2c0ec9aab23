package stackd

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"ionet/client"
	"ionet/protocol"
)

func withFilter(t *testing.T) *client.Stack {
	t.Helper()
	s, _ := on6(t)
	if name, err := s.Mount("tcpip", "", "lsm-ipfilter.so"); err != nil || name != filterEntry {
		t.Fatalf("mount: %q, %v", name, err)
	}
	return s
}

func adds(rules ...string) (steps []protocol.RuleStep) {
	for _, r := range rules {
		steps = append(steps, protocol.RuleStep{Kind: protocol.StepAdd, Text: r})
	}
	return steps
}

func edit(t *testing.T, s *client.Stack, language uint8, steps ...protocol.RuleStep) []int {
	t.Helper()
	took, err := s.EditRules(language, steps)
	if err != nil {
		t.Fatal(err)
	}
	return took
}

// rules are the rules of both sets, with i: in front of those of the inactive one.
func rules(t *testing.T, s *client.Stack) (all []string) {
	t.Helper()
	for _, r := range tableOf[protocol.FilterRuleRow](t, s, protocol.TableFilterRules, "") {
		if r.Set == "inactive" {
			r.Rule = "i:" + r.Rule
		}
		all = append(all, r.Rule)
	}
	return all
}

func tableOf[T any](t *testing.T, s *client.Stack, name, arg string) []T {
	t.Helper()
	rows, err := client.Table[T](s, name, arg)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return rows
}

func same(t *testing.T, got, want any, o ...cmp.Option) {
	t.Helper()
	if d := cmp.Diff(want, got, o...); d != "" {
		t.Errorf("(-want +got)\n%s", d)
	}
}

func TestFilterByTheDoor(t *testing.T) {
	s, _ := on6(t)
	_, err := s.EditRules(protocol.RulesFilter, adds("pass in all"))
	want(t, err, unix.ENODEV)
	_, err = client.Table[protocol.FilterRow](s, protocol.TableFilter, "")
	want(t, err, unix.ENODEV)
	want(t, s.Umount("/dev/io-net/ipfilter0"), unix.ENODEV)
	_, err = s.Mount("tcpip", "", "lsm-wonder.so")
	want(t, err, unix.ENOENT)
	_, err = s.Mount("tcpip", "quick", "lsm-ipfilter.so")
	want(t, err, unix.EINVAL)
	for range 2 { // loaded and unloaded, and loaded again without what there was
		if _, err := s.Mount("tcpip", "", "/lib/dll/lsm-ipfilter-v6.so"); err != nil {
			t.Fatal(err)
		}
		_, err = s.Mount("tcpip", "", "lsm-ipfilter.so")
		want(t, err, unix.EEXIST)
		same(t, rules(t, s), []string(nil))
		edit(t, s, protocol.RulesFilter, adds("pass in quick on en0 proto tcp from any to any port = 22", "block return-icmp in all", "pass out all",
			"pass in quick family inet6 proto udp all", "block in from any to any head 7", "pass in proto udp all group 7")...)
		edit(t, s, protocol.RulesNAT, adds("map en0 10.0.0.0/8 -> 192.0.2.1/32 portmap tcp/udp 40000:50000")...)
		edit(t, s, protocol.RulesPools, adds("table role = ipf type = tree name = good { 10.1.0.0/16; };")...)
		if err := s.Umount("/dev/io-net/ipfilter0"); err != nil {
			t.Fatal(err)
		}
	}
}

func TestChangesOfTheFilter(t *testing.T) {
	s := withFilter(t)
	all := uint8(protocol.StepIn | protocol.StepOut | protocol.StepInet | protocol.StepInet6)
	edit(t, s, protocol.RulesFilter, adds("block in all", "pass out quick all", "block in family inet6 all")...)
	same(t, rules(t, s), []string{"block in all", "pass out quick all", "block in family inet6 all"})

	// A step that fails leaves all as it was.
	for _, c := range []struct {
		step  int
		errno unix.Errno
		text  string
		steps []protocol.RuleStep
	}{
		{2, unix.EEXIST, "", append([]protocol.RuleStep{{Kind: protocol.StepFlush, Arg: all}}, adds("pass in all", "pass in all")...)},
		{1, unix.ESRCH, "", []protocol.RuleStep{{Kind: protocol.StepZero}, {Kind: protocol.StepRemove, Text: "pass in all"}}},
		{1, unix.ESRCH, "", []protocol.RuleStep{{Kind: protocol.StepZero, Text: "block in all"}, {Kind: protocol.StepZero, Arg: protocol.StepInactive, Text: "block in all"}}},
		{0, unix.EINVAL, "1:18", adds("pass in on proto tcp all")},
		{0, unix.EINVAL, "not 2", adds("pass in all\nblock out all")},
		{1, unix.ESRCH, "group 9", adds("pass in quick all", "pass in all group 9")},
		{0, unix.EINVAL, "no step 77", []protocol.RuleStep{{Kind: 77}}},
	} {
		_, err := s.EditRules(protocol.RulesFilter, c.steps)
		var se *client.RuleStepError
		if !errors.As(err, &se) || se.Step != c.step || !errors.Is(err, c.errno) || !strings.Contains(err.Error(), c.text) {
			t.Errorf("%v: %v; want step %d, %v, %q", c.steps, err, c.step, c.errno, c.text)
		}
	}
	same(t, len(rules(t, s)), 3)
	_, err := s.EditRules(9, adds("x"))
	want(t, err, unix.EINVAL)

	// Another set is made ready and takes the place of the first.
	same(t, edit(t, s, protocol.RulesFilter, protocol.RuleStep{Kind: protocol.StepAdd, Arg: protocol.StepInactive, Text: "pass in quick proto icmp all"},
		protocol.RuleStep{Kind: protocol.StepSwap}, protocol.RuleStep{Kind: protocol.StepFlush, Arg: all | protocol.StepInactive}), []int{0, 0, 0})
	same(t, rules(t, s), []string{"pass in quick proto icmp from any to any"})
	same(t, edit(t, s, protocol.RulesFilter, protocol.RuleStep{Kind: protocol.StepFlush, Arg: all}), []int{1})

	// A file that no frame holds: all of it or nothing.
	var many []string
	for i := range 3000 {
		many = append(many, fmt.Sprintf("block in quick on en0 proto tcp from 10.%d.%d.0/24 to any port = 80", i/256, i%256))
	}
	_, err = s.EditRules(protocol.RulesFilter, append(adds(many...), adds(many[7])...))
	var se *client.RuleStepError
	if !errors.As(err, &se) || se.Step != 3000 {
		t.Errorf("%v, want step 3000", err)
	}
	same(t, rules(t, s), []string(nil))
	edit(t, s, protocol.RulesFilter, adds(many...)...)
	same(t, rules(t, s), many)
	row := tableOf[protocol.FilterRow](t, s, protocol.TableFilter, "")[0]
	if row.Rules.In != 3000 || !row.Enabled || row.Default != "pass" || time.Since(time.Unix(row.Since, 0)) > time.Minute {
		t.Errorf("%+v", row)
	}
	edit(t, s, protocol.RulesFilter, protocol.RuleStep{Kind: protocol.StepEnable})
	if tableOf[protocol.FilterRow](t, s, protocol.TableFilter, "")[0].Enabled {
		t.Error("still enabled")
	}
}

func TestNATAndPoolsByTheDoor(t *testing.T) {
	s := withFilter(t)
	nat := []string{"map en0 10.0.0.0/8 -> 192.0.2.1/32 portmap tcp/udp 40000:50000", "rdr en0 192.0.2.1/32 port 80 -> 10.0.0.2 port 8080 tcp"}
	edit(t, s, protocol.RulesNAT, adds(nat...)...)
	_, err := s.EditRules(protocol.RulesNAT, append([]protocol.RuleStep{{Kind: protocol.StepFlush}}, adds("map en0 10.0.0.0/8 -> 192.0.2.1/32", nat[0], nat[0])...))
	var se *client.RuleStepError
	if !errors.As(err, &se) || se.Step != 3 || !errors.Is(err, unix.EEXIST) {
		t.Errorf("%v, want step 3, EEXIST", err)
	}
	rows := tableOf[protocol.NATRuleRow](t, s, protocol.TableNATRules, "")
	if len(rows) != 2 || rows[0].Rule != nat[0] || rows[0].Redirect || rows[1].Rule != nat[1] || !rows[1].Redirect {
		t.Errorf("%+v", rows)
	}
	same(t, edit(t, s, protocol.RulesNAT, protocol.RuleStep{Kind: protocol.StepRemove, Text: nat[0]}, protocol.RuleStep{Kind: protocol.StepFlushStates},
		protocol.RuleStep{Kind: protocol.StepFlush}), []int{1, 0, 2})

	entries := func(name string) (all []string) {
		for _, r := range tableOf[protocol.PoolEntryRow](t, s, protocol.TablePoolEntries, name) {
			all = append(all, r.Entry)
		}
		return all
	}
	pool := func(kind uint8, entries string) protocol.RuleStep {
		return protocol.RuleStep{Kind: kind, Text: "table role = ipf type = tree name = good { " + entries + " };"}
	}
	edit(t, s, protocol.RulesPools, pool(protocol.StepAdd, "10.1.0.0/16;"), pool(protocol.StepJoin, "!10.1.2.0/24; 2001:db8::/32;"),
		pool(protocol.StepLeave, "10.1.0.0/16;"), pool(protocol.StepJoin, "10.1.2.0/24;"))
	same(t, entries("good"), []string{"2001:db8::/32", "10.1.2.0/24"})
	_, err = s.EditRules(protocol.RulesPools, []protocol.RuleStep{pool(protocol.StepLeave, "2001:db8::/32;"), pool(protocol.StepLeave, "10.9.0.0/16;")})
	want(t, err, unix.ESRCH)
	same(t, len(entries("good")), 2)
	if r := tableOf[protocol.PoolRow](t, s, protocol.TablePools, ""); len(r) != 1 || r[0].Entries != 2 || r[0].Kind != "tree" || r[0].Role != "ipf" {
		t.Errorf("%+v", r)
	}
	same(t, edit(t, s, protocol.RulesPools, pool(protocol.StepRemove, "")), []int{2})
	_, err = client.Table[protocol.PoolEntryRow](s, protocol.TablePoolEntries, "good")
	want(t, err, unix.ESRCH)
}

func TestLogsByTheDoor(t *testing.T) {
	s := withFilter(t)
	if err := s.AddAddr("lo0", protocol.AliasReq{Addr: protocol.AddrFrom(netip.MustParseAddr("127.0.0.1"), 0), Mask: protocol.MaskAddr(protocol.AFInet, 8)}); err != nil {
		t.Fatal(err)
	}
	edit(t, s, protocol.RulesFilter, adds("pass in all", "pass out log body first proto udp from any to any port = 9 keep state")...)
	packets, states := s.RuleLog(protocol.LogPackets), s.RuleLog(protocol.LogStates)
	defer states.Close()
	type heard struct {
		rows []protocol.LogRow
		err  error
	}
	ch := make(chan heard, 1)
	go func() {
		rows, _, err := packets.Next()
		ch <- heard{rows, err}
	}()
	k, err := s.Socket(protocol.SockDgram, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	if _, err := k.Send(protocol.Msg{Addr: protocol.AddrFrom(netip.MustParseAddr("127.0.0.1"), 9), Data: []byte("hello there")}); err != nil {
		t.Fatal(err)
	}
	h := <-ch
	if h.err != nil || len(h.rows) != 1 {
		t.Fatalf("%+v", h)
	}
	r := h.rows[0]
	same(t, r.With, []string{protocol.WithState})
	if r.Event != "pass" || r.Direction != "out" || r.Interface != "lo0" || r.Rule != 1 || r.Length != 39 || !strings.HasSuffix(string(r.Packet), "hello there") {
		t.Errorf("%+v", r)
	}
	if rows, lost, err := states.Next(); err != nil || lost != 0 || len(rows) != 1 || rows[0].Event != "NEW" || rows[0].State.DstPort != 9 {
		t.Errorf("%+v, %d lost, %v", rows, lost, err)
	}
	if r := tableOf[protocol.StateRow](t, s, protocol.TableStates, ""); len(r) != 1 || r[0].Dst != "127.0.0.1" || r[0].Packets[1] != 1 || r[0].TTL > 120 || r[0].TTL < 100 {
		t.Errorf("%+v", r)
	}

	// What is saved comes back.
	saved, err := s.SaveStates(protocol.LogStates)
	if err != nil {
		t.Fatal(err)
	}
	same(t, edit(t, s, protocol.RulesFilter, protocol.RuleStep{Kind: protocol.StepFlushStates, Arg: 1}), []int{1})
	if n, err := s.RestoreStates(protocol.LogStates, saved); n != 1 || err != nil {
		t.Errorf("%d states, %v", n, err)
	}
	_, err = s.RestoreStates(protocol.LogNAT, saved)
	want(t, err, unix.EINVAL)

	// Who waits hears that there is nothing any more.
	go func() {
		rows, _, err := packets.Next()
		ch <- heard{rows, err}
	}()
	for len(tableOf[protocol.StackInfo](t, s, protocol.TableStack, "")) == 0 { // the request is there
	}
	if err := s.Umount("ipfilter0"); err != nil {
		t.Fatal(err)
	}
	want(t, (<-ch).err, unix.ENODEV)
}

// The journal has what rules there are, however they came to be.
func TestRulesInTheJournal(t *testing.T) {
	add := func(whole byte, language uint8, rule string) record {
		return record{recRules, protocol.AppendRulesRequest([]byte{whole}, protocol.RulesRequest{Language: language, Steps: adds(rule)})}
	}
	mount := record{recMount, protocol.AppendString(protocol.AppendMountRequest(nil, protocol.MountRequest{Type: "tcpip", Module: "lsm-ipfilter.so"}), filterEntry)}
	umount := record{recUmount, protocol.AppendString(nil, filterEntry)}
	recs := []record{mount, add(0, protocol.RulesFilter, "pass in all"), umount, mount,
		add(0, protocol.RulesFilter, "block in all"), add(0, protocol.RulesNAT, "map en0 10.0.0.0/8 -> 0/32"), add(1, protocol.RulesFilter, "block out all"),
		add(0, protocol.RulesFilter, "pass in proto udp all")}
	same(t, compacted(recs), []record{recs[3], recs[5], recs[6], recs[7]}, cmp.AllowUnexported(record{}))
}
