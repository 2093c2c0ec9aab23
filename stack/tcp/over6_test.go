package tcp_test

import (
	"net/netip"
	"testing"
	"time"

	"ionet/stack/netif"
	"ionet/stack/packet"
	"ionet/stack/socket"
	. "ionet/stack/stacktest"
)

// witness is IPv6 that keeps what TCP says to it.
type witness struct {
	socket.Network
	labels    map[uint32]int
	confirmed int
	ext       *socket.Ext6 // what sockets wish for
}

func (n *witness) Output(w *netif.Work, pkt *packet.Buf, f *socket.Flow) error {
	n.labels[f.FlowLabel]++
	f.Ext = nil // the bench's words know no extension headers
	return n.Network.Output(w, pkt, f)
}

func (n *witness) Confirm(w *netif.Work, f *socket.Flow) {
	if f.Dst == Real(netip.MustParseAddr("10.0.0.2")) {
		n.confirmed++
	}
}

func (n *witness) NewOptions(so *socket.Socket) socket.NetOptions {
	return wishes{n.Network.NewOptions(so), n}
}

type wishes struct {
	socket.NetOptions
	n *witness
}

func (o wishes) Set(*netif.Work, int, int, []byte) error { return nil }
func (o wishes) Fill(f *socket.Flow)                     { f.Ext = o.n.ext }

func watched(t *testing.T) (*Rig, *witness) {
	r := New(t)
	n := &witness{Network: r.Inet6, labels: map[uint32]int{}}
	r.TCP.Over(true, n)
	return r, n
}

// All that is sent for one connection has its flow label, from the SYN cache's
// half of the handshake to the last reset (RFC 6437 §3).
func TestFlowLabel(t *testing.T) {
	if !Over6() {
		return
	}
	r, n := watched(t)
	s, e := r.Serve(bare)
	s.Put(1, 5000)
	e.Lines()
	e.Send(". 1", "P. 1+10")
	s.Abort()
	e.Lines()
	if len(n.labels) != 1 || n.labels[0] != 0 {
		t.Errorf("labels %v", n.labels)
	}
	r.End("10.0.0.2:6000", "10.0.0.1:80").Knock(bare)
	if len(n.labels) != 2 {
		t.Errorf("with another connection, labels %v", n.labels)
	}
	r.Sysctl("net.inet6.ip6.auto_flowlabel", "0")
	e.Send(". 77 ack 5")
	if n.labels[0] == 0 {
		t.Errorf("switched off, labels %v", n.labels)
	}
	r.Sent()
}

// The network layer hears that what is sent arrives, once a second (RFC 4861
// §7.3.1), and of nothing that does not.
func TestReachability(t *testing.T) {
	if !Over6() {
		return
	}
	r, n := watched(t)
	s, e := r.Dial(bare)
	says := func(what string, want int) {
		t.Helper()
		if n.confirmed != want {
			t.Errorf("%s: told %d times, want %d", what, n.confirmed, want)
		}
	}
	e.Send("P. 1+10")
	r.Pass(time.Second)
	says("received only", 0)
	at := 1
	for range 5 {
		s.Put(at, 10)
		at += 10
		e.Lines()
		e.Send(". 11")
	}
	says("five times acknowledged", 1)
	r.Pass(time.Second)
	s.Put(at, 10)
	e.Lines()
	says("sent", 1)
	e.Send(". 11")
	says("a second later", 2)
}

// Extension headers that the user wishes for are part of what fits (RFC 9293
// §3.7.1); with a routing header nothing is left to be cut.
func TestExtensionHeadersTakeRoom(t *testing.T) {
	if !Over6() {
		return
	}
	by := Real(netip.MustParseAddr("10.0.0.3")).As16()
	for _, c := range []struct {
		ext  socket.Ext6
		want int
	}{
		{socket.Ext6{Dst: make([]byte, 16)}, 1460 - 16},
		{socket.Ext6{RouteDst: make([]byte, 8)}, 1460}, // for nobody
		{socket.Ext6{RouteDst: make([]byte, 8), Routing: append([]byte{0, 2, 2, 1, 0, 0, 0, 0}, by[:]...)}, 1460 - 32},
	} {
		r, n := watched(t)
		s := r.Stream("10.0.0.1:5000")
		is(t, "option", s.Set(41, 1, nil), nil)
		n.ext = &c.ext
		e := r.DialOn(s, bare)
		s.Put(1, 3000)
		for i, x := range e.Segments() {
			if i == 0 && len(x.Data) != c.want {
				t.Errorf("%+v: a segment of %d, want %d", c.ext, len(x.Data), c.want)
			}
		}
		if i, _ := r.TCP.InfoOf(s.ID); i.MSS != c.want {
			t.Errorf("%+v: MSS %d, want %d", c.ext, i.MSS, c.want)
		}
	}
}
