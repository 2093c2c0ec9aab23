package stacktest

import (
	"fmt"
	"strings"

	"ionet/stack/netif"
	"ionet/stack/packet"
)

// DescribeIP6 is Describe for a packet from its IPv6 header on.
func DescribeIP6(b []byte) string {
	h, ok := packet.CheckIPv6(b)
	if !ok || packet.IPv6Len+h.PayloadLen() > len(b) {
		return "ip6 malformed"
	}
	h = h[:packet.IPv6Len+h.PayloadLen()]
	var s strings.Builder
	fmt.Fprintf(&s, "%v > %v", h.Src(), h.Dst())
	next, p := h.Next(), h.Payload()
	for {
		switch next {
		case packet.ProtoHopByHop, packet.ProtoRouting, packet.ProtoDstOpts:
			x, ok := packet.CheckExt(p)
			if !ok {
				return s.String() + " header malformed"
			}
			fmt.Fprintf(&s, " %s", map[uint8]string{packet.ProtoHopByHop: "hop-by-hop", packet.ProtoRouting: "routing", packet.ProtoDstOpts: "dest-opts"}[next])
			next, p = x.Next(), p[len(x):]
			continue
		case packet.ProtoFragment:
			f, ok := packet.CheckFragment(p)
			if !ok {
				return s.String() + " header malformed"
			}
			fmt.Fprintf(&s, " frag %d", f.Off())
			if f.More() {
				s.WriteByte('+')
			}
			next, p = f.Next(), p[packet.FragmentLen:]
			if f.Off() != 0 || f.More() {
				fmt.Fprintf(&s, " proto %d len %d", next, len(p))
				return s.String()
			}
			continue
		case packet.ProtoUDP:
			if u, ok := packet.CheckUDP(p); ok {
				fmt.Fprintf(&s, " udp %d > %d len %d", u.SrcPort(), u.DstPort(), u.Len()-packet.UDPLen)
				return s.String()
			}
		case packet.ProtoICMPv6:
			if m, ok := packet.CheckICMP6(p); ok {
				s.WriteByte(' ')
				s.WriteString(describeICMP6(m))
				if t := m.Type(); h.HopLimit() != 255 && t >= packet.ICMP6RouterSol && t <= packet.ICMP6Redirect {
					fmt.Fprintf(&s, " hlim %d", h.HopLimit())
				}
				if !m.ChecksumOK(h.Src(), h.Dst()) {
					s.WriteString(" bad-icmp6-sum")
				}
				return s.String()
			}
		}
		fmt.Fprintf(&s, " proto %d len %d", next, len(p))
		return s.String()
	}
}

func describeICMP6(m packet.ICMP6) string {
	if len(m) < packet.ICMP6Len {
		return fmt.Sprintf("icmp6 type %d code %d short", m.Type(), m.Code())
	}
	switch m.Type() {
	case packet.ICMP6Echo:
		return fmt.Sprintf("echo id %d seq %d len %d", m.ID(), m.Seq(), len(m.Payload()))
	case packet.ICMP6EchoReply:
		return fmt.Sprintf("echo-reply id %d seq %d len %d", m.ID(), m.Seq(), len(m.Payload()))
	case packet.ICMP6Unreach:
		return fmt.Sprintf("unreach %d", m.Code()) + quoted6(m)
	case packet.ICMP6TooBig:
		return fmt.Sprintf("too-big mtu %d", m.Rest()) + quoted6(m)
	case packet.ICMP6TimeExceeded:
		return fmt.Sprintf("time-exceeded %d", m.Code()) + quoted6(m)
	case packet.ICMP6ParamProblem:
		return fmt.Sprintf("param-problem %d at %d", m.Code(), m.Rest()) + quoted6(m)
	case packet.ICMP6MLDQuery:
		return "mld query"
	case packet.ICMP6MLDReport:
		return "mld report"
	case packet.ICMP6MLDDone:
		return "mld done"
	case packet.ICMP6MLDv2Report:
		return "mldv2 report"
	case packet.ICMP6RouterSol:
		return "rs" + describeNDOptions(m[packet.RouterSolLen:])
	case packet.ICMP6RouterAdv:
		if len(m) >= packet.RouterAdvLen {
			return fmt.Sprintf("ra lifetime %d", packet.RouterAdv(m).Lifetime()) + describeNDOptions(packet.RouterAdv(m).Options())
		}
	case packet.ICMP6NeighborSol:
		if len(m) >= packet.NeighborSolLen {
			n := packet.Neighbor(m)
			return fmt.Sprintf("ns %v", n.Target()) + describeNDOptions(n.Options())
		}
	case packet.ICMP6NeighborAdv:
		if len(m) >= packet.NeighborAdvLen {
			n, s := packet.Neighbor(m), ""
			for i, c := range "RSO" {
				if n.Flags()&(packet.NAFlagRouter>>i) != 0 {
					s += string(c)
				}
			}
			return fmt.Sprintf("na %v [%s]", n.Target(), s) + describeNDOptions(n.Options())
		}
	case packet.ICMP6Redirect:
		if len(m) >= packet.RedirectLen {
			r := packet.Redirect(m)
			return fmt.Sprintf("redirect %v to %v", r.Destination(), r.Target()) + describeNDOptions(r.Options())
		}
	}
	return fmt.Sprintf("icmp6 type %d code %d len %d", m.Type(), m.Code(), len(m.Payload()))
}

func describeNDOptions(opts []byte) (s string) {
	for len(opts) > 0 {
		o, rest, ok := packet.NextNDOption(opts)
		if !ok {
			return s + " options malformed"
		}
		switch {
		case o.Type() == packet.NDOptSourceLink && len(o) == 8:
			s += fmt.Sprintf(" from %v", netif.MAC(o.Data()))
		case o.Type() == packet.NDOptTargetLink && len(o) == 8:
			s += fmt.Sprintf(" at %v", netif.MAC(o.Data()))
		case o.Type() == packet.NDOptNonce:
			s += " nonce"
		case o.Type() == packet.NDOptRedirected:
			s += fmt.Sprintf(" quotes %d", len(o)-8)
		default:
			s += fmt.Sprintf(" opt%d", o.Type())
		}
		opts = rest
	}
	return s
}

func quoted6(m packet.ICMP6) string {
	if h, ok := packet.CheckIPv6(m.Payload()); ok {
		return fmt.Sprintf(" quotes %v > %v proto %d len %d", h.Src(), h.Dst(), h.Next(), len(h.Payload()))
	}
	return " quotes nothing"
}
