package setkey

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"regexp"
	"strconv"
	"strings"

	"ionet/protocol"
	"ionet/tool/services"
)

// Resolver answers what statements ask of a stack besides keys;
// *client.Stack is one.
type Resolver interface {
	LookupHost(ctx context.Context, name string) ([]netip.Addr, error)
	IfIndex(name string) (int, error)
}

// names of the world that statements are read in.
type world struct {
	ctx   context.Context
	stack func() (Resolver, error)
}

const natPort = 4500 // of UDP encapsulation (RFC 3948)

// messages are what a statement asks: more than one when names have several
// addresses.
func (w *world) messages(s *statement) ([]*protocol.KeyMessage, error) {
	if s.src.host.kind != word {
		if s.m.Type == protocol.SADBFlush || s.m.Type == protocol.SADBDump {
			s.m.SA = nil // the protocol's flags
		}
		return []*protocol.KeyMessage{&s.m}, nil
	}
	proto, err := w.upper(s)
	if err != nil {
		return nil, err
	}
	if s.requests.kind == requests {
		if s.m.Policy, err = w.requests(s); err != nil {
			return nil, err
		}
	}
	srcs, err := w.addresses(s, s.src, proto)
	if err != nil {
		return nil, err
	}
	dsts, err := w.addresses(s, s.dst, proto)
	if err != nil {
		return nil, err
	}
	if err := s.icmp(proto, srcs, dsts); err != nil {
		return nil, err
	}
	if s.m.Type != protocol.SADBAdd {
		at := s.src.host
		if len(srcs) == 1 {
			at = s.dst.host
		}
		if len(srcs) > 1 || len(dsts) > 1 {
			return nil, at.wrong("multiple address specified: -4, -6 or an address says which")
		}
	}
	if s.udp && (s.m.Type == protocol.SADBAdd || s.m.Type == protocol.SADBUpdate || s.m.Type == protocol.SADBGetSPI) {
		if err := w.natt(s, &srcs[0], &dsts[0]); err != nil {
			return nil, err
		}
	}
	var all []*protocol.KeyMessage
	for i := range srcs {
		for j := range dsts {
			if srcs[i].IP.Is4() != dsts[j].IP.Is4() {
				continue
			}
			m := &s.m
			if len(srcs) > 1 || len(dsts) > 1 {
				one := s.m
				m = &one
			}
			m.Src, m.Dst = &srcs[i], &dsts[j]
			if s.udp {
				src, dst := srcs[i], dsts[j] // the ports are NAT-T's
				src.Port, dst.Port = 0, 0
				m.Src, m.Dst = &src, &dst
			}
			all = append(all, m)
		}
	}
	if len(all) == 0 {
		return nil, s.dst.host.wrong("source and destination are not of one family")
	}
	return all, nil
}

// natt fills in how ESP goes in UDP.
func (w *world) natt(s *statement, src, dst *protocol.KeyAddress) error {
	n := &protocol.KeyNATT{Type: protocol.NATTEspInUDP, SrcPort: natPort, DstPort: natPort}
	if src.Port != 0 {
		n.SrcPort = src.Port
	}
	if dst.Port != 0 {
		n.DstPort = dst.Port
	}
	if s.oa != nil {
		oa, err := w.addresses(s, *s.oa, protocol.IPSecProtoAny)
		if err != nil {
			return err
		}
		n.OAI = &oa[0]
	}
	s.m.NATT = n
	return nil
}

