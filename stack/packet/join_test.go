package packet

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"testing"

	"pgregory.net/rapid"
)

// stream is a super-packet in a frame, with options.
func stream(p *Pool, v6, df bool, options, size int, payload []byte, flags uint8) *Buf {
	b := p.Get(MaxPacket)
	l4 := EtherLen + IPv4Len
	if v6 {
		l4 = EtherLen + IPv6Len
	}
	f := b.Append(l4 + TCPLen + options + len(payload))
	clear(f)
	src, dst := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2")
	if v6 {
		src, dst = netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("2001:db8::2")
		PutEther(f, [6]byte{2}, [6]byte{4}, EtherIPv6)
		PutIPv6(f[EtherLen:], 0x2a, 0x12345, len(f)-l4, ProtoTCP, 63, src, dst)
		b.GSO = GSOTCPv6
	} else {
		PutEther(f, [6]byte{2}, [6]byte{4}, EtherIPv4)
		frag := uint16(0)
		if df {
			frag = IPv4DF
		}
		PutIPv4(f[EtherLen:], 0x2a, len(f)-EtherLen, 0xffff, frag, 63, ProtoTCP, src, dst, nil).SetChecksum()
		b.GSO = GSOTCPv4
	}
	b.MarkL3(EtherLen)
	t := f[l4:]
	PutTCP(t, 1000, 2000, 0xffffff00, 77, TCPLen+options, flags, 5000, 0, 0)
	for i := range options {
		t[TCPLen+i] = byte(200 + i)
	}
	copy(t[TCPLen+options:], payload)
	b.GSOSize = uint16(size)
	binary.BigEndian.PutUint16(t[TCPCsumOffset:], Fold(PseudoSum(src, dst, ProtoTCP, len(t))))
	b.SetPartial(l4, TCPCsumOffset)
	return b
}

// summed gives a frame the right checksums.
func summed(b *Buf, l4 int) {
	f := b.Bytes()
	h, t := f[EtherLen:], f[l4:]
	if l4 == EtherLen+IPv4Len {
		h[10], h[11] = 0, 0
		binary.BigEndian.PutUint16(h[10:], Checksum(h[:IPv4Len]))
	}
	t[TCPCsumOffset], t[TCPCsumOffset+1] = 0, 0
	binary.BigEndian.PutUint16(t[TCPCsumOffset:], ^Fold(Sum(HeaderPseudoSum(h, ProtoTCP, len(t)), t)))
	b.Csum = CsumNone
}

// TestJoinIsWhatWasCut: the segments of a super-packet, their checksums in every state, are that super-packet again.
func TestJoinIsWhatWasCut(t *testing.T) {
	p := NewPool(16 << 20)
	rapid.Check(t, func(t *rapid.T) {
		v6, df := rapid.Bool().Draw(t, "v6"), rapid.Bool().Draw(t, "df")
		payload := rapid.SliceOfN(rapid.Byte(), 2, 5000).Draw(t, "payload")
		size := rapid.IntRange(1+len(payload)/1000, len(payload)-1).Draw(t, "size")
		flags := rapid.SampledFrom([]uint8{TCPAck, TCPAck | TCPPsh}).Draw(t, "flags")
		b := stream(p, v6, df, rapid.IntRange(0, 10).Draw(t, "words")*4, size, payload, flags)
		defer b.Free()
		segs, ok := b.Segments(nil)
		if !ok {
			t.Fatal("not cut")
		}
		defer FreeBurst(segs)
		l4 := b.CsumStart()
		for _, s := range segs {
			switch rapid.SampledFrom([]CsumState{CsumNone, CsumPartial, CsumVerified}).Draw(t, "checksum") {
			case CsumNone:
				summed(s, l4)
			case CsumVerified:
				s.CompleteCsum()
			}
		}
		var j Join
		if !j.Begin(segs[0]) {
			t.Fatal("the first is none")
		}
		for i, s := range segs[1:] {
			if !j.Add(s) {
				t.Fatalf("segment %d does not follow", i+1)
			}
		}
		if j.Add(segs[0]) || j.Add(segs[len(segs)-1]) {
			t.Fatal("a segment that was there follows")
		}
		j.End()
		got := bytes.Clone(segs[0].Bytes())
		for _, s := range segs[1:] {
			got = append(got, j.Payload(s)...)
		}
		if s := segs[0]; !bytes.Equal(got, b.Bytes()) || s.GSO != b.GSO || s.GSOSize != b.GSOSize || s.Csum != CsumPartial || s.CsumStart() != l4 || s.CsumOffset != b.CsumOffset {
			t.Fatalf("joined:\n% x\nwas\n% x", got[:80], b.Bytes()[:80])
		}
	})
	if p.Bufs() != 0 {
		t.Errorf("%d buffers are left", p.Bufs())
	}
}

