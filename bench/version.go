package main

import (
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"

	"ionet/stack/socket"
)

// version is a version of IP, and who has which of its addresses on every link
// of this program. Each stack has its addresses of both versions, so that both
// can be measured by turns on the same stacks.
type version struct {
	name   string
	client netip.Addr // of who connects; on a TAP, the kernel
	server netip.Addr // of who is connected to; on a TAP, the stack
	many   netip.Addr // the first of the addresses that many connections come from
	bits   int        // of the prefix that they are all in
	full   int        // octets of the largest datagram in a frame of 1500
}

var (
	v4 = &version{"IPv4", netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2"), netip.MustParseAddr("10.0.1.1"), 8, 1472}
	v6 = &version{"IPv6", netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("2001:db8::2"), netip.MustParseAddr("2001:db8::1:1"), 64, 1452}
	// versions are the measured ones; the second is held to the first.
	versions = []*version{v4, v6}
)

// clientAddrs is from how many addresses many connections come.
const clientAddrs = 64

// clients are those addresses.
func (v *version) clients() (all []netip.Addr) {
	for a := v.many; len(all) < clientAddrs; a = a.Next() {
		all = append(all, a)
	}
	return all
}

// end is the address of the client, 0, or of the server, 1.
func (v *version) end(i int) netip.Addr { return [2]netip.Addr{v.client, v.server}[i] }

// family is the version as sockets of the engine name it.
func (v *version) family() int {
	if v == v4 {
		return socket.AFInet
	}
	return socket.AFInet6
}

// kernelFamily is the version as the kernel names it.
func (v *version) kernelFamily() int {
	if v == v4 {
		return unix.AF_INET
	}
	return unix.AF_INET6
}

// kernelAddr is an address as the kernel's calls take it.
func (v *version) kernelAddr(a netip.Addr, port int) unix.Sockaddr {
	if v == v4 {
		return &unix.SockaddrInet4{Addr: a.As4(), Port: port}
	}
	return &unix.SockaddrInet6{Addr: a.As16(), Port: port}
}

// icmp is the protocol number of its ICMP.
func (v *version) icmp() int {
	if v == v4 {
		return unix.IPPROTO_ICMP
	}
	return unix.IPPROTO_ICMPV6
}

// echoRequest and echoReply are types of its ICMP.
func (v *version) echoRequest() byte {
	if v == v4 {
		return 8
	}
	return 128
}

func (v *version) echoReply() byte {
	if v == v4 {
		return 0
	}
	return 129
}

// icmpOf is the message in what a raw socket has read: over IPv4 there is a
// header before it.
func (v *version) icmpOf(b []byte, err error) ([]byte, error) {
	head := 0
	if v == v4 {
		head = 20
	}
	if err != nil || len(b) < head+8 {
		return nil, fmt.Errorf("echo reply: %d octets, %w", len(b), err)
	}
	return b[head:], nil
}

// versionOf is the version of an address.
func versionOf(a netip.Addr) *version {
	if a.Is4() {
		return v4
	}
	return v6
}

// versionNamed is the version that a child is told.
func versionNamed(name string) (*version, error) {
	for _, v := range versions {
		if v.name == name {
			return v, nil
		}
	}
	return nil, fmt.Errorf("no version %q of IP", name)
}

// clientsOf are the addresses in both versions that connections come from.
func clientsOf(many bool) (all []netip.Addr) {
	for _, v := range versions {
		if many {
			all = append(all, v.clients()...)
		} else {
			all = append(all, v.client)
		}
	}
	return all
}

// servers are the server's addresses.
func servers() (all []netip.Addr) {
	for _, v := range versions {
		all = append(all, v.server)
	}
	return all
}

// ofIPv4 is the part of a line that holds a figure over IPv6 to the one over
// IPv4: r is their ratio, more is better.
func ofIPv4(r float64) string {
	return fmt.Sprintf("; %.2f of IPv4's  (%s)", r, verdict(r >= 0.95, "at least 0.95"))
}
