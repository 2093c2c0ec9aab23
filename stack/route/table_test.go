package route

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"pgregory.net/rapid"

	"ionet/stack/mib"
	"ionet/stack/netif"
)

func newEnv(tb testing.TB) (*netif.Env, *netif.Interface) {
	tb.Helper()
	env := &netif.Env{MIB: mib.NewValues(), Rand32: func() uint32 { return 7 }, Now: func() int64 { return 0 }}
	ifp := addIf(tb, env, "en0", "10.0.0.2", 24)
	return env, ifp
}

func addIf(tb testing.TB, env *netif.Env, name, addr string, bits int) *netif.Interface {
	tb.Helper()
	ifp := netif.New(netif.Config{Name: name, Type: netif.TypeEther, MTU: 1500})
	if err := env.Ifs.Add(ifp); err != nil {
		tb.Fatal(err)
	}
	giveAddr(ifp, addr, bits)
	return ifp
}

func giveAddr(ifp *netif.Interface, addr string, bits int) {
	ifp.EditAddrs(func(s []*netif.Addr) []*netif.Addr {
		return append(s, &netif.Addr{If: ifp, Addr: ip(addr), Bits: bits})
	})
}

func ip(s string) netip.Addr       { return netip.MustParseAddr(s) }
func prefix(s string) netip.Prefix { return netip.MustParsePrefix(s) }

func one(t *Table, k Kind, s Spec) error { return t.Update([]Op{{Kind: k, Spec: s}})[0] }

func via(dst, gw string) Spec {
	return Spec{Dst: prefix(dst), Gateway: ip(gw), Flags: FlagUp | FlagGateway | FlagStatic}
}

func wantErr(t *testing.T, got, want error) {
	t.Helper()
	if !errors.Is(got, want) {
		t.Fatalf("error %v, want %v", got, want)
	}
}

func TestErrorsAreBSDs(t *testing.T) {
	env, ifp := newEnv(t)
	tab := New(env)
	wantErr(t, one(tab, Add, Spec{Dst: prefix("10.0.0.0/24"), If: ifp, Flags: FlagCloning}), nil)
	wantErr(t, one(tab, Add, via("0.0.0.0/0", "10.0.0.1")), nil)
	wantErr(t, one(tab, Add, via("0.0.0.0/0", "10.0.0.9")), syscall.EEXIST)
	wantErr(t, one(tab, Add, via("172.16.0.0/12", "192.168.5.1")), syscall.ENETUNREACH) // only by way of the default
	wantErr(t, one(tab, Delete, via("172.16.0.0/12", "10.0.0.1")), syscall.ESRCH)
	wantErr(t, one(tab, Change, via("172.16.0.0/12", "10.0.0.1")), syscall.ESRCH)
	wantErr(t, one(tab, Add, Spec{Dst: prefix("10.9.0.0/16"), Host: true, If: ifp}), syscall.EINVAL)
	wantErr(t, one(tab, Add, Spec{Dst: prefix("10.9.0.0/16"), Gateway: ip("2001:db8::1")}), syscall.EINVAL)
	wantErr(t, one(tab, Add, Spec{}), syscall.EINVAL)
	env.MIB.Put(nodeMaxRoutes, 2)
	wantErr(t, one(tab, Add, via("172.16.0.0/12", "10.0.0.1")), syscall.ENOBUFS)

	r, err := tab.Get(ip("8.8.8.8"))
	wantErr(t, err, nil)
	if r.If != ifp || r.Src != ip("10.0.0.2") || r.Gateway != ip("10.0.0.1") || r.Flags != FlagUp|FlagGateway|FlagStatic {
		t.Errorf("default route is %+v", r)
	}
	if env.MIB.Count(cntWildcard) != 0 {
		t.Error("Get counted as a use of the wildcard route")
	}
}

func TestHostRouteIsNoNetwork(t *testing.T) {
	env, _ := newEnv(t)
	tab := New(env)
	h := via("172.16.0.1/32", "10.0.0.1")
	h.Host = true
	wantErr(t, one(tab, Add, h), nil)
	wantErr(t, one(tab, Delete, via("172.16.0.1/32", "10.0.0.1")), syscall.ESRCH)
	r, _ := tab.GetExact(h.Dst)
	if r.Flags&FlagHost == 0 || !r.Host {
		t.Errorf("flags %#x", r.Flags)
	}
	wantErr(t, one(tab, Delete, h), nil)
	if len(tab.hops) != 0 {
		t.Errorf("%d hops are left", len(tab.hops))
	}
}

