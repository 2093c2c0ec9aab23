package stack_test

import (
	"bytes"
	"encoding/binary"
	"slices"
	"testing"

	"ionet/stack"
	"ionet/stack/crypt"
	"ionet/stack/ipsec"
	"ionet/stack/netif"
	"ionet/stack/packet"
	"ionet/stack/socket"
)

// TestEncapsulatedSuper: ESP in UDP whose checksums are left to the driver leaves as super-packets of datagrams, and
// these are opened where they come. Over IPv6 every datagram has a checksum, whatever the driver can do.
func TestEncapsulatedSuper(t *testing.T) {
	for fam, v6 := range families {
		for _, caps := range []netif.Caps{netif.CapCsum | netif.CapTSO4 | netif.CapTSO6, 0} {
			p := newPairOf(t, caps, func(c *stack.Config) { c.IPsec = true }).over(v6)
			p.policies(t, packet.ProtoTCP, ipsec.Request{Proto: 50, Mode: ipsec.ModeTunnel, Level: ipsec.Require})
			for i := range 2 {
				p.sa(t, i, ipsec.Spec{Proto: 50, SPI: 1000, Mode: ipsec.ModeTunnel, Ealg: crypt.EalgAESGCM16, Ekey: key(20, 1), Replay: 1024,
					NATT: ipsec.NATT{Type: 2, Sport: 4500, Dport: 4500}})
			}
			supers, zero := 0, 0
			p.hear = func(burst []*packet.Buf) {
				for _, b := range joined(p.s[0].Env.Pool, burst) {
					f := b.Bytes()
					if b.GSO == packet.GSOUDPv4 || b.GSO == packet.GSOUDPv6 {
						supers++
					}
					proto, l4 := f[packet.EtherLen+9], packet.EtherLen+packet.IPv4Len
					if packet.Ether(f).Type() == packet.EtherIPv6 {
						proto, l4 = f[packet.EtherLen+6], packet.EtherLen+packet.IPv6Len
					}
					if proto == packet.ProtoUDP && packet.UDP(f[l4:]).Checksum() == 0 {
						zero++
					}
					to := 2 - int(f[11]) // by who sends
					p.line[to] = append(p.line[to], b)
				}
			}
			x, y := p.streams(t)
			buf := make([]byte, 70000)
			data := bytes.Repeat([]byte("in clear "), 50000)
			p.stream(t, 0, x, y, 1<<20, data, buf)
			p.stream(t, 1, y, x, 1<<20, data, buf)
			if super := caps != 0; super && supers < 5 || !super && supers != 0 || v6 && zero != 0 || !v6 && !super && zero == 0 {
				t.Errorf("%s, capabilities %#x: %d super-packets, %d datagrams with a checksum of zero", fam, caps, supers, zero)
			}
		}
	}
}

// joined is what a driver makes of a burst.
func joined(pool *packet.Pool, burst []*packet.Buf) (out []*packet.Buf) {
	j := packet.Join{UDP: true}
	for len(burst) > 0 {
		n := 1
		if j.Begin(burst[0]) {
			for n < len(burst) && j.Add(burst[n]) {
				n++
			}
			j.End()
		}
		b := burst[0]
		if n > 1 {
			all := pool.Get(packet.MaxPacket)
			copy(all.Append(b.Len()), b.Bytes())
			all.CopyMeta(b)
			for _, c := range burst[1:n] {
				rest := j.Payload(c)
				copy(all.Append(len(rest)), rest)
				c.Free()
			}
			b.Free()
			b = all
		}
		out = append(out, b)
		burst = burst[n:]
	}
	return out
}

