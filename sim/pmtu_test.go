package sim

import (
	"errors"
	"syscall"
	"testing"
	"time"

	"ionet/stack/netif"
)

// steady is a connection that sends a little every now and then.
type steady struct {
	*Net
	lan  *Segment
	a    *Node
	from *Socket
	got  int
}

func newSteady(t *testing.T) *steady {
	t.Helper()
	n := New(1)
	s := &steady{Net: n, lan: n.Segment(Faults{Delay: 5 * time.Millisecond}), a: n.Stack("a")}
	b := n.Stack("b")
	n.Attach(s.a, s.lan, "10.0.0.1/24")
	n.Attach(b, s.lan, "10.0.0.2/24")
	srv := b.Listen("10.0.0.2:80", 5)
	s.from = s.a.TCP()
	if err := s.from.Connect("10.0.0.2:80"); !errors.Is(err, syscall.EINPROGRESS) {
		t.Fatal(err)
	}
	n.Run(time.Second)
	to := srv.Accept()
	data, buf := make([]byte, 16384), make([]byte, 65536)
	var write func()
	write = func() {
		s.from.Write(data)
		n.At(100*time.Millisecond, write)
	}
	read := func() {
		for {
			k, err := to.Read(buf)
			if err != nil || k == 0 {
				break
			}
			s.got += k
		}
	}
	to.SetUpcall(func(*netif.Work) { n.At(0, read) })
	write()
	return s
}

func (s *steady) mtu() int {
	in, _ := s.a.Stack.TCP.InfoOf(s.from.ID)
	return in.MTU
}

// flows fails unless octets arrive within d.
func (s *steady) flows(t *testing.T, d time.Duration) {
	t.Helper()
	before := s.got
	s.Run(d)
	if s.got == before {
		t.Fatalf("nothing has arrived in %v", d)
	}
}

// A path that swallows large packets and says nothing heals: the connection
// goes on in small segments, finds the size that passes, and returns to the
// old one when the path does.
func TestBlackHole(t *testing.T) {
	s := newSteady(t)
	s.flows(t, time.Second)
	s.lan.Faults.MaxLen = 14 + 1400
	s.Run(5 * time.Second)
	s.flows(t, time.Second)
	s.Run(10 * time.Second)
	if m := s.mtu(); m < 1400-16 || m > 1400 {
		t.Errorf("found an MTU of %d on a path of 1400", m)
	}
	s.flows(t, time.Second)
	s.lan.Faults.MaxLen = 0
	s.Run(11 * time.Minute)
	if m := s.mtu(); m != 1500 {
		t.Errorf("an MTU of %d long after the path had 1500 again", m)
	}
}

// Nothing is so small that it would not pass in the end.
func TestDeepBlackHole(t *testing.T) {
	s := newSteady(t)
	s.flows(t, time.Second)
	s.lan.Faults.MaxLen = 14 + 620
	s.Run(20 * time.Second)
	s.flows(t, time.Second)
	s.Run(10 * time.Second)
	if m := s.mtu(); m < 620-16 || m > 620 {
		t.Errorf("found an MTU of %d on a path of 620", m)
	}
}

// A link that was down for a while is no black hole.
func TestOutageIsNoBlackHole(t *testing.T) {
	s := newSteady(t)
	s.flows(t, time.Second)
	s.lan.Faults.MaxLen = 1
	s.Run(3 * time.Second)
	s.lan.Faults.MaxLen = 0
	s.Run(10 * time.Second)
	if m := s.mtu(); m != 1500 {
		t.Errorf("an MTU of %d after an outage", m)
	}
	s.flows(t, time.Second)
}

// And with the search switched off the connection stays where it is.
func TestBlackHoleUnsought(t *testing.T) {
	s := newSteady(t)
	s.a.Sysctl("net.inet.tcp.mtudisc_blackhole", "0")
	s.Run(time.Second)
	s.lan.Faults.MaxLen = 14 + 1400
	s.Run(5 * time.Second)
	before := s.got
	s.Run(5 * time.Second)
	if s.got != before || s.mtu() != 1500 {
		t.Errorf("%d octets through a black hole, MTU %d", s.got-before, s.mtu())
	}
}
