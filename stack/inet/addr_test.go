package inet_test

import (
	"net/netip"
	"testing"
	"time"

	"ionet/stack"
	. "ionet/stack/stacktest"
)

// Two interfaces on one network: the route is the first one's, and the second
// one's address leaves without it.
func TestAnAddressTakesOnlyItsOwnRouteAway(t *testing.T) {
	r := New(t)
	en1 := r.AddIf("en1", Me1, "10.0.0.5/24")
	if err := r.DelAddr(en1, netip.MustParseAddr("10.0.0.5")); err != nil {
		t.Fatal(err)
	}
	net := netip.MustParsePrefix("10.0.0.0/24")
	got, err := r.Routes.GetExact(net)
	if err != nil || got.If != r.If || got.Src != netip.MustParseAddr("10.0.0.1") {
		t.Fatalf("the route of en0 is %+v, %v", got, err)
	}
	// An alias inherits the route of the address before it.
	r.Addr(r.If, "10.0.0.6/24")
	if err := r.DelAddr(r.If, netip.MustParseAddr("10.0.0.1")); err != nil {
		t.Fatal(err)
	}
	if got, err := r.Routes.GetExact(net); err != nil || got.Src != netip.MustParseAddr("10.0.0.6") {
		t.Fatalf("the alias' route is %+v, %v", got, err)
	}
	if as := r.If.Addrs(); len(as) != 1 || as[0].Alias {
		t.Errorf("what is left is still an alias: %+v", as)
	}
	if err := r.DelAddr(r.If, netip.MustParseAddr("10.0.0.6")); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Routes.GetExact(net); err == nil {
		t.Error("the route stays without any address")
	}
}

func TestAnAddressWithoutRoomForItsRouteIsRefused(t *testing.T) {
	r := New(t)
	r.Sysctl("net.inet.ip.maxroutes", "2") // lo0's and en0's are there
	spec := func(a string, bits int) stack.AddrSpec {
		return stack.AddrSpec{Addr: netip.MustParseAddr(a), Bits: bits}
	}
	if err := r.AddAddr(r.If, spec("192.168.0.1", 24)); err == nil {
		t.Fatal("taken")
	}
	if r.Inet.Local(netip.MustParseAddr("192.168.0.1")) != nil || len(r.If.Addrs()) != 1 {
		t.Error("the refused address is there")
	}
	// A change of mask that fails leaves the address as it was.
	r.Sysctl("net.inet.ip.maxroutes", "1")
	if err := r.AddAddr(r.If, spec("10.0.0.1", 16)); err == nil {
		t.Fatal("taken")
	}
	if as := r.If.Addrs(); len(as) != 1 || as[0].Bits != 24 {
		t.Errorf("the address is now %+v", as)
	}
	r.Sysctl("net.inet.ip.maxroutes", "100")
	r.Addr(r.If, "10.0.0.1/16")
	if _, err := r.Routes.GetExact(netip.MustParsePrefix("10.0.0.0/16")); err != nil {
		t.Error(err)
	}
	for _, bad := range []stack.AddrSpec{spec("224.0.0.1", 24), spec("0.0.0.0", 8), spec("255.255.255.255", 8), spec("10.0.0.9", 33), spec("127.0.0.1", 8)} {
		if err := r.AddAddr(r.If, bad); err == nil {
			t.Errorf("%v was taken", bad)
		}
	}
	r.Pass(10 * time.Second)
}