func TestChangeKeepsWhatIsLeftOut(t *testing.T) {
	env, _ := newEnv(t)
	tab := New(env)
	s := via("172.16.0.0/12", "10.0.0.1")
	s.Metrics = &Metrics{MTU: 1400}
	wantErr(t, one(tab, Add, s), nil)
	_, u := tab.Lookup(ip("172.16.3.4"))
	tab.AddUse(u, 5)
	gen := tab.Generation()
	wantErr(t, one(tab, Change, via("172.16.0.0/12", "10.0.0.7")), nil)
	if tab.Generation() == gen {
		t.Error("the generation stayed")
	}
	r, _ := tab.Get(ip("172.16.3.4"))
	if r.Gateway != ip("10.0.0.7") || r.Metrics == nil || r.Metrics.MTU != 1400 || r.Use != 5 {
		t.Errorf("after change: %+v", r)
	}
	wantErr(t, one(tab, Change, Spec{Dst: s.Dst, Metrics: &Metrics{MTU: 900}, Flags: FlagUp | FlagStatic}), nil)
	hop, _ := tab.Lookup(ip("172.16.3.4"))
	if hop.MTU != 900 || hop.Gateway != ip("10.0.0.7") || hop.Flags&FlagGateway == 0 {
		t.Errorf("after change of metrics: %+v", hop)
	}
}

func TestMessagesNobodyWants(t *testing.T) {
	env, _ := newEnv(t)
	tab := New(env)
	var got, asked []int32
	defer tab.Subscribe(func(m Message) { got = append(got, m.PID) }, func(pid int32) bool {
		asked = append(asked, pid)
		return pid == 7
	})()
	var ops []Op
	for i, pid := range []int32{1, 1, 7, 7, 1} {
		ops = append(ops, Op{Kind: Add, Spec: via(fmt.Sprintf("172.16.%d.0/24", i), "10.0.0.1"), PID: pid})
	}
	for i, err := range tab.Update(ops) {
		wantErr(t, err, nil)
		if _, err := tab.GetExact(ops[i].Spec.Dst); err != nil {
			t.Errorf("%v: %v", ops[i].Spec.Dst, err)
		}
	}
	if !slices.Equal(got, []int32{7, 7}) || !slices.Equal(asked, []int32{1, 7, 1}) {
		t.Errorf("messages of %v, asked about %v", got, asked)
	}
}

func TestMessagesFollowState(t *testing.T) {
	env, _ := newEnv(t)
	tab := New(env)
	var got []Message
	var seen []bool
	cancel := tab.Subscribe(func(m Message) {
		hop, _ := tab.Lookup(ip("172.16.0.1"))
		got, seen = append(got, m), append(seen, hop != nil)
	}, nil)
	s := via("172.16.0.0/12", "10.0.0.1")
	tab.Update([]Op{{Kind: Add, Spec: s, PID: 42, Seq: 3}})
	tab.Update([]Op{{Kind: Add, Spec: s, PID: 42, Seq: 4}})
	one(tab, Add, s) // nobody's failure is nobody's message
	one(tab, Delete, s)
	cancel()
	one(tab, Add, s)
	if len(got) != 3 {
		t.Fatalf("%d messages: %+v", len(got), got)
	}
	if m := got[0]; m.Type != MsgAdd || m.PID != 42 || m.Seq != 3 || m.Err != 0 || m.Route.Flags&FlagDone == 0 || m.Route.If == nil {
		t.Errorf("first: %+v", m)
	}
	if m := got[1]; m.Err != syscall.EEXIST || m.Seq != 4 || m.Number != 2 {
		t.Errorf("second: %+v", m)
	}
	if got[2].Type != MsgDelete || !slices.Equal(seen, []bool{true, true, false}) {
		t.Errorf("third: %+v, seen %v", got[2], seen)
	}
}