// addresses are those of an end.
func (w *world) addresses(s *statement, e endpoint, proto uint8) ([]protocol.KeyAddress, error) {
	ips, err := w.ips(s, e.host)
	if err != nil {
		return nil, err
	}
	port, err := e.portNumber(proto)
	if err != nil {
		return nil, err
	}
	var all []protocol.KeyAddress
	for _, ip := range ips {
		if s.family == protocol.AFInet && !ip.Is4() || s.family == protocol.AFInet6 && ip.Is4() {
			continue
		}
		bits := ip.BitLen()
		if e.bits >= 0 {
			if e.bits > bits {
				return nil, e.host.wrong("a prefix of %d bits, an address of this family has %d", e.bits, bits)
			}
			bits = e.bits
		}
		all = append(all, protocol.KeyAddress{IP: ip, Port: port, Bits: uint8(bits), Proto: proto})
	}
	if len(all) == 0 {
		return nil, e.host.wrong("no address of the family that -%d says", map[int]int{protocol.AFInet: 4, protocol.AFInet6: 6}[s.family])
	}
	return all, nil
}

func (w *world) ips(s *statement, t token) ([]netip.Addr, error) {
	if ip, err := netip.ParseAddr(t.text); err == nil {
		if ip.Is4In6() {
			return nil, t.wrong("an address of IPv4 is written without ::ffff:")
		}
		return w.scoped(t, ip)
	}
	if ip, err := protocol.ParseInetAton(t.text); err == nil {
		return []netip.Addr{ip}, nil
	}
	if s.numeric {
		return nil, t.wrong("no address, and -n lets no name be looked up")
	}
	stack, err := w.stack()
	if err != nil {
		return nil, err
	}
	ips, err := stack.LookupHost(w.ctx, t.text)
	if err != nil {
		return nil, t.wrong("%v", err)
	}
	for i := range ips {
		ips[i] = ips[i].Unmap()
	}
	return ips, nil
}

// scoped turns a zone that is a name into the interface's index.
func (w *world) scoped(t token, ip netip.Addr) ([]netip.Addr, error) {
	if ip.Zone() == "" {
		return []netip.Addr{ip}, nil
	}
	index, err := w.index(t, ip.Zone())
	return []netip.Addr{ip.WithZone(index)}, err
}

func (w *world) index(t token, zone string) (string, error) {
	if n, err := strconv.ParseUint(zone, 10, 32); err == nil {
		return strconv.FormatUint(n, 10), nil
	}
	stack, err := w.stack()
	if err != nil {
		return "", err
	}
	n, err := stack.IfIndex(zone)
	if err != nil {
		return "", t.wrong("there is no interface %s", zone)
	}
	return strconv.Itoa(n), nil
}

func (e endpoint) portNumber(proto uint8) (uint16, error) {
	t := e.port
	if t.kind == end {
		return 0, nil
	}
	if t.kind == number {
		n, err := strconv.ParseUint(t.text, 10, 16)
		if err != nil {
			return 0, t.wrong("a port of at most 65535 belongs here")
		}
		return uint16(n), nil
	}
	for _, name := range []string{"udp", "tcp"} {
		if proto == 6 && name == "udp" {
			continue
		}
		if n, ok := services.Host().Port(t.text, name); ok {
			return uint16(n), nil
		}
	}
	return 0, t.wrong("no service of this name in %s", services.File)
}

// protocols are the names that are known without a file.
var protocols = map[string]uint8{"any": protocol.IPSecProtoAny, "icmp": 1, "igmp": 2, "ip4": 4, "ipencap": 4, "tcp": 6, "udp": 17, "ip6": 41, "ipv6": 41,
	"gre": 47, "esp": 50, "ah": 51, "icmp6": 58, "icmpv6": 58, "ipv6-icmp": 58, "ospf": 89, "pim": 103, "ipcomp": 108, "vrrp": 112, "sctp": 132, "udplite": 136}

// protocolNames are what dumps print.
var protocolNames = map[uint8]string{protocol.IPSecProtoAny: "any", 1: "icmp", 2: "igmp", 4: "ip4", 6: "tcp", 17: "udp", 41: "ip6",
	47: "gre", 50: "esp", 51: "ah", 58: "icmp6", 89: "ospf", 103: "pim", 108: "ipcomp", 112: "vrrp", 132: "sctp"}

const protocolsFile = "/etc/protocols"