// TestJoinNothingElse: a segment that differs in a bit of its headers, sums right, does not follow, nor does one whose sum
// is wrong.
func TestJoinNothingElse(t *testing.T) {
	p := NewPool(16 << 20)
	payload := bytes.Repeat([]byte("abcdefg"), 100)
	for _, v6 := range []bool{false, true} {
		for _, df := range []bool{false, true} {
			b := stream(p, v6, df, 12, 300, payload, TCPAck)
			segs, _ := b.Segments(nil)
			l4 := b.CsumStart()
			hlen := l4 + TCPLen + 12
			try := func(what string, want bool, change func(s *Buf)) {
				t.Helper()
				c := segs[1].Clone()
				defer c.Free()
				summed(c, l4)
				change(c)
				var j Join
				if !j.Begin(segs[0]) || j.Add(c) != want {
					t.Errorf("IPv6 %v, DF %v, %s: follows %v", v6, df, what, !want)
				}
			}
			try("nothing changed", true, func(*Buf) {})
			for at := range hlen {
				for bit := range 8 {
					ident := !v6 && df && (at == EtherLen+4 || at == EtherLen+5)
					push := at == l4+tcpFlagsAt && 1<<bit == TCPPsh
					sum := at == l4+TCPCsumOffset || at == l4+TCPCsumOffset+1 || !v6 && (at == EtherLen+10 || at == EtherLen+11)
					try("a bit of the headers", ident || push, func(s *Buf) {
						s.Bytes()[at] ^= 1 << bit
						if !sum && at != EtherLen && at != l4+12 {
							summed(s, l4)
						}
					})
				}
			}
			try("payload without its sum", false, func(s *Buf) { s.Bytes()[hlen+7] ^= 1 })
			try("payload with its sum", true, func(s *Buf) { s.Bytes()[hlen+7] ^= 1; summed(s, l4) })
			try("padding", false, func(s *Buf) { s.Append(1)[0] = 0 })
			try("a super-packet", false, func(s *Buf) { s.GSO = b.GSO })
			for name, spoil := range map[string]func(s *Buf){
				"SYN":              func(s *Buf) { s.Bytes()[l4+tcpFlagsAt] |= TCPSyn },
				"PSH":              func(s *Buf) { s.Bytes()[l4+tcpFlagsAt] |= TCPPsh },
				"no payload":       func(s *Buf) { s.TrimTo(hlen); grownTo(s, l4) },
				"another protocol": func(s *Buf) { s.Bytes()[map[bool]int{false: EtherLen + 9, true: EtherLen + 6}[v6]] = ProtoUDP },
				"a tag":            func(s *Buf) { s.Bytes()[12] = 0x81 },
				"too short":        func(s *Buf) { s.TrimTo(20) },
			} {
				c := segs[0].Clone()
				spoil(c)
				var j Join
				if j.Begin(c) {
					t.Errorf("%s: taken for the first", name)
				}
				c.Free()
			}
			c := segs[0].Clone()
			summed(c, l4)
			c.Bytes()[hlen] ^= 1
			var j Join
			if !j.Begin(c) || j.Add(segs[1]) || j.Add(segs[1]) {
				t.Error("something follows a segment with a wrong sum")
			}
			was := bytes.Clone(c.Bytes())
			if j.End(); !bytes.Equal(c.Bytes(), was) || c.GSO != GSONone {
				t.Error("a segment by itself is changed")
			}
			c.Free()
			FreeBurst(segs)
			b.Free()
		}
	}
	if p.Bufs() != 0 {
		t.Errorf("%d buffers are left", p.Bufs())
	}
}

