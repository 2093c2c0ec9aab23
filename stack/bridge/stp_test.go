package bridge_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"ionet/stack/bridge"
	"ionet/stack/netif"
	"ionet/stack/packet"
	rig "ionet/stack/stacktest"
)

// network is bridges with STP, connected by cables.
type network struct {
	t       *testing.T
	bridges []*node
	sent    int
}

type node struct {
	*rig.Rig
	n     *network
	br    *netif.Interface
	ports []*plug
	heard []string // test frames that ended at a port without a cable
}

// plug is a port and what is connected to it.
type plug struct {
	at    *node
	ifp   *netif.Interface
	to    *plug // nil: a host that listens
	queue [][]byte
}

func (p *plug) Transmit(_ *netif.Interface, burst []*packet.Buf) {
	for _, b := range burst {
		f := slices.Clone(b.Bytes())
		b.Free()
		p.at.n.sent++
		switch {
		case p.to != nil:
			p.to.queue = append(p.to.queue, f)
		case packet.Ether(f).Type() == testType:
			p.at.heard = append(p.at.heard, string(packet.Ether(f).Payload()))
		}
	}
}

// add adds a bridge with n ports, all of them with STP.
func (n *network) add(ports int) *node {
	n.t.Helper()
	b := &node{Rig: rig.Bare(n.t, rig.Dual), n: n}
	var err error
	if b.br, err = b.AddBridge("bridge0"); err != nil {
		n.t.Fatal(err)
	}
	for i := range ports {
		p := &plug{at: b}
		p.ifp = netif.New(netif.Config{Name: fmt.Sprint("en", i), MTU: 1500, MAC: netif.MAC{2, 1, 0, 0, byte(len(n.bridges)), byte(i)}, Driver: p,
			Flags: netif.FlagBroadcast | netif.FlagSimplex | netif.FlagMulticast | netif.FlagRunning | netif.FlagUp})
		if err := errors.Join(b.AddInterface(p.ifp), b.AddMember(b.br, p.ifp), b.Bridge.SetMember(b.br, p.ifp, bridge.STP, 0)); err != nil {
			n.t.Fatal(err)
		}
		b.ports = append(b.ports, p)
	}
	n.bridges = append(n.bridges, b)
	n.t.Cleanup(func() {
		if err := b.RemoveInterface(b.br); err != nil {
			n.t.Error(err)
		}
	})
	return b
}

func connect(a, b *plug) { a.to, b.to = b, a }

func (n *network) up() {
	n.t.Helper()
	for _, b := range n.bridges {
		if err := b.SetFlags(b.br, netif.FlagUp, 0); err != nil {
			n.t.Fatal(err)
		}
	}
}

// run lets time pass, and delivers.
func (n *network) run(d time.Duration) {
	n.t.Helper()
	const step = 100 * time.Millisecond
	for ; d > 0; d -= step {
		for _, b := range n.bridges {
			b.Pass(step)
		}
		n.deliver()
	}
}

func (n *network) deliver() {
	n.t.Helper()
	for rounds := 0; ; rounds++ {
		if rounds > 100 {
			n.t.Fatal("frames go around for ever")
		}
		quiet := true
		for _, b := range n.bridges {
			for _, p := range b.ports {
				q := p.queue
				p.queue = nil
				for _, f := range q {
					quiet = false
					b.SendOn(p.ifp, f)
				}
			}
		}
		if quiet {
			return
		}
	}
}

// states are those of all ports, letter by letter.
func (n *network) states() string {
	n.t.Helper()
	var out []string
	for _, b := range n.bridges {
		m, err := b.Bridge.Members(b.br)
		if err != nil {
			n.t.Fatal(err)
		}
		s := ""
		for _, m := range m {
			s += string("DLHFB"[m.State])
		}
		out = append(out, s)
	}
	return strings.Join(out, " ")
}

