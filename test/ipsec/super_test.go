package ipsec

import (
	"fmt"
	"testing"

	"ionet/test/need"
	"ionet/test/vm"
)

// TestGatewaysSuper: what a kernel leaves its device to cut goes through a tunnel over packet sockets, and is whole at the
// other kernel, which gets most of it in super-packets again; between the gateways ESP is as large as the link, and in UDP a
// super-packet of datagrams.
func TestGatewaysSuper(t *testing.T) {
	const size = 3_000_000
	link := need.Namespace(t)
	var between [2][]string
	link.Exec("ip", "link", "add", "between0", "type", "veth", "peer", "name", "between1")
	for i := range between {
		name := fmt.Sprint("between", i)
		link.Exec("ip", "link", "set", name, "up")
		between[i] = []string{"-d", "packet", "if=" + name + ",netns=" + link.Name}
	}
	v := newVPN(t, "", between[:]...)
	s := tunnelSuites[0].suite
	for _, f := range inOut {
		for _, udp := range []bool{false, true} {
			t.Run(fmt.Sprint(f.name, " in UDP ", udp), func(t *testing.T) {
				v := *v
				v.t = t
				if udp {
					v.encap = &vm.Encap{SPort: 4500, DPort: 4500}
				}
				v.key(f.inner6, f.outer6, s)
				v.forget()
				to := v.listen(1, f.inner6)
				if err := echoesOn(v.dial(0, to), 100_000); err != nil { // the path's MTU
					t.Fatal(err)
				}
				octets, large := v.arrives(1, "en1", func() {
					if err := echoesOn(v.dial(0, to), size); err != nil {
						t.Error(err)
					}
				})
				if octets < size || udp != (large > 0) {
					t.Errorf("%d octets came to a gateway, %d of them in super-packets", octets, large)
				}
			})
		}
	}
}

// arrives is how many octets came by an interface of gateway i while f ran, and how many of them in frames that
// are larger than the link's.
func (v *vpn) arrives(i int, name string, f func()) (octets, large int) {
	for _, frame := range v.watches(i, name, f) {
		if octets += len(frame); len(frame) > 14+1500 {
			large += len(frame)
		}
	}
	return octets, large
}
