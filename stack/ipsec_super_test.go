package stack_test

import (
	"bytes"
	"testing"

	"ionet/stack"
	"ionet/stack/crypt"
	"ionet/stack/ipsec"
	"ionet/stack/netif"
	"ionet/stack/packet"
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
