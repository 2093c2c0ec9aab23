package stacktest

import (
	"fmt"
	"strings"

	"ionet/stack/netif"
	"ionet/stack/packet"
)

// Describe is one line about a frame, for traces and for tests that read as
// dialogues.
func Describe(frame []byte) string {
	e, ok := packet.CheckEther(frame)
	if !ok {
		return fmt.Sprintf("short frame of %d", len(frame))
	}
	switch e.Type() {
	case packet.EtherARP:
		return describeARP(netif.MAC(e.Dst()), e.Payload())
	case packet.EtherIPv4:
		return DescribeIP(e.Payload())
	case packet.EtherIPv6:
		return DescribeIP6(e.Payload())
	}
	return fmt.Sprintf("type %#04x len %d", e.Type(), len(frame))
}

func describeARP(to netif.MAC, b []byte) string {
	a, ok := packet.CheckARP(b)
	if !ok {
		return "arp malformed"
	}
	s := ""
	switch {
	case a.Op() == packet.ARPReply:
		s = fmt.Sprintf("arp %v is-at %v", a.SenderIP(), netif.MAC(a.SenderMAC()))
	case a.SenderIP().IsUnspecified():
		s = fmt.Sprintf("arp probe %v", a.TargetIP())
	case a.SenderIP() == a.TargetIP():
		s = fmt.Sprintf("arp announce %v", a.TargetIP())
	default:
		s = fmt.Sprintf("arp who-has %v tell %v", a.TargetIP(), a.SenderIP())
	}
	if to != netif.BroadcastMAC {
		s += " to " + to.String()
	}
	return s
}

// DescribeIP is Describe for a packet from its IPv4 header on.
func DescribeIP(b []byte) string {
	h, ok := packet.CheckIPv4(b)
	if !ok || h.TotalLen() > len(b) {
		return "ip malformed"
	}
	h = h[:h.TotalLen()]
	var s strings.Builder
	fmt.Fprintf(&s, "%v > %v", h.Src(), h.Dst())
	if !h.ChecksumOK() {
		s.WriteString(" bad-ip-sum")
	}
	if h.FragOff() != 0 || h.MF() {
		fmt.Fprintf(&s, " frag %d", h.FragOff())
		if h.MF() {
			s.WriteByte('+')
		}
		if h.FragOff() != 0 {
			fmt.Fprintf(&s, " proto %d len %d", h.Proto(), len(h.Payload()))
			return s.String()
		}
	}
	p := h.Payload()
	whole := !h.MF()
	switch h.Proto() {
	case packet.ProtoUDP:
		if _, ok := packet.CheckUDP(p); ok || len(p) >= packet.UDPLen && !whole {
			u := packet.UDP(p)
			fmt.Fprintf(&s, " udp %d > %d len %d", u.SrcPort(), u.DstPort(), u.Len()-packet.UDPLen)
			return s.String()
		}
	case packet.ProtoTCP:
		if d, ok := describeTCP(h, p); ok && whole {
			return s.String() + d
		}
	case packet.ProtoICMP:
		if m, ok := packet.CheckICMP(p); ok {
			s.WriteByte(' ')
			s.WriteString(describeICMP(m))
			if whole && !m.ChecksumOK() {
				s.WriteString(" bad-icmp-sum")
			}
			return s.String()
		}
	case packet.ProtoIGMP:
		if m, ok := packet.CheckIGMP(p); ok {
			s.WriteByte(' ')
			s.WriteString(describeIGMP(m))
			return s.String()
		}
	}
	fmt.Fprintf(&s, " proto %d len %d", h.Proto(), len(p))
	return s.String()
}

func describeICMP(m packet.ICMP) string {
	switch m.Type() {
	case packet.ICMPEcho, packet.ICMPEchoReply:
		return fmt.Sprintf("%s id %d seq %d len %d", [...]string{8: "echo", 0: "echo-reply"}[m.Type()], m.ID(), m.Seq(), len(m.Payload()))
	case packet.ICMPUnreach:
		s := fmt.Sprintf("unreach %d", m.Code())
		if m.Code() == packet.ICMPUnreachNeedFrag {
			s += fmt.Sprintf(" mtu %d", m.MTU())
		}
		return s + quoted(m)
	case packet.ICMPTimeExceeded:
		return fmt.Sprintf("time-exceeded %d", m.Code()) + quoted(m)
	case packet.ICMPRedirect:
		g := m.Gateway()
		return fmt.Sprintf("redirect %d to %d.%d.%d.%d", m.Code(), g[0], g[1], g[2], g[3]) + quoted(m)
	case packet.ICMPParamProblem:
		return fmt.Sprintf("param-problem at %d", m.Pointer()) + quoted(m)
	}
	return fmt.Sprintf("icmp type %d code %d len %d", m.Type(), m.Code(), len(m.Payload()))
}

func quoted(m packet.ICMP) string {
	if h, ok := packet.CheckIPv4(m.Payload()); ok {
		return fmt.Sprintf(" quotes %v > %v proto %d len %d", h.Src(), h.Dst(), h.Proto(), len(h.Payload()))
	}
	return " quotes nothing"
}

var igmpRecords = [...]string{1: "is-in", "is-ex", "to-in", "to-ex", "allow", "block"}

func describeIGMP(m packet.IGMP) string {
	switch m.Type() {
	case packet.IGMPQuery:
		return fmt.Sprintf("igmp query %v", m.Group())
	case packet.IGMPv1Report:
		return fmt.Sprintf("igmp v1 report %v", m.Group())
	case packet.IGMPv2Report:
		return fmt.Sprintf("igmp v2 report %v", m.Group())
	case packet.IGMPv2Leave:
		return fmt.Sprintf("igmp leave %v", m.Group())
	case packet.IGMPv3Report:
		s, at := "igmp v3", []byte(m[packet.IGMPLen:])
		for len(at) >= 8 {
			n, kind := int(at[2])<<8|int(at[3]), "record"
			if k := int(at[0]); k > 0 && k < len(igmpRecords) {
				kind = igmpRecords[k]
			}
			s += fmt.Sprintf(" %s(%d.%d.%d.%d", kind, at[4], at[5], at[6], at[7])
			at = at[8:]
			for ; n > 0 && len(at) >= 4; n-- {
				s += fmt.Sprintf(" %d.%d.%d.%d", at[0], at[1], at[2], at[3])
				at = at[4:]
			}
			s += ")"
		}
		return s
	}
	return fmt.Sprintf("igmp type %#x", m.Type())
}
