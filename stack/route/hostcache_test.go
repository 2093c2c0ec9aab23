package route

import (
	"net/netip"
	"testing"
)

func TestHostCache(t *testing.T) {
	env, _ := newEnv(t)
	tab := New(env)
	wantErr(t, one(tab, Add, via("0.0.0.0/0", "10.0.0.1")), nil)
	c := NewHostCache(env, tab)
	a := ip("8.8.8.8")
	if _, ok := c.MTU(a, 0); ok {
		t.Error("an empty cache knows something")
	}
	gen := tab.Generation()
	if !c.SetMTU(a, 1400, 0, 100e9) || tab.Generation() == gen {
		t.Error("not taken, or nobody told")
	}
	if c.SetMTU(a, 1500, 0, 100e9) {
		t.Error("a larger MTU was taken")
	}
	if m, ok := c.MTU(a, 99e9); !ok || m != 1400 {
		t.Errorf("MTU %d, %v", m, ok)
	}
	if _, ok := c.MTU(a, 100e9); ok {
		t.Error("outlived its time")
	}
	rs := c.Routes(40e9)
	if len(rs) != 1 || rs[0].Metrics.Expire != 60 || rs[0].Flags != FlagUp|FlagGateway|FlagHost|FlagCloned {
		t.Errorf("shown as %+v", rs)
	}
	c.Forget(a)
	if _, ok := c.MTU(a, 1); ok {
		t.Error("not forgotten")
	}
}

func TestHostCacheIsBounded(t *testing.T) {
	env, _ := newEnv(t)
	tab := New(env)
	wantErr(t, one(tab, Add, via("0.0.0.0/0", "10.0.0.1")), nil)
	c := NewHostCache(env, tab)
	const n = 3 * cacheSets * cacheWays
	for i := range n {
		c.SetMTU(netip.AddrFrom4([4]byte{20, byte(i >> 16), byte(i >> 8), byte(i)}), 1000, 0, int64(i+1)*1e9)
	}
	left := uint64(len(c.Routes(0)))
	if left > cacheSets*cacheWays || left < cacheSets*cacheWays*9/10 {
		t.Errorf("%d entries", left)
	}
	if ev := env.MIB.Count(cntCacheEvicted); ev+left != n {
		t.Errorf("%d evicted and %d left of %d", ev, left, n)
	}
}
