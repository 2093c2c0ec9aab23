package ipfilter

import (
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"testing"

	"ionet/ipl"
	"ionet/stack/netif"
	"ionet/stack/packet"
	"ionet/stack/pfil"
)

// pk is a packet of a case: a datagram of IPv4 from inner to outer, port 1025 to 53, that
// comes in by en0, but for what is said.
type pk struct {
	src, dst     string
	proto        uint8 // UDP
	sport, dport uint16
	flags        uint8 // of TCP
	seq, ack     uint32
	typ, code    uint8 // of ICMP
	tos, ttl     uint8
	opts         []byte
	next         []byte // IPv6: what stands behind its header, the first octet being the number of that
	frag         uint16 // field
	cut          int    // octets that there are of the transport header
	quote        *pk    // of an ICMP error
	out, v6      bool
	on, from     string // en0; where it came in, of what goes out
}

func (p pk) octets() []byte {
	if p.v6 {
		src, dst := "2001:db8::1", "2001:db8::2"
		if p.src != "" {
			src = p.src
		}
		if p.dst != "" {
			dst = p.dst
		}
		next := p.proto
		if next == 0 {
			next = packet.ProtoUDP
		}
		body := []byte{4, 1, 0, 53, 0, 8, 0, 0}
		if next == packet.ProtoICMPv6 {
			body = []byte{p.typ, p.code, 0, 0, 0, 1, 0, 1}
		}
		if len(p.next) > 0 {
			next = p.next[0]
			body = append(p.next[1:len(p.next):len(p.next)], body...)
		}
		b := make([]byte, packet.IPv6Len+len(body))
		packet.PutIPv6(b, p.tos, 0, len(body), next, max(p.ttl, 2), netip.MustParseAddr(src), netip.MustParseAddr(dst))
		copy(b[packet.IPv6Len:], body)
		return b
	}
	or := func(a, b uint16) uint16 {
		if a != 0 {
			return a
		}
		return b
	}
	src, dst, proto, ttl := inner, outer, p.proto, p.ttl
	if p.src != "" {
		src = p.src
	}
	if p.dst != "" {
		dst = p.dst
	}
	if proto == 0 {
		proto = packet.ProtoUDP
	}
	if ttl == 0 {
		ttl = 64
	}
	var l4 []byte
	switch proto {
	case packet.ProtoTCP:
		l4 = make([]byte, packet.TCPLen)
		packet.PutTCP(l4, or(p.sport, 1025), or(p.dport, 53), p.seq, p.ack, packet.TCPLen, p.flags, 1000, 0, 0)
	case packet.ProtoICMP:
		l4 = []byte{p.typ, p.code, 0, 0, 0, 1, 0, 1}
		if p.quote != nil {
			l4 = append(l4, p.quote.octets()...)
		}
	default:
		l4 = make([]byte, packet.UDPLen)
		packet.PutUDP(l4, or(p.sport, 1025), or(p.dport, 53), packet.UDPLen, 0)
	}
	if p.cut > 0 {
		l4 = l4[:p.cut]
	}
	b := make([]byte, packet.IPv4Len+len(p.opts)+len(l4))
	packet.PutIPv4(b, p.tos, len(b), 7, p.frag, ttl, proto, netip.MustParseAddr(src), netip.MustParseAddr(dst), p.opts).SetChecksum()
	copy(b[packet.IPv4Len+len(p.opts):], l4)
	return b
}

