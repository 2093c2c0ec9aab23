package ipsec

import (
	"encoding/binary"
	"syscall"

	"ionet/stack/mib"
	"ionet/stack/netif"
	"ionet/stack/packet"
)

var (
	nodeCompMin = mib.Int("net.inet.ipsec.comp_min", 128, "Octets of payload that IPComp compresses at least; less goes as it is (RFC 3173 §2.2).", mib.Range(0, 65535))
)

// compLen is an IPComp header (RFC 3173 §3.1).
const compLen = 4

// compress is RFC 3173 §2.2: what does not get smaller goes as it is, but a tunnel's has its outer header.
func (s *SA) compress(w *netif.Work, pkt *packet.Buf) (*packet.Buf, error) {
	roomy := pkt.WithRoom(packet.IPv6Len+40, 0)
	if roomy == nil {
		w.Drop(pkt, s.stats.ip.outNoMem)
		return nil, syscall.ENOBUFS
	}
	pkt = roomy
	b := pkt.Bytes()
	at, nextAt, next := 0, 0, uint8(packet.ProtoIPv4)
	class, df := uint8(0), false
	if s.Mode == ModeTunnel {
		if b[0]>>4 == 6 {
			next = packet.ProtoIPv6
		}
		class, df = s.outerClass(b), s.outerDF(b)
	} else {
		at, nextAt, next = headers(b)
	}
	n := -1
	if len(b)-at < int(s.x.env.MIB.Int(nodeCompMin)) {
		w.Count(s.stats.proto.small)
	} else {
		into := s.x.env.Pool.Get(len(b))
		if into == nil {
			w.Drop(pkt, s.stats.ip.outNoMem)
			return nil, syscall.ENOBUFS
		}
		room := into.Append(len(b) - at)
		if n = s.comp.Compress(room[:len(b)-at-compLen], b[at:]); n >= 0 {
			b[at], b[at+1] = next, 0
			binary.BigEndian.PutUint16(b[at+2:], s.cpi())
			copy(b[at+compLen:], room[:n])
			s.wentOut(w, len(b)-at)
			pkt.TrimTo(at + compLen + n)
			b, next = pkt.Bytes(), packet.ProtoIPComp
		} else {
			w.Count(s.stats.proto.useless)
		}
		into.Free()
	}
	if s.Mode == ModeTunnel {
		s.outer(pkt, next, class, df)
		return pkt, nil
	}
	if n >= 0 {
		grown(b, nextAt, next)
	}
	pkt.MarkL3(0)
	pkt.MarkL4(at)
	pkt.Csum = packet.CsumNone
	return pkt, nil
}

// cpi is what packets say of how they are compressed.
func (s *SA) cpi() uint16 {
	if s.RawCPI {
		return uint16(s.SPI)
	}
	return uint16(s.Calg)
}

// wellKnown is an SA for packets that name their algorithm and no SA, or nil.
func (x *IPsec) wellKnown(pkt *packet.Buf, cpi uint16) *SA {
	if cpi >= 256 {
		return nil
	}
	src, dst, v6 := ends(pkt)
	for _, mode := range []uint8{ModeTransport, ModeTunnel} {
		if g := x.sad.group(choice{packet.ProtoIPComp, mode, addrOf(src, v6), addrOf(dst, v6), 0}); g != nil {
			if s := g.cur.Load(); s != nil && uint16(s.Calg) == cpi {
				return s
			}
		}
	}
	return nil
}

// expand is RFC 3173 §2.3. The window is at the IPComp header.
func (x *IPsec) expand(w *netif.Work, pkt *packet.Buf) {
	b := pkt.Bytes()
	if len(b) < compLen {
		drop(w, pkt, statsOf(pkt).inInvalid, protoStats[2].short)
		return
	}
	cpi := binary.BigEndian.Uint16(b[2:])
	s := x.wellKnown(pkt, cpi)
	if s == nil {
		s = x.came(w, pkt, packet.ProtoIPComp, uint32(cpi))
	}
	if s == nil {
		return
	}
	whole := pkt.L3()
	at := len(whole) - len(b)
	big := x.env.Pool.Get(packet.MaxPacket)
	if big == nil {
		w.Drop(pkt, s.stats.ip.inNoMem)
		return
	}
	room := big.Append(min(packet.MaxPacket, big.Cap()-packet.Headroom))
	n := s.comp.Decompress(room[at+compLen:], b[compLen:])
	if n < 0 || at+n > 65535 {
		big.Free()
		why := s.stats.proto.corrupt
		if n != -1 {
			why = s.stats.proto.big
		}
		drop(w, pkt, s.stats.ip.inInvalid, why)
		return
	}
	copy(room, whole[:at+compLen])
	big.TrimTo(at + compLen + n)
	pkt.RestoreL3()
	big.CopyMeta(pkt)
	next := b[0]
	pkt.Free()
	if !s.used(w, n) {
		w.Drop(big, s.stats.proto.over)
		return
	}
	big.TrimFront(at)
	x.opened(w, big.Shrink(), s, compLen, next, false)
}
