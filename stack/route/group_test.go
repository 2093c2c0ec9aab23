package route

import (
	"fmt"
	"net/netip"
	"slices"
	"syscall"
	"testing"

	"ionet/stack/netif"
)

func beside(dst, gw string) Spec {
	s := via(dst, gw)
	s.Flags |= FlagMPath
	return s
}

// equals is a table of an environment with both families, its default routes by
// n gateways each.
func equals(t *testing.T, n int) (*netif.Env, *Table) {
	t.Helper()
	env, ifp := newEnv(t)
	giveAddr(ifp, "2001:db8::2", 64)
	tab := New(env)
	for i := range n {
		wantErr(t, one(tab, Add, beside("0.0.0.0/0", fmt.Sprint("10.0.0.", 10+i))), nil)
		wantErr(t, one(tab, Add, beside("::/0", fmt.Sprint("2001:db8::", 10+i))), nil)
	}
	return env, tab
}

func TestEqualRoutesErrors(t *testing.T) {
	_, tab := equals(t, 2)
	wantErr(t, one(tab, Add, via("0.0.0.0/0", "10.0.0.12")), syscall.EEXIST)
	wantErr(t, one(tab, Add, beside("0.0.0.0/0", "10.0.0.11")), syscall.EEXIST)
	wantErr(t, one(tab, Delete, via("0.0.0.0/0", "10.0.0.12")), syscall.ESRCH)
	wantErr(t, one(tab, Change, via("0.0.0.0/0", "10.0.0.12")), syscall.ESRCH)
	wantErr(t, one(tab, Change, Spec{Dst: prefix("0.0.0.0/0")}), syscall.ESRCH)
	for i := 2; i < MaxPaths; i++ {
		wantErr(t, one(tab, Add, beside("0.0.0.0/0", fmt.Sprint("10.0.0.", 10+i))), nil)
	}
	wantErr(t, one(tab, Add, beside("0.0.0.0/0", "10.0.0.100")), syscall.ENOBUFS)
	reject := via("1.0.0.0/8", "10.0.0.10")
	reject.Flags |= FlagReject
	wantErr(t, one(tab, Add, reject), nil)
	wantErr(t, one(tab, Add, beside("1.0.0.0/8", "10.0.0.11")), syscall.EEXIST)
}

func TestEqualRoutesMessagesAndChange(t *testing.T) {
	_, tab := equals(t, 3)
	var got []Message
	defer tab.Subscribe(func(m Message) { got = append(got, m) }, nil)()
	s := via("0.0.0.0/0", "10.0.0.11")
	s.Metrics = &Metrics{MTU: 1400}
	wantErr(t, one(tab, Change, s), nil)
	wantErr(t, one(tab, Delete, via("0.0.0.0/0", "10.0.0.12")), nil)
	wantErr(t, one(tab, Delete, Spec{Dst: prefix("0.0.0.0/0")}), nil) // the first
	wantErr(t, one(tab, Add, beside("0.0.0.0/0", "10.0.0.13")), nil)
	for i, want := range []string{"3 10.0.0.11", "2 10.0.0.12", "2 10.0.0.10", "1 10.0.0.13"} {
		if m := got[i]; fmt.Sprint(m.Type, " ", m.Route.Gateway) != want || m.Route.Flags&FlagMPath == 0 {
			t.Errorf("message %d: type %d of %v, flags %#x, want %s", i, m.Type, m.Route.Gateway, m.Route.Flags, want)
		}
	}
	if r, err := tab.GetBy(prefix("0.0.0.0/0"), ip("10.0.0.11")); err != nil || r.Metrics == nil || r.Metrics.MTU != 1400 {
		t.Errorf("the changed one by its gateway: %+v, %v", r, err)
	}
	for _, gw := range []netip.Addr{{}, ip("10.0.0.12")} {
		if r, err := tab.GetBy(prefix("0.0.0.0/0"), gw); err != syscall.ESRCH {
			t.Errorf("by the gateway %v: %+v, %v", gw, r, err)
		}
	}
	rs := slices.Collect(tab.Dump(AFInet))
	if len(rs) != 2 || rs[0].Metrics == nil || rs[0].Metrics.MTU != 1400 || rs[1].Metrics != nil || rs[0].Flags&FlagMPath == 0 {
		t.Errorf("left: %+v", rs)
	}
	wantErr(t, one(tab, Delete, via("0.0.0.0/0", "10.0.0.13")), nil)
	if r, err := tab.GetBy(prefix("0.0.0.0/0"), netip.Addr{}); err != nil || r.Gateway != ip("10.0.0.11") {
		t.Errorf("the only one by no gateway: %+v, %v", r, err)
	}
	if r, err := tab.Get(ip("8.8.8.8")); err != nil || r.Gateway != ip("10.0.0.11") || r.Flags&FlagMPath != 0 {
		t.Errorf("the only one: %+v, %v", r, err)
	}
}

