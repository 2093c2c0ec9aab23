package ifconfig

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"ionet/protocol"
)

// flagNames are the names of the flags, from bit 0 on.
var flagNames = [...]string{"UP", "BROADCAST", "DEBUG", "LOOPBACK", "POINTOPOINT", "NOTRAILERS", "RUNNING", "NOARP",
	"PROMISC", "ALLMULTI", "OACTIVE", "SIMPLEX", "LINK0", "LINK1", "LINK2", "MULTICAST"}

// AppendFlags appends "flags=8843<UP,...>".
func AppendFlags(b []byte, flags uint32) []byte {
	b = append(b, "flags="...)
	b = strconv.AppendUint(b, uint64(flags), 16)
	sep := byte('<')
	for i, name := range flagNames {
		if flags&(1<<i) != 0 {
			b = append(append(b, sep), name...)
			sep = ','
		}
	}
	if sep == '<' {
		b = append(b, '<')
	}
	return append(b, '>')
}

// AppendHeader appends the first line of an interface: name, flags, metric, MTU.
func AppendHeader(b []byte, r protocol.InterfaceRow) []byte {
	b = append(append(b, r.Name...), ": "...)
	b = AppendFlags(b, r.Flags)
	if r.Metric != 0 {
		b = fmt.Appendf(b, " metric %d", r.Metric)
	}
	if r.MTU != 0 {
		b = fmt.Appendf(b, " mtu %d", r.MTU)
	}
	return append(b, '\n')
}

// AppendEnds appends where a tunnel leads, "inet A --> B".
func AppendEnds(b []byte, r protocol.InterfaceRow) []byte {
	family := "inet"
	if strings.Contains(r.TunnelSrc, ":") {
		family = "inet6"
	}
	return fmt.Appendf(b, "%s %s --> %s\n", family, r.TunnelSrc, r.TunnelDst)
}

// AppendAddresses appends the addresses of an interface, of one family if one is
// named, and reports whether there were any.
func AppendAddresses(b []byte, r protocol.InterfaceRow, family string, lifetimes bool) (_ []byte, shown bool) {
	for _, f := range [...]string{"inet", "inet6"} {
		for _, a := range r.Addresses {
			if a.Family == f && (family == "" || family == f) {
				b, shown = appendAddress(b, r, a, lifetimes), true
			}
		}
	}
	return b, shown
}

// appendInterface appends all lines of an interface.
func appendInterface(b []byte, r protocol.InterfaceRow, o *Options) []byte {
	b = AppendHeader(b, r)
	if r.VLANParent != "" {
		b = fmt.Appendf(b, "\tvlan: %d parent: %s\n", r.VLAN, r.VLANParent)
	}
	if r.TunnelSrc != "" {
		b = AppendEnds(append(b, "\ttunnel "...), r)
	}
	if r.Link != "" {
		b = append(append(append(b, "\taddress: "...), r.Link...), '\n')
	}
	if r.Media != "" {
		status := "active"
		if !r.LinkUp {
			status = "no carrier"
		}
		b = fmt.Appendf(b, "\tmedia: %s\n\tstatus: %s\n", r.Media, status)
		if o.Media {
			b = append(b, "\tsupported Ethernet media:\n\t\tmedia autoselect\n"...)
		}
	}
	b, shown := AppendAddresses(b, r, o.Family, o.Lifetimes)
	if o.Family == "inet" && !shown { // asked for, so that a line has to come
		b = append(b, "\tinet 0.0.0.0 netmask 0x0\n"...)
	}
	return b
}

func appendAddress(b []byte, r protocol.InterfaceRow, a protocol.AddressRow, lifetimes bool) []byte {
	b = append(append(b, '\t'), a.Family...)
	if a.Alias && a.Family == "inet" {
		b = append(b, " alias"...)
	}
	b = append(append(b, ' '), a.Address...)
	if r.Flags&protocol.IFFPointToPoint != 0 && a.Destination != "" {
		b = append(append(b, " -> "...), a.Destination...)
	}
	if a.Family == "inet" {
		b = append(b, " netmask 0x"...)
		m := protocol.MaskAddr(protocol.AFInet, a.Bits).IP.As4()
		b = strconv.AppendUint(b, uint64(m[0])<<24|uint64(m[1])<<16|uint64(m[2])<<8|uint64(m[3]), 16)
		if r.Flags&protocol.IFFBroadcast != 0 && a.Broadcast != "" {
			b = append(append(b, " broadcast "...), a.Broadcast...)
		}
		return append(appendState(b, a), '\n')
	}
	b = fmt.Appendf(b, " prefixlen %d", a.Bits)
	if a.Flags&in6Anycast != 0 {
		b = append(b, " anycast"...)
	}
	b = appendState(b, a)
	for _, f := range [...]struct {
		bit  uint32
		name string
	}{{in6Detached, " detached"}, {in6Deprecated, " deprecated"}, {in6Autoconf, " autoconf"}, {in6Temporary, " temporary"}} {
		if a.Flags&f.bit != 0 {
			b = append(b, f.name...)
		}
	}
	if ip, err := netip.ParseAddr(a.Address); err == nil && ip.Zone() != "" {
		b = fmt.Appendf(b, " scopeid 0x%x", r.Index)
	}
	if lifetimes {
		b = appendLifetime(append(b, " pltime "...), a.Preferred)
		b = appendLifetime(append(b, " vltime "...), a.Valid)
	}
	return append(b, '\n')
}

// appendLifetime appends seconds that are left; -1 is for ever.
func appendLifetime(b []byte, sec int64) []byte {
	if sec < 0 {
		return append(b, "infty"...)
	}
	return strconv.AppendInt(b, sec, 10)
}

// appendState appends what is in the way of using an address.
func appendState(b []byte, a protocol.AddressRow) []byte {
	if a.Tentative || a.Family == "inet6" && a.Flags&in6Tentative != 0 {
		b = append(b, " tentative"...)
	}
	if a.Duplicated || a.Family == "inet6" && a.Flags&in6Duplicated != 0 {
		b = append(b, " duplicated"...)
	}
	return b
}

// wanted says whether -b, -d, -u and -s let an interface through.
func wanted(r protocol.InterfaceRow, o *Options) bool {
	up := r.Flags&protocol.IFFUp != 0
	switch {
	case o.Broadcast && r.Flags&protocol.IFFBroadcast == 0,
		o.Down && up,
		o.Up && !up,
		o.Connected && r.Media != "" && !r.LinkUp:
		return false
	}
	return true
}
