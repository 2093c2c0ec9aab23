package ipnat

import (
	"encoding/binary"

	"ionet/stack/netif"
	"ionet/stack/packet"
	"ionet/stack/pfil"
)

// prefix gives a packet the other prefix of an nptv6 rule (RFC 6296): no checksum
// changes but of what an ICMP error quotes, whose addresses change in the same way.
func (n *NAT) prefix(_ *netif.Work, r *rule, i *pfil.Info) pfil.Verdict {
	b, at := i.Pkt.Bytes(), 8
	if !i.Out {
		at = 24
	}
	if !r.otherPrefix(b[at:at+16], i.Out) {
		n.count.bad.Add(1)
		return pfil.Refused // RFC 6296 §3.7: an all-ones interface identifier has no word to take the difference up
	}
	r.hits.Add(1)
	n.count.mapped[dir(i.Out)].Add(1)
	if i.Is&pfil.FragBody == 0 && isError(i) {
		if t := i.Transport(); len(t) >= packet.ICMPLen+packet.IPv6Len {
			q := t[packet.ICMPLen:]
			f := q[8:24] // it went the other way: what was its source is now the destination
			if i.Out {
				f = q[24:40]
			}
			r.otherPrefix(f, i.Out) // neutral, and so is the sum of the error
		}
	}
	i.Parse(i.Pkt, i.If, i.Out)
	return pfil.Translated
}

// otherPrefix gives the address f the prefix that it has on the other side of r, if it has the
// one of this side; false: it cannot.
func (r *rule) otherPrefix(f []byte, out bool) bool {
	from, to := r.src, r.To.Masked()
	if !out {
		from, to = to, from
	}
	fh, _ := packet.Words(from.Addr())
	th, _ := packet.Words(to.Addr())
	mask, _ := maskOf(r.src.Bits(), true)
	return binary.BigEndian.Uint64(f)&mask != fh&mask || renumber(f, mask, th, r.src.Bits())
}

// renumber changes the prefix of the address f and takes the difference up in the subnet's
// word for prefixes of up to 48 bits (§3.4), or in the first word of the interface
// identifier that is not all ones (§3.5).
func renumber(f []byte, mask, to uint64, bits int) bool {
	at := 6
	if bits > 48 {
		for at = 8; at < 16 && binary.BigEndian.Uint16(f[at:]) == 0xffff; at += 2 {
		}
		if at == 16 {
			return false
		}
	} else if binary.BigEndian.Uint16(f[6:]) == 0xffff {
		return false
	}
	hi := binary.BigEndian.Uint64(f)
	was := packet.Fold(packet.Sum(0, f[:8]))
	new := hi&^mask | to&mask
	binary.BigEndian.PutUint64(f, new)
	is := packet.Fold(packet.Sum(0, f[:8]))
	w := packet.Fold(uint64(binary.BigEndian.Uint16(f[at:])) + uint64(was) + uint64(^is))
	if w == 0xffff {
		w = 0
	}
	binary.BigEndian.PutUint16(f[at:], w)
	return true
}
