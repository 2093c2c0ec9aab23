package protocol

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// ParseInetAton reads an IPv4 address as inet_aton does: one to four numbers,
// decimal, octal (0...) or hexadecimal (0x...), of which the last fills the
// octets that are left: 10.163 is 10.0.0.163.
func ParseInetAton(s string) (netip.Addr, error) {
	if a, err := netip.ParseAddr(s); err == nil && a.Is4() {
		return a, nil // four decimal numbers mean the same to both, and this takes no memory
	}
	parts := strings.Split(s, ".")
	if len(parts) > 4 {
		return netip.Addr{}, fmt.Errorf("%q is no IPv4 address: more than four numbers", s)
	}
	var v uint64
	for i, p := range parts {
		last := i == len(parts)-1
		limit := uint64(0xff)
		if last {
			limit = 1<<(8*(5-len(parts))) - 1
		}
		n, err := atonNumber(p)
		if err != nil || n > limit {
			return netip.Addr{}, fmt.Errorf("%q is no IPv4 address: %q is not a number up to %d", s, p, limit)
		}
		if last {
			v |= n
		} else {
			v |= n << (24 - 8*i)
		}
	}
	return netip.AddrFrom4([4]byte{byte(v >> 24), byte(v >> 16), byte(v >> 8), byte(v)}), nil
}

func atonNumber(p string) (uint64, error) {
	switch {
	case strings.HasPrefix(p, "0x"), strings.HasPrefix(p, "0X"):
		return parseDigits(p[2:], 16)
	case len(p) > 1 && p[0] == '0':
		return parseDigits(p[1:], 8)
	}
	return parseDigits(p, 10)
}

// parseDigits is ParseUint without signs and underscores, which it takes
// neither of; an empty text is an error.
func parseDigits(p string, base int) (uint64, error) { return strconv.ParseUint(p, base, 33) }

// ClassBits is the length of the netmask that an IPv4 address has by its
// class (RFC 791 §3.2): 8, 16 or 24; 4 for a multicast group; 32 otherwise.
// An inet6 address answers 128.
func ClassBits(a netip.Addr) int {
	a = a.Unmap()
	if !a.Is4() {
		return a.BitLen()
	}
	switch first := a.As4()[0]; {
	case first < 128:
		return 8
	case first < 192:
		return 16
	case first < 224:
		return 24
	case first < 240:
		return 4
	}
	return 32
}
