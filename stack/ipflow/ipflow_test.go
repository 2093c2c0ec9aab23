package ipflow

import (
	"testing"

	"ionet/stack/netif"
	"ionet/stack/packet"
)

// In a place that is full who is used stays, and who was used once does not stay for that.
func TestFameFades(t *testing.T) {
	var tab Table
	tab.Resize(ways, 1)
	fl := tab.flows.Load()
	near := &netif.Neighbour{}
	flow := func(n uint64) *packet.Flow { return &packet.Flow{SrcLo: n, DstLo: 9, Proto: packet.ProtoUDP} }
	find := func(n uint64) *slot {
		for k := range fl.sets[0] {
			if got, _ := fl.sets[0][k].get(flow(n), rest(flow(n)), 1); got != nil {
				return &fl.sets[0][k]
			}
		}
		return nil
	}
	come := func(n uint64, packets uint32) {
		if find(n) == nil {
			fl.note(flow(n), 1, near, &Way{MTU: 1500}, nil)
		}
		find(n).hits.Add(packets)
	}
	const elephant, steady = 1, 2
	come(elephant, 1_000_000) // and never again
	for n := range uint64(20) {
		come(steady, 10)
		come(100+n, 1)
	}
	if find(elephant) != nil {
		t.Error("who has not come since keeps its slot")
	}
	if find(steady) == nil {
		t.Error("who comes again and again lost its slot to strangers that came once")
	}
}

// A flow of one interface is not that of another whose number looks alike.
func TestInterfacesBeyondNames(t *testing.T) {
	var tab Table
	tab.Resize(64, 1)
	p := packet.NewPool(1 << 20).Get(64)
	if n := tab.Forward(nil, &netif.Interface{Index: 1<<16 + 1}, []*packet.Buf{p}, 1); n != 0 || p.Flags&packet.FlagCame != 0 {
		t.Errorf("%d sent, flags %x", n, p.Flags)
	}
	p.Free()
}