// see has a packet come to its hook, and says what becomes of it.
func (r *rig) see(p pk) string {
	ifs := map[string]*netif.Interface{"": r.en0, "en0": r.en0, "en1": r.en1}
	before := r.Stats()
	r.did = nil
	r.ReadLog(PacketLog, 1<<20)
	b := p.octets()
	buf := r.env.Pool.Get(len(b))
	copy(buf.Append(len(b)), b)
	buf.MarkL3(0)
	if buf.RcvIf = ifs[p.on].Index; p.out {
		buf.RcvIf = ifs[p.from].Index
	}
	r.w.Start(r.now)
	hook, what := r.In, "block"
	if p.out {
		hook = r.Out
	}
	if buf = hook(r.w, ifs[p.on], buf); buf != nil {
		what = "pass"
		buf.Free()
	}
	r.w.Finish()
	for _, x := range r.did {
		what += ", " + x
	}
	records, _ := r.ReadLog(PacketLog, 9)
	for _, x := range records {
		what += fmt.Sprintf(", log %s", map[LogEvent]string{LogPass: "pass", LogBlock: "block", LogOnly: "only"}[x.Event])
		if x.Level != "" {
			what += " " + x.Level
		}
		if x.Tag >= 0 {
			what += fmt.Sprint(" tag ", x.Tag)
		}
		if len(x.Packet) > packet.IPv4Len+packet.TCPLen {
			what += " body"
		}
	}
	after := r.Stats()
	if after.States.Added > before.States.Added {
		what += ", state"
	}
	if after.Frags.Added > before.Frags.Added {
		what += ", fragments"
	}
	return what
}

// line is a line of the grammar: the rule that is asked about, what it is printed as, a packet that it
// matches and what becomes of that, and one that it does not match.
type line struct {
	rule  string
	print string // "": as it is
	yes   pk
	does  string
	no    pk
	rest  string // the rules behind it
	first string // those before it
	after []pk   // what has come before yes and no
	prep  func(*rig)
	many  bool // it is several rules, of which the first is asked about
}

const (
	tcpProto, udpProto, icmpProto, icmp6Proto = packet.ProtoTCP, packet.ProtoUDP, packet.ProtoICMP, packet.ProtoICMPv6
	stateUDP                                  = "pass in quick proto udp from any to any keep state"
)

func withPools(r *rig) {
	r.setPools("table role = ipf type = tree number = 7 { 10.0.0.0/24; !10.0.0.9/32; };\ntable role = ipf type = hash name = h { 10.0.0.1/32; };\n" +
		"group-map in role = ipf number = 8 { 10.0.0.1/32, group = 5; };\ngroup-map out role = ipf number = 9 { 192.0.2.1/32, group = 6; };")
}

func withAddrs(r *rig) {
	r.en0.EditAddrs(func([]*netif.Addr) []*netif.Addr {
		return []*netif.Addr{{If: r.en0, Addr: netip.MustParseAddr("10.0.0.1"), Bits: 24, Broadcast: netip.MustParseAddr("10.0.0.255")}}
	})
	r.en1.EditAddrs(func([]*netif.Addr) []*netif.Addr {
		return []*netif.Addr{{If: r.en1, Addr: netip.MustParseAddr("10.0.9.1"), Bits: 32, Dst: netip.MustParseAddr("10.0.9.2")}}
	})
}

// translated is a translator that says so of TCP, and refuses protocol 99.
type translated struct{ refuser }

func (translated) In(_ *netif.Work, i *pfil.Info) pfil.Verdict {
	switch i.Proto {
	case packet.ProtoTCP:
		return pfil.Translated
	case 99:
		return pfil.Refused
	}
	return pfil.Untouched
}

func withNAT(r *rig) { r.nat = translated{} }

func smallLog(r *rig) {
	if _, err := r.env.MIB.Set("net.inet.ipf.logsize", "16"); err != nil {
		r.Fatal(err)
	}
}

func connected(p pk) []pk {
	p.proto, p.flags, p.seq = tcpProto, syn, 100
	a := pk{src: outer, dst: inner, proto: tcpProto, sport: 53, dport: 1025, flags: syn | ack, seq: 200, ack: 101, on: "en1"}
	p2 := p
	p2.flags, p2.seq, p2.ack = ack, 101, 201
	return []pk{p, a, p2}
}

