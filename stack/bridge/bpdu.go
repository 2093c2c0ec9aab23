package bridge

import (
	"encoding/binary"
	"time"

	"ionet/stack/netif"
	"ionet/stack/packet"
)

// A BPDU is an LLC frame: in the place of the type is the length, then come both service
// access points (0x42) and the control octet (3), and (IEEE 802.1D §9.3)
//
//	0  u16 protocol 0, u8 version, u8 type
//	4  u8  flags
//	5  u64 root
//	13 u32 cost of the path to the root
//	17 u64 bridge
//	25 u16 port
//	27 u16 message age, max age, hello time, forward delay in 1/256 s
//
// in network order. A notification of a topology change has the first four octets.
const (
	bpduConfig = 0
	bpduTCN    = 0x80

	configLen = 35
	tcnLen    = 4
	llcLen    = 3

	flagTC    = 0x01
	flagTCAck = 0x80
)

// config is what a Configuration BPDU says.
type config struct {
	root   uint64
	cost   uint32
	bridge uint64
	port   uint16

	age, maxAge, hello, delay time.Duration
	change, ack               bool
}

// bpdu is a checked BPDU; the configuration counts if it is no notification.
type bpdu struct {
	tcn bool
	config
}

// parseBPDU reads a whole frame. false: it is no BPDU that an 802.1D bridge heeds (§9.3.4).
func parseBPDU(f []byte) (b bpdu, ok bool) {
	if len(f) < packet.EtherLen+llcLen+tcnLen {
		return b, false
	}
	n := int(packet.Ether(f).Type())
	f = f[packet.EtherLen:]
	if n > len(f) || n < llcLen+tcnLen || f[0] != 0x42 || f[1] != 0x42 || f[2] != 3 {
		return b, false
	}
	f = f[llcLen:n]
	if f[0] != 0 || f[1] != 0 {
		return b, false
	}
	switch f[3] {
	case bpduTCN:
		return bpdu{tcn: true}, true
	case bpduConfig:
	default:
		return b, false
	}
	if len(f) < configLen {
		return b, false
	}
	be := binary.BigEndian
	span := func(at int) time.Duration { return time.Duration(be.Uint16(f[at:])) * time.Second / 256 }
	b.config = config{root: be.Uint64(f[5:]), cost: be.Uint32(f[13:]), bridge: be.Uint64(f[17:]), port: be.Uint16(f[25:]),
		age: span(27), maxAge: span(29), hello: span(31), delay: span(33), change: f[4]&flagTC != 0, ack: f[4]&flagTCAck != 0}
	return b, b.age < b.maxAge
}

// appendBPDU appends a whole frame from a station.
func appendBPDU(out []byte, src netif.MAC, b bpdu) []byte {
	n := tcnLen
	if !b.tcn {
		n = configLen
	}
	var head [packet.EtherLen]byte
	packet.PutEther(head[:], reserved, src, uint16(llcLen+n))
	out = append(append(out, head[:]...), 0x42, 0x42, 3, 0, 0, 0)
	if b.tcn {
		return append(out, bpduTCN)
	}
	var flags byte
	if b.change {
		flags |= flagTC
	}
	if b.ack {
		flags |= flagTCAck
	}
	be := binary.BigEndian
	out = append(out, bpduConfig, flags)
	out = be.AppendUint64(out, b.root)
	out = be.AppendUint32(out, b.cost)
	out = be.AppendUint64(out, b.bridge)
	out = be.AppendUint16(out, b.port)
	for _, d := range [...]time.Duration{b.age, b.maxAge, b.hello, b.delay} {
		out = be.AppendUint16(out, uint16(min((d*256+time.Second/2)/time.Second, 0xffff)))
	}
	return out
}
