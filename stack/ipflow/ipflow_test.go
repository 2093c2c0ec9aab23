package ipflow

import (
	"testing"

	"pgregory.net/rapid"

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
		_, tag := fl.at(flow(n))
		for k := range ways {
			if got, _ := fl.slots[k].get(flow(n), rest(flow(n)), 1); got != nil {
				if fl.places[0].ways(tag)>>k&1 == 0 {
					t.Fatalf("flow %d is there without its tag", n)
				}
				return &fl.slots[k]
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

// A tag is found in every way that has it, and in hardly any other.
func TestTags(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var c place
		tags := make([]uint64, ways)
		for w := range tags {
			tags[w] = rapid.SampledFrom([]uint64{0, 1, 3, 0x7fff, 0x8001, 0xfffd, 0xffff}).Draw(t, "tag")
			c.set(w, 0xffff)
			c.set(w, tags[w])
		}
		tag := rapid.SampledFrom([]uint64{1, 3, 0x7fff, 0x8001, 0xffff}).Draw(t, "wanted")
		m := c.ways(tag)
		for w := range tags {
			above := w > 0 && m>>(w-1)&1 == 1 // the subtraction may borrow from it
			if is := m>>w&1 == 1; is != (tags[w] == tag) && !(is && above) {
				t.Errorf("tags %x: ways of %x are %b", tags, tag, m)
			}
		}
	})
}
