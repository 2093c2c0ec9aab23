package vnet

import (
	"bytes"
	"testing"

	"ionet/stack/packet"
)

// frame is an Ethernet header of the given type and n octets behind it.
func frame(p *packet.Pool, ethertype uint16, n int) *packet.Buf {
	b := p.Get(EtherLen + n)
	d := b.Append(EtherLen + n)
	clear(d)
	d[12], d[13] = byte(ethertype>>8), byte(ethertype)
	return b
}

func TestRoundTrip(t *testing.T) {
	p := packet.NewPool(1 << 20)
	for name, set := range map[string]func(*packet.Buf){
		"nothing known": func(b *packet.Buf) {},
		"verified":      func(b *packet.Buf) { b.Csum = packet.CsumVerified },
		"partial UDP":   func(b *packet.Buf) { b.SetPartial(34, 6) },
		"TCP over IPv4": func(b *packet.Buf) { b.SetPartial(34, 16); b.GSO, b.GSOSize = packet.GSOTCPv4, 1448 },
		"UDP over IPv4": func(b *packet.Buf) { b.SetPartial(34, 6); b.GSO, b.GSOSize = packet.GSOUDPv4, 1472 },
	} {
		b := frame(p, 0x0800, 4000)
		set(b)
		h := bytes.Repeat([]byte{0xff}, Size)
		Put(h, b)
		c := frame(p, 0x0800, 4000)
		if err := Get(h, c); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if c.Csum != b.Csum || c.GSO != b.GSO || c.GSOSize != b.GSOSize ||
			b.Csum == packet.CsumPartial && (c.CsumStart() != b.CsumStart() || c.CsumOffset != b.CsumOffset) {
			t.Errorf("%s: came back as csum %d gso %d/%d", name, c.Csum, c.GSO, c.GSOSize)
		}
		b.Free()
		c.Free()
	}
	if p.Bufs() != 0 {
		t.Errorf("%d buffers out", p.Bufs())
	}
}

func TestHeaderLength(t *testing.T) {
	p := packet.NewPool(1 << 20)
	b := frame(p, 0x86dd, 4000)
	b.SetPartial(54, 16)
	b.Bytes()[54+12] = 8 << 4 // a TCP header of 32 octets
	b.GSO, b.GSOSize = packet.GSOTCPv6, 1428
	h := make([]byte, Size)
	Put(h, b)
	if want := []byte{1, 4, 86, 0, 0x94, 0x05, 54, 0, 16, 0}; !bytes.Equal(h, want) {
		t.Errorf("header % x, want % x", h, want)
	}
}

func TestGetRefuses(t *testing.T) {
	p := packet.NewPool(1 << 20)
	for name, h := range map[string][]byte{
		"checksum behind the end":     {1, 0, 0, 0, 0, 0, 110, 0, 16, 0},
		"checksum in the link header": {1, 0, 0, 0, 0, 0, 12, 0, 0, 0},
		"segments of nothing":         {1, 1, 0, 0, 0, 0, 34, 0, 16, 0},
		"segments without partial":    {0, 1, 0, 0, 100, 0, 0, 0, 0, 0},
		"TCPv6 in IPv4":               {1, 4, 0, 0, 100, 0, 34, 0, 16, 0},
		"unknown type":                {1, 3, 0, 0, 100, 0, 34, 0, 16, 0},
	} {
		b := frame(p, 0x0800, 100)
		if Get(h, b) == nil {
			t.Errorf("%s: taken", name)
		}
		b.Free()
	}
	b := frame(p, 0x0806, 100)
	if Get([]byte{1, 1, 0, 0, 100, 0, 34, 0, 16, 0}, b) == nil {
		t.Error("segments of an ARP frame: taken")
	}
	b.TrimTo(13)
	if Get(make([]byte, Size), b) == nil {
		t.Error("13 octets: taken")
	}
}

func FuzzGet(f *testing.F) {
	f.Add([]byte{1, 1, 54, 0, 0xa8, 5, 34, 0, 16, 0}, make([]byte, 100))
	f.Add([]byte{1, 0, 0, 0, 0, 0, 34, 0, 6, 0}, make([]byte, 60))
	f.Fuzz(func(t *testing.T, h, data []byte) {
		if len(h) < Size || len(data) > 65535 {
			return
		}
		p := packet.NewPool(1 << 20)
		b := p.Get(len(data))
		copy(b.Append(len(data)), data)
		if Get(h, b) != nil {
			return
		}
		again := make([]byte, Size)
		Put(again, b)
		c := b.Clone()
		if err := Get(again, c); err != nil || c.Csum != b.Csum || c.GSO != b.GSO || c.GSOSize != b.GSOSize {
			t.Fatalf("% x became % x: %v", h, again, err)
		}
		b.CompleteCsum() // must stay inside the frame
	})
}