func TestRedirect(t *testing.T) {
	env, _ := newEnv(t)
	tab := New(env)
	wantErr(t, one(tab, Add, via("0.0.0.0/0", "10.0.0.1")), nil)
	dst := ip("8.8.8.8")
	wantErr(t, tab.Redirect(dst, ip("10.0.0.3"), ip("10.0.0.66")), syscall.EHOSTUNREACH)
	wantErr(t, tab.Redirect(dst, ip("10.0.0.2"), ip("10.0.0.1")), syscall.EHOSTUNREACH)
	wantErr(t, tab.Redirect(dst, ip("10.7.0.3"), ip("10.0.0.1")), syscall.ENETUNREACH)
	wantErr(t, tab.Redirect(dst, ip("10.0.0.3"), ip("10.0.0.1")), nil)
	r, _ := tab.Get(dst)
	if r.Gateway != ip("10.0.0.3") || r.Flags != FlagUp|FlagGateway|FlagHost|FlagDynamic {
		t.Errorf("redirected: %+v", r)
	}
	wantErr(t, tab.Redirect(dst, ip("10.0.0.4"), ip("10.0.0.3")), nil)
	r, _ = tab.Get(dst)
	if r.Gateway != ip("10.0.0.4") || r.Flags&FlagModified == 0 {
		t.Errorf("redirected again: %+v", r)
	}
	if b, d, n := env.MIB.Count(cntBadRedirect), env.MIB.Count(cntDynamic), env.MIB.Count(cntNewGateway); b != 3 || d != 1 || n != 1 {
		t.Errorf("counters %d %d %d, want 3 1 1", b, d, n)
	}
}

func TestRedirectsAreBounded(t *testing.T) {
	env, en0 := newEnv(t)
	tab := New(env)
	wantErr(t, one(tab, Add, via("0.0.0.0/0", "10.0.0.1")), nil)
	dst := ip("8.0.0.0")
	for range maxDynamic {
		wantErr(t, tab.Redirect(dst, ip("10.0.0.3"), ip("10.0.0.1")), nil)
		dst = dst.Next()
	}
	wantErr(t, tab.Redirect(dst, ip("10.0.0.3"), ip("10.0.0.1")), syscall.ENOBUFS)
	wantErr(t, tab.Redirect(ip("8.0.0.0"), ip("10.0.0.4"), ip("10.0.0.3")), nil)
	tab.DeleteInterface(en0)
	if tab.dynamic != 0 {
		t.Errorf("%d dynamic routes are counted in an empty table", tab.dynamic)
	}
}

func TestInterfaceAndAddressGoAway(t *testing.T) {
	env, en0 := newEnv(t)
	en1 := addIf(t, env, "en1", "192.168.1.1", 24)
	giveAddr(en1, "192.168.1.2", 24)
	tab := New(env)
	for _, s := range []Spec{via("1.0.0.0/8", "10.0.0.1"), via("2.0.0.0/8", "192.168.1.9"), {Dst: prefix("192.168.1.0/24"), If: en1}} {
		wantErr(t, one(tab, Add, s), nil)
	}
	tab.DeleteSource(en1, ip("192.168.1.1"))
	r, err := tab.Get(ip("2.3.4.5"))
	if err != nil || r.Src != ip("192.168.1.2") {
		t.Errorf("a gateway the second address reaches: %+v, %v", r, err)
	}
	if _, err := tab.GetExact(prefix("192.168.1.0/24")); err == nil {
		t.Error("the address's own network is still there")
	}
	tab.DeleteInterface(en1)
	if r := slices.Collect(tab.Dump(0)); len(r) != 1 || r[0].If != en0 {
		t.Errorf("left: %+v", r)
	}
}

func TestIPv6HasItsPlace(t *testing.T) {
	env, ifp := newEnv(t)
	giveAddr(ifp, "2001:db8::2", 64)
	tab := New(env)
	wantErr(t, one(tab, Add, via("::/0", "2001:db8::1")), nil)
	wantErr(t, one(tab, Add, via("0.0.0.0/0", "10.0.0.1")), nil)
	hop, _ := tab.Lookup(ip("2001:db8:1::5"))
	if hop == nil || hop.Src != ip("2001:db8::2") {
		t.Errorf("hop %+v", hop)
	}
	if n := len(slices.Collect(tab.Dump(AFInet6))); n != 1 {
		t.Errorf("%d IPv6 routes", n)
	}
}

