package sim

import (
	"errors"
	"syscall"
	"testing"
	"time"

	"ionet/stack/socket"
	"ionet/stack/tcp"
)

// SO_KEEPALIVE on a connection that is already there: a peer that has vanished
// is noticed after the idle time and the probes, one that answers is not.
func TestKeepAliveLate(t *testing.T) {
	for _, gone := range []bool{true, false} {
		n := New(1)
		lan := n.Segment(Faults{Delay: time.Millisecond})
		a, b := n.Stack("a"), n.Stack("b")
		n.Attach(a, lan, "10.0.0.1/24")
		n.Attach(b, lan, "10.0.0.2/24")
		lis := b.Listen("10.0.0.2:80", 1)
		c := a.TCP()
		if err := c.Connect("10.0.0.2:80"); !errors.Is(err, syscall.EINPROGRESS) {
			t.Fatal(err)
		}
		n.Run(time.Second)
		s := lis.Accept()
		for name, v := range map[int]int{tcp.KeepIdle: 10, tcp.KeepIntvl: 2, tcp.KeepCnt: 3} {
			if err := c.Set(tcp.LevelTCP, name, socket.Value32(v)); err != nil {
				t.Fatal(err)
			}
		}
		if err := c.Set(socket.LevelSocket, socket.SOKeepAlive, socket.Value32(1)); err != nil {
			t.Fatal(err)
		}
		if gone {
			lan.Faults.Loss = 1
		}
		n.Run(14 * time.Second)
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.EWOULDBLOCK) {
			t.Errorf("gone %v, after 15 s: %v, want EWOULDBLOCK", gone, err)
		}
		n.Run(5 * time.Second)
		want := syscall.EWOULDBLOCK
		if gone {
			want = syscall.ETIMEDOUT
		}
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, want) {
			t.Errorf("gone %v, after 20 s: %v, want %v", gone, err, want)
		}
		lan.Faults.Loss = 0
		c.Close()
		s.Close()
		n.Close()
	}
}
