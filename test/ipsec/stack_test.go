package ipsec

import (
	"path/filepath"
	"testing"

	"ionet/test/need"
	"ionet/test/play"
	"ionet/test/vm"
)

// A stack and a machine reach each other over a TAP of each and over driver qemu, in both families.
func TestStackAndKernel(t *testing.T) {
	l := newLink(t)
	prefix, socket := filepath.Join(l.root.Dir, "s"), filepath.Join(l.root.Dir, "q")
	l.root.Ionet(prefix, "-d", "tap", "name=tap0", "-d", "qemu", "listen="+socket, "-ptcpip", "prefix="+prefix)
	u := l.root.At(prefix)
	k := vm.NewKernel(t, vm.TAP(l.ns, "vm0"), vm.Stream(socket))
	l.join("tap0")
	l.join("vm0")
	u.Must("sysctl", "-w", "net.inet6.ip6.dad_count=0")
	nets := []struct{ en, eth, net4, net6 string }{{"en0", "eth0", "10.0.0.", "2001:db8:0:1::"}, {"en1", "eth1", "10.0.1.", "2001:db8:0:2::"}}
	for _, n := range nets {
		u.Must("ifconfig", n.en, n.net4+"2/24")
		u.Must("ifconfig", n.en, "inet6", n.net6+"2", "prefixlen", "64")
		k.IP("link set "+n.eth+" up", "addr add "+n.net4+"3/24 dev "+n.eth, "addr add "+n.net6+"3/64 dev "+n.eth)
	}
	for _, n := range nets {
		for _, size := range []string{"56", "1400", "4000"} {
			out := u.Must("ping", "-n", "-c", "2", "-i", "0.1", "-s", size, n.net4+"3")
			play.WantLines(t, n.en, out, "2 packets received, 0.0% packet loss")
			out = u.Must("ping6", "-n", "-c", "2", "-i", "0.1", "-s", size, n.net6+"3")
			play.WantLines(t, n.en, out, "2 packets received, 0% packet loss")
			for _, to := range []string{n.net4, n.net6} {
				r := k.Run("ping", "-n", "-c", "2", "-i", "0.1", "-W", "10", "-s", size, to+"2")
				play.WantLines(t, n.eth, r.Out+r.Err, " 0% packet loss")
			}
		}
	}
	need.Command(t, "nc", "netcat-openbsd")
	j := k.Begin("nc", "-n", "-l", "-v", "10.0.0.3", "7000")
	j.Says("Listening")
	u.Must("sh", "-c", "echo hello | nc -N 10.0.0.3 7000")
	if r := j.Wait(); r.Out != "hello\n" {
		t.Errorf("nc in the machine: %+v", r)
	}
}
