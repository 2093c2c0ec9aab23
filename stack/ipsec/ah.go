package ipsec

import (
	"encoding/binary"
	"syscall"

	"ionet/stack/netif"
	"ionet/stack/packet"
)

// ahFixed is an AH header without its check value (RFC 4302 §2).
const ahFixed = 12

// ahLen is the length of the whole header: of IPv6 it is a multiple of 8 (§2.6).
func (s *SA) ahLen() int {
	n := ahFixed + s.auth.ICVLen()
	if s.Dst.Is6() {
		return (n + 7) &^ 7
	}
	return (n + 3) &^ 3
}

// signAH is RFC 4302 §3.3.
func (s *SA) signAH(w *netif.Work, pkt *packet.Buf) (*packet.Buf, error) {
	front := s.ahLen()
	roomy := pkt.WithRoom(front+packet.IPv6Len+40, 0)
	if roomy == nil {
		w.Drop(pkt, s.stats.ip.outNoMem)
		return nil, syscall.ENOBUFS
	}
	pkt = roomy
	n, ok := s.number()
	if !ok {
		w.Drop(pkt, s.stats.proto.wrap)
		return nil, syscall.EOVERFLOW
	}
	b := pkt.Bytes()
	at, nextAt, next := 0, 0, uint8(packet.ProtoIPv4)
	class, df := uint8(0), false
	switch {
	case s.Mode == ModeTunnel:
		if b[0]>>4 == 6 {
			next = packet.ProtoIPv6
		}
		class, df = s.outerClass(b), s.outerDF(b)
	default:
		at, nextAt, next = headers(b)
	}
	octets := len(b) - at
	pkt.Prepend(front)
	b = pkt.Bytes()
	copy(b, b[front:front+at])
	h := b[at : at+front]
	clear(h)
	h[0], h[1] = next, byte(front/4-2)
	binary.BigEndian.PutUint32(h[4:], s.SPI)
	binary.BigEndian.PutUint32(h[8:], uint32(n))
	if s.Mode == ModeTunnel {
		s.outer(pkt, packet.ProtoAH, class, df)
		b = pkt.Bytes()
		at = headerLen(s.Dst.Is4())
	} else {
		grown(b, nextAt, packet.ProtoAH)
		pkt.MarkL3(0)
		pkt.MarkL4(at)
		pkt.Csum = packet.CsumNone
	}
	if b[0]>>4 == 4 {
		if h := packet.IPv4(b); h.ID() == 0 && !h.DF() { // of a tunnel's header, this one's or one inside: it is signed, so nobody may fill it in later
			h.SetID(uint16(n%(1<<16-1)) + 1)
			h.SetChecksum()
		}
	}
	var fixed [maxSigned]byte
	if !immutable(fixed[:], b, at, true) {
		drop(w, pkt, s.stats.ip.outInvalid, s.stats.proto.short)
		return nil, syscall.EINVAL
	}
	var hi [4]byte
	binary.BigEndian.PutUint32(hi[:], uint32(n>>32))
	esn := hi[:0]
	if s.ESN {
		esn = hi[:]
	}
	s.auth.Sum(b[at+ahFixed:], fixed[:at], b[at:], esn)
	s.wentOut(w, octets)
	return pkt, nil
}

// maxSigned bounds the headers in front of an AH header.
const maxSigned = 512

// checkAH is RFC 4302 §3.4. The window is at the AH header.
func (x *IPsec) checkAH(w *netif.Work, pkt *packet.Buf) {
	b := pkt.Bytes()
	if len(b) < ahFixed {
		drop(w, pkt, statsOf(pkt).inInvalid, protoStats[1].short)
		return
	}
	s := x.came(w, pkt, packet.ProtoAH, binary.BigEndian.Uint32(b[4:]))
	if s == nil {
		return
	}
	front, icv := s.ahLen(), s.auth.ICVLen()
	c, v := s.stats.proto, s.stats.ip
	switch {
	case (int(b[1])+2)*4 != front:
		drop(w, pkt, v.inInvalid, c.badICVLen)
		return
	case len(b) < front:
		drop(w, pkt, v.inInvalid, c.short)
		return
	}
	n, ok := s.numbered(binary.BigEndian.Uint32(b[8:]))
	if !ok {
		drop(w, pkt, v.inReplayAH, c.replay)
		return
	}
	whole := pkt.L3()
	at := len(whole) - len(b)
	var fixed [maxSigned]byte
	if !immutable(fixed[:], whole, at, false) {
		drop(w, pkt, v.inInvalid, c.short)
		return
	}
	var hi [4]byte
	binary.BigEndian.PutUint32(hi[:], uint32(n>>32))
	esn := hi[:0]
	if s.ESN {
		esn = hi[:]
	}
	var zeros [64]byte // in the place of the check value; padding behind it counts as it is
	if !s.auth.Verify(b[ahFixed:ahFixed+icv], fixed[:at], b[:ahFixed], zeros[:icv], b[ahFixed+icv:], esn) {
		drop(w, pkt, v.inForged, c.forged)
		return
	}
	w.Count(v.inAuthentic)
	taken, packets, octets := s.takes(n, len(b)-front)
	if !taken {
		drop(w, pkt, v.inReplayAH, c.replay)
		return
	}
	if !s.spent(w, packets, octets) {
		w.Drop(pkt, c.over)
		return
	}
	next := b[0]
	if pkt = x.own(w, pkt); pkt != nil {
		x.opened(w, pkt, s, front, next, false)
	}
}