// model is the table as one would write it on paper.
type model []Route

func (m model) find(p netip.Prefix) int {
	return slices.IndexFunc(m, func(r Route) bool { return r.Dst == p })
}

// places are the destinations.
func (m model) places() int {
	seen := map[netip.Prefix]bool{}
	for _, r := range m {
		seen[r.Dst] = true
	}
	return len(seen)
}

func (m model) lookup(a netip.Addr) (best *Route) {
	for i := range m {
		if m[i].Dst.Contains(a) && (best == nil || m[i].Dst.Bits() > best.Dst.Bits()) {
			best = &m[i]
		}
	}
	return best
}

func (m model) apply(op Op) (model, error) {
	i := m.find(op.Spec.Dst)
	exact := slices.IndexFunc(m, func(r Route) bool { return r.Dst == op.Spec.Dst && r.Gateway == op.Spec.Gateway })
	equal := i >= 0 && slices.ContainsFunc(m[i+1:], func(r Route) bool { return r.Dst == op.Spec.Dst })
	mpath := op.Spec.Flags&FlagMPath != 0
	switch {
	case op.Kind == Add && i >= 0 && mpath && exact < 0:
		return append(m, Route{Spec: op.Spec}), nil
	case op.Kind != Add && equal && exact < 0:
		return m, syscall.ESRCH
	case op.Kind == Delete && equal:
		return slices.Delete(m, exact, exact+1), nil
	case op.Kind == Change && equal:
		return m, nil
	case op.Kind == Add && i >= 0:
		return m, syscall.EEXIST
	case op.Kind != Add && i < 0:
		return m, syscall.ESRCH
	case op.Kind == Add:
		return append(m, Route{Spec: op.Spec}), nil
	case op.Kind == Delete:
		return slices.Delete(m, i, i+1), nil
	}
	m[i].Gateway = op.Spec.Gateway
	return m, nil
}

func TestAgainstModel(t *testing.T) {
	env, _ := newEnv(t)
	rapid.Check(t, func(t *rapid.T) {
		tab := New(env)
		var m model
		addr := rapid.Custom(func(t *rapid.T) netip.Addr { // dense on purpose
			b := rapid.SampledFrom([]byte{0, 1, 128, 255})
			return netip.AddrFrom4([4]byte{b.Draw(t, "a"), b.Draw(t, "b"), b.Draw(t, "c"), b.Draw(t, "d")})
		})
		op := rapid.Custom(func(t *rapid.T) Op {
			p := netip.PrefixFrom(addr.Draw(t, "dst"), rapid.SampledFrom([]int{0, 1, 7, 8, 9, 16, 17, 24, 31, 32}).Draw(t, "bits")).Masked()
			gw := netip.AddrFrom4([4]byte{10, 0, 0, rapid.ByteRange(3, 9).Draw(t, "gw")})
			return Op{Kind: rapid.SampledFrom([]Kind{Add, Add, Delete, Change}).Draw(t, "kind"),
				Spec: Spec{Dst: p, Gateway: gw, Flags: FlagUp | FlagGateway | rapid.SampledFrom([]uint32{0, FlagMPath}).Draw(t, "mpath")}}
		})
		for range rapid.IntRange(1, 12).Draw(t, "batches") {
			ops := rapid.SliceOfN(op, 0, 12).Draw(t, "ops")
			for i, err := range tab.Update(ops) {
				var want error
				if m, want = m.apply(ops[i]); !errors.Is(err, want) {
					t.Fatalf("%+v: %v, want %v", ops[i], err, want)
				}
			}
			for range 8 {
				a := addr.Draw(t, "look up")
				want := m.lookup(a)
				hop, _ := tab.Lookup(a)
				if (hop == nil) != (want == nil) || hop != nil && hop.Gateway != want.Gateway {
					t.Fatalf("%v: %+v, want %+v", a, hop, want)
				}
			}
			for _, r := range m {
				a, _ := tab.side[0].Get(r.Dst)
				if b, _ := tab.side[1].Get(r.Dst); a == nil || a != b {
					t.Fatalf("%v is %p on one side, %p on the other", r.Dst, a, b)
				}
			}
			for s := range tab.side {
				if n := tab.side[s].Size(); n != m.places() {
					t.Fatalf("side %d has %d destinations, want %d", s, n, m.places())
				}
			}
		}
		slices.SortStableFunc(m, func(a, b Route) int { return a.Dst.Compare(b.Dst) })
		var got []Route
		buf := make([]Route, rapid.IntRange(MaxPaths, MaxPaths+4).Draw(t, "page"))
		var after netip.Prefix
		for end := false; !end; {
			var n int
			if n, end = tab.Page(AFInet, after, buf); n > 0 {
				got, after = append(got, buf[:n]...), buf[n-1].Dst
			}
		}
		if !slices.EqualFunc(got, m, func(a, b Route) bool { return a.Dst == b.Dst && a.Gateway == b.Gateway }) {
			t.Fatalf("dump %v, want %v", got, m)
		}
	})
}

