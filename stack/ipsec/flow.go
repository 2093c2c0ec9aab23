package ipsec

import (
	"encoding/binary"
	"net/netip"
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
	own    *Policy // the socket's, which it is about; nil: none
	gen    uint64
	policy *Policy // nil: none matches
	// groups are what the policy's requests are fulfilled from; nil: there is nothing yet, and when there is the
	// generation changes.
	groups [maxBundle]*group
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
func keyOf(w *netif.Work, pkt *packet.Buf, dir uint8, k *flowKey) {
	if !k.plain(pkt.Bytes()) {
		i := pfil.Scratch(w)
		i.Parse(pkt, nil, dir == Out)
		*k = flowKey{srcHi: i.SrcHi, srcLo: i.SrcLo, dstHi: i.DstHi, dstLo: i.DstLo, proto: i.Proto, v6: i.V6}
		switch {
		case i.Is&(pfil.FragBody|pfil.Short) != 0:
		case i.Proto == packet.ProtoTCP, i.Proto == packet.ProtoUDP:
			k.from, k.to = i.Sport, i.Dport
		case i.Proto == packet.ProtoICMP && !i.V6, i.Proto == packet.ProtoICMPv6 && i.V6:
			k.from, k.to, k.typed = uint16(i.Type), uint16(i.Code), true
		}
	}
	k.dir = dir
}

// plain is keyOf for whole TCP and UDP behind an IP header without anything else; false: it is none of these.
func (k *flowKey) plain(b []byte) bool {
	const v4, v6 = 4<<4 | packet.IPv4Len/4, 6
	var l4 []byte
	switch {
	case len(b) >= packet.IPv4Len+packet.UDPLen && b[0] == v4 && binary.BigEndian.Uint16(b[6:])&^packet.IPv4DF == 0:
		*k = flowKey{} // not with what it holds at once: a copy made in halves would be waited for
		k.srcLo, k.dstLo, k.proto = uint64(binary.BigEndian.Uint32(b[12:])), uint64(binary.BigEndian.Uint32(b[16:])), b[9]
		l4 = b[packet.IPv4Len:]
	case len(b) >= packet.IPv6Len+packet.UDPLen && b[0]>>4 == v6:
		*k = flowKey{}
		k.srcHi, k.srcLo, k.proto, k.v6 = binary.BigEndian.Uint64(b[8:]), binary.BigEndian.Uint64(b[16:]), b[6], true
		k.dstHi, k.dstLo = binary.BigEndian.Uint64(b[24:]), binary.BigEndian.Uint64(b[32:])
		l4 = b[packet.IPv6Len:]
	default:
		return false
	}
	if k.proto != packet.ProtoUDP && (k.proto != packet.ProtoTCP || len(l4) < packet.TCPLen) {
		return false
	}
	k.from, k.to = binary.BigEndian.Uint16(l4), binary.BigEndian.Uint16(l4[2:])
	return true
}

func (k *flowKey) same(o *flowKey) bool {
	return k.srcLo == o.srcLo && k.dstLo == o.dstLo && k.from == o.from && k.to == o.to && k.proto == o.proto && k.dir == o.dir &&
		k.srcHi == o.srcHi && k.dstHi == o.dstHi && k.v6 == o.v6 && k.typed == o.typed
}

// src and dst are its addresses.
func (k *flowKey) src() netip.Addr { return addrOf([2]uint64{k.srcHi, k.srcLo}, k.v6) }
func (k *flowKey) dst() netip.Addr { return addrOf([2]uint64{k.dstHi, k.dstLo}, k.v6) }

// look answers what is known of a flow; own is the socket's policy that it is about, or nil.
func (x *IPsec) look(k *flowKey, own *Policy) *flow {
	slot, gen := x.flows.Load().slot(k), x.spd.gen.Load()
	if f := slot.Load(); f != nil && f.gen == gen && f.own == own && f.same(k) {
		return f
	}
	f := &flow{flowKey: *k, own: own, gen: gen, policy: own}
	if own == nil {
		f.policy = x.spd.match(k.dir, k)
	}
	if f.policy != nil && k.dir == Out {
		x.sad.groupsOf(f)
	}
	slot.Store(f)
	return f
}