// choices are the gateways of n flows to one destination.
func choices(t *testing.T, tab *Table, v6 bool, n int) []netip.Addr {
	t.Helper()
	dst := ip("203.0.113.1")
	if v6 {
		dst = ip("2001:db8:113::1")
	}
	var out []netip.Addr
	for i := range n {
		src := netip.AddrFrom4([4]byte{172, 16, byte(i >> 8), byte(i)})
		if v6 {
			src = netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, 14: byte(i >> 8), 15: byte(i)})
		}
		hop, e := tab.Lookup(dst)
		hop, e = hop.Pick(e, src, dst)
		e.Used(1)
		out = append(out, hop.Gateway)
	}
	return out
}

// Flows spread evenly, those of a member that goes away move and no others, and
// each comes back to it.
func TestEqualRoutesShareFlows(t *testing.T) {
	const n, flows = 5, 5000
	for _, v6 := range []bool{false, true} {
		_, tab := equals(t, n)
		dst, af := "0.0.0.0/0", AFInet
		if v6 {
			dst, af = "::/0", AFInet6
		}
		before := choices(t, tab, v6, flows)
		for r := range tab.Dump(af) {
			if r.Use < flows/n*8/10 || r.Use > flows/n*12/10 {
				t.Errorf("%v has %d of %d flows", r.Gateway, r.Use, flows)
			}
		}
		gone := before[0]
		wantErr(t, one(tab, Delete, via(dst, gone.String())), nil)
		for i, gw := range choices(t, tab, v6, flows) {
			if gw == gone || gw != before[i] && before[i] != gone {
				t.Fatalf("flow %d by %v, before by %v, without %v", i, gw, before[i], gone)
			}
		}
		wantErr(t, one(tab, Add, beside(dst, gone.String())), nil)
		if !slices.Equal(before, choices(t, tab, v6, flows)) {
			t.Error("a member that is back has not all its flows back")
		}
	}
}

// A member on an interface that is down is left out, with one that is gone it goes.
func TestEqualRoutesOnInterfaces(t *testing.T) {
	env, en0 := newEnv(t)
	en1 := addIf(t, env, "en1", "10.1.0.2", 24)
	for _, ifp := range []*netif.Interface{en0, en1} {
		ifp.SetFlags(netif.FlagUp|netif.FlagRunning, 0)
	}
	tab := New(env)
	wantErr(t, one(tab, Add, beside("0.0.0.0/0", "10.0.0.1")), nil)
	wantErr(t, one(tab, Add, beside("0.0.0.0/0", "10.1.0.1")), nil)
	both := choices(t, tab, false, 100)
	if !slices.Contains(both, ip("10.0.0.1")) || !slices.Contains(both, ip("10.1.0.1")) {
		t.Errorf("100 flows by %v", both)
	}
	en0.SetLinkUp(false)
	if got := choices(t, tab, false, 100); slices.Contains(got, ip("10.0.0.1")) {
		t.Error("a flow by an interface without carrier")
	}
	en1.SetFlags(0, netif.FlagUp)
	if got := choices(t, tab, false, 100); !slices.Equal(got, both) {
		t.Error("when none is well, flows go as when all are")
	}
	en1.SetFlags(netif.FlagUp, 0)
	en0.SetLinkUp(true)
	if got := choices(t, tab, false, 100); !slices.Equal(got, both) {
		t.Error("with its carrier back, a member has not its flows")
	}
	en0.SetFlags(0, netif.FlagUp)
	if got := choices(t, tab, false, 100); slices.Contains(got, ip("10.0.0.1")) {
		t.Error("a flow by an interface that is down")
	}
	if hop, _ := tab.Lookup(ip("8.8.8.8")); hop.Gateway != ip("10.0.0.1") {
		t.Errorf("the first is %v", hop.Gateway)
	} else if hop, _ = hop.Through(nil, en1); hop.Gateway != ip("10.1.0.1") {
		t.Errorf("by en1: %v", hop.Gateway)
	}
	tab.DeleteInterface(en0)
	if rs := slices.Collect(tab.Dump(0)); len(rs) != 1 || rs[0].If != en1 {
		t.Errorf("left: %+v", rs)
	}
	tab.DeleteInterface(en1)
	if rs := slices.Collect(tab.Dump(0)); len(rs) != 0 || len(tab.hops) != 0 {
		t.Errorf("left: %+v, and %d hops", rs, len(tab.hops))
	}
}

func TestPickAllocatesNothing(t *testing.T) {
	_, tab := equals(t, 4)
	src, dst := ip("2001:db8:1::1"), ip("2001:db8:2::1")
	if n := testing.AllocsPerRun(100, func() {
		hop, e := tab.Lookup(dst)
		hop.Pick(e, src, dst)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