// own is pkt as one whose octets nobody else keeps, or nil, and then it has gone.
func (x *IPsec) own(w *netif.Work, pkt *packet.Buf) *packet.Buf {
	if !pkt.Shared() {
		return pkt
	}
	off := len(pkt.L3()) - pkt.Len()
	pkt.RestoreL3()
	o := pkt.WithRoom(packet.Headroom, 0)
	if o == nil {
		w.Drop(pkt, statsOf(pkt).inNoMem)
		return nil
	}
	o.TrimFront(off)
	return o
}

// immutable copies the n octets of headers in front of an AH header to out, with zeros for what changes on the way and, of one
// that leaves, a routing header as it will arrive (RFC 4302 §3.3.3.1, appendix A). false: they are not whole, or too long.
func immutable(out, b []byte, n int, leaves bool) bool {
	if n > len(out) || n > len(b) {
		return false
	}
	out = out[:n]
	copy(out, b)
	if b[0]>>4 == 4 {
		out[1], out[6], out[7], out[8], out[10], out[11] = 0, 0, 0, 0, 0, 0
		return immutable4(out[packet.IPv4Len:])
	}
	out[0], out[1], out[2], out[3], out[7] = 6<<4, 0, 0, 0, 0
	next := out[6]
	for at := packet.IPv6Len; at < n; {
		e := out[at:]
		if len(e) < 8 {
			return false
		}
		l := 8 + int(e[1])*8
		if next == packet.ProtoFragment {
			l = 8
		}
		if len(e) < l {
			return false
		}
		e = e[:l]
		switch next {
		case packet.ProtoHopByHop, packet.ProtoDstOpts:
			if !immutableOptions(e[2:]) {
				return false
			}
		case packet.ProtoRouting:
			if leaves && !arrived(e, out[24:40]) {
				return false
			}
		case packet.ProtoFragment:
		default:
			return false
		}
		next, at = e[0], at+l
	}
	return true
}

// immutable4 zeroes the options of IPv4 that change on the way.
func immutable4(o []byte) bool {
	for len(o) > 0 {
		switch o[0] {
		case 0:
			return true
		case 1:
			o = o[1:]
			continue
		}
		if len(o) < 2 || o[1] < 2 || int(o[1]) > len(o) {
			return false
		}
		l := int(o[1])
		switch o[0] {
		case 130, 133, 134, 148, 149: // security, router alert, SDDRP
		default:
			clear(o[:l])
		}
		o = o[l:]
	}
	return true
}

// immutableOptions zeroes the data of IPv6 options that may change on the way (RFC 8200 §4.2).
func immutableOptions(o []byte) bool {
	for len(o) > 0 {
		if o[0] == 0 {
			o = o[1:]
			continue
		}
		if len(o) < 2 || int(o[1])+2 > len(o) {
			return false
		}
		if o[0]&0x20 != 0 {
			clear(o[2 : 2+int(o[1])])
		}
		o = o[2+int(o[1]):]
	}
	return true
}

// arrived makes a routing header of type 0 as it is at the last of its stations (RFC 4302 §3.3.3.1.2.1).
func arrived(e, dst []byte) bool {
	left := int(e[3])
	if e[2] != 0 || left == 0 {
		return left == 0
	}
	n := (len(e) - 8) / 16
	if left > n {
		return false
	}
	var last [16]byte
	copy(last[:], e[8+16*(n-1):])
	first := n - left
	copy(e[8+16*(first+1):], e[8+16*first:8+16*(n-1)])
	copy(e[8+16*first:], dst)
	copy(dst, last[:])
	e[3] = 0
	return true
}
