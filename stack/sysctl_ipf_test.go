package stack_test

import (
	"fmt"
	"strings"
	"time"

	"ionet/ipl"
	"ionet/stack/ipfilter"
	"ionet/stack/packet"
	rig "ionet/stack/stacktest"
)

// Stations that talk past us: the filter sees what comes, and it goes no further.
const ipfHere, ipfThere = "10.0.0.2", "10.0.9.9"

// load hangs a filter with these rules into the stack.
func load(r *rig.Rig, text string) *ipfilter.Filter {
	f, err := r.LoadFilter()
	if err != nil {
		r.Fatal(err)
	}
	rules, err := ipl.Parse("rules", []byte(text), ipl.Options{})
	if err != nil {
		r.Fatal(err)
	}
	var ops []ipfilter.Op
	for _, x := range rules {
		ops = append(ops, ipfilter.Op{Kind: ipfilter.Add, Rule: x})
	}
	if err := f.Edit(ops); err != nil {
		r.Fatal(err)
	}
	return f
}

func ipfFrame(back bool, proto uint8, data ...byte) []byte {
	p := rig.IP{Src: ipfHere, Dst: ipfThere, Proto: proto, Data: data}
	if back {
		p.Src, p.Dst = p.Dst, p.Src
	}
	return p.Frame()
}

func ipfSegment(back bool, flags uint8, seq, ack uint32) []byte {
	b, sport, dport := make([]byte, packet.TCPLen), uint16(1025), uint16(80)
	if back {
		sport, dport = dport, sport
	}
	packet.PutTCP(b, sport, dport, seq, ack, packet.TCPLen, flags, 1000, 0, 0)
	return ipfFrame(back, packet.ProtoTCP, b...)
}

func ipfDatagram(back bool, port uint16) []byte {
	b, sport, dport := make([]byte, packet.UDPLen), port, uint16(53)
	if back {
		sport, dport = dport, sport
	}
	packet.PutUDP(b, sport, dport, packet.UDPLen, 0)
	return ipfFrame(back, packet.ProtoUDP, b...)
}

// ipfFragment is 32 octets of a datagram.
func ipfFragment(id, off int, more bool) []byte {
	b := make([]byte, 32)
	packet.PutUDP(b, 1025, 53, 64, 0)
	p := rig.IP{Src: ipfHere, Dst: ipfThere, ID: uint16(id), Frag: uint16(off / 8), Proto: packet.ProtoUDP, Data: b}
	if more {
		p.Frag |= packet.IPv4MF
	}
	return p.Frame()
}

const ipfKeep = "block in all\npass in quick from " + ipfHere + " to any keep state keep frags\n"

// ipfState is what the filter knows after these packets, and for how long.
func ipfState(frames ...[]byte) func(*rig.Rig) string {
	return func(r *rig.Rig) string {
		f := load(r, ipfKeep)
		defer f.FlushStates(true) // a day is longer than the rig waits
		r.SendWire(frames...)
		all := f.States(0, 0)
		if len(all) == 0 {
			return "no state"
		}
		return fmt.Sprintf("%d states, %d s", len(all), all[0].TTL/int64(time.Second))
	}
}

func ipfConnection(more ...[]byte) func(*rig.Rig) string {
	const syn, ack = packet.TCPSyn, packet.TCPAck
	return ipfState(append([][]byte{ipfSegment(false, syn, 100, 0), ipfSegment(true, syn|ack, 200, 101), ipfSegment(false, ack, 101, 201)}, more...)...)
}

// blockedBy is how many of the packets go no further.
func blockedBy(text string, frames ...[]byte) func(*rig.Rig) string {
	return func(r *rig.Rig) string {
		f := load(r, text)
		r.SendWire(frames...)
		return fmt.Sprint(f.Stats().In.Blocked, " blocked")
	}
}

// ipfLogged is the events of the packets' log.
func ipfLogged(text string, frames ...[]byte) func(*rig.Rig) string {
	return func(r *rig.Rig) string {
		f := load(r, text)
		r.SendWire(frames...)
		records, _ := f.ReadLog(ipfilter.PacketLog, 100)
		s := ""
		for _, x := range records {
			s += fmt.Sprintf("%d of %d octets,", x.Event, len(x.Packet))
		}
		return s
	}
}

