package ipsec

import (
	"sync/atomic"

	"ionet/stack/netif"
	"ionet/stack/packet"
	"ionet/stack/pfil"
)

// flowKey is what policies know packets by.
type flowKey struct {
	srcHi, srcLo, dstHi, dstLo uint64
	from, to                   uint16 // ports; of ICMP type and code
	proto, dir                 uint8
	v6, typed                  bool
}

// flow is what was found for a key: immutable.
type flow struct {
	flowKey
	gen    uint64
	policy *Policy // nil: none matches
}

// flowTable remembers the policies of flows. A flow whose place another one has taken is looked up
// again.
type flowTable struct {
	key   uint64
	slots []atomic.Pointer[flow]
}

const flowSlots = 1 << 16

func newFlowTable(env *netif.Env) *flowTable {
	return &flowTable{uint64(env.Rand32())<<32 | uint64(env.Rand32()), make([]atomic.Pointer[flow], flowSlots)}
}

func (t *flowTable) slot(k *flowKey) *atomic.Pointer[flow] {
	h := mix(t.key, k.srcLo^k.srcHi)
	h = mix(h, k.dstLo^k.dstHi<<1)
	h = mix(h, uint64(k.from)<<32|uint64(k.to)<<16|uint64(k.proto)<<8|uint64(k.dir))
	return &t.slots[h&(flowSlots-1)]
}

// keyOf reads a packet, window at its IP header.
func keyOf(w *netif.Work, pkt *packet.Buf, dir uint8, k *flowKey) *pfil.Info {
	i := pfil.Scratch(w)
	i.Parse(pkt, nil, dir == Out)
	*k = flowKey{srcHi: i.SrcHi, srcLo: i.SrcLo, dstHi: i.DstHi, dstLo: i.DstLo, proto: i.Proto, dir: dir, v6: i.V6}
	switch {
	case i.Is&(pfil.FragBody|pfil.Short) != 0:
	case i.Proto == packet.ProtoTCP, i.Proto == packet.ProtoUDP:
		k.from, k.to = i.Sport, i.Dport
	case i.Proto == packet.ProtoICMP && !i.V6, i.Proto == packet.ProtoICMPv6 && i.V6:
		k.from, k.to, k.typed = uint16(i.Type), uint16(i.Code), true
	}
	return i
}

// look answers the policy of a flow.
func (x *IPsec) look(k *flowKey) *flow {
	slot, gen := x.flows.Load().slot(k), x.spd.gen.Load()
	if f := slot.Load(); f != nil && f.gen == gen && f.flowKey == *k {
		return f
	}
	f := &flow{flowKey: *k, gen: gen, policy: x.spd.match(k.dir, k)}
	slot.Store(f)
	return f
}