var grammar = []line{
	// Actions.
	{rule: "pass in all", does: "pass", no: pk{out: true}},
	{rule: "block in all", does: "block", no: pk{out: true}},
	{rule: "block out all", yes: pk{out: true}, does: "block"},
	{rule: "block return-rst in proto tcp from any to any", yes: pk{proto: tcpProto, flags: syn}, does: "block, reset"},
	{rule: "block return-icmp in proto udp from any to any", does: "block, unreach 3", no: pk{proto: tcpProto}},
	{rule: "block return-icmp-as-dest in proto udp from any to any", does: "block, unreach 3, as its destination", no: pk{proto: tcpProto}},
	{rule: "count in proto udp from any to any", does: "pass", no: pk{proto: tcpProto}},
	{rule: "log in proto udp from any to any", does: "pass, log only", no: pk{proto: tcpProto}},
	{rule: "skip 1 in proto udp from any to any", does: "pass", no: pk{proto: tcpProto}, rest: "block in all"},
	{rule: "call now fr_srcgrpmap/8 in proto udp from any to any", does: "block", no: pk{proto: tcpProto}, rest: "block in all group 5", prep: withPools},
	{rule: "call now fr_dstgrpmap/9 out proto udp from any to any", yes: pk{out: true}, does: "block", rest: "block out all group 6", prep: withPools},
	{rule: "@1 block in quick proto udp from any to any", does: "block", no: pk{proto: tcpProto}, first: "pass in quick from 10.0.0.1/32 to any"},
	// Options.
	{rule: "block in log all", does: "block, log block", no: pk{out: true}},
	{rule: "block in log body all", yes: pk{proto: icmpProto, quote: &pk{proto: icmpProto, quote: &pk{}}}, does: "block, log block body", no: pk{out: true}},
	{rule: "pass in log first quick proto udp from any to any keep state", does: "pass, log pass, state", no: pk{proto: tcpProto}},
	{rule: "pass in log first quick proto udp from any port = 1025 to any keep state", after: []pk{{}}, does: "pass", no: pk{proto: tcpProto}},
	{rule: "pass in log quick proto udp from any port = 1025 to any keep state", after: []pk{{}}, does: "pass, log pass", no: pk{proto: tcpProto}},
	{rule: "pass in log or-block proto udp from any to any", does: "pass, log pass", no: pk{proto: tcpProto}, prep: smallLog},
	{rule: "block in log level info all", does: "block, log block info", no: pk{out: true}},
	{rule: "block in quick proto udp from any to any", does: "block", no: pk{proto: tcpProto}, rest: "pass in all"},
	{rule: "block in on en0 all", does: "block", no: pk{on: "en1"}},
	{rule: "pass in dup-to en1:10.0.9.9 proto udp from any to any", does: "pass, by en1 to 10.0.9.9", no: pk{proto: tcpProto}},
	{rule: "pass in dup-to en1 proto udp from any to any", does: "pass, by en1", no: pk{proto: tcpProto}},
	{rule: "pass in to en1:10.0.9.9 proto udp from any to any", does: "block, by en1 to 10.0.9.9", no: pk{proto: tcpProto}},
	{rule: "pass in route-to en1 proto udp from any to any", print: "pass in to en1 proto udp from any to any", does: "block, by en1", no: pk{proto: tcpProto}},
	{rule: "pass in quick reply-to en1:10.0.9.9 proto udp from any to any port = 53 keep state", after: []pk{{}}, yes: pk{src: outer, dst: inner, sport: 53, dport: 1025, out: true},
		does: "block, by en1 to 10.0.9.9", no: pk{proto: tcpProto}},
	{rule: "pass in fastroute proto udp from any to any", does: "block, by its route", no: pk{proto: tcpProto}},
	{rule: "block out on en1 in-via en0 all", yes: pk{out: true, on: "en1", from: "en0"}, does: "block", no: pk{out: true, on: "en1", from: "en1"}},
	{rule: "pass in quick out-via en1 proto udp from any to any keep state", after: []pk{{}}, yes: pk{out: true, on: "en1", from: "en0"}, does: "pass", no: pk{proto: tcpProto}, rest: "block out all"},
	{rule: "pass in quick out-via en1 proto udp from any to any port = 53 keep state", after: []pk{{}}, yes: pk{out: true, on: "en0", from: "en0"}, does: "block", no: pk{proto: tcpProto}, rest: "block out all"},
	// What packets are asked.
	{rule: "block in family inet6 all", yes: pk{v6: true}, does: "block"},
	{rule: "block in family inet all", print: "block in all", does: "block", no: pk{v6: true}},
	{rule: "block in tos 0x10 from any to any", yes: pk{tos: 16}, does: "block"},
	{rule: "block in tos { 16, 17 } all", print: "block in tos 0x10 from any to any", many: true, yes: pk{tos: 16}, does: "block"},
	{rule: "block in ttl 7 from any to any", yes: pk{ttl: 7}, does: "block"},
	{rule: "block in proto tcp/udp from any to any", does: "block", no: pk{proto: 99}},
	{rule: "block in proto tcp-udp all", print: "block in proto tcp/udp from any to any", yes: pk{proto: tcpProto}, does: "block", no: pk{proto: 99}},
	{rule: "block in from 10.0.0.0/24 to any", does: "block", no: pk{src: "10.0.1.1"}},
	{rule: "block in from any to !192.0.2.1/32", yes: pk{dst: "192.0.2.2"}, does: "block"},
	{rule: "block in from 10.0.0.1 mask 255.255.0.255 to any", print: "block in from 10.0.0.1/255.255.0.255 to any", yes: pk{src: "10.0.7.1"}, does: "block", no: pk{src: "10.0.0.2"}},
	{rule: "block in from 10.0.0.1 netmask 0xffffff00 to any", print: "block in from 10.0.0.0/24 to any", does: "block", no: pk{src: "10.0.1.1"}},
	{rule: "block in from pool/7 to any", does: "block", no: pk{src: "10.0.0.9"}, prep: withPools},
	{rule: "block in from any to hash/h", yes: pk{dst: inner}, does: "block", prep: withPools},
	{rule: "block in from en0/32 to any", does: "block", no: pk{src: "10.0.0.2"}, prep: withAddrs},
	{rule: "block in from en0/network to any", yes: pk{src: "10.0.0.0"}, does: "block", prep: withAddrs},
	{rule: "block in from en0/net to any", print: "block in from en0/network to any", yes: pk{src: "10.0.0.0"}, does: "block", prep: withAddrs},
	{rule: "block in from en0/netmasked to any", yes: pk{src: "10.0.0.77"}, does: "block", no: pk{src: "10.0.1.77"}, prep: withAddrs},
	{rule: "block in from any to en0/broadcast", yes: pk{dst: "10.0.0.255"}, does: "block", prep: withAddrs},
	{rule: "block in from any to en0/bcast", print: "block in from any to en0/broadcast", yes: pk{dst: "10.0.0.255"}, does: "block", prep: withAddrs},
	{rule: "block in from en1/peer to any", yes: pk{src: "10.0.9.2"}, does: "block", prep: withAddrs},
	// Ports.
	{rule: "block in proto udp from any port = 1025 to any port = 53", does: "block", no: pk{dport: 54}},
	{rule: "block in proto udp from any to any port eq 53", print: "block in proto udp from any to any port = 53", does: "block", no: pk{dport: 54}},
	{rule: "block in proto udp from any to any port != 54", does: "block", no: pk{dport: 54}},
	{rule: "block in proto udp from any to any port ne 54", print: "block in proto udp from any to any port != 54", does: "block", no: pk{dport: 54}},
	{rule: "block in proto udp from any to any port < 54", does: "block", no: pk{dport: 54}},
	{rule: "block in proto udp from any to any port lt 54", print: "block in proto udp from any to any port < 54", does: "block", no: pk{dport: 54}},
	{rule: "block in proto udp from any to any port <= 53", does: "block", no: pk{dport: 54}},
	{rule: "block in proto udp from any to any port le 53", print: "block in proto udp from any to any port <= 53", does: "block", no: pk{dport: 54}},
	{rule: "block in proto udp from any to any port > 53", yes: pk{dport: 54}, does: "block"},
	{rule: "block in proto udp from any to any port gt 53", print: "block in proto udp from any to any port > 53", yes: pk{dport: 54}, does: "block"},
	{rule: "block in proto udp from any to any port >= 54", yes: pk{dport: 54}, does: "block"},
	{rule: "block in proto udp from any to any port ge 54", print: "block in proto udp from any to any port >= 54", yes: pk{dport: 54}, does: "block"},
	{rule: "block in proto udp from any to any port 10 <> 60", yes: pk{dport: 61}, does: "block"},
	{rule: "block in proto udp from any to any port 50 >< 60", does: "block", no: pk{dport: 60}},
	{rule: "block in proto udp from any to any port 50:60", does: "block", no: pk{dport: 61}},
	{rule: "block in proto udp from any to any port = { 53, 60:70 }", print: "block in proto udp from any to any port = 53", many: true, does: "block", no: pk{dport: 54}},
	// Behind the addresses.
	{rule: "block in proto tcp from any to any flags S/SA", yes: pk{proto: tcpProto, flags: syn}, does: "block", no: pk{proto: tcpProto, flags: syn | ack}},
	{rule: "block in proto tcp from any to any flags S", print: "block in proto tcp from any to any flags S/FSRPAU", yes: pk{proto: tcpProto, flags: syn | packet.TCPEce | packet.TCPCwr}, does: "block",
		no: pk{proto: tcpProto, flags: syn | packet.TCPUrg}},
	{rule: "block in proto tcp from any to any flags 0x40/192", print: "block in proto tcp from any to any flags E/EC", yes: pk{proto: tcpProto, flags: packet.TCPEce}, does: "block", no: pk{proto: tcpProto, flags: packet.TCPCwr}},
	{rule: "block in proto tcp from any to any flags /FSRPAU", yes: pk{proto: tcpProto}, does: "block", no: pk{proto: tcpProto, flags: ack}},
	{rule: "block in proto icmp from any to any icmp-type echo", yes: pk{proto: icmpProto, typ: 8}, does: "block", no: pk{proto: icmpProto}},
	{rule: "block in proto icmp from any to any icmp-type unreach code port-unr", print: "block in proto icmp from any to any icmp-type unreach code 3",
		yes: pk{proto: icmpProto, typ: 3, code: 3}, does: "block", no: pk{proto: icmpProto, typ: 3, code: 1}},
	{rule: "block in proto udp all head 7", print: "block in proto udp from any to any head 7", does: "pass", no: pk{proto: tcpProto}, rest: "pass in from 10.0.0.1 to any group 7"},
	{rule: "block in from 10.0.0.1/32 to any group 7", does: "block", no: pk{proto: tcpProto}, first: "pass in proto udp all head 7"},
	{rule: "block in group 0", print: "block in all", does: "block", no: pk{out: true}},
	{rule: "block in log all set-tag(log=7)", does: "block, log block tag 7", no: pk{out: true}},
	// keep.
	{rule: "pass in proto udp from any to any keep state", does: "pass, state", no: pk{proto: tcpProto}},
	{rule: "pass in quick proto udp from any port = 1025 to any keep state", after: []pk{{}}, yes: pk{src: outer, dst: inner, sport: 53, dport: 1025, on: "en1"}, does: "pass", no: pk{proto: tcpProto}, rest: "block in all"},
	{rule: "pass in quick proto udp from any to any keep state (limit 1)", after: []pk{{sport: 9}}, does: "block", no: pk{proto: tcpProto}},
	{rule: "pass in quick proto tcp from any to any port = 53 keep state (strict)", after: connected(pk{}), yes: pk{proto: tcpProto, flags: ack | fin, seq: 111, ack: 201}, does: "block", no: pk{proto: tcpProto, dport: 9, flags: syn}},
	{rule: "pass in quick proto tcp from any to any port = 53 keep state", after: connected(pk{}), yes: pk{proto: tcpProto, flags: ack | fin, seq: 111, ack: 201}, does: "pass", no: pk{proto: tcpProto, dport: 9, flags: syn}},
	{rule: "pass in quick proto tcp from any to any port = 53 keep state (newisn)", after: []pk{{proto: tcpProto, flags: syn, seq: 100}}, does: "block",
		yes: pk{src: outer, dst: inner, proto: tcpProto, sport: 53, dport: 1025, flags: syn | ack, seq: 200, ack: 101, on: "en1"}, no: pk{proto: tcpProto, dport: 9, flags: syn}, rest: "block in all"},
	{rule: "pass in quick proto udp from any to any port = 53 keep state (no-icmp-err)", after: []pk{{}}, yes: pk{src: outer, dst: inner, proto: icmpProto, typ: 3, code: 3, quote: &pk{}, on: "en1"}, does: "block", no: pk{dport: 9}, rest: "block in all"},
	{rule: "pass in quick proto udp from any to any port = 53 keep state", after: []pk{{}}, yes: pk{src: outer, dst: inner, proto: icmpProto, typ: 3, code: 3, quote: &pk{}, on: "en1"}, does: "pass", no: pk{dport: 9}, rest: "block in all"},
	{rule: "pass in proto udp from any to any keep state (age 10/20)", does: "pass, state", no: pk{proto: tcpProto}},
	{rule: "pass in proto udp from any to any keep frags", yes: pk{frag: packet.IPv4MF}, does: "pass, fragments", no: pk{proto: tcpProto}},
	{rule: "pass in quick proto udp from any to any port = 53 keep frag (strict)", print: "pass in quick proto udp from any to any port = 53 keep frags (strict)", after: []pk{{frag: packet.IPv4MF}}, yes: pk{frag: packet.IPv4MF | 4}, does: "block", no: pk{dport: 9}, rest: "block in all"},
	{rule: "pass in quick proto udp from any to any port = 53 keep frags", after: []pk{{frag: packet.IPv4MF}}, yes: pk{frag: packet.IPv4MF | 4}, does: "pass", no: pk{dport: 9}, rest: "block in all"},
	// Properties.
	{rule: "block in from any to any with ipopts", yes: pk{opts: []byte{1, 1, 1, 1}}, does: "block"},
	{rule: "block in from any to any with short", yes: pk{cut: 6}, does: "block"},
	{rule: "block in from any to any with frag", yes: pk{frag: packet.IPv4MF}, does: "block"},
	{rule: "block in all with frags", print: "block in from any to any with frag", yes: pk{frag: 9}, does: "block"},
	{rule: "block in from any to any with frag-body", yes: pk{frag: 9}, does: "block", no: pk{frag: packet.IPv4MF}},
	{rule: "block in from any to any with nat", yes: pk{proto: tcpProto}, does: "block", prep: withNAT},
	{rule: "block in from any to any with lowttl", yes: pk{ttl: 3}, does: "block"},
	{rule: "block in from any to any with multicast", yes: pk{dst: "224.0.0.9"}, does: "block"},
	{rule: "block in all with mcast", print: "block in from any to any with multicast", yes: pk{dst: "224.0.0.9"}, does: "block"},
	{rule: "block in from any to any with bcast", yes: pk{dst: "255.255.255.255"}, does: "block", no: pk{dst: "224.0.0.9"}},
	{rule: "block in all with broadcast", print: "block in from any to any with bcast", yes: pk{dst: "255.255.255.255"}, does: "block"},
	{rule: "block in from any to any with mbcast", yes: pk{dst: "224.0.0.9"}, does: "block"},
	{rule: "count in from any to any with state", after: []pk{{}}, does: "pass", no: pk{proto: tcpProto}, rest: stateUDP},
	{rule: "block in from any to any with bad", yes: pk{opts: []byte{7, 9, 1, 1}}, does: "block"},
	{rule: "block in from any to any with bad-src", yes: pk{src: "10.0.9.1"}, does: "block"},
	{rule: "block return-icmp in from any to any with bad-nat", yes: pk{proto: 99}, does: "block, unreach 3", prep: withNAT},
	{rule: "block in from any to any with oow", after: connected(pk{}), yes: pk{proto: tcpProto, flags: ack, seq: 90_000, ack: 201}, does: "block",
		rest: "pass in quick proto tcp from any to any flags S/SA keep state"},
	{rule: "block in from any to any with opt sec-class secret,sec", yes: pk{opts: []byte{130, 3, 0x5a, 0}}, does: "block", no: pk{opts: []byte{130, 3, 0x3d, 0}}},
	{rule: "block in from any to any with not frag,not ipopts", does: "block", no: pk{frag: packet.IPv4MF}},
	{rule: "block in all with no frag and short", print: "block in from any to any with not frag,short", yes: pk{cut: 6}, does: "block"},
	{rule: "block in from any to any with v6hdrs hopopts,dstopts", yes: pk{v6: true, next: []byte{0, packet.ProtoDstOpts, 0, 1, 4, 0, 0, 0, 0, udpProto, 0, 1, 4, 0, 0, 0, 0}}, does: "block", no: pk{v6: true}},
	{rule: "block in all with v6hdr none", print: "block in from any to any with v6hdrs none", yes: pk{v6: true, proto: packet.ProtoNone}, does: "block", no: pk{v6: true}},
}

