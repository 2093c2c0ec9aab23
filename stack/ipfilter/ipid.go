package ipfilter

import (
	"encoding/binary"

	"ionet/stack/mib"
	"ionet/stack/packet"
)

var nodeUpdateID = mib.Int("net.inet.ipf.fr_update_ipid", 0, "1: packets of IPv4 leave with other identifications than they came with; they take the slow path.", mib.Bool())

// updateID gives a packet of IPv4 another identification: one out of 65,536 for each that its
// sender chose, by a permutation of its own for each pair of hosts and protocol (RFC 791 §3.2).
// So the fragments of a datagram stay together, whoever has cut it, and nobody outside
// sees a host count.
func (f *Filter) updateID(b []byte) {
	h := packet.IPv4(b)
	key := fold(f.states.key^binary.BigEndian.Uint64(h[12:]), f.states.key<<8|uint64(h.Proto()))
	old := h.ID()
	l, r := uint8(old>>8), uint8(old)
	for n := range uint64(4) { // a Feistel network: whatever its rounds, no two become one
		l, r = r, l^uint8(fold(key+n, uint64(r)+0x9e3779b97f4a7c15)>>56)
	}
	id := uint16(l)<<8 | uint16(r)
	h.SetID(id)
	binary.BigEndian.PutUint16(h[10:], packet.UpdateChecksum(h.Checksum(), old, id))
}
