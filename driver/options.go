package driver

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"

	"ionet/stack/netif"
)

// hardware are the options that steer only real hardware. They are taken so
// that an old command line still works; the caller warns that they do nothing.
var hardware = map[string]bool{
	"speed": true, "duplex": true, "irq": true, "ioport": true, "did": true,
	"vid": true, "pci": true, "receive": true, "transmit": true,
	"nomulticast": true, "priority": true, "mru": true, "deviceindex": true,
	"connector": true, "phy": true,
}

// HardwareOption reports whether name is an option that is accepted for the
// original's sake and steers nothing here.
func HardwareOption(name string) bool { return hardware[name] }

// ParseOptions reads a driver's option list, "path=/x,mac=0023456789AB,verbose=2".
// The options every driver knows become fields; the others, hardware options
// too, are left in Args in their order. Of an option given twice the last one
// counts. Numbers may be decimal, octal (0…) or hexadecimal (0x…).
func ParseOptions(text string) (Options, error) {
	o := Options{Lan: -1}
	if text == "" {
		return o, nil
	}
	for word := range strings.SplitSeq(text, ",") {
		name, value, given := strings.Cut(word, "=")
		if name == "" {
			return o, fmt.Errorf("driver options %q: an option without a name; want name or name=value, parted by commas", text)
		}
		var err error
		switch name {
		case "mac":
			o.MAC, err = ParseMAC(value)
		case "mtu":
			o.MTU, err = number(name, value, 68, 65535)
		case "lan":
			o.Lan, err = number(name, value, 0, 9999)
		case "promiscuous":
			n := 1
			if given {
				n, err = number(name, value, 0, 1)
			}
			o.Promisc = n == 1
		case "verbose":
			o.Verbose = 1
			if given {
				o.Verbose, err = number(name, value, 0, 9)
			}
		default:
			o.Args = append(o.Args, Arg{name, value})
		}
		if err != nil {
			return o, err
		}
	}
	return o, nil
}

func number(name, value string, low, high int) (int, error) {
	n, err := strconv.ParseInt(value, 0, 32)
	if err != nil || int(n) < low || int(n) > high {
		return 0, fmt.Errorf("driver option %s=%s: want a number from %d to %d", name, value, low, high)
	}
	return int(n), nil
}

// ParseMAC reads a link address for one station: 12 hexadecimal digits as on
// QNX, "0023456789AB", or six pairs parted by colons.
func ParseMAC(s string) (netif.MAC, error) {
	var m netif.MAC
	digits := s
	if len(s) == 17 {
		for i := 2; i < 17; i += 3 {
			if s[i] != ':' {
				return m, fmt.Errorf("link address %q: want 12 hexadecimal digits, or six pairs parted by colons", s)
			}
		}
		digits = strings.ReplaceAll(s, ":", "")
	}
	raw, err := hex.DecodeString(digits)
	if err != nil || len(raw) != len(m) {
		return m, fmt.Errorf("link address %q: want 12 hexadecimal digits, or six pairs parted by colons", s)
	}
	copy(m[:], raw)
	if m.IsMulticast() || m == (netif.MAC{}) {
		return netif.MAC{}, fmt.Errorf("link address %q: want the address of one station, neither zero nor a group (lowest bit of the first octet)", s)
	}
	return m, nil
}

// StableMAC is the n-th choice of a locally administered link address for
// interface lan of the stack called seed: always the same for the same three.
func StableMAC(seed string, lan, n int) netif.MAC {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s\x00%d\x00%d", seed, lan, n))
	m := netif.MAC(sum[:6])
	m[0] = m[0]&^3 | 2
	return m
}
