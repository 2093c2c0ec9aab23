package ipl

import (
	"fmt"
	"net/netip"
	"strings"
)

// String is the rule as ipnat(8) prints it.
func (r NATRule) String() string {
	var b strings.Builder
	add := func(format string, args ...any) {
		if b.Len() > 0 {
			b.WriteByte(' ')
		}
		fmt.Fprintf(&b, format, args...)
	}
	p := natParser{NATRule: r}
	add("%s", p.kindName())
	ifs := anyIf(r.If)
	if r.If2 != "" {
		ifs += "," + anyIf(r.If2)
	}
	add("%s", ifs)
	switch {
	case r.FromTo:
		add("from %s to %s", r.Src.text(r.family()), r.Dst.text(r.family()))
	case r.Kind == Rdr:
		add("%s", r.network(r.Dst))
		if r.Ports != [2]uint16{} {
			add("port %s", pair(r.Ports))
		}
	default:
		add("%s", r.network(r.Src))
	}
	switch {
	case r.Kind == Rdr:
		r.printTargets(add)
	case r.ToEnd.IsValid():
		add("-> range %s-%s", r.To.Addr(), r.ToEnd)
	default:
		add("-> %s", r.To)
	}
	r.printOptions(add)
	return b.String()
}

func anyIf(s string) string {
	if s == "" || s == "0" {
		return "*"
	}
	return s
}

func pair(p [2]uint16) string {
	if p[1] == 0 || p[1] == p[0] {
		return fmt.Sprint(p[0])
	}
	return fmt.Sprintf("%d-%d", p[0], p[1])
}

// family is that of the addresses that packets come with.
func (r *NATRule) family() Family {
	switch {
	case r.Kind == NAT64:
		return Inet6
	case len(r.Targets) > 0:
		return familyOf(r.Targets[0])
	}
	return familyOf(r.To.Addr())
}

// network is the network of a rule without from and to.
func (r *NATRule) network(e Endpoint) string {
	switch {
	case e.Kind != AnyAddr:
		return e.text(r.family())
	case r.family() == Inet6:
		return netip.PrefixFrom(netip.IPv6Unspecified(), 0).String()
	}
	return netip.PrefixFrom(netip.IPv4Unspecified(), 0).String()
}

func (r *NATRule) printTargets(add func(string, ...any)) {
	var to []string
	for _, a := range r.Targets {
		to = append(to, a.String())
	}
	add("-> %s", strings.Join(to, ","))
	if r.TPorts != [2]uint16{} {
		add("port %s", pair(r.TPorts))
	}
	if r.Proto == AnyProto {
		add("ip")
	} else {
		add("%s", protoName(r.Proto))
	}
}

func (m PortMap) String() string {
	if m.Auto {
		return protoName(m.Proto) + " auto"
	}
	return fmt.Sprintf("%s %d:%d", protoName(m.Proto), m.Lo, m.Hi)
}

func (r *NATRule) printOptions(add func(string, ...any)) {
	if r.Proxy != nil {
		if r.Kind == Rdr {
			add("proxy %s", r.Proxy.Name)
		} else {
			add("proxy port %d %s/%s", r.Proxy.Port, r.Proxy.Name, protoName(r.Proxy.Proto))
		}
	}
	if r.PortMap != nil {
		add("portmap %s", *r.PortMap)
	}
	if r.ICMPIDs != nil {
		add("icmpidmap %s", *r.ICMPIDs)
	}
	if r.Kind == MapBlock {
		if r.BlockPorts == 0 {
			add("ports auto")
		} else {
			add("ports %d", r.BlockPorts)
		}
	}
	if r.Kind == Map && r.Proto != AnyProto {
		add("%s", protoName(r.Proto))
	}
	for _, o := range []struct {
		on   bool
		text string
	}{
		{r.RoundRobin, "round-robin"}, {r.Frag, "frag"}, {r.Age != [2]int{}, fmt.Sprintf("age %d/%d", r.Age[0], r.Age[1])}, {r.Sticky, "sticky"},
		{r.Sequential, "sequential"}, {r.MSSClamp > 0, fmt.Sprintf("mssclamp %d", r.MSSClamp)}, {r.Tag != "", "tag " + r.Tag}, {r.Purge, "purge"},
	} {
		if o.on {
			add("%s", o.text)
		}
	}
}
