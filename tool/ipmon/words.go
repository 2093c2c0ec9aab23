package ipmon

import (
	"fmt"
	"strings"
)

// icmpWord is IPFilter's word for a type, and those for its codes from 0 on.
type icmpWord struct {
	name  string
	codes []string
}

// Types of ICMP (RFC 792, 950, 1256, 1812).
var icmp4 = map[int]icmpWord{
	0: {name: "echoreply"},
	3: {"unreach", []string{"net", "host", "protocol", "port", "needfrag", "srcfail", "net_unknown", "host_unknown", "isolated", "net_prohib", "host_prohib",
		"tosnet", "toshost", "admin_prohibit", "host_precedence", "precedence_cutoff"}},
	4:  {name: "sourcequench"},
	5:  {"redirect", []string{"net", "host", "tosnet", "toshost"}},
	8:  {name: "echo"},
	9:  {name: "routeradvert"},
	10: {name: "routersolicit"},
	11: {"timxceed", []string{"transit", "reassem"}},
	12: {"paramprob", []string{"errata_pointer", "optmissing", "length"}},
	13: {name: "timestamp"},
	14: {name: "timestampreply"},
	15: {name: "inforeq"},
	16: {name: "inforeply"},
	17: {name: "maskreq"},
	18: {name: "maskreply"},
}

// Types of ICMPv6 (RFC 4443, 2710, 3810, 4861, 4620).
var icmp6 = map[int]icmpWord{
	1:   {"unreach", []string{"noroute", "admin", "neighbour", "address", "noport"}},
	2:   {name: "toobig"},
	3:   {"timxceed", []string{"intransit", "reassem"}},
	4:   {"paramprob", []string{"header", "nextheader", "option"}},
	128: {name: "echo"},
	129: {name: "echoreply"},
	130: {name: "groupmemberquery"},
	131: {name: "groupmemberreport"},
	132: {name: "groupmemberterm"},
	133: {name: "routersolicit"},
	134: {name: "routeradvert"},
	135: {name: "neighborsolicit"},
	136: {name: "neighboradvert"},
	137: {name: "redirect"},
	138: {name: "routerrenumber"},
	139: {"nodeinforequest", []string{"ipv6", "fqdn", "ipv4"}},
	140: {"nodeinforeply", []string{"success", "refused", "unknown"}},
	143: {name: "listenerreport"},
}

// icmpName is "type/code" in words, as far as there are any.
func icmpName(v6 bool, kind, code int) string {
	words, unknown := icmp4, "icmptype"
	if v6 {
		words, unknown = icmp6, "icmpv6type"
	}
	w, ok := words[kind]
	if !ok {
		return fmt.Sprintf("%s(%d)/%d", unknown, kind, code)
	}
	if code < len(w.codes) {
		return w.name + "/" + w.codes[code]
	}
	return fmt.Sprintf("%s/%d", w.name, code)
}

// tcpFlags are the letters of flags in IPFilter's order: ARSFUPEC.
func tcpFlags(flags uint8) string {
	var b strings.Builder
	for _, f := range []struct {
		bit    uint8
		letter byte
	}{{0x10, 'A'}, {4, 'R'}, {2, 'S'}, {1, 'F'}, {0x20, 'U'}, {8, 'P'}, {0x40, 'E'}, {0x80, 'C'}} {
		if flags&f.bit != 0 {
			b.WriteByte(f.letter)
		}
	}
	return b.String()
}
