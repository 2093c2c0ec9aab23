package packet

import (
	"encoding/binary"
	"math/bits"
	"net/netip"
)

// Sum adds b to a ones-complement running sum. The sum is kept in 64 bits in
// network order; b may begin only at an even offset of what is summed
// (RFC 1071).
func Sum(sum uint64, b []byte) uint64 {
	var carry uint64
	if len(b) >= longSum {
		n := len(b) &^ 63
		sum, carry = bits.Add64(sum, uint64(bits.ReverseBytes16(Fold(sumLong(b[:n])))), 0)
		sum += carry
		b = b[n:]
	}
	for len(b) >= 32 {
		sum, carry = bits.Add64(sum, binary.BigEndian.Uint64(b), 0)
		sum, carry = bits.Add64(sum, binary.BigEndian.Uint64(b[8:]), carry)
		sum, carry = bits.Add64(sum, binary.BigEndian.Uint64(b[16:]), carry)
		sum, carry = bits.Add64(sum, binary.BigEndian.Uint64(b[24:]), carry)
		sum += carry
		b = b[32:]
	}
	for len(b) >= 8 {
		sum, carry = bits.Add64(sum, binary.BigEndian.Uint64(b), 0)
		sum += carry
		b = b[8:]
	}
	var last uint64
	if len(b) >= 4 {
		last = uint64(binary.BigEndian.Uint32(b))
		b = b[4:]
	}
	if len(b) >= 2 {
		last += uint64(binary.BigEndian.Uint16(b))
		b = b[2:]
	}
	if len(b) == 1 {
		last += uint64(b[0]) << 8
	}
	sum, carry = bits.Add64(sum, last, 0)
	return sum + carry
}

// longSum is where it pays to sum in the machine's order, and to turn the result alone (RFC 1071 §2 B).
const longSum = 256

// sumLong is the running sum, in little-endian order, of a number of 64 octets.
func sumLong(b []byte) (sum uint64) {
	var carry uint64
	for len(b) >= 64 {
		sum, carry = bits.Add64(sum, binary.LittleEndian.Uint64(b), 0)
		sum, carry = bits.Add64(sum, binary.LittleEndian.Uint64(b[8:]), carry)
		sum, carry = bits.Add64(sum, binary.LittleEndian.Uint64(b[16:]), carry)
		sum, carry = bits.Add64(sum, binary.LittleEndian.Uint64(b[24:]), carry)
		sum, carry = bits.Add64(sum, binary.LittleEndian.Uint64(b[32:]), carry)
		sum, carry = bits.Add64(sum, binary.LittleEndian.Uint64(b[40:]), carry)
		sum, carry = bits.Add64(sum, binary.LittleEndian.Uint64(b[48:]), carry)
		sum, carry = bits.Add64(sum, binary.LittleEndian.Uint64(b[56:]), carry)
		sum += carry
		b = b[64:]
	}
	return sum
}

// Fold brings a running sum down to 16 bits. The Internet checksum is its
// complement.
func Fold(sum uint64) uint16 {
	sum = sum>>32 + sum&0xffffffff
	sum = sum>>32 + sum&0xffffffff
	sum = sum>>16 + sum&0xffff
	sum = sum>>16 + sum&0xffff
	return uint16(sum)
}

// Checksum is the Internet checksum of b (RFC 1071).
func Checksum(b []byte) uint16 { return ^Fold(Sum(0, b)) }

// PseudoSum is the running sum of the pseudo-header of RFC 793 (IPv4) or
// RFC 8200 §8.1 (IPv6): addresses, upper-layer length, protocol. An interface
// within an address does not count.
func PseudoSum(src, dst netip.Addr, proto uint8, length int) uint64 {
	sum := uint64(proto) + uint64(length)
	if src.Is4() {
		s, d := src.As4(), dst.As4()
		return sum + uint64(binary.BigEndian.Uint32(s[:])) + uint64(binary.BigEndian.Uint32(d[:]))
	}
	sh, sl := wireWords(src)
	dh, dl := wireWords(dst)
	sum, carry := bits.Add64(sum, sh, 0)
	sum, carry = bits.Add64(sum, sl, carry)
	sum, carry = bits.Add64(sum, dh, carry)
	sum, carry = bits.Add64(sum, dl, carry)
	return sum + carry
}

// HeaderPseudoSum is [PseudoSum] over the addresses of a whole IP header of
// either version, which l3 begins with.
func HeaderPseudoSum(l3 []byte, proto uint8, length int) uint64 {
	sum := uint64(proto) + uint64(length)
	if l3[0]>>4 == 4 {
		return Sum(sum, l3[12:20])
	}
	return Sum(sum, l3[8:40])
}

// UpdateChecksum is the checksum sum after a 16-bit field changed from old to
// new, without looking at the rest (RFC 1624, equation 3).
func UpdateChecksum(sum, old, new uint16) uint16 {
	return ^Fold(uint64(^sum) + uint64(^old) + uint64(new))
}