// upper is the number of the upper-layer protocol.
func (w *world) upper(s *statement) (uint8, error) {
	switch t := s.upper; t.kind {
	case end:
		return protocol.IPSecProtoAny, nil
	case number:
		n, err := strconv.ParseUint(t.text, 10, 8)
		if err != nil {
			return 0, t.wrong("a protocol of at most 255 belongs here")
		}
		return uint8(n), nil
	default:
		if n, ok := protocols[t.text]; ok {
			return n, nil
		}
		if n, ok := fileProtocol(t.text); ok {
			return n, nil
		}
		return 0, t.wrong("invalid upper layer protocol")
	}
}

// fileProtocol looks a name or alias up in protocols(5).
func fileProtocol(name string) (uint8, bool) {
	f, err := os.Open(protocolsFile)
	if err != nil {
		return 0, false
	}
	defer f.Close()
	for sc := bufio.NewScanner(f); sc.Scan(); {
		line, _, _ := strings.Cut(sc.Text(), "#")
		w := strings.Fields(line)
		if len(w) < 2 {
			continue
		}
		n, err := strconv.ParseUint(w[1], 10, 8)
		for i, x := range w {
			if i != 1 && x == name && err == nil {
				return uint8(n), true
			}
		}
	}
	return 0, false
}

// icmp puts a type and code into the places of ports.
func (s *statement) icmp(proto uint8, srcs, dsts []protocol.KeyAddress) error {
	icmp := proto == 1 || proto == 58
	if icmp && (s.src.port.kind != end || s.dst.port.kind != end) {
		return s.upper.wrong("ICMP has no ports; its type and code stand behind it, as in icmp6 135,0")
	}
	if s.misc.kind == end {
		return nil
	}
	if proto == 47 {
		return s.misc.wrong("keys of gre are not told apart")
	}
	if !icmp {
		return s.misc.wrong("a type and code are of icmp and icmp6")
	}
	typ, code, both := strings.Cut(s.misc.text, ",")
	a, err := strconv.ParseUint(typ, 10, 8)
	var b uint64
	if both && err == nil {
		b, err = strconv.ParseUint(code, 10, 8)
	}
	if err != nil {
		return s.misc.wrong("invalid an upper layer protocol spec: type,code, numbers of at most 255")
	}
	for i := range srcs {
		srcs[i].Port = uint16(a)
	}
	for i := range dsts {
		dsts[i].Port = uint16(b)
	}
	return nil
}

var zoneName = regexp.MustCompile(`%[A-Za-z][A-Za-z0-9.]*`)

// requests reads what stands behind -P. To remove a policy its direction is
// enough.
func (w *world) requests(s *statement) (*protocol.KeyPolicy, error) {
	t := s.requests
	var failed error
	text := zoneName.ReplaceAllStringFunc(t.text, func(zone string) string {
		index, err := w.index(token{word, zone[1:], t.line}, zone[1:])
		if err != nil && failed == nil {
			failed = err
		}
		return "%" + index
	})
	if failed != nil {
		return nil, failed
	}
	var p *protocol.KeyPolicy
	var err error
	if s.m.Type == protocol.SADBXSPDDelete {
		dir, rest, fault := protocol.ParseIPSecDirection(text)
		p, err = &protocol.KeyPolicy{Dir: dir, Priority: protocol.IPSecPriorityDefault}, fault
		if fault == nil && rest != "" {
			p, err = protocol.ParseIPSecPolicy(text)
		}
	} else {
		p, err = protocol.ParseIPSecPolicy(text)
	}
	if fault, ok := errors.AsType[*protocol.PolicyError](err); ok {
		line := t.line + strings.Count(text[:fault.Column-1], "\n")
		at := fault.Token
		if at == "" {
			at = ";"
		}
		return nil, &syntaxError{line, fmt.Sprintf("policy: %s", fault.Text), at}
	}
	return p, err
}
