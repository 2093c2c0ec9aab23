package packet

import (
	"encoding/binary"
	"net/netip"
)

// ARP for IPv4 over Ethernet (RFC 826): hardware type 1, protocol 0x0800,
// lengths 6 and 4, operation, then sender and target as link and IPv4 address.
const (
	ARPLen = 28

	ARPRequest = 1
	ARPReply   = 2
)

// ARP is a view of an ARP packet for IPv4 over Ethernet.
type ARP []byte

// CheckARP answers a view of b, or false when it is too short or speaks of
// other kinds of address.
func CheckARP(b []byte) (ARP, bool) {
	if len(b) < ARPLen {
		return nil, false
	}
	return ARP(b[:ARPLen]), binary.BigEndian.Uint32(b) == 1<<16|EtherIPv4 && b[4] == 6 && b[5] == 4
}

func (a ARP) Op() uint16           { return binary.BigEndian.Uint16(a[6:]) }
func (a ARP) SenderMAC() [6]byte   { return [6]byte(a[8:14]) }
func (a ARP) SenderIP() netip.Addr { return netip.AddrFrom4([4]byte(a[14:18])) }
func (a ARP) TargetMAC() [6]byte   { return [6]byte(a[18:24]) }
func (a ARP) TargetIP() netip.Addr { return netip.AddrFrom4([4]byte(a[24:28])) }

// PutARP writes a packet into b, which has ARPLen octets.
func PutARP(b []byte, op uint16, smac [6]byte, sip netip.Addr, tmac [6]byte, tip netip.Addr) {
	binary.BigEndian.PutUint32(b, 1<<16|EtherIPv4)
	b[4], b[5] = 6, 4
	binary.BigEndian.PutUint16(b[6:], op)
	s, t := sip.As4(), tip.As4()
	copy(b[8:], smac[:])
	copy(b[14:], s[:])
	copy(b[18:], tmac[:])
	copy(b[24:], t[:])
}
