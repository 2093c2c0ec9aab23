package ruleset

import "strconv"

// Protocols that have ports, and those whose echoes have identifiers.
const (
	ICMP   = 1
	TCP    = 6
	UDP    = 17
	ICMPv6 = 58
)

var protocols = map[int]string{ICMP: "icmp", 2: "igmp", 4: "ipencap", TCP: "tcp", UDP: "udp", 41: "ipv6", 47: "gre", 50: "esp", 51: "ah",
	ICMPv6: "icmpv6", 89: "ospf", 103: "pim", 112: "vrrp", 132: "sctp"}

// Protocol is the name of a protocol, or its number.
func Protocol(n int) string {
	if s := protocols[n]; s != "" {
		return s
	}
	return strconv.Itoa(n)
}

// HasPorts reports whether a protocol's sessions are told apart by ports.
func HasPorts(proto int) bool { return proto == TCP || proto == UDP }