// generated are lines for words that name numbers.
func generated(t *testing.T) (all []line) {
	words := ipl.Words()
	one := func(text string) ipl.Rule {
		rules, err := ipl.Parse("t", []byte(text), ipl.Options{})
		if err != nil || len(rules) != 1 {
			t.Fatal(text, err)
		}
		return rules[0]
	}
	for _, w := range words["facility"] {
		all = append(all, line{rule: "block in log level " + w + ".err all", does: "block, log block " + w + ".err", no: pk{out: true}})
	}
	for _, w := range words["priority"] {
		all = append(all, line{rule: "block in log level " + w + " all", does: "block, log block " + w, no: pk{out: true}})
	}
	for _, w := range words["protocol"] {
		text := "block in family inet proto " + w + " from any to any"
		if w == "ipv6-icmp" || w == "icmpv6" || w == "icmp6" {
			text = strings.Replace(text, "family inet ", "", 1)
		}
		x := one(text)
		yes := pk{proto: uint8(x.Proto), v6: x.Family == ipl.Inet6}
		if yes.proto == 0 { // which a packet of the bench cannot have
			continue
		}
		all = append(all, line{rule: text, print: x.String(), yes: yes, does: "block", no: pk{proto: 200}})
	}
	codes := map[string]int{"net-unr": 0, "host-unr": 1, "proto-unr": 2, "port-unr": 3, "needfrag": 4, "srcfail": 5, "net-unk": 6, "host-unk": 7, "isolate": 8, "net-prohib": 9,
		"host-prohib": 10, "net-tos": 11, "host-tos": 12, "filter-prohib": 13, "host-preced": 14, "cutoff-preced": 15, "preced-cutoff": 15}
	for _, w := range words["code"] {
		text := "block return-icmp(" + w + ") in all"
		all = append(all, line{rule: text, print: one(text).String(), does: fmt.Sprint("block, unreach ", codes[w]), no: pk{out: true}})
	}
	codes = map[string]int{"net-unr": 0, "filter-prohib": 1, "net-prohib": 1, "host-prohib": 1, "host-unr": 3, "port-unr": 4}
	for _, w := range words["code of IPv6"] {
		text := "block return-icmp(" + w + ") in family inet6 all"
		all = append(all, line{rule: text, print: one(text).String(), yes: pk{v6: true}, does: fmt.Sprint("block, unreach ", codes[w])})
	}
	for v6, list := range map[bool][]string{false: words["type"], true: words["type of IPv6"]} {
		proto := map[bool]string{false: "icmp", true: "ipv6-icmp"}[v6]
		for _, w := range list {
			text := "block in proto " + proto + " from any to any icmp-type " + w
			x := one(text)
			p := pk{proto: uint8(x.Proto), typ: uint8(x.ICMPType), v6: v6}
			no := p
			no.typ ^= 0x40
			all = append(all, line{rule: text, print: x.String(), yes: p, does: "block", no: no})
		}
	}
	for _, w := range words["option"] {
		if w == "sec-class" {
			continue // TestOptionNames has all of them with one another
		}
		opt := []byte{optionNames[w], 4, 1, 1}
		if w == "nop" {
			opt = []byte{1, 0, 0, 0}
		}
		all = append(all, line{rule: "block in from any to any with opt " + w, yes: pk{opts: opt}, does: "block"})
	}
	for _, w := range words["level"] {
		all = append(all, line{rule: "block in from any to any with opt sec-class " + w, yes: pk{opts: []byte{130, 4, classNames[w], 1}}, does: "block", no: pk{opts: []byte{130, 4, 0, 1}}})
	}
	for _, w := range words["header"] {
		n := headerNames[w]
		next := []byte{n, udpProto, 0, 1, 4, 0, 0, 0, 0}
		switch n {
		case packet.ProtoFragment:
			next = []byte{n, udpProto, 0, 0, 1, 0, 0, 0, 9}
		case packet.ProtoAH:
			next = []byte{n, udpProto, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}
		}
		all = append(all, line{rule: "block in from any to any with v6hdrs " + w, yes: pk{v6: true, next: next}, does: "block", no: pk{v6: true}})
	}
	return all
}

