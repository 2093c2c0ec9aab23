package ipsec

import (
	"net/netip"
	"path/filepath"
	"testing"

	"ionet/client"
	"ionet/test/play"
	"ionet/test/vm"
)

// stackEnds are the addresses of a stack that faces a kernel, by whether it is IPv6.
var stackEnds = map[bool]netip.Addr{false: netip.MustParseAddr("10.1.0.2"), true: netip.MustParseAddr("2001:db8::2")}

// facing is a stack, keyed by setkey, and a kernel, keyed by ip xfrm, on a bridge.
type facing struct {
	l    *link
	u    *play.User    // of the stack
	s    *client.Stack // the same one
	k    *vm.Kernel
	echo string // the port of the kernel's echo
}

func newFacing(t *testing.T) *facing {
	t.Helper()
	f := &facing{l: newLink(t), echo: "7"}
	prefix := filepath.Join(f.l.root.Dir, "s")
	f.k = vm.Boot(t, vm.TAP(f.l.ns, "vm0"))
	f.l.root.Ionet(prefix, "-d", "tap", "name=tap0", "-ptcpip", "ipsec,prefix="+prefix)
	f.u = f.l.root.At(prefix)
	f.s = f.u.Open()
	f.u.Must("sysctl", "-w", "net.inet6.ip6.dad_count=0")
	f.u.Must("ifconfig", "en0", stackEnds[false].String()+"/16")
	f.u.Must("ifconfig", "en0", "inet6", stackEnds[true].String(), "prefixlen", "64")
	f.l.join("tap0")
	f.l.join("vm0")
	f.k.Ready()
	f.k.Load(vm.IPsec()...)
	f.k.IP("link set eth0 up")
	f.k.EncapPort(4500)
	f.k.Begin(vm.Tool, "echo", f.echo).Says("echo: ready")
	return f
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
