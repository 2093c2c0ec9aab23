package stack_test

import (
	"encoding/binary"
	"testing"
	"time"

	"ionet/stack/packet"
	"ionet/stack/socket"
	rig "ionet/stack/stacktest"
	"ionet/stack/stacktest/captures"
)

// FuzzStack feeds frames, each behind two octets of length, to a stack that
// forwards and has every kind of socket open. Nothing panics, and at the end
// nothing is left over. The first octet: 1, mend IPv4 checksums, so that what
// is inside is reached; 2, broadcast the frames.
func FuzzStack(f *testing.F) {
	input := func(mode byte, frames ...[]byte) []byte {
		b := []byte{mode}
		for _, x := range frames {
			b = append(binary.BigEndian.AppendUint16(b, uint16(len(x))), x...)
		}
		return b
	}
	for _, x := range captures.Frames() {
		if len(x) < 2000 {
			f.Add(input(1, x))
		}
	}
	d := rig.Datagram("10.0.0.2", "10.0.0.1", 5, 9, "hello")
	for _, p := range []rig.IP{
		{Src: "10.0.0.2", Dst: "10.0.0.1", Proto: 17, Data: d},
		{Src: "10.0.0.2", Dst: "10.0.1.7", Proto: 17, Data: d},
		{Src: "10.0.0.2", Dst: "10.0.0.1", Proto: 1, Data: rig.ICMP(8, 0, 0, d)},
		{Src: "10.0.0.2", Dst: "10.0.0.1", Proto: 1, Data: rig.ICMP(0, 0, 1<<16, d)},
		{Src: "10.0.0.2", Dst: "10.0.0.1", Proto: 1, Data: rig.ICMP(3, 1, 0, rig.IP{Src: "10.0.0.1", Dst: "10.0.0.2", Proto: 1, Data: rig.ICMP(8, 0, 2<<16, nil)}.Frame()[14:])},
		{Src: "10.0.0.2", Dst: "10.0.0.1", Proto: 1, Data: rig.ICMP(5, 1, 10<<24|3, rig.UDP("10.0.0.1", "99.0.0.1", 9, 5, "")[14:])},
		{Src: "10.0.0.2", Dst: "10.0.0.1", Proto: 1, Data: rig.ICMP(3, 4, 600, rig.UDP("10.0.0.1", "10.0.0.2", 9, 5, "")[14:])},
		{Src: "10.0.0.2", Dst: "10.0.0.1", Proto: 1, Options: []byte{131, 11, 4, 10, 0, 1, 7, 10, 0, 0, 2, 0}, Data: rig.ICMP(8, 0, 0, d)},
		{Src: "10.0.0.2", Dst: "10.0.0.1", Proto: 1, Options: []byte{68, 12, 5, 1, 0, 0, 0, 0, 0, 0, 0, 0}, Data: rig.ICMP(13, 0, 0, make([]byte, 12))},
		{Src: "10.0.0.2", Dst: "224.0.0.1", Proto: 2, Data: []byte{0x11, 10, 0xee, 0xf5, 0, 0, 0, 0}},
	} {
		f.Add(input(1, p.Frame()))
		p.Frag = packet.IPv4MF
		q := p
		q.Frag = 1
		f.Add(input(1, p.Frame(), q.Frame()))
	}
	f.Add(input(0, rig.ARP(packet.ARPRequest, rig.Peer, "10.0.0.2", "10.0.0.1"), rig.ARP(packet.ARPReply, rig.Peer, "10.0.0.1", "10.0.0.1")))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) == 0 || len(b) > 1<<16 {
			return
		}
		r := rig.New(t)
		r.AddIf("en1", rig.Me1, "10.0.1.1/24")
		for _, n := range []string{"net.inet.ip.forwarding", "net.inet.ip.mtudisc", "net.inet.icmp.maskrepl", "net.inet.icmp.bmcastecho", "net.inet.ip.directed-broadcast"} {
			r.Sysctl(n, "1")
		}
		s := r.UDP(":9")
		s.Flag(socket.SORcvBuf, 1000)
		_ = s.Set(0, 12, []byte{239, 1, 1, 1, 10, 0, 0, 1})
		_ = r.UDP("10.0.0.1:10").Connect("10.0.0.2:5")
		r.Socket(socket.Raw, 0)
		e, e2 := r.Socket(socket.Dgram, packet.ProtoICMP), r.Socket(socket.Dgram, packet.ProtoICMP)
		_ = e.Bind(":1")
		_ = e2.Bind(":2")
		_ = e2.Connect("10.0.0.2")
		mode := b[0]
		for b = b[1:]; len(b) >= 2; {
			n := min(int(binary.BigEndian.Uint16(b)), len(b)-2, 4000)
			x := append([]byte(nil), b[2:2+n]...)
			b = b[2+n:]
			mend(x, mode)
			r.Send(x)
			r.Pass(time.Millisecond)
		}
		r.Pass(40 * time.Second)
		for range 10 {
			s.Get()
			e.Get()
			e2.Get()
		}
	})
}

func mend(x []byte, mode byte) {
	if len(x) < packet.EtherLen {
		return
	}
	copy(x, rig.Me[:])
	if mode&2 != 0 {
		copy(x, "\xff\xff\xff\xff\xff\xff")
	}
	h, ok := packet.CheckIPv4(x[packet.EtherLen:])
	if !ok || mode&1 == 0 {
		return
	}
	h.SetChecksum()
	if p := h.Payload(); h.FragField()&^packet.IPv4DF == 0 && h.TotalLen() <= len(h) {
		p = p[:h.TotalLen()-h.HeaderLen()]
		switch {
		case h.Proto() == packet.ProtoICMP && len(p) >= packet.ICMPLen:
			packet.ICMP(p).SetChecksum()
		case h.Proto() == packet.ProtoIGMP && len(p) >= packet.IGMPLen:
			packet.IGMP(p).SetChecksum()
		case h.Proto() == packet.ProtoUDP && len(p) >= packet.UDPLen:
			p[6], p[7] = 0, 0
		}
	}
}
