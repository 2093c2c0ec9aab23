package wire

import (
	"encoding/binary"
	"errors"
	"fmt"

	"ionet/driver/vnet"
	"ionet/stack/netif"
	"ionet/stack/packet"
)

// A record is what crosses between two members, in little-endian order:
//
//	0   u32  length of the body
//	4   u16  kind
//	6   …    vnet header (package vnet), zero unless the kind is a frame
//	16  …    body
const recordHeader = 6 + vnet.Size

const (
	kindFrame  = 0 // body: an Ethernet frame
	kindHello  = 1 // body: hello; the first record each way
	kindFilter = 2 // body: u8 flags, as in a hello
)

const (
	minFrame   = vnet.EtherLen
	maxFrame   = packet.MaxPacket
	maxControl = 512
)

// hello says who a member is:
//
//	0   4 octets "iow1"
//	4   u8   flags: 1 wants a copy of everybody's frames
//	5   6 octets link address
//	11  …    name for people
type hello struct {
	promisc bool
	mac     netif.MAC
	name    string
}

const (
	helloMagic = "iow1"
	helloLen   = 11
	helloFlag  = 1
)

var le = binary.LittleEndian

// next takes the first record off b. ok is false when b does not hold all of
// it; err says that no more of b can make it one.
func next(b []byte) (kind uint16, vhdr, body []byte, size int, ok bool, err error) {
	if len(b) < recordHeader {
		return 0, nil, nil, 0, false, nil
	}
	n := le.Uint32(b)
	kind = le.Uint16(b[4:])
	switch {
	case kind == kindFrame && (n < minFrame || n > maxFrame):
		return 0, nil, nil, 0, false, fmt.Errorf("a frame of %d octets; want %d to %d", n, minFrame, maxFrame)
	case kind > kindFilter:
		return 0, nil, nil, 0, false, fmt.Errorf("a record of kind %d; want 0 to %d", kind, kindFilter)
	case kind != kindFrame && n > maxControl:
		return 0, nil, nil, 0, false, fmt.Errorf("a control record of %d octets; want at most %d", n, maxControl)
	}
	size = recordHeader + int(n)
	if len(b) < size {
		return 0, nil, nil, 0, false, nil
	}
	return kind, b[6:recordHeader], b[recordHeader:size], size, true, nil
}

// putFrame writes the record of frame b to dst, which has room for it.
func putFrame(dst []byte, b *packet.Buf) {
	data := b.Bytes()
	le.PutUint32(dst, uint32(len(data)))
	le.PutUint16(dst[4:], kindFrame)
	vnet.Put(dst[6:], b)
	copy(dst[recordHeader:], data)
}

func appendControl(dst []byte, kind uint16, body []byte) []byte {
	dst = le.AppendUint32(dst, uint32(len(body)))
	dst = le.AppendUint16(dst, kind)
	dst = append(dst, make([]byte, vnet.Size)...)
	return append(dst, body...)
}

func filterBody(promisc bool) []byte {
	if promisc {
		return []byte{helloFlag}
	}
	return []byte{0}
}

func (h hello) body() []byte {
	b := append([]byte(helloMagic), filterBody(h.promisc)...)
	b = append(b, h.mac[:]...)
	return append(b, h.name[:min(len(h.name), maxControl-helloLen)]...)
}

var errHello = errors.New("the first record is no hello of this version (\"iow1\")")

func parseHello(kind uint16, body []byte) (hello, error) {
	if kind != kindHello || len(body) < helloLen || string(body[:4]) != helloMagic {
		return hello{}, errHello
	}
	h := hello{promisc: body[4]&helloFlag != 0, mac: netif.MAC(body[5:11]), name: string(body[helloLen:])}
	if h.mac.IsMulticast() || h.mac == (netif.MAC{}) {
		return hello{}, fmt.Errorf("a hello from %v, which is no station's address", h.mac)
	}
	return h, nil
}
