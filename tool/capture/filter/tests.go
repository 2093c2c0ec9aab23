package filter

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"golang.org/x/net/bpf"
)

// Offsets in an Ethernet frame.
const (
	netOff = 14

	etherIP    = 0x0800
	etherARP   = 0x0806
	etherRARP  = 0x8035
	etherIPv6  = 0x86dd
	protoFrag6 = 44
)

var etherTypes = map[string]uint32{"ip": etherIP, "ip6": etherIPv6, "arp": etherARP, "rarp": etherRARP, "loopback": 0x9000}

// protocols are the names that are a test by themselves, with the versions of
// IP that carry them.
var protocols = map[string]struct {
	num    uint32
	v4, v6 bool
}{
	"icmp": {1, true, false}, "igmp": {2, true, false}, "igrp": {9, true, false},
	"tcp": {6, true, true}, "udp": {17, true, true}, "sctp": {132, true, true},
	"esp": {50, true, true}, "ah": {51, true, true}, "pim": {103, true, true},
	"vrrp": {112, true, false}, "carp": {112, true, false}, "icmp6": {58, false, true},
}

func etherType(t uint32) node { return eq(2, 12, t) }

func ip4Proto(p uint32) node { return all(etherType(etherIP), eq(1, netOff+9, p)) }

// ip6Proto looks behind a fragment header that comes first, and no farther.
func ip6Proto(p uint32) node {
	return all(etherType(etherIPv6), some(eq(1, netOff+6, p), all(eq(1, netOff+6, protoFrag6), eq(1, netOff+40, p))))
}

func ipProto(p uint32, v4, v6 bool) (n node) {
	if v6 {
		n = ip6Proto(p)
	}
	if v4 {
		n = some(n, ip4Proto(p))
	}
	return n
}

var notFragment = not{test{[]bpf.Instruction{bpf.LoadAbsolute{Off: netOff + 6, Size: 2}}, bpf.JumpBitsSet, 0x1fff}}

// ends makes the test of a source and a destination that dir asks for.
func ends(dir string, src, dst node) node {
	switch dir {
	case "src":
		return src
	case "dst":
		return dst
	case "src and dst":
		return and{src, dst}
	}
	return or{src, dst}
}

func etherHost(dir string, m [6]byte) node {
	at := func(off uint32) node {
		return all(eq(4, off+2, binary.BigEndian.Uint32(m[2:])), eq(2, off, uint32(binary.BigEndian.Uint16(m[:]))))
	}
	return ends(dir, at(6), at(0))
}

// network tests addresses against a prefix or, for IPv4, any mask.
func network(proto, dir string, a netip.Addr, mask []byte) (node, error) {
	if a.Is4() {
		val := binary.BigEndian.Uint32(a.AsSlice())
		m := binary.BigEndian.Uint32(mask)
		at := func(typ, src, dst uint32) node {
			return and{etherType(typ), ends(dir, masked(src, m, val), masked(dst, m, val))}
		}
		ip, arp, rarp := at(etherIP, netOff+12, netOff+16), at(etherARP, netOff+14, netOff+24), at(etherRARP, netOff+14, netOff+24)
		switch proto {
		case "":
			return some(ip, arp, rarp), nil
		case "ip":
			return ip, nil
		case "arp":
			return arp, nil
		case "rarp":
			return rarp, nil
		}
		return ofProtocol(proto, ip, etherIP)
	}
	b := a.As16()
	at := func(off uint32) (n node) {
		for i := uint32(0); i < 16; i += 4 {
			if m := binary.BigEndian.Uint32(mask[i:]); m != 0 {
				n = all(n, masked(off+i, m, binary.BigEndian.Uint32(b[i:])))
			}
		}
		if n == nil { // ::/0
			n = etherType(etherIPv6)
		}
		return n
	}
	n := and{etherType(etherIPv6), ends(dir, at(netOff+8), at(netOff+24))}
	if proto == "" || proto == "ip6" {
		return n, nil
	}
	return ofProtocol(proto, n, etherIPv6)
}

func ofProtocol(proto string, n node, typ uint32) (node, error) {
	p, ok := protocols[proto]
	if !ok || typ == etherIP && !p.v4 || typ == etherIPv6 && !p.v6 {
		return nil, fmt.Errorf("%s has no addresses of that family", proto)
	}
	return and{ipProto(p.num, typ == etherIP, typ == etherIPv6), n}, nil
}

