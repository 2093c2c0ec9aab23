package stackd

import (
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"ionet/stack/netif"
)

// cloners are the kinds of interface that ifconfig create makes: enN, a
// station on the user's own segment N, loN, gifN, a tunnel, ipsecN, one that ESP protects, stfN, 6to4, vlanN, a VLAN of
// an Ethernet, bridgeN, and enc0, which shows what IPsec's tunnels bring.
var cloners = []string{"bridge", "en", "enc", "gif", "ipsec", "lo", "stf", "vlan"}

// create makes the interface name, or the first free one of a kind, and
// answers its name.
func (s *server) create(name string) (string, error) {
	kind, unit := netif.Unit(name)
	if !slices.Contains(cloners, kind) {
		return "", errf(unix.EINVAL, "%s: only %s interfaces can be created; mount adds a driver", name, strings.Join(cloners, ", "))
	}
	if s.static {
		return "", errf(unix.EPERM, "this io-net was started with -s: no interface comes or goes")
	}
	eng := s.eng.Engine()
	if unit < 0 {
		name = eng.Env.Ifs.FreeName(kind)
		_, unit = netif.Unit(name)
	}
	var err error
	switch kind {
	case "en":
		name, _, err = s.eng.mount("wire", fmt.Sprintf("lan=%d", unit))
	case "lo":
		_, err = eng.AddLoopback(name)
	case "bridge":
		_, err = eng.AddBridge(name)
	case "enc":
		_, err = eng.AddEnc(name)
	case "vlan":
		_, err = eng.AddVLAN(name)
	default:
		_, err = eng.AddTunnel(name)
	}
	return name, err
}

// destroy takes away an interface that create makes, or a driver's.
func (s *server) destroy(name string) error {
	if s.static {
		return errf(unix.EPERM, "this io-net was started with -s: no interface comes or goes")
	}
	eng := s.eng.Engine()
	ifp := eng.Env.Ifs.ByName(name)
	switch {
	case ifp == nil:
		return unix.ENXIO
	case ifp == eng.Lo:
		return errf(unix.EBUSY, "lo0 stays as long as the stack")
	case s.eng.Device(name) == nil:
		return eng.RemoveInterface(ifp)
	}
	return s.eng.umount(name)
}
