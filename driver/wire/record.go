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
const (
	kindAt       = 4
	vnetAt       = 6
	recordHeader = vnetAt + vnet.Size
)

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

// next is the first record of b, or nil when b does not hold all of it; err
// says that no more of b can make it one.
func next(b []byte) ([]byte, error) {
	if len(b) < recordHeader {
		return nil, nil
	}
	n := le.Uint32(b)
	if k := kind(b); k != kindFrame || n-minFrame > maxFrame-minFrame {
		if err := check(k, n); err != nil {
			return nil, err
		}
	}
	if size := recordHeader + int(n); size <= len(b) {
		return b[:size:size], nil
	}
	return nil, nil
}

// kind is the kind of a record.
func kind(record []byte) uint16 { return le.Uint16(record[kindAt:]) }

// check says what is wrong with a record of kind k and n octets, if anything.
func check(k uint16, n uint32) error {
	switch {
	case k > kindFilter:
		return fmt.Errorf("a record of kind %d; want 0 to %d", k, kindFilter)
	case k == kindFrame:
		return fmt.Errorf("a frame of %d octets; want %d to %d", n, minFrame, maxFrame)
	case n > maxControl:
		return fmt.Errorf("a control record of %d octets; want at most %d", n, maxControl)
	}
	return nil
}

// putFrame writes the record of frame b to dst, which has room for it, and
// answers its length.
func putFrame(dst []byte, b *packet.Buf) int {
	putHeader(dst, b)
	return recordHeader + copy(dst[recordHeader:], b.Bytes())
}

// putHeader writes what stands in front of frame b in its record.
func putHeader(dst []byte, b *packet.Buf) {
	le.PutUint64(dst, kindFrame<<(8*kindAt)|uint64(b.Len()))
	le.PutUint64(dst[8:], 0)
	if b.Csum != packet.CsumNone || b.GSO != packet.GSONone {
		vnet.Put(dst[vnetAt:], b)
	}
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