// superPair are two hosts with a tunnel of ESP in UDP, a socket on each, and a super-packet of n datagrams that the first
// has sent to the second.
func superPair(t testing.TB, v6 bool, n int) (p *pair, to *socket.Socket, super *packet.Buf, l4 int) {
	t.Helper()
	p = newPairOf(t, netif.CapCsum, func(c *stack.Config) { c.IPsec = true }).over(v6)
	p.policies(t, packet.ProtoUDP, ipsec.Request{Proto: 50, Mode: ipsec.ModeTunnel, Level: ipsec.Require})
	if _, err := p.s[0].Env.MIB.Set("net.inet.ipsec.dfbit", "1"); err != nil { // identifications are shared with what is inside
		t.Fatal(err)
	}
	for i := range 2 {
		p.sa(t, i, ipsec.Spec{Proto: 50, SPI: 1000, Mode: ipsec.ModeTunnel, Ealg: crypt.EalgAESGCM16, Ekey: key(20, 1), Replay: 64,
			NATT: ipsec.NATT{Type: 2, Sport: 4500, Dport: 4500}})
	}
	a, b := p.socket(t, 0, p.addr(1, 1000), p.addr(2, 2000)), p.socket(t, 1, p.addr(2, 2000), p.addr(1, 1000))
	p.call(0, func(w *netif.Work) { _, _ = a.Send(w, &socket.Msg{Data: []byte("who is where")}) })
	if err := b.Recv(p.w[1], &socket.Msg{Data: make([]byte, 2000)}); err != nil {
		t.Fatal(err)
	}
	l4 = packet.EtherLen + packet.IPv4Len
	if v6 {
		l4 = packet.EtherLen + packet.IPv6Len
	}
	var sent []*packet.Buf
	p.hear = func(burst []*packet.Buf) {
		for _, f := range burst { // as who sends many at once has it, whatever the version
			h, u := f.Bytes()[packet.EtherLen:], f.Bytes()[l4:]
			binary.BigEndian.PutUint16(u[packet.UDPCsumOffset:], packet.Fold(packet.HeaderPseudoSum(h, packet.ProtoUDP, len(u))))
			f.SetPartial(l4, packet.UDPCsumOffset)
		}
		sent = append(sent, joined(p.s[0].Env.Pool, burst)...)
	}
	p.call(0, func(w *netif.Work) {
		for i := range n {
			_, _ = a.Send(w, &socket.Msg{Data: bytes.Repeat([]byte{byte(i)}, 900)})
		}
	})
	if len(sent) != 1 || sent[0].GSOSize == 0 {
		t.Fatalf("%d frames were sent, want one", len(sent))
	}
	return p, b, sent[0], l4
}

