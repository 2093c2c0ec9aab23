package ipsec

import (
	"flag"
	"fmt"
	"path/filepath"
	"testing"

	"ionet/client"
	"ionet/test/play"
	"ionet/test/vm"
)

var octets = flag.Int("octets", 0, "how many octets of TCP go through each cell of the matrix in either direction; 0: ten million through a few, less through the others")

// facing is a stack, keyed by setkey, and a kernel, keyed by ip xfrm. They are on a bridge, and on a line beside it.
type facing struct {
	*line
	l      *link
	u      *play.User // of the stack
	prefix string     // where the stack is
	s      *client.Stack
	k      *vm.Kernel
}

// echoPort is the port at which the kernel sends back what comes.
const echoPort = "7"

// TestFacing: a stack keyed by setkey and a Linux kernel keyed by ip xfrm understand each other, and nobody else understands
// them.
func TestFacing(t *testing.T) {
	f := newFacing(t)
	for _, part := range []struct {
		name string
		run  func(*facing)
	}{{"matrix", (*facing).matrix}, {"hostile", (*facing).hostile}, {"lifetimes", (*facing).lifetimes}} {
		t.Run(part.name, func(t *testing.T) { part.run(f.in(t)) })
	}
}

func newFacing(t *testing.T) *facing {
	t.Helper()
	f := &facing{l: newLink(t)}
	f.prefix = filepath.Join(f.l.root.Dir, "s")
	f.line = newLine(t)
	f.k = vm.Boot(t, vm.TAP(f.l.ns, "vm0"), f.card(toKernel))
	f.l.root.Ionet(f.prefix, append(append([]string{"-d", "tap", "name=tap0"}, f.driver(toStack)...), "-ptcpip", "ipsec,prefix="+f.prefix)...)
	f.u = f.l.root.At(f.prefix)
	f.s = f.u.Open()
	f.u.Must("sysctl", "-w", "net.inet6.ip6.dad_count=0")
	f.l.join("tap0")
	f.l.join("vm0")
	f.k.Ready()
	f.k.Load(vm.IPsec()...)
	for i, line := range []bool{false, true} {
		f.k.IP(fmt.Sprintf("link set eth%d up", i))
		for _, v6 := range []bool{false, true} {
			c := cell{v6: v6, line: line}
			f.u.Must("ifconfig", fmt.Sprint("en", i), map[bool]string{false: "inet", true: "inet6"}[v6], c.onLink(c.us()))
		}
	}
	f.k.EncapPort(4500)
	f.k.Begin(vm.Tool, "echo", echoPort).Says("echo: ready")
	return f
}

// in is f for a part of its test, which is the only one meanwhile.
func (f *facing) in(t *testing.T) *facing {
	g := *f
	was := f.k.T
	f.k.T, f.line.t = t, t
	t.Cleanup(func() { f.k.T, f.line.t = was, was })
	g.l, g.u = &link{ns: f.l.ns, root: f.l.root.For(t)}, f.u.For(t)
	return &g
}

// settle gives the kernel its addresses for cells.
func (f *facing) settle(all ...cell) {
	f.u.T.Helper()
	var lines []string
	for _, c := range all {
		lines = append(lines, fmt.Sprintf("addr replace %s dev eth%d", c.onLink(c.them()), map[bool]int{false: 0, true: 1}[c.line]))
	}
	f.k.IP(lines...)
}

// key has both sides keyed for cells, and for nothing else.
func (f *facing) key(all ...cell) {
	f.u.T.Helper()
	f.k.XfrmFlush()
	f.k.NeighboursInClear()
	conf := inClear
	for _, c := range all {
		c.kernel(f.k)
		conf += c.setkey()
	}
	f.setkey(conf)
}

// inClear is what a stack is told before its policies: neighbours find each other in clear.
const inClear = "flush; spdflush;\n" +
	"spdadd ::/0 ::/0 icmp6 135,0 -P out prio high none; spdadd ::/0 ::/0 icmp6 136,0 -P out prio high none;\n" +
	"spdadd ::/0 ::/0 icmp6 135,0 -P in prio high none; spdadd ::/0 ::/0 icmp6 136,0 -P in prio high none;\n"

// setkey has the stack do statements.
func (f *facing) setkey(text string) {
	f.u.T.Helper()
	f.u.Must("setkey", "-f", f.u.Write("setkey.conf", text, 0o600))
}
