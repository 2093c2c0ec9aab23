package stack_test

import (
	"fmt"
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

var ipfEffects = map[string]effect{
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
