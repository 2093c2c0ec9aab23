package stack_test

import (
	"encoding/binary"
	"testing"
	"time"

	"ionet/stack/inet"
	"ionet/stack/packet"
	"ionet/stack/socket"
	rig "ionet/stack/stacktest"
)

// FuzzOffloads receives frames that claim a partial checksum and segments, as
// far as a driver lets them claim: where the checksum begins and lies is
// inside the frame, whatever the headers in it say.
func FuzzOffloads(f *testing.F) {
	add := func(frame []byte, start, off, segment uint16, gso uint8) {
		var b []byte
		b = binary.BigEndian.AppendUint16(b, start)
		b = binary.BigEndian.AppendUint16(b, off)
		b = binary.BigEndian.AppendUint16(b, segment)
		f.Add(append(append(b, gso), frame...))
	}
	data := string(make([]byte, 1000))
	add(rig.UDP("10.0.0.2", "10.0.0.1", 5, 9, data), 34, 6, 100, uint8(packet.GSOUDPv4))
	add(rig.UDP("10.0.0.2", "10.0.1.2", 5, 9, data), 34, 6, 100, uint8(packet.GSOUDPv4))
	add(rig.UDP("10.0.0.2", "239.1.2.3", 5, 9, data), 34, 6, 50, uint8(packet.GSOUDPv4))
	add(rig.UDP("10.0.0.2", "10.0.1.2", 5, 9, data), 34, 6, 0, 0)
	padded := append(rig.UDP("10.0.0.2", "10.0.0.1", 5, 9, "x"), make([]byte, 500)...)
	add(padded, 400, 6, 0, 0)
	padded = append(rig.UDP("10.0.0.2", "10.0.1.2", 5, 9, "x"), make([]byte, 500)...)
	add(padded, 400, 6, 0, 0)
	add(rig.IP{Src: "10.0.0.2", Dst: "10.0.1.2", Proto: 6, Data: make([]byte, 3000)}.Frame(), 34, 16, 1460, uint8(packet.GSOTCPv4))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) < 7+packet.EtherLen || len(b) > 8000 {
			return
		}
		r := rig.New(t)
		r.Sysctl("net.inet.ip.forwarding", "1")
		en1 := r.AddIf("en1", rig.Me1, "10.0.1.1/24")
		if err := r.SetMTU(en1, 100, 1500); err != nil {
			t.Fatal(err)
		}
		r.Meet("10.0.0.2")
		r.SendOn(en1, rig.ARP(packet.ARPRequest, rig.Peer1, "10.0.1.2", "10.0.1.1"))
		s := r.UDP(":9")
		r.Socket(socket.Raw, 0)
		router := r.Socket(socket.Raw, packet.ProtoIGMP)
		for _, o := range []struct {
			name int
			v    []byte
		}{
			{inet.MRTInit, []byte{1}},
			{inet.MRTAddVif, []byte{0, 0, 0, 1, 0, 0, 0, 0, 10, 0, 0, 1, 0, 0, 0, 0}},
			{inet.MRTAddVif, []byte{1, 0, 0, 1, 0, 0, 0, 0, 10, 0, 1, 1, 0, 0, 0, 0}},
			{inet.MRTAddMFC, append([]byte{10, 0, 0, 2, 239, 1, 2, 3, 0, 0, 0, 1}, make([]byte, 32)...)},
		} {
			if err := router.Set(inet.LevelIP, o.name, o.v); err != nil {
				t.Fatal(err)
			}
		}
		start, off, size, gso := binary.BigEndian.Uint16(b), binary.BigEndian.Uint16(b[2:]), binary.BigEndian.Uint16(b[4:]), packet.GSOType(b[6]%5)
		frame := b[7:]
		p := r.Env.Pool.Get(len(frame))
		copy(p.Append(len(frame)), frame)
		copy(p.Bytes(), rig.Me[:])
		if h, ok := packet.CheckIPv4(frame[packet.EtherLen:]); ok {
			packet.IPv4(p.Bytes()[packet.EtherLen:][:len(h)]).SetChecksum()
		}
		if start >= packet.EtherLen && int(start)+int(off)+2 <= len(frame) {
			p.SetPartial(int(start), off)
			if size > 0 {
				p.GSO, p.GSOSize = gso, size
			}
		}
		r.Input(r.Env.NewWork(), r.Now(), r.If, []*packet.Buf{p})
		r.Pass(40 * time.Second)
		for range 10 {
			s.Get()
		}
	})
}