var ipfEffects = map[string]effect{
	"net.inet.ipf.fr_flags": {"0x70000000", "", ipfLogged("block in quick proto 99 all\npass in quick proto udp all",
		ipfFrame(false, 99, 1), ipfDatagram(false, 1), ipfFrame(false, 98, 1)), "", "2 of 21 octets,1 of 28 octets,7 of 21 octets,"},
	"net.inet.ipf.ipl_logall": {"1", "", ipfLogged("pass in log all", ipfFrame(false, 99, make([]byte, 40)...)), "1 of 28 octets,", "1 of 60 octets,"},
	"net.inet.ipf.ipstate_logging": {"0", "", func(r *rig.Rig) string {
		f := load(r, ipfKeep)
		r.SendWire(ipfDatagram(false, 1))
		return fmt.Sprint(f.Waiting(ipfilter.StateLog), " wait")
	}, "1 wait", "0 wait"},
	"net.inet.ipf.fr_icmpminfragmtu": {"1000", "", func(r *rig.Rig) string {
		f := load(r, "block in all with bad")
		for _, mtu := range []uint32{0, 60, 600} {
			r.SendWire(ipfFrame(false, packet.ProtoICMP, rig.ICMP(3, 4, mtu, ipfDatagram(true, 1)[14:])...))
		}
		return fmt.Sprint(f.Stats().In.Blocked, " blocked")
	}, "1 blocked", "2 blocked"},
	"net.inet.ipf.fr_unreach": {"10", "", func(r *rig.Rig) string {
		r.Meet("10.0.0.2")
		load(r, "block return-icmp in all")
		r.Sent()
		r.SendWire(rig.UDP("10.0.0.2", "10.0.0.1", 1025, 53, "x"))
		s, _, _ := strings.Cut(frames(r), " quotes")
		return s
	}, unreach + "3", unreach + "10"},
	"net.inet.ipf.fr_update_ipid": {"1", "net.inet.ip.forwarding=1", func(r *rig.Rig) string {
		load(r, "")
		across("10.0.0.2", "10.0.1.2", 1)(r)
		ids, sums := map[uint16]bool{}, true
		for id := range uint16(100) {
			r.SendWire(rig.IP{Src: "10.0.0.2", Dst: "10.0.1.2", ID: id, Proto: 99, Data: make([]byte, 8)}.Frame())
			h := packet.IPv4(r.Sent()[0][packet.EtherLen:])
			ids[h.ID()], sums = true, sums && h.ChecksumOK()
		}
		kept := 0
		for id := range uint16(100) {
			if ids[id] {
				kept++
			}
		}
		return fmt.Sprint(len(ids), " identifications, kept: ", kept > 10, ", sums: ", sums)
	}, "100 identifications, kept: true, sums: true", "100 identifications, kept: false, sums: true"},
	"net.inet.ipf.fr_control_forwarding": {"3", "", func(r *rig.Rig) string {
		forwards := func() string { v, _ := r.Env.MIB.Get("net.inet.ip.forwarding"); return v }
		load(r, "")
		with := forwards()
		r.Sysctl("net.inet.ip.forwarding", "1")
		_ = r.UnloadFilter()
		return with + " with a filter, then " + forwards()
	}, "0 with a filter, then 1", "1 with a filter, then 0"},
	"net.inet.ipf.fr_pass":           {"0", "", blockedBy("", ipfDatagram(false, 1)), "0 blocked", "1 blocked"},
	"net.inet.ipf.fr_minttl":         {"100", "", blockedBy("block in all with lowttl", ipfDatagram(false, 1)), "0 blocked", "1 blocked"},
	"net.inet.ipf.fr_statemax":       {"2", "", ipfState(ipfDatagram(false, 1), ipfDatagram(false, 2), ipfDatagram(false, 3)), "3 states, 120 s", "2 states, 120 s"},
	"net.inet.ipf.fr_udptimeout":     {"50", "", ipfState(ipfDatagram(false, 1)), "1 states, 120 s", "1 states, 50 s"},
	"net.inet.ipf.fr_udpacktimeout":  {"50", "", ipfState(ipfDatagram(false, 1), ipfDatagram(true, 1)), "1 states, 120 s", "1 states, 50 s"},
	"net.inet.ipf.fr_icmptimeout":    {"50", "", ipfState(ipfFrame(false, packet.ProtoICMP, 8, 0, 0, 0, 0, 1, 0, 1)), "1 states, 60 s", "1 states, 50 s"},
	"net.inet.ipf.fr_icmpacktimeout": {"9", "", ipfState(ipfFrame(false, packet.ProtoICMP, 8, 0, 0, 0, 0, 1, 0, 1), ipfFrame(true, packet.ProtoICMP, 0, 0, 0, 0, 0, 1, 0, 1)), "1 states, 6 s", "1 states, 9 s"},
	"net.inet.ipf.fr_iptimeout":      {"50", "", ipfState(ipfFrame(false, 99, 1)), "1 states, 60 s", "1 states, 50 s"},
	"net.inet.ipf.fr_tcptimeout":     {"50", "", ipfState(ipfSegment(false, packet.TCPSyn, 100, 0)), "1 states, 240 s", "1 states, 50 s"},
	"net.inet.ipf.fr_tcpidletimeout": {"500", "", ipfConnection(), "1 states, 432000 s", "1 states, 500 s"},
	"net.inet.ipf.fr_tcphalfclosed":  {"500", "", ipfConnection(ipfSegment(false, packet.TCPFin|packet.TCPAck, 101, 201)), "1 states, 7200 s", "1 states, 500 s"},
	"net.inet.ipf.fr_tcplastack": {"50", "", ipfConnection(ipfSegment(false, packet.TCPFin|packet.TCPAck, 101, 201), ipfSegment(true, packet.TCPFin|packet.TCPAck, 201, 102)),
		"1 states, 30 s", "1 states, 50 s"},
	"net.inet.ipf.fr_tcpclosed": {"50", "", ipfConnection(ipfSegment(true, packet.TCPRst, 201, 0)), "1 states, 30 s", "1 states, 50 s"},
	"net.inet.ipf.ipfr_ttl": {"10", "", func(r *rig.Rig) string {
		f := load(r, ipfKeep)
		r.SendWire(ipfFragment(7, 0, true))
		r.Pass(30 * time.Second)
		r.SendWire(ipfFragment(7, 32, false))
		return fmt.Sprint(f.Stats().In.KnownFrags, " known")
	}, "1 known", "0 known"},
	"net.inet.ipf.ipfr_size": {"1", "", func(r *rig.Rig) string {
		f := load(r, ipfKeep)
		r.SendWire(ipfFragment(7, 0, true), ipfFragment(8, 0, true), ipfFragment(7, 32, false))
		return fmt.Sprint(f.Stats().In.KnownFrags, " known")
	}, "1 known", "0 known"},
	"net.inet.ipf.logsize": {"16", "", func(r *rig.Rig) string {
		f := load(r, "pass in log all")
		for range 20 {
			r.SendWire(ipfDatagram(false, 1))
		}
		return fmt.Sprint(f.Waiting(ipfilter.PacketLog), " wait")
	}, "20 wait", "16 wait"},
}
