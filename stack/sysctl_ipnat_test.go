package stack_test

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"time"

	"ionet/ipl"
	"ionet/stack/ipnat"
	"ionet/stack/packet"
	rig "ionet/stack/stacktest"
)

// natRouter is a router from en0 to en1 that translates what goes there to its
// own address, ports kept.
func natRouter(r *rig.Rig) {
	r.Helper()
	across("10.0.0.2", "10.0.1.2", 1)(r)
	if err := r.AddNeighbour(r.If, netip.MustParseAddr("10.0.0.2"), rig.Peer, 0, 0); err != nil {
		r.Fatal(err)
	}
	load(r, "pass in all")
	translate(r, "map en1 10.0.0.0/24 -> 10.0.1.1/32")
	r.Sent()
}

// natOut is a packet of 10.0.0.2 to 10.0.1.2.
func natOut(proto uint8, data []byte) rig.IP {
	return rig.IP{Src: "10.0.0.2", Dst: "10.0.1.2", Proto: proto, Data: data}
}

func natDatagram(port uint16) rig.IP {
	return natOut(packet.ProtoUDP, rig.Datagram("10.0.0.2", "10.0.1.2", port, 53, "x"))
}

// natAge is for how long the session of these packets is kept; those with a source outside come from there.
func natAge(ps ...rig.IP) func(r *rig.Rig) string {
	return func(r *rig.Rig) string {
		natRouter(r)
		for _, p := range ps {
			if p.Src == "10.0.0.2" {
				r.SendWire(p.FrameTo(rig.Me, rig.Peer))
			} else {
				r.SendOn(r.Env.Ifs.ByName("en1"), p.FrameTo(rig.Me1, rig.Peer1))
			}
		}
		all := r.NAT().Sessions(0, 0)
		if len(all) != 1 {
			return fmt.Sprint(len(all), " sessions")
		}
		return fmt.Sprint(all[0].TTL/int64(time.Second), " s")
	}
}

func natSegment(back bool, flags uint8, seq, ack uint32) rig.IP {
	b := make([]byte, packet.TCPLen)
	if back {
		packet.PutTCP(b, 80, 1025, seq, ack, packet.TCPLen, flags, 1000, 0, 0)
		return rig.IP{Src: "10.0.1.2", Dst: "10.0.1.1", Proto: packet.ProtoTCP, Data: b}
	}
	packet.PutTCP(b, 1025, 80, seq, ack, packet.TCPLen, flags, 1000, 0, 0)
	return natOut(packet.ProtoTCP, b)
}

// natThree has three conversations begin.
func natThree(say func(r *rig.Rig) string) func(r *rig.Rig) string {
	return func(r *rig.Rig) string {
		natRouter(r)
		for port := range uint16(3) {
			r.SendWire(natDatagram(2000+port).FrameTo(rig.Me, rig.Peer))
		}
		return say(r)
	}
}

// natFragments is how many of a datagram's two fragments come out, with a pause between them.
func natFragments(pause time.Duration) func(r *rig.Rig) string {
	return func(r *rig.Rig) string {
		natRouter(r)
		first, later := natDatagram(1025), natDatagram(1025)
		first.Data, first.ID, first.Frag = append(first.Data, make([]byte, 24-len(first.Data)%24)...)[:24], 7, packet.IPv4MF
		later.Data, later.ID, later.Frag = make([]byte, 8), 7, 3
		r.SendWire(first.FrameTo(rig.Me, rig.Peer))
		r.Pass(pause)
		r.SendWire(later.FrameTo(rig.Me, rig.Peer))
		n := 0
		for _, f := range r.Sent() {
			if h := packet.IPv4(f[packet.EtherLen:]); f[12] == 8 && f[13] == 0 && h.Src() == netip.MustParseAddr("10.0.1.1") && h.Dst() == netip.MustParseAddr("10.0.1.2") && h.Proto() == packet.ProtoUDP {
				n++
			}
		}
		return fmt.Sprint(n, " fragments")
	}
}

var natEffects = map[string]effect{
	"net.inet.ipf.ipnat_eim":        {"1", "net.inet.ip.forwarding=1", strangers, "0 came through", "1 came through"},
	"net.inet.ipf.fr_defnatage":     {"7", "net.inet.ip.forwarding=1", natAge(natDatagram(1025)), "300 s", "7 s"},
	"net.inet.ipf.fr_defnatipage":   {"7", "net.inet.ip.forwarding=1", natAge(natOut(99, make([]byte, 8))), "60 s", "7 s"},
	"net.inet.ipf.fr_defnaticmpage": {"7", "net.inet.ip.forwarding=1", natAge(natOut(packet.ProtoICMP, rig.ICMP(packet.ICMPEcho, 0, 1<<16|2, nil))), "60 s", "7 s"},
	"net.inet.ipf.ipnat_tcptransitory": {"7", "net.inet.ip.forwarding=1", natAge(natSegment(false, packet.TCPSyn, 100, 0)),
		"240 s", "7 s"},
	"net.inet.ipf.ipnat_tcpidle": {"7", "net.inet.ip.forwarding=1", natAge(natSegment(false, packet.TCPSyn, 100, 0),
		natSegment(true, packet.TCPSyn|packet.TCPAck, 200, 101), natSegment(false, packet.TCPAck, 101, 201)), "7440 s", "7 s"},
	"net.inet.ipf.ipf_nattable_max": {"1", "net.inet.ip.forwarding=1", natThree(func(r *rig.Rig) string { return fmt.Sprint(r.NAT().Stats().InUse, " sessions") }),
		"3 sessions", "1 sessions"},
	"net.inet.ipf.ipnat_logging":   {"0", "net.inet.ip.forwarding=1", natThree(natLogged), "3 records", "0 records"},
	"net.inet.ipf.ipnat_logsize":   {"2", "net.inet.ip.forwarding=1", natThree(natLogged), "3 records", "2 records"},
	"net.inet.ipf.ipnat_expectage": {"7", "net.inet.ip.forwarding=1", natExpected, "1 came in", "0 came in"},
	"net.inet.ipf.ipnat_fragmax":   {"0", "net.inet.ip.forwarding=1", natFragments(0), "2 fragments", "1 fragments"},
	"net.inet.ipf.ipnat_fragttl":   {"1", "net.inet.ip.forwarding=1", natFragments(3 * time.Second), "2 fragments", "1 fragments"},
}