// TestSuperTakenApart: of the datagrams in a super-packet each is opened or lost by itself, and all keep their order.
func TestSuperTakenApart(t *testing.T) {
	const n = 8
	for fam, v6 := range families {
		ip := map[bool]string{false: "ipsec", true: "ipsec6"}[v6]
		for name, c := range map[string]struct {
			spoil   func(f []byte, espLen int) []byte // f is from the first ESP header on
			again   bool
			missing []int
			counted [2]string
			times   uint64
		}{
			"as it was": {},
			"a bit flipped": {spoil: func(f []byte, one int) []byte { f[2*one+30] ^= 1; return f },
				missing: []int{2}, counted: [2]string{ip, "in authentication"}, times: 1},
			"another SPI": {spoil: func(f []byte, one int) []byte { f[3*one+3] ^= 0x40; return f },
				missing: []int{3}, counted: [2]string{ip, "in no SA"}, times: 1},
			"the first spoilt": {spoil: func(f []byte, one int) []byte { f[30] ^= 1; return f },
				missing: []int{0}, counted: [2]string{ip, "in authentication"}, times: 1},
			"cut short": {spoil: func(f []byte, one int) []byte { return f[:(n-1)*one+5] },
				missing: []int{n - 1}, counted: [2]string{"esp", "short"}, times: 1},
			"cut in the middle": {spoil: func(f []byte, one int) []byte { return f[:(n-1)*one+40] },
				missing: []int{n - 1}, counted: [2]string{ip, "in authentication"}, times: 1},
			"again": {again: true, counted: [2]string{ip, "in ESP replay"}, times: n},
		} {
			t.Run(fam+" "+name, func(t *testing.T) {
				p, b, super, l4 := superPair(t, v6, n)
				var before uint64
				for range map[bool]int{false: 1, true: 2}[c.again] {
					f := super.Clone()
					if c.spoil != nil {
						at := l4 + packet.UDPLen
						f.TrimTo(at + len(c.spoil(f.Bytes()[at:], int(f.GSOSize))))
						whole(f, l4)
					}
					if c.counted[0] != "" {
						before = p.count(1, c.counted[0], c.counted[1])
					}
					p.s[1].Input(p.w[1], p.now, p.ifp[1], []*packet.Buf{f})
				}
				for i := range byte(n) {
					if slices.Contains(c.missing, int(i)) {
						continue
					}
					m := socket.Msg{Data: make([]byte, 2000)}
					if err := b.Recv(p.w[1], &m); err != nil || !bytes.Equal(m.Data, bytes.Repeat([]byte{i}, 900)) {
						t.Fatalf("datagram %d: %d octets of %d, %v", i, len(m.Data), m.Data[:min(1, len(m.Data))], err)
					}
				}
				m := socket.Msg{Data: make([]byte, 2000)}
				if err := b.Recv(p.w[1], &m); err == nil {
					t.Error("one too many was delivered")
				}
				if c.counted[0] != "" && p.count(1, c.counted[0], c.counted[1])-before != c.times {
					t.Errorf("%v: %d, want %d", c.counted, p.count(1, c.counted[0], c.counted[1])-before, c.times)
				}
				super.Free()
				if used := p.s[1].Env.Pool.Bufs(); used != 0 {
					t.Errorf("%d buffers are left", used)
				}
			})
		}
	}
}

// whole has the headers of a frame say how long it is.
func whole(f *packet.Buf, l4 int) {
	h := f.Bytes()[packet.EtherLen:]
	if h[0]>>4 == 4 {
		packet.IPv4(h).SetTotalLen(len(h))
		packet.IPv4(h).SetChecksum()
	} else {
		packet.IPv6(h).SetPayloadLen(len(h) - packet.IPv6Len)
	}
	binary.BigEndian.PutUint16(f.Bytes()[l4+4:], uint16(f.Len()-l4))
}

// FuzzSuper: whatever a super-packet of ESP in UDP is said to be, nothing of it is delivered that was not sent, and no
// buffer is lost.
func FuzzSuper(f *testing.F) {
	f.Add(false, uint16(0), uint16(0), uint16(0), byte(0))
	f.Add(true, uint16(1), uint16(0), uint16(100), byte(1))
	f.Add(false, uint16(7), uint16(3000), uint16(70), byte(0x80))
	f.Add(true, uint16(65535), uint16(80), uint16(0), byte(0))
	f.Fuzz(func(t *testing.T, v6 bool, size, cut, at uint16, flip byte) {
		p, b, super, l4 := superPair(t, v6, 4)
		if size != 0 {
			super.GSOSize = size
		}
		if n := int(cut); n > l4+packet.UDPLen && n < super.Len() {
			super.TrimTo(n)
			whole(super, l4)
		}
		if n := l4 + packet.UDPLen + int(at); n < super.Len() {
			super.Bytes()[n] ^= flip
		}
		p.s[1].Input(p.w[1], p.now, p.ifp[1], []*packet.Buf{super})
		for last := -1; ; {
			m := socket.Msg{Data: make([]byte, 2000)}
			if b.Recv(p.w[1], &m) != nil {
				break
			}
			if len(m.Data) != 900 || int(m.Data[0]) <= last || !bytes.Equal(m.Data, bytes.Repeat(m.Data[:1], 900)) {
				t.Fatalf("%d octets of %d behind %d", len(m.Data), m.Data[0], last)
			}
			last = int(m.Data[0])
		}
		if n := p.s[1].Env.Pool.Bufs(); n != 0 {
			t.Errorf("%d buffers are left", n)
		}
	})
}