// hitsOf is how often the rule that reads so was hit.
func (r *rig) hitsOf(text string) (n uint64, found bool) {
	text = regexp.MustCompile(`^@\d+ `).ReplaceAllString(text, "")
	for _, out := range []bool{false, true} {
		for _, v6 := range []bool{false, true} {
			for _, x := range r.Rules(Active, out, v6) {
				x.At = -1
				if x.String() == text {
					n, found = n+x.Hits, true
				}
			}
		}
	}
	return n, found
}

// Every line of the grammar is read, printed back, and seen to act: on a packet that it is about, and not
// on another one. Every word of the language is in one.
func TestEveryLineOfTheGrammar(t *testing.T) {
	missing := map[string]string{}
	for what, list := range ipl.Words() {
		for _, w := range list {
			missing[w] = what
		}
	}
	token := regexp.MustCompile(`[A-Za-z0-9_/.-]+|[=<>!:]+`)
	for _, l := range append(slices.Clone(grammar), generated(t)...) {
		for _, w := range token.FindAllString(l.rule, -1) {
			for _, part := range append(strings.FieldsFunc(w, func(c rune) bool { return c == '/' || c == '.' }), w) {
				delete(missing, part)
			}
		}
		if strings.Contains(l.rule, ":") {
			delete(missing, ":")
		}
		rules, err := ipl.Parse("t", []byte(l.rule), ipl.Options{})
		if err != nil || len(rules) != 1 && !l.many {
			t.Errorf("%s: %d rules, %v", l.rule, len(rules), err)
			continue
		}
		want := l.print
		if want == "" {
			want = l.rule
		}
		if got := rules[0].String(); got != want {
			t.Errorf("%s is printed as %s, want %s", l.rule, got, want)
		}
		bench := func() *rig {
			r := newRig(t)
			if l.prep != nil {
				l.prep(r)
			}
			if rules[0].Action == ipl.Pass {
				if _, err := r.env.MIB.Set("net.inet.ipf.fr_pass", "0"); err != nil {
					t.Fatal(err)
				}
			}
			loadText(t, r, strings.Join([]string{l.first, l.rule, l.rest}, "\n"))
			return r
		}
		r := bench()
		if n, found := r.hitsOf(want); n != 0 || !found {
			t.Errorf("%s: not among the rules", l.rule)
		}
		for _, p := range l.after {
			r.see(p)
		}
		if got := r.see(l.yes); got != l.does {
			t.Errorf("%s: %+v: %s, want %s", l.rule, l.yes, got, l.does)
		}
		if n, _ := r.hitsOf(want); n == 0 {
			t.Errorf("%s: %+v does not match", l.rule, l.yes)
		}
		r = bench()
		r.see(l.no)
		if n, _ := r.hitsOf(want); n != 0 {
			t.Errorf("%s: %+v matches", l.rule, l.no)
		}
	}
	delete(missing, "ip")     // protocol 0, which a packet of the bench cannot have
	delete(missing, "hopopt") // the same
	for w, what := range missing {
		t.Errorf("no line has the %s %q", what, w)
	}
}

// What a line cannot show by one packet.
func TestLimitsOfLines(t *testing.T) {
	r := newRig(t)
	smallLog(r)
	loadText(t, r, "pass in log or-block proto udp from any to any keep state (age 10/20)")
	for n := range 20 {
		r.want("a packet to be logged", r.send(r.en0, false, pk{sport: uint16(n + 1)}.octets()), n < 16)
	}
	if ttl := r.States(0, 0)[0].TTL; ttl != 10*second {
		t.Errorf("known for %d s, want 10", ttl/second)
	}
	r.send(r.en1, false, pk{src: outer, dst: inner, sport: 53, dport: 1}.octets())
	longest := int64(0)
	for _, s := range r.States(0, 0) {
		longest = max(longest, s.TTL)
	}
	if longest != 20*second {
		t.Errorf("known for %d s after an answer, want 20", longest/second)
	}
}