// Readers never find a hole under the default route, nor one half of a batch:
// a /9 and the /24 in it come and go together, so the /9 is never the answer.
func TestReadersDuringUpdates(t *testing.T) {
	env, _ := newEnv(t)
	tab := New(env)
	wantErr(t, one(tab, Add, via("0.0.0.0/0", "10.0.0.1")), nil)
	both := []Op{{Spec: via("1.0.0.0/9", "10.0.0.9")}, {Spec: via("1.2.3.0/24", "10.0.0.9")}}
	both[0].Spec.Flags |= FlagProto1
	var stop atomic.Bool
	var reads atomic.Int64
	var wg sync.WaitGroup
	for range 2 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			w := env.NewWork()
			for !stop.Load() {
				w.Start(0)
				for range 16 {
					hop, h := tab.Lookup(ip("1.2.3.4"))
					if hop == nil || hop.Flags&FlagProto1 != 0 {
						t.Errorf("a hole, or half a batch: %+v", hop)
						stop.Store(true)
						break
					}
					tab.AddUse(h, 1)
					reads.Add(1)
				}
				w.Finish()
			}
		}()
	}
	for i := 0; i < 300 || reads.Load() < 2000; i++ {
		if stop.Load() {
			break
		}
		for j := range both {
			both[j].Kind = Add + Kind(i%2)
		}
		for _, err := range tab.Update(both) {
			wantErr(t, err, nil)
		}
	}
	stop.Store(true)
	wg.Wait()
}

func TestLookupAllocatesNothing(t *testing.T) {
	tab, addrs := filled(t, 1000)
	if n := testing.AllocsPerRun(100, func() {
		_, h := tab.Lookup(addrs[0])
		tab.AddUse(h, 1)
	}); n != 0 {
		t.Errorf("%v allocations a look-up", n)
	}
}

// filled is a table of n made-up routes, mostly /24 as the Internet's are,
// and addresses inside them.
func filled(tb testing.TB, n int) (*Table, []netip.Addr) {
	env, _ := newEnv(tb)
	tab := New(env)
	ops, addrs := made(n)
	for c := range slices.Chunk(ops, 500) {
		tab.Update(c)
	}
	return tab, addrs
}

func made(n int) ([]Op, []netip.Addr) {
	r := rand.New(rand.NewPCG(1, 2))
	var ops []Op
	var addrs []netip.Addr
	seen := map[netip.Prefix]bool{}
	for len(ops) < n {
		x := r.Uint32()
		a := netip.AddrFrom4([4]byte{byte(x >> 24), byte(x >> 16), byte(x >> 8), byte(x)})
		bits := []int{24, 24, 24, 24, 24, 22, 23, 20, 19, 16}[r.IntN(10)]
		p := netip.PrefixFrom(a, bits).Masked()
		if seen[p] {
			continue
		}
		seen[p] = true
		gw := netip.AddrFrom4([4]byte{10, 0, 0, byte(3 + r.IntN(30))})
		ops = append(ops, Op{Kind: Add, Spec: Spec{Dst: p, Gateway: gw, Flags: FlagUp | FlagGateway}})
		addrs = append(addrs, a)
	}
	return ops, addrs
}
