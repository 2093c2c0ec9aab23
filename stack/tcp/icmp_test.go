package tcp_test

import (
	"fmt"
	"testing"
	"time"

	"ionet/stack/packet"
	. "ionet/stack/stacktest"
)

// told is an ICMP error about a segment of ours.
func told(r *Rig, e *End, code uint8, rest uint32, line string) {
	q, _, _ := ParseSegment(line)
	r.Send(IP{Src: "10.0.0.2", Dst: "10.0.0.1", Proto: packet.ProtoICMP, Data: ICMP(packet.ICMPUnreach, code, rest, e.Quote(q)[:packet.IPv4Len+8])}.Frame())
}

// RFC 1122 §4.2.3.9 and RFC 5927 §6: an attempt ends with a hard error, and not
// with a soft one, which is why it failed in the end.
func TestUnreachableWhileConnecting(t *testing.T) {
	for _, c := range []struct {
		code     uint8
		now, end string
	}{
		{packet.ICMPUnreachPort, refused, refused},
		{2, refused, refused}, // protocol
		{1, again, "no route to host"},
		{0, again, "network is unreachable"},
	} {
		t.Run(fmt.Sprint(c.code), func(t *testing.T) {
			r := New(t)
			s := r.Stream("10.0.0.1:5000")
			e := r.End("10.0.0.2:80", "10.0.0.1:5000")
			_ = s.Connect("10.0.0.2:80")
			e.Got("SEW 0 <mss 1460 wscale 8 sackOK>")
			told(r, e, c.code, 0, "S 77") // not of this connection
			says(t, "a forgery", s.Read(9, 0), again)
			told(r, e, c.code, 0, "S 0")
			if c.now != again {
				says(t, "read", s.Read(9, 0), c.now)
				says(t, "state", state(r), "CLOSED")
				return
			}
			says(t, "state", state(r), "SYN_SENT")
			r.Pass(80 * time.Second)
			r.Sent()
			says(t, "read", s.Read(9, 0), c.end)
		})
	}
}

// A connection that is open lives on, whatever the network says (RFC 5927 §6).
func TestUnreachableWhileOpen(t *testing.T) {
	r := New(t)
	s, e := r.Dial(bare)
	s.Put(1, 10)
	e.Got("P. 1+10 ack 1")
	for code := range uint8(16) {
		if code != packet.ICMPUnreachNeedFrag {
			told(r, e, code, 0, ". 1")
		}
	}
	says(t, "state", state(r), "ESTABLISHED")
	e.Send(". 1 ack 11")
	s.Put(11, 10)
	e.Got("P. 11+10 ack 1")
	told(r, e, 1, 0, ". 11")
	for range 10 {
		r.Pass(time.Minute)
		r.Meet("10.0.0.2")
	}
	says(t, "read", s.Read(9, 0), "no route to host")
}

// An embryo goes when its SYN and ACK was sent more than once and cannot be
// delivered.
func TestUnreachableEmbryo(t *testing.T) {
	r := New(t)
	r.Listen(":80", 5)
	e := r.End("10.0.0.2:5000", "10.0.0.1:80")
	e.Send("S 0")
	e.Lines()
	told(r, e, 3, 0, "S. 0")
	r.Pass(1100 * time.Millisecond)
	if n := len(e.Lines()); n != 1 {
		t.Fatalf("%d SYN and ACKs, want one more", n)
	}
	told(r, e, 3, 0, "S. 5")
	r.Counts("tcp", "syn cache unreachable", func() { told(r, e, 3, 0, "S. 0") })
	r.Pass(time.Minute)
	e.Got()
}

// A router that tells of a smaller MTU is believed about what is in flight,
// which is sent again at once in smaller pieces (RFC 1191, RFC 5927 §7).
func TestPathMTU(t *testing.T) {
	r := New(t)
	r.Sysctl("net.inet.ip.mtudisc", "1")
	s, e := r.Dial(bare)
	s.Put(1, 2*1460)
	for _, f := range r.Sent() {
		if packet.IPv4(f[14:]).FragField()&packet.IPv4DF == 0 {
			t.Error("it may be fragmented")
		}
		e.Take(f)
	}
	told(r, e, packet.ICMPUnreachNeedFrag, 1300, ". 5000") // not in flight
	e.Got()
	told(r, e, packet.ICMPUnreachNeedFrag, 1300, ". 1461")
	e.Got(". 1+1260 ack 1", ". 1261+1260 ack 1", "P. 2521+400 ack 1")
	if i, _ := r.TCP.InfoOf(s.ID); int(i.MTU) != PathMTU(1300) || i.Cwnd < 10*1260 {
		t.Errorf("MTU %d, window %d", i.MTU, i.Cwnd)
	}
	told(r, e, packet.ICMPUnreachNeedFrag, 1400, ". 1") // larger: no news
	told(r, e, packet.ICMPUnreachNeedFrag, 1, ". 1")    // nonsense
	e.Lines()
	e.Send(". 1 ack 2921")
	s.Put(2921, 1000)
	for _, x := range e.Segments() {
		if len(x.Data) > 1260 || len(x.Data) < 256 {
			t.Errorf("a segment of %d", len(x.Data))
		}
	}
}