// ports tests the ports of the transports that have them.
func ports(proto, dir string, lo, hi uint32) (node, error) {
	v4, v6 := true, true
	var nums []uint32
	switch proto {
	case "ip":
		v6 = false
	case "ip6":
		v4 = false
	}
	switch proto {
	case "", "ip", "ip6":
		nums = []uint32{132, 6, 17}
	case "tcp", "udp", "sctp":
		nums = []uint32{protocols[proto].num}
	default:
		return nil, fmt.Errorf("%s has no ports; only tcp, udp and sctp have", proto)
	}
	within := func(load ...bpf.Instruction) node {
		if lo == hi {
			return test{load, bpf.JumpEqual, lo}
		}
		return and{test{load, bpf.JumpGreaterOrEqual, lo}, test{load, bpf.JumpLessOrEqual, hi}}
	}
	var p4, p6 node
	for _, num := range nums {
		p4, p6 = some(p4, eq(1, netOff+9, num)), some(p6, eq(1, netOff+6, num))
	}
	var n node
	if v6 {
		n = all(etherType(etherIPv6), p6, ends(dir,
			within(bpf.LoadAbsolute{Off: netOff + 40, Size: 2}),
			within(bpf.LoadAbsolute{Off: netOff + 42, Size: 2})))
	}
	if v4 {
		n = some(n, all(etherType(etherIP), p4, notFragment, ends(dir,
			within(headerLen, bpf.LoadIndirect{Off: netOff, Size: 2}),
			within(headerLen, bpf.LoadIndirect{Off: netOff + 2, Size: 2}))))
	}
	return n, nil
}

// base says where the octets of proto[...] begin and which frames have them.
func base(proto string) (off uint32, variable bool, guard node, err error) {
	if proto == "ether" || proto == "link" {
		return 0, false, nil, nil
	}
	if t, ok := etherTypes[proto]; ok {
		return netOff, false, etherType(t), nil
	}
	p := protocols[proto]
	if p.v4 { // as everywhere, only behind IPv4, where the header's length is known
		return netOff, true, all(ip4Proto(p.num), notFragment), nil
	}
	if p.v6 {
		return netOff + 40, false, ip6Proto(p.num), nil
	}
	return 0, false, nil, fmt.Errorf("%q has no octets to look at", proto)
}

func broadcast() node {
	return etherHost("dst", [6]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff})
}

func multicast(proto string) (node, error) {
	switch proto {
	case "", "ether", "link":
		return test{[]bpf.Instruction{bpf.LoadAbsolute{Off: 0, Size: 1}}, bpf.JumpBitsSet, 1}, nil
	case "ip":
		return all(etherType(etherIP), test{[]bpf.Instruction{bpf.LoadAbsolute{Off: netOff + 16, Size: 1}}, bpf.JumpGreaterOrEqual, 224}), nil
	case "ip6":
		return all(etherType(etherIPv6), eq(1, netOff+24, 255)), nil
	}
	return nil, fmt.Errorf("%s multicast means nothing; ether, ip and ip6 multicast do", proto)
}

// constants are names for offsets and values between brackets and beside them.
var constants = map[string]uint32{
	"icmptype": 0, "icmpcode": 1, "icmp6type": 0, "icmp6code": 1, "tcpflags": 13,
	"tcp-fin": 1, "tcp-syn": 2, "tcp-rst": 4, "tcp-push": 8, "tcp-ack": 16, "tcp-urg": 32, "tcp-ece": 64, "tcp-cwr": 128,
	"icmp-echoreply": 0, "icmp-unreach": 3, "icmp-sourcequench": 4, "icmp-redirect": 5, "icmp-echo": 8,
	"icmp-routeradvert": 9, "icmp-routersolicit": 10, "icmp-timxceed": 11, "icmp-paramprob": 12,
	"icmp-tstamp": 13, "icmp-tstampreply": 14, "icmp-ireq": 15, "icmp-ireqreply": 16, "icmp-maskreq": 17, "icmp-maskreply": 18,
	"icmp6-destinationunreach": 1, "icmp6-packettoobig": 2, "icmp6-timeexceeded": 3, "icmp6-parameterproblem": 4,
	"icmp6-echo": 128, "icmp6-echoreply": 129, "icmp6-multicastlistenerquery": 130,
	"icmp6-multicastlistenerreportv1": 131, "icmp6-multicastlistenerdone": 132, "icmp6-routersolicit": 133,
	"icmp6-routeradvert": 134, "icmp6-neighborsolicit": 135, "icmp6-neighboradvert": 136, "icmp6-redirect": 137,
	"icmp6-routerrenum": 138, "icmp6-nodeinformationquery": 139, "icmp6-nodeinformationresponse": 140,
	"icmp6-ineighbordiscoverysolicit": 141, "icmp6-ineighbordiscoveryadvert": 142, "icmp6-multicastlistenerreportv2": 143,
	"icmp6-homeagentdiscoveryrequest": 144, "icmp6-homeagentdiscoveryreply": 145, "icmp6-mobileprefixsolicit": 146,
	"icmp6-mobileprefixadvert": 147, "icmp6-certpathsolicit": 148, "icmp6-certpathadvert": 149,
	"icmp6-multicastrouteradvert": 151, "icmp6-multicastroutersolicit": 152, "icmp6-multicastrouterterm": 153,
}

// services are the ports that may be named.
var services = map[string]uint32{
	"echo": 7, "discard": 9, "daytime": 13, "ftp-data": 20, "ftp": 21, "ssh": 22, "telnet": 23, "smtp": 25, "time": 37,
	"domain": 53, "bootps": 67, "bootpc": 68, "tftp": 69, "http": 80, "pop3": 110, "sunrpc": 111, "ntp": 123, "imap2": 143,
	"snmp": 161, "snmp-trap": 162, "bgp": 179, "https": 443, "isakmp": 500, "syslog": 514, "route": 520, "dhcpv6-client": 546, "dhcpv6-server": 547,
}
