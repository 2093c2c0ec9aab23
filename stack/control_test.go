package stack_test

import (
	"errors"
	"net/netip"
	"slices"
	"syscall"
	"testing"

	"ionet/stack"
	"ionet/stack/netif"
	"ionet/stack/route"
	rig "ionet/stack/stacktest"
)

// Whoever still holds an interface that has been removed can leave nothing
// behind in it: neither address nor route nor neighbour, nor an event.
func TestRemovedInterface(t *testing.T) {
	r := rig.New(t)
	var last stack.EventKind
	defer r.Subscribe(func(e stack.Event) { last = e.Kind })()
	if err := r.RemoveInterface(r.If); err != nil {
		t.Fatal(err)
	}
	before := slices.Collect(r.Routes.Dump(0))
	spec := route.Spec{Dst: netip.MustParsePrefix("99.0.0.0/8"), If: r.If, Flags: route.FlagUp}
	for _, c := range []struct {
		what      string
		got, want error
	}{
		{"address", r.AddAddr(r.If, stack.AddrSpec{Addr: netip.MustParseAddr("10.0.0.3"), Bits: 24}), syscall.ENXIO},
		{"neighbour", r.AddNeighbour(r.If, netip.MustParseAddr("10.0.0.9"), rig.Peer, 0, 0), syscall.ENXIO},
		{"flags", r.SetFlags(r.If, netif.FlagUp, 0), syscall.ENXIO},
		{"route", r.Routes.Update([]route.Op{{Kind: route.Add, Spec: spec}})[0], syscall.ENETUNREACH},
		{"removing it again", r.RemoveInterface(r.If), syscall.ENXIO},
	} {
		if !errors.Is(c.got, c.want) {
			t.Errorf("%s: %v, want %v", c.what, c.got, c.want)
		}
	}
	r.LinkState(r.If, false)
	if last != stack.IfDeparted {
		t.Errorf("event %d is told after the interface has departed", last)
	}
	if after := slices.Collect(r.Routes.Dump(0)); len(after) != len(before) || len(r.Neighbours()) != 0 {
		t.Errorf("routes %v, neighbours %v", after, r.Neighbours())
	}
}

// A permanent neighbour of an interface that is down goes with it.
func TestRemovedInterfaceTakesItsNeighbours(t *testing.T) {
	r := rig.New(t)
	if err := r.SetFlags(r.If, 0, netif.FlagUp); err != nil {
		t.Fatal(err)
	}
	if err := r.AddNeighbour(r.If, netip.MustParseAddr("99.0.0.9"), rig.Peer, 0, 0); err != nil {
		t.Fatal(err)
	}
	if err := r.RemoveInterface(r.If); err != nil {
		t.Fatal(err)
	}
	if n := r.Neighbours(); len(n) != 0 {
		t.Errorf("%v", n)
	}
}