// hears sends a frame to all from a host, and compares what the hosts hear.
func (n *network) hears(from *plug, want ...string) {
	n.t.Helper()
	text := fmt.Sprint("frame ", n.sent)
	from.at.SendOn(from.ifp, frame(netif.BroadcastMAC, mac(77), text))
	n.deliver()
	for i, b := range n.bridges {
		got := strings.Join(b.heard, ",")
		b.heard = nil
		if w := strings.ReplaceAll(want[i], "x", text); got != w {
			n.t.Errorf("the hosts of bridge %d hear %q, want %q", i, got, w)
		}
	}
}

// triangle is three bridges in a ring, each with a host at its third port.
func triangle(t *testing.T) *network {
	n := &network{t: t}
	a, b, c := n.add(3), n.add(3), n.add(3)
	connect(a.ports[0], b.ports[0])
	connect(b.ports[1], c.ports[0])
	connect(c.ports[1], a.ports[1])
	n.up()
	return n
}

func TestRing(t *testing.T) {
	n := triangle(t)
	if got := n.states(); got != "LLL LLL LLL" {
		t.Errorf("at first: %s", got)
	}
	n.hears(n.bridges[0].ports[2], "", "", "")
	n.run(16 * time.Second)
	if got := n.states(); got != "HHH HHH BHH" { // b and c are equally far from a; b has the lower identifier
		t.Errorf("after one delay: %s", got)
	}
	n.run(16 * time.Second)
	if got := n.states(); got != "FFF FFF BFF" {
		t.Errorf("after two: %s", got)
	}
	for i, b := range n.bridges {
		want := []string{"x", "x", "x"}
		want[i] = ""
		n.hears(b.ports[2], want...)
		p, err := b.Bridge.Tree(b.br)
		if err != nil || p.Root != 0x8000_0201_0000_0000 || p.ID != 0x8000_0201_0000_0000|uint64(i)<<8 || (i == 0) != (p.RootPort == nil) || (i != 0) != (p.RootCost == 55) {
			t.Errorf("bridge %d: %+v, %v", i, p, err)
		}
	}
}

// A cable that is cut is gone around, whether the carrier tells of it or silence does.
func TestCut(t *testing.T) {
	for _, carrier := range []bool{true, false} {
		n := triangle(t)
		n.run(35 * time.Second)
		a, c := n.bridges[0], n.bridges[2]
		a.ports[1].to, c.ports[1].to = nil, nil
		if carrier {
			a.LinkState(a.ports[1].ifp, false)
			c.LinkState(c.ports[1].ifp, false)
			n.run(31 * time.Second)
			if got := n.states(); got != "FDF FFF FDF" {
				t.Errorf("cut: %s", got)
			}
		} else {
			n.run(20*time.Second + 31*time.Second)
			if got := n.states(); got != "FFF FFF FFF" {
				t.Errorf("cut: %s", got)
			}
		}
		a.heard, c.heard = nil, nil
		want := []string{"", "x", "x"}
		if !carrier { // what leaves by the open ends is heard too
			want[0], want[2] = "x", "x,x"
		}
		n.hears(a.ports[2], want...)
		connect(a.ports[1], c.ports[1])
		if carrier {
			a.LinkState(a.ports[1].ifp, true)
			c.LinkState(c.ports[1].ifp, true)
		}
		n.run(35 * time.Second)
		if got := n.states(); got != "FFF FFF BFF" {
			t.Errorf("mended: %s", got)
		}
	}
}

// A station that is now elsewhere is found although nothing has been heard of it: while the topology
// changes, stations are forgotten sooner.
func TestTopologyChange(t *testing.T) {
	n := triangle(t)
	n.run(35 * time.Second)
	a, c := n.bridges[0], n.bridges[2]
	c.SendOn(c.ports[2].ifp, frame(netif.BroadcastMAC, mac(1), "here"))
	n.deliver()
	if s, err := a.Bridge.Stations(a.br); err != nil || len(s) != 1 || s[0].Member.Name != "en1" {
		t.Errorf("a knows %+v, %v", s, err)
	}
	c.LinkState(c.ports[1].ifp, false) // a has not noticed: its carrier is still there
	a.ports[1].to, c.ports[1].to = nil, nil
	n.run(50 * time.Second)
	if s, err := a.Bridge.Stations(a.br); err != nil || len(s) != 0 {
		t.Errorf("a knows %+v, %v", s, err)
	}
}