// natExpected is how many data connections come in that an FTP client has announced 10 seconds before.
func natExpected(r *rig.Rig) string {
	natRouter(r)
	ops, err := ipl.ParseNAT("test", []byte("map en1 10.0.0.0/24 -> 10.0.1.1/32 proxy port 21 ftp/tcp"), ipl.Options{})
	if err != nil {
		r.Fatal(err)
	}
	if err := r.NAT().Edit([]ipnat.Op{{Kind: ipnat.FlushRules}, {Kind: ipnat.Add, Rule: ops[0]}}); err != nil {
		r.Fatal(err)
	}
	r.SendWire(ftpSegment("10.0.0.2", "10.0.1.2", 1025, 21, 100, 500, packet.TCPAck, "PORT 10,0,0,2,19,137\r\n").FrameTo(rig.Me, rig.Peer))
	r.Pass(10 * time.Second)
	r.Sent()
	r.SendOn(r.Env.Ifs.ByName("en1"), ftpSegment("10.0.1.2", "10.0.1.1", 20, 5001, 1, 0, packet.TCPSyn, "").FrameTo(rig.Me1, rig.Peer1))
	n := 0
	for _, f := range r.Sent() {
		if h := packet.IPv4(f[packet.EtherLen:]); f[12] == 8 && f[13] == 0 && h.Dst() == netip.MustParseAddr("10.0.0.2") {
			n++
		}
	}
	return fmt.Sprint(n, " came in")
}

// ftpSegment is a segment with its checksum.
func ftpSegment(src, dst string, sport, dport uint16, seq, ack uint32, flags uint8, data string) rig.IP {
	b := make([]byte, packet.TCPLen+len(data))
	packet.PutTCP(b, sport, dport, seq, ack, packet.TCPLen, flags, 1000, 0, 0)
	copy(b[packet.TCPLen:], data)
	h := make([]byte, packet.IPv4Len)
	packet.PutIPv4(h, 0, len(h)+len(b), 1, 0, 64, packet.ProtoTCP, netip.MustParseAddr(src), netip.MustParseAddr(dst), nil)
	binary.BigEndian.PutUint16(b[packet.TCPCsumOffset:], ^packet.Fold(packet.Sum(packet.HeaderPseudoSum(h, packet.ProtoTCP, len(b)), b)))
	return rig.IP{Src: src, Dst: dst, Proto: packet.ProtoTCP, Data: b}
}

func natLogged(r *rig.Rig) string {
	recs, _ := r.NAT().ReadLog(100)
	return fmt.Sprint(len(recs), " records")
}

// strangers is what comes through to an inside end whose outer one somebody else writes to.
func strangers(r *rig.Rig) string {
	across("10.0.0.2", "10.0.1.2", 1)(r)
	if err := r.AddNeighbour(r.If, netip.MustParseAddr("10.0.0.2"), rig.Peer, 0, 0); err != nil {
		r.Fatal(err)
	}
	load(r, "pass in all")
	translate(r, "map en1 10.0.0.0/24 -> 10.0.1.1/32 portmap udp 40000:40000")
	r.SendWire(rig.IP{Src: "10.0.0.2", Dst: "10.0.1.2", Proto: packet.ProtoUDP, Data: rig.Datagram("10.0.0.2", "10.0.1.2", 1025, 53, "x")}.FrameTo(rig.Me, rig.Peer))
	r.Sent()
	r.SendOn(r.Env.Ifs.ByName("en1"), rig.IP{Src: "10.0.1.9", Dst: "10.0.1.1", Proto: packet.ProtoUDP, Data: rig.Datagram("10.0.1.9", "10.0.1.1", 99, 40000, "y")}.FrameTo(rig.Me1, rig.Peer1))
	n := 0
	for _, f := range r.Sent() {
		if h := packet.IPv4(f[packet.EtherLen:]); f[12] == 8 && f[13] == 0 && h.Dst() == netip.MustParseAddr("10.0.0.2") {
			n++
		}
	}
	return fmt.Sprint(n, " came through")
}
