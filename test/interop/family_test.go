package interop

import (
	"net"
	"strconv"
	"testing"

	"ionet/stack/socket"
)

// family is a version of IP, and the addresses of a link's two ends in it.
type family struct {
	name, one, two string
	bits           int
}

var families = []family{{"ip4", "10.0.0.1", "10.0.0.2", 24}, {"ip6", "2001:db8::1", "2001:db8::2", 64}}

// inBoth runs a test in each family.
func inBoth(t *testing.T, f func(t *testing.T, v family)) {
	for _, v := range families {
		t.Run(v.name, func(t *testing.T) { f(t, v) })
	}
}

// socket is the family of the engine's sockets.
func (v family) socket() int {
	if v.name == "ip4" {
		return socket.AFInet
	}
	return socket.AFInet6
}

// at is an address and a port as one word.
func at(address string, port int) string { return net.JoinHostPort(address, strconv.Itoa(port)) }

// prefix is an address of the family with the length of its network.
func (v family) prefix(address string) string { return address + "/" + strconv.Itoa(v.bits) }
