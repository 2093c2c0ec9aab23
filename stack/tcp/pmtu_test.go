package tcp_test

import (
	"fmt"
	"testing"
	"time"

	"ionet/stack/socket"
	. "ionet/stack/stacktest"
)

// A probe of the path's MTU that is lost is no congestion (RFC 4821 §7.5), and
// its octets are sent again, in segments that pass, as soon as the reordering
// timer says that they are lost: nothing else may come to have them sent.
func TestLostMTUProbeIsSentAgain(t *testing.T) {
	r := far(t)
	r.Sysctl("net.inet.tcp.tlp", "0")
	s, e := r.Dial(bare + " sackOK")
	s.Flag(socket.SOSndBuf, 1<<20)
	s.Put(1, 400000)
	small := 1200 - 40 // what passes
	if Over6() {
		small = 1280 - 60
	}
	next, probe := 1, 0
	for k := 0; k < 200 && probe == 0; k++ {
		for _, x := range e.Segments() {
			n := len(x.Data)
			switch {
			case n > small && Counter(r.Stack, "tcp", "MTU probes") > 0:
				probe = int(x.Seq)
			case n <= small && int(x.Seq) == next:
				next += n
			}
		}
		r.Pass(20 * time.Millisecond)
		e.Send(fmt.Sprint(". 1 ack ", next))
	}
	if probe == 0 || next != probe {
		t.Fatalf("no probe came in time: %d octets", next)
	}
	timeouts := Counter(r.Stack, "tcp", "retransmit timeouts")
	e.Lines()
	behind := probe + 1460
	e.Send(fmt.Sprintf(". 1 ack %d <sack %d-%d>", probe, behind, behind+small))
	for _, x := range e.Segments() {
		if int(x.Seq) < behind {
			t.Fatalf("sent again too early: %v", x.String())
		}
	}
	r.Pass(8 * time.Millisecond)
	e.Got(fmt.Sprintf(". %d+%d ack 1", probe, small), fmt.Sprintf(". %d+%d ack 1", probe+small, 1460-small))
	if n := Counter(r.Stack, "tcp", "recoveries"); n != 0 || Counter(r.Stack, "tcp", "retransmit timeouts") != timeouts {
		t.Errorf("it was taken for congestion")
	}
}
