package ipnat

import (
	"testing"

	"ionet/stack/packet"
)

func TestEndpointIndependent(t *testing.T) {
	r := newRig(t, "map out0 10.0.0.0/8 -> 0/32 portmap tcp/udp 40000:40001")
	r.env.MIB.Put(nodeEIM, 1)
	port := packet.UDP(r.says(out, udp("10.0.0.1", 40001, "198.51.100.1", 53), "udp 192.0.2.1:40001 > 198.51.100.1:53")[20:]).SrcPort()
	r.says(out, udp("10.0.0.2", 40001, "198.51.100.2", 53), "udp 192.0.2.1:40000 > 198.51.100.2:53") // the other one's port is not free for other remote ends
	r.says(out, udp("10.0.0.1", 40001, "198.51.100.2", 53), "udp 192.0.2.1:40001 > 198.51.100.2:53")
	r.says(in, udp("203.0.113.9", 7, "192.0.2.1", port), "udp 203.0.113.9:7 > 10.0.0.1:40001") // from anybody
	r.says(out, udp("10.0.0.1", 40001, "203.0.113.9", 7), "udp 192.0.2.1:40001 > 203.0.113.9:7")
	r.says(out, udp("10.0.0.3", 5, "198.51.100.3", 53), "refused")
	r.says(in, tcp("203.0.113.9", 7, "192.0.2.1", port, packet.TCPSyn), "untouched")
	r.env.MIB.Put(nodeEIM, 0)
	r.says(in, udp("203.0.113.8", 7, "192.0.2.1", port), "untouched")
}

// Two inside hosts that know each other by their outer ends (RFC 4787 REQ-9).
func TestHairpin(t *testing.T) {
	r := newRig(t, "map out0 10.0.0.0/8 -> 0/32 portmap tcp/udp 40000:40009")
	r.env.MIB.Put(nodeEIM, 1)
	r.says(out, udp("10.0.0.1", 40001, "198.51.100.1", 53), "udp 192.0.2.1:40001 > 198.51.100.1:53")
	r.says(out, udp("10.0.0.2", 40002, "198.51.100.1", 53), "udp 192.0.2.1:40002 > 198.51.100.1:53")
	r.inner = true
	for range 2 {
		r.says(in, udp("10.0.0.1", 40001, "192.0.2.1", 40002), "udp 192.0.2.1:40001 > 10.0.0.2:40002")
		r.says(in, udp("10.0.0.2", 40002, "192.0.2.1", 40001), "udp 192.0.2.1:40002 > 10.0.0.1:40001")
	}
	r.says(in, udp("172.16.0.1", 5, "192.0.2.1", 40001), "untouched")
	r.says(in, udp("10.0.0.1", 40001, "192.0.2.1", 40009), "untouched")
	r.fast(r.in0, r.in0, udp("10.0.0.1", 40001, "192.0.2.1", 40002), "udp 192.0.2.1:40001 > 10.0.0.2:40002")
	r.fast(r.in0, r.in0, udp("10.0.0.2", 40002, "192.0.2.1", 40001), "udp 192.0.2.1:40002 > 10.0.0.1:40001")
	r.fast(r.in0, r.in0, udp("10.0.0.2", 9, "192.0.2.1", 40001), "no")
	if s := r.Stats(); s.InUse != 4 {
		t.Errorf("%+v", s)
	}
}

// An inside host reaches an inside server by the outer end that a redirection gives it, and
// nobody has been there before.
func TestHairpinRedirect(t *testing.T) {
	r := newRig(t, "rdr out0 0/32 port 80 -> 10.0.0.3 port 8080 tcp", "map out0 10.0.0.0/8 -> 0/32 portmap tcp/udp 40000:40009",
		"bimap out0 10.9.0.9/32 -> 203.0.113.9/32")
	r.inner = true
	ask := tcp("10.0.0.1", 40001, "192.0.2.1", 80, packet.TCPSyn)
	r.says(in, ask, "untouched")
	r.env.MIB.Put(nodeEIM, 1)
	r.says(in, tcp("172.16.0.1", 5, "192.0.2.1", 80, packet.TCPSyn), "untouched") // nobody would translate its source
	r.says(in, tcp("10.0.0.1", 5, "192.0.2.1", 81, packet.TCPSyn), "untouched")
	r.sockets("tcp 192.0.2.1:80 10.0.0.1:5")
	r.says(in, tcp("10.0.0.1", 5, "192.0.2.1", 80, packet.TCPAck), "untouched")
	const there, back = "tcp 192.0.2.1:40001 > 10.0.0.3:8080", "tcp 192.0.2.1:80 > 10.0.0.1:40001"
	r.says(in, ask, there)
	r.says(in, tcp("10.0.0.3", 8080, "192.0.2.1", 40001, packet.TCPSyn|packet.TCPAck), back)
	r.fast(r.in0, r.in0, tcp("10.0.0.1", 40001, "192.0.2.1", 80, packet.TCPAck), there)
	r.fast(r.in0, r.in0, tcp("10.0.0.3", 8080, "192.0.2.1", 40001, packet.TCPAck), back)
	about := tcp("192.0.2.1", 40001, "10.0.0.3", 8080, packet.TCPAck)
	r.says(in, unreachable("10.0.0.3", "192.0.2.1", about), "error 192.0.2.1 > 10.0.0.1 about tcp 10.0.0.1:40001 > 192.0.2.1:80")
	r.says(in, unreachable("10.0.0.7", "192.0.2.1", about), "error 10.0.0.7 > 10.0.0.1 about tcp 10.0.0.1:40001 > 192.0.2.1:80")
	r.says(in, unreachable("10.0.0.7", "192.0.2.2", about), "refused")
	r.says(in, tcp("10.0.0.3", 40002, "192.0.2.1", 80, packet.TCPSyn), "tcp 192.0.2.1:40002 > 10.0.0.3:8080") // it asks itself
	r.says(in, tcp("10.0.0.1", 40004, "203.0.113.9", 22, packet.TCPSyn), "tcp 192.0.2.1:40004 > 10.9.0.9:22")
	r.inner = false
	r.says(in, tcp("198.51.100.1", 9, "192.0.2.1", 80, packet.TCPSyn), "tcp 198.51.100.1:9 > 10.0.0.3:8080")
	if s := r.Stats(); s.InUse != 7 || s.Bad != 0 {
		t.Errorf("%+v", s)
	}
}
