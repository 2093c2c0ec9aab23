package packet

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"testing"

	"pgregory.net/rapid"
)

// slowSum is the checksum of RFC 1071 as one would write it on paper.
func slowSum(b []byte) uint16 {
	var s uint32
	for i := 0; i < len(b); i += 2 {
		w := uint32(b[i]) << 8
		if i+1 < len(b) {
			w |= uint32(b[i+1])
		}
		if s += w; s > 0xffff {
			s = s&0xffff + 1
		}
	}
	return ^uint16(s)
}

func TestChecksumAgainstTheSlowOne(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := rapid.SliceOfN(rapid.Byte(), 0, 700).Draw(t, "data")
		if got, want := Checksum(b), slowSum(b); got != want {
			t.Fatalf("%#04x, want %#04x", got, want)
		}
		cut := rapid.IntRange(0, len(b)/2).Draw(t, "cut") * 2
		if got := ^Fold(Sum(Sum(0, b[:cut]), b[cut:])); got != slowSum(b) {
			t.Fatalf("in two pieces: %#04x, want %#04x", got, slowSum(b))
		}
		if len(b) >= 2 {
			at := rapid.IntRange(0, len(b)/2-1).Draw(t, "at") * 2
			old, now := binary.BigEndian.Uint16(b[at:]), rapid.Uint16().Draw(t, "new")
			was := Checksum(b)
			binary.BigEndian.PutUint16(b[at:], now)
			got, want := UpdateChecksum(was, old, now), Checksum(b)
			if got != want && got+want != 0xffff { // 0 and 0xffff are the same sum
				t.Fatalf("updated: %#04x, want %#04x", got, want)
			}
		}
	})
	ones := bytes.Repeat([]byte{0xff}, 65535)
	for n := range ones {
		if n > 1000 && n%1000 != 0 {
			continue
		}
		if got, want := Checksum(ones[:n]), slowSum(ones[:n]); got != want {
			t.Errorf("%d octets of ones: %#04x, want %#04x", n, got, want)
		}
	}
	if got := Fold(Sum(1<<64-1, ones[:256])); got != 0xffff {
		t.Errorf("a carry of the running sum is lost: %#04x", got)
	}
}

func TestPartialChecksum(t *testing.T) {
	src, dst := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2")
	rapid.Check(t, func(t *rapid.T) {
		data := rapid.SliceOfN(rapid.Byte(), 0, 100).Draw(t, "data")
		p := NewPool(1 << 20)
		b := p.Get(len(data) + UDPLen)
		copy(b.Append(len(data)), data)
		n := UDPLen + len(data)
		PutUDP(b.Prepend(UDPLen), 5, 7, n, Fold(PseudoSum(src, dst, ProtoUDP, n)))
		b.SetPartial(0, UDPCsumOffset)
		c := b.Clone()
		for _, x := range []*Buf{b, c} {
			x.CompleteCsum()
			x.CompleteCsum() // a second time changes nothing
			h := UDP(x.Bytes())
			if h.Checksum() == 0 || Fold(Sum(PseudoSum(src, dst, ProtoUDP, n), h)) != 0xffff {
				t.Fatalf("% x", h)
			}
			x.Free()
		}
		if p.Bufs() != 0 || p.InUse() != 0 {
			t.Fatalf("%d buffers are out", p.Bufs())
		}
	})
}

func panics(f func()) (yes bool) {
	defer func() { yes = recover() != nil }()
	f()
	return
}

func TestDoubleFreePanics(t *testing.T) {
	p := NewPool(1 << 20)
	b := p.Get(10)
	b.Free()
	if !panics(b.Free) {
		t.Error("freed twice without a word")
	}
	c := p.Get(10)
	if !panics(func() { FreeBurst([]*Buf{c, nil, c}) }) {
		t.Error("freed twice in a burst without a word")
	}
}

