package stack_test

import (
	"bytes"
	"testing"

	"ionet/stack/crypt"
	"ionet/stack/ipsec"
	"ionet/stack/netif"
	"ionet/stack/packet"
	"ionet/stack/socket"
)

// TestCompressed: what gets smaller goes through IPComp, what does not goes as it is, in a tunnel with its outer header;
// all of it comes, and satisfies a policy that wants the tunnel.
func TestCompressed(t *testing.T) {
	for name, mode := range map[string]uint8{"transport": ipsec.ModeTransport, "tunnel": ipsec.ModeTunnel} {
		for fam, v6 := range families {
			t.Run(name+" "+fam, func(t *testing.T) {
				p := securedPair(t, v6)
				level := ipsec.Require
				if mode == ipsec.ModeTransport {
					level = ipsec.Use // nobody sees on a packet that it was not worth while
				}
				p.policies(t, packet.ProtoUDP, ipsec.Request{Proto: packet.ProtoIPComp, Mode: mode, Level: level})
				for i := range 2 {
					p.sa(t, i, ipsec.Spec{Proto: packet.ProtoIPComp, SPI: 1000, Mode: mode, Calg: crypt.CalgDeflate})
				}
				protos := map[uint8]int{}
				p.wires(func(b []byte) {
					if b[0]>>4 == 4 {
						protos[b[9]]++
					} else {
						protos[b[6]]++
					}
				})
				a, b := p.socket(t, 0, p.addr(1, 1000), p.addr(2, 2000)), p.socket(t, 1, p.addr(2, 2000), p.addr(1, 1000))
				for _, data := range [][]byte{[]byte("little"), bytes.Repeat([]byte("much "), 200)} {
					p.call(0, func(w *netif.Work) {
						if _, err := a.Send(w, &socket.Msg{Data: data}); err != nil {
							t.Fatal(err)
						}
					})
					m := socket.Msg{Data: make([]byte, 2000)}
					if err := b.Recv(p.w[1], &m); err != nil || !bytes.Equal(m.Data, data) {
						t.Errorf("%d octets came as %d, %v", len(data), len(m.Data), err)
					}
				}
				whole := uint8(packet.ProtoUDP)
				if mode == ipsec.ModeTunnel {
					if whole = packet.ProtoIPv4; v6 {
						whole = packet.ProtoIPv6
					}
				}
				delete(protos, packet.ProtoICMPv6) // neighbours
				if len(protos) != 2 || protos[whole] != 1 || protos[packet.ProtoIPComp] != 1 {
					t.Errorf("on the wire: %v, want one of %d and one of %d", protos, whole, packet.ProtoIPComp)
				}
				if n := p.count(1, map[bool]string{false: "ipsec", true: "ipsec6"}[v6], "in policy"); n != 0 {
					t.Errorf("%d packets against the policy", n)
				}
			})
		}
	}
}