// TestJoinDatagrams: those whose checksum the driver computes are one again, and no others.
func TestJoinDatagrams(t *testing.T) {
	p := NewPool(16 << 20)
	for _, gso := range []GSOType{GSOUDPv4, GSOUDPv6} {
		b := super(p, gso, 300, bytes.Repeat([]byte("abcdefg"), 100))
		typ := uint16(EtherIPv4)
		if gso == GSOUDPv6 {
			typ = EtherIPv6
		}
		PutEther(b.Bytes(), [6]byte{2}, [6]byte{4}, typ)
		binary.BigEndian.PutUint16(b.Bytes()[b.CsumStart()+4:], uint16(b.Len()-b.CsumStart()))
		l3, l4 := b.Bytes()[EtherLen:], b.Bytes()[b.CsumStart():]
		binary.BigEndian.PutUint16(l4[UDPCsumOffset:], Fold(HeaderPseudoSum(l3, ProtoUDP, len(l4))))
		segs, ok := b.Segments(nil)
		if !ok {
			t.Fatal("not cut")
		}
		j := Join{UDP: true}
		if !j.Begin(segs[0]) || !j.Add(segs[1]) || !j.Add(segs[2]) || j.Add(segs[1]) {
			t.Error("not joined as they were cut")
		}
		j.End()
		got := bytes.Clone(segs[0].Bytes())
		for _, s := range segs[1:] {
			got = append(got, j.Payload(s)...)
		}
		if s := segs[0]; !bytes.Equal(got, b.Bytes()) || s.GSO != gso || s.GSOSize != 300 || s.Csum != CsumPartial || s.CsumOffset != UDPCsumOffset {
			t.Errorf("joined:\n% x\nwas\n% x", got[:60], b.Bytes()[:60])
		}
		segs[1].Csum = CsumVerified
		if j.Begin(segs[1]) {
			t.Error("a datagram that came so is taken")
		}
		segs[1].Csum = CsumPartial
		if j.UDP = false; j.Begin(segs[1]) {
			t.Error("taken for a link that takes none")
		}
		FreeBurst(segs)
		b.Free()
	}
	if p.Bufs() != 0 {
		t.Errorf("%d buffers are left", p.Bufs())
	}
}

// grownTo has the IP header say how long the frame is.
func grownTo(b *Buf, l4 int) {
	if f := b.Bytes(); l4 == EtherLen+IPv4Len {
		IPv4(f[EtherLen:]).SetTotalLen(len(f) - EtherLen)
	} else {
		IPv6(f[EtherLen:]).SetPayloadLen(len(f) - l4)
	}
}

// TestJoinEnds: a super-packet is no longer than IP can say.
func TestJoinEnds(t *testing.T) {
	p := NewPool(16 << 20)
	b := stream(p, false, true, 0, 1400, make([]byte, 62000), TCPAck)
	segs, ok := b.Segments(nil)
	if !ok {
		t.Fatal("not cut")
	}
	var j Join
	j.Begin(segs[0])
	octets := segs[0].Len()
	for i := 1; ; i++ {
		s := segs[i%44] // again and again, as if they followed
		binary.BigEndian.PutUint32(s.Bytes()[EtherLen+IPv4Len+4:], j.next)
		s.Csum = CsumVerified
		if !j.Add(s) {
			break
		}
		octets += 1400
	}
	if octets > EtherLen+65535 || octets+1400 <= EtherLen+65535 {
		t.Errorf("ends with %d octets", octets)
	}
	FreeBurst(segs)
	b.Free()
}

func BenchmarkJoin(b *testing.B) {
	p := NewPool(16 << 20)
	super := stream(p, false, true, 12, 1348, make([]byte, 32*1348), TCPAck)
	segs, _ := super.Segments(nil)
	for _, s := range segs {
		summed(s, super.CsumStart())
	}
	b.SetBytes(32 * 1348)
	for b.Loop() {
		var j Join
		j.Begin(segs[0])
		for _, s := range segs[1:] {
			if !j.Add(s) {
				b.Fatal("does not follow")
			}
		}
	}
}
