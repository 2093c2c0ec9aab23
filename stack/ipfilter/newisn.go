package ipfilter

import (
	"encoding/binary"

	"ionet/stack/packet"
	"ionet/stack/pfil"
)

// Sequence numbers that `keep state (newisn)` puts in the place of a host's own. Whatever the hosts
// say, between the two hooks and in the state everything is in the numbers of the side that counts
// with them: a packet that comes in acknowledges the other side's own numbers again, one that goes
// out is numbered anew. A host of ours passes one of the hooks only, and so of the two sides only
// its own is numbered anew.

// isn is the first sequence number of a side (RFC 6528 §3): for the same ends a clock of 4 µs, for
// others somewhere else.
func (t *states) isn(now int64, f *pfil.Flow) uint32 {
	ends := fold(ends(t.key^0x94d049bb133111eb, f.SrcHi, f.SrcLo, f.Sport), ends(t.key^0x2545f4914f6cdd1d, f.DstHi, f.DstLo, f.Dport))
	return uint32(now/4000) + uint32(ends>>32)
}

// shiftOf is how far the numbers of a side move that begins with seq.
func (s *state) shiftOf(now int64, n int, seq uint32) uint32 {
	f := *s.flow()
	if n == 1 {
		f.SrcHi, f.SrcLo, f.Sport, f.DstHi, f.DstLo, f.Dport = f.DstHi, f.DstLo, f.Dport, f.SrcHi, f.SrcLo, f.Sport
	}
	return s.rule.f.states.isn(now, &f) - seq
}

// acknowledges reports a segment whose acknowledgement says something: resets have 0 there.
func acknowledges(flags uint8, ack uint32) bool {
	return flags&packet.TCPAck != 0 && (flags&packet.TCPRst == 0 || ack != 0)
}

// renumber changes a segment of side n as its hook asks; of a connection without newisn it does nothing.
func renumber(i *pfil.Info, n int, shift [2]uint32) {
	b := i.Transport()
	h := packet.TCP(b)
	sum := 16
	if i.Pkt.Csum == packet.CsumPartial { // the header is yet to be summed
		sum = -1
	}
	if shift[0] == 0 {
		return
	}
	if i.Out {
		add(b, 4, shift[n], sum)
		return
	}
	back := -shift[1-n]
	if back == 0 || !acknowledges(h.Flags(), h.Ack()) {
		return
	}
	add(b, 8, back, sum)
	for at := packet.TCPLen; at < h.HeaderLen(); { // RFC 2018 §3: blocks are in the numbers that are acknowledged
		switch b[at] {
		case packet.TCPOptEnd:
			return
		case packet.TCPOptNop:
			at++
			continue
		}
		if at+1 >= h.HeaderLen() {
			return
		}
		size := int(b[at+1])
		if size < 2 || at+size > h.HeaderLen() {
			return
		}
		if b[at] == packet.TCPOptSACK {
			for e := at + 2; e+4 <= at+size; e += 4 {
				add(b, e, back, sum)
			}
		}
		at += size
	}
}

// add adds to the number at an offset of b, and to the checksum at another one (RFC 1624);
// sum < 0: there is none yet.
func add(b []byte, at int, n uint32, sum int) {
	old := binary.BigEndian.Uint32(b[at:])
	now := old + n
	binary.BigEndian.PutUint32(b[at:], now)
	if sum < 0 {
		return
	}
	if at%2 != 0 { // the words of the sum lie across those of the number
		old, now = swapped(old), swapped(now)
	}
	f := b[sum:]
	c := packet.UpdateChecksum(binary.BigEndian.Uint16(f), uint16(old>>16), uint16(now>>16))
	binary.BigEndian.PutUint16(f, packet.UpdateChecksum(c, uint16(old), uint16(now)))
}

// swapped has the octets of both halves change places.
func swapped(v uint32) uint32 { return v<<8&0xff00ff00 | v>>8&0x00ff00ff }

// renumberQuote changes the segment of side n that an ICMP error quotes, at an offset of its message:
// as it comes in it quotes what has gone out, and as it goes out it is to quote what its sender
// has said.
func renumberQuote(i *pfil.Info, at, n int, shift [2]uint32) {
	b := i.Transport()
	sum := 2
	if i.Pkt.Csum == packet.CsumPartial {
		sum = -1
	}
	if !i.Out {
		add(b, at+4, -shift[n], sum)
	} else if len(b) >= at+14 && acknowledges(b[at+13], binary.BigEndian.Uint32(b[at+8:])) {
		add(b, at+8, shift[1-n], sum)
	}
}