func TestPriorities(t *testing.T) {
	n := triangle(t)
	c := n.bridges[2]
	p, _ := c.Bridge.Tree(c.br)
	p.Priority, p.Hello, p.Delay, p.MaxAge = 0x1000, time.Second, 4*time.Second, 6*time.Second
	if err := c.Bridge.SetTree(c.br, p); err != nil {
		t.Fatal(err)
	}
	n.run(12 * time.Second)
	if got := n.states(); got != "LLL BLL FFF" { // the others' delay is still their own
		t.Errorf("with another root: %s", got)
	}
	n.run(8 * time.Second)
	if got := n.states(); got != "FFF BFF FFF" { // and then the root's
		t.Errorf("with the root's times: %s", got)
	}
	b := n.bridges[1]
	if err := b.Bridge.SetPort(b.br, b.ports[1].ifp, -1, 200); err != nil {
		t.Fatal(err)
	}
	n.run(20 * time.Second)
	if got := n.states(); got != "FFF FBF FFF" { // 110 by a is nearer than 200
		t.Errorf("with a dear way: %s", got)
	}
	for _, err := range []error{
		c.Bridge.SetTree(c.br, bridge.Params{Hello: 0, Delay: 15 * time.Second, MaxAge: 20 * time.Second}),
		c.Bridge.SetTree(c.br, bridge.Params{Hello: 2 * time.Second, Delay: time.Second, MaxAge: 20 * time.Second}),
		c.Bridge.SetTree(c.br, bridge.Params{Hello: 2 * time.Second, Delay: 15 * time.Second, MaxAge: 41 * time.Second}),
		c.Bridge.SetPort(c.br, c.ports[0].ifp, 256, -1),
		c.Bridge.SetPort(c.br, c.ports[0].ifp, -1, 0),
	} {
		if !errors.Is(err, syscall.EINVAL) {
			t.Error(err)
		}
	}
}

// Two ports of one bridge on one cable.
func TestLoopsAtOneBridge(t *testing.T) {
	n := &network{t: t}
	a := n.add(4)
	connect(a.ports[0], a.ports[1])
	n.up()
	n.run(35 * time.Second)
	if got := n.states(); got != "FBFF" {
		t.Errorf("states %s", got)
	}
	n.hears(a.ports[3], "x")
	// Without STP a member forwards at once, but no other bridge's tree.
	if err := a.Bridge.SetMember(a.br, a.ports[1].ifp, 0, bridge.STP); err != nil {
		t.Fatal(err)
	}
	if got := n.states(); got != "FFFF" {
		t.Errorf("states %s", got)
	}
	a.ports[1].to = nil
	a.Counts("bridge", "blocked", func() { a.SendOn(a.ports[1].ifp, frame(netif.MAC{1, 0x80, 0xc2}, mac(1), "BPDU")) })
	if a.heard = nil; len(a.ports[0].queue) != 0 {
		t.Error("a BPDU has been passed on")
	}
}

// FuzzBPDU has a bridge with STP receive what may be a BPDU.
func FuzzBPDU(f *testing.F) {
	good := append(frame(netif.MAC{1, 0x80, 0xc2}, mac(1), ""), make([]byte, 38)...)
	copy(good[12:], []byte{0, 38, 0x42, 0x42, 3})
	good[17+29] = 20
	f.Add(good[12:], uint8(3))
	f.Add([]byte{0, 7, 0x42, 0x42, 3, 0, 0, 0, 0x80}, uint8(9))
	f.Fuzz(func(t *testing.T, b []byte, seconds uint8) {
		if len(b) > 1500 {
			return
		}
		n := &network{t: t}
		a := n.add(2)
		n.up()
		bpdu := frame(netif.MAC{1, 0x80, 0xc2}, mac(1), "")[:12]
		bpdu = append(bpdu, b...)
		for i := range 3 {
			a.SendOn(a.ports[i%2].ifp, bpdu)
			n.run(time.Duration(seconds) * time.Second / 4)
		}
		if m, err := a.Bridge.Members(a.br); err != nil || len(m) != 2 {
			t.Fatal(err)
		}
	})
}
