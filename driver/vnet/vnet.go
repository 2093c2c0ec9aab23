// Package vnet is the header in front of a frame that says what is left to do
// to it: the checksum to complete, the segments to cut (struct virtio_net_hdr,
// OASIS virtio 1.2 §5.1.6, in little-endian order).
//
//	0  u8   flags: 1 checksum is partial, 2 checksum is verified
//	1  u8   type of segmentation, 0 none
//	2  u16  length of the headers in front of the first segment's payload
//	4  u16  octets of payload in a segment
//	6  u16  where the partial checksum begins, from the start of the frame
//	8  u16  where it is stored, from where it begins
package vnet

import (
	"encoding/binary"
	"errors"
	"fmt"

	"ionet/stack/packet"
)

// Size is the length of the header.
const Size = 10

// EtherLen is the length of an Ethernet header: no frame is shorter.
const EtherLen = 14

const (
	flagPartial  = 1
	flagVerified = 2

	gsoTCPv4 = 1
	gsoTCPv6 = 4
	gsoUDP   = 5
	gsoECN   = 0x80 // besides a TCP type: the first segment alone carries CWR
)

var le = binary.LittleEndian

// Put writes the header of frame b to h[:Size].
func Put(h []byte, b *packet.Buf) {
	h = h[:Size]
	le.PutUint64(h, 0)
	le.PutUint16(h[8:], 0)
	switch b.Csum {
	case packet.CsumVerified:
		h[0] = flagVerified
	case packet.CsumPartial:
		h[0] = flagPartial
		le.PutUint16(h[6:], uint16(b.CsumStart()))
		le.PutUint16(h[8:], b.CsumOffset)
	}
	if b.GSO == packet.GSONone {
		return
	}
	// The transport header's length is needed beside the segment size; a
	// super-packet's checksum is partial and begins at that header (law 5).
	start, tail := b.CsumStart(), 8
	frame := b.Bytes()
	switch b.GSO {
	case packet.GSOTCPv4:
		h[1] = gsoTCPv4
	case packet.GSOTCPv6:
		h[1] = gsoTCPv6
	default:
		h[1] = gsoUDP
	}
	if h[1] != gsoUDP && b.Csum == packet.CsumPartial && start >= 0 && start+13 <= len(frame) {
		tail = int(frame[start+12]>>4) * 4
	}
	if b.Csum == packet.CsumPartial {
		le.PutUint16(h[2:], uint16(min(start+tail, len(frame))))
	}
	le.PutUint16(h[4:], b.GSOSize)
}

var errShort = errors.New("frame shorter than an Ethernet header")

// Get reads h[:Size] into what b knows about itself. The data of b is the
// frame already. A header that does not fit the frame is an error, and b is
// then not to be used.
func Get(h []byte, b *packet.Buf) error {
	if b.Len() < EtherLen {
		return errShort
	}
	h = h[:Size]
	if h[0]|h[1] == 0 {
		return nil
	}
	switch {
	case h[0]&flagPartial != 0:
		start, off := int(le.Uint16(h[6:])), le.Uint16(h[8:])
		if start < EtherLen || start+int(off)+2 > b.Len() {
			return fmt.Errorf("partial checksum at %d+%d of a frame of %d octets", start, off, b.Len())
		}
		b.SetPartial(start, off)
	case h[0]&flagVerified != 0:
		b.Csum = packet.CsumVerified
	}
	if h[1] == 0 {
		return nil
	}
	v6, ip := family(b.Bytes())
	if !ip {
		return fmt.Errorf("segmentation type %#x on a frame that is not IP", h[1])
	}
	switch t := h[1] &^ gsoECN; {
	case t == gsoTCPv4 && !v6:
		b.GSO = packet.GSOTCPv4
	case t == gsoTCPv6 && v6:
		b.GSO = packet.GSOTCPv6
	case t == gsoUDP && h[1]&gsoECN == 0 && !v6:
		b.GSO = packet.GSOUDPv4
	case t == gsoUDP && h[1]&gsoECN == 0 && v6:
		b.GSO = packet.GSOUDPv6
	default:
		return fmt.Errorf("segmentation type %#x unknown or of the other IP version", h[1])
	}
	b.GSOSize = le.Uint16(h[4:])
	if b.GSOSize == 0 || b.Csum != packet.CsumPartial {
		return fmt.Errorf("segmentation into %d octets with checksum flags %#x", b.GSOSize, h[0])
	}
	return nil
}

// family tells the IP version of a frame, behind a VLAN tag if it has one.
func family(frame []byte) (v6, ip bool) {
	t := binary.BigEndian.Uint16(frame[12:])
	if t == 0x8100 && len(frame) >= EtherLen+4 {
		t = binary.BigEndian.Uint16(frame[16:])
	}
	return t == 0x86dd, t == 0x0800 || t == 0x86dd
}