// The pool against a plain count, whatever the order of calls.
func TestPoolKeepsItsBooks(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		limit := rapid.Int64Range(0, 1<<20).Draw(t, "limit")
		p := NewPool(limit)
		p.SetCaching(rapid.Bool().Draw(t, "caching"))
		var out []*Buf
		var octets int64
		take := func(b *Buf, n int) {
			if b.Len() != 0 || b.Headroom() < Headroom || b.Tailroom() < n || b.Csum != CsumNone || b.RcvIf != 0 || b.Flags != 0 || b.L3() == nil {
				t.Fatalf("not a fresh buffer: %+v", b)
			}
			b.Append(n)
			b.RcvIf, b.Flags, b.Csum = 7, 7, CsumVerified
			out, octets = append(out, b), octets+int64(b.Cap())
		}
		t.Repeat(map[string]func(*rapid.T){
			"get": func(t *rapid.T) {
				n := rapid.SampledFrom([]int{0, 1, 320, 321, 1500, 9000, 65535, 65600, 70000}).Draw(t, "n")
				if b := p.Get(n); b != nil {
					take(b, n)
				} else if n <= MaxPacket && octets+int64(MaxPacket+Headroom+1) <= limit {
					t.Fatalf("refused %d octets with %d of %d out", n, octets, limit)
				}
			},
			"burst": func(t *rapid.T) {
				bs := make([]*Buf, rapid.IntRange(0, 8).Draw(t, "burst"))
				for _, b := range bs[:p.GetBurst(bs, 1500)] {
					take(b, 1500)
				}
			},
			"free": func(t *rapid.T) {
				n := rapid.IntRange(0, len(out)).Draw(t, "free")
				for _, b := range out[:n] {
					octets -= int64(b.Cap())
				}
				FreeBurst(out[:n])
				out = out[n:]
			},
			"shrink": func(t *rapid.T) {
				if len(out) == 0 {
					return
				}
				b := out[0]
				was := b.Cap()
				b.TrimTo(min(b.Len(), 40))
				will := b.ShrunkCap()
				c := b.Shrink()
				if c.Cap() != will && c != b {
					t.Fatalf("shrunk to %d, want %d", c.Cap(), will)
				}
				out[0] = c
				octets += int64(c.Cap() - was)
			},
			"": func(t *rapid.T) {
				if p.InUse() != octets || p.Bufs() != int64(len(out)) || octets > limit {
					t.Fatalf("%d octets in %d buffers, want %d in %d, limit %d", p.InUse(), p.Bufs(), octets, len(out), limit)
				}
			},
		})
		FreeBurst(out)
	})
}

func FuzzViews(f *testing.F) {
	for _, s := range captured(f) {
		f.Add(s)
	}
	f.Add([]byte{0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2, 0, 5, 0, 9, 0, 8, 0, 0})
	f.Add([]byte{0x11, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 1, 2, 3, 4})
	f.Fuzz(func(t *testing.T, b []byte) {
		if h, ok := CheckEther(b); ok {
			_, _, _, _ = h.Dst(), h.Src(), h.Type(), h.Payload()
		}
		if a, ok := CheckARP(b); ok {
			out := make([]byte, ARPLen)
			PutARP(out, a.Op(), a.SenderMAC(), a.SenderIP(), a.TargetMAC(), a.TargetIP())
			if !bytes.Equal(out, b[:ARPLen]) {
				t.Fatalf("% x became % x", b[:ARPLen], out)
			}
		}
		if h, ok := CheckIPv4(b); ok {
			n := h.HeaderLen()
			out := PutIPv4(make([]byte, n), h.TOS(), h.TotalLen(), h.ID(), h.FragField(), h.TTL(), h.Proto(), h.Src(), h.Dst(), h.Options())
			binary.BigEndian.PutUint16(out[10:], h.Checksum())
			if !bytes.Equal(out, b[:n]) {
				t.Fatalf("% x became % x", b[:n], out)
			}
			h = IPv4(bytes.Clone(b))
			h.SetChecksum()
			if !h.ChecksumOK() {
				t.Fatal("a checksum set is not right")
			}
			if h.TTL() > 0 {
				if h.DecTTL(); !h.ChecksumOK() {
					t.Fatal("not right after DecTTL")
				}
			}
			_, _, _, _ = h.FragOff(), h.MF(), h.DF(), h.Payload()
		}
		if h, ok := CheckUDP(b); ok {
			out := make([]byte, UDPLen)
			PutUDP(out, h.SrcPort(), h.DstPort(), h.Len(), h.Checksum())
			if !bytes.Equal(out, b[:UDPLen]) || h.Len() > len(b) {
				t.Fatalf("% x became % x", b[:UDPLen], out)
			}
		}
		if m, ok := CheckICMP(bytes.Clone(b)); ok {
			_, _, _, _, _, _, _ = m.Code(), m.ID(), m.Seq(), m.MTU(), m.Gateway(), m.Pointer(), ICMPIsError(m.Type())
			if m.SetChecksum(); !m.ChecksumOK() {
				t.Fatal("a checksum set is not right")
			}
		}
		if m, ok := CheckIGMP(bytes.Clone(b)); ok {
			if m.Type() == IGMPQuery && len(m) >= 12 {
				for i := range m.NSources() {
					_ = m.Source(i)
				}
				_ = m.MaxRespTenths()
			}
			_, _ = m.Group(), m.MaxResp()
			if m.SetChecksum(); !m.ChecksumOK() {
				t.Fatal("a checksum set is not right")
			}
		}
	})
}

func TestPartialChecksumOfWhatWasCutOff(t *testing.T) {
	p := NewPool(1 << 20)
	for _, keep := range []int{0, 20, 41} { // before, in front of and inside the field at 40
		b := p.Get(100)
		b.Append(100)
		b.SetPartial(30, 10)
		b.TrimTo(keep)
		if b.CompleteCsum(); b.Csum != CsumNone {
			t.Errorf("%d octets kept: checksum state %d", keep, b.Csum)
		}
		b.Free()
	}
}

// super is a super-packet behind an Ethernet header, as a driver brings it.
func super(p *Pool, gso GSOType, size uint16, payload []byte) *Buf {
	proto, hlen, field := uint8(ProtoTCP), 20, uint16(16)
	if gso == GSOUDPv4 || gso == GSOUDPv6 {
		proto, hlen, field = ProtoUDP, UDPLen, UDPCsumOffset
	}
	n := hlen + len(payload)
	b := p.Get(EtherLen + 40 + n)
	clear(b.Append(EtherLen))
	b.MarkL3(EtherLen)
	l4 := EtherLen + IPv4Len
	if gso == GSOTCPv6 || gso == GSOUDPv6 {
		l4 = EtherLen + 40
		h := b.Append(40)
		clear(h)
		h[0], h[6], h[7], h[23], h[39] = 0x60, proto, 64, 1, 2
		binary.BigEndian.PutUint16(h[4:], uint16(n))
	} else {
		PutIPv4(b.Append(IPv4Len), 0, IPv4Len+n, 0xffff, IPv4DF, 64, proto, netip.AddrFrom4([4]byte{10, 0, 0, 1}), netip.AddrFrom4([4]byte{10, 0, 0, 2}), nil).SetChecksum()
	}
	t := b.Append(hlen)
	clear(t)
	if proto == ProtoTCP {
		binary.BigEndian.PutUint32(t[4:], 0xffffff00)
		t[12], t[13] = 5<<4, 0x99 // CWR ACK PSH FIN
	}
	copy(b.Append(len(payload)), payload)
	b.SetPartial(l4, field)
	b.GSO, b.GSOSize = gso, size
	return b
}

func TestSegments(t *testing.T) {
	p := NewPool(8 << 20)
	payload := bytes.Repeat([]byte("abcdefg"), 100)
	for _, gso := range []GSOType{GSOTCPv4, GSOTCPv6, GSOUDPv4, GSOUDPv6} {
		b := super(p, gso, 300, payload)
		out, ok := b.Segments(nil)
		if !ok || len(out) != 3 {
			t.Fatalf("%d: %d segments, %v", gso, len(out), ok)
		}
		var got []byte
		for i, c := range out {
			start := c.CsumStart()
			c.CompleteCsum()
			h, l4 := c.L3(), c.Bytes()[start:]
			var sum uint64
			if h[0]>>4 == 6 {
				sum = PseudoSum(netip.AddrFrom16([16]byte(h[8:24])), netip.AddrFrom16([16]byte(h[24:40])), h[6], len(l4))
				if int(binary.BigEndian.Uint16(h[4:])) != len(l4) {
					t.Errorf("%d/%d: payload length % x", gso, i, h)
				}
			} else {
				ip, ok := CheckIPv4(h)
				if !ok || !ip.ChecksumOK() || ip.TotalLen() != len(h) || ip.ID() != 0xffff+uint16(i) || !ip.DF() {
					t.Fatalf("%d/%d: header % x", gso, i, h[:20])
				}
				sum = PseudoSum(ip.Src(), ip.Dst(), ip.Proto(), len(l4))
			}
			if Fold(Sum(sum, l4)) != 0xffff {
				t.Errorf("%d/%d: bad transport checksum", gso, i)
			}
			head := UDPLen
			if gso == GSOTCPv4 || gso == GSOTCPv6 {
				head = 20
				flags := [...]byte{0x90, 0x10, 0x19}[i]
				if seq := binary.BigEndian.Uint32(l4[4:]); seq != 0xffffff00+uint32(300*i) || l4[13] != flags {
					t.Errorf("%d/%d: sequence %#x, flags %#x, want %#x", gso, i, seq, l4[13], flags)
				}
			} else if int(binary.BigEndian.Uint16(l4[4:])) != len(l4) {
				t.Errorf("%d/%d: length of the datagram", gso, i)
			}
			got = append(got, l4[head:]...)
		}
		if !bytes.Equal(got, payload) {
			t.Errorf("%d: the payload is another", gso)
		}
		FreeBurst(out)
		b.Free()
	}
	for name, spoil := range map[string]func(*Buf){
		"no checksum":         func(b *Buf) { b.Csum = CsumNone },
		"too many":            func(b *Buf) { b.GSOSize = 0 },
		"short header":        func(b *Buf) { b.L3()[IPv4Len+12] = 1 << 4 },
		"long IP header":      func(b *Buf) { b.L3()[0] = 0x4f },
		"all headers":         func(b *Buf) { b.TrimTo(EtherLen + IPv4Len + 20) },
		"transport too early": func(b *Buf) { b.SetPartial(EtherLen, 16) },
	} {
		b := super(p, GSOTCPv4, 300, payload)
		spoil(b)
		if out, ok := b.Segments(nil); ok || len(out) != 0 {
			t.Errorf("%s: cut all the same", name)
		}
		b.Free()
	}
	if p.Bufs() != 0 {
		t.Errorf("%d buffers are left", p.Bufs())
	}
}
